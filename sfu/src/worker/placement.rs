//! Which worker a peer lives on, and the handle through which control reaches the workers.

use super::mailbox::{Message, Outbox, Refused, mailbox};
use super::record::Recorder;
use super::relay::Relay;
use super::tcp::{Accepted, Connections};
use super::udp::UdpMux;
use super::{EventSink, MAILBOX, Setup, Worker};
use crate::ids::PeerId;
use crate::media::demux::Place;
use crate::media::message::Command;
use crate::media::plane::Plane;
use crate::media::transport::candidates::Candidate;
use crate::metrics::Metrics;
use mio::{Poll, Waker};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// The workers as control sees them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Workers {
    workers: Arc<[Handle]>,
}

#[derive(Debug)]
struct Handle {
    outbox: Outbox,
    /// Peers placed and not yet removed: the load that placement balances.
    peers: AtomicU32,
    /// Slots are counted up, the high half is the generation: never the same id twice.
    next_slot: AtomicU64,
    alive: Arc<AtomicBool>,
}

/// Held by a media thread while it runs; a panic drops it too.
#[derive(Debug)]
struct Running(Arc<AtomicBool>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// A command could not be delivered: the worker is behind or gone. The participant it was for
/// cannot be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("media worker does not take commands")]
pub struct Overloaded;

/// The running threads, to be joined at the end.
#[derive(Debug)]
pub struct Threads(Vec<JoinHandle<()>>);

impl Threads {
    /// Waits until every worker has stopped.
    pub fn join(self) {
        for thread in self.0 {
            if thread.join().is_err() {
                tracing::error!("a media worker panicked");
            }
        }
    }
}

impl Workers {
    /// Binds the sockets and starts the threads. Today's fan-out stays on one thread: until lanes
    /// connect workers there is one.
    ///
    /// # Errors
    /// A socket that cannot be bound, or a thread that cannot be made.
    pub fn start(setup: &Setup, metrics: &Metrics, seed: [u8; 32]) -> io::Result<(Self, Threads)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), MAILBOX)?;
        let mux = UdpMux::bind(&setup.bind, poll.registry(), &setup.faults)?;
        let tcp = Connections::new(poll.registry().try_clone()?);
        let (outbox, inbox) = mailbox(waker, setup.faults.clone());
        let mut plane = Plane::new(setup.plane.clone(), seed);
        let recorder = setup.record.as_ref();
        let recorder = recorder.map(|target| Recorder::start(target, &mut plane));
        let mut worker = Worker::new(plane, (mux, tcp), (poll, inbox), metrics.worker(0));
        worker.recorder = recorder.transpose()?;
        worker.faults = setup.faults.clone();
        worker.sightings = setup.sightings.clone();
        let alive = Arc::new(AtomicBool::new(true));
        let thread = std::thread::Builder::new().name("media-0".into()).spawn({
            let running = Running(Arc::clone(&alive));
            move || {
                if let Err(error) = worker.run() {
                    tracing::error!(%error, "media worker stopped");
                }
                drop(running);
            }
        })?;
        let handle = Handle {
            outbox,
            peers: AtomicU32::new(0),
            next_slot: AtomicU64::new(0),
            alive,
        };
        let workers = Self {
            workers: Arc::from(vec![handle]),
        };
        Ok((workers, Threads(vec![thread])))
    }

    /// Draws a peer id on the worker with the fewest peers.
    #[must_use]
    pub fn place(&self) -> PeerId {
        let load = |handle: &Handle| handle.peers.load(Ordering::Relaxed);
        let (index, handle) = self
            .workers
            .iter()
            .enumerate()
            .min_by_key(|(_, handle)| load(handle))
            .unwrap_or_else(|| unreachable!("start makes at least one worker"));
        let drawn = handle.next_slot.fetch_add(1, Ordering::Relaxed);
        PeerId {
            worker: index as u8,
            slot: drawn as u32,
            generation: (drawn >> 32) as u32,
        }
    }

    /// Sends a command to the worker of its peer; `events` goes with AddPeer.
    ///
    /// # Errors
    /// [`Overloaded`] if the worker's mailbox is full or the worker gone.
    pub fn send(&self, command: Command, events: Option<EventSink>) -> Result<(), Overloaded> {
        let handle = self
            .workers
            .get(usize::from(command.worker()))
            .ok_or(Overloaded)?;
        match &command {
            Command::AddPeer { .. } => {
                handle.peers.fetch_add(1, Ordering::Relaxed);
            }
            Command::RemovePeer { .. } => {
                let less = |peers: u32| Some(peers.saturating_sub(1));
                let _ = handle
                    .peers
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
            }
            _ => {}
        }
        handle
            .outbox
            .send(Message::Command { command, events })
            .map_err(|_: Refused| Overloaded)
    }

    /// Tells all workers what clients are to be told from now on.
    ///
    /// # Errors
    /// [`Overloaded`] if one of them does not take it: try again.
    pub fn advertise(&self, candidates: &[Candidate]) -> Result<(), Overloaded> {
        let candidates: Arc<[Candidate]> = candidates.into();
        let mut told = Ok(());
        for handle in self.workers.iter() {
            let message = Message::Advertise(Arc::clone(&candidates));
            told = told.and(handle.outbox.send(message).map_err(|_: Refused| Overloaded));
        }
        told
    }

    /// Tells all workers whether clients are to be asked at which address they see us.
    ///
    /// # Errors
    /// [`Overloaded`] if one of them does not take it: try again.
    pub fn inquire(&self, on: bool) -> Result<(), Overloaded> {
        let mut told = Ok(());
        for handle in self.workers.iter() {
            let sent = handle.outbox.send(Message::Inquire(on));
            told = told.and(sent.map_err(|_: Refused| Overloaded));
        }
        told
    }

    /// Hands a media connection to the worker that its first frame names. It comes to nothing there
    /// if the ufrag is nobody's.
    ///
    /// # Errors
    /// [`Overloaded`] if there is no such worker, or its mailbox is full.
    pub fn adopt(&self, place: Place, accepted: Box<Accepted>) -> Result<(), Overloaded> {
        let handle = self.workers.get(usize::from(place.worker));
        let handle = handle.ok_or(Overloaded)?;
        let message = Message::Connection(accepted);
        handle.outbox.send(message).map_err(|_: Refused| Overloaded)
    }

    /// Connects each worker with the TURN server beside it; the doors are that server's ends, in the
    /// order of the workers.
    #[must_use]
    pub fn connect_relay(&self) -> Vec<turn::net::Door> {
        let connect = |handle: &Handle| {
            let (to_sfu, from_turn) = turn::net::lane();
            let (to_turn, from_sfu) = turn::net::lane();
            from_turn.wake_by(handle.outbox.alarm());
            let relay = Box::new(Relay::new(to_turn, from_turn));
            if handle.outbox.send(Message::Relay(relay)).is_err() {
                tracing::error!("a media worker takes no relayed media");
            }
            turn::net::Door { to_sfu, from_sfu }
        };
        self.workers.iter().map(connect).collect()
    }

    /// Every media thread runs.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.workers
            .iter()
            .all(|handle| handle.alive.load(Ordering::Relaxed))
    }

    /// Ends the threads after what is in their mailboxes.
    pub fn stop(&self) {
        for handle in self.workers.iter() {
            if handle.outbox.send(Message::Stop) == Err(Refused::Full) {
                tracing::error!("media worker is too busy to be stopped");
            }
        }
    }
}
