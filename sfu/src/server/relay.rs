//! Starts the TURN server beside the media threads, and tells what it says.
//!
//! Owns the translation of the configuration into TURN's own settings, and who is told of its URLs.
//! Decides nothing about a request. Called by `server` at start.

mod whereabouts;
mod tunnel;
mod refusals;
mod departures;

use crate::addresses::Machine;
use crate::auth;
use crate::certificates::Certificates;
use crate::config::check::{Config, Turn};
use crate::config::cidr::Cidr;
use crate::crowd::is_public;
use crate::handover::{self, Carried, Handed};
use crate::http::admin::Readiness;
use crate::ice_servers::{Credential, IceServer, Ours};
use crate::media::transport::candidates::Candidate;
use crate::metrics::Metrics;
use crate::rooms::Surroundings;
use crate::server::ServeError;
use crate::server::beginning;
use crate::server::listen::Port;
use crate::server::mistakes::Mistakes;
use crate::signal::join::Policy;
use refusals::Refusals;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, watch};
use tunnel::Tunnels;
use turn::config::{Own, Shared, Wall};
use turn::credentials::{Credentials, Login, Reach, Secret};
use turn::net::{self, Observation, Settings, SfuSide};
use turn::policy::{PeerPolicy, Prefix};
use whereabouts::{listens, own, relays, shared_port, urls};

/// The TURN server, if there is one, and those who tell clients of it.
pub(super) struct Relay(Option<Running>);

/// Where connections go that came to another port and turned out to be TURN.
pub(super) type Entrance = mpsc::Sender<Handed>;

struct Running {
    server: Arc<net::Turn>,
    settings: Turn,
    /// The port clients are told that speaks everything over TLS; 0: none.
    shared_port: u16,
    ours: Ours,
    policy: watch::Sender<Policy>,
    /// The port of our media on this machine.
    udp_port: u16,
    /// What media was told last, and what TURN made of it.
    candidates: Vec<Candidate>,
    own: Option<Own>,
    /// What clients are told now.
    urls: Vec<String>,
}

impl Relay {
    /// Takes connections that came to another port, which knows what this one does of proxies.
    pub(super) fn entrance(&self, metrics: &Metrics, port: &Port) -> Option<Entrance> {
        let running = self.0.as_ref()?;
        let server = Arc::clone(&running.server);
        let front = Front {
            trusted: port.trusted_proxies.clone(),
            mistakes: port.mistakes.clone(),
            terminated: running
                .settings
                .external_tls
                .then_some(running.settings.tls_port),
        };
        let (metrics, tunnels) = (metrics.clone(), Tunnels::default());
        let (entrance, mut handed) = handover::queue();
        tokio::spawn(async move {
            while let Some(one) = handed.recv().await {
                let shared = front.is_all_there_is(&one);
                if !take(&server, &tunnels, one, shared).await {
                    metrics.limit_reached("turn_adopted");
                }
            }
        });
        Some(entrance)
    }

    /// Has the health page say so when its thread has ended by itself.
    pub(super) fn answer_for(&self, readiness: &Readiness) {
        if let Some(running) = &self.0 {
            let server = Arc::downgrade(&running.server);
            // Once it is dropped nobody asks for it any more.
            readiness.set_relay(move || server.upgrade().is_none_or(|server| server.is_running()));
        }
    }

    /// Media has these candidates from now on: they are reached in process, and whoever joins is told
    /// of relays at their addresses.
    pub(super) fn follow(&mut self, candidates: &[Candidate]) {
        let Some(running) = &mut self.0 else { return };
        running.candidates = candidates.to_vec();
        running.look();
        running.tell(candidates);
    }

    /// The machine may have got other addresses, though media has the same: they are no peers.
    pub(super) fn look(&mut self) {
        if let Some(running) = &mut self.0 {
            running.look();
        }
    }
}

impl Running {
    fn look(&mut self) {
        match Machine::look()
            .map(|machine| own(&self.settings, &self.candidates, machine, self.udp_port))
        {
            Ok(own) if self.own.as_ref() == Some(&own) => {}
            Ok(own) => {
                self.server.set_own(own.clone());
                self.own = Some(own);
            }
            Err(error) => tracing::error!(%error, "TURN does not learn of new addresses"),
        }
    }

