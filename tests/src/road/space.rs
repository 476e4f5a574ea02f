//! A network namespace whose only way out is a TUN device, and the device at this end of it.

use std::net::Ipv4Addr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::process::Command;
use tun_rs::{AsyncDevice, DeviceBuilder};

/// Counts those of this process.
static COUNT: AtomicU8 = AtomicU8::new(0);

/// The namespace, gone when dropped; the devices go with whoever holds them.
#[derive(Debug)]
pub(super) struct Space {
    name: String,
    /// This machine, as seen from there.
    pub(super) here: Ipv4Addr,
    /// Where those in there are seen from here.
    pub(super) public: Ipv4Addr,
}

impl Space {
    /// Makes it, and its device and ours.
    ///
    /// # Panics
    /// When this machine does not let us.
    pub(super) async fn make() -> (Self, [Arc<AsyncDevice>; 2]) {
        let process = std::process::id();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // Of the range for tests of networks (RFC 2544). One process has one road at a time, or two;
        // another process at the same time mostly has another id.
        let net = [198, 18 | (count & 1), (process % 256) as u8];
        let at = |host| Ipv4Addr::new(net[0], net[1], net[2], host);
        let space = Self {
            name: format!("foci-{process}-{count}"),
            here: at(1),
            public: at(2),
        };
        let [near, far] = [0, 1].map(|_| device());
        let device_of = |device: &AsyncDevice| device.name().expect("a device has a name");
        let (inner, outer) = (device_of(&near), device_of(&far));
        // One of a process of this id that was killed may be left.
        let _ = Command::new("ip")
            .args(["netns", "delete", &space.name])
            .stderr(Stdio::null())
            .status()
            .await;
        ip(&["netns", "add", &space.name]).await;
        ip(&["link", "set", &inner, "netns", &space.name]).await;
        for line in [
            "link set lo up",
            &format!("addr add 192.168.77.2/24 dev {inner}"),
            &format!("link set {inner} up"),
            &format!("route add default dev {inner}"),
        ] {
            let inside = ["-n", &space.name];
            let words: Vec<&str> = inside.into_iter().chain(line.split(' ')).collect();
            ip(&words).await;
        }
        ip(&["addr", "add", &format!("{}/24", space.here), "dev", &outer]).await;
        ip(&["link", "set", &outer, "up"]).await;
        (space, [Arc::new(near), Arc::new(far)])
    }

    /// Runs a program in it.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let removal = std::process::Command::new("ip")
            .args(["netns", "delete", &self.name])
            .stderr(Stdio::null())
            .status();
        // A namespace too many does no harm, and a test that fails already must not fail of this.
        drop(removal);
    }
}

fn device() -> AsyncDevice {
    let device = DeviceBuilder::new().enable(false).build_async();
    device.unwrap_or_else(|error| panic!("the impaired link needs root and /dev/net/tun: {error}"))
}

async fn ip(words: &[&str]) {
    let output = Command::new("ip").args(words).output().await;
    let output = output.unwrap_or_else(|error| panic!("ip (of iproute2): {error}"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {words:?}: {complaint}");
}
