//! Runs a case, and finds what is wrong with it.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use deploykit_core::{
    Change, Control, ErrorKind, Job, LoadBalancer, Orchestrator, Outcome, Place, Plan, Report,
    Rolling, Routing,
};
use deploykit_testing::{Snapshot, Tap, Traffic};
use futures::FutureExt;
use tokio::runtime::Builder;
use tokio::time::{sleep, timeout};

use crate::case::{Case, Deed, SECOND, ms};
use crate::checks::{self, Failure, Wrong, wrong};
use crate::sky::Sky;
use crate::stage::{Met, Stage};
use crate::storm::{Storm, Toll};

/// Longer than anything takes: a pause that nobody ends takes a day.
const PATIENCE: Duration = Duration::from_secs(30 * 3_600);
/// A deployer that died keeps its lease for so long.
const LEASE: Duration = Duration::from_secs(61);
/// More deployers than any case kills or keeps from working.
const ATTEMPTS: u32 = 40;
/// A lease may have to expire first.
const CLEANINGS: u32 = 12;
const MENDED: u32 = 3;
/// Faults that last for ever are over after so many.
const WEATHERED: u32 = 12;

/// What came of a case.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) found: Result<(), Failure>,
    /// How it ended, where it did.
    pub(crate) outcome: Option<&'static str>,
    pub(crate) met: Met,
    pub(crate) requests: u64,
    /// Those that nobody but the deployer can have lost.
    pub(crate) failed: u64,
    /// What happened, one event a line, where that was asked for.
    pub(crate) trace: String,
}

/// Runs a case on a clock of its own.
pub(crate) fn run(case: &Case, traced: bool) -> Run {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let sky = Arc::new(Sky::new(case));
        let storm = Storm::new(case, &sky.world, traced);
        let mut run = Run {
            found: Ok(()),
            outcome: None,
            met: Met::default(),
            requests: 0,
            failed: 0,
            trace: String::new(),
        };
        let ran = AssertUnwindSafe(Running::new(case, &sky, &storm).whole(&mut run));
        run.found = ran.catch_unwind().await.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            wrong(Wrong::Panicked, text.unwrap_or_else(|| "it panicked".to_owned()))
        });
        (run.met, run.trace) = storm.end();
        if traced {
            checks::add_calls(&mut run.trace, &sky.world);
        }
        run
    })
}

/// A case under way.
struct Running<'a> {
    case: &'a Case,
    sky: &'a Arc<Sky>,
    storm: &'a Storm,
    control: Arc<Mutex<Option<Control>>>,
    /// What the reports said, for whoever looks for the cause.
    told: String,
}

/// How one deployer's work ended.
enum Ended {
    Killed,
    NothingOpen,
    With(Box<Report>),
    Failed(deploykit_core::Error),
}

impl<'a> Running<'a> {
    fn new(case: &'a Case, sky: &'a Arc<Sky>, storm: &'a Storm) -> Self {
        Self { case, sky, storm, control: Arc::default(), told: String::new() }
    }

