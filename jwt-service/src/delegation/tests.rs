//! The task against a homeserver that plays along: comings, goings, refusals, restarts.

mod beside;

use super::*;
use crate::config::{Config, Homeserver as Configured};
use crate::stand_in::homeserver::{Homeserver, Reply};
use crate::stand_in::watch::Remembered;
use std::time::Duration;

/// Delegations that ask a homeserver which answers so.
async fn started(
    store: Option<std::path::PathBuf>,
    reply: impl Fn(&str) -> Reply + Send + Sync + 'static,
) -> (Delegations, Homeserver, Arc<Remembered>) {
    let homeserver = Homeserver::start(None, move |asked| reply(&asked.path)).await;
    let config = Config {
        client_apis: vec![Configured {
            name: "example.com".into(),
            url: format!("http://{}/base", homeserver.address),
        }],
        store,
        ..Config::default()
    };
    let settled = Settled::fixed(config).expect("good");
    let watch = Arc::<Remembered>::default();
    let watched: Arc<dyn Watch> = Arc::<Remembered>::clone(&watch);
    let delegations = Delegations::start(&settled, watched).expect("started");
    (delegations, homeserver, watch)
}

fn leave(delay_id: &str, timeout: Duration) -> Leave {
    Leave {
        delay_id: delay_id.into(),
        timeout,
        server: "example.com".into(),
        room: "room".into(),
        identity: "alice".into(),
        owner: None,
    }
}

fn presence(sid: Option<&str>) -> Presence {
    Presence {
        room: "room".into(),
        identity: "alice".into(),
        sid: sid.map(str::to_owned),
    }
}

