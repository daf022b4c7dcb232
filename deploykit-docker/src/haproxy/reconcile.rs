//! Makes what a worker has of a service equal to what is wanted, and nothing that is equal already is touched.

use std::collections::HashMap;
use std::time::Duration;

use deploykit_core::{Error, ErrorKind, Place, Result, ServiceName};
use tokio::time::{Instant, sleep};

use super::answers::{Row, refused};
use super::config::{CHECK, backend, variable};
use super::model::{Server, Service};
use super::runtime::{POLL, Runtime};

/// How long connections that were shut down may take to be gone.
const REMOVAL: Duration = Duration::from_secs(2);

/// The place whose backend a row belongs to, if it is of this service.
pub(super) fn place_of(row: &Row, service: &ServiceName) -> Option<Place> {
    row.backend.strip_prefix(service.as_str())?.strip_prefix('.')?.parse().ok()
}

/// One worker and the service in it.
#[derive(Debug)]
pub(super) struct Reconcile<'a> {
    pub(super) runtime: &'a Runtime,
    pub(super) worker: u32,
    pub(super) name: &'a ServiceName,
    pub(super) wanted: &'a Service,
}

impl Reconcile<'_> {
    /// First what is to receive requests, then where requests go, then what receives none any more.
    pub(super) async fn run(&self) -> Result<()> {
        let (runtime, worker) = (self.runtime, self.worker);
        let route = variable(self.name, "route");
        let Some(routed) = runtime.variable(worker, &route).await? else {
            // An old worker, from before the service was added.
            return Ok(());
        };
        let mut there: HashMap<_, _> = runtime
            .servers(worker)
            .await?
            .into_iter()
            .filter_map(|row| Some(((place_of(&row, self.name)?, row.name.clone()), row)))
            .collect();
        for (place, servers) in &self.wanted.targets {
            for server in servers {
                let path = format!("{}/{}", backend(self.name, *place), server.task);
                match there.remove(&(*place, server.task.to_string())) {
                    Some(row) if row.address == server.address.to_string() => {
                        self.correct(&path, server, &row).await?;
                    }
                    Some(_) => {
                        self.remove(&path).await?;
                        self.add(&path, server).await?;
                    }
                    None => self.add(&path, server).await?,
                }
            }
        }
        let wanted_route = self.wanted.route()?;
        if routed != wanted_route {
            runtime.set_variable(worker, &route, &wanted_route).await?;
        }
        let (test, wanted_test) = (variable(self.name, "test"), self.wanted.test_route());
        if runtime.variable(worker, &test).await?.as_ref() != Some(&wanted_test) {
            runtime.set_variable(worker, &test, &wanted_test).await?;
        }
        for row in there.into_values() {
            self.remove(&format!("{}/{}", row.backend, row.name)).await?;
        }
        Ok(())
    }

    async fn add(&self, path: &str, server: &Server) -> Result<()> {
        let command = format!("add server {path} {} weight 0 {CHECK}", server.address);
        let answer = self.runtime.on(self.worker, &command).await?;
        if !answer.contains("New server registered") {
            return Err(refused(&command, &answer));
        }
        self.enable(path, server).await
    }

    /// A server counts as up until its first check; this one is to count as down until it has passed one. So it begins
    /// with weight 0, which gets no request, and gets its weight when it is down.
    async fn enable(&self, path: &str, server: &Server) -> Result<()> {
        let mut commands = vec![
            format!("set weight {path} 0"),
            format!("enable health {path}"),
            format!("enable server {path}"),
            format!("set server {path} health down"),
        ];
        if !server.draining {
            commands.push(format!("set weight {path} 1"));
        }
        self.runtime.quietly(self.worker, &commands).await
    }

    async fn correct(&self, path: &str, server: &Server, row: &Row) -> Result<()> {
        // Somebody took it out by hand, or whoever added it ended before it was enabled: it would count as up for ever.
        if row.check.is_empty() {
            return self.enable(path, server).await;
        }
        let mut commands = Vec::new();
        if row.status.starts_with("DRAIN") && row.weight > 0 {
            commands.push(format!("set server {path} state ready"));
        }
        let weight = u32::from(!server.draining);
        if row.weight != weight {
            commands.push(format!("set weight {path} {weight}"));
        }
        if commands.is_empty() {
            return Ok(());
        }
        self.runtime.quietly(self.worker, &commands).await
    }

    /// Takes a server away, and its connections with it.
    async fn remove(&self, path: &str) -> Result<()> {
        let maintain = format!("set server {path} state maint");
        self.runtime.quietly(self.worker, &[maintain]).await?;
        let deadline = Instant::now() + REMOVAL;
        loop {
            let answer = self.runtime.on(self.worker, &format!("del server {path}")).await?;
            if answer.contains("Server deleted") || answer.contains("No such server") {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let what = format!("HAProxy does not remove server {path}: {}", answer.trim());
                return Err(Error::new(ErrorKind::Timeout, what));
            }
            let cut = format!("shutdown sessions server {path}");
            self.runtime.quietly(self.worker, &[cut]).await?;
            sleep(POLL).await;
        }
    }
}
