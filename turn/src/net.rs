//! The shell: one thread with epoll that owns every socket of TURN. No async here.
//!
//! Everything is decided in [`crate::server`]; this moves datagrams, frames and batches for the SFU,
//! and reads the clock once a pass. The embedder starts it with [`Turn::start`], talks to it through
//! [`Turn`], and is talked to through the closure it gave.
//!
//! To put an SFU beside it: make two lanes with [`lane()`] for each of the SFU's workers, give TURN
//! the [`Door`] and the worker the other two ends, and tell [`Own::sfu`](crate::config::Own::sfu)
//! every address the SFU advertises. The worker calls [`LaneReceiver::wake_by`] with its own waker;
//! in each pass it takes batches, treats `(allocation, sfu)` of a packet as the path it came by, takes
//! those of [`Batch::ends`] for lost, and gives the batch back; what it has for such a path it pushes into the [`LaneSender`] and flushes
//! once a pass; before it sleeps it asks [`LaneReceiver::may_sleep`].

#![allow(
    clippy::disallowed_methods,
    reason = "shell: this is where TURN reads the clock and makes its thread"
)]

pub mod lane;
pub mod stream_limits;
mod sends;
mod udp;
pub mod tls;
mod outgoing;
mod tcp;
pub mod settings;
mod carrier;
mod worker;

pub use lane::{Batch, Door, End, LaneReceiver, LaneSender, Packet, lane};
pub use settings::{Bound, Observation, Observe, Settings, SfuSide, Totals};
pub use stream_limits::StreamLimits;
pub use tcp::{Adopted, StreamCounters};
pub use udp::UdpCounters;

use crate::config::Own;
use crate::credentials::Credentials;
use mio::Waker;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use worker::{Order, Worker};

/// Orders that may wait: twice the connections that come over from other ports while one pass lasts, where a proxy
/// begins anew and all its clients are back at once; an operator's and departures are few beside them. Of these one
/// too many waits for its place; a connection has none.
const ORDERS: usize = 512;

/// A running TURN server.
#[derive(Debug)]
pub struct Turn {
    orders: SyncSender<Order>,
    waker: Arc<Waker>,
    bound: Bound,
    thread: Option<JoinHandle<()>>,
}

impl Turn {
    /// Binds everything and starts the thread.
    ///
    /// # Errors
    /// What cannot be bound is named.
    pub fn start(settings: Settings) -> io::Result<Self> {
        let (orders, inbox) = sync_channel(ORDERS);
        let worker = Worker::bind(settings, inbox)?;
        let waker = worker.waker();
        let bound = worker.bound();
        let thread = std::thread::Builder::new()
            .name("turn".into())
            .spawn(move || worker.run())?;
        Ok(Self {
            orders,
            waker,
            bound,
            thread: Some(thread),
        })
    }

    /// The addresses that are listened on, with the ports that were given for port 0.
    #[must_use]
    pub const fn bound(&self) -> &Bound {
        &self.bound
    }

    /// Whether the thread still serves: it ends by itself only when epoll fails or it panicked.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
    }

    /// Our addresses have changed.
    pub fn set_own(&self, own: Own) {
        self.order(Order::Own(own));
    }

    /// Who may allocate has changed.
    pub fn set_credentials(&self, credentials: Credentials) {
        self.order(Order::Credentials(credentials));
    }

    /// New connections get these certificates; those that are open go on.
    pub fn set_certificates(&self, certificates: tls::Certificates) {
        self.order(Order::Certificates(certificates));
    }

    /// A client has come to another port; false, and it is closed, if too many orders wait.
    #[must_use]
    pub fn adopt(&self, adopted: Adopted) -> bool {
        let taken = self.orders.try_send(Order::Adopt(adopted)).is_ok();
        if taken {
            self.wake();
        }
        taken
    }

    /// These users are gone for good: they make no allocation any more, and what they have ends in a minute.
    ///
    /// # Errors
    /// Too many orders wait: they are handed back, to be told later.
    pub fn retire(&self, users: Vec<String>) -> Result<(), Vec<String>> {
        match self.orders.try_send(Order::Retire(users)) {
            Ok(()) => {
                self.wake();
                Ok(())
            }
            Err(TrySendError::Full(Order::Retire(users))) => Err(users),
            // Nobody is left to whom it would matter.
            Err(_) => Ok(()),
        }
    }

    /// Ends the thread, and with it every allocation.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.order(Order::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the TURN thread panicked");
        }
    }

    fn order(&self, order: Order) {
        if self.orders.send(order).is_ok() {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "the TURN thread cannot be woken");
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.end();
        }
    }
}
