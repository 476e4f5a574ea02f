//! The permissions of one allocation: which peers may send to it and be sent to. (RFC 8656 §9)
//!
//! Owns their list. A permission is for all ports of an IP, as the RFC has it, but on IPs that are
//! ours: those many clients share, so there it is for the exact address.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

/// What a permission is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Scope {
    /// The peer's IP.
    pub(crate) ip: IpAddr,
    /// Its port, or 0 for all.
    pub(crate) port: u16,
}

impl Scope {
    /// All ports of a peer, or its exact address.
    pub(crate) const fn of(peer: SocketAddr, exact: bool) -> Self {
        Self {
            ip: peer.ip(),
            port: if exact { peer.port() } else { 0 },
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Permission {
    pub(crate) scope: Scope,
    /// It opens the way over a relay socket; without, it is for the SFU alone.
    pub(crate) routed: bool,
    until: Instant,
}

/// All of an allocation: a few, so they are looked through.
#[derive(Debug, Default)]
pub(crate) struct Permissions(Vec<Permission>);

impl Permissions {
    /// Gives a permission, or keeps it for longer.
    pub(crate) fn give(&mut self, scope: Scope, routed: bool, until: Instant) {
        match self.0.iter_mut().find(|had| had.scope == scope) {
            Some(had) => {
                had.until = until;
                had.routed |= routed;
            }
            None => self.0.push(Permission {
                scope,
                routed,
                until,
            }),
        }
    }

    /// Whether a permission of a scope is there, expired or not.
    pub(crate) fn contains(&self, scope: Scope) -> bool {
        self.0.iter().any(|had| had.scope == scope)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is a way over the relay socket in this scope.
    pub(crate) fn routes(&self, scope: Scope, now: Instant) -> bool {
        self.0
            .iter()
            .any(|had| had.scope == scope && had.routed && had.until > now)
    }

    /// Whether anything of an IP may be reached.
    pub(crate) fn has_ip(&self, ip: IpAddr, now: Instant) -> bool {
        self.0
            .iter()
            .any(|had| had.scope.ip == ip && had.until > now)
    }

    /// Drops what has expired, telling each; tells when the next one does.
    pub(crate) fn sweep(
        &mut self,
        now: Instant,
        mut dropped: impl FnMut(&Permission),
    ) -> Option<Instant> {
        self.0.retain(|had| {
            let live = had.until > now;
            if !live {
                dropped(had);
            }
            live
        });
        self.0.iter().map(|had| had.until).min()
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Permission> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_permission_holds_for_its_scope_and_time() {
        #[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
        let now = Instant::now();
        let later = now + Duration::from_secs(300);
        let peer: SocketAddr = ([1, 1, 1, 1], 7).into();
        let (all, exact) = (Scope::of(peer, false), Scope::of(peer, true));
        let mut permissions = Permissions::default();
        permissions.give(exact, false, later);
        assert!(permissions.has_ip(peer.ip(), now) && !permissions.routes(exact, now));
        permissions.give(exact, true, later);
        assert!(permissions.routes(exact, now) && !permissions.routes(all, now));
        assert!(!permissions.routes(exact, later) && !permissions.has_ip(peer.ip(), later));
        assert!(permissions.contains(exact) && !permissions.contains(all));
        let mut dropped = 0;
        assert_eq!(permissions.sweep(later, |_| dropped += 1), None);
        assert_eq!((dropped, permissions.len()), (1, 0));
    }
}
