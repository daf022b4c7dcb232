//! From the world as it is to a plan.

use std::time::Duration;

use super::ledger::Ledger;
use super::{Change, Deployer, release_blob};
use crate::driver::{self, Jitter, Providers, missing};
use crate::error::{Error, ErrorKind, Result};
use crate::image::{ImageRef, PinnedImage};
use crate::name::{Place, RevisionId, Role, ServiceName};
use crate::plan::{Draft, FORMAT, Fingerprint, HookUse, Plan, Standing, Step};
use crate::provider::{BalancerCapability, ServiceState};
use crate::release::Release;
use crate::routing::{Routing, Weight};
use crate::strategy::{Context, Strategy};

/// How long requests may take to end before a place is removed to make room.
pub(super) const MAKE_ROOM: Duration = Duration::from_secs(30);
/// How long a place that still runs may take to show that it is healthy.
const STILL_HEALTHY: Duration = Duration::from_secs(60);

impl Found {
    /// Whether the service has all the tasks that it is to have.
    pub(super) fn is_complete(&self) -> bool {
        let stable = self.world.stable.as_ref();
        let seen = stable.and_then(|stable| self.state.place(stable.place));
        seen.is_some_and(|seen| seen.ready() >= seen.desired)
    }
}

/// What planning found.
pub(super) struct Found {
    pub(super) world: Fingerprint,
    pub(super) before: Option<Release>,
    state: ServiceState,
}

/// How long planning asks a provider whose failure may pass: somebody is waiting.
const ASKING: Duration = Duration::from_secs(5);

impl Deployer {
    /// Asks until there is an answer, or a failure that does not pass, for a short time.
    async fn insist<T, F: Future<Output = Result<T>>>(&self, call: impl FnMut() -> F) -> Result<T> {
        let jitter = Jitter::new((&self.name, self.providers.clock.now().to_string()));
        driver::insist(&jitter, ASKING, call).await
    }

    /// The world as plans see it.
    pub(super) async fn find(&self, service: &ServiceName, ledger: &Ledger) -> Result<Found> {
        let providers = &self.providers;
        let orchestrator = &providers.orchestrator;
        let look = || orchestrator.quick("observe the tasks", orchestrator.observe(service));
        let state = self.insist(look).await?;
        let routing = match &providers.balancer {
            Some(balancer) => {
                let look = || balancer.quick("observe the balancer", balancer.observe(service));
                self.insist(look).await?.routing
            }
            None => Routing::None,
        };
        let known = ledger.roles.stable.clone();
        let stable = match known {
            // What runs there counts, should somebody else have replaced it.
            Some(known) => Some(match state.place(known.place) {
                Some(seen) => Standing { place: known.place, revision: seen.revision.clone() },
                None => known,
            }),
            // The first rollout of all is open.
            None if ledger.unfinished().is_some() => None,
            None => adopt(service, &state, &routing)?,
        };
        let held = ledger.roles.held.clone();
        let seen = stable.as_ref().and_then(|stable| state.place(stable.place));
        let desired = seen.map_or(ledger.tasks, |seen| seen.desired).max(1);
        let before = match &stable {
            Some(stable) => Some(self.release_of(service, &stable.revision).await?),
            None => None,
        };
        Ok(Found { world: Fingerprint { stable, held, routing, desired }, before, state })
    }

    /// A release by its revision: as it was kept, else as the provider describes it.
    pub(super) async fn release_of(
        &self,
        service: &ServiceName,
        revision: &RevisionId,
    ) -> Result<Release> {
        match self.store.get(service, &release_blob(revision)).await? {
            Some(json) => serde_json::from_slice(&json).map_err(|e| {
                Error::new(
                    ErrorKind::Corrupt,
                    format!("the kept release {revision} of {service} cannot be read"),
                )
                .with_source(e)
            }),
            None => {
                let orchestrator = &self.providers.orchestrator;
                let ask =
                    || orchestrator.quick("describe", orchestrator.describe(service, revision));
                self.insist(ask).await
            }
        }
    }

