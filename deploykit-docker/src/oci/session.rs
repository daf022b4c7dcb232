//! One repository of one registry, spoken to as one user.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deploykit_core::{Digest, Error, ErrorKind, ImageRef, Result};
use http::HeaderValue;
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::token_cache::{RegistryToken, RegistryTokenType};
use oci_client::{Client, Reference, RegistryOperation};
use reqwest::redirect::{Action, Attempt, Policy};
use secrecy::ExposeSecret;

use super::OciRegistry;
use super::auth::{Ticket, authenticate};
use super::failure::{CALL, Peer};
use super::manifest::{ALL, Manifest};
use crate::logins::DEFAULT_REGISTRY;

/// How often something is tried that may pass.
const ATTEMPTS: u32 = 4;

/// How long before it is tried again at first; then twice as long, and so on.
const PAUSE: Duration = Duration::from_millis(200);

/// How often a log-in may be redirected.
const REDIRECTS: usize = 5;

const CONNECT: Duration = Duration::from_secs(10);

const AGENT: &str = concat!("deploykit/", env!("CARGO_PKG_VERSION"));

/// What a session is for: a token is asked for that allows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Pull,
    Push,
}

pub(super) struct Session {
    client: Client,
    http: reqwest::Client,
    peer: Peer,
    /// Without the registry, such as `team/web`.
    repository: String,
    /// Where the registry listens.
    base: String,
    scopes: Vec<String>,
    has_token: AtomicBool,
}

impl Session {
    /// For the repository of `image`; blobs of the repositories `mounts` may be mounted.
    pub(super) async fn open(
        registry: &OciRegistry,
        image: &ImageRef,
        access: Access,
        mounts: &[ImageRef],
    ) -> Result<Self> {
        let name = image.registry().unwrap_or(DEFAULT_REGISTRY).to_owned();
        let repository = path_of(image);
        let login = registry.logins().of(image).await?;
        let plain = registry.is_plain(&name);
        let authority = registry.authorities.get(&name);
        let config = ClientConfig {
            protocol: if plain { ClientProtocol::Http } else { ClientProtocol::Https },
            // One request for a blob, however large: not every registry takes chunks.
            use_monolithic_push: true,
            extra_root_certificates: authority
                .map(|pem| Certificate { encoding: CertificateEncoding::Pem, data: pem.clone() })
                .into_iter()
                .collect(),
            platform_resolver: None,
            connect_timeout: Some(CONNECT),
            user_agent: AGENT,
            ..ClientConfig::default()
        };
        let broken = |error: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(
                ErrorKind::Other,
                format!("no connection to registry {name} can be prepared"),
            )
            .with_source(error)
        };
        let client = Client::try_from(config).map_err(|error| broken(error.into()))?;
        let trusted = authority.map(|pem| reqwest::Certificate::from_pem_bundle(pem)).transpose();
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .user_agent(AGENT)
            .redirect(Policy::custom(stay))
            .tls_certs_merge(trusted.map_err(|error| broken(error.into()))?.unwrap_or_default())
            .build()
            .map_err(|error| broken(error.into()))?;
        let scheme = if plain { "http" } else { "https" };
        let actions = if access == Access::Push { "pull,push" } else { "pull" };
        let mut scopes = vec![format!("repository:{repository}:{actions}")];
        scopes.extend(mounts.iter().map(|from| format!("repository:{}:pull", path_of(from))));
        let peer = Peer { registry: name.clone(), login, plain };
        let has_token = AtomicBool::new(false);
        let mut session =
            Self { client, http, peer, repository, base: String::new(), scopes, has_token };
        session.base = format!("{scheme}://{}", session.at("latest").resolve_registry());
        let nobody = |_: &Error| {};
        session.retrying(nobody, || session.log_in()).await?;
        Ok(session)
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// What `reference`, a tag or a digest, is to the client.
    pub(super) fn at(&self, reference: &str) -> Reference {
        // A digest too: given apart, the client fails on registries that do not say where they put a manifest.
        Reference::with_tag(self.peer.registry.clone(), self.repository.clone(), reference.into())
    }

    /// The same repository, as another one of the registry.
    pub(super) fn elsewhere(&self, image: &ImageRef) -> Reference {
        Reference::with_tag(self.peer.registry.clone(), path_of(image), "latest".into())
    }

    pub(super) fn missing(&self, doing: &str) -> Error {
        self.peer.missing(doing)
    }

    pub(super) fn silent(&self, doing: &str, patience: Duration) -> Error {
        self.peer.silent(doing, patience)
    }

    pub(super) fn explain(&self, doing: &str, error: OciDistributionError) -> Error {
        self.peer.explain(doing, error)
    }

    async fn log_in(&self) -> Result<()> {
        let ticket = authenticate(&self.http, &self.base, &self.peer, &self.scopes).await?;
        let (auth, token) = match ticket {
            Ticket::Nothing => return Ok(()),
            Ticket::Password { user, password } => {
                let password = password.expose_secret().to_owned();
                let auth = RegistryAuth::Basic(user.clone(), password.clone());
                (auth, RegistryTokenType::Basic(user, password))
            }
            Ticket::Token(token) => {
                self.has_token.store(true, Ordering::Relaxed);
                let token = token.expose_secret().to_owned();
                let auth = RegistryAuth::Bearer(token.clone());
                (auth, RegistryTokenType::Bearer(RegistryToken::Token { token }))
            }
        };
        let here = self.at("latest");
        self.client.store_auth_if_needed(here.resolve_registry(), &auth).await;
        for operation in [RegistryOperation::Pull, RegistryOperation::Push] {
            self.client.tokens.insert(&here, operation, token.clone()).await;
        }
        Ok(())
    }

