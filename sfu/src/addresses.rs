//! Finds out under which addresses clients reach the media sockets, and goes on doing so.
//!
//! Owns the questions: what the interfaces have, what a name has, what a STUN server sees, and when
//! each is asked again. What is made of the answers `advertise` decides. The only file that names
//! if-addrs.

mod netlink;
mod stun;
mod temporary;

use crate::advertise::{self, Advertiser, Belief, Change, Family, Interface};
use crate::config::check::Rtc;
use crate::config::cidr::Cidr;
use crate::config::ports::PortRange;
use crate::media::sighting::Sighting;
use netlink::Netlink;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep, sleep_until, timeout};

/// After a change of the interfaces further ones are waited for: an address, its route, the other
/// family.
const SETTLE: Duration = Duration::from_millis(200);
/// How long a connection to ourselves may take.
const INSIDE_WITHIN: Duration = Duration::from_secs(3);
/// How long a look-up of a name may take.
const NAME_WITHIN: Duration = Duration::from_secs(5);
/// Names and STUN servers are not asked more often, however often something changes here.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// Until an address is known, all are asked again after this.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// An answer that changes something is asked for a second time after this.
const DOUBT_FOR: Duration = Duration::from_millis(300);
/// Clients that fall silent may be so because our address has changed: all is looked at again for it, but not
/// more often than this.
const SILENCE_EVERY: Duration = Duration::from_secs(10);
/// What clients see of us waits here; what has no place comes again within a minute.
pub const SIGHTINGS: usize = 1024;
/// So many of them are taken at once.
const SIGHTINGS_AT_ONCE: usize = 256;
/// A change that could not be told is told again after this.
const TELL_AGAIN: Duration = Duration::from_secs(1);

/// The addresses the media sockets bind: everything, in both families where the machine has them.
#[must_use]
pub fn bind(port: u16) -> Vec<SocketAddr> {
    let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    match UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)) {
        Ok(_) => vec![v4, v6],
        Err(_) => vec![v4],
    }
}

/// The first port of the range that nobody has in any family; the first of all if all are taken, so that
/// binding it says why.
#[must_use]
pub fn free_port(range: PortRange) -> u16 {
    let is_free = |port: &u16| bind(*port).iter().all(|at| UdpSocket::bind(at).is_ok());
    let found = range.ports().find(is_free);
    if let Some(port) = found.filter(|port| *port != range.first()) {
        tracing::warn!(
            taken = range.first(),
            rtc.portUDP = port,
            ports = %range,
            "another program has the first port of the media range: media has a later one, by which nobody \
             comes unless all of these are forwarded (foci ports); a range below those that the system gives to \
             connections (net.ipv4.ip_local_port_range) keeps the first one free"
        );
    }
    found.unwrap_or(range.first())
}

/// What the interfaces have now.
///
/// # Errors
/// They cannot be listed.
pub fn interfaces() -> io::Result<Vec<Interface>> {
    let list = if_addrs::get_if_addrs()?.into_iter();
    let temporary = temporary::list();
    let up = list.filter(if_addrs::Interface::is_oper_up);
    let of = up.map(|one| Interface {
        ip: one.ip(),
        temporary: temporary.contains(&one.ip()),
        name: one.name,
    });
    Ok(of.collect())
}

/// The address from which this machine reaches others, where a router would forward to: that of its
/// default route. Nothing is sent.
#[must_use]
pub fn towards_others() -> Option<IpAddr> {
    const SOMEBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(SOMEBODY).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified() && !ip.is_loopback()).then_some(ip)
}

/// What is this machine, and what is next to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// Every address, loopback included.
    pub ips: Vec<IpAddr>,
    /// The network of each, as its interface has it.
    pub links: Vec<Cidr>,
}

impl Machine {
    /// As it is now.
    ///
    /// # Errors
    /// The interfaces cannot be listed.
    pub fn look() -> io::Result<Self> {
        let list = if_addrs::get_if_addrs()?;
        let mut networks: Vec<(IpAddr, u8)> = list
            .iter()
            .filter(|one| one.is_oper_up())
            .map(|one| match &one.addr {
                if_addrs::IfAddr::V4(v4) => (v4.ip.into(), v4.prefixlen),
                if_addrs::IfAddr::V6(v6) => (v6.ip.into(), v6.prefixlen),
            })
            .collect();
        networks.sort_unstable();
        let links = networks
            .iter()
            .filter_map(|(ip, bits)| Cidr::new(*ip, *bits).ok());
        let links = links.collect();
        let mut ips: Vec<IpAddr> = networks.iter().map(|(ip, _)| *ip).collect();
        ips.dedup();
        Ok(Self { ips, links })
    }
}

