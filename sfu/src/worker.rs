//! The media threads: each owns its sockets and its [`Plane`], and waits on epoll. No async here.
//!
//! Everything is decided in `media`; this moves datagrams, commands and events, and reads the clock
//! once a pass. Control talks to a worker through its mailbox only.

#![allow(
    clippy::disallowed_methods,
    reason = "shell: this is where media reads the clock and makes its threads"
)]

pub mod udp;
pub mod tcp;
pub mod relay;
pub mod mailbox;
mod report;
pub mod record;
pub mod placement;
pub mod accept;

use crate::config::faults::Point;
use crate::faults::Faults;
use crate::media::demux::Carrier;
use crate::media::message::{Command, Event, PeerFailure, Side};
use crate::media::plane::{self, Plane, Progress};
use crate::media::sighting::Sighting;
use crate::media::transport::candidates::Candidate;
use crate::media::transport::framing::Taken;
use crate::metrics::WorkerMetrics;
use mailbox::{Inbox, Message};
use mio::{Events, Poll, Token};
pub use placement::{Overloaded, Workers};
use record::Recorder;
use relay::Relay;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tcp::Connections;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use udp::UdpMux;

/// Where a peer's events go: its room's mailbox, bounded by the room.
pub type EventSink = mpsc::Sender<Event>;

/// What the media threads are started with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Addresses the ICE-UDP mux binds, one socket each.
    pub bind: Vec<SocketAddr>,
    /// Settings of the pure part.
    pub plane: plane::Setup,
    /// Where to write what happens, if it is to be written.
    pub record: Option<record::Target>,
    /// What fails on purpose.
    pub faults: Faults,
    /// Where goes what clients see of our address, if anybody wants to know. What has no place there is
    /// dropped, and counted: it comes again.
    pub sightings: Option<mpsc::Sender<Sighting>>,
}

/// Commands taken in one pass: enough for a join storm, few enough that media is not held up.
const COMMANDS_PER_PASS: usize = 256;
/// Receive batches in one pass, so that timers and commands are not starved.
const BATCHES_PER_PASS: usize = 4;
/// Data messages handed to rooms in one pass.
const DATA_PER_PASS: usize = 256;
/// With so many events waiting for a room it gets no data messages: changes need the place, and a
/// message may have 64 KB.
const DATA_WAITING: usize = 256;
/// A room without place for data is asked again after this long.
const DATA_RETRY: Duration = Duration::from_millis(5);
/// Longest sleep when nothing is due: metrics stay fresh.
const IDLE: Duration = Duration::from_millis(500);
/// Totals are copied out this often; a scrape is never further behind than this and [`IDLE`].
const REPORT_EVERY: Duration = Duration::from_millis(250);
/// How long a media thread stands still on purpose: longer than any jitter buffer, and shorter than
/// what anybody would take for the end.
const STALL: Duration = Duration::from_millis(300);
/// How far its clock leaps on purpose: beyond what it takes for a pause between two passes.
const LEAP: Duration = Duration::from_secs(3);
/// epoll token of the mailbox; sockets count up from zero, connections behind them.
const MAILBOX: Token = Token(usize::MAX);
/// epoll events taken at once: the sockets, the mailbox, and connections; the others come next.
const EPOLL_EVENTS: usize = 64;

/// One media thread's belongings.
struct Worker {
    poll: Poll,
    inbox: Inbox,
    mux: UdpMux,
    tcp: Connections,
    relay: Option<Box<Relay>>,
    plane: Plane,
    sinks: HashMap<crate::ids::PeerId, EventSink>,
    metrics: WorkerMetrics,
    next_report: Instant,
    recorder: Option<Recorder>,
    faults: Faults,
    sightings: Option<mpsc::Sender<Sighting>>,
    /// Those it had no place for.
    sightings_lost: u64,
    /// Data messages whose room was gone, or had no place after all.
    lost_data: u64,
    /// How far the clock has been made to leap.
    leapt: Duration,
}

