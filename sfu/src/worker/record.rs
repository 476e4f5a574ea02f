//! A worker's record on disk: encoded by the media thread, written by a thread of its own.
//!
//! The media thread never waits: what the writer is too slow for is left out, and the record says so.
//! What is written is bounded, and holds no secret unless asked to (see `media::record::redact`).

use crate::media::demux::Path;
use crate::media::message::{Command, Event};
use crate::media::plane::Plane;
use crate::media::plane::opened::Opened;
use crate::media::record::{self, Datagram, End, Entry, Form, Keys, Outgoing, Start, redact};
use crate::media::transport::Handshake;
use crate::media::transport::candidates::Candidate;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// Chunks that wait for the disk: some seconds of a large call. Further ones are left out.
const CHUNKS: usize = 64;
/// A chunk is handed over when it has this size, or is as old as [`CHUNK_AGE`].
const CHUNK_BYTES: usize = 64 << 10;
/// What a killed process loses at most.
const CHUNK_AGE: Duration = Duration::from_millis(100);
/// What the last entry may take.
const END_ROOM: u64 = 64;
/// How often what was counted is written.
const TOTALS_EVERY: Duration = Duration::from_secs(1);

/// Where and what to record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The file. It must not exist.
    pub path: PathBuf,
    /// Its largest size in bytes.
    pub limit: u64,
    /// Keep payloads, messages, passwords and keys.
    pub secrets: bool,
}

/// The media thread's side.
#[derive(Debug)]
pub(super) struct Recorder {
    /// Gone once the record has ended.
    writer: Option<Writer>,
    start: Instant,
    /// Encoded and not handed over.
    chunk: Vec<u8>,
    /// Entries in it.
    entries: u64,
    handed: Instant,
    next_totals: Instant,
    outgoing: Outgoing,
    left: u64,
    secrets: bool,
    /// Entries left out and not told of.
    lost: u64,
}

/// The thread that writes.
#[derive(Debug)]
struct Writer {
    chunks: SyncSender<Vec<u8>>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Waits until everything is on its way to the disk.
    fn finish(self) {
        drop(self.chunks);
        if self.thread.join().is_err() {
            tracing::error!("the thread that writes the record panicked");
        }
    }
}

