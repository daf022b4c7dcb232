//! A release as the Engine wants to hear it.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use bollard::models::{
    ContainerCreateBody, HostConfig, Mount as EngineMount, MountType, NetworkingConfig,
    RestartPolicy, RestartPolicyNameEnum,
};
use deploykit_core::{Error, ErrorKind, Limits, Mount, Readiness, Release, Result};
use secrecy::{ExposeSecret, SecretString};

use crate::engine::{attachment, whole_seconds};

/// What all tasks of a launch have in common, or what a job is. No `Debug`: it holds secrets.
pub(super) struct Blueprint {
    pub(super) release: Release,
    pub(super) secrets: Vec<(String, SecretString)>,
    pub(super) labels: HashMap<String, String>,
    pub(super) network: String,
    /// Whether the Engine starts it again when it ends.
    pub(super) restarts: bool,
}

impl Blueprint {
    /// The request that creates a container with this address; with one that the Engine chooses at each start, if none.
    pub(super) fn request(&self, address: Option<Ipv4Addr>) -> ContainerCreateBody {
        let spec = &self.release.spec;
        let plain = spec.env.iter().map(|(name, value)| format!("{name}={value}"));
        let secret =
            self.secrets.iter().map(|(name, value)| format!("{name}={}", value.expose_secret()));
        let endpoints = HashMap::from([(self.network.clone(), attachment(address))]);
        ContainerCreateBody {
            image: Some(self.release.image.pull_name()),
            env: Some(plain.chain(secret).collect()),
            cmd: (!spec.command.is_empty()).then(|| spec.command.clone()),
            labels: Some(self.labels.clone()),
            stop_timeout: Some(whole_seconds(spec.stop_grace)),
            host_config: Some(HostConfig {
                mounts: Some(spec.mounts.iter().map(mount).collect()),
                network_mode: Some(self.network.clone()),
                // A dead task of a place that serves comes back by itself, after a restart of the Engine too. An Engine that
                // was killed stops what still runs when it begins again; only `always` is started after that.
                restart_policy: Some(RestartPolicy {
                    name: Some(match self.restarts {
                        true => RestartPolicyNameEnum::ALWAYS,
                        false => RestartPolicyNameEnum::NO,
                    }),
                    maximum_retry_count: None,
                }),
                ..limits(&spec.limits)
            }),
            networking_config: Some(NetworkingConfig { endpoints_config: Some(endpoints) }),
            ..ContainerCreateBody::default()
        }
    }
}

fn limits(limits: &Limits) -> HostConfig {
    let memory = limits.memory_bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    HostConfig {
        memory,
        // Equal to `memory`: no swap beside it, else the limit would be twice what was asked for.
        memory_swap: memory,
        nano_cpus: limits.cpu_thousandths.map(|thousandths| i64::from(thousandths) * 1_000_000),
        ..HostConfig::default()
    }
}

fn mount(mount: &Mount) -> EngineMount {
    let is_path = mount.source.starts_with('/');
    EngineMount {
        source: Some(mount.source.clone()),
        target: Some(mount.target.to_string_lossy().into_owned()),
        typ: Some(if is_path { MountType::BIND } else { MountType::VOLUME }),
        read_only: Some(mount.read_only),
        ..EngineMount::default()
    }
}

/// Refuses what this backend lacks, naming the field.
pub(super) fn check(release: &Release) -> Result<()> {
    let spec = &release.spec;
    spec.check()?;
    if let Some(name) = release.sidecars.keys().next() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("release: sidecars: {name:?} cannot run beside the service on Docker"),
        )
        .with_hint("deploy it as a service of its own, or build it into the image"));
    }
    let known =
        matches!(spec.readiness, Readiness::Http { .. } | Readiness::Tcp | Readiness::Running);
    if !known {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("service spec: readiness {:?} is not known on Docker", spec.readiness),
        ));
    }
    for mount in &spec.mounts {
        let is_name = !mount.source.is_empty() && !mount.source.contains('/');
        if !(mount.source.starts_with('/') || is_name) {
            return Err(Error::invalid(format!(
                "service spec: mounts: source {:?} is neither an absolute path nor a volume's name",
                mount.source
            )));
        }
        if !mount.target.is_absolute() {
            return Err(Error::invalid(format!(
                "service spec: mounts: target {:?} is not an absolute path",
                mount.target
            )));
        }
    }
    Ok(())
}
