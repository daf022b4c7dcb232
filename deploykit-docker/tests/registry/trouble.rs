//! Registries that die, and publications that are given up.

use std::sync::{Mutex, mpsc};
use std::time::Duration;

use bollard::query_parameters::KillContainerOptions;
use deploykit_core::{ErrorKind, Publish, PublishEvent, Registry};
use deploykit_docker::OciRegistry;
use tokio::sync::oneshot;

use crate::layout::layout;
use crate::world::{Stand, World};

/// A publication that stops at the first part of a blob until the sender is used.
fn stopping(
    world: &World,
    from: &std::path::Path,
) -> (Publish, oneshot::Receiver<()>, mpsc::Sender<()>) {
    let (here, is_here) = oneshot::channel();
    let (go_on, may_go_on) = mpsc::channel();
    let stop = Mutex::new(Some((here, may_go_on)));
    let repository = world.image("team/all").to_string();
    let publish = Publish::layout(from, &repository, ["1"]).unwrap();
    let publish = publish.on_progress(move |event| {
        if !matches!(event, PublishEvent::Uploading { .. }) {
            return;
        }
        let first = stop.lock().unwrap().take();
        if let Some((here, may_go_on)) = first {
            here.send(()).unwrap();
            // Whoever waits for this may be next in line on this very thread.
            let wait = || may_go_on.recv_timeout(Duration::from_secs(30));
            let _ = tokio::task::block_in_place(wait);
        }
    });
    (publish, is_here, go_on)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_dies_in_the_middle_is_named_and_another_publication_completes() {
    Stand::new("dies")
        .run(async |mut world: World| {
            let directory = tempfile::tempdir().unwrap();
            let digest = layout(directory.path(), 20_000_000);
            let (publish, is_here, go_on) = stopping(&world, directory.path());
            let first = tokio::spawn(async move { OciRegistry::new().publish(&publish).await });
            is_here.await.unwrap();
            world
                .client
                .kill_container(&world.container, None::<KillContainerOptions>)
                .await
                .unwrap();
            go_on.send(()).unwrap();
            let error = first.await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.report());
            assert!(error.message().contains(&format!("registry {} ", world.registry)), "{error}");

            world.client.start_container(&world.container, None).await.unwrap();
            world.registry = world.address().await;
            world.until_it_answers().await;
            let missing = OciRegistry::new().resolve(&world.image("team/all:1")).await.unwrap_err();
            assert_eq!(missing.kind(), ErrorKind::NotFound, "{missing}");
            let repository = world.image("team/all").to_string();
            let again = Publish::layout(directory.path(), &repository, ["1"]).unwrap();
            assert_eq!(OciRegistry::new().publish(&again).await.unwrap().digest, digest);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_is_dropped_sets_no_tag_and_another_completes() {
    Stand::new("dropped")
        .run(async |world: World| {
            let directory = tempfile::tempdir().unwrap();
            let digest = layout(directory.path(), 20_000_000);
            let (publish, is_here, go_on) = stopping(&world, directory.path());
            let first = tokio::spawn(async move { OciRegistry::new().publish(&publish).await });
            is_here.await.unwrap();
            first.abort();
            go_on.send(()).unwrap();
            assert!(first.await.unwrap_err().is_cancelled());

            let missing = OciRegistry::new().resolve(&world.image("team/all:1")).await.unwrap_err();
            assert_eq!(missing.kind(), ErrorKind::NotFound, "{missing}");
            let repository = world.image("team/all").to_string();
            let again = Publish::layout(directory.path(), &repository, ["1"]).unwrap();
            assert_eq!(OciRegistry::new().publish(&again).await.unwrap().digest, digest);
        })
        .await;
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_named() {
    let directory = tempfile::tempdir().unwrap();
    layout(directory.path(), 1_000);
    let publish = Publish::layout(directory.path(), "127.0.0.1:1/team/web", ["1"]).unwrap();
    let error = OciRegistry::new().publish(&publish).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.report());
    assert!(error.message().contains("registry 127.0.0.1:1 cannot be reached"), "{error}");
}
