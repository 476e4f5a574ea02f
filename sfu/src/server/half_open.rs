//! Connections that have not said yet what they are.
//!
//! Owns how many there may be, of all and of one network, and which of them goes when there are too many.
//! Who is to go is closed by `tls_port`.

use crate::crowd::{self, Block, Most};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use tokio::task::{AbortHandle, Id};

/// At a time: each has a buffer of 2 to 16 KiB. In a second the machine shakes some thousand hands, so
/// that there are more only if most of them say nothing: then the oldest goes, for whoever means it has
/// said it long before.
pub(super) const MOST: usize = 2048;
/// Of one network: a whole office behind one address that comes back at once, and still far from all
/// there may be. The oldest of these goes likewise: others behind the same NAT are not shut out by one.
pub(super) const MOST_OF_ONE: Most = Most {
    network: 128,
    site: 256,
};

/// Those there are now.
#[derive(Debug, Default)]
pub(super) struct HalfOpen {
    next: u64,
    /// The oldest first.
    steps: BTreeMap<u64, Step>,
    /// The same of each network; as many as there are steps, or twice that.
    of_one: HashMap<Block, BTreeSet<u64>>,
    known: HashMap<Id, u64>,
}

#[derive(Debug)]
struct Step {
    handle: AbortHandle,
    client: Option<IpAddr>,
}

impl HalfOpen {
    /// One more, of a client if it is known. The name of the limit for which an older one had to go.
    pub(super) fn insert(
        &mut self,
        handle: AbortHandle,
        client: Option<IpAddr>,
    ) -> Option<&'static str> {
        let mut reached = None;
        for block in client.into_iter().flat_map(crowd::blocks) {
            let of_one = self.of_one.get(&block);
            let full = of_one.filter(|of_one| of_one.len() >= MOST_OF_ONE.of(block) as usize);
            if let Some(oldest) = full.and_then(BTreeSet::first).copied() {
                self.send_away(oldest);
                reached = Some("half_open_of_one");
            }
        }
        if self.steps.len() >= MOST
            && let Some(oldest) = self.steps.first_key_value().map(|(number, _)| *number)
        {
            self.send_away(oldest);
            reached = Some("half_open");
        }
        self.next += 1;
        self.known.insert(handle.id(), self.next);
        for block in client.into_iter().flat_map(crowd::blocks) {
            self.of_one.entry(block).or_default().insert(self.next);
        }
        self.steps.insert(self.next, Step { handle, client });
        reached
    }

    /// A step is over.
    pub(super) fn remove(&mut self, step: Id) {
        if let Some(number) = self.known.remove(&step) {
            self.forget(number);
        }
    }

    /// It is over as soon as it notices, and counts no more.
    fn send_away(&mut self, number: u64) {
        if let Some(step) = self.forget(number) {
            step.handle.abort();
        }
    }

    fn forget(&mut self, number: u64) -> Option<Step> {
        let step = self.steps.remove(&number)?;
        for block in step.client.into_iter().flat_map(crowd::blocks) {
            if let Some(of_one) = self.of_one.get_mut(&block) {
                of_one.remove(&number);
                if of_one.is_empty() {
                    self.of_one.remove(&block);
                }
            }
        }
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::JoinSet;

    /// One that says nothing.
    fn silent(running: &mut JoinSet<()>) -> AbortHandle {
        running.spawn(std::future::pending())
    }

    #[tokio::test]
    async fn when_all_places_are_taken_the_oldest_goes() {
        let mut half_open = HalfOpen::default();
        let mut running = JoinSet::new();
        let first = silent(&mut running);
        let oldest = first.id();
        assert_eq!(half_open.insert(first, None), None);
        for _ in 1..MOST {
            assert_eq!(half_open.insert(silent(&mut running), None), None);
        }
        let reached = half_open.insert(silent(&mut running), None);
        assert_eq!(reached, Some("half_open"));
        let ended = running.join_next_with_id().await.expect("one");
        let ended = ended.expect_err("it was sent away").id();
        assert_eq!(ended, oldest);
        half_open.remove(ended);
        assert_eq!(half_open.steps.len(), MOST);
        assert_eq!(half_open.known.len(), MOST);
    }

    #[tokio::test]
    async fn when_the_places_of_a_network_are_taken_its_own_oldest_goes() {
        let mut half_open = HalfOpen::default();
        let mut running = JoinSet::new();
        let stranger = silent(&mut running);
        half_open.insert(stranger.clone(), Some([192, 0, 2, 9].into()));
        let ip = |network: u16| IpAddr::from([0x2001, 0xDB8, 0, network, 0, 0, 0, 1]);
        let mut oldest = Vec::new();
        for n in 0..MOST_OF_ONE.network {
            let step = silent(&mut running);
            if n < 2 {
                oldest.push(step.id());
            }
            assert_eq!(half_open.insert(step, Some(ip(0))), None);
        }
        let reached = half_open.insert(silent(&mut running), Some(ip(0)));
        assert_eq!(reached, Some("half_open_of_one"));
        // The site has as many from its other networks.
        for n in 0..MOST_OF_ONE.network as u16 {
            assert_eq!(
                half_open.insert(silent(&mut running), Some(ip(1 + n))),
                None
            );
        }
        let reached = half_open.insert(silent(&mut running), Some(ip(999)));
        assert_eq!(reached, Some("half_open_of_one"));
        for oldest in oldest {
            let ended = running.join_next_with_id().await.expect("one");
            let ended = ended.expect_err("it was sent away").id();
            assert_eq!(ended, oldest);
            half_open.remove(ended);
        }
        assert!(!stranger.is_finished());
        assert_eq!(half_open.steps.len(), 1 + MOST_OF_ONE.site as usize);
        assert_eq!(half_open.known.len(), half_open.steps.len());
        running.abort_all();
        while let Some(ended) = running.join_next_with_id().await {
            half_open.remove(ended.expect_err("it was sent away").id());
        }
        assert!(half_open.of_one.is_empty() && half_open.known.is_empty());
    }
}
