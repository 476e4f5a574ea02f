//! Calls as they happen: who takes part by which roads, what befalls them, and what they must see.
//!
//! Owns the table of scenarios and how one is run and judged. A scenario fails if anybody sees less
//! than it says, or if any rule of `checks` was broken. Called by `cargo sim`.

mod compare;
mod table;
mod ways;

use super::client::Manner;
use super::invariants;
use super::source::Kind;
use super::{Tally, Way, World};
use crate::link::Conditions;
pub use compare::{Property, Sight, Told, Within, differences};
use std::fmt::Write;
use std::time::Duration;
pub use table::Scenario;

/// Everybody has everything by then.
const SETTLED: Duration = Duration::from_secs(3);
/// An empty room is kept so long, and a peer that is silent for less.
const FORGOTTEN: Duration = Duration::from_secs(60);
/// Key pictures of one layer are asked for no more often, less what the road may hold back. (LK:
/// sfu-media §8.15)
const KEY_APART: Duration = Duration::from_millis(500);

/// Somebody in a scenario.
#[derive(Debug, Clone)]
pub struct Person {
    /// What it publishes.
    pub tracks: Vec<Kind>,
    /// Two connections.
    pub dual: bool,
    /// End-to-end encryption.
    pub encrypted: bool,
    /// No RTX, but padding among the pictures.
    pub pads: bool,
    /// By which way it comes.
    pub way: Way,
    /// From it.
    pub up: Conditions,
    /// To it.
    pub down: Conditions,
    /// At which server.
    pub server: usize,
}

/// What befalls somebody.
#[derive(Debug, Clone)]
pub enum Act {
    /// Nothing passes for so many ms.
    Break(usize, u64),
    /// Its router gives it other ports.
    Rebind(usize),
    /// It mutes a track, or unmutes it.
    Mute(usize, usize, bool),
    /// It leaves.
    Leave(usize),
    /// It is gone without a word.
    Vanish(usize),
    /// Its signalling breaks.
    LoseSignal(usize),
    /// It comes back.
    Resume(usize),
    /// It wants a quality of somebody's track.
    Want(usize, (usize, usize), Option<i32>),
    /// Its roads change.
    Roads(usize, Conditions, Conditions),
    /// Somebody comes.
    Join(Box<Person>),
    /// It goes another way to its server.
    GoBy(usize, Way),
    /// A firewall keeps its datagrams back, and lets TCP pass.
    Wall(usize),
    /// Its TCP connections break.
    Cut(usize),
    /// Its client of TURN keeps nothing alive for so many ms.
    Neglect(usize, u64),
}

/// What has to have happened by the end, lest a scenario shows nothing.
#[derive(Debug, Clone, Copy)]
pub struct Proof {
    /// In words.
    pub what: &'static str,
    /// What tells it.
    pub holds: fn(&Tally) -> bool,
}

/// What those who stay must see of those who stay.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// Of the pictures of 30 in a second since they settled, at least this share.
    pub pictures: f64,
    /// The longest a picture stands still.
    pub freeze: Duration,
    /// The highest layer seen of each track is at least, and at most, this.
    pub layer: Option<(u8, u8)>,
}

/// A scenario.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How long.
    pub seconds: u64,
    /// How many servers.
    pub servers: usize,
    /// Who is there from the beginning.
    pub people: Vec<Person>,
    /// What happens, and after how many ms.
    pub acts: Vec<(u64, Act)>,
    /// What must be seen.
    pub expected: Expected,
    /// What must have happened.
    pub proofs: Vec<Proof>,
}

/// How a run went.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// What was seen, by subscriber and track: decoded, skipped, freeze in ms, highest layer.
    pub seen: Vec<String>,
    /// The same, to be compared.
    pub sights: Vec<Sight>,
    /// Packets that servers told publishers were lost.
    pub told_lost: i64,
    /// What is wrong; nothing if it went well.
    pub faults: Vec<String>,
}

/// The scenario of this name.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static Scenario> {
    all().find(|scenario| scenario.name == name)
}

/// All scenarios, those that are compared at the end.
pub fn all() -> impl Iterator<Item = &'static Scenario> + Clone {
    let own = table::SCENARIOS.iter().chain(ways::SCENARIOS);
    own.chain(table::DIFFERENTIAL).chain(ways::DIFFERENTIAL)
}

/// Runs a scenario with a seed, and what it is compared with.
#[must_use]
pub fn run_all(scenario: &Scenario, seed: u64) -> Outcome {
    let mut outcome = run(&(scenario.plan)(), seed);
    for twin in scenario.twins {
        let other = run(&(twin.plan)(), seed);
        let name = twin.name;
        for (property, what) in differences(&outcome, &other, &twin.within) {
            let fault = format!("{name}, {property:?}: {what}");
            outcome.faults.push(fault);
        }
        let faults = other.faults.iter().map(|fault| format!("{name}: {fault}"));
        outcome.faults.extend(faults);
        let seen = other.seen.iter().map(|line| format!("{name}: {line}"));
        outcome.seen.extend(seen);
    }
    outcome
}

