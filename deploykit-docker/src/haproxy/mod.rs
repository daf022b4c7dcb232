//! HAProxy as the load balancer of the services of one machine; see `docs/haproxy.md` for what was measured.

mod answers;
mod builder;
mod certificate;
mod config;
mod container;
mod frontend;
mod model;
mod observe;
mod reconcile;
mod runtime;
mod sticky;
mod store;

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use deploykit_core::{
    BalancerCapability, BalancerState, Endpoint, Error, ErrorKind, LoadBalancer, Place, Result,
    Routing, ServiceName, TaskId,
};
use tokio::time::{Instant, sleep};

use self::answers::Processes;
pub use self::builder::HaProxyBuilder;
pub use self::certificate::Certificate;
use self::container::{Container, here};
pub use self::frontend::Frontend;
use self::model::{Model, Server, check_task};
use self::reconcile::Reconcile;
use self::runtime::{POLL, Runtime};
pub use self::sticky::Sticky;
use self::store::{CHANGE, Locked, START, Store};

/// How long a new worker may take to serve; it takes some 50 ms.
const RELOAD: Duration = Duration::from_secs(10);

/// The load balancer of the services of one machine: HAProxy 2.6 or later, in a container of its own or one that is there.
///
/// The wanted state stands in HAProxy's configuration file before HAProxy is told, so HAProxy comes back from a restart
/// with the same routing and targets. What [`observe`](LoadBalancer::observe) says is read from HAProxy; where it differs
/// from the file, the next change of that service repairs it. Each change takes the lock beside the file, so several
/// deployers can share one HAProxy. Clones share everything.
///
/// Routing, targets, test route and draining are changed in the running worker. Only
/// [`add_service`](Self::add_service) and [`remove_service`](Self::remove_service) need a reload, which loses no request:
/// the new worker takes over the listening sockets, the old one ends with its last connection and is kept equal until then.
///
/// Retiring a place cuts what is still connected to it: drain first. Requests that find no healthy target are answered 503.
#[derive(Clone, Debug)]
pub struct HaProxy {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    runtime: Runtime,
    store: Store,
    /// The container, where it is ours.
    container: Option<Container>,
}

impl HaProxy {
    /// A HAProxy in a container of its own.
    pub fn builder() -> HaProxyBuilder {
        HaProxyBuilder::new()
    }

    /// Uses a HAProxy of this machine that somebody else runs, as
    /// `haproxy -W -S <master_socket>,mode,600 -f … -f <config_file>`.
    ///
    /// The file belongs to deploykit alone from then on; it is made where there is none.
    ///
    /// # Errors
    /// `Unavailable` names the socket that does not answer, `Invalid` a file of others. `Timeout` when HAProxy does
    /// not load the file.
    pub async fn attach(
        master_socket: impl Into<PathBuf>,
        config_file: impl Into<PathBuf>,
    ) -> Result<Self> {
        let file = std::path::absolute(config_file.into())
            .map_err(|error| Error::invalid("HAProxy: the file has no path").with_source(error))?;
        // HAProxy is to find certificates beside it, too.
        let seen = file.parent().map(Path::to_owned).unwrap_or_default();
        let inner = Inner {
            runtime: Runtime::new(master_socket),
            store: Store::new(file, seen),
            container: None,
        };
        let this = Self { inner: Arc::new(inner) };
        // Before anything is written.
        this.inner.runtime.processes().await?;
        this.inner.store.lock(START).await?.begin()?;
        this.change(None, |_, _| Ok(())).await?;
        Ok(this)
    }

    /// Opens a service's port, or changes how it is reached: its routing and targets stay, a new one is closed.
    ///
    /// An equal call changes nothing, any other reloads HAProxy. Certificates are read anew each time: that is how to
    /// renew one.
    ///
    /// # Errors
    /// `Busy` names the port that is taken and the service; `Invalid` the setting that cannot be used, or the port that
    /// HAProxy's container does not publish (see [`Frontend::unpublished`]); `NotFound`,
    /// `Denied` or `Invalid` the file of a certificate. Nothing has changed then.
    pub async fn add_service(&self, service: &ServiceName, frontend: &Frontend) -> Result<()> {
        self.change(Some(service), |model, locked| self.add(model, locked, service, frontend)).await
    }

    /// Closes a service's port and forgets its targets; requests in flight are still answered. One that is not there is
    /// fine.
    ///
    /// # Errors
    /// `Unavailable` when HAProxy cannot be reached.
    pub async fn remove_service(&self, service: &ServiceName) -> Result<()> {
        self.change(Some(service), |model, _| {
            model.services.remove(service);
            Ok(())
        })
        .await
    }

