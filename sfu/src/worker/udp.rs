//! The ICE-UDP mux sockets: batches in (GRO), runs out (GSO). The only file that names quinn-udp.
//!
//! It never waits and never keeps a datagram: what the kernel does not take is counted and lost,
//! as it would be on the wire.

use crate::config::faults::Point;
use crate::faults::Faults;
use crate::media::demux::{Carrier, Path};
use crate::media::pacer::Run;
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;

/// Socket buffers asked for; key frames to many subscribers leave in one burst. (LK asks the same.)
const SOCKET_BUFFER_BYTES: usize = 16 << 20;
/// Below this the kernel's limit will cost packets under load. (LK: ops §8.3)
const RECEIVE_BUFFER_ENOUGH: usize = 5_000_000;
/// Receive buffer of one message: the kernel may join up to 64 KiB of one sender's datagrams.
const RECEIVE_BYTES: usize = 65_536;

/// What the sockets count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UdpCounters {
    /// System calls that sent.
    pub sends: u64,
    /// Datagrams sent.
    pub datagrams_out: u64,
    /// Datagrams the kernel had no room for.
    pub lost_full: u64,
    /// Datagrams larger than the path takes.
    pub lost_size: u64,
    /// Datagrams refused by the firewall.
    pub lost_firewall: u64,
    /// Datagrams lost to any other error.
    pub lost_other: u64,
}

/// The sockets of one worker.
#[derive(Debug)]
pub struct UdpMux {
    sockets: Vec<MuxSocket>,
    buffers: Vec<Vec<u8>>,
    counters: UdpCounters,
}

#[derive(Debug)]
struct MuxSocket {
    socket: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    readable: bool,
    faults: Faults,
}

impl UdpMux {
    /// Binds one socket for each address and registers it under its index.
    ///
    /// # Errors
    /// The address that cannot be bound is named.
    pub fn bind(
        addresses: &[SocketAddr],
        registry: &Registry,
        faults: &Faults,
    ) -> io::Result<Self> {
        let mut sockets = Vec::with_capacity(addresses.len());
        for (index, address) in addresses.iter().enumerate() {
            let mut bound = bind(*address)
                .map_err(|error| io::Error::new(error.kind(), format!("udp {address}: {error}")))?;
            bound.faults = faults.clone();
            registry.register(&mut bound.socket, Token(index), Interest::READABLE)?;
            sockets.push(bound);
        }
        warn_of_small_buffers(&sockets);
        Ok(Self {
            sockets,
            buffers: vec![vec![0; RECEIVE_BYTES]; BATCH_SIZE],
            counters: UdpCounters::default(),
        })
    }

    /// epoll said that socket `index` has something.
    pub fn mark_readable(&mut self, index: usize) {
        if let Some(socket) = self.sockets.get_mut(index) {
            socket.readable = true;
        }
    }

    /// A socket was not read empty: the next pass must not sleep.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.sockets.iter().any(|socket| socket.readable)
    }

    /// Reads one batch from each socket that has something.
    pub fn receive(&mut self, mut take: impl FnMut(Path, &mut [u8])) {
        for (index, socket) in self.sockets.iter_mut().enumerate() {
            if socket.readable {
                socket.receive_batch(index as u8, &mut self.buffers, &mut take);
            }
        }
    }

    /// Sends a run by the socket of this number.
    pub fn send(&mut self, socket: u8, run: &Run<'_, Path>) {
        if let Some(socket) = self.sockets.get(usize::from(socket)) {
            socket.send_run(run, &mut self.counters);
        }
    }

    /// Totals since the start.
    #[must_use]
    pub const fn counters(&self) -> UdpCounters {
        self.counters
    }
}

impl MuxSocket {
    fn receive_batch(
        &mut self,
        index: u8,
        buffers: &mut [Vec<u8>],
        take: &mut impl FnMut(Path, &mut [u8]),
    ) {
        let mut meta = [RecvMeta::default(); BATCH_SIZE];
        let received = {
            let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
                std::array::from_fn(|_| IoSliceMut::new(&mut []));
            for (slice, buffer) in slices.iter_mut().zip(buffers.iter_mut()) {
                *slice = IoSliceMut::new(buffer);
            }
            let most = if self.faults.strike(Point::UdpShortRead) {
                1
            } else {
                BATCH_SIZE
            };
            let socket = UdpSockRef::from(&self.socket);
            self.state
                .recv(socket, &mut slices[..most], &mut meta[..most])
        };
        let count = match received {
            Ok(count) => count,
            Err(error) => {
                // Anything but "empty" is a pending ICMP error of some destination: read on later.
                self.readable = error.kind() != io::ErrorKind::WouldBlock;
                return;
            }
        };
        for (meta, buffer) in meta.iter().zip(buffers.iter_mut()).take(count) {
            let path = Path {
                carrier: Carrier::Udp(index),
                local: meta.dst_ip,
                port: 0,
                remote: meta.addr,
            };
            let len = meta.len.min(buffer.len());
            for datagram in buffer[..len].chunks_mut(meta.stride.max(1)) {
                take(path, datagram);
            }
        }
    }

