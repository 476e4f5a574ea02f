//! The homeserver whose application service we are: how it is asked as one.
//!
//! Owns that our token is shown to it and to no other. Used by `membership` and `app_service`.

use crate::client_api::ClientApi;
use crate::config::{AppService, Config};
use crate::dns::Dns;
use crate::fetch::{Answer, Ask, Fetch};
use crate::openid::SetupError;
use crate::tls::Tls;
use std::sync::Arc;

/// Our homeserver.
pub(crate) struct Homeserver {
    ours: AppService,
    api: ClientApi,
}

impl Homeserver {
    /// As `config` says it is, and how it is reached.
    ///
    /// # Errors
    /// A file of the configuration cannot be used.
    pub(crate) fn new(ours: AppService, config: &Arc<Config>) -> Result<Self, SetupError> {
        let tls = Tls::new(config.ca_file.as_deref(), config.verify_tls)?;
        let fetch = Fetch::new(Dns::of_system(), tls);
        let api = ClientApi::new(Arc::clone(config), fetch);
        Ok(Self { ours, api })
    }

    /// Its server name.
    pub(crate) fn name(&self) -> &str {
        &self.ours.server
    }

    /// What is settled between us.
    pub(crate) const fn ours(&self) -> &AppService {
        &self.ours
    }

    /// Asks its client-server API as its application service; `None` if it does not answer.
    pub(crate) async fn ask(&self, ask: Ask<'_>) -> Option<Answer> {
        let ask = Ask {
            bearer: Some(&self.ours.as_token),
            ..ask
        };
        self.api.ask(&self.ours.server, ask).await
    }
}
