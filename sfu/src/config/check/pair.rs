//! Where a certificate is.

use std::path::PathBuf;

/// The files of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The key that names them.
    pub key: &'static str,
    /// The certificate and its issuers.
    pub cert_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
    /// It may be missing at first: whoever makes it is at work.
    pub awaited: bool,
}
