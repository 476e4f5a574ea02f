//! What the network does: feedback to publishers, quality scores.

pub mod feedback;
pub mod score;
