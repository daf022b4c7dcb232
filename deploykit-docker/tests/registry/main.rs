//! Registries asked through a real Docker Engine.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets what it did not expect fails"
)]

use std::future::Future;
use std::io::Write;
use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::models::{ContainerCreateBody, HostConfig, NetworkCreateRequest, PortBinding};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, PushImageOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveImageOptions, TagImageOptionsBuilder,
};
use deploykit_core::{
    ErrorKind, ImageRef, Orchestrator, PinnedImage, Registry, Release, ServiceName, ServiceSpec,
};
use deploykit_docker::{Docker, DockerRegistry, Engine, LocalImages};
use futures::StreamExt;

/// Who pushes: a password without anything difficult.
const PUSHER: (&str, &str) = ("pusher", "plain");
/// Who pulls. In base64 this password needs one of the letters in which the two alphabets differ.
const PULLER: (&str, &str) = ("me", "a>b?c~");
/// Both of them, as `htpasswd -B` writes them.
const HTPASSWD: &str = "pusher:$2y$05$abcdefghijklmnopqrstuuFdNDEfkb1X3rllvPrjxMBiguHm2mNL6
me:$2y$05$abcdefghijklmnopqrstuuFhiqqlA9C4NHnWSaXKvrjB0TOmQrUae
";

/// A registry of a test's own with `team/web:1` in it.
#[derive(Clone, Debug)]
struct World {
    engine: Engine,
    client: bollard::Docker,
    /// `127.0.0.1:PORT`.
    registry: String,
}

impl World {
    fn image(&self, rest: &str) -> ImageRef {
        ImageRef::parse(&format!("{}/{rest}", self.registry)).unwrap()
    }

    fn open(&self) -> DockerRegistry {
        DockerRegistry::new(self.engine.clone())
    }

    async fn forget(&self, image: &str) {
        let _ = self.client.remove_image(image, None::<RemoveImageOptions>, None).await;
    }
}

