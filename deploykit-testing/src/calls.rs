//! Calls to the providers: counted, written down, and struck by faults.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use deploykit_core::{Error, ErrorKind, Result, ServiceName};

use crate::fault::{Fate, Fault};
use crate::state::State;
use crate::throttle::{Buckets, Provider};
use crate::world::World;

/// A method of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// `Registry::resolve`
    Resolve,
    /// `Registry::publish`
    Publish,
    /// `Registry::tag`
    Tag,
    /// `Orchestrator::observe`
    ObserveTasks,
    /// `Orchestrator::register`
    Register,
    /// `Orchestrator::describe`
    Describe,
    /// `Orchestrator::launch`
    Launch,
    /// `Orchestrator::stop`
    Stop,
    /// `Orchestrator::retire`
    Retire,
    /// `Orchestrator::start_job`
    StartJob,
    /// `Orchestrator::await_job`
    AwaitJob,
    /// `Orchestrator::remove_jobs`
    RemoveJobs,
    /// `LoadBalancer::observe`
    ObserveRouting,
    /// `LoadBalancer::set_routing`
    SetRouting,
    /// `LoadBalancer::set_test_route`
    SetTestRoute,
    /// `LoadBalancer::add_targets`
    AddTargets,
    /// `LoadBalancer::remove_targets`
    RemoveTargets,
    /// `LoadBalancer::drain`
    Drain,
    /// `HealthGate::measure` of a [`WorldGate`](crate::WorldGate)
    Measure,
}

impl Operation {
    /// Who answers it; a gate is nobody's.
    pub(crate) const fn provider(self) -> Option<Provider> {
        match self {
            Self::Resolve | Self::Publish | Self::Tag => Some(Provider::Registry),
            Self::ObserveTasks
            | Self::Register
            | Self::Describe
            | Self::Launch
            | Self::Stop
            | Self::Retire
            | Self::StartJob
            | Self::AwaitJob
            | Self::RemoveJobs => Some(Provider::Orchestrator),
            Self::ObserveRouting
            | Self::SetRouting
            | Self::SetTestRoute
            | Self::AddTargets
            | Self::RemoveTargets
            | Self::Drain => Some(Provider::Balancer),
            Self::Measure => None,
        }
    }

    /// Whether it may change something.
    pub const fn is_mutation(self) -> bool {
        match self {
            Self::Resolve
            | Self::ObserveTasks
            | Self::Describe
            | Self::AwaitJob
            | Self::ObserveRouting
            | Self::Measure => false,
            Self::Publish
            | Self::Tag
            | Self::Register
            | Self::Launch
            | Self::Stop
            | Self::Retire
            | Self::StartJob
            | Self::RemoveJobs
            | Self::SetRouting
            | Self::SetTestRoute
            | Self::AddTargets
            | Self::RemoveTargets
            | Self::Drain => true,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Resolve => "resolve",
            Self::Publish => "publish",
            Self::Tag => "tag",
            Self::ObserveTasks => "observe tasks",
            Self::Register => "register",
            Self::Describe => "describe",
            Self::Launch => "launch",
            Self::Stop => "stop",
            Self::Retire => "retire",
            Self::StartJob => "start job",
            Self::AwaitJob => "await job",
            Self::RemoveJobs => "remove jobs",
            Self::ObserveRouting => "observe routing",
            Self::SetRouting => "set routing",
            Self::SetTestRoute => "set test route",
            Self::AddTargets => "add targets",
            Self::RemoveTargets => "remove targets",
            Self::Drain => "drain",
            Self::Measure => "measure",
        })
    }
}

/// A call that may have changed something.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call {
    /// When it took effect or failed, since the world began.
    pub at: Duration,
    /// Which method.
    pub operation: Operation,
    /// For which service.
    pub service: ServiceName,
    /// What was asked for, for people.
    pub what: String,
    /// Whether it changed anything; repeated calls do not.
    pub changed: bool,
    /// What it answered, where that was an error. A call whose answer was lost has one, and has changed something.
    pub error: Option<ErrorKind>,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, operation) = (self.at.as_secs_f64(), self.operation);
        write!(f, "{at:.3} s {}: {operation} {}", self.service, self.what)?;
        if let Some(error) = self.error {
            write!(f, ": {error:?}")?;
        }
        if self.changed { Ok(()) } else { f.write_str(" (changed nothing)") }
    }
}

/// What was called, and what is to go wrong.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    pub(crate) mutations: Vec<Call>,
    pub(crate) counts: BTreeMap<Operation, u64>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) buckets: Buckets,
}

impl State {
    /// Counts a call and says what becomes of it.
    fn begin_call(&mut self, operation: Operation, service: Option<&ServiceName>) -> Fate {
        *self.calls.counts.entry(operation).or_default() += 1;
        let throttled = self.take_token(operation);
        let fate = self.struck(operation, service);
        Fate { before: fate.before.or(throttled), ..fate }
    }

    /// What the faults make of a call.
    fn struck(&mut self, operation: Operation, service: Option<&ServiceName>) -> Fate {
        if self.calls.faults.is_empty() {
            return Fate::default();
        }
        // Taken out while the conditions look at the state.
        let mut faults = std::mem::take(&mut self.calls.faults);
        let mut fate = None;
        for fault in &mut faults {
            let look = || service.map(|service| self.snapshot(service.as_str()));
            if fault.concerns(operation, service, look) && fault.strikes(fate.is_some()) {
                fate = Some(fault.fate());
            }
        }
        faults.retain(|fault| !fault.is_spent());
        self.calls.faults = faults;
        fate.unwrap_or_default()
    }
}

impl World {
    /// Makes a call to a provider: counts it, lets faults strike it, does it, and writes it down.
    pub(crate) async fn call<T>(
        &self,
        operation: Operation,
        service: Option<&ServiceName>,
        what: impl FnOnce() -> String,
        act: impl FnOnce(&mut State) -> Result<T>,
    ) -> Result<T> {
        let (fate, time) = {
            let mut state = self.lock();
            let fate = state.begin_call(operation, service);
            let time = state.settings.call_time.saturating_add(fate.delay);
            (fate, time)
        };
        if !time.is_zero() {
            tokio::time::sleep(time).await;
        }
        let mut state = self.lock();
        let before = state.version;
        let result = match fate.before {
            Some(error) => Err(error),
            None => act(&mut state),
        };
        let result = match fate.after {
            Some(error) => result.and(Err(error)),
            None => result,
        };
        let changed = state.version != before;
        if operation.is_mutation()
            && let Some(service) = service
        {
            let call = Call {
                at: state.now,
                operation,
                service: service.clone(),
                what: what(),
                changed,
                error: result.as_ref().err().map(Error::kind),
            };
            state.calls.mutations.push(call);
        }
        drop(state);
        if changed {
            self.tell_waiters();
        }
        result
    }

    /// How often a method was called, and failed calls count too.
    pub fn count(&self, operation: Operation) -> u64 {
        self.lock().calls.counts.get(&operation).copied().unwrap_or_default()
    }

    /// All calls that may have changed something, in order, failed ones included.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.mutations.clone()
    }
}
