//! From a publisher: order, loss, layers, levels.
pub mod audio;
pub mod clock;
pub mod history;
pub mod layers;
pub mod loss;
pub mod track;
pub mod upstream;
