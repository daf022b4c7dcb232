//! Brings a place up to its count.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use deploykit_core::{Error, ErrorKind, Launch, Result};
use futures::{StreamExt, stream};

use super::changes::lock;
use super::container::Blueprint;
use super::labels::Tag;
use super::{Docker, Marks, labels, secret};
use crate::engine::{Failure, Network};
use crate::registry::ensure_image;

/// How many containers are created and started at once; more only queue up inside the Engine.
const AT_ONCE: usize = 8;

/// How often one task is tried, with another address or when its network has gone.
const TRIES: usize = 8;

/// How often, and with what pause between, a container is looked for whose name is taken.
pub(super) const LOOKS: usize = 40;
pub(super) const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

impl Docker {
    pub(super) async fn bring_up(&self, launch: &Launch) -> Result<()> {
        let Launch { service, place, revision, count, .. } = launch;
        let count = usize::try_from(*count).unwrap_or(usize::MAX);
        if count == 0 {
            return Err(Error::invalid(format!(
                "launch of {service} in place {place}: count is 0"
            ))
            .with_hint("retire the place instead"));
        }
        let containers = self.containers(service, Some(*place)).await?;
        if let Some(other) = containers.iter().find(|there| there.tag.revision != *revision) {
            return Err(Error::new(
                ErrorKind::Busy,
                format!(
                    "place {place} of {service} holds revision {}, not {revision}",
                    other.tag.revision
                ),
            )
            .with_hint("retire the place first"));
        }
        let (alive, dead): (Vec<_>, Vec<_>) =
            containers.into_iter().partition(|container| container.is_alive());
        if dead.is_empty() && alive.len() >= count {
            return Ok(());
        }
        let release = self.release(service, revision).await?;
        ensure_image(&self.inner.engine, &release.image).await?;
        let secrets = secret::fetch_all(&release).await?;
        self.remove(dead).await?;
        let network = self.inner.engine.ensure_network(&self.network).await?;
        let blueprint = Blueprint {
            labels: labels::of_task(launch, &release, &network.name),
            network: network.name.clone(),
            release,
            secrets,
            restarts: true,
        };
        let numbers: HashSet<_> = alive.iter().map(super::Container::number).collect();
        let free = (0..u32::MAX).filter(|number| !numbers.contains(number));
        let names = free.map(|number| format!("{service}-{place}-{number}"));
        let starts = names
            .take(count.saturating_sub(alive.len()))
            .map(|name| self.start_task(launch, &blueprint, &network, name));
        // All of them come to an end, whatever becomes of the others: one that was broken off could still appear.
        let done: Vec<Result<()>> = stream::iter(starts).buffer_unordered(AT_ONCE).collect().await;
        done.into_iter().collect::<Result<()>>()?;
        tracing::debug!(%service, %place, %revision, count, "launched");
        Ok(())
    }

