//! What skopeo reads from the registry, compared byte for byte.

use std::collections::BTreeSet;
use std::path::Path;

use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
    WaitContainerOptions,
};
use deploykit_core::{Digest, Publish, Registry};
use deploykit_docker::OciRegistry;
use futures::TryStreamExt;
use serde_json::Value;

use crate::layout::layout;
use crate::world::{IMAGE, Stand, World};

/// Has skopeo copy `image` of the registry, all of its platforms, into a directory.
async fn copied(world: &World, image: &str) -> tempfile::TempDir {
    let target = tempfile::tempdir().unwrap();
    let from = format!("docker://localhost:5000/{image}");
    let command = [
        "skopeo",
        "--insecure-policy",
        "copy",
        "--all",
        "--src-tls-verify=false",
        &from,
        "dir:/out",
    ];
    let body = ContainerCreateBody {
        image: Some("deploykit/skopeo:parts".into()),
        cmd: Some(command.map(str::to_owned).to_vec()),
        host_config: Some(HostConfig {
            network_mode: Some(format!("container:{}", world.container)),
            binds: Some(vec![format!("{}:/out", target.path().display())]),
            ..Default::default()
        }),
        ..Default::default()
    };
    let name = format!("{}-skopeo", world.container);
    let options = CreateContainerOptionsBuilder::new().name(&name).build();
    let client = &world.client;
    client.create_container(Some(options), body).await.expect("run `cargo xtask parts` first");
    client.start_container(&name, None).await.unwrap();
    let ended: Result<Vec<_>, _> =
        client.wait_container(&name, None::<WaitContainerOptions>).try_collect().await;
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).build();
    let log: Vec<_> = client.logs(&name, Some(options)).try_collect().await.unwrap();
    let force = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    client.remove_container(&name, Some(force)).await.unwrap();
    assert!(ended.is_ok_and(|ended| ended[0].status_code == 0), "{log:?}");
    target
}

/// The files of a directory, except for skopeo's own.
fn files(directory: &Path) -> BTreeSet<String> {
    let names = std::fs::read_dir(directory).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "version").collect()
}

#[tokio::test]
async fn what_another_program_reads_back_is_each_byte_that_was_published() {
    Stand::new("skopeo")
        .run(async |world| {
            let source = tempfile::tempdir().unwrap();
            let index = layout(source.path(), 300_000);
            let repository = world.image("team/all").to_string();
            let publish = Publish::layout(source.path(), &repository, ["1"]).unwrap();
            OciRegistry::new().publish(&publish).await.unwrap();

            let copy = copied(&world, "team/all:1").await;
            let blobs = source.path().join("blobs/sha256");
            let mut read = BTreeSet::new();
            for name in files(copy.path()) {
                let bytes = std::fs::read(copy.path().join(&name)).unwrap();
                // manifest.json is the image; those of the platforms are called after their digests.
                let hex = match name.strip_suffix("manifest.json") {
                    Some("") => index.hex().to_owned(),
                    Some(hex) => hex.trim_end_matches('.').to_owned(),
                    None => name,
                };
                assert!(bytes == std::fs::read(blobs.join(&hex)).unwrap(), "{hex} differs");
                read.insert(hex);
            }
            assert_eq!(read, files(&blobs));
        })
        .await;
}

#[tokio::test]
async fn an_image_of_the_engine_is_read_back_as_its_digests_say() {
    Stand::new("skopeo-id")
        .run(async |world| {
            let (publish, _) = world.publish(&["1"]);
            let pinned = world.directly().publish(&publish).await.unwrap();
            let copy = copied(&world, "team/web:1").await;
            let read = |name: &str| std::fs::read(copy.path().join(name)).unwrap();
            let manifest = read("manifest.json");
            assert_eq!(Digest::of(&manifest), pinned.digest);
            let manifest: Value = serde_json::from_slice(&manifest).unwrap();
            let id = world.client.inspect_image(IMAGE).await.unwrap().id.unwrap();
            assert_eq!(manifest["config"]["digest"], id);
            for name in files(copy.path()).iter().filter(|name| *name != "manifest.json") {
                assert_eq!(Digest::of(&read(name)).hex(), name);
            }
        })
        .await;
}
