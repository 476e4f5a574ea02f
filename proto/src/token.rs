//! LiveKit access tokens.

/// The claims of a token (LK signalling §2.2).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claims {}
