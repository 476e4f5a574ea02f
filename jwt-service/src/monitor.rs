//! Who has a token, at work: the SFU is told to let go of whoever leaves his Matrix room.
//!
//! Owns the way of facts to `members` and of its effects to the SFU, and the task that asks the
//! homeserver for everybody from time to time. Decides what follows when the homeserver does not
//! answer: nothing is held against anybody but what is known. Called by `routes` and `app_service`,
//! and told of participants by the server. (LK: jwt-service §13, §14)

use crate::config::Config;
use crate::delegation::Presence;
use crate::homeserver::Homeserver;
use crate::matrix;
use crate::matrix::proxied::{Change, Membership};
use crate::members::{Effect, Issued, Members, Question, Refused};
use crate::membership::{Busy, Memberships};
use crate::openid::SetupError;
use crate::sfu::Sfu;
use crate::watch::Watch;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

/// Questions of a sweep at a time; tokens that are asked for need their places too.
const SWEPT_AT_ONCE: usize = 8;
/// How long the SFU may take to hear that somebody is to go.
const REMOVED_WITHIN: Duration = Duration::from_secs(5);

/// Watches over those who have a token.
pub struct Monitor {
    homeserver: Arc<Homeserver>,
    members: Mutex<Members>,
    memberships: Memberships,
    sfu: Arc<dyn Sfu>,
    watch: Arc<dyn Watch>,
}

impl Monitor {
    /// Starts the task that asks, on the current runtime; `None` if no homeserver has us as an application
    /// service. It ends with the last handle.
    ///
    /// # Errors
    /// A file of the configuration cannot be used.
    pub fn start(
        config: &Arc<Config>,
        sfu: Arc<dyn Sfu>,
        watch: Arc<dyn Watch>,
    ) -> Result<Option<Arc<Self>>, SetupError> {
        let Some(ours) = config.app_service.clone() else {
            return Ok(None);
        };
        let now = Instant::now().into_std();
        let members = Members::new(ours.membership_interval, now);
        let homeserver = Arc::new(Homeserver::new(ours, config)?);
        let monitor = Arc::new(Self {
            members: Mutex::new(members),
            memberships: Memberships::new(Arc::clone(&homeserver), Arc::clone(&watch)),
            homeserver,
            sfu,
            watch,
        });
        tokio::spawn(sweep(Arc::downgrade(&monitor)));
        Ok(Some(monitor))
    }

    /// The homeserver that tells us of memberships.
    pub(crate) fn homeserver(&self) -> &Homeserver {
        &self.homeserver
    }

    /// May he have a token for the room? If the homeserver does not answer, he may unless he is known to
    /// have left.
    ///
    /// # Errors
    /// He has left, or too many ask.
    pub(crate) async fn admit(&self, room: &str, user: &str) -> Result<(), Refused> {
        let now = Instant::now().into_std();
        let (asked, is_away) = {
            let members = self.members();
            (
                members.question(room, user),
                members.is_away(room, user, now),
            )
        };
        match self.memberships.joined(room, user, is_away).await? {
            Some(true) => {
                // It may be that he is back, and the event is under way.
                self.answered(asked, true).await;
                Ok(())
            }
            Some(false) => {
                self.answered(asked, false).await;
                Err(Refused::Left)
            }
            None if is_away => Err(Refused::Left),
            None => Ok(()),
        }
    }

    /// The same for an endpoint that is open to users of all homeservers. Those of others may be in rooms
    /// that ours knows nothing of.
    ///
    /// # Errors
    /// He has left.
    pub(crate) async fn admit_anybody(&self, room: &str, user: &str) -> Result<(), Refused> {
        let now = Instant::now().into_std();
        let is_away = self.members().is_away(room, user, now);
        if is_away || matrix::belongs_to(user, self.homeserver.name()) {
            return self.admit(room, user).await;
        }
        Ok(())
    }

    /// Has a homeserver anybody in the room? If ours does not say, it has.
    ///
    /// # Errors
    /// Too many ask.
    pub(crate) async fn has_anybody(&self, room: &str, server: &str) -> Result<bool, Refused> {
        let has = self.memberships.has_anybody(room, server).await?;
        Ok(has.unwrap_or(true))
    }

