//! Over real sockets: what a client sees of the signalling endpoint.

use crate::config::codecs::Codec;
use crate::http::front::Front;
use crate::http::router::router;
use crate::metrics::Metrics;
use crate::metrics::tests::labels;
use crate::room::Settings;
use crate::rooms::{Rooms, Surroundings, unix_ms};
use crate::signal::join::Policy;
use axum::Router;
use futures_util::{SinkExt, StreamExt};
use proto::livekit::signal_response::Message as Response;
use proto::livekit::{ClientInfo, JoinRequest};
use proto::signal::{Frame, decode_response, encode_join_request};
use proto::token::{Claims, Keys, Secret, VideoGrant};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

struct Server {
    address: SocketAddr,
    metrics: Metrics,
    rooms: Rooms,
}

impl Server {
    /// How far joins have come on the signalling side.
    fn signal_states(&self) -> Vec<String> {
        let mut states = labels(&self.metrics, "livekit_participant_join_total", "state");
        states.retain(|state| state.starts_with("signal"));
        states
    }
}

fn keys() -> Keys {
    [(
        "key".to_owned(),
        Secret::new("open-sesame-open-sesame-open-sesame"),
    )]
    .into_iter()
    .collect()
}

async fn serve(settings: Settings) -> Server {
    let surroundings = Surroundings::on_loopback(settings);
    let (rooms, metrics) = (Rooms::start(surroundings.clone()), surroundings.metrics);
    let front = Front {
        faults: Default::default(),
        rooms: rooms.clone(),
        workers: surroundings.workers,
        metrics: metrics.clone(),
        keys: surroundings.keys,
        policy: watch::channel(Policy {
            codecs: Codec::ALL.to_vec(),
            ice_servers: Vec::new(),
            auto_create: true,
        })
        .1,
        draining: watch::channel(false).1,
        prefixes: Vec::new(),
        max_message_bytes: proto::signal::MAX_FRAME_BYTES,
        max_body_bytes: 0,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let service = router(Arc::new(front), Router::new(), Router::new())
        .into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    Server {
        address,
        metrics,
        rooms,
    }
}

async fn connect(
    server: &Server,
    identity: &str,
    reconnect: bool,
    subprotocol: Option<&str>,
) -> Result<Client, Error> {
    let request = JoinRequest {
        client_info: Some(ClientInfo {
            protocol: 17,
            ..Default::default()
        }),
        reconnect,
        ..Default::default()
    };
    connect_with(server, identity, &request, subprotocol).await
}

async fn connect_with(
    server: &Server,
    identity: &str,
    request: &JoinRequest,
    subprotocol: Option<&str>,
) -> Result<Client, Error> {
    let claims = Claims {
        identity: identity.into(),
        video: Some(VideoGrant::join("lobby")),
        ..Claims::default()
    };
    let token = keys().sign(&claims, Duration::from_secs(60), unix_ms() / 1000);
    let param = encode_join_request(request);
    let uri = format!(
        "ws://{}/livekit/sfu/rtc/v1?join_request={param}",
        server.address
    );
    let mut request = uri.into_client_request().expect("request");
    let bearer = format!("Bearer {}", token.expect("signed"));
    let headers = request.headers_mut();
    headers.insert("Authorization", bearer.parse().expect("header"));
    if let Some(name) = subprotocol {
        headers.insert("Sec-WebSocket-Protocol", name.parse().expect("header"));
    }
    let (client, answer) = connect_async(request).await?;
    let chosen = answer.headers().get("sec-websocket-protocol");
    assert_eq!(chosen.and_then(|name| name.to_str().ok()), subprotocol);
    Ok(client)
}

/// The next frame that is not a ping.
async fn frame(client: &mut Client) -> Message {
    loop {
        match client.next().await.expect("open").expect("frame") {
            Message::Ping(_) => {}
            message => return message,
        }
    }
}

fn response(message: &Message) -> Response {
    let response = match message {
        Message::Binary(bytes) => decode_response(&Frame::Binary(bytes)),
        Message::Text(text) => decode_response(&Frame::Text(text)),
        other => panic!("no message: {other:?}"),
    };
    response.expect("response").message.expect("known")
}

/// Reads until a message for which `wanted` is true, and gives its frame too.
async fn find(client: &mut Client, wanted: impl Fn(&Response) -> bool) -> (Message, Response) {
    loop {
        let frame = frame(client).await;
        let response = response(&frame);
        if wanted(&response) {
            return (frame, response);
        }
    }
}

async fn closes_normally(client: &mut Client) {
    loop {
        if let Message::Close(close) = frame(client).await {
            assert_eq!(close.map(|close| close.code), Some(CloseCode::Normal));
            return;
        }
    }
}

#[tokio::test]
async fn the_first_frame_is_the_join_in_protobuf() {
    let server = serve(Settings::default()).await;
    let mut client = connect(&server, "alice", false, None)
        .await
        .expect("connected");
    let first = frame(&mut client).await;
    assert!(matches!(first, Message::Binary(_)));
    let Response::Join(join) = response(&first) else {
        panic!("not a join");
    };
    assert_eq!(
        join.participant.map(|info| info.identity),
        Some("alice".into())
    );
    assert_eq!(server.signal_states(), ["signal_connected"]);
}

#[tokio::test]
async fn our_subprotocol_is_chosen_and_speaks_json_from_the_first_frame() {
    let server = serve(Settings::default()).await;
    let client = connect(&server, "alice", false, Some("livekit-json")).await;
    let first = frame(&mut client.expect("connected")).await;
    assert!(matches!(first, Message::Text(_)));
    assert!(matches!(response(&first), Response::Join(_)));
}

#[tokio::test]
async fn pings_of_both_kinds_are_answered_in_the_encoding_they_came_in() {
    let server = serve(Settings::default()).await;
    let mut client = connect(&server, "alice", false, None)
        .await
        .expect("connected");
    for (text, old) in [
        (r#"{"ping":"7"}"#, true),
        (r#"{"pingReq":{"timestamp":"7"}}"#, false),
    ] {
        client.send(Message::text(text)).await.expect("sent");
        let (frame, pong) = find(&mut client, |message| {
            matches!(message, Response::Pong(_) | Response::PongResp(_))
        })
        .await;
        assert!(matches!(frame, Message::Text(_)));
        match pong {
            Response::Pong(server_ms) => assert!(old && server_ms > 1_700_000_000_000),
            Response::PongResp(pong) => assert!(!old && pong.last_ping_timestamp == 7),
            _ => unreachable!("found by its kind"),
        }
    }
}

#[tokio::test]
async fn a_leave_is_answered_and_then_the_socket_closes() {
    let server = serve(Settings::default()).await;
    let mut client = connect(&server, "alice", false, None)
        .await
        .expect("connected");
    client
        .send(Message::text(r#"{"leave":{}}"#))
        .await
        .expect("sent");
    find(&mut client, |message| matches!(message, Response::Leave(_))).await;
    closes_normally(&mut client).await;
}

#[tokio::test]
async fn a_resume_of_nobody_connects_and_is_told_to_start_over() {
    let server = serve(Settings::default()).await;
    let mut client = connect(&server, "ghost", true, None)
        .await
        .expect("connected");
    let Response::Leave(leave) = response(&frame(&mut client).await) else {
        panic!("not a leave");
    };
    assert_eq!(
        leave.action(),
        proto::livekit::leave_request::Action::Reconnect
    );
    closes_normally(&mut client).await;
}

#[tokio::test]
async fn a_frame_that_is_no_request_closes_the_socket() {
    for rubbish in [Message::text("hello"), Message::binary(vec![0xFF; 5])] {
        let server = serve(Settings::default()).await;
        let mut client = connect(&server, "alice", false, None)
            .await
            .expect("connected");
        client.send(rubbish).await.expect("sent");
        closes_normally(&mut client).await;
    }
}

#[tokio::test]
async fn a_full_room_is_an_http_error() {
    let settings = Settings {
        max_participants: 1,
        ..Settings::default()
    };
    let server = serve(settings).await;
    let mut alice = connect(&server, "alice", false, None)
        .await
        .expect("connected");
    assert!(matches!(
        response(&frame(&mut alice).await),
        Response::Join(_)
    ));
    let Err(Error::Http(answer)) = connect(&server, "bob", false, None).await else {
        panic!("bob was let in");
    };
    assert_eq!(answer.status(), 500);
    let body = answer
        .body()
        .as_ref()
        .map(|body| String::from_utf8_lossy(body));
    assert_eq!(
        body.as_deref(),
        Some("connection closed by media: room is full")
    );
    assert_eq!(
        server.signal_states(),
        ["signal_connected", "signal_failed"]
    );
}

#[tokio::test]
async fn going_down_reaches_the_client_before_the_close() {
    let server = serve(Settings::default()).await;
    let mut client = connect(&server, "alice", false, None)
        .await
        .expect("connected");
    let rooms = server.rooms.clone();
    let down = tokio::spawn(async move { rooms.shut_down().await });
    find(&mut client, |message| matches!(message, Response::Leave(_))).await;
    closes_normally(&mut client).await;
    down.await.expect("down");
}

#[tokio::test]
async fn a_close_by_the_client_is_answered() {
    let server = serve(Settings::default()).await;
    let mut client = connect(&server, "alice", false, None)
        .await
        .expect("connected");
    let farewell = tokio_tungstenite::tungstenite::protocol::CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    };
    client.close(Some(farewell)).await.expect("sent");
    // What was on its way comes first.
    closes_normally(&mut client).await;
    // An end without the whole handshake would be an error here, and 1006 in a browser.
    assert!(client.next().await.is_none());
}

#[tokio::test]
async fn a_silent_connection_is_pinged() {
    let server = serve(Settings::default()).await;
    let mut client = connect(&server, "alice", false, None)
        .await
        .expect("connected");
    assert!(matches!(
        response(&frame(&mut client).await),
        Response::Join(_)
    ));
    // Time runs to the next timer whenever nobody has anything to do.
    tokio::time::pause();
    let started = tokio::time::Instant::now();
    while !matches!(client.next().await, Some(Ok(Message::Ping(_)))) {}
    assert!(started.elapsed() >= Duration::from_secs(9));
    assert!(started.elapsed() < Duration::from_secs(12));
}

#[tokio::test]
async fn a_client_that_floods_is_cut_off() {
    let server = serve(Settings::default()).await;
    let mut client = connect(&server, "alice", false, None)
        .await
        .expect("connected");
    let mut asked = 0;
    while client.send(Message::text(r#"{"ping":"1"}"#)).await.is_ok() {
        asked += 1;
        assert!(asked < 5_000_000, "the server listens without end");
    }
    let limits = labels(&server.metrics, "foci_limits_reached_total", "limit");
    assert_eq!(limits, ["signal_requests"]);
}

#[tokio::test]
async fn a_join_request_with_a_long_offer_passes_the_url() {
    let server = serve(Settings::default()).await;
    let offer = proto::livekit::SessionDescription {
        sdp: "a=candidate\r\n".repeat(2000),
        ..Default::default()
    };
    let request = JoinRequest {
        publisher_offer: Some(offer),
        ..Default::default()
    };
    let mut client = connect_with(&server, "alice", &request, None)
        .await
        .expect("connected");
    assert!(matches!(
        response(&frame(&mut client).await),
        Response::Join(_)
    ));
}

#[tokio::test]
async fn a_dropped_connection_makes_place_in_the_room() {
    let settings = Settings {
        max_participants: 1,
        ..Settings::default()
    };
    let server = serve(settings).await;
    let mut alice = connect(&server, "alice", false, None)
        .await
        .expect("connected");
    assert!(matches!(
        response(&frame(&mut alice).await),
        Response::Join(_)
    ));
    drop(alice);
    // The server hears of the end when the kernel tells it: until then bob is refused.
    let mut attempts = 0;
    while connect(&server, "bob", false, None).await.is_err() {
        attempts += 1;
        assert!(attempts < 1000, "alice is still there");
    }
}

#[tokio::test]
async fn no_token_and_no_secret_is_ever_logged() {
    let (log, _guard) = crate::telemetry::tests::captured();
    let server = serve(Settings::default()).await;
    let mut client = connect(&server, "alice", false, None)
        .await
        .expect("connected");
    // The refreshed token passes the log as well.
    find(&mut client, |message| {
        matches!(message, Response::RefreshToken(_))
    })
    .await;
    client
        .send(Message::text(r#"{"leave":{}}"#))
        .await
        .expect("sent");
    closes_normally(&mut client).await;
    let stale = keys().sign(&Claims::default(), Duration::from_secs(1), 1000);
    let stale = stale.expect("signed");
    let uri = format!("ws://{}/rtc/v1?access_token={stale}", server.address);
    assert!(connect_async(uri).await.is_err());
    let text = log.text();
    assert!(text.contains("starting RTC session"), "{text}");
    assert!(text.contains("participant closing"), "{text}");
    let refused = text.lines().find(|line| line.contains("error handling"));
    assert!(
        refused.is_some_and(|line| line.contains("clientIP=\"127.0.0.1\"")),
        "{text}"
    );
    // Every JSON Web Token begins like this.
    assert!(!text.contains("eyJ"), "{text}");
    assert!(!text.contains("open-sesame"), "{text}");
    let joins = labels(
        &server.metrics,
        "livekit_session_join_latency_ms_count",
        "protocol_version",
    );
    assert_eq!(joins, ["17"]);
    let messages = labels(&server.metrics, "livekit_node_messages", "direction");
    assert_eq!(messages, ["request", "response"]);
}
