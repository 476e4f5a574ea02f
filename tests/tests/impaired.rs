//! Real clients at the other end of a bad road: losses, jitter, an outage, a NAT that forgets. Run
//! with `cargo impaired`; it needs root, for network namespaces.

use std::time::Duration;
use tests::link::{Conditions, Loss};
use tests::road::Road;
use tests::script;
use tests::server::Server;

/// The road of the issue: each direction loses 5 %, wavers by 50 ms, and 2 % lose their turn.
const BAD: Conditions = Conditions {
    jitter: Duration::from_millis(50),
    loss: Loss::Uniform(0.05),
    reorder: 0.02,
    ..Conditions::GOOD
};

/// Opens the road and a server at its end, runs a script at the other, and judges the road.
async fn travel(seed: u64, run: impl AsyncFn(&Road, &Server)) {
    let road = Road::open(BAD, seed).await;
    let server = Server::start_at(road.here()).await;
    run(&road, &server).await;
    let counters = road.counters().await;
    for link in [counters.up, counters.down] {
        let share = link.lost as f64 / (link.lost + link.carried) as f64;
        assert!((0.005..0.06).contains(&share), "{counters:?}");
        assert!(link.broken > 5 && link.reordered > 20, "{counters:?}");
    }
    assert_eq!(counters.refused, 0, "{counters:?}");
    let found = server.metric("foci_strays_found_total", &[]).await;
    assert!(found >= 1.0, "nobody was found at his new port");
}

#[tokio::test]
async fn browsers_see_and_hear_each_other_over_a_bad_road() {
    travel(1, async |road, server| {
        script::node_over(road, server, "impaired.mjs").await;
    })
    .await;
}

#[tokio::test]
async fn the_python_sdk_sees_and_hears_over_a_bad_road() {
    travel(2, async |road, server| {
        script::python_over(road, server, "impaired.py").await;
    })
    .await;
}
