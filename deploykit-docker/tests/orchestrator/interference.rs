//! An Engine that fails for a moment, and others who are at work in the middle.

use deploykit_core::{ErrorKind, Orchestrator, Place, ServiceName};
use deploykit_docker::Docker;

use crate::front::{Fate, Front};
use crate::world::{failure, http, on_docker};

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
