use deploykit_core::{ErrorKind, ImageRef, PinnedImage, Registry};
use deploykit_docker::{Docker, DockerRegistry, Engine, LocalImages, Logins};

use crate::world::{PULLER, Stand};

#[tokio::test]
async fn a_tag_is_resolved_to_a_digest_by_which_the_image_is_pulled() {
    Stand::new("pull")
        .seeded()
        .run(async |world| {
            let pinned = world.by_engine().resolve(&world.image("team/web:1")).await.unwrap();
            assert!(!pinned.local);
            let name = pinned.pull_name();
            let found = world.pull(&world.engine, pinned).await.unwrap();
            assert!(found.repo_digests.unwrap().contains(&name));
        })
        .await;
}

#[tokio::test]
async fn a_reference_with_a_digest_is_believed_without_asking() {
    let registry = DockerRegistry::new(Engine::connect().await.unwrap());
    let digest = deploykit_core::Digest::of(b"anything");
    let image = ImageRef::parse(&format!("127.0.0.1:1/team/web:1@{digest}")).unwrap();
    let pinned = registry.resolve(&image).await.unwrap();
    assert_eq!(pinned, PinnedImage::pushed(image, digest));
}

#[tokio::test]
async fn an_unknown_tag_and_an_unknown_repository_are_not_found() {
    Stand::new("unknown")
        .seeded()
        .run(async |world| {
            for rest in ["team/web:2", "team/other:1"] {
                let error = world.by_engine().resolve(&world.image(rest)).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
                assert!(error.message().contains(rest), "{error}");
            }
        })
        .await;
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_unavailable_by_name() {
    let registry = DockerRegistry::new(Engine::connect().await.unwrap());
    let image = ImageRef::parse("127.0.0.1:1/team/web:1").unwrap();
    let error = registry.resolve(&image).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains("registry 127.0.0.1:1 "), "{error}");
    assert!(error.message().contains("team/web:1"), "{error}");
}

#[tokio::test]
async fn credentials_open_their_registry_whatever_letters_the_password_has() {
    Stand::new("auth")
        .guarded()
        .seeded()
        .run(async |world| {
            let (user, password) = PULLER;
            let image = world.image("team/web:1");
            let engine = world.engine.clone().with_logins(world.login(user, password));
            let registry = DockerRegistry::new(engine.clone());
            let pinned = registry.resolve(&image).await.unwrap();
            world.pull(&engine, pinned).await.unwrap();
            assert!(!format!("{registry:?} {:?}", Docker::new(engine)).contains(password));
        })
        .await;
}

#[tokio::test]
async fn refused_credentials_are_denied_and_the_error_says_whose_they_were() {
    Stand::new("denied")
        .guarded()
        .seeded()
        .run(async |world| {
            let image = world.image("team/web:1");
            let error = world.by_engine().resolve(&image).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
            assert!(error.message().contains("without credentials"), "{error}");
            assert!(error.hint().unwrap().contains("docker login"), "{error}");

            let wrong = world.engine.clone().with_logins(world.login("me", "wrong-word"));
            let error = DockerRegistry::new(wrong).resolve(&image).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
            assert!(error.message().contains("user \"me\""), "{error}");
            assert!(!error.report().contains("wrong-word"), "{error}");
        })
        .await;
}

#[tokio::test]
async fn credentials_are_not_sent_to_another_registry() {
    Stand::new("other")
        .guarded()
        .seeded()
        .run(async |world| {
            let (user, password) = PULLER;
            let logins = Logins::new().without_docker_config();
            let logins = logins.with_password("docker.io", user, password);
            let other = DockerRegistry::new(world.engine.clone().with_logins(logins));
            let error = other.resolve(&world.image("team/web:1")).await.unwrap_err();
            assert!(error.message().contains("without credentials"), "{error}");
        })
        .await;
}

#[tokio::test]
async fn an_image_that_was_never_pushed_is_known_by_its_id() {
    let engine = Engine::connect().await.unwrap();
    let local = LocalImages::new(engine.clone());
    let image = ImageRef::parse("deploykit/testbed:good").unwrap();
    let pinned = local.resolve(&image).await.unwrap();
    assert!(pinned.local);
    // The id alone, as it then stands in a release, names the same image.
    let by_id = local.resolve(&ImageRef::parse(pinned.digest.as_str()).unwrap()).await.unwrap();
    assert_eq!(by_id.pull_name(), pinned.pull_name());

    let error = local.resolve(&ImageRef::parse("deploykit/never").unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("deploykit/never:latest"), "{error}");
    assert!(error.message().contains(&engine.address()), "{error}");
}
