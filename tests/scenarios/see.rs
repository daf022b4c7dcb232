//! Looking at a stage: what there is of a service, how a rollout goes on, what became of the requests.

use std::future::Future;
use std::time::Duration;

use deploykit::{
    BlueGreen, Change, Control, Error, GateUse, Judge, LoadBalancer, Orchestrator, Outcome, Place,
    Plan, Report, RevisionId, Rollout, Routing, ServiceName, Strategy, TargetHealth, TaskId,
    TaskState, UpdateKind, Updates, Weight,
};
use deploykit_testing::{Mutation, Tally};

use super::stage::{Kind, Load, Stage, Version, deployer};

/// All there is of a service, in a form in which two moments can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) places: Vec<SeenPlace>,
    pub(crate) routing: Routing,
    pub(crate) test_route: Option<Place>,
    pub(crate) targets: Vec<(Place, TaskId, String, TargetHealth)>,
    pub(crate) made: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeenPlace {
    pub(crate) place: Place,
    pub(crate) revision: RevisionId,
    pub(crate) desired: u32,
    pub(crate) tasks: Vec<(TaskId, TaskState)>,
}

impl Seen {
    /// How many tasks a place has that are ready and get requests.
    pub(crate) fn healthy(&self, place: Place) -> usize {
        let found = self.places.iter().find(|seen| seen.place == place);
        let is_ready = |id: &TaskId| {
            found.is_some_and(|f| f.tasks.iter().any(|t| t.0 == *id && t.1 == TaskState::Ready))
        };
        let healthy = |target: &&(Place, TaskId, String, TargetHealth)| {
            target.0 == place && target.3 == TargetHealth::Healthy && is_ready(&target.1)
        };
        self.targets.iter().filter(healthy).count()
    }

    pub(crate) fn place(&self, place: Place) -> Option<&SeenPlace> {
        self.places.iter().find(|seen| seen.place == place)
    }

    /// Whether this place alone is there, whole, and gets everything.
    pub(crate) fn is_only(&self, place: Place, tasks: usize) -> bool {
        let ready = |seen: &SeenPlace| {
            seen.tasks.len() == tasks && seen.tasks.iter().all(|task| task.1 == TaskState::Ready)
        };
        let (targets, is_routed) = match &self.routing {
            Routing::None => (0, true),
            Routing::Pooled => (tasks, true),
            other => (tasks, *other == Routing::all_to(place)),
        };
        self.places.len() == 1
            && self.place(place).is_some_and(ready)
            && (self.targets.len(), self.healthy(place)) == (targets, targets)
            && is_routed
            && self.test_route.is_none()
    }

    /// What is the same before and after though tasks were replaced: releases, counts, states, the routing.
    pub(crate) fn shape(&self) -> Self {
        let mut shape = self.clone();
        let nameless = || TaskId::new("task");
        for (task, _) in shape.places.iter_mut().flat_map(|place| &mut place.tasks) {
            *task = nameless();
        }
        for (_, task, address, _) in &mut shape.targets {
            (*task, *address) = (nameless(), String::new());
        }
        shape.made.fill_with(String::new);
        shape
    }

    /// Whether there is nothing at all.
    pub(crate) fn is_nothing(&self) -> bool {
        self.places.is_empty()
            && self.targets.is_empty()
            && self.test_route.is_none()
            && matches!(self.routing, Routing::Closed | Routing::None)
    }
}

pub(crate) async fn seen<S: Stage>(stage: &S) -> Seen {
    seen_of(stage, &stage.basics().service).await
}

pub(crate) async fn seen_of<S: Stage>(stage: &S, service: &ServiceName) -> Seen {
    let parts = stage.providers().await;
    let state = parts.orchestrator.observe(service).await.unwrap();
    let (routing, test_route, targets) = match parts.balancer {
        Some(balancer) => {
            let state = balancer.observe(service).await.unwrap();
            (state.routing, state.test_route, state.targets)
        }
        None => (Routing::None, None, Vec::new()),
    };
    let mut targets: Vec<_> = targets
        .into_iter()
        .map(|target| (target.place, target.task, target.address, target.health))
        .collect();
    targets.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    let places = state.places.into_iter().map(|place| SeenPlace {
        place: place.place,
        revision: place.revision,
        desired: place.desired,
        tasks: place.tasks.into_iter().map(|task| (task.id, task.state)).collect(),
    });
    Seen { places: places.collect(), routing, test_route, targets, made: stage.made(service).await }
}

