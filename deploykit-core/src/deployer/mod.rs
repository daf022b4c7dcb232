//! Where users begin: plans, deployments, rollbacks, recovery.

mod builder;
mod change;
mod handle;
mod ledger;
mod planning;
mod rivals;
mod running;

use std::sync::Arc;
use std::time::Duration;

pub use builder::{DeployerBuilder, Missing};
pub use change::Change;
pub use handle::{Control, Rollout, Updates};
use ledger::Ledger;
pub use ledger::Past;
pub use rivals::Supervised;

use crate::driver::Providers;
use crate::error::{Error, ErrorKind, Result};
use crate::machine::{Event, Record};
use crate::name::{RevisionId, ServiceName};
use crate::outcome::{Outcome, StepTime};
use crate::plan::{Plan, Standing};
use crate::release::Release;
use crate::routing::Routing;
use crate::store::{Journal, Store};
use crate::strategy::Strategy;
use crate::time::Timestamp;

/// What there is of a service.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Status {
    /// What serves; none before the first deployment.
    pub stable: Option<Standing>,
    /// That release in full.
    pub release: Option<Release>,
    /// How many tasks it is to have.
    pub desired: u32,
    /// The former stable that is still kept.
    pub held: Option<Standing>,
    /// Until when; after that [`Deployer::settle`] retires it.
    pub hold_until: Option<Timestamp>,
    /// Where requests go.
    pub routing: Routing,
    /// The rollout that has begun and not ended well: somebody works on it, or it is to be [recovered](Deployer::recover).
    pub open: Option<Past>,
    /// The step that it is at, as far as it is written down.
    pub step: Option<StepTime>,
    /// Since when it is paused.
    pub paused: Option<Timestamp>,
}

/// The name under which a release is kept.
fn release_blob(revision: &RevisionId) -> String {
    format!("release/{revision}")
}

/// Deploys services: one orchestrator, one balancer, one store, any number of services.
///
/// Cheap to clone. Services are independent of each other; for one service, one rollout runs at a time, whoever asks.
#[derive(Clone, Debug)]
pub struct Deployer {
    providers: Arc<Providers>,
    store: Arc<dyn Store>,
    name: String,
    lease: Duration,
}

/// What [`Deployer::plan`] and the others take as a service's name.
fn named<N>(service: N) -> Result<ServiceName>
where
    N: TryInto<ServiceName>,
    Error: From<N::Error>,
{
    service.try_into().map_err(Error::from)
}

impl From<std::convert::Infallible> for Error {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

impl Deployer {
    /// Plans how a service gets to a change. Reads the registry, the providers and the store; changes nothing.
    ///
    /// # Errors
    /// `Invalid` or `Unsupported` for what cannot be done, naming the field or step; `NotFound` for an unknown image, a new
    /// service without a spec, or a gate that this deployer was not given; `Conflict` while another rollout of the service has not
    /// ended; `Foreign` where it cannot be told which of the service's places serves, or where requests go to another one.
    pub async fn plan<N>(&self, service: N, strategy: &dyn Strategy, change: Change) -> Result<Plan>
    where
        N: TryInto<ServiceName> + Send,
        Error: From<N::Error>,
    {
        let service = named(service)?;
        if change.replicas == Some(0) {
            return Err(Error::invalid("replicas is 0").with_hint("ask for at least one task"));
        }
        let ledger = self.settled_ledger(&service).await?;
        let found = self.find(&service, &ledger).await?;
        let release = self.wanted(&service, found.before.as_ref(), &change).await?;
        let same = found.before.as_ref().is_some_and(|before| before.digest() == release.digest());
        let counted = change.replicas.is_none_or(|replicas| replicas == found.world.desired);
        let there = found.is_complete();
        let mut plan = self.compose(&service, strategy, found, release, change.replicas).await?;
        if same && counted && there && !change.force {
            plan.steps.clear();
        }
        Ok(plan)
    }

