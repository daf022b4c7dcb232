use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::broadcast;
use tokio::time::{Instant, sleep, timeout};

use super::provided::{CALL, Provided};
use super::retry::{self, Jitter};
use super::routes::foreign_routing;
use super::update::{Update, UpdateKind};
use crate::error::{Error, ErrorKind, Result};
use crate::machine::{Call, Seen, Survey};
use crate::name::{
    ApproverName, GateName, HookName, Place, RevisionId, RolloutId, ServiceName, TaskId,
};
use crate::plan::Plan;
use crate::provider::{
    Approval, ApprovalRequest, Approver, GateContext, HealthGate, Hook, HookContext, Launch,
    LoadBalancer, Measurement, Orchestrator, Point, Registry, TargetHealth, Task, TaskState,
};
use crate::release::Release;
use crate::routing::{Routing, Weight};
use crate::time::{Clock, Timestamp, human};

/// How long a change is tried again while its failures may pass.
pub(super) const INSIST: Duration = Duration::from_secs(120);
/// Fetching an image may take this long.
const REGISTER: Duration = Duration::from_secs(900);
/// Between two looks whether a place is gone that somebody else scales while it is removed.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// What a deployer calls.
#[derive(Debug)]
pub(crate) struct Providers {
    pub(crate) registry: Provided<dyn Registry>,
    pub(crate) orchestrator: Provided<dyn Orchestrator>,
    pub(crate) balancer: Option<Provided<dyn LoadBalancer>>,
    pub(crate) gates: BTreeMap<GateName, Arc<dyn HealthGate>>,
    pub(crate) hooks: BTreeMap<HookName, Arc<dyn Hook>>,
    pub(crate) approvers: BTreeMap<ApproverName, Arc<dyn Approver>>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// What came of a call.
#[derive(Debug)]
pub(crate) enum Answer {
    Registered(RevisionId),
    Surveyed(Survey),
    Done(Option<String>),
    Measured(GateName, Measurement),
    Decided(Approval),
}

/// Performs the calls of one rollout.
#[derive(Clone, Debug)]
pub(crate) struct Performer {
    pub(super) providers: Arc<Providers>,
    pub(super) service: ServiceName,
    pub(super) rollout: RolloutId,
    pub(super) candidate: Place,
    release: Arc<Release>,
    before: Option<Arc<Release>>,
    stable: Option<Place>,
    pub(super) stop_grace: Duration,
    /// The time when this performer began, by the clock and by the timer that waits go by.
    began: (Timestamp, Instant),
    updates: broadcast::Sender<Update>,
    jitter: Arc<Jitter>,
    /// How many tasks of each place were last told to be healthy, of how many.
    pub(super) shown: Arc<Mutex<BTreeMap<Place, (u32, u32)>>>,
}

impl Performer {
    pub(crate) fn new(
        providers: Arc<Providers>,
        rollout: RolloutId,
        plan: &Plan,
        not_before: Timestamp,
        updates: broadcast::Sender<Update>,
    ) -> Self {
        let before = plan.before.as_ref().map(|before| before.spec.stop_grace).unwrap_or_default();
        let began = (providers.clock.now().max(not_before), Instant::now());
        let jitter = Arc::new(Jitter::new((rollout.as_str(), began.0.to_string())));
        Self {
            providers,
            service: plan.service.clone(),
            rollout,
            candidate: plan.candidate,
            release: Arc::new(plan.release.clone()),
            before: plan.before.clone().map(Arc::new),
            stable: plan.world.stable.as_ref().map(|stable| stable.place),
            began,
            stop_grace: plan.release.spec.stop_grace.max(before),
            updates,
            jitter,
            shown: Arc::default(),
        }
    }

    /// The time by which deadlines and journals go: the clock's when this performer began, and steady since then, so that
    /// a clock that is set does not end a wait or make it endless.
    pub(crate) fn now(&self) -> Timestamp {
        let (began, since) = self.began;
        began.plus(since.elapsed())
    }

    pub(super) fn tell(&self, to: &broadcast::Sender<Update>, kind: UpdateKind) {
        let (service, rollout) = (self.service.clone(), self.rollout.clone());
        // Nobody may be listening.
        let _ = to.send(Update { at: self.now(), service, rollout, kind });
    }

