//! Who has a token, at work: the SFU is told to let go of whoever leaves his Matrix room.
//!
//! Owns the way of facts to `members` and of its effects to the SFU, and the task that asks the
//! homeserver for everybody from time to time. Decides what follows when the homeserver does not
//! answer: nothing is held against anybody but what is known. Called by `routes` and `app_service`,
//! and told of participants by the server. (LK: jwt-service §13, §14)

use crate::delegation::Presence;
use crate::homeserver::Homeserver;
use crate::matrix;
use crate::matrix::proxied::{Change, Membership};
use crate::members::{Effect, Issued, Members, Question, Refused, Seen};
use crate::membership::{Busy, Memberships, Occasion};
use crate::settled::Settled;
use crate::sfu::Sfu;
use crate::watch::Watch;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

/// Questions of a sweep at a time; tokens that are asked for need their places too.
const SWEPT_AT_ONCE: usize = 8;
/// How long the SFU may take to hear that somebody is to go.
const REMOVED_WITHIN: Duration = Duration::from_secs(5);
/// Participants taken out at a time: one room that does not hear holds up few others.
const REMOVED_AT_ONCE: usize = 8;
/// Those who wait for that, some 150 bytes each. One more is not waited for, and counted: he is kept out
/// already, and the next question finds him where that is not enough.
const REMOVALS_MOST: usize = 10_000;

/// Somebody who is to be taken out.
struct Removal {
    /// Room and identity, by the SFU's names.
    place: (String, String),
    told_by: &'static str,
}

/// Rooms of a sweep, and whether our homeserver has anybody there; no more than have tokens watched.
type Lively = Mutex<BTreeMap<String, bool>>;

/// Watches over those who have a token.
pub struct Monitor {
    homeserver: Arc<Homeserver>,
    members: Mutex<Members>,
    memberships: Memberships,
    removals: Sender<Removal>,
    sfu: Arc<dyn Sfu>,
    watch: Arc<dyn Watch>,
}

impl Monitor {
    /// Starts the tasks that ask and take out, on the current runtime; `None` if no homeserver has us as an
    /// application service. They end with the last handle.
    #[must_use]
    pub fn start(settled: &Settled, sfu: Arc<dyn Sfu>, watch: Arc<dyn Watch>) -> Option<Arc<Self>> {
        let ours = settled.config().app_service.clone()?;
        let now = Instant::now().into_std();
        let members = Members::new(&ours.server, ours.membership_interval, now);
        let homeserver = Arc::new(Homeserver::new(ours.server, settled.clone()));
        let (removals, waiting) = channel(REMOVALS_MOST);
        let monitor = Arc::new(Self {
            removals,
            members: Mutex::new(members),
            memberships: Memberships::new(Arc::clone(&homeserver), Arc::clone(&watch)),
            homeserver,
            sfu,
            watch,
        });
        tokio::spawn(sweep(Arc::downgrade(&monitor), settled.clone()));
        tokio::spawn(take_out(Arc::downgrade(&monitor), waiting));
        Some(monitor)
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
        let occasion = if is_away {
            Occasion::TokenOfLeaver
        } else {
            Occasion::Token
        };
        match self.memberships.joined(room, user, occasion).await? {
            Some(true) => {
                // It may be that he is back, and the event is under way.
                self.answered(asked, true);
                Ok(())
            }
            Some(false) => {
                self.answered(asked, false);
                Err(Refused::Left)
            }
            None if is_away => Err(Refused::Left),
            None => Ok(()),
        }
    }

    /// The same for an endpoint that is open to users of all homeservers.
    ///
    /// # Errors
    /// As above.
    pub(crate) async fn admit_anybody(&self, room: &str, user: &str) -> Result<(), Refused> {
        let now = Instant::now().into_std();
        let is_away = self.members().is_away(room, user, now);
        if is_away || matrix::belongs_to(user, self.homeserver.name()) {
            return self.admit(room, user).await;
        }
        self.admit_stranger(room, user).await
    }

    /// Users of other homeservers may be in rooms that ours knows nothing of: its no counts where it has
    /// somebody itself.
    async fn admit_stranger(&self, room: &str, user: &str) -> Result<(), Refused> {
        let asked = self.members().question(room, user);
        let joined = self.memberships.joined(room, user, Occasion::Stranger);
        if joined.await? != Some(false) {
            return Ok(());
        }
        let ours = self.homeserver.name();
        let known = self.memberships.has_anybody(room, ours, Occasion::Stranger);
        if known.await? != Some(true) {
            return Ok(());
        }
        self.answered(asked, false);
        Err(Refused::Left)
    }

    /// Has a homeserver anybody in the room? If ours does not say, it has.
    ///
    /// # Errors
    /// Too many ask.
    pub(crate) async fn has_anybody(&self, room: &str, server: &str) -> Result<bool, Refused> {
        let asked = self.memberships.has_anybody(room, server, Occasion::Token);
        let has = asked.await?;
        Ok(has.unwrap_or(true))
    }

    /// A token is about to be given out: whoever it is for is watched from here on.
    ///
    /// # Errors
    /// It must not be.
    pub(crate) fn issued(&self, issued: Issued) -> Result<(), Refused> {
        let now = Instant::now().into_std();
        let watched = self.members().handle_issued(issued, now);
        if matches!(watched, Ok(false) | Err(Refused::TooMany)) {
            self.watch.limit_reached("jwt_members");
        }
        watched.map(|_| ())
    }

    /// The SFU of this process tells of somebody.
    pub fn tell(&self, presence: &Presence) {
        self.seen(presence, Seen::Here);
    }

