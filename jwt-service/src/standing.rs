//! Whether the homeservers that the operator named answer our question.
//!
//! Owns what the last round of questions found, and tells the log of changes. Asks with a token that
//! nobody has: a homeserver that refuses it is there and has the right listener. Started by the server,
//! read by `routes`.

use crate::openid::{Doubt, Verifier};
use crate::settled::Settled;
use crate::watch::Watch;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch::Sender;
use tokio::time::sleep;
use tracing::{info, warn};

/// Between two rounds. Who watches it asks about as often.
const EVERY: Duration = Duration::from_secs(60);
/// While one is away.
const EVERY_WHILE_AWAY: Duration = Duration::from_secs(10);
/// Rounds in vain before the one that is worth a warning: who starts takes half a minute.
const ALARMING: u32 = 3;
/// Homeservers asked at most; an operator names one, or a few.
const MOST: usize = 64;

/// One homeserver's standing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Homeserver {
    /// Its server name.
    pub name: String,
    /// It answered, and knows what we ask for.
    pub reachable: bool,
    /// Why not, in one word; the log has more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<&'static str>,
}

/// What is known of all; cheap to clone. Nothing before the first round has ended.
#[derive(Debug, Clone, Default)]
pub struct Standing(Arc<Sender<BTreeMap<String, Known>>>);

/// Why one did not answer last time, and how often in a row it did not.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    cause: Option<&'static str>,
    misses: u32,
}

impl Standing {
    /// All that are known, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Homeserver> {
        let known = self.0.borrow();
        let homeserver = |(name, known): (&String, &Known)| Homeserver {
            name: name.clone(),
            reachable: known.cause.is_none(),
            cause: known.cause,
        };
        known.iter().map(homeserver).collect()
    }

    /// Begins to ask, on the current runtime, as long as that lives.
    #[must_use]
    pub fn start(settled: &Settled, verifier: &Arc<Verifier>, watch: &Arc<dyn Watch>) -> Self {
        let standing = Self::default();
        let kept = standing.clone();
        tokio::spawn(kept.keep(settled.clone(), Arc::clone(verifier), Arc::clone(watch)));
        standing
    }

    /// Asks all that the operator named, one after the other, time and again. Never ends.
    async fn keep(self, mut settled: Settled, verifier: Arc<Verifier>, watch: Arc<dyn Watch>) {
        loop {
            let config = settled.config();
            self.forget_others(&config.named(), &watch);
            for name in config.named().into_iter().take(MOST) {
                let answer = verifier.probe(name).await;
                watch.homeserver(name, answer.is_ok());
                self.note(name, answer.err());
            }
            let away = self.list().iter().any(|homeserver| !homeserver.reachable);
            tokio::select! {
                () = sleep(if away { EVERY_WHILE_AWAY } else { EVERY }) => {}
                () = settled.changed() => {}
            }
        }
    }

    /// Those that the operator does not name any more.
    fn forget_others(&self, named: &[&str], watch: &Arc<dyn Watch>) {
        let is_other = |name: &&String| !named.contains(&name.as_str());
        let others: Vec<String> = self.0.borrow().keys().filter(is_other).cloned().collect();
        for name in others {
            watch.homeserver_unnamed(&name);
            self.0
                .send_modify(|all| all.retain(|known, _| *known != name));
        }
    }

    fn note(&self, name: &str, doubt: Option<Doubt>) {
        let mut misses = 0;
        self.0.send_modify(|all| {
            let known = all.entry(name.to_owned()).or_default();
            known.cause = doubt.as_ref().map(Doubt::label);
            misses = known.misses;
            known.misses = if doubt.is_some() { misses + 1 } else { 0 };
        });
        let Some(doubt) = doubt else {
            if misses > 0 {
                info!(server = name, "homeserver answers again");
            }
            return;
        };
        let cause = format!("{}: {doubt}", doubt.label());
        match misses {
            0 => info!(server = name, %cause, "homeserver does not answer"),
            ALARMING => {
                warn!(server = name, %cause, "homeserver still does not answer: its users get no tokens");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Homeserver as Configured};
    use crate::settled::Owner;
    use crate::stand_in::homeserver::{Homeserver as StandIn, Reply};
    use crate::stand_in::watch::Remembered;

    async fn round(status: u16, url: impl Fn(&StandIn) -> String) -> (Vec<Homeserver>, StandIn) {
        let there = StandIn::start(None, move |_| {
            Reply::Says(
                status,
                String::new(),
                r#"{"errcode":"M_UNKNOWN_TOKEN"}"#.into(),
            )
        })
        .await;
        let owner = Owner::new(at(&url(&there))).expect("good");
        let watch = Arc::<Remembered>::default();
        let verifier = Arc::new(Verifier::new(owner.settled(), watch.clone()));
        let standing = Standing::default();
        assert_eq!(standing.list(), []);
        let mut noted = standing.0.subscribe();
        let kept = standing.clone();
        let task = tokio::spawn(kept.keep(owner.settled(), verifier, watch.clone()));
        noted.changed().await.expect("it goes on");
        let list = standing.list();
        let up = list[0].reachable;
        assert_eq!(watch.all(), [format!("a.example reachable {up}")]);
        // Named no more: nothing is told of it.
        owner.replace(Config::default()).expect("good");
        noted.changed().await.expect("it goes on");
        task.abort();
        assert_eq!(standing.list(), []);
        assert_eq!(watch.all()[1], "a.example unnamed");
        (list, there)
    }

    fn at(url: &str) -> Config {
        Config {
            homeservers: vec![Configured {
                name: "a.example".into(),
                url: url.into(),
            }],
            ..Config::default()
        }
    }

    fn found(cause: Option<&'static str>) -> Vec<Homeserver> {
        vec![Homeserver {
            name: "a.example".into(),
            reachable: cause.is_none(),
            cause,
        }]
    }

    #[tokio::test]
    async fn who_refuses_a_token_that_nobody_has_is_there() {
        let url = |there: &StandIn| format!("http://{}", there.address);
        let (list, there) = round(401, url).await;
        assert_eq!(list, found(None));
        let asked = there.asked();
        let path = "/_matrix/federation/v1/openid/userinfo?";
        assert!(asked[0].path.starts_with(path), "{asked:?}");
    }

    #[tokio::test]
    async fn who_has_no_such_listener_or_does_not_answer_is_not() {
        let url = |there: &StandIn| format!("http://{}", there.address);
        assert_eq!(round(404, url).await.0, found(Some("status")));
        let nowhere = |_: &StandIn| "http://127.0.0.1:1".to_owned();
        assert_eq!(round(401, nowhere).await.0, found(Some("connect")));
    }
}
