//! An Engine that fails for a moment, and others who are at work in the middle.

use std::time::Duration;

use bollard::models::{ContainerConfig, ContainerCreateBody, HostConfig};
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveImageOptions, RenameContainerOptionsBuilder,
};
use deploykit_core::{ErrorKind, JobRun, Orchestrator, Place, ServiceName};
use deploykit_docker::Docker;

use crate::front::{Fate, Front};
use crate::world::{World, failure, http, on_docker};

const BUSY: &str = "HTTP/1.1 500 Internal Server Error\r\ncontent-type: application/json\r\n\
    content-length: 35\r\nconnection: close\r\n\r\n{\"message\":\"context is overloaded\"}\n";

#[tokio::test]
async fn an_engine_that_fails_for_a_moment_may_be_asked_again() {
    on_docker("moment", async |world| {
        let front = Front::new(&world).await;
        let revision = world.register("good", http()).await;
        world.launch(&revision, 1).await;
        world.until_ready(1).await;
        for fate in [Fate::Answered(BUSY), Fate::Lost, Fate::Halved] {
            for call in ["/containers/json?", "/json HTTP"] {
                front.next(call, fate);
                let error = front.docker.observe(&world.service).await.unwrap_err();
                assert!(error.is_temporary() && front.is_over(), "{call} {fate:?}: {error}");
            }
        }
        for call in ["/stop?", "?v=true", "/networks/"] {
            front.next(call, Fate::Answered(BUSY));
            let error = front.docker.retire(&world.service, Place::A).await.unwrap_err();
            assert!(error.is_temporary() && front.is_over(), "{call}: {error}");
        }
        front.docker.retire(&world.service, Place::A).await.unwrap();
        assert!(world.client.inspect_network(world.service.as_str(), None).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn a_task_that_was_created_and_never_started_is_no_success_and_is_made_anew() {
    on_docker("unstarted", async |world| {
        let front = Front::new(&world).await;
        let release = world.release("good", http()).await;
        let revision = front.docker.register(&world.service, &release).await.unwrap();
        let wanted = world.wanted(Place::A, &revision, 1);
        front.next("/start", Fate::Lost);
        front.next("?v=true", Fate::Lost);
        let error = front.docker.launch(&wanted).await.unwrap_err();
        assert!(error.is_temporary() && front.is_over(), "{error}");
        // As if it had been created only after this look.
        let nothing = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\
            connection: close\r\n\r\n[]";
        front.next("/containers/json?", Fate::Answered(nothing));
        let error = front.docker.launch(&wanted).await.unwrap_err();
        assert!(error.is_temporary(), "{error}");
        front.docker.launch(&wanted).await.unwrap();
        world.until_ready(1).await;
    })
    .await;
}

#[tokio::test]
async fn a_task_that_somebody_removes_while_it_is_started_is_made_anew() {
    on_docker("removed", async |world| {
        let front = Front::new(&world).await;
        let release = world.release("good", http()).await;
        let revision = front.docker.register(&world.service, &release).await.unwrap();
        let gone = "HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\n\
            content-length: 43\r\nconnection: close\r\n\r\n{\"message\":\"No such container: 0123456789\"}";
        front.next("/start", Fate::Answered(gone));
        front.docker.launch(&world.wanted(Place::A, &revision, 1)).await.unwrap();
        assert!(front.is_over());
        world.until_ready(1).await;
    })
    .await;
}

#[tokio::test]
async fn a_task_that_somebody_renames_is_still_the_same_task() {
    on_docker("renamed", async |world| {
        let revision = world.register("good", http()).await;
        world.launch(&revision, 2).await;
        let before = world.until_ready(2).await;
        let (name, renamed) = (format!("{}-A-0", world.service), format!("{}-x", world.service));
        let options = RenameContainerOptionsBuilder::new().name(&renamed).build();
        world.client.rename_container(&name, options).await.unwrap();
        assert_eq!(world.until_ready(2).await, before);
        // By everybody: launching leaves it alone, and it is stopped by its name.
        let other = world.newcomer().await;
        other.launch(&world.wanted(Place::A, &revision, 2)).await.unwrap();
        other.stop(&world.service, Place::A, &[before.tasks[0].id.clone()]).await.unwrap();
        let left = world.until("one less", |place| place.desired == 1).await;
        assert_eq!(left.tasks, before.tasks[1..]);
    })
    .await;
}

#[tokio::test]
async fn what_a_task_says_before_it_dies_cannot_write_to_a_terminal() {
    on_docker("escapes", async |world| {
        let spec = http().with_env("VERSION", "\x1b[2Jgone\x07\r");
        let revision = world.register("crash", spec).await;
        world.launch(&revision, 1).await;
        let place = world.until("failed", |place| failure(place).is_some()).await;
        let why = failure(&place).unwrap();
        assert!(why.contains("[2Jgone") && !why.contains(char::is_control), "{why:?}");
    })
    .await;
}

#[tokio::test]
async fn a_network_on_which_tasks_have_no_addresses_is_refused() {
    on_docker("modes", async |world| {
        let release = world.release("good", http()).await;
        let service = ServiceName::new("dko-modes").unwrap();
        for network in ["host", "none", "bridge", "container:x"] {
            let docker = Docker::new(world.docker.engine().clone()).with_network(network);
            let error = docker.register(&service, &release).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.message().contains(network), "{error}");
        }
    })
    .await;
}

/// Runs a copy of a container, as `docker commit` and `docker run` make it, and returns its name.
async fn run_a_copy(world: &World, container: &str) -> String {
    let name = format!("copy-of-{container}").to_lowercase();
    let options = CommitContainerOptionsBuilder::new().container(container).repo(&name).build();
    world.client.commit_container(options, ContainerConfig::default()).await.unwrap();
    let body = ContainerCreateBody {
        image: Some(name.clone()),
        host_config: Some(HostConfig {
            network_mode: Some(world.service.to_string()),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::new().name(&name).build();
    world.client.create_container(Some(options), body).await.unwrap();
    world.client.start_container(&name, None).await.unwrap();
    name
}

/// Removes the copy and its image, and says whether it was still there.
async fn remove_the_copy(world: &World, name: &str) -> bool {
    let force = RemoveContainerOptionsBuilder::new().force(true).build();
    let was_there = world.client.remove_container(name, Some(force)).await.is_ok();
    world.client.remove_image(name, None::<RemoveImageOptions>, None).await.unwrap();
    was_there
}

#[tokio::test]
async fn a_copy_that_somebody_runs_of_a_task_is_none() {
    on_docker("commit", async |world| {
        world.serve("good", http()).await;
        let copy = run_a_copy(&world, &format!("{}-A-0", world.service)).await;
        let state = world.docker.observe(&world.service).await.unwrap();
        world.docker.retire(&world.service, Place::A).await.unwrap();
        let stayed = remove_the_copy(&world, &copy).await;
        let counted = state.place(Place::A).map(|place| (place.desired, place.tasks.len()));
        assert_eq!((counted, stayed), (Some((1, 1)), true));
    })
    .await;
}

#[tokio::test]
async fn a_copy_that_somebody_runs_of_a_jobs_container_is_not_removed_with_it() {
    on_docker("commitjob", async |world| {
        let revision = world.register("good", http()).await;
        let id = format!("{}-1-migrate-1", world.service);
        let limit = Duration::from_secs(30);
        let run = JobRun::new(world.service.clone(), id, "migrate", "test-1", limit);
        world.docker.start_job(&run, &revision).await.unwrap();
        let copy = run_a_copy(&world, run.id.as_str()).await;
        world.docker.remove_jobs(&world.service).await.unwrap();
        assert!(remove_the_copy(&world, &copy).await);
    })
    .await;
}
