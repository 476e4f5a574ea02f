//! What the service lets others count.

use std::time::Duration;

/// Counts what happens; implemented by the server over its metrics.
pub trait Watch: Send + Sync + 'static {
    /// A token was issued (`issued`) or refused (why, in one word) at an endpoint.
    fn decided(&self, endpoint: &'static str, outcome: &'static str);

    /// A homeserver was asked: `ok` or what went wrong, in one word, and how long it took.
    fn looked_up(&self, result: &'static str, took: Duration);

    /// A room was to be made: `ok` or what went wrong, in one word, and how long it took.
    fn room_made(&self, result: &'static str, took: Duration);

    /// A token was to be signed: `ok` or `failed`, and how long it took.
    fn signed(&self, result: &'static str, took: Duration);

    /// A homeserver that the operator named answers, or does not.
    fn homeserver(&self, name: &str, reachable: bool);

    /// The operator does not name it any more.
    fn homeserver_unnamed(&self, name: &str);

    /// So many delegated leaves there are now.
    fn leaves(&self, jobs: usize);

    /// One is over, and how, in one word.
    fn leave_ended(&self, end: &'static str);

    /// The homeserver was asked whether somebody is in a Matrix room: `joined`, `left`, or `unknown` if it
    /// did not say.
    fn membership_asked(&self, result: &'static str);

    /// A participant was to be taken out since his user has left the Matrix room; told by an `event` or
    /// a `question`, or seen there all the same (`presence`).
    fn taken_out(&self, told_by: &'static str);

    /// A named limit was reached and something given up.
    fn limit_reached(&self, limit: &'static str);
}
