//! A case: what is deployed how, and what happens meanwhile.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use deploykit_core::{
    Amount, Approval, ApprovalRequest, Approver, BlueGreen, Canary, Change, Deployer, Error,
    ErrorKind, GateUse, Judge, Measurement, MemoryStore, OnOrphan, Outcome, Place, Plan, Point,
    Report, Rolling, Routing, ServiceName, Strategy, Weight, gate_fn, hook_fn,
};
use deploykit_testing::{Behaviour, Blow, Part, Snapshot, Tap, Traffic, World};
use tokio::time::{sleep, timeout};

use crate::dice::Dice;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(30 * 3_600);
const LEASE: Duration = Duration::from_secs(100);

#[derive(Debug)]
struct Answers(&'static str);

#[async_trait]
impl Approver for Answers {
    async fn ask(&self, _: &ApprovalRequest) -> deploykit_core::Result<Approval> {
        match self.0 {
            "yes" => Ok(Approval::Approved { by: "anna".into() }),
            "no" => Ok(Approval::Rejected { by: "anna".into(), why: "no".into() }),
            "late" => {
                sleep(Duration::from_secs(25)).await;
                Ok(Approval::Approved { by: "anna".into() })
            }
            "never" => std::future::pending().await,
            "away" => Err(Error::new(ErrorKind::Unavailable, "away")),
            "error" => Err(Error::new(ErrorKind::Denied, "denied")),
            _ => panic!("the approver panics on purpose"),
        }
    }
}
pub(crate) const ANSWERS: [&str; 7] = ["yes", "no", "late", "never", "away", "error", "panic"];

/// What happens at some time.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    Kill(Place, usize),
    Scale(Place, u32),
    Route(Routing),
    Pause,
    Unpause,
    Finish,
    Abort,
    Approve,
    Reject,
    Clock(i64),
    Rival,
}

#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) seed: u64,
    pub(crate) count: u32,
    pub(crate) worker: bool,
    pub(crate) strategy: Box<dyn Strategy>,
    /// Surge and unavailable of a rolling update.
    pub(crate) bounds: Option<(Amount, Amount)>,
    pub(crate) lag: Duration,
    pub(crate) version: &'static str,
    pub(crate) replicas: Option<u32>,
    pub(crate) hooks: Vec<(Point, &'static str)>,
    pub(crate) deeds: Vec<(Duration, Deed)>,
    pub(crate) blow: Option<(u64, u64, Blow, Part)>,
    pub(crate) orphan: OnOrphan,
}

fn behaviour(name: &str) -> Behaviour {
    let good = Behaviour::good();
    match name {
        "good" => good,
        "slow start" => good.starts_in(Duration::from_secs(7)),
        "slow stop" => good.stops_in(Duration::from_secs(8)),
        "crashes" => good.crashes(),
        "never ready" => good.never_ready(),
        "dies" => good.dies_after(Duration::from_secs(6)),
        "flaps" => good.flaps(Duration::from_secs(4), Duration::from_secs(3)),
        "flaps fast" => good.flaps(Duration::from_millis(700), Duration::from_millis(300)),
        _ => good.errors_after_first_live_request(),
    }
}

pub(crate) const VERSIONS: [&str; 9] = [
    "good",
    "slow start",
    "slow stop",
    "crashes",
    "never ready",
    "dies",
    "flaps",
    "flaps fast",
    "errors",
];

pub(crate) fn judge() -> Judge {
    Judge::new()
        .with_interval(Duration::from_millis(300))
        .with_successes(2)
        .with_deadline(Duration::from_secs(40))
}

pub(crate) struct Sky {
    pub(crate) world: World,
    pub(crate) web: ServiceName,
    store: MemoryStore,
    worker: bool,
}

impl Sky {
    pub(crate) fn new(case: &Case) -> Self {
        let world = World::new(case.seed);
        world.tune(|settings| {
            settings.call_time = Duration::from_millis(2);
            settings.routing_lag = case.lag;
        });
        world.image("web:1", Behaviour::good()).unwrap();
        world.image("web:2", behaviour(case.version)).unwrap();
        world.image("web:3", Behaviour::good()).unwrap();
        let web = world.already_runs("web", "web:1", case.count).unwrap();
        Self { world, web, store: MemoryStore::new(), worker: case.worker }
    }

