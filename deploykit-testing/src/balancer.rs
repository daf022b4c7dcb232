//! The load balancer of the world.

use std::time::Duration;

use async_trait::async_trait;
use deploykit_core::{
    BalancerCapability, BalancerState, Endpoint, Entry, Error, ErrorKind, LoadBalancer, Place,
    Result, Routing, ServiceName, Target, TaskId, Weight,
};

use crate::calls::Operation;
use crate::orchestrator::list;
use crate::state::{Event, State, TargetEntry};
use crate::world::World;

/// The load balancer of a [`World`]. It splits requests by random draw, and lets tasks that it drains finish.
#[derive(Clone, Debug)]
pub struct WorldBalancer {
    world: World,
}

impl WorldBalancer {
    pub(crate) const fn new(world: World) -> Self {
        Self { world }
    }
}

#[async_trait]
impl LoadBalancer for WorldBalancer {
    fn capability(&self) -> BalancerCapability {
        let settings = self.world.lock().settings.clone();
        let lag = settings.routing_lag.max(settings.stale_reads);
        settings.balancer.with_lag(lag).with_stale(settings.stale_reads)
    }

    async fn capability_for(&self, service: &ServiceName) -> Result<BalancerCapability> {
        let has_test_route = self.world.lock().settings.has_test_route(service);
        Ok(self.capability().with_test_route(has_test_route))
    }

    async fn observe(&self, service: &ServiceName) -> Result<BalancerState> {
        let observe = |state: &mut State| Ok(state.observe_routing(service));
        self.world.call(Operation::ObserveRouting, Some(service), String::new, observe).await
    }

    async fn set_routing(&self, service: &ServiceName, routing: &Routing) -> Result<()> {
        let set = |state: &mut State| state.set_routing(service, routing);
        let what = || routing.to_string();
        self.world.call(Operation::SetRouting, Some(service), what, set).await
    }

    async fn set_test_route(&self, service: &ServiceName, place: Option<Place>) -> Result<()> {
        let set = |state: &mut State| state.set_test_route(service, place);
        let what = || place.map_or_else(|| "closed".to_owned(), |place| place.to_string());
        self.world.call(Operation::SetTestRoute, Some(service), what, set).await
    }

    async fn add_targets(
        &self,
        service: &ServiceName,
        place: Place,
        targets: &[Endpoint],
    ) -> Result<()> {
        let add = |state: &mut State| {
            state.add_targets(service, place, targets);
            Ok(())
        };
        let what = || {
            let tasks: Vec<_> = targets.iter().map(|target| target.task.clone()).collect();
            format!("{} to {place}", list(&tasks))
        };
        self.world.call(Operation::AddTargets, Some(service), what, add).await
    }

    async fn remove_targets(
        &self,
        service: &ServiceName,
        place: Place,
        tasks: &[TaskId],
    ) -> Result<()> {
        let remove = |state: &mut State| {
            if let Some(number) = state.find(service.as_str()) {
                state.remove_targets(number, place, tasks);
            }
            Ok(())
        };
        let what = || format!("{} of {place}", list(tasks));
        self.world.call(Operation::RemoveTargets, Some(service), what, remove).await
    }

    async fn drain(&self, service: &ServiceName, place: Place, tasks: &[TaskId]) -> Result<()> {
        let drain = |state: &mut State| {
            let Some(number) = state.find(service.as_str()) else {
                return Ok(());
            };
            let mut numbers = state.task_numbers(number, place);
            numbers.retain(|task| {
                let task = state.task(number, *task);
                task.is_some_and(|task| tasks.contains(&task.id))
            });
            state.change_targets(number, place, "draining took from", |state| {
                state.drain_tasks(number, place, &numbers);
            });
            Ok(())
        };
        let what = || format!("{} of {place}", list(tasks));
        self.world.call(Operation::Drain, Some(service), what, drain).await
    }

    async fn changed(&self, service: &ServiceName, at_most: Duration) {
        self.world.changed(service, at_most).await;
    }
}

impl State {
    /// What there is now.
    pub(crate) fn routing_now(&self, service: &ServiceName) -> BalancerState {
        let Ok((number, known)) = self.service(service.as_str()) else {
            return BalancerState {
                routing: Routing::Closed,
                test_route: None,
                targets: Vec::new(),
                entry: Some(entry("http", service)),
                test_entry: None,
            };
        };
        let is_tcp = known.is_tcp();
        let live = entry(if is_tcp { "tcp" } else { "http" }, service);
        let target = |target: &TargetEntry| Target {
            place: target.place,
            task: target.id.clone(),
            address: target.address.clone(),
            health: known.health(target, self.now),
            in_flight: target.task.map_or(0, |task| self.in_flight(number, task)),
        };
        BalancerState {
            routing: known.routing.clone(),
            test_route: known.test_route,
            targets: known.targets.iter().map(target).collect(),
            test_entry: known.test_route.map(|_| match is_tcp {
                // A connection carries no header: testers have an address of their own.
                true => Entry { url: format!("tcp://test.{service}.world"), ..live.clone() },
                false => Entry {
                    headers: vec![("x-deploykit-test".to_owned(), "1".to_owned())],
                    ..live.clone()
                },
            }),
            entry: Some(live),
        }
    }

