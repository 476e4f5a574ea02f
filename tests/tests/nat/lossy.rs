//! A line that begins to lose much of UDP in the middle of a call, and nothing else.

use super::expected::is_skipped;
use std::collections::BTreeSet;
use std::time::Duration;
use tests::laboratory::{Families, Laboratory, Router};
use tests::pair::Pair;
use tests::script;
use tests::server::Server;
use tokio::time::{interval, timeout};

const DEBUG: &str = "logging: {level: debug}\n";
/// Twenty windows of a second and more, for a line that loses them all; and a busy machine.
const NOTICED_WITHIN: Duration = Duration::from_secs(90);

/// Two in Chromium whose UDP loses 40 % each way from some moment on; then they come by this path. The
/// server, when all is over.
async fn call(rtc: &[&str], path: &str, noticed: impl Fn(&str) -> bool) -> Server {
    let laboratory = Laboratory::open(Families::V4, &[Router::port_restricted()]);
    let here = laboratory.here();
    let node_ip = format!("node_ip: \"{here}\"");
    let rtc: Vec<_> = [&*node_ip].into_iter().chain(rtc.iter().copied()).collect();
    let server = Server::start_behind(here.into(), &rtc, DEBUG).await;
    let url = laboratory.url(server.http.port());
    let script = format!("lossy.mjs {path}");
    script::node_during(laboratory.client(), &url, (&server, &script), async || {
        laboratory.lose_udp(40);
        let mut tick = interval(Duration::from_millis(100));
        let noticed = async {
            while !noticed(&server.log()) {
                tick.tick().await;
            }
        };
        timeout(NOTICED_WITHIN, noticed)
            .await
            .expect("it is noticed");
    })
    .await;
    server
}

/// How many participants the log names with all of these words.
fn of_whom(log: &str, words: &[&str]) -> usize {
    let told = log
        .lines()
        .filter(|line| words.iter().all(|word| line.contains(word)));
    let peers = told.filter_map(|line| Some(line.split_once(" peer=peer ")?.1.split(' ').next()));
    peers.collect::<BTreeSet<_>>().len()
}

#[tokio::test]
async fn who_loses_much_of_his_udp_goes_on_by_tcp_as_the_same_participant() {
    if is_skipped().await {
        return;
    }
    let on = ["allow_udp_unstable_fallback: true"];
    let led = |log: &str| log.contains("udp connection unstable, switch to tcp");
    let server = call(&on, "prflx tcp", led).await;
    let log = server.log();
    assert_eq!(log.matches("starting RTC session").count(), 2, "{log}");
    let later = Pair::later(&log);
    for name in ["a", "b"] {
        let last = later.iter().rfind(|pair| pair.participant == name);
        assert_eq!(
            last.map(|pair| &*pair.path),
            Some("tcp"),
            "{name}: {later:?}"
        );
    }
    // One of them may have resumed of its own accord.
    assert!(of_whom(&log, &["switch to tcp"]) >= 1, "{log}");
    let led = server.metric("foci_fallbacks_total", &["to=\"tcp\""]).await;
    assert!(led >= 1.0, "{led}");
}

#[tokio::test]
async fn who_loses_much_of_his_udp_stays_with_it_unless_the_operator_wants_it_otherwise() {
    if is_skipped().await {
        return;
    }
    let server = call(&[], "prflx udp", |log| {
        of_whom(log, &["udp connection unstable", "better=true"]) == 2
    })
    .await;
    assert!(!server.log().contains("switch to"));
}
