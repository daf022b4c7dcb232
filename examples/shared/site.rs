//! What a deployment takes for granted, made for one run of an example: a registry, names, a directory, HAProxy.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use deploykit::docker::{Engine, Frontend, HaProxy};
use deploykit::{Error, ErrorKind, Result, ServiceName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::engine::Bare;

/// The port of the service, in its containers and of HAProxy.
pub(crate) const PORT: u16 = 8080;
/// Where the service says whether it is ready.
pub(crate) const HEALTH: &str = "/health";

pub(crate) const REGISTRY_IMAGE: &str = "deploykit/registry:parts";
pub(crate) const HAPROXY_IMAGE: &str = "deploykit/haproxy:parts";
/// How long the registry may take until it answers.
const READY: Duration = Duration::from_secs(30);
const ANSWER: Duration = Duration::from_millis(500);

/// The surroundings of one service.
#[derive(Debug)]
pub(crate) struct Site {
    /// Stands in the name of everything that is made: two runs do not meet, and all of it is found again.
    pub(crate) id: String,
    pub(crate) service: ServiceName,
    /// That of HAProxy and the service's containers.
    pub(crate) network: String,
    pub(crate) engine: Engine,
    pub(crate) bare: Bare,
    pub(crate) dir: PathBuf,
}

impl Site {
    /// Chooses names and finds the Engine.
    pub(crate) async fn choose() -> Result<Self> {
        // The process's number alone is another's inside of another container.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::of(format!("x{}-{:03x}", std::process::id(), now.subsec_millis())).await
    }

    /// The site that has this id.
    pub(crate) async fn of(id: String) -> Result<Self> {
        let engine = Engine::connect().await?;
        let bare = Bare::at(&engine.address())?;
        let service = ServiceName::new(format!("web-{id}"))?;
        let network = format!("deploykit-{id}");
        let dir = std::env::temp_dir().join(&network);
        Ok(Self { id, service, network, engine, bare, dir })
    }

    /// Starts a registry and puts images into it, under tags. Returns the name of the repository.
    pub(crate) async fn start_registry(&self, images: &[(&str, &str)]) -> Result<String> {
        // Left to the Engine it would be another one after each restart.
        let registry = free_address()?;
        let (host, port) = (registry.ip().to_string(), registry.port().to_string());
        let body = json!({
            "Image": REGISTRY_IMAGE,
            "Labels": label(),
            "HostConfig": {
                "PortBindings": { "5000/tcp": [{ "HostIp": host, "HostPort": port }] },
                "RestartPolicy": { "Name": "always" },
            },
        });
        let (bare, name) = (&self.bare, format!("deploykit-registry-{}", self.id));
        let created = bare.post(&format!("/containers/create?name={name}"), Some(&body)).await;
        created.map_err(parts_are_missing)?;
        bare.post(&format!("/containers/{name}/start"), None).await?;
        let registry = registry.to_string();
        if timeout(READY, until_it_answers(&registry)).await.is_err() {
            let what = format!("the registry at {registry} does not answer in {READY:?}");
            return Err(
                Error::new(ErrorKind::Timeout, what).with_hint(format!("see docker logs {name}"))
            );
        }
        let repository = format!("{registry}/{}", self.service);
        for (image, tag) in images {
            let tag_it = format!("/images/{image}/tag?repo={repository}&tag={tag}");
            bare.post(&tag_it, None).await.map_err(parts_are_missing)?;
            bare.post(&format!("/images/{repository}/push?tag={tag}"), None).await?;
            // What has been pushed is forgotten here, so that it has to be pulled.
            bare.delete(&format!("/images/{repository}:{tag}")).await?;
        }
        Ok(repository)
    }

    /// Starts HAProxy with a port for the service, which nobody serves yet; or finds it as another process has started it.
    pub(crate) async fn start_haproxy(&self) -> Result<HaProxy> {
        let haproxy = HaProxy::builder()
            .engine(self.engine.clone())
            .name(&self.id)
            .image(HAPROXY_IMAGE)
            .network(&self.network)
            .publish(format!("127.0.0.1:0:{PORT}"))
            .state_dir(self.dir.join("haproxy"))
            .start()
            .await
            .map_err(parts_are_missing)?;
        haproxy.add_service(&self.service, &Frontend::new(PORT).with_health_path(HEALTH)).await?;
        Ok(haproxy)
    }

    /// Removes everything that has the id in its name, however far the run came.
    ///
    /// By bare calls: a service that is to vanish needs no draining, and what is broken must not be needed for it.
    pub(crate) async fn clean(&self) -> Result<()> {
        let bare = &self.bare;
        for container in named(&bare.get("/containers/json?all=1").await?, "/Names", &self.id) {
            bare.delete(&format!("/containers/{container}?force=1&v=1")).await?;
        }
        bare.delete(&format!("/networks/{}", self.network)).await?;
        let images = bare.get("/images/json").await?;
        for names in ["/RepoTags", "/RepoDigests"] {
            for image in named(&images, names, &self.id) {
                bare.delete(&format!("/images/{image}")).await?;
            }
        }
        match std::fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let what = format!("{} cannot be removed", self.dir.display());
                Err(Error::new(ErrorKind::Other, what).with_source(error))
            }
            _ => Ok(()),
        }
    }
}

/// The label by which `cargo xtask clean` finds what a run that was killed has left.
pub(crate) fn label() -> Value {
    json!({ "deploykit.test": "example" })
}

/// Of a list of things those names that contain `part`.
fn named(list: &Value, pointer: &str, part: &str) -> Vec<String> {
    let things = list.as_array().into_iter().flatten();
    let names = things.filter_map(|thing| thing.pointer(pointer)?.as_array()).flatten();
    let names = names.filter_map(Value::as_str).filter(|name| name.contains(part));
    names.map(|name| name.trim_start_matches('/').to_owned()).collect()
}

fn parts_are_missing(error: Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => error.with_hint("make the images first, with: cargo xtask parts"),
        _ => error,
    }
}

fn free_address() -> Result<SocketAddr> {
    let found = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|bound| bound.local_addr());
    found.map_err(|why| {
        Error::new(ErrorKind::Other, "no port is free for the registry").with_source(why)
    })
}

/// The Engine accepts connections to a published port before anybody listens behind it; what is asked then is never
/// answered.
async fn until_it_answers(registry: &str) {
    let ask = || async {
        let mut stream = TcpStream::connect(registry).await?;
        stream.write_all(b"GET /v2/ HTTP/1.0\r\n\r\n").await?;
        stream.read_u8().await
    };
    while !matches!(timeout(ANSWER, ask()).await, Ok(Ok(_))) {
        sleep(Duration::from_millis(10)).await;
    }
}
