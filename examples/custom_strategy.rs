//! A strategy of your own: one task of the new version first, then somebody is asked, then the rest follows. And a plan that
//! is written down step by step.
//!
//! ```text
//! cargo run --example custom_strategy
//! ```
//!
//! It runs in an imaginary world, offline and in no time. `--bad` brings a version that fails its first users, `--json`
//! adds a last line for programs.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that shows something")]

#[path = "shared/bars.rs"]
mod bars;
#[path = "shared/flags.rs"]
mod flags;
#[path = "shared/json.rs"]
mod json;
#[path = "shared/view.rs"]
mod view;

use std::process::ExitCode;
use std::time::Duration;

use deploykit::{
    Approval, ApprovalRequest, Approver, Change, Context, Deployer, Draft, Error, ErrorKind,
    MemoryStore, Outcome, Plan, Report, Result, Roll, ServiceName, Strategy, Weight, async_trait,
};
use deploykit_testing::{Behaviour, Tally, Traffic, World};
use flags::Flags;
use serde_json::Value;
use view::View;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// One task of the new version gets its share of the requests and is watched. When somebody has approved, the others
/// follow.
#[derive(Debug)]
struct OneFirst {
    watch: Duration,
    approval: Duration,
}

impl Strategy for OneFirst {
    fn name(&self) -> &str {
        "one-first"
    }

    /// Nothing is called here, and nothing changes: from what the service is today to steps.
    fn draft(&self, context: &Context) -> Result<Draft> {
        if context.balancer.is_none() {
            return Err(Error::new(ErrorKind::Unsupported, "one-first needs a balancer")
                .with_hint("roll a worker"));
        }
        let everything =
            |draft: Draft| draft.launch(Weight::ALL).await_healthy(MINUTE).shift(Weight::ALL);
        if context.stable.is_none() || context.desired == 1 {
            // There is nobody to share with; the first of one is all of them.
            let draft = everything(Draft::new()).soak(self.watch, ["errors"]).promote();
            return Ok(match context.stable {
                None => draft,
                Some(_) => draft.retire(MINUTE),
            });
        }
        let one = Weight::ratio(1, context.desired)?;
        let draft = Draft::new()
            .launch(one)
            .await_healthy(MINUTE)
            .shift(one)
            .soak(self.watch, ["errors"])
            .approve_by("desk", self.approval);
        Ok(everything(draft).soak(self.watch, ["errors"]).promote().retire(MINUTE))
    }
}

/// Asks people. This one has somebody who always says yes; yours sends a message and waits for the answer.
#[derive(Debug)]
struct Desk;

#[async_trait]
impl Approver for Desk {
    async fn ask(&self, request: &ApprovalRequest) -> Result<Approval> {
        tokio::time::sleep(5 * SECOND).await;
        println!("            the desk: {} may serve everybody", request.release);
        Ok(Approval::Approved { by: "the desk".to_owned() })
    }
}

// Paused: time passes when everybody waits, and then at once.
#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> ExitCode {
    let options =
        [("--bad", "a new version that fails its first users"), ("--json", "a last line")];
    let flags = match Flags::read("A strategy of your own, and a plan step by step.", &options) {
        Ok(flags) => flags,
        Err(code) => return code,
    };
    match run(&flags).await {
        Ok(outcome) => ExitCode::from(outcome.exit_code()),
        Err(error) => {
            eprintln!("error: {}", error.report());
            ExitCode::FAILURE
        }
    }
}

async fn run(flags: &Flags) -> Result<Outcome> {
    // A world in which version 1 of `web` runs in four tasks.
    let world = World::new(1);
    let second = match flags.has("--bad") {
        true => Behaviour::good().errors_after_first_live_request(),
        false => Behaviour::good(),
    };
    world.image("web:1", Behaviour::good())?;
    world.image("web:2", second)?;
    world.image("web:3", Behaviour::good())?;
    let web = world.already_runs("web", "web:1", 4)?;

    let deployer = Deployer::builder()
        .registry(world.registry())
        .orchestrator(world.orchestrator())
        .balancer(world.balancer())
        .store(MemoryStore::new())
        .gate("errors", world.http_gate("/").live())
        .approver("desk", Desk)
        .clock(world.clock())
        .build();

    println!("web:2, by a strategy of our own\n");
    let strategy = OneFirst { watch: 10 * SECOND, approval: 5 * MINUTE };
    let plan = deployer.plan(&web, &strategy, Change::to("web:2")).await?;
    let (report, load) = deploy(&world, &deployer, &web, plan).await?;
    let mut object = json::summary(&report, &load);
    let mut outcome = report.outcome;

    if outcome == Outcome::Promoted {
        println!("\nweb:3, by steps that are written down for this one time\n");
        let steps = Draft::new().roll(Roll::new(2, 0)).soak(10 * SECOND, ["errors"]).promote();
        let plan = deployer.plan(&web, &steps.retire(MINUTE), Change::to("web:3")).await?;
        let (report, load) = deploy(&world, &deployer, &web, plan).await?;
        object.insert("by_steps".to_owned(), json::summary(&report, &load).into());
        outcome = report.outcome;
    }
    println!("\nWhat runs now\n\n{}", world.snapshot(&web));
    if flags.has("--json") {
        println!("{}", Value::Object(object));
    }
    Ok(outcome)
}

/// Carries a plan out while people use the service, and shows all of it.
async fn deploy(
    world: &World,
    deployer: &Deployer,
    web: &ServiceName,
    plan: Plan,
) -> Result<(Report, Tally)> {
    println!("{plan}\n");
    let traffic = world.start_traffic(web, Traffic::per_second(100));
    let balancer = world.balancer();
    let view = View::new(web, &balancer, Duration::ZERO);
    let mut rollout = deployer.deploy(plan).await?;
    let updates = rollout.updates();
    let counts = || (traffic.tally().requests, traffic.tally().failed);
    let (report, ()) = tokio::join!(rollout.into_future(), view.follow(updates, counts));
    let (report, tally) = (report?, traffic.stop().await);
    println!("\n{report}\n\nWhat became of the requests\n\n{tally}");
    Ok((report, tally))
}
