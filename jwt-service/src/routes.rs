//! The endpoints: which there are, with which methods, and what stands on every answer.
//!
//! Owns paths, methods, cross-origin headers and the order of issuing a token. A function from
//! state to router, so that tests call it without a socket; prefixes and the proxy's side are the
//! server's. (LK: jwt-service §1, §2)
#![allow(
    clippy::disallowed_methods,
    reason = "shell: a token begins to be valid when the clock says so"
)]

pub mod transports;
mod url;
pub mod webhook;

use crate::answer::{self, Refusal};
use crate::config::{Config, Restricted};
use crate::delegation::{Delegations, Untaken};
use crate::grant::{Grant, ROOM_SLOT, Terms};
use crate::leave::Leave;
use crate::limits::Limits;
use crate::members::{Issued, Refused};
use crate::monitor::Monitor;
use crate::openid::{Doubt, Verifier};
use crate::request::{Asked, Delay, Member};
use crate::settled::Settled;
use crate::sfu::{Sfu, Uncreated};
use crate::standing::Standing;
use crate::watch::Watch;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{OriginalUri, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use proto::token::Keys;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, timeout};
use tracing::info;

/// A request's body; a real one has half a KiB.
pub(crate) const MAX_BODY_BYTES: usize = 64 * 1024;

/// How long it may take to arrive.
pub(crate) const BODY_WITHIN: Duration = Duration::from_secs(10);

/// Characters of a foreign text that are logged.
const MOST_LOGGED: usize = 256;

/// The reference's headers on every answer. (LK: jwt-service §1.1)
const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    ),
    (
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    ),
    (
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("POST"),
    ),
    (
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static(
            "Accept, Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token",
        ),
    ),
];

/// What the endpoints need.
pub struct Service {
    /// What the operator settled.
    pub settled: Settled,
    /// API keys; the first signs.
    pub keys: Arc<Keys>,
    /// The SFU.
    pub sfu: Arc<dyn Sfu>,
    /// Counters.
    pub watch: Arc<dyn Watch>,
    /// Who asks homeservers.
    pub verifier: Arc<Verifier>,
    /// Whether those that the operator named answer.
    pub standing: Standing,
    /// Who has asked how often.
    pub limits: Limits,
    /// Who takes delayed leaves over, if they are.
    pub delegations: Option<Delegations>,
    /// Who watches over those with a token, if a homeserver tells who leaves.
    pub monitor: Option<Arc<Monitor>>,
}

/// What an endpoint is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// A token, and perhaps a delayed leave is handed over.
    Token,
    /// A delayed leave is handed over.
    Leave,
}

/// An endpoint.
#[derive(Clone, Copy)]
struct Endpoint {
    purpose: Purpose,
    path: &'static str,
    /// For logs and counters.
    name: &'static str,
    read: fn(&[u8]) -> Result<Asked, Refusal>,
}

const OLDER: Endpoint = Endpoint {
    purpose: Purpose::Token,
    path: "/sfu/get",
    name: "sfu_get",
    read: Asked::older,
};

const NEWER: Endpoint = Endpoint {
    purpose: Purpose::Token,
    path: "/get_token",
    name: "get_token",
    read: Asked::newer,
};

const LEAVE: Endpoint = Endpoint {
    purpose: Purpose::Leave,
    path: "/delegate_delayed_leave",
    name: "delegate_delayed_leave",
    read: Asked::delegation,
};

/// All endpoints.
pub fn router(service: Arc<Service>) -> Router {
    let older = |State(service): State<Arc<Service>>, request| async move {
        handle(&service, OLDER, request).await
    };
    let newer = |State(service): State<Arc<Service>>, request| async move {
        handle(&service, NEWER, request).await
    };
    let leave = |State(service): State<Arc<Service>>, request| async move {
        // Clients probe for delegation, and rely on it unless this is 404: they then leave the sending
        // of their leave to us. (LK: jwt-service §11)
        match &service.delegations {
            None => refused(Refusal::Unrecognized),
            Some(_) => handle(&service, LEAVE, request).await,
        }
    };
    let homeservers = Arc::clone(&service);
    let homeservers = move || async move { readiness(&homeservers.standing) };
    Router::new()
        .route(OLDER.path, any(older))
        .route(NEWER.path, any(newer))
        .route(LEAVE.path, any(leave))
        .layer(from_fn(with_headers))
        .route("/readyz/homeservers", get(homeservers))
        .with_state(service)
}

