//! A whole service around stand-ins.

use super::rooms::Rooms;
use super::watch::Remembered;
use crate::delegation::Delegations;
use crate::limits::Limits;
use crate::monitor::Monitor;
use crate::openid::Verifier;
use crate::routes::Service;
use crate::settled::Settled;
use crate::sfu::Sfu;
use crate::standing::Standing;
use crate::watch::Watch;
use proto::token::{Keys, Secret};
use std::sync::Arc;

/// The key that tokens are signed with.
pub(crate) fn keys() -> Keys {
    let secret = Secret::new("devsecret");
    [("devkey".to_owned(), secret)].into_iter().collect()
}

/// A service as the server starts it.
pub(crate) fn service(
    settled: Settled,
    keys: Keys,
    rooms: &Arc<Rooms>,
    watch: &Arc<Remembered>,
) -> Arc<Service> {
    let watch: Arc<dyn Watch> = Arc::<Remembered>::clone(watch);
    let sfu: Arc<dyn Sfu> = Arc::<Rooms>::clone(rooms);
    let delegates = settled.config().delegation;
    Arc::new(Service {
        verifier: Arc::new(Verifier::new(settled.clone(), Arc::clone(&watch))),
        standing: Standing::default(),
        limits: Limits::default(),
        delegations: delegates
            .then(|| Delegations::start(&settled, Arc::clone(&watch)).expect("set up")),
        monitor: Monitor::start(&settled, Arc::clone(&sfu), Arc::clone(&watch)),
        settled,
        keys: Arc::new(keys),
        sfu,
        watch,
    })
}
