//! Started, adopted, restarted, reloaded.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;

use bollard::query_parameters::ListContainersOptionsBuilder;
use deploykit_core::{
    BalancerState, Endpoint, ErrorKind, LoadBalancer, Place, Routing, ServiceName, TargetHealth,
};
use deploykit_docker::{Frontend, HaProxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{World, frontend, get, on_haproxy, thousandths};

/// What must be the same after a restart: everything but momentary health and load.
fn essence(state: &BalancerState) -> impl PartialEq + std::fmt::Debug + use<> {
    let targets: Vec<_> = state
        .targets
        .iter()
        .map(|t| (t.task.clone(), t.place, t.address.clone(), t.health == TargetHealth::Draining))
        .collect();
    (
        state.routing.clone(),
        state.test_route,
        targets,
        state.entry.clone(),
        state.test_entry.clone(),
    )
}

/// A state with something in every corner.
async fn furnish(world: &World) -> BalancerState {
    world.serve(Place::A, 2).await;
    let tasks = world.serve(Place::B, 2).await;
    let (haproxy, service) = (&world.haproxy, &world.service);
    world.route(&Routing::split(Place::A, Place::B, thousandths(300))).await;
    haproxy.set_test_route(service, Some(Place::B)).await.unwrap();
    haproxy.drain(service, Place::B, &[tasks[0].task.clone()]).await.unwrap();
    world.observe().await
}

#[tokio::test]
async fn a_restarted_container_has_the_same_routing_and_targets() {
    on_haproxy("restart", |world| async move {
        let before = furnish(&world).await;
        world.restart().await;
        let after = world.until("back", |state| state.healthy(Place::A) == 2).await;
        assert_eq!(essence(&after), essence(&before));
        assert_eq!(world.get("").await.status, 200);
    })
    .await;
}

#[tokio::test]
async fn a_container_that_was_removed_comes_back_with_the_same_routing_and_targets() {
    on_haproxy("removed", |world| async move {
        let before = furnish(&world).await;
        world.haproxy.remove().await.unwrap();
        let haproxy = world.builder().start().await.unwrap();
        let mut after = haproxy.observe(&world.service).await.unwrap();
        assert!(after.entry.is_some());
        // The ports were "any that is free".
        (after.entry, after.test_entry) = (before.entry.clone(), before.test_entry.clone());
        assert_eq!(essence(&after), essence(&before));
    })
    .await;
}

#[tokio::test]
async fn two_starts_at_once_end_with_one_container_that_both_use() {
    on_haproxy("twice", |world| async move {
        world.haproxy.remove().await.unwrap();
        let (one, two) = tokio::join!(world.builder().start(), world.builder().start());
        let (one, two) = (one.unwrap(), two.unwrap());
        one.set_routing(&world.service, &Routing::Pooled).await.unwrap();
        assert_eq!(two.observe(&world.service).await.unwrap().routing, Routing::Pooled);
        let label =
            format!("deploykit.haproxy={}", world.container().replace("deploykit-haproxy-", ""));
        let filters = HashMap::from([("label", vec![label])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        assert_eq!(world.client.list_containers(Some(options)).await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_container_with_other_settings_is_left_alone() {
    on_haproxy("others", |world| async move {
        let error = world.builder().publish("127.0.0.1:0:9000").start().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(error.message().contains("127.0.0.1:0:9000"), "{error}");
        assert_eq!(world.get("").await.status, 503);
    })
    .await;
}

#[tokio::test]
async fn only_its_owner_reaches_the_admin_socket() {
    on_haproxy("socket", |world| async move {
        let mode = |path: &str| {
            let metadata = std::fs::metadata(world.state.join(path)).unwrap();
            metadata.permissions().mode() & 0o777
        };
        assert_eq!(mode("run"), 0o700);
        assert_eq!(mode("run/master.sock"), 0o600);
        // Nothing that listens on the network answers to commands.
        let config = std::fs::read_to_string(world.state.join("conf/haproxy.cfg")).unwrap();
        assert!(!config.contains("stats socket"));
        let seen = world.client.inspect_container(&world.container(), None).await.unwrap();
        let ports = seen.config.unwrap().exposed_ports.unwrap();
        assert_eq!(ports.len(), 2, "{ports:?}");
    })
    .await;
}

#[tokio::test]
async fn adding_services_under_load_loses_nothing() {
    on_haproxy("reload", |world| async move {
        world.live(Place::A, 2).await;
        let load = world.load().await.with_rate(300).start().await.unwrap();
        load.at_least(100).await;
        for n in 0..10 {
            let other = ServiceName::new(format!("other-{n}")).unwrap();
            world
                .haproxy
                .add_service(&other, &Frontend::new(9_000 + n).unpublished())
                .await
                .unwrap();
            let next = load.requests() + 100;
            load.at_least(next).await;
        }
        let report = load.stop().await;
        assert_eq!(report.tally.failed, 0, "{}", report.tally);
        assert!(report.websockets > 0, "{report:?}");
    })
    .await;
}

#[tokio::test]
async fn what_is_connected_since_before_a_reload_is_counted_and_rerouted() {
    on_haproxy("oldworker", |world| async move {
        let old = world.live(Place::A, 1).await;
        let url = world.observe().await.entry.unwrap().url;
        let address = url.trim_start_matches("http://");
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET /slow?ms=1500 HTTP/1.0\r\n\r\n").await.unwrap();
        world.until("in flight", |state| state.in_flight(Place::A) == 1).await;
        // Connected, but its request comes later.
        let mut late = TcpStream::connect(address).await.unwrap();
        late.write_all(b"GET / HTTP/1.0\r\n").await.unwrap();

        let other = ServiceName::new("other").unwrap();
        world.haproxy.add_service(&other, &Frontend::new(9_000).unpublished()).await.unwrap();
        assert_eq!(world.observe().await.in_flight(Place::A), 1);
        world.live(Place::B, 1).await;
        world.haproxy.drain(&world.service, Place::A, &[old[0].task.clone()]).await.unwrap();
        world.until("drained", |state| state.in_flight(Place::A) == 0).await;
        let mut answer = String::new();
        slow.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("x-version: A"), "{answer}");
        world.remove(Place::A, &[old[0].task.clone()]).await;
        world.kill(old[0].task.as_str()).await;

        late.write_all(b"\r\n").await.unwrap();
        let mut answer = String::new();
        late.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("x-version: B"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn another_deployer_attaches_to_a_haproxy_by_its_socket_and_file() {
    on_haproxy("attach", |world| async move {
        let tasks: Vec<Endpoint> = world.serve(Place::A, 1).await;
        let (socket, file) = ("run/master.sock", "conf/haproxy.cfg");
        let other =
            HaProxy::attach(world.state.join(socket), world.state.join(file)).await.unwrap();
        other.set_routing(&world.service, &Routing::all_to(Place::A)).await.unwrap();
        assert_eq!(world.get("").await.status, 200);
        let state = other.observe(&world.service).await.unwrap();
        assert_eq!(state.targets[0].task, tasks[0].task);
        assert_eq!(other.remove().await.unwrap_err().kind(), ErrorKind::Unsupported);
    })
    .await;
}

#[tokio::test]
async fn how_a_service_is_reached_can_change_while_its_routing_stays() {
    on_haproxy("moved", |world| async move {
        let before = furnish(&world).await;
        let moved = frontend().with_test_port(crate::world::TEST);
        world.haproxy.add_service(&world.service, &moved).await.unwrap();
        let after = world.until("back", |state| state.healthy(Place::A) == 2).await;
        assert_eq!(after.routing, before.routing);
        assert_eq!(after.targets.len(), before.targets.len());
        assert_eq!(get(&after.test_entry.unwrap().url, "").await.status, 200);
    })
    .await;
}
