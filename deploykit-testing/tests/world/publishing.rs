use std::sync::{Arc, Mutex};

use deploykit_core::{
    BlueGreen, Change, ErrorKind, ImageRef, Outcome, PinnedImage, Publish, PublishEvent, Registry,
};
use deploykit_testing::{Behaviour, Fault, Operation, World};

const REPOSITORY: &str = "registry.example.org/team/web";

fn built() -> World {
    let world = World::new(7);
    world.build("web:build-17", Behaviour::good()).unwrap();
    world
}

fn publish(tags: &[&str]) -> (Publish, Arc<Mutex<Vec<PublishEvent>>>) {
    let events = Arc::<Mutex<Vec<PublishEvent>>>::default();
    let publish = Publish::image("web:build-17", REPOSITORY, tags.iter().copied()).unwrap();
    let seen = Arc::clone(&events);
    (publish.on_progress(move |event| seen.lock().unwrap().push(event.clone())), events)
}

async fn resolve(world: &World, tag: &str) -> deploykit_core::Result<PinnedImage> {
    world.registry().resolve(&ImageRef::parse(&format!("{REPOSITORY}:{tag}")).unwrap()).await
}

#[tokio::test(start_paused = true)]
async fn what_was_published_is_deployed_by_its_digest() {
    let world = built();
    world.image("web:1", Behaviour::good()).unwrap();
    let web = world.already_runs("web", "web:1", 2).unwrap();
    let (publish, _) = publish(&["1.4", "latest"]);
    let image = world.registry().publish(&publish).await.unwrap();
    assert_eq!(resolve(&world, "latest").await.unwrap().digest, image.digest);

    let deployer = world.deployer().build();
    let rollout = deployer.rollout(&web, &BlueGreen::new(), Change::to(&image)).await.unwrap();
    let report = rollout.await.unwrap();
    assert_eq!((report.outcome, report.release.digest), (Outcome::Promoted, image.digest));
}

#[tokio::test(start_paused = true)]
async fn what_is_published_twice_is_uploaded_once() {
    let world = built();
    let uploads = |events: &Arc<Mutex<Vec<PublishEvent>>>| {
        let uploaded = |event: &&PublishEvent| matches!(event, PublishEvent::Uploaded { .. });
        events.lock().unwrap().iter().filter(uploaded).count()
    };
    let (first, seen) = publish(&["1"]);
    world.registry().publish(&first).await.unwrap();
    assert_eq!(uploads(&seen), 1);
    let (second, seen) = publish(&["2"]);
    world.registry().publish(&second).await.unwrap();
    assert_eq!(uploads(&seen), 0);
}

#[tokio::test(start_paused = true)]
async fn a_tag_is_added_to_what_the_repository_has_and_to_nothing_else() {
    let world = built();
    let (publish, _) = publish(&["1"]);
    let image = world.registry().publish(&publish).await.unwrap();
    let tagged = world.registry().tag(&image, &["stable", "latest"]).await.unwrap();
    assert_eq!(tagged.asked.tag(), Some("latest"));
    assert_eq!(resolve(&world, "stable").await.unwrap().digest, image.digest);

    let other = ImageRef::parse("registry.example.org/team/other").unwrap();
    let elsewhere = PinnedImage::pushed(other, image.digest);
    let error = world.registry().tag(&elsewhere, &["latest"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_publication_that_fails_sets_no_tag_and_can_be_repeated() {
    let world = built();
    world.fail(Fault::error(Operation::Publish, ErrorKind::Unavailable));
    let (publish, _) = publish(&["1"]);
    assert!(world.registry().publish(&publish).await.unwrap_err().is_temporary());
    assert_eq!(resolve(&world, "1").await.unwrap_err().kind(), ErrorKind::NotFound);
    world.registry().publish(&publish).await.unwrap();
    assert!(resolve(&world, "1").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_source_that_was_not_built_is_not_found() {
    let world = built();
    for publish in [
        Publish::image("web:build-18", REPOSITORY, ["1"]),
        Publish::layout("dir", REPOSITORY, ["1"]),
    ] {
        let error = world.registry().publish(&publish.unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
    world.build_layout("dir", Behaviour::good());
    let layout = Publish::layout("dir", REPOSITORY, ["1"]).unwrap();
    assert!(world.registry().publish(&layout).await.is_ok());
}
