//! The client-server API of a homeserver: where it is, how it is asked, and the two requests of
//! delegated leaves.
//!
//! Owns finding it by the operator's word or the well-known file, and what an answer means. Used by
//! `delegation`, `membership` and `app_service`. (Matrix: client-server API, Server discovery; LK: jwt-service §7.2, §8)

use crate::config::Config;
use crate::fetch::{Answer as Fetched, Ask, Fetch};
use crate::leave::{Action, Answer, Leave};
use crate::matrix::{self, Endpoint, ServerName};
use crate::reach::Reach;
use crate::settled::Settled;
use http::{StatusCode, header};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tracing::debug;

/// To get a turn, and to find one.
const FOUND_WITHIN: Duration = Duration::from_secs(10);
/// One request.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);
/// How long a well-known file is believed. (LK: jwt-service §8)
const KNOWN_FOR: Duration = Duration::from_secs(4 * 3600);
/// How long it is believed that there is none, or that the one of before is still there: less than a
/// delayed leave waits.
const MISSING_FOR: Duration = Duration::from_secs(5);
/// Looked for at a time; others wait for their turn within their own time.
const LOOKUPS_MOST: usize = 64;
/// Homeservers remembered; when there are more, all are looked for again.
const KNOWN_MOST: usize = 10_000;
/// The well-known file.
const MAX_WELL_KNOWN_BYTES: usize = 64 * 1024;
/// The answer to a request; an error body.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Longer waits that a homeserver asks for mean: give up.
const RETRY_MOST: Duration = Duration::from_secs(24 * 3600);

/// Client-server APIs.
pub(crate) struct ClientApi {
    settled: Settled,
    fetch: Fetch,
    known: Mutex<Known>,
    lookups: Semaphore,
}

/// What is known of each, and until when.
#[derive(Default)]
struct Known {
    /// Under which configuration: another may lead elsewhere.
    config: Option<Arc<Config>>,
    apis: HashMap<String, (Option<Arc<Endpoint>>, Instant)>,
}

impl ClientApi {
    pub(crate) fn new(settled: Settled, fetch: Fetch) -> Self {
        Self {
            settled,
            fetch,
            known: Mutex::default(),
            lookups: Semaphore::new(LOOKUPS_MOST),
        }
    }

    /// Where the API of `server` is.
    pub(crate) async fn find(&self, server: &str) -> Option<Arc<Endpoint>> {
        let config = self.settled.config();
        if let Some(url) = config.client_api(server) {
            return Endpoint::parse(url).map(Arc::new);
        }
        if let Some(known) = self.remembered(server, &config) {
            return known;
        }
        let turn = timeout(FOUND_WITHIN, self.lookups.acquire()).await;
        let _turn = turn.ok()?.ok()?;
        // Somebody may have found it while this one waited.
        if let Some(known) = self.remembered(server, &config) {
            return known;
        }
        let reach = reach(&config, server);
        let told = timeout(FOUND_WITHIN, self.well_known(server, reach)).await;
        let url = told.ok().flatten();
        // One that is named for OpenID mostly serves clients too.
        let url = url.as_deref().or_else(|| config.base_url(server));
        self.remember(server, &config, url.and_then(Endpoint::parse))
    }

    fn remembered(&self, server: &str, config: &Arc<Config>) -> Option<Option<Arc<Endpoint>>> {
        let (endpoint, until) = self.known(config).apis.get(server).cloned()?;
        (until > Instant::now()).then_some(endpoint)
    }

    /// One that is not found any more goes on where it was: mostly its web server is away for a moment.
    fn remember(
        &self,
        server: &str,
        config: &Arc<Config>,
        found: Option<Endpoint>,
    ) -> Option<Arc<Endpoint>> {
        let long = if found.is_some() {
            KNOWN_FOR
        } else {
            MISSING_FOR
        };
        let known = &mut self.known(config).apis;
        let before = known.get(server).and_then(|(before, _)| before.clone());
        let endpoint = found.map(Arc::new).or(before);
        if known.len() >= KNOWN_MOST {
            known.clear();
        }
        let entry = (endpoint.clone(), Instant::now() + long);
        known.insert(server.to_owned(), entry);
        endpoint
    }

