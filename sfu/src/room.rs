//! A room decides: commands and time in, effects out.

pub mod command;
pub mod effect;

pub mod permission;
pub mod publication;
pub mod subscription;
pub mod participant;
pub mod roster;
pub mod demand;
pub mod speakers;
pub mod quality;

// PROVISIONAL below: stands in for the room of another branch until both are merged.
use command::{Admin, Command};
use effect::{Effect, JoinRefusal};
use proto::livekit;
use proto::livekit::signal_response::Message;
use std::time::Instant;

/// Settings of rooms.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The most participants; 0 for no limit.
    pub max_participants: u32,
    /// Provisional.
    pub more: u32,
}

/// How a room is made.
#[derive(Debug)]
pub struct Setup {
    /// Its name.
    pub name: String,
    /// Its settings.
    pub settings: Settings,
    /// A moment in both clocks: monotonic, and Unix milliseconds.
    pub epoch: (Instant, u64),
}

/// A room.
#[derive(Debug)]
pub struct Room {
    setup: Setup,
    present: Vec<(crate::ids::SessionId, String, crate::ids::PeerId)>,
    closing: bool,
}

impl Room {
    /// A room.
    #[must_use]
    pub fn new(setup: Setup, _seed: [u8; 32], _now: Instant) -> Self {
        Self {
            setup,
            present: Vec::new(),
            closing: false,
        }
    }

    /// Provisional.
    pub fn handle(&mut self, command: Command, now: Instant) -> Vec<Effect> {
        let leave = |session, reason, action| Effect::Signal {
            session,
            message: Box::new(Message::Leave(livekit::LeaveRequest {
                reason,
                action,
                ..Default::default()
            })),
        };
        match command {
            Command::Join(join) => {
                let most = self.setup.settings.max_participants as usize;
                let session = join.session;
                if self.closing || (most > 0 && self.present.len() >= most) {
                    let reason = if self.closing {
                        JoinRefusal::Closing
                    } else {
                        JoinRefusal::RoomFull
                    };
                    return vec![Effect::RefuseJoin { session, reason }];
                }
                self.present
                    .push((session, join.claims.identity.clone(), join.peer));
                let joined = livekit::JoinResponse {
                    room: Some(livekit::Room {
                        name: self.setup.name.clone(),
                        ..Default::default()
                    }),
                    participant: Some(livekit::ParticipantInfo {
                        identity: join.claims.identity.clone(),
                        ..Default::default()
                    }),
                    ..Default::default()
                };
                vec![
                    Effect::Media(crate::media::message::Command::AddPeer {
                        peer: join.peer,
                        setup: crate::media::message::PeerSetup {
                            publish: join.publish_codecs.clone(),
                            subscribe: join.subscribe_codecs.clone(),
                            one_codec_per_section: join.one_codec_per_section,
                        },
                    }),
                    Effect::Signal {
                        session,
                        message: Box::new(Message::Join(joined)),
                    },
                    Effect::RefreshToken {
                        session,
                        claims: Box::new(join.claims),
                    },
                ]
            }
            Command::Resume(resume) => vec![
                leave(resume.session, 6, 2),
                Effect::CloseSession {
                    session: resume.session,
                },
            ],
            Command::Request {
                session,
                request: livekit::signal_request::Message::Leave(_),
            } => {
                self.present.retain(|(known, _, _)| *known != session);
                vec![leave(session, 1, 0), Effect::CloseSession { session }]
            }
            Command::SessionLost { session } => {
                let mut effects = Vec::new();
                self.present.retain(|(known, _, peer)| {
                    if *known == session {
                        let peer = *peer;
                        effects.push(Effect::Media(crate::media::message::Command::RemovePeer {
                            peer,
                        }));
                    }
                    *known != session
                });
                if self.present.is_empty() {
                    self.closing = true;
                    effects.push(Effect::WakeAt(now + std::time::Duration::from_secs(20)));
                }
                effects
            }
            Command::Admin(Admin::Shutdown) => {
                let mut effects = Vec::new();
                for (session, _, _) in self.present.drain(..) {
                    effects.push(leave(session, 3, 2));
                    effects.push(Effect::CloseSession { session });
                }
                effects.push(Effect::Closed);
                effects
            }
            Command::Wake => vec![Effect::Closed],
            _ => Vec::new(),
        }
    }
}
