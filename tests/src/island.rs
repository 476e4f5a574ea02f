//! A network namespace for the test itself: this thread, and all it starts, has a network of its own
//! with nothing but the addresses the test gives it. Needs root.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

/// The namespace; the thread is back where it was when this is dropped.
#[derive(Debug)]
pub struct Island {
    name: String,
    mainland: File,
}

impl Island {
    /// Moves this thread there. There is loopback and nothing else.
    ///
    /// # Panics
    /// Without root or `ip`.
    #[must_use]
    pub fn enter() -> Self {
        let name = format!("foci-island-{}", std::process::id());
        let mainland = File::open("/proc/thread-self/ns/net").expect("a namespace to come from");
        // One of a process of this id that was killed may be left.
        let _ = Command::new("ip")
            .args(["netns", "delete", &name])
            .stderr(Stdio::null())
            .status();
        ip(&format!("netns add {name}"));
        let island = Self { name, mainland };
        let space = File::open(format!("/run/netns/{}", island.name)).expect("it was just made");
        go(&space);
        ip("link set lo up");
        // The clients listen for mDNS.
        ip("route add 224.0.0.0/4 dev lo");
        island
    }

    /// Gives it an address.
    pub fn add(&self, ip_address: &str) {
        ip(&format!("addr add {ip_address}/32 dev lo"));
    }

    /// Takes the address away.
    pub fn remove(&self, ip_address: &str) {
        ip(&format!("addr del {ip_address}/32 dev lo"));
    }
}

impl Drop for Island {
    fn drop(&mut self) {
        go(&self.mainland);
        let removal = Command::new("ip")
            .args(["netns", "delete", &self.name])
            .stderr(Stdio::null())
            .status();
        // A namespace too many does no harm, and a test that fails already must not fail of this.
        drop(removal);
    }
}

fn go(space: &File) {
    let moved = move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network));
    moved.expect("root may change its namespace");
}

fn ip(line: &str) {
    let output = Command::new("ip").args(line.split(' ')).output();
    let output = output.unwrap_or_else(|error| panic!("ip (of iproute2): {error}"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {line}: {complaint}");
}
