//! Which addresses clients are told, from what is known of them, and when that changes.
//!
//! Owns the order of the sources (the operator's list, his `node_ip`, a name, a STUN server, the
//! interfaces, clients) and how much it takes to believe a change. It asks nobody; `addresses` in the
//! shell does, and media asks clients, and both tell it what they heard.

mod asked;
mod named;
pub mod query;
mod views;

use crate::config::check::Rtc;
use crate::config::ports::Protocol;
use crate::media::message::PathTransport;
use crate::media::transport::candidates::Candidate;
use asked::Asked;
use named::Named;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use views::Views;

#[cfg(test)]
mod tests;

/// Interfaces of containers and virtual machines: nobody outside reaches them.
const CONTAINER_INTERFACES: [&str; 10] = [
    "docker", "veth", "br-", "cni", "virbr", "podman", "lxcbr", "lxdbr", "cali", "flannel",
];
/// An address that is taken away and given back within this time was not gone: a renewed lease.
const GONE_AFTER: Duration = Duration::from_millis(500);

/// One address of one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The interface's name.
    pub name: String,
    /// The address.
    pub ip: IpAddr,
    /// One that a host asks others from and changes from time to time. (RFC 8981)
    pub temporary: bool,
}

impl Interface {
    /// Does it have that one too, in the same network?
    fn is_beside(&self, other: &Self) -> bool {
        match (self.ip, other.ip) {
            (IpAddr::V6(ip), IpAddr::V6(other_ip)) => {
                // RFC 4291 §2.5.4: what follows is the interface's own.
                self.name == other.name && ip.to_bits() >> 64 == other_ip.to_bits() >> 64
            }
            _ => false,
        }
    }
}

/// One of the two families.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// That of an address.
    #[must_use]
    pub const fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// Who says that an address is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// `rtc.advertise`, or `rtc.additional_host_ips`.
    Advertise,
    /// `rtc.node_ip`.
    NodeIp,
    /// A name in `rtc.node_ip`.
    Name,
    /// A STUN server.
    Stun,
    /// An interface.
    Interface,
    /// Clients that see us there.
    Client,
}

impl Source {
    /// The value of the label `source`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Advertise => "advertise",
            Self::NodeIp => "node_ip",
            Self::Name => "name",
            Self::Stun => "stun",
            Self::Interface => "interface",
            Self::Client => "client",
        }
    }
}

/// What an answer made of what was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Belief {
    /// It is as it was.
    Settled,
    /// It is the first one, or another one that was said twice.
    Learned,
    /// It is another address: to be asked again at once, for one answer may be wrong.
    Doubted,
    /// It is one that another had taken the place of: both are ours, by lines that are used in turn.
    Returned,
}

/// Clients are to be told other addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// All of them now.
    pub candidates: Vec<Candidate>,
    /// Where each address is known from.
    pub sources: Vec<(IpAddr, Source)>,
    /// Addresses that were told before and are not any more: calls by them may be cut off. None that only
    /// clients said: nobody's call is to be at the mercy of what others say.
    pub gone: Vec<Gone>,
}

/// An address that clients are not told any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gone {
    /// The address.
    pub ip: IpAddr,
    /// It was told as a local one beside a public one. Whoever came by it is connected to it; by a public one
    /// clients come to whichever address of ours a router forwards to.
    pub internal: bool,
}

impl Change {
    /// What is to be told in the place of this one and of one before it that nobody was told of.
    #[must_use]
    pub fn after(mut self, before: Self) -> Self {
        let gone: BTreeSet<Gone> = before.gone.into_iter().chain(self.gone).collect();
        self.gone = gone.into_iter().collect();
        self
    }
}

/// What is known of our addresses.
#[derive(Debug)]
pub struct Advertiser {
    rtc: Rtc,
    /// The UDP port in use.
    udp_port: u16,
    /// Addresses of the interfaces, and since when they are gone.
    local: Vec<(Interface, Option<Instant>)>,
    named: Named,
    asked: [Asked; 2],
    views: Views,
    told: Vec<Candidate>,
    /// From whom each address of it is known.
    told_by: Vec<(IpAddr, Source)>,
}

