//! A worker's mailbox: bounded, many senders, woken by eventfd only when the worker sleeps.

use super::EventSink;
use super::relay::Relay;
use super::tcp::Accepted;
use crate::config::faults::Point;
use crate::faults::Faults;
use crate::media::message::Command;
use crate::media::transport::candidates::Candidate;
use mio::Waker;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

/// Commands that may wait: a thousand joins with a handful of commands each. A full mailbox
/// refuses; the room then ends the participant it could not serve.
const DEPTH: usize = 8192;

/// What a worker is sent.
#[derive(Debug)]
pub enum Message {
    /// A command, and for a new peer where its events go.
    Command {
        /// The command.
        command: Command,
        /// With AddPeer: the sink of its events.
        events: Option<EventSink>,
    },
    /// Clients are told these candidates from now on.
    Advertise(Arc<[Candidate]>),
    /// Clients are asked from now on at which address they see us, or are not.
    Inquire(bool),
    /// A media connection of a client whose peer is here.
    Connection(Box<Accepted>),
    /// The way to and from the TURN server in this process.
    Relay(Box<Relay>),
    /// Ends the thread.
    Stop,
}

/// The sending side.
#[derive(Debug, Clone)]
pub struct Outbox {
    queue: SyncSender<Message>,
    wake: Arc<Wake>,
    faults: Faults,
}

/// The worker's side.
#[derive(Debug)]
pub struct Inbox {
    queue: Receiver<Message>,
    wake: Arc<Wake>,
    next: Option<Message>,
}

#[derive(Debug)]
struct Wake {
    waker: Waker,
    sleeping: AtomicBool,
}

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// [`DEPTH`] messages wait already.
    Full,
    /// The worker is gone.
    Gone,
}

/// A mailbox whose `waker` ends the worker's epoll wait.
#[must_use]
pub fn mailbox(waker: Waker, faults: Faults) -> (Outbox, Inbox) {
    let (sender, receiver) = sync_channel(DEPTH);
    let wake = Arc::new(Wake {
        waker,
        sleeping: AtomicBool::new(false),
    });
    let outbox = Outbox {
        queue: sender,
        wake: Arc::clone(&wake),
        faults,
    };
    let inbox = Inbox {
        queue: receiver,
        wake,
        next: None,
    };
    (outbox, inbox)
}

impl Outbox {
    /// What ends the worker's sleep, for others that hand it something.
    pub fn alarm(&self) -> impl Fn() + Send + Sync + use<> {
        let wake = Arc::clone(&self.wake);
        move || {
            if let Err(error) = wake.waker.wake() {
                tracing::error!(%error, "worker cannot be woken");
            }
        }
    }

    /// Puts a message in without waiting.
    ///
    /// # Errors
    /// [`Refused`] if the mailbox is full or the worker gone.
    pub fn send(&self, message: Message) -> Result<(), Refused> {
        let command = matches!(message, Message::Command { .. });
        if command && self.faults.strike(Point::MailboxFull) {
            return Err(Refused::Full);
        }
        self.queue.try_send(message).map_err(|error| match error {
            TrySendError::Full(_) => Refused::Full,
            TrySendError::Disconnected(_) => Refused::Gone,
        })?;
        if self.wake.sleeping.swap(false, Ordering::SeqCst)
            && let Err(error) = self.wake.waker.wake()
        {
            tracing::error!(%error, "worker cannot be woken");
        }
        Ok(())
    }
}

impl Inbox {
    /// The next message.
    pub fn take(&mut self) -> Option<Message> {
        self.next.take().or_else(|| self.queue.try_recv().ok())
    }

    /// Announces that the worker is about to sleep; false if a message came in the meantime.
    pub fn may_sleep(&mut self) -> bool {
        if self.next.is_some() {
            return false;
        }
        self.wake.sleeping.store(true, Ordering::SeqCst);
        self.next = self.queue.try_recv().ok();
        self.next.is_none()
    }

    /// The worker is awake: no wake-up calls needed.
    pub fn woke(&self) {
        self.wake.sleeping.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::PeerId;
    use mio::{Events, Poll, Token};
    use std::time::Duration;

    fn remove(slot: u32) -> Message {
        Message::Command {
            command: Command::RemovePeer {
                peer: PeerId {
                    worker: 0,
                    slot,
                    generation: 0,
                },
            },
            events: None,
        }
    }

    fn mailbox_with_poll() -> (Poll, Outbox, Inbox) {
        let poll = Poll::new().expect("epoll");
        let waker = Waker::new(poll.registry(), Token(0)).expect("waker");
        let (outbox, inbox) = mailbox(waker, Faults::default());
        (poll, outbox, inbox)
    }

    #[test]
    fn a_sleeping_worker_is_woken_and_a_waking_one_is_not() {
        let (mut poll, outbox, mut inbox) = mailbox_with_poll();
        let mut events = Events::with_capacity(4);
        outbox.send(remove(1)).expect("room");
        poll.poll(&mut events, Some(Duration::ZERO)).expect("poll");
        assert!(events.is_empty(), "an awake worker needs no call");
        assert!(!inbox.may_sleep(), "a message waits");
        assert!(inbox.take().is_some());
        assert!(inbox.may_sleep());
        outbox.send(remove(2)).expect("room");
        poll.poll(&mut events, Some(Duration::from_secs(5)))
            .expect("poll");
        assert!(!events.is_empty());
    }

    #[test]
    fn a_full_mailbox_refuses_and_a_dead_worker_is_told_apart() {
        let (_poll, outbox, inbox) = mailbox_with_poll();
        for slot in 0..DEPTH {
            outbox.send(remove(slot as u32)).expect("room");
        }
        assert_eq!(outbox.send(remove(0)), Err(Refused::Full));
        drop(inbox);
        assert_eq!(outbox.send(remove(0)), Err(Refused::Gone));
    }
}
