//! The same operations, drawn from a seed, on the in-memory world and on Docker with HAProxy: what is observed after each has to
//! be the same, and so has each refusal.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use deploykit_core::{
    Endpoint, ErrorKind, ImageRef, Launch, LoadBalancer, Orchestrator, Place, Registry, Release,
    RevisionId, RolloutId, Routing, ServiceName, ServiceSpec, TargetHealth, Task, TaskId,
    TaskState, Weight,
};
use deploykit_docker::Frontend;
use deploykit_testing::conformance::unique_service;
use deploykit_testing::{Behaviour, World};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use tokio::time::{Instant, sleep};

use crate::PATIENCE;
use crate::haproxy::start;
use crate::tasks::Tasks;

/// How many runs there are, and how many operations each has.
const RUNS: usize = 5;
const OPERATIONS: usize = 20;
const IMAGE: &str = "deploykit/testbed:good";
/// Between two looks whether both have come to the same.
const A_MOMENT: Duration = Duration::from_millis(50);

#[derive(Clone, Debug)]
enum Operation {
    /// So many tasks of the first or the second revision.
    Launch(Place, usize, u32),
    /// Of the nth task, the oldest first; one that is not there is one that never was.
    Stop(Place, usize),
    Retire(Place),
    /// The first so many tasks become targets.
    Targets(Place, usize),
    /// Of the nth task.
    Drain(Place, usize),
    Route(Routing),
    Test(Option<Place>),
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let place = || prop_oneof![Just(Place::A), Just(Place::B)];
    let split = (place(), 0..=10_u16).prop_map(|(place, tenths)| {
        let weight = Weight::thousandths(tenths * 100).unwrap();
        Routing::split(if place == Place::A { Place::B } else { Place::A }, place, weight)
    });
    let routing = prop_oneof![4 => split, 1 => Just(Routing::Pooled), 1 => Just(Routing::Closed)];
    // Mostly the one that may run there already.
    let revision = prop_oneof![3 => Just(0), 1 => Just(1)];
    let operation = prop_oneof![
        6 => (place(), revision, 0..4_u32).prop_map(|(at, of, n)| Operation::Launch(at, of, n)),
        2 => (place(), 0..4_usize).prop_map(|(at, nth)| Operation::Stop(at, nth)),
        1 => place().prop_map(Operation::Retire),
        4 => (place(), 0..4_usize).prop_map(|(at, n)| Operation::Targets(at, n)),
        2 => (place(), 0..4_usize).prop_map(|(at, nth)| Operation::Drain(at, nth)),
        3 => routing.prop_map(Operation::Route),
        2 => prop::option::of(place()).prop_map(Operation::Test),
    ];
    prop::collection::vec(operation, OPERATIONS)
}

/// A service of one of the two.
struct Side {
    orchestrator: Arc<dyn Orchestrator>,
    balancer: Arc<dyn LoadBalancer>,
    service: ServiceName,
    revisions: Vec<RevisionId>,
}

/// What can be compared: names and addresses differ.
#[derive(Debug, PartialEq)]
struct Seen {
    /// The revision's number, the desired count, and how many tasks are ready.
    places: BTreeMap<Place, (Option<usize>, u32, usize)>,
    routing: Routing,
    test_route: Option<Place>,
    targets: BTreeMap<Place, Vec<String>>,
}

impl Side {
    async fn new(
        orchestrator: impl Orchestrator,
        balancer: impl LoadBalancer,
        service: ServiceName,
        release: &Release,
    ) -> Self {
        let mut revisions = Vec::new();
        for version in ["1", "2"] {
            let mut release = release.clone();
            release.spec = release.spec.with_env("VERSION", version);
            revisions.push(orchestrator.register(&service, &release).await.unwrap());
        }
        let (orchestrator, balancer) = (Arc::new(orchestrator), Arc::new(balancer));
        Self { orchestrator, balancer, service, revisions }
    }

    /// The living tasks of a place, in the order in which they are told.
    async fn tasks(&self, place: Place) -> Vec<Task> {
        let state = self.orchestrator.observe(&self.service).await.unwrap();
        let tasks = state.place(place).map(|place| place.tasks.clone()).unwrap_or_default();
        tasks.into_iter().filter(|task| task.state != TaskState::Stopping).collect()
    }

    async fn nth(&self, place: Place, nth: usize) -> Vec<TaskId> {
        let found = self.tasks(place).await.get(nth).map(|task| task.id.clone());
        vec![found.unwrap_or_else(|| TaskId::new("never-there"))]
    }

    /// What is to be stopped is no target any more: its name and its address may be another task's soon.
    async fn forget(&self, place: Place, goes: impl Fn(&TaskId) -> bool) {
        let state = self.balancer.observe(&self.service).await.unwrap();
        let tasks = state.targets_of(place).map(|target| target.task.clone());
        let gone: Vec<TaskId> = tasks.filter(goes).collect();
        self.balancer.remove_targets(&self.service, place, &gone).await.unwrap();
    }

