//! What a service spec says arrives at the container.

use std::time::Duration;

use bollard::models::{NetworkCreateRequest, RestartPolicyNameEnum};
use deploykit_core::{Limits, Mount, Orchestrator, Place, ServiceSpec};

use crate::world::{get, http, on_docker};

#[tokio::test]
async fn environment_command_and_mounts_reach_the_task() {
    on_docker("spec", async |world| {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("note"), "mounted").unwrap();
        let spec = http()
            .with_env("COLOUR", "red = green")
            .with_mount(Mount::read_only(dir.path().to_str().unwrap(), "/data"));
        let address = world.serve("good", spec).await;
        assert_eq!(get(&address, "/env?name=COLOUR").await, "red = green");
        assert_eq!(get(&address, "/file?path=/data/note").await, "mounted");
        let mounts = world.inspect(0).await.mounts.unwrap();
        assert_eq!(mounts[0].rw, Some(false));
    })
    .await;
}

#[tokio::test]
async fn limits_and_stop_grace_are_set() {
    on_docker("limits", async |world| {
        let limits = Limits::new().with_memory_bytes(64 << 20).with_cpu_thousandths(500);
        let spec = http().with_limits(limits).with_stop_grace(Duration::from_millis(1_500));
        world.serve("good", spec).await;
        let container = world.inspect(0).await;
        let host = container.host_config.unwrap();
        assert_eq!((host.memory, host.nano_cpus), (Some(64 << 20), Some(500_000_000)));
        // Whole seconds, never fewer than asked for.
        assert_eq!(container.config.unwrap().stop_timeout, Some(2));
    })
    .await;
}

/// What that policy leads to is seen by `cargo xtask chaos --outages`, which kills daemons.
#[tokio::test]
async fn tasks_come_back_with_an_engine_that_was_killed() {
    on_docker("policy", async |world| {
        world.serve("good", http()).await;
        let policy = world.inspect(0).await.host_config.unwrap().restart_policy.unwrap();
        assert_eq!(policy.name, Some(RestartPolicyNameEnum::ALWAYS));
    })
    .await;
}

#[tokio::test]
async fn a_task_that_ignores_sigterm_is_killed_after_its_grace_and_not_before() {
    on_docker("grace", async |world| {
        let grace = Duration::from_millis(1_500);
        let spec = http().with_stop_grace(grace);
        world.serve("good", spec).await;
        world.signal(0, "SIGSTOP").await;
        let began = std::time::Instant::now();
        world.docker.retire(&world.service, Place::A).await.unwrap();
        assert!(began.elapsed() >= grace, "{:?}", began.elapsed());
    })
    .await;
}

#[tokio::test]
async fn further_networks_are_joined() {
    on_docker("networks", async |world| {
        let further = format!("{}-further", world.service);
        let request = NetworkCreateRequest { name: further.clone(), ..Default::default() };
        world.client.create_network(request).await.unwrap();
        world.serve("good", http().with_network(&further)).await;
        let networks = world.inspect(0).await.network_settings.unwrap().networks.unwrap();
        world.docker.retire(&world.service, Place::A).await.unwrap();
        // It is not ours: it stays until its owner removes it.
        world.client.remove_network(&further).await.unwrap();
        assert!(networks.contains_key(&further), "{networks:?}");
    })
    .await;
}

#[tokio::test]
async fn a_network_that_somebody_else_made_is_used_and_left_alone() {
    on_docker("foreign", async |world| {
        // Without a subnet of its creator's, which makes fixed addresses impossible.
        let name = world.service.to_string();
        let request = NetworkCreateRequest { name: name.clone(), ..Default::default() };
        world.client.create_network(request).await.unwrap();
        let address = world.serve("good", http()).await;
        assert_eq!(get(&address, "/").await, "version A");
        world.docker.retire(&world.service, Place::A).await.unwrap();
        world.client.remove_network(&name).await.expect("it was left alone");
    })
    .await;
}

#[tokio::test]
async fn a_worker_is_ready_when_it_runs_and_has_no_address() {
    on_docker("worker", async |world| {
        let revision = world.register("good", ServiceSpec::worker()).await;
        world.launch(&revision, 1).await;
        assert_eq!(world.until_ready(1).await.tasks[0].address, None);
    })
    .await;
}
