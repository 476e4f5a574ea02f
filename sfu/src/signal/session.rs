//! The state of one signalling socket: in which encoding it speaks, what must come first, what is
//! answered without asking the room.
//!
//! Owns no queue and no socket; frames in, frames and requests out. Called by `http/websocket`.
//! (LK: signalling §0 rule 2, §3)

use super::allowance::Allowance;
use proto::livekit::leave_request::Action;
use proto::livekit::signal_request::Message as Request;
use proto::livekit::signal_response::Message as Response;
use proto::livekit::{Pong, SignalResponse};
use proto::signal::{
    Encoding, FrameBuf, FrameError, FrameRef, Unwritable, decode_request, encode_response,
};

/// Our WebSocket subprotocol: JSON from the first frame on. LiveKit writes its first frame in
/// binary before it reads any, which a hand-written page cannot use.
pub const JSON_SUBPROTOCOL: &str = "livekit-json";

/// What a connection is for, hence what it must be told first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// A fresh join: `join`.
    Join,
    /// A resume: `reconnect`, or `leave` if it failed.
    Resume,
}

/// What a client's frame asks for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Heard {
    /// To be answered at once.
    pub reply: Option<Response>,
    /// To be passed to the room.
    pub request: Option<Request>,
}

/// Why a client's frame ends its connection; the client's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HearError {
    /// It cannot be read.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// More requests than any client makes.
    #[error("too many requests")]
    Flood,
}

/// Why a message for the client is no frame; the server's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SayError {
    /// A fresh connection was to be told something else before `join`: it must be closed.
    #[error("the first message of a fresh connection must be a join")]
    NotAJoin,
    /// The client's encoding cannot carry it; the connection stays as it was.
    #[error(transparent)]
    Unwritable(#[from] Unwritable),
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    encoding: Encoding,
    /// Until the first message was sent.
    opening: Option<Opening>,
    /// The client was told to resume.
    sent_back: bool,
    allowance: Allowance,
}

impl Session {
    /// A connection that has been told nothing yet. It begins in protobuf, or in JSON if it chose
    /// [`JSON_SUBPROTOCOL`].
    #[must_use]
    pub fn new(opening: Opening, subprotocol: Option<&str>) -> Self {
        let json = subprotocol == Some(JSON_SUBPROTOCOL);
        Self {
            encoding: if json {
                Encoding::Json
            } else {
                Encoding::Protobuf
            },
            opening: Some(opening),
            sent_back: false,
            allowance: Allowance::new(),
        }
    }

    /// Takes a client's frame; from now on it is answered in the frame's encoding. `server_ms` is
    /// the time since the Unix epoch.
    ///
    /// # Errors
    /// The frame is too large, holds no request or is one too many: the connection must be closed.
    pub fn handle_frame(
        &mut self,
        frame: &FrameRef<'_>,
        server_ms: i64,
    ) -> Result<Heard, HearError> {
        let request = decode_request(frame)?.message;
        let offer = matches!(request, Some(Request::Offer(_)));
        if !self.allowance.pay(frame.len(), offer, server_ms) {
            return Err(HearError::Flood);
        }
        self.encoding = frame.encoding();
        Ok(match request {
            Some(Request::Ping(_)) => Heard {
                reply: Some(Response::Pong(server_ms)),
                request: None,
            },
            // The room hears of it too: it carries the round-trip time of signalling.
            Some(Request::PingReq(ping)) => Heard {
                reply: Some(Response::PongResp(Pong {
                    last_ping_timestamp: ping.timestamp,
                    timestamp: server_ms,
                })),
                request: Some(Request::PingReq(ping)),
            },
            request => Heard {
                reply: None,
                request,
            },
        })
    }

    /// Was the client told to resume? It does so by another connection, and closes this one itself.
    #[must_use]
    pub const fn is_sent_back(&self) -> bool {
        self.sent_back
    }

