//! Is an OpenID token good? Its homeserver is asked.
//!
//! Owns the checks on the answer, the deadline over everything, and how many may ask at a time.
//! Nothing here shows a token: not an error, not a log line. Used by `routes`. (LK: jwt-service §4)

mod places;

use crate::config::Config;
use crate::discovery::{Discovery, Ports};
use crate::dns::Dns;
use crate::fetch::{Fetch, FetchError};
use crate::matrix::{self, Destination, Endpoint, ServerName};
use crate::reach::Reach;
use crate::request::OpenId;
use crate::settled::Settled;
use crate::watch::Watch;
use places::Places;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// From the first step to the answer. Clients wait for it, and so does the place it takes.
const DECIDED_WITHIN: Duration = Duration::from_secs(30);

/// The answer to the question; it holds a user id.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// No homeserver hands this out.
const NOBODY: &str = "foci-asks-whether-you-answer";

/// Asks homeservers.
pub struct Verifier {
    settled: Settled,
    fetch: Fetch,
    discovery: Discovery,
    places: Places,
    watch: Arc<dyn Watch>,
}

/// Why a token is not believed. For the log: the client is told nothing of it.
#[derive(Debug, thiserror::Error)]
pub enum Doubt {
    /// Too many ask already; not the token's fault.
    #[error("too many look-ups at a time")]
    Busy,
    /// The server name is none.
    #[error("not a server name")]
    Name,
    /// It took too long.
    #[error("no answer within {} s", DECIDED_WITHIN.as_secs())]
    Late,
    /// The homeserver cannot be asked.
    #[error("{0}")]
    Unreachable(String, &'static str),
    /// It does not know the token, mostly.
    #[error("the homeserver answers with status {0}")]
    Status(u16),
    /// Its answer holds no user id.
    #[error("the homeserver's answer is not understood")]
    Answer,
    /// It vouches for a user who is not its own.
    #[error("the homeserver vouches for a user of another server")]
    Foreign,
    /// The token is not that of whom the client claims to be.
    #[error("the token is another user's than the one claimed")]
    Claim,
}

impl Doubt {
    /// One word for counters.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Name => "invalid_name",
            Self::Late => "timeout",
            Self::Unreachable(_, label) => label,
            Self::Status(_) => "status",
            Self::Answer => "not_understood",
            Self::Foreign => "foreign_user",
            Self::Claim => "claimed_user",
        }
    }
}

impl From<FetchError> for Doubt {
    fn from(error: FetchError) -> Self {
        let label = error.label();
        Self::Unreachable(error.to_string(), label)
    }
}

impl Verifier {
    /// Asks as is settled.
    #[must_use]
    pub fn new(settled: Settled, watch: Arc<dyn Watch>) -> Self {
        Self::with(settled, watch, Dns::of_system(), Ports::default())
    }

    pub(crate) fn with(settled: Settled, watch: Arc<dyn Watch>, dns: Dns, ports: Ports) -> Self {
        let fetch = Fetch::new(dns.clone(), settled.clone());
        Self {
            discovery: Discovery::new(fetch.clone(), dns, ports),
            fetch,
            places: Places::default(),
            settled,
            watch,
        }
    }

    /// The user whose token it is.
    ///
    /// # Errors
    /// Why it is nobody's.
    pub async fn verify(&self, open_id: &OpenId) -> Result<String, Doubt> {
        let config = self.settled.config();
        let named = config.is_named(&open_id.server);
        let Some(_place) = self.places.take(&open_id.server, named) else {
            self.watch.limit_reached("jwt_lookups");
            return Err(Doubt::Busy);
        };
        let began = Instant::now();
        let asked = timeout(DECIDED_WITHIN, self.ask(open_id, named, &config)).await;
        let answer = asked.unwrap_or(Err(Doubt::Late));
        let result = answer.as_ref().map_or_else(Doubt::label, |_| "ok");
        self.watch.looked_up(result, began.elapsed());
        answer
    }

    /// Does the homeserver of a name that the operator gave answer? It is asked with a token that nobody
    /// has, and must refuse it.
    ///
    /// # Errors
    /// Why its users cannot be let in.
    pub async fn probe(&self, server: &str) -> Result<(), Doubt> {
        let open_id = OpenId {
            access_token: NOBODY.to_owned(),
            server: server.to_owned(),
        };
        let config = self.settled.config();
        let _place = self.places.take(server, true).ok_or(Doubt::Busy)?;
        let asked = timeout(DECIDED_WITHIN, self.ask(&open_id, true, &config)).await;
        match asked.unwrap_or(Err(Doubt::Late)) {
            Ok(_) | Err(Doubt::Status(401 | 403)) => Ok(()),
            Err(doubt) => Err(doubt),
        }
    }

    /// Takes every place of a named server, for tests.
    #[cfg(test)]
    pub(crate) fn fill(&self, server: &str) -> Vec<impl Sized + use<>> {
        std::iter::from_fn(|| self.places.take(server, true)).collect()
    }

    async fn ask(&self, open_id: &OpenId, named: bool, config: &Config) -> Result<String, Doubt> {
        let path = matrix::userinfo_path(&open_id.access_token).ok_or(Doubt::Answer)?;
        let url = config.base_url(&open_id.server);
        if let Some(endpoint) = url.and_then(Endpoint::parse) {
            let path = format!("{}{path}", endpoint.prefix);
            return self
                .ask_at(&endpoint.to, Reach::Anywhere, &path, open_id)
                .await;
        }
        let reach = if named || config.allow_private_addresses {
            Reach::Anywhere
        } else {
            Reach::Public
        };
        let name = ServerName::parse(&open_id.server).ok_or(Doubt::Name)?;
        let mut doubt = Doubt::Name;
        for to in self.discovery.destinations(&name, reach).await {
            match self.ask_at(&to, reach, &path, open_id).await {
                // Only who cannot be reached has another address.
                Err(error @ Doubt::Unreachable(..)) => doubt = error,
                // It is no homeserver, whatever was remembered: it may have moved since.
                Err(error @ (Doubt::Answer | Doubt::Status(404 | 500..))) => {
                    self.discovery.forget(&name);
                    return Err(error);
                }
                decided => return decided,
            }
        }
        self.discovery.forget(&name);
        Err(doubt)
    }

    async fn ask_at(
        &self,
        to: &Destination,
        reach: Reach,
        path: &str,
        open_id: &OpenId,
    ) -> Result<String, Doubt> {
        let answer = self.fetch.get(to, reach, path, MAX_ANSWER_BYTES).await?;
        if !answer.status.is_success() {
            return Err(Doubt::Status(answer.status.as_u16()));
        }
        let user = matrix::userinfo_subject(&answer.body).ok_or(Doubt::Answer)?;
        if !matrix::belongs_to(&user, &open_id.server) {
            return Err(Doubt::Foreign);
        }
        Ok(user)
    }
}

#[cfg(test)]
mod tests;