/// 200 if all homeservers that the operator named answer. Not part of `/readyz`: a call goes on without
/// its homeserver, and a restart of us does not bring that back.
fn readiness(standing: &Standing) -> Response {
    let homeservers = standing.list();
    let ready = homeservers.iter().all(|homeserver| homeserver.reachable);
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = serde_json::json!({ "ready": ready, "homeservers": homeservers });
    let json = [(header::CONTENT_TYPE, "application/json")];
    (status, json, body.to_string()).into_response()
}

/// Adds the headers that every answer has.
pub(crate) async fn with_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, value);
    }
    response
}

/// An error as it is answered.
pub(crate) fn refused(refusal: Refusal) -> Response {
    let status = StatusCode::from_u16(refusal.status()).unwrap_or_default();
    let mut response = (status, refusal.body()).into_response();
    if let Some(wait) = refusal.retry_after() {
        // Whole seconds, and not too soon.
        let seconds = HeaderValue::from(wait.as_millis().div_ceil(1000) as u64);
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}

async fn handle(service: &Service, endpoint: Endpoint, request: Request) -> Response {
    match *request.method() {
        Method::POST => {}
        Method::OPTIONS => return StatusCode::OK.into_response(),
        _ => return StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
    let (parts, body) = request.into_parts();
    let mut decision = Decision::default();
    let issued = service.issue(endpoint, &parts, body, &mut decision).await;
    let outcome = issued
        .as_ref()
        .map_or_else(|refusal| refusal.label(), |_| "issued");
    service.watch.decided(endpoint.name, outcome);
    decision.log(service, endpoint, &parts, outcome);
    issued.map_or_else(refused, IntoResponse::into_response)
}

/// What the log is told of a request, as far as it came.
#[derive(Default)]
struct Decision {
    asked: Option<Asked>,
    user: Option<String>,
    grant: Option<Grant>,
    full_access: bool,
    doubt: Option<String>,
}

impl Service {
    /// The body of a success. (LK: jwt-service §2.2 has the order)
    async fn issue(
        &self,
        endpoint: Endpoint,
        parts: &Parts,
        body: Body,
        decision: &mut Decision,
    ) -> Result<String, Refusal> {
        // One for the whole request.
        let config = self.settled.config();
        let rates = config.rates;
        if let Some(ip) = self.sfu.limited_address(parts) {
            let now = Instant::now().into_std();
            let admitted = self.limits.address(ip, rates, now);
            admitted.map_err(|wait| self.limited("jwt_address", wait))?;
        }
        let body = read(body, MAX_BODY_BYTES, BODY_WITHIN).await?;
        let asked = decision.asked.insert((endpoint.read)(&body)?);
        let server = &asked.open_id.server;
        if !config.is_named(server) {
            let now = Instant::now().into_std();
            let admitted = self.limits.server(server, rates, now);
            admitted.map_err(|wait| self.limited("jwt_server", wait))?;
        }
        let user = match self.verify(asked).await {
            Ok(user) => decision.user.insert(user),
            Err(doubt) => {
                decision.doubt = Some(format!("{}: {doubt}", doubt.label()));
                let busy = matches!(doubt, Doubt::Busy);
                return Err(if busy {
                    Refusal::Busy
                } else {
                    Refusal::Unauthorized
                });
            }
        };
        let now = Instant::now().into_std();
        let admitted = self.limits.user(user, rates, now);
        admitted.map_err(|wait| self.limited("jwt_user", wait))?;
        decision.full_access = config.full_access.includes(&asked.open_id.server);
        let delay = self.delay(endpoint, asked, decision.full_access).await?;
        let grant = decision.grant.insert(grant(asked, user));
        if endpoint.purpose == Purpose::Leave {
            self.take_over(endpoint, delay, asked, grant).await?;
            return Ok(answer::TAKEN.to_owned());
        }
        let url = url(&config, endpoint, parts).ok_or(Refusal::Internal)?;
        let terms = terms(&config, decision.full_access)?;
        let jwt = self.sign(grant, terms)?;
        if let Some(monitor) = &self.monitor {
            let admitted = monitor.admit_anybody(&asked.room, user).await;
            admitted.map_err(left)?;
        }
        if decision.full_access {
            self.create_room(grant, &mut decision.doubt).await?;
        }
        self.watch_over(&asked.room, user, grant, &config)?;
        self.take_over(endpoint, delay, asked, grant).await?;
        Ok(answer::issued(&url, &jwt))
    }

    /// A token that says who he is.
    pub(crate) fn sign(&self, grant: &Grant, terms: Terms) -> Result<String, Refusal> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        let began = Instant::now();
        let jwt = self
            .keys
            .sign_text(|issuer| grant.payload(issuer, now, terms));
        let result = jwt.as_ref().map_or("failed", |_| "ok");
        self.watch.signed(result, began.elapsed());
        jwt.map_err(|_| Refusal::Internal)
    }

    pub(crate) async fn create_room(
        &self,
        grant: &Grant,
        doubt: &mut Option<String>,
    ) -> Result<(), Refusal> {
        let began = Instant::now();
        let created = self.sfu.create_room(&grant.alias).await;
        let result = created.as_ref().map_or_else(Uncreated::label, |()| "ok");
        self.watch.room_made(result, began.elapsed());
        created.map_err(|error| {
            *doubt = Some(error.to_string());
            match error {
                Uncreated::Full | Uncreated::Away(_) => Refusal::Room,
                Uncreated::Draining => Refusal::Draining,
            }
        })
    }

    /// Whoever gets a token is watched from here on, unless he has left meanwhile.
    pub(crate) fn watch_over(
        &self,
        room: &str,
        user: &str,
        grant: &Grant,
        config: &Config,
    ) -> Result<(), Refusal> {
        let Some(monitor) = &self.monitor else {
            return Ok(());
        };
        let issued = Issued {
            room: room.to_owned(),
            user: user.to_owned(),
            alias: grant.alias.clone(),
            identity: grant.identity.clone(),
            lifetime: config.token_lifetime,
        };
        monitor.issued(issued).map_err(left)
    }

    pub(crate) fn limited(&self, limit: &'static str, wait: Duration) -> Refusal {
        self.watch.limit_reached(limit);
        Refusal::Limited(wait)
    }

    /// The delayed leave to take over, if that is asked for and possible.
    async fn delay<'a>(
        &'a self,
        endpoint: Endpoint,
        asked: &Asked,
        full_access: bool,
    ) -> Result<Option<(&'a Delegations, Delay)>, Refusal> {
        let Some(delay) = asked.delay.clone() else {
            return Ok(None);
        };
        let Some(delegations) = self.delegations.as_ref().filter(|_| full_access) else {
            return Err(match endpoint.purpose {
                Purpose::Token => Refusal::Delegation,
                Purpose::Leave => Refusal::DelegationForbidden,
            });
        };
        if !delegations.can_reach(&asked.open_id.server).await {
            return Err(Refusal::NoClientApi);
        }
        Ok(Some((delegations, delay)))
    }

    async fn take_over(
        &self,
        endpoint: Endpoint,
        delay: Option<(&Delegations, Delay)>,
        asked: &Asked,
        grant: &Grant,
    ) -> Result<(), Refusal> {
        let Some((delegations, delay)) = delay else {
            return Ok(());
        };
        let leave = Leave {
            delay_id: delay.id,
            timeout: delay.timeout,
            server: asked.open_id.server.clone(),
            room: grant.alias.clone(),
            identity: grant.identity.clone(),
            owner: None,
        };
        delegations
            .register(leave)
            .await
            .map_err(|error| match error {
                Untaken::Full => Refusal::Busy,
                Untaken::Store => Refusal::Internal,
                // Clients ask again without it, or keep their leave themselves.
                Untaken::Forbidden | Untaken::Elsewhere => match endpoint.purpose {
                    Purpose::Token => Refusal::Delegation,
                    Purpose::Leave => Refusal::Unrecognized,
                },
            })
    }

    async fn verify(&self, asked: &Asked) -> Result<String, Doubt> {
        let user = self.verifier.verify(&asked.open_id).await?;
        match &asked.member {
            Member::Claimed { user: claimed, .. } if *claimed != user => Err(Doubt::Claim),
            _ => Ok(user),
        }
    }
}

