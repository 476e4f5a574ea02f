//! Carries what servers and clients of the world send each other, and has it judged where it leaves
//! and where it arrives.

use super::access::Way;
use super::client::{Leg, Output};
use super::watch::Watch;
use super::{Event, SIGNAL_DELAY, World, checks, server};
use sfu::ids::SessionId;
use sfu::media::demux::{Carrier, Path};
use sfu::rtp::header::Header;
use std::net::SocketAddr;
use std::time::Duration;

/// From one machine to another in the same house.
pub(super) const NEAR: Duration = Duration::from_millis(2);

impl World {
    /// All that a server has to say, by whichever way, and what follows from it.
    pub(super) fn carry_from_server(&mut self, server: usize) {
        self.note_arrived(server);
        while let Some(output) = self.servers[server].poll_output() {
            match output {
                server::Output::Frame { session, frame } => {
                    if let Some(who) = self.seat_of(server, session) {
                        let at = self.now + SIGNAL_DELAY;
                        self.put(at, Event::Told(who, session, frame));
                    }
                }
                server::Output::Close { session } => {
                    if let Some(who) = self.seat_of(server, session) {
                        self.seats[who].session = None;
                    }
                }
                server::Output::Datagram { path, bytes } => self.carry_down(server, path, bytes),
            }
        }
        self.turns[server].take_from_sfu(self.now);
        self.carry_turn_output(server);
        self.carry_to_streams(server);
    }

    /// What reached a server is as it was sent, and counts as come.
    fn note_arrived(&mut self, server: usize) {
        for (path, bytes) in self.servers[server].take_arrived() {
            let Some((who, leg)) = self.owner(server, &path) else {
                self.broken.push(format!("from nobody: {path:?}"));
                continue;
            };
            let seat = &mut self.seats[who];
            let told = seat.ledgers[leg.place()].came_up(&bytes);
            let media = checks::media_ssrc(&bytes).is_some();
            if let Some(header) = Header::parse(&bytes).filter(|_| media) {
                seat.losses.arrived(&header);
            }
            if let (Carrier::Tcp(number), true) = (path.carrier, media)
                && let Some(stream) = self.streams.get_mut(&number)
            {
                stream.media -= 1;
            }
            if let Err(broken) = told {
                self.note(who, &broken);
            }
        }
    }

    /// Whose a path is, or was.
    fn owner(&self, server: usize, path: &Path) -> Option<(usize, Leg)> {
        let seen = (server, path.carrier, path.remote);
        self.seen.get(&seen).copied()
    }

    /// A session that was just made is not in its seat yet.
    fn seat_of(&self, server: usize, session: SessionId) -> Option<usize> {
        let of = |seat: &super::Seat| seat.server == server && seat.session == Some(session);
        self.seats.iter().position(of)
    }

    /// Whose an address is now.
    pub(super) fn who_is_at(&self, address: SocketAddr) -> Option<(usize, Leg)> {
        let mut seats = self.seats.iter().enumerate();
        seats.find_map(|(who, seat)| {
            let legs = Leg::BOTH.into_iter();
            let mut here = legs.filter(|leg| seat.access[leg.place()].address == address);
            Some((who, here.next()?))
        })
    }

    fn carry_down(&mut self, server: usize, path: Path, bytes: Vec<u8>) {
        if let Some((who, leg)) = self.owner(server, &path) {
            let seat = &mut self.seats[who];
            let repairs = seat.client.repairs(&bytes);
            self.checks.sent(who, &bytes, (seat.gone, repairs));
            seat.ledgers[leg.place()].sent_down(&bytes);
            self.watch(who, leg, &bytes);
        }
        match path.carrier {
            Carrier::Udp(_) => {
                let relay = self.turns.iter().position(|turn| turn.has(path.remote));
                if let Some(turn) = relay {
                    let from = SocketAddr::new(self.turns[server].at.ip(), server::UDP_PORT);
                    let event = Event::ToRelay(turn, path.remote, from, bytes);
                    self.put(self.now + NEAR, event);
                } else {
                    self.send_down(path.remote, bytes);
                }
            }
            Carrier::Tcp(number) => {
                if let Some(stream) = self.streams.get_mut(&number) {
                    stream.frames.sent(&bytes);
                }
            }
            // It is in the lane to TURN.
            Carrier::Relay { .. } => {}
        }
    }