    async fn perform(&self, operation: &Operation) -> Result<(), ErrorKind> {
        let (service, orchestrator, balancer) = (&self.service, &self.orchestrator, &self.balancer);
        let done = match operation {
            Operation::Launch(place, revision, count) => {
                let launch = Launch {
                    service: service.clone(),
                    place: *place,
                    revision: self.revisions[*revision].clone(),
                    count: *count,
                    rollout: RolloutId::new("differential-1"),
                };
                orchestrator.launch(&launch).await
            }
            Operation::Stop(place, nth) => {
                let tasks = self.nth(*place, *nth).await;
                self.forget(*place, |task| tasks.contains(task)).await;
                orchestrator.stop(service, *place, &tasks).await
            }
            Operation::Retire(place) => {
                self.forget(*place, |_| true).await;
                orchestrator.retire(service, *place).await
            }
            Operation::Targets(place, count) => {
                let tasks = self.tasks(*place).await.into_iter().take(*count);
                let endpoints: Vec<Endpoint> = tasks
                    .filter_map(|task| Some(Endpoint { task: task.id, address: task.address? }))
                    .collect();
                self.forget(*place, |task| endpoints.iter().all(|e| e.task != *task)).await;
                balancer.add_targets(service, *place, &endpoints).await
            }
            Operation::Drain(place, nth) => {
                balancer.drain(service, *place, &self.nth(*place, *nth).await).await
            }
            Operation::Route(routing) => balancer.set_routing(service, routing).await,
            Operation::Test(place) => balancer.set_test_route(service, *place).await,
        };
        done.map_err(|error| error.kind())
    }

    async fn seen(&self) -> Seen {
        let tasks = self.orchestrator.observe(&self.service).await.unwrap();
        let places = tasks.places.iter().map(|place| {
            let number = self.revisions.iter().position(|known| *known == place.revision);
            let ready = place.tasks.iter().filter(|task| task.state == TaskState::Ready).count();
            (place.place, (number, place.desired, ready))
        });
        let balancer = self.balancer.observe(&self.service).await.unwrap();
        let mut targets: BTreeMap<Place, Vec<String>> = BTreeMap::new();
        for target in &balancer.targets {
            let health = match target.health {
                // How soon a balancer looks differs.
                TargetHealth::Starting => "unhealthy".to_owned(),
                other => format!("{other:?}").to_lowercase(),
            };
            targets.entry(target.place).or_default().push(health);
        }
        targets.values_mut().for_each(|of| of.sort());
        let (routing, test_route) = (balancer.routing, balancer.test_route);
        Seen { places: places.collect(), routing, test_route, targets }
    }
}

/// Waits until all tasks that are wanted are ready on both sides and both look the same.
async fn agree(world: &Side, docker: &Side, told: &[String]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (fake, real) = (world.seen().await, docker.seen().await);
        let up = fake.places.values().all(|(_, desired, ready)| *ready == *desired as usize);
        if up && fake == real {
            return;
        }
        let told = told.join("\n  ");
        assert!(
            Instant::now() < deadline,
            "after\n  {told}\nthe world has {fake:#?}\nDocker has {real:#?}"
        );
        sleep(A_MOMENT).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_world_shows_what_docker_shows_after_the_same_operations() {
    let (running, dir) = (Tasks::new("differential").await, tempfile::tempdir().unwrap());
    let haproxy = start(&format!("dkd-{}", std::process::id()), dir.path()).await;
    let mut runner = TestRunner::deterministic();
    for run in 0..RUNS {
        let service = unique_service();
        let world = World::new(run as u64);
        world.image(IMAGE, Behaviour::good()).unwrap();
        let image = world.registry().resolve(&ImageRef::parse(IMAGE).unwrap()).await.unwrap();
        let spec = ServiceSpec::http(8080, "/health").with_stop_grace(Duration::from_secs(5));
        let release = Release::new(image, spec);
        let (tasks, balancer) = (world.orchestrator(), world.balancer());
        let fake = Side::new(tasks, balancer, service.clone(), &release).await;
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let frontend = Frontend::new(port).with_health_path("/health");
        let frontend = frontend.with_address([127, 0, 0, 1].into());
        haproxy.add_service(&service, &frontend).await.unwrap();
        let docker = running.docker().await;
        let real = Side::new(docker, haproxy.clone(), service.clone(), &running.release).await;
        let mut told = Vec::new();
        for operation in operations().new_tree(&mut runner).unwrap().current() {
            let (at_fake, at_real) =
                (fake.perform(&operation).await, real.perform(&operation).await);
            told.push(format!("{operation:?}: {at_fake:?}"));
            assert_eq!(at_fake, at_real, "the world's answer, and Docker's, after {told:#?}");
            agree(&fake, &real, &told).await;
        }
        for place in [Place::A, Place::B] {
            real.orchestrator.retire(&service, place).await.unwrap();
        }
        haproxy.remove_service(&service).await.unwrap();
    }
    haproxy.remove().await.unwrap();
}
