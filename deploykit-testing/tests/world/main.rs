//! What the world promises, one fact at a time, on virtual time.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

mod behaviours;
#[path = "../common/mod.rs"]
mod common;
mod determinism;
mod draining;
mod faults;
mod gates;
mod outside;
mod publishing;
mod room;
mod routing;
mod safety;
mod stale;
mod sticky;
mod tasks;
mod tcp;
mod throttle;

use std::time::Duration;

use deploykit_core::{
    Endpoint, ImageRef, Launch, LoadBalancer, Orchestrator, Place, Registry, Release, RevisionId,
    RolloutId, Routing, ServiceName, ServiceSpec, TargetHealth, TaskId, TaskState,
};
use deploykit_testing::World;

pub(crate) use common::world;

pub(crate) const A: Place = Place::A;
pub(crate) const B: Place = Place::B;

pub(crate) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) async fn register(world: &World, service: &ServiceName, image: &str) -> RevisionId {
    let image = ImageRef::parse(image).unwrap();
    let image = world.registry().resolve(&image).await.unwrap();
    let release = Release::new(image, ServiceSpec::http(8080, "/health"));
    world.orchestrator().register(service, &release).await.unwrap()
}

pub(crate) fn wanted(
    service: &ServiceName,
    place: Place,
    revision: &RevisionId,
    count: u32,
) -> Launch {
    Launch {
        service: service.clone(),
        place,
        revision: revision.clone(),
        count,
        rollout: RolloutId::new("web-1"),
    }
}

/// Launches an image in a place and makes its tasks targets, without waiting for them.
pub(crate) async fn launch(world: &World, web: &ServiceName, place: Place, image: &str, n: u32) {
    let revision = register(world, web, image).await;
    let launch = wanted(web, place, &revision, n);
    world.orchestrator().launch(&launch).await.unwrap();
    add_targets(world, web, place).await;
}

/// Makes all tasks of a place its targets.
pub(crate) async fn add_targets(world: &World, web: &ServiceName, place: Place) {
    let seen = world.orchestrator().observe(web).await.unwrap();
    let endpoints: Vec<_> = seen
        .place(place)
        .unwrap()
        .tasks
        .iter()
        .map(|task| Endpoint { task: task.id.clone(), address: task.address.clone().unwrap() })
        .collect();
    world.balancer().add_targets(web, place, &endpoints).await.unwrap();
}

/// Removes all targets of a place.
pub(crate) async fn remove_targets(world: &World, web: &ServiceName, place: Place) {
    let seen = world.orchestrator().observe(web).await.unwrap();
    let tasks: Vec<_> = seen.place(place).unwrap().tasks.iter().map(|t| t.id.clone()).collect();
    world.balancer().remove_targets(web, place, &tasks).await.unwrap();
}

pub(crate) async fn states(world: &World, web: &ServiceName, place: Place) -> Vec<TaskState> {
    let seen = world.orchestrator().observe(web).await.unwrap();
    let tasks = seen.place(place).map(|place| place.tasks.clone());
    let states = tasks.unwrap_or_default().into_iter().map(|task| task.state);
    states.collect()
}

pub(crate) async fn health(world: &World, web: &ServiceName, place: Place) -> Vec<TargetHealth> {
    let seen = world.balancer().observe(web).await.unwrap();
    seen.targets_of(place).map(|target| target.health).collect()
}

pub(crate) async fn ids(world: &World, web: &ServiceName, place: Place) -> Vec<TaskId> {
    let seen = world.orchestrator().observe(web).await.unwrap();
    let tasks = seen.place(place).map(|place| place.tasks.clone());
    let ids = tasks.unwrap_or_default().into_iter().map(|task| task.id);
    ids.collect()
}

/// Waits, for a minute of the world's time at most, until all of `count` targets of a place are healthy.
pub(crate) async fn healthy(world: &World, web: &ServiceName, place: Place, count: u32) {
    let deadline = world.now() + Duration::from_secs(60);
    while world.balancer().observe(web).await.unwrap().healthy(place) < count {
        assert!(world.now() < deadline, "{}", world.snapshot(web));
        world.orchestrator().changed(web, ms(1_000)).await;
    }
}

/// Drains a place and waits, for a minute at most, until nothing is in flight there.
pub(crate) async fn drain(world: &World, web: &ServiceName, place: Place) {
    let tasks = ids(world, web, place).await;
    world.balancer().drain(web, place, &tasks).await.unwrap();
    let deadline = world.now() + Duration::from_secs(60);
    while world.balancer().observe(web).await.unwrap().in_flight(place) > 0 {
        assert!(world.now() < deadline, "{}", world.snapshot(web));
        world.orchestrator().changed(web, ms(1_000)).await;
    }
}

/// A whole blue/green by hand, from A to B.
pub(crate) async fn blue_green(world: &World, web: &ServiceName, count: u32) {
    launch(world, web, B, "web:2", count).await;
    healthy(world, web, B, count).await;
    let balancer = world.balancer();
    for percent in [10, 50, 100] {
        let weight = deploykit_core::Weight::percent(percent).unwrap();
        let routing = Routing::split(A, B, weight);
        balancer.set_routing(web, &routing).await.unwrap();
        while balancer.observe(web).await.unwrap().routing != routing {
            world.orchestrator().changed(web, ms(1_000)).await;
        }
        tokio::time::sleep(ms(1_000)).await;
    }
    drain(world, web, A).await;
    remove_targets(world, web, A).await;
    world.orchestrator().retire(web, A).await.unwrap();
}