    /// Stops and removes the container. What is in flight gets 10 s to end. The files stay: a later start has the same
    /// services, routing and targets.
    ///
    /// # Errors
    /// `Unsupported` for one that somebody else runs.
    pub async fn remove(&self) -> Result<()> {
        let _locked = self.inner.store.lock(START).await?;
        match &self.inner.container {
            Some(container) => container.remove().await,
            None => {
                Err(Error::new(ErrorKind::Unsupported, "this HAProxy was started by somebody else")
                    .with_hint("stop it as it was started"))
            }
        }
    }

    /// Where clients on this machine reach a port of a service; none for one that was not published.
    fn reached_at(&self, frontend: &Frontend, port: u16) -> Option<SocketAddr> {
        match &self.inner.container {
            Some(container) => container.reached_at(frontend.address, port),
            None => Some(here(SocketAddr::from((frontend.address, port)))),
        }
    }

    /// Adds a service, with a copy of its certificate.
    fn add(
        &self,
        model: &mut Model,
        locked: &Locked<'_>,
        service: &ServiceName,
        frontend: &Frontend,
    ) -> Result<()> {
        if let Some(container) = &self.inner.container {
            container.check_published(service, frontend)?;
        }
        let pem = frontend.tls.as_ref().map(|tls| tls.load(service)).transpose()?;
        let copy = pem.map(|pem| locked.keep(service, &pem)).transpose()?;
        model.add(service, frontend, copy)
    }

    async fn change(
        &self,
        service: Option<&ServiceName>,
        edit: impl FnOnce(&mut Model, &Locked<'_>) -> Result<()> + Send,
    ) -> Result<()> {
        let store = &self.inner.store;
        let locked = store.lock(CHANGE).await?;
        let before = locked.load()?;
        let mut model = before.clone();
        let changed = match edit(&mut model, &locked) {
            Ok(()) => self.apply(&locked, &before, &model, service).await,
            Err(error) => Err(error),
        };
        let changed = changed.map_err(|error| name_certificate(&model, error));
        if changed.is_err() || store.fingerprint(&model) != store.fingerprint(&before) {
            // Certificates from before; or the new one, if it was not taken.
            changed.and(locked.tidy())
        } else {
            changed
        }
    }

    /// The file first, then HAProxy: a reload if its structure is another one, then the worker that serves.
    async fn apply(
        &self,
        locked: &Locked<'_>,
        before: &Model,
        model: &Model,
        only: Option<&ServiceName>,
    ) -> Result<()> {
        let runtime = &self.inner.runtime;
        let structure = self.inner.store.fingerprint(model);
        if structure != self.inner.store.fingerprint(before) {
            self.check(locked, before, model).await?;
        }
        locked.save(model)?;
        let mut processes = runtime.processes().await?;
        let running = runtime.variable(processes.current, config::STRUCTURE).await?;
        let reload = running.as_ref() != Some(&structure);
        if reload {
            match self.reload(&processes, &structure).await {
                Ok(after) => processes = after,
                Err(error) => {
                    locked.save(before)?;
                    return Err(error);
                }
            }
        }
        for (name, wanted) in &model.services {
            if !reload && only.is_some_and(|only| only != name) {
                continue;
            }
            let worker = processes.current;
            let reconcile = Reconcile { runtime, worker, name, wanted };
            reconcile.run().await.map_err(|e| e.within(format!("service {name}")))?;
        }
        Ok(())
    }

    /// Finds out what would make a reload fail, before anything has changed.
    async fn check(&self, locked: &Locked<'_>, before: &Model, model: &Model) -> Result<()> {
        let Some(container) = &self.inner.container else { return Ok(()) };
        if container.is_on_machine_network() {
            // HAProxy itself would share the port with another HAProxy without a word (SO_REUSEPORT).
            for (name, service) in &model.services {
                let known = before.services.get(name).map(|service| &service.frontend);
                for port in service.frontend.ports() {
                    if known.is_some_and(|known| known.ports().any(|known| known == port)) {
                        continue;
                    }
                    let taken = TcpListener::bind((service.frontend.address, port));
                    if taken.is_err_and(|e| e.kind() == std::io::ErrorKind::AddrInUse) {
                        return Err(port_taken(name, port));
                    }
                }
            }
        }
        if model.services.is_empty() {
            // HAProxy's check wants a listener, though it runs without one.
            return Ok(());
        }
        container.validate(&locked.draft(model)?).await
    }

    async fn reload(&self, before: &Processes, structure: &str) -> Result<Processes> {
        let runtime = &self.inner.runtime;
        tracing::info!(%structure, "reloading HAProxy");
        runtime.ask("reload").await?;
        let deadline = Instant::now() + RELOAD;
        while Instant::now() < deadline {
            sleep(POLL).await;
            let Ok(now) = runtime.processes().await else { continue };
            if now.reloads != before.reloads && now.failed > 0 {
                break;
            }
            let running = runtime.variable(now.current, config::STRUCTURE).await.ok().flatten();
            // Before it stops it may still route a request by itself.
            let stopping = runtime.is_stopping(before.current).await;
            if stopping && now.current != before.current && running.as_deref() == Some(structure) {
                return Ok(now);
            }
        }
        Err(match &self.inner.container {
            Some(container) => container.reload_failure().await,
            None => Error::new(ErrorKind::Timeout, "HAProxy did not take the new configuration")
                .with_hint(format!(
                    "its log says why; it must be run with -f {}",
                    self.inner.store.file().display()
                )),
        })
    }
}

/// HAProxy speaks of the copy of a certificate; the user knows the files.
fn name_certificate(model: &Model, error: Error) -> Error {
    for (service, known) in &model.services {
        if let Some((tls, copy)) = known.frontend.tls.as_ref().zip(known.certificate.as_ref())
            && error.message().contains(copy)
        {
            let what = format!("service {service}: {tls} cannot be used: {}", error.message());
            return Error::new(error.kind(), what).with_hint(
                "check that it is whole and that the key belongs to it, and add the service again",
            );
        }
    }
    error
}

fn port_taken(service: &ServiceName, port: u16) -> Error {
    let what = format!("service {service}: port {port} is taken by another process");
    Error::new(ErrorKind::Busy, what).with_hint(format!("find it with: ss -ltnp 'sport = :{port}'"))
}

#[async_trait]
impl LoadBalancer for HaProxy {
    fn capability(&self) -> BalancerCapability {
        BalancerCapability::all()
    }

