use deploykit_core::{ErrorKind, Publish, PublishEvent, Registry};
use deploykit_docker::OciRegistry;

use crate::layout::layout;
use crate::world::{Events, IMAGE, Stand};

#[tokio::test]
async fn what_was_published_is_pulled_with_the_id_that_it_had() {
    Stand::new("publish")
        .run(async |world| {
            let (publish, _) = world.publish(&["1.4"]);
            let pinned = world.directly().publish(&publish).await.unwrap();
            let pulled = world.pull(&world.engine, pinned).await.unwrap();
            assert_eq!(pulled.id, world.client.inspect_image(IMAGE).await.unwrap().id);
        })
        .await;
}

#[tokio::test]
async fn what_is_published_again_is_not_uploaded_again() {
    Stand::new("again")
        .run(async |world| {
            let uploads = async || {
                let requests = world.requests().await;
                let is_upload = |line: &&String| {
                    line.contains("\"POST ") || line.contains("\"PATCH ") || line.contains("\"PUT ")
                };
                requests.iter().filter(is_upload).count()
            };
            let (first, events) = world.publish(&["1"]);
            let one = world.directly().publish(&first).await.unwrap();
            assert_eq!((events.uploaded(), events.skipped()), (events.found(), 0));
            let before = uploads().await;
            // Each blob is begun and ended, and the tag is set.
            assert_eq!(before, 2 * events.found() + 1);

            let (second, events) = world.publish(&["1"]);
            let two = world.directly().publish(&second).await.unwrap();
            assert_eq!((events.uploaded(), events.skipped()), (0, events.found()));
            assert_eq!(uploads().await, before);
            assert_eq!(one, two);
        })
        .await;
}

#[tokio::test]
async fn several_tags_name_one_upload() {
    Stand::new("tags")
        .run(async |world| {
            let (publish, events) = world.publish(&["1.4", "1", "latest"]);
            let pinned = world.directly().publish(&publish).await.unwrap();
            assert_eq!(events.uploaded(), events.found());
            for tag in ["1.4", "1", "latest"] {
                let image = world.image(&format!("team/web:{tag}"));
                for resolved in [
                    world.directly().resolve(&image).await,
                    world.by_engine().resolve(&image).await,
                ] {
                    assert_eq!(resolved.unwrap().digest, pinned.digest, "{tag}");
                }
            }
        })
        .await;
}

#[tokio::test]
async fn a_tag_is_added_without_a_blob_being_moved() {
    Stand::new("tag")
        .run(async |world| {
            let (publish, _) = world.publish(&["1"]);
            let pinned = world.directly().publish(&publish).await.unwrap();
            let blobs = async || {
                world.requests().await.iter().filter(|line| line.contains("/blobs/")).count()
            };
            let before = blobs().await;
            let tagged = world.directly().tag(&pinned, &["stable", "latest"]).await.unwrap();
            assert_eq!(blobs().await, before);
            assert_eq!((tagged.asked.tag(), &tagged.digest), (Some("latest"), &pinned.digest));
            let stable = world.directly().resolve(&world.image("team/web:stable")).await.unwrap();
            assert_eq!(stable.digest, pinned.digest);
        })
        .await;
}

#[tokio::test]
async fn an_index_of_a_layout_keeps_its_digest_with_all_its_platforms() {
    Stand::new("layout")
        .run(async |world| {
            let directory = tempfile::tempdir().unwrap();
            let digest = layout(directory.path(), 300_000);
            let repository = format!("{}/team/all", world.registry);
            let publish = Publish::layout(directory.path(), &repository, ["1"]).unwrap();
            let (publish, events) = Events::of(publish);
            // A layout needs no Engine.
            let pinned = OciRegistry::new().publish(&publish).await.unwrap();
            assert_eq!(pinned.digest, digest);
            assert_eq!((events.found(), events.uploaded()), (4, 4));
            let again = OciRegistry::new().resolve(&world.image("team/all:1")).await.unwrap();
            assert_eq!(again.digest, digest);
            let by_engine = world.by_engine().resolve(&world.image("team/all:1")).await.unwrap();
            assert_eq!(by_engine.digest, digest);
        })
        .await;
}

#[tokio::test]
async fn blobs_of_another_repository_are_mounted_and_not_uploaded() {
    Stand::new("mount").run(async |world| {
        let (publish, _) = world.publish(&["1"]);
        world.directly().publish(&publish).await.unwrap();
        let (web, other) = (world.image("team/web"), world.image("other/web"));
        let publish = Publish::image(IMAGE, &other.to_string(), ["1"]).unwrap();
        let (publish, events) = Events::of(publish.mounts_from(&web.to_string()).unwrap());
        world.directly().publish(&publish).await.unwrap();
        let mounted = |event: &PublishEvent| {
            matches!(event, PublishEvent::Mounted { from, .. } if *from == web)
        };
        assert_eq!((events.count(mounted), events.uploaded()), (events.found(), 0));
    })
    .await;
}