    fn tell(&mut self, candidates: &[Candidate]) {
        let machine = match Machine::look() {
            Ok(machine) => machine.ips,
            Err(error) => {
                tracing::error!(%error, "clients are not told where TURN is now");
                return;
            }
        };
        let urls = urls(&self.settings, self.shared_port, candidates, &machine);
        if urls == self.urls {
            return;
        }
        tracing::info!(?urls, relays = %self.settings.relay_ports, "TURN server");
        let told = IceServer {
            urls: urls.clone(),
            credential: Credential::Ours(self.ours.clone()),
        };
        self.urls = urls;
        self.policy.send_modify(|policy| {
            let theirs = |server: &IceServer| matches!(server.credential, Credential::Theirs(_));
            policy.ice_servers.retain(theirs);
            if !told.urls.is_empty() {
                policy.ice_servers.insert(0, told);
            }
        });
    }
}

/// Starts it if it is wanted, beside media with these candidates on this port. `trusted` are proxies in
/// front, and `gone` tells of participants who have left for good.
///
/// # Errors
/// A port or a certificate that the operator named cannot be had.
pub(super) fn start(
    config: &Config,
    (candidates, udp_port, certificates): (&[Candidate], u16, &Certificates),
    surroundings: &Surroundings,
    policy: watch::Sender<Policy>,
    (trusted, gone): (watch::Receiver<Vec<Cidr>>, mpsc::Receiver<String>),
) -> Result<Relay, ServeError> {
    let turn = &config.turn;
    let Some(ours) = ours(config).filter(|_| turn.enabled) else {
        return Ok(Relay(None));
    };
    let started = settings(turn, (candidates, udp_port), &ours).and_then(|mut settings| {
        settings.server.shared = shared(trusted);
        settings.sfu = Some(SfuSide {
            doors: surroundings.workers.connect_relay(),
            steer: None,
        });
        settings.certificates = Some(certificates.settings());
        settings.observe = observer(surroundings.metrics.clone());
        net::Turn::start(settings)
    });
    match started {
        Ok(server) => {
            let server = Arc::new(server);
            tokio::spawn(departures::tell(Arc::downgrade(&server), gone));
            let mut running = Running {
                server,
                settings: turn.clone(),
                shared_port: shared_port(config),
                ours,
                policy,
                udp_port,
                candidates: candidates.to_vec(),
                own: None,
                urls: Vec::new(),
            };
            running.tell(candidates);
            Ok(Relay(Some(running)))
        }
        Err(error) if !turn.configured => {
            tracing::warn!(
                %error,
                "no TURN server: set turn.enabled: false if there is to be none, or other ports"
            );
            Ok(Relay(None))
        }
        Err(source) => Err(ServeError::Turn(source)),
    }
}

/// Participants' names are signed with the first API key.
fn ours(config: &Config) -> Option<Ours> {
    let (key, secret) = config.keys.first()?;
    Some(Ours {
        key: key.to_owned(),
        secret: secret.clone(),
        ttl: config.turn.ttl,
    })
}

fn settings(
    turn: &Turn,
    (candidates, udp_port): (&[Candidate], u16),
    ours: &Ours,
) -> io::Result<Settings> {
    let mut server = turn::config::Config::new(turn.realm.as_str(), wall());
    server.software = "Foci".into();
    server.credentials = credentials(turn, ours.clone());
    server.relay_ports = (turn.relay_ports.first(), turn.relay_ports.last());
    server.own = own(turn, candidates, Machine::look()?, udp_port);
    server.peers = PeerPolicy {
        allow: turn.allow_peers.iter().filter_map(prefix).collect(),
        deny: turn.deny_peers.iter().filter_map(prefix).collect(),
    };
    server.lifetimes.nonce = turn.nonce_lifetime;
    server.limits.user_allocations = turn.limits.user_allocations;
    server.limits.address_allocations = turn.limits.address_allocations;
    server.limits.allocations = turn.limits.allocations;
    // Rounded up: 0 would be no limit.
    let bytes_s = |bps: u64| bps.div_ceil(8);
    server.limits.allocation_bytes_s = bytes_s(turn.limits.bps);
    server.limits.user_bytes_s = bytes_s(turn.limits.user_bps);
    server.limits.total_bytes_s = bytes_s(turn.limits.total_bps);
    let mut settings = Settings::new(server, rand::random());
    let listen = |port: u16| -> Vec<SocketAddr> {
        let at = |ip| SocketAddr::new(ip, port);
        let ips = listens(turn).into_iter().filter(|_| port != 0);
        ips.map(at).collect()
    };
    settings.udp = listen(turn.udp_port);
    settings.tcp = listen(turn.tcp_port);
    // Out of the TLS of a proxy it comes by a port that reads the proxy's header, and is handed over.
    if !turn.external_tls {
        settings.tls = listen(turn.tls_port);
    }
    settings.relay = relays(turn);
    Ok(settings)
}

