//! What routers do, as rules of nftables.

/// The rules of one. Its outer device is `wan`, its inner one `lan`; the client, or the next router, is
/// at `192.168.N.2` with N counted from the outermost, 1.
#[derive(Debug, Clone)]
pub struct Router(pub String);

impl Router {
    /// Anybody may send to a port that the client has sent from. (RFC 3489 §5: full cone)
    #[must_use]
    pub fn full_cone() -> Self {
        Self(format!(
            "{}
             table ip into {{ chain c {{ type nat hook prerouting priority dstnat;
               iifname \"wan\" meta l4proto udp dnat to 192.168.1.2; }}\n}}\n",
            masquerade("")
        ))
    }

    /// Any port of an address that the client has sent to may answer. (RFC 3489 §5: restricted cone)
    #[must_use]
    pub fn restricted() -> Self {
        Self(format!(
            "{}
             table ip known {{
               set asked {{ type ipv4_addr; flags dynamic; timeout 5m; }}
               chain c {{ type filter hook forward priority filter;
                 iifname \"lan\" add @asked {{ ip daddr }}
                 iifname \"wan\" meta l4proto udp ip saddr != @asked drop; }}\n}}\n",
            Self::full_cone().0
        ))
    }

    /// Only what the client has sent to may answer, and the port outside is mostly that inside. (RFC 3489
    /// §5: port restricted cone) So are most routers.
    #[must_use]
    pub fn port_restricted() -> Self {
        Self(masquerade(""))
    }

    /// Another port for each flow. (RFC 3489 §5: symmetric)
    #[must_use]
    pub fn symmetric() -> Self {
        Self(masquerade("fully-random"))
    }

    /// As most routers, and nothing passes but this, in words of nftables: `tcp dport 443`.
    #[must_use]
    pub fn passing(what: &[&str]) -> Self {
        let accept: Vec<String> = what.iter().map(|one| format!("{one} accept;")).collect();
        Self(format!(
            "{}
             table inet wall {{ chain c {{ type filter hook forward priority filter; policy drop;
               ct state established,related accept;
               {} }}\n}}\n",
            masquerade(""),
            accept.join(" ")
        ))
    }

    /// As most routers of both families: IPv6 is not translated, and nobody outside may begin.
    #[must_use]
    pub fn of_both_families() -> Self {
        Self(format!(
            "{}
             table ip6 wall {{ chain c {{ type filter hook forward priority filter; policy drop;
               ct state established,related accept; iifname \"lan\" accept; }}\n}}\n",
            masquerade("")
        ))
    }

    /// Before a server at `192.168.1.2`, whose ports are yet to be forwarded.
    #[must_use]
    pub(crate) fn before_a_server() -> Self {
        // What was turned around at the router must come back by it.
        Self(format!(
            "{}
             table ip into {{ chain c {{ type nat hook prerouting priority dstnat; }}\n}}
             table ip around {{ chain c {{ type nat hook postrouting priority srcnat;
               ct status dnat oifname \"lan\" ip saddr 192.168.1.0/24 masquerade; }}\n}}\n",
            masquerade("")
        ))
    }
}

fn masquerade(how: &str) -> String {
    format!(
        "table ip out {{ chain c {{ type nat hook postrouting priority srcnat;
           oifname \"wan\" masquerade {how}; }}\n}}\n"
    )
}
