//! Simulcast layers from what an offer names.
//!
//! Owns the order of rids (LK: signalling §6.6). Called by `line.rs`.

use crate::media::message::NegotiatedLayer;
use crate::media::transport::sdp::Streams;

/// Spatial layers a track may have.
const MAX_LAYERS: usize = 3;
/// Rid families with a known order, lowest layer first.
const FAMILIES: [[&str; MAX_LAYERS]; 2] = [["q", "h", "f"], ["2", "1", "0"]];

/// The layers of a section's streams, lowest first; one without a rid if there is no simulcast.
///
/// Whatever qualities were announced, they take the rids from the lowest up, so a layer's spatial
/// number is its rid's rank. Rids of no known family rank as they stand in the SDP.
pub(super) fn layers(streams: &Streams) -> Vec<NegotiatedLayer> {
    let mut rids: Vec<&str> = streams.rids.iter().map(String::as_str).collect();
    for family in FAMILIES {
        if rids.iter().all(|rid| family.contains(rid)) {
            rids.sort_by_key(|rid| family.iter().position(|known| known == rid));
        }
    }
    if rids.is_empty() {
        // Layers told apart by `ssrc-group:SIM`, or a single one.
        rids.resize(streams.sim.len().max(1), "");
    }
    let ranked = (0u8..).zip(rids.into_iter().take(MAX_LAYERS));
    let layer = |(spatial, rid): (u8, &str)| NegotiatedLayer {
        spatial,
        rid: rid.to_owned(),
    };
    ranked.map(layer).collect()
}
