//! Hears from the kernel that addresses or routes have changed; what has changed is looked up.
//! (rtnetlink(7))

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use std::io;
use std::os::fd::OwnedFd;
use tokio::io::unix::AsyncFd;

/// RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR: routes of IPv6 change with each
/// announcement of a router and say nothing. (linux/rtnetlink.h)
const GROUPS: u32 = 0x10 | 0x40 | 0x100;
/// What is read at a time, and thrown away.
const MESSAGE_BYTES: usize = 8192;

/// The kernel's notices, as long as there are any.
pub(super) struct Netlink(Option<AsyncFd<OwnedFd>>);

impl Netlink {
    /// Subscribes. Where that is not allowed, there are just no notices.
    pub(super) fn open() -> Self {
        let opened = subscribe();
        if let Err(error) = &opened {
            tracing::warn!(%error, "changes of the interfaces are noticed late: no netlink");
        }
        Self(opened.ok())
    }

    /// Returns when something has changed.
    pub(super) async fn changed(&mut self) {
        let Some(socket) = &self.0 else {
            return std::future::pending().await;
        };
        if let Err(error) = read_empty(socket).await {
            tracing::warn!(%error, "changes of the interfaces are noticed late: netlink ended");
            self.0 = None;
        }
    }
}

async fn read_empty(socket: &AsyncFd<OwnedFd>) -> io::Result<()> {
    let mut ready = socket.readable().await?;
    let mut message = [0; MESSAGE_BYTES];
    loop {
        match recv(socket, &mut message, RecvFlags::empty()) {
            Ok(_) => {}
            Err(Errno::AGAIN) => {
                ready.clear_ready();
                return Ok(());
            }
            // Notices were lost: something has changed all the more.
            Err(Errno::NOBUFS | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn subscribe() -> io::Result<AsyncFd<OwnedFd>> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    // Without another protocol it is NETLINK_ROUTE, which is 0.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
    #[expect(
        deprecated,
        reason = "its successor is unsafe, for descriptors that others may close; this one is owned"
    )]
    AsyncFd::new(socket)
}
