//! What a configuration that was read anew changes while everything runs.
//!
//! Owns which keys are taken over and which wait for a restart; which may be is the table's word. It
//! applies nothing. Called by `server` on SIGHUP.

use crate::config::raw::{Key, Status, Values, table};

/// Beginnings of keys and what they hang on: what stands below something that needs a restart waits
/// with it, and so does what follows from it.
const TOGETHER: [(&str, &str); 3] = [
    ("matrix.", "matrix.enabled"),
    ("matrix.app_service.", "matrix.app_service.server_name"),
    ("room.auto_create", "matrix.enabled"),
];

/// What becomes of a configuration that was read anew.
#[derive(Debug, Clone)]
pub struct Changes {
    /// What is to run from now on. It has to be checked as a whole: it may be what nobody wrote.
    pub values: Values,
    /// Keys that are taken over.
    pub taken: Vec<&'static str>,
    /// Keys that have changed and wait for a restart.
    pub waiting: Vec<&'static str>,
}

impl Changes {
    /// From what is `running` to what was `read`; keys that do not concern the process are not told.
    #[must_use]
    pub fn new(running: &Values, read: &Values, concerns: impl Fn(&str) -> bool) -> Self {
        let differs = |path: &str| running.value(path) != read.value(path);
        let waits = |key: &Key| {
            let with = TOGETHER
                .iter()
                .filter(|(begin, _)| key.path.starts_with(begin));
            !key.reload || with.into_iter().any(|(_, other)| differs(other))
        };
        let mut changes = Self {
            values: read.clone(),
            taken: Vec::new(),
            waiting: Vec::new(),
        };
        let built = table::all().filter(|key| key.status == Status::Built);
        for key in built.filter(|key| concerns(key.path) && differs(key.path)) {
            if waits(key) {
                changes.values.copy(key.path, running);
                changes.waiting.push(key.path);
            } else {
                changes.taken.push(key.path);
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check::check;
    use crate::config::complaint::Complaints;

    fn values(yaml: &str) -> Values {
        let (mut values, mut complaints) = (Values::default(), Complaints::default());
        let keys = "keys: {key: a-secret-of-more-than-thirty-two-characters}\n";
        values.read_yaml(&format!("{keys}{yaml}"), "f", true, &mut complaints);
        check(&mut values, &mut complaints);
        assert!(!complaints.has_errors(), "{:?}", complaints.list());
        values
    }

    fn changes(running: &str, read: &str) -> Changes {
        Changes::new(&values(running), &values(read), |_| true)
    }

    const NAMED: &str = "matrix: {full_access_homeservers: [a.example]}";

    #[test]
    fn nothing_new_is_no_change_in_whatever_form_it_is_written() {
        let same = changes(NAMED, &format!("logging:\n  level: info\n{NAMED}"));
        assert_eq!((same.taken, same.waiting), (vec![], vec![]));
    }

    #[test]
    fn what_may_be_reloaded_is_taken_with_what_follows_from_it() {
        let more = changes("", NAMED);
        assert_eq!(
            more.taken,
            ["room.auto_create", "matrix.full_access_homeservers"]
        );
        assert!(!more.values.flag("room.auto_create"));
        let less = changes(NAMED, "");
        assert_eq!(less.taken, more.taken);
        assert!(less.values.flag("room.auto_create"));
        assert!(less.waiting.is_empty() && more.waiting.is_empty());
    }

    #[test]
    fn what_needs_a_restart_waits_and_what_runs_stays_as_it_is() {
        let moved = changes(
            "port: 1234\nmatrix: {store: /a, token_lifetime: 1h}",
            "port: 4321\nmatrix: {token_lifetime: 30m}",
        );
        assert_eq!(moved.waiting, ["port", "matrix.store"]);
        assert_eq!(moved.taken, ["matrix.token_lifetime"]);
        assert_eq!(moved.values.port("port"), 1234);
        assert_eq!(moved.values.text("matrix.store"), "/a");
    }

    #[test]
    fn what_hangs_on_something_that_needs_a_restart_waits_with_it() {
        let ours = "app_service: {server_name: a.example, hs_token: one, as_token: two}";
        let ours = format!("matrix: {{url: 'wss://a', {ours}}}");
        let without = "matrix: {url: 'wss://a'}";
        for (running, read) in [(without, ours.as_str()), (&ours, without)] {
            let changed = changes(running, read);
            assert_eq!(changed.taken, Vec::<&str>::new());
            assert_eq!(changed.waiting.len(), 3, "{:?}", changed.waiting);
        }
        let renewed = changes(&ours, &ours.replace("two", "three"));
        assert_eq!(renewed.taken, ["matrix.app_service.as_token"]);
        let off = changes(NAMED, "matrix: {enabled: false}");
        assert_eq!(off.taken, Vec::<&str>::new());
        assert!(!off.values.flag("room.auto_create"));
    }

    #[test]
    fn what_is_left_of_both_may_be_wrong_and_is_to_be_judged() {
        let ours = "app_service: {server_name: a.example, hs_token: one, as_token: two}";
        let ours = format!("matrix: {{url: 'wss://a', {ours}}}");
        // The service waits for a restart, and its URL is gone.
        let mut left = changes(&ours, "").values;
        let mut complaints = Complaints::default();
        check(&mut left, &mut complaints);
        assert_eq!(complaints.list()[0].key, "matrix.url");
        assert!(complaints.has_errors());
    }

    #[test]
    fn what_does_not_concern_the_process_is_not_told() {
        let of_matrix = |path: &str| path.starts_with("matrix.");
        let (running, read) = (values("port: 1"), values("port: 2"));
        let changed = Changes::new(&running, &read, of_matrix);
        assert_eq!((changed.taken, changed.waiting), (vec![], vec![]));
    }
}
