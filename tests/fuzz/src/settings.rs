//! Configuration texts: every fault is told in one line each, and what is not refused can start.

use sfu::config::check::check;
use sfu::config::complaint::Place;
use sfu::config::complaint::{Complaints, Severity};
use sfu::config::docs;
use sfu::config::raw::{Values, set_text, table};

/// Complaints kept in full.
const COMPLAINTS: usize = 100;
/// Bytes of one complaint: its cause and its fix quote foreign text shortened.
const LINE: usize = 2000;

/// YAML, and after a line of `---` what the environment says: `path=value` on each line.
pub(crate) fn config(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (yaml, variables) = text.split_once("\n---\n").unwrap_or((&text, ""));
    let mut values = Values::default();
    let mut complaints = Complaints::default();
    values.read_yaml(yaml, "foci.yaml", true, &mut complaints);
    for (path, value) in variables.lines().filter_map(|line| line.split_once('=')) {
        if let Some(key) = table::find(path) {
            let place = Place::Variable("LIVEKIT".to_owned());
            set_text(&mut values, key, value, place, &mut complaints);
        }
    }
    values.resolve_aliases(&mut complaints);
    let config = check(&mut values, &mut complaints);
    assert!(complaints.list().len() <= COMPLAINTS);
    for complaint in complaints.list() {
        let line = complaint.to_string();
        assert!(line.len() <= LINE, "{} bytes: {line}", line.len());
        assert!(!line.contains(char::is_control), "{line:?}");
        assert!(!complaint.cause.is_empty());
    }
    let told = complaints.list().iter();
    let told = told.filter(|complaint| complaint.severity == Severity::Error);
    assert!(told.count() <= complaints.errors());
    assert_eq!(complaints.has_errors(), complaints.errors() > 0);
    if !complaints.has_errors() {
        assert!(!config.keys.entries.is_empty());
        let uses = config.ports();
        for (index, one) in uses.iter().enumerate() {
            for other in &uses[index + 1..] {
                let apart = one.protocol != other.protocol || !one.ports.overlaps(other.ports);
                assert!(apart, "{one:?} and {other:?}");
            }
        }
    }
    secrets_are_told_nowhere(&text, &values, &complaints);
}

fn secrets_are_told_nowhere(text: &str, values: &Values, complaints: &Complaints) {
    let shown = docs::effective(values);
    let always = docs::effective(&Values::default());
    let told: Vec<String> = complaints.list().iter().map(ToString::to_string).collect();
    for (_, secret) in values.map("keys") {
        // One that stands elsewhere in the text too may be told as something else, as may one that is
        // a piece of our own words.
        let elsewhere = text.matches(&secret).count() != 1 || always.contains(&secret);
        if secret.len() < 16 || elsewhere {
            continue;
        }
        assert!(!shown.contains(&secret));
        assert!(!told.iter().any(|line| line.contains(&secret)));
    }
}
