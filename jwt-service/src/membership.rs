//! Is somebody in a Matrix room? The homeserver whose application service we are is asked.
//!
//! Owns how many questions are under way, how long an answer may take, and for how long a yes is
//! believed. What follows from an answer, or from none, is for those who ask. Used by `monitor`.
//! (MSC4502; LK: jwt-service §13)

use crate::fetch::{Answer, Ask};
use crate::homeserver::Homeserver;
use crate::matrix::proxied::{self, Subject};
use crate::watch::Watch;
use http::StatusCode;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tracing::warn;

/// Questions at a time: each is a socket, and a homeserver that serves calls has other work too.
const QUESTIONS_MOST: usize = 64;
/// Of those about users of other homeservers: a flood of strangers takes no place of ours.
const STRANGERS_MOST: usize = 32;
/// How long one may wait for its turn.
const PLACED_WITHIN: Duration = Duration::from_secs(2);
/// From the question to the answer: a client waits for its token.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);
/// How long a yes is believed. Clients ask for a token twice in a row, and when they reconnect.
const BELIEVED_FOR: Duration = Duration::from_secs(10);
/// Answers remembered; when there are more, all are asked for again.
const BELIEVED_MOST: usize = 10_000;
/// So often at most it is told that the homeserver does not answer.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// Too many ask at a time. That is not the homeserver's silence: whoever floods us must not gain by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Busy;

/// Why it is asked, and so how far an answer reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// A token is asked for. A yes may be some seconds old.
    Token,
    /// The same by a user of another homeserver.
    Stranger,
    /// The same by somebody who is known to have left: the answer is to be fresh.
    TokenOfLeaver,
    /// Everybody is asked for. Only a plain no takes somebody out who was let in.
    Sweep,
}

/// Asks the homeserver.
pub(crate) struct Memberships {
    homeserver: Arc<Homeserver>,
    watch: Arc<dyn Watch>,
    places: Semaphore,
    /// For [`Occasion::Stranger`].
    strangers: Semaphore,
    /// Room and user of each yes, and until when it is believed.
    believed: Mutex<HashMap<(String, String), Instant>>,
    told: Mutex<Option<Instant>>,
}

impl Memberships {
    pub(crate) fn new(homeserver: Arc<Homeserver>, watch: Arc<dyn Watch>) -> Self {
        Self {
            homeserver,
            watch,
            places: Semaphore::new(QUESTIONS_MOST),
            strangers: Semaphore::new(STRANGERS_MOST),
            believed: Mutex::default(),
            told: Mutex::default(),
        }
    }

    /// Is he in the room? `None` if the homeserver does not say.
    ///
    /// # Errors
    /// It was not asked.
    pub(crate) async fn joined(
        &self,
        room: &str,
        user: &str,
        occasion: Occasion,
    ) -> Result<Option<bool>, Busy> {
        let key = (room.to_owned(), user.to_owned());
        let now = Instant::now();
        let fresh = matches!(occasion, Occasion::TokenOfLeaver | Occasion::Sweep);
        if !fresh && self.believed().get(&key).is_some_and(|until| *until > now) {
            return Ok(Some(true));
        }
        let joined = self.ask(room, Subject::User(user), occasion).await?;
        if joined == Some(true) {
            let mut believed = self.believed();
            if believed.len() >= BELIEVED_MOST {
                believed.clear();
            }
            believed.insert(key, Instant::now() + BELIEVED_FOR);
        }
        Ok(joined)
    }

    /// Has this homeserver anybody in the room? `None` if ours does not say.
    ///
    /// # Errors
    /// It was not asked.
    pub(crate) async fn has_anybody(
        &self,
        room: &str,
        server: &str,
        occasion: Occasion,
    ) -> Result<Option<bool>, Busy> {
        self.ask(room, Subject::Server(server), occasion).await
    }

