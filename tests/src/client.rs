//! A participant: signalling over a WebSocket, driving one [`endpoint`](crate::endpoint).
//!
//! A task answers what a client must answer (candidates, answers, section requirements) and
//! records everything; the test waits for what it wants to see.

use crate::endpoint::{self, Seen};
use crate::publication::{Media, Publication, Source, add_track};
use crate::server::Server;
use crate::token;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use flate2::{Compression, write::GzEncoder};
use futures_util::{SinkExt, StreamExt};
use prost::Message as _;
use proto::livekit::{self, signal_request, signal_response};
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use serde_json::Value;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use webrtc::peer_connection::{PeerConnection, RTCIceCandidateInit, RTCSessionDescription};

/// How long a test waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// A signalling connection.
pub type Socket = WebSocketStream<TcpStream>;

/// Asks for a signalling connection.
///
/// # Errors
/// The server's refusal.
pub async fn dial(
    server: &Server,
    token: &str,
    join: &livekit::JoinRequest,
    gzip: bool,
) -> Result<Socket, tungstenite::Error> {
    let inner = join.encode_to_vec();
    let wrapped = if gzip {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&inner)?;
        livekit::WrappedJoinRequest {
            compression: 1,
            join_request: encoder.finish()?,
        }
    } else {
        livekit::WrappedJoinRequest {
            compression: 0,
            join_request: inner,
        }
    };
    let request = URL_SAFE.encode(wrapped.encode_to_vec());
    let url = format!(
        "ws://{}/rtc/v1?access_token={token}&join_request={}",
        server.http,
        request.replace('=', "%3D")
    );
    let socket = TcpStream::connect(server.http).await?;
    socket.set_nodelay(true)?;
    Ok(client_async(url, socket).await?.0)
}

/// How to join.
pub struct Join {
    /// The token's claims.
    pub claims: Value,
    /// A token that somebody else signed, in place of the claims.
    pub token: Option<String>,
    /// Take all tracks.
    pub auto_subscribe: bool,
    /// Compress the join request.
    pub gzip: bool,
    /// Where the client's media socket is bound.
    pub media_at: &'static str,
    /// Where it sends media instead of to the server.
    pub via: Option<SocketAddr>,
}

impl Join {
    /// As most clients join.
    #[must_use]
    pub fn new(identity: &str, room: &str) -> Self {
        Self {
            claims: token::claims(identity, room),
            token: None,
            auto_subscribe: true,
            gzip: true,
            media_at: "127.0.0.1:0",
            via: None,
        }
    }

    /// With a token from elsewhere.
    #[must_use]
    pub fn with_token(token: &str) -> Self {
        Self {
            token: Some(token.to_owned()),
            ..Self::new("", "")
        }
    }

    /// With one more grant.
    #[must_use]
    pub fn grant(mut self, name: &str, value: bool) -> Self {
        self.claims["video"][name] = value.into();
        self
    }
}

/// What the test asks of the client's task.
enum Order {
    Say(Box<signal_request::Message>),
    Frame(Message),
    Negotiate { restart: bool },
    Cut,
    Adopt(Box<Socket>),
}

/// A participant in a room.
pub struct Client {
    peer: Arc<dyn PeerConnection>,
    token: String,
    seen: Arc<watch::Sender<Seen>>,
    orders: mpsc::UnboundedSender<Order>,
    /// The participant sid.
    pub sid: String,
}

impl Client {
    /// Joins a room, and waits until media is connected.
    pub async fn join(server: &Server, identity: &str, room: &str) -> Self {
        Self::join_with(server, Join::new(identity, room)).await
    }

    /// Joins a room in some other way.
    ///
    /// # Panics
    /// When joining fails.
    pub async fn join_with(server: &Server, how: Join) -> Self {
        let client = Self::enter(server, how).await;
        client
            .until("media connects", |seen| {
                (seen.state == "connected").then_some(())
            })
            .await;
        client
    }

