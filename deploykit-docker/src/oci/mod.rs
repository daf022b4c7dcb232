//! Registries spoken to directly, by the OCI distribution protocol.

mod auth;
mod export;
mod failure;
mod layout;
mod manifest;
mod session;
mod upload;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use deploykit_core::{
    Error, ErrorKind, ImageRef, ImageSource, PinnedImage, Publish, Registry, Result,
};

use self::manifest::Prepared;
use self::session::{Access, Session};
use crate::engine::Engine;
use crate::logins::Logins;
use crate::registry::by_digest;

/// OCI registries, spoken to directly: resolves, publishes and tags, and needs an Engine only for images that are on one.
///
/// * **Credentials** are [`Logins`]: given in code or left by `docker login`. Basic authentication and bearer tokens are
///   spoken, whichever the registry asks for.
/// * **Encryption**: TLS, trusting what this machine trusts and [`with_authority`](Self::with_authority). Plain HTTP is
///   spoken to a registry on loopback that no authority was given for, and to those of
///   [`with_plain_http`](Self::with_plain_http).
/// * **An image of an Engine** is exported into temporary files, its layers compressed (gzip) there, so that place for
///   the compressed image is needed in [`std::env::temp_dir`]. Compressing gives the same bytes each time.
/// * **A layout** is published as it is: an index of several platforms stays one, with the digest that it has.
///
/// ```no_run
/// use deploykit_core::{Change, Publish, Registry};
/// use deploykit_docker::{Engine, OciRegistry};
///
/// # async fn run() -> deploykit_core::Result<()> {
/// let registry = OciRegistry::new().with_engine(Engine::connect().await?);
/// let publish = Publish::image("web:build-17", "registry.example.org/team/web", ["1.4", "latest"])?
///     .on_progress(|event| eprintln!("{event}"));
/// let image = registry.publish(&publish).await?;
/// let change = Change::to(&image);
/// # let _ = change;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct OciRegistry {
    engine: Option<Engine>,
    logins: Option<Arc<Logins>>,
    plain: BTreeSet<String>,
    authorities: BTreeMap<String, Vec<u8>>,
}

impl OciRegistry {
    /// Without an Engine, with what `docker login` keeps.
    pub fn new() -> Self {
        Self::default()
    }

    /// Publishes images that this Engine holds, and uses its [`Logins`] unless others are set.
    pub fn with_engine(mut self, engine: Engine) -> Self {
        self.engine = Some(engine);
        self
    }

    /// Sets the credentials.
    pub fn with_logins(mut self, logins: Logins) -> Self {
        self.logins = Some(Arc::new(logins));
        self
    }

    /// Speaks plain HTTP to `registry`, written as in image names. Passwords and images travel unencrypted then.
    pub fn with_plain_http(mut self, registry: impl Into<String>) -> Self {
        self.plain.insert(registry.into());
        self
    }

    /// Trusts the certificates in `pem`, one or several, when it speaks to `registry`, besides those that this machine
    /// trusts.
    ///
    /// # Errors
    /// `Invalid` for what holds no certificate.
    pub fn with_authority(
        mut self,
        registry: impl Into<String>,
        pem: impl Into<Vec<u8>>,
    ) -> Result<Self> {
        let (registry, pem) = (registry.into(), pem.into());
        let wrong = || {
            Error::invalid(format!("the authority for registry {registry} is no PEM certificate"))
                .with_hint("give the text from -----BEGIN CERTIFICATE----- to the last END line")
        };
        let found = reqwest::Certificate::from_pem_bundle(&pem);
        if found.map_err(|error| wrong().with_source(error))?.is_empty() {
            return Err(wrong());
        }
        self.authorities.insert(registry, pem);
        Ok(self)
    }

    /// As [`with_authority`](Self::with_authority), from a file.
    ///
    /// # Errors
    /// `Invalid` for a file that cannot be read or holds no certificate, naming it.
    pub fn with_authority_file(
        self,
        registry: impl Into<String>,
        path: impl AsRef<Path>,
    ) -> Result<Self> {
        let path = path.as_ref();
        let pem = std::fs::read(path).map_err(|error| {
            Error::invalid(format!("the authority {} cannot be read", path.display()))
                .with_source(error)
        })?;
        self.with_authority(registry, pem).map_err(|error| error.within(path.display()))
    }

