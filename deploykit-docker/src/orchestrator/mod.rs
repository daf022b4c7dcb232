//! Runs the tasks of services as containers of one Docker Engine.

mod changes;
mod container;
mod job;
mod labels;
mod launch;
mod observe;
mod probe;
mod secret;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bollard::models::ContainerSummary;
use deploykit_core::{
    Error, ErrorKind, JobRun, JobState, Launch, Orchestrator, OrchestratorCapability, Place,
    PlaceState, Release, Result, RevisionId, ServiceName, ServiceState, Task, TaskId,
};
use futures::{StreamExt, TryStreamExt, stream};

use self::changes::{Changes, lock};
use self::labels::Tag;
use self::probe::Probes;
use crate::engine::{Engine, Failure, Inspected};
use crate::registry::ensure_image;

/// The network that tasks are reached on unless another one is named.
const NETWORK: &str = "deploykit";

/// How many containers are looked at or stopped at once; stopping is waiting for most of its time.
const AT_ONCE: usize = 64;

/// The orchestrator on one Docker Engine: a task is a container, named `service-place-number`.
///
/// Everything is written on the containers as labels (`deploykit.service`, `.place`, `.revision`, `.rollout`, `.task` and
/// `.release`), so another process finds and adopts it, and it stays what it is when somebody renames it. A place's desired count is how many containers it has, running
/// or not.
///
/// * **Readiness**: the image's HEALTHCHECK where it has one, else the probe that the release names, made from here.
///   Container addresses must be reachable from here for that, which they are on Linux and are not through Docker
///   Desktop's virtual machine: there, give the image a HEALTHCHECK.
/// * **Restarts**: a task that dies is restarted by the Engine, and all that were there are when the Engine itself begins again, even
///   those that somebody had stopped. It counts as failed until it is ready again, and its exit code, whether it ran out of
///   memory, and its last log lines are told.
/// * **Jobs** are containers too, named after the id of their run and labelled `deploykit.job`. They are never restarted, and
///   kept until the rollout has ended: whether a job was started, and how it ended, is what its container says.
/// * **Addresses**: a task keeps its address when it or the Engine restarts, on a network made here or with a subnet
///   that its creator set.
/// * **Images** are pulled with the Engine's [`Logins`](crate::Logins).
/// * **Secrets** are fetched from this process's environment (`env:NAME`) or from files (`file:/path`) when a task is
///   launched, and are part of the container's environment from then on: who may use the Engine can read them.
///
/// Clones share everything.
#[derive(Clone, Debug)]
pub struct Docker {
    inner: Arc<Inner>,
    network: String,
}

#[derive(Debug)]
struct Inner {
    engine: Engine,
    changes: Changes,
    probes: Probes,
    registered: Mutex<HashMap<(ServiceName, RevisionId), Release>>,
    /// Addresses that launches in progress have chosen.
    reserved: Mutex<HashSet<Ipv4Addr>>,
    /// Containers that are being stopped from here.
    stopping: Mutex<HashSet<String>>,
}

impl Docker {
    /// On the Engine that `DOCKER_HOST` names, else on the local one.
    ///
    /// # Errors
    /// As [`Engine::connect`].
    pub async fn connect() -> Result<Self> {
        Ok(Self::new(Engine::connect().await?))
    }

    /// On this Engine.
    pub fn new(engine: Engine) -> Self {
        let inner = Inner {
            engine,
            changes: Changes::new(),
            probes: Probes::default(),
            registered: Mutex::default(),
            reserved: Mutex::default(),
            stopping: Mutex::default(),
        };
        Self { inner: Arc::new(inner), network: NETWORK.into() }
    }

    /// Sets the network on which tasks are reached, `deploykit` by default.
    ///
    /// It is made at the first launch if there is none, and removed with the last container on it if it was made so.
    #[must_use]
    pub fn with_network(mut self, name: impl Into<String>) -> Self {
        self.network = name.into();
        self
    }

    /// The Engine that it works on.
    pub fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// The containers of a service, or of one place of it.
    async fn containers(
        &self,
        service: &ServiceName,
        place: Option<Place>,
    ) -> Result<Vec<Container>> {
        let listed = self.inner.engine.list(&labels::filter(service, place)).await;
        let listed =
            listed.map_err(|f| self.failed_now(&format!("list the tasks of {service}"), f))?;
        let mut found: Vec<_> = listed.into_iter().filter_map(Container::read).collect();
        found.sort_by(|a, b| (a.number(), &a.name).cmp(&(b.number(), &b.name)));
        Ok(found)
    }

