//! What reads may show though it is not so any more.

use std::time::Duration;

use deploykit_core::{BalancerState, Routing, ServiceName, ServiceState, TargetHealth};

use crate::state::{At, Service, State};

/// What was so for less time than that may be forgotten: requests come and go by the thousand.
const GRAIN: Duration = Duration::from_millis(50);

/// What there was of a service.
pub(crate) struct Past {
    from: At,
    until: At,
    seen: Seen,
}

#[derive(PartialEq)]
struct Seen {
    tasks: ServiceState,
    balancer: BalancerState,
    /// When each target became healthy, or is going to.
    healthy_from: Vec<Option<At>>,
    /// The routing that was accepted last, effective or not.
    routing: Routing,
}

impl State {
    /// Keeps what there is, before something happens, for as long as reads may show it.
    pub(crate) fn remember(&mut self) {
        let stale = self.settings.stale_reads;
        if stale.is_zero() {
            return;
        }
        let now = self.now;
        let is_new = |past: &Past| past.until.saturating_add(GRAIN) > now;
        for number in 0..self.services.len() {
            let past = self.services.get(number).and_then(|service| service.past.back());
            if past.is_some_and(is_new) {
                continue;
            }
            let seen = self.seen(number);
            if let Some((service, seen)) = self.services.get_mut(number).zip(seen) {
                let from = service.past.back().map_or(now, |past| past.until);
                match service.past.back_mut().filter(|past| past.seen == seen) {
                    Some(past) => past.until = now,
                    None => service.past.push_back(Past { from, until: now, seen }),
                }
                let oldest = now.saturating_sub(stale);
                while service.past.front().is_some_and(|past| past.until < oldest) {
                    service.past.pop_front();
                }
            }
        }
    }

    /// Makes a service that was just made known one that has been so for a while.
    pub(crate) fn forget_past(&mut self, number: usize) {
        if let Some(service) = self.services.get_mut(number) {
            service.past.clear();
        }
    }

    fn seen(&self, number: usize) -> Option<Seen> {
        let service = self.services.get(number)?;
        let targets = service.targets.iter();
        Some(Seen {
            tasks: self.tasks_now(&service.name),
            balancer: self.routing_now(&service.name),
            healthy_from: targets.map(|target| service.healthy_from(target)).collect(),
            routing: service.accepted.back().unwrap_or(&service.routing).clone(),
        })
    }

    /// The tasks of a service as a read shows them.
    pub(crate) fn observe_tasks(&mut self, service: &ServiceName) -> ServiceState {
        let past = self.read_at().and_then(|at| self.past(service, at));
        past.map_or_else(|| self.tasks_now(service), |past| past.seen.tasks.clone())
    }

    /// The routing and the targets of a service as a read shows them.
    pub(crate) fn observe_routing(&mut self, service: &ServiceName) -> BalancerState {
        let at = self.read_at();
        let now = self.routing_now(service);
        let Some((at, Past { from, seen, .. })) =
            at.and_then(|at| Some((at, self.past(service, at)?)))
        else {
            return now;
        };
        let mut shown = seen.balancer.clone();
        for (target, healthy) in shown.targets.iter_mut().zip(&seen.healthy_from) {
            if target.health == TargetHealth::Healthy
                && healthy.is_some_and(|healthy| healthy > at.max(*from))
            {
                target.health = TargetHealth::Starting;
            }
        }
        // The age of the read does not come on top of the routing's own lag.
        let is_lagging = |(_, known): (_, &Service)| known.accepted.contains(&seen.routing);
        let is_lagging = self.service(service.as_str()).is_ok_and(is_lagging);
        shown.routing = if is_lagging { now.routing } else { seen.routing.clone() };
        shown
    }

    /// Of when a read tells, if not of now: whoever answers it may be behind, and the next one less, or more.
    fn read_at(&mut self) -> Option<At> {
        let stale = self.settings.stale_reads;
        let age = (!stale.is_zero()).then(|| self.rng.between(Duration::ZERO, stale))?;
        Some(self.now.saturating_sub(age))
    }

    /// What there was of a service at a time; none where that is what there is.
    fn past(&self, service: &ServiceName, at: At) -> Option<&Past> {
        let (_, known) = self.service(service.as_str()).ok()?;
        known.past.iter().find(|past| past.until >= at)
    }
}
