//! The log: what is written, how, and how much of it.
//!
//! Owns format and filter. Callers make spans (room, participant, track) and lines; nothing here
//! knows a secret. Lines go to stderr, as LiveKit's. (LK: server ops §12)

mod json;

use crate::config::check::{Level, Logging};
use std::io;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry, fmt, reload};

/// Our own crates: what `logging.level` is for.
const OURS: [&str; 4] = ["sfu", "foci", "proto", "jwt_service"];

/// The running log, to change its filter.
pub struct Telemetry {
    filter: reload::Handle<Targets, Registry>,
}

/// A log is running already in this process.
#[derive(Debug, thiserror::Error)]
#[error("the log was started twice")]
pub struct StartedTwice;

impl Telemetry {
    /// Starts the log of this process, on stderr.
    ///
    /// # Errors
    /// It was started before.
    pub fn start(logging: &Logging) -> Result<Self, StartedTwice> {
        let (filter, handle) = reload::Layer::new(targets(logging));
        let lines = lines(logging.json, io::stderr).with_filter(filter);
        tracing_subscriber::registry()
            .with(lines)
            .try_init()
            .map_err(|_| StartedTwice)?;
        Ok(Self { filter: handle })
    }

    /// Applies new levels; the format stays.
    pub fn reload(&self, logging: &Logging) {
        // It fails only if the log is gone, and then nobody reads it.
        let _ = self.filter.reload(targets(logging));
    }
}

/// Text or JSON lines.
fn lines<W>(json: bool, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = fmt::layer().with_writer(writer).with_ansi(false);
    if json {
        lines
            .fmt_fields(fmt::format::JsonFields::new())
            .event_format(json::JsonLines)
            .boxed()
    } else {
        lines.boxed()
    }
}

/// Levels by module: ours, the components', the libraries'.
fn targets(logging: &Logging) -> Targets {
    let ours = OURS.map(|target| (target, filter(logging.level)));
    let components = logging.component_levels.iter();
    Targets::new()
        .with_default(filter(logging.libraries))
        .with_targets(ours)
        // It calls what any client may send an error.
        .with_target("sctp_proto", LevelFilter::OFF)
        .with_targets(components.map(|(module, level)| (*module, filter(*level))))
}

const fn filter(level: Level) -> LevelFilter {
    match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}

#[cfg(test)]
pub(crate) mod tests;
