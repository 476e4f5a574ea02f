//! A participant's signalling: joins, negotiates, publishes if it is to, and leaves when told.

use crate::client::{Client, Shared};
use crate::packets::{Media, Source};
use crate::wire::{Order, Tally, Wire};
use futures_util::{SinkExt, StreamExt};
use prost::Message as _;
use proto::livekit::{self, signal_request, signal_response};
use proto::signal::{Frame, decode_response, encode_join_request};
use proto::token::{Claims, Keys, VideoGrant};
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::interval;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

/// Between two signalling pings, as clients do.
const PING: Duration = Duration::from_secs(5);
const TOKEN_VALID: Duration = Duration::from_secs(3600);

type Failure = Box<dyn Error + Send + Sync>;

/// The server to join, and what all clients share.
pub struct Target {
    /// `host:port` of its signalling.
    pub authority: String,
    pub keys: Keys,
    pub wire: Wire,
    pub shared: Shared,
}

/// How one participant behaves.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Differs among all participants of the process.
    pub id: usize,
    pub room: String,
    pub publish: Option<Media>,
    /// Takes all tracks; offers this many sections of each kind from the start.
    pub take: Option<(u32, u32)>,
}

/// A participant in a room; leaves when dropped.
pub struct Participant {
    pub tally: Arc<Tally>,
    _leave: oneshot::Sender<()>,
}

impl Participant {
    /// Joins. Whether it worked is seen in the tally.
    pub fn join(runtime: &tokio::runtime::Handle, target: &Arc<Target>, plan: Plan) -> Self {
        let tally = Arc::new(Tally::default());
        let (leave, left) = oneshot::channel();
        let (target, seen) = (Arc::clone(target), Arc::clone(&tally));
        runtime.spawn(async move {
            let (id, wire) = (plan.id, target.wire.clone());
            if let Err(error) = attend(&target, plan, seen, left).await {
                println!("participant {id}: {error}");
            }
            wire.order(Order::Remove { id });
        });
        Self {
            tally,
            _leave: leave,
        }
    }
}