    async fn whole(mut self, run: &mut Run) -> Result<(), Failure> {
        let (case, sky) = (self.case, self.sky);
        let (world, web) = (&sky.world, &sky.web);
        let before = world.snapshot(web);
        let plan = match self.plan().await {
            Ok(plan) => plan,
            Err(error) => return wrong(Wrong::NoPlan, error.report()),
        };
        // What cannot be planned is not deployed.
        sky.narrow(case);
        let traffic =
            (!case.worker).then(|| world.start_traffic(web, Traffic::per_second(case.rate)));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let watcher = tokio::spawn({
            let (sky, seen) = (Arc::clone(sky), Arc::clone(&seen));
            async move {
                loop {
                    let now = (sky.world.now(), sky.capacity());
                    seen.lock().unwrap().push(now);
                    sky.changed(PATIENCE).await;
                }
            }
        });
        let deeds = tokio::spawn(self.deeds());
        let relief = tokio::spawn({
            let (sky, until) = (Arc::clone(sky), case.room.and_then(|room| room.until));
            async move {
                if let Some(until) = until {
                    sleep(ms(until)).await;
                    sky.make_room();
                }
            }
        });
        let began = world.now();
        let bound = checks::bound(case, &plan);
        let last = self.end(&plan, &before).await;
        deeds.abort();
        relief.abort();
        let at_end = world.now();
        let last = last?;
        run.outcome = last.as_ref().map(|report| report.outcome.name());
        let since = began.max(self.storm.last().unwrap_or_default());
        let took = at_end.saturating_sub(since);
        if took > bound && !case.is_over_full() {
            return self.wrong(Wrong::Late, format!("it took {took:?}, and {bound:?} is the most"));
        }
        sky.make_room();
        self.clean_up().await?;
        // What was registered last has been checked by then, and what somebody killed last runs again.
        sleep(SECOND * 20 + ms(case.registration_lag).max(ms(case.routing_lag))).await;
        watcher.abort();
        self.is_whole()?;
        let unsafe_ = checks::violations(case, world);
        if !unsafe_.is_empty() {
            return self.wrong(Wrong::Unsafe, unsafe_.join("\n  "));
        }
        if let Some(traffic) = traffic {
            let tally = traffic.stop().await;
            run.requests = tally.requests;
            if tally.failed > 0 && !case.may_lose() {
                run.failed = tally.failed;
                return self.wrong(Wrong::Lost, tally.to_string());
            }
        }
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        checks::bounds(case, &seen).or_else(|text| self.wrong(Wrong::Bounds, text))
    }

    async fn plan(&self) -> deploykit_core::Result<Plan> {
        let (case, sky) = (self.case, self.sky);
        let mut change = Change::to("web:2");
        if let Some(replicas) = case.replicas {
            change = change.with_replicas(replicas);
        }
        let strategy = case.way.strategy();
        let plan = sky.fresh().plan(&sky.web, &*strategy, change).await?;
        let mut plan = plan.with_on_orphan(case.orphan);
        let orchestrator = sky.world.orchestrator().capability();
        let balancer = (!case.worker).then(|| sky.world.balancer().capability());
        // What the plan never comes to is refused.
        let fits = |plan: &Plan| plan.check(orchestrator, balancer).is_ok();
        for (point, hook) in &case.hooks {
            let next = plan.clone().with_hook(*point, format!("{hook:?}"), SECOND * 10);
            plan = if fits(&next) { next } else { plan };
        }
        for (number, (point, _)) in case.jobs.iter().enumerate() {
            let job = Job::new(format!("job-{number}")).with_time_limit(SECOND * 30);
            let next = plan.clone().with_job(*point, job);
            plan = if fits(&next) { next } else { plan };
        }
        Plan::from_json(plan.to_json()?.as_bytes())
    }

