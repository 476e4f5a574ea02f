//! To a subscriber: which packet, with which numbers.
pub mod select;

pub mod rewrite;

pub mod feedback;
pub mod report;

pub mod downstream;
