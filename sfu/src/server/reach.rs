//! Wires what watches our addresses to those who must know them.

use crate::addresses::{self, Recheck, Standing, Watcher};
use crate::advertise::{Advertiser, Change, Source};
use crate::config::check::Rtc;
use crate::http::admin::Readiness;
use crate::media::message::PathTransport;
use crate::media::sighting::Sighting;
use crate::media::transport::candidates::Candidate;
use crate::room::preference::Reachable;
use crate::rooms::{Rooms, Surroundings};
use crate::server::ServeError;
use crate::server::relay::Relay;
use crate::worker::Workers;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;
use tokio::sync::mpsc;

/// How clients reach media, as far as it is known when the server starts.
pub(super) struct Reach {
    watcher: Watcher,
    /// How things stand at the start.
    pub(super) standing: Standing,
    /// Where media puts what clients see of us.
    pub(super) sightings: mpsc::Sender<Sighting>,
    /// The UDP port in use.
    pub(super) udp_port: u16,
    /// What clients are told first; empty if somebody is still to be asked.
    pub(super) first: Option<Change>,
    /// Makes us look again.
    pub(super) check: Recheck,
}

impl Reach {
    /// Looks at the interfaces, and asks nobody yet: whoever does not answer does not stop a start, and nor
    /// does an interface that has no address yet.
    pub(super) fn new(rtc: &Rtc) -> Result<Self, ServeError> {
        let udp_port = if rtc.force_tcp {
            rtc.udp_port.first()
        } else {
            addresses::free_port(rtc.udp_ports())
        };
        let mut advertiser = Advertiser::new(rtc.clone(), udp_port);
        #[allow(
            clippy::disallowed_methods,
            reason = "shell: the time of the first look"
        )]
        let now = Instant::now();
        advertiser.handle_interfaces(&addresses::interfaces()?, now);
        let first = advertiser.poll_change();
        let asks = advertiser.name().is_some() || !advertiser.stun_servers().is_empty();
        if first.is_none() && !rtc.public.advertise.is_empty() {
            return Err(ServeError::NoAddress);
        }
        if first.is_none() && !asks {
            tracing::warn!(
                "no interface has an address clients could reach: not ready until one has; if none will, \
                 set rtc.node_ip to the address they use, or rtc.enable_loopback_candidate for clients on \
                 this machine, and see that rtc.interfaces and rtc.ips leave one"
            );
        }
        let standing = Standing::of(&advertiser);
        let (watcher, check, sightings) = Watcher::new(advertiser, rtc);
        Ok(Self {
            watcher,
            standing,
            sightings,
            udp_port,
            first,
            check,
        })
    }

    /// What clients are told first.
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        let first = self.first.as_ref();
        first.map_or_else(Vec::new, |change| change.candidates.clone())
    }

    /// Watches from now on, and tells workers, rooms, counters and whoever asks for readiness.
    pub(super) fn watch(
        self,
        surroundings: &Surroundings,
        rtc: &Rtc,
        (rooms, readiness, mut relay): (Rooms, Readiness, Relay),
    ) {
        let (workers, metrics) = (surroundings.workers.clone(), surroundings.metrics.clone());
        let count = move |change: &Change, again| {
            let sources = change.sources.iter();
            metrics.advertised(sources.map(|(ip, source)| (*ip, source.label())), again);
        };
        if let Some(first) = &self.first {
            count(first, false);
        }
        readiness.set_reachable(self.standing.ready);
        relay.answer_for(&readiness);
        let tries = rtc.public.tries;
        // A change that a worker had no place for.
        let mut owed: Option<Change> = None;
        let mut inquiring = self.standing.asks_clients;
        tokio::spawn(self.watcher.run(move |change, standing| {
            readiness.set_reachable(standing.ready);
            if inquiring != standing.asks_clients && workers.inquire(standing.asks_clients).is_ok()
            {
                inquiring = standing.asks_clients;
            }
            match change {
                None => relay.look(),
                Some(change) => {
                    announce(&change.candidates);
                    relay.follow(&of_others_than_clients(&change));
                    count(&change, true);
                    if tries {
                        try_from_inside(&change);
                    }
                    owed = Some(match owed.take() {
                        Some(before) => change.after(before),
                        None => change,
                    });
                }
            }
            let _ = owed.take_if(|change| tell(change, &workers, &rooms));
            owed.is_some() || inquiring != standing.asks_clients
        }));
    }
}

/// What somebody else than clients says: nobody's relay is to be where strangers say that we are.
fn of_others_than_clients(change: &Change) -> Vec<Candidate> {
    let by_clients = |ip| change.sources.contains(&(ip, Source::Client));
    let others = change
        .candidates
        .iter()
        .filter(|one| !by_clients(one.at.ip()));
    others.copied().collect()
}