    /// Tries again what may pass, a few times. A refusal may come from a token that has run out: with a new one it is
    /// tried once.
    pub(super) async fn retrying<T, F>(
        &self,
        tell: impl Fn(&Error) + Send,
        call: impl Fn() -> F + Send,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send,
    {
        let mut pause = PAUSE;
        let mut is_fresh = !self.has_token.load(Ordering::Relaxed);
        for _ in 1..ATTEMPTS {
            let mut result = call().await;
            if !is_fresh && matches!(&result, Err(error) if error.kind() == ErrorKind::Denied) {
                match self.log_in().await {
                    Ok(()) => {
                        is_fresh = true;
                        continue;
                    }
                    Err(error) => result = Err(error),
                }
            }
            let error = match result {
                Err(error) if error.is_temporary() => error,
                result => return result,
            };
            tell(&error);
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        call().await
    }

    /// A call that carries no blob; `doing` is what is tried.
    pub(super) async fn call<T>(
        &self,
        doing: &str,
        call: impl Future<Output = Result<T, OciDistributionError>> + Send,
    ) -> Result<T> {
        match tokio::time::timeout(CALL, call).await {
            Ok(result) => result.map_err(|error| self.explain(doing, error)),
            Err(_) => Err(self.silent(doing, CALL)),
        }
    }

    /// What a tag or digest names; None for nothing.
    pub(super) async fn digest_of(&self, reference: &str) -> Result<Option<Digest>> {
        let doing = format!("look up {reference} in {}", self.repository);
        let at = self.at(reference);
        let asked = self
            .retrying(
                |error| tracing::debug!(%error, "once more"),
                || {
                    self.call(
                        &doing,
                        self.client.fetch_manifest_digest(&at, &RegistryAuth::Anonymous),
                    )
                },
            )
            .await;
        match asked {
            Ok(digest) => digest.parse().map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The manifest that a tag or digest names, byte for byte.
    pub(super) async fn manifest(&self, reference: &str) -> Result<Manifest> {
        let doing = format!("read {reference} from {}", self.repository);
        let at = self.at(reference);
        let (bytes, _) = self
            .retrying(
                |error| tracing::debug!(%error, "once more"),
                || {
                    self.call(
                        &doing,
                        self.client.pull_manifest_raw(&at, &RegistryAuth::Anonymous, &ALL),
                    )
                },
            )
            .await?;
        let (manifest, _) = Manifest::read(bytes).map_err(|error| error.within(&doing))?;
        Ok(manifest)
    }

    /// Puts a manifest under its digest.
    pub(super) async fn put(&self, manifest: &Manifest) -> Result<()> {
        let digest = manifest.digest.as_str();
        if self.digest_of(digest).await?.is_none() {
            self.put_at(digest, manifest).await?;
        }
        Ok(())
    }

    /// Has a tag name a manifest, and reads it back. Whether it named something else before.
    pub(super) async fn set_tag(&self, tag: &str, manifest: &Manifest) -> Result<bool> {
        if self.digest_of(tag).await?.as_ref() == Some(&manifest.digest) {
            return Ok(false);
        }
        self.put_at(tag, manifest).await?;
        let back = self.manifest(tag).await?;
        if back.bytes == manifest.bytes {
            return Ok(true);
        }
        let (is, wanted) = (&back.digest, &manifest.digest);
        Err(Error::new(
            ErrorKind::Foreign,
            format!("set tag {tag}: it was set to {wanted}, and names {is} when read back"),
        )
        .with_hint("somebody else sets it too, or the registry rewrites manifests"))
    }

    async fn put_at(&self, reference: &str, manifest: &Manifest) -> Result<()> {
        let doing = format!("put manifest {} as {reference}", manifest.digest.short());
        let at = self.at(reference);
        let media_type = HeaderValue::from_str(&manifest.media_type);
        let media_type = media_type.map_err(|error| Error::invalid(&*doing).with_source(error))?;
        let put = || {
            let bytes = manifest.bytes.clone();
            self.call(&doing, self.client.push_manifest_raw(&at, bytes, media_type.clone()))
        };
        self.retrying(|error| tracing::debug!(%error, "once more"), put).await.map(drop)
    }
}

/// Whoever logs in is not sent to another host: a form that is posted again there has the identity token in it.
fn stay(attempt: Attempt<'_>) -> Action {
    let is_home = attempt.previous().iter().all(|from| from.origin() == attempt.url().origin());
    if is_home && attempt.previous().len() < REDIRECTS { attempt.follow() } else { attempt.stop() }
}

/// A repository without its registry. Docker's own has a folder for names without one.
fn path_of(image: &ImageRef) -> String {
    let name = image.name();
    match image.registry() {
        Some(registry) => name.get(registry.len() + 1..).unwrap_or(name).to_owned(),
        None if name.contains('/') => name.to_owned(),
        None => format!("library/{name}"),
    }
}
