//! A first look: a service in an imaginary world gets a new version, then a bad one, which goes back by itself.
//!
//! ```text
//! cargo run --example quickstart
//! ```
//!
//! Nothing is needed for it: registry, tasks, load balancer, requests and time are those of the testing crate's world.
//! Against real providers the same few lines do the same. `--json` adds a last line for programs.

#![allow(clippy::print_stdout, reason = "a program that shows something")]

#[path = "shared/bars.rs"]
mod bars;
#[path = "shared/json.rs"]
mod json;
#[path = "shared/view.rs"]
mod view;

use std::process::ExitCode;
use std::time::Duration;

use deploykit::{
    BlueGreen, Change, Deployer, GateUse, Judge, MemoryStore, Outcome, Report, Result, ServiceName,
    Weight,
};
use deploykit_testing::{Behaviour, Tally, Traffic, World};
use serde_json::Value;
use view::View;

/// A person sees four seconds of the world in one.
const PAUSE: Duration = Duration::from_millis(25);

// Paused: time passes when everybody waits, and then at once.
#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<ExitCode> {
    // A world in which version 1 of `web` runs in four tasks. The registry has two newer ones; the last is bad.
    let world = World::new(1);
    world.image("web:1", Behaviour::good())?;
    world.image("web:2", Behaviour::good().starts_in(Duration::from_millis(1_200)))?;
    world.image("web:3", Behaviour::good().errors_after_first_live_request())?;
    let web = world.already_runs("web", "web:1", 4)?;

    // Who deploys: the providers, a store for what is decided, and gates under the names that plans use.
    let deployer = Deployer::builder()
        .registry(world.registry())
        .orchestrator(world.orchestrator())
        .balancer(world.balancer())
        .store(MemoryStore::new())
        .gate("smoke", world.http_gate("/health"))
        .gate("errors", world.http_gate("/").live())
        .clock(world.clock())
        .build();

    // How: beside the old version, tested before anybody sees it, then step by step under the eyes of a gate.
    let errors =
        GateUse::new("errors").with_judge(Judge::new().with_interval(Duration::from_millis(250)));
    let strategy = BlueGreen::new()
        .validate(["smoke"])
        .shift_in([Weight::percent(10)?, Weight::percent(50)?], Duration::from_secs(5))
        .watch([errors])
        .bake(Duration::from_secs(10));

    println!("The new version, web:2\n");
    let (good, good_load) = deploy(&world, &deployer, &web, &strategy, "web:2").await?;
    println!(
        "\nA bad version, web:3: it answers its tests, then one request, and fails all others\n"
    );
    let (bad, bad_load) = deploy(&world, &deployer, &web, &strategy, "web:3").await?;

    println!("\nWhat runs now\n\n{}", world.snapshot(&web));
    println!(
        "\nNext, the same with real containers behind HAProxy:\n  \
         cargo xtask parts\n  \
         cargo run --example docker --features docker,http-gate,load,signals -- --help"
    );
    if std::env::args().any(|argument| argument == "--json") {
        let mut object = json::summary(&good, &good_load);
        object.insert("bad_version".to_owned(), json::summary(&bad, &bad_load).into());
        println!("{}", Value::Object(object));
    }
    let as_it_should = good.outcome == Outcome::Promoted && bad.outcome == Outcome::RolledBack;
    Ok(if as_it_should { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Deploys one image while people use the service, and shows all of it.
async fn deploy(
    world: &World,
    deployer: &Deployer,
    web: &ServiceName,
    strategy: &BlueGreen,
    image: &str,
) -> Result<(Report, Tally)> {
    // Planning changes nothing; what is printed here is what runs below.
    let plan = deployer.plan(web, strategy, Change::to(image)).await?;
    println!("{plan}\n");

    let traffic = world.start_traffic(web, Traffic::per_second(100));
    let balancer = world.balancer();
    let view = View::new(web, &balancer, PAUSE);
    let counts = || {
        let tally = traffic.tally();
        (tally.requests, tally.failed)
    };
    let mut rollout = deployer.deploy(plan).await?;
    let updates = rollout.updates();
    let (report, ()) = tokio::join!(rollout.into_future(), view.follow(updates, counts));
    let report = report?;

    println!("\nWhere the time went\n\n{report}\n");
    let tally = traffic.stop().await;
    println!("What became of the requests\n\n{tally}");
    Ok((report, tally))
}
