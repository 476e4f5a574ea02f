//! What must hold with a proxy that ends TLS and passes HTTP on.

use serde_json::{Value, json};
use std::sync::Arc;
use tests::certified::{Certified, OTHER_HOST};
use tests::homeserver::Homeserver;
use tests::proxy::{Page, Proxy, VISITOR, visit};
use tests::request::{Answer, Request};
use tests::script;
use tests::server::Server;
use tokio_rustls::rustls::RootCertStore;

/// The homeserver of the visitors.
pub(crate) const HOMESERVER: &str = "example.com";
/// Bytes of a request that may be long: several times those of a browser's join.
const LONG: usize = 20_000;

/// A server for a proxy in front, and what belongs to it.
pub(crate) struct Site {
    pub(crate) server: Server,
    pub(crate) certified: Arc<Certified>,
    _homeserver: Homeserver,
}

/// Lines of configuration that let users of a homeserver in.
pub(crate) async fn homeserver() -> (Homeserver, String) {
    let homeserver = Homeserver::start(HOMESERVER).await;
    let url = format!("http://{}", homeserver.address);
    let config = format!("matrix:\n  homeservers: {{ \"{HOMESERVER}\": \"{url}\" }}\n");
    (homeserver, config)
}

impl Site {
    /// A server with the lines of this part of the page.
    pub(crate) async fn open(page: &Page, part: &str) -> Self {
        script::set_up("proxies").await;
        let (homeserver, matrix) = homeserver().await;
        let config = page.file(part, "foci.yaml").text().to_owned() + &matrix;
        let certified = Arc::new(Certified::default());
        certified.renew();
        Self {
            server: Server::start_with(&config).await,
            certified,
            _homeserver: homeserver,
        }
    }

    /// Where it is, as pages write it for `127.0.0.1:7880`.
    pub(crate) fn at(&self) -> String {
        self.server.http.to_string()
    }

    /// A file of the authority and its certificates.
    pub(crate) fn file(&self, name: &str) -> String {
        self.certified.file(name).display().to_string()
    }

    /// A call through the proxy, then the requests that MatrixRTC makes and those that show whether the
    /// proxy does what it must. Clients are told `url`.
    pub(crate) async fn is_served_by(&self, proxy: &Proxy, url: &str) {
        let port = proxy.https.port();
        let front = format!("wss://localhost:{port}/livekit/sfu");
        let authority = self.certified.root();
        script::python_at(&self.server, (&front, &authority), "call.py").await;
        let visitor = Visitor {
            roots: self.certified.roots(),
            proxy,
        };
        visitor.sees_both_services().await;
        visitor.asks_from_a_page_of_elsewhere().await;
        visitor.gets_a_token(&self.server, url).await;
        visitor.joins_with_a_long_line(&self.server).await;
        let logs = proxy.logs();
        assert!(
            !logs.contains("access_token"),
            "tokens are in its log: {logs}"
        );
    }
}

/// Somebody who comes from [`VISITOR`] in TLS.
pub(crate) struct Visitor<'a> {
    pub(crate) roots: RootCertStore,
    pub(crate) proxy: &'a Proxy,
}

impl Visitor<'_> {
    pub(crate) async fn visit(&self, request: Request<'_>) -> Answer {
        visit(&self.roots, (self.proxy.https, "localhost"), request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.visit(get(path)).await
    }

    /// The well-known file of a homeserver tells where the service is, to pages of any origin.
    pub(crate) async fn reads_the_well_known_file(&self) {
        let at = (self.proxy.https, OTHER_HOST);
        let answer = visit(&self.roots, at, get("/.well-known/matrix/client")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(allowed_origins(&answer), ["*"], "{answer:?}");
        let told: Value = serde_json::from_str(&answer.body).expect("JSON");
        let service = &told["org.matrix.msc4143.rtc_foci"][0]["livekit_service_url"];
        assert_eq!(service, "https://rtc.example.org/livekit/jwt");
    }

    async fn sees_both_services(&self) {
        let health = self.get("/livekit/jwt/healthz").await;
        assert_eq!(health.status, 200, "{health:?}");
        let sfu = self.get("/livekit/sfu/").await;
        assert_eq!((sfu.status, sfu.body.as_str()), (200, "OK"));
    }

    /// Browsers ask first, and take one answer only.
    async fn asks_from_a_page_of_elsewhere(&self) {
        let headers = "Origin: https://call.example\r\nAccess-Control-Request-Method: POST\r\n\
                       Access-Control-Request-Headers: content-type\r\n";
        let asked = Request {
            method: "OPTIONS",
            path: "/livekit/jwt/sfu/get",
            headers,
            body: "",
        };
        let answer = self.visit(asked).await;
        assert!(matches!(answer.status, 200 | 204), "{answer:?}");
        assert_eq!(
            allowed_origins(&answer),
            ["https://call.example"],
            "{answer:?}"
        );
    }

    /// A token for a user of the homeserver, who says that he is somewhere else: the server is told of
    /// [`VISITOR`] all the same, by whom it limits and whom it tells to fail2ban.
    pub(crate) async fn gets_a_token(&self, server: &Server, url: &str) {
        let body = json!({
            "room": "!room:example.com",
            "openid_token": {
                "access_token": "of-alice",
                "token_type": "Bearer",
                "matrix_server_name": HOMESERVER,
                "expires_in": 3600,
            },
            "device_id": "DEVICE",
        });
        let asked = Request {
            method: "POST",
            path: "/livekit/jwt/sfu/get",
            headers: "Origin: https://call.example\r\nContent-Type: application/json\r\n\
                      X-Forwarded-For: 203.0.113.9\r\n",
            body: &body.to_string(),
        };
        let answer = self.visit(asked).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(
            allowed_origins(&answer),
            ["https://call.example"],
            "{answer:?}"
        );
        let told: Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!(told["url"], url);
        server
            .logs(&format!("MatrixRTC token decision ip={VISITOR} user="))
            .await;
    }

    /// A join is one long line: it reaches the server, which does not know the token.
    async fn joins_with_a_long_line(&self, server: &Server) {
        let join = "A".repeat(LONG);
        let path = format!("/livekit/sfu/rtc/v1/validate?access_token=garbage&join_request={join}");
        let answer = self.get(&path).await;
        assert_eq!(answer.status, 401, "{answer:?}");
        server.logs("path=\"/rtc/v1/validate\"").await;
    }
}

/// A request for a page.
pub(crate) fn get(path: &str) -> Request<'_> {
    Request {
        method: "GET",
        path,
        headers: "",
        body: "",
    }
}

/// Whom an answer lets read it, as often as it says so: twice is as good as never to a browser.
fn allowed_origins(answer: &Answer) -> Vec<&str> {
    let lines = answer.head.lines().filter_map(|line| line.split_once(": "));
    let of = lines.filter(|(name, _)| name.eq_ignore_ascii_case("access-control-allow-origin"));
    of.map(|(_, value)| value).collect()
}

/// Plain HTTP at this port is sent to https.
pub(crate) async fn sends_to_https(port: u16) {
    let at = (std::net::Ipv4Addr::LOCALHOST, port).into();
    let stream = tests::proxy::come(at).await.expect("it listens");
    let asked = tests::request::exchange(stream, "localhost", get("/try"));
    let answer = asked.await.expect("an answer");
    assert!(matches!(answer.status, 301 | 302 | 308), "{answer:?}");
    let head = answer.head.to_lowercase();
    assert!(head.contains("location: https://localhost"), "{answer:?}");
}
