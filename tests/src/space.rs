//! A network namespace: what is made in it, what runs in it, and a thread that goes there for a while.
//!
//! Owns its name and its end. Needs root, `ip`, and `nft` for rules; [`refusal`] tells what is missing.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The namespace, gone when dropped, with all devices in it.
#[derive(Debug)]
pub struct Space {
    name: String,
}

impl Space {
    /// Makes one with nothing in it but loopback.
    ///
    /// # Panics
    /// When this machine does not let us.
    #[must_use]
    pub fn make(name: String) -> Self {
        // One of a process of this id that was killed may be left.
        delete(&name);
        ip(&format!("netns add {name}"));
        let space = Self { name };
        space.ip("link set lo up");
        space
    }

    /// Runs `ip` in it, as this line says.
    ///
    /// # Panics
    /// When it fails.
    pub fn ip(&self, line: &str) {
        ip(&format!("-n {} {line}", self.name));
    }

    /// Joins a device of it with one of another space by a wire: `lan`, `router`, `wan`.
    pub fn wire(&self, device: &str, other: &Self, its: &str) {
        self.ip(&format!(
            "link add {device} type veth peer name {its} netns {}",
            other.name
        ));
    }

    /// The same with a device of where this thread is.
    pub fn wire_here(&self, device: &str, here: &str) {
        let name = &self.name;
        ip(&format!(
            "link add {here} type veth peer name {device} netns {name}"
        ));
    }

    /// Gives a device these addresses, each with its prefix, and switches it on.
    pub fn address(&self, device: &str, addresses: &[String]) {
        for address in addresses {
            self.ip(&format!(
                "addr add {address} dev {device}{}",
                nodad(address)
            ));
        }
        self.ip(&format!("link set {device} up"));
    }

    /// Packets pass through it.
    pub fn forward(&self) {
        let files = "/proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding";
        self.run(&["sh", "-c", &format!("echo 1 | tee {files}")], "");
    }

    /// Adds rules of nftables.
    pub fn rules(&self, rules: &str) {
        self.run(&["nft", "-f", "-"], rules);
    }

    /// What programs in it find in this file below `/etc`.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn etc(&self, file: &str, text: &str) {
        let file = self.folder().join(file);
        let made = file.parent().map(fs::create_dir_all);
        assert!(matches!(made, Some(Ok(()))), "{made:?}");
        fs::write(&file, text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }

    /// Runs a program in it, with this at its standard input.
    fn run(&self, words: &[&str], input: &str) {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).args(words);
        succeed(command, input);
    }

    /// A program to be run in it.
    #[must_use]
    pub fn command(&self, program: &str) -> tokio::process::Command {
        let mut command = tokio::process::Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Moves this thread there, and all it starts from now on; it is back when what is returned is dropped.
    ///
    /// # Panics
    /// When this machine does not let us.
    #[must_use]
    pub fn visit(&self) -> Visit {
        let visit = Visit {
            home: File::open("/proc/thread-self/ns/net").expect("a namespace to come from"),
        };
        go(&File::open(format!("/run/netns/{}", self.name)).expect("it is there"));
        visit
    }

    /// What `ip netns exec` lays over `/etc`.
    fn folder(&self) -> PathBuf {
        PathBuf::from("/etc/netns").join(&self.name)
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        // A namespace or a folder too many does no harm, and a test that fails already must not fail of
        // this.
        let _ = fs::remove_dir_all(self.folder());
        delete(&self.name);
    }
}

/// This thread is in another namespace until this is dropped.
#[derive(Debug)]
pub struct Visit {
    home: File,
}

impl Drop for Visit {
    fn drop(&mut self) {
        go(&self.home);
    }
}

/// Whether this process may install what is missing.
#[must_use]
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|of_process| of_process.uid() == 0)
}

/// Why no namespace with rules can be made here; `None`: it can.
#[must_use]
pub fn refusal() -> Option<&'static str> {
    static REFUSAL: OnceLock<Option<String>> = OnceLock::new();
    let found = REFUSAL.get_or_init(|| {
        if !is_root() {
            return Some("network namespaces need root".to_owned());
        }
        let name = format!("foci-probe-{}", std::process::id());
        delete(&name);
        let probe = ["netns", "exec", &name, "nft", "list", "ruleset"];
        let tried = [&["netns", "add", &name][..], &probe]
            .iter()
            .find_map(|words| {
                let output = Command::new("ip").args(*words).output();
                match output {
                    Ok(output) if output.status.success() => None,
                    Ok(output) => {
                        let complaint = String::from_utf8_lossy(&output.stderr);
                        Some(format!("ip {}: {}", words.join(" "), complaint.trim()))
                    }
                    Err(error) => Some(format!("ip (of iproute2): {error}")),
                }
            });
        delete(&name);
        tried
    });
    found.as_deref()
}

/// Runs `ip` where this thread is, as this line says.
///
/// # Panics
/// When it fails.
pub fn ip(line: &str) {
    let mut command = Command::new("ip");
    command.args(line.split(' '));
    succeed(command, "");
}

/// An IPv6 address is used at once, without asking whether somebody else has it.
#[must_use]
pub fn nodad(address: &str) -> &'static str {
    if address.contains(':') { " nodad" } else { "" }
}

fn go(space: &File) {
    let moved = move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network));
    moved.expect("root may change its namespace");
}

fn delete(name: &str) {
    // Mostly there is none.
    let _ = Command::new("ip")
        .args(["netns", "delete", name])
        .stderr(Stdio::null())
        .status();
}

fn succeed(mut command: Command, input: &str) {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn();
    let mut child = child.unwrap_or_else(|error| panic!("ip (of iproute2): {error}"));
    let mut pipe = child.stdin.take().expect("a pipe");
    // One that fails may read nothing.
    let _ = pipe.write_all(input.as_bytes());
    drop(pipe);
    let output = child.wait_with_output().expect("it ends");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {complaint}\n{input}");
}