/// Runs a plan with a seed.
#[must_use]
pub fn run(plan: &Plan, seed: u64) -> Outcome {
    let mut world = World::new(plan.servers, seed);
    for person in &plan.people {
        join(&mut world, person);
    }
    let mut since = 0;
    for (at, act) in &plan.acts {
        world.run(Duration::from_millis(at - since));
        since = *at;
        perform(&mut world, act);
    }
    world.run(Duration::from_millis(plan.seconds * 1000 - since));
    let mut outcome = Outcome::default();
    judge(&world, plan, &mut outcome);
    check_key_requests(&world, &mut outcome);
    check_reports(&world, &mut outcome);
    let lost: u64 = world.seats.iter().map(|seat| seat.lost_up).sum();
    // Who has left is not heard any more.
    let lost = lost + world.media_on_the_way();
    outcome.told_lost = world.seats.iter().map(|seat| seat.losses.told()).sum();
    prove(&mut world, plan, &mut outcome);
    world.judge_ways();
    finish(&mut world, &mut outcome);
    world.finish(lost);
    outcome.faults.append(&mut world.broken);
    for broken in world.checks.broken() {
        outcome
            .faults
            .push(format!("{:?}: {}", broken.rule, broken.what));
    }
    outcome
}

fn join(world: &mut World, person: &Person) {
    let manner = Manner {
        identity: format!("p{}", world.seats.len()),
        dual: person.dual,
        tracks: person.tracks.clone(),
        encrypted: person.encrypted,
        pads: person.pads,
        way: person.way,
    };
    world.join(manner, person.server, &person.up, &person.down);
}

fn perform(world: &mut World, act: &Act) {
    match act {
        Act::Break(who, ms) => world.break_for(*who, Duration::from_millis(*ms)),
        Act::Rebind(who) => world.rebind(*who),
        Act::Mute(who, track, muted) => world.mute(*who, *track, *muted),
        Act::Leave(who) => world.leave(*who),
        Act::Vanish(who) => world.vanish(*who),
        Act::LoseSignal(who) => world.lose_signal(*who),
        Act::Resume(who) => world.resume(*who),
        Act::Want(who, (publisher, track), quality) => {
            let sid = world.seats[*publisher].client.tracks[*track].sid.clone();
            world.want(*who, &sid, *quality);
        }
        Act::Roads(who, up, down) => world.set_roads(*who, up, down),
        Act::Join(person) => join(world, person),
        Act::GoBy(who, way) => world.go_by(*who, *way),
        Act::Wall(who) => world.wall(*who),
        Act::Cut(who) => world.cut(*who),
        Act::Neglect(who, ms) => world.neglect(*who, Duration::from_millis(*ms)),
    }
}

/// What the scenario is about has happened.
fn prove(world: &mut World, plan: &Plan, outcome: &mut Outcome) {
    let tally = world.tally();
    for proof in &plan.proofs {
        if !(proof.holds)(&tally) {
            let fault = format!("it never happened: {}; {tally:?}", proof.what);
            outcome.faults.push(fault);
        }
    }
    if tally != Tally::default() {
        outcome.seen.push(format!("{tally:?}"));
    }
}

fn left(plan: &Plan, who: usize) -> bool {
    let leaves = |act: &Act| matches!(act, Act::Leave(w) | Act::Vanish(w) if *w == who);
    plan.acts.iter().any(|(_, act)| leaves(act))
}

/// What everybody who stayed saw of everybody else who stayed.
fn judge(world: &World, plan: &Plan, outcome: &mut Outcome) {
    for (who, seat) in world.seats.iter().enumerate() {
        if left(plan, who) {
            continue;
        }
        for (other, publisher) in world.seats.iter().enumerate() {
            if who == other || left(plan, other) || seat.server != publisher.server {
                continue;
            }
            for track in 0..publisher.client.tracks.len() {
                judge_track(world, plan, (who, other, track), outcome);
            }
        }
    }
}