    /// Joins a room, without waiting for media.
    ///
    /// # Panics
    /// When joining fails.
    pub async fn enter(server: &Server, how: Join) -> Self {
        let seen = Arc::new(watch::Sender::new(Seen::default()));
        let (peer, sdp) = endpoint::open(Arc::clone(&seen), how.media_at)
            .await
            .expect("a local peer connection");
        let offer = livekit::SessionDescription {
            r#type: "offer".into(),
            sdp,
            id: 1,
            ..Default::default()
        };
        let join = livekit::JoinRequest {
            client_info: Some(livekit::ClientInfo {
                sdk: livekit::client_info::Sdk::Rust.into(),
                protocol: 17,
                ..Default::default()
            }),
            connection_settings: Some(livekit::ConnectionSettings {
                auto_subscribe: how.auto_subscribe,
                ..Default::default()
            }),
            publisher_offer: Some(offer),
            ..Default::default()
        };
        let ours = || token::sign(&how.claims, token::SECRET);
        let token = how.token.clone().unwrap_or_else(ours);
        let socket = dial(server, &token, &join, how.gzip)
            .await
            .expect("the server lets us in");
        let (orders, inbox) = mpsc::unbounded_channel();
        let driver = Driver {
            peer: Arc::clone(&peer),
            seen: Arc::clone(&seen),
            socket: Some(socket),
            offers: 1,
            outstanding: true,
            again: None,
            candidates: Some(Vec::new()),
            detour: how.via.map(|relay| (place(server.udp), place(relay))),
        };
        tokio::spawn(driver.run(inbox));
        let mut client = Self {
            peer,
            token,
            seen,
            orders,
            sid: String::new(),
        };
        client.sid = client
            .message("the join response", |message| match message {
                signal_response::Message::Join(join) => Some(join.participant.clone()?.sid),
                _ => None,
            })
            .await;
        client
    }

    /// Waits until something has been seen.
    ///
    /// # Panics
    /// When it is not seen in time.
    pub async fn until<T>(&self, what: &str, mut look: impl FnMut(&Seen) -> Option<T>) -> T {
        let mut receiver = self.seen.subscribe();
        let wait = async {
            loop {
                if let Some(found) = look(&receiver.borrow_and_update()) {
                    return found;
                }
                receiver.changed().await.expect("the client lives");
            }
        };
        let Ok(found) = timeout(PATIENCE, wait).await else {
            let seen = self.seen.borrow();
            let messages: Vec<String> = seen
                .messages
                .iter()
                .map(|m| format!("{m:?}").chars().take(160).collect())
                .collect();
            panic!(
                "{what}: not within {PATIENCE:?}; media {}, {} packets, messages:\n  {}",
                seen.state,
                seen.packets.len(),
                messages.join("\n  ")
            );
        };
        found
    }

    /// Waits for a signal message, the ones already seen included.
    pub async fn message<T>(
        &self,
        what: &str,
        mut look: impl FnMut(&signal_response::Message) -> Option<T>,
    ) -> T {
        self.until(what, |seen| seen.messages.iter().find_map(&mut look))
            .await
    }

