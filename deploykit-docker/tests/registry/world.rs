//! A registry of a test's own, and what is published to it.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::models::{
    ContainerCreateBody, HostConfig, ImageInspect, NetworkCreateRequest, PortBinding,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, LogsOptionsBuilder, PushImageOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveImageOptions, TagImageOptionsBuilder,
};
use deploykit_core::{
    ImageRef, Orchestrator, PinnedImage, Publish, PublishEvent, Release, Result, ServiceName,
    ServiceSpec,
};
use deploykit_docker::{Docker, DockerRegistry, Engine, Logins, OciRegistry};
use futures::{StreamExt, TryStreamExt};

/// Who pushes: a password without anything difficult.
pub(crate) const PUSHER: (&str, &str) = ("pusher", "plain");
/// Who pulls. In base64 this password needs one of the letters in which the two alphabets differ.
pub(crate) const PULLER: (&str, &str) = ("me", "a>b?c~");
/// Both of them, as `htpasswd -B` writes them.
const HTPASSWD: &str = "pusher:$2y$05$abcdefghijklmnopqrstuuFdNDEfkb1X3rllvPrjxMBiguHm2mNL6
me:$2y$05$abcdefghijklmnopqrstuuFhiqqlA9C4NHnWSaXKvrjB0TOmQrUae
";

/// What is published unless a test says otherwise.
pub(crate) const IMAGE: &str = "deploykit/testbed:good";

/// A registry to be.
#[derive(Debug)]
pub(crate) struct Stand {
    name: &'static str,
    env: Vec<String>,
    files: tempfile::TempDir,
    is_guarded: bool,
    is_seeded: bool,
}

impl Stand {
    /// Open to everybody, and empty.
    pub(crate) fn new(name: &'static str) -> Self {
        let env = vec!["REGISTRY_LOG_ACCESSLOG_DISABLED=false".to_owned()];
        let files = tempfile::tempdir().unwrap();
        Self { name, env, files, is_guarded: false, is_seeded: false }
    }

    /// Sets one of its settings.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.env.push(format!("REGISTRY_{name}={}", value.as_ref()));
        self
    }

    /// Gives it a file, as `/files/NAME`.
    pub(crate) fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        std::fs::write(self.files.path().join(name), content).unwrap();
        self
    }

    /// Asks for passwords.
    pub(crate) fn guarded(mut self) -> Self {
        self.is_guarded = true;
        self.file("passwords", HTPASSWD)
            .env("AUTH", "htpasswd")
            .env("AUTH_HTPASSWD_REALM", "test")
            .env("AUTH_HTPASSWD_PATH", "/files/passwords")
    }

    /// Holds `team/web:1`.
    pub(crate) fn seeded(mut self) -> Self {
        self.is_seeded = true;
        self
    }

    /// Runs a test beside it.
    pub(crate) async fn run<F>(self, test: impl FnOnce(World) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let client = bollard::Docker::connect_with_defaults().unwrap();
        let client = client.negotiate_version().await.unwrap();
        let container = format!("dkr-{}-{}", self.name, std::process::id());
        let binding =
            PortBinding { host_ip: Some("127.0.0.1".into()), host_port: Some("0".into()) };
        let body = ContainerCreateBody {
            image: Some("deploykit/registry:parts".into()),
            env: Some(self.env),
            host_config: Some(HostConfig {
                network_mode: Some(container.clone()),
                port_bindings: Some([("5000/tcp".into(), Some(vec![binding]))].into()),
                binds: Some(vec![format!("{}:/files:ro", self.files.path().display())]),
                ..Default::default()
            }),
            ..Default::default()
        };
        // Of its own, so that nothing depends on the machine's default network.
        let network = NetworkCreateRequest { name: container.clone(), ..Default::default() };
        client.create_network(network).await.unwrap();
        let options = CreateContainerOptionsBuilder::new().name(&container).build();
        client.create_container(Some(options), body).await.expect("run `cargo xtask parts` first");
        let engine = Engine::connect().await.unwrap();
        let engine = engine.with_logins(Logins::new().without_docker_config());
        let mut world =
            World { engine, client: client.clone(), container, registry: String::new() };
        if let Err(error) = client.start_container(&world.container, None).await {
            world.clean().await;
            panic!("the registry does not start: {error}");
        }
        world.registry = world.address().await;
        let run = {
            let world = world.clone();
            let test = test(world.clone());
            async move {
                world.until_it_answers().await;
                if self.is_seeded {
                    world.seed(self.is_guarded).await;
                }
                test.await;
            }
        };
        let result = tokio::spawn(tokio::time::timeout(Duration::from_secs(60), run)).await;
        world.forget(&format!("{}/team/web:1", world.registry)).await;
        world.clean().await;
        match result {
            Ok(in_time) => in_time.expect("the test ends in a minute"),
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        }
    }
}

/// The registry as it runs.
#[derive(Clone, Debug)]
pub(crate) struct World {
    /// Without credentials.
    pub(crate) engine: Engine,
    pub(crate) client: bollard::Docker,
    pub(crate) container: String,
    /// `127.0.0.1:PORT`.
    pub(crate) registry: String,
}

