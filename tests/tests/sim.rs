//! `cargo sim [NAME]`: the scenarios of the simulated world, with their fixed seeds or with others.

#![allow(clippy::print_stdout, reason = "a command that tells what it did")]
#![allow(
    clippy::disallowed_methods,
    reason = "a command: it reads the environment and the clock"
)]

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tests::world::scenarios::{self, Outcome, Scenario};

const USAGE: &str = "\
usage: cargo sim [NAME]             scenarios whose name contains NAME (all) with their fixed seeds
       SEED=n cargo sim [NAME]      with this seed, telling all that was seen
       cargo sim --search [COUNT]   COUNT (100) runs with new seeds; with NAME= only of those scenarios
       cargo sim --replay FILE      what `foci --record FILE` wrote, in the core
       cargo sim --list             the names";

type Job = (&'static Scenario, u64);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    match words.as_slice() {
        ["--help" | "-h"] => println!("{USAGE}"),
        ["--list"] => scenarios::all().for_each(|scenario| println!("{}", scenario.name)),
        ["--replay", file] => return tests::replay::tell(file.as_ref()),
        ["--search"] => return perform(&search(100), false),
        ["--search", count] => match count.parse() {
            Ok(count) => return perform(&search(count), false),
            Err(_) => {
                println!("{USAGE}");
                return ExitCode::from(2);
            }
        },
        [] => return perform(&chosen("", seed), seed.is_some()),
        [name] if !name.starts_with('-') => return perform(&chosen(name, seed), seed.is_some()),
        _ => {
            println!("{USAGE}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn chosen(name: &str, seed: Option<u64>) -> Vec<Job> {
    let named = |scenario: &&'static Scenario| scenario.name.contains(name);
    let exact = scenarios::by_name(name);
    let all = scenarios::all().filter(named);
    let some: Vec<&'static Scenario> = exact.map_or_else(|| all.collect(), |one| vec![one]);
    let mut jobs = Vec::new();
    for scenario in some {
        match seed {
            Some(seed) => jobs.push((scenario, seed)),
            None => jobs.extend(scenario.seeds.iter().map(|seed| (scenario, *seed))),
        }
    }
    jobs
}

/// New seeds for all scenarios in turn.
fn search(count: usize) -> Vec<Job> {
    let name = std::env::var("NAME").unwrap_or_default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let begin = now.map_or(0, |now| now.as_millis() as u64) % 1_000_000_000;
    let named = scenarios::all().filter(|scenario| scenario.name.contains(&name));
    let turns = named.cycle().take(count);
    (begin..)
        .zip(turns)
        .map(|(seed, scenario)| (scenario, seed))
        .collect()
}

fn perform(jobs: &[Job], verbose: bool) -> ExitCode {
    let began = Instant::now();
    if jobs.is_empty() {
        println!("no such scenario; cargo sim --list");
        return ExitCode::from(2);
    }
    // A failure is told in one place, with the command that repeats it.
    std::panic::set_hook(Box::new(|_| {}));
    let waiting = Mutex::new(VecDeque::from(jobs.to_vec()));
    let failed = Mutex::new(0_usize);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let job = waiting.lock().expect("not poisoned").pop_front();
                    let Some((scenario, seed)) = job else { return };
                    let outcome =
                        catch_unwind(AssertUnwindSafe(|| scenarios::run_all(scenario, seed)));
                    let outcome = outcome.unwrap_or_else(|panic| panicked(&panic));
                    if !tell(scenario, seed, &outcome, verbose) {
                        *failed.lock().expect("not poisoned") += 1;
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("not poisoned");
    let took = began.elapsed().as_secs_f64();
    println!("{} runs, {failed} failed, in {took:.1} s", jobs.len());
    ExitCode::from(u8::from(failed > 0))
}

fn panicked(panic: &Box<dyn std::any::Any + Send>) -> Outcome {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    Outcome {
        faults: vec![format!("panic: {}", text.unwrap_or_default())],
        ..Outcome::default()
    }
}

fn tell(scenario: &Scenario, seed: u64, outcome: &Outcome, verbose: bool) -> bool {
    let good = outcome.faults.is_empty();
    let mut text = format!(
        "{} {} seed {seed}",
        if good { "ok    " } else { "FAILED" },
        scenario.name
    );
    if verbose {
        for line in &outcome.seen {
            text += &format!("\n    {line}");
        }
    }
    for fault in &outcome.faults {
        text += &format!("\n    {fault}");
    }
    if !good {
        text += &format!("\n    again: SEED={seed} cargo sim {}", scenario.name);
    }
    println!("{text}");
    good
}
