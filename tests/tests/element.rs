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
    // The homeserver is found by its name, at a private address, and shows a certificate of an
    // authority of its own.
    let server = Server::start_with(&format!(
        "matrix:\n  full_access_homeservers: [\"{}\"]\n  ca_file: \"{}\"\n",
        site.name(),
        site.authority().display()
    ))
    .await;
    let homeserver = script::homeserver(&server, site).await;
    script::element(&server, &homeserver, "call.mjs").await;
}