    /// What people do meanwhile, each at its time.
    fn deeds(&self) -> impl Future<Output = ()> + Send + 'static {
        let (sky, storm, control) =
            (Arc::clone(self.sky), self.storm.clone(), Arc::clone(&self.control));
        let deeds = self.case.deeds.clone();
        async move {
            let (world, web) = (&sky.world, &sky.web);
            let began = world.now();
            for (at, deed) in deeds {
                sleep((began + ms(at)).saturating_sub(world.now())).await;
                storm.note(format!("DEED {deed:?}"));
                let steer = |ask: fn(&Control)| {
                    if let Some(control) = &*control.lock().unwrap() {
                        ask(control);
                    }
                };
                match deed {
                    Deed::Kill(place, nth) => drop(world.kill_task(web, place, nth)),
                    Deed::Scale(place, count) => drop(world.scale(web, place, count)),
                    Deed::Route(routing) => world.set_routing_by_someone_else(web, &routing),
                    Deed::Pause => steer(|control| control.pause("bob")),
                    Deed::Unpause => steer(|control| control.unpause("bob")),
                    Deed::Finish => steer(|control| control.finish_now("bob")),
                    Deed::Abort => steer(|control| control.abort("bob")),
                    Deed::Approve => steer(|control| control.approve("bob")),
                    Deed::Reject => steer(|control| control.reject("bob", "why not")),
                    Deed::Clock(ms) => world.set_clock_off(ms),
                    Deed::Rival => {
                        let rival = sky.fresh();
                        let change = Change::to("web:3");
                        if let Ok(rollout) = rival.rollout(web, &Rolling::new(), change).await {
                            drop(rollout.await);
                        }
                        drop(rival.recover(web).await);
                    }
                }
            }
        }
    }

    /// Lets one deployer after another work until nothing is open any more.
    async fn end(&mut self, plan: &Plan, before: &Snapshot) -> Result<Option<Report>, Failure> {
        let mut last = None;
        for attempt in 0..ATTEMPTS {
            if attempt == WEATHERED {
                self.storm.calm();
            }
            let stage = if attempt == 0 { Stage::Begin } else { Stage::Recover };
            let (tap, watch) = self.storm.tap(stage);
            let deployer = self.sky.deployer(&tap);
            let web = &self.sky.web;
            let work = async {
                let rollout = match attempt {
                    0 => Some(deployer.deploy(plan.clone()).await?),
                    _ => deployer.recover(web).await?,
                };
                let Some(mut rollout) = rollout else { return Ok(None) };
                watch.begin(rollout.updates());
                *self.control.lock().unwrap() = Some(rollout.control());
                rollout.await.map(Some)
            };
            let ended = tokio::select! {
                biased;
                () = tap.killed() => Ended::Killed,
                worked = timeout(PATIENCE, work) => match worked {
                    Ok(Ok(Some(report))) => Ended::With(Box::new(report)),
                    Ok(Ok(None)) => Ended::NothingOpen,
                    Ok(Err(error)) => Ended::Failed(error),
                    Err(_) => return self.wrong(Wrong::Hangs, "a deployer hangs"),
                },
            };
            self.storm.look(&watch);
            let toll = self.storm.toll();
            if let Err(text) = checks::routings(plan, &tap.mutations()) {
                return self.wrong(Wrong::Routing, text);
            }
            match ended {
                Ended::NothingOpen => return Ok(last),
                Ended::Killed => {
                    self.tell("killed");
                    sleep(LEASE).await;
                }
                Ended::With(report) => {
                    self.tell(&report);
                    let needs = report.outcome == Outcome::NeedsOperator;
                    self.is_so(&report, &toll, before)?;
                    last = Some(*report);
                    if !needs || (toll.is_calm() && attempt > 2) {
                        return Ok(last);
                    }
                    sleep(SECOND).await;
                }
                Ended::Failed(error) => {
                    self.tell(error.report());
                    // A lease that could not be given back, or a rival's.
                    let rival = error.kind() == ErrorKind::Conflict;
                    if attempt > 0 && toll.is_calm() && !rival {
                        return self.wrong(Wrong::Hangs, "it cannot be recovered");
                    }
                    // A rival may wait long for room, or for whoever paused.
                    let long =
                        if self.case.has(|deed| *deed == Deed::Pause) { LEASE * 50 } else { LEASE };
                    sleep(if rival { long } else { SECOND * 5 }).await;
                }
            }
        }
        self.wrong(Wrong::Hangs, "one deployer after another comes to no end")
    }

    /// Whether a report tells the truth.
    fn is_so(&self, report: &Report, toll: &Toll, before: &Snapshot) -> Result<(), Failure> {
        let case = self.case;
        if report.outcome == Outcome::NeedsOperator {
            if report.problems.is_empty() || report.advice().is_none() {
                return self.wrong(Wrong::Untrue, "needs an operator, and does not say why");
            }
            // A job that may have run twice is looked at by a person, whatever kept its deployer, and whenever.
            let job = |problem: &String| problem.contains("look for job");
            let unsure = report.problems.iter().all(job) && self.storm.has_struck();
            if toll.has_passed() && !unsure && !case.is_foreign() {
                return self.wrong(
                    Wrong::Unjustified,
                    "needs an operator, and nothing lasting was in the way",
                );
            }
            return Ok(());
        }
        if case.is_foreign() {
            return Ok(());
        }
        let now = self.sky.world.snapshot(&self.sky.web);
        checks::report(case, report, before, &now, !self.storm.has_struck())
            .or_else(|text| self.wrong(Wrong::Untrue, text))
    }

    /// Somebody without any trouble recovers what is left, and removes what is held.
    async fn clean_up(&mut self) -> Result<(), Failure> {
        let web = &self.sky.web;
        let deployer = self.sky.deployer(&Tap::new());
        let mut why = String::new();
        for attempt in 0..CLEANINGS {
            if attempt == MENDED && self.case.has(|deed| matches!(deed, Deed::Route(_))) {
                // The operator who is asked takes back what somebody else has set.
                let stable = deployer.status(web).await.ok().and_then(|status| status.stable);
                let place = stable.map_or(Place::A, |stable| stable.place);
                let routing = Routing::all_to(place);
                self.sky.world.set_routing_by_someone_else(web, &routing);
            }
            let cleaned = async {
                if let Some(rollout) = deployer.recover(web).await? {
                    let report = rollout.await?;
                    return Ok(Some(report));
                }
                deployer.settle_now(web).await.map(|_| None)
            };
            match timeout(PATIENCE, cleaned).await {
                Err(_) => return self.wrong(Wrong::Hangs, "a recovery hangs"),
                Ok(Ok(None)) => return Ok(()),
                Ok(Ok(Some(report))) => {
                    self.tell(&report);
                    why = report.to_string();
                }
                Ok(Err(error)) => {
                    why = error.report();
                    self.tell(&why);
                }
            }
            sleep(SECOND * 10).await;
        }
        // Nobody mends what somebody else goes on breaking.
        if self.case.is_foreign() || self.case.version.is_treacherous() {
            return Ok(());
        }
        self.wrong(Wrong::Hangs, format!("it cannot be cleaned up: {why}"))
    }

    /// Whether the service is all new or all old, and nothing is left.
    fn is_whole(&self) -> Result<(), Failure> {
        let case = self.case;
        match self.sky.whole(case.has(|deed| matches!(deed, Deed::Route(_)))) {
            Ok((place, count)) => {
                let old = place == Place::A;
                let wanted = if old { case.count } else { case.new_count() };
                let others = |deed: &Deed| matches!(deed, Deed::Scale(..) | Deed::Rival);
                if !case.has(others) && count != wanted {
                    let text = format!("{place} has {count} tasks and not {wanted}");
                    return self.wrong(Wrong::Unwhole, text);
                }
                Ok(())
            }
            // Nor does anybody bring back what somebody else has taken away afterwards.
            Err(_) if case.has(|deed| matches!(deed, Deed::Scale(_, 0))) => Ok(()),
            Err(_) if case.version.is_treacherous() => Ok(()),
            // Nor does the balancer know what finds room only when it is over, or what somebody registered while nobody could
            // see it.
            Err(_)
                if (case.room.is_some() || case.stale > 0)
                    && case.has(|deed| matches!(deed, Deed::Scale(..))) =>
            {
                Ok(())
            }
            Err(seen) => {
                self.wrong(Wrong::Unowned, format!("neither all new nor all old:\n{seen}"))
            }
        }
    }

    fn tell(&mut self, what: impl std::fmt::Display) {
        let text = what.to_string();
        // Without the table of its steps.
        let lines = text.lines().filter(|line| !line.starts_with("    "));
        let text: String = lines.map(|line| format!("{line}\n")).collect();
        self.storm.note(format!("ENDED {text}"));
        self.told += &text;
    }

    fn wrong<T>(&self, what: Wrong, why: impl Into<String>) -> Result<T, Failure> {
        let now = self.sky.world.snapshot(&self.sky.web);
        wrong(what, format!("{}\n--- told:\n{}--- there is now:\n{now}", why.into(), self.told))
    }
}
