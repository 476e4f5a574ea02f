//! Element Call on a real homeserver and the real server: `cargo element [CASE]`. The unmodified npm
//! package runs in Chromium, as an application of its own and as a widget; screenshots go to
//! `FOCI_ARTIFACTS`.

use tests::script;
use tests::server::Server;
use tests::synapse::Site;

/// The cases of `tests/element/call.mjs`, all or those that `FOCI_CASE` names.
#[tokio::test]
async fn element_call_users_see_and_hear_each_other() {
    let site = Site::new();
    let server = Server::start_with(&site.configuration()).await;
    let homeserver = script::homeserver(&server, site).await;
    script::element(&server, &homeserver, "call.mjs").await;
}