    /// A webhook tells of somebody.
    pub(crate) fn hear(&self, presence: &Presence) {
        self.seen(presence, Seen::Heard);
    }

    fn seen(&self, presence: &Presence, there: Seen) {
        let place = (presence.room.clone(), presence.identity.clone());
        let seen = if presence.sid.is_some() {
            there
        } else {
            Seen::Gone
        };
        let now = Instant::now().into_std();
        let mut members = self.members();
        let (effects, remembered) = members.handle_presence(&place, seen, now);
        if !remembered {
            self.watch.limit_reached("jwt_beside");
        }
        self.carry_out(effects, "presence");
    }

    /// The homeserver tells of a change.
    pub(crate) fn changed(&self, change: &Change) {
        let (room, user) = (change.room.as_str(), change.user.as_str());
        let joined = change.membership == Membership::Joined;
        let mut members = self.members();
        let now = Instant::now().into_std();
        let (effects, remembered) = members.handle_membership((room, user), joined, now);
        if !remembered {
            self.watch.limit_reached("jwt_members_left");
        }
        if !effects.is_empty() && !joined {
            let banned = change.membership == Membership::Banned;
            info!(matrixRoom = room, user, banned, "has left the Matrix room");
        }
        self.carry_out(effects, "event");
    }

    fn answered(&self, asked: Question, joined: bool) {
        let mut members = self.members();
        let effects = members.handle_answer(asked, joined, Instant::now().into_std());
        self.carry_out(effects, "question");
    }

    /// Called while the members are held, so that no older word on who is let in comes last. Nobody waits
    /// for the rooms.
    fn carry_out(&self, effects: Vec<Effect>, told_by: &'static str) {
        for effect in effects {
            match effect {
                Effect::Deny(alias, identity, until) => self.sfu.deny(&alias, &identity, until),
                Effect::Allow(alias, identity) => self.sfu.allow(&alias, &identity),
                Effect::Remove(alias, identity) => {
                    let place = (alias, identity);
                    if self.removals.try_send(Removal { place, told_by }).is_err() {
                        self.watch.limit_reached("jwt_removals");
                    }
                }
            }
        }
    }

    async fn remove(&self, removal: Removal) {
        let now = Instant::now().into_std();
        // Whoever has come back while this waited is to stay.
        if !self.members().is_to_go(&removal.place, now) {
            return;
        }
        self.watch.taken_out(removal.told_by);
        let (alias, identity) = &removal.place;
        let removed = self.sfu.remove_participant(alias, identity);
        if timeout(REMOVED_WITHIN, removed).await.is_err() {
            warn!(
                room = alias,
                participant = identity,
                "a room does not hear that somebody is to go"
            );
        }
    }

    /// Asks for everybody who is to be asked for.
    async fn ask_around(self: &Arc<Self>) {
        let mut asking = JoinSet::new();
        let lively = Arc::<Lively>::default();
        loop {
            while asking.len() < SWEPT_AT_ONCE {
                let Some(question) = self.members().poll_question() else {
                    break;
                };
                let (monitor, lively) = (Arc::clone(self), Arc::clone(&lively));
                asking.spawn(async move { monitor.ask_for(question, &lively).await });
            }
            if asking.join_next().await.is_none() {
                return;
            }
        }
    }

    async fn ask_for(&self, question: Question, lively: &Lively) {
        let (room, user) = (question.room.clone(), question.user.clone());
        let foreign = !matrix::belongs_to(&user, self.homeserver.name());
        // Of users of others nothing is known where ours has nobody.
        if foreign && !self.is_lively(&room, lively).await {
            return;
        }
        let joined = self.memberships.joined(&room, &user, Occasion::Sweep).await;
        // When the next are asked for, there may be time for him.
        let Ok(Some(joined)) = joined else { return };
        // The last of ours may have left since.
        if joined || !foreign || self.has_ours(&room).await {
            self.answered(question, joined);
        }
    }

    /// Has our homeserver anybody in the room? Asked once a sweep.
    async fn is_lively(&self, room: &str, lively: &Lively) -> bool {
        let rooms = || lively.lock().unwrap_or_else(PoisonError::into_inner);
        let known = rooms().get(room).copied();
        if let Some(known) = known {
            return known;
        }
        let has = self.has_ours(room).await;
        rooms().insert(room.to_owned(), has);
        has
    }

    async fn has_ours(&self, room: &str) -> bool {
        let ours = self.homeserver.name();
        let asked = self.memberships.has_anybody(room, ours, Occasion::Sweep);
        asked.await == Ok(Some(true))
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
async fn sweep(monitor: Weak<Monitor>, mut settled: Settled) {
    loop {
        let next = match monitor.upgrade() {
            Some(monitor) => monitor.members().poll_timeout(),
            None => return,
        };
        tokio::select! {
            () = sleep_until(Instant::from_std(next)) => {}
            () = settled.changed() => {}
        }
        let Some(monitor) = monitor.upgrade() else {
            return;
        };
        let now = Instant::now().into_std();
        if let Some(ours) = &settled.config().app_service {
            monitor
                .members()
                .handle_interval(ours.membership_interval, now);
        }
        monitor.members().handle_timeout(now);
        monitor.ask_around().await;
    }
}

/// As long as anybody holds the monitor.
async fn take_out(monitor: Weak<Monitor>, mut waiting: Receiver<Removal>) {
    let mut removing = JoinSet::new();
    while let Some(removal) = waiting.recv().await {
        let Some(monitor) = monitor.upgrade() else {
            return;
        };
        if removing.len() >= REMOVED_AT_ONCE {
            removing.join_next().await;
        }
        removing.spawn(async move { monitor.remove(removal).await });
    }
}