    /// A look at everything seen so far.
    pub fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.borrow())
    }

    /// Waits until a track brings `count` packets more than now; returns their payloads.
    pub async fn receive(&self, track: &str, count: usize) -> Vec<bytes::Bytes> {
        let from = self.seen(|seen| seen.packets.len());
        self.until(&format!("{count} packets of {track}"), |seen| {
            let payloads: Vec<_> = seen.payloads(from, track).cloned().collect();
            (payloads.len() >= count).then_some(payloads)
        })
        .await
    }

    /// Waits until a publication has sent `count` payloads in all: time as the publisher counts it.
    pub async fn until_sent(&self, publication: &Publication, count: usize) {
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        let wait = async {
            while publication.sent("").len() < count {
                tick.tick().await;
            }
        };
        timeout(PATIENCE, wait)
            .await
            .expect("a publication goes on sending");
    }

    /// Sends a request.
    pub fn say(&self, request: signal_request::Message) {
        self.order(Order::Say(Box::new(request)));
    }

    /// Sends a raw frame.
    pub fn frame(&self, frame: Message) {
        self.order(Order::Frame(frame));
    }

    fn order(&self, order: Order) {
        self.orders
            .send(order)
            .unwrap_or_else(|_| panic!("the client's task lives"));
    }

    /// Publishes a track and waits for its sid.
    ///
    /// # Panics
    /// When the server does not publish it.
    pub async fn publish(&self, cid: &str, media: Media) -> Publication {
        let source = Source::add(&*self.peer, cid, media)
            .await
            .expect("a local track");
        self.say(signal_request::Message::AddTrack(add_track(cid, media)));
        self.order(Order::Negotiate { restart: false });
        let sid = self
            .message("track_published", |message| match message {
                signal_response::Message::TrackPublished(published) if published.cid == cid => {
                    Some(published.track.clone()?.sid)
                }
                _ => None,
            })
            .await;
        Publication::start(sid, source)
    }

    /// Drops the TCP connection without a word.
    pub async fn cut(&self) {
        self.order(Order::Cut);
        self.until("the socket is gone", |seen| seen.closed.then_some(()))
            .await;
    }

    /// Takes the session up again, as clients do: reconnect, sync state, ICE restart.
    ///
    /// # Panics
    /// When the server does not let us in.
    pub async fn resume(&self, server: &Server, published: &[&Publication]) {
        let join = livekit::JoinRequest {
            reconnect: true,
            reconnect_reason: 1,
            participant_sid: self.sid.clone(),
            connection_settings: Some(livekit::ConnectionSettings {
                auto_subscribe: true,
                ..Default::default()
            }),
            ..Default::default()
        };
        let socket = dial(server, &self.token, &join, true)
            .await
            .expect("the server lets us in");
        let before = self.seen(|seen| seen.messages.len());
        self.order(Order::Adopt(Box::new(socket)));
        self.until("the reconnect response comes first", |seen| {
            let first = seen.messages.get(before)?;
            assert!(
                matches!(first, signal_response::Message::Reconnect(_)),
                "{first:?}"
            );
            Some(())
        })
        .await;
        let publish_tracks = published
            .iter()
            .map(|publication| livekit::TrackPublishedResponse {
                cid: publication.cid.clone(),
                track: Some(livekit::TrackInfo {
                    sid: publication.sid.clone(),
                    ..Default::default()
                }),
            });
        self.say(signal_request::Message::SyncState(livekit::SyncState {
            publish_tracks: publish_tracks.collect(),
            ..Default::default()
        }));
        self.order(Order::Negotiate { restart: true });
    }
}

/// The client's task.
struct Driver {
    peer: Arc<dyn PeerConnection>,
    seen: Arc<watch::Sender<Seen>>,
    socket: Option<Socket>,
    /// The id of the last offer.
    offers: u32,
    outstanding: bool,
    /// Another negotiation is wanted after this one; with an ICE restart, perhaps.
    again: Option<bool>,
    /// Candidates that came before the first answer.
    candidates: Option<Vec<RTCIceCandidateInit>>,
    /// The server's place in candidates, and what is read instead.
    detour: Option<(String, String)>,
}

/// An address as a candidate line has it.
fn place(address: SocketAddr) -> String {
    format!(" {} {} typ host", address.ip(), address.port())
}

