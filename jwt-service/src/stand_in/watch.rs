//! Counters that remember what they were told.

use crate::watch::Watch;
use std::sync::Mutex;
use std::time::Duration;

/// Remembers in order: `endpoint outcome`, `lookup result`, `limit name`, and the like.
#[derive(Default)]
pub(crate) struct Remembered(Mutex<Vec<String>>);

impl Remembered {
    /// All so far.
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().expect("not poisoned").clone()
    }

    fn push(&self, text: String) {
        self.0.lock().expect("not poisoned").push(text);
    }
}

impl Watch for Remembered {
    fn decided(&self, endpoint: &'static str, outcome: &'static str) {
        self.push(format!("{endpoint} {outcome}"));
    }

    fn looked_up(&self, result: &'static str, _took: Duration) {
        self.push(format!("lookup {result}"));
    }

    fn room_made(&self, result: &'static str, _took: Duration) {
        self.push(format!("room {result}"));
    }

    fn signed(&self, result: &'static str, _took: Duration) {
        self.push(format!("signed {result}"));
    }

    fn homeserver(&self, name: &str, reachable: bool) {
        self.push(format!("{name} reachable {reachable}"));
    }

    fn homeserver_unnamed(&self, name: &str) {
        self.push(format!("{name} unnamed"));
    }

    fn leaves(&self, jobs: usize) {
        self.push(format!("leaves {jobs}"));
    }

    fn leave_ended(&self, end: &'static str) {
        self.push(format!("leave {end}"));
    }

    fn membership_asked(&self, result: &'static str) {
        self.push(format!("membership {result}"));
    }

    fn taken_out(&self, told_by: &'static str) {
        self.push(format!("taken out {told_by}"));
    }

    fn limit_reached(&self, limit: &'static str) {
        self.push(format!("limit {limit}"));
    }
}
