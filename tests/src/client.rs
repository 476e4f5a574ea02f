//! A participant: signalling over a WebSocket, driving one [`endpoint`](crate::endpoint).
//!
//! Its task (`driver`) answers what a client must answer; the test waits for what it wants to see.

mod driver;
mod receiver;

use crate::endpoint::{self, Local, Seen};
use crate::publication::{Media, Publication, Source, add_track};
use crate::server::Server;
use crate::token;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use driver::{Driver, Order, place};
use flate2::{Compression, write::GzEncoder};
use futures_util::StreamExt;
use prost::Message as _;
use proto::livekit::{self, signal_request, signal_response};
use receiver::Receiver;
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
use webrtc::peer_connection::{PeerConnection, SrtpProtectionProfile};

/// The parameters of a client of two peer connections. The crate descends from Pion, and chooses
/// its DTLS role as the Go SDK does.
pub const DUAL: &str = "sdk=go&protocol=17&auto_subscribe=1";

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
    let request = URL_SAFE.encode(wrapped.encode_to_vec()).replace('=', "%3D");
    upgrade(server, token, &format!("/rtc/v1?join_request={request}")).await
}

/// Asks for a signalling connection as clients with two peer connections do.
///
/// # Errors
/// The server's refusal.
pub async fn dial_dual(
    server: &Server,
    token: &str,
    parameters: &str,
) -> Result<Socket, tungstenite::Error> {
    upgrade(server, token, &format!("/rtc?{parameters}")).await
}

async fn upgrade(server: &Server, token: &str, path: &str) -> Result<Socket, tungstenite::Error> {
    let url = format!("ws://{}{path}&access_token={token}", server.http);
    let socket = TcpStream::connect(server.http).await?;
    socket.set_nodelay(true)?;
    Ok(client_async(url, socket).await?.0)
}

/// The first message on a connection nobody drives.
///
/// # Panics
/// When none comes.
pub async fn first_message(socket: &mut Socket) -> signal_response::Message {
    let frame = timeout(PATIENCE, socket.next()).await;
    let frame = frame.expect("in time").expect("a frame").expect("sound");
    let response = livekit::SignalResponse::decode(frame.into_data());
    response.expect("readable").message.expect("a message")
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
    /// The only SRTP profile it offers.
    pub only: Option<SrtpProtectionProfile>,
    /// Where it sends media instead of to the server.
    pub via: Option<SocketAddr>,
    /// Two peer connections: the parameters to join with.
    pub dual: Option<&'static str>,
    /// By nothing but the relays the server tells of.
    pub relayed: bool,
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
            only: None,
            via: None,
            dual: None,
            relayed: false,
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

    /// Its media goes there in place of to the server.
    #[must_use]
    pub const fn via(mut self, at: SocketAddr) -> Self {
        self.via = Some(at);
        self
    }

    /// With two peer connections, as clients join that know nothing else.
    #[must_use]
    pub fn dual(mut self) -> Self {
        self.dual = Some(DUAL);
        self
    }

    /// By relays alone. With two peer connections: one that is offered in the request to join would be
    /// before it knows of any.
    #[must_use]
    pub fn relayed(mut self) -> Self {
        self.relayed = true;
        self.dual()
    }

    /// With one more grant.
    #[must_use]
    pub fn grant(mut self, name: &str, value: bool) -> Self {
        self.claims["video"][name] = value.into();
        self
    }
}

/// A participant in a room.
pub struct Client {
    peer: Arc<dyn PeerConnection>,
    channels: endpoint::Channels,
    token: String,
    seen: Arc<watch::Sender<Seen>>,
    orders: mpsc::UnboundedSender<Order>,
    dual: Option<&'static str>,
    /// The participant sid.
    pub sid: String,
    /// The server offers first, and its connection is the one that counts.
    pub receives_first: bool,
}

impl Client {
    /// Joins a room, and waits until media is connected.
    pub async fn join(server: &Server, identity: &str, room: &str) -> Self {
        Self::join_with(server, Join::new(identity, room)).await
    }

    /// Joins a room, and takes a track of it once media is connected, nothing else: the crate drops media that
    /// comes in one burst with the end of the handshake, and a key frame may begin there.
    pub async fn join_for(server: &Server, identity: &str, room: &str, track: &str) -> Self {
        let mut how = Join::new(identity, room);
        how.auto_subscribe = false;
        let client = Self::join_with(server, how).await;
        let wanted = livekit::UpdateSubscription {
            track_sids: vec![track.to_owned()],
            subscribe: true,
            ..Default::default()
        };
        client.say(signal_request::Message::Subscription(wanted));
        client
    }