/// What a token is good for.
fn terms(config: &Config, full_access: bool) -> Result<Terms, Refusal> {
    let publishes = match config.restricted {
        _ if full_access => true,
        Restricted::Publish => true,
        Restricted::Subscribe => false,
        Restricted::Refuse => return Err(Refusal::Restricted),
    };
    Ok(Terms {
        lifetime: config.token_lifetime,
        publishes,
    })
}

fn url(config: &Config, endpoint: Endpoint, parts: &Parts) -> Option<String> {
    if let Some(url) = &config.url {
        return Some(url.clone());
    }
    let original = parts.extensions.get::<OriginalUri>();
    let path = original.map_or(parts.uri.path(), |OriginalUri(uri)| uri.path());
    url::derived(&parts.headers, path, endpoint.path)
}

/// Why there is no token for a member.
pub(crate) const fn left(refused: Refused) -> Refusal {
    match refused {
        Refused::Left => Refusal::Forbidden("The requesting user is not a member of the room"),
        Refused::TooMany => Refusal::Busy,
    }
}

fn grant(asked: &Asked, user: &str) -> Grant {
    match &asked.member {
        Member::Device { device } => Grant::plain(user, device, &asked.room),
        Member::Claimed { id, device, .. } => {
            let slot = asked.slot.as_deref().unwrap_or(ROOM_SLOT);
            Grant::hashed([user, device, id], &asked.room, slot)
        }
    }
}