    fn logins(&self) -> Logins {
        let own = self.logins.as_deref();
        own.or(self.engine.as_ref().map(Engine::logins)).cloned().unwrap_or_default()
    }

    fn is_plain(&self, registry: &str) -> bool {
        self.plain.contains(registry)
            || (is_loopback(registry) && !self.authorities.contains_key(registry))
    }

    async fn prepare(&self, publish: &Publish) -> Result<Prepared> {
        match publish.source() {
            ImageSource::Engine(image) => match &self.engine {
                Some(engine) => export::export(engine, image, publish).await,
                None => {
                    Err(Error::invalid(format!("source: no Engine is set to export {image} from"))
                        .with_hint("set one with OciRegistry::with_engine, or publish a layout"))
                }
            },
            ImageSource::Layout(directory) => layout::read(directory.clone()).await,
            other => Err(Error::new(
                ErrorKind::Unsupported,
                format!("source: {other} cannot be published from here"),
            )),
        }
    }
}

#[async_trait]
impl Registry for OciRegistry {
    /// An index of several platforms is named by its own digest.
    async fn resolve(&self, image: &ImageRef) -> Result<PinnedImage> {
        if let Some(pinned) = by_digest(image) {
            return Ok(pinned);
        }
        let session = Session::open(self, image, Access::Pull, &[]).await?;
        let tag = image.tag().unwrap_or("latest");
        match session.digest_of(tag).await? {
            Some(digest) => Ok(PinnedImage::pushed(image.clone(), digest)),
            None => Err(session.missing(&format!("resolve image {}:{tag}", image.name()))),
        }
    }

    async fn publish(&self, publish: &Publish) -> Result<PinnedImage> {
        let doing = |error: Error| error.within(format_args!("publish {publish}"));
        // Who may not push is told before anything is read.
        let opened =
            Session::open(self, publish.repository(), Access::Push, publish.mounts()).await;
        let session = opened.map_err(doing)?;
        let prepared = self.prepare(publish).await.map_err(doing)?;
        let digest = upload::upload(&session, publish, prepared).await.map_err(doing)?;
        tracing::info!(image = %publish.name(), %digest, "published");
        Ok(PinnedImage::pushed(publish.name(), digest))
    }

    async fn tag(&self, image: &PinnedImage, tags: &[&str]) -> Result<PinnedImage> {
        let named = image.tagged(tags)?;
        let doing = |error: Error| error.within(format_args!("tag {image}"));
        let session = Session::open(self, &image.asked, Access::Push, &[]).await.map_err(doing)?;
        let manifest = session.manifest(image.digest.as_str()).await.map_err(doing)?;
        for tag in tags {
            session.set_tag(tag, &manifest).await.map_err(doing)?;
        }
        let last = named.into_iter().next_back();
        Ok(PinnedImage::pushed(last.unwrap_or_else(|| image.asked.clone()), image.digest.clone()))
    }
}

/// Shows no credentials, and certificates by the registry that they are for.
impl fmt::Debug for OciRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OciRegistry")
            .field("engine", &self.engine)
            .field("logins", &self.logins)
            .field("plain", &self.plain)
            .field("authorities", &self.authorities.keys())
            .finish()
    }
}

/// Whether a registry, written as in image names, is on this machine.
fn is_loopback(registry: &str) -> bool {
    let host = match registry.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => host,
        _ => registry,
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_and_for_those_that_were_named() {
        let registry = OciRegistry::new().with_plain_http("registry.example.org");
        for (name, plain) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.1.2.3", true),
            ("registry.example.org", true),
            ("registry.example.org:5000", false),
            ("localhost.example.org", false),
            ("10.0.0.1:5000", false),
            ("docker.io", false),
        ] {
            assert_eq!(registry.is_plain(name), plain, "{name}");
        }
    }

    #[test]
    fn an_authority_that_is_none_is_refused() {
        for pem in ["", "nonsense"] {
            let error = OciRegistry::new().with_authority("r.example.org", pem).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.message().contains("r.example.org"), "{error}");
        }
    }
}
