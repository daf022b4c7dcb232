//! Both versions side by side, by the providers alone: HAProxy is asked for shares, and it is counted who answers.
//!
//! No deployer takes part, so that it is the routing alone that is measured.

use std::time::Duration;

use deploykit::docker::{Docker, DockerRegistry, Frontend, HaProxy};
use deploykit::testing::load::Load;
use deploykit::{
    Endpoint, Error, ErrorKind, Launch, LoadBalancer, Orchestrator, Place, Registry, Release,
    Result, RolloutId, Routing, Weight,
};
use serde_json::{Map, Value, json};
use tokio::time::{sleep, timeout};

use crate::arguments::Arguments;
use crate::clients::{By, Clients, Visits};
use crate::deployment;
use crate::site::{HEALTH, PORT, Site};
use crate::view::say;

/// How long containers may take until they serve, and a change until it is read back.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The shares of the new version through which clients are followed, in per cent.
const GROWING: [u16; 4] = [1, 10, 50, 100];
const CLIENTS: usize = 1000;
/// How often each of them comes at each share.
const VISITS: u32 = 3;

/// Two versions of a service, neither of which replaces the other.
pub(crate) struct Pair<'a> {
    site: &'a Site,
    haproxy: &'a HaProxy,
    docker: Docker,
}

impl<'a> Pair<'a> {
    /// Starts the tasks of both, known to HAProxy and healthy.
    pub(crate) async fn start(
        arguments: &Arguments,
        site: &'a Site,
        haproxy: &'a HaProxy,
        repository: &str,
    ) -> Result<Self> {
        let docker = Docker::new(site.engine.clone()).with_network(&site.network);
        let pair = Self { site, haproxy, docker };
        let old = arguments.replicas;
        let new = arguments.beside.unwrap_or(old);
        for (place, tag, count) in [(Place::A, "a", old), (Place::B, "b", new)] {
            pair.fill(place, &format!("{repository}:{tag}"), count).await?;
            let healthy = || async move {
                let state = haproxy.observe(&site.service).await?;
                Ok(state.healthy(place) == count)
            };
            until(healthy).await?;
        }
        say(&format!("{old} tasks in place A, {new} in place B"));
        Ok(pair)
    }

    /// Asks for a share for the new version, and sends requests.
    pub(crate) async fn split(
        &self,
        share: Weight,
        arguments: &Arguments,
    ) -> Result<Map<String, Value>> {
        self.share(share).await?;
        // Only short ones: it does not matter here how long they take, but how many there are.
        let load = Load::new(self.url().await?).with_rate(arguments.load);
        let load = load.without_slow().without_websocket().start().await?;
        load.at_least(arguments.requests).await;
        let tally = load.stop().await.tally;

        let (answered, by_new) = (tally.requests - tally.failed, tally.answers_of(Place::B));
        let seen = 100.0 * by_new as f64 / answered.max(1) as f64;
        say(&format!("{share} asked, {seen:.2} % seen: B answered {by_new} of {answered}"));
        say(&format!("{tally}"));
        Ok(object(json!({
            "asked_thousandths": share.get(),
            "requests": tally.requests,
            "failed": tally.failed,
            "answered_by_place": tally.answered_by,
        })))
    }

    /// Follows clients while the share of the new version grows.
    pub(crate) async fn sticky(&self, by: By) -> Result<Map<String, Value>> {
        // Known already, and all that is changed is this.
        let frontend = Frontend::new(PORT).with_health_path(HEALTH).with_sticky(by.sticky());
        self.haproxy.add_service(&self.site.service, &frontend).await?;
        let mut clients = Clients::new(CLIENTS, by, &self.url().await?);
        let (mut visits, mut at_new) = (Visits::default(), Vec::new());
        for percent in GROWING {
            self.share(Weight::percent(percent)?).await?;
            visits = clients.come(VISITS).await?;
            say(&format!(
                "{percent:>3} % asked: {} of {CLIENTS} clients at B; {} times one went back to A",
                visits.at_new, visits.back
            ));
            at_new.push(visits.at_new);
        }
        say(&format!("{} requests, {} failed", visits.requests, visits.failed));
        Ok(object(json!({
            "clients": CLIENTS,
            "asked_percent": GROWING,
            "at_new": at_new,
            "back": visits.back,
            "requests": visits.requests,
            "failed": visits.failed,
        })))
    }

    async fn fill(&self, place: Place, image: &str, count: u32) -> Result<()> {
        let (docker, service) = (&self.docker, &self.site.service);
        let image = DockerRegistry::new(self.site.engine.clone()).resolve(&image.parse()?).await?;
        let release = Release::new(image, deployment::service(&place.to_string()));
        let revision = docker.register(service, &release).await?;
        let rollout = RolloutId::new(format!("{service}-beside"));
        let launch = Launch { service: service.clone(), place, revision, count, rollout };
        docker.launch(&launch).await?;
        let has_addresses =
            || async move { Ok(self.endpoints(place).await?.len() == count as usize) };
        until(has_addresses).await?;
        self.haproxy.add_targets(service, place, &self.endpoints(place).await?).await
    }

    async fn endpoints(&self, place: Place) -> Result<Vec<Endpoint>> {
        let state = self.docker.observe(&self.site.service).await?;
        let tasks = state.place(place).into_iter().flat_map(|place| &place.tasks);
        let endpoints = tasks.filter_map(|task| {
            Some(Endpoint { task: task.id.clone(), address: task.address.clone()? })
        });
        Ok(endpoints.collect())
    }

    /// Sets the share of the new version, and reads it back.
    async fn share(&self, share: Weight) -> Result<()> {
        let routing = Routing::split(Place::A, Place::B, share);
        self.haproxy.set_routing(&self.site.service, &routing).await?;
        let wanted = &routing;
        let is_set = || async move {
            Ok(self.haproxy.observe(&self.site.service).await?.routing == *wanted)
        };
        until(is_set).await
    }

    async fn url(&self) -> Result<String> {
        let state = self.haproxy.observe(&self.site.service).await?;
        Ok(state.entry.map(|entry| entry.url).unwrap_or_default())
    }
}

/// Waits until it is so.
async fn until<F>(is_so: impl Fn() -> F + Send + Sync) -> Result<()>
where
    F: Future<Output = Result<bool>> + Send,
{
    let wait = async {
        while !is_so().await? {
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| {
        let what = format!("not everything is as asked after {} s", PATIENCE.as_secs());
        Err(Error::new(ErrorKind::Timeout, what).with_hint("see docker logs of the containers"))
    })
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}