impl World {
    pub(crate) fn image(&self, rest: &str) -> ImageRef {
        ImageRef::parse(&format!("{}/{rest}", self.registry)).unwrap()
    }

    pub(crate) fn by_engine(&self) -> DockerRegistry {
        DockerRegistry::new(self.engine.clone())
    }

    pub(crate) fn directly(&self) -> OciRegistry {
        OciRegistry::new().with_engine(self.engine.clone())
    }

    pub(crate) fn as_pusher(&self) -> OciRegistry {
        self.directly().with_logins(self.login(PUSHER.0, PUSHER.1))
    }

    pub(crate) fn login(&self, user: &str, password: &str) -> Logins {
        Logins::new().without_docker_config().with_password(&self.registry, user, password)
    }

    /// The test image, on its way to `team/web`.
    pub(crate) fn publish(&self, tags: &[&str]) -> (Publish, Events) {
        let repository = format!("{}/team/web", self.registry);
        Events::of(Publish::image(IMAGE, &repository, tags.iter().copied()).unwrap())
    }

    pub(crate) async fn forget(&self, image: &str) {
        let _ = self.client.remove_image(image, None::<RemoveImageOptions>, None).await;
    }

    /// Has an orchestrator on this Engine pull an image, which is removed again; what the Engine held meanwhile.
    pub(crate) async fn pull(&self, engine: &Engine, image: PinnedImage) -> Result<ImageInspect> {
        // What a push left behind would make pulling superfluous.
        self.forget(&image.asked.to_string()).await;
        let name = image.pull_name();
        assert!(self.client.inspect_image(&name).await.is_err(), "it is there already");
        let (docker, service) = (Docker::new(engine.clone()), ServiceName::new("web").unwrap());
        let release = Release::new(image, ServiceSpec::worker());
        let pulled = docker.register(&service, &release).await;
        let held = self.client.inspect_image(&name).await;
        self.forget(&name).await;
        pulled.map(|_| held.unwrap())
    }

    /// What it wrote about the requests to it, one line each.
    pub(crate) async fn requests(&self) -> Vec<String> {
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).build();
        let chunks: Vec<_> =
            self.client.logs(&self.container, Some(options)).try_collect().await.unwrap();
        let text: String = chunks.iter().map(ToString::to_string).collect();
        text.lines().filter(|line| line.contains("HTTP/1.")).map(str::to_owned).collect()
    }

    /// Where it listens; another place after each start.
    pub(crate) async fn address(&self) -> String {
        let found = self.client.inspect_container(&self.container, None).await.unwrap();
        let ports = found.network_settings.unwrap().ports.unwrap();
        let port = ports["5000/tcp"].as_ref().unwrap()[0].host_port.clone().unwrap();
        format!("127.0.0.1:{port}")
    }

    /// The Engine accepts connections to a published port before anybody listens behind it.
    pub(crate) async fn until_it_answers(&self) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        loop {
            let ask = async {
                let mut stream = tokio::net::TcpStream::connect(&self.registry).await?;
                stream.write_all(b"GET /v2/ HTTP/1.0\r\n\r\n").await?;
                stream.read_u8().await
            };
            if ask.await.is_ok() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn seed(&self, is_guarded: bool) {
        let name = format!("{}/team/web", self.registry);
        let options = TagImageOptionsBuilder::new().repo(&name).tag("1").build();
        self.client.tag_image(IMAGE, Some(options)).await.unwrap();
        let credentials = is_guarded.then(|| DockerCredentials {
            username: Some(PUSHER.0.into()),
            password: Some(PUSHER.1.into()),
            ..Default::default()
        });
        let options = PushImageOptionsBuilder::new().tag("1").build();
        let mut lines = std::pin::pin!(self.client.push_image(&name, Some(options), credentials));
        while let Some(line) = lines.next().await {
            line.unwrap();
        }
    }

    async fn clean(&self) {
        let force = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        self.client.remove_container(&self.container, Some(force)).await.unwrap();
        self.client.remove_network(&self.container).await.unwrap();
    }
}

/// What a publication told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Events(Arc<Mutex<Vec<PublishEvent>>>);

impl Events {
    pub(crate) fn of(publish: Publish) -> (Publish, Self) {
        let events = Self::default();
        let seen = events.clone();
        (publish.on_progress(move |event| seen.0.lock().unwrap().push(event.clone())), events)
    }

    pub(crate) fn all(&self) -> Vec<PublishEvent> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, is_it: impl Fn(&PublishEvent) -> bool) -> usize {
        self.all().iter().filter(|event| is_it(event)).count()
    }

    pub(crate) fn uploaded(&self) -> usize {
        self.count(|event| matches!(event, PublishEvent::Uploaded { .. }))
    }

    pub(crate) fn skipped(&self) -> usize {
        self.count(|event| matches!(event, PublishEvent::Skipped { .. }))
    }

    /// How many different blobs there were.
    pub(crate) fn found(&self) -> usize {
        let found = self.all().into_iter().find_map(|event| match event {
            PublishEvent::Found { blobs, .. } => Some(blobs),
            _ => None,
        });
        found.expect("the source was read")
    }
}
