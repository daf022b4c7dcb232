//! What to run: a release, and the settings of the service around its image.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::{Digest, PinnedImage};

/// What to run, in full: enough to run it again in a year.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The image that serves.
    pub image: PinnedImage,
    /// Further images that run beside it in each task, by container name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sidecars: BTreeMap<String, PinnedImage>,
    /// How it is run.
    pub spec: ServiceSpec,
}

impl Release {
    /// This image under these settings.
    pub fn new(image: PinnedImage, spec: ServiceSpec) -> Self {
        Self { image, sidecars: BTreeMap::new(), spec }
    }

    /// A digest over everything in it: equal for equal releases. What the image was called does not count.
    pub fn digest(&self) -> Digest {
        let images: Vec<_> = std::iter::once(("", &self.image))
            .chain(self.sidecars.iter().map(|(name, image)| (name.as_str(), image)))
            .map(|(container, image)| (container, image.pull_name()))
            .collect();
        // Maps with text keys and plain values always become JSON.
        Digest::of(&serde_json::to_vec(&(images, &self.spec)).unwrap_or_default())
    }
}

/// How a service is run, apart from its image and its count: what a first deployment has to be told.
///
/// ```
/// use deploykit_core::{Limits, ServiceSpec};
/// use std::time::Duration;
///
/// let spec = ServiceSpec::http(8080, "/health")
///     .with_env("LOG", "info")
///     .with_secret("DB_PASSWORD", "file:/run/secrets/db")
///     .with_limits(Limits::new().with_memory_bytes(256 << 20))
///     .with_stop_grace(Duration::from_secs(20));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServiceSpec {
    /// The port on which a task serves; none for a worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How to tell that a task is ready, where its image does not say so itself.
    pub readiness: Readiness,
    /// The command instead of the image's own; empty for the image's own.
    /// It takes the place of what a Dockerfile calls CMD: an image's ENTRYPOINT stays, and gets it as arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Environment variables. Not for secrets: they are written to plans and journals.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Environment variables whose values the provider fetches when a task starts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretRef>,
    /// Directories and volumes inside the task.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// What a task may use at most.
    #[serde(default, skip_serializing_if = "Limits::is_none")]
    pub limits: Limits,
    /// Further networks to which each task is connected, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
    /// How long a task may take to end after SIGTERM before it is killed.
    #[serde(rename = "stop_grace_ms", with = "crate::time::millis")]
    pub stop_grace: Duration,
}

impl ServiceSpec {
    /// A service that speaks HTTP on `port`; `path` answers 2xx or 3xx when a task is ready.
    pub fn http(port: u16, path: impl Into<String>) -> Self {
        Self {
            port: Some(port),
            readiness: Readiness::Http { path: path.into() },
            ..Self::worker()
        }
    }

    /// A service on `port` that is ready when the port accepts connections.
    pub fn tcp(port: u16) -> Self {
        Self { port: Some(port), readiness: Readiness::Tcp, ..Self::worker() }
    }

    /// A service without a port, ready when its tasks run: takes work from a queue, say. A task has 30 s to end, unless
    /// [`with_stop_grace`](Self::with_stop_grace) says otherwise; those of [`http`](Self::http) and [`tcp`](Self::tcp) too.
    pub fn worker() -> Self {
        Self {
            port: None,
            readiness: Readiness::Running,
            command: Vec::new(),
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            mounts: Vec::new(),
            limits: Limits::default(),
            networks: Vec::new(),
            // Kubernetes' and ECS's default.
            stop_grace: Duration::from_secs(30),
        }
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn with_env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Sets an environment variable to a secret that the provider fetches.
    #[must_use]
    pub fn with_secret(mut self, name: impl Into<String>, secret: impl Into<SecretRef>) -> Self {
        self.secrets.insert(name.into(), secret.into());
        self
    }

    /// Replaces the image's own command.
    #[must_use]
    pub fn with_command<S: Into<String>>(mut self, command: impl IntoIterator<Item = S>) -> Self {
        self.command = command.into_iter().map(Into::into).collect();
        self
    }

    /// Adds a directory or volume.
    #[must_use]
    pub fn with_mount(mut self, mount: Mount) -> Self {
        self.mounts.push(mount);
        self
    }

    /// Sets what a task may use.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Connects each task to a further network.
    #[must_use]
    pub fn with_network(mut self, network: impl Into<String>) -> Self {
        self.networks.push(network.into());
        self
    }

    /// Sets the time between SIGTERM and SIGKILL.
    #[must_use]
    pub fn with_stop_grace(mut self, grace: Duration) -> Self {
        self.stop_grace = grace;
        self
    }

    /// Sets how readiness is told.
    #[must_use]
    pub fn with_readiness(mut self, readiness: Readiness) -> Self {
        self.readiness = readiness;
        self
    }

    /// Checks what no provider could run.
    ///
    /// # Errors
    /// `Invalid`, naming the field.
    pub fn check(&self) -> Result<()> {
        let wrong =
            |field: &str, why: &str| Err(Error::invalid(format!("service spec: {field} {why}")));
        if self.port == Some(0) {
            return wrong("port", "is 0");
        }
        if self.port.is_none() && self.readiness != Readiness::Running {
            return wrong("readiness", "asks a port, but the service has none");
        }
        if let Readiness::Http { path } = &self.readiness
            && !path.starts_with('/')
        {
            return wrong("readiness", "has a path that does not begin with /");
        }
        // It may be the secret itself, so it is not shown.
        let is_reference = |from: &str| from.contains(':') && !from.contains("://");
        if let Some((name, _)) = self.secrets.iter().find(|(_, from)| !is_reference(from.as_str()))
        {
            return Err(Error::invalid(format!(
                "service spec: secret {name} does not say where it is to be fetched"
            ))
            .with_hint(
                "give a reference, such as env:NAME or file:/path, never the value itself",
            ));
        }
        if self.command.iter().any(|argument| argument.contains('\0')) {
            return wrong("command", "contains a zero byte");
        }
        if let Some((name, _)) = self.env.iter().find(|(_, value)| value.contains('\0')) {
            return wrong("env", &format!("has a zero byte in the value of {name}"));
        }
        for name in self.env.keys().chain(self.secrets.keys()) {
            if name.is_empty() || name.contains(['=', '\0']) {
                return wrong("env", &format!("has a name that cannot be one: {name:?}"));
            }
            if self.env.contains_key(name) && self.secrets.contains_key(name) {
                return wrong("env", &format!("and secrets both set {name}"));
            }
        }
        Ok(())
    }
}

/// How to tell that a task is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Readiness {
    /// This path answers 2xx or 3xx.
    Http {
        /// Beginning with `/`.
        path: String,
    },
    /// The port accepts connections.
    Tcp,
    /// The task runs.
    Running,
}