    pub(crate) fn deployer(&self, tap: &Tap) -> Deployer {
        let world = &self.world;
        let turns = Arc::new(AtomicU32::new(0));
        let mut builder = Deployer::builder()
            .registry(world.registry())
            .orchestrator(tap.wrap(world.orchestrator()))
            .without_balancer()
            .store(tap.wrap(self.store.clone()))
            .clock(world.clock())
            .gate("live", world.http_gate("/").live())
            .gate("smoke", world.http_gate("/"))
            .gate("good", gate_fn(|_| async { Ok(Measurement::pass("good")) }))
            .gate("bad", gate_fn(|_| async { Ok(Measurement::fail("bad")) }))
            .gate("hangs", gate_fn(|_| std::future::pending()))
            .gate(
                "flips",
                gate_fn(move |_| {
                    let turn = turns.fetch_add(1, Ordering::SeqCst);
                    async move {
                        match turn % 5 {
                            0 | 1 | 3 => Ok(Measurement::pass("good")),
                            2 => Ok(Measurement::inconclusive("who knows")),
                            _ => Err(Error::new(ErrorKind::Unavailable, "away")),
                        }
                    }
                }),
            )
            .hook("ok", hook_fn(|_| async { Ok(()) }))
            .hook(
                "slow",
                hook_fn(|_| async {
                    sleep(SECOND * 3).await;
                    Ok(())
                }),
            )
            .hook("fails", hook_fn(|_| async { Err(Error::invalid("it is Friday")) }))
            .hook("panics", hook_fn(|_| async { panic!("the hook panics on purpose") }))
            .hook("hangs", hook_fn(|_| std::future::pending()));
        for name in ANSWERS {
            builder = builder.approver(name, Answers(name));
        }
        if self.worker {
            builder.build()
        } else {
            builder.balancer(tap.wrap(world.balancer())).build()
        }
    }

    pub(crate) fn fresh(&self) -> Deployer {
        self.deployer(&Tap::new())
    }

    /// The place that serves and its tasks, if the service is wholly one version.
    pub(crate) fn whole(&self) -> Result<(Place, u32), String> {
        let seen = self.world.snapshot(&self.web);
        let mut places = seen
            .places
            .iter()
            .filter(|(_, p)| p.tasks > 0 || p.desired > 0 || (!self.worker && p.targets > 0));
        let (Some((place, only)), None) = (places.next(), places.next()) else {
            return Err(seen.to_string());
        };
        let desired = only.desired as usize;
        let mut good = [only.tasks, only.ready] == [desired; 2];
        if !self.worker {
            good &= [only.targets, only.healthy] == [desired; 2];
            good &= seen.routing == Routing::all_to(*place) && seen.test_route.is_none();
        }
        if good { Ok((*place, only.desired)) } else { Err(seen.to_string()) }
    }
}

fn changes(seen: &Snapshot) -> (usize, usize) {
    let places = seen.places.values();
    (places.clone().map(|p| p.ready).sum(), places.map(|p| p.tasks).sum())
}

impl Case {
    pub(crate) fn foreign(&self) -> bool {
        self.deeds.iter().any(|(_, deed)| {
            matches!(deed, Deed::Kill(..) | Deed::Scale(..) | Deed::Route(_) | Deed::Rival)
        })
    }

    fn rival(&self) -> bool {
        self.deeds.iter().any(|(_, deed)| matches!(deed, Deed::Rival))
    }

    pub(crate) fn scaled(&self) -> bool {
        self.deeds.iter().any(|(_, deed)| matches!(deed, Deed::Scale(..)))
    }

