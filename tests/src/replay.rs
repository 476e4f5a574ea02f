//! Replays a record of `foci --record` in the core: a bug report becomes a test.
//!
//! A fresh plane is driven in virtual time with the recorded commands and datagrams. Handshakes
//! cannot be repeated byte for byte, so the clients are played: with certificates and keys of their
//! own they shake hands when the recorded ones did, sign their checks and seal their media anew.
//! Events, counters and the headers of everything forwarded must be as recorded. Data channels are
//! left out.

mod client;

use client::{Client, resigned};
use sfu::ids::PeerId;
use sfu::media::demux::{Path, Sender};
use sfu::media::message::{Command, Event, Side};
use sfu::media::plane::opened::Reason;
use sfu::media::plane::{Plane, Progress, Setup};
use sfu::media::record::redact::PASSWORD_LINE;
use sfu::media::record::{Datagram, Entry, Fault, Form, Outgoing, Reader, Start, Totals, redact};
use sfu::media::transport::{Handshake, dtls};
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How a replay went.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Entries replayed.
    pub entries: usize,
    /// Events that agreed.
    pub events: usize,
    /// Totals that agreed.
    pub totals: usize,
    /// What was counted last.
    pub last: Option<Totals>,
    /// Virtual time of the last entry.
    pub length: Duration,
    /// Why it ended before the record did: a gap, or a record cut short.
    pub ended: Option<String>,
    /// Entries that were not written, if it ended at a gap.
    pub lost: u64,
    /// The first thing that was otherwise.
    pub divergence: Option<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            entries,
            events,
            totals,
            length,
            ..
        } = self;
        write!(
            f,
            "{entries} entries of {length:?}: {events} events and {totals} totals agreed"
        )?;
        if let Some(ended) = &self.ended {
            write!(f, "; it ends early: {ended}")?;
        }
        if let Some(divergence) = &self.divergence {
            write!(f, "\nDIVERGED at entry {entries}, {length:?}: {divergence}")?;
        }
        Ok(())
    }
}

/// Replays the record in a file.
///
/// # Errors
/// The file cannot be read, or is no record.
pub fn run(path: &std::path::Path) -> Result<Report, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    replay(&bytes).map_err(|fault| format!("{}: {fault}", path.display()))
}

