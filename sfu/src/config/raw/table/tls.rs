//! Keys below `tls`: the one port for everything that TLS carries. All are Foci's own.

use crate::config::raw::key::Key;
use crate::config::raw::key::Kind::{Bool, Records, Secret, Text, Texts, Uint};

/// A port that may be 0 for none.
const PORT: crate::config::raw::key::Kind = Uint(65_535);

pub(super) const KEYS: &[Key] = &[
    Key::built(
        "tls.port",
        PORT,
        "0",
        "TCP port that tells HTTPS, WSS, TURN (with and without TLS) and media over TCP apart, so that 443 may serve them all; 0: none. (Foci only, as all of `tls`)",
    ),
    Key::built(
        "tls.bind_addresses",
        Texts,
        "",
        "Addresses it listens on; unset: those of `bind_addresses`.",
    ),
    Key::built(
        "tls.advertised_port",
        PORT,
        "0",
        "The port in URLs told to clients, where a router or balancer in front has another; 0: `tls.port`, or \
         443 with `tls.acme.challenge: tls-alpn-01`, for which the authority comes there by 443.",
    ),
    Key::built(
        "tls.cert_file",
        Text,
        "",
        "PEM file of the certificate, then those of its issuers. Looked at every few seconds and on SIGHUP: a new pair is taken without dropping a connection, a bad one is not.",
    ),
    Key::built("tls.key_file", Text, "", "PEM file of its key."),
    Key::built(
        "tls.certificates",
        Records,
        "",
        "More pairs, of other hosts; the one that names the host a client asks for is shown, else the first.",
    ),
    Key::built(
        "tls.certificates[].cert_file",
        Text,
        "",
        "As `tls.cert_file`.",
    ),
    Key::built(
        "tls.certificates[].key_file",
        Text,
        "",
        "As `tls.key_file`.",
    ),
    Key::built(
        "tls.external_tls",
        Bool,
        "false",
        "TLS ends at a proxy in front: what comes to the port is served without, and no certificate is needed.",
    ),
    Key::built(
        "tls.redirect",
        Bool,
        "true",
        "Plain HTTP on the port is sent to https (308); if not, refused (400).",
    ),
    Key::built(
        "tls.acme.domains",
        Texts,
        "",
        "Hosts to get a certificate for by ACME; with it you agree to the terms of the authority. It is shown to whoever asks for these, and renewed by itself.",
    ),
    Key::built(
        "tls.acme.storage",
        Text,
        "",
        "Folder for the account and the certificate with its key, for example /var/lib/foci/acme; it holds secrets.",
    ),
    Key::built(
        "tls.acme.email",
        Text,
        "",
        "Where the authority may write to.",
    ),
    Key::built(
        "tls.acme.directory_url",
        Text,
        "https://acme-v02.api.letsencrypt.org/directory",
        "The authority.",
    ),
    Key::built(
        "tls.acme.challenge",
        Text,
        "tls-alpn-01",
        "How it is shown that the hosts are ours: `tls-alpn-01` (port 443 of each leads to `tls.port`, TLS untouched) or `http-01` (port 80 leads to `port`).",
    ),
    Key::built(
        "tls.acme.eab_kid",
        Text,
        "",
        "Name of the key that an authority gives out to its customers (external account binding), where it wants one: ZeroSSL, say.",
    ),
    Key::built(
        "tls.acme.eab_hmac_key",
        Secret,
        "",
        "That key, in base64 as the authority shows it.",
    ),
    Key::built(
        "tls.acme.ca_file",
        Text,
        "",
        "PEM file of certificate authorities to trust for `directory_url`, besides the system's.",
    ),
];