    /// Runs the case; gives what is wrong.
    pub(crate) async fn run(&self) -> Result<String, String> {
        let sky = Sky::new(self);
        let (world, web) = (&sky.world, &sky.web);
        let before = world.snapshot(web);
        let tap = Tap::new();
        let mut change = Change::to("web:2");
        if let Some(replicas) = self.replicas {
            change = change.with_replicas(replicas);
        }
        let plan = match sky.fresh().plan(web, &self.strategy, change).await {
            Ok(plan) => plan,
            Err(error) => return Err(format!("no plan: {error}")),
        };
        let mut plan = plan.with_on_orphan(self.orphan);
        for (point, hook) in &self.hooks {
            plan = plan.with_hook(*point, *hook, SECOND * 10);
        }
        let json = plan.to_json().unwrap();
        let plan = Plan::from_json(json.as_bytes()).unwrap();
        let traffic = (!self.worker).then(|| world.start_traffic(web, Traffic::per_second(30)));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let watcher = tokio::spawn({
            let (world, web, seen) = (world.clone(), web.clone(), Arc::clone(&seen));
            async move {
                // What was set meanwhile is counted, so that a long wait costs little.
                loop {
                    let now = (world.now(), changes(&world.snapshot(&web)));
                    {
                        let mut seen = seen.lock().unwrap();
                        if seen.last().is_none_or(|(_, last)| *last != now.1) {
                            seen.push(now);
                        }
                    }
                    sleep(Duration::from_millis(50)).await;
                }
            }
        });
        if let Some((nth, times, blow, part)) = self.blow {
            tap.strike(nth, times, blow, part);
        }
        let began = world.now();
        let deployer = sky.deployer(&tap);
        let rollout = match timeout(PATIENCE, deployer.deploy(plan)).await {
            Ok(rollout) => rollout,
            Err(_) if self.blow.is_some_and(|b| b.2 == Blow::Die || b.2 == Blow::Hang) => {
                Err(Error::invalid("dead"))
            }
            Err(_) => return Err("deploy hangs".into()),
        };
        let mut ended: Option<Report> = None;
        let text;
        match rollout {
            Ok(rollout) => {
                let control = rollout.control();
                let deeds = tokio::spawn({
                    let (world, web, deeds) = (world.clone(), web.clone(), self.deeds.clone());
                    let rival = sky.fresh();
                    async move {
                        for (at, deed) in deeds {
                            sleep((began + at).saturating_sub(world.now())).await;
                            match deed {
                                Deed::Kill(place, nth) => drop(world.kill_task(&web, place, nth)),
                                Deed::Scale(place, count) => drop(world.scale(&web, place, count)),
                                Deed::Route(routing) => {
                                    world.set_routing_by_someone_else(&web, &routing)
                                }
                                Deed::Pause => control.pause("bob"),
                                Deed::Unpause => control.unpause("bob"),
                                Deed::Finish => control.finish_now("bob"),
                                Deed::Abort => control.abort("bob"),
                                Deed::Approve => control.approve("bob"),
                                Deed::Reject => control.reject("bob", "why not"),
                                Deed::Clock(ms) => world.set_clock_off(ms),
                                Deed::Rival => {
                                    let change = Change::to("web:3");
                                    let plan = rival.plan(&web, &Rolling::new(), change).await;
                                    if let Ok(plan) = plan
                                        && let Ok(rollout) = rival.deploy(plan).await
                                    {
                                        drop(rollout.await);
                                    }
                                    drop(rival.recover(&web).await);
                                }
                            }
                        }
                    }
                });
                let limit = PATIENCE;
                match timeout(limit, rollout.into_future()).await {
                    Ok(Ok(report)) => {
                        text = format!("{report}");
                        ended = Some(report);
                    }
                    Ok(Err(error)) => text = format!("error: {}", error.report()),
                    Err(_) if self.blow.is_some_and(|b| b.2 == Blow::Die) => text = "died".into(),
                    Err(_) => return Err("it hangs".into()),
                }
                let took = world.now() - began;
                if ended.is_some() && took > Duration::from_secs(25 * 3600) {
                    return Err(format!("it took {took:?}: {text}"));
                }
                deeds.abort();
            }
            Err(error) => text = format!("not begun: {}", error.report()),
        }
        let struck = tap.has_struck();
        tap.heal();
        let at_end = world.snapshot(web);
        let foreign = self.foreign();
        let fail = |why: String| {
            Err(format!(
                "{why}\n--- {text}\n--- at its end:\n{at_end}\n--- now:\n{}\n--- calls:\n{}",
                world.snapshot(web),
                world
                    .calls()
                    .iter()
                    .filter(|c| c.changed || c.error.is_some())
                    .map(|c| format!("{c}\n"))
                    .collect::<String>()
            ))
        };
        if let Some(report) = &ended
            && !foreign
        {
            let gone_slowly = report.outcome == Outcome::Promoted
                && report.notes.iter().any(|n| n.contains("retire") || n.contains("drain"));
            match &report.outcome {
                Outcome::Promoted if !gone_slowly => {
                    let served = at_end.places.get(&report.candidate);
                    let count = self.replicas.unwrap_or(self.count);
                    if served.is_none_or(|s| s.desired != count)
                        || (!self.worker && at_end.routing != Routing::all_to(report.candidate))
                    {
                        return fail("promoted, and it is not so".into());
                    }
                    if at_end
                        .places
                        .values()
                        .filter(|p| p.tasks > 0 || (!self.worker && p.targets > 0))
                        .count()
                        != 1
                        && !struck
                        && !text.contains("hold")
                    {
                        return fail("promoted, and something is left".into());
                    }
                }
                Outcome::RolledBack | Outcome::Aborted { .. } => {
                    let mut same = at_end.clone();
                    if self.worker {
                        for p in same.places.values_mut() {
                            p.targets = 0;
                            p.healthy = 0;
                        }
                        same.routing = before.routing.clone();
                    }
                    let mut was = before.clone();
                    if self.worker {
                        for p in was.places.values_mut() {
                            p.targets = 0;
                            p.healthy = 0;
                        }
                    }
                    if same != was {
                        return fail("undone, and it is not as it was".into());
                    }
                }
                Outcome::NeedsOperator => {
                    if report.problems.is_empty() || report.advice().is_none() {
                        return fail("needs an operator, and does not say why".into());
                    }
                    if !struck {
                        return fail("needs an operator though nothing was in the way".into());
                    }
                }
                _ => {}
            }
        }
        // A lease that nobody gave back, and calls that nobody waits for any more.
        let rest = if self.blow.is_some() { LEASE } else { SECOND * 2 };
        sleep(rest).await;
        let deployer = sky.fresh();
        let mut later = String::new();
        for _ in 0..4 {
            match timeout(PATIENCE, async {
                match deployer.recover(web).await? {
                    Some(r) => r.await.map(Some),
                    None => Ok(None),
                }
            })
            .await
            {
                Err(_) => return fail("recovery hangs".into()),
                Ok(Ok(None)) => break,
                Ok(Ok(Some(report))) => later += &format!("\nrecovered: {report}"),
                Ok(Err(error)) => return fail(format!("cannot be recovered: {}", error.report())),
            }
        }
        match deployer.settle_now(web).await {
            Ok(_) => {}
            Err(error) => return fail(format!("cannot be settled: {}{later}", error.report())),
        }
        sleep(rest).await;
        watcher.abort();
        let loses = self.loses();
        match sky.whole() {
            Ok((place, count)) => {
                let wanted = if place == Place::A {
                    self.count
                } else {
                    self.replicas.unwrap_or(self.count)
                };
                if !self.scaled() && !self.rival() && count != wanted {
                    return fail(format!("{place} has {count} tasks and not {wanted}{later}"));
                }
            }
            // Somebody else's routing is left as it is, where the candidate gets nothing by it.
            Err(_) if text.contains("it was left so") || later.contains("it was left so") => {}
            // Nor does anybody bring back what somebody else has taken away afterwards.
            Err(_) if self.deeds.iter().any(|(_, deed)| matches!(deed, Deed::Scale(_, 0))) => {}
            Err(_)
                if self.version.contains("flaps")
                    || self.version == "dies"
                    || self.version == "errors" => {}
            Err(what) => return fail(format!("not whole: {what}{later}")),
        }
        if !world.violations().is_empty() && !self.gap() && !self.worker {
            let list: Vec<_> = world.violations().iter().map(ToString::to_string).collect();
            return fail(format!("unsafe: {}{later}", list.join("\n  ")));
        }
        if let Some(traffic) = traffic {
            let tally = traffic.stop().await;
            if tally.failed > 0 && !loses {
                return fail(format!("requests lost: {tally}{later}"));
            }
        }
        if let Some((surge, unavailable)) = self.bounds
            && !foreign
            && !matches!(self.version, "dies" | "flaps" | "flaps fast" | "errors")
        {
            let new = self.replicas.unwrap_or(self.count);
            let of = |amount: Amount, count: u32, up: bool| match amount {
                Amount::Count(n) => n,
                Amount::Percent(p) => {
                    let x = count * u32::from(p);
                    if up { x.div_ceil(100) } else { x / 100 }
                }
            };
            let bound = |count: u32| {
                let (s, u) = (of(surge, count, true), of(unavailable, count, false).min(count));
                if (s, u) == (0, 0) { (0, 1) } else { (s, u) }
            };
            let (few, many) = (self.count.min(new), self.count.max(new));
            let least = few - bound(few).1.max(bound(many).1).min(few);
            let most = many + bound(many).0.max(bound(few).0);
            for (at, (ready, all)) in seen.lock().unwrap().iter() {
                if *ready < least as usize || *all > most as usize {
                    return fail(format!(
                        "at {at:?} {ready} ready, {all} in all; bounds {least} to {most}{later}"
                    ));
                }
            }
        }
        Ok(format!("{}{later}", text.lines().next().unwrap_or_default()))
    }

