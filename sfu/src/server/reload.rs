//! SIGHUP: the configuration is read anew, and what may change while running goes to its owners.
//!
//! Owns the values that are running, and the order: all of it is judged before any of it is applied,
//! so that a mistake leaves everything as it was. Which keys may change is for `config::reload`.

use crate::config::check::{Logging, check};
use crate::config::cidr::Cidr;
use crate::config::complaint::{Complaints, Severity};
use crate::config::raw::Values;
use crate::config::reload::Changes;
use crate::ice_servers::{Credential, IceServer};
use crate::server::complain;
use crate::settings::Loaded;
use crate::signal::join::Policy;
use crate::telemetry::Telemetry;
use jwt_service::config;
use jwt_service::settled::{Owner, SetupError};
use tokio::sync::watch;

/// Those whose settings may change.
pub(super) struct Owners {
    /// Of the authorization service, if it is served.
    matrix: Option<Owner>,
    /// Whose word on addresses is believed.
    proxies: watch::Sender<Vec<Cidr>>,
    /// How joins are judged; nobody looks at it where the service is alone.
    policy: watch::Sender<Policy>,
    telemetry: Telemetry,
}

/// What they get.
pub(super) struct Settings {
    pub(super) matrix: config::Config,
    pub(super) proxies: Vec<Cidr>,
    pub(super) policy: Policy,
    pub(super) logging: Logging,
}

impl Owners {
    pub(super) const fn new(
        matrix: Option<Owner>,
        proxies: watch::Sender<Vec<Cidr>>,
        policy: watch::Sender<Policy>,
        telemetry: Telemetry,
    ) -> Self {
        Self {
            matrix,
            proxies,
            policy,
            telemetry,
        }
    }

    /// All of it, or nothing.
    fn apply(&self, settings: Settings) -> Result<(), SetupError> {
        if let Some(owner) = &self.matrix {
            owner.replace(settings.matrix)?;
        }
        self.proxies.send_replace(settings.proxies);
        let mut policy = settings.policy;
        // Our own TURN server runs on as it is. It tells of its addresses at any time: what is read of
        // it here and what is written must be one step.
        self.policy.send_modify(|running| {
            let ours = |server: &&IceServer| matches!(server.credential, Credential::Ours(_));
            let ours: Vec<IceServer> = running.ice_servers.iter().filter(ours).cloned().collect();
            policy.ice_servers.splice(0..0, ours);
            *running = policy;
        });
        self.telemetry.reload(&settings.logging);
        Ok(())
    }
}

/// The configuration that runs.
pub(super) struct Running(Values);

impl Running {
    pub(super) fn new(loaded: &Loaded) -> Self {
        Self(loaded.values.clone())
    }

    /// What `read` makes of it: a configuration that was judged as a whole, and how it differs.
    pub(super) fn with(&self, read: &Loaded, concerns: impl Fn(&str) -> bool) -> (Loaded, Changes) {
        let changes = Changes::new(&self.0, &read.values, concerns);
        let mut complaints = Complaints::default();
        let mut values = changes.values.clone();
        let config = check(&mut values, &mut complaints);
        let loaded = Loaded {
            config,
            values,
            complaints,
            unconfigured: read.unconfigured,
        };
        (loaded, changes)
    }

    /// Hands it on, and tells what has become of it; false if everything stays as it was.
    pub(super) fn take(
        &mut self,
        owners: &Owners,
        read: &Complaints,
        changes: Changes,
        settings: Settings,
    ) -> bool {
        if let Err(error) = owners.apply(settings) {
            tracing::error!("matrix: {error}");
            refuse();
            return false;
        }
        complain(read);
        self.0 = changes.values;
        if !changes.waiting.is_empty() {
            tracing::warn!(
                keys = changes.waiting.join(", "),
                "changed, and wait for a restart"
            );
        }
        if changes.taken.is_empty() {
            tracing::info!("configuration reloaded: no key has changed that may while running");
        } else {
            let keys = changes.taken.join(", ");
            tracing::info!(keys, "configuration reloaded");
        }
        true
    }
}

/// Tells what is wrong with a configuration that was read.
pub(super) fn refuse_read(read: &Complaints) {
    refuse_for(read);
    refuse();
}

/// Tells what is wrong with a configuration as far as it could be taken over.
pub(super) fn refuse_changes(judged: &Complaints, changes: &Changes) {
    refuse_for(judged);
    let waiting = changes.waiting.join(", ");
    tracing::error!(
        waiting,
        "what may change while running does not go with what needs a restart: restart, or change less"
    );
    refuse();
}

fn refuse_for(complaints: &Complaints) {
    let errors = complaints.list().iter();
    for complaint in errors.filter(|one| one.severity == Severity::Error) {
        tracing::error!("{complaint}");
    }
}

/// Nothing has changed.
pub(super) fn refuse() {
    tracing::error!("configuration not reloaded: everything stays as it was");
}
