//! A service of a test's own on the real Engine, gone when the test ends, however it ends.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::KillContainerOptionsBuilder;
use deploykit_core::{
    ImageRef, Launch, Orchestrator, Place, PlaceState, Registry, Release, RevisionId, RolloutId,
    ServiceName, ServiceSpec, TaskState,
};
use deploykit_docker::{Docker, Engine, LocalImages};

/// Far more than anything takes here; only a failure waits for it.
const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) docker: Docker,
    pub(crate) service: ServiceName,
    /// For looking behind the scenes.
    pub(crate) client: bollard::Docker,
}

/// Runs a test on a service and a network of its own, and removes both.
pub(crate) async fn on_docker<F>(name: &str, test: impl FnOnce(World) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let service = ServiceName::new(format!("dko-{name}-{}", std::process::id())).unwrap();
    let engine = Engine::connect().await.expect("these tests need a Docker Engine");
    let docker = Docker::new(engine).with_network(service.as_str());
    let client = bollard::Docker::connect_with_defaults().unwrap();
    let client = client.negotiate_version().await.unwrap();
    let world = World { docker, service, client };
    let result = tokio::spawn(test(world.clone())).await;
    world.docker.remove_jobs(&world.service).await.unwrap();
    for place in [Place::A, Place::B] {
        world.docker.retire(&world.service, place).await.unwrap();
    }
    if let Err(failed) = result {
        std::panic::resume_unwind(failed.into_panic());
    }
}

impl World {
    /// Another deployer's view of the same service: nothing is shared but the Engine.
    pub(crate) async fn newcomer(&self) -> Docker {
        Docker::new(Engine::connect().await.unwrap()).with_network(self.service.as_str())
    }

    /// One of the test images under these settings.
    pub(crate) async fn release(&self, tag: &str, spec: ServiceSpec) -> Release {
        let image = ImageRef::parse(&format!("deploykit/testbed:{tag}")).unwrap();
        let local = LocalImages::new(self.docker.engine().clone());
        let image = local.resolve(&image).await.expect("run `cargo xtask parts` first");
        Release::new(image, spec)
    }

    pub(crate) async fn register(&self, tag: &str, spec: ServiceSpec) -> RevisionId {
        let release = self.release(tag, spec).await;
        self.docker.register(&self.service, &release).await.unwrap()
    }

    pub(crate) fn wanted(&self, place: Place, revision: &RevisionId, count: u32) -> Launch {
        Launch {
            service: self.service.clone(),
            place,
            revision: revision.clone(),
            count,
            rollout: RolloutId::new("test-1"),
        }
    }

    /// Launches in place A.
    pub(crate) async fn launch(&self, revision: &RevisionId, count: u32) {
        self.docker.launch(&self.wanted(Place::A, revision, count)).await.unwrap();
    }

    /// Place A, once it is as it should be.
    pub(crate) async fn until(
        &self,
        wanted: &str,
        is_so: impl Fn(&PlaceState) -> bool + Send + Sync,
    ) -> PlaceState {
        until(&self.docker, &self.service, wanted, is_so).await
    }

    pub(crate) async fn until_ready(&self, count: u32) -> PlaceState {
        self.until("all ready", |place| place.ready() == count).await
    }

    /// Launches one task in place A and returns its address once it is ready.
    pub(crate) async fn serve(&self, tag: &str, spec: ServiceSpec) -> String {
        let revision = self.register(tag, spec).await;
        self.launch(&revision, 1).await;
        self.until_ready(1).await.tasks[0].address.clone().unwrap()
    }

    /// Sends a signal to a task of place A. SIGSTOP makes it deaf to everything but SIGKILL and SIGCONT.
    pub(crate) async fn signal(&self, number: u32, signal: &str) {
        let name = format!("{}-A-{number}", self.service);
        let options = KillContainerOptionsBuilder::new().signal(signal).build();
        self.client.kill_container(&name, Some(options)).await.unwrap();
    }

    /// What the Engine says of a task of place A.
    pub(crate) async fn inspect(&self, number: u32) -> ContainerInspectResponse {
        let name = format!("{}-A-{number}", self.service);
        self.client.inspect_container(&name, None).await.unwrap()
    }
}

pub(crate) async fn until(
    docker: &Docker,
    service: &ServiceName,
    wanted: &str,
    is_so: impl Fn(&PlaceState) -> bool + Send + Sync,
) -> PlaceState {
    let mut last = None;
    let wait = async {
        loop {
            let state = docker.observe(service).await.unwrap();
            last = state.place(Place::A).cloned();
            if let Some(place) = last.clone().filter(&is_so) {
                return place;
            }
            docker.changed(service, Duration::from_secs(1)).await;
        }
    };
    match tokio::time::timeout(DEADLINE, wait).await {
        Ok(place) => place,
        Err(_) => panic!("not {wanted} in {DEADLINE:?}, but {last:#?}"),
    }
}

/// Why the first task failed, if it did.
pub(crate) fn failure(place: &PlaceState) -> Option<&str> {
    place.tasks.iter().find_map(|task| match &task.state {
        TaskState::Failed { why } => Some(why.as_str()),
        _ => None,
    })
}

/// The body of `GET http://address/path`.
pub(crate) async fn get(address: &str, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// The readiness that the test images answer.
pub(crate) fn http() -> ServiceSpec {
    ServiceSpec::http(8080, "/health").with_stop_grace(Duration::from_secs(5))
}
