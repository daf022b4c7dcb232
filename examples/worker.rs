//! A worker: a service that nothing sends requests to, replaced task by task, and brought back when the new version is bad.
//!
//! ```text
//! cargo run --example worker
//! cargo run --example worker --features docker -- --docker
//! ```
//!
//! By default it runs in an imaginary world, offline and in no time. With `--docker` its tasks are containers of the local
//! Docker Engine, of the images that `cargo xtask parts` makes. `--bad` brings a version that crashes, `--json` adds a last
//! line for programs.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that shows something")]

#[path = "shared/flags.rs"]
mod flags;

use std::process::ExitCode;
use std::time::Duration;

use deploykit::{
    Change, Deployer, MemoryStore, Outcome, Report, Result, Rolling, ServiceName, ServiceSpec,
};
use deploykit_testing::{Behaviour, World};
use flags::Flags;
use serde_json::json;

/// How many tasks work at a time.
const TASKS: u32 = 3;

fn main() -> ExitCode {
    let options = [
        ("--docker", "real containers instead of the imaginary world"),
        ("--bad", "a new version that crashes"),
        ("--json", "a last line for programs"),
    ];
    let flags = match Flags::read("Replaces a worker, task by task.", &options) {
        Ok(flags) => flags,
        Err(code) => return code,
    };
    let report = if flags.has("--docker") { on_docker(&flags) } else { in_the_world(&flags) };
    match report {
        Ok(report) => {
            if flags.has("--json") {
                let seconds = report.duration().as_secs_f64();
                let (outcome, why) = (report.outcome.name(), &report.why);
                println!("{}", json!({ "outcome": outcome, "why": why, "seconds": seconds }));
            }
            ExitCode::from(report.outcome.exit_code())
        }
        Err(error) => {
            eprintln!("error: {}", error.report());
            ExitCode::FAILURE
        }
    }
}

/// The same for both: version 1 is there, then version 2 comes. What differs is only the deployer, and what the images are
/// called.
async fn replace(deployer: &Deployer, work: &ServiceName, images: [&str; 2]) -> Result<Report> {
    let [before, after] = images;
    // No port: ready is what runs. It gets SIGTERM, and so long to put its work back.
    let spec = ServiceSpec::worker().with_stop_grace(Duration::from_secs(5));
    let strategy = Rolling::start_first()
        .min_ready(Duration::from_secs(3))
        .healthy_within(Duration::from_secs(30));

    let first = Change::to(before).with_spec(spec).with_replicas(TASKS);
    let plan = deployer.plan(work, &strategy, first).await?;
    let report = deployer.deploy(plan).await?.await?;
    println!("{before}: {}\n", report.outcome);
    if report.outcome != Outcome::Promoted {
        return Ok(report);
    }

    let plan = deployer.plan(work, &strategy, Change::to(after)).await?;
    println!("{plan}\n");
    let mut rollout = deployer.deploy(plan).await?;
    let mut updates = rollout.updates();
    let shown = async {
        while let Some(update) = updates.next().await {
            println!("{}", update.kind);
        }
    };
    let (report, ()) = tokio::join!(rollout.into_future(), shown);
    let report = report?;
    println!("\n{report}");
    Ok(report)
}

// Paused: time passes when everybody waits, and then at once.
#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn in_the_world(flags: &Flags) -> Result<Report> {
    let world = World::new(1);
    let second = if flags.has("--bad") { Behaviour::good().crashes() } else { Behaviour::good() };
    world.image("work:1", Behaviour::good())?;
    world.image("work:2", second)?;
    let deployer = Deployer::builder()
        .registry(world.registry())
        .orchestrator(world.orchestrator())
        .without_balancer()
        .store(MemoryStore::new())
        .clock(world.clock())
        .build();
    let work = ServiceName::new("work")?;
    let report = replace(&deployer, &work, ["work:1", "work:2"]).await?;
    println!("\nWhat runs now\n\n{}", world.snapshot(&work));
    Ok(report)
}

#[cfg(feature = "docker")]
#[tokio::main]
async fn on_docker(flags: &Flags) -> Result<Report> {
    use deploykit::Orchestrator;
    use deploykit::docker::{Docker, Engine, LocalImages};

    let second =
        if flags.has("--bad") { "deploykit/testbed:crash" } else { "deploykit/testbed:good-b" };
    let engine = Engine::connect().await?;
    let docker = Docker::new(engine.clone());
    let deployer = Deployer::builder()
        .registry(LocalImages::new(engine))
        .orchestrator(docker.clone())
        .without_balancer()
        .store(MemoryStore::new())
        .build();
    // Two runs at once do not meet.
    let work = ServiceName::new(format!("work-x{}", std::process::id()))?;
    let replaced = replace(&deployer, &work, ["deploykit/testbed:good", second]).await;

    println!("\nWhat ran at the end, and is removed now\n");
    for place in docker.observe(&work).await?.places {
        println!("place {}: {} tasks of {}", place.place, place.tasks.len(), place.revision);
        docker.retire(&work, place.place).await?;
    }
    replaced
}

#[cfg(not(feature = "docker"))]
fn on_docker(_: &Flags) -> Result<Report> {
    Err(deploykit::Error::new(deploykit::ErrorKind::Unsupported, "built without Docker")
        .with_hint("cargo run --example worker --features docker -- --docker"))
}
