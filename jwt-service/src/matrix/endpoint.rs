//! A base URL that the operator or a well-known file gave: what to connect to, and what stands before
//! every path. Used by all who ask homeservers, and by `twirp`.

use crate::matrix::{Destination, Host};
use http::Uri;

/// Where a base URL leads.
#[derive(Debug)]
pub struct Endpoint {
    /// The host.
    pub to: Destination,
    /// Stands before every path.
    pub prefix: String,
}

impl Endpoint {
    /// Reads a base URL, `http://` or `https://`.
    #[must_use]
    pub fn parse(url: &str) -> Option<Self> {
        let url: Uri = url.parse().ok()?;
        let authority = url.authority()?;
        let host = Host::parse(authority.host())?;
        let (tls_name, usual) = match url.scheme_str()? {
            "https" => (Some(host.clone()), 443),
            "http" => (None, 80),
            _ => return None,
        };
        let plain = !authority.as_str().contains('@') && url.query().is_none();
        // A port out of range must not become the usual one.
        let port = if authority.as_str() == authority.host() {
            usual
        } else {
            authority.port_u16()?
        };
        plain.then(|| Self {
            to: Destination {
                port,
                host_header: authority.as_str().to_owned(),
                host,
                tls_name,
            },
            prefix: url.path().trim_end_matches('/').to_owned(),
        })
    }
}