impl Driver {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            let frame = async {
                match &mut self.socket {
                    Some(socket) => socket.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.obey(order).await,
                    None => break,
                },
                frame = frame => match frame {
                    Some(Ok(frame)) => self.read(frame).await,
                    _ => self.lose(),
                },
            }
        }
        // The test has dropped the client: go without a word.
        let _ = self.peer.close().await;
    }

    fn lose(&mut self) {
        self.socket = None;
        self.seen.send_modify(|seen| seen.closed = true);
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Say(message) => self.say(*message).await,
            Order::Frame(frame) => self.send(frame).await,
            Order::Negotiate { restart } => self.negotiate(restart).await,
            Order::Cut => self.lose(),
            Order::Adopt(socket) => {
                self.socket = Some(*socket);
                self.outstanding = false;
                self.seen.send_modify(|seen| seen.closed = false);
            }
        }
    }

    async fn say(&mut self, message: signal_request::Message) {
        let request = livekit::SignalRequest {
            message: Some(message),
        };
        self.send(Message::binary(request.encode_to_vec())).await;
    }

    async fn send(&mut self, frame: Message) {
        if let Some(socket) = &mut self.socket
            && socket.send(frame).await.is_err()
        {
            self.lose();
        }
    }

    async fn negotiate(&mut self, restart: bool) {
        if self.outstanding {
            self.again = Some(restart || self.again == Some(true));
            return;
        }
        if restart {
            self.peer
                .restart_ice()
                .await
                .expect("a restart is always possible");
        }
        let offer = self.peer.create_offer(None).await.expect("an offer");
        self.peer
            .set_local_description(offer.clone())
            .await
            .expect("our own offer");
        self.offers += 1;
        self.outstanding = true;
        let sdp = self
            .peer
            .local_description()
            .await
            .map_or(offer.sdp, |local| local.sdp);
        let id = self.offers;
        self.say(signal_request::Message::Offer(
            livekit::SessionDescription {
                r#type: "offer".into(),
                sdp,
                id,
                ..Default::default()
            },
        ))
        .await;
    }

    async fn read(&mut self, frame: Message) {
        let message = match frame {
            Message::Binary(bytes) => {
                livekit::SignalResponse::decode(bytes)
                    .expect("a message")
                    .message
            }
            Message::Text(text) => {
                serde_json::from_str::<livekit::SignalResponse>(&text)
                    .expect("a JSON message")
                    .message
            }
            _ => None,
        };
        let Some(message) = message else { return };
        match &message {
            signal_response::Message::Trickle(trickle) => {
                self.candidate(&trickle.candidate_init).await
            }
            signal_response::Message::Answer(answer) => self.answer(answer).await,
            signal_response::Message::MediaSectionsRequirement(wanted) => {
                let added = async {
                    endpoint::sections(&*self.peer, RtpCodecKind::Audio, wanted.num_audios).await?;
                    endpoint::sections(&*self.peer, RtpCodecKind::Video, wanted.num_videos).await
                };
                added.await.expect("more sections");
                self.negotiate(false).await;
            }
            _ => {}
        }
        self.seen.send_modify(|seen| seen.messages.push(message));
    }

    /// A text with the server's address replaced, if there is a detour.
    fn led(&self, text: &str) -> String {
        match &self.detour {
            Some((server, relay)) => text.replace(server, relay),
            None => text.to_owned(),
        }
    }

    async fn candidate(&mut self, json: &str) {
        let value: Value = serde_json::from_str(json).expect("a candidate is JSON");
        let text = self.led(value["candidate"].as_str().expect("a candidate line"));
        // The crate has no use for the passive TCP candidates here.
        if !text.to_lowercase().contains(" udp ") {
            return;
        }
        let init = RTCIceCandidateInit {
            candidate: text,
            sdp_mid: Some("0".into()),
            ..Default::default()
        };
        match &mut self.candidates {
            Some(early) => early.push(init),
            None => self
                .peer
                .add_ice_candidate(init)
                .await
                .expect("a valid candidate"),
        }
    }

    async fn answer(&mut self, answer: &livekit::SessionDescription) {
        if answer.id != self.offers {
            return;
        }
        let parsed =
            RTCSessionDescription::answer(self.led(&answer.sdp)).expect("an answer is SDP");
        self.peer
            .set_remote_description(parsed)
            .await
            .expect("an answer that fits the offer");
        self.outstanding = false;
        for candidate in self.candidates.take().unwrap_or_default() {
            self.peer
                .add_ice_candidate(candidate)
                .await
                .expect("a valid candidate");
        }
        if let Some(restart) = self.again.take() {
            self.negotiate(restart).await;
        }
    }
}