    fn believed(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), Instant>> {
        self.believed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(
        &self,
        room: &str,
        subject: Subject<'_>,
        occasion: Occasion,
    ) -> Result<Option<bool>, Busy> {
        // What is no room has nobody in it.
        let Some(path) = proxied::joined_path(room, subject) else {
            return Ok(Some(false));
        };
        let places = match occasion {
            Occasion::Stranger => &self.strangers,
            Occasion::Token | Occasion::TokenOfLeaver | Occasion::Sweep => &self.places,
        };
        let place = timeout(PLACED_WITHIN, places.acquire()).await;
        let Ok(Ok(_place)) = place else {
            self.watch.limit_reached("jwt_memberships");
            return Err(Busy);
        };
        let answered = timeout(ANSWERED_WITHIN, self.homeserver.ask(Ask::get(&path)));
        let answer = answered.await.ok().flatten();
        let joined = answer.as_ref().and_then(|answer| meaning(answer, occasion));
        let result = match joined {
            Some(true) => "joined",
            Some(false) => "left",
            None => "unknown",
        };
        self.watch.membership_asked(result);
        if joined.is_none() {
            self.tell(answer.map(|answer| answer.status));
        }
        Ok(joined)
    }

    /// Once in a while, for it does not come alone.
    fn tell(&self, status: Option<StatusCode>) {
        let now = Instant::now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_some_and(|told| now < told + TOLD_EVERY) {
            return;
        }
        *told = Some(now);
        let server = self.homeserver.name();
        match status {
            Some(status) => warn!(
                server,
                status = status.as_u16(),
                "homeserver does not tell who is in a room, so everybody is let in: it needs \
                 msc4502_enabled, and a registration with our as_token and its scope"
            ),
            None => warn!(
                server,
                "homeserver does not answer who is in a room, so everybody is let in"
            ),
        }
    }
}

fn meaning(answer: &Answer, occasion: Occasion) -> Option<bool> {
    match answer.status {
        status if status.is_success() => proxied::joined(&answer.body),
        // Proxies say that of what they do not understand, too.
        StatusCode::BAD_REQUEST if occasion != Occasion::Sweep => {
            proxied::is_invalid_param(&answer.body).then_some(false)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bearer::Token;
    use crate::config::{AppService, Config};
    use crate::settled::Settled;
    use crate::stand_in::watch::Remembered;

    /// Virtual time: nobody is asked.
    #[tokio::test(start_paused = true)]
    async fn a_flood_of_questions_is_no_silence_of_the_homeserver() {
        let ours = AppService {
            server: "example.com".into(),
            hs_token: Token::new("one".into()),
            as_token: Token::new("two".into()),
            membership_interval: Duration::ZERO,
        };
        let config = Config {
            app_service: Some(ours),
            ..Config::default()
        };
        let settled = Settled::fixed(config).expect("good");
        let homeserver = Homeserver::new("example.com".into(), settled);
        let watch = Arc::<Remembered>::default();
        let counted: Arc<dyn Watch> = Arc::<Remembered>::clone(&watch);
        let memberships = Memberships::new(Arc::new(homeserver), counted);
        let all = u32::try_from(QUESTIONS_MOST).expect("a few");
        let held = memberships.places.acquire_many(all).await;
        let began = Instant::now();
        let asked = memberships
            .joined("!r", "@a:example.com", Occasion::Token)
            .await;
        assert_eq!(asked, Err(Busy));
        assert_eq!(began.elapsed(), PLACED_WITHIN);
        assert_eq!(watch.all(), ["limit jwt_memberships"]);
        drop(held);
        // Strangers take none of these places.
        let strangers = u32::try_from(STRANGERS_MOST).expect("a few");
        let held = memberships.strangers.acquire_many(strangers).await;
        let asked = memberships.joined("!r", "@b:b.example", Occasion::Stranger);
        assert_eq!(asked.await, Err(Busy));
        assert_eq!(memberships.places.available_permits(), QUESTIONS_MOST);
        drop(held);
    }
}
