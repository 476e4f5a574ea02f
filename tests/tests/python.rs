//! The Python SDK, which is real libwebrtc, on the real server.

use tests::script;
use tests::server::Server;

#[tokio::test]
async fn three_participants_call_with_the_python_sdk() {
    let server = Server::start().await;
    script::python(&server, "call.py").await;
}

#[tokio::test]
async fn three_participants_call_where_no_udp_is() {
    let server = Server::start_flagged(&["--rtc.force_tcp"]).await;
    script::python(&server, "call.py").await;
    let told = server.log();
    assert!(told.contains("connectionType=\"tcp\"") && !told.contains("connectionType=\"udp\""));
}

#[tokio::test]
async fn three_participants_call_where_udp_is_told_and_goes_nowhere() {
    // Nobody answers at port 9: it is for them as if UDP were blocked.
    let told = "advertise: [\"127.0.0.1:9/udp\", 127.0.0.1/tcp]";
    let server = Server::start_reached(&[told]).await;
    script::python(&server, "call.py").await;
    let told = server.log();
    assert!(told.contains("connectionType=\"tcp\"") && !told.contains("connectionType=\"udp\""));
}

#[tokio::test]
async fn participants_of_one_and_of_two_peer_connections_call_each_other() {
    let server = Server::start().await;
    script::python(&server, "call.py dual").await;
}

#[tokio::test]
async fn packets_streams_and_calls_of_methods_reach_whom_they_should() {
    let server = Server::start().await;
    script::python(&server, "conversation.py").await;
}

#[tokio::test]
async fn who_has_the_key_sees_and_hears_and_nobody_else() {
    let server = Server::start().await;
    script::python(&server, "encrypted.py").await;
}
