//! The orchestrator, and tasks for the balancer.

use std::sync::Arc;
use std::time::Duration;

use deploykit_core::{
    ImageRef, Launch, Orchestrator, Place, Registry, Release, RolloutId, ServiceName, ServiceSpec,
    Task, async_trait,
};
use deploykit_docker::{Docker, Engine, LocalImages};
use deploykit_testing::conformance::{self, OrchestratorHarness};

use crate::PATIENCE;

/// Tasks of the test image, on a network of their own that goes with the last of them.
pub(crate) struct Tasks {
    network: String,
    pub(crate) release: Release,
}

impl Tasks {
    pub(crate) async fn new(name: &str) -> Self {
        let engine = Engine::connect().await.expect("these tests need a Docker Engine");
        let image = ImageRef::parse("deploykit/testbed:good").unwrap();
        let image = LocalImages::new(engine).resolve(&image).await;
        let image = image.expect("run `cargo xtask parts` first");
        let spec = ServiceSpec::http(8080, "/health").with_stop_grace(Duration::from_secs(5));
        let network = format!("dkc-{name}-{}", std::process::id());
        Self { network, release: Release::new(image, spec) }
    }

    pub(crate) async fn docker(&self) -> Docker {
        Docker::new(Engine::connect().await.unwrap()).with_network(&self.network)
    }

    /// Tasks that answer with the name of their place.
    pub(crate) async fn serve(&self, service: &ServiceName, place: Place, count: u32) -> Vec<Task> {
        let docker = self.docker().await;
        let mut release = self.release.clone();
        release.spec = release.spec.with_env("VERSION", place.to_string());
        let revision = docker.register(service, &release).await.unwrap();
        let rollout = RolloutId::new("conformance-1");
        let launch = Launch { service: service.clone(), place, revision, count, rollout };
        docker.launch(&launch).await.unwrap();
        docker.observe(service).await.unwrap().place(place).unwrap().tasks.clone()
    }

    /// A job of so many milliseconds.
    fn job(&self, time: &str) -> Release {
        let spec = ServiceSpec::worker().with_command(["job", time, "0"]);
        // It does not hear SIGTERM.
        Release::new(self.release.image.clone(), spec.with_stop_grace(Duration::from_secs(1)))
    }
}

#[async_trait]
impl OrchestratorHarness for Tasks {
    async fn open(&self) -> Arc<dyn Orchestrator> {
        Arc::new(self.docker().await)
    }

    async fn release(&self) -> Release {
        self.release.clone()
    }

    async fn job(&self) -> Release {
        self.job("500")
    }

    async fn endless_job(&self) -> Release {
        self.job("3600000")
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_keeps_the_promises_of_an_orchestrator() {
    let report = conformance::orchestrator(&Tasks::new("tasks").await).await;
    println!("{report}");
    report.assert_kept();
}
