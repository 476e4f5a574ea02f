//! Participants who have left for good, on their way to TURN.
//!
//! Owns that way: they are told in batches, and what TURN has no place for now is told a little later.
//! Called by `relay`.

use std::sync::Weak;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;
use turn::net::Turn;

/// Participants told of at once: a room that ends.
const AT_ONCE: usize = 256;
/// From a participant's leave to its order: those of a room that ends go in one. They have a minute there.
const TOGETHER: Duration = Duration::from_millis(50);
/// Until the next attempt where TURN has no place for an order: it takes all that wait with each pass.
const AGAIN: Duration = Duration::from_millis(10);

/// Tells TURN of them until it is no more.
pub(super) async fn tell(turn: Weak<Turn>, mut gone: mpsc::Receiver<String>) {
    let mut left = Vec::new();
    loop {
        if left.is_empty() {
            sleep(TOGETHER).await;
            if gone.recv_many(&mut left, AT_ONCE).await == 0 {
                return;
            }
        }
        let Some(turn) = turn.upgrade() else { return };
        let told = turn.retire(std::mem::take(&mut left));
        drop(turn);
        if let Err(untold) = told {
            left = untold;
            sleep(AGAIN).await;
        }
    }
}