    /// What was found under another configuration is looked for again.
    fn known(&self, config: &Arc<Config>) -> MutexGuard<'_, Known> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let same = known.config.as_ref().map(|of| Arc::ptr_eq(of, config));
        if same != Some(true) {
            let (now, before) = (Instant::now(), known.config.take().unwrap_or_default());
            // One that something else is said of now is no longer known at all.
            known
                .apis
                .retain(|server, _| said(&before, server) == said(config, server));
            known.apis.values_mut().for_each(|(_, until)| *until = now);
            known.config = Some(Arc::clone(config));
        }
        known
    }

    async fn well_known(&self, server: &str, reach: Reach) -> Option<String> {
        let to = ServerName::parse(server)?.direct(443);
        let path = "/.well-known/matrix/client";
        let answer = self.fetch.get(&to, reach, path, MAX_WELL_KNOWN_BYTES).await;
        match answer {
            Ok(answer) if answer.status.is_success() => matrix::client_api(&answer.body),
            Ok(_) => None,
            Err(error) => {
                debug!(server, %error, "no well-known file for clients");
                None
            }
        }
    }

    /// Asks the homeserver to restart or send a delayed event. One that was handed over by an
    /// application service's homeserver is asked for in the name of its owner.
    pub(crate) async fn update(&self, leave: &Leave, action: Action) -> Answer {
        let Some(path) = matrix::delayed_event_path(&leave.delay_id, action) else {
            return Answer::Gone;
        };
        let config = self.settled.config();
        let ours = config.app_service.as_ref();
        let ours = ours.filter(|ours| ours.server == leave.server);
        let answer = match (&leave.owner, ours) {
            (Some(owner), Some(ours)) => {
                let path = format!("{path}?user_id={}", matrix::encoded(owner));
                let ask = Ask {
                    bearer: Some(&ours.as_token),
                    ..Ask::post(&path)
                };
                self.ask(&leave.server, ask).await
            }
            // We are its application service no more.
            (Some(_), None) => return Answer::Denied,
            (None, _) => self.ask(&leave.server, Ask::post(&path)).await,
        };
        answer.map_or(Answer::Later(None), |answer| meaning(&answer))
    }

    /// Asks the client-server API of `server`, wherever that is; `None` if it does not answer.
    pub(crate) async fn ask(&self, server: &str, ask: Ask<'_>) -> Option<Fetched> {
        let endpoint = self.find(server).await?;
        let path = format!("{}{}", endpoint.prefix, ask.path);
        let ask = Ask { path: &path, ..ask };
        let reach = reach(&self.settled.config(), server);
        let asked = self.fetch.ask(&endpoint.to, reach, &ask, MAX_ANSWER_BYTES);
        match timeout(ANSWERED_WITHIN, asked).await {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(error)) => {
                debug!(server, %error, "homeserver not reached");
                None
            }
            Err(_) => None,
        }
    }
}

/// All that a configuration says of where an API is, and how it may be reached.
fn said<'a>(config: &'a Config, server: &str) -> (Option<&'a str>, Option<&'a str>, Reach) {
    let (api, base) = (config.client_api(server), config.base_url(server));
    (api, base, reach(config, server))
}

fn reach(config: &Config, server: &str) -> Reach {
    if config.is_named(server) || config.allow_private_addresses {
        Reach::Anywhere
    } else {
        Reach::Public
    }
}

fn meaning(answer: &Fetched) -> Answer {
    match answer.status {
        status if status.is_success() => Answer::Done,
        // It was sent or cancelled, or never was.
        StatusCode::NOT_FOUND | StatusCode::CONFLICT => Answer::Gone,
        // It wants its owner's token, as MSC4140 has it since July 2026.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Answer::Denied,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            Answer::Later(retry_after(answer))
        }
        _ => Answer::Later(None),
    }
}

/// Seconds of the header, else milliseconds of the body.
fn retry_after(answer: &Fetched) -> Option<Duration> {
    let header = answer.headers.get(header::RETRY_AFTER);
    let seconds = header.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let asked = seconds
        .map(Duration::from_secs)
        .or_else(|| matrix::retry_after(&answer.body))?;
    Some(asked.min(RETRY_MOST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Homeserver;
    use crate::dns::Dns;
    use crate::settled::Owner;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::net::TcpListener;

    fn under(owner: &Owner) -> ClientApi {
        let settled = owner.settled();
        let fetch = Fetch::new(Dns::of_system(), settled.clone());
        ClientApi::new(settled, fetch)
    }

    #[tokio::test]
    async fn many_who_ask_for_one_that_has_none_look_for_it_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let name = listener.local_addr().expect("bound").to_string();
        let asked = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&asked);
        // No TLS and no answer: whoever comes is sent away.
        tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        let config = Config {
            allow_private_addresses: true,
            ..Config::default()
        };
        let mut api = under(&Owner::new(config).expect("good"));
        api.lookups = Semaphore::new(1);
        let api = Arc::new(api);
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let (api, name) = (Arc::clone(&api), name.clone());
            all.spawn(async move { api.find(&name).await.is_some() });
        }
        assert_eq!(all.join_all().await, [false; 50]);
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn one_that_was_found_is_not_forgotten_because_it_is_not_found_again() {
        let owner = Owner::new(Config::default()).expect("good");
        let api = under(&owner);
        // Nobody is at this name, now or ever.
        let name = "127.0.0.1:1";
        assert!(api.find(name).await.is_none());
        let endpoint = Endpoint::parse("https://matrix.example").expect("a URL");
        let config = owner.settled().config();
        let known = api.remember(name, &config, Some(endpoint)).expect("known");
        let past = Instant::now();
        let known = (Some(known), past);
        api.known(&config).apis.insert(name.to_owned(), known);
        assert!(api.find(name).await.is_some());
    }

    #[tokio::test]
    async fn one_that_is_no_longer_named_is_not_known_by_what_was_said_of_it() {
        let name = "127.0.0.1:1";
        let named = Config {
            homeservers: vec![Homeserver {
                name: name.into(),
                url: "http://a".into(),
            }],
            ..Config::default()
        };
        let owner = Owner::new(named).expect("good");
        let api = under(&owner);
        assert!(api.find(name).await.is_some());
        owner.replace(Config::default()).expect("good");
        assert!(api.find(name).await.is_none());
    }

    #[tokio::test]
    async fn what_was_found_is_looked_for_again_once_something_else_is_settled() {
        let name = "127.0.0.1:1";
        let at = |url: &str| Config {
            homeservers: vec![Homeserver {
                name: name.into(),
                url: url.into(),
            }],
            ..Config::default()
        };
        let owner = Owner::new(at("http://a")).expect("good");
        let api = under(&owner);
        let host = |found: Option<Arc<Endpoint>>| found.map(|found| found.to.host.to_string());
        for url in ["http://a", "http://b"] {
            owner.replace(at(url)).expect("good");
            let found = host(api.find(name).await);
            assert_eq!(found.as_deref(), url.strip_prefix("http://"));
        }
    }
}