    fn set_routing(&mut self, service: &ServiceName, routing: &Routing) -> Result<()> {
        let can = self.settings.balancer;
        let is_split = routing.places().any(|place| routing.weight(place) < Weight::ALL);
        let lacks = match routing {
            Routing::Weighted(_) if is_split && !can.weighted => Some("shares of places"),
            Routing::Pooled if !can.pooled => Some("a routing to all healthy tasks"),
            Routing::None => Some("a service that it does not balance"),
            Routing::Weighted(_) | Routing::Pooled | Routing::Closed => None,
        };
        if let Some(lacks) = lacks {
            return Err(unsupported(service, lacks));
        }
        let number = self.find_or_add(service);
        self.check_routing(number, routing);
        let at = self.now.saturating_add(self.settings.routing_lag);
        let Some(known) = self.services.get_mut(number) else {
            return Ok(());
        };
        let current = known.accepted.back().unwrap_or(&known.routing);
        if current == routing {
            return Ok(());
        }
        known.accepted.push_back(routing.clone());
        self.version += 1;
        if at == self.now {
            self.route_accepted(number);
        } else {
            self.schedule(at, Event::Route { service: number });
        }
        Ok(())
    }

    /// The oldest routing that was accepted becomes effective.
    pub(crate) fn route_accepted(&mut self, number: usize) {
        if let Some(service) = self.services.get_mut(number)
            && let Some(routing) = service.accepted.pop_front()
        {
            service.routing = routing;
        }
    }

    fn set_test_route(&mut self, service: &ServiceName, place: Option<Place>) -> Result<()> {
        if place.is_some() && !self.settings.has_test_route(service) {
            return Err(unsupported(service, "a test route"));
        }
        let number = self.find_or_add(service);
        if let Some(service) = self.services.get_mut(number)
            && service.test_route != place
        {
            service.test_route = place;
            self.version += 1;
        }
        Ok(())
    }

    fn add_targets(&mut self, service: &ServiceName, place: Place, targets: &[Endpoint]) {
        let number = self.find_or_add(service);
        let checked_from = self.now.saturating_add(self.settings.registration_lag);
        for Endpoint { task: id, address } in targets {
            let Some(service) = self.services.get(number) else {
                return;
            };
            let is_it = |known: &&TargetEntry| known.place == place && known.id == *id;
            let known = service.targets.iter().find(is_it);
            if known.is_some_and(|known| known.address == *address) {
                continue;
            }
            let task = service.tasks_of(place).find(|(_, task)| task.id == *id);
            let new = TargetEntry {
                place,
                id: id.clone(),
                task: task.map(|(task, _)| task),
                address: address.clone(),
                checked_from,
                draining: false,
            };
            // It may be known at another address.
            self.remove_targets(number, place, std::slice::from_ref(id));
            if let Some(service) = self.services.get_mut(number) {
                service.targets.push(new);
                self.version += 1;
            }
        }
    }

    fn remove_targets(&mut self, number: usize, place: Place, tasks: &[TaskId]) {
        let goes = |known: &TargetEntry| known.place == place && tasks.contains(&known.id);
        let known = self.services.get(number).map_or(&[][..], |service| &service.targets);
        let removed: Vec<_> = known.iter().filter(|known| goes(known)).map(|t| t.task).collect();
        if removed.is_empty() {
            return;
        }
        let removed: Vec<u64> = removed.into_iter().flatten().collect();
        for task in &removed {
            self.check_drained(number, *task, "removed from the targets");
        }
        self.change_targets(number, place, "removing targets took from", |state| {
            if let Some(service) = state.services.get_mut(number) {
                service.targets.retain(|known| !goes(known));
                state.version += 1;
            }
            for task in removed {
                state.cut(number, task, "its target was removed while it answered");
            }
        });
    }

    /// Registers a task that has an address, unless it is registered.
    pub(crate) fn register_target(&mut self, number: usize, place: Place, task: u64) {
        let checked_from = self.now.saturating_add(self.settings.registration_lag);
        let Some(service) = self.services.get_mut(number) else {
            return;
        };
        let is_known = service.targets.iter().any(|known| known.task == Some(task));
        let Some((id, address)) = service
            .tasks
            .get(&task)
            .filter(|_| !is_known)
            .and_then(|task| Some((task.id.clone(), task.address.clone()?)))
        else {
            return;
        };
        service.targets.push(TargetEntry {
            place,
            id,
            task: Some(task),
            address,
            checked_from,
            draining: false,
        });
    }

    pub(crate) fn drain_tasks(&mut self, number: usize, place: Place, tasks: &[u64]) {
        let Some(service) = self.services.get_mut(number) else {
            return;
        };
        let meant = |target: &&mut TargetEntry| {
            let is_meant = target.task.is_some_and(|task| tasks.contains(&task));
            target.place == place && !target.draining && is_meant
        };
        for target in service.targets.iter_mut().filter(meant) {
            target.draining = true;
            self.version += 1;
        }
    }
}

fn entry(scheme: &str, service: &ServiceName) -> Entry {
    Entry { url: format!("{scheme}://{service}.world"), headers: Vec::new() }
}

fn unsupported(service: &ServiceName, what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("the balancer of service {service} lacks {what}"))
        .with_hint("its capability says so; see Settings::balancer")
}