/// For the log: does what a STUN server said lead here?
fn try_from_inside(change: &Change) {
    let by_stun = |ip| change.sources.contains(&(ip, Source::Stun));
    let over_tcp = change
        .candidates
        .iter()
        .filter(|one| one.transport == PathTransport::Tcp);
    for candidate in over_tcp.filter(|one| by_stun(one.at.ip())) {
        tokio::spawn(addresses::try_from_inside(candidate.at));
    }
}

/// Tells workers, then rooms: whoever comes back is to be told the new ones. False if it must be tried
/// again.
fn tell(change: &Change, workers: &Workers, rooms: &Rooms) -> bool {
    if workers.advertise(&change.candidates).is_err() {
        tracing::error!("a media thread does not take its new addresses: tried again");
        return false;
    }
    let still = outside(&change.candidates);
    rooms.readdress(change.gone.clone(), still, reachable(&change.candidates));
    true
}

/// The addresses that lead here by themselves. By one that is told beside a public one, clients come
/// from both: those of the public one must be sent back.
fn outside(candidates: &[Candidate]) -> Vec<IpAddr> {
    let outside = candidates.iter().filter(|one| !one.internal);
    outside.map(|one| one.at.ip()).collect()
}

/// By what clients, and relays, come here from everywhere.
pub(super) fn reachable(candidates: &[Candidate]) -> Reachable {
    let has = |transport| {
        let mut outside = candidates.iter().filter(|one| !one.internal);
        outside.any(|one| one.transport == transport)
    };
    Reachable {
        udp: has(PathTransport::Udp),
        tcp: has(PathTransport::Tcp),
    }
}

/// One line for each address clients are told to send media to.
pub(super) fn announce(candidates: &[Candidate]) {
    for candidate in candidates {
        tracing::info!(
            "advertised candidate: {}{} host {}",
            candidate.transport.label(),
            family(&candidate.at),
            candidate.at
        );
    }
}

/// 4 or 6.
const fn family(address: &SocketAddr) -> u8 {
    if address.is_ipv4() { 4 } else { 6 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_local_beside_a_public_address_leads_nobody_here_from_outside() {
        let at: SocketAddr = "203.0.113.7:40000".parse().expect("an address");
        let local: SocketAddr = "192.168.1.2:7881".parse().expect("an address");
        let by = |candidates: &[Candidate]| {
            let Reachable { udp, tcp } = reachable(candidates);
            (udp, tcp)
        };
        let internal = Candidate::tcp(local).internal(true);
        assert_eq!(by(&[Candidate::udp(at), internal]), (true, false));
        assert_eq!(by(&[Candidate::tcp(at)]), (false, true));
        assert_eq!(by(&[Candidate::tcp(local)]), (false, true), "the only one");
        assert_eq!(by(&[]), (false, false));
    }

    #[test]
    fn relays_are_not_told_what_only_clients_say() {
        let at = |last: u8| SocketAddr::from(([203, 0, 113, last], 7882));
        let all = [(7, Source::Stun), (8, Source::Client)];
        let change = Change {
            candidates: all.map(|(last, _)| Candidate::udp(at(last))).to_vec(),
            sources: all.map(|(last, source)| (at(last).ip(), source)).to_vec(),
            gone: Vec::new(),
        };
        assert_eq!(of_others_than_clients(&change), [Candidate::udp(at(7))]);
    }
    fn reach(yaml: &str) -> Result<Reach, ServeError> {
        use crate::config::{complaint::Complaints, raw::Values};
        let key = "keys: {k: 0123456789abcdef0123456789abcdef}";
        let text = format!("{key}\nrtc: {{{yaml}}}\n");
        let (mut values, mut complaints) = (Values::default(), Complaints::default());
        values.read_yaml(&text, "test", true, &mut complaints);
        let config = crate::config::check::check(&mut values, &mut complaints);
        assert!(!complaints.has_errors(), "{:?}", complaints.list());
        Reach::new(&config.rtc)
    }

    #[test]
    fn a_machine_without_an_address_starts_and_is_not_ready() {
        let reach = reach("interfaces: {includes: [none0]}").expect("it starts");
        assert!(reach.candidates().is_empty() && !reach.standing.ready);
    }

    #[test]
    fn a_list_of_addresses_of_which_none_is_served_stops_a_start() {
        let nowhere = reach("advertise: [192.0.2.1/tcp], tcp_port: 0");
        assert!(matches!(nowhere, Err(ServeError::NoAddress)));
    }
}
