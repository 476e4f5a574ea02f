//! What the homeserver whose application service we are sends us: requests of its clients and of other
//! homeservers for tokens, and what happens in rooms.
//!
//! Owns these paths, that each request shows the homeserver's token, and the order of what is judged. Who
//! asks is for the homeserver to say; what he gets is `routes`' part, whom to let go `monitor`'s.
//! (Matrix: application service API; MSC4195, MSC4502, MSC4512; LK: jwt-service §13)

mod transactions;

use crate::answer::{self, Refusal};
use crate::bearer::{self, Unshown};
use crate::config::Restricted;
use crate::delegation::Untaken;
use crate::fetch::Ask;
use crate::grant::{Grant, Terms};
use crate::leave::Leave;
use crate::matrix;
use crate::matrix::proxied::{self, FEDERATION_PROXY, FEDERATION_TOKEN};
use crate::monitor::Monitor;
use crate::request::proxied::{self as request, Handed, Place, UNKNOWN_DELAY};
use crate::routes::{
    BODY_WITHIN, MAX_BODY_BYTES, Service, left, logged, read, refused, with_headers,
};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use serde_json::json;
use std::sync::Arc;
use tokio::time::Instant;
use tracing::info;
use transactions::Transactions;

/// Who asks, by his homeserver's word. (MSC4512)
const USER: &str = "x-matrix-user-identifier";
/// Which other homeserver asks.
const ORIGIN: &str = "x-matrix-origin";

const CLIENT_TOKEN: &str = "/_matrix/client/unstable/io.element.msc4195/rtc/livekit/get_token";
const CLIENT_LEAVE: &str =
    "/_matrix/client/unstable/io.element.msc4195/rtc/livekit/delegate_delayed_leave";

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// A token, by a client.
    Token,
    /// A token, by another homeserver.
    Federated,
    /// A delayed leave is handed over.
    Leave,
}

impl Purpose {
    /// For logs and counters.
    const fn name(self) -> &'static str {
        match self {
            Self::Token => "proxied_get_token",
            Self::Federated => "federated_get_token",
            Self::Leave => "proxied_delegate",
        }
    }
}

/// What these endpoints need.
struct Desk {
    service: Arc<Service>,
    monitor: Arc<Monitor>,
    transactions: Transactions,
}

/// All endpoints, if a homeserver has us as its application service.
pub fn router(service: &Arc<Service>) -> Option<Router> {
    let monitor = Arc::clone(service.monitor.as_ref()?);
    let desk = Arc::new(Desk {
        service: Arc::clone(service),
        monitor,
        transactions: Transactions::default(),
    });
    let of = |purpose| {
        any(
            move |State(desk): State<Arc<Desk>>, request: Request| async move {
                desk.handle(purpose, request).await
            },
        )
    };
    let router = Router::new()
        .route(CLIENT_TOKEN, of(Purpose::Token))
        .route(FEDERATION_TOKEN, of(Purpose::Federated))
        .route(CLIENT_LEAVE, of(Purpose::Leave))
        .route("/_matrix/app/{*rest}", any(app))
        .layer(from_fn(with_headers))
        .with_state(desk);
    Some(router)
}

/// What the log is told of a request, as far as it came.
#[derive(Default)]
struct Decision {
    /// From where it came, unless the homeserver has shown that it came from there: who asks through it is
    /// nobody to be banned by address, and neither is the homeserver.
    ip: Option<String>,
    user: Option<String>,
    /// The homeserver that asks, or whose client does.
    server: Option<String>,
    place: Option<Place>,
    grant: Option<Grant>,
    doubt: Option<String>,
}

impl Desk {
    /// Does the homeserver ask?
    fn check(&self, parts: &Parts) -> Result<(), Refusal> {
        let token = self.monitor.homeserver().hs_token();
        let token = token.ok_or(Refusal::UnknownToken)?;
        bearer::check(&parts.headers, &token).map_err(|unshown| match unshown {
            Unshown::Missing => Refusal::MissingToken,
            Unshown::Other => Refusal::UnknownToken,
        })
    }

    async fn handle(&self, purpose: Purpose, request: Request) -> Response {
        match *request.method() {
            Method::POST => {}
            Method::OPTIONS => return StatusCode::OK.into_response(),
            _ => return StatusCode::METHOD_NOT_ALLOWED.into_response(),
        }
        if purpose == Purpose::Leave && self.service.delegations.is_none() {
            return refused(Refusal::Unrecognized);
        }
        let (parts, body) = request.into_parts();
        let mut decision = Decision::default();
        let issued = self.issue(purpose, &parts, body, &mut decision).await;
        let outcome = issued
            .as_ref()
            .map_or_else(|refusal| refusal.label(), |_| "issued");
        self.service.watch.decided(purpose.name(), outcome);
        if matches!(issued, Err(Refusal::MissingToken | Refusal::UnknownToken)) {
            let ip = self.service.sfu.limited_address(&parts);
            decision.ip = ip.map(|ip| ip.to_string());
        }
        decision.log(purpose, outcome);
        issued.map_or_else(refused, IntoResponse::into_response)
    }

