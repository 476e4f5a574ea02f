//! What every parser and state machine must hold for any bytes: one function for each.
//!
//! Owns the targets and their limits; draws no inputs. libFuzzer drives them (`tests/fuzz/run`,
//! or `cargo fuzz` from `tests`), and a replay of the committed corpora in the ordinary tests.

mod channels;
mod datagram;
mod description;
mod framing;
mod greeting;
mod input;
mod openid;
mod participant;
mod rtcp;
mod rtp;
mod settings;
mod stun;
mod track;
mod turn;
mod wire;

use std::sync::OnceLock;
use std::time::Instant;

/// What is run with an input.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// Panics where something does not hold.
    pub run: fn(&[u8]),
    /// The most heap a run may hold at once, what the target needs for its checks included.
    pub heap: u64,
    /// Its share of a long run: the quicker the more.
    pub share: u64,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

const fn target(name: &'static str, run: fn(&[u8]), heap: u64, share: u64) -> Target {
    Target {
        name,
        run,
        heap,
        share,
    }
}

/// All targets.
pub const TARGETS: &[Target] = &[
    target("rtp", rtp::rtp, 0, 100),
    target("extension", rtp::extension, 512 * KIB, 60),
    target("vp8", rtp::vp8, 128 * KIB, 100),
    target("h264", rtp::h264, 0, 100),
    target("red", rtp::red, 0, 100),
    target("trailer", rtp::trailer, 0, 60),
    target("rtcp", rtcp::rtcp, 512 * KIB, 60),
    target("twcc", rtcp::twcc, 4 * MIB, 60),
    target("stun", stun::stun, 256 * KIB, 60),
    target("stun_answer", stun::stun_answer, 64 * KIB, 100),
    target("greeting", greeting::greeting, 128 * KIB, 40),
    target("demux", datagram::demux, MIB, 10),
    target("srtp", datagram::srtp, 2 * MIB, 10),
    target("framing", framing::framing, 4 * MIB, 40),
    target("dcep", channels::dcep, 64 * KIB, 100),
    target("sctp", channels::sctp, 8 * MIB, 4),
    target("data_channels", channels::data_channels, 8 * MIB, 4),
    target("sdp", description::sdp, 16 * MIB, 4),
    target("negotiation", description::negotiation, 16 * MIB, 1),
    target("offering", description::offering, 16 * MIB, 2),
    target("data_packet", wire::data_packet, 16 * MIB, 40),
    target("signal_protobuf", wire::signal_protobuf, 16 * MIB, 20),
    target("signal_json", wire::signal_json, 16 * MIB, 20),
    target("join_request", wire::join_request, 16 * MIB, 20),
    target("parameters", wire::parameters, 4 * MIB, 20),
    target("token", wire::token, 4 * MIB, 10),
    target("openid_request", openid::openid_request, 4 * MIB, 30),
    target("well_known", openid::well_known, 4 * MIB, 30),
    target("config", settings::config, 16 * MIB, 2),
    target("track", track::track, 8 * MIB, 4),
    target("turn_message", turn::message, 64 * KIB, 60),
    target("turn_stream", turn::stream, 128 * KIB, 60),
    target("turn_server", turn::server, 2 * MIB, 10),
    target("participant", participant::participant, 64 * MIB, 1),
];

impl Target {
    /// The target of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// Runs it with an input, and holds it to its limit.
    ///
    /// # Panics
    /// Something does not hold.
    pub fn check(&self, bytes: &[u8]) {
        let used = allocation_counter::measure(|| (self.run)(bytes));
        assert!(
            used.bytes_max <= self.heap,
            "{}: {} bytes of heap at once, for {} bytes of input",
            self.name,
            used.bytes_max,
            bytes.len()
        );
    }
}

/// Some moment; the same for all of a process.
pub(crate) fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
    *ORIGIN.get_or_init(Instant::now)
}
