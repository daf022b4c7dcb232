//! The rules of safety that the world watches by itself.

use std::fmt;
use std::time::Duration;

use deploykit_core::{Place, Routing, ServiceName, TargetHealth};

use crate::state::{At, State};

/// A rule of safety that whoever drives the providers has broken. What a version does by itself, such as dying, is none,
/// and neither is what [`World`](crate::World) was told to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// When, since the world began.
    pub at: Duration,
    /// Whose.
    pub service: ServiceName,
    /// Which rule.
    pub breach: Breach,
    /// What was done.
    pub what: String,
}

/// Which rule was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Breach {
    /// A place was given requests, or a greater share of them, while no target of it could answer; or the last target that
    /// could was taken from a place that gets requests.
    NoHealthyTarget,
    /// A place was given requests, or a greater share of them, before all of its tasks had once been healthy targets.
    BelowCapacity,
    /// A request was sent to a task that was stopping.
    SentToStopping,
    /// A task was stopped, or its target removed, while it was in rotation or while it answered requests without having
    /// been drained.
    NotDrained,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.as_secs_f64();
        write!(f, "{at:.3} s {}: {:?}: {}", self.service, self.breach, self.what)
    }
}

impl State {
    pub(crate) fn breach(&mut self, number: usize, breach: Breach, what: String) {
        if let Some(service) = self.services.get(number) {
            let violation = Violation { at: self.now, service: service.name.clone(), breach, what };
            self.violations.push(violation);
        }
    }

    /// Looks at a routing before it is accepted.
    pub(crate) fn check_routing(&mut self, number: usize, next: &Routing) {
        let now = self.now;
        let Some(service) = self.services.get(number) else {
            return;
        };
        let current = service.accepted.back().unwrap_or(&service.routing);
        let serving_now: usize = Place::all()
            .filter(|place| service.in_rotation(*place))
            .map(|place| service.serving(place, now))
            .sum();
        // Whoever goes back from a place that is dead to one that was dead before loses nothing by it.
        let nothing_to_lose = serving_now == 0 && service.routing != Routing::Closed;
        let mut found = Vec::new();
        for place in next.places().filter(|p| next.weight(*p) > current.weight(*p)) {
            if service.serving(place, now) == 0 && !nothing_to_lose {
                let what = format!("routing {next}, but no target of {place} is healthy");
                found.push((Breach::NoHealthyTarget, what));
                continue;
            }
            let desired = service.runs.get(&place).map_or(0, |run| run.desired);
            let came_up = service.came_up(place, now);
            if came_up < desired as usize && !nothing_to_lose {
                let what = format!(
                    "routing {next}, but only {came_up} of {desired} tasks of {place} have come up"
                );
                found.push((Breach::BelowCapacity, what));
            }
        }
        for (breach, what) in found {
            self.breach(number, breach, what);
        }
    }

    /// Looks at a task before something is done to it that only a drained one survives.
    pub(crate) fn check_drained(&mut self, number: usize, task: u64, what: &str) {
        let now = self.now;
        let Some(service) = self.services.get(number) else {
            return;
        };
        let Some(target) = service.targets.iter().find(|t| t.task == Some(task)) else {
            return;
        };
        let health = service.health(target, now);
        let in_rotation = health == TargetHealth::Healthy && service.in_rotation(target.place);
        let in_flight = self.in_flight(number, task);
        let what = format!("task {} {what}, not drained, with {in_flight} requests", target.id);
        if in_rotation || (in_flight > 0 && health != TargetHealth::Draining) {
            self.breach(number, Breach::NotDrained, what);
        }
    }

    /// Makes a change to the targets of a place, and looks whether it took away the last that could answer.
    pub(crate) fn change_targets(
        &mut self,
        number: usize,
        place: Place,
        what: &str,
        change: impl FnOnce(&mut Self),
    ) {
        let now = self.now;
        let serving = |state: &Self| {
            let service = state.services.get(number);
            service.map_or((false, 0), |service| {
                (service.in_rotation(place), service.serving(place, now))
            })
        };
        let (in_rotation, before) = serving(self);
        change(self);
        let (_, after) = serving(self);
        if in_rotation && before > 0 && after == 0 && !self.others_serve(number, place) {
            let what = format!("{what} {place}, which gets requests, its last healthy target");
            self.breach(number, Breach::NoHealthyTarget, what);
        }
    }

    /// Whether a pooled routing still has targets elsewhere.
    fn others_serve(&self, number: usize, place: Place) -> bool {
        let now = self.now;
        self.services.get(number).is_some_and(|service| {
            service.routing == Routing::Pooled
                && Place::all()
                    .filter(|other| *other != place)
                    .any(|other| service.serving(other, now) > 0)
        })
    }
}

impl crate::state::Service {
    /// How many tasks of a place have once been healthy targets.
    fn came_up(&self, place: Place, now: At) -> usize {
        let targets = self.targets.iter().filter(|target| target.place == place);
        let from = targets.filter_map(|target| {
            let task = self.tasks.get(&target.task?)?;
            Some(task.first_trusted?.max(target.checked_from))
        });
        from.filter(|from| *from <= now).count()
    }
}