    async fn issue(
        &self,
        purpose: Purpose,
        parts: &Parts,
        body: Body,
        decision: &mut Decision,
    ) -> Result<String, Refusal> {
        self.check(parts)?;
        let told = |name| {
            parts
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let told = |name| told(name).filter(|text| !text.is_empty());
        match purpose {
            Purpose::Federated => {
                let origin = told(ORIGIN).ok_or(Refusal::Nobody("Missing request origin"))?;
                decision.server = Some(origin.to_owned());
                let body = read(body, MAX_BODY_BYTES, BODY_WITHIN).await?;
                let (place, user) = request::federated(&body)?;
                decision.place = Some(place.clone());
                decision.user = Some(user.clone());
                self.federated(origin, &place, &user, decision).await
            }
            Purpose::Token | Purpose::Leave => {
                let user = told(USER).ok_or(Refusal::Nobody("Missing request authorization"))?;
                decision.user = Some(user.to_owned());
                decision.server = Some(self.monitor.homeserver().name().to_owned());
                let body = read(body, MAX_BODY_BYTES, BODY_WITHIN).await?;
                if purpose == Purpose::Leave {
                    let handed = request::leave(&body)?;
                    decision.place = Some(handed.place.clone());
                    return self.take_over(&handed, user, decision).await;
                }
                let (place, server) = request::token(&body)?;
                decision.place = Some(place.clone());
                self.token(&place, server.as_deref(), user, decision).await
            }
        }
    }

    /// A client's token: for our SFU, or for that of another homeserver.
    async fn token(
        &self,
        place: &Place,
        server: Option<&str>,
        user: &str,
        decision: &mut Decision,
    ) -> Result<String, Refusal> {
        let other = server.filter(|server| *server != self.monitor.homeserver().name());
        if other.is_none() {
            self.check_url(place)?;
        }
        self.check_user(user)?;
        self.monitor
            .admit(&place.room_id, user)
            .await
            .map_err(left)?;
        match other {
            Some(other) => self.elsewhere(place, other, user).await,
            None => self.give(place, user, true, decision).await,
        }
    }

    /// Another homeserver's user sees and hears, and sends by his own homeserver's SFU.
    async fn federated(
        &self,
        origin: &str,
        place: &Place,
        user: &str,
        decision: &mut Decision,
    ) -> Result<String, Refusal> {
        let server = self.check_user(user)?;
        if server != origin {
            return Err(Refusal::Forbidden(
                "The user_id does not belong to the origin server",
            ));
        }
        let config = self.service.settled.config();
        if config.restricted == Restricted::Refuse {
            return Err(Refusal::Restricted);
        }
        if !config.is_named(origin) {
            let now = Instant::now().into_std();
            let admitted = self.service.limits.server(origin, config.rates, now);
            admitted.map_err(|wait| self.service.limited("jwt_server", wait))?;
        }
        let ours = self.monitor.homeserver().name();
        let known = self.monitor.has_anybody(&place.room_id, ours).await;
        if !known.map_err(left)? {
            return Err(Refusal::Forbidden("This server is not joined to the room"));
        }
        self.monitor
            .admit(&place.room_id, user)
            .await
            .map_err(left)?;
        self.check_url(place)?;
        self.give(place, user, false, decision).await
    }

    async fn give(
        &self,
        place: &Place,
        user: &str,
        publishes: bool,
        decision: &mut Decision,
    ) -> Result<String, Refusal> {
        let service = &self.service;
        let grant = decision.grant.insert(grant(place, user));
        let config = service.settled.config();
        let terms = Terms {
            lifetime: config.token_lifetime,
            publishes,
        };
        let jwt = service.sign(grant, terms)?;
        service.create_room(grant, &mut decision.doubt).await?;
        service.watch_over(&place.room_id, user, grant, &config)?;
        Ok(answer::token(&jwt))
    }

    /// The token of another homeserver's SFU: ours asks for it.
    async fn elsewhere(&self, place: &Place, other: &str, user: &str) -> Result<String, Refusal> {
        if matrix::ServerName::parse(other).is_none() {
            return Err(Refusal::Param("Malformed server name"));
        }
        let is_there = self.monitor.has_anybody(&place.room_id, other).await;
        if !is_there.map_err(left)? {
            return Err(Refusal::Forbidden(
                "The target server is not joined to the room",
            ));
        }
        let Place {
            url,
            room_id,
            slot_id,
            member_id,
        } = place;
        let body = json!({ "user_id": user, "url": url, "room_id": room_id, "slot_id": slot_id,
            "member_id": member_id });
        let ask = Ask {
            body: proxied::for_another(other, FEDERATION_TOKEN, &body).into(),
            ..Ask::post(FEDERATION_PROXY)
        };
        let answer = self.monitor.homeserver().ask(ask).await;
        let answer = answer.filter(|answer| answer.status.is_success());
        let told = answer.and_then(|answer| proxied::from_another(&answer.body));
        match told.ok_or(Refusal::Elsewhere)? {
            (_, Ok(jwt)) => Ok(answer::token(&jwt)),
            (403, Err(code)) if code == "M_FORBIDDEN" => Err(Refusal::Forbidden(
                "The requesting user is not a member of the room on the destination homeserver",
            )),
            (400, Err(code)) if code == "M_INVALID_PARAM" => Err(Refusal::Param(
                "The destination homeserver rejected the specified `url`",
            )),
            _ => Err(Refusal::Elsewhere),
        }
    }

    /// A delayed leave: its time is known to the homeserver, which lets us act for its owner.
    async fn take_over(
        &self,
        handed: &Handed,
        user: &str,
        decision: &mut Decision,
    ) -> Result<String, Refusal> {
        let delegations = self.service.delegations.as_ref();
        let delegations = delegations.ok_or(Refusal::Unrecognized)?;
        self.check_url(&handed.place)?;
        self.check_user(user)?;
        let path = proxied::delayed_path(&handed.delay_id, user).ok_or(UNKNOWN_DELAY)?;
        let homeserver = self.monitor.homeserver();
        let found = homeserver
            .ask(Ask::get(&path))
            .await
            .ok_or(Refusal::NoDelay)?;
        if found.status == StatusCode::NOT_FOUND {
            return Err(UNKNOWN_DELAY);
        }
        let event = Some(&found.body).filter(|_| found.status.is_success());
        let event = event.and_then(|body| proxied::delayed(body));
        let event = event.ok_or(Refusal::NoDelay)?;
        if event.room.is_some_and(|room| room != handed.place.room_id) {
            return Err(UNKNOWN_DELAY);
        }
        let grant = decision.grant.insert(grant(&handed.place, user));
        let leave = Leave {
            delay_id: handed.delay_id.clone(),
            timeout: event.delay,
            server: homeserver.name().to_owned(),
            room: grant.alias.clone(),
            identity: grant.identity.clone(),
            owner: Some(user.to_owned()),
        };
        let taken = delegations.register(leave).await;
        taken.map_err(|error| match error {
            Untaken::Full => Refusal::Busy,
            Untaken::Store => Refusal::Internal,
            Untaken::Forbidden | Untaken::Elsewhere => Refusal::NoDelay,
        })?;
        Ok(answer::TAKEN.to_owned())
    }

    fn check_url(&self, place: &Place) -> Result<(), Refusal> {
        if self.service.settled.config().url.as_ref() == Some(&place.url) {
            return Ok(());
        }
        Err(Refusal::Param(
            "The request `url` does not match this service's LiveKit URL",
        ))
    }

    /// The server of a user who does not ask too often.
    fn check_user<'a>(&self, user: &'a str) -> Result<&'a str, Refusal> {
        let server = matrix::server_of(user);
        let server = server.ok_or(Refusal::Param("Malformed user identifier"))?;
        let (rates, now) = (self.service.settled.config().rates, Instant::now());
        let admitted = self.service.limits.user(user, rates, now.into_std());
        admitted.map_err(|wait| self.service.limited("jwt_user", wait))?;
        Ok(server)
    }
}