/// The body, up to its limits.
pub(crate) async fn read(body: Body, most: usize, within: Duration) -> Result<Vec<u8>, Refusal> {
    match timeout(within, to_bytes(body, most)).await {
        Err(_) => Err(Refusal::TooSlow),
        Ok(Ok(bytes)) => Ok(bytes.into()),
        Ok(Err(error)) => {
            let source = std::error::Error::source(&error);
            let long = source.is_some_and(|source| source.is::<http_body_util::LengthLimitError>());
            Err(if long {
                Refusal::TooLarge
            } else {
                Refusal::NotJson
            })
        }
    }
}

impl Decision {
    /// One line for each decision: who, where to, from where, and why not. No token. Others parse it:
    /// the first four fields keep their names, order and form. `ip` is what may be banned for it,
    /// `clientIP` what anybody may claim.
    fn log(&self, service: &Service, endpoint: Endpoint, parts: &Parts, reason: &'static str) {
        let asked = self.asked.as_ref();
        let claimed = asked.and_then(|asked| match &asked.member {
            Member::Claimed { user, .. } => Some(user.as_str()),
            Member::Device { .. } => None,
        });
        let ip = service.sfu.limited_address(parts).map(|ip| ip.to_string());
        let address = service.sfu.client_address(parts).map(|ip| ip.to_string());
        let origin = parts.headers.get(header::ORIGIN);
        let origin = origin.and_then(|value| value.to_str().ok());
        info!(
            ip = %ip.as_deref().unwrap_or("unknown"),
            user = logged(self.user.as_deref().or(claimed)).unwrap_or_default(),
            server = logged(asked.map(|asked| asked.open_id.server.as_str())).unwrap_or_default(),
            reason = %reason,
            endpoint = endpoint.name,
            device = logged(asked.map(|asked| asked.member.device())),
            matrixRoom = logged(asked.map(|asked| asked.room.as_str())),
            slot = logged(asked.and_then(|asked| asked.slot.as_deref())),
            room = self.grant.as_ref().map(|grant| grant.alias.as_str()),
            participant = logged(self.grant.as_ref().map(|grant| grant.identity.as_str())),
            fullAccess = self.full_access,
            clientIP = address.as_deref().unwrap_or("unknown"),
            origin = logged(origin),
            // It may quote a homeserver, such as all the names of a certificate.
            cause = logged(self.doubt.as_deref()),
            "MatrixRTC token decision"
        );
    }
}

/// A foreign text as far as it is logged, without control characters.
pub(crate) fn logged(text: Option<&str>) -> Option<String> {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    Some(text?.chars().take(MOST_LOGGED).map(plain).collect())
}

#[cfg(test)]
mod tests;