/// Quick, with nothing but the health of the tasks to be looked at.
pub(crate) fn plain() -> BlueGreen {
    BlueGreen::new().healthy_within(Duration::from_secs(20)).drain(Duration::from_secs(10))
}

/// A gate that is measured often, and fails at the first failure.
pub(crate) fn often(gate: &str) -> GateUse {
    let judge = Judge::new()
        .with_interval(Duration::from_millis(50))
        .with_successes(2)
        .with_deadline(Duration::from_secs(20));
    GateUse::new(gate).with_judge(judge)
}

/// Everything that blue/green has: a validation, a step, gates in the background, a bake.
pub(crate) fn careful() -> BlueGreen {
    plain()
        .validate([often("smoke")])
        .shift_in([Weight::percent(50).unwrap()], SHORT)
        .watch([often("live")])
        .bake(SHORT)
}

/// How long a soak lasts where nothing depends on it: so long that a few measurements fit.
pub(crate) const SHORT: Duration = Duration::from_millis(300);
/// Longer than any test.
pub(crate) const LONG: Duration = Duration::from_secs(3_600);

pub(crate) async fn plan<S: Stage>(stage: &S, version: Version, strategy: &dyn Strategy) -> Plan {
    let change = Change::to(stage.image(version));
    deployer(stage).await.plan(&stage.basics().service, strategy, change).await.unwrap()
}

/// Begins to deploy a version over what runs.
pub(crate) async fn begin<S: Stage>(stage: &S, version: Version, strategy: &dyn Strategy) -> Run {
    let plan = plan(stage, version, strategy).await;
    Run::new::<S>(deployer(stage).await.deploy(plan).await.unwrap())
}

pub(crate) async fn deploy<S: Stage>(
    stage: &S,
    version: Version,
    strategy: &dyn Strategy,
) -> Report {
    begin(stage, version, strategy).await.end().await
}

/// Deploys a version that is promoted.
pub(crate) async fn promoted<S: Stage>(
    stage: &S,
    version: Version,
    strategy: &dyn Strategy,
) -> Report {
    let report = deploy(stage, version, strategy).await;
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    report
}

/// The first deployment of a service, of two tasks.
pub(crate) async fn first<S: Stage>(stage: &S, service: &ServiceName, version: Version) -> Report {
    first_by(stage, service, version, &plain(), 2).await
}

pub(crate) async fn first_by<S: Stage>(
    stage: &S,
    service: &ServiceName,
    version: Version,
    strategy: &dyn Strategy,
    count: u32,
) -> Report {
    let spec = stage.basics().kind.spec();
    let change = Change::to(stage.image(version)).with_spec(spec).with_replicas(count);
    let deployer = deployer(stage).await;
    let plan = deployer.plan(service, strategy, change).await.unwrap();
    Run::new::<S>(deployer.deploy(plan).await.unwrap()).end().await
}

/// The good version serves, with two tasks in place A; what it looks like.
pub(crate) async fn serving<S: Stage>(stage: &S) -> Seen {
    serving_by(stage, 2).await
}

pub(crate) async fn serving_by<S: Stage>(stage: &S, count: u32) -> Seen {
    let there = seen(stage).await;
    if there.is_nothing() {
        let service = &stage.basics().service;
        let report = first_by(stage, service, Version::Good, &plain(), count).await;
        assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    }
    let seen = seen(stage).await;
    assert!(seen.is_only(Place::A, count as usize), "{seen:#?}");
    stage.basics().log.clear();
    seen
}

/// A rollout that is followed.
pub(crate) struct Run {
    rollout: Rollout,
    updates: Updates,
    patience: Duration,
}

impl Run {
    pub(crate) fn new<S: Stage>(mut rollout: Rollout) -> Self {
        let updates = rollout.updates();
        Self { rollout, updates, patience: S::PATIENCE }
    }

    pub(crate) fn control(&self) -> Control {
        self.rollout.control()
    }

    /// Waits for something that is told of it, from where the last wait ended.
    pub(crate) async fn until(&mut self, wanted: &str, is: impl Fn(&UpdateKind) -> bool) {
        let mut told = Vec::new();
        let wait = async {
            while let Some(update) = self.updates.next().await {
                told.push(update.kind.to_string());
                if is(&update.kind) {
                    return true;
                }
            }
            false
        };
        let came = tokio::time::timeout(self.patience, wait).await;
        assert!(matches!(came, Ok(true)), "no {wanted}, but:\n  {}", told.join("\n  "));
    }

