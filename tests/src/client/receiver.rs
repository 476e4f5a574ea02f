//! The connection a client receives by, where it sends by another: the server offers, it answers.

use std::sync::Arc;
use webrtc::peer_connection::{
    PeerConnection, RTCConfiguration, RTCIceCandidateInit, RTCSessionDescription,
};

/// The connection.
pub(super) struct Receiver {
    peer: Arc<dyn PeerConnection>,
    /// Candidates that came before the first offer.
    early: Option<Vec<RTCIceCandidateInit>>,
}

impl Receiver {
    /// Waits for an offer.
    pub(super) fn new(peer: Arc<dyn PeerConnection>) -> Self {
        Self {
            peer,
            early: Some(Vec::new()),
        }
    }

    /// Answers an offer.
    pub(super) async fn answer(&mut self, offer: String) -> String {
        let offer = RTCSessionDescription::offer(offer).expect("an offer is SDP");
        self.peer
            .set_remote_description(offer)
            .await
            .expect("an offer that fits the last one");
        let answer = self.peer.create_answer(None).await.expect("an answer");
        self.peer
            .set_local_description(answer.clone())
            .await
            .expect("our own answer");
        for candidate in self.early.take().unwrap_or_default() {
            self.candidate(candidate).await;
        }
        self.peer
            .local_description()
            .await
            .map_or(answer.sdp, |local| local.sdp)
    }

    /// Takes a candidate of the server.
    pub(super) async fn candidate(&mut self, init: RTCIceCandidateInit) {
        match &mut self.early {
            Some(early) => early.push(init),
            None => self
                .peer
                .add_ice_candidate(init)
                .await
                .expect("a valid candidate"),
        }
    }

    /// Tells it of servers.
    pub(super) async fn configure(
        &self,
        configuration: RTCConfiguration,
    ) -> webrtc::error::Result<()> {
        self.peer.set_configuration(configuration).await
    }

    /// Ends it.
    pub(super) async fn close(&self) {
        let _ = self.peer.close().await;
    }
}
