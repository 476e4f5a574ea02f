//! A room decides: commands and time in, effects out.

pub mod command;
pub mod effect;

pub mod demand;
pub mod participant;
pub mod permission;
pub mod publication;
pub mod quality;
pub mod roster;
pub mod speakers;
pub mod subscription;