    async fn capability_for(&self, service: &ServiceName) -> Result<BalancerCapability> {
        let mut model = self.inner.store.load()?;
        let has_test_route = model.service(service)?.frontend.has_test_route();
        Ok(self.capability().with_test_route(has_test_route))
    }

    async fn observe(&self, service: &ServiceName) -> Result<BalancerState> {
        observe::observe(self, service).await
    }

    async fn set_routing(&self, service: &ServiceName, routing: &Routing) -> Result<()> {
        if *routing == Routing::None {
            let what = format!("service {service}: HAProxy has no routing for a worker");
            return Err(Error::new(ErrorKind::Unsupported, what)
                .with_hint("close it with Routing::Closed, or use no balancer"));
        }
        self.change(Some(service), |model, _| {
            model.service(service)?.routing = routing.clone();
            Ok(())
        })
        .await
    }

    async fn set_test_route(&self, service: &ServiceName, place: Option<Place>) -> Result<()> {
        self.change(Some(service), |model, _| {
            let known = model.service(service)?;
            if place.is_some() {
                known.frontend.check_test_route(service)?;
            }
            known.test = place;
            Ok(())
        })
        .await
    }

    async fn add_targets(
        &self,
        service: &ServiceName,
        place: Place,
        targets: &[Endpoint],
    ) -> Result<()> {
        let new = targets.iter().map(server).collect::<Result<Vec<Server>>>()?;
        let mut names = BTreeSet::new();
        if let Some(twice) = new.iter().find(|server| !names.insert(&server.task)) {
            let what = format!("HAProxy: task {} is given twice", twice.task);
            return Err(Error::invalid(what));
        }
        self.change(Some(service), |model, _| {
            let service = model.service(service)?;
            for server in &new {
                let known = service.targets.entry(place).or_default();
                let is_it = |known: &Server| known.task == server.task;
                if known.iter().any(|known| is_it(known) && known.address == server.address) {
                    continue;
                }
                known.retain(|known| !is_it(known));
                known.push(server.clone());
            }
            Ok(())
        })
        .await
    }

    async fn remove_targets(
        &self,
        service: &ServiceName,
        place: Place,
        tasks: &[TaskId],
    ) -> Result<()> {
        self.change(Some(service), |model, _| {
            let service = model.service(service)?;
            if let Some(known) = service.targets.get_mut(&place) {
                known.retain(|server| !tasks.contains(&server.task));
                if known.is_empty() {
                    service.targets.remove(&place);
                }
            }
            Ok(())
        })
        .await
    }

    async fn drain(&self, service: &ServiceName, place: Place, tasks: &[TaskId]) -> Result<()> {
        self.change(Some(service), |model, _| {
            for server in model.service(service)?.targets.get_mut(&place).into_iter().flatten() {
                server.draining |= tasks.contains(&server.task);
            }
            Ok(())
        })
        .await
    }
}

fn server(target: &Endpoint) -> Result<Server> {
    check_task(&target.task)?;
    let address = target.address.parse().map_err(|_| {
        let what = format!("HAProxy: task {}: {:?} is no address", target.task, target.address);
        Error::invalid(what).with_hint("give it as IP:PORT")
    })?;
    Ok(Server { task: target.task.clone(), address, draining: false })
}