#[tokio::test]
async fn the_progress_of_a_blob_goes_from_its_first_part_to_its_last() {
    Stand::new("progress")
        .run(async |world| {
            let directory = tempfile::tempdir().unwrap();
            layout(directory.path(), 3_000_000);
            let repository = format!("{}/team/all", world.registry);
            let publish = Publish::layout(directory.path(), &repository, ["1"]).unwrap();
            let (publish, events) = Events::of(publish);
            OciRegistry::new().publish(&publish).await.unwrap();
            let mut sent = std::collections::BTreeMap::new();
            for event in events.all() {
                match event {
                    PublishEvent::Uploading { blob, done, total } => {
                        let before = sent.insert(blob, done).unwrap_or_default();
                        assert!(before < done && done <= total, "{before} {done} {total}");
                    }
                    PublishEvent::Uploaded { blob, total } => {
                        assert_eq!(sent.remove(&blob), Some(total));
                    }
                    _ => {}
                }
            }
            assert!(sent.is_empty(), "{sent:?}");
            assert!(events.all().len() > 20, "a large blob is told in parts");
        })
        .await;
}

#[tokio::test]
async fn what_cannot_be_published_is_named_and_nothing_is_uploaded() {
    Stand::new("bad")
        .run(async |world| {
            let repository = world.image("team/web").to_string();
            let empty = tempfile::tempdir().unwrap();
            for (registry, publish, kind, part) in [
                (
                    world.directly(),
                    Publish::image("deploykit/never", &repository, ["1"]),
                    ErrorKind::NotFound,
                    "deploykit/never:latest",
                ),
                (
                    OciRegistry::new(),
                    Publish::image(IMAGE, &repository, ["1"]),
                    ErrorKind::Invalid,
                    "source: no Engine",
                ),
                (
                    OciRegistry::new(),
                    Publish::layout(empty.path(), &repository, ["1"]),
                    ErrorKind::NotFound,
                    "index.json",
                ),
            ] {
                let error = registry.publish(&publish.unwrap()).await.unwrap_err();
                assert_eq!(error.kind(), kind, "{error}");
                assert!(error.message().contains(part), "{error}");
                assert!(error.hint().is_some(), "{error}");
            }
            let requests = world.requests().await;
            assert!(requests.iter().all(|line| line.contains("\"GET ")), "{requests:?}");
        })
        .await;
}

#[tokio::test]
async fn a_layout_that_was_tampered_with_is_refused_and_its_tag_stays_where_it_was() {
    Stand::new("tampered")
        .run(async |world| {
            let directory = tempfile::tempdir().unwrap();
            let repository = world.image("team/all").to_string();
            let before = layout(directory.path(), 5_000);
            let publish = || Publish::layout(directory.path(), &repository, ["1"]).unwrap();
            OciRegistry::new().publish(&publish()).await.unwrap();
            layout(directory.path(), 6_000);
            let blobs = directory.path().join("blobs/sha256");
            let of = |size: u64| {
                let all = std::fs::read_dir(&blobs).unwrap().map(|entry| entry.unwrap().path());
                all.filter(move |path| path.metadata().unwrap().len() == size)
            };
            let layer = of(6_000).next().unwrap();
            // As long as it was, so that only its digest tells; then shorter; then gone, behind a link.
            let tamper: [&(dyn Fn() + Sync); 3] = [
                &|| std::fs::write(&layer, "x".repeat(6_000)).unwrap(),
                &|| std::fs::write(&layer, "x").unwrap(),
                &|| {
                    std::fs::remove_file(&layer).unwrap();
                    std::os::unix::fs::symlink("/no/such/file", &layer).unwrap();
                },
            ];
            for tamper in tamper {
                tamper();
                let error = OciRegistry::new().publish(&publish()).await.unwrap_err();
                assert!(!error.is_temporary(), "{}", error.report());
                let named = layer.file_name().unwrap().to_str().unwrap();
                assert!(error.report().contains(&named[..12]), "{}", error.report());
                let tag = OciRegistry::new().resolve(&world.image("team/all:1")).await.unwrap();
                assert_eq!(tag.digest, before);
            }
        })
        .await;
}

#[tokio::test]
async fn a_layout_whose_index_is_a_pipe_or_a_device_is_refused_and_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    layout(directory.path(), 100);
    let index = directory.path().join("index.json");
    std::fs::remove_file(&index).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&index).status().unwrap();
    assert!(made.success());
    Stand::new("pipe")
        .run(async move |world| {
            let repository = world.image("team/all").to_string();
            let publish = Publish::layout(directory.path(), &repository, ["1"]).unwrap();
            let error = OciRegistry::new().publish(&publish).await.unwrap_err();
            assert!(error.message().contains("index.json is no file"), "{error}");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_publish_the_same_at_once_both_do() {
    Stand::new("both")
        .run(async |world| {
            let directory = tempfile::tempdir().unwrap();
            let digest = layout(directory.path(), 3_000_000);
            let repository = world.image("team/all").to_string();
            let publish = || Publish::layout(directory.path(), &repository, ["1"]).unwrap();
            let (first, second) = (publish(), publish());
            let registry = OciRegistry::new();
            let (first, second) = tokio::join!(registry.publish(&first), registry.publish(&second));
            assert_eq!((first.unwrap().digest, second.unwrap().digest), (digest.clone(), digest));
        })
        .await;
}
