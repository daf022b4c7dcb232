//! What images mean: in registries, asked through the Engine, and on the Engine itself.

use async_trait::async_trait;
use deploykit_core::{Digest, Error, ErrorKind, ImageRef, PinnedImage, Registry, Result};
use secrecy::SecretString;

use crate::engine::{Credentials, Engine, Failure};

/// The registry that a name without one means to the Engine.
const DEFAULT_REGISTRY: &str = "docker.io";

/// Any OCI registry, asked by the Engine: what the Engine may reach and trusts (mirrors, insecure registries) holds.
#[derive(Clone, Debug)]
pub struct DockerRegistry {
    engine: Engine,
    logins: Logins,
}

impl DockerRegistry {
    /// Asks through the Engine that `DOCKER_HOST` names, else the local one.
    ///
    /// # Errors
    /// As [`Engine::connect`].
    pub async fn connect() -> Result<Self> {
        Ok(Self::new(Engine::connect().await?))
    }

    /// Asks through this Engine.
    pub fn new(engine: Engine) -> Self {
        Self { engine, logins: Logins::default() }
    }

    /// Sets the credentials for `registry`, written as in image names: `registry.example.org:5000`, or `docker.io` for
    /// names without a registry. They are sent for images of that registry only. What `docker login` keeps is not read.
    #[must_use]
    pub fn with_credentials(
        mut self,
        registry: impl Into<String>,
        user: impl Into<String>,
        password: SecretString,
    ) -> Self {
        self.logins.add(registry, user, password);
        self
    }
}

#[async_trait]
impl Registry for DockerRegistry {
    async fn resolve(&self, image: &ImageRef) -> Result<PinnedImage> {
        match image.digest() {
            Some(id) if image.name().is_empty() => {
                return Ok(PinnedImage::local(image.clone(), id.clone()));
            }
            Some(digest) => return Ok(PinnedImage::pushed(image.clone(), digest.clone())),
            None => {}
        }
        let tagged = tagged(image);
        let found = self.engine.remote_digest(&tagged, self.logins.of(image)).await;
        let digest = found.map_err(|failure| {
            explain(&self.engine, &format!("resolve image {tagged}"), image, &self.logins, failure)
        })?;
        Ok(PinnedImage::pushed(image.clone(), digest.parse()?))
    }
}

/// The images that the Engine itself holds, whether or not they were ever pushed, identified by their ids.
#[derive(Clone, Debug)]
pub struct LocalImages {
    engine: Engine,
}

impl LocalImages {
    /// Those of this Engine.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

#[async_trait]
impl Registry for LocalImages {
    async fn resolve(&self, image: &ImageRef) -> Result<PinnedImage> {
        if let Some(id) = image.digest().filter(|_| image.name().is_empty()) {
            return Ok(PinnedImage::local(image.clone(), id.clone()));
        }
        let name = if image.digest().is_some() { image.to_string() } else { tagged(image) };
        let doing = format!("look up image {name}");
        let found = self.engine.image(&name).await.map_err(|f| self.engine.failed(&doing, f))?;
        match found.and_then(|image| image.id) {
            Some(id) => Ok(PinnedImage::local(image.clone(), id.parse::<Digest>()?)),
            None => Err(missing(&self.engine, &name)),
        }
    }
}

/// Has the Engine hold the image, pulling it if need be.
pub(crate) async fn ensure_image(
    engine: &Engine,
    image: &PinnedImage,
    logins: &Logins,
) -> Result<()> {
    let name = image.pull_name();
    let doing = format!("pull image {image}");
    let there = engine.image(&name).await.map_err(|f| engine.failed(&doing, f))?;
    if there.is_some() {
        return Ok(());
    }
    if image.local || image.asked.name().is_empty() {
        return Err(missing(engine, &image.to_string()));
    }
    tracing::info!(%image, "pulling");
    let pulled = engine.pull(&name, logins.of(&image.asked)).await;
    pulled.map_err(|failure| explain(engine, &doing, &image.asked, logins, failure))
}

fn tagged(image: &ImageRef) -> String {
    format!("{}:{}", image.name(), image.tag().unwrap_or("latest"))
}

fn missing(engine: &Engine, image: &str) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!("image {image} is not on the Docker Engine at {}", engine.address()),
    )
    .with_hint("build, load or pull it there, or push it and name its registry")
}

/// What a registry's refusal means. The Engine passes its words on under statuses that do not tell much.
fn explain(
    engine: &Engine,
    doing: &str,
    image: &ImageRef,
    logins: &Logins,
    failure: Failure,
) -> Error {
    let registry = image.registry().unwrap_or(DEFAULT_REGISTRY);
    let Failure::Answer { message, .. } = &failure else {
        return engine.failed(doing, failure);
    };
    let says = |parts: &[&str]| parts.iter().any(|part| failure.says(part));
    let error = |kind, what: &str| Error::new(kind, format!("{doing}: {what}: {message}"));
    if says(&["unauthorized", "denied", "authentication required", "no basic auth", "forbidden"]) {
        let from = match logins.of(image) {
            Some(login) => format!("the credentials given in code for user {:?}", login.user),
            None => "a request without credentials".into(),
        };
        error(ErrorKind::Denied, &format!("registry {registry} refuses {from}")).with_hint(format!(
            "check the name, or give credentials with with_credentials({registry:?}, user, password)"
        ))
    } else if says(&["manifest unknown", "name unknown", "not found"]) {
        error(ErrorKind::NotFound, &format!("registry {registry} does not have it"))
            .with_hint("check the repository and the tag, or push the image")
    } else if says(&["http response to https client"]) {
        error(ErrorKind::Unavailable, &format!("registry {registry} does not speak TLS")).with_hint(
            format!("add {registry:?} to insecure-registries in the Engine's daemon.json"),
        )
    } else if says(&["dial tcp", "no such host", "timeout", "connection re", "eof", "deadline"]) {
        error(ErrorKind::Unavailable, &format!("registry {registry} cannot be reached")).with_hint(
            "check that it runs and that the Engine's machine reaches it, or name the image by digest",
        )
    } else {
        engine.failed(doing, failure)
    }
}

/// Credentials by registry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Logins(Vec<(String, Credentials)>);

impl Logins {
    pub(crate) fn add(
        &mut self,
        registry: impl Into<String>,
        user: impl Into<String>,
        password: SecretString,
    ) {
        self.0.push((registry.into(), Credentials { user: user.into(), password }));
    }

    /// Those for the registry that holds `image`; the last ones given count.
    fn of(&self, image: &ImageRef) -> Option<&Credentials> {
        let registry = image.registry().unwrap_or(DEFAULT_REGISTRY);
        let found = self.0.iter().rev().find(|(name, _)| name == registry);
        found.map(|(_, credentials)| credentials)
    }
}
