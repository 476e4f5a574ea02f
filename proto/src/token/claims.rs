//! What a token says of a participant, and how that stands in JSON. (LK: signalling §2.2)
//!
//! Owns the claim names and their absent-means rules; checks no signature. Used by `token`, which
//! alone reads and writes the registered claims around it.

use super::grant::{VideoGrant, or_default};
use livekit_protocol as livekit;
use livekit_protocol::participant_info::{Kind, KindDetail};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;

/// The claims of a token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Claims {
    /// Who: `sub`, or `jti` in old tokens. May be empty here; a join refuses that.
    #[serde(skip)]
    pub identity: String,
    /// When the token ends, in Unix seconds; 0 in claims that did not come from a token.
    #[serde(skip)]
    pub expires_at: u64,
    /// Display name.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "or_default"
    )]
    pub name: String,
    /// Opaque text of the application.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "or_default"
    )]
    pub metadata: String,
    /// Keys and values of the application.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "or_default"
    )]
    pub attributes: BTreeMap<String, String>,
    /// What kind of participant; unknown words count as a standard one.
    #[serde(serialize_with = "write_kind", deserialize_with = "read_kind")]
    pub kind: Kind,
    /// More on the kind; unknown words are left out.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "write_details",
        deserialize_with = "read_details"
    )]
    pub kind_details: Vec<KindDetail>,
    /// Rights in a room; without it no room can be joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video: Option<VideoGrant>,
    /// Settings for the room if this join creates it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_config: Option<livekit::RoomConfiguration>,
    /// Name of a configured set of such settings.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "or_default"
    )]
    pub room_preset: String,
    /// Hash of a webhook's body.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "or_default"
    )]
    pub sha256: String,
}

/// Stands for a missing `video`.
static NO_GRANT: VideoGrant = VideoGrant::NONE;

impl Claims {
    /// The video grant; one without `roomJoin` if the token has none.
    #[must_use]
    pub fn grant(&self) -> &VideoGrant {
        self.video.as_ref().unwrap_or(&NO_GRANT)
    }

    /// The rights as participants see them, defaults resolved.
    #[must_use]
    pub fn permission(&self) -> livekit::ParticipantPermission {
        self.grant().permission()
    }

    /// An agent, an egress or a recorder: neither counted as a participant nor a reason to keep a
    /// room open. (LK: signalling §10.2)
    #[must_use]
    pub fn is_dependent(&self) -> bool {
        matches!(self.kind, Kind::Agent | Kind::Egress)
            || self.grant().agent
            || self.grant().recorder
    }
}

/// A token's whole body.
#[derive(Serialize, Deserialize)]
pub(super) struct Wire {
    #[serde(default)]
    iss: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    sub: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    jti: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<NumericDate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exp: Option<NumericDate>,
    #[serde(flatten)]
    claims: Claims,
}

impl Wire {
    pub(super) fn new(claims: Claims, issuer: String, not_before: u64, expires: u64) -> Self {
        Self {
            iss: issuer,
            sub: claims.identity.clone(),
            jti: String::new(),
            nbf: Some(NumericDate(not_before)),
            exp: Some(NumericDate(expires)),
            claims,
        }
    }

    pub(super) fn expires_at(&self) -> Option<u64> {
        self.exp.map(|date| date.0)
    }

    pub(super) fn not_before(&self) -> u64 {
        self.nbf.map_or(0, |date| date.0)
    }

    /// A claim called `identity` in the body means nothing: `sub` is who, then `jti`.
    pub(super) fn into_claims(self) -> Claims {
        let expires_at = self.expires_at().unwrap_or_default();
        let identity = if self.sub.is_empty() {
            self.jti
        } else {
            self.sub
        };
        Claims {
            identity,
            expires_at,
            ..self.claims
        }
    }
}

/// Unix seconds; fractions are legal and cut off (RFC 7519 §2).
#[derive(Clone, Copy, Serialize)]
struct NumericDate(u64);

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(deserializer)?;
        // A float cast saturates: negative dates become 0, absurd ones the end of time.
        let seconds = number
            .as_u64()
            .unwrap_or_else(|| number.as_f64().unwrap_or_default() as u64);
        Ok(Self(seconds))
    }
}

fn read_kind<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Kind, D::Error> {
    let word: String = or_default(deserializer)?;
    Ok(Kind::from_str_name(&word.to_ascii_uppercase()).unwrap_or_default())
}

fn write_kind<S: Serializer>(kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&kind.as_str_name().to_ascii_lowercase())
}

fn read_details<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<KindDetail>, D::Error> {
    let words: Vec<String> = or_default(deserializer)?;
    let known = |word: &String| KindDetail::from_str_name(&word.to_ascii_uppercase());
    Ok(words.iter().filter_map(known).collect())
}

fn write_details<S: Serializer>(details: &[KindDetail], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(
        details
            .iter()
            .map(|detail| detail.as_str_name().to_ascii_lowercase()),
    )
}
