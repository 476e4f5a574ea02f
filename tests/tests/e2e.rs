//! End to end: the real server as a process, real sockets, clients that share no code with it.

mod e2e {
    mod acme;
    mod addresses;
    mod alone;
    mod app_service;
    mod codecs;
    mod data;
    mod dual;
    mod fallback;
    mod fronts;
    mod jwt;
    mod kept;
    mod losses;
    mod media;
    mod observed;
    mod record;
    mod refusals;
    mod relayed;
    mod reload;
    mod sessions;
    mod tcp;
    mod terminated;
    mod tls;
    mod transport;
}
