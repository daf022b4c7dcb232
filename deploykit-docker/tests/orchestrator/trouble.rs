//! Tasks that die, are never ready, or stop being so.

use std::net::Ipv4Addr;
use std::time::Duration;

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{CreateContainerOptionsBuilder, StopContainerOptions};
use deploykit_core::{Limits, Orchestrator, Place, Readiness, ServiceSpec, TaskState};
use tokio::io::AsyncWriteExt;

use crate::world::{failure, http, on_docker};

#[tokio::test]
async fn a_crash_loop_is_a_failure_with_exit_code_and_log_lines() {
    on_docker("crash", async |world| {
        // It runs for a while before each crash, and yet never looks like a healthy start again.
        let revision = world.register("crash", http().with_env("STARTUP_MS", "300")).await;
        world.launch(&revision, 1).await;
        world.until("failed", |place| failure(place).is_some()).await;
        let place = world
            .until("restarted twice", |place| {
                let why = failure(place).expect("still failed");
                why.contains("restarted 2 times")
            })
            .await;
        let why = failure(&place).unwrap();
        assert!(why.contains("exited with code 3"), "{why}");
        assert!(why.contains("the configuration of version B is broken"), "{why}");
    })
    .await;
}

#[tokio::test]
async fn a_task_that_runs_out_of_memory_says_so() {
    on_docker("oom", async |world| {
        // Between its death and its being ready again it is to be seen, however late somebody looks.
        let spec = http()
            .with_env("STARTUP_MS", "3000")
            .with_limits(Limits::new().with_memory_bytes(16 << 20));
        let address = world.serve("good", spec).await;
        let eat = async {
            // A file without end is read to its end in one tight loop: nothing waits, and the kernel
            // finds nothing that it could take back instead of killing.
            let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
            let request = b"GET /file?path=/dev/zero HTTP/1.1\r\nhost: x\r\n\r\n";
            stream.write_all(request).await.unwrap();
            std::future::pending::<()>().await
        };
        let failed = world.until("out of memory", |place| {
            failure(place)
                .is_some_and(|why| why.contains("ran out of memory (its limit is 16 MiB)"))
        });
        tokio::select! {
            () = eat => {}
            _ = failed => {}
        }
        // And it comes back by itself.
        world.until_ready(1).await;
    })
    .await;
}

#[tokio::test]
async fn a_task_that_is_asked_at_a_port_where_nobody_listens_says_so() {
    on_docker("wrongport", async |world| {
        let revision = world.register("good", ServiceSpec::http(9090, "/health")).await;
        world.launch(&revision, 1).await;
        let says = |why: String| why.contains(":9090") && why.contains("refused");
        world.until("told why", |place| place.trouble().is_some_and(says)).await;
    })
    .await;
}

#[tokio::test]
async fn a_task_whose_readiness_path_refuses_is_never_ready_and_says_what_it_answers() {
    on_docker("unready", async |world| {
        let revision = world.register("unhealthy", http()).await;
        world.launch(&revision, 1).await;
        let running = |p: &deploykit_core::PlaceState| p.tasks[0].address.is_some();
        world.until("running", running).await;
        for _ in 0..20 {
            world.docker.changed(&world.service, Duration::from_millis(100)).await;
            let state = world.docker.observe(&world.service).await.unwrap();
            assert_ne!(state.place(Place::A).unwrap().tasks[0].state, TaskState::Ready);
        }
        let refused = |p: &deploykit_core::PlaceState| match &p.tasks[0].state {
            TaskState::Unhealthy { why } => why.contains("answered 503"),
            _ => false,
        };
        world.until("told why", refused).await;
    })
    .await;
}

#[tokio::test]
async fn the_image_s_own_health_check_decides_where_there_is_one() {
    on_docker("check", async |world| {
        // The release's own probe would never pass.
        let spec = http().with_readiness(Readiness::Http { path: "/no-such-path".into() });
        world.serve("healthcheck", spec).await;
        world.docker.retire(&world.service, Place::A).await.unwrap();
        let revision = world.register("healthcheck", http().with_env("MODE", "unhealthy")).await;
        world.launch(&revision, 1).await;
        let place = world
            .until("unhealthy", |place| matches!(place.tasks[0].state, TaskState::Unhealthy { .. }))
            .await;
        let why = place.trouble().unwrap();
        assert!(why.contains("503"), "{why}");
    })
    .await;
}

#[tokio::test]
async fn a_ready_task_that_stops_answering_becomes_unhealthy_and_ready_again() {
    on_docker("freeze", async |world| {
        world.serve("good", http()).await;
        world.signal(0, "SIGSTOP").await;
        let place = world
            .until("unhealthy", |place| matches!(place.tasks[0].state, TaskState::Unhealthy { .. }))
            .await;
        assert!(place.trouble().unwrap().contains("no answer"), "{place:?}");
        world.signal(0, "SIGCONT").await;
        world.until_ready(1).await;
    })
    .await;
}

#[tokio::test]
async fn a_dead_task_is_replaced_by_the_next_launch() {
    on_docker("dead", async |world| {
        let revision = world.register("good", http()).await;
        world.launch(&revision, 2).await;
        let before = world.until_ready(2).await;
        // Killed by hand, so the Engine leaves it dead.
        let name = format!("{}-A-1", world.service);
        world.client.kill_container(&name, None).await.unwrap();
        let dead = world.until("one dead", |place| failure(place).is_some()).await;
        assert_eq!(dead.desired, 2, "a dead task still counts");
        assert!(failure(&dead).unwrap().contains("killed by signal 9"), "{dead:?}");
        world.launch(&revision, 2).await;
        assert_eq!(world.until_ready(2).await.tasks, before.tasks);
    })
    .await;
}

#[tokio::test]
async fn a_task_keeps_its_address_when_it_is_started_again() {
    on_docker("address", async |world| {
        let before = world.serve("good", http()).await;
        let ip: Ipv4Addr = before.split_once(':').unwrap().0.parse().unwrap();
        let name = format!("{}-A-0", world.service);
        world.client.stop_container(&name, None::<StopContainerOptions>).await.unwrap();
        // Another container takes whatever address is free now.
        let other = format!("{}-other", world.service);
        let options = CreateContainerOptionsBuilder::new().name(&other).build();
        let body = ContainerCreateBody {
            image: Some("deploykit/testbed:good".into()),
            host_config: Some(bollard::models::HostConfig {
                network_mode: Some(world.service.to_string()),
                ..Default::default()
            }),
            ..Default::default()
        };
        world.client.create_container(Some(options), body).await.unwrap();
        world.client.start_container(&other, None).await.unwrap();
        let found = world.client.inspect_container(&other, None).await.unwrap();
        world.client.start_container(&name, None).await.unwrap();
        let after = world.until_ready(1).await.tasks[0].address.clone().unwrap();
        let force = bollard::query_parameters::RemoveContainerOptionsBuilder::new().force(true);
        world.client.remove_container(&other, Some(force.build())).await.unwrap();
        let networks = found.network_settings.unwrap().networks.unwrap();
        let taken = networks[world.service.as_str()].ip_address.clone().unwrap();
        assert_ne!(taken.parse::<Ipv4Addr>().unwrap(), ip);
        assert_eq!(after, before);
    })
    .await;
}
