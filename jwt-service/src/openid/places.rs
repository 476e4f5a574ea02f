//! How many look-ups may be under way at a time.
//!
//! A homeserver that answers slowly holds places; so one server has a share, and the servers that
//! the operator named have their own. Who finds no place is told to come again. Used by `openid`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Look-ups at servers that the operator named, and at all others: each is a socket and some 100
/// KiB at worst. An answer takes a tenth of a second, so this is thousands a second.
const MAX_LOOKUPS: usize = 256;

/// Look-ups at one of the others.
const MAX_AT_ONE: usize = 64;

/// Who waits for whom; shared by all requests, locked for a count and no longer.
#[derive(Clone, Default)]
pub(super) struct Places(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    named: usize,
    others: usize,
    /// Look-ups at each of the others; as many entries as these at most.
    at: HashMap<String, usize>,
}

/// A place, free again when dropped.
pub(super) struct Place {
    places: Places,
    server: String,
    named: bool,
}

impl Places {
    /// A place for a look-up at `server`, if there is one.
    pub(super) fn take(&self, server: &str, named: bool) -> Option<Place> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if named {
            if taken.named >= MAX_LOOKUPS {
                return None;
            }
            taken.named += 1;
        } else {
            let at = taken.at.get(server).copied().unwrap_or_default();
            if taken.others >= MAX_LOOKUPS || at >= MAX_AT_ONE {
                return None;
            }
            taken.others += 1;
            taken.at.insert(server.to_owned(), at + 1);
        }
        Some(Place {
            places: self.clone(),
            server: server.to_owned(),
            named,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if self.named {
            taken.named -= 1;
            return;
        }
        taken.others -= 1;
        match taken.at.get_mut(&self.server) {
            Some(at) if *at > 1 => *at -= 1,
            _ => {
                taken.at.remove(&self.server);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_takes_its_share_only() {
        let places = Places::default();
        let held: Vec<Place> = (0..MAX_AT_ONE)
            .map_while(|_| places.take("slow.example", false))
            .collect();
        assert_eq!(held.len(), MAX_AT_ONE);
        assert!(places.take("slow.example", false).is_none());
        assert!(places.take("b.example", false).is_some());
        drop(held);
        assert!(places.take("slow.example", false).is_some());
        assert!(places.0.lock().expect("not poisoned").at.is_empty());
    }

    #[test]
    fn a_flood_of_names_leaves_the_operator_s_own_their_places() {
        let places = Places::default();
        let take = |n| places.take(&format!("{n}.example"), false);
        let held: Vec<Place> = (0..).map_while(take).collect();
        assert_eq!(held.len(), MAX_LOOKUPS);
        assert!(places.take("new.example", false).is_none());
        let own = |_| places.take("own.example", true);
        let held: Vec<Place> = (0..).map_while(own).collect();
        assert_eq!(held.len(), MAX_LOOKUPS);
    }
}
