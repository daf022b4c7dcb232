//! The in-memory world.

use std::sync::Arc;
use std::time::Duration;

use deploykit_core::{
    BalancerCapability, Endpoint, Entry, GateContext, HealthGate, ImageRef, Launch, LoadBalancer,
    Orchestrator, OrchestratorCapability, PinnedImage, Place, Publish, Registry, Release,
    RevisionId, RolloutId, ServiceName, ServiceSpec, Verdict, async_trait,
};
use deploykit_testing::conformance::{self, BalancerHarness, OrchestratorHarness, RegistryHarness};
use deploykit_testing::{
    Behaviour, Settings, World, balancer_conformance, orchestrator_conformance,
    registry_conformance,
};

struct Backend {
    world: World,
    service: PinnedImage,
    job: PinnedImage,
    endless: PinnedImage,
}

impl Backend {
    fn new() -> Self {
        Self::tuned(|_| ())
    }

    /// With a balancer in which changes show late.
    fn lagging() -> Self {
        Self::tuned(|settings| settings.routing_lag = Duration::from_secs(20))
    }

    /// As little as there can be.
    fn poor() -> Self {
        Self::tuned(|settings| {
            settings.orchestrator = OrchestratorCapability::new().with_places(2);
            settings.balancer = BalancerCapability::all()
                .with_weighted(false)
                .with_pooled(false)
                .with_test_route(false);
        })
    }

    fn tuned(change: impl FnOnce(&mut Settings)) -> Self {
        let world = World::new(1);
        world.tune(|settings| {
            // Calls take a while, so that they can be dropped in between.
            settings.call_time = Duration::from_millis(5);
            change(settings);
        });
        world.build("built:1", Behaviour::good()).unwrap();
        let image = |name, behaviour| world.image(name, behaviour).unwrap();
        let good = Behaviour::good();
        let service = image("conformance/service:1", good);
        let job = image("conformance/job:1", good);
        let endless = image("conformance/endless:1", good.jobs_never_end());
        Self { world, service, job, endless }
    }
}

fn web(image: &PinnedImage) -> Release {
    Release::new(image.clone(), ServiceSpec::http(8080, "/health"))
}

#[async_trait]
impl OrchestratorHarness for Backend {
    async fn open(&self) -> Arc<dyn Orchestrator> {
        Arc::new(self.world.orchestrator())
    }

    async fn release(&self) -> Release {
        web(&self.service)
    }

    async fn job(&self) -> Release {
        Release::new(self.job.clone(), ServiceSpec::worker())
    }

    async fn endless_job(&self) -> Release {
        Release::new(self.endless.clone(), ServiceSpec::worker())
    }
}

#[async_trait]
impl BalancerHarness for Backend {
    async fn open(&self) -> Arc<dyn LoadBalancer> {
        Arc::new(self.world.balancer())
    }

    async fn tasks(&self, service: &ServiceName, place: Place, count: u32) -> Vec<Endpoint> {
        let orchestrator = self.world.orchestrator();
        let revision = orchestrator.register(service, &web(&self.service)).await.unwrap();
        let rollout = RolloutId::new("conformance-1");
        let service = service.clone();
        orchestrator
            .launch(&Launch { service: service.clone(), place, revision, count, rollout })
            .await
            .unwrap();
        let state = orchestrator.observe(&service).await.unwrap();
        let tasks = state.place(place).unwrap().tasks.iter();
        let endpoint = |task: &deploykit_core::Task| Endpoint {
            task: task.id.clone(),
            address: task.address.clone().unwrap(),
        };
        tasks.map(endpoint).collect()
    }

    async fn ask(&self, service: &ServiceName, entry: &Entry) -> Option<Place> {
        let gate = self.world.http_gate("/");
        let (rollout, revision) = (RolloutId::new("conformance-1"), RevisionId::new("any"));
        let mut context = GateContext::new(service.clone(), rollout, Place::A, revision);
        let gate = if entry.headers.is_empty() {
            context.entry = Some(entry.clone());
            gate.live()
        } else {
            context.test_entry = Some(entry.clone());
            gate
        };
        let measured = gate.measure(&context).await.unwrap();
        let (_, place) = measured.evidence.rsplit_once(" from ")?;
        (measured.verdict == Verdict::Pass).then(|| place.parse().unwrap())
    }

    async fn clean(&self, _: &ServiceName) {}
}

#[async_trait]
impl RegistryHarness for Backend {
    async fn open(&self) -> Arc<dyn Registry> {
        Arc::new(self.world.registry())
    }

    async fn image(&self) -> ImageRef {
        self.service.asked.clone()
    }

    async fn publish(&self, unique: &str) -> Option<Publish> {
        Some(Publish::image("built:1", &format!("conformance/{unique}"), ["1", "1.4"]).unwrap())
    }
}

mod orchestrator {
    use super::*;
    orchestrator_conformance! {
        #[tokio::test(start_paused = true)]
        Backend::new()
    }
}

mod balancer {
    use super::*;
    balancer_conformance! {
        #[tokio::test(start_paused = true)]
        Backend::new()
    }
}

mod registry {
    use super::*;
    registry_conformance! {
        #[tokio::test(start_paused = true)]
        Backend::new()
    }
}

#[tokio::test(start_paused = true)]
async fn a_world_in_which_routings_show_late_keeps_the_promises() {
    conformance::balancer(&Backend::lagging()).await.assert_kept();
}

#[tokio::test(start_paused = true)]
async fn a_world_that_can_do_little_keeps_the_promises() {
    conformance::orchestrator(&Backend::poor()).await.assert_kept();
    conformance::balancer(&Backend::poor()).await.assert_kept();
}