fn judge_track(
    world: &World,
    plan: &Plan,
    (who, other, n): (usize, usize, usize),
    outcome: &mut Outcome,
) {
    let track = &world.seats[other].client.tracks[n];
    let mut streams = world.seats[who].client.streams.values();
    let found = streams.find(|stream| stream.track == track.sid && stream.since.is_some());
    let name = format!("p{who} of p{other} track {n} ({:?})", track.source.kind());
    let Some(stream) = found else {
        outcome.faults.push(format!("{name}: nothing came"));
        return;
    };
    let figures = stream.judge.figures();
    let mut line = format!("{name}: ");
    let _ = write!(
        line,
        "{} decoded, {} skipped, longest freeze {} ms, layer {}, {} NACKs, {} PLIs",
        figures.decoded,
        figures.skipped,
        figures.longest_freeze.as_millis(),
        figures.highest_layer,
        figures.nacked,
        figures.key_requests
    );
    let moments = stream.judge.moments().iter();
    outcome.sights.push(Sight {
        of: (who, other, n),
        decoded: figures.decoded,
        layer: figures.highest_layer,
        shown: moments
            .map(|(captured, at)| (*captured, world.since_start(*at)))
            .collect(),
    });
    let mut fault = |what: String| outcome.faults.push(format!("{name}: {what}; {line}"));
    for (count, what) in [
        (figures.fooled, "pictures that stand on nothing"),
        (figures.spoiled, "payloads are not as they were sent"),
        (figures.misnumbered, "picture ids out of turn"),
    ] {
        if count > 0 {
            fault(format!("{count} {what}"));
        }
    }
    if !track.source.kind().is_sound() {
        let since = stream.since.map_or(Duration::ZERO, |at| world.now - at);
        let settled = since.saturating_sub(SETTLED).as_secs_f64();
        let share = figures.decoded as f64 / (settled * 30.0).max(1.0);
        if share < plan.expected.pictures {
            fault(format!("only {share:.3} of the pictures"));
        }
        if figures.longest_freeze > plan.expected.freeze {
            fault("the picture stands still".into());
        }
        if let Some((least, most)) = plan.expected.layer
            && !(least..=most).contains(&figures.highest_layer)
        {
            fault(format!("layer {}", figures.highest_layer));
        }
    } else if figures.decoded == 0 {
        fault("no sound".into());
    }
    outcome.seen.push(line);
}

/// A publisher is not pestered: one request for a layer in each window, and once more for who has
/// just come.
fn check_key_requests(world: &World, outcome: &mut Outcome) {
    for (who, seat) in world.seats.iter().enumerate() {
        // The road itself may push two requests together.
        if seat.down.is_shaky() {
            continue;
        }
        for track in &seat.client.tracks {
            for layer in 0..track.source.kind().layers() {
                let asked = track.asked.iter().filter(|(of, _)| *of == layer);
                let times: Vec<_> = asked.map(|(_, at)| *at).collect();
                let close = times.windows(3).find(|some| some[2] - some[0] < KEY_APART);
                if let Some(some) = close {
                    let apart = (some[2] - some[0]).as_millis();
                    outcome.faults.push(format!(
                        "p{who} layer {layer}: key pictures asked for within {apart} ms"
                    ));
                }
            }
        }
    }
}

/// Rules that are fed nothing hold of anything.
fn check_reports(world: &World, outcome: &mut Outcome) {
    let (sent, received) = world.reports_judged();
    if sent == 0 || received == 0 {
        let what = format!("{sent} sender and {received} receiver reports were judged");
        outcome.faults.push(what);
    }
}

/// Everybody leaves, and the servers forget all of it.
fn finish(world: &mut World, outcome: &mut Outcome) {
    for who in 0..world.seats.len() {
        world.leave(who);
    }
    world.run(FORGOTTEN);
    let servers: Vec<usize> = (0..world.servers.len()).collect();
    for n in servers {
        let server = world.server(n);
        let held = (server.holdings(), server.population());
        if let Err(broken) = invariants::memory(&held, &Default::default()) {
            outcome.faults.push(format!("server {n}: {broken}"));
        }
    }
    if let Err(broken) = invariants::memory(&world.tally().live, &0) {
        outcome.faults.push(format!("allocations: {broken}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_that_does_not_show_what_it_is_about_is_told() {
        let scenario = by_name("good-speech").expect("there");
        let outcome = |holds: fn(&Tally) -> bool| {
            let mut plan = (scenario.plan)();
            plan.proofs.push(Proof {
                what: "a connection",
                holds,
            });
            run(&plan, 1).faults
        };
        assert_eq!(outcome(|tally| tally.opened == 0), [""; 0]);
        assert!(outcome(|tally| tally.opened > 0)[0].contains("never happened"));
    }

    #[test]
    fn a_seed_is_played_alike_each_time() {
        for (name, seed) in [
            ("both-impaired", 965_511_197),
            ("both-impaired-dual", 1),
            ("tcp-impaired", 979_216_158),
            ("relay-impaired", 1),
            ("relay-stream-impaired", 1),
        ] {
            let scenario = by_name(name).expect("there");
            let once = run_all(scenario, seed);
            for _ in 0..3 {
                assert_eq!(run_all(scenario, seed).seen, once.seen, "{name}");
            }
        }
    }

    #[test]
    fn a_twin_that_sees_something_else_is_told_with_its_name() {
        let scenario = |twins| Scenario {
            name: "twins",
            plan: || (by_name("good-one-layer").expect("there").plan)(),
            seeds: &[1],
            twins,
        };
        const SAME: &[table::Twin] = &[table::Twin {
            name: "other",
            plan: || (by_name("good-one-layer").expect("there").plan)(),
            within: Within::frames(0),
        }];
        const OTHER: &[table::Twin] = &[table::Twin {
            name: "other",
            plan: || (by_name("good-two-layers").expect("there").plan)(),
            within: Within::frames(0),
        }];
        assert_eq!(run_all(&scenario(SAME), 1).faults, [""; 0]);
        let faults = run_all(&scenario(OTHER), 1).faults;
        assert!(faults[0].starts_with("other, Layers: "), "{faults:?}");
    }
}
