use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::release::{SecretRef, ServiceSpec};

/// What is to be different after a deployment.
///
/// ```
/// use deploykit_core::{Change, ServiceSpec};
///
/// let first = Change::to("registry:5000/web:1").with_spec(ServiceSpec::http(8080, "/health")).with_replicas(4);
/// let next = Change::to("registry:5000/web:2").with_env("LOG", "debug");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Change {
    pub(super) image: Option<String>,
    pub(super) sidecars: BTreeMap<String, String>,
    pub(super) spec: Option<ServiceSpec>,
    pub(super) unset: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) secrets: BTreeMap<String, SecretRef>,
    pub(super) replicas: Option<u32>,
    pub(super) force: bool,
}

impl Change {
    /// Brings this image, by tag or digest. Everything that is not said stays as the service has it.
    pub fn to(image: impl Into<String>) -> Self {
        Self { image: Some(image.into()), ..Self::default() }
    }

    /// Brings the release that already serves once more, in new tasks.
    pub fn restart() -> Self {
        Self { force: true, ..Self::default() }
    }

    /// Runs a further image, by tag or digest, beside it in each task.
    pub fn with_sidecar(mut self, container: impl Into<String>, image: impl Into<String>) -> Self {
        self.sidecars.insert(container.into(), image.into());
        self
    }

    /// Sets all settings; required for a service that does not exist yet.
    pub fn with_spec(mut self, spec: ServiceSpec) -> Self {
        self.spec = Some(spec);
        self
    }

    /// Sets one environment variable.
    pub fn with_env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Sets one environment variable to a secret that the provider fetches.
    pub fn with_secret(mut self, name: impl Into<String>, secret: impl Into<SecretRef>) -> Self {
        self.secrets.insert(name.into(), secret.into());
        self
    }

    /// Removes one environment variable or secret that the service has so far; one that it does not have is an error when
    /// it is planned.
    pub fn without_env(mut self, name: impl Into<String>) -> Self {
        self.unset.push(name.into());
        self
    }

    /// Sets the desired count; without it the service's own is taken, read at each step. 1 for a new service.
    ///
    /// It is a rollout like any other: all tasks are replaced, also where the image stays the same. Who only wants more or
    /// fewer tasks of what runs scales at the orchestrator.
    pub fn with_replicas(mut self, replicas: u32) -> Self {
        self.replicas = Some(replicas);
        self
    }

    /// Deploys even where that changes nothing.
    pub fn forced(mut self) -> Self {
        self.force = true;
        self
    }

    /// Checks that what is to be removed is there.
    pub(super) fn check_unset(&self, spec: &ServiceSpec) -> Result<()> {
        let known = || spec.env.keys().chain(spec.secrets.keys());
        let Some(name) = self.unset.iter().find(|name| known().all(|known| known != *name)) else {
            return Ok(());
        };
        let closest = known().map(|known| (edits(name, known), known)).min();
        let hint = match closest {
            None => "there are none at all; leave without_env out".to_owned(),
            Some((edits, known)) if edits <= name.len().div_ceil(3) => format!("is it {known}?"),
            Some(_) => format!("there are {}", known().cloned().collect::<Vec<_>>().join(", ")),
        };
        let message = format!("without_env names {name:?}, and there is no such variable");
        Err(Error::invalid(message).with_hint(hint))
    }
}

/// How many characters have to be added, removed or replaced to make one name of the other; case does not count.
fn edits(one: &str, other: &str) -> usize {
    let [one, other] = [one, other].map(|name| name.to_lowercase());
    // How far each beginning of `other` is from what was seen of `one`.
    let mut row: Vec<usize> = (1..=other.chars().count()).collect();
    for (seen, a) in one.chars().enumerate() {
        let (mut diagonal, mut left) = (seen, seen + 1);
        for (cell, b) in row.iter_mut().zip(other.chars()) {
            left = (diagonal + usize::from(a != b)).min(*cell + 1).min(left + 1);
            diagonal = std::mem::replace(cell, left);
        }
    }
    row.last().copied().unwrap_or(one.len())
}
