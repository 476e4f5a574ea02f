//! What must hold of every way between a client and its server, whatever carries it.
//!
//! Owns fingerprints of what was sent. Called by the world where something leaves and where it
//! arrives.

use super::{Broken, Invariant, broken, print};
use std::collections::{HashSet, VecDeque};

/// What one connection of a client and its server have sent each other.
#[derive(Debug, Default)]
pub struct Ledger {
    up: HashSet<u64>,
    down: HashSet<u64>,
}

impl Ledger {
    /// The client sends a datagram.
    pub fn sent_up(&mut self, datagram: &[u8]) {
        self.up.insert(print(datagram));
    }

    /// The server does.
    pub fn sent_down(&mut self, datagram: &[u8]) {
        self.down.insert(print(datagram));
    }

    /// A datagram reaches the server.
    ///
    /// # Errors
    /// [`Invariant::AsSent`].
    pub fn came_up(&self, datagram: &[u8]) -> Result<(), Broken> {
        as_sent(&self.up, datagram, "to the server")
    }

    /// A datagram reaches the client.
    ///
    /// # Errors
    /// [`Invariant::AsSent`].
    pub fn came_down(&self, datagram: &[u8]) -> Result<(), Broken> {
        as_sent(&self.down, datagram, "to the client")
    }
}

fn as_sent(sent: &HashSet<u64>, datagram: &[u8], to: &str) -> Result<(), Broken> {
    if sent.contains(&print(datagram)) {
        return Ok(());
    }
    let what = format!("{} bytes {to} that nobody sent so", datagram.len());
    broken(Invariant::AsSent, what)
}

/// The frames a server has put into one TCP connection.
#[derive(Debug, Default)]
pub struct Frames {
    sent: VecDeque<u64>,
    /// Frames that never came, for later ones have.
    left_out: u64,
}

impl Frames {
    /// The server hands a datagram to the connection.
    pub fn sent(&mut self, datagram: &[u8]) {
        self.sent.push_back(print(datagram));
    }

    /// A frame has come to the client; `dropped` frames the server has counted as dropped.
    ///
    /// # Errors
    /// [`Invariant::InTurn`] or [`Invariant::Counted`].
    pub fn came(&mut self, datagram: &[u8], dropped: u64) -> Result<(), Broken> {
        let print = print(datagram);
        loop {
            match self.sent.pop_front() {
                Some(sent) if sent == print => break,
                Some(_) => self.left_out += 1,
                None => {
                    let what = format!("a frame of {} bytes out of its turn", datagram.len());
                    return broken(Invariant::InTurn, what);
                }
            }
        }
        if self.left_out > dropped {
            return self.miscounted(dropped);
        }
        Ok(())
    }

    /// The end, with so many frames counted as dropped.
    ///
    /// # Errors
    /// [`Invariant::Counted`].
    pub fn close(&self, dropped: u64) -> Result<(), Broken> {
        // What is still on its way may have been dropped or not.
        let most = self.left_out + self.sent.len() as u64;
        if (self.left_out..=most).contains(&dropped) {
            return Ok(());
        }
        self.miscounted(dropped)
    }

    fn miscounted(&self, dropped: u64) -> Result<(), Broken> {
        let what = format!("{} frames left out, {dropped} counted", self.left_out);
        broken(Invariant::Counted, what)
    }
}