    /// Writes a message for the client; `None` if a resuming client may not hear it yet.
    ///
    /// # Errors
    /// The message must not come first, or cannot be written.
    pub fn say(&mut self, message: Response) -> Result<Option<FrameBuf>, SayError> {
        match (self.opening, &message) {
            (None, _)
            | (Some(Opening::Join), Response::Join(_))
            | (Some(Opening::Resume), Response::Reconnect(_) | Response::Leave(_)) => {}
            (Some(Opening::Join), _) => return Err(SayError::NotAJoin),
            (Some(Opening::Resume), _) => return Ok(None),
        }
        let sent_back =
            matches!(&message, Response::Leave(leave) if leave.action() == Action::Resume);
        let response = SignalResponse {
            message: Some(message),
        };
        let frame = encode_response(&response, self.encoding)?;
        self.opening = None;
        self.sent_back |= sent_back;
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proto::livekit;
    use proto::signal::Frame;

    fn joined(subprotocol: Option<&str>) -> Session {
        let mut session = Session::new(Opening::Join, subprotocol);
        session.say(join()).expect("first").expect("frame");
        session
    }

    fn join() -> Response {
        Response::Join(livekit::JoinResponse::default())
    }

    fn pong(session: &mut Session) -> FrameBuf {
        session
            .say(Response::Pong(1))
            .expect("allowed")
            .expect("frame")
    }

    #[test]
    fn only_a_leave_to_resume_leaves_the_close_to_the_client() {
        for (action, wanted) in [(Action::Resume, true), (Action::Reconnect, false)] {
            let mut session = joined(None);
            pong(&mut session);
            assert!(!session.is_sent_back());
            let leave = livekit::LeaveRequest {
                action: action as i32,
                ..Default::default()
            };
            session.say(Response::Leave(leave)).expect("allowed");
            assert_eq!(session.is_sent_back(), wanted);
        }
    }

    #[test]
    fn both_pings_are_answered_with_the_servers_time() {
        let mut session = joined(None);
        let old = Frame::Text(r#"{"ping":"5"}"#);
        let heard = session.handle_frame(&old, 1234).expect("request");
        assert_eq!(
            (heard.reply, heard.request),
            (Some(Response::Pong(1234)), None)
        );

        let new = Frame::Text(r#"{"pingReq":{"timestamp":"5","rtt":"7"}}"#);
        let heard = session.handle_frame(&new, 1234).expect("request");
        let pong = Pong {
            last_ping_timestamp: 5,
            timestamp: 1234,
        };
        assert_eq!(heard.reply, Some(Response::PongResp(pong)));
        let ping = livekit::Ping {
            timestamp: 5,
            rtt: 7,
        };
        assert_eq!(heard.request, Some(Request::PingReq(ping)));
    }

    #[test]
    fn other_requests_go_to_the_room_and_unknown_ones_nowhere() {
        let mut session = joined(None);
        let mute = Frame::Text(r#"{"mute":{"sid":"TR_1","muted":true}}"#);
        let heard = session.handle_frame(&mute, 0).expect("request");
        assert!(matches!(heard.request, Some(Request::Mute(_))) && heard.reply.is_none());
        let unknown = session.handle_frame(&Frame::Text(r#"{"dance":{}}"#), 0);
        assert_eq!(unknown, Ok(Heard::default()));
    }

    #[test]
    fn the_server_answers_in_the_encoding_last_heard() {
        let mut session = joined(None);
        assert!(matches!(pong(&mut session), Frame::Binary(_)));
        session
            .handle_frame(&Frame::Text("{}"), 0)
            .expect("request");
        assert!(matches!(pong(&mut session), Frame::Text(_)));
        session
            .handle_frame(&Frame::Binary(&[]), 0)
            .expect("request");
        assert!(matches!(pong(&mut session), Frame::Binary(_)));
    }

    #[test]
    fn our_subprotocol_speaks_json_from_the_first_frame() {
        let mut session = Session::new(Opening::Join, Some("livekit-json"));
        let first = session.say(join()).expect("first").expect("frame");
        assert!(matches!(first, Frame::Text(_)));
        let mut other = Session::new(Opening::Join, Some("graphql-ws"));
        let first = other.say(join()).expect("first").expect("frame");
        assert!(matches!(first, Frame::Binary(_)));
    }

    #[test]
    fn a_fresh_connection_hears_its_join_first() {
        let mut session = Session::new(Opening::Join, None);
        assert_eq!(session.say(Response::Pong(1)), Err(SayError::NotAJoin));
        assert!(session.say(join()).is_ok());
        assert!(
            session
                .say(Response::Pong(1))
                .is_ok_and(|frame| frame.is_some())
        );
    }

    #[test]
    fn a_message_that_json_cannot_carry_is_an_error_and_no_beginning() {
        let broken = Response::Leave(livekit::LeaveRequest {
            reason: 9999,
            ..Default::default()
        });
        let mut session = Session::new(Opening::Resume, Some(JSON_SUBPROTOCOL));
        let unwritable = Err(SayError::Unwritable(Unwritable));
        assert_eq!(session.say(broken), unwritable);
        assert_eq!(session.say(Response::Pong(1)), Ok(None));
    }

    #[test]
    fn a_resumed_connection_hears_reconnect_or_leave_first() {
        for first in [
            Response::Reconnect(livekit::ReconnectResponse::default()),
            Response::Leave(livekit::LeaveRequest::default()),
        ] {
            let mut session = Session::new(Opening::Resume, None);
            assert_eq!(session.say(Response::Pong(1)), Ok(None));
            assert_eq!(session.say(join()), Ok(None));
            assert!(session.say(first).is_ok_and(|frame| frame.is_some()));
            assert!(
                session
                    .say(Response::Pong(1))
                    .is_ok_and(|frame| frame.is_some())
            );
        }
    }

    #[test]
    fn a_bad_frame_ends_the_connection() {
        let mut session = joined(None);
        let text = session.handle_frame(&Frame::Text("hello"), 0);
        assert_eq!(text, Err(FrameError::Malformed.into()));
        let big = vec![0; proto::signal::MAX_FRAME_BYTES + 1];
        let binary = session.handle_frame(&Frame::Binary(&big), 0);
        assert_eq!(binary, Err(FrameError::TooLarge.into()));
    }

    #[test]
    fn a_flood_of_requests_ends_the_connection() {
        let mut session = joined(None);
        let mut hear = || session.handle_frame(&Frame::Text("{}"), 7);
        let end = (0..100_000).find_map(|_| hear().err());
        assert_eq!(end, Some(HearError::Flood));
    }

    proptest! {
        #[test]
        fn any_frame_is_heard_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut session = joined(None);
            let _ = session.handle_frame(&Frame::Binary(&bytes), i64::MAX);
            let _ = session.handle_frame(&Frame::Text(&String::from_utf8_lossy(&bytes)), i64::MIN);
        }
    }
}