    /// The release that a change asks for.
    pub(super) async fn wanted(
        &self,
        service: &ServiceName,
        before: Option<&Release>,
        change: &Change,
    ) -> Result<Release> {
        let spec = change.spec.clone().or_else(|| before.map(|before| before.spec.clone()));
        let mut spec = spec.ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("service {service} does not exist yet, and the change has no spec"),
            )
            .with_hint("say how to run it: Change::with_spec(ServiceSpec::http(8080, \"/health\"))")
        })?;
        change.check_unset(&spec).map_err(|e| e.within(format_args!("change of {service}")))?;
        for name in &change.unset {
            spec.env.remove(name);
            spec.secrets.remove(name);
        }
        spec.env.extend(change.env.clone());
        spec.secrets.extend(change.secrets.clone());
        spec.check()?;
        let image = match &change.image {
            Some(image) => self.pin(&ImageRef::parse(image)?).await?,
            None => before.map(|before| before.image.clone()).ok_or_else(|| {
                Error::new(
                    ErrorKind::NotFound,
                    format!("service {service} does not exist, so there is nothing to restart"),
                )
            })?,
        };
        let mut sidecars = before.map(|before| before.sidecars.clone()).unwrap_or_default();
        for (container, image) in &change.sidecars {
            sidecars.insert(container.clone(), self.pin(&ImageRef::parse(image)?).await?);
        }
        Ok(Release { image, sidecars, spec })
    }

    async fn pin(&self, image: &ImageRef) -> Result<PinnedImage> {
        let registry = &self.providers.registry;
        self.insist(|| registry.quick("resolve", registry.resolve(image))).await.map_err(|e| {
            // Most registries name it themselves.
            let named = e.message().contains(&image.to_string());
            let e = if named { e } else { e.within(format_args!("image {image}")) };
            e.or_hint("look whether the registry has it and can be reached")
        })
    }

    /// The steps around what the strategy drafts, checked.
    pub(super) async fn compose(
        &self,
        service: &ServiceName,
        strategy: &dyn Strategy,
        found: Found,
        release: Release,
        replicas: Option<u32>,
    ) -> Result<Plan> {
        found.world.check_served(service)?;
        let mut found = found;
        if found.world.stable.is_none() {
            found.world.desired = replicas.unwrap_or(1);
        }
        let balancer = self.balancing(service).await?;
        let context = Context {
            service: service.clone(),
            desired: replicas.unwrap_or(found.world.desired),
            stable: found.world.stable.as_ref().map(|stable| stable.place),
            orchestrator: self.providers.orchestrator.capability(),
            balancer,
        };
        let draft = strategy.draft(&context)?;
        let mut steps = draft.steps;
        if steps.is_empty() {
            let name = strategy.name();
            return Err(Error::invalid(format!("strategy {name} drafted no steps"))
                .with_hint("a draft goes from launch to promote, then hold or retire"));
        }
        if found.world.held.is_some() {
            // A bad version does not cost the fast way back, where there is room for three.
            let promote = steps.iter().position(|step| *step == Step::Promote);
            let room = context.orchestrator.places > 2;
            let at = promote.filter(|_| room).unwrap_or(0);
            steps.insert(at, Step::Retire { role: Role::Held, drain: MAKE_ROOM });
        }
        let candidate = self.free_place(service, &found)?;
        let plan = Plan {
            format: FORMAT,
            service: service.clone(),
            strategy: strategy.name().to_owned(),
            release,
            before: found.before,
            candidate,
            from_held: false,
            back: false,
            replicas,
            world: found.world,
            steps,
            on_orphan: draft.on_orphan,
            hooks: Vec::new(),
            jobs: Vec::new(),
        };
        self.check_for(&plan, balancer)?;
        Ok(plan)
    }

    /// A place that nothing runs in.
    fn free_place(&self, service: &ServiceName, found: &Found) -> Result<Place> {
        let stable = found.world.stable.as_ref().map(|stable| stable.place);
        let held = found.world.held.as_ref().map(|held| held.place);
        let places = self.providers.orchestrator.capability().places;
        let free = |place: &Place| {
            Some(*place) != stable && Some(*place) != held && found.state.place(*place).is_none()
        };
        // Where there is no other, the held place is free once it is retired.
        Place::all().take(places).find(free).or(held).ok_or_else(|| {
            Error::new(
                ErrorKind::Foreign,
                format!("all {places} places of {service} hold tasks that no rollout knows"),
            )
            .with_hint("remove those that serve nothing")
        })
    }

    /// The plan that turns back to the place that is still held.
    pub(super) fn back_to_held(
        &self,
        service: &ServiceName,
        found: Found,
        held: &Standing,
        release: Release,
    ) -> Plan {
        let mut draft = Draft::new().await_healthy(STILL_HEALTHY);
        if self.providers.balancer.is_some() {
            draft = draft.shift(Weight::ALL);
        }
        let draft = draft.promote().retire(MAKE_ROOM);
        Plan {
            format: FORMAT,
            service: service.clone(),
            strategy: "rollback".to_owned(),
            release,
            before: found.before,
            candidate: held.place,
            from_held: true,
            back: true,
            replicas: None,
            world: found.world,
            steps: draft.steps,
            on_orphan: draft.on_orphan,
            hooks: Vec::new(),
            jobs: Vec::new(),
        }
    }

    /// What the balancer can do for a service; none for a worker.
    async fn balancing(&self, service: &ServiceName) -> Result<Option<BalancerCapability>> {
        let Some(balancer) = &self.providers.balancer else { return Ok(None) };
        let what = "ask what the balancer can do";
        self.insist(|| balancer.quick(what, balancer.capability_for(service))).await.map(Some)
    }

    /// Checks a plan against the providers and the gates of this deployer.
    pub(super) async fn check(&self, plan: &Plan) -> Result<()> {
        self.check_for(plan, self.balancing(&plan.service).await?)
    }

    fn check_for(&self, plan: &Plan, balancer: Option<BalancerCapability>) -> Result<()> {
        plan.check(self.providers.orchestrator.capability(), balancer).map_err(|e| {
            e.within(format_args!("plan for {}, {}", plan.service, plan.strategy))
                .or_hint("change that step, or the strategy's settings that it comes from")
        })?;
        self.check_names(&plan.steps, &plan.hooks)
    }

    /// Checks that the deployer has every gate and approver that the steps name, and the hooks.
    pub(super) fn check_names(&self, steps: &[Step], hooks: &[HookUse]) -> Result<()> {
        let Providers { gates, approvers, hooks: known, .. } = &*self.providers;
        for gate in steps.iter().flat_map(Step::gates) {
            if !gates.contains_key(&gate.gate) {
                return Err(missing("gate", gate.gate.as_str()));
            }
        }
        for step in steps {
            if let Step::Approve { approver: Some(name), .. } = step
                && !approvers.contains_key(name)
            {
                return Err(missing("approver", name.as_str()));
            }
        }
        match hooks.iter().find(|hook| !known.contains_key(&hook.hook)) {
            Some(hook) => Err(missing("hook", hook.hook.as_str())),
            None => Ok(()),
        }
    }
}