/// Tells the operator whether our public address leads back here from inside: whether its port is
/// forwarded, and the router turns packets of the own network around. It decides nothing; many
/// routers forward and do not turn around. (LK: server ops §8.2 gives up such an address)
pub async fn try_from_inside(at: SocketAddr) {
    match timeout(INSIDE_WITHIN, tokio::net::TcpStream::connect(at)).await {
        Ok(Ok(_)) => tracing::info!(address = %at, "the public address leads here from inside too"),
        _ => tracing::info!(
            address = %at,
            "the public address does not lead here from inside, over TCP: is the port forwarded? \
             Clients of the own network may need rtc.advertise_internal_ip"
        ),
    }
}

/// An answer from outside.
enum Heard {
    Name(Vec<IpAddr>),
    Stun(Family, Option<stun::Answer>),
}

/// Makes a watcher look again at once.
#[derive(Debug, Clone)]
pub struct Recheck(watch::Sender<Rtc>);

impl Recheck {
    /// By what the configuration said so far.
    pub fn now(&self) {
        self.0.send_modify(|_| {});
    }

    /// By what it says now.
    pub fn with(&self, rtc: &Rtc) {
        self.0.send_replace(rtc.clone());
    }
}

/// What there is to know beside the addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// What clients are told will do, as far as it can be known.
    pub ready: bool,
    /// Clients are to be asked at which address they see us.
    pub asks_clients: bool,
}

impl Standing {
    /// By what is known now.
    #[must_use]
    pub fn of(advertiser: &Advertiser) -> Self {
        Self {
            ready: advertiser.is_ready(),
            asks_clients: advertiser.asks_clients(),
        }
    }
}

/// Watches our addresses.
pub struct Watcher {
    advertiser: Advertiser,
    check: watch::Receiver<Rtc>,
    /// What clients see of us.
    sightings: mpsc::Receiver<Sighting>,
    /// When a silence was last taken for a reason to look.
    silence: Option<Instant>,
    asking: JoinSet<Heard>,
    asked: Option<Instant>,
    /// When to look again, before the next interval: something changed while somebody was asked, or
    /// nobody has said yet what is to be known.
    again: Option<Instant>,
    /// Nobody has answered, and the log says so.
    silent: bool,
    /// The log says that STUN servers see us at several addresses, and what to do about it.
    shares_lines: bool,
}

impl Watcher {
    /// Goes on with what is known, by this configuration, until it is told to look again. Clients'
    /// sightings go into the sender.
    #[must_use]
    pub fn new(advertiser: Advertiser, rtc: &Rtc) -> (Self, Recheck, mpsc::Sender<Sighting>) {
        let (sender, check) = watch::channel(rtc.clone());
        let (seen, sightings) = mpsc::channel(SIGHTINGS);
        let watcher = Self {
            advertiser,
            check,
            sightings,
            silence: None,
            asking: JoinSet::new(),
            asked: None,
            again: None,
            silent: false,
            shares_lines: false,
        };
        (watcher, Recheck(sender), seen)
    }

    /// Runs until it is dropped. `told` hears of every change, and after each answer how things stand.
    /// As long as it says that something is still to be told it is called again.
    pub async fn run(mut self, mut told: impl FnMut(Option<Change>, Standing) -> bool) {
        let mut netlink = Netlink::open();
        let mut owed = None;
        let mut tick = ticking(self.check.borrow().public.check_every);
        let mut seen = Vec::new();
        loop {
            let gone = until(self.advertiser.poll_timeout());
            let again = until(self.again.filter(|_| self.asking.is_empty()));
            tokio::select! {
                _ = tick.tick() => self.look(),
                () = netlink.changed() => {
                    sleep(SETTLE).await;
                    self.look();
                }
                Ok(()) = self.check.changed() => {
                    tracing::info!("addresses are looked at again");
                    let rtc = self.check.borrow_and_update().clone();
                    if rtc.public.check_every != tick.period() {
                        tick = ticking(rtc.public.check_every);
                        tick.reset();
                    }
                    self.advertiser.handle_configuration(rtc);
                    self.look();
                }
                Some(heard) = self.asking.join_next() => self.hear(heard),
                1.. = self.sightings.recv_many(&mut seen, SIGHTINGS_AT_ONCE) => {
                    if !self.sight(&mut seen) {
                        continue;
                    }
                }
                () = gone => self.advertiser.handle_timeout(now()),
                () = again => self.look(),
                () = until(owed) => {}
            }
            let standing = Standing::of(&self.advertiser);
            let owes = told(self.advertiser.poll_change(), standing);
            owed = owes.then(|| now() + TELL_AGAIN);
        }
    }

