use std::fmt;

use super::{Amount, FORMAT, HookUse, JobUse, Plan, Step, newer};
use crate::error::{Error, ErrorKind, Result};
use crate::name::Role;
use crate::provider::{BalancerCapability, OrchestratorCapability, Point};
use crate::routing::{Routing, Weight};

/// More steps than anybody reads; a canary in steps of 0.1 % has fewer.
const MOST_STEPS: usize = 10_000;
/// More tasks than any one service has; ECS allows 5,000.
const MOST_TASKS: u32 = 100_000;

/// How far the steps have come while they are checked.
struct Walk<'a> {
    plan: &'a Plan,
    balancer: Option<BalancerCapability>,
    launched: bool,
    /// The greatest share launched so far.
    share: Weight,
    healthy: bool,
    test_open: bool,
    tested: bool,
    /// The share of the requests so far; none before the first shift.
    weight: Option<Weight>,
    /// Whether the step before waits for whoever holds the control.
    asked: bool,
    promoted: bool,
    ended: bool,
    held_gone: bool,
}

impl Plan {
    /// Checks that the steps lead somewhere, and that the providers can do them. [`Deployer`](crate::Deployer) checks
    /// what it makes and what it is given.
    ///
    /// # Errors
    /// `Invalid` or `Unsupported`, naming the step; `Newer` for a form of a later version.
    pub fn check(
        &self,
        orchestrator: OrchestratorCapability,
        balancer: Option<BalancerCapability>,
    ) -> Result<()> {
        if self.format != FORMAT {
            return Err(newer("plan", self.format));
        }
        self.check_world(orchestrator, balancer)?;
        if self.is_noop() {
            let same =
                self.before.as_ref().is_some_and(|before| before.digest() == self.release.digest());
            return if same { Ok(()) } else { Err(Error::invalid("the plan has no steps")) };
        }
        if self.steps.len() > MOST_STEPS {
            let steps = self.steps.len();
            return Err(Error::invalid(format!(
                "the plan has {steps} steps, and {MOST_STEPS} is the most"
            )));
        }
        let mut walk = Walk {
            plan: self,
            balancer,
            launched: self.from_held,
            share: if self.from_held { Weight::ALL } else { Weight::NONE },
            healthy: false,
            test_open: false,
            tested: false,
            weight: None,
            asked: false,
            promoted: false,
            ended: false,
            held_gone: false,
        };
        for (index, step) in self.steps.iter().enumerate() {
            walk.step(step)
                .map_err(|e| e.within(format_args!("step {} ({})", index + 1, step.name())))?;
        }
        self.check_hooks()?;
        self.check_jobs(orchestrator)?;
        if !walk.promoted {
            return Err(Error::invalid("the plan has no end: no step promotes the candidate")
                .with_hint("end it with promote, then hold or retire"));
        }
        if !walk.ended && self.world.stable.is_some() {
            return Err(Error::invalid(
                "the plan has no end: nobody owns the old place after promote",
            )
            .with_hint("end it with hold or retire"));
        }
        Ok(())
    }

    fn check_hooks(&self) -> Result<()> {
        for HookUse { point, hook, within } in &self.hooks {
            if within.is_zero() {
                return Err(Error::invalid(format!("hook {hook} has no time to run"))
                    .with_hint("give with_hook a time limit above zero"));
            }
            self.check_point(format_args!("hook {hook}"), *point)?;
        }
        Ok(())
    }