    fn send_run(&self, run: &Run<'_, Path>, counters: &mut UdpCounters) {
        let segments = self.state.max_gso_segments().max(1);
        for piece in run
            .bytes
            .chunks(run.segment.saturating_mul(segments).max(1))
        {
            let count = piece.len().div_ceil(run.segment.max(1)) as u64;
            let transmit = Transmit {
                destination: run.to.remote,
                ecn: None,
                contents: piece,
                segment_size: (count > 1).then_some(run.segment),
                src_ip: run.to.local,
            };
            counters.sends += 1;
            match self.try_send(&transmit) {
                Ok(()) => counters.datagrams_out += count,
                Err(error) => self.count_loss(&error, count, counters),
            }
        }
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.faults.strike(Point::UdpSendFull) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if self.faults.strike(Point::UdpSendError) {
            return Err(io::ErrorKind::NetworkUnreachable.into());
        }
        let socket = UdpSockRef::from(&self.socket);
        self.state.try_send(socket, transmit)
    }

    fn count_loss(&self, error: &io::Error, count: u64, counters: &mut UdpCounters) {
        let lost = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => &mut counters.lost_full,
            io::ErrorKind::PermissionDenied => &mut counters.lost_firewall,
            _ if quinn_udp::is_msg_size_err(error) => &mut counters.lost_size,
            _ => &mut counters.lost_other,
        };
        if *lost == 0 {
            tracing::warn!(local = %self.local, %error, "datagrams cannot be sent; further losses are only counted");
        }
        *lost += count;
    }
}

/// Binds one mux socket with large buffers.
fn bind(address: SocketAddr) -> io::Result<MuxSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    let socket = UdpSocket::from_std(socket.into());
    let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
    restore_path_mtu_discovery(&socket, address)?;
    enlarge_buffers(&socket, &state, address);
    let local = socket.local_addr()?;
    Ok(MuxSocket {
        socket,
        state,
        local,
        readable: true,
        faults: Faults::default(),
    })
}

/// quinn-udp switches the kernel's path-MTU handling off for QUIC's own discovery. We have none:
/// back to the default, so that a large packet is fragmented rather than lost on a narrow path.
fn restore_path_mtu_discovery(socket: &UdpSocket, address: SocketAddr) -> io::Result<()> {
    use rustix::net::sockopt;
    if address.is_ipv6() {
        sockopt::set_ipv6_mtu_discover(socket, sockopt::Ipv6PathMtuDiscovery::WANT)?;
    } else {
        sockopt::set_ip_mtu_discover(socket, sockopt::Ipv4PathMtuDiscovery::WANT)?;
    }
    Ok(())
}

fn enlarge_buffers(socket: &UdpSocket, state: &UdpSocketState, address: SocketAddr) {
    let reference = UdpSockRef::from(socket);
    if let Err(error) = state.set_send_buffer_size(reference, SOCKET_BUFFER_BYTES) {
        tracing::warn!(%address, %error, "UDP send buffer keeps its size");
    }
    let reference = UdpSockRef::from(socket);
    if let Err(error) = state.set_recv_buffer_size(reference, SOCKET_BUFFER_BYTES) {
        tracing::warn!(%address, %error, "UDP receive buffer keeps its size");
    }
}

/// One warning for all sockets: they are granted the same.
fn warn_of_small_buffers(sockets: &[MuxSocket]) {
    let granted = |one: &MuxSocket| {
        let size = one.state.recv_buffer_size(UdpSockRef::from(&one.socket));
        // The kernel reports twice what it grants.
        size.unwrap_or(0) / 2
    };
    let granted = sockets.iter().map(granted).min();
    if let Some(granted) = granted.filter(|granted| *granted < RECEIVE_BUFFER_ENOUGH) {
        tracing::warn!(
            current = granted,
            suggested = RECEIVE_BUFFER_ENOUGH,
            fix = "sysctl -w net.core.rmem_max=16777216 net.core.wmem_max=16777216",
            "UDP receive buffer is too small for a production set-up"
        );
    }
}