    /// Looks at everything.
    fn look(&mut self) {
        match interfaces() {
            Ok(list) => self.advertiser.handle_interfaces(&list, now()),
            Err(error) => tracing::warn!(%error, "interfaces cannot be listed"),
        }
        if !self.asking.is_empty() {
            self.again = Some(now());
            return;
        }
        self.again = None;
        let wait = self.asked.map_or(Duration::ZERO, |at| {
            (at + ASK_EVERY).saturating_duration_since(now())
        });
        self.asked = Some(now() + wait);
        self.look_up(wait);
        for family in [Family::V4, Family::V6] {
            self.ask(family, wait);
        }
    }

    /// What clients see of us; false if nothing follows from it.
    fn sight(&mut self, seen: &mut Vec<Sighting>) -> bool {
        let now = now();
        let (mut doubted, mut learned) = (false, false);
        for sighting in seen.drain(..) {
            doubted |= match sighting {
                Sighting::Seen { by, at } => {
                    let belief = self.advertiser.handle_seen(by, at, now);
                    learned |= belief == Belief::Learned;
                    if belief == Belief::Doubted {
                        tracing::info!(externalIP = %at, "clients of several networks see us at another address");
                    }
                    belief == Belief::Doubted
                }
                Sighting::Silent { by } => {
                    let lately = |at| now.saturating_duration_since(at) < SILENCE_EVERY;
                    let looks = self.advertiser.asks_clients() && !self.silence.is_some_and(lately);
                    if looks {
                        tracing::debug!(client = %by, "a client is silent: has our address changed?");
                        self.silence = Some(now);
                    }
                    looks
                }
            };
        }
        if doubted {
            self.look();
        }
        doubted || learned
    }

    /// Looks up the name, if its addresses count.
    fn look_up(&mut self, wait: Duration) {
        if let Some(name) = self.advertiser.name().map(str::to_owned) {
            self.asking.spawn(async move {
                sleep(wait).await;
                Heard::Name(look_up(&name).await)
            });
        }
    }

    /// Asks STUN servers, if their answer counts.
    fn ask(&mut self, family: Family, wait: Duration) {
        let servers = self.advertiser.stun_servers().to_vec();
        let from = self.advertiser.asking_from(family);
        if servers.is_empty() {
            return;
        }
        self.asking.spawn(async move {
            sleep(wait).await;
            Heard::Stun(family, stun::ask(&servers, family, from).await)
        });
    }

    fn hear_stun(&mut self, answer: &stun::Answer) {
        let stun::Answer { server, local, ip } = answer;
        match self.advertiser.handle_asked(answer.ip, now()) {
            Belief::Settled => {}
            // LK: server ops §12.
            Belief::Learned => {
                tracing::info!(localAddr = %local, stunServer = server, externalIP = %ip, "found external IP via STUN");
            }
            Belief::Doubted => {
                tracing::info!(localAddr = %local, stunServer = server, externalIP = %ip, "another external IP, asked for a second time");
                self.ask(Family::of(answer.ip), DOUBT_FOR);
            }
            Belief::Returned if std::mem::replace(&mut self.shares_lines, true) => {
                tracing::info!(externalIP = %ip, "STUN servers see us at this address again");
            }
            Belief::Returned => tracing::warn!(
                externalIP = %ip,
                "STUN servers see us now at one address, now at another: does the router share out several \
                 lines? Clients are told all of them; write those by which the ports are forwarded into \
                 rtc.advertise, or have the router send this machine by one line"
            ),
        }
    }

    /// True if the name has an address that may be told.
    fn hear_name(&mut self, ips: &[IpAddr]) -> bool {
        let (usable, useless): (Vec<IpAddr>, _) = ips
            .iter()
            .partition(|ip| advertise::is_usable(**ip, self.advertiser.tells_loopback()));
        if !useless.is_empty() {
            tracing::warn!(
                addresses = ?useless,
                "the name in rtc.node_ip has addresses that lead to no machine but the asker's own, or to \
                 none: not told; give the name its public address, or write that in rtc.node_ip"
            );
        }
        match self.advertiser.handle_named(&usable) {
            Belief::Settled | Belief::Returned => {}
            Belief::Learned => tracing::info!(addresses = ?usable, "rtc.node_ip looked up"),
            Belief::Doubted => {
                tracing::info!(addresses = ?usable, "rtc.node_ip has other addresses, looked up for a second time");
                self.look_up(DOUBT_FOR);
            }
        }
        !usable.is_empty()
    }

