//! Orders from a client's script, by a socket in the file system: it is there in every namespace.

use super::{Counters, Order, Orders};
use crate::link::{Carried, Conditions};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

/// The socket, gone when dropped.
#[derive(Debug)]
pub(super) struct Socket(PathBuf);

impl Socket {
    /// Takes orders until the tasks end.
    pub(super) fn open(orders: Orders, bad: Conditions, tasks: &mut JoinSet<()>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("foci-road-{}-{count}.sock", std::process::id());
        let path = std::env::temp_dir().join(name);
        // One of a process of this id that was killed may be left.
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("the temporary folder takes a socket");
        tasks.spawn(async move {
            // One script at a time; it connects for each order.
            while let Ok((socket, _)) = listener.accept().await {
                serve(socket, &orders, &bad).await;
            }
        });
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // In the temporary folder it does no harm.
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn serve(mut socket: UnixStream, orders: &Orders, bad: &Conditions) {
    let (reader, mut writer) = socket.split();
    let mut lines = BufReader::new(reader).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let answer = match order(&line, bad) {
            Some(order) => as_json(&orders.give(order).await),
            None => json!({ "error": format!("what is {line:?}?") }),
        };
        if writer
            .write_all(format!("{answer}\n").as_bytes())
            .await
            .is_err()
        {
            return;
        }
    }
}

fn order(line: &str, bad: &Conditions) -> Option<Order> {
    Some(match line.split_once(' ').unwrap_or((line, "")) {
        ("good", "") => Order::Set(Conditions::GOOD),
        ("bad", "") => Order::Set(bad.clone()),
        ("rebind", "") => Order::Rebind,
        ("count", "") => Order::Count,
        ("outage", ms) => Order::Break(Duration::from_millis(ms.parse().ok()?)),
        _ => return None,
    })
}

fn as_json(counters: &Counters) -> Value {
    let link = |carried: &Carried| {
        json!({
            "carried": carried.carried,
            "lost": carried.lost,
            "overflowed": carried.overflowed,
            "tooLarge": carried.too_large,
            "broken": carried.broken,
            "reordered": carried.reordered,
        })
    };
    json!({
        "up": link(&counters.up),
        "down": link(&counters.down),
        "foreign": counters.foreign,
        "refused": counters.refused,
        "arrived": counters.arrived,
        "silentMs": counters.silent.as_millis() as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_known_or_refused() {
        let known = |line| order(line, &Conditions::GOOD).is_some();
        for line in ["good", "bad", "rebind", "count", "outage 2000"] {
            assert!(known(line), "{line}");
        }
        for line in ["", "outage", "outage -1", "rebind 3", "anything"] {
            assert!(!known(line), "{line}");
        }
    }
}