/// Replays the record in a file and tells how it went; the status to end with.
#[must_use]
#[allow(clippy::print_stdout, reason = "what a command tells")]
pub fn tell(path: &std::path::Path) -> ExitCode {
    match run(path) {
        Ok(report) => {
            println!("{report}");
            ExitCode::from(u8::from(report.divergence.is_some()))
        }
        Err(error) => {
            println!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Replays a record.
///
/// # Errors
/// These bytes are no record.
pub fn replay(bytes: &[u8]) -> Result<Report, Fault> {
    let mut reader = Reader::new(bytes)?;
    let Some(Ok((_, Entry::Start(start)))) = reader.next() else {
        return Err(Fault::Foreign);
    };
    let mut stage = Stage::new(&start);
    let mut report = Report {
        entries: 1,
        events: 0,
        totals: 0,
        last: None,
        length: Duration::ZERO,
        ended: Some("cut short".into()),
        lost: 0,
        divergence: None,
    };
    for entry in reader {
        let (at, entry) = match entry {
            Ok(entry) => entry,
            Err(fault) => {
                report.ended = Some(fault.to_string());
                break;
            }
        };
        report.length = at;
        match entry {
            Entry::End(_) => {
                report.ended = None;
                break;
            }
            Entry::Gap(lost) => {
                report.ended = Some(format!("{lost} entries were not written"));
                report.lost = lost;
                break;
            }
            entry => {
                let step = AssertUnwindSafe(|| stage.step(entry, at, &mut report));
                let done = catch_unwind(step).unwrap_or_else(|_| Err("the core panicked".into()));
                if let Err(divergence) = done {
                    report.divergence = Some(divergence);
                    break;
                }
            }
        }
        report.entries += 1;
    }
    Ok(report)
}

/// The plane and the clients around it.
struct Stage {
    plane: Plane,
    origin: Instant,
    clients: BTreeMap<Sender, Client>,
    /// Of every ufrag told by the plane.
    passwords: BTreeMap<String, String>,
    /// Clients' passwords are those that were recorded.
    secrets: bool,
    outgoing: Outgoing,
}

impl Stage {
    fn new(start: &Start) -> Self {
        let [node, process, worker] = start.place;
        let setup = Setup {
            dtls: Arc::new(dtls::Shared::new().expect("a certificate")),
            advertised: start.advertised.clone(),
            node,
            process,
            worker,
            track: start.track,
            inquiring: start.inquiring,
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "an arbitrary origin of virtual time"
        )]
        let origin = Instant::now();
        let mut plane = Plane::with_chance(setup, [0x5A; 32], start.chance);
        plane.replay();
        Self {
            plane,
            origin,
            clients: BTreeMap::new(),
            passwords: BTreeMap::new(),
            secrets: start.secrets,
            outgoing: Outgoing::default(),
        }
    }

    fn step(&mut self, entry: Entry, at: Duration, report: &mut Report) -> Result<(), String> {
        let now = self.origin + at;
        match entry {
            Entry::Command(command) => self.command(command, now),
            Entry::Datagram(datagram) => self.datagram(&datagram, now),
            Entry::Advertised(candidates) => self.plane.handle_advertised(candidates),
            Entry::Inquiring(on) => self.plane.handle_inquiring(on, now),
            Entry::PathLost(path) => self.plane.handle_path_lost(path, now),
            Entry::FanOut => self.fan_out(now),
            Entry::Absence(nanos) => self.plane.excuse(Duration::from_nanos(nanos)),
            Entry::Timeout(Some(peers)) => self.plane.handle_timeout_of(&peers, now),
            Entry::Timeout(None) => self.plane.handle_timeout(now),
            Entry::Event(text) => {
                if !is_data(&text) {
                    self.event(&text)?;
                    report.events += 1;
                }
            }
            Entry::Totals(recorded) => {
                self.totals(&recorded)?;
                report.totals += 1;
                report.last = Some(*recorded);
            }
            Entry::Start(_) => return Err("a second start".into()),
            Entry::Keys(_) | Entry::Gap(_) | Entry::End(_) => {}
        }
        // As the worker does. Nobody here wants to know.
        while self.plane.poll_sighting().is_some() {}
        Ok(())
    }

    fn client(&mut self, sender: Sender, now: Instant) -> &mut Client {
        self.clients
            .entry(sender)
            .or_insert_with(|| Client::new(now))
    }

    fn command(&mut self, mut command: Command, now: Instant) {
        let described = match &mut command {
            Command::Offer { peer, sdp, .. } => Some((*peer, Side::Publisher, sdp)),
            Command::Answer { peer, sdp, .. } => Some((*peer, Side::Subscriber, sdp)),
            _ => None,
        };
        if let Some((peer, side, sdp)) = described {
            *sdp = self.client(Sender { peer, side }, now).described(sdp);
        }
        if let Command::RemovePeer { peer } = &command {
            self.forget(*peer);
        }
        self.plane.handle_command(command, now);
    }

    fn forget(&mut self, peer: PeerId) {
        self.clients.retain(|sender, _| sender.peer != peer);
    }

    fn fan_out(&mut self, now: Instant) {
        loop {
            let progress = self.plane.fan_out(now);
            self.flush(None);
            if progress == Progress::Done {
                return;
            }
        }
    }

    /// Counts what is to be sent, and gives a client what its handshake is sent.
    fn flush(&mut self, mut to: Option<(Path, &mut Client)>) {
        self.outgoing.count(&self.plane);
        if let Some((path, client)) = &mut to {
            for run in self.plane.outgoing().filter(|run| run.to == *path) {
                run.bytes
                    .chunks(run.segment)
                    .for_each(|packet| client.receive(packet));
            }
        }
        self.plane.sent();
    }

    fn datagram(&mut self, recorded: &Datagram, now: Instant) {
        let path = recorded.path;
        let bytes = &recorded.bytes;
        let sender = recorded.from;
        let mut bytes = match (recorded.form, sender) {
            (Form::Handshake { before, after }, Some(sender)) => {
                return self.handshake((path, sender), (before, after), now);
            }
            (Form::Handshake { .. }, None) => client::foreign_record(),
            (Form::Check { authentic: true }, _) => resigned(bytes, &self.passwords, self.secrets),
            (Form::Media { seq }, Some(sender)) => self.client(sender, now).media(bytes, seq),
            (Form::Control, Some(sender)) => self.client(sender, now).control(bytes),
            (Form::Refused(Reason::Repeated | Reason::Limit), Some(sender)) => {
                self.client(sender, now).again(bytes)
            }
            _ => bytes.clone(),
        };
        self.plane.handle_datagram(path, &mut bytes, now);
    }

    /// Brings a client's handshake as far as the recorded one came with this datagram.
    fn handshake(
        &mut self,
        (path, sender): (Path, Sender),
        stages: (Handshake, Handshake),
        now: Instant,
    ) {
        let (Handshake::Open, after) = stages else {
            // Data, or a flight sent again: nothing that media depends on.
            self.plane
                .handle_datagram(path, &mut client::foreign_record(), now);
            return;
        };
        let mut client = self
            .clients
            .remove(&sender)
            .unwrap_or_else(|| Client::new(now));
        if after == Handshake::Failed {
            client.pretend(now);
        }
        let mut flight = client.hello(now);
        while !flight.is_empty() {
            for mut datagram in flight {
                self.plane.handle_datagram(path, &mut datagram, now);
            }
            self.flush(Some((path, &mut client)));
            flight = if after == Handshake::Open {
                Vec::new()
            } else {
                client.flight()
            };
        }
        self.clients.insert(sender, client);
    }

    fn event(&mut self, recorded: &str) -> Result<(), String> {
        let Some(event) = self.next_event() else {
            return Err(format!("no event, recorded was\n  {recorded}"));
        };
        let text = redact::event(&event, false);
        if plain(&text) == plain(recorded) {
            return Ok(());
        }
        Err(format!("event\n  {text}\nrecorded was\n  {recorded}"))
    }

    /// The next event that is not of data; passwords in it are remembered.
    fn next_event(&mut self) -> Option<Event> {
        let event = loop {
            let event = self.plane.poll_event()?;
            if !is_data(&redact::event(&event, false)) {
                break event;
            }
        };
        if let Event::Answer(ours) | Event::Offer(ours) = &event {
            let value = |name: &str| ours.sdp.lines().find_map(|line| line.strip_prefix(name));
            if let (Some(ufrag), Some(password)) = (value("a=ice-ufrag:"), value(PASSWORD_LINE)) {
                self.passwords.insert(ufrag.to_owned(), password.to_owned());
            }
        }
        Some(event)
    }

    fn totals(&mut self, recorded: &Totals) -> Result<(), String> {
        if let Some(event) = self.next_event() {
            let text = redact::event(&event, false);
            return Err(format!("event\n  {text}\nrecorded was none"));
        }
        let counted = comparable(&self.outgoing.totals(&self.plane));
        let recorded = comparable(recorded);
        if counted == recorded {
            return Ok(());
        }
        Err(format!(
            "counted\n  {counted:?}\nrecorded was\n  {recorded:?}"
        ))
    }
}

/// Is this an event of data channels, which are not replayed?
fn is_data(text: &str) -> bool {
    let name = text.split([' ', '{']).next().unwrap_or_default();
    matches!(name, "Data" | "DataOpen" | "DataTooSlow")
}

/// An event's text without what is drawn anew: certificates and passwords.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for (index, piece) in text.split("a=").enumerate() {
        if index > 0 {
            out.push_str("a=");
        }
        let new = ["fingerprint:", "ice-pwd:"];
        match new.iter().find(|name| piece.starts_with(**name)) {
            Some(name) => {
                out.push_str(name);
                // The line's end, as text: a backslash.
                out.push_str(piece.find('\\').map_or("", |end| &piece[end..]));
            }
            None => out.push_str(piece),
        }
    }
    out
}

/// Totals without what the played clients do otherwise: handshakes, tags of another length, data.
fn comparable(totals: &Totals) -> Totals {
    let mut totals = totals.clone();
    let counters = &mut totals.counters;
    counters.data = Default::default();
    counters.traffic.datagrams_in = 0;
    counters.traffic.bytes_out = 0;
    counters.traffic.retransmitted_bytes_out = 0;
    counters.dropped.dtls = 0;
    counters.dropped.data_late = 0;
    counters.dropped.data_refused = 0;
    totals
        .sent
        .retain(|(_, sent)| sent.media > 0 || sent.control > 0);
    totals
}

#[cfg(test)]
mod tests;
