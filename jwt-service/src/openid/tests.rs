use super::*;
use crate::config::{FullAccess, Verification};
use crate::settled::Owner;
use crate::stand_in::authority::Authority;
use crate::stand_in::dns::{DnsServer, Record};
use crate::stand_in::homeserver::{Asked, Homeserver, Reply};
use crate::stand_in::watch::Remembered;
use std::net::IpAddr;

const TOKEN: &str = "secret-token/?&=";
const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn at(name: &'static str) -> Record {
    Record::Address(name, HERE)
}

/// A network of a test: authority, DNS, and what the verifier is configured with.
struct World {
    authority: Authority,
    config: Config,
    ports: Ports,
    records: Vec<Record>,
}

/// What became of it.
struct Asking {
    verifier: Verifier,
    owner: Owner,
    dns: DnsServer,
    watch: Arc<Remembered>,
}

impl World {
    fn new() -> Self {
        let authority = Authority::new();
        Self {
            config: Config {
                ca_file: Some(authority.file().to_owned()),
                allow_private_addresses: true,
                ..Config::default()
            },
            authority,
            // Nobody listens there.
            ports: Ports {
                federation: 1,
                https: 1,
            },
            records: Vec::new(),
        }
    }

    /// A homeserver of these names that vouches for `user`.
    async fn homeserver(&self, names: &[&str], user: &'static str) -> Homeserver {
        let tls = self.authority.acceptor(names);
        Homeserver::start(Some(tls), move |_| Reply::user(user)).await
    }

    /// A web server that answers the well-known path so.
    async fn web(&mut self, names: &[&str], reply: Reply) -> Homeserver {
        let tls = self.authority.acceptor(names);
        let web = Homeserver::start(Some(tls), move |_| reply.clone()).await;
        self.ports.https = web.address.port();
        web
    }

    async fn ready(self) -> Asking {
        let dns = DnsServer::start(self.records).await;
        let watch = Arc::<Remembered>::default();
        let resolver = Dns::at(dns.address);
        let counted = Arc::clone(&watch);
        let owner = Owner::new(self.config).expect("a configuration");
        Asking {
            verifier: Verifier::with(owner.settled(), counted, resolver, self.ports),
            owner,
            dns,
            watch,
        }
    }
}

impl Asking {
    async fn verify(&self, server: &str) -> Result<String, Doubt> {
        let open_id = OpenId {
            access_token: TOKEN.into(),
            server: server.into(),
        };
        let result = self.verifier.verify(&open_id).await;
        if let Err(doubt) = &result {
            let shown = format!("{doubt} {doubt:?}");
            assert!(!shown.contains("secret-token"), "{shown}");
        }
        result
    }

    /// The reason, in one word.
    async fn doubt(&self, server: &str) -> &'static str {
        match self.verify(server).await {
            Err(doubt) => doubt.label(),
            Ok(user) => panic!("believed: {user}"),
        }
    }
}

fn configured(name: &str, url: &str) -> crate::config::Homeserver {
    crate::config::Homeserver {
        name: name.into(),
        url: url.into(),
    }
}

