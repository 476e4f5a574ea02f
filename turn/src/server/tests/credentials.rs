//! Password algorithms and hashed names, and that clients without them go on as before. (RFC 8489
//! §9.2)

use super::*;
use crate::message::algorithm::{Algorithm, OFFERED};
use crate::message::integrity::userhash;

/// How somebody proves who he is.
#[derive(Debug, Clone)]
struct Proof {
    name: Vec<(u16, Vec<u8>)>,
    algorithms: Option<Vec<u8>>,
    algorithm: Option<Vec<u8>>,
    nonce: Vec<u8>,
    key: Key,
    sha256: bool,
}

/// A client that knows RFC 8489 and chooses an algorithm.
fn choosing(user: &User, algorithm: Algorithm) -> Proof {
    let password = format!("{}'s", user.name);
    Proof {
        name: vec![(USERNAME, user.name.as_bytes().to_vec())],
        algorithms: Some(OFFERED.to_vec()),
        algorithm: Some(algorithm.value().to_vec()),
        nonce: user.nonce.clone(),
        key: Key::made_with(algorithm, &user.name, REALM_TEXT, &password),
        sha256: true,
    }
}

/// One that hides its name besides.
fn hiding(user: &User) -> Proof {
    let hash = userhash(&user.name, REALM_TEXT).to_vec();
    Proof {
        name: vec![(USERHASH, hash)],
        ..choosing(user, Algorithm::Sha256)
    }
}

fn ask(world: &mut World, at: Client, proof: &Proof, method: Method) -> Answer {
    let transaction = world.transaction();
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out, method, Class::Request, &transaction);
    for (kind, name) in &proof.name {
        writer.bytes(*kind, name);
    }
    writer
        .bytes(REQUESTED_TRANSPORT, &[17, 0, 0, 0])
        .bytes(REALM, REALM_TEXT.as_bytes())
        .bytes(NONCE, &proof.nonce);
    for (kind, value) in [
        (PASSWORD_ALGORITHMS, &proof.algorithms),
        (PASSWORD_ALGORITHM, &proof.algorithm),
    ] {
        if let Some(value) = value {
            writer.bytes(kind, value);
        }
    }
    writer.sign(&proof.key, proof.sha256).finish(true);
    world.say(at, &out).expect("an answer")
}

fn only_fixed(config: &mut Config) {
    config.credentials.shared.clear();
}

#[test]
fn a_challenge_offers_the_algorithms_and_its_nonce_says_so() {
    let mut world = World::new();
    let challenge = world.unsigned(client("1.2.3.4:5"), Method::Allocate);
    let challenge = challenge.expect("a challenge");
    assert_eq!(
        challenge.attribute(PASSWORD_ALGORITHMS).as_deref(),
        Some(&OFFERED[..])
    );
    let nonce = challenge.attribute(NONCE).expect("a nonce");
    assert!(nonce.starts_with(b"obMatJos2AAAB") && nonce.len() < 128);
    let user = world.user("alice", "1.2.3.4:5");
    world.now += seconds(3600);
    let stale = ask(
        &mut world,
        user.client,
        &choosing(&user, Algorithm::Sha256),
        Method::Allocate,
    );
    assert_eq!(stale.code(), 438);
    assert_eq!(
        stale.attribute(PASSWORD_ALGORITHMS).as_deref(),
        Some(&OFFERED[..])
    );
}

#[test]
fn who_chooses_an_algorithm_is_known_by_it_and_answered_by_sha_256() {
    for algorithm in [Algorithm::Sha256, Algorithm::Md5] {
        let mut world = World::new();
        let user = world.user("alice", "1.2.3.4:5");
        let mut proof = choosing(&user, algorithm);
        for method in [Method::Allocate, Method::Refresh, Method::ChannelBind] {
            let answer = ask(&mut world, user.client, &proof, method);
            assert_eq!(
                answer.code(),
                if method == Method::ChannelBind {
                    400
                } else {
                    0
                }
            );
            let message = answer.message();
            assert!(message.is_signed_sha256() && message.verify(&proof.key));
        }
        // A signature by SHA-1 proves as much, and the answer is as he chose.
        proof.sha256 = false;
        let answer = ask(&mut world, user.client, &proof, Method::Refresh);
        assert!(answer.code() == 0 && answer.message().is_signed_sha256());
        // With the next challenge he may choose anew.
        let other = choosing(&user, Algorithm::Md5);
        assert_eq!(
            ask(&mut world, user.client, &other, Method::Refresh).code(),
            0
        );
        assert_eq!(world.refresh(&user, 0).code(), 0);
    }
}

#[test]
fn who_chooses_none_is_answered_as_rfc_5389_has_it_however_he_signs() {
    for sha256 in [false, true] {
        let mut world = World::new();
        let user = world.user("alice", "1.2.3.4:5");
        let proof = Proof {
            algorithms: None,
            algorithm: None,
            sha256,
            ..choosing(&user, Algorithm::Md5)
        };
        let answer = ask(&mut world, user.client, &proof, Method::Allocate);
        assert_eq!(answer.code(), 0);
        let message = answer.message();
        assert!(!message.is_signed_sha256() && message.verify(&user.key));
        assert_eq!(answer.attribute(PASSWORD_ALGORITHMS), None);
    }
}

