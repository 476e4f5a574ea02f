//! The UDP sockets: listeners and relays, batches in (GRO), runs out (GSO). The only file that names
//! quinn-udp and rustix.
//!
//! It never waits and never keeps a datagram: what the kernel does not take is counted and lost, as
//! it would be on the wire.

use super::sends::{Run, Sends};
use crate::address::RelayPort;
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};

/// Socket buffers asked for; the kernel grants what its limit allows.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// Receive buffer of one message: the kernel may join up to 64 KiB of one sender's datagrams.
const RECEIVE_BYTES: usize = 65_536;

/// Messages asked for of a socket that had less than that last time: each costs its preparation.
const FEW: usize = 8;

/// A send that fails in certain ways makes quinn-udp give up batching on its socket, be it the
/// network card's fault or one odd destination's. After so many sends it is tried again.
const BATCHING_AGAIN: u32 = 20_000;

/// What the sockets count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UdpCounters {
    /// System calls that received something.
    pub receives: u64,
    /// Datagrams received.
    pub datagrams_in: u64,
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

/// Which kind of socket a datagram came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Listener,
    Relay(RelayPort),
}

/// A datagram that came in: where, from whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) socket: u32,
    pub(super) kind: Kind,
    /// Our address it was sent to.
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

/// All sockets.
#[derive(Debug)]
pub(super) struct Sockets {
    sockets: Vec<One>,
    buffers: Vec<Vec<u8>>,
    counters: UdpCounters,
}

#[derive(Debug)]
struct One {
    socket: UdpSocket,
    state: UdpSocketState,
    kind: Kind,
    local: SocketAddr,
    readable: bool,
    /// Messages to ask for next.
    ask: usize,
    /// What the kernel said at first of sending several at once.
    can_batch: bool,
    /// Sends since batching was given up.
    single: u32,
}

impl Sockets {
    pub(super) fn new() -> Self {
        Self {
            sockets: Vec::new(),
            buffers: vec![vec![0; RECEIVE_BYTES]; BATCH_SIZE],
            counters: UdpCounters::default(),
        }
    }

    /// Binds a socket and registers it under its index; tells its address.
    pub(super) fn bind(
        &mut self,
        address: SocketAddr,
        kind: Kind,
        registry: &Registry,
    ) -> io::Result<SocketAddr> {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("TURN, udp {address}: {error}"))
        };
        let mut one = bind(address, kind).map_err(named)?;
        let token = Token(self.sockets.len());
        registry.register(&mut one.socket, token, Interest::READABLE)?;
        let local = one.local;
        self.sockets.push(one);
        Ok(local)
    }

    pub(super) fn len(&self) -> usize {
        self.sockets.len()
    }

    /// epoll said that a socket has something.
    pub(super) fn mark_readable(&mut self, index: usize) {
        if let Some(one) = self.sockets.get_mut(index) {
            one.readable = true;
        }
    }

    /// A socket was not read empty: the next pass must not sleep.
    pub(super) fn has_more(&self) -> bool {
        self.sockets.iter().any(|one| one.readable)
    }

    /// Reads one batch of a socket that has something; false if it has no more.
    pub(super) fn receive(
        &mut self,
        index: usize,
        mut take: impl FnMut(Arrival, &mut [u8]),
    ) -> bool {
        let Some(one) = self.sockets.get_mut(index).filter(|one| one.readable) else {
            return false;
        };
        let mut meta = [RecvMeta::default(); BATCH_SIZE];
        let count = match one.receive_batch(&mut self.buffers, &mut meta) {
            Ok(count) => count,
            Err(error) => {
                // Anything but "empty" is a pending ICMP error of some peer: read on later.
                one.readable = error.kind() != io::ErrorKind::WouldBlock;
                return one.readable;
            }
        };
        self.counters.receives += 1;
        // Less than asked for means empty: epoll speaks again when something comes.
        one.readable = count == one.ask;
        one.ask = if one.readable { BATCH_SIZE } else { FEW };
        for (meta, buffer) in meta.iter().zip(self.buffers.iter_mut()).take(count) {
            let local = meta.dst_ip.unwrap_or(one.local.ip());
            let arrival = Arrival {
                socket: index as u32,
                kind: one.kind,
                local: SocketAddr::new(local, one.local.port()),
                remote: meta.addr,
            };
            let len = meta.len.min(buffer.len());
            if len == 0 {
                // A datagram may be empty, and is relayed all the same.
                take(arrival, &mut []);
            }
            for datagram in buffer[..len].chunks_mut(meta.stride.max(1)) {
                self.counters.datagrams_in += 1;
                take(arrival, datagram);
            }
        }
        one.readable
    }

    /// Sends all that was gathered.
    pub(super) fn send(&mut self, sends: &mut Sends) {
        sends.drain(|run| {
            if let Some(one) = self.sockets.get_mut(run.road.socket as usize) {
                one.send_run(run, &mut self.counters);
            }
        });
    }

    pub(super) const fn counters(&self) -> UdpCounters {
        self.counters
    }
}

