//! Password algorithms: what a long-term key is made with, and how that is told. (RFC 8489 §9.2,
//! §14.11, §14.12, §18.5)
//!
//! Owns the list we offer. A client names its choice and says the whole list back, so that whoever
//! cut something from it on the way is found out.

/// How a key is made of name, realm and password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// All that RFC 5389 has.
    Md5,
    /// Of RFC 8489.
    Sha256,
}

/// The value of PASSWORD-ALGORITHMS: the better one first. No algorithm has parameters.
pub const OFFERED: [u8; 8] = [0, 2, 0, 0, 0, 1, 0, 0];

impl Algorithm {
    /// The value of PASSWORD-ALGORITHM.
    #[must_use]
    pub const fn value(self) -> [u8; 4] {
        match self {
            Self::Md5 => [0, 1, 0, 0],
            Self::Sha256 => [0, 2, 0, 0],
        }
    }

    /// Reads such a value; `None` if it is not one we offer.
    #[must_use]
    pub fn of_value(value: &[u8]) -> Option<Self> {
        [Self::Sha256, Self::Md5]
            .into_iter()
            .find(|algorithm| algorithm.value() == *value)
    }
}
