//! What the operator settled, as it stands: it may be replaced while everything runs.
//!
//! Owns the configuration and the trust that was made of it; both change at once. What is
//! decided together takes it once, lest a change in between judge one half of it. What needs a restart
//! is for the server to hold back. Used by everything that asks or answers.

use crate::config::Config;
use crate::matrix::Endpoint;
use crate::store::StoreError;
use crate::tls::Tls;
pub use crate::tls::TrustError;
use std::sync::Arc;
use tokio::sync::watch::{Receiver, Sender};

/// Why the service cannot start, or go on with a new configuration; the operator's fault.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Certificates.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The store of delegated leaves.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A base URL.
    #[error("`{0}` is no http:// or https:// URL of a host")]
    Url(String),
    /// The URL of an SFU that is another process.
    #[error(
        "LIVEKIT_URL (matrix.url): `{0}` is no ws://, wss://, http:// or https:// URL of a host"
    )]
    Sfu(String),
}

struct Now {
    config: Arc<Config>,
    tls: Tls,
}

impl Now {
    /// Reads the file of authorities, each time: a new certificate may be in it.
    fn new(config: Config) -> Result<Self, SetupError> {
        let located = config.homeservers.iter().chain(&config.client_apis);
        for homeserver in located {
            if Endpoint::parse(&homeserver.url).is_none() {
                return Err(SetupError::Url(homeserver.url.clone()));
            }
        }
        Ok(Self {
            tls: Tls::new(config.ca_file.as_deref(), config.verify_tls)?,
            config: Arc::new(config),
        })
    }
}

/// The one that may replace it.
pub struct Owner(Sender<Now>);

impl Owner {
    /// Of the configuration at the start.
    ///
    /// # Errors
    /// A file or a URL of it cannot be used.
    pub fn new(config: Config) -> Result<Self, SetupError> {
        Ok(Self(Sender::new(Now::new(config)?)))
    }

    /// Puts another in its place, for all that begins from now on.
    ///
    /// # Errors
    /// A file or a URL of it cannot be used; then all stays as it was.
    pub fn replace(&self, config: Config) -> Result<(), SetupError> {
        self.0.send_replace(Now::new(config)?);
        Ok(())
    }

    /// For those who are to see it.
    #[must_use]
    pub fn settled(&self) -> Settled {
        Settled(self.0.subscribe())
    }
}

/// What is settled; cheap to clone.
#[derive(Clone)]
pub struct Settled(Receiver<Now>);

impl Settled {
    /// One that nobody replaces.
    ///
    /// # Errors
    /// A file or a URL of it cannot be used.
    pub fn fixed(config: Config) -> Result<Self, SetupError> {
        Ok(Owner::new(config)?.settled())
    }

    /// The configuration as it is now.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.0.borrow().config)
    }

    pub(crate) fn tls(&self) -> Tls {
        self.0.borrow().tls.clone()
    }

    /// Waits until another is in its place, since it was last waited for.
    pub(crate) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // Nobody is left who could.
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FullAccess, Homeserver};

    fn named(name: &str, url: &str) -> Config {
        Config {
            full_access: FullAccess::Servers(vec![name.to_owned()]),
            homeservers: vec![Homeserver {
                name: name.to_owned(),
                url: url.to_owned(),
            }],
            ..Config::default()
        }
    }

    #[tokio::test]
    async fn everybody_sees_the_new_one_and_a_wrong_one_changes_nothing() {
        let owner = Owner::new(named("a.example", "http://a")).expect("good");
        let mut settled = owner.settled();
        assert!(settled.config().is_named("a.example"));
        let missing = Config {
            ca_file: Some("/no/such/file.pem".into()),
            ..Config::default()
        };
        let wrong_urls = [
            "synapse:8008",
            "ftp://h",
            "http://u@h",
            "http://h?x",
            "http://h:99999",
            "http://",
        ];
        let wrong = wrong_urls.map(|url| (url, named("b.example", url)));
        let missing = ("/no/such/file.pem", missing);
        for (told, wrong) in wrong.into_iter().chain([missing]) {
            let error = owner.replace(wrong).expect_err(told).to_string();
            assert!(error.contains(told), "{error}");
            assert!(settled.config().is_named("a.example"));
        }
        let held = settled.config();
        let next = named("b.example", "http://b");
        owner.replace(next).expect("good");
        settled.changed().await;
        assert!(settled.config().is_named("b.example"));
        assert!(held.is_named("a.example"), "what is under way goes on");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_nobody_replaces_is_waited_for_in_vain() {
        let mut settled = Settled::fixed(Config::default()).expect("good");
        let long = std::time::Duration::from_secs(3600);
        let waited = tokio::time::timeout(long, settled.changed()).await;
        assert!(waited.is_err());
        assert_eq!(*settled.config(), Config::default());
    }
}