    /// A token is about to be given out: whoever it is for is watched from here on.
    ///
    /// # Errors
    /// It must not be.
    pub(crate) fn issued(&self, issued: Issued) -> Result<(), Refused> {
        let now = Instant::now().into_std();
        if !self.members().handle_issued(issued, now)? {
            self.watch.limit_reached("jwt_members");
        }
        Ok(())
    }

    /// The SFU tells of somebody.
    pub fn tell(&self, presence: &Presence) {
        let place = (presence.room.clone(), presence.identity.clone());
        let now = Instant::now().into_std();
        let present = presence.sid.is_some();
        self.members().handle_presence(&place, present, now);
    }

    /// The homeserver tells of a change.
    pub(crate) async fn changed(&self, change: &Change) {
        let (room, user) = (change.room.as_str(), change.user.as_str());
        let joined = change.membership == Membership::Joined;
        let effects = {
            let mut members = self.members();
            let now = Instant::now().into_std();
            let (effects, remembered) = members.handle_membership((room, user), joined, now);
            if !remembered {
                self.watch.limit_reached("jwt_members_left");
            }
            self.judge(&effects);
            effects
        };
        if !effects.is_empty() && !joined {
            let banned = change.membership == Membership::Banned;
            info!(matrixRoom = room, user, banned, "has left the Matrix room");
        }
        self.take_out(effects, "event").await;
    }

    async fn answered(&self, asked: Question, joined: bool) {
        let effects = {
            let mut members = self.members();
            let effects = members.handle_answer(asked, joined, Instant::now().into_std());
            self.judge(&effects);
            effects
        };
        self.take_out(effects, "question").await;
    }

    /// Who is let in is settled while the members are held, so that no older word comes last.
    fn judge(&self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Deny(alias, identity, until) => self.sfu.deny(alias, identity, *until),
                Effect::Allow(alias, identity) => self.sfu.allow(alias, identity),
                Effect::Remove(..) => {}
            }
        }
    }

    async fn take_out(&self, effects: Vec<Effect>, told_by: &'static str) {
        for effect in effects {
            let Effect::Remove(alias, identity) = effect else {
                continue;
            };
            self.watch.taken_out(told_by);
            let removed = self.sfu.remove_participant(&alias, &identity);
            if timeout(REMOVED_WITHIN, removed).await.is_err() {
                warn!(
                    room = alias,
                    participant = identity,
                    "a room does not hear that somebody is to go"
                );
            }
        }
    }

    /// Asks for everybody who is to be asked for.
    async fn ask_around(self: &Arc<Self>) {
        let mut asking = JoinSet::new();
        loop {
            while asking.len() < SWEPT_AT_ONCE {
                let Some(question) = self.members().poll_question() else {
                    break;
                };
                let monitor = Arc::clone(self);
                asking.spawn(async move { monitor.ask_for(question).await });
            }
            if asking.join_next().await.is_none() {
                return;
            }
        }
    }

    async fn ask_for(&self, question: Question) {
        let (room, user) = (question.room.clone(), question.user.clone());
        let joined = self.memberships.joined(&room, &user, true).await;
        // When the next are asked for, there may be time for him.
        let Ok(Some(joined)) = joined else { return };
        // Of users of others nothing is known where ours has nobody.
        let unknown = !joined
            && !matrix::belongs_to(&user, self.homeserver.name())
            && self
                .memberships
                .has_anybody(&room, self.homeserver.name())
                .await
                != Ok(Some(true));
        if !unknown {
            self.answered(question, joined).await;
        }
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Busy> for Refused {
    fn from(_: Busy) -> Self {
        Self::TooMany
    }
}

/// As long as anybody holds the monitor.
async fn sweep(monitor: Weak<Monitor>) {
    loop {
        let next = match monitor.upgrade() {
            Some(monitor) => monitor.members().poll_timeout(),
            None => return,
        };
        sleep_until(Instant::from_std(next)).await;
        let Some(monitor) = monitor.upgrade() else {
            return;
        };
        let now = Instant::now().into_std();
        monitor.members().handle_timeout(now);
        monitor.ask_around().await;
    }
}
