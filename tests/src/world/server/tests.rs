//! Who enters a server of the world, and what is left of him.

use super::*;
use prost::Message;
use proto::livekit::SignalRequest;
use proto::signal::Frame;

#[allow(
    clippy::disallowed_methods,
    reason = "an arbitrary origin for virtual time"
)]
fn server() -> (Server, Instant) {
    let now = Instant::now();
    let dtls = Arc::new(dtls::Shared::new().expect("certificate"));
    let address = SocketAddr::from(([192, 0, 2, 1], 7882));
    (Server::new(dtls, address, 1, now), now)
}

fn entrance() -> Entrance {
    Entrance {
        identity: "alice".into(),
        room: "r".into(),
        ..Entrance::default()
    }
}

fn told(server: &mut Server) -> Vec<signal_response::Message> {
    let mut messages = Vec::new();
    while let Some(output) = server.poll_output() {
        if let Output::Frame { frame, .. } = output {
            let frame = match &frame {
                Frame::Binary(bytes) => Frame::Binary(&bytes[..]),
                Frame::Text(text) => Frame::Text(&text[..]),
            };
            let response = proto::signal::decode_response(&frame).expect("a response");
            messages.extend(response.message);
        }
    }
    messages
}

#[test]
fn who_enters_is_told_of_the_join_and_who_resumes_of_the_reconnect() {
    let (mut server, now) = server();
    server.enter(&entrance(), now).expect("let in");
    let join = told(&mut server).into_iter().next();
    let Some(signal_response::Message::Join(join)) = join else {
        panic!("no join: {join:?}");
    };
    let back = Entrance {
        resume: join.participant.map(|participant| participant.sid),
        ..entrance()
    };
    server.enter(&back, now).expect("let in again");
    let first = told(&mut server).into_iter().next();
    assert!(
        matches!(first, Some(signal_response::Message::Reconnect(_))),
        "{first:?}"
    );
}

#[test]
fn nothing_is_left_once_the_last_has_gone_for_good() {
    let (mut server, mut now) = server();
    let session = server.enter(&entrance(), now).expect("let in");
    assert_eq!(server.population().peers, 1);
    let leave = SignalRequest {
        message: Some(Request::Leave(livekit::LeaveRequest::default())),
    };
    server.handle_frame(session, &Frame::Binary(&leave.encode_to_vec()), now);
    for _ in 0..1000 {
        let Some(at) = server.poll_timeout() else {
            break;
        };
        now = now.max(at);
        server.handle_timeout(now);
    }
    assert_eq!(server.population(), Population::default());
    assert_eq!(server.holdings(), [0; 4]);
}