    fn hear(&mut self, heard: Result<Heard, tokio::task::JoinError>) {
        let answered = match heard {
            Ok(Heard::Name(ips)) => self.hear_name(&ips),
            Ok(Heard::Stun(_, Some(answer))) => {
                self.hear_stun(&answer);
                true
            }
            Ok(Heard::Stun(family, None)) => {
                self.advertiser.handle_unanswered(family);
                false
            }
            Err(error) => {
                tracing::error!(%error, "a question about our addresses failed");
                false
            }
        };
        if !self.advertiser.is_ready() {
            self.again.get_or_insert(now() + RETRY_AFTER);
        }
        if answered {
            self.silent = false;
        }
        // Told once, when nobody is left to answer: of two families one mostly is not there.
        let over = self.asking.is_empty() && !self.advertiser.is_ready();
        if over && !std::mem::replace(&mut self.silent, true) {
            tracing::warn!(
                "could not determine the public address: not ready until somebody says it"
            );
        }
    }
}

fn ticking(every: Duration) -> Interval {
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The addresses of a name; none if it has none, or nobody says.
async fn look_up(name: &str) -> Vec<IpAddr> {
    match timeout(NAME_WITHIN, tokio::net::lookup_host((name, 0))).await {
        Ok(Ok(found)) => found.map(|at| at.ip()).collect(),
        Ok(Err(error)) => {
            tracing::warn!(name, %error, "rtc.node_ip cannot be looked up");
            Vec::new()
        }
        Err(_) => {
            tracing::warn!(name, "rtc.node_ip was not looked up in time");
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::complaint::Complaints;
    use crate::config::raw::Values;
    use tokio::sync::mpsc;

    #[test]
    fn the_machine_knows_its_addresses_and_the_networks_they_are_in() {
        let machine = Machine::look().expect("interfaces");
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert!(machine.ips.contains(&loopback));
        let beside = |link: &Cidr| link.contains([127, 200, 0, 1].into()) && link.prefix() == 8;
        assert!(machine.links.iter().any(beside), "{machine:?}");
    }

    fn looked_at_each(interval: &str) -> Rtc {
        let key = "keys: {k: 0123456789abcdef0123456789abcdef}";
        let rtc = format!("use_external_ip: false, address_check_interval: {interval}");
        let (mut values, mut complaints) = (Values::default(), Complaints::default());
        let text = format!("{key}\nrtc: {{{rtc}}}\n");
        values.read_yaml(&text, "test", true, &mut complaints);
        crate::config::check::check(&mut values, &mut complaints).rtc
    }

    #[test]
    fn of_a_range_the_first_port_is_taken_that_is_free_in_both_families() {
        // Drawn by the system: whoever else draws one gets another.
        let Some((taken, first)) = (0..100).find_map(|_| {
            let taken = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).ok()?;
            let first = taken.local_addr().ok()?.port();
            let beside = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, first.checked_add(1)?));
            beside.is_ok().then_some((taken, first))
        }) else {
            return;
        };
        let range = PortRange::new(first, first.saturating_add(7)).expect("a range");
        assert!(range.ports().skip(1).any(|port| port == free_port(range)));
        let only = PortRange::new(first, first).expect("a range");
        assert_eq!(free_port(only), first, "binding it says why");
        drop(taken);
    }

    #[tokio::test(start_paused = true)]
    async fn an_interval_that_is_reloaded_counts_from_then_on() {
        let rtc = looked_at_each("10h");
        let advertiser = Advertiser::new(rtc.clone(), 7882);
        let (watcher, check, _seen) = Watcher::new(advertiser, &rtc);
        let (tell, mut looks) = mpsc::unbounded_channel();
        tokio::spawn(watcher.run(move |_, _| {
            // The test may have seen enough.
            let _ = tell.send(now());
            false
        }));
        looks.recv().await.expect("the first look");
        check.with(&looked_at_each("1m"));
        let reloaded = looks.recv().await.expect("a look for the reload");
        let mut last = reloaded;
        for _ in 0..10 {
            last = looks.recv().await.expect("a look by the clock");
        }
        // The kernel may tell of something in between.
        assert!(last - reloaded <= Duration::from_secs(600));
    }
}