fn credentials(turn: &Turn, ours: Ours) -> Credentials {
    let secret = turn.static_auth_secret.as_ref();
    let reach = if turn.participants_reach_peers {
        Reach::Peers
    } else {
        Reach::Ours
    };
    Credentials {
        fixed: Vec::new(),
        shared: secret
            .map(|secret| Secret::new(secret.reveal()))
            .into_iter()
            .collect(),
        lookup: Some(Arc::new(move |username| {
            let ticket = ours.ticket(username)?;
            Some(Login {
                password: Secret::new(ticket.password.reveal()),
                user: ticket.participant,
                expires_unix_s: Some(ticket.expires_unix_s),
                reach,
            })
        })),
    }
}

/// Behind a proxy is everybody, and so is behind a NAT of ours, as of containers.
fn shared(trusted: watch::Receiver<Vec<Cidr>>) -> Shared {
    Shared::new(move |ip| !is_public(ip) || auth::client_end(ip, &trusted.borrow()).is_none())
}

fn prefix(block: &Cidr) -> Option<Prefix> {
    Prefix::new(block.address(), block.prefix()).ok()
}

/// What is in front of the ports from which connections are handed over.
struct Front {
    trusted: watch::Receiver<Vec<Cidr>>,
    mistakes: Mistakes,
    /// Who comes to this port comes by a proxy that ends TLS.
    terminated: Option<u16>,
}

impl Front {
    /// Is a proxy all that is known of where a connection comes from? Everybody behind it comes from there.
    fn is_all_there_is(&self, handed: &Handed) -> bool {
        let (remote, local) = (handed.remote, handed.local);
        let peer = match &handed.stream {
            Carried::Plain(stream) => stream.peer_addr(),
            Carried::Decrypted(decrypted) => decrypted.stream().get_ref().0.peer_addr(),
        };
        let is_trusted = beginning::is_trusted(remote, &self.trusted.borrow());
        let is_beside_us = !is_public(remote.ip());
        let is_proxy = is_trusted || is_beside_us && self.terminated == Some(local.port());
        if is_proxy && peer.is_ok_and(|peer| peer == remote) {
            self.mistakes.unnamed_client_of(remote.ip(), local.port());
        }
        is_trusted
    }
}

/// Hands a connection to TURN, of a client or of a proxy that is all that is known; false if it finds no place.
async fn take(server: &net::Turn, tunnels: &Tunnels, handed: Handed, shared: bool) -> bool {
    let (remote, port) = (handed.remote, handed.local.port());
    let stream = match handed.stream {
        Carried::Plain(stream) => stream.into_std().map(Some),
        Carried::Decrypted(decrypted) => {
            let (socket, _) = decrypted.stream().get_ref();
            match tunnel::hold_little(socket) {
                Ok(()) => tunnels.begin(*decrypted).await,
                Err(error) => Err(error),
            }
        }
    };
    match stream {
        Ok(Some(stream)) => server.adopt(net::Adopted {
            stream,
            remote,
            shared,
            port,
        }),
        Ok(None) => false,
        Err(error) => {
            tracing::warn!(%error, "a TURN connection cannot be served");
            false
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "shell: the start of the clocks TURN counts by"
)]
fn wall() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Wall {
        at: Instant::now(),
        unix_s: since.map_or(0, |since| since.as_secs()),
    }
}

