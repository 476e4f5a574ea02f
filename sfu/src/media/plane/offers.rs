//! Our offers to clients that receive by a connection of their own, and what they answer.
//!
//! Only orders its parts: negotiation writes and reads descriptions, the transport takes what they
//! say of it. Called when a peer is due and for the room's commands. (LK: signalling §4.5)

use super::{Plane, candidates};
use crate::ids::PeerId;
use crate::media::demux::Sender;
use crate::media::message::{Description, Event, Side};
use crate::media::transport::ice::Credentials;
use crate::media::transport::negotiation::offering::{Accepted, AnswerError, Due};
use std::time::Instant;

impl Plane {
    /// We are to offer, with an ICE restart perhaps.
    pub(super) fn negotiate(&mut self, id: PeerId, restart: bool, now: Instant) {
        let Some(index) = self.index_of(id) else {
            return;
        };
        let offering = self
            .peers
            .at_mut(index)
            .and_then(|peer| peer.offering.as_mut());
        let Some(offering) = offering else {
            return;
        };
        if restart {
            offering.restart(now);
        } else {
            offering.negotiate(now);
        }
        // At once: the room has said in which order the client is to hear of things.
        self.offer(index, now);
        self.reschedule(index, now);
    }

    /// Makes the offer that is due, and complains of one that was never answered.
    pub(super) fn offer(&mut self, index: u32, now: Instant) {
        let place = self.place();
        let Some(peer) = self.peers.at_mut(index) else {
            return;
        };
        let id = peer.id;
        let connected = peer.connections.can_send();
        let Some(offering) = &mut peer.offering else {
            return;
        };
        if offering.poll_overdue(connected, now) {
            let reason = "no answer in time".to_owned();
            self.events
                .push_back(Event::AnswerRefused { peer: id, reason });
        }
        let Some(due) = offering.poll_due(now) else {
            return;
        };
        let candidates = candidates::host(&self.setup.advertised, peer.told);
        let connection = peer.connections.down();
        let fresh = due == Due::Restart || !connection.described;
        if due == Due::Restart {
            let credentials = Credentials::random(place, &mut self.rng, &mut self.secrets);
            let side = Side::Subscriber;
            if self
                .demux
                .insert(&credentials.ufrag, Sender { peer: id, side })
                .is_err()
            {
                self.counters.dropped.limit += 1;
            }
            connection.transport.restart(credentials, now);
        }
        let credentials = connection.transport.credentials();
        let local = connection.local(credentials, candidates);
        connection.described = true;
        let offer = offering.offer(&local);
        self.events.push_back(Event::Offer(Description {
            peer: id,
            id: offer.id,
            sdp: offer.sdp,
            mids: offer.mids,
            candidates: if fresh { local.candidates } else { Vec::new() },
        }));
        self.tell_changes(index, now);
    }

    /// The client answers our offer.
    pub(super) fn handle_answer(&mut self, id: PeerId, offer_id: u32, sdp: &str, now: Instant) {
        let Some(index) = self.index_of(id) else {
            return;
        };
        match self.take_answer(index, offer_id, sdp, now) {
            Ok(Some(accepted)) => {
                self.apply_sending(index, &accepted.refused, &accepted.sending, now);
                self.tell_changes(index, now);
                self.tell_bound(index);
                // What changed in the meantime follows at once.
                self.offer(index, now);
                self.reschedule(index, now);
            }
            Ok(None) => tracing::debug!(peer = ?id, offer_id, "answer to no offer ignored"),
            Err(error) => {
                let reason = error.to_string();
                self.events
                    .push_back(Event::AnswerRefused { peer: id, reason });
            }
        }
    }

    fn take_answer(
        &mut self,
        index: u32,
        offer_id: u32,
        sdp: &str,
        now: Instant,
    ) -> Result<Option<Accepted>, AnswerError> {
        let Some(peer) = self.peers.at_mut(index) else {
            return Ok(None);
        };
        let Some(offering) = &mut peer.offering else {
            return Ok(None);
        };
        let Some(accepted) = offering.handle_answer(offer_id, sdp, now)? else {
            return Ok(None);
        };
        let transport = &mut peer.connections.down().transport;
        transport.set_remote(&accepted.remote);
        transport.handle_described(&mut self.arena, now);
        Ok(Some(accepted))
    }
}