    /// Plans the way back to what served before: to the held place if that is held, else by the strategy. Once more goes
    /// further back, never forward to what was left.
    ///
    /// # Errors
    /// As for [`plan`](Self::plan); `NotFound` when nothing served before.
    pub async fn plan_rollback<N>(&self, service: N, strategy: &dyn Strategy) -> Result<Plan>
    where
        N: TryInto<ServiceName> + Send,
        Error: From<N::Error>,
    {
        let service = named(service)?;
        let ledger = self.settled_ledger(&service).await?;
        let held = ledger.roles.held.as_ref().map(|held| &held.revision);
        let earlier = ledger.previous().or(held).cloned();
        let earlier = earlier.ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("nothing served for {service} before what serves now"),
            )
        })?;
        self.plan_back(service, ledger, strategy, &earlier).await
    }

    /// Plans the way to a revision that served at some time; [`history`](Self::history) lists them.
    ///
    /// # Errors
    /// As for [`plan`](Self::plan); `NotFound` for a revision that never served.
    pub async fn plan_rollback_to<N>(
        &self,
        service: N,
        revision: &RevisionId,
        strategy: &dyn Strategy,
    ) -> Result<Plan>
    where
        N: TryInto<ServiceName> + Send,
        Error: From<N::Error>,
    {
        let service = named(service)?;
        let ledger = self.settled_ledger(&service).await?;
        if !ledger.served(revision) {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("revision {revision} never served for {service}"),
            )
            .with_hint("history lists the revisions that did"));
        }
        self.plan_back(service, ledger, strategy, revision).await
    }

    async fn plan_back(
        &self,
        service: ServiceName,
        ledger: Ledger,
        strategy: &dyn Strategy,
        revision: &RevisionId,
    ) -> Result<Plan> {
        let found = self.find(&service, &ledger).await?;
        let release = self.release_of(&service, revision).await?;
        match found.world.held.clone() {
            Some(held) if held.revision == *revision => {
                let plan = self.back_to_held(&service, found, &held, release);
                self.check(&plan).await?;
                Ok(plan)
            }
            _ => {
                let same =
                    found.world.stable.as_ref().is_some_and(|stable| stable.revision == *revision);
                let mut plan = self.compose(&service, strategy, found, release, None).await?;
                plan.back = true;
                if same {
                    plan.steps.clear();
                }
                Ok(plan)
            }
        }
    }

    /// Plans as [`plan`](Self::plan) does, and deploys it: for a pipeline in which nobody looks at plans.
    ///
    /// # Errors
    /// As for planning and [`deploy`](Self::deploy).
    pub async fn rollout<N>(
        &self,
        service: N,
        strategy: &dyn Strategy,
        change: Change,
    ) -> Result<Rollout>
    where
        N: TryInto<ServiceName> + Send,
        Error: From<N::Error>,
    {
        self.deploy(self.plan(service, strategy, change).await?).await
    }

    /// Plans a rollback as [`plan_rollback`](Self::plan_rollback) does, and deploys it.
    ///
    /// # Errors
    /// As for planning and [`deploy`](Self::deploy).
    pub async fn rollback<N>(&self, service: N, strategy: &dyn Strategy) -> Result<Rollout>
    where
        N: TryInto<ServiceName> + Send,
        Error: From<N::Error>,
    {
        self.deploy(self.plan_rollback(service, strategy).await?).await
    }

    /// Plans a rollback as [`plan_rollback_to`](Self::plan_rollback_to) does, and deploys it.
    ///
    /// # Errors
    /// As for planning and [`deploy`](Self::deploy).
    pub async fn rollback_to<N>(
        &self,
        service: N,
        revision: &RevisionId,
        strategy: &dyn Strategy,
    ) -> Result<Rollout>
    where
        N: TryInto<ServiceName> + Send,
        Error: From<N::Error>,
    {
        self.deploy(self.plan_rollback_to(service, revision, strategy).await?).await
    }

    /// What there is of a service: what serves, what is held and until when, what is open.
    ///
    /// # Errors
    /// `Corrupt`, naming the line, when the history cannot be read; what the providers fail with.
    pub async fn status<N>(&self, service: N) -> Result<Status>
    where
        N: TryInto<ServiceName> + Send,
        Error: From<N::Error>,
    {
        let service = named(service)?;
        let mut ledger = Ledger::read(&self.store, &service).await?;
        let open = self.open(&service, &ledger).await?;
        let (mut step, mut paused) = (None, None);
        if let Some(past) = &open {
            // What is open knows the roles; the providers only show two places that both run.
            let (machine, _) = self.replayed(&service, &past.rollout).await?;
            ledger.stands(machine.roles(), machine.tasks());
            (step, paused) = (machine.step_time().cloned(), machine.paused());
        }
        let found = self.find(&service, &ledger).await?;
        Ok(Status {
            step,
            paused,
            stable: found.world.stable,
            release: found.before,
            desired: found.world.desired,
            held: ledger.roles.held,
            hold_until: ledger.roles.hold_until,
            routing: found.world.routing,
            open,
        })
    }

    /// The rollouts of a service, oldest first.
    ///
    /// # Errors
    /// `Corrupt`, naming the line, when the history cannot be read.
    pub async fn history<N>(&self, service: N) -> Result<Vec<Past>>
    where
        N: TryInto<ServiceName> + Send,
        Error: From<N::Error>,
    {
        Ok(Ledger::read(&self.store, &named(service)?).await?.past)
    }

    /// The history of a service on which nothing is open.
    async fn settled_ledger(&self, service: &ServiceName) -> Result<Ledger> {
        let ledger = Ledger::read(&self.store, service).await?;
        match ledger.unfinished() {
            None => Ok(ledger),
            Some(past) => {
                let open = self.open(service, &ledger).await?;
                Err(unfinished(service, open.as_ref().unwrap_or(past)))
            }
        }
    }

    /// The open rollout of a service, by whoever took it up last.
    async fn open(&self, service: &ServiceName, ledger: &Ledger) -> Result<Option<Past>> {
        let Some(mut past) = ledger.unfinished().cloned() else { return Ok(None) };
        let journal = Journal::Rollout(service.clone(), past.rollout.clone());
        for text in self.store.read(&journal, 0).await? {
            if let Ok(Record { event: Event::Recovered { by }, .. }) = running::read_record(&text) {
                past.by = by;
            }
        }
        Ok(Some(past))
    }
}

fn unfinished(service: &ServiceName, past: &Past) -> Error {
    match &past.outcome {
        Some(Outcome::NeedsOperator) => Error::new(
            ErrorKind::Conflict,
            format!(
                "{} needs an operator: {}",
                past.rollout,
                past.why.as_deref().unwrap_or("it could not be undone")
            ),
        )
        .with_hint(format!("mend what its report names, then call recover(\"{service}\")")),
        _ => Error::new(
            ErrorKind::Conflict,
            format!("{} of {service} has not ended; {} took it up last", past.rollout, past.by),
        )
        .with_hint(format!(
            "wait for it with wait_for_end, or have it undone with supersede; if its process is dead, call recover(\"{service}\")"
        )),
    }
}
