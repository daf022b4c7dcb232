//! Both versions side by side, by the providers alone: HAProxy is asked for shares, and it is counted who answers.
//!
//! No deployer takes part, so that it is the routing alone that is measured.

use std::time::Duration;

use deploykit::docker::{Docker, DockerRegistry, HaProxy};
use deploykit::testing::load::Load;
use deploykit::{
    Endpoint, Error, ErrorKind, Launch, LoadBalancer, Orchestrator, Place, Registry, Release,
    Result, RolloutId, Routing, Weight,
};
use serde_json::{Map, Value, json};
use tokio::time::{sleep, timeout};

use crate::arguments::Arguments;
use crate::site::Site;
use crate::view::say;

/// How long containers may take until they serve, and a change until it is read back.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Two versions of a service, neither of which replaces the other.
struct Pair<'a> {
    site: &'a Site,
    haproxy: &'a HaProxy,
    docker: Docker,
}

/// Asks for a share for the new version, and sends requests.
pub(crate) async fn split(
    arguments: &Arguments,
    share: Weight,
    site: &Site,
    haproxy: &HaProxy,
    repository: &str,
) -> Result<Map<String, Value>> {
    let (old, new) = (arguments.replicas, arguments.beside.unwrap_or(arguments.replicas));
    let pair = Pair::start(site, haproxy, repository, (old, new)).await?;
    let routing = pair.share(share).await?;
    say(&format!("{old} tasks in place A, {new} in place B; routing: {routing}"));

    // Only short ones: it does not matter here how long they take, but how many there are.
    let load = Load::new(pair.url().await?).with_rate(arguments.load);
    let load = load.without_slow().without_websocket().start().await?;
    load.at_least(arguments.requests).await;
    let tally = load.stop().await.tally;

    let (answered, by_new) = (tally.requests - tally.failed, tally.answers_of(Place::B));
    let seen = 100.0 * by_new as f64 / answered.max(1) as f64;
    say(&format!("{share} asked, {seen:.2} % seen: B answered {by_new} of {answered}"));
    say(&format!("{tally}"));
    let json = json!({
        "asked_thousandths": share.get(),
        "requests": tally.requests,
        "failed": tally.failed,
        "answered_by_place": tally.answered_by,
    });
    Ok(json.as_object().cloned().unwrap_or_default())
}

impl<'a> Pair<'a> {
    /// Starts so many tasks of each, known to HAProxy and healthy.
    async fn start(
        site: &'a Site,
        haproxy: &'a HaProxy,
        repository: &str,
        (old, new): (u32, u32),
    ) -> Result<Self> {
        let docker = Docker::new(site.engine.clone()).with_network(&site.network);
        let pair = Self { site, haproxy, docker };
        for (place, tag, count) in [(Place::A, "a", old), (Place::B, "b", new)] {
            pair.fill(place, &format!("{repository}:{tag}"), count).await?;
            let healthy = || async move {
                let state = haproxy.observe(&site.service).await?;
                Ok(state.healthy(place) == count)
            };
            until(healthy).await?;
        }
        Ok(pair)
    }

    async fn fill(&self, place: Place, image: &str, count: u32) -> Result<()> {
        let (docker, service) = (&self.docker, &self.site.service);
        let image = DockerRegistry::new(self.site.engine.clone()).resolve(&image.parse()?).await?;
        let release = Release::new(image, crate::service(&place.to_string()));
        let revision = docker.register(service, &release).await?;
        let rollout = RolloutId::new(format!("{service}-beside"));
        let launch = Launch { service: service.clone(), place, revision, count, rollout };
        docker.launch(&launch).await?;
        let has_addresses =
            || async move { Ok(self.endpoints(place).await?.len() == count as usize) };
        until(has_addresses).await?;
        self.haproxy.set_targets(service, place, &self.endpoints(place).await?).await
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
    async fn share(&self, share: Weight) -> Result<Routing> {
        let routing = Routing::split(Place::A, Place::B, share);
        self.haproxy.set_routing(&self.site.service, &routing).await?;
        let wanted = &routing;
        let is_set = || async move {
            Ok(self.haproxy.observe(&self.site.service).await?.routing == *wanted)
        };
        until(is_set).await?;
        Ok(routing)
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
