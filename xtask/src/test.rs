//! `cargo xtask test`: every test, doctest and example, with the real parts that they need.

use std::fmt;
use std::fs::File;
use std::time::{Duration, Instant};

use crate::cargo::{Package, Workspace};
use crate::docker;
use crate::fuzz;
use crate::job::{Fault, Job, Result, take_signal};
use crate::parts;
use crate::report::Report;
use crate::simulate;
use crate::steps::Steps;

/// The whole of the tests, with a cold build on two cores.
const TESTS_LIMIT: u64 = 2400;
const DOCTESTS_LIMIT: u64 = 900;
/// A cold build included.
const EXAMPLE_LIMIT: u64 = 600;
/// How many rollouts are simulated.
const ROLLOUTS: &str = "20000";
/// How long another run on this machine may take.
const OTHER_RUN_LIMIT: Duration = Duration::from_secs(1800);

/// The feature of the facade that an example with real parts needs.
const DOCKER_FEATURE: &str = "docker";

pub(crate) fn run(is_strict: bool) -> Result<()> {
    let workspace = Workspace::read()?;
    let _alone = wait_for_other_run()?;
    let mut steps = Steps::new();
    println!("== parts");
    let started = Instant::now();
    // Not a step: a part that cannot be had is not a failure as such.
    let untested = match parts::bring(&workspace, false).and_then(|()| clean()) {
        Ok(()) => None,
        Err(Fault::Failed(why)) => Some(why),
        Err(fault) => return Err(fault),
    };
    steps.add("parts", started.elapsed());
    let outcome = all(&mut steps, &workspace, untested.is_none());
    if untested.is_none() {
        // After an interruption as well: that is when there is most to clean.
        clean()?;
    }
    outcome?;
    last_line(steps.end(), untested, is_strict)
}

/// What was not tested is the last thing that is said, whatever else there is to say.
fn last_line(outcome: Result<()>, untested: Option<String>, is_strict: bool) -> Result<()> {
    let Some(why) = untested else { return outcome };
    let loud = format!("NOT TESTED: docker ({})", one_line(&why));
    match outcome {
        Err(fault) => Err(Fault::Failed(format!("{fault}\n{loud}"))),
        Ok(()) if is_strict => Err(Fault::Failed(format!(
            "with --strict everything must be tested; bring the part, or leave --strict out\n{loud}"
        ))),
        Ok(()) => {
            println!("\n{loud}");
            Ok(())
        }
    }
}

fn all(steps: &mut Steps, workspace: &Workspace, with_docker: bool) -> Result<()> {
    let features = workspace.features(with_docker);
    let with = |arguments: &str| {
        let arguments = arguments.split(' ').map(str::to_owned);
        arguments.chain(features.iter().cloned()).collect::<Vec<_>>()
    };
    steps.step("tests", || {
        let job = if has_nextest()? {
            Job::new("cargo", with("nextest run --workspace --no-fail-fast"))
        } else {
            println!("   without cargo-nextest, which is quicker and bounds each test");
            // The tests against Docker share one Engine.
            Job::new("cargo", with("test --workspace --tests --no-fail-fast"))
                .env("RUST_TEST_THREADS", if with_docker { "1" } else { "4" })
        };
        job.shown().limit(TESTS_LIMIT).run()
    })?;
    steps.step("doctests", || {
        Job::new("cargo", with("test --workspace --doc --no-fail-fast"))
            .shown()
            .limit(DOCTESTS_LIMIT)
            .run()
    })?;
    steps
        .step("simulation", || simulate::run(&["--rollouts", ROLLOUTS, "--seed", "1", "--json"]))?;
    steps.step("fuzz", || fuzz::briefly(workspace))?;
    let facade = workspace.package("deploykit")?;
    steps.step("examples are there", || has_examples(facade))?;
    for way in ways(facade, with_docker) {
        steps.step(&format!("example {way}"), || run_example(&way))?;
    }
    Ok(())
}

/// The examples that there have to be: one that is not built any more must not pass by its absence.
const EXAMPLES: [&str; 5] = ["quickstart", "custom_strategy", "worker", "docker", "own_pipeline"];

fn has_examples(facade: &Package) -> Result<()> {
    for name in EXAMPLES {
        if !facade.examples.iter().any(|example| example.name == name) {
            return Err(Fault::Failed(format!("the example `{name}` is missing in examples/")));
        }
    }
    Ok(())
}

