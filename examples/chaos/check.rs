//! What has to be so when a round is over, whatever happened in it.

use std::collections::BTreeMap;

use deploykit::docker::HaProxy;
use deploykit::{
    BalancerState, Deployer, LoadBalancer, Outcome, Place, Result, Routing, Status, TargetHealth,
};
use serde_json::Value;

use crate::REPLICAS;
use crate::site::Site;

/// What is wrong.
#[derive(Debug, Default)]
pub(crate) struct Wrong {
    pub(crate) texts: Vec<String>,
    /// Containers and targets that nobody owns.
    pub(crate) unowned: Vec<String>,
}

impl Wrong {
    pub(crate) fn is_nothing(&self) -> bool {
        self.texts.is_empty() && self.unowned.is_empty()
    }
}

/// A container with the service's label.
struct Container {
    name: String,
    /// None for a job.
    place: Option<Place>,
    revision: String,
    is_running: bool,
}

/// Who looks.
pub(crate) struct Checker<'a> {
    pub(crate) site: &'a Site,
    pub(crate) haproxy: &'a HaProxy,
    pub(crate) deployer: &'a Deployer,
}

impl Checker<'_> {
    /// Compares everything with what a rollout that ended so leaves of what was there before.
    pub(crate) async fn look(&self, before: &Status, outcome: Option<&Outcome>) -> Result<Wrong> {
        let status = self.deployer.status(&self.site.service).await?;
        let containers = self.containers().await?;
        let balancer = self.haproxy.observe(&self.site.service).await?;
        let mut wrong = Wrong::default();
        roles(&status, before, outcome, &mut wrong.texts);
        owned(&status, &containers, &balancer, &mut wrong.unowned);
        if let Some(stable) = &status.stable {
            let revision = stable.revision.as_str();
            whole(stable.place, revision, &containers, &balancer, &mut wrong.texts);
        }
        Ok(wrong)
    }

    async fn containers(&self) -> Result<Vec<Container>> {
        let list = self.site.bare.get(&crate::watch::list_of(&self.site.service)).await?;
        let read = |container: &Value| {
            let text =
                |pointer| container.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            Container {
                name: text("/Names/0").trim_start_matches('/').to_owned(),
                place: text("/Labels/deploykit.place").parse().ok(),
                revision: text("/Labels/deploykit.revision").to_owned(),
                is_running: text("/State") == "running",
            }
        };
        Ok(list.as_array().into_iter().flatten().map(read).collect())
    }
}

/// Fully new or fully old, by the store.
fn roles(now: &Status, before: &Status, outcome: Option<&Outcome>, wrong: &mut Vec<String>) {
    let told = outcome.map_or_else(|| "nothing that began".to_owned(), ToString::to_string);
    if let Some(open) = &now.open {
        wrong.push(format!("{} is still open, by {}", open.rollout, open.by));
    }
    let is_new = matches!(outcome, Some(Outcome::Promoted));
    let (was, is) = (before.stable.as_ref(), now.stable.as_ref());
    if is_new == (was == is) {
        wrong.push(format!("after {told}, stable is {is:?} and was {was:?}"));
    }
}

/// What runs belongs to a role of the store, and whom requests are sent to runs.
fn owned(
    status: &Status,
    containers: &[Container],
    balancer: &BalancerState,
    unowned: &mut Vec<String>,
) {
    let roles: Vec<Place> = [&status.stable, &status.held]
        .into_iter()
        .flatten()
        .map(|standing| standing.place)
        .collect();
    for Container { name, place, .. } in containers {
        match place {
            Some(place) if roles.contains(place) => {}
            Some(place) => unowned.push(format!("container {name}: place {place} has no role")),
            None => unowned.push(format!("container {name}: it is left of a job")),
        }
    }
    for target in &balancer.targets {
        let runs = |container: &Container| {
            container.is_running
                && container.name == target.task.as_str()
                && container.place == Some(target.place)
        };
        if !containers.iter().any(runs) {
            unowned.push(format!("target {} of place {}: no container", target.task, target.place));
        }
    }
}

/// The place has its tasks, of one revision, and all requests.
fn whole(
    place: Place,
    revision: &str,
    containers: &[Container],
    balancer: &BalancerState,
    wrong: &mut Vec<String>,
) {
    let own: Vec<_> = containers.iter().filter(|c| c.place == Some(place)).collect();
    let mut states: BTreeMap<String, usize> = BTreeMap::new();
    for container in &own {
        let good = container.is_running && container.revision == revision;
        let healthy = balancer.targets_of(place).any(|target| {
            target.task.as_str() == container.name && target.health == TargetHealth::Healthy
        });
        let state = format!("as it should be: {good}, healthy at HAProxy: {healthy}");
        *states.entry(state).or_default() += 1;
    }
    let all_good = states.keys().all(|state| !state.contains("false"));
    if own.len() != REPLICAS as usize || !all_good {
        wrong.push(format!("stable {place} has not {REPLICAS} good tasks: {states:?}"));
    }
    if balancer.routing != Routing::all_to(place) {
        wrong.push(format!("stable is {place} and the routing is {}", balancer.routing));
    }
    if let Some(test) = balancer.test_route {
        wrong.push(format!("testers still reach place {test}"));
    }
}
