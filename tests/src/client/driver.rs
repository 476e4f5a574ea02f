//! The task of a client: answers what a client must answer, and records everything.
//!
//! With one connection it offers and takes answers. With two it offers what it publishes, and a
//! [`Receiver`] answers the server's offers.

use super::receiver::Receiver;
use super::{Message, Socket, Value};
use crate::endpoint::{self, Seen};
use futures_util::{SinkExt, StreamExt};
use prost::Message as _;
use proto::livekit::{self, signal_request, signal_response};
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use webrtc::peer_connection::{PeerConnection, RTCIceCandidateInit, RTCSessionDescription};

/// What the test asks of the client's task.
pub(super) enum Order {
    Say(Box<signal_request::Message>),
    Frame(Message),
    Negotiate { restart: bool },
    Cut,
    Adopt(Box<Socket>),
}

/// The client's task.
pub(super) struct Driver {
    pub(super) peer: Arc<dyn PeerConnection>,
    /// What it receives by, if not by the same.
    pub(super) receiver: Option<Receiver>,
    pub(super) seen: Arc<watch::Sender<Seen>>,
    pub(super) socket: Option<Socket>,
    /// The id of the last offer.
    pub(super) offers: u32,
    pub(super) outstanding: bool,
    /// Another negotiation is wanted after this one; with an ICE restart, perhaps.
    pub(super) again: Option<bool>,
    /// Candidates that came before the first answer.
    pub(super) candidates: Option<Vec<RTCIceCandidateInit>>,
    /// The server's place in candidates, and what is read instead.
    pub(super) detour: Option<(String, String)>,
    /// It uses the relays it is told of, and nothing else.
    pub(super) relayed: bool,
}

/// An address as a candidate line has it.
pub(super) fn place(address: SocketAddr) -> String {
    format!(" {} {} typ host", address.ip(), address.port())
}

impl Driver {
    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
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
        if let Some(receiver) = &self.receiver {
            receiver.close().await;
        }
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
        // A second connection may never have been offered.
        if restart && self.offers == 0 {
            return;
        }
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
            signal_response::Message::Join(join) => self.relays(&join.ice_servers).await,
            signal_response::Message::Reconnect(again) => self.relays(&again.ice_servers).await,
            signal_response::Message::Trickle(trickle) => {
                self.candidate(trickle.target(), &trickle.candidate_init)
                    .await
            }
            signal_response::Message::Offer(offer) => self.offered(offer).await,
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

    /// The server tells of relays.
    async fn relays(&self, servers: &[livekit::IceServer]) {
        if !self.relayed {
            return;
        }
        let configured = async {
            let configuration = || endpoint::relayed(servers);
            self.peer.set_configuration(configuration()).await?;
            match &self.receiver {
                Some(receiver) => receiver.configure(configuration()).await,
                None => Ok(()),
            }
        };
        configured.await.expect("servers the crate understands");
    }

    /// A text with the server's address replaced, if there is a detour.
    fn led(&self, text: &str) -> String {
        match &self.detour {
            Some((server, relay)) => text.replace(server, relay),
            None => text.to_owned(),
        }
    }

    /// The server offers what we are to receive.
    async fn offered(&mut self, offer: &livekit::SessionDescription) {
        let sdp = self.led(&offer.sdp);
        let receiver = self
            .receiver
            .as_mut()
            .expect("only two connections are offered");
        let answer = livekit::SessionDescription {
            r#type: "answer".into(),
            sdp: receiver.answer(sdp).await,
            id: offer.id,
            ..Default::default()
        };
        self.say(signal_request::Message::Answer(answer)).await;
    }

    async fn candidate(&mut self, target: livekit::SignalTarget, json: &str) {
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
        if target == livekit::SignalTarget::Subscriber {
            let receiver = self.receiver.as_mut().expect("two connections");
            return receiver.candidate(init).await;
        }
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