    pub(super) fn show(&self, kind: UpdateKind) {
        self.tell(&self.updates, kind);
    }

    pub(crate) async fn perform(&self, call: Call, revision: Option<RevisionId>) -> Result<Answer> {
        let name = call.name();
        let result = match call {
            Call::Register { release } => self.register(&release).await,
            Call::Survey => self.survey().await,
            Call::Launch { place, revision, count } => self.launch(place, revision, count).await,
            Call::AwaitHealthy { place, count, serving, until, patient } => {
                self.await_healthy(place, count, serving, until, patient).await
            }
            Call::Guard { place, count, routing } => Err(self.guard(place, count, routing).await),
            Call::Route(change) => self.route(change).await,
            Call::Test { place, unconfirmed } => self.test_route(place, unconfirmed).await,
            Call::Measure { gate, not_before, timeout } => {
                self.sleep_until(not_before).await;
                let measurement = self.measure(&gate, timeout, revision).await?;
                return Ok(Answer::Measured(gate, measurement));
            }
            Call::Wait { until } => {
                self.sleep_until(until).await;
                Ok(Answer::Done(None))
            }
            Call::Drain { place, tasks, others, within } => {
                self.drain(place, &tasks, others, within).await
            }
            Call::Stop { place, tasks } => self.stop(place, &tasks).await,
            Call::Ask { approver, until } => self.ask(&approver, until).await,
            Call::Hook { hook, point, why, until } => {
                self.hook(&hook, point, why, until, revision).await
            }
            Call::StartJob(job) => self.start_job(job).await,
            Call::AwaitJob(job) => self.await_job(job).await,
            Call::Retire { place } => self.retire(place).await,
            Call::Decide => Ok(Answer::Done(None)),
        };
        result.map_err(|error| error.within(name))
    }

    async fn register(&self, release: &Release) -> Result<Answer> {
        Ok(Answer::Registered(self.revision_for(release).await?))
    }

    pub(super) async fn revision_for(&self, release: &Release) -> Result<RevisionId> {
        let orchestrator = &self.providers.orchestrator;
        let call = || {
            orchestrator.bounded(
                "register",
                REGISTER,
                orchestrator.register(&self.service, release),
            )
        };
        self.insist(INSIST, call).await
    }

    async fn survey(&self) -> Result<Answer> {
        let orchestrator = &self.providers.orchestrator;
        let state = self
            .insist(INSIST, || orchestrator.quick("observe", orchestrator.observe(&self.service)))
            .await?;
        // Where there is a balancer, only what gets requests from it is ready: not what is being drained, or what nobody has
        // registered yet.
        let healthy: Option<Vec<_>> = match &self.providers.balancer {
            Some(balancer) => {
                let observe =
                    || balancer.quick("read the balancer", balancer.observe(&self.service));
                let targets = self.insist(INSIST, observe).await?.targets;
                let healthy = targets.into_iter().filter(|t| t.health == TargetHealth::Healthy);
                Some(healthy.map(|target| (target.place, target.task)).collect())
            }
            None => None,
        };
        let seen = state.places.iter().map(|place| {
            let serves = |task: &&Task| {
                task.state == TaskState::Ready
                    && healthy.as_ref().is_none_or(|healthy| {
                        healthy.iter().any(|(at, id)| *at == place.place && *id == task.id)
                    })
            };
            let left = || place.tasks.iter().filter(|task| task.state != TaskState::Stopping);
            let unready_first = left().filter(|task| !serves(task)).chain(left().filter(serves));
            Seen {
                place: place.place,
                revision: place.revision.clone(),
                desired: place.desired,
                ready: u32::try_from(left().filter(serves).count()).unwrap_or(u32::MAX),
                tasks: unready_first.map(|task| task.id.clone()).collect(),
            }
        });
        Ok(Answer::Surveyed(Survey { places: seen.collect() }))
    }

