//! The state of a service, to be compared.

use std::collections::BTreeMap;
use std::fmt;

use deploykit_core::{Place, RevisionId, Routing, TargetHealth, TaskState};

use crate::state::State;
use crate::tasks::Task;

/// All there is of a service, in a form in which two moments can be compared: what began as `A` and was undone is `A`
/// again, though its tasks may be others.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The places that hold tasks or targets.
    pub places: BTreeMap<Place, PlaceSnapshot>,
    /// Where live requests go.
    pub routing: Routing,
    /// Where testers get.
    pub test_route: Option<Place>,
    /// How many jobs have left something that was not removed; one that runs is one of them.
    pub jobs: usize,
}

/// What there is of a place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlaceSnapshot {
    /// What it runs; none where only targets are left.
    pub revision: Option<RevisionId>,
    /// The image of that revision, as people name it.
    pub image: Option<String>,
    /// How many tasks it is to have.
    pub desired: u32,
    /// How many it has, in whatever state.
    pub tasks: usize,
    /// How many of them are ready.
    pub ready: usize,
    /// How many targets the balancer knows.
    pub targets: usize,
    /// How many of them are healthy.
    pub healthy: usize,
}

impl State {
    pub(crate) fn snapshot(&self, service: &str) -> Snapshot {
        let mut snapshot = Snapshot {
            places: BTreeMap::new(),
            routing: Routing::Closed,
            test_route: None,
            jobs: 0,
        };
        let Ok((_, service)) = self.service(service) else {
            return snapshot;
        };
        snapshot.routing = service.routing.clone();
        snapshot.test_route = service.test_route;
        snapshot.jobs = service.jobs.left();
        for (place, run) in &service.runs {
            let seen = snapshot.places.entry(*place).or_default();
            let release = service.revisions.get(&run.revision);
            seen.revision = Some(run.revision.clone());
            seen.image = release.map(|release| release.image.to_string());
            seen.desired = run.desired;
            seen.tasks = service.tasks_of(*place).count();
            let ready = |(_, task): &(u64, &Task)| task.state == TaskState::Ready;
            seen.ready = service.tasks_of(*place).filter(ready).count();
        }
        for target in &service.targets {
            let seen = snapshot.places.entry(target.place).or_default();
            seen.targets += 1;
            let health = service.health(target, self.now);
            seen.healthy += usize::from(health == TargetHealth::Healthy);
        }
        snapshot
    }
}

/// One line for the routing and one for each place.
impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "routing {}", self.routing)?;
        if let Some(place) = self.test_route {
            write!(f, ", test route to {place}")?;
        }
        if self.jobs > 0 {
            write!(f, ", {} jobs not removed", self.jobs)?;
        }
        for (place, seen) in &self.places {
            let image = seen.image.as_deref().unwrap_or("nothing");
            write!(
                f,
                "\n{place}: {image}, {} of {} tasks ready, {} of {} targets healthy",
                seen.ready, seen.desired, seen.healthy, seen.targets
            )?;
        }
        Ok(())
    }
}