    /// A datagram to an address of a client, if it is anybody's still.
    pub(super) fn send_down(&mut self, to: SocketAddr, bytes: Vec<u8>) {
        let Some((who, _)) = self.who_is_at(to) else {
            return;
        };
        if self.seats[who].walled {
            return;
        }
        for at in self.seats[who].down.carry(bytes.len(), self.now) {
            self.put(at, Event::ToClient(to, bytes.clone()));
        }
    }

    /// A datagram reaches an address that may be nobody's any more.
    pub(super) fn arrive(&mut self, at: SocketAddr, bytes: &[u8]) {
        let Some((who, leg)) = self.who_is_at(at) else {
            return;
        };
        if let Way::Relay { .. } = self.seats[who].access[leg.place()].way {
            self.arrive_by_turn(who, leg, bytes);
        } else {
            self.deliver(who, leg, bytes);
        }
    }

    /// What came for a client's connection, whatever carried it.
    pub(super) fn deliver(&mut self, who: usize, leg: Leg, bytes: &[u8]) {
        let seat = &mut self.seats[who];
        let told = seat.ledgers[leg.place()].came_down(bytes);
        seat.client.handle_datagram(leg, bytes, self.now);
        if let Err(broken) = told {
            self.note(who, &broken);
        }
        self.carry_from_client(who);
    }

    /// Judges a datagram as it leaves the server.
    fn watch(&mut self, who: usize, leg: Leg, bytes: &[u8]) {
        let seat = &mut self.seats[who];
        let mut watch = std::mem::take(&mut seat.watches[leg.place()]);
        if let Some(opener) = seat.client.take_tap(leg) {
            watch.key(opener);
        }
        let client = &self.seats[who].client;
        let named = |header: &Header| client.named(header, |track| self.publisher_of(track));
        let told = watch.sent(bytes, named, self.now);
        self.seats[who].watches[leg.place()] = watch;
        let judged = told.and_then(|told| {
            if told.key_asked {
                let watches = self.seats.iter_mut().flat_map(|seat| &mut seat.watches);
                watches.for_each(Watch::mended);
            }
            let losses = &mut self.seats[who].losses;
            let mut blocks = told.blocks.iter();
            blocks.try_for_each(|block| losses.reported(block, self.now))
        });
        if let Err(broken) = judged {
            self.note(who, &broken);
        }
    }

    fn publisher_of(&self, track: &str) -> u32 {
        let publishes = |seat: &super::Seat| seat.client.tracks.iter().any(|of| of.sid == track);
        self.seats
            .iter()
            .position(publishes)
            .map_or(u32::MAX, |who| who as u32)
    }

    pub(super) fn carry_from_client(&mut self, who: usize) {
        let outputs = self.seats[who].client.take_output();
        for output in outputs {
            match output {
                Output::Say(request) => {
                    if let Some(session) = self.seats[who].session {
                        let at = self.now + SIGNAL_DELAY;
                        self.put(at, Event::Heard(who, session, request));
                    }
                }
                Output::Datagram(leg, bytes) => self.carry_up(who, leg, &bytes),
            }
        }
    }

    fn carry_up(&mut self, who: usize, leg: Leg, bytes: &[u8]) {
        let seat = &mut self.seats[who];
        seat.ledgers[leg.place()].sent_up(bytes);
        let (server, access) = (seat.server, &seat.access[leg.place()]);
        let from = access.address;
        let went = match access.way {
            Way::Udp => self.send_datagram(who, bytes.len(), || {
                Event::ToServer(server, from, bytes.to_vec())
            }),
            Way::Tcp => self.write_to_server(who, leg, bytes),
            Way::Relay { .. } => self.send_by_turn(who, leg, bytes),
        };
        self.count_lost(who, bytes, went);
    }

    /// A client's datagram goes its road, unless a firewall keeps it back: whether it arrives at all.
    pub(super) fn send_datagram(
        &mut self,
        who: usize,
        bytes: usize,
        event: impl Fn() -> Event,
    ) -> bool {
        !self.seats[who].walled && self.send_up(who, bytes, event)
    }

    /// So many bytes go a client's road: whether they arrive at all.
    pub(super) fn send_up(&mut self, who: usize, bytes: usize, event: impl Fn() -> Event) -> bool {
        let mut arrives = false;
        for at in self.seats[who].up.carry(bytes, self.now) {
            arrives = true;
            self.put(at, event());
        }
        arrives
    }

    /// Media of a client that did not go on counts as lost.
    pub(super) fn count_lost(&mut self, who: usize, bytes: &[u8], went: bool) {
        if !went && checks::media_ssrc(bytes).is_some() {
            self.seats[who].lost_up += 1;
        }
    }
}