impl Fingerprint {
    /// Whether the place that served last gets the requests. Shares between it and a candidate would go to a place that somebody
    /// has left, and perhaps emptied.
    fn check_served(&self, service: &ServiceName) -> Result<()> {
        let Some(stable) = self.stable.as_ref().map(|stable| stable.place) else {
            return Ok(());
        };
        let is_other =
            |place: &Place| *place != stable && self.routing.weight(*place) != Weight::NONE;
        let Some(other) = self.routing.places().find(is_other) else {
            return Ok(());
        };
        let hint = match &self.held {
            Some(held) if held.place == other => {
                "roll back, which makes that place stable; or set the routing back".to_owned()
            }
            _ => format!(
                "set the routing back to place {stable}; or, where place {other} is to serve, move the history of {service} out of the store: the next plan takes for stable whoever gets all requests"
            ),
        };
        Err(Error::new(
            ErrorKind::Foreign,
            format!("by the history of {service} place {stable} serves, and the routing is {}: somebody else has set it", self.routing),
        )
        .with_hint(hint))
    }
}

/// The place that serves a service without a history.
fn adopt(
    service: &ServiceName,
    state: &ServiceState,
    routing: &Routing,
) -> Result<Option<Standing>> {
    let full = routing.places().find(|place| routing.weight(*place) == Weight::ALL);
    let serving = match (full, state.places.as_slice()) {
        (_, []) => return Ok(None),
        (Some(place), _) => state.place(place),
        (None, [only]) => Some(only),
        (None, _) => None,
    };
    let Some(serving) = serving else {
        let places: Vec<_> = state.places.iter().map(|place| place.place.to_string()).collect();
        return Err(Error::new(
            ErrorKind::Foreign,
            format!("{service} has no history here, and it cannot be told which of its places {} serves", places.join(", ")),
        )
        .with_hint("use the store that its rollouts were run with, or remove the places that do not serve"));
    };
    Ok(Some(Standing { place: serving.place, revision: serving.revision.clone() }))
}
