//! To a subscriber: which packet, with which numbers.
pub mod downstream;
pub mod feedback;
pub mod report;
pub mod rewrite;
pub mod select;
