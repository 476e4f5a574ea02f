//! What the publishers send: VP8 frames and Opus packets in real time, sealed.

use sfu::media::transport::srtp::{OVERHEAD_MAX, Sealer};
use sfu::rtp::header::FixedHeader;
use sfu::units::ExtSeq;
use std::time::{Duration, Instant};

/// What is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// Opus, 50 packets a second.
    Audio,
    /// VP8, 30 frames of five packets a second: 1.4 Mbit/s.
    Video,
}

/// Payload types offered by the clients of this benchmark.
pub const OPUS: u8 = 111;
/// See [`OPUS`].
pub const VP8: u8 = 96;
/// Ids of header extensions, the same in every section.
const LEVEL_ID: u8 = 1;
const MID_ID: u8 = 4;
const TRANSPORT_ID: u8 = 5;
/// Packets of a video frame.
const FRAME_PACKETS: usize = 5;
/// Bytes of an RTP packet, header included.
const VIDEO_BYTES: usize = 1200;
const AUDIO_BYTES: usize = 100;
/// Voice, at -20 dBov (RFC 6464 §3).
const LEVEL: u8 = 0x80 | 20;

impl Media {
    /// The `m=` line of a section with its codecs and extensions.
    pub fn section(self, direction: &str) -> String {
        let mid = format!("a=extmap:{MID_ID} urn:ietf:params:rtp-hdrext:sdes:mid\r\n");
        match self {
            Self::Audio => format!(
                "m=audio 9 UDP/TLS/RTP/SAVPF {OPUS}\r\na=rtpmap:{OPUS} opus/48000/2\r\n\
                 a=fmtp:{OPUS} minptime=10;useinbandfec=1\r\n{mid}\
                 a=extmap:{LEVEL_ID} urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\na={direction}\r\n"
            ),
            Self::Video => format!(
                "m=video 9 UDP/TLS/RTP/SAVPF {VP8} 97\r\na=rtpmap:{VP8} VP8/90000\r\n\
                 a=rtcp-fb:{VP8} transport-cc\r\na=rtcp-fb:{VP8} ccm fir\r\na=rtcp-fb:{VP8} nack\r\n\
                 a=rtcp-fb:{VP8} nack pli\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt={VP8}\r\n{mid}\
                 a=extmap:{TRANSPORT_ID} http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n\
                 a={direction}\r\n"
            ),
        }
    }

    fn period(self) -> Duration {
        match self {
            Self::Audio => Duration::from_millis(20),
            Self::Video => Duration::from_nanos(1_000_000_000 / 30),
        }
    }
}

/// One published stream.
pub struct Source {
    media: Media,
    ssrc: u32,
    mid: String,
    packets: u64,
    frames: u64,
    /// When the next packet or frame is to leave.
    pub due: Instant,
    /// The next frame is to be a key frame.
    pub key_wanted: bool,
    buffer: Vec<u8>,
}

impl Source {
    pub fn new(media: Media, ssrc: u32, mid: String, start: Instant) -> Self {
        Self {
            media,
            ssrc,
            mid,
            packets: 0,
            frames: 0,
            due: start,
            key_wanted: true,
            buffer: Vec::with_capacity(VIDEO_BYTES + OVERHEAD_MAX),
        }
    }

    /// Writes one packet or one frame; returns how many packets.
    pub fn emit(&mut self, sealer: &Sealer, mut send: impl FnMut(&[u8])) -> u64 {
        let count = match self.media {
            Media::Audio => 1,
            Media::Video => FRAME_PACKETS,
        };
        let key = std::mem::take(&mut self.key_wanted);
        for at in 0..count {
            self.write(at, at + 1 == count, key);
            if let Some(len) = self.seal(sealer) {
                send(&self.buffer[..len]);
            }
            self.packets += 1;
        }
        self.frames += 1;
        self.due += self.media.period();
        count as u64
    }

    fn write(&mut self, at: usize, last: bool, key: bool) {
        let (payload_type, step, bytes) = match self.media {
            Media::Audio => (OPUS, 960, AUDIO_BYTES),
            Media::Video => (VP8, 3000, VIDEO_BYTES),
        };
        let header = FixedHeader {
            marker: self.media == Media::Video && last,
            payload_type,
            sequence: self.packets as u16,
            timestamp: (self.frames * step) as u32,
            ssrc: self.ssrc,
        };
        self.buffer.clear();
        self.buffer.extend(header.to_bytes());
        // The X bit: an extension block follows (RFC 3550 §5.1).
        self.buffer[0] |= 0x10;
        let extensions = self.extensions();
        self.buffer
            .extend([0xBE, 0xDE, 0, (extensions.len() / 4) as u8]);
        self.buffer.extend(extensions);
        if self.media == Media::Video {
            self.describe(at, key);
        }
        self.buffer.resize(bytes, 0x5A);
    }

    /// One-byte elements (RFC 8285 §4.2), padded.
    fn extensions(&self) -> Vec<u8> {
        let mut out = match self.media {
            Media::Audio => vec![LEVEL_ID << 4, LEVEL],
            Media::Video => {
                let [high, low] = (self.packets as u16).to_be_bytes();
                vec![TRANSPORT_ID << 4 | 1, high, low]
            }
        };
        out.push(MID_ID << 4 | (self.mid.len() as u8 - 1));
        out.extend(self.mid.as_bytes());
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    /// The VP8 descriptor with a 15-bit picture id and the start of the frame (RFC 7741 §4.2, §4.3).
    fn describe(&mut self, at: usize, key: bool) {
        let start = if at == 0 { 0x10 } else { 0 };
        let [high, low] = (0x8000 | (self.frames as u16 & 0x7FFF)).to_be_bytes();
        self.buffer.extend([0x80 | start, 0x80, high, low]);
        if at == 0 {
            // Frame tag, start code, 640 x 360.
            self.buffer.extend([0x10 | u8::from(!key), 0, 0]);
            self.buffer
                .extend([0x9D, 0x01, 0x2A, 0x80, 0x02, 0x68, 0x01]);
        }
    }

    fn seal(&mut self, sealer: &Sealer) -> Option<usize> {
        let plain = self.buffer.len();
        let header = 16 + 4 * usize::from(self.buffer[15]);
        self.buffer.resize(plain + OVERHEAD_MAX, 0);
        sealer.seal_rtp(
            header,
            plain,
            ExtSeq(self.packets),
            self.ssrc,
            &mut self.buffer,
        )
    }
}