    fn failed(&self, doing: &str, failure: Failure) -> Error {
        self.inner.engine.failed(doing, failure)
    }

    fn failed_now(&self, doing: &str, failure: Failure) -> Error {
        self.inner.engine.failed_now(doing, failure)
    }

    fn is_stopping(&self, container: &str) -> bool {
        lock(&self.inner.stopping).contains(container)
    }

    /// Refuses the Engine's own networks: on those a task has no address that is its own, or none that it keeps.
    fn check_network(&self) -> Result<()> {
        let name = self.network.as_str();
        let is_mode = ["", "bridge", "default", "host", "none"].contains(&name);
        if !is_mode && !name.starts_with("container:") {
            return Ok(());
        }
        let what = format!("tasks cannot have addresses of their own on network {name:?}");
        Err(Error::new(ErrorKind::Unsupported, what)
            .with_hint("name a network of your own with Docker::with_network"))
    }

    /// What a revision stands for, as it was registered here or as a container says.
    async fn release(&self, service: &ServiceName, revision: &RevisionId) -> Result<Release> {
        let key = (service.clone(), revision.clone());
        if let Some(release) = lock(&self.inner.registered).get(&key) {
            return Ok(release.clone());
        }
        let containers = self.containers(service, None).await?;
        match containers.iter().find(|container| container.tag.revision == *revision) {
            Some(container) => container.tag.release(&container.name),
            None => Err(Error::new(
                ErrorKind::NotFound,
                format!("revision {revision} of {service} is not known to this Engine"),
            )
            .with_hint("register its release again")),
        }
    }

    async fn look(&self, container: &Container) -> Result<Option<Task>> {
        let release = container.tag.release(&container.name)?;
        let doing = format!("look at container {}", container.name);
        let failed = |failure| self.failed_now(&doing, failure);
        let found: Option<Inspected> =
            self.inner.engine.inspect(&container.id).await.map_err(failed)?;
        let Some(found) = found else { return Ok(None) };
        self.task(&found, &container.tag, &release).await.map(Some).map_err(failed)
    }

    async fn remove(&self, containers: Vec<Container>) -> Result<()> {
        let ids: Vec<_> = containers.iter().map(|container| container.id.clone()).collect();
        let _marks = Marks::set(&self.inner.stopping, ids);
        let stops = containers.into_iter().map(|container| async move {
            // A label that cannot be read must not keep a container from being removed.
            let release = container.tag.release(&container.name);
            let grace = release.map_or(Duration::from_secs(30), |r| r.spec.stop_grace);
            let gone = self.inner.engine.stop_and_remove(&container.id, grace).await;
            gone.map_err(|f| self.failed_now(&format!("stop container {}", container.name), f))
        });
        let done: Vec<Result<()>> = stream::iter(stops).buffer_unordered(AT_ONCE).collect().await;
        // Each was tried, whatever became of the others.
        done.into_iter().collect()
    }
}

#[async_trait]
impl Orchestrator for Docker {
    fn capability(&self) -> OrchestratorCapability {
        OrchestratorCapability::new().with_jobs(true)
    }

    async fn observe(&self, service: &ServiceName) -> Result<ServiceState> {
        self.inner.changes.about_to_observe(&self.inner.engine, service.as_str());
        let containers = self.containers(service, None).await?;
        let looks = containers.into_iter().map(|container| async move {
            let task = self.look(&container).await?;
            Ok::<_, Error>(task.map(|task| (container, task)))
        });
        let found: Vec<_> = stream::iter(looks).buffered(AT_ONCE).try_collect().await?;
        let mut places: BTreeMap<Place, PlaceState> = BTreeMap::new();
        for (container, task) in found.into_iter().flatten() {
            let place = container.tag.place;
            let state = places.entry(place).or_insert_with(|| PlaceState {
                place,
                revision: container.tag.revision.clone(),
                desired: 0,
                tasks: Vec::new(),
            });
            state.desired += 1;
            state.tasks.push(task);
        }
        Ok(ServiceState { places: places.into_values().collect() })
    }