    /// Whether the bounds leave a moment without any task.
    pub(crate) fn gap(&self) -> bool {
        let count = self.count.min(self.replicas.unwrap_or(self.count));
        let scaled = self
            .deeds
            .iter()
            .filter_map(|(_, d)| match d {
                Deed::Scale(_, n) => Some(*n),
                _ => None,
            })
            .min()
            .unwrap_or(count);
        self.bounds.is_some_and(|(s, u)| {
            let of = |n: u32| match u {
                Amount::Count(u) => u,
                Amount::Percent(p) => n * u32::from(p) / 100,
            };
            let none = matches!(s, Amount::Count(0) | Amount::Percent(0));
            let of = |n: u32| if none { of(n).max(1) } else { of(n) };
            let many = self.count.max(self.replicas.unwrap_or(self.count));
            of(many) >= count || (self.scaled() && of(many) >= 1 && scaled <= of(many) + 1)
        })
    }

    /// Whether requests may get lost without anybody's fault here.
    fn loses(&self) -> bool {
        self.gap()
            || self.foreign()
            || matches!(self.version, "dies" | "flaps" | "flaps fast" | "errors")
    }
}

pub(crate) fn rolling(dice: &mut Dice) -> (Box<dyn Strategy>, (Amount, Amount)) {
    let amount = |dice: &mut Dice| match dice.roll(0, 3) {
        0 => Amount::Count(0),
        1 => Amount::Count(dice.roll(1, 3)),
        2 => Amount::Count(dice.roll(1, 14)),
        _ => Amount::percent(u16::try_from(dice.roll(1, 100)).unwrap()).unwrap(),
    };
    let (surge, mut unavailable) = (amount(dice), amount(dice));
    if matches!((surge, unavailable), (Amount::Count(0), Amount::Count(0))) {
        unavailable = Amount::Count(1);
    }
    let mut rolling = Rolling::new()
        .surge(surge)
        .unavailable(unavailable)
        .healthy_within(SECOND * 40)
        .drain(SECOND * 20);
    if dice.odds(40) {
        rolling = rolling.pooled();
    }
    if dice.odds(40) {
        rolling = rolling.min_ready(dice.millis(200, 8_000));
        if dice.odds(60) {
            let gate = dice.pick(&["live", "live", "live", "good", "flips", "bad", "hangs"]);
            rolling = rolling.watch([GateUse::new(gate).with_judge(judge())]);
        }
    }
    (Box::new(rolling), (surge, unavailable))
}