fn well_known(server: &str) -> Reply {
    Reply::body(&format!(r#"{{"m.server":"{server}"}}"#))
}

#[tokio::test]
async fn a_name_with_a_port_is_asked_there_and_nowhere_else() {
    let mut world = World::new();
    world.records = vec![at("hs.example")];
    let tls = world.authority.acceptor(&["hs.example"]);
    let own = |asked: &Asked| Reply::user(&format!("@a:{}", asked.host));
    let hs = Homeserver::start(Some(tls), own).await;
    let name = format!("hs.example:{}", hs.address.port());
    let asking = world.ready().await;
    let user = asking.verify(&name).await.expect("believed");
    assert_eq!(user, format!("@a:{name}"));
    assert_eq!(hs.hosts(), [name]);
    let path = &hs.asked()[0].path;
    assert_eq!(path, &matrix::userinfo_path(TOKEN).expect("a path"));
    let srv = |name: &String| name.starts_with('_');
    assert!(
        !asking.dns.asked().iter().any(srv),
        "{:?}",
        asking.dns.asked()
    );
}

#[tokio::test]
async fn an_address_is_its_own_name_in_header_and_certificate() {
    let mut world = World::new();
    let hs = world.homeserver(&["127.0.0.1"], "@a:127.0.0.1").await;
    world.ports.federation = hs.address.port();
    let asking = world.ready().await;
    assert_eq!(
        asking.verify("127.0.0.1").await.expect("believed"),
        "@a:127.0.0.1"
    );
    let with_port = format!("127.0.0.1:{}", hs.address.port());
    assert_eq!(asking.doubt(&with_port).await, "foreign_user");
    assert_eq!(hs.hosts(), ["127.0.0.1".to_owned(), with_port]);
    assert_eq!(asking.dns.asked(), Vec::<String>::new());
    assert_eq!(asking.watch.all(), ["lookup ok", "lookup foreign_user"]);
}

#[tokio::test]
async fn without_anything_else_a_name_is_asked_at_the_federation_port() {
    let mut world = World::new();
    world.records = vec![at("hs.example")];
    let hs = world.homeserver(&["hs.example"], "@a:hs.example").await;
    world.ports.federation = hs.address.port();
    let asking = world.ready().await;
    asking.verify("hs.example").await.expect("believed");
    assert_eq!(hs.hosts(), ["hs.example"]);
    let asked = asking.dns.asked();
    for service in ["_matrix-fed._tcp.hs.example", "_matrix._tcp.hs.example"] {
        assert!(asked.contains(&service.to_owned()), "{asked:?}");
    }
}

#[tokio::test]
async fn a_well_known_file_delegates_and_is_remembered() {
    let mut world = World::new();
    world.records = vec![at("hs.example"), at("real.example")];
    let hs = world.homeserver(&["real.example"], "@a:hs.example").await;
    let delegated = format!("real.example:{}", hs.address.port());
    let web = world.web(&["hs.example"], well_known(&delegated)).await;
    let asking = world.ready().await;
    for _ in 0..3 {
        asking.verify("hs.example").await.expect("believed");
    }
    assert_eq!(web.asked().len(), 1);
    assert_eq!(web.asked()[0].path, "/.well-known/matrix/server");
    assert_eq!(web.hosts(), ["hs.example"]);
    assert_eq!(
        hs.hosts(),
        [delegated.clone(), delegated.clone(), delegated]
    );
}

#[tokio::test]
async fn a_delegation_that_leads_nowhere_is_forgotten() {
    let mut world = World::new();
    world.records = vec![at("hs.example")];
    let web = world.web(&["hs.example"], well_known("127.0.0.1:1")).await;
    let asking = world.ready().await;
    assert_eq!(asking.doubt("hs.example").await, "connect");
    assert_eq!(asking.doubt("hs.example").await, "connect");
    assert_eq!(web.asked().len(), 2);
}

#[tokio::test]
async fn a_delegation_to_what_is_no_homeserver_any_more_is_forgotten() {
    let mut world = World::new();
    world.records = vec![at("hs.example"), at("real.example")];
    let tls = world.authority.acceptor(&["real.example"]);
    let gone = Reply::Says(404, String::new(), "gone".into());
    let hs = Homeserver::start(Some(tls), move |_| gone.clone()).await;
    let delegated = format!("real.example:{}", hs.address.port());
    let web = world.web(&["hs.example"], well_known(&delegated)).await;
    let asking = world.ready().await;
    for _ in 0..2 {
        assert_eq!(asking.doubt("hs.example").await, "status");
    }
    assert_eq!(web.asked().len(), 2);
}

#[tokio::test]
async fn a_delegated_name_is_looked_for_in_dns_and_needs_its_own_certificate() {
    let mut world = World::new();
    let hs = world.homeserver(&["real.example"], "@a:hs.example").await;
    world.records = vec![
        at("hs.example"),
        at("box.example"),
        Record::Service(
            "_matrix._tcp.real.example",
            10,
            hs.address.port(),
            "box.example",
        ),
    ];
    let web = world.web(&["hs.example"], well_known("real.example")).await;
    let asking = world.ready().await;
    asking.verify("hs.example").await.expect("believed");
    assert_eq!(hs.hosts(), ["real.example"]);
    assert_eq!(web.asked().len(), 1);
}

#[tokio::test]
async fn redirects_of_the_well_known_file_are_followed_within_bounds() {
    let mut world = World::new();
    world.records = vec![at("hs.example"), at("www.example")];
    let hs = world
        .homeserver(&["real.example", "hs.example"], "@a:hs.example")
        .await;
    world.records.push(at("real.example"));
    let port = hs.address.port();
    let delegated = format!(r#"{{"m.server":"real.example:{port}"}}"#);
    let tls = world.authority.acceptor(&["hs.example", "www.example"]);
    let web = Homeserver::start(Some(tls), move |asked| {
        match (asked.host.as_str(), asked.path.as_str()) {
            ("hs.example", _) => {
                let to = "Location: https://www.example/elsewhere\r\n";
                Reply::Says(301, to.into(), String::new())
            }
            ("www.example", "/elsewhere") => {
                Reply::Says(302, "Location: /at/last\r\n".into(), String::new())
            }
            ("www.example", "/at/last") => Reply::body(&delegated),
            _ => Reply::Nothing,
        }
    })
    .await;
    world.ports.https = web.address.port();
    let asking = world.ready().await;
    asking.verify("hs.example").await.expect("believed");
    assert_eq!(hs.hosts(), [format!("real.example:{port}")]);
}

#[tokio::test]
async fn a_useless_well_known_file_counts_as_none() {
    let long = format!(
        r#"{{"m.server":"no.example:1","x":"{}"}}"#,
        "x".repeat(60_000)
    );
    let useless = [
        Reply::Says(404, String::new(), r#"{"m.server":"no.example:1"}"#.into()),
        Reply::body("<html>"),
        Reply::body(r#"{"m.server":"https://no.example"}"#),
        Reply::body(&long),
        // Not over http, and not for ever.
        Reply::Says(
            302,
            "Location: http://hs.example/\r\n".into(),
            String::new(),
        ),
        Reply::Says(
            302,
            "Location: /.well-known/matrix/server\r\n".into(),
            String::new(),
        ),
        Reply::Says(302, String::new(), String::new()),
    ];
    for reply in useless {
        let mut world = World::new();
        world.records = vec![at("hs.example")];
        let hs = world.homeserver(&["hs.example"], "@a:hs.example").await;
        world.ports.federation = hs.address.port();
        let web = world.web(&["hs.example"], reply).await;
        let asking = world.ready().await;
        asking.verify("hs.example").await.expect("believed");
        assert_eq!(hs.hosts(), ["hs.example"]);
        assert!((1..=6).contains(&web.asked().len()), "{:?}", web.asked());
    }
}

#[tokio::test]
async fn a_service_record_tells_host_and_port_and_the_newer_name_wins() {
    let mut world = World::new();
    let hs = world.homeserver(&["hs.example"], "@a:hs.example").await;
    let port = hs.address.port();
    world.records = vec![
        at("hs.example"),
        at("box.example"),
        // The best one is out of order today.
        Record::Service("_matrix-fed._tcp.hs.example", 10, 1, "box.example"),
        Record::Service("_matrix-fed._tcp.hs.example", 20, port, "box.example"),
        Record::Service("_matrix._tcp.hs.example", 1, 1, "old.example"),
    ];
    let asking = world.ready().await;
    asking.verify("hs.example").await.expect("believed");
    assert_eq!(hs.hosts(), ["hs.example"]);
    assert!(!asking.dns.asked().contains(&"old.example".to_owned()));
}

#[tokio::test]
async fn a_service_that_is_decidedly_absent_leaves_the_federation_port() {
    let mut world = World::new();
    let hs = world.homeserver(&["hs.example"], "@a:hs.example").await;
    world.ports.federation = hs.address.port();
    world.records = vec![
        at("hs.example"),
        Record::Service("_matrix-fed._tcp.hs.example", 0, 0, ""),
    ];
    world
        .ready()
        .await
        .verify("hs.example")
        .await
        .expect("believed");
}

#[tokio::test]
async fn a_certificate_for_somebody_else_or_of_an_unknown_authority_is_refused() {
    let mut world = World::new();
    world.records = vec![at("hs.example")];
    let hs = world.homeserver(&["other.example"], "@a:hs.example").await;
    world.ports.federation = hs.address.port();
    let asking = world.ready().await;
    assert_eq!(asking.doubt("hs.example").await, "tls");
    assert_eq!(hs.asked(), []);

    let mut world = World::new();
    world.records = vec![at("hs.example")];
    let hs = world.homeserver(&["hs.example"], "@a:hs.example").await;
    world.ports.federation = hs.address.port();
    world.config.ca_file = None;
    assert_eq!(world.ready().await.doubt("hs.example").await, "tls");
    assert_eq!(hs.asked(), []);
}

#[tokio::test]
async fn certificates_go_unchecked_only_where_the_operator_wants_it() {
    let mut world = World::new();
    world.records = vec![at("hs.example")];
    let hs = world.homeserver(&["other.example"], "@a:hs.example").await;
    world.ports.federation = hs.address.port();
    world.config.ca_file = None;
    world.config.verify_tls = Verification::Off;
    world
        .ready()
        .await
        .verify("hs.example")
        .await
        .expect("believed");
}

#[tokio::test]
async fn private_addresses_are_for_servers_that_the_operator_named() {
    let mut world = World::new();
    world.records = vec![at("hs.example"), at("own.example")];
    let hs = world
        .homeserver(
            &["hs.example", "own.example", "127.0.0.1"],
            "@a:own.example",
        )
        .await;
    let port = hs.address.port();
    world.ports.federation = port;
    world.config.allow_private_addresses = false;
    world.config.full_access = FullAccess::listed(vec!["own.example".into()]);
    let web = world.web(&["hs.example"], well_known("127.0.0.1")).await;
    let asking = world.ready().await;
    let with_port = format!("hs.example:{port}");
    for server in [
        "hs.example",
        "127.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        &with_port,
    ] {
        assert_eq!(asking.doubt(server).await, "private_address", "{server}");
    }
    assert_eq!((hs.asked().len(), web.asked().len()), (0, 0));
    let told = asking
        .verify("hs.example")
        .await
        .expect_err("refused")
        .to_string();
    assert!(told.contains("matrix.allow_private_addresses"), "{told}");
    asking.verify("own.example").await.expect("believed");
}

#[tokio::test]
async fn a_configured_url_replaces_looking_for_the_server() {
    let mut world = World::new();
    world.config.allow_private_addresses = false;
    let hs = Homeserver::start(None, |_| Reply::user("@a:hs.example")).await;
    world.config.homeservers = vec![configured(
        "hs.example",
        &format!("http://{}/base/", hs.address),
    )];
    let asking = world.ready().await;
    asking.verify("hs.example").await.expect("believed");
    let path = matrix::userinfo_path(TOKEN).expect("a path");
    assert_eq!(hs.asked()[0].path, format!("/base{path}"));
    assert_eq!(hs.hosts(), [hs.address.to_string()]);
    assert_eq!(asking.dns.asked(), Vec::<String>::new());
    // It is that of one server only.
    assert_ne!(asking.doubt("hs.example:8448").await, "foreign_user");
}

#[tokio::test]
async fn a_homeserver_vouches_for_its_own_users_only() {
    for foreign in [
        "@a:other.example",
        "@a:HS.example",
        "@a:hs.example:8448",
        "@a:x:hs.example",
    ] {
        let mut world = World::new();
        world.records = vec![at("hs.example")];
        let hs = world.homeserver(&["hs.example"], foreign).await;
        world.ports.federation = hs.address.port();
        let asking = world.ready().await;
        let doubt = asking.doubt("hs.example").await;
        assert!(
            ["foreign_user", "not_understood"].contains(&doubt),
            "{foreign} {doubt}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_is_no_user_is_refused() {
    let long = format!(
        r#"{{"sub":"@a:hs.example","x":"{}"}}"#,
        "x".repeat(MAX_ANSWER_BYTES)
    );
    let unknown = r#"{"errcode":"M_UNKNOWN_TOKEN"}"#.to_owned();
    let away = "Location: https://hs.example/\r\n".to_owned();
    for (reply, expected) in [
        (Reply::Says(401, String::new(), unknown), "status"),
        (Reply::Says(302, away, String::new()), "status"),
        (
            Reply::Says(500, String::new(), r#"{"sub":"@a:hs.example"}"#.into()),
            "status",
        ),
        (Reply::body("<html>"), "not_understood"),
        (Reply::body(""), "not_understood"),
        (Reply::body(r#"{"sub":null}"#), "not_understood"),
        (Reply::body(&long), "too_long"),
        (
            Reply::Says(
                200,
                format!("X: {}\r\n", "x".repeat(100_000)),
                String::new(),
            ),
            "http",
        ),
    ] {
        let mut world = World::new();
        let hs = Homeserver::start(None, move |_| reply.clone()).await;
        world.config.homeservers =
            vec![configured("hs.example", &format!("http://{}", hs.address))];
        let asking = world.ready().await;
        assert_eq!(asking.doubt("hs.example").await, expected);
        assert_eq!(asking.watch.all(), [format!("lookup {expected}")]);
    }
}

#[tokio::test]
async fn a_homeserver_that_says_nothing_is_waited_for_within_the_deadline() {
    let mut world = World::new();
    let hs = Homeserver::start(None, |_| Reply::Nothing).await;
    world.config.homeservers = vec![configured("hs.example", &format!("http://{}", hs.address))];
    let asking = world.ready().await;
    let patience = async {
        hs.was_asked.notified().await;
        // From here on nothing moves but the clock.
        tokio::time::pause();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        doubt = asking.doubt("hs.example") => assert_eq!(doubt, "timeout"),
        () = patience => {}
    }
    assert_eq!(asking.watch.all(), ["lookup timeout"]);
}

#[tokio::test]
async fn what_is_no_server_name_reaches_nobody() {
    let asking = World::new().ready().await;
    for server in [
        "",
        "hs.example/..",
        "https://hs.example",
        "hs.example:99999",
        "a b",
        "@a:b",
    ] {
        assert_eq!(asking.doubt(server).await, "invalid_name", "{server}");
    }
    assert_eq!(asking.doubt("absent.example").await, "dns");
}

#[tokio::test]
async fn too_many_at_one_server_are_told_to_come_again() {
    let asking = World::new().ready().await;
    let take = |_| asking.verifier.places.take("slow.example", false);
    let held: Vec<_> = (0..).map_while(take).collect();
    assert_eq!(asking.doubt("slow.example").await, "busy");
    assert_eq!(asking.watch.all(), ["limit jwt_lookups"]);
    drop(held);
    assert_eq!(asking.doubt("slow.example").await, "dns");
}

#[tokio::test]
async fn a_homeserver_that_is_named_later_is_asked_where_it_is_then() {
    let homeserver = Homeserver::start(None, |_| Reply::user("@alice:hs.example")).await;
    let asking = World::new().ready().await;
    assert_eq!(asking.doubt("hs.example").await, "dns");
    let config = Config {
        homeservers: vec![configured(
            "hs.example",
            &format!("http://{}", homeserver.address),
        )],
        ..Config::default()
    };
    asking.owner.replace(config).expect("good");
    let user = asking.verify("hs.example").await;
    assert_eq!(user.ok().as_deref(), Some("@alice:hs.example"));
    asking.owner.replace(Config::default()).expect("good");
    assert_eq!(asking.doubt("hs.example").await, "dns");
}
