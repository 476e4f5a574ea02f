//! What a relayed packet costs, ours beside coturn's in one run: `cargo bench -p turn`.
//!
//! Clients bind channels and send 172-byte payloads, each to a peer of its own, one packet at a time
//! and paced, as calls do. Counted is the CPU time of the server's threads for each packet that
//! arrived. Rounds alternate between the two, and the median counts. `turnserver` comes from apt.
//! Words choose among the loads: `cargo bench -p turn --bench relay -- calls`.

#![allow(
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock, and paces by it"
)]

mod relay {
    pub(crate) mod client;
    pub(crate) mod floor;
    pub(crate) mod load;
    pub(crate) mod memory;
    pub(crate) mod servers;
}

use relay::floor;
use relay::load::{Cost, Direction, Load, run};
use relay::servers::{Coturn, Ours, Sfu};

/// Rounds of each; odd, for the median.
const ROUNDS: usize = 3;

#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
fn main() {
    let coturn = Coturn::start();
    let ours = Ours::start(Sfu::Drain);
    let returns = Ours::start(Sfu::Repeat);
    if coturn.is_none() {
        println!("turnserver is not installed (apt-get install coturn): ours alone");
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    let chosen = |load: &Load| {
        let named = |word: &String| load.to_string().starts_with(word.as_str());
        words.iter().all(|word| word.starts_with('-')) || words.iter().any(named)
    };
    let loads = [Load::CALLS, Load::FRAMES, Load::FLOOD];
    for load in loads.into_iter().filter(chosen) {
        println!("\n{load}");
        let floor = median((0..ROUNDS).map(|_| floor::run(load)).collect());
        println!("  to a peer, no relay at all  {}", shown(floor));
        for direction in [Direction::ToPeer, Direction::FromPeer] {
            let mut theirs = Vec::new();
            let mut mine = Vec::new();
            for _ in 0..ROUNDS {
                theirs.extend(
                    coturn
                        .as_ref()
                        .map(|one| run(&one.target(), direction, load)),
                );
                mine.push(run(&ours.target(), direction, load));
            }
            let theirs = median(theirs);
            println!("  {direction}, coturn      {}", shown(theirs));
            println!(
                "  {direction}, ours        {}{}",
                shown(median(mine.clone())),
                ratio(theirs, median(mine))
            );
            let server = match direction {
                Direction::ToPeer => &ours,
                Direction::FromPeer => &returns,
            };
            let inside = median(
                (0..ROUNDS)
                    .map(|_| run(&server.sfu_target(), direction, load))
                    .collect(),
            );
            println!(
                "  {direction}, in process  {}{}",
                shown(inside),
                ratio(theirs, inside)
            );
        }
    }
    relay::memory::print();
}

/// The round with the median cost.
fn median(mut rounds: Vec<Cost>) -> Option<Cost> {
    rounds.sort_by(|a, b| a.ns_per_packet().total_cmp(&b.ns_per_packet()));
    rounds.get(rounds.len() / 2).copied()
}

fn shown(cost: Option<Cost>) -> String {
    cost.map_or_else(|| "-".into(), |cost| cost.to_string())
}

fn ratio(theirs: Option<Cost>, mine: Option<Cost>) -> String {
    match (theirs, mine) {
        (Some(theirs), Some(mine)) => format!(
            "   {:.1}x less CPU a packet ({:.1}x with the peer's), {:.1}x the packets",
            theirs.ns_per_packet() / mine.ns_per_packet(),
            theirs.whole_ns_per_packet() / mine.whole_ns_per_packet(),
            mine.per_second() / theirs.per_second()
        ),
        _ => String::new(),
    }
}