    /// The revision is the first digits of the release's digest. The image is pulled if this Engine does not have it.
    async fn register(&self, service: &ServiceName, release: &Release) -> Result<RevisionId> {
        container::check(release)?;
        self.check_network()?;
        ensure_image(&self.inner.engine, &release.image).await?;
        let revision = RevisionId::new(release.digest().short());
        let key = (service.clone(), revision.clone());
        lock(&self.inner.registered).insert(key, release.clone());
        tracing::debug!(%service, %revision, image = %release.image, "registered");
        Ok(revision)
    }

    /// Known are the revisions that were registered by this value or its clones, and those that have a container.
    async fn describe(&self, service: &ServiceName, revision: &RevisionId) -> Result<Release> {
        self.release(service, revision).await
    }

    async fn launch(&self, launch: &Launch) -> Result<()> {
        self.bring_up(launch).await
    }

    async fn stop(&self, service: &ServiceName, place: Place, tasks: &[TaskId]) -> Result<()> {
        let mut containers = self.containers(service, Some(place)).await?;
        containers.retain(|container| tasks.iter().any(|task| task.as_str() == container.name));
        self.remove(containers).await
    }

    async fn retire(&self, service: &ServiceName, place: Place) -> Result<()> {
        let containers = self.containers(service, Some(place)).await?;
        let networks: HashSet<_> =
            containers.iter().map(|container| container.tag.network.clone()).collect();
        self.remove(containers).await?;
        for network in networks.iter().chain([&self.network]) {
            let removed = self.inner.engine.remove_unused_network(network).await;
            removed.map_err(|f| self.failed_now(&format!("remove network {network}"), f))?;
        }
        tracing::debug!(%service, %place, "retired");
        Ok(())
    }

    async fn start_job(&self, job: &JobRun, revision: &RevisionId) -> Result<()> {
        self.start_once(job, revision).await
    }

    async fn await_job(&self, job: &JobRun, at_most: Duration) -> Result<JobState> {
        self.end_of(job, at_most).await
    }

    async fn remove_jobs(&self, service: &ServiceName) -> Result<()> {
        self.remove_all_jobs(service).await
    }

    async fn changed(&self, service: &ServiceName, at_most: Duration) {
        self.inner.changes.wait(&self.inner.engine, service.as_str(), at_most).await;
    }
}

/// A container of a service, as the Engine lists it.
#[derive(Clone, Debug)]
struct Container {
    id: String,
    /// The task's, which it was made with.
    name: String,
    /// `running`, `exited`, …
    state: String,
    tag: Tag,
}

impl Container {
    /// None for what is not a task of a place, though it may carry our labels: `docker commit` gives them to the image that it
    /// makes of a task, and so to whatever is run from that.
    fn read(summary: ContainerSummary) -> Option<Self> {
        let named = summary.names?.into_iter().next()?.trim_start_matches('/').to_owned();
        let labels = summary.labels?;
        let tag = Tag::read(&labels)?;
        let number =
            named.strip_prefix(&format!("{}-{}-", labels.get(labels::SERVICE)?, tag.place));
        let is_named = number.is_some_and(|number| number.parse::<u32>().is_ok());
        // A task that was renamed still runs its release's image.
        let is_task = is_named
            || tag
                .release(&named)
                .is_ok_and(|release| summary.image == Some(release.image.pull_name()));
        is_task.then_some(Self {
            id: summary.id?,
            name: labels.get(labels::TASK).cloned().unwrap_or(named),
            state: summary.state.map(|state| state.to_string()).unwrap_or_default(),
            tag,
        })
    }

    /// Its number in its place; what was named otherwise comes last.
    fn number(&self) -> u32 {
        let number = self.name.rsplit_once('-').and_then(|(_, number)| number.parse().ok());
        number.unwrap_or(u32::MAX)
    }

    /// Whether it runs, or will again by itself.
    fn is_alive(&self) -> bool {
        matches!(self.state.as_str(), "running" | "restarting" | "paused")
    }
}

/// Members of a shared set for as long as this lives.
struct Marks<'a, T: Eq + std::hash::Hash> {
    set: &'a Mutex<HashSet<T>>,
    members: Vec<T>,
}

impl<'a, T: Clone + Eq + std::hash::Hash> Marks<'a, T> {
    fn set(set: &'a Mutex<HashSet<T>>, members: Vec<T>) -> Self {
        lock(set).extend(members.iter().cloned());
        Self { set, members }
    }
}

impl<T: Eq + std::hash::Hash> Drop for Marks<'_, T> {
    fn drop(&mut self) {
        let mut set = lock(self.set);
        for member in &self.members {
            set.remove(member);
        }
    }
}
