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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AppService, Config, Homeserver as Configured};
    use crate::settled::Owner;
    use crate::stand_in::homeserver::{Homeserver as StandIn, Reply};
    use std::time::Duration;

    #[tokio::test]
    async fn new_tokens_are_shown_and_believed_at_once() {
        let there = StandIn::start(None, |_| Reply::body("{}")).await;
        let with = |hs_token: &str, as_token: &str| Config {
            client_apis: vec![Configured {
                name: "example.com".into(),
                url: format!("http://{}", there.address),
            }],
            app_service: Some(AppService {
                server: "example.com".into(),
                hs_token: Token::new(hs_token.into()),
                as_token: Token::new(as_token.into()),
                membership_interval: Duration::ZERO,
            }),
            ..Config::default()
        };
        let owner = Owner::new(with("one", "two")).expect("good");
        let homeserver = Homeserver::new("example.com".into(), owner.settled());
        for (hs_token, as_token) in [("one", "two"), ("three", "four")] {
            owner.replace(with(hs_token, as_token)).expect("good");
            let believed = homeserver.hs_token();
            assert!(believed == Some(Token::new(hs_token.into())));
            homeserver.ask(Ask::get("/x")).await.expect("answered");
            let shown = there.asked().pop().expect("asked");
            assert_eq!(shown.header("authorization"), format!("Bearer {as_token}"));
        }
    }
}