    /// Joins a room in some other way.
    ///
    /// # Panics
    /// When joining fails.
    pub async fn join_with(server: &Server, how: Join) -> Self {
        let client = Self::enter(server, how).await;
        client
            .until("media connects", |seen| {
                let primary = if client.receives_first {
                    &seen.receiving
                } else {
                    &seen.state
                };
                (primary == "connected").then_some(())
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
        let ours = || token::sign(&how.claims, token::SECRET);
        let token = how.token.clone().unwrap_or_else(ours);
        let local = Local {
            at: how.media_at,
            only: how.only,
        };
        let (peer, channels, receiver, socket) = match how.dual {
            Some(parameters) => {
                let (peer, channels, receiver) = endpoint::open_dual(&seen, local)
                    .await
                    .expect("two local peer connections");
                let socket = dial_dual(server, &token, parameters).await;
                (peer, channels, Some(Receiver::new(receiver)), socket)
            }
            None => {
                let (peer, channels, sdp) = endpoint::open(Arc::clone(&seen), local)
                    .await
                    .expect("a local peer connection");
                let socket = dial(server, &token, &join_request(&how, sdp), how.gzip).await;
                (peer, channels, None, socket)
            }
        };
        let single = receiver.is_none();
        let (orders, inbox) = mpsc::unbounded_channel();
        let driver = Driver {
            peer: Arc::clone(&peer),
            receiver,
            seen: Arc::clone(&seen),
            socket: Some(socket.expect("the server lets us in")),
            offers: u32::from(single),
            outstanding: single,
            again: None,
            candidates: Some(Vec::new()),
            detour: how.via.map(|relay| (place(server.udp), place(relay))),
            relayed: how.relayed,
        };
        tokio::spawn(driver.run(inbox));
        let mut client = Self {
            peer,
            channels,
            token,
            seen,
            orders,
            dual: how.dual,
            sid: String::new(),
            receives_first: false,
        };
        (client.sid, client.receives_first) = client
            .message("the join response", |message| match message {
                signal_response::Message::Join(join) => {
                    Some((join.participant.clone()?.sid, join.subscriber_primary))
                }
                _ => None,
            })
            .await;
        if !single && !client.receives_first {
            client.order(Order::Negotiate { restart: false });
        }
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

    /// Waits until its data channels are open.
    pub async fn until_open(&self) {
        self.until("the data channels open", |seen| {
            let open = |label: &&str| seen.opened.iter().any(|opened| opened == label);
            ["_reliable", "_lossy"].iter().all(open).then_some(())
        })
        .await;
    }

    /// Sends a message on a data channel.
    ///
    /// # Panics
    /// When the channel does not take it.
    pub async fn send(&self, label: &str, message: &[u8]) {
        self.channels[label]
            .send(message.into())
            .await
            .expect("an open channel");
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
        self.announce(add_track(cid, media), media).await
    }

    /// Publishes a picture as the shared screen.
    ///
    /// # Panics
    /// When the server does not publish it.
    pub async fn share_screen(&self, cid: &str, media: Media) -> Publication {
        let mut request = add_track(cid, media);
        request.source = livekit::TrackSource::ScreenShare.into();
        self.announce(request, media).await
    }

    async fn announce(&self, request: livekit::AddTrackRequest, media: Media) -> Publication {
        let cid = request.cid.clone();
        let source = Source::add(&*self.peer, &cid, media)
            .await
            .expect("a local track");
        self.say(signal_request::Message::AddTrack(request));
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
        let reason = livekit::ReconnectReason::RrSignalDisconnected;
        self.resume_for(reason, server, published).await;
    }

    /// The same for another reason; returns what the server says first.
    ///
    /// # Panics
    /// When the server does not let us in.
    pub async fn resume_for(
        &self,
        reason: livekit::ReconnectReason,
        server: &Server,
        published: &[&Publication],
    ) -> livekit::ReconnectResponse {
        let join = livekit::JoinRequest {
            reconnect: true,
            reconnect_reason: reason.into(),
            participant_sid: self.sid.clone(),
            connection_settings: Some(livekit::ConnectionSettings {
                auto_subscribe: true,
                ..Default::default()
            }),
            ..Default::default()
        };
        let socket = match self.dual {
            Some(parameters) => {
                let (sid, reason) = (&self.sid, i32::from(reason));
                let query = format!("{parameters}&reconnect=1&reconnect_reason={reason}&sid={sid}");
                dial_dual(server, &self.token, &query).await
            }
            None => dial(server, &self.token, &join, true).await,
        };
        let socket = socket.expect("the server lets us in");
        let before = self.seen(|seen| seen.messages.len());
        self.order(Order::Adopt(Box::new(socket)));
        let told = self
            .until("the reconnect response comes first", |seen| {
                match seen.messages.get(before)? {
                    signal_response::Message::Reconnect(told) => Some(told.clone()),
                    other => panic!("{other:?}"),
                }
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
        told
    }
}

fn join_request(how: &Join, sdp: String) -> livekit::JoinRequest {
    let offer = livekit::SessionDescription {
        r#type: "offer".into(),
        sdp,
        id: 1,
        ..Default::default()
    };
    livekit::JoinRequest {
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
    }
}
