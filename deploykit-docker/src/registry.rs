//! What images mean: in registries, asked through the Engine, and on the Engine itself.

use async_trait::async_trait;
use deploykit_core::{Digest, Error, ErrorKind, ImageRef, PinnedImage, Registry, Result};

use crate::engine::{Engine, Failure};
use crate::logins::{DEFAULT_REGISTRY, Login};

/// Any OCI registry, asked by the Engine: what the Engine may reach and trusts (mirrors, insecure registries) holds.
///
/// It presents the Engine's [`Logins`](crate::Logins). It only looks things up: `OciRegistry` publishes.
#[derive(Clone, Debug)]
pub struct DockerRegistry {
    engine: Engine,
}

impl DockerRegistry {
    /// Asks through this Engine.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

#[async_trait]
impl Registry for DockerRegistry {
    async fn resolve(&self, image: &ImageRef) -> Result<PinnedImage> {
        if let Some(pinned) = by_digest(image) {
            return Ok(pinned);
        }
        let tagged = tagged(image);
        let login = self.engine.logins().of(image).await?;
        let found = self.engine.remote_digest(&tagged, login.proof.as_ref()).await;
        let digest = found.map_err(|failure| {
            explain(&self.engine, &format!("resolve image {tagged}"), image, &login, failure)
        })?;
        Ok(PinnedImage::pushed(image.clone(), digest.parse()?))
    }
}

/// A reference with a digest is believed.
pub(crate) fn by_digest(image: &ImageRef) -> Option<PinnedImage> {
    let digest = image.digest()?.clone();
    Some(match image.name() {
        "" => PinnedImage::local(image.clone(), digest),
        _ => PinnedImage::pushed(image.clone(), digest),
    })
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
pub(crate) async fn ensure_image(engine: &Engine, image: &PinnedImage) -> Result<()> {
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
    let login = engine.logins().of(&image.asked).await?;
    let pulled = engine.pull(&name, login.proof.as_ref()).await;
    pulled.map_err(|failure| explain(engine, &doing, &image.asked, &login, failure))
}

pub(crate) fn tagged(image: &ImageRef) -> String {
    format!("{}:{}", image.name(), image.tag().unwrap_or("latest"))
}

pub(crate) fn missing(engine: &Engine, image: &str) -> Error {
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
    login: &Login,
    failure: Failure,
) -> Error {
    let registry = image.registry().unwrap_or(DEFAULT_REGISTRY);
    let Failure::Answer { message, .. } = &failure else {
        return engine.failed(doing, failure);
    };
    let says = |parts: &[&str]| parts.iter().any(|part| failure.says(part));
    let error = |kind, what: &str| Error::new(kind, format!("{doing}: {what}: {message}"));
    if says(&["unauthorized", "denied", "authentication required", "no basic auth", "forbidden"]) {
        login.refused(doing, registry, message)
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
