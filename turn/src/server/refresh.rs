//! Refresh: an allocation lives on, or ends. (RFC 8656 §8)

use super::Server;
use super::allocate::asked_lifetime;
use super::answer::Refusal;
use super::authenticate::Caller;
use crate::address::{Client, Family};
use crate::event::{End, Reason};
use crate::message::attribute::{LIFETIME, REQUESTED_ADDRESS_FAMILY};
use crate::message::{Class, Message};
use std::time::Instant;

impl Server {
    pub(super) fn refresh(
        &mut self,
        client: Client,
        message: &Message<'_>,
        caller: &Caller,
        now: Instant,
    ) -> Result<(), Refusal> {
        let slot = self
            .allocations
            .of_client(&client)
            .ok_or(Refusal::MISMATCH)?;
        let family = self.family_meant(slot, message)?;
        let asked = asked_lifetime(message)?;
        let ends = asked == Some(0);
        let lifetime = self.lifetime(asked);
        let told = match family {
            // One of two relays goes and the other stays.
            Some(family) if ends => {
                self.end_relay(slot, family);
                0
            }
            _ if ends => {
                self.end(slot, End::Released, now);
                0
            }
            _ => {
                if let Some(allocation) = self.allocations.at_mut(slot) {
                    allocation.expires = now + lifetime;
                }
                self.wake_by(slot, now + lifetime);
                lifetime.as_secs() as u32
            }
        };
        self.write(client, message, Some(caller), Class::Success, |writer| {
            writer.word(LIFETIME, told);
        });
        Ok(())
    }

    /// The family a refresh is for, if the allocation has both and it names one.
    fn family_meant(&self, slot: u32, message: &Message<'_>) -> Result<Option<Family>, Refusal> {
        let Some(value) = message.attribute(REQUESTED_ADDRESS_FAMILY) else {
            return Ok(None);
        };
        let allocation = self.allocations.at(slot).ok_or(Refusal::MISMATCH)?;
        let family = value.first().copied().and_then(Family::from_number);
        let family = family
            .filter(|family| allocation.relay(*family).is_some())
            .ok_or(Refusal::new(443, Reason::FamilyMismatch))?;
        let both = allocation.relays.iter().all(Option::is_some);
        Ok(both.then_some(family))
    }

    fn end_relay(&mut self, slot: u32, family: Family) {
        let Some(allocation) = self.allocations.at(slot) else {
            return;
        };
        let of_family = |ip| Family::of(ip) == family;
        let scopes: Vec<_> = allocation
            .permissions
            .iter()
            .map(|had| had.scope)
            .filter(|scope| of_family(scope.ip))
            .collect();
        let port = allocation.ports().find(|port| port.family == family);
        for scope in scopes {
            self.unroute(slot, scope);
        }
        if let Some(port) = port {
            self.ports.release(port);
        }
        if let Some(allocation) = self.allocations.at_mut(slot) {
            allocation.relays[family.index()] = None;
        }
    }
}
