use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::name::JobName;
use crate::provider::Point;
use crate::release::{Limits, Readiness, Release, SecretRef};

/// The longest name of a job, so that the name of its container stays within what a host's name may have.
const LONGEST_NAME: usize = 24;

/// How long a job may run where nothing is said.
const LIMIT: Duration = Duration::from_secs(600);

/// Something that runs once, to its end: a migration, a smoke test.
///
/// It runs the main image of the release that is brought, with the service's environment, secrets, mounts, networks and
/// limits where nothing else is said, but never with the service's command, port or sidecars. Exit code 0 within the time
/// limit is success. An image whose ENTRYPOINT is the service itself must do something else when it is given the job's
/// command as arguments; otherwise the job is one more service, until its time limit.
///
/// ```
/// use deploykit_core::Job;
/// use std::time::Duration;
///
/// let migrate = Job::new("migrate")
///     .with_command(["bin/migrate", "--all"])
///     .with_secret("DATABASE_URL", "file:/run/secrets/owner")
///     .with_time_limit(Duration::from_secs(1_800));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use]
#[non_exhaustive]
pub struct Job {
    /// Its name.
    pub name: JobName,
    /// The command instead of the image's own; empty for the image's own.
    /// It takes the place of what a Dockerfile calls CMD: an image's ENTRYPOINT stays, and gets it as arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Environment variables beside, or instead of, the service's. Not for secrets: they are written to plans and journals.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Environment variables beside, or instead of, the service's, whose values the provider fetches when the job starts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretRef>,
    /// What it may use at most, instead of the service's limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// How long it may run from its start; it is stopped then, and has failed.
    #[serde(rename = "time_limit_ms", with = "crate::time::millis")]
    pub time_limit: Duration,
}

impl Job {
    /// A job that runs the image's own command, for 10 minutes at most. The name has 1 to 24 characters of `a-z`, `0-9` and
    /// `-`.
    pub fn new(name: impl Into<JobName>) -> Self {
        Self {
            name: name.into(),
            command: Vec::new(),
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            limits: None,
            time_limit: LIMIT,
        }
    }

    /// Replaces the image's own command.
    pub fn with_command<S: Into<String>>(mut self, command: impl IntoIterator<Item = S>) -> Self {
        self.command = command.into_iter().map(Into::into).collect();
        self
    }

    /// Sets an environment variable.
    pub fn with_env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Sets an environment variable to a secret that the provider fetches.
    pub fn with_secret(mut self, name: impl Into<String>, secret: impl Into<SecretRef>) -> Self {
        self.secrets.insert(name.into(), secret.into());
        self
    }

    /// Sets what it may use, instead of the service's limits.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// Sets how long it may run from its start.
    pub fn with_time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// What is run for it: the main image of `release`, as the service's settings and its own say.
    pub(crate) fn release(&self, release: &Release) -> Release {
        let mut spec = release.spec.clone();
        (spec.port, spec.readiness) = (None, Readiness::Running);
        spec.command.clone_from(&self.command);
        // What the job says outranks the service, also where one sets a variable and the other a secret.
        spec.env.retain(|name, _| !self.secrets.contains_key(name));
        spec.secrets.retain(|name, _| !self.env.contains_key(name));
        spec.env.extend(self.env.clone());
        spec.secrets.extend(self.secrets.clone());
        spec.limits = self.limits.clone().unwrap_or(spec.limits);
        Release::new(release.image.clone(), spec)
    }

    /// Checks what no provider could run.
    pub(crate) fn check(&self, release: &Release) -> Result<()> {
        let Self { name, time_limit, .. } = self;
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !(1..=LONGEST_NAME).contains(&name.as_str().len()) || !name.as_str().chars().all(fits) {
            return Err(Error::invalid(format!("job {:?}: the name cannot be one", name.as_str()))
                .with_hint(format!("use 1 to {LONGEST_NAME} characters of a-z, 0-9 and -")));
        }
        if time_limit.is_zero() {
            return Err(Error::invalid(format!("job {name} has no time to run"))
                .with_hint("give Job::with_time_limit more than zero"));
        }
        self.release(release).spec.check().map_err(|e| e.within(format_args!("job {name}")))
    }
}

/// A job in a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobUse {
    /// When it runs.
    pub point: Point,
    /// What runs.
    pub job: Job,
}
