//! SIGHUP: what may change while running does, what needs a restart is named, and a mistake changes
//! nothing.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use tests::alone::Alone;
use tests::client::{Client, Join};
use tests::homeserver::{Homeserver, NAME, wanted};
use tests::room_service::RoomService;
use tests::server::Server;
use tests::token::{KEY, SECRET, claims, issued, sign};
use tokio::time::{interval, timeout};

/// A file of the test's own, gone when dropped.
struct File(PathBuf);

impl File {
    fn new(name: &str) -> Self {
        let name = format!("foci-reload-{}-{name}.yaml", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn request() -> String {
    wanted("alice", "D", "m").to_string()
}

/// May somebody of the homeserver send? Only users of full-access homeservers may.
async fn sends(server: &Server) -> bool {
    let answer = server.post("/get_token", "", &request()).await;
    issued(&answer).claims["video"]["canPublish"] == true
}

/// A configuration that names who has full access.
fn named(homeserver: &Homeserver, name: &str, more: &str) -> String {
    let url = format!("http://{}", homeserver.address);
    format!(
        "matrix:\n  homeservers: {{ \"{NAME}\": \"{url}\" }}\n  full_access_homeservers: [{name}]\n{more}"
    )
}

/// What the log says of a new configuration.
async fn reloaded(server: &Server, file: &File, more: &str) -> String {
    server.rewrite(&file.0, more);
    read_again(server).await
}

/// What the log says of what the file has now.
async fn read_again(server: &Server) -> String {
    let before = server.log().len();
    server.signal("HUP");
    let told = async {
        let mut tick = interval(Duration::from_millis(20));
        loop {
            tick.tick().await;
            let told = server.log()[before..].to_owned();
            let end = ["configuration reloaded", "configuration not reloaded"];
            if end.iter().any(|end| told.contains(end)) {
                return told;
            }
        }
    };
    timeout(Duration::from_secs(15), told)
        .await
        .expect("it says so")
}

#[tokio::test]
async fn a_homeserver_gains_and_loses_full_access_and_a_mistake_changes_nothing() {
    let homeserver = Homeserver::start(NAME).await;
    let file = File::new("access");
    let server = Server::start_from(&file.0, &named(&homeserver, "other.example", "")).await;
    assert!(!sends(&server).await);

    let told = reloaded(&server, &file, &named(&homeserver, NAME, "")).await;
    let taken = "configuration reloaded keys=\"matrix.full_access_homeservers\"";
    assert!(told.contains(taken), "{told}");
    assert!(sends(&server).await);
    let jwt = issued(&server.post("/get_token", "", &request()).await).jwt;
    let alice = Client::join_with(&server, Join::with_token(&jwt)).await;

    // Wrong in one key, so nothing of it counts.
    let wrong = named(&homeserver, "other.example", "  token_lifetime: 1s\n");
    let log = reloaded(&server, &file, &wrong).await;
    let told = log.lines().find(|line| line.contains("ERROR"));
    let told = told.expect("an error");
    for part in [
        "matrix.token_lifetime",
        "not between 10 seconds",
        "write for example 1h",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(sends(&server).await);
    // One that only shows when it is applied.
    let wrong = named(&homeserver, "other.example", "  ca_file: /no/such.pem\n");
    let told = reloaded(&server, &file, &wrong).await;
    assert!(told.contains("matrix: cannot read certificates"), "{told}");
    assert!(sends(&server).await);

    // The call has gone on meanwhile.
    assert_eq!(server.metric("livekit_participant_total", &[]).await, 1.0);
    drop(alice);
    assert!(!server.log().contains(SECRET));
}

#[tokio::test]
async fn what_is_refused_changes_no_address_either() {
    let file = File::new("address");
    let server = Server::start_from(&file.0, "").await;
    let write = |more: &str| {
        let text = fs::read_to_string(&file.0).expect("the file");
        let moved = text.replace("node_ip: \"127.0.0.1\"", "node_ip: \"127.0.0.2\"");
        assert!(moved.contains("127.0.0.2"), "{moved}");
        fs::write(&file.0, moved + more).expect("written");
    };
    write("matrix: { ca_file: /no/such.pem }\n");
    let told = read_again(&server).await;
    assert!(told.contains("everything stays as it was"), "{told}");
    // What is looked at once more afterwards is looked at by what it was.
    server.check_addresses().await;
    server.rewrite(&file.0, "");
    write("");
    let told = read_again(&server).await;
    assert!(told.contains("keys=\"rtc.node_ip\""), "{told}");
    server
        .logs("advertised candidate: udp4 host 127.0.0.2:")
        .await;
    let log = server.log();
    let refused = log.find("everything stays as it was").expect("told");
    let taken = log.rfind("configuration reloaded keys").expect("told");
    assert!(!log[refused..taken].contains("127.0.0.2:"), "{log}");
}

#[tokio::test]
async fn what_needs_a_restart_is_named_and_the_rest_is_taken_over() {
    let homeserver = Homeserver::start(NAME).await;
    let file = File::new("restart");
    let server = Server::start_from(&file.0, &named(&homeserver, "other.example", "")).await;
    let more = "  store: /no/such/folder/store\n  restricted_access: publish\n";
    let next = named(&homeserver, "other.example", more);
    let told = reloaded(&server, &file, &next).await;
    for part in [
        "wait for a restart keys=\"matrix.store\"",
        "configuration reloaded keys=\"matrix.restricted_access\"",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(sends(&server).await, "by another right");
    let more = "  restricted_access: refuse\n";
    reloaded(&server, &file, &named(&homeserver, "other.example", more)).await;
    let refused = server.post("/get_token", "", &request()).await;
    assert_eq!(refused.status, 403, "{refused:?}");
}

#[tokio::test]
async fn limits_and_trusted_proxies_count_from_the_next_request_on() {
    let homeserver = Homeserver::start(NAME).await;
    let file = File::new("limits");
    let server = Server::start_from(&file.0, &named(&homeserver, NAME, "")).await;
    let from = async |ip: &str| {
        let headers = format!("X-Forwarded-For: {ip}\r\n");
        server.post("/get_token", &headers, &request()).await.status
    };
    assert_eq!(from("192.0.2.9").await, 200);
    assert!(server.log().contains("token decision ip=unknown"));
    let more = "  requests_per_address: 1\nhttp: { trusted_proxies: [127.0.0.1] }\n";
    let told = reloaded(&server, &file, &named(&homeserver, NAME, more)).await;
    let keys = "keys=\"http.trusted_proxies, matrix.requests_per_address\"";
    assert!(told.contains(keys), "{told}");
    assert_eq!(
        (from("192.0.2.9").await, from("192.0.2.9").await),
        (200, 429)
    );
    assert_eq!(from("192.0.2.10").await, 200);
    assert!(server.log().contains("token decision ip=192.0.2.9"));
}

#[tokio::test]
async fn naming_homeservers_ends_the_making_of_rooms_by_joins_at_once() {
    let file = File::new("rooms");
    let server = Server::start_from(&file.0, "").await;
    let token = sign(&claims("alice", "no-such-room"), SECRET);
    let path = format!("/rtc/v1/validate?join_request=EgA%3D&access_token={token}");
    assert_eq!(server.get(&path, "").await.status, 200);
    let named = "matrix: { full_access_homeservers: [a.example] }\n";
    let told = reloaded(&server, &file, named).await;
    let keys = "keys=\"room.auto_create, matrix.full_access_homeservers\"";
    assert!(told.contains(keys), "{told}");
    assert_eq!(server.get(&path, "").await.status, 404);
    let told = reloaded(&server, &file, "").await;
    assert!(told.contains(keys), "{told}");
    assert_eq!(server.get(&path, "").await.status, 200);
    let told = reloaded(&server, &file, "").await;
    assert!(told.contains("no key has changed"), "{told}");
}

#[tokio::test]
async fn the_service_alone_reads_its_file_again_and_its_variables_win() {
    let (homeserver, sfu) = (Homeserver::start(NAME).await, RoomService::start().await);
    let file = File::new("alone");
    let write = |name: &str, more: &str| {
        let at = format!("http://{}", homeserver.address);
        let text = format!(
            "port: 1\nmatrix:\n  homeservers: {{ \"{NAME}\": \"{at}\" }}\n  full_access_homeservers: [{name}]\n{more}"
        );
        fs::write(&file.0, text).expect("written");
    };
    write("other.example", "  url: ws://of.the.file\n");
    let url = format!("ws://{}", sfu.address);
    let secret = File::new("secret");
    fs::write(&secret.0, SECRET).expect("written");
    let variables = [
        ("LIVEKIT_URL", url.as_str()),
        ("LIVEKIT_KEY", KEY),
        ("LIVEKIT_SECRET_FROM_FILE", secret.0.to_str().expect("text")),
    ];
    let path = file.0.to_str().expect("text");
    let service = Alone::start_with(&["--config", path], &variables).await;
    let told = async || {
        let answer = service.ask("POST", "/get_token", "", &request()).await;
        issued(&answer).claims
    };
    assert_eq!(told().await["video"]["canPublish"], false);
    // What the variable says and what is the server's alone are not told as changes.
    write(NAME, "  url: ws://of.another.file\nrtc: { tcp_port: 2 }\n");
    service.signal("HUP");
    service
        .logs("configuration reloaded keys=\"matrix.full_access_homeservers\"")
        .await;
    assert_eq!(told().await["video"]["canPublish"], true);
    assert!(!service.log().contains("wait for a restart"));

    // Another secret is none of a running service.
    fs::write(&secret.0, "another-secret-that-nobody-has-seen").expect("written");
    service.signal("HUP");
    service.logs("wait for a restart keys=\"keys\"").await;
    assert_eq!(told().await["iss"], KEY);

    write("other.example", "  no_such_key: 1\n");
    service.signal("HUP");
    service.logs("configuration not reloaded").await;
    assert!(service.log().contains("no_such_key"));
    assert_eq!(told().await["video"]["canPublish"], true);
    let log = service.log();
    assert!(!log.contains(SECRET) && !log.contains("another-secret"));
}