async fn asked(homeserver: &Homeserver, count: usize) -> Vec<String> {
    let prefix = "/base/_matrix/client/unstable/org.matrix.msc4140/delayed_events/";
    let asked = homeserver.until_asked(count).await;
    let paths = asked.into_iter().map(|asked| asked.path);
    paths
        .map(|path| path.strip_prefix(prefix).unwrap_or(&path).to_owned())
        .collect()
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_leave_is_restarted_when_its_participant_comes_and_sent_when_he_goes() {
    let (delegations, homeserver, watch) = started(None, |_| Reply::body("{}")).await;
    assert!(delegations.can_reach("example.com").await);
    delegations
        .register(leave("id", LONG))
        .await
        .expect("taken");
    assert_eq!(asked(&homeserver, 1).await, ["id/restart"]);
    delegations.tell(presence(Some("PA_1"))).await;
    assert_eq!(asked(&homeserver, 2).await[1], "id/restart");
    delegations.tell(presence(None)).await;
    assert_eq!(asked(&homeserver, 3).await[2], "id/send");
    while !watch.all().contains(&"leave sent".to_owned()) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn one_that_is_handed_over_late_knows_that_he_is_there_and_replaces_the_one_before() {
    let (delegations, homeserver, watch) = started(None, |_| Reply::body("{}")).await;
    delegations.tell(presence(Some("PA_1"))).await;
    delegations
        .register(leave("first", LONG))
        .await
        .expect("taken");
    assert_eq!(asked(&homeserver, 2).await, ["first/restart"; 2]);
    delegations
        .register(leave("second", LONG))
        .await
        .expect("taken");
    asked(&homeserver, 4).await;
    delegations.tell(presence(None)).await;
    assert_eq!(asked(&homeserver, 5).await[4], "second/send");
    assert!(watch.all().contains(&"leave replaced".to_owned()));
}

#[tokio::test]
async fn a_homeserver_that_has_no_time_is_asked_again() {
    let limited = r#"{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":50}"#;
    let reply = move |_: &str| Reply::Says(429, String::new(), limited.into());
    let (delegations, homeserver, _) = started(None, reply).await;
    delegations.tell(presence(Some("PA_1"))).await;
    delegations
        .register(leave("busy", LONG))
        .await
        .expect("taken");
    assert_eq!(asked(&homeserver, 3).await, ["busy/restart"; 3]);
}

#[tokio::test]
async fn what_the_homeserver_forbids_is_not_taken_over() {
    for status in [401, 403, 404] {
        let reply = move |_: &str| Reply::Says(status, String::new(), "{}".into());
        let (delegations, homeserver, watch) = started(None, reply).await;
        let taken = delegations.register(leave("id", LONG)).await;
        assert_eq!(taken, Err(Untaken::Forbidden), "{status}");
        assert_eq!(asked(&homeserver, 1).await, ["id/restart"]);
        assert!(watch.all().is_empty(), "no job was begun");
    }
}

#[tokio::test]
async fn jobs_survive_a_restart_unless_their_event_has_fired() {
    let name = format!("foci-delegation-{}.redb", std::process::id());
    let path = std::env::temp_dir().join(name);
    let _ = std::fs::remove_file(&path);
    let (delegations, _homeserver, _) = started(Some(path.clone()), |_| Reply::body("{}")).await;
    delegations
        .register(leave("id", LONG))
        .await
        .expect("taken");
    let short = Leave {
        identity: "bob".into(),
        ..leave("short", Duration::from_millis(1))
    };
    delegations
        .store
        .keep(&Kept {
            leave: short,
            restarted: SystemTime::UNIX_EPOCH,
            leaving: false,
        })
        .await
        .expect("kept");
    drop(delegations);
    // The file is free once the task and the store's thread have ended.
    let (delegations, homeserver, _) = loop {
        let free = Store::open(&path).is_ok();
        tokio::task::yield_now().await;
        if free {
            break started_again(&path).await;
        }
    };
    // Bob's is over: only Alice is heard of.
    for identity in ["bob", "alice"] {
        let presence = Presence {
            identity: identity.into(),
            ..presence(Some("PA_1"))
        };
        delegations.tell(presence).await;
    }
    assert_eq!(asked(&homeserver, 1).await, ["id/restart"]);
    let _ = std::fs::remove_file(&path);
}

#[tokio::test]
async fn a_leave_that_replaces_one_is_kept_though_the_one_before_ends_meanwhile() {
    let name = format!("foci-replaced-{}.redb", std::process::id());
    let path = std::env::temp_dir().join(name);
    let _ = std::fs::remove_file(&path);
    let (delegations, homeserver, watch) = started(Some(path.clone()), |_| Reply::body("{}")).await;
    delegations
        .register(leave("first", LONG))
        .await
        .expect("taken");
    delegations.tell(presence(Some("PA_1"))).await;
    asked(&homeserver, 2).await;
    // The next one is on the disk, and the task has not heard of it yet.
    let second = Kept {
        leave: leave("second", LONG),
        restarted: SystemTime::now(),
        leaving: false,
    };
    delegations.store.keep(&second).await.expect("kept");
    delegations.tell(presence(None)).await;
    while !watch.all().contains(&"leave sent".to_owned()) {
        tokio::task::yield_now().await;
    }
    let (done, taken) = oneshot::channel();
    let order = Order::Register(second, done);
    assert!(delegations.orders.send(order).await.is_ok());
    assert_eq!(taken.await, Ok(Ok(())));
    drop(delegations);
    let (_store, kept) = loop {
        if let Ok(opened) = Store::open(&path) {
            break opened;
        }
        tokio::task::yield_now().await;
    };
    let kept: Vec<String> = kept.into_iter().map(|kept| kept.leave.delay_id).collect();
    assert_eq!(kept, ["second"]);
    let _ = std::fs::remove_file(&path);
}

async fn started_again(path: &std::path::Path) -> (Delegations, Homeserver, Arc<Remembered>) {
    // The store that was opened to see whether the file is free ends a moment later.
    while Store::open(path).is_err() {
        tokio::task::yield_now().await;
    }
    loop {
        let homeserver = Homeserver::start(None, |_| Reply::body("{}")).await;
        let config = Config {
            client_apis: vec![Configured {
                name: "example.com".into(),
                url: format!("http://{}/base", homeserver.address),
            }],
            store: Some(path.to_owned()),
            ..Config::default()
        };
        let settled = Settled::fixed(config).expect("good");
        let watch = Arc::<Remembered>::default();
        let watched: Arc<dyn Watch> = Arc::<Remembered>::clone(&watch);
        if let Ok(delegations) = Delegations::start(&settled, watched) {
            return (delegations, homeserver, watch);
        }
        tokio::task::yield_now().await;
    }
}