/// Where a secret's value is to be fetched: `env:NAME` (the deployer's own environment), `file:/path` (the deployer's
/// own disk), or a form that a provider defines, such as an ARN. Never the value itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretRef(String);

impl SecretRef {
    /// Takes the reference as it is.
    pub fn new(reference: impl Into<String>) -> Self {
        Self(reference.into())
    }

    /// The reference as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for SecretRef {
    fn from(reference: &str) -> Self {
        Self::new(reference)
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A directory of the host or a named volume inside a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Mount {
    /// An absolute path on the host, or the name of a volume.
    pub source: String,
    /// The absolute path inside the task.
    pub target: PathBuf,
    /// Whether the task can only read it.
    pub read_only: bool,
}

impl Mount {
    /// A mount that the task can only read.
    pub fn read_only(source: impl Into<String>, target: impl Into<PathBuf>) -> Self {
        Self { source: source.into(), target: target.into(), read_only: true }
    }

    /// A mount that the task can write.
    pub fn writable(source: impl Into<String>, target: impl Into<PathBuf>) -> Self {
        Self { source: source.into(), target: target.into(), read_only: false }
    }
}

/// What a task may use at most; nothing set means no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Limits {
    /// Memory in bytes; the task is killed above it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Processor time in thousandths of one core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_thousandths: Option<u32>,
}

impl Limits {
    /// No limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Limits the memory, in bytes.
    #[must_use]
    pub fn with_memory_bytes(mut self, bytes: u64) -> Self {
        self.memory_bytes = Some(bytes);
        self
    }

    /// Limits processor time, in thousandths of one core.
    #[must_use]
    pub fn with_cpu_thousandths(mut self, thousandths: u32) -> Self {
        self.cpu_thousandths = Some(thousandths);
        self
    }

    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ImageRef;

    fn image(name: &str) -> PinnedImage {
        PinnedImage::pushed(ImageRef::parse(name).unwrap(), Digest::of(b"same"))
    }

    #[test]
    fn the_same_content_under_another_tag_is_the_same_release() {
        let spec = ServiceSpec::http(80, "/");
        let one = Release::new(image("web:1"), spec.clone()).digest();
        assert_eq!(one, Release::new(image("web:latest"), spec.clone()).digest());
        assert_ne!(one, Release::new(image("web:1"), spec.with_env("A", "1")).digest());
    }

    #[test]
    fn an_upgrade_of_this_library_takes_what_runs_for_nothing_else() {
        let spec = ServiceSpec::http(80, "/").with_env("A", "1").with_secret("B", "env:B");
        let digest = Release::new(image("web:1"), spec).digest();
        // As it was in the first version: labels of containers and the history have it.
        let first = "sha256:19e232f2d9345d22f55a87b8b6d475e75b11c31920f9efb85b9d0b9606529dcc";
        assert_eq!(digest.to_string(), first);
    }

    #[test]
    fn a_spec_that_sets_one_variable_twice_is_refused() {
        let spec = ServiceSpec::worker().with_env("A", "1").with_secret("A", "env:A");
        assert!(spec.check().unwrap_err().to_string().contains("both set A"));
    }

    #[test]
    fn a_zero_byte_which_no_process_can_be_given_is_refused() {
        let spec = ServiceSpec::worker();
        for (spec, named) in [
            (spec.clone().with_command(["a", "b\0"]), "command"),
            (spec.with_env("A", "\0"), "of A"),
        ] {
            let error = spec.check().unwrap_err();
            assert_eq!(error.kind(), crate::error::ErrorKind::Invalid);
            assert!(error.message().contains(named), "{error}");
        }
    }

    #[test]
    fn a_secret_in_the_place_of_its_reference_is_refused_and_not_shown() {
        for secret in ["hunter2", "postgres://app:hunter2@db/app"] {
            let error = ServiceSpec::worker().with_secret("PASSWORD", secret).check().unwrap_err();
            assert!(error.message().contains("secret PASSWORD"), "{error}");
            assert!(!error.report().contains("hunter2"), "{error}");
        }
    }
}
