//! A room decides: commands and time in, effects out.

pub mod command;
pub mod effect;

pub mod permission;
pub mod publication;
pub mod subscription;
pub mod participant;
pub mod roster;
pub mod demand;
pub mod speakers;
pub mod quality;