impl Recorder {
    /// Makes the file, readable by its owner only.
    ///
    /// # Errors
    /// The file is there already, or cannot be made.
    pub(super) fn start(target: &Target, plane: &mut Plane) -> io::Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&target.path)
            .map_err(|error| {
                let told = format!("--record {}: {error}", target.path.display());
                io::Error::new(error.kind(), told)
            })?;
        plane.keep_attended();
        if target.secrets {
            plane.keep_keys();
            tracing::warn!(file = %target.path.display(), "recording media with payloads, passwords and keys");
        } else {
            tracing::info!(file = %target.path.display(), "recording media");
        }
        let (chunks, waiting) = sync_channel(CHUNKS);
        let thread = std::thread::Builder::new()
            .name("record".into())
            .spawn(move || write(file, &waiting))?;
        let mut recorder = Self::onto(Writer { chunks, thread }, target, plane);
        // At once: that it was begun is to be seen, however soon the process ends.
        recorder.hand_over(recorder.start);
        Ok(recorder)
    }

    fn onto(writer: Writer, target: &Target, plane: &Plane) -> Self {
        let now = Instant::now();
        let mut recorder = Self {
            writer: Some(writer),
            start: now,
            chunk: record::MAGIC.to_vec(),
            entries: 0,
            handed: now,
            next_totals: now + TOTALS_EVERY,
            outgoing: Outgoing::default(),
            left: target.limit.saturating_sub(END_ROOM),
            secrets: target.secrets,
            lost: 0,
        };
        recorder.push(&Entry::Start(Start::of(plane, target.secrets)), now);
        recorder
    }

    pub(super) fn command(&mut self, command: &Command, now: Instant) {
        if self.writer.is_none() {
            return;
        }
        let command = if self.secrets {
            command.clone()
        } else {
            redact::command(command)
        };
        self.push(&Entry::Command(command), now);
    }

    /// Takes a datagram in the plane's stead. The entry is there before anything is made of it, so
    /// that a panic finds its cause in the record.
    pub(super) fn datagram(
        &mut self,
        plane: &mut Plane,
        path: Path,
        datagram: &mut [u8],
        now: Instant,
    ) {
        if self.writer.is_none() {
            return plane.handle_datagram(path, datagram, now);
        }
        let before = plane.handshake(&path);
        let bad = plane.counters().dropped.stun;
        let opened = plane.open(&path, datagram, now);
        let stage = before.map_or(Handshake::Open, |(_, stage)| stage);
        let known = before.map(|(from, _)| from);
        let entry = Datagram {
            path,
            // Who has moved is known by his keys.
            from: opened.from().or(known),
            bytes: self.kept(plane, &opened, datagram),
            form: match &opened {
                Opened::Check => Form::Check { authentic: true },
                Opened::Handshake => Form::Handshake {
                    before: stage,
                    after: stage,
                },
                Opened::Media(media) => Form::Media { seq: media.seq.0 },
                Opened::Control { .. } => Form::Control,
                // It has changed nothing, and is told of when it comes again.
                Opened::Waiting => return,
                Opened::Refused(reason) => Form::Refused(*reason),
            },
        };
        self.push(&Entry::Datagram(entry), now);
        plane.take(&opened, path, datagram, now);
        let learned = match opened {
            Opened::Check => Form::Check {
                authentic: plane.counters().dropped.stun == bad,
            },
            Opened::Handshake => Form::Handshake {
                before: stage,
                after: plane.handshake(&path).map_or(stage, |(_, after)| after),
            },
            _ => return,
        };
        record::amend(learned, &mut self.chunk);
        self.keys(plane, now);
    }

    /// The keys of connections that came up, where they are wanted.
    fn keys(&mut self, plane: &mut Plane, now: Instant) {
        while let Some((from, keying)) = plane.poll_keys() {
            let keys = Keys {
                from,
                profile: keying.profile().number(),
                material: keying.material(),
            };
            self.push(&Entry::Keys(keys), now);
        }
    }

    /// Of a datagram, what is written.
    fn kept(&self, plane: &Plane, opened: &Opened, datagram: &[u8]) -> Vec<u8> {
        match opened {
            Opened::Check => datagram.to_vec(),
            // Nobody can repeat a handshake, and what lies behind it is data.
            Opened::Handshake | Opened::Waiting => Vec::new(),
            Opened::Control { len, .. } => datagram.get(..*len).unwrap_or_default().to_vec(),
            Opened::Media(media) => {
                let mut bytes = datagram.get(..media.len).unwrap_or_default().to_vec();
                if !self.secrets {
                    redact::media(&mut bytes, &media.header, plane.format(media));
                }
                bytes
            }
            Opened::Refused(_) => redact::refused(datagram),
        }
    }

    pub(super) fn absence(&mut self, away: Duration, now: Instant) {
        let nanos = u64::try_from(away.as_nanos()).unwrap_or(u64::MAX);
        self.push(&Entry::Absence(nanos), now);
    }

    pub(super) fn advertised(&mut self, candidates: &[Candidate], now: Instant) {
        self.push(&Entry::Advertised(candidates.to_vec()), now);
    }

    pub(super) fn inquiring(&mut self, on: bool, now: Instant) {
        self.push(&Entry::Inquiring(on), now);
    }

    pub(super) fn path_lost(&mut self, path: Path, now: Instant) {
        self.push(&Entry::PathLost(path), now);
    }

    pub(super) fn fan_out(&mut self, now: Instant) {
        self.push(&Entry::FanOut, now);
    }

    /// Runs the plane's timers in its stead.
    pub(super) fn timeout(&mut self, plane: &mut Plane, now: Instant) {
        let (before, entries) = (self.chunk.len(), self.entries);
        self.push(&Entry::Timeout(None), now);
        plane.handle_timeout(now);
        self.chunk.truncate(before);
        self.entries = entries;
        self.push(&Entry::Timeout(Some(plane.attended().to_vec())), now);
    }

    /// The arena is about to be sent.
    pub(super) fn sent(&mut self, plane: &Plane) {
        if self.writer.is_some() {
            self.outgoing.count(plane);
        }
    }

    pub(super) fn event(&mut self, event: &Event, now: Instant) {
        if self.writer.is_some() {
            let text = redact::event(event, self.secrets);
            self.push(&Entry::Event(text), now);
        }
    }

    /// Totals when it is time, and what was encoded to the writer.
    pub(super) fn end_pass(&mut self, plane: &Plane, now: Instant) {
        if self.writer.is_none() {
            return;
        }
        if now >= self.next_totals {
            self.next_totals = now + TOTALS_EVERY;
            self.push(&Entry::Totals(Box::new(self.outgoing.totals(plane))), now);
        }
        if self.chunk.len() as u64 >= self.left {
            tracing::warn!("the record has its largest size: it ends here");
            self.chunk.clear();
            self.entries = 0;
            return self.end(End::Full, now);
        }
        if self.chunk.len() >= CHUNK_BYTES || now >= self.handed + CHUNK_AGE {
            self.hand_over(now);
        }
    }

    /// The worker stops.
    pub(super) fn stop(&mut self, plane: &Plane) {
        if self.writer.is_some() {
            let now = Instant::now();
            self.push(&Entry::Totals(Box::new(self.outgoing.totals(plane))), now);
            self.end(End::Stopped, now);
        }
    }

    fn end(&mut self, end: End, now: Instant) {
        self.push(&Entry::End(end), now);
        self.hand_over(now);
        // While media goes on nobody waits for the disk.
        if let Some(writer) = self.writer.take().filter(|_| end == End::Stopped) {
            writer.finish();
        }
    }

    fn push(&mut self, entry: &Entry, now: Instant) {
        if self.writer.is_some() {
            let at = now.saturating_duration_since(self.start);
            record::write(entry, at, &mut self.chunk);
            self.entries += 1;
        }
    }

    /// Hands the chunk to the writer if that has room, and leaves it out if not.
    fn hand_over(&mut self, now: Instant) {
        self.handed = now;
        let Some(writer) = &self.writer else {
            return;
        };
        let mut chunk = std::mem::take(&mut self.chunk);
        if self.lost > 0 {
            let at = now.saturating_duration_since(self.start);
            let mut told = Vec::new();
            record::write(&Entry::Gap(self.lost), at, &mut told);
            told.append(&mut chunk);
            chunk = told;
        }
        let len = chunk.len() as u64;
        match writer.chunks.try_send(chunk) {
            Ok(()) => {
                self.left = self.left.saturating_sub(len);
                self.lost = 0;
            }
            Err(TrySendError::Full(_)) => {
                if self.lost == 0 {
                    tracing::warn!("the disk is too slow for the record: it has a gap");
                }
                self.lost += self.entries;
            }
            // The writer has said why.
            Err(TrySendError::Disconnected(_)) => self.writer = None,
        }
        self.entries = 0;
    }
}

impl Drop for Recorder {
    /// After a panic of the media thread: its cause is the last entry.
    fn drop(&mut self) {
        if self.writer.is_some() {
            self.hand_over(Instant::now());
        }
        if let Some(writer) = self.writer.take() {
            writer.finish();
        }
    }
}

/// Writes what comes until the other side is gone.
fn write(mut file: File, chunks: &Receiver<Vec<u8>>) {
    while let Ok(chunk) = chunks.recv() {
        if let Err(error) = file.write_all(&chunk) {
            tracing::error!(%error, "the record cannot be written: it ends here");
            return;
        }
    }
}