impl One {
    fn receive_batch(
        &self,
        buffers: &mut [Vec<u8>],
        meta: &mut [RecvMeta; BATCH_SIZE],
    ) -> io::Result<usize> {
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(&mut []));
        for (slice, buffer) in slices.iter_mut().zip(buffers.iter_mut()).take(self.ask) {
            *slice = IoSliceMut::new(buffer);
        }
        let (slices, meta) = (&mut slices[..self.ask], &mut meta[..self.ask]);
        self.state
            .recv(UdpSockRef::from(&self.socket), slices, meta)
    }

    fn send_run(&mut self, run: &Run, counters: &mut UdpCounters) {
        self.try_batching_again();
        if run.bytes.is_empty() {
            return self.send_piece(run, &[], 1, counters);
        }
        let segments = self.state.max_gso_segments().max(1);
        let most = run.segment.saturating_mul(segments).max(1);
        for piece in run.bytes.chunks(most) {
            let count = piece.len().div_ceil(run.segment.max(1)) as u64;
            self.send_piece(run, piece, count, counters);
        }
    }

    fn try_batching_again(&mut self) {
        if !self.can_batch || self.state.max_gso_segments() > 1 {
            return;
        }
        self.single += 1;
        if self.single < BATCHING_AGAIN {
            return;
        }
        self.single = 0;
        if let Ok(state) = UdpSocketState::new(UdpSockRef::from(&self.socket)) {
            self.state = state;
            // Making one has set this its own way.
            let _ = discover_path_mtu(&self.socket, self.local.ip(), false);
        }
    }

    fn send_piece(&self, run: &Run, piece: &[u8], count: u64, counters: &mut UdpCounters) {
        let transmit = Transmit {
            destination: run.road.to,
            ecn: None,
            contents: piece,
            segment_size: (count > 1).then_some(run.segment),
            src_ip: run.road.from,
        };
        counters.sends += 1;
        let sent = if run.road.dont_fragment {
            self.send_whole(&transmit)
        } else {
            self.state
                .try_send(UdpSockRef::from(&self.socket), &transmit)
        };
        match sent {
            Ok(()) => counters.datagrams_out += count,
            Err(error) => self.count_loss(&error, count, counters),
        }
    }

    /// With DF set whatever the size. (RFC 8656 §14) Rare enough for two more system calls.
    fn send_whole(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        discover_path_mtu(&self.socket, self.local.ip(), true)?;
        let sent = self
            .state
            .try_send(UdpSockRef::from(&self.socket), transmit);
        discover_path_mtu(&self.socket, self.local.ip(), false)?;
        sent
    }

    fn count_loss(&self, error: &io::Error, count: u64, counters: &mut UdpCounters) {
        let lost = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => &mut counters.lost_full,
            io::ErrorKind::PermissionDenied => &mut counters.lost_firewall,
            _ if quinn_udp::is_msg_size_err(error) => &mut counters.lost_size,
            _ => &mut counters.lost_other,
        };
        if *lost == 0 {
            tracing::debug!(local = %self.local, %error, "TURN: datagrams cannot be sent; further losses are only counted");
        }
        *lost += count;
    }
}

fn bind(address: SocketAddr, kind: Kind) -> io::Result<One> {
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
    // quinn-udp switches the kernel's path-MTU handling off for QUIC's own. We have none: back to
    // the default, so that a large packet is fragmented rather than lost on a narrow path.
    discover_path_mtu(&socket, address.ip(), false)?;
    for set in [
        UdpSocketState::set_send_buffer_size,
        UdpSocketState::set_recv_buffer_size,
    ] {
        if let Err(error) = set(&state, UdpSockRef::from(&socket), SOCKET_BUFFER_BYTES) {
            tracing::debug!(%address, %error, "TURN: a UDP buffer keeps its size");
        }
    }
    let local = socket.local_addr()?;
    Ok(One {
        can_batch: state.max_gso_segments() > 1,
        single: 0,
        socket,
        state,
        kind,
        local,
        readable: true,
        ask: FEW,
    })
}

/// The kernel's default, or strictly no fragment.
fn discover_path_mtu(socket: &UdpSocket, ip: IpAddr, strictly: bool) -> io::Result<()> {
    match (ip, strictly) {
        (IpAddr::V4(_), false) => sockopt::set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::WANT),
        (IpAddr::V4(_), true) => sockopt::set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::DO),
        (IpAddr::V6(_), false) => {
            sockopt::set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::WANT)
        }
        (IpAddr::V6(_), true) => sockopt::set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::DO),
    }?;
    Ok(())
}
