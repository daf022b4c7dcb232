//! What cannot work is refused by name, and nothing is left of it.

use deploykit_core::{
    Digest, ErrorKind, ImageRef, Mount, Orchestrator, PinnedImage, Place, Release, RevisionId,
};
use deploykit_docker::Engine;

use crate::world::{World, http, on_docker};

#[tokio::test]
async fn an_engine_that_is_not_there_is_named_by_its_socket() {
    let error = Engine::connect_to("unix:///nowhere/docker.sock").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("unix:///nowhere/docker.sock"), "{error}");
    assert!(error.hint().unwrap().contains("DOCKER_HOST"), "{error}");
    let error = Engine::connect_to("tcp://127.0.0.1:1").await.unwrap_err();
    assert!(error.message().contains("tcp://127.0.0.1:1"), "{error}");
}

#[tokio::test]
async fn an_image_that_the_engine_does_not_hold_is_named() {
    on_docker("noimage", async |world| {
        let asked = ImageRef::parse("team/never-built:1").unwrap();
        let release = Release::new(PinnedImage::local(asked, Digest::of(b"nothing")), http());
        let error = world.docker.register(&world.service, &release).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.message().contains("team/never-built:1"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_place_that_holds_another_revision_is_busy() {
    on_docker("busy", async |world| {
        let one = world.register("good", http()).await;
        let other = world.register("good-b", http()).await;
        world.launch(&one, 1).await;
        let error = world.docker.launch(&world.wanted(Place::A, &other, 1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert_eq!(world.until_ready(1).await.revision, one);
    })
    .await;
}

#[tokio::test]
async fn a_sidecar_is_refused_when_the_release_is_registered() {
    on_docker("sidecar", async |world| {
        let mut release = world.release("good", http()).await;
        release.sidecars.insert("proxy".into(), release.image.clone());
        let error = world.docker.register(&world.service, &release).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains("sidecars"), "{error}");
        assert!(!world.docker.capability().sidecars);
    })
    .await;
}

#[tokio::test]
async fn a_revision_that_nobody_registered_is_not_found() {
    on_docker("norev", async |world| {
        let unknown = RevisionId::new("0123456789ab");
        let error = world.docker.launch(&world.wanted(Place::A, &unknown, 1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let error = world.docker.describe(&world.service, &unknown).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    })
    .await;
}

/// Launches tasks of this spec; it must be refused, naming `field`, and leave nothing behind.
async fn refused(world: World, spec: deploykit_core::ServiceSpec, kind: ErrorKind, field: &str) {
    let revision = world.register("good", spec).await;
    let error = world.docker.launch(&world.wanted(Place::A, &revision, 3)).await.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(field), "{error}");
    assert!(world.docker.observe(&world.service).await.unwrap().places.is_empty());
}

#[tokio::test]
async fn a_mount_of_a_path_that_is_not_there_is_refused() {
    on_docker("nomount", async |world| {
        let spec = http().with_mount(Mount::read_only("/no/such/path", "/data"));
        refused(world, spec, ErrorKind::Invalid, "mounts").await;
    })
    .await;
}

#[tokio::test]
async fn a_further_network_that_is_not_there_is_refused() {
    on_docker("nonet", async |world| {
        let spec = http().with_network("dko-no-such-network");
        refused(world, spec, ErrorKind::NotFound, "dko-no-such-network").await;
    })
    .await;
}

#[tokio::test]
async fn a_secret_that_is_not_set_is_refused_by_its_reference() {
    on_docker("nosecret", async |world| {
        let spec = http().with_secret("PASSWORD", "env:DKO_IS_NOT_SET");
        refused(world, spec, ErrorKind::NotFound, "env:DKO_IS_NOT_SET").await;
    })
    .await;
}

#[tokio::test]
async fn a_name_that_a_foreign_container_has_is_busy() {
    on_docker("namesake", async |world| {
        let revision = world.register("good", http()).await;
        let name = format!("{}-A-0", world.service);
        let options =
            bollard::query_parameters::CreateContainerOptionsBuilder::new().name(&name).build();
        let body = bollard::models::ContainerCreateBody {
            image: Some("deploykit/testbed:good".into()),
            ..Default::default()
        };
        world.client.create_container(Some(options), body).await.unwrap();
        let result = world.docker.launch(&world.wanted(Place::A, &revision, 1)).await;
        world.client.remove_container(&name, None).await.unwrap();
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(error.to_string().contains(&name), "{error}");
    })
    .await;
}