fn grant(place: &Place, user: &str) -> Grant {
    Grant::proxied([user, &place.member_id], &place.room_id, &place.slot_id)
}

impl Decision {
    /// Begins as the line of the endpoints for clients does: others parse it.
    fn log(&self, purpose: Purpose, reason: &'static str) {
        let place = self.place.as_ref();
        info!(
            ip = %self.ip.as_deref().unwrap_or("unknown"),
            user = logged(self.user.as_deref()).unwrap_or_default(),
            server = logged(self.server.as_deref()).unwrap_or_default(),
            reason = %reason,
            endpoint = purpose.name(),
            matrixRoom = logged(place.map(|place| place.room_id.as_str())),
            slot = logged(place.map(|place| place.slot_id.as_str())),
            room = self.grant.as_ref().map(|grant| grant.alias.as_str()),
            participant = self.grant.as_ref().map(|grant| grant.identity.as_str()),
            cause = logged(self.doubt.as_deref()),
            "MatrixRTC token decision"
        );
    }
}

/// What stands below the paths of application services. We have no users, rooms or networks of our own.
async fn app(State(desk): State<Arc<Desk>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if let Err(refusal) = desk.check(&parts) {
        return refused(refusal);
    }
    let path = parts.uri.path();
    let below = |name| {
        let rest = path.strip_prefix("/_matrix/app/v1/")?.strip_prefix(name)?;
        rest.strip_prefix('/').filter(|rest| !rest.is_empty())
    };
    let answer = if let Some(id) = below("transactions") {
        match parts.method {
            Method::PUT => desk.transactions.take(&desk.monitor, id, body).await,
            _ => Err(Refusal::Method),
        }
    } else if path == "/_matrix/app/v1/ping" {
        match parts.method {
            Method::POST => Ok(()),
            _ => Err(Refusal::Method),
        }
    } else if below("users").or_else(|| below("rooms")).is_some() {
        match parts.method {
            Method::GET => Err(Refusal::NotFound),
            _ => Err(Refusal::Method),
        }
    } else {
        Err(Refusal::Unrecognized)
    };
    match answer {
        Ok(()) => answer::TAKEN.into_response(),
        Err(refusal) => refused(refusal),
    }
}

#[cfg(test)]
mod tests;