async fn attend(
    target: &Target,
    plan: Plan,
    tally: Arc<Tally>,
    mut left: oneshot::Receiver<()>,
) -> Result<(), Failure> {
    let mut session = Session::open(target, plan, tally).await?;
    let mut ping = interval(PING);
    loop {
        tokio::select! {
            _ = &mut left => break,
            _ = ping.tick() => session.ping().await?,
            frame = session.stream.next() => match frame {
                Some(Ok(Message::Binary(bytes))) => {
                    let response = decode_response(&Frame::Binary(&bytes[..]))?;
                    if let Some(message) = response.message {
                        session.read(message).await?;
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Err("the server closed the connection".into()),
            },
        }
    }
    let leave = livekit::LeaveRequest {
        reason: livekit::DisconnectReason::ClientInitiated.into(),
        ..Default::default()
    };
    session.say(signal_request::Message::Leave(leave)).await?;
    session.stream.close(None).await?;
    Ok(())
}

struct Session<'a> {
    target: &'a Target,
    plan: Plan,
    tally: Arc<Tally>,
    stream: WebSocketStream<TcpStream>,
    client: Arc<Mutex<Client>>,
    /// Until the server's address is known.
    socket: Option<UdpSocket>,
    candidate: String,
    server: Option<SocketAddr>,
    answered: bool,
    offers: Offers,
}

/// Where the negotiation stands.
#[derive(Default)]
struct Offers {
    sections: Vec<String>,
    last: u32,
    outstanding: bool,
    again: bool,
    /// Index of the section that sends, once it is offered.
    sending: Option<usize>,
}

impl<'a> Session<'a> {
    async fn open(target: &'a Target, plan: Plan, tally: Arc<Tally>) -> Result<Self, Failure> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = socket.local_addr()?.port();
        let client = Client::new(&target.shared, plan.id as u32, Instant::now());
        let (audio, video) = plan.take.unwrap_or((1, 1));
        let mut offers = Offers::default();
        offers.add(Media::Audio, audio);
        offers.add(Media::Video, video);
        let candidate = format!("a=candidate:1 1 udp 2130706431 127.0.0.1 {port} typ host\r\n");
        let join = livekit::JoinRequest {
            client_info: Some(livekit::ClientInfo {
                sdk: livekit::client_info::Sdk::Rust.into(),
                protocol: 17,
                ..Default::default()
            }),
            connection_settings: Some(livekit::ConnectionSettings {
                auto_subscribe: plan.take.is_some(),
                ..Default::default()
            }),
            publisher_offer: Some(offers.next(&client, &candidate)),
            ..Default::default()
        };
        let url = format!(
            "ws://{}/rtc/v1?access_token={}&join_request={}",
            target.authority,
            token(&target.keys, &plan)?,
            encode_join_request(&join).replace('=', "%3D")
        );
        tally.began.get_or_init(Instant::now);
        let tcp = TcpStream::connect(&target.authority).await?;
        tcp.set_nodelay(true)?;
        let (stream, _) = client_async(url, tcp).await?;
        Ok(Self {
            target,
            plan,
            tally,
            stream,
            client: Arc::new(Mutex::new(client)),
            socket: Some(socket),
            candidate,
            server: None,
            answered: false,
            offers,
        })
    }

    async fn say(&mut self, message: signal_request::Message) -> Result<(), Failure> {
        let request = livekit::SignalRequest {
            message: Some(message),
        };
        let frame = Message::binary(request.encode_to_vec());
        Ok(self.stream.send(frame).await?)
    }

    async fn ping(&mut self) -> Result<(), Failure> {
        let timestamp = i64::try_from(unix_time().as_millis())?;
        let ping = livekit::Ping { timestamp, rtt: 0 };
        self.say(signal_request::Message::PingReq(ping)).await
    }

    async fn read(&mut self, message: signal_response::Message) -> Result<(), Failure> {
        match message {
            signal_response::Message::Join(_) => self.announce().await,
            signal_response::Message::Trickle(trickle) => {
                self.take_candidates(&trickle.candidate_init);
                Ok(())
            }
            signal_response::Message::Answer(answer) => self.answered(&answer).await,
            signal_response::Message::TrackPublished(_) => {
                let media = self.plan.publish.ok_or("published by another")?;
                self.offers.send(media, self.ssrc(), &cid(self.plan.id));
                self.negotiate().await
            }
            signal_response::Message::MediaSectionsRequirement(wanted) => {
                self.offers.add(Media::Audio, wanted.num_audios);
                self.offers.add(Media::Video, wanted.num_videos);
                self.negotiate().await
            }
            signal_response::Message::Leave(leave) => {
                Err(format!("told to leave, reason {}", leave.reason).into())
            }
            _ => Ok(()),
        }
    }

    /// Tells of the track that will be published.
    async fn announce(&mut self) -> Result<(), Failure> {
        let Some(media) = self.plan.publish else {
            return Ok(());
        };
        let (kind, source) = match media {
            Media::Audio => (livekit::TrackType::Audio, livekit::TrackSource::Microphone),
            Media::Video => (livekit::TrackType::Video, livekit::TrackSource::Camera),
        };
        let mut track = livekit::AddTrackRequest {
            cid: cid(self.plan.id),
            r#type: kind.into(),
            source: source.into(),
            ..Default::default()
        };
        if media == Media::Video {
            (track.width, track.height) = (640, 360);
            track.layers = vec![livekit::VideoLayer {
                quality: livekit::VideoQuality::High.into(),
                width: 640,
                height: 360,
                bitrate: 1_440_000,
                ..Default::default()
            }];
        }
        self.say(signal_request::Message::AddTrack(track)).await
    }

    async fn negotiate(&mut self) -> Result<(), Failure> {
        if self.offers.outstanding {
            self.offers.again = true;
            return Ok(());
        }
        let offer = {
            let client = self.client.lock().expect("not poisoned");
            self.offers.next(&client, &self.candidate)
        };
        self.say(signal_request::Message::Offer(offer)).await
    }

    async fn answered(&mut self, answer: &livekit::SessionDescription) -> Result<(), Failure> {
        if answer.id != self.offers.last {
            return Ok(());
        }
        self.offers.outstanding = false;
        if !self.answered {
            let mut client = self.client.lock().expect("not poisoned");
            client.read_answer(&answer.sdp);
            self.answered = true;
        }
        self.take_candidates(&answer.sdp);
        if let (Some(at), Some(media)) = (self.offers.sending.take(), self.plan.publish) {
            // Publishers do not send in step.
            let start = Instant::now() + Duration::from_millis(self.plan.id as u64 * 7 % 20);
            let source = Source::new(media, self.ssrc(), at.to_string(), start);
            self.target.wire.order(Order::Publish {
                id: self.plan.id,
                source: Box::new(source),
            });
        }
        if std::mem::take(&mut self.offers.again) {
            self.negotiate().await?;
        }
        Ok(())
    }

    /// Finds the server's UDP address; starts media once it and the answer are there.
    fn take_candidates(&mut self, text: &str) {
        for (at, _) in text.match_indices("candidate:") {
            let words: Vec<&str> = text[at..].split_ascii_whitespace().take(6).collect();
            let &[_, _, transport, _, ip, port] = words.as_slice() else {
                continue;
            };
            if transport.eq_ignore_ascii_case("udp")
                && let (Ok(ip), Ok(port)) = (ip.parse::<Ipv4Addr>(), port.parse())
            {
                self.server.get_or_insert(SocketAddr::from((ip, port)));
            }
        }
        if let (true, Some(server)) = (self.answered, self.server)
            && let Some(socket) = self.socket.take()
        {
            self.target.wire.order(Order::Add {
                id: self.plan.id,
                socket,
                server,
                client: Arc::clone(&self.client),
                tally: Arc::clone(&self.tally),
            });
        }
    }

    const fn ssrc(&self) -> u32 {
        0x1000_0000 + self.plan.id as u32
    }
}

impl Offers {
    /// More sections to receive in.
    fn add(&mut self, media: Media, count: u32) {
        for _ in 0..count {
            self.sections.push(media.section("recvonly"));
        }
    }

    fn send(&mut self, media: Media, ssrc: u32, cid: &str) {
        let section = media.section("sendonly");
        self.sections.push(format!(
            "{section}a=msid:- {cid}\r\na=ssrc:{ssrc} cname:bench\r\na=ssrc:{ssrc} msid:- {cid}\r\n"
        ));
    }

    fn next(&mut self, client: &Client, candidate: &str) -> livekit::SessionDescription {
        self.last += 1;
        self.outstanding = true;
        let mids: Vec<String> = (0..self.sections.len()).map(|at| at.to_string()).collect();
        let bodies: Vec<String> = self
            .sections
            .iter()
            .map(|section| format!("{section}{candidate}"))
            .collect();
        let sections: Vec<(&str, &str)> = mids
            .iter()
            .zip(&bodies)
            .map(|(mid, body)| (mid.as_str(), body.as_str()))
            .collect();
        let sends = |section: &String| section.contains("a=sendonly");
        self.sending = self.sections.iter().position(sends);
        livekit::SessionDescription {
            r#type: "offer".into(),
            // The clients are the DTLS clients, whatever the server would choose.
            sdp: client
                .offer(&sections)
                .replace("a=setup:actpass", "a=setup:active"),
            id: self.last,
            ..Default::default()
        }
    }
}

fn cid(id: usize) -> String {
    format!("track-{id}")
}

fn token(keys: &Keys, plan: &Plan) -> Result<String, Failure> {
    let claims = Claims {
        identity: format!("participant-{}", plan.id),
        video: Some(VideoGrant::join(&plan.room)),
        ..Default::default()
    };
    Ok(keys.sign(&claims, TOKEN_VALID, unix_time().as_secs())?)
}

fn unix_time() -> Duration {
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()
}
