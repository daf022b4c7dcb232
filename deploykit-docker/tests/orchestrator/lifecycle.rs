//! Launch, observe, adopt, stop, retire.

use std::time::{Duration, Instant};

use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListNetworksOptionsBuilder, StopContainerOptions,
};
use deploykit_core::{Launch, Orchestrator, Place, ServiceName, ServiceSpec, TaskId, TaskState};
use deploykit_docker::Docker;

use crate::world::{get, http, on_docker, until};

#[tokio::test]
async fn launched_tasks_become_ready_and_serve_where_they_say() {
    on_docker("serve", async |world| {
        let revision = world.register("good", http()).await;
        world.launch(&revision, 2).await;
        let place = world.until_ready(2).await;
        assert_eq!((place.desired, place.revision), (2, revision));
        for task in place.tasks {
            assert_eq!(get(&task.address.unwrap(), "/").await, "version A");
        }
    })
    .await;
}

#[tokio::test]
async fn launching_twice_changes_nothing() {
    on_docker("twice", async |world| {
        let revision = world.register("good", http()).await;
        world.launch(&revision, 2).await;
        let first = world.until_ready(2).await;
        let started = world.inspect(1).await.state.unwrap().started_at;
        world.launch(&revision, 2).await;
        assert_eq!(world.until_ready(2).await, first);
        assert_eq!(world.inspect(1).await.state.unwrap().started_at, started);
    })
    .await;
}