    /// Waits until the first step of this name begins.
    pub(crate) async fn step(&mut self, name: &str) {
        self.until(name, |update| matches!(update, UpdateKind::Step { name: n, .. } if n == name))
            .await;
    }

    /// Waits until the step of this number, 1 being the first, begins.
    pub(crate) async fn number(&mut self, wanted: usize) {
        let is = |update: &UpdateKind| matches!(update, UpdateKind::Step { number, .. } if *number == wanted);
        self.until(&format!("step {wanted}"), is).await;
    }

    /// Waits until the routing has become this.
    pub(crate) async fn routing(&mut self, wanted: &Routing) {
        let is = |update: &UpdateKind| matches!(update, UpdateKind::Routing { routing } if routing == wanted);
        self.until(&wanted.to_string(), is).await;
    }

    /// Waits until there is a change of the routing.
    pub(crate) async fn routed(&mut self) {
        self.until("routing", |update| matches!(update, UpdateKind::Routing { .. })).await;
    }

    /// Waits until it has ended, or for something else.
    pub(crate) async fn ended_or(&mut self, other: impl Future<Output = ()>) {
        let ended = |update: &UpdateKind| matches!(update, UpdateKind::Ended { .. });
        tokio::select! {
            () = self.until("end", ended) => {}
            () = other => {}
        }
    }

    pub(crate) async fn end(self) -> Report {
        match tokio::time::timeout(self.patience, self.rollout).await {
            Ok(ended) => ended.unwrap(),
            Err(_) => panic!("the rollout has not ended within {:?}", self.patience),
        }
    }
}

/// Does something while live requests come, from before it begins until after it has ended. A worker gets none.
pub(crate) async fn under_load<S: Stage, T>(
    stage: &S,
    work: impl AsyncFnOnce() -> T,
) -> (T, Tally) {
    if stage.basics().kind == Kind::Worker {
        return (work().await, Tally::new());
    }
    let load = stage.load(&stage.basics().service).await;
    requests(stage, &load, 50).await;
    let done = work().await;
    let so_far = load.requests();
    requests(stage, &load, so_far + 50).await;
    (done, load.stop().await)
}

/// Does something while the tasks are counted every 50 ms: there are never fewer ready and never more living than these.
pub(crate) async fn within<S: Stage, T>(
    stage: &S,
    (least, most): (usize, usize),
    work: impl Future<Output = T>,
) -> T {
    let mut looks = 0;
    let watch = async {
        loop {
            let (ready, living) = stage.capacity(least).await;
            let changes = || stage.basics().log.mutations();
            assert!(ready >= least, "{ready} ready, {least} at least: {:?}", changes());
            assert!(living <= most, "{living} living, {most} at most: {:?}", changes());
            looks += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let done = tokio::select! {
        done = work => done,
        () = watch => unreachable!("it looks until the end"),
    };
    assert!(looks > 5, "too few looks to tell: {looks}");
    done
}

/// Waits until so many requests have ended.
pub(crate) async fn requests<S: Stage>(_: &S, load: &S::Load, wanted: u64) {
    let wait = async {
        while load.requests() < wanted {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let came = tokio::time::timeout(S::PATIENCE, wait).await;
    assert!(came.is_ok(), "{} of {wanted} requests", load.requests());
}

/// Asserts that not one request was lost, and that there were some.
#[track_caller]
pub(crate) fn assert_lossless(tally: &Tally) {
    assert!(tally.requests >= 100, "too few to tell: {tally}");
    assert_eq!(tally.failed, 0, "{tally}");
}

/// Makes an attempt that must be refused: with the way out, and before anything has moved.
pub(crate) async fn refused<S: Stage, T, F>(stage: &S, attempt: F) -> Error
where
    F: Future<Output = deploykit::Result<T>>,
{
    let before = seen(stage).await;
    let changes = stage.basics().log.mutations();
    let Err(error) = attempt.await else { panic!("it was not refused") };
    assert!(error.hint().is_some(), "no way out: {error}");
    assert_eq!(seen(stage).await, before, "something has moved: {error}");
    assert_eq!(stage.basics().log.mutations(), changes, "something was tried: {error}");
    error
}

/// Whether a call changes where requests go.
pub(crate) fn is_routing(change: &Mutation) -> bool {
    matches!(change, Mutation::Routing(_))
}

/// Whether a call starts tasks.
pub(crate) fn is_launch(change: &Mutation) -> bool {
    matches!(change, Mutation::Launch(..))
}
