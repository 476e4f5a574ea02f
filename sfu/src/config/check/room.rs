//! Defaults of rooms, who speaks, dynacast, sizes.

use crate::config::codecs::{Codec, h264};
use crate::config::complaint::{Complaints, quoted};
use crate::config::raw::{Value, Values};
use crate::ids::MediaKind;
use std::time::Duration;

/// The list of codecs.
const CODECS: &str = "room.enabled_codecs";
/// Retransmission: listed with codecs, but follows its video codec.
const RTX: &str = "video/rtx";

/// Defaults of a new room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// A join creates the room.
    pub auto_create: bool,
    /// In the operator's order, none twice.
    pub enabled_codecs: Vec<Codec>,
    /// The formats of H264 that are switched on.
    pub h264: Vec<h264::Parameters>,
    /// 0: no limit.
    pub max_participants: u32,
    /// Until a room is closed that nobody joined.
    pub empty_timeout: Duration,
    /// Until a room is closed that the last participant left.
    pub departure_timeout: Duration,
    /// Bytes of one batch of participant updates.
    pub update_batch_target_size: usize,
}

/// Who speaks. (LK: signalling §5.13)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Audio {
    /// In -dBov: at or below it one speaks.
    pub active_level: u8,
    /// Percent of an interval that must be loud.
    pub min_percentile: u8,
    /// Between two reports.
    pub update_interval_ms: u32,
    /// Intervals averaged over.
    pub smooth_intervals: u32,
}

/// Dynacast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Video {
    /// How long a layer nobody watches is still asked for.
    pub dynacast_pause_delay: Duration,
}

/// Sizes in bytes; "no limit" is `usize::MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Metadata of a room or participant.
    pub max_metadata_size: usize,
    /// All attributes of a participant.
    pub max_attributes_size: usize,
    /// A participant's name.
    pub max_participant_name_length: usize,
}

impl Room {
    pub(super) fn read(values: &Values, complaints: &mut Complaints) -> Self {
        let seconds = |path| Duration::from_secs(u64::from(values.count(path)));
        Self {
            auto_create: values.flag("room.auto_create"),
            enabled_codecs: codecs(values, complaints),
            h264: h264_formats(values, complaints),
            max_participants: values.count("room.max_participants"),
            empty_timeout: seconds("room.empty_timeout"),
            departure_timeout: seconds("room.departure_timeout"),
            update_batch_target_size: size(values, "room.update_batch_target_size"),
        }
    }
}

impl Audio {
    pub(super) fn read(values: &Values, complaints: &mut Complaints) -> Self {
        const INTERVAL: &str = "audio.update_interval";
        let small = |path| u8::try_from(values.uint(path)).unwrap_or(u8::MAX);
        let mut update_interval_ms = values.count(INTERVAL);
        if update_interval_ms == 0 {
            let cause = "speakers must be told at some interval";
            complaints.error(INTERVAL, values.place(INTERVAL), cause, "set 400");
            update_interval_ms = 400;
        }
        Self {
            active_level: small("audio.active_level"),
            min_percentile: small("audio.min_percentile"),
            update_interval_ms,
            smooth_intervals: values.count("audio.smooth_intervals"),
        }
    }
}

impl Video {
    pub(super) fn read(values: &Values) -> Self {
        Self {
            dynacast_pause_delay: values.duration("video.dynacast_pause_delay"),
        }
    }
}

impl Limit {
    pub(super) fn read(values: &Values) -> Self {
        Self {
            max_metadata_size: size(values, "limit.max_metadata_size"),
            max_attributes_size: size(values, "limit.max_attributes_size"),
            max_participant_name_length: size(values, "limit.max_participant_name_length"),
        }
    }
}

fn size(values: &Values, path: &str) -> usize {
    match usize::try_from(values.uint(path)) {
        Ok(0) | Err(_) => usize::MAX,
        Ok(bytes) => bytes,
    }
}

/// The enabled codecs that Foci has. The list replaces the default as a whole.
fn codecs(values: &Values, complaints: &mut Complaints) -> Vec<Codec> {
    const KEY: &str = CODECS;
    let Some(records) = values.records(KEY) else {
        return Codec::ALL.to_vec();
    };
    let mut list = Vec::new();
    for record in &records {
        let Some(Value::Text(mime)) = record.get("mime") else {
            complaints.error(
                KEY,
                values.place(KEY),
                "an entry without mime",
                "add `mime:`",
            );
            continue;
        };
        match Codec::from_mime(mime) {
            Some(codec) if !list.contains(&codec) => list.push(codec),
            Some(_) => {}
            None if mime.eq_ignore_ascii_case(RTX) => {}
            None => {
                let cause = format!("Foci does not have {}", quoted(mime));
                let known: Vec<&str> = Codec::ALL.iter().map(|codec| codec.mime()).collect();
                let fix = format!("it is left out; there are {}", known.join(", "));
                complaints.warning(KEY, values.place(KEY), cause, fix);
            }
        }
    }
    for (kind, fallback) in [
        (MediaKind::Video, Codec::Vp8),
        (MediaKind::Audio, Codec::Opus),
    ] {
        let carries = |codec: &Codec| codec.kind() == kind && *codec != Codec::Red;
        if !list.iter().any(carries) {
            let cause = format!("no usable codec of its kind, {} is added", fallback.mime());
            complaints.warning(KEY, values.place(KEY), cause, "list it");
            list.push(fallback);
        }
    }
    list
}

/// The formats of H264 that its entries name; without any, the usual ones.
fn h264_formats(values: &Values, complaints: &mut Complaints) -> Vec<h264::Parameters> {
    let mut formats = Vec::new();
    for record in values.records(CODECS).into_iter().flatten() {
        let text = |name: &str| match record.get(name) {
            Some(Value::Text(text)) => Some(text.as_str()),
            _ => None,
        };
        let codec = text("mime").and_then(Codec::from_mime);
        let Some(fmtp) = text("fmtp_line").filter(|fmtp| !fmtp.is_empty()) else {
            continue;
        };
        if codec != Some(Codec::H264) {
            continue;
        }
        match h264::Parameters::parse(Some(fmtp)) {
            Some(format) if !formats.contains(&format) => formats.push(format),
            Some(_) => {}
            None => {
                let cause = format!("Foci cannot forward H264 with {}", quoted(fmtp));
                let fix = "name a profile from constrained baseline to high and packetization-mode 0 or 1, \
                           for example packetization-mode=1;profile-level-id=42e01f";
                complaints.error(CODECS, values.place(CODECS), cause, fix);
            }
        }
    }
    if formats.is_empty() {
        formats = h264::Parameters::DEFAULT.to_vec();
    }
    formats
}