    fn check_jobs(&self, orchestrator: OrchestratorCapability) -> Result<()> {
        for (index, JobUse { point, job }) in self.jobs.iter().enumerate() {
            let name = &job.name;
            if !orchestrator.jobs {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("job {name}: the orchestrator runs no jobs"),
                )
                .with_hint("run it as a hook, or before the rollout"));
            }
            job.check(&self.release)?;
            if self.jobs.iter().take(index).any(|other| other.job.name == *name) {
                return Err(Error::invalid(format!("two jobs are called {name}"))
                    .with_hint("give each its own name, also at different points"));
            }
            self.check_point(format_args!("job {name}"), *point)?;
        }
        Ok(())
    }

    /// A hook that never runs is a test that never fails.
    fn check_point(&self, what: fmt::Arguments<'_>, point: Point) -> Result<()> {
        let points = self.all_points();
        let has_nothing_to_do = match point {
            Point::OnUndo | Point::OnUndone => true,
            Point::CleanUp => self.world.stable.is_none(),
            Point::PreScaleUp => self.from_held,
            _ => false,
        };
        if points.contains(&point) || has_nothing_to_do {
            return Ok(());
        }
        let points: Vec<_> = points.iter().map(Point::to_string).collect();
        Err(Error::invalid(format!("{what} would never run: the plan does not come to {point}"))
            .with_hint(format!("it comes to {}", points.join(", "))))
    }

    fn check_world(
        &self,
        orchestrator: OrchestratorCapability,
        balancer: Option<BalancerCapability>,
    ) -> Result<()> {
        let world = &self.world;
        if self.replicas == Some(0) {
            return Err(Error::invalid("replicas is 0")
                .with_hint("ask for at least one task; a service is not removed by deploying it"));
        }
        let desired = self.desired();
        if desired > MOST_TASKS {
            return Err(Error::invalid(format!(
                "{desired} tasks are asked for, and {MOST_TASKS} is the most"
            )));
        }
        self.release.spec.check()?;
        if !orchestrator.sidecars && !self.release.sidecars.is_empty() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the orchestrator runs one container for each task, and the release has sidecars",
            ));
        }
        if balancer.is_some() == (world.routing == Routing::None) {
            return Err(Error::new(
                ErrorKind::StalePlan,
                "the plan was made with a balancer where there is none now, or without one where there is one",
            ));
        }
        if balancer.is_some() && self.release.spec.port.is_none() {
            return Err(Error::invalid(
                "service spec: port is missing, and the deployer has a balancer",
            )
            .with_hint("give the port, or build the deployer without_balancer for a worker"));
        }
        if self.candidate.index() >= orchestrator.places {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "the candidate's place {} is beyond the {} that the orchestrator has",
                    self.candidate, orchestrator.places
                ),
            ));
        }
        let held_here = world.held.as_ref().is_some_and(|held| held.place == self.candidate);
        let retires_first =
            matches!(self.steps.first(), Some(Step::Retire { role: Role::Held, .. }));
        if self.from_held != (held_here && !retires_first) && !self.is_noop() {
            return Err(Error::invalid(format!(
                "from_held is {}, and place {} is {}held",
                self.from_held,
                self.candidate,
                if held_here { "" } else { "not " }
            )));
        }
        if !self.is_noop()
            && world.stable.as_ref().is_some_and(|stable| stable.place == self.candidate)
        {
            return Err(Error::invalid(format!(
                "the candidate's place {} is the one that serves",
                self.candidate
            )));
        }
        Ok(())
    }
}