impl Advertiser {
    /// Knows what the configuration says.
    #[must_use]
    pub fn new(rtc: Rtc, udp_port: u16) -> Self {
        Self {
            rtc,
            udp_port,
            local: Vec::new(),
            named: Named::default(),
            asked: Default::default(),
            views: Views::default(),
            told: Vec::new(),
            told_by: Vec::new(),
        }
    }

    /// The configuration says something else now. The ports stay those that are open.
    pub fn handle_configuration(&mut self, rtc: Rtc) {
        let asked = (self.name().map(str::to_owned), self.stun_servers().to_vec());
        let before = std::mem::replace(&mut self.rtc, rtc);
        self.rtc.tcp_port = before.tcp_port;
        self.rtc.force_tcp = before.force_tcp;
        if (self.name(), self.stun_servers()) != (asked.0.as_deref(), &asked.1[..]) {
            self.ask_others();
        }
        if !self.asks_clients() {
            self.views = Views::default();
        }
    }

    /// What was heard holds only for who was asked. But as long as the others have not answered, and if they
    /// never do, clients are told what they were told before: it is no worse than before, and better than none.
    fn ask_others(&mut self) {
        let public = [
            Source::Advertise,
            Source::NodeIp,
            Source::Name,
            Source::Stun,
        ];
        let further = &self.rtc.public.additional;
        let told = self.told_by.iter();
        let told = told.filter(|(ip, source)| public.contains(source) && !further.contains(ip));
        let told: Vec<IpAddr> = told.map(|(ip, _)| *ip).collect();
        self.named = Named::default();
        self.asked = Default::default();
        if self.name().is_some() {
            self.named = Named::after(told.into_iter());
        } else if !self.stun_servers().is_empty() {
            self.asked = [Family::V4, Family::V6].map(|family| {
                let of_it = told.iter().filter(|ip| Family::of(**ip) == family);
                Asked::after(of_it.copied())
            });
        }
    }

