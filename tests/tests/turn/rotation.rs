//! New certificates while connections are open.

use super::client::{Client, channel_data};
use super::server::{SFU, Server, certificates};
use std::sync::{Arc, Mutex};

#[test]
fn certificates_are_rotated_under_fifty_open_allocations_and_none_drops() {
    let server = Server::with(|settings| settings.server.limits.user_allocations = 0);
    let sfu = SFU.parse().expect("an address");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let last_seen = || seen.lock().expect("nobody panicked").clone();
    let mut clients: Vec<Client> = (0..50)
        .map(|n| {
            let name = format!("4000000000:{n}");
            let password = super::strangers::password(&name);
            let mut client = Client::tls(server.tls(), &name, &password, &seen);
            assert_eq!(client.allocate().code(), 0);
            assert_eq!(client.bind(0x4001, sfu), 0);
            client
        })
        .collect();
    let before = last_seen();
    for round in 0..3_u8 {
        server.turn().set_certificates(certificates());
        for client in &mut clients {
            let back = client.echo(0x4001, &[round; 172]);
            assert_eq!(back.0, channel_data(0x4001, &[round; 172]));
        }
    }
    let mut late = Client::tls(server.tls(), "alice", "alice-password", &seen);
    assert_eq!(late.allocate().code(), 0);
    assert_ne!(
        last_seen(),
        before,
        "a new connection gets the new certificate"
    );
    for client in &mut clients {
        assert_eq!(client.refresh(600), 0);
    }
    let totals = server.until(|totals| totals.server.allocations == 51);
    assert_eq!((totals.streams.open, totals.server.closed), (51, 0));
    assert!(server.turn().is_running());
}
