//! Targets: added, checked, drained, removed.

use std::time::Duration;

use deploykit_core::{Endpoint, LoadBalancer, Place, Routing, TargetHealth, TaskId};
use deploykit_docker::Frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::world::{World, free_port, on_haproxy, on_machine, thousandths};

fn names(tasks: &[Endpoint]) -> Vec<TaskId> {
    tasks.iter().map(|task| task.task.clone()).collect()
}

#[tokio::test]
async fn a_place_that_is_drained_before_it_goes_loses_no_request_however_long() {
    on_haproxy("drain", |world| async move {
        let old = world.live(Place::A, 2).await;
        let load = world.load().await.with_rate(300).start().await.unwrap();
        load.at_least(600).await;
        world.serve(Place::B, 2).await;
        for weight in [50, 500, 1_000] {
            world.route(&Routing::split(Place::A, Place::B, thousandths(weight))).await;
        }
        world.haproxy.drain(&world.service, Place::A, &names(&old)).await.unwrap();
        let state = world.observe().await;
        assert!(state.in_flight(Place::A) > 0, "the load has requests of 2 s: {state:#?}");
        assert!(state.targets_of(Place::A).all(|t| t.health == TargetHealth::Draining));

        world.until("drained", |state| state.in_flight(Place::A) == 0).await;
        world.remove(Place::A, &names(&old)).await;
        for task in &old {
            world.kill(task.task.as_str()).await;
        }
        assert_eq!(world.observe().await.targets_of(Place::A).count(), 0);
        let after = load.requests() + 300;
        load.at_least(after).await;
        let report = load.stop().await;
        assert_eq!(report.tally.failed, 0, "{}", report.tally);
        assert!(report.websockets > 0 && report.slow > 0, "{report:?}");
    })
    .await;
}

#[tokio::test]
async fn a_place_that_goes_without_draining_is_noticed_by_the_load() {
    on_haproxy("nodrain", |world| async move {
        let old = world.serve(Place::A, 1).await;
        world.serve(Place::B, 1).await;
        world.route(&Routing::all_to(Place::A)).await;
        let load = world.load().await.with_rate(300).start().await.unwrap();
        load.at_least(600).await;
        world.route(&Routing::all_to(Place::B)).await;
        assert!(world.observe().await.in_flight(Place::A) > 0);
        world.remove(Place::A, &names(&old)).await;
        assert_eq!(world.observe().await.targets_of(Place::A).count(), 0);
        world.kill(old[0].task.as_str()).await;
        assert!(load.stop().await.tally.failed > 0, "only draining saves what is in flight");
    })
    .await;
}

#[tokio::test]
async fn many_targets_come_and_go_under_load_and_no_request_fails() {
    on_haproxy("churn", |world| async move {
        let base = world.live(Place::A, 1).await;
        let load = world.load().await.without_slow().without_websocket().with_rate(400);
        let load = load.start().await.unwrap();
        for round in 0..40 {
            // One task under ten names: to HAProxy they are ten.
            let more: Vec<_> = (0..10)
                .map(|n| Endpoint { task: TaskId::new(format!("t{round}-{n}")), ..base[0].clone() })
                .collect();
            world.haproxy.add_targets(&world.service, Place::A, &more).await.unwrap();
            world.until("healthy", |state| state.healthy(Place::A) == 11).await;
            world.haproxy.drain(&world.service, Place::A, &names(&more)).await.unwrap();
            world
                .until("drained", |state| {
                    state.targets.iter().all(|t| t.task == base[0].task || t.in_flight == 0)
                })
                .await;
            world.remove(Place::A, &names(&more)).await;
        }
        let report = load.stop().await;
        assert_eq!(report.tally.failed, 0, "{}", report.tally);
        assert!(report.tally.requests > 1_000, "{}", report.tally);
    })
    .await;
}

#[tokio::test]
async fn the_health_of_targets_is_told() {
    on_haproxy("health", |world| async move {
        let sick = world.task("A", "unhealthy").await;
        let nobody = Endpoint { task: TaskId::new("nobody"), address: "127.0.0.1:1".into() };
        let well = world.task("A", "good").await;
        // 1.5 s for each answer, which is slow and not dead.
        let slow = world.task("A", "slow").await;
        let tasks = [sick.clone(), nobody.clone(), well.clone(), slow.clone()];
        world.haproxy.add_targets(&world.service, Place::A, &tasks).await.unwrap();
        let health = |task: &Endpoint, wanted| {
            let (task, address) = (task.task.clone(), task.address.clone());
            move |state: &deploykit_core::BalancerState| {
                state.targets.iter().any(|target| {
                    target.task == task && target.address == address && target.health == wanted
                })
            }
        };
        world.until("sick", health(&sick, TargetHealth::Unhealthy)).await;
        world.until("unreachable", health(&nobody, TargetHealth::Unhealthy)).await;
        world.until("well", health(&well, TargetHealth::Healthy)).await;
        world.until("slow", health(&slow, TargetHealth::Healthy)).await;
        world.kill(well.task.as_str()).await;
        world.until("dead", health(&well, TargetHealth::Unhealthy)).await;
    })
    .await;
}

#[tokio::test]
async fn a_draining_task_stays_so_when_it_is_added_again_and_not_when_it_comes_back() {
    on_haproxy("again", |world| async move {
        let tasks = world.serve(Place::A, 2).await;
        let (haproxy, service) = (&world.haproxy, &world.service);
        haproxy.drain(service, Place::A, &names(&tasks[..1])).await.unwrap();
        haproxy.add_targets(service, Place::A, &tasks).await.unwrap();
        assert_eq!(world.observe().await.healthy(Place::A), 1);
        world.remove(Place::A, &names(&tasks[..1])).await;
        haproxy.add_targets(service, Place::A, &tasks).await.unwrap();
        world.until("healthy", |state| state.healthy(Place::A) == 2).await;
    })
    .await;
}

#[tokio::test]
async fn a_service_that_closes_idle_connections_loses_no_request() {
    on_machine("idle", Frontend::new(free_port()), |world| async move {
        idle_connections(&world).await;
    })
    .await;
}

async fn idle_connections(world: &World) {
    const IDLE: Duration = Duration::from_millis(4);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4_096];
                let mut patience = Duration::from_secs(60);
                while let Ok(Ok(1..)) =
                    tokio::time::timeout(patience, stream.read(&mut request)).await
                {
                    stream
                        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                        .await
                        .unwrap();
                    patience = IDLE;
                }
            });
        }
    });
    let target = Endpoint { task: TaskId::new("t"), address };
    world.haproxy.add_targets(&world.service, Place::A, &[target]).await.unwrap();
    world.route(&Routing::all_to(Place::A)).await;
    let state = world.until("healthy", |state| state.healthy(Place::A) == 1).await;
    let url = state.entry.unwrap().url;
    let mut client = TcpStream::connect(url.trim_start_matches("http://")).await.unwrap();
    let mut answer = [0; 4_096];
    for n in 0..600 {
        client.write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
        let length = client.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..length]);
        assert!(answer.starts_with("HTTP/1.1 200"), "request {n}: {answer}");
        // About when the service closes: the requests' distance is what is tested, nothing is waited for.
        let around = Duration::from_micros(2_500 + (n % 30) * 100);
        tokio::time::sleep(around).await;
    }
}
