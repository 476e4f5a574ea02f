//! Tests of `dtls`: handshakes with `dimpl` in the client's role, in virtual time.

use super::*;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// What the client got to know.
#[derive(Default)]
struct ClientSide {
    keying: Option<Keying>,
    connected: bool,
    data: Vec<Vec<u8>>,
}

/// A client, our side, and a network of 10 ms between them that loses datagrams by a seed.
struct World {
    now: Instant,
    client: dimpl::Dtls,
    server: Dtls,
    client_fingerprint: String,
    got: ClientSide,
    connected: Option<Keying>,
    data: Vec<Vec<u8>>,
    closed: bool,
    loss_percent: u32,
    rng: StdRng,
}

impl World {
    fn new(seed: u64, loss_percent: u32) -> Self {
        // The one instant a test has to start from; only differences count.
        #[allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
        let now = Instant::now();
        let config = dimpl::Config::builder()
            .flight_start_rto(Duration::from_millis(50))
            .flight_retries(30)
            .dangerously_set_rng_seed(seed)
            .build()
            .unwrap();
        let certificate = dimpl::certificate::generate_self_signed_certificate().unwrap();
        let client_fingerprint = certificate.fingerprint_str();
        let mut client = dimpl::Dtls::new_12(Arc::new(config), certificate, now);
        client.set_active(true);
        client.handle_timeout(now).unwrap();
        let shared = Shared::with(dimpl::Config::builder().dangerously_set_rng_seed(seed)).unwrap();
        Self {
            now,
            client,
            server: Dtls::new(&shared, now),
            client_fingerprint,
            got: ClientSide::default(),
            connected: None,
            data: Vec::new(),
            closed: false,
            loss_percent,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    fn is_lost(&mut self) -> bool {
        self.rng.random_range(0..100) < self.loss_percent
    }

    /// Datagrams the client wants to send, and when it wants to be woken.
    fn drain_client(&mut self) -> (Vec<Vec<u8>>, Instant) {
        let mut buffer = [0; BUFFER];
        let mut out = Vec::new();
        loop {
            match self.client.poll_output(&mut buffer) {
                dimpl::Output::Packet(bytes) => out.push(bytes.to_vec()),
                dimpl::Output::Timeout(at) => return (out, at),
                dimpl::Output::Connected => self.got.connected = true,
                dimpl::Output::KeyingMaterial(material, profile) => {
                    self.got.keying = keying(&material, profile);
                }
                dimpl::Output::ApplicationData(bytes) => self.got.data.push(bytes.to_vec()),
                _ => {}
            }
        }
    }

    fn drain_server(&mut self) -> Result<Vec<Vec<u8>>, DtlsError> {
        let mut buffer = [0; BUFFER];
        let mut out = Vec::new();
        while let Some(output) = self.server.poll(&mut buffer)? {
            match output {
                Output::Transmit(bytes) => {
                    assert!(bytes.len() <= MTU);
                    out.push(bytes.to_vec());
                }
                Output::Connected(keying) => self.connected = Some(keying),
                Output::Data(bytes) => self.data.push(bytes.to_vec()),
                Output::Closed => self.closed = true,
            }
        }
        Ok(out)
    }

    /// One exchange: all that waits is carried over, then time passes to the next timer.
    fn step(&mut self) -> Result<(), DtlsError> {
        let (to_server, client_wake) = self.drain_client();
        for datagram in to_server {
            if !self.is_lost() {
                self.server.handle(&datagram, self.now)?;
                let back = self.drain_server()?;
                self.carry_to_client(back);
            }
        }
        let back = self.drain_server()?;
        self.carry_to_client(back);
        let pending = self.now + Duration::from_millis(10);
        let server_wake = self.server.poll_timeout().unwrap_or(client_wake);
        self.now = pending.max(client_wake.min(server_wake).min(pending + HANDSHAKE_WITHIN));
        self.client
            .handle_timeout(self.now)
            .map_err(DtlsError::from)?;
        self.server.handle_timeout(self.now)
    }

    fn carry_to_client(&mut self, datagrams: Vec<Vec<u8>>) {
        for datagram in datagrams {
            if !self.is_lost() {
                self.client.handle_packet(&datagram).unwrap();
            }
        }
    }

    fn run(&mut self) -> Result<(), DtlsError> {
        for _ in 0..500 {
            if self.got.connected && self.server.is_connected() && self.connected.is_some() {
                return Ok(());
            }
            self.step()?;
        }
        Ok(())
    }

    fn expect_client(&mut self) {
        let fingerprint = self.client_fingerprint.clone();
        self.server
            .expect_fingerprint("sha-256", &fingerprint)
            .unwrap();
    }
}

#[test]
fn a_handshake_gives_both_sides_the_same_keys() {
    let mut world = World::new(1, 0);
    world.expect_client();
    world.run().unwrap();
    let (ours, theirs) = (world.connected.unwrap(), world.got.keying.unwrap());
    assert_eq!(
        ours.profile(),
        Profile::Aes256Gcm,
        "the server's first choice"
    );
    assert_eq!(ours.client(), theirs.client());
    assert_eq!(ours.server(), theirs.server());
    assert_ne!(ours.client(), ours.server());
    assert_eq!(world.server.poll_timeout(), None, "nothing to wait for");
}

#[test]
fn a_handshake_survives_the_loss_of_every_third_datagram() {
    for seed in 0..20 {
        let mut world = World::new(seed, 33);
        world.expect_client();
        world.run().unwrap();
        assert!(
            world.connected.is_some() && world.got.connected,
            "seed {seed}"
        );
    }
}

#[test]
fn a_client_that_goes_silent_fails_the_handshake_in_time() {
    let mut world = World::new(1, 0);
    let (hello, _) = world.drain_client();
    let begun = world.now;
    world.server.handle(&hello[0], world.now).unwrap();
    world.drain_server().unwrap();
    let error = loop {
        world.now = world.server.poll_timeout().expect("a deadline");
        if let Err(error) = world.server.handle_timeout(world.now) {
            break error;
        }
        world.drain_server().unwrap();
    };
    assert!(matches!(error, DtlsError::Handshake(_)));
    assert_eq!(world.now - begun, HANDSHAKE_WITHIN);
}

#[test]
fn a_certificate_other_than_promised_is_refused() {
    let mut world = World::new(1, 0);
    let other = [7; 32].map(|byte: u8| format!("{byte:02x}")).join(":");
    world.server.expect_fingerprint("SHA-256", &other).unwrap();
    assert_eq!(world.run(), Err(DtlsError::Fingerprint));
    assert!(world.connected.is_none() && !world.server.is_connected());
}

#[test]
fn nothing_is_connected_before_the_fingerprint_is_known() {
    let mut world = World::new(1, 0);
    for _ in 0..20 {
        world.step().unwrap();
    }
    assert!(world.got.connected && world.connected.is_none());
    world.client.send_application_data(b"too early").unwrap();
    world.step().unwrap();
    world.expect_client();
    world.run().unwrap();
    assert!(world.connected.is_some());
    assert_eq!(world.data, Vec::<Vec<u8>>::new());
}

#[test]
fn application_data_passes_both_ways_and_a_close_does_not_undo_the_connection() {
    let mut world = World::new(1, 0);
    world.expect_client();
    world.run().unwrap();
    world
        .client
        .send_application_data(b"to the server")
        .unwrap();
    world.server.send(b"to the client").unwrap();
    world.step().unwrap();
    world.step().unwrap();
    assert_eq!(world.data, [b"to the server"]);
    assert_eq!(world.got.data, [b"to the client"]);
    world.client.close().unwrap();
    world.step().unwrap();
    assert!(world.closed && world.server.is_connected());
    assert_eq!(world.server.handle(&[22, 254, 253, 0], world.now), Ok(()));
    assert_eq!(world.server.handle_timeout(world.now), Ok(()));
    assert_eq!(world.server.poll_timeout(), None);
}

#[test]
fn keys_of_a_handshake_open_what_the_other_side_sealed() {
    // `srtp.rs` stands below; only this test looks down, to join both ends.
    use super::super::srtp::{OVERHEAD_MAX, Side, keyed};
    use crate::units::ExtSeq;
    let mut world = World::new(1, 0);
    world.expect_client();
    world.run().unwrap();
    let (mut opener, sealer) = keyed(&world.connected.unwrap(), Side::Server).unwrap();
    let (mut their_opener, their_sealer) = keyed(&world.got.keying.unwrap(), Side::Client).unwrap();
    for (sealer, opener) in [(&sealer, &mut their_opener), (&their_sealer, &mut opener)] {
        let mut packet = [3; 100 + OVERHEAD_MAX];
        let len = sealer.seal_rtp(12, 100, ExtSeq(5), 9, &mut packet).unwrap();
        let opened = opener.open_rtp(12, 9, 5, &mut packet[..len]).unwrap();
        assert_eq!(packet[..opened.len], [3; 100]);
    }
}

#[test]
fn the_fingerprint_is_written_as_an_sdp_wants_it() {
    let shared = Shared::new().unwrap();
    let digest = digest_from_hex(shared.fingerprint()).unwrap();
    assert_eq!(digest[..], shared.certificate.fingerprint()[..]);
    assert_eq!(shared.fingerprint(), shared.fingerprint().to_uppercase());
    assert_eq!(shared.fingerprint().len(), 95);
    assert!(!format!("{shared:?}").contains("private"));
}

#[test]
fn fingerprint_lines_of_no_use_are_told_apart() {
    let mut world = World::new(1, 0);
    let good = world.client_fingerprint.clone();
    let server = &mut world.server;
    assert_eq!(
        server.expect_fingerprint("sha-512", &good),
        Err(FingerprintError::Hash)
    );
    for bad in [
        "",
        "AB",
        &good[1..],
        &good[..92],
        &good.replace(':', ""),
        &format!("{good}:00"),
        &good.replacen(&good[..2], "+1", 1),
    ] {
        assert_eq!(
            server.expect_fingerprint("sha-256", bad),
            Err(FingerprintError::Malformed),
            "{bad}"
        );
    }
    assert_eq!(
        server.expect_fingerprint("sha-256", &good.to_lowercase()),
        Ok(())
    );
    assert_eq!(server.expect_fingerprint("sha-256", &good), Ok(()));
    let other = [7; 32].map(|byte: u8| format!("{byte:02x}")).join(":");
    assert_eq!(
        server.expect_fingerprint("sha-256", &other),
        Err(FingerprintError::Changed)
    );
}

#[test]
fn keying_material_of_the_wrong_length_is_refused() {
    for profile in [
        Profile::Aes128Gcm,
        Profile::Aes256Gcm,
        Profile::Aes128CmSha1_80,
    ] {
        let len = 2 * (profile.key_len() + profile.salt_len());
        let material: Vec<u8> = (0..len as u8).collect();
        assert!(Keying::new(profile, &material[1..]).is_none());
        let keying = Keying::new(profile, &material).unwrap();
        let parts = [
            keying.client().0,
            keying.server().0,
            keying.client().1,
            keying.server().1,
        ];
        assert_eq!(parts.concat(), material);
    }
}

#[test]
fn noise_does_not_end_a_handshake() {
    let mut world = World::new(1, 0);
    world.expect_client();
    for noise in [&[][..], &[22], &[22; 13], &[63; 1500], &[0; 40]] {
        world.server.handle(noise, world.now).unwrap();
    }
    world.run().unwrap();
    assert!(world.connected.is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A damaged handshake may fail, but neither panics nor connects anyone unverified.
    #[test]
    fn damaged_datagrams_do_not_panic(
        seed in 0..4u64, damage in prop::collection::vec((0..6usize, 0..1400usize, any::<u8>()), 0..12),
        noise in prop::collection::vec(any::<u8>(), 0..100)
    ) {
        let mut world = World::new(seed, 0);
        let mut buffer = [0; BUFFER];
        for turn in 0..6 {
            let (datagrams, _) = world.drain_client();
            for mut datagram in datagrams {
                for (_, at, value) in damage.iter().filter(|(at_turn, ..)| *at_turn == turn) {
                    if let Some(byte) = datagram.get_mut(*at) {
                        *byte ^= value;
                    }
                }
                if world.server.handle(&datagram, world.now).is_err() || world.server.handle(&noise, world.now).is_err() {
                    return Ok(());
                }
            }
            while let Ok(Some(output)) = world.server.poll(&mut buffer) {
                prop_assert!(!matches!(output, Output::Connected(_)));
                if let Output::Transmit(bytes) = output {
                    let _ = world.client.handle_packet(bytes);
                }
            }
            world.now += Duration::from_millis(50);
            let _ = world.client.handle_timeout(world.now);
        }
    }
}