#[test]
fn a_list_that_was_cut_on_the_way_is_400_and_changed_features_are_438() {
    let mut world = World::new();
    let user = world.user("alice", "1.2.3.4:5");
    let good = choosing(&user, Algorithm::Md5);
    let cut = |algorithms: Option<&[u8]>, algorithm: Option<&[u8]>| Proof {
        algorithms: algorithms.map(<[u8]>::to_vec),
        algorithm: algorithm.map(<[u8]>::to_vec),
        ..good.clone()
    };
    let md5 = Algorithm::Md5.value();
    for proof in [
        cut(Some(&md5), Some(&md5)),
        cut(Some(&[0, 1, 0, 0, 0, 2, 0, 0]), Some(&md5)),
        cut(Some(&OFFERED), None),
        cut(None, Some(&md5)),
        cut(Some(&OFFERED), Some(&[0, 3, 0, 0])),
        cut(Some(&OFFERED), Some(&[])),
    ] {
        let answer = ask(&mut world, user.client, &proof, Method::Allocate);
        assert_eq!(answer.code(), 400, "{proof:?}");
        assert!(!answer.message().is_signed());
    }
    let mut bare = cut(None, None);
    bare.nonce[12] = b'A';
    let answer = ask(&mut world, user.client, &bare, Method::Allocate);
    assert_eq!(answer.code(), 438);
    assert_eq!(
        ask(&mut world, user.client, &good, Method::Allocate).code(),
        0
    );
}

#[test]
fn the_key_of_another_algorithm_is_a_wrong_password() {
    let mut world = World::new();
    let user = world.user("alice", "1.2.3.4:5");
    let right = choosing(&user, Algorithm::Sha256);
    let wrong = Proof {
        key: user.key,
        ..right.clone()
    };
    assert_eq!(
        ask(&mut world, user.client, &wrong, Method::Allocate).code(),
        401
    );
    assert_eq!(
        ask(&mut world, user.client, &right, Method::Allocate).code(),
        0
    );
    assert_eq!(
        ask(&mut world, user.client, &wrong, Method::Refresh).code(),
        401
    );
}

#[test]
fn a_name_may_be_hashed_where_all_names_are_known() {
    let mut world = World::with(only_fixed);
    let user = world.user("alice", "1.2.3.4:5");
    assert!(user.nonce.starts_with(b"obMatJos2AAAD"));
    let proof = hiding(&user);
    assert_eq!(
        ask(&mut world, user.client, &proof, Method::Allocate).code(),
        0
    );
    assert_eq!(
        ask(&mut world, user.client, &proof, Method::Refresh).code(),
        0
    );
    // The allocation is hers by either name, and counts to her.
    assert_eq!(world.refresh(&user, 600).code(), 0);
    assert!(matches!(
        world.events()[..],
        [Event::Allocated { ref user, .. }] if user == "alice"
    ));
    let bob = world.user("bob", "1.2.3.4:5");
    assert_eq!(
        ask(&mut world, bob.client, &hiding(&bob), Method::Refresh).code(),
        441
    );
    let mut nobody = hiding(&user);
    nobody.name = vec![(USERHASH, userhash("mallory", REALM_TEXT).to_vec())];
    let elsewhere = client("1.2.3.4:6");
    nobody.nonce = world.user("alice", "1.2.3.4:6").nonce;
    assert_eq!(
        ask(&mut world, elsewhere, &nobody, Method::Allocate).code(),
        401
    );
}

#[test]
fn two_names_or_a_hash_that_is_none_are_400() {
    let mut world = World::with(only_fixed);
    let user = world.user("alice", "1.2.3.4:5");
    let hash = userhash("alice", REALM_TEXT).to_vec();
    let said = (USERNAME, b"alice".to_vec());
    for name in [
        vec![said, (USERHASH, hash.clone())],
        vec![(USERHASH, hash[..31].to_vec())],
        Vec::new(),
    ] {
        let proof = Proof {
            name,
            ..hiding(&user)
        };
        assert_eq!(
            ask(&mut world, user.client, &proof, Method::Allocate).code(),
            400
        );
    }
}

#[test]
fn names_nobody_knows_beforehand_are_not_asked_to_be_hashed() {
    let mut world = World::new();
    let user = world.user("alice", "1.2.3.4:5");
    assert!(user.nonce.starts_with(b"obMatJos2AAAB"));
    assert_eq!(
        ask(&mut world, user.client, &hiding(&user), Method::Allocate).code(),
        0
    );
    let mut fixed = config(world.now).credentials;
    fixed.shared.clear();
    world.server.set_credentials(fixed);
    let told = world.user("bob", "1.2.3.4:6");
    assert!(told.nonce.starts_with(b"obMatJos2AAAD"));
    // What was told before is old now: it said something else.
    assert_eq!(world.refresh(&user, 600).code(), 438);
}