impl Walk<'_> {
    fn step(&mut self, step: &Step) -> Result<()> {
        let balancer = self.balancer;
        let wrong = |why: &str| Err(Error::invalid(why));
        let unsupported = |why: &str| Err(Error::new(ErrorKind::Unsupported, why));
        if self.ended {
            return wrong("comes after the end");
        }
        if self.promoted && !matches!(step, Step::Hold { .. } | Step::Retire { .. }) {
            return wrong("comes after promote, where only hold or retire can");
        }
        let asked = std::mem::take(&mut self.asked);
        for gate in step.gates() {
            gate.judge.check(gate.gate.as_str())?;
        }
        match step {
            Step::Launch { share } => {
                if *share == Weight::NONE {
                    return wrong("launches nothing");
                }
                if self.plan.from_held {
                    return wrong("launches a place that still runs");
                }
                self.launched = true;
                self.healthy = false;
                self.share = self.share.max(*share);
            }
            Step::AwaitHealthy { within } => {
                if !self.launched {
                    return wrong("waits for what was never launched");
                }
                if within.is_zero() {
                    return wrong("waits for no time at all");
                }
                self.healthy = true;
            }
            Step::OpenTest => {
                if !balancer.is_some_and(|b| b.test_route) {
                    return unsupported("the balancer has no test route to the service");
                }
                if !self.healthy {
                    return wrong("opens a test route to what was not awaited healthy");
                }
                if self.test_open {
                    return wrong("the test route is open already");
                }
                self.test_open = true;
                self.tested = true;
            }
            Step::CloseTest => {
                if !self.test_open {
                    return wrong("the test route is not open");
                }
                self.test_open = false;
            }
            Step::Validate { gates } => {
                if gates.is_empty() {
                    return wrong("has no gate");
                }
                if !self.healthy {
                    return wrong("measures what was not awaited healthy");
                }
                if self.plan.steps.contains(&Step::OpenTest) && !self.tested {
                    return wrong(
                        "measures before the test route is open, where gates cannot reach the candidate",
                    );
                }
            }
            Step::Shift { weight } => {
                let Some(balancer) = balancer else {
                    return unsupported("there is no balancer to shift");
                };
                if !self.healthy {
                    return wrong("shifts requests to what was never launched and awaited healthy");
                }
                let before = self.weight.unwrap_or(Weight::NONE);
                if *weight == Weight::NONE || *weight < before {
                    return Err(Error::invalid(format!(
                        "takes the candidate's share from {before} to {weight}"
                    ))
                    .with_hint("let the shares grow; going back is the undo's business"));
                }
                if self.share < *weight {
                    return wrong(
                        "sends a greater share of the requests than the share of tasks that was launched",
                    );
                }
                if *weight != Weight::ALL && !balancer.weighted {
                    return unsupported("the balancer cannot split requests by weight");
                }
                self.weight = Some(*weight);
            }
            Step::Soak { time, .. } => {
                if !self.healthy {
                    return wrong("watches what was not awaited healthy");
                }
                if time.is_zero() {
                    return wrong("soaks for no time at all");
                }
            }
            Step::Roll(roll) => {
                if self.launched {
                    return wrong("rolls what was launched already");
                }
                if self.plan.world.stable.is_none() {
                    return wrong("has nothing to replace; a first deployment launches");
                }
                if roll.surge.is_zero() && roll.unavailable.is_zero() {
                    return Err(Error::invalid(
                        "surge and unavailable are both zero, so that no task could ever be replaced",
                    )
                    .with_hint("set one of them to 1 at least"));
                }
                for (name, amount) in [("surge", roll.surge), ("unavailable", roll.unavailable)] {
                    if let Amount::Percent(percent) = amount {
                        Amount::percent(percent).map_err(|e| e.within(name))?;
                    }
                }
                if roll.within.is_zero() {
                    return wrong("waits for no time at all");
                }
                if !roll.gates.is_empty() && roll.min_ready.is_zero() {
                    return wrong("has gates, and min_ready leaves no time to measure them");
                }
                if roll.pooled && balancer.is_some_and(|balancer| !balancer.pooled) {
                    return unsupported("the balancer has no pooled routing");
                }
                if !roll.pooled && balancer.is_some_and(|balancer| !balancer.weighted) {
                    return unsupported(
                        "the balancer cannot split requests by weight; roll pooled",
                    );
                }
                (self.launched, self.healthy) = (true, true);
                (self.weight, self.share) = (Some(Weight::ALL), Weight::ALL);
            }
            Step::Approve { approver, within, gates } => {
                if approver.is_none() && asked {
                    return wrong(
                        "waits for an approval right after one like it, and a second word may be meant for the first: name the approvers",
                    );
                }
                self.asked = approver.is_none();
                if within.is_zero() {
                    return wrong("waits for no time at all");
                }
                if !gates.is_empty() && !self.healthy {
                    return wrong("measures what was not awaited healthy");
                }
            }
            Step::Promote => {
                if !self.healthy {
                    return wrong("promotes what was never launched and awaited healthy");
                }
                if balancer.is_some() && self.weight != Some(Weight::ALL) {
                    return wrong("promotes a candidate that does not get all requests");
                }
                if self.share != Weight::ALL {
                    return wrong("promotes a candidate that was launched in part");
                }
                if self.test_open {
                    return wrong("promotes while the test route is open");
                }
                self.promoted = true;
            }
            Step::Hold { .. } => {
                if !self.promoted {
                    return wrong("holds before promote");
                }
                self.ended = true;
            }
            Step::Retire { role, .. } => {
                if *role != Role::Held {
                    return wrong("retires a place that is not held");
                }
                // Before promote it removes what an earlier rollout left; afterwards it is the end.
                if !self.promoted && self.held_gone {
                    return wrong("retires what was retired");
                }
                if !self.promoted && self.plan.from_held {
                    return wrong("retires the candidate");
                }
                self.held_gone = true;
                self.ended = self.promoted;
            }
        }
        Ok(())
    }
}
