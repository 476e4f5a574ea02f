//! A room as its clients and media see it: commands in, effects out, time turned by hand.

mod harness;

mod dynacast;
mod joining;
mod leaving;
mod negotiating;
mod profile;
mod publishing;
mod random;
mod resuming;
mod roster;
mod signs;
mod subscribing;
