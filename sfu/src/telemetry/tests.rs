//! What a line looks like, and which lines are written.

use super::*;
use std::sync::{Arc, LazyLock, Mutex};
use tracing::Dispatch;
use tracing::subscriber::NoSubscriber;

/// Where lines go.
#[derive(Clone, Default)]
pub(crate) struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    /// All lines so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("sink").clone()).expect("text")
    }
}

/// Listens to nothing. While a single subscriber is alive, tracing asks the thread that first comes
/// by a line whether anybody wants it: another test's, which has none, would switch the line off.
static ANOTHER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::new()));

/// All that this thread logs from now on, of the server and of what serves its connections.
pub(crate) fn captured() -> (Sink, tracing::subscriber::DefaultGuard) {
    LazyLock::force(&ANOTHER);
    let sink = Sink::default();
    let writer = sink.clone();
    let loud = ["sfu", "foci", "proto", "axum", "hyper", "hyper_util"];
    let filter = Targets::new().with_targets(loud.map(|target| (target, LevelFilter::TRACE)));
    let lines = lines(false, move || writer.clone()).with_filter(filter);
    let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(lines));
    (sink, guard)
}

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("sink").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logging(json: bool) -> Logging {
    Logging {
        level: Level::Info,
        json,
        component_levels: vec![("sfu::media", Level::Debug)],
        libraries: Level::Error,
    }
}

/// What `write` logs under `logging`.
fn logged(logging: &Logging, write: impl FnOnce()) -> String {
    LazyLock::force(&ANOTHER);
    let sink = Sink::default();
    let writer = sink.clone();
    let lines = lines(logging.json, move || writer.clone()).with_filter(targets(logging));
    tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), write);
    sink.text()
}

#[test]
fn a_json_line_has_livekit_s_names_and_the_fields_of_its_spans() {
    let text = logged(&logging(true), || {
        let _room = tracing::info_span!("room", room = "a", nodes = 1).entered();
        let _participant = tracing::info_span!("participant", participant = "b").entered();
        tracing::info!(reason = "closed \"now\"", "participant closing");
    });
    let line: serde_json::Value = serde_json::from_str(&text).expect("one object");
    assert_eq!(line["level"], "info");
    assert_eq!(line["msg"], "participant closing");
    assert_eq!(line["room"], "a");
    assert_eq!(line["nodes"], 1);
    assert_eq!(line["participant"], "b");
    assert_eq!(line["reason"], "closed \"now\"");
    assert!(line["ts"].as_f64().expect("seconds") > 1.7e9);
    assert!(
        line["logger"]
            .as_str()
            .expect("logger")
            .starts_with("sfu::telemetry")
    );
}

#[test]
fn levels_hold_for_foci_its_components_and_the_libraries() {
    let text = logged(&logging(false), || {
        tracing::debug!(target: "sfu::room", "too much");
        tracing::debug!(target: "sfu::media::peer", "component");
        tracing::info!(target: "sfu::room", "ours");
        tracing::info!(target: "jwt_service::routes", "ours too");
        tracing::warn!(target: "hyper", "library");
        tracing::error!(target: "hyper", "broken library");
    });
    let messages: Vec<bool> = [
        "too much",
        "component",
        "ours",
        "ours too",
        " library",
        "broken library",
    ]
    .map(|wanted| text.contains(wanted))
    .to_vec();
    assert_eq!(messages[..4], [false, true, true, true], "{text}");
    assert_eq!(text.lines().count(), 4, "{text}");
}

#[test]
fn a_line_break_in_a_field_does_not_forge_a_line() {
    for json in [false, true] {
        let text = logged(&logging(json), || {
            tracing::info!(name = "a\nERROR b", "joined")
        });
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}
