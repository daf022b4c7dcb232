//! Replaces a real HTTP service, in containers behind HAProxy, from a registry, under load, and counts what is lost.
//!
//! ```text
//! cargo xtask parts
//! cargo run --example docker --features docker,http-gate,load,signals -- --replicas 4 --requests 20000
//! ```
//!
//! The deployment itself is in [`deployment`] and [`replace`]; the rest makes the surroundings and measures.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that shows something")]

mod arguments;
#[path = "../shared/bars.rs"]
mod bars;
mod beside;
mod clients;
mod deployment;
#[path = "../shared/engine.rs"]
mod engine;
mod floor;
#[path = "../shared/json.rs"]
mod json;
mod signals;
#[path = "../shared/site.rs"]
mod site;
#[path = "../shared/view.rs"]
mod view;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use deploykit::docker::HaProxy;
use deploykit::testing::load::Load;
use deploykit::{Change, LoadBalancer, Outcome, Report, Result, Signals, Weight};
use deploykit_testing::Tally;
use serde_json::{Map, Value, json};

use arguments::{Arguments, HELP, Refused};
use beside::Pair;
use deployment::{deployer, service, strategy};
use signals::{unless_asked, unless_interrupted};
use site::Site;
use view::{View, say};
use watch::Watch;

/// The test service; its other images are `good-b` and those that are bad.
const GOOD: &str = "deploykit/testbed:good";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(Refused::Help) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(Refused::Wrong(why)) => {
            eprintln!("{why}; --help shows all options");
            return ExitCode::from(2);
        }
    };
    match run(&arguments).await {
        Ok(ending) => {
            if arguments.json {
                println!("{}", Value::Object(ending.json));
            }
            ExitCode::from(ending.exit_code)
        }
        Err(error) => {
            eprintln!("error: {}", error.report());
            if arguments.json {
                println!("{}", json!({ "error": error.report() }));
            }
            ExitCode::FAILURE
        }
    }
}

/// What came of it all.
struct Ending {
    exit_code: u8,
    json: Map<String, Value>,
}

impl Ending {
    fn new(report: Report, load: &Tally, floor: Duration) -> Self {
        let mut json = json::summary(&report, load);
        json.insert("floor_seconds".into(), json::seconds(floor));
        Self { exit_code: report.outcome.exit_code(), json }
    }

    fn with(mut self, name: &str, value: Value) -> Self {
        self.json.insert(name.to_owned(), value);
        self
    }
}

/// How long undoing may take.
const UNDO: Duration = Duration::from_secs(600);

async fn run(arguments: &Arguments) -> Result<Ending> {
    let mut signals = Signals::catch()?;
    let site = Site::choose().await?;
    let ending = measure(arguments, &site, &mut signals).await;
    say("\nremoving what was made for this run");
    let cleaned = site.clean().await;
    let ending = ending?;
    cleaned.map(|()| ending)
}

/// Makes the surroundings, and then what was asked for.
async fn measure(arguments: &Arguments, site: &Site, signals: &mut Signals) -> Result<Ending> {
    let candidate = match arguments.bad {
        None => "deploykit/testbed:good-b".to_owned(),
        Some(bad) => format!("deploykit/testbed:{bad}"),
    };
    let haproxy = site.start_haproxy().await?;
    let repository = site.start_registry(&[(GOOD, "a"), (&candidate, "b")]).await?;
    say(&format!("HAProxy is there, and a registry with both versions of {repository}"));
    if arguments.split.is_none() && arguments.sticky.is_none() {
        return replace(arguments, site, &haproxy, &repository, signals).await;
    }
    let counted = async {
        let pair = Pair::start(arguments, site, &haproxy, &repository).await?;
        match (arguments.split, arguments.sticky) {
            (_, Some(by)) => pair.sticky(by).await,
            (share, None) => pair.split(share.unwrap_or(Weight::NONE), arguments).await,
        }
    };
    Ok(Ending { exit_code: 0, json: unless_interrupted(signals, counted).await? })
}

/// Deploys version A, puts load on it, and replaces it by version B.
async fn replace(
    arguments: &Arguments,
    site: &Site,
    haproxy: &HaProxy,
    repository: &str,
    signals: &mut Signals,
) -> Result<Ending> {
    let replicas = arguments.replicas;
    let floor = floor::measure(&site.bare, GOOD, &site.network, replicas).await?;

    let (deployer, strategy) = (deployer(site, haproxy)?, strategy(arguments.strategy)?);
    let first =
        Change::to(format!("{repository}:a")).with_spec(service("A")).with_replicas(replicas);
    let plan = deployer.plan(&site.service, &*strategy, first).await?;
    let report = signals.steer(deployer.deploy(plan).await?, UNDO).await?;
    say(&format!("version A: {} in {:.1} s", report.outcome, report.duration().as_secs_f64()));
    if report.outcome != Outcome::Promoted {
        say(&format!("\n{report}"));
        return Ok(Ending::new(report, &Tally::new(), floor));
    }

    let entry =
        haproxy.observe(&site.service).await?.entry.map(|entry| entry.url).unwrap_or_default();
    say(&format!("{} requests per second to {entry}\n", arguments.load));
    let load = Load::new(entry).with_rate(arguments.load).start().await?;
    // A second of them before anything changes.
    load.at_least(arguments.load.into()).await;

    let next = Change::to(format!("{repository}:b")).with_env("VERSION", "B");
    let plan = deployer.plan(&site.service, &*strategy, next).await?;
    say(&format!("{plan}\n"));
    // No strategy here lets a task be missing.
    let bounds = (replicas, plan.estimate().peak_tasks);
    let watch = Watch::keep(&site.bare, haproxy, &site.service);
    let view = View::new(&site.service, haproxy, Duration::ZERO);
    let mut rollout = deployer.deploy(plan).await?;
    let shown = view.follow(rollout.updates(), || (load.requests(), load.failed()));
    let (report, ()) = tokio::join!(signals.steer(rollout, UNDO), shown);
    let report = report?;

    say(&format!("\ngoing on until {} requests were sent", arguments.requests));
    unless_asked(signals, load.at_least(arguments.requests)).await;
    let requests = load.stop().await;
    let seen = watch.end().await?;
    let state = haproxy.observe(&site.service).await?;
    let tally = &requests.tally;
    let share = 100.0 * tally.failed as f64 / tally.requests.max(1) as f64;
    say(&format!("\n{report}\n\n{share:.2} % have failed: {tally}"));
    say(&seen.text(bounds));
    say(&format!("routing afterwards: {}", state.routing));
    say(&format!("the Engine alone takes {:.1} s for such containers", floor.as_secs_f64()));

    Ok(Ending::new(report, tally, floor)
        .with("capacity", seen.json(bounds))
        .with("as_it_began", seen.ended_as_it_began().into())
        .with("late_seconds", json::seconds(Duration::from_millis(requests.late_ms))))
}
