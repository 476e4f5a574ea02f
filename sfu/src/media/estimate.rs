//! What the network does: feedback to publishers, quality scores, loss that lasts.

pub mod feedback;
pub mod heavy_loss;
pub mod score;