    /// The name to be looked up, if its addresses are wanted.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        let named = self.rtc.public.advertise.is_empty() && !self.has_node_ip();
        self.rtc.public.name.as_deref().filter(|_| named)
    }

    /// The STUN servers to be asked, if their answer is wanted.
    #[must_use]
    pub fn stun_servers(&self) -> &[String] {
        let public = &self.rtc.public;
        let known = !public.advertise.is_empty() || self.has_node_ip() || public.name.is_some();
        if known { &[] } else { &public.stun_servers }
    }

    /// Are clients to be asked at which address they see us? Where somebody else must be asked, and may be
    /// wrong or silent; not where the configuration says it, or that there is no public one.
    #[must_use]
    pub fn asks_clients(&self) -> bool {
        self.name().is_some() || !self.stun_servers().is_empty()
    }

    /// A client at `by` sees us `at` an address. It is doubted if it is believed of clients from now on and
    /// nobody else says it: all who know better are to be asked again. (See `views`)
    pub fn handle_seen(&mut self, by: IpAddr, at: IpAddr, now: Instant) -> Belief {
        if !(self.asks_clients() && self.views.handle_seen(by, at, now)) {
            return Belief::Settled;
        }
        match self.is_known(at.to_canonical()) {
            true => Belief::Learned,
            false => Belief::Doubted,
        }
    }

    /// From which address a STUN server is to be asked, if some are not to be used.
    #[must_use]
    pub fn asking_from(&self, family: Family) -> Option<IpAddr> {
        let filters = (&self.rtc.interfaces, &self.rtc.ips);
        let chosen = !filters.0.includes.is_empty() || !filters.1.includes.is_empty();
        let mut ips = self.locals().into_iter();
        ips.find(|ip| chosen && Family::of(*ip) == family && !ip.is_loopback())
    }

    /// What the interfaces have now.
    pub fn handle_interfaces(&mut self, list: &[Interface], now: Instant) {
        for (interface, gone) in &mut self.local {
            *gone = match (list.contains(interface), *gone) {
                (true, _) => None,
                (false, since) => since.or(Some(now)),
            };
        }
        for interface in list {
            if !self.local.iter().any(|(known, _)| known == interface) {
                self.local.push((interface.clone(), None));
            }
        }
        self.local.sort_by_key(|(interface, _)| interface.ip);
    }

    /// What the name has now, of what [`is_usable`]. A look-up that failed changes nothing.
    pub fn handle_named(&mut self, ips: &[IpAddr]) -> Belief {
        let ips: BTreeSet<IpAddr> = ips.iter().map(IpAddr::to_canonical).collect();
        if ips.is_empty() {
            return Belief::Settled;
        }
        let beliefs = self.named.handle(&ips);
        for family in [Family::V4, Family::V6] {
            if beliefs[family as usize] == Belief::Learned {
                self.views.forget(family);
            }
        }
        let has = |belief| beliefs.contains(&belief).then_some(belief);
        has(Belief::Doubted)
            .or(has(Belief::Learned))
            .unwrap_or(Belief::Settled)
    }

    /// May clients be told loopback, for they are on this machine?
    #[must_use]
    pub const fn tells_loopback(&self) -> bool {
        self.rtc.enable_loopback_candidate
    }

    /// What a STUN server says. Silence changes nothing: the servers may be away, or a firewall new.
    pub fn handle_asked(&mut self, ip: IpAddr, now: Instant) -> Belief {
        let ip = self.lasting(ip.to_canonical());
        let belief = self.asked[Family::of(ip) as usize].handle(ip, now);
        if matches!(belief, Belief::Learned | Belief::Returned) {
            self.views.forget(Family::of(ip));
        }
        belief
    }

    /// No STUN server answers for this family. If the other one is answered they may be of that family alone:
    /// what was said before they were asked would never be said again, nor taken back.
    pub fn handle_unanswered(&mut self, family: Family) {
        let is_answered = self.asked.iter().any(Asked::is_known);
        let asked = &mut self.asked[family as usize];
        if is_answered && asked.is_stale() {
            *asked = Asked::default();
        }
        asked.handle_unanswered();
    }

    /// Time has passed: what has been gone long enough is.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.local.retain(|(_, gone)| {
            gone.is_none_or(|since| now.saturating_duration_since(since) < GONE_AFTER)
        });
        let outside = self.public().1;
        let better = |family| outside.iter().any(|ip| Family::of(*ip) == family);
        self.views.handle_timeout(better, now);
    }

    /// When [`Self::handle_timeout`] is wanted.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let gone = self.local.iter().filter_map(|(_, gone)| *gone);
        let outside = self.public().1;
        let better = |family| outside.iter().any(|ip| Family::of(*ip) == family);
        let unsaid = self.views.poll_timeout(better);
        let gone = gone.min().map(|since| since + GONE_AFTER);
        [gone, unsaid].into_iter().flatten().min()
    }

    /// What clients are to be told, if that changed. Nothing at all is never told: what was right
    /// once may be again.
    pub fn poll_change(&mut self) -> Option<Change> {
        let candidates = self.candidates();
        let sources = self.sources(&candidates);
        if candidates.is_empty() || (candidates == self.told && sources == self.told_by) {
            return None;
        }
        let told = std::mem::replace(&mut self.told, candidates.clone());
        let told_by = std::mem::replace(&mut self.told_by, sources.clone());
        let is_gone = |one: &&Candidate| !candidates.iter().any(|now| now.at == one.at);
        let is_ours = |ip| self.advertisable().any(|one| one.ip == ip);
        let is_harmless = |ip: IpAddr| {
            let by = |source| told_by.contains(&(ip, source));
            // What gives way to a better one on the same interface still leads here.
            by(Source::Client)
                || by(Source::Interface) && is_ours(ip)
                || self.asked.iter().any(|one| one.has_faded(ip))
        };
        let gone = told.iter().filter(is_gone).map(|one| Gone {
            ip: one.at.ip(),
            internal: one.internal,
        });
        let gone: BTreeSet<Gone> = gone.filter(|one| !is_harmless(one.ip)).collect();
        Some(Change {
            gone: gone.into_iter().collect(),
            sources,
            candidates,
        })
    }

    /// Are clients told an address by which they will reach us, as far as we can know?
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let asked = self.asked.iter().any(Asked::is_known);
        let asked = asked || self.stun_servers().is_empty();
        let named = self.name().is_none() || self.named.is_known();
        let seen = self.views.ips().next().is_some();
        (seen || asked && named) && self.has_required() && !self.candidates().is_empty()
    }

    /// Is an address of IPv4 known, if one must be? What the operator has set is not looked for.
    fn has_required(&self) -> bool {
        let public = &self.rtc.public;
        let is_set = !public.advertise.is_empty() || self.has_node_ip();
        let known = if self.stun_servers().is_empty() {
            self.candidates().iter().any(|one| one.at.is_ipv4())
        } else {
            let seen = self.views.ips().any(|ip| ip.is_ipv4());
            seen || self.asked[Family::V4 as usize].is_known()
        };
        !public.require_ipv4 || is_set || known
    }

    fn has_node_ip(&self) -> bool {
        self.rtc.node_ip.v4.is_some() || self.rtc.node_ip.v6.is_some()
    }

    /// The addresses of the interfaces that clients may be told.
    fn locals(&self) -> Vec<IpAddr> {
        let local = self.advertisable();
        let told = local.filter(|one| !one.temporary || self.beside(one).next().is_none());
        told.map(|one| one.ip)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    fn advertisable(&self) -> impl Iterator<Item = &Interface> {
        let local = self.local.iter().map(|(interface, _)| interface);
        local.filter(|one| is_advertisable(&one.name, one.ip, &self.rtc))
    }

    /// The lasting addresses beside a temporary one.
    fn beside(&self, temporary: &Interface) -> impl Iterator<Item = IpAddr> {
        let lasting = self.advertisable().filter(|one| !one.temporary);
        let beside = lasting.filter(|one| one.is_beside(temporary));
        beside.map(|one| one.ip)
    }

    /// The lasting address in the place of a temporary one of an interface, which is what we ask from:
    /// whoever opens a firewall for us opens it for that one, and it does not change each day.
    fn lasting(&self, ip: IpAddr) -> IpAddr {
        let mut local = self.local.iter().map(|(interface, _)| interface);
        let Some(temporary) = local.find(|one| one.ip == ip && one.temporary) else {
            return ip;
        };
        let asked = &self.asked[Family::of(ip) as usize];
        let is_told = |ip: &IpAddr| asked.ips().any(|told| told == *ip);
        let told = self.beside(temporary).find(is_told);
        told.or_else(|| self.beside(temporary).next()).unwrap_or(ip)
    }

    /// The public addresses, by the best source that has any.
    fn public(&self) -> (Source, Vec<IpAddr>) {
        let node = self.rtc.node_ip;
        let node: Vec<IpAddr> = [node.v4.map(IpAddr::from), node.v6.map(IpAddr::from)]
            .into_iter()
            .flatten()
            .collect();
        if !node.is_empty() {
            return (Source::NodeIp, node);
        }
        if self.name().is_some() {
            return (Source::Name, self.named.ips().collect());
        }
        let asked = self.asked.iter().flat_map(Asked::ips);
        (Source::Stun, asked.collect())
    }

    /// Does somebody else than clients say it?
    fn is_known(&self, ip: IpAddr) -> bool {
        let additional = &self.rtc.public.additional;
        additional.contains(&ip) || self.public().1.contains(&ip) || self.locals().contains(&ip)
    }

    /// Where clients see us and nobody else says that we are: told beside what others say, for these may be
    /// late, and clients may lie; and not as long as STUN servers answer, which nobody here can speak for.
    fn seen(&self) -> Vec<IpAddr> {
        let answered = |ip: IpAddr| self.asked[Family::of(ip) as usize].is_answered();
        let seen = self.views.ips().filter(|_| self.asks_clients());
        seen.filter(|ip| !self.is_known(*ip) && !answered(*ip))
            .collect()
    }

    fn candidates(&self) -> Vec<Candidate> {
        let public = &self.rtc.public;
        let listed = &public.advertise;
        let (source, outside) = self.public();
        // A public address that an interface has leads to no other.
        let mapped = |family| {
            let of_list = listed.iter().map(|one| one.ip);
            let mut all = of_list.chain(outside.iter().copied());
            all.any(|ip| Family::of(ip) == family)
        };
        // A name that nobody has looked up yet says nothing of whether there is more.
        let is_said = source == Source::NodeIp || source == Source::Name && !outside.is_empty();
        let only_these = !listed.is_empty() || is_said || public.external_only;
        let mut told = Vec::new();
        for ip in self.locals() {
            let family = Family::of(ip);
            let is_public = outside.contains(&ip) || listed.iter().any(|one| one.ip == ip);
            let beside = mapped(family);
            let wanted = public.internal || !(beside || only_these);
            if wanted && !is_public {
                told.extend(self.both(ip).map(|one| one.internal(beside)));
            }
        }
        if listed.is_empty() {
            told.extend(outside.iter().flat_map(|ip| self.both(*ip)));
        }
        for one in listed {
            let of = one.protocol;
            told.extend(self.both(one.ip).filter_map(|mut candidate| {
                let protocol = match candidate.transport {
                    PathTransport::Udp | PathTransport::Turn => Protocol::Udp,
                    PathTransport::Tcp => Protocol::Tcp,
                };
                candidate
                    .at
                    .set_port(one.port.unwrap_or(candidate.at.port()));
                of.is_none_or(|of| of == protocol).then_some(candidate)
            }));
        }
        for ip in public.additional.iter().chain(&self.seen()) {
            if !told.iter().any(|one| one.at.ip() == *ip) {
                told.extend(self.both(*ip));
            }
        }
        told
    }

    /// An address with the ports we listen on.
    fn both(&self, ip: IpAddr) -> impl Iterator<Item = Candidate> {
        let udp = Candidate::udp(SocketAddr::new(ip, self.udp_port));
        let tcp = Candidate::tcp(SocketAddr::new(ip, self.rtc.tcp_port));
        let udp = (!self.rtc.force_tcp).then_some(udp);
        udp.into_iter()
            .chain((self.rtc.tcp_port != 0).then_some(tcp))
    }

    /// Where each address told is known from.
    fn sources(&self, told: &[Candidate]) -> Vec<(IpAddr, Source)> {
        let (source, outside) = self.public();
        let seen = self.seen();
        let mut list: Vec<(IpAddr, Source)> = Vec::new();
        for candidate in told {
            let ip = candidate.at.ip();
            let public = &self.rtc.public;
            let source = if public.advertise.iter().any(|one| one.ip == ip) {
                Source::Advertise
            } else if outside.contains(&ip) {
                source
            } else if seen.contains(&ip) {
                Source::Client
            } else if public.additional.contains(&ip) {
                Source::Advertise
            } else {
                Source::Interface
            };
            if !list.contains(&(ip, source)) {
                list.push((ip, source));
            }
        }
        list
    }
}

/// Does an address that a name has lead to a machine at all? A machine's own name mostly has 127.0.1.1 in
/// its own `/etc/hosts`.
#[must_use]
pub fn is_usable(ip: IpAddr, loopback: bool) -> bool {
    let ip = ip.to_canonical();
    let broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    let nowhere = ip.is_unspecified() || ip.is_multicast() || broadcast;
    !nowhere && (loopback || !ip.is_loopback())
}

/// May clients be told this address of this interface?
fn is_advertisable(name: &str, ip: IpAddr, rtc: &Rtc) -> bool {
    if !(rtc.interfaces.allows(name) && rtc.ips.allows(ip)) {
        return false;
    }
    if ip.is_loopback() {
        return rtc.enable_loopback_candidate;
    }
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let container = CONTAINER_INTERFACES
        .iter()
        .any(|prefix| name.starts_with(prefix));
    let named = rtc.interfaces.includes.iter().any(|one| one == name);
    !link_local && (!container || named)
}
