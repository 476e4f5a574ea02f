//! The line of the log for each decision.

use super::*;
use std::fmt;
use std::sync::{LazyLock, Mutex};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{NoSubscriber, set_default};
use tracing::{Dispatch, Event, Metadata, Subscriber};

/// Keeps the fields of each decision, as they would be written.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<Vec<String>>>>);

/// The fields of one line.
struct Line(Vec<String>);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push(format!("{}={value:?}", field.name()));
    }
}

impl Subscriber for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(Vec::new());
        event.record(&mut line);
        line.0.retain(|field| !field.starts_with("log."));
        if line
            .0
            .contains(&"message=MatrixRTC token decision".to_owned())
        {
            line.0.retain(|field| !field.starts_with("message="));
            self.0.lock().expect("not poisoned").push(line.0);
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Listens to nothing. While a single subscriber is alive, tracing asks the thread that first comes
/// by a line whether anybody wants it: another test's, which has none, would switch the line off.
static ANOTHER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::new()));

#[tokio::test]
async fn a_line_begins_as_that_of_the_endpoints_for_clients() {
    LazyLock::force(&ANOTHER);
    let lines = Lines::default();
    let kept = set_default(lines.clone());
    let world = World::new(all_joined).await;
    world.token(ALICE, &wanted()).await.claims();
    let bob = with("user_id", "@bob:b.example");
    world.federated("b.example", &bob).await.claims();
    let came = ("x-test-address", "192.0.2.1");
    let forged = [("authorization", "Bearer other"), (USER, ALICE), came];
    world.send("POST", CLIENT_TOKEN, &forged, "{}").await;
    // Whoever asks badly through the homeserver must not have it banned.
    let passed_on = [("authorization", SHOWN), (USER, ALICE), came];
    world.send("POST", CLIENT_TOKEN, &passed_on, "{}").await;
    drop(kept);
    let expected = [
        [
            "ip=unknown",
            "user=\"@alice:example.com\"",
            "server=\"example.com\"",
            "reason=issued",
        ],
        [
            "ip=unknown",
            "user=\"@bob:b.example\"",
            "server=\"b.example\"",
            "reason=issued",
        ],
        [
            "ip=192.0.2.1",
            "user=\"\"",
            "server=\"\"",
            "reason=hs_token",
        ],
        [
            "ip=unknown",
            "user=\"@alice:example.com\"",
            "server=\"example.com\"",
            "reason=bad_json",
        ],
    ];
    let lines = lines.0.lock().expect("not poisoned");
    let begun: Vec<_> = lines.iter().map(|line| &line[..4]).collect();
    assert_eq!(begun, expected);
}