/// An example, and how it is run.
#[derive(Debug)]
struct Way {
    name: String,
    features: String,
    arguments: &'static [&'static str],
    /// The exit code that it has to end with.
    code: i32,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.arguments.iter().try_for_each(|argument| write!(f, " {argument}"))
    }
}

/// The load on the service while the docker example replaces it, in a size that a test can wait for.
const DOCKER_EXAMPLE: [&str; 9] =
    ["--strategy", "blue-green", "--replicas", "2", "--load", "100", "--requests", "500", "--json"];
/// As the examples' help says.
const ROLLED_BACK: i32 = 3;

/// Each example as its reader would run it, without any flags where that does it; then what its flags are for.
fn ways(facade: &Package, with_docker: bool) -> Vec<Way> {
    let docker = facade.enabling(DOCKER_FEATURE);
    let mut ways = Vec::new();
    for example in &facade.examples {
        let mut run = |feature: &str, arguments, code| {
            let more = (!feature.is_empty()).then(|| feature.to_owned());
            let features: Vec<_> = example.required_features.iter().cloned().chain(more).collect();
            if with_docker || !features.iter().any(|one| docker.contains(one)) {
                let (name, features) = (example.name.clone(), features.join(","));
                ways.push(Way { name, features, arguments, code });
            }
        };
        match example.name.as_str() {
            "docker" => run("", &DOCKER_EXAMPLE[..], 0),
            // It takes its time, and is a command of its own.
            "chaos" => {}
            "custom_strategy" | "own_pipeline" => {
                run("", &[], 0);
                run("", &["--bad"], ROLLED_BACK);
            }
            "worker" => {
                run("", &[], 0);
                run("", &["--bad"], ROLLED_BACK);
                run(DOCKER_FEATURE, &["--docker"], 0);
                run(DOCKER_FEATURE, &["--docker", "--bad"], ROLLED_BACK);
            }
            _ => run("", &[], 0),
        }
    }
    ways
}

fn run_example(way: &Way) -> Result<()> {
    let mut arguments = vec!["run", "--quiet", "--example", &way.name];
    if !way.features.is_empty() {
        arguments.extend(["--features", &way.features]);
    }
    arguments.push("--");
    arguments.extend(way.arguments);
    let done = Job::new("cargo", arguments).shown().limit(EXAMPLE_LIMIT).outcome()?;
    if done.code != Some(way.code) {
        let code = done.code.map_or("a signal".to_owned(), |code| format!("exit code {code}"));
        return Err(Fault::Failed(format!("exit code {} was asked; got {code}", way.code)));
    }
    if way.name == "docker" {
        let report = Report::of(&done)?;
        if report.outcome() != "promoted" || report.failed() != Some(0) {
            return Err(Fault::Failed(format!("promoted with 0 failed was asked; got {report}")));
        }
    }
    Ok(())
}

fn has_nextest() -> Result<bool> {
    Ok(Job::new("cargo", ["nextest", "--version"]).limit(30).outcome()?.code == Some(0))
}

fn clean() -> Result<()> {
    println!("   {}", docker::remove_leftovers()?);
    Ok(())
}

fn one_line(why: &str) -> String {
    why.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Two runs on one Engine would clean each other's containers away, so they go one after the other.
/// The lock ends with this process, however it ends.
fn wait_for_other_run() -> Result<Option<File>> {
    let path = std::env::temp_dir().join("deploykit-xtask-test.lock");
    // Another user's lock cannot be opened; then there is nothing to wait for that we could see.
    let Ok(file) = File::options().create(true).append(true).open(&path) else {
        return Ok(None);
    };
    let until = Instant::now() + OTHER_RUN_LIMIT;
    let mut is_told = false;
    while file.try_lock().is_err() {
        if !is_told {
            println!("another `cargo xtask test` runs on this machine; waiting for its end");
            is_told = true;
        }
        if take_signal() {
            return Err(Fault::Interrupted);
        }
        if Instant::now() >= until {
            let path = path.display();
            return Err(Fault::Failed(format!(
                "another `cargo xtask test` holds {path} for too long; end it and try again"
            )));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(Some(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_tested_is_said_last_and_fails_only_when_strict() {
        let last = |outcome, strict| last_line(outcome, Some("no\nEngine".into()), strict);
        assert!(last(Ok(()), false).is_ok());
        for outcome in [last(Ok(()), true), last(Err(Fault::Failed("x".into())), false)] {
            let text = outcome.unwrap_err().to_string();
            assert_eq!(text.lines().last(), Some("NOT TESTED: docker (no Engine)"));
        }
        assert!(last_line(Ok(()), None, true).is_ok());
    }
}
