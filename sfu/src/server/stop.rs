//! How a server ends: which signal was given, and the time its tasks get.

use std::io;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The signals of this process.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hang_up: Signal,
}

/// A signal that ends the server, or one that does not.
enum Told {
    End(&'static str),
    Reload,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::End("terminated"),
            _ = self.interrupt.recv() => Told::End("interrupt"),
            _ = self.quit.recv() => Told::End("quit"),
            _ = self.hang_up.recv() => Told::Reload,
        }
    }

    /// The name of the next signal that ends the server.
    async fn end(&mut self) -> &'static str {
        loop {
            if let Told::End(name) = self.next().await {
                return name;
            }
        }
    }
}

/// Waits for a signal to end, reloading on SIGHUP meanwhile.
pub(super) async fn until_told(signals: &mut Signals, mut reload: impl FnMut()) {
    loop {
        match signals.next().await {
            Told::Reload => reload(),
            Told::End(signal) => {
                tracing::info!(signal, force = false, "exit requested, shutting down");
                return;
            }
        }
    }
}

/// Waits for `tasks`, at most `timeout`, or until a second signal.
pub(super) async fn drain(tasks: Vec<JoinHandle<()>>, signals: &mut Signals, timeout: Duration) {
    let all = async {
        for task in tasks {
            // A task that panicked is over too.
            let _ = task.await;
        }
    };
    tokio::select! {
        () = all => tracing::info!("all sessions closed"),
        () = tokio::time::sleep(timeout) => {
            tracing::warn!(?timeout, "sessions still open, exiting");
        }
        signal = signals.end() => {
            tracing::warn!(signal, force = true, "exit requested, shutting down");
        }
    }
}

/// Tells every part that the server is stopping; once begun, for good.
#[derive(Clone)]
pub(super) struct Stopping(watch::Sender<bool>);

impl Default for Stopping {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Stopping {
    pub(super) fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Returns once stopping has begun.
    pub(super) async fn begun(&self) {
        // The sender lives in self, so the channel is open.
        let _ = self.0.subscribe().wait_for(|begun| *begun).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_asks_after_stopping_began_is_told_at_once() {
        let stopping = Stopping::default();
        let early = tokio::spawn({
            let stopping = stopping.clone();
            async move { stopping.begun().await }
        });
        stopping.begin();
        early.await.expect("told");
        stopping.begun().await;
    }

    #[tokio::test]
    async fn draining_ends_with_its_tasks_or_with_its_time() {
        let mut signals = Signals::new().expect("signals");
        // Either would hang if it waited for the other.
        let quick = tokio::spawn(async {});
        drain(vec![quick], &mut signals, Duration::MAX).await;
        let endless = tokio::spawn(std::future::pending());
        drain(vec![endless], &mut signals, Duration::ZERO).await;
    }
}
