//! Delegated leaves over a restart: in a file, and in a real Redis as the reference keeps them, over its
//! absence too, and never in two hands.

use proto::livekit::{self, signal_request};
use serde_json::{Value, json};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tests::client::{Client, Join};
use tests::homeserver::{Homeserver, NAME, wanted};
use tests::script::set_up;
use tests::server::{Server, binary, free_tcp_port};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, interval, timeout};

/// How long a test waits.
const PATIENCE: Duration = Duration::from_secs(30);

/// A Redis of the test's own, which remembers over a restart.
struct Redis {
    child: Child,
    folder: PathBuf,
    port: u16,
}

impl Redis {
    async fn start() -> Self {
        set_up("redis").await;
        let port = free_tcp_port();
        let folder = std::env::temp_dir().join(format!("foci-redis-{port}"));
        fs::create_dir_all(&folder).expect("the temporary folder takes a folder");
        let mut redis = Self {
            child: Self::launch(port, &folder),
            folder,
            port,
        };
        redis.ready().await;
        redis
    }

    fn launch(port: u16, folder: &PathBuf) -> Child {
        Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--requirepass", "a-password", "--appendonly", "yes"])
            .args(["--appendfsync", "always"])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("Redis starts")
    }

    async fn ready(&mut self) {
        let answers = async {
            let mut tick = interval(Duration::from_millis(20));
            while !self.ask("PING").await.contains("PONG") {
                tick.tick().await;
            }
        };
        timeout(PATIENCE, answers).await.expect("Redis answers");
    }

