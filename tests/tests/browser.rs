//! Chromium on the real server: the unmodified livekit-client, and our own page. Run with
//! `cargo browser`; screenshots go to `FOCI_ARTIFACTS`.

use tests::script;
use tests::server::Server;

#[tokio::test]
async fn three_participants_call_with_livekit_client() {
    let server = Server::start().await;
    script::node(&server, "call.mjs").await;
}

#[tokio::test]
async fn two_tabs_of_the_try_page_call_each_other() {
    let server = Server::start_with("development: true\n").await;
    script::node(&server, "try.mjs").await;
}

#[tokio::test]
async fn the_try_page_is_there_in_development_mode_only() {
    let server = Server::start().await;
    for path in ["/try", "/try/try.js", "/try/token", "/livekit/sfu/try"] {
        assert_eq!(server.get(path, "").await.status, 404, "{path}");
    }
}