    /// Creates and starts one task. Nothing is left of one that cannot be started.
    async fn start_task(
        &self,
        launch: &Launch,
        blueprint: &Blueprint,
        network: &Network,
        name: String,
    ) -> Result<()> {
        let name = name.as_str();
        let engine = &self.inner.engine;
        let doing = format!("start task {name} of {}", blueprint.release.image);
        let failed = |failure| self.failed(&doing, failure);
        let mut network = network.clone();
        let mut refused = HashSet::new();
        let mut may_be_fixed = true;
        for _ in 0..TRIES {
            let address = if may_be_fixed {
                let chosen = self.choose_address(&network, name, &refused).await;
                chosen.map_err(|failure| self.failed_now(&doing, failure))?
            } else {
                None
            };
            let _reserved = Marks::set(&self.inner.reserved, address.into_iter().collect());
            let mut request = blueprint.request(address);
            request.labels.get_or_insert_default().insert(labels::TASK.into(), name.into());
            let created = engine.create(name, &request).await;
            let started = match created {
                Ok(id) => self.join_and_start(blueprint, &id).await.map_err(|f| (f, Some(id))),
                Err(failure) => Err((failure, None)),
            };
            let Err((failure, id)) = started else {
                return Ok(());
            };
            if let Some(id) = &id {
                engine.remove(id).await.map_err(|failure| self.failed_now(&doing, failure))?;
            }
            if id.is_none() && failure.is(409) {
                return self.accept_namesake(launch, name, failure).await;
            }
            if failure.is(404) && failure.says("no such container") {
                // Another deployer took it for dead before it was started; it makes one of the same name now.
                tokio::time::sleep(BETWEEN_LOOKS).await;
            } else if failure.is(404)
                && failure.says(&format!("network {} not found", network.name))
            {
                // It went with the last task of another service.
                network = engine.ensure_network(&network.name).await?;
            } else if failure.says("user configured subnet") {
                tracing::warn!(
                    network = network.name,
                    "no subnet was set for this network: addresses change when the Engine restarts"
                );
                may_be_fixed = false;
            } else if let Some(address) = address.filter(|_| failure.says("already in use")) {
                refused.insert(address);
            } else {
                return Err(self.explain(failed(failure)));
            }
        }
        Err(Error::new(
            ErrorKind::Busy,
            format!("{doing}: others take its name, or its address on {}, each time", network.name),
        )
        .with_temporary(true))
    }

    pub(super) async fn join_and_start(
        &self,
        blueprint: &Blueprint,
        id: &str,
    ) -> Result<(), Failure> {
        for network in &blueprint.release.spec.networks {
            self.inner.engine.join(network, id).await?;
        }
        self.inner.engine.start(id).await
    }

    /// An address that nobody has: always the same one for a name, if it can be.
    async fn choose_address(
        &self,
        network: &Network,
        name: &str,
        refused: &HashSet<Ipv4Addr>,
    ) -> Result<Option<Ipv4Addr>, Failure> {
        let taken = self.inner.engine.taken(&network.name).await?;
        let reserved = lock(&self.inner.reserved);
        let free = |address: &Ipv4Addr| {
            !taken.contains(address) && !reserved.contains(address) && !refused.contains(address)
        };
        Ok(network.addresses(name).find(free))
    }

    /// The name is taken: by the same launch going on elsewhere, which is fine once it has started it, or by something
    /// else. One that nobody starts, or that is going, is for the next try, which begins with removing it.
    async fn accept_namesake(&self, launch: &Launch, name: &str, taken: Failure) -> Result<()> {
        let doing = format!("create container {name}");
        let hinted = |error: Error| error.with_hint(format!("remove or rename container {name}"));
        for _ in 0..LOOKS {
            let found =
                self.inner.engine.inspect(name).await.map_err(|f| self.failed_now(&doing, f))?;
            if let Some(found) = found {
                let tag = Tag::read(&found.config.labels);
                let is_same = found.label(labels::SERVICE) == Some(launch.service.as_str())
                    && tag.is_some_and(|tag| {
                        (tag.place, &tag.revision) == (launch.place, &launch.revision)
                    });
                match found.state.status.as_str() {
                    _ if !is_same => return Err(hinted(self.failed(&doing, taken))),
                    "created" | "removing" => {}
                    _ => return Ok(()),
                }
            }
            // A name is taken before its container can be seen.
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        Err(hinted(self.failed(&doing, taken)).with_temporary(true))
    }

    /// Says what in the spec is to be changed, where the Engine's words allow to tell.
    pub(super) fn explain(&self, error: Error) -> Error {
        let text = error.message();
        if text.contains("executable file not found") || text.contains("no such file or directory")
        {
            Error::invalid(text).with_hint(
                "check the command of the service spec, or of the job, against the image",
            )
        } else if text.contains("bind source path") {
            Error::invalid(text).with_hint(
                "check the service spec's mounts: the path must exist where the Engine runs",
            )
        } else if text.contains("network") && error.kind() == ErrorKind::NotFound {
            error.with_hint("make the networks that the service spec names: docker network create")
        } else {
            error
        }
    }
}