    fn end(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    async fn again(&mut self) {
        self.child = Self::launch(self.port, &self.folder);
        self.ready().await;
    }

    /// What it answers to a command, as it stands on the wire; nothing if it is away.
    async fn ask(&self, command: &str) -> String {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let Ok(mut socket) = TcpStream::connect(address).await else {
            return String::new();
        };
        let text = format!("AUTH a-password\r\n{command}\r\nQUIT\r\n");
        let mut answer = String::new();
        // It may go away meanwhile.
        let _ = socket.write_all(text.as_bytes()).await;
        let _ = socket.read_to_string(&mut answer).await;
        answer
    }

    /// Waits until the jobs are so.
    async fn jobs(&self, fits: impl Fn(&str) -> bool) -> String {
        let found = async {
            let mut tick = interval(Duration::from_millis(50));
            loop {
                tick.tick().await;
                let jobs = self.ask("HGETALL lk-jwt:jobs").await;
                if fits(&jobs) {
                    return jobs;
                }
            }
        };
        timeout(PATIENCE, found).await.expect("as expected")
    }

    fn config(&self, homeserver: &Homeserver) -> String {
        let at = format!("redis: redis://:a-password@127.0.0.1:{}/0", self.port);
        keeping(&at, homeserver)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.end();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The configuration of a server that keeps leaves where this line of it says.
fn keeping(place: &str, homeserver: &Homeserver) -> String {
    let url = format!("http://{}", homeserver.address);
    format!(
        "matrix:\n  homeservers: {{ \"{NAME}\": \"{url}\" }}\n  client_apis: {{ \"{NAME}\": \"{url}\" }}\n  {place}\n"
    )
}

/// Hands a leave over; the status.
async fn hand_over(server: &Server, member: &str) -> u16 {
    let mut body = wanted("alice", "D", member);
    body["delay_id"] = json!(format!("delayed-{member}"));
    body["delay_timeout"] = json!(3_600_000);
    let body = body.to_string();
    let answer = server.post("/delegate_delayed_leave", "", &body);
    answer.await.status
}

/// Joins as the member whose leave it is.
async fn join(server: &Server, member: &str) -> Client {
    let answer = server
        .post("/get_token", "", &wanted("alice", "D", member).to_string())
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer: Value = serde_json::from_str(&answer.body).expect("JSON");
    let jwt = answer["jwt"].as_str().expect("a token");
    Client::join_with(server, Join::with_token(jwt)).await
}

#[tokio::test]
async fn a_restart_before_somebody_comes_and_one_while_he_is_there_lose_no_leave() {
    let mut homeserver = Homeserver::start(NAME).await;
    let file = std::env::temp_dir().join(format!("foci-kept-{}.redb", std::process::id()));
    let config = keeping(&format!("store: \"{}\"", file.display()), &homeserver);
    let server = Server::start_with(&config).await;
    assert_eq!(hand_over(&server, "m").await, 200);
    assert_eq!(homeserver.delayed(1).await, ["delayed-m/restart"]);
    // Killed, both times.
    drop(server);
    let server = Server::start_with(&config).await;
    assert!(
        server.log().contains("taken up again jobs=1"),
        "{}",
        server.log()
    );
    let alice = join(&server, "m").await;
    assert_eq!(homeserver.delayed(2).await, ["delayed-m/restart"; 2]);
    drop(server);
    drop(alice);
    let server = Server::start_with(&config).await;
    let alice = join(&server, "m").await;
    assert_eq!(homeserver.delayed(3).await, ["delayed-m/restart"; 3]);
    alice.say(signal_request::Message::Leave(
        livekit::LeaveRequest::default(),
    ));
    assert_eq!(homeserver.delayed(4).await[3], "delayed-m/send");
    drop(server);
    let _ = fs::remove_file(file);
}

#[tokio::test]
async fn a_restart_while_the_homeserver_is_being_asked_loses_no_leave() {
    let mut homeserver = Homeserver::start(NAME).await;
    let file = std::env::temp_dir().join(format!("foci-asking-{}.redb", std::process::id()));
    let config = keeping(&format!("store: \"{}\"", file.display()), &homeserver);
    let server = Server::start_with(&config).await;
    assert_eq!(hand_over(&server, "m").await, 200);
    assert_eq!(homeserver.delayed(1).await, ["delayed-m/restart"]);
    // Killed while the event is being restarted.
    homeserver.holds("restart");
    let alice = join(&server, "m").await;
    assert_eq!(homeserver.delayed(2).await, ["delayed-m/restart"; 2]);
    drop(server);
    drop(alice);
    homeserver.holds("");
    let server = Server::start_with(&config).await;
    let alice = join(&server, "m").await;
    assert_eq!(homeserver.delayed(3).await, ["delayed-m/restart"; 3]);

    // Killed while it is being sent: nobody comes who could be waited for.
    homeserver.holds("send");
    alice.say(signal_request::Message::Leave(
        livekit::LeaveRequest::default(),
    ));
    assert_eq!(homeserver.delayed(4).await[3], "delayed-m/send");
    drop(server);
    homeserver.holds("");
    let server = Server::start_with(&config).await;
    assert_eq!(homeserver.delayed(5).await[4], "delayed-m/send");
    server.logs("delegated leave is over").await;
    drop(server);
    let _ = fs::remove_file(file);
}

/// A server of this configuration ends with an error, and no word of the password.
async fn is_refused(config: &str) {
    let (http, udp) = (free_tcp_port(), free_tcp_port());
    let same = format!(
        "port: {http}\nrtc: {{ udp_port: {udp} }}\nkeys: {{ key: {} }}\n{config}",
        "k".repeat(40)
    );
    let mut other = Command::new(binary());
    other.env("LIVEKIT_CONFIG", same);
    let other = tokio::task::spawn_blocking(move || other.output()).await;
    let other = other.expect("not cancelled").expect("it runs");
    let told = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(!other.status.success());
    assert!(
        told.contains("another process has the jobs there"),
        "{told}"
    );
    assert!(!told.contains("a-password"), "{told}");
}

#[tokio::test]
async fn leaves_are_kept_in_redis_over_its_absence_and_over_a_crash_and_by_one_process() {
    let homeserver = Homeserver::start(NAME).await;
    let mut redis = Redis::start().await;
    let config = redis.config(&homeserver);
    let server = Server::start_with(&config).await;
    assert_eq!(hand_over(&server, "one").await, 200);
    // On its way before the answer, in the reference's form.
    let jobs = redis.ask("HGETALL lk-jwt:jobs").await;
    let value = jobs
        .lines()
        .find(|line| line.starts_with('{'))
        .expect("a job");
    let value: Value = serde_json::from_str(value).expect("JSON");
    assert_eq!(value["Params"]["DelayId"], "delayed-one");
    assert_eq!(value["Params"]["DelayTimeout"], 3_600_000_000_000_u64);
    assert_eq!(value["Params"]["ServerName"], NAME);

    // Another process that would send the same leaves does not start.
    is_refused(&config).await;

    // Away: nothing is promised. Back: all goes on by itself.
    redis.end();
    assert_eq!(hand_over(&server, "two").await, 500);
    redis.again().await;
    let taken = async {
        let mut tick = interval(Duration::from_millis(200));
        while hand_over(&server, "three").await != 200 {
            tick.tick().await;
        }
    };
    timeout(PATIENCE, taken).await.expect("Redis is back");
    let jobs = redis.jobs(|jobs| jobs.contains("delayed-three")).await;
    assert!(
        jobs.contains("delayed-one") && !jobs.contains("delayed-two"),
        "{jobs}"
    );
    let log = server.log();
    assert!(
        log.contains("Redis does not answer") && log.contains("Redis is back"),
        "{log}"
    );
    assert!(
        !log.contains("a-password") && !log.contains("delayed-"),
        "{log}"
    );

    // A crash: the next one waits for the claim to lapse, and takes the jobs up.
    drop(server);
    let began = Instant::now();
    let mut server = Server::begin_with(&config);
    server.logs("waiting for the claim").await;
    // Whoever watches over processes is not to end this one for it.
    assert_eq!(server.get("/healthz", "").await.status, 200);
    assert_eq!(server.get("/readyz", "").await.status, 503);
    server.ready().await;
    assert!(
        server
            .log()
            .contains("delegated leaves taken up again jobs=2"),
        "{}",
        server.log()
    );
    assert!(began.elapsed() < PATIENCE);
}

#[tokio::test]
async fn whoever_lost_the_leaves_in_redis_to_another_lets_go_of_them() {
    let mut homeserver = Homeserver::start(NAME).await;
    let redis = Redis::start().await;
    let server = Server::start_with(&redis.config(&homeserver)).await;
    assert_eq!(hand_over(&server, "one").await, 200);
    let alice = join(&server, "one").await;
    assert_eq!(homeserver.delayed(2).await, ["delayed-one/restart"; 2]);
    // As it is after a long absence of the network: the claim has lapsed, and another has taken it.
    redis.ask("SET lk-jwt:owner another").await;
    server.logs("taken the delegated leaves in Redis").await;
    let ended = server
        .metric("foci_jwt_leaves_ended_total", &["end=\"elsewhere\""])
        .await;
    let left = server.metric("foci_jwt_leaves", &[]).await;
    assert_eq!((ended, left), (1.0, 0.0));
    // It takes no more, and touches nothing: clients get in and keep their leaves themselves.
    assert_eq!(hand_over(&server, "two").await, 404);
    join(&server, "two").await;
    alice.say(signal_request::Message::Leave(
        livekit::LeaveRequest::default(),
    ));
    server.logs("participant closing").await;
    assert_eq!(homeserver.delayed(0).await.len(), 2);
    let jobs = redis.ask("HGETALL lk-jwt:jobs").await;
    assert!(jobs.contains("delayed-one") && !jobs.contains("delayed-two"));
    let owner = redis.ask("GET lk-jwt:owner").await;
    assert!(owner.contains("another"), "{owner}");
}
