//! The transport below the media: every SRTP profile, every address.

use tests::client::{Client, Join};
use tests::publication::{Media, Publication};
use tests::server::Server;
use webrtc::peer_connection::SrtpProtectionProfile;

/// Everybody publishes sound, and everybody hears all others as they were sent.
async fn all_hear_all(clients: &[Client]) {
    let mut published: Vec<Publication> = Vec::new();
    for (n, client) in clients.iter().enumerate() {
        published.push(client.publish(&format!("sound-{n}"), Media::Sound).await);
    }
    for (n, client) in clients.iter().enumerate() {
        for (m, publication) in published.iter().enumerate().filter(|(m, _)| *m != n) {
            let heard = client.receive(&publication.sid, 20).await;
            let sent = publication.sent("");
            let as_sent = heard.iter().all(|payload| sent.contains(payload));
            assert!(as_sent, "what {n} heard of {m} is not what was sent");
        }
    }
}

#[tokio::test]
async fn clients_of_every_srtp_profile_hear_each_other() {
    let server = Server::start().await;
    let mut clients = Vec::new();
    for (name, only) in [
        ("gcm256", SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm),
        ("gcm128", SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm),
        ("cm80", SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80),
    ] {
        let mut how = Join::new(name, "room");
        how.only = Some(only);
        clients.push(Client::join_with(&server, how).await);
    }
    let picture = clients[2].publish("picture", Media::Simulcast).await;
    clients[0].receive(&picture.sid, 20).await;
    clients[1].receive(&picture.sid, 20).await;
    all_hear_all(&clients).await;
}

#[tokio::test]
async fn a_profile_that_leaves_out_half_of_the_tag_is_refused() {
    let server = Server::start().await;
    let mut how = Join::new("cm32", "room");
    how.only = Some(SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_32);
    let client = Client::enter(&server, how).await;
    client
        .until("the handshake fails", |seen| {
            (seen.state == "failed" || seen.closed).then_some(())
        })
        .await;
}

#[tokio::test]
async fn every_address_of_the_server_is_one_to_call_by() {
    let server = Server::start_everywhere().await;
    let mut clients = Vec::new();
    for (name, media_at) in [
        ("v4", "127.0.0.1:0"),
        ("v6", "[::1]:0"),
        ("any4", "0.0.0.0:0"),
        ("any6", "[::]:0"),
    ] {
        let mut how = Join::new(name, "room");
        how.media_at = media_at;
        clients.push(Client::join_with(&server, how).await);
    }
    all_hear_all(&clients).await;
}
