//! The homeserver whose application service we are: how it is asked as one.
//!
//! Owns that our token is shown to it and to no other. Used by `membership` and `app_service`.

use crate::bearer::Token;
use crate::client_api::ClientApi;
use crate::dns::Dns;
use crate::fetch::{Answer, Ask, Fetch};
use crate::settled::Settled;

/// Our homeserver.
pub(crate) struct Homeserver {
    name: String,
    settled: Settled,
    api: ClientApi,
}

impl Homeserver {
    /// The one of this name, as is settled with it.
    pub(crate) fn new(name: String, settled: Settled) -> Self {
        let fetch = Fetch::new(Dns::of_system(), settled.clone());
        let api = ClientApi::new(settled.clone(), fetch);
        Self { name, settled, api }
    }

    /// Its server name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What it shows to us.
    pub(crate) fn hs_token(&self) -> Option<Token> {
        let config = self.settled.config();
        Some(config.app_service.as_ref()?.hs_token.clone())
    }

    /// Asks its client-server API as its application service; `None` if it does not answer.
    pub(crate) async fn ask(&self, ask: Ask<'_>) -> Option<Answer> {
        let config = self.settled.config();
        let ask = Ask {
            bearer: Some(&config.app_service.as_ref()?.as_token),
            ..ask
        };
        self.api.ask(&self.name, ask).await
    }
}