/// Runs a test beside a registry, which asks for passwords if `guarded`.
async fn with_registry<F>(name: &str, guarded: bool, test: impl FnOnce(World) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let client = bollard::Docker::connect_with_defaults().unwrap();
    let client = client.negotiate_version().await.unwrap();
    let container = format!("dkr-{name}-{}", std::process::id());
    let mut passwords = tempfile::NamedTempFile::new().unwrap();
    passwords.write_all(HTPASSWD.as_bytes()).unwrap();
    let auth = ["REGISTRY_AUTH=htpasswd", "REGISTRY_AUTH_HTPASSWD_REALM=test"];
    let auth = auth.into_iter().chain(["REGISTRY_AUTH_HTPASSWD_PATH=/passwords"]);
    let binding = PortBinding { host_ip: Some("127.0.0.1".into()), host_port: Some("0".into()) };
    let body = ContainerCreateBody {
        image: Some("deploykit/registry:parts".into()),
        env: guarded.then(|| auth.map(str::to_owned).collect()),
        host_config: Some(HostConfig {
            network_mode: Some(container.clone()),
            port_bindings: Some([("5000/tcp".into(), Some(vec![binding]))].into()),
            binds: Some(vec![format!("{}:/passwords:ro", passwords.path().display())]),
            ..Default::default()
        }),
        ..Default::default()
    };
    // Of its own, so that nothing depends on the machine's default network.
    let network = NetworkCreateRequest { name: container.clone(), ..Default::default() };
    client.create_network(network).await.unwrap();
    let options = CreateContainerOptionsBuilder::new().name(&container).build();
    client.create_container(Some(options), body).await.expect("run `cargo xtask parts` first");
    if let Err(error) = client.start_container(&container, None).await {
        clean(&client, &container).await;
        panic!("the registry does not start: {error}");
    }
    let found = client.inspect_container(&container, None).await.unwrap();
    let ports = found.network_settings.unwrap().ports.unwrap();
    let port = ports["5000/tcp"].as_ref().unwrap()[0].host_port.clone().unwrap();
    let engine = Engine::connect().await.unwrap();
    let world = World { engine, client: client.clone(), registry: format!("127.0.0.1:{port}") };
    let run = {
        let world = world.clone();
        let test = test(world.clone());
        async move {
            until_it_answers(&world.registry).await;
            push(&world.client, &world.registry, guarded).await;
            test.await;
        }
    };
    let result = tokio::spawn(tokio::time::timeout(Duration::from_secs(60), run)).await;
    world.forget(&format!("{}/team/web:1", world.registry)).await;
    clean(&client, &container).await;
    match result {
        Ok(in_time) => in_time.expect("the test ends in a minute"),
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}

async fn clean(client: &bollard::Docker, container: &str) {
    let force = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    client.remove_container(container, Some(force)).await.unwrap();
    client.remove_network(container).await.unwrap();
}

/// The Engine accepts connections to a published port before anybody listens behind it.
async fn until_it_answers(registry: &str) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    loop {
        let ask = async {
            let mut stream = tokio::net::TcpStream::connect(registry).await?;
            stream.write_all(b"GET /v2/ HTTP/1.0\r\n\r\n").await?;
            stream.read_u8().await
        };
        if ask.await.is_ok() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

async fn push(client: &bollard::Docker, registry: &str, guarded: bool) {
    let name = format!("{registry}/team/web");
    let options = TagImageOptionsBuilder::new().repo(&name).tag("1").build();
    client.tag_image("deploykit/testbed:good", Some(options)).await.unwrap();
    let credentials = guarded.then(|| DockerCredentials {
        username: Some(PUSHER.0.into()),
        password: Some(PUSHER.1.into()),
        ..Default::default()
    });
    let options = PushImageOptionsBuilder::new().tag("1").build();
    let mut lines = std::pin::pin!(client.push_image(&name, Some(options), credentials));
    while let Some(line) = lines.next().await {
        line.unwrap();
    }
}

#[tokio::test]
async fn a_tag_is_resolved_to_a_digest_by_which_the_image_is_pulled() {
    with_registry("pull", false, async |world| {
        let pinned = world.open().resolve(&world.image("team/web:1")).await.unwrap();
        assert!(!pinned.local);
        // What the push left behind would make pulling superfluous.
        world.forget(&pinned.asked.to_string()).await;
        let name = pinned.pull_name();
        assert!(world.client.inspect_image(&name).await.is_err(), "it was not pulled yet");

        let docker = Docker::new(world.engine.clone());
        let service = ServiceName::new("web").unwrap();
        let release = Release::new(pinned, ServiceSpec::worker());
        docker.register(&service, &release).await.unwrap();
        let found = world.client.inspect_image(&name).await;
        world.forget(&name).await;
        assert!(found.unwrap().repo_digests.unwrap().contains(&name));
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
    with_registry("unknown", false, async |world| {
        for rest in ["team/web:2", "team/other:1"] {
            let error = world.open().resolve(&world.image(rest)).await.unwrap_err();
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
    with_registry("auth", true, async |world| {
        let (user, password) = PULLER;
        let image = world.image("team/web:1");
        let registry = world.open().with_credentials(&world.registry, user, password.into());
        let pinned = registry.resolve(&image).await.unwrap();
        world.forget(&image.to_string()).await;
        let docker = Docker::new(world.engine.clone());
        let docker = docker.with_credentials(&world.registry, user, password.into());
        let name = pinned.pull_name();
        let release = Release::new(pinned, ServiceSpec::worker());
        let pulled = docker.register(&ServiceName::new("web").unwrap(), &release).await;
        world.forget(&name).await;
        pulled.unwrap();
        assert!(!format!("{registry:?} {docker:?}").contains(password));
    })
    .await;
}

#[tokio::test]
async fn refused_credentials_are_denied_and_the_error_says_whose_they_were() {
    with_registry("denied", true, async |world| {
        let image = world.image("team/web:1");
        let error = world.open().resolve(&image).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(error.message().contains("without credentials"), "{error}");
        assert!(error.hint().unwrap().contains("with_credentials"), "{error}");

        let wrong = world.open().with_credentials(&world.registry, "me", "wrong-word".into());
        let error = wrong.resolve(&image).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(error.message().contains("user \"me\""), "{error}");
        assert!(!error.report().contains("wrong-word"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn credentials_are_not_sent_to_another_registry() {
    with_registry("other", true, async |world| {
        let (user, password) = PULLER;
        let other = world.open().with_credentials("docker.io", user, password.into());
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