/// Logs events and keeps the totals for a scrape.
fn observer(metrics: Metrics) -> net::Observe {
    use turn::event::Event;
    let mut refusals = Refusals::default();
    Box::new(move |observation| match observation {
        Observation::Totals(totals) => metrics.set_turn(*totals),
        Observation::Event(Event::Allocated {
            client,
            user,
            relayed,
            ..
        }) => tracing::debug!(?client, user, %relayed, "TURN allocation"),
        Observation::Event(Event::Ended {
            client,
            user,
            reason,
            lived,
            ..
        }) => tracing::debug!(?client, user, ?reason, ?lived, "TURN allocation ended"),
        Observation::Event(Event::Refused {
            client,
            code,
            reason,
        }) => match refusals.handle(reason, wall().at) {
            Some(more) => tracing::info!(?client, code, %reason, more, "TURN request refused"),
            None => tracing::debug!(?client, code, %reason, "TURN request refused"),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check::check;
    use crate::config::complaint::Complaints;
    use crate::config::raw::Values;

    fn config(text: &str) -> Config {
        let mut values = Values::default();
        let mut complaints = Complaints::default();
        let text = format!("keys: {{k: 0123456789abcdef0123456789abcdef}}\n{text}");
        values.read_yaml(&text, "f", true, &mut complaints);
        check(&mut values, &mut complaints)
    }

    #[test]
    fn a_participant_s_name_is_taken_and_counts_to_him() {
        let config = config("turn: {static_auth_secret: 0123456789abcdef}\n");
        let ours = ours(&config).expect("a key");
        let server = IceServer {
            urls: Vec::new(),
            credential: Credential::Ours(ours.clone()),
        };
        let told = server.for_participant("PA_1", 1_700_000_000);
        let credentials = credentials(&config.turn, ours);
        let logins = credentials.logins(&told.username);
        let [login] = logins.as_slice() else {
            panic!("{logins:?}");
        };
        assert_eq!(login.user, "PA_1");
        assert_eq!(login.password, Secret::new(told.credential));
        assert_eq!(credentials.logins("1700000000:@a:example").len(), 1);
        assert!(credentials.logins("mallory").is_empty());
    }

    #[test]
    fn participants_reach_us_alone_unless_it_is_said_and_users_of_the_homeserver_all_peers() {
        let reaches = |more: &str| {
            let secret = "static_auth_secret: 0123456789abcdef";
            let config = config(&format!("turn: {{{secret}, {more}}}\n"));
            let ours = ours(&config).expect("a key");
            let server = IceServer {
                urls: Vec::new(),
                credential: Credential::Ours(ours.clone()),
            };
            let told = server.for_participant("PA_1", 1_700_000_000);
            let credentials = credentials(&config.turn, ours);
            [told.username.as_str(), "1700000000:@a:example"].map(|name| {
                let logins = credentials.logins(name);
                logins.first().map(|login| login.reach)
            })
        };
        let (ours, peers) = (Some(Reach::Ours), Some(Reach::Peers));
        assert_eq!(reaches("udp_port: 3479"), [ours, peers]);
        assert_eq!(reaches("participants_reach_peers: true"), [peers, peers]);
    }

    #[test]
    fn clients_hear_of_the_server_first_and_where_it_is_now() {
        let config = config("rtc: {stun_servers: ['stun.example:3478']}\n");
        let (policy, joins) = watch::channel(crate::server::sections::policy(&config));
        let server = turn::config::Config::new("r", wall());
        let mut relay = Relay(Some(Running {
            server: Arc::new(net::Turn::start(Settings::new(server, [0; 32])).expect("a thread")),
            shared_port: 0,
            settings: config.turn.clone(),
            ours: ours(&config).expect("a key"),
            policy,
            udp_port: 7882,
            candidates: Vec::new(),
            own: None,
            urls: Vec::new(),
        }));
        let told = || -> Vec<String> {
            let policy = joins.borrow();
            let urls = policy
                .ice_servers
                .iter()
                .filter_map(|server| server.urls.first());
            urls.cloned().collect()
        };
        assert_eq!(told(), ["stun:stun.example:3478"]);
        for ip in ["192.0.2.1", "192.0.2.2"] {
            relay.follow(&[Candidate::udp(
                format!("{ip}:7882").parse().expect("an address"),
            )]);
            let first = format!("turn:{ip}:3479?transport=udp");
            assert_eq!(told(), [first.as_str(), "stun:stun.example:3478"]);
        }
        relay.follow(&[]);
        assert_eq!(told(), ["stun:stun.example:3478"]);
    }
}
