//! The task beside an SFU that is another process: its messages, and what it answers when asked.

use super::*;
use crate::leave::Action;
use proto::token::{Keys, Secret};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the SFU answers to the n-th question, from 0.
type Answers = fn(usize) -> Reply;

fn here(sid: &str) -> Reply {
    // The first field, of a length below 128.
    let length = char::from(u8::try_from(sid.len()).expect("short"));
    Reply::body(&format!("\n{length}{sid}"))
}

fn absent() -> Reply {
    let text = r#"{"code":"not_found","msg":"participant does not exist"}"#;
    Reply::Says(404, String::new(), text.into())
}

fn broken() -> Reply {
    Reply::Says(500, String::new(), "oops".into())
}

struct World {
    delegations: Delegations,
    homeserver: Homeserver,
    sfu: Homeserver,
    watch: Arc<Remembered>,
}

impl World {
    async fn new(sanity_check: Option<Duration>, answers: Answers) -> Self {
        let count = AtomicUsize::new(0);
        let sfu = Homeserver::start(None, move |asked| {
            assert!(asked.path.ends_with("/GetParticipant"), "{}", asked.path);
            answers(count.fetch_add(1, Ordering::Relaxed))
        })
        .await;
        let homeserver = Homeserver::start(None, |_| Reply::body("{}")).await;
        let config = Config {
            url: Some(format!("ws://{}", sfu.address)),
            client_apis: vec![Configured {
                name: "example.com".into(),
                url: format!("http://{}/base", homeserver.address),
            }],
            ..Config::default()
        };
        let settled = Settled::fixed(config).expect("good");
        let secret = Secret::new("devsecret");
        let keys: Keys = [("devkey".to_owned(), secret)].into_iter().collect();
        let twirp = crate::twirp::Twirp::new(settled.clone(), Arc::new(keys));
        let beside = Beside {
            twirp,
            sanity_check,
        };
        let watch = Arc::<Remembered>::default();
        let watched: Arc<dyn Watch> = Arc::<Remembered>::clone(&watch);
        let delegations = Delegations::start_beside(&settled, watched, Some(beside));
        Self {
            delegations: delegations.expect("started"),
            homeserver,
            sfu,
            watch,
        }
    }

    async fn register(&self, timeout: Duration) {
        let taken = self.delegations.register(leave("id", timeout)).await;
        taken.expect("taken");
    }

    async fn hear(&self, sid: &str, step: Step) {
        let told = Told {
            room: "room".into(),
            identity: "alice".into(),
            sid: sid.into(),
            step,
        };
        self.delegations.hear(told).await;
    }

    /// Waits until the SFU was asked so often.
    async fn looked(&self, count: usize) {
        asked(&self.sfu, count).await;
    }

    /// The first so many things that the homeserver is asked.
    async fn asked(&self, count: usize) -> Vec<Action> {
        let all = asked(&self.homeserver, count).await;
        let action = |path: &String| match path.as_str() {
            "id/restart" => Restart,
            "id/send" => Send,
            other => panic!("{other}"),
        };
        all.iter().map(action).take(count).collect()
    }
}

use Action::{Restart, Send};

/// Of a leave that is restarted while a test waits; a fifth of it is left then, for a busy machine.
const SHORT: Duration = Duration::from_secs(3);

#[tokio::test]
async fn who_is_in_the_call_already_is_found_without_any_message() {
    let world = World::new(None, |_| here("PA_1")).await;
    world.register(SHORT).await;
    // When it was handed over, and when she was found.
    assert_eq!(world.asked(2).await, [Restart, Restart]);
    // A message of somebody before her does not end it, hers does.
    world.hear("PA_0", Step::Left).await;
    assert_eq!(world.asked(3).await[2], Restart);
    world.hear("PA_1", Step::Left).await;
    while !world.watch.all().contains(&"leave sent".to_owned()) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn messages_tell_of_coming_and_going() {
    let world = World::new(None, |_| broken()).await;
    world.register(LONG).await;
    world.hear("PA_1", Step::Joined).await;
    assert_eq!(world.asked(2).await, [Restart, Restart]);
    world.hear("PA_1", Step::Left).await;
    assert_eq!(world.asked(3).await[2], Send);
    while !world.watch.all().contains(&"leave sent".to_owned()) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn messages_without_a_sid_mean_whoever_has_the_identity() {
    let world = World::new(None, |_| broken()).await;
    world.register(LONG).await;
    world.hear("", Step::Joined).await;
    assert_eq!(world.asked(2).await, [Restart, Restart]);
    world.hear("", Step::Left).await;
    assert_eq!(world.asked(3).await[2], Send);
}

#[tokio::test]
async fn who_went_on_elsewhere_keeps_his_leave() {
    let world = World::new(None, |_| broken()).await;
    world.register(SHORT).await;
    world.hear("PA_1", Step::Joined).await;
    assert_eq!(world.asked(2).await, [Restart, Restart]);
    world.hear("PA_1", Step::Moved).await;
    assert_eq!(world.asked(4).await, [Restart; 4]);
    world.hear("PA_2", Step::Joined).await;
    world.hear("PA_1", Step::Left).await;
    assert_eq!(world.asked(6).await, [Restart; 6]);
}

#[tokio::test]
async fn who_is_gone_at_a_later_look_is_taken_off_the_call() {
    let often = Some(Duration::from_millis(20));
    let world = World::new(often, |n| if n < 3 { here("PA_1") } else { absent() }).await;
    world.register(LONG).await;
    assert_eq!(world.asked(3).await, [Restart, Restart, Send]);
    assert_eq!(world.sfu.asked().len(), 4);
}

#[tokio::test]
async fn an_sfu_that_cannot_be_asked_ends_nothing() {
    let often = Some(Duration::from_millis(20));
    let world = World::new(often, |n| if n == 0 { here("PA_1") } else { broken() }).await;
    world.register(LONG).await;
    world.looked(5).await;
    world.hear("PA_1", Step::Left).await;
    // Nothing was sent before.
    assert_eq!(world.asked(3).await, [Restart, Restart, Send]);
}

#[tokio::test]
async fn whom_only_a_message_told_of_is_made_sure_of_when_his_leave_comes_late() {
    let world = World::new(None, |_| absent()).await;
    world.hear("PA_1", Step::Joined).await;
    world.register(LONG).await;
    world.looked(1).await;
    let asked = world.asked(2).await;
    // His leave may be sent before it is put off.
    assert!(asked.contains(&Send) || world.asked(3).await[2] == Send);
}
