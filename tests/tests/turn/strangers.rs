//! Clients of others: coturn's `turnutils_uclient` and aioice.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The password of a time-limited name.
pub(crate) fn password(name: &str) -> String {
    let key = hmac::Key::new(
        hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        super::server::SECRET.as_bytes(),
    );
    STANDARD.encode(hmac::sign(&key, name.as_bytes()))
}