    async fn launch(&self, place: Place, revision: RevisionId, count: u32) -> Result<Answer> {
        let (service, rollout) = (self.service.clone(), self.rollout.clone());
        let launch = Launch { service, place, revision, count, rollout };
        // Many tasks take their time; launching again goes on where it was.
        let orchestrator = &self.providers.orchestrator;
        let call = || orchestrator.quick("launch", orchestrator.launch(&launch));
        self.insist(INSIST, call).await.map_err(|e| e.within(format_args!("place {place}")))?;
        Ok(Answer::Done(None))
    }

    pub(crate) async fn retire(&self, place: Place) -> Result<Answer> {
        let limit = self.stop_grace.saturating_add(CALL);
        let orchestrator = &self.providers.orchestrator;
        let retire =
            || orchestrator.bounded("retire", limit, orchestrator.retire(&self.service, place));
        let within = INSIST.max(limit.saturating_mul(2));
        let until = self.now().plus(within);
        // Until nothing is there any more: somebody else may scale the place while it goes.
        loop {
            let gone = async {
                self.insist(within, retire).await?;
                let look =
                    || orchestrator.quick("observe the tasks", orchestrator.observe(&self.service));
                Ok(self.insist(INSIST, look).await?.place(place).is_none())
            };
            if gone.await.map_err(|e: Error| e.within(format_args!("place {place}")))? {
                break;
            }
            if self.now() >= until {
                let what = format!("place {place} was removed, and there are tasks in it again");
                return Err(Error::new(ErrorKind::Foreign, what)
                    .with_hint("look who scales it, and end that"));
            }
            sleep(LOOK_AGAIN).await;
            if let Some(balancer) = &self.providers.balancer {
                let read = || balancer.quick("read the balancer", balancer.observe(&self.service));
                let routing = self.insist(INSIST, read).await?.routing;
                if routing == Routing::Pooled || routing.weight(place) != Weight::NONE {
                    return Err(foreign_routing(&routing));
                }
            }
        }
        if let Some(balancer) = &self.providers.balancer {
            // Somebody else may have scaled the place after it was drained; whatever he registered is gone now.
            let read = || balancer.quick("read the balancer", balancer.observe(&self.service));
            let state = self.insist(INSIST, read).await?;
            let left: Vec<TaskId> = state.targets_of(place).map(|t| t.task.clone()).collect();
            if !left.is_empty() {
                self.insist(INSIST, || self.remove_targets(place, &left)).await?;
            }
        }
        Ok(Answer::Done(None))
    }

    async fn stop(&self, place: Place, tasks: &[TaskId]) -> Result<Answer> {
        let limit = self.stop_grace.saturating_add(CALL);
        let orchestrator = &self.providers.orchestrator;
        let call =
            || orchestrator.bounded("stop", limit, orchestrator.stop(&self.service, place, tasks));
        self.insist(INSIST.max(limit.saturating_mul(2)), call)
            .await
            .map_err(|e| e.within(format_args!("place {place}")))?;
        Ok(Answer::Done(None))
    }

    async fn ask(&self, name: &ApproverName, until: Timestamp) -> Result<Answer> {
        let approver =
            self.providers.approvers.get(name).ok_or_else(|| missing("approver", name.as_str()))?;
        let release = self.release.image.clone();
        let mut request = ApprovalRequest::new(self.service.clone(), self.rollout.clone(), release);
        request.before = self.before.as_ref().map(|before| before.image.clone());
        request.until = Some(until);
        // The plan's deadline ends the asking.
        let asked = self.insist(Duration::MAX, || {
            let asked = AssertUnwindSafe(async { approver.ask(&request).await }).catch_unwind();
            asked.map(|asked| {
                asked.unwrap_or_else(|_| Err(Error::new(ErrorKind::Other, "the approver panicked")))
            })
        });
        Ok(Answer::Decided(asked.await?))
    }