impl Worker {
    fn new(
        plane: Plane,
        (mux, tcp): (UdpMux, Connections),
        (poll, inbox): (Poll, Inbox),
        metrics: WorkerMetrics,
    ) -> Self {
        Self {
            poll,
            inbox,
            mux,
            tcp,
            relay: None,
            plane,
            sinks: HashMap::new(),
            metrics,
            next_report: Instant::now(),
            recorder: None,
            faults: Faults::default(),
            sightings: None,
            sightings_lost: 0,
            lost_data: 0,
            leapt: Duration::ZERO,
        }
    }

    /// Runs until the mailbox says stop.
    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EPOLL_EVENTS);
        loop {
            self.wait(&mut events)?;
            self.falter();
            let now = self.now();
            if let Some(away) = self.plane.handle_wake(now) {
                if let Some(recorder) = &mut self.recorder {
                    recorder.absence(away, now);
                }
                tracing::warn!(
                    ?away,
                    "the media thread stood still: nobody is held silent for it"
                );
            }
            if !self.take_commands(now) {
                if let Some(recorder) = &mut self.recorder {
                    recorder.stop(&self.plane);
                }
                return Ok(());
            }
            self.receive(now);
            self.receive_tcp(now);
            self.receive_relayed(now);
            self.receive_again(now);
            match &mut self.recorder {
                None => self.plane.handle_timeout(now),
                Some(recorder) => recorder.timeout(&mut self.plane, now),
            }
            self.send(now);
            self.deliver_events();
            self.deliver_sightings();
            self.deliver_data();
            if let Some(recorder) = &mut self.recorder {
                recorder.end_pass(&self.plane, now);
            }
            self.report(now);
        }
    }

    fn now(&self) -> Instant {
        Instant::now() + self.leapt
    }

    /// Fails on purpose.
    fn falter(&mut self) {
        if self.faults.strike(Point::WorkerStall) {
            let end = Instant::now() + STALL;
            while let Some(left) = end.checked_duration_since(Instant::now()) {
                std::thread::park_timeout(left);
            }
        }
        if self.faults.strike(Point::ClockJump) {
            self.leapt += LEAP;
        }
    }

    /// Sleeps until a socket, the mailbox or a timer has work.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let now = self.now();
        let mut timeout = self
            .plane
            .poll_timeout()
            .map_or(IDLE, |at| at.saturating_duration_since(now).min(IDLE));
        if self.plane.has_unread_data() {
            timeout = timeout.min(DATA_RETRY);
        }
        let relayed = self.relay.as_mut().is_some_and(|relay| !relay.may_sleep());
        if self.mux.has_more() || self.tcp.has_more() || relayed || !self.inbox.may_sleep() {
            timeout = Duration::ZERO;
        }
        match self.poll.poll(events, Some(timeout)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        self.inbox.woke();
        if let Some(relay) = &self.relay {
            relay.woke();
        }
        for event in events.iter() {
            let at = event.token();
            if at != MAILBOX {
                self.mux.mark_readable(at.0);
                self.tcp
                    .mark(at.0, event.is_readable(), event.is_writable());
            }
        }
        Ok(())
    }

    /// Applies waiting commands; false once the worker is to stop.
    fn take_commands(&mut self, now: Instant) -> bool {
        for _ in 0..COMMANDS_PER_PASS {
            match self.inbox.take() {
                Some(Message::Command { command, events }) => self.apply(command, events, now),
                Some(Message::Advertise(candidates)) => self.advertise(&candidates, now),
                Some(Message::Inquire(on)) => self.inquire(on, now),
                Some(Message::Connection(accepted)) => self.tcp.adopt(*accepted, now),
                Some(Message::Relay(relay)) => self.relay = Some(relay),
                Some(Message::Stop) => return false,
                None => break,
            }
        }
        true
    }

    fn apply(&mut self, command: Command, events: Option<EventSink>, now: Instant) {
        if let (Command::AddPeer { peer, .. }, Some(sink)) = (&command, events) {
            self.sinks.insert(*peer, sink);
        }
        if let Command::RemovePeer { peer } = command {
            self.sinks.remove(&peer);
        }
        self.command(command, now);
    }

    fn command(&mut self, command: Command, now: Instant) {
        if let Some(recorder) = &mut self.recorder {
            recorder.command(&command, now);
        }
        self.plane.handle_command(command, now);
    }

    fn advertise(&mut self, candidates: &[Candidate], now: Instant) {
        if let Some(recorder) = &mut self.recorder {
            recorder.advertised(candidates, now);
        }
        self.plane.handle_advertised(candidates.to_vec());
    }

    fn inquire(&mut self, on: bool, now: Instant) {
        if let Some(recorder) = &mut self.recorder {
            recorder.inquiring(on, now);
        }
        self.plane.handle_inquiring(on, now);
    }

    fn receive(&mut self, now: Instant) {
        for _ in 0..BATCHES_PER_PASS {
            let plane = &mut self.plane;
            match &mut self.recorder {
                None => self
                    .mux
                    .receive(|path, datagram| plane.handle_datagram(path, datagram, now)),
                Some(recorder) => self
                    .mux
                    .receive(|path, datagram| recorder.datagram(plane, path, datagram, now)),
            }
            if !self.mux.has_more() {
                return;
            }
            // What was received must be forwarded before the history is written over.
            self.send(now);
        }
    }

    /// Reads connections, and tells the plane which of them are gone.
    fn receive_tcp(&mut self, now: Instant) {
        for _ in 0..BATCHES_PER_PASS {
            let (plane, recorder) = (&mut self.plane, &mut self.recorder);
            let more = self.tcp.receive(now, |path, datagram| {
                match recorder {
                    None => plane.handle_datagram(path, datagram, now),
                    Some(recorder) => recorder.datagram(plane, path, datagram, now),
                }
                Taken {
                    known: plane.knows(&path),
                    full: plane.is_full(),
                }
            });
            if !more {
                break;
            }
            // What was received must be forwarded before the history is written over.
            self.send(now);
        }
        let (plane, recorder) = (&mut self.plane, &mut self.recorder);
        self.tcp.look(now, |path| plane.knows(path));
        while let Some(path) = self.tcp.poll_lost() {
            if let Some(recorder) = recorder {
                recorder.path_lost(path, now);
            }
            plane.handle_path_lost(path, now);
        }
        if self.plane.is_full() {
            self.send(now);
        }
    }

    /// Takes what came through the TURN server of this process.
    fn receive_relayed(&mut self, now: Instant) {
        for _ in 0..BATCHES_PER_PASS {
            let (plane, recorder) = (&mut self.plane, &mut self.recorder);
            let Some(relay) = &mut self.relay else { return };
            let more = relay.receive(|path, datagram| {
                match recorder {
                    None => plane.handle_datagram(path, datagram, now),
                    Some(recorder) => recorder.datagram(plane, path, datagram, now),
                }
                !plane.is_full()
            });
            while let Some(path) = relay.poll_lost() {
                if let Some(recorder) = recorder {
                    recorder.path_lost(path, now);
                }
                plane.handle_path_lost(path, now);
            }
            if !more {
                return;
            }
            // What was received must be forwarded before the history is written over.
            self.send(now);
        }
    }

    /// Takes what has waited for its sender to be silent.
    fn receive_again(&mut self, now: Instant) {
        while let Some((path, mut datagram)) = self.plane.poll_waiting(now) {
            match &mut self.recorder {
                None => self.plane.handle_datagram(path, &mut datagram, now),
                Some(recorder) => recorder.datagram(&mut self.plane, path, &mut datagram, now),
            }
        }
    }

    /// Sends what there is, in arena-sized pieces.
    fn send(&mut self, now: Instant) {
        loop {
            if let Some(recorder) = &mut self.recorder {
                recorder.fan_out(now);
            }
            let progress = self.plane.fan_out(now);
            if let Some(recorder) = &mut self.recorder {
                recorder.sent(&self.plane);
            }
            for run in self.plane.outgoing() {
                match run.to.carrier {
                    Carrier::Udp(socket) => self.mux.send(socket, &run),
                    Carrier::Tcp(connection) => self.tcp.push(connection, &run, now),
                    Carrier::Relay { .. } => {
                        if let Some(relay) = &mut self.relay {
                            relay.push(&run);
                        }
                    }
                }
            }
            self.tcp.flush(now);
            if let Some(relay) = &mut self.relay {
                relay.flush();
            }
            self.plane.sent();
            if progress == Progress::Done {
                return;
            }
        }
    }

    /// Hands events to the rooms. A room that does not keep up loses the peer, visibly: events are
    /// changes, and one lost would leave room and media disagreeing for good.
    fn deliver_events(&mut self) {
        while let Some(event) = self.plane.poll_event() {
            let (peer, now) = (event.peer(), self.now());
            if let Some(recorder) = &mut self.recorder {
                recorder.event(&event, now);
            }
            let Some(sink) = self.sinks.get(&peer) else {
                continue;
            };
            let full = self.faults.strike(Point::RoomEventsFull)
                || matches!(sink.try_send(event), Err(TrySendError::Full(_)));
            if full {
                tracing::warn!(?peer, "room does not take media events: peer dropped");
                let sink = self.sinks.remove(&peer);
                self.command(Command::RemovePeer { peer }, now);
                report_overload(sink, peer);
            }
        }
    }

    /// Hands on what clients see of our address.
    fn deliver_sightings(&mut self) {
        while let Some(sighting) = self.plane.poll_sighting() {
            let sink = self.sightings.as_ref();
            if sink.is_some_and(|sink| sink.try_send(sighting).is_err()) {
                self.sightings_lost += 1;
            }
        }
    }

    /// Hands data messages to the rooms, as far as these keep up. What a room has no place for stays
    /// in the channel, and so stops its sender.
    fn deliver_data(&mut self) {
        for _ in 0..DATA_PER_PASS {
            let sinks = &self.sinks;
            let has_place = |peer| {
                let place = |sink: &EventSink| sink.max_capacity() - sink.capacity() < DATA_WAITING;
                sinks.get(&peer).is_none_or(place)
            };
            let Some(event) = self.plane.poll_data(has_place) else {
                return;
            };
            let now = self.now();
            if let Some(recorder) = &mut self.recorder {
                recorder.event(&event, now);
            }
            if let Some(sink) = self.sinks.get(&event.peer()) {
                // There was place, and this thread alone takes it but for a few.
                if sink.try_send(event).is_err() {
                    self.lost_data += 1;
                    tracing::debug!("a room is gone, or out of place: a data message is lost");
                }
            }
        }
    }

    fn report(&mut self, started: Instant) {
        let busy = self.now().saturating_duration_since(started);
        let busy = u64::try_from(busy.as_nanos()).unwrap_or(u64::MAX);
        self.metrics.busy_ns.add(busy);
        if started < self.next_report {
            return;
        }
        self.next_report = started + REPORT_EVERY;
        let beside = report::Beside {
            udp: self.mux.counters(),
            tcp: self.tcp.counters(),
            connections: self.tcp.count(),
            lost_relay: self.relay.as_ref().map_or(0, |relay| relay.dropped()),
            lost_data: self.lost_data,
            lost_sightings: self.sightings_lost,
        };
        report::publish(
            &self.metrics,
            self.plane.counters(),
            self.plane.population(),
            &beside,
        );
    }
}

/// Tells the room that its peer is gone, once it has room for the message.
fn report_overload(sink: Option<EventSink>, peer: crate::ids::PeerId) {
    let Some(sink) = sink else { return };
    let failed = Event::Failed {
        peer,
        side: Side::Publisher,
        reason: PeerFailure::Overload,
    };
    // A short-lived thread: the media thread must not wait, and this happens once per lost peer.
    let spawned = std::thread::Builder::new()
        .name("overload".into())
        .spawn(move || sink.blocking_send(failed));
    if let Err(error) = spawned {
        tracing::error!(?peer, %error, "room cannot be told of a dropped peer");
    }
}
