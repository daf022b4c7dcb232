//! Watches the service from outside while it is replaced: what the Engine runs and whom HAProxy sends requests to, without
//! the deployer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use deploykit::docker::HaProxy;
use deploykit::{
    BalancerState, Error, ErrorKind, LoadBalancer, Place, Result, Routing, ServiceName,
    TargetHealth,
};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::engine::Bare;
use crate::json::seconds;

const EVERY: Duration = Duration::from_millis(50);

/// A watch that is being kept.
#[derive(Debug)]
pub(crate) struct Watch {
    stop: oneshot::Sender<()>,
    looks: JoinHandle<Vec<Look>>,
}

/// What was there at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    at: Instant,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    routing: Routing,
    places: BTreeMap<Place, Tasks>,
}

/// The tasks of a place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tasks {
    /// Those that the Engine has, dead ones left out.
    all: u32,
    /// Those of them that run, and get requests where their place does.
    serving: u32,
    images: BTreeSet<String>,
}

impl Watch {
    /// Looks at once, and then every 50 ms.
    pub(crate) fn keep(engine: &Bare, haproxy: &HaProxy, service: &ServiceName) -> Self {
        let (engine, haproxy, service) = (engine.clone(), haproxy.clone(), service.clone());
        let (stop, mut stopped) = oneshot::channel();
        let looks = tokio::spawn(async move {
            let mut looks = Vec::new();
            let mut next = interval(EVERY);
            next.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                let is_last = tokio::select! {
                    _ = &mut stopped => true,
                    _ = next.tick() => false,
                };
                // A look that fails is missing in the end, by the gap that it leaves.
                if let Ok(state) = look(&engine, &haproxy, &service).await {
                    looks.push(Look { at: Instant::now(), state });
                }
                if is_last {
                    return looks;
                }
            }
        });
        Self { stop, looks }
    }

    /// Looks a last time.
    pub(crate) async fn end(self) -> Result<Seen> {
        // It ends by this, whether it is sent or dropped.
        let _ = self.stop.send(());
        let looks = self.looks.await.map_err(|error| {
            Error::new(ErrorKind::Other, "the watch ended by itself").with_source(error)
        })?;
        Ok(Seen { looks })
    }
}

async fn look(engine: &Bare, haproxy: &HaProxy, service: &ServiceName) -> Result<State> {
    // HAProxy before and after: whoever took requests at either time and runs in between is counted. So a task that takes
    // over from another while the look lasts does not look like a gap.
    let before = haproxy.observe(service).await?;
    let containers = engine.get(&list_of(service)).await?;
    let after = haproxy.observe(service).await?;
    let served: BTreeSet<_> = healthy(&before).chain(healthy(&after)).collect();
    let mut places = BTreeMap::<Place, Tasks>::new();
    for container in containers.as_array().into_iter().flatten() {
        let text = |pointer| container.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let state = text("/State");
        let Ok(place) = text("/Labels/deploykit.place").parse() else { continue };
        if matches!(state, "exited" | "dead" | "removing") {
            continue;
        }
        let tasks = places.entry(place).or_default();
        tasks.all += 1;
        let name = text("/Names/0").trim_start_matches('/');
        tasks.serving += u32::from(state == "running" && served.contains(name));
        tasks.images.insert(text("/ImageID").to_owned());
    }
    Ok(State { routing: after.routing, places })
}

/// Where the Engine lists the containers of a service.
pub(crate) fn list_of(service: &ServiceName) -> String {
    let filters = format!("%7B%22label%22%3A%5B%22deploykit.service%3D{service}%22%5D%7D");
    format!("/containers/json?all=1&filters={filters}")
}

fn healthy(state: &BalancerState) -> impl Iterator<Item = &str> {
    let healthy = state.targets.iter().filter(|target| target.health == TargetHealth::Healthy);
    healthy.map(|target| target.task.as_str())
}

/// What a watch has seen.
#[derive(Debug)]
pub(crate) struct Seen {
    looks: Vec<Look>,
}

impl Seen {
    fn sums(&self, of: impl Fn(&Tasks) -> u32) -> impl Iterator<Item = u32> {
        self.looks.iter().map(move |look| look.state.places.values().map(&of).sum())
    }

    /// The fewest tasks that served.
    pub(crate) fn least(&self) -> u32 {
        self.sums(|tasks| tasks.serving).min().unwrap_or_default()
    }

    /// The most tasks that there were, serving or not.
    pub(crate) fn most(&self) -> u32 {
        self.sums(|tasks| tasks.all).max().unwrap_or_default()
    }

    /// The longest time without a look.
    fn gap(&self) -> Duration {
        let pairs = self.looks.iter().zip(self.looks.iter().skip(1));
        pairs.map(|(one, next)| next.at.duration_since(one.at)).max().unwrap_or_default()
    }

    /// Whether routing, tasks and their images are at the end what they were at the beginning.
    pub(crate) fn ended_as_it_began(&self) -> bool {
        match (self.looks.first(), self.looks.last()) {
            (Some(first), Some(last)) => first.state == last.state,
            _ => false,
        }
    }

    /// For programs, with the bounds that were to be kept.
    pub(crate) fn json(&self, (least, most): (u32, u32)) -> Value {
        json!({
            "least_allowed": least,
            "least_serving": self.least(),
            "most_allowed": most,
            "most_there": self.most(),
            "looks": self.looks.len(),
            "longest_gap_seconds": seconds(self.gap()),
        })
    }

    /// The same for people.
    pub(crate) fn text(&self, (least, most): (u32, u32)) -> String {
        format!(
            "watched from outside: never fewer than {} tasks served ({least} asked), never more than {} were there \
             ({most} allowed); {} looks, {} ms at most between two",
            self.least(),
            self.most(),
            self.looks.len(),
            self.gap().as_millis()
        )
    }
}
