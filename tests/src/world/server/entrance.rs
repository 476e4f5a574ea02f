//! How somebody enters a server of the world: what a client says of itself before it is let in.

use proto::livekit;
use proto::signal::encode_join_request;

/// How somebody enters.
#[derive(Debug, Clone, Default)]
pub struct Entrance {
    /// Who.
    pub identity: String,
    /// Which room.
    pub room: String,
    /// One connection to send by and another to receive by.
    pub dual: bool,
    /// Where an earlier connection was lost: the sid it had.
    pub resume: Option<String>,
}

fn client_info() -> livekit::ClientInfo {
    livekit::ClientInfo {
        sdk: 1,
        version: "2.23.0".into(),
        protocol: 17,
        ..Default::default()
    }
}

impl Entrance {
    /// As clients with one connection ask.
    pub(super) fn join_request(&self) -> String {
        encode_join_request(&livekit::JoinRequest {
            client_info: Some(client_info()),
            connection_settings: Some(livekit::ConnectionSettings {
                auto_subscribe: true,
                ..Default::default()
            }),
            reconnect: self.resume.is_some(),
            participant_sid: self.resume.clone().unwrap_or_default(),
            ..Default::default()
        })
    }

    /// As clients with two connections ask.
    pub(super) fn parameters(&self) -> Vec<(String, String)> {
        let mut pairs = vec![
            ("sdk", "js".to_owned()),
            ("version", "2.23.0".to_owned()),
            ("protocol", "15".to_owned()),
            ("auto_subscribe", "1".to_owned()),
        ];
        if let Some(sid) = &self.resume {
            pairs.push(("reconnect", "1".to_owned()));
            pairs.push(("sid", sid.clone()));
        }
        let owned = |(name, value): (&str, String)| (name.to_owned(), value);
        pairs.into_iter().map(owned).collect()
    }
}
