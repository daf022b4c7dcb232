//! A whole pipeline in fifteen lines: an image gets into a registry, is deployed behind HAProxy, and is looked at as users
//! see it.
//!
//! ```text
//! cargo xtask parts
//! cargo run --example own_pipeline --features oci,http-gate
//! ```
//!
//! The same lines deploy a service for the first time and whenever there is a new version. They are those of [`pipeline`];
//! the rest makes a registry for this run, runs the pipeline for two versions, and removes everything. `--bad` brings a
//! second version that answers its users with errors, `--json` adds a last line for programs.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that shows something")]

#[path = "shared/engine.rs"]
mod engine;
#[path = "shared/flags.rs"]
mod flags;
#[path = "shared/site.rs"]
#[allow(dead_code, reason = "what only the docker example needs")]
mod site;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use deploykit::docker::{Docker, Engine, Frontend, HaProxy, OciRegistry};
use deploykit::{
    BlueGreen, Change, Deployer, DirectoryStore, HttpGate, Outcome, Publish, Registry, Report,
    Result, ServiceName, ServiceSpec,
};
use flags::Flags;
use serde_json::json;
use site::{HAPROXY_IMAGE as HAPROXY, Site};

const SECOND: Duration = Duration::from_secs(1);
/// Any free port of this machine, for port 8080 of HAProxy.
const PORT: &str = "127.0.0.1:0:8080";

/// Brings what was `built` into production. The other arguments are where.
async fn pipeline(
    (built, tag): (&str, &str),
    repository: &str,
    web: &ServiceName,
    network: &str,
    dir: &Path,
) -> Result<Report> {
    // The pipeline begins.
    let registry = OciRegistry::new().with_engine(Engine::connect().await?);
    let image = registry.publish(&Publish::image(built, repository, [tag])?).await?;
    let haproxy = HaProxy::builder().name(network).network(network).image(HAPROXY).publish(PORT);
    let haproxy = haproxy.state_dir(dir).service(web, &Frontend::new(8080)).start().await?;
    let deployer = Deployer::builder()
        .registry(registry)
        .orchestrator(Docker::connect().await?.with_network(network))
        .balancer(haproxy)
        .store(DirectoryStore::open(dir.join("rollouts"))?)
        .gate("smoke", HttpGate::new("/"))
        .gate("live", HttpGate::new("/").live())
        .build();
    let change = Change::to(&image).with_spec(ServiceSpec::http(8080, "/health"));
    let strategy = BlueGreen::new().validate(["smoke"]).watch(["live"]).bake(3 * SECOND);
    let report = deployer.rollout(web, &strategy, change).await?.await?;
    // The pipeline ends.
    Ok(report)
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = [
        ("--bad", "a second version that answers its users with errors"),
        ("--json", "a last line for programs"),
    ];
    let about = "Publishes, deploys and looks at two versions of a service, on Docker.";
    let flags = match Flags::read(about, &options) {
        Ok(flags) => flags,
        Err(code) => return code,
    };
    match run(&flags).await {
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

/// Both versions, in surroundings that are there for this run only.
async fn run(flags: &Flags) -> Result<Report> {
    let site = Site::choose().await?;
    let second = match flags.has("--bad") {
        true => "deploykit/testbed:errors",
        false => "deploykit/testbed:good-b",
    };
    let reports = async {
        let repository = site.start_registry(&[]).await?;
        println!("a registry is there, for {repository}\n");
        let with = async |built| {
            pipeline(built, &repository, &site.service, &site.network, &site.dir).await
        };
        let first = with(("deploykit/testbed:good", "1")).await?;
        println!("{first}\n");
        if first.outcome != Outcome::Promoted {
            return Ok(first);
        }
        let second = with((second, "2")).await?;
        println!("{second}\n");
        Ok(second)
    };
    let report = reports.await;
    println!("removing what was made for this run");
    site.clean().await?;
    report
}