pub(crate) fn canary(dice: &mut Dice) -> Box<dyn Strategy> {
    let n = dice.roll(0, 4);
    let mut shares: Vec<u32> = (0..n).map(|_| dice.roll(1, 999)).collect();
    shares.sort_unstable();
    let steps: Vec<_> = shares
        .iter()
        .map(|s| {
            (Weight::thousandths(u16::try_from(*s).unwrap()).unwrap(), dice.millis(100, 9_000))
        })
        .collect();
    let mut canary = Canary::steps(steps.clone()).healthy_within(SECOND * 40).drain(SECOND * 20);
    if dice.odds(50) {
        let gate = dice.pick(&["live", "live", "live", "good", "flips", "bad", "hangs"]);
        canary = canary.watch([GateUse::new(gate).with_judge(judge())]);
    }
    if dice.odds(50) {
        canary = canary.capacity_follows();
    }
    if dice.odds(40) {
        canary = canary.bake(dice.millis(100, 9_000));
    }
    if dice.odds(20) {
        canary = canary.hold(dice.millis(0, 900_000));
    }
    if !steps.is_empty() && dice.odds(40) {
        let at = dice.pick(&steps).0;
        let within = dice.millis(1_000, 60_000);
        canary = if dice.odds(50) {
            canary.approve_at(at, within)
        } else {
            canary.approve_at_by(
                at,
                dice.pick(&["yes", "yes", "yes", "no", "late", "never", "away", "error", "panic"]),
                within,
            )
        };
    }
    Box::new(canary)
}

pub(crate) fn blue_green(dice: &mut Dice) -> Box<dyn Strategy> {
    let mut bg = BlueGreen::new().healthy_within(SECOND * 40).drain(SECOND * 20);
    if dice.odds(50) {
        bg = bg.bake(dice.millis(100, 9_000));
    }
    Box::new(bg)
}
