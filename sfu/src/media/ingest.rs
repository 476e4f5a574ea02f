//! From a publisher: order, loss, layers, levels. One `track::Track` for each published track, owned
//! by the plane; everything else here is a part of it.

pub mod audio;
pub mod clock;
pub mod formats;
pub mod history;
pub mod key_frames;
pub mod layers;
pub mod loss;
pub mod order;
pub mod outage;
pub mod reception;

pub mod upstream;

pub mod track;