    async fn hook(
        &self,
        name: &HookName,
        point: Point,
        why: Option<String>,
        until: Timestamp,
        revision: Option<RevisionId>,
    ) -> Result<Answer> {
        let hook = self.providers.hooks.get(name).ok_or_else(|| missing("hook", name.as_str()))?;
        let limit = until.since(self.now());
        let run = async {
            // The time is the hook's, and not what a provider takes that throttles.
            let names = self.insist(limit, || self.gate_context(revision.clone())).await?;
            let mut context = HookContext::new(point, names, (*self.release).clone());
            (context.why, context.before) = (why, self.before.as_deref().cloned());
            let run = AssertUnwindSafe(async { hook.run(&context).await });
            match timeout(limit, run.catch_unwind()).await {
                Ok(Ok(ran)) => ran,
                Ok(Err(_)) => Err(Error::new(ErrorKind::Other, "it panicked")),
                Err(_) => Err(Error::new(
                    ErrorKind::Timeout,
                    format!("it did not end within {}", human(limit)),
                )),
            }
        };
        run.await.map_err(|e| e.within(format_args!("{name} at {point}")))?;
        Ok(Answer::Done(None))
    }

    /// One measurement. Whatever keeps it from being one says nothing about the version; a mistake in the gate's set-up,
    /// which no further measurement mends, is an error.
    async fn measure(
        &self,
        name: &GateName,
        limit: Duration,
        revision: Option<RevisionId>,
    ) -> Result<Measurement> {
        let Some(gate) = self.providers.gates.get(name) else {
            return Ok(Measurement::inconclusive("the deployer has no gate of this name"));
        };
        let context = match self.insist(limit, || self.gate_context(revision.clone())).await {
            Ok(context) => context,
            // Of the providers, not of the gate.
            Err(error) => return Ok(Measurement::inconclusive(error.report())),
        };
        let measured = async { gate.measure(&context).await };
        Ok(match timeout(limit, AssertUnwindSafe(measured).catch_unwind()).await {
            Ok(Ok(Ok(measurement))) => measurement,
            Ok(Ok(Err(error))) if error.kind() == ErrorKind::Invalid => {
                return Err(error.within(format_args!("gate {name}")));
            }
            Ok(Ok(Err(error))) => Measurement::inconclusive(error.report()),
            Ok(Err(_)) => Measurement::inconclusive("the gate panicked"),
            Err(_) => Measurement::inconclusive(format!("no answer within {}", human(limit))),
        })
    }

    async fn gate_context(&self, revision: Option<RevisionId>) -> Result<GateContext> {
        let revision = revision.unwrap_or_else(|| RevisionId::new(""));
        let mut context =
            GateContext::new(self.service.clone(), self.rollout.clone(), self.candidate, revision);
        context.stable = self.stable;
        match &self.providers.balancer {
            Some(balancer) => {
                let state =
                    balancer.quick("read the balancer", balancer.observe(&self.service)).await?;
                let healthy =
                    state.targets_of(self.candidate).filter(|t| t.health == TargetHealth::Healthy);
                context.targets = healthy.map(|target| target.address.clone()).collect();
                (context.entry, context.test_entry) = (state.entry, state.test_entry);
            }
            None => {
                let orchestrator = &self.providers.orchestrator;
                let state =
                    orchestrator.quick("observe", orchestrator.observe(&self.service)).await?;
                let tasks = state
                    .place(self.candidate)
                    .map(|place| place.tasks.as_slice())
                    .unwrap_or_default();
                let ready = tasks.iter().filter(|task| task.state == TaskState::Ready);
                context.targets = ready.filter_map(|task| task.address.clone()).collect();
            }
        }
        Ok(context)
    }

    pub(super) async fn sleep_until(&self, until: Timestamp) {
        loop {
            let left = until.since(self.now());
            if left.is_zero() {
                return;
            }
            sleep(left).await;
        }
    }

    /// Calls until it works, or fails in a way that does not pass, or `within` is over.
    pub(super) async fn insist<T, F>(&self, within: Duration, call: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        retry::insist(&self.jitter, within, call).await
    }

    /// The load balancer, where there has to be one.
    pub(super) fn balancer(&self) -> Result<&Provided<dyn LoadBalancer>> {
        self.providers.balancer.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "the deployer has no load balancer")
                .with_hint("build it with one, or plan the service as a worker")
        })
    }
}

/// The error for a name in a plan that the deployer was not given.
pub(crate) fn missing(what: &str, name: &str) -> Error {
    let message = format!("the plan names {what} {name:?}, which the deployer does not have");
    Error::new(ErrorKind::NotFound, message)
        .with_hint(format!("give it to the builder: .{what}({name:?}, ..)"))
}
