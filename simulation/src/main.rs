//! Whole rollouts in the in-memory world, drawn from seeds: `cargo xtask simulate`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a program that tests may panic: that ends it with a failure"
)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that says what it does")]

mod case;
mod checks;
mod dice;
mod draw;
mod kills;
mod run;
mod shrink;
mod sky;
mod speed;
mod stage;
mod storm;
#[cfg(test)]
mod tests;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use case::Case;
use checks::Wrong;
use stage::Met;

/// How many failing cases of a kind are shrunk and shown; of the others only the seed is told.
const SHOWN: u64 = 2;
/// A cell of the table that a long run met less often is named.
const LEAST: u64 = 50;
/// A case takes milliseconds.
const LONGEST: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    quiet_panics();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match Asked::parse(&arguments) {
        Ok(asked) => asked.run(),
        Err(why) => {
            eprintln!("simulate: {why}");
            ExitCode::from(2)
        }
    }
}

/// What the command line asks for.
#[derive(Debug)]
struct Asked {
    rollouts: u64,
    seed: u64,
    json: bool,
    speed: bool,
    kills: bool,
    replay: Option<String>,
}

impl Asked {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut asked = Self {
            rollouts: 20_000,
            seed: 1,
            json: false,
            speed: false,
            kills: false,
            replay: None,
        };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            let number =
                |text: &String| text.parse::<u64>().map_err(|_| format!("{text:?} is no number"));
            match word.as_str() {
                "--rollouts" => asked.rollouts = number(value()?)?,
                "--seed" => asked.seed = number(value()?)?,
                "--json" => asked.json = true,
                "--speed" => asked.speed = true,
                "--kills" => asked.kills = true,
                "--replay" => asked.replay = Some(value()?.clone()),
                other => return Err(format!("{other:?} is not understood")),
            }
        }
        Ok(asked)
    }

    fn run(&self) -> ExitCode {
        match &self.replay {
            Some(what) => replay(what),
            None if self.speed => speed::tell(),
            None if self.kills => kills::tell(),
            None => self.simulate(),
        }
    }

    fn simulate(&self) -> ExitCode {
        let began = Instant::now();
        let mut sum = Sum::default();
        let mut told = began;
        let at_work = watched();
        for seed in self.seed..self.seed.saturating_add(self.rollouts) {
            at_work.store(seed, Ordering::Relaxed);
            let case = draw::any(seed);
            let run = run::run(&case, false);
            sum.add(&run);
            if let Err(failure) = run.found {
                println!("=== seed {seed} fails: {:?}", failure.what);
                if sum.wrong(failure.what) <= SHOWN {
                    tell(&shrink::shrink(&case, failure.what));
                }
            }
            if told.elapsed() > Duration::from_secs(30) {
                told = Instant::now();
                eprintln!(
                    "   {} of {}, {} violations",
                    sum.rollouts, self.rollouts, sum.violations
                );
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        if !self.json {
            println!("faults met, by where the rollout was\n{}", sum.met);
            let rare = sum.met.below(LEAST);
            println!("met less than {LEAST} times: {}", rare.len());
            rare.iter().for_each(|cell| println!("  {cell}"));
            println!(
                "outcomes: {:?}; requests: {}; wrong: {:?}",
                sum.outcomes, sum.requests, sum.kinds
            );
        }
        println!(
            "{}",
            serde_json::json!({
                "seed": self.seed,
                "rollouts": sum.rollouts,
                "violations": sum.violations,
                "failed_requests": sum.failed,
                "unowned": sum.kinds.get(&Wrong::Unowned).copied().unwrap_or_default(),
                "seconds": (seconds * 10.0).round() / 10.0,
            })
        );
        if sum.violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Names the seed whose case does nothing but compute, and ends all: in its own time nothing passes.
fn watched() -> Arc<AtomicU64> {
    let at_work = Arc::new(AtomicU64::new(0));
    let watched = Arc::clone(&at_work);
    std::thread::spawn(move || {
        let mut before = None;
        loop {
            std::thread::sleep(LONGEST);
            let seed = watched.load(Ordering::Relaxed);
            if before.replace(seed) == Some(seed) {
                println!("=== seed {seed} does not end: nothing has come of it in {LONGEST:?}");
                std::process::exit(1);
            }
        }
    });
    at_work
}

/// What came of all cases.
#[derive(Debug, Default)]
struct Sum {
    rollouts: u64,
    violations: u64,
    requests: u64,
    failed: u64,
    met: Met,
    outcomes: std::collections::BTreeMap<&'static str, u64>,
    kinds: std::collections::BTreeMap<Wrong, u64>,
}

impl Sum {
    fn add(&mut self, run: &run::Run) {
        self.rollouts += 1;
        self.requests += run.requests;
        self.failed += run.failed;
        self.met.add(&run.met);
        *self.outcomes.entry(run.outcome.unwrap_or("none")).or_default() += 1;
    }

    /// Counts what is wrong, and says how often it was.
    fn wrong(&mut self, what: Wrong) -> u64 {
        self.violations += 1;
        let count = self.kinds.entry(what).or_default();
        *count += 1;
        *count
    }
}

/// Shows a case and what comes of it.
fn tell(case: &Case) -> bool {
    let run = run::run(case, true);
    println!("{}", run.trace);
    let json = serde_json::to_string(case).unwrap();
    println!("--- to be run again with --replay '{json}'");
    match &run.found {
        Ok(()) => println!("nothing is wrong; it ended: {:?}", run.outcome),
        Err(failure) => println!("WRONG, {:?}: {}", failure.what, failure.why),
    }
    run.found.is_ok()
}

/// Runs one case again: of a seed, of JSON, or of a file with JSON.
fn replay(what: &str) -> ExitCode {
    let case = match what.parse::<u64>() {
        Ok(seed) => draw::any(seed),
        Err(_) => {
            let text = match what.starts_with('{') {
                true => what.to_owned(),
                false => std::fs::read_to_string(what).unwrap(),
            };
            serde_json::from_str(&text).expect("a case as JSON")
        }
    };
    if tell(&case) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Panics that are part of a case say nothing.
fn quiet_panics() {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload_as_str().unwrap_or_default();
        if !text.contains(sky::ON_PURPOSE) {
            told(panic);
        }
    }));
}