#[tokio::test]
async fn two_deployers_that_launch_the_same_at_once_launch_it_once() {
    on_docker("both", async |world| {
        let release = world.release("good", http()).await;
        let newcomer = world.newcomer().await;
        let revision = world.docker.register(&world.service, &release).await.unwrap();
        assert_eq!(newcomer.register(&world.service, &release).await.unwrap(), revision);
        // The network is not there yet either, and the Engine would let both of them make one.
        let wanted = world.wanted(Place::A, &revision, 3);
        let both = futures::join!(world.docker.launch(&wanted), newcomer.launch(&wanted));
        assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
        assert_eq!(world.until_ready(3).await.desired, 3);
        let filters = [("name", vec![world.service.as_str()])].into();
        let named = ListNetworksOptionsBuilder::new().filters(&filters).build();
        assert_eq!(world.client.list_networks(Some(named)).await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn services_that_come_and_go_on_one_network_do_not_disturb_each_other() {
    on_docker("shared", async |world| {
        // The network goes with the last task on it, and comes with the first.
        let come_and_go = async |docker: Docker, name: String| {
            let service = ServiceName::new(name).unwrap();
            let release = world.release("good", http()).await;
            let revision = docker.register(&service, &release).await.unwrap();
            let wanted = Launch { service, ..world.wanted(Place::A, &revision, 1) };
            for _ in 0..5 {
                let launched = docker.launch(&wanted).await;
                docker.retire(&wanted.service, Place::A).await.unwrap();
                launched.unwrap();
            }
        };
        let id = std::process::id();
        futures::join!(
            come_and_go(world.docker.clone(), format!("dko-x-{id}")),
            come_and_go(world.newcomer().await, format!("dko-y-{id}")),
        );
    })
    .await;
}

#[tokio::test]
async fn a_higher_count_adds_tasks_and_a_lower_one_stops_none() {
    on_docker("count", async |world| {
        let revision = world.register("good", http()).await;
        world.launch(&revision, 1).await;
        let first = world.until_ready(1).await.tasks.remove(0);
        world.launch(&revision, 3).await;
        let three = world.until_ready(3).await;
        assert_eq!((three.desired, &three.tasks[0]), (3, &first));
        world.launch(&revision, 2).await;
        assert_eq!(world.until_ready(3).await, three);
    })
    .await;
}

#[tokio::test]
async fn another_deployer_adopts_what_runs() {
    on_docker("adopt", async |world| {
        let release = world.release("good", http().with_env("COLOUR", "red")).await;
        let revision = world.docker.register(&world.service, &release).await.unwrap();
        world.launch(&revision, 1).await;
        let here = world.until_ready(1).await;
        let newcomer = world.newcomer().await;
        let there = until(&newcomer, &world.service, "ready", |place| place.ready() == 1).await;
        assert_eq!(there, here);
        assert_eq!(newcomer.describe(&world.service, &revision).await.unwrap(), release);
        // It knows enough to launch more.
        newcomer.launch(&world.wanted(Place::A, &revision, 2)).await.unwrap();
        assert_eq!(world.until_ready(2).await.desired, 2);
        newcomer.retire(&world.service, Place::A).await.unwrap();
        assert!(world.docker.observe(&world.service).await.unwrap().places.is_empty());
    })
    .await;
}

#[tokio::test]
async fn an_adopted_task_is_ready_at_the_first_look() {
    on_docker("firstlook", async |world| {
        for spec in [http(), ServiceSpec::worker()] {
            let revision = world.register("good", spec).await;
            world.launch(&revision, 1).await;
            world.until_ready(1).await;
            let state = world.newcomer().await.observe(&world.service).await.unwrap();
            assert_eq!(state.place(Place::A).unwrap().ready(), 1, "{state:?}");
            world.docker.retire(&world.service, Place::A).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_stopped_task_is_gone_and_the_count_is_lower() {
    on_docker("stop", async |world| {
        let revision = world.register("good", http()).await;
        world.launch(&revision, 3).await;
        let place = world.until_ready(3).await;
        let gone = [place.tasks[1].id.clone(), TaskId::new("never-was")];
        for _ in 0..2 {
            world.docker.stop(&world.service, Place::A, &gone).await.unwrap();
            let left = world.until_ready(2).await;
            assert_eq!(left.desired, 2);
            assert_eq!(left.tasks, [place.tasks[0].clone(), place.tasks[2].clone()]);
        }
    })
    .await;
}

#[tokio::test]
async fn retiring_leaves_nothing_of_a_place_and_touches_no_other() {
    on_docker("retire", async |world| {
        let revision = world.register("good", http()).await;
        world.launch(&revision, 2).await;
        let other = world.wanted(Place::B, &revision, 1);
        world.docker.launch(&other).await.unwrap();
        // One of them does not even run.
        let stopped = format!("{}-A-0", world.service);
        world.client.stop_container(&stopped, None::<StopContainerOptions>).await.unwrap();
        for _ in 0..2 {
            world.docker.retire(&world.service, Place::A).await.unwrap();
            let state = world.docker.observe(&world.service).await.unwrap();
            assert_eq!(state.places.len(), 1);
            assert_eq!(state.place(Place::B).unwrap().desired, 1);
        }
        world.docker.retire(&world.service, Place::B).await.unwrap();
        let filters = [("name", vec![world.service.as_str()])].into();
        let all = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        assert!(world.client.list_containers(Some(all)).await.unwrap().is_empty());
        assert!(world.client.inspect_network(world.service.as_str(), None).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn a_task_that_is_being_stopped_is_seen_to_be() {
    on_docker("stopping", async |world| {
        let spec = http().with_stop_grace(Duration::from_secs(3));
        let revision = world.register("good", spec).await;
        world.launch(&revision, 1).await;
        let task = world.until_ready(1).await.tasks[0].id.clone();
        // Now it takes the whole grace.
        world.signal(0, "SIGSTOP").await;
        let tasks = [task];
        let stop = world.docker.stop(&world.service, Place::A, &tasks);
        let look = world.until("stopping", |place| place.tasks[0].state == TaskState::Stopping);
        let (stopped, _) = futures::join!(stop, look);
        stopped.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_change_is_reported_at_once() {
    on_docker("changed", async |world| {
        // Nobody probes a worker: only the Engine's events can tell.
        let revision = world.register("good", ServiceSpec::worker()).await;
        world.launch(&revision, 1).await;
        world.until_ready(1).await;
        // Until the echo of the launch has died away.
        let quiet = Duration::from_millis(500);
        let mut began = Instant::now();
        world.docker.changed(&world.service, quiet).await;
        while began.elapsed() < quiet {
            began = Instant::now();
            world.docker.changed(&world.service, quiet).await;
        }
        let kill = world.signal(0, "SIGKILL");
        let wait = world.docker.changed(&world.service, Duration::from_secs(3_600));
        let both = futures::future::join(wait, kill);
        tokio::time::timeout(Duration::from_secs(10), both).await.unwrap();
    })
    .await;
}
