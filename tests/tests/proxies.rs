//! Real proxies in front of the real server, set up as docs/proxies tells operators to: the code blocks
//! of those pages are what runs here. Run with `cargo proxies`.

mod proxies {
    pub(crate) mod ends_tls;
    pub(crate) mod passes_tls;
    pub(crate) mod turn_alone;

    mod caddy;
    mod haproxy;
    pub(crate) mod nginx;
    mod npm;
    mod traefik;
}
