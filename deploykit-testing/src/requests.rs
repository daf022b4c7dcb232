//! The way of a request: which place, which target, what answer, and what cuts it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use deploykit_core::{Place, Routing, TargetHealth, TaskState, Weight};

use crate::rng::Rng;
use crate::safety::Breach;
use crate::state::{At, Event, Service, State, TargetEntry};

/// What a client asks.
pub(crate) struct Ask {
    pub(crate) service: usize,
    pub(crate) road: Road,
    /// Work that this request makes, on top of what the version takes for each.
    pub(crate) work: Duration,
    /// How long the client waits.
    pub(crate) timeout: Duration,
    pub(crate) client: Client,
    /// Where on the [`LINE`] the client is, if the balancer knows it again.
    pub(crate) point: Option<u64>,
}

/// The places of a routing share a line of so many points, in the order of their letters.
pub(crate) const LINE: u64 = 1_000_000;

/// What is known of a request once it is on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) due: At,
    /// The place that it was sent to; none for one that had nowhere to go.
    pub(crate) to: Option<Place>,
}

/// Over which entry a request comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Road {
    Live,
    Test,
    /// Straight to a task, past the balancer; none at an address that no task has.
    Task(Option<u64>),
}

/// Who waits for the answer.
#[derive(Clone)]
pub(crate) enum Client {
    /// A load, by its number.
    Source(usize),
    /// Somebody who comes back for it.
    Asker(Arc<OnceLock<Answer>>),
}

/// What a client gets.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The place that it came from, or that it was lost in.
    pub(crate) place: Option<Place>,
    /// The status, or why there is none.
    pub(crate) status: Result<u16, String>,
    pub(crate) took: Duration,
}

/// A request that is being answered.
pub(crate) struct Request {
    service: usize,
    place: Place,
    task: u64,
    sent: At,
    due: At,
    status: Result<u16, String>,
    client: Client,
}

impl State {
    /// Sends a request on its way, and says where to and when its answer is due.
    pub(crate) fn send(&mut self, ask: Ask, rng: &mut Rng) -> Sent {
        match self.pick(ask.service, ask.road, ask.point, rng) {
            Ok((place, task)) => Sent { due: self.send_to(place, task, ask, rng), to: Some(place) },
            Err((place, why)) => {
                self.refuse(ask.client, place, why);
                Sent { due: self.now, to: place }
            }
        }
    }

    fn send_to(&mut self, place: Place, task: u64, ask: Ask, rng: &mut Rng) -> At {
        let (number, now) = (ask.service, self.now);
        let Some(entry) =
            self.services.get_mut(number).and_then(|service| service.tasks.get_mut(&task))
        else {
            self.refuse(ask.client, Some(place), "the task is gone".into());
            return now;
        };
        if entry.state == TaskState::Stopping {
            let why = format!("task {} is stopping and refused it", entry.id);
            self.breach(number, Breach::SentToStopping, why.clone());
            self.refuse(ask.client, Some(place), why);
            return now;
        }
        let unhealthy = matches!(entry.state, TaskState::Unhealthy { .. });
        let Some(behaviour) = self
            .services
            .get(number)
            .and_then(|service| service.runs.get(&place))
            .map(|run| run.behaviour)
        else {
            self.refuse(ask.client, Some(place), "the place is gone".into());
            return now;
        };
        let status = match self.task(number, task).is_some_and(|task| task.broken) {
            true => 500,
            false if unhealthy => 503,
            false => 200,
        };
        if behaviour.errors && ask.road == Road::Live && status == 200 {
            self.break_task(number, task);
        }
        let latency = behaviour.latency(rng).saturating_add(ask.work);
        let due = now.saturating_add(latency.min(ask.timeout));
        let request = self.number();
        self.requests.insert(
            request,
            Request {
                service: number,
                place,
                task,
                sent: now,
                due,
                status: match latency <= ask.timeout {
                    true => Ok(status),
                    false => Err(format!("no answer within {:.1} s", ask.timeout.as_secs_f64())),
                },
                client: ask.client,
            },
        );
        self.schedule(due, Event::Answer { request });
        due
    }

    /// The answer to a request goes out, unless something cut it before.
    pub(crate) fn answer(&mut self, request: u64) {
        if let Some(request) = self.requests.remove(&request) {
            let answer = Answer {
                place: Some(request.place),
                status: request.status,
                took: self.now.saturating_sub(request.sent),
            };
            self.deliver(request.client, answer);
        }
    }

    /// Whatever a task is answering is lost.
    pub(crate) fn cut(&mut self, number: usize, task: u64, why: &str) {
        let lost: Vec<u64> = self
            .requests
            .iter()
            .filter(|(_, request)| request.service == number && request.task == task)
            .map(|(id, _)| *id)
            .collect();
        for id in lost {
            if let Some(request) = self.requests.remove(&id) {
                let answer = Answer {
                    place: Some(request.place),
                    status: Err(why.to_owned()),
                    took: self.now.saturating_sub(request.sent),
                };
                self.deliver(request.client, answer);
            }
        }
    }

    fn refuse(&mut self, client: Client, place: Option<Place>, why: String) {
        let answer = Answer { place, status: Err(why), took: Duration::ZERO };
        self.deliver(client, answer);
    }

    fn deliver(&mut self, client: Client, answer: Answer) {
        match client {
            Client::Source(source) => self.count(source, &answer),
            // It is set once: a request leaves the table when it is answered.
            Client::Asker(cell) => drop(cell.set(answer)),
        }
    }

    /// A place and a task for the next request, or where it ends without one and why.
    fn pick(
        &self,
        number: usize,
        road: Road,
        point: Option<u64>,
        rng: &mut Rng,
    ) -> Result<(Place, u64), (Option<Place>, String)> {
        let Some(service) = self.services.get(number) else {
            return Err((None, "the service is not known".into()));
        };
        let place = match (road, &service.routing) {
            (Road::Task(task), _) => return service.listening(task),
            (Road::Test, _) => match service.test_route {
                Some(place) => Some(place),
                None => return Err((None, "no test route is open".into())),
            },
            (Road::Live, Routing::Weighted(weights)) => {
                let all = u64::from(Weight::ALL.get());
                let mut draw = point.map_or_else(|| rng.below(all), |point| point * all / LINE);
                let drawn = weights.iter().find(|(_, weight)| {
                    let share = u64::from(weight.get());
                    let hit = draw < share;
                    draw = draw.saturating_sub(share);
                    hit
                });
                drawn.map(|(place, _)| place)
            }
            (Road::Live, Routing::Pooled) => None,
            (Road::Live, routing) => return Err((None, format!("the routing is {routing}"))),
        };
        let healthy =
            |target: &&TargetEntry| service.health(target, self.now) == TargetHealth::Healthy;
        let place = match point {
            // A client stays with a version, not with a target of it.
            Some(point) if place.is_none() => {
                let mut places: Vec<_> =
                    service.targets.iter().filter(healthy).map(|target| target.place).collect();
                places.sort();
                let at = point * places.len() as u64 / LINE;
                usize::try_from(at).ok().and_then(|at| places.get(at)).copied()
            }
            _ => place,
        };
        let takes = |target: &&TargetEntry| {
            place.is_none_or(|place| target.place == place) && healthy(target)
        };
        let count = service.targets.iter().filter(takes).count() as u64;
        let chosen = usize::try_from(rng.below(count)).unwrap_or_default();
        let target = service.targets.iter().filter(takes).nth(chosen);
        match target.and_then(|target| Some((target.place, target.task?))) {
            Some(picked) => Ok(picked),
            None => Err((place, "no healthy target".into())),
        }
    }

    /// How many requests a task is answering.
    pub(crate) fn in_flight(&self, number: usize, task: u64) -> u64 {
        let at_task = |request: &&Request| request.service == number && request.task == task;
        self.requests.values().filter(at_task).count() as u64
    }

    /// Until when the requests of a load, that are being answered, last.
    pub(crate) fn last_due(&self, source: usize) -> Option<At> {
        let of_source =
            |request: &&Request| matches!(request.client, Client::Source(of) if of == source);
        self.requests.values().filter(of_source).map(|request| request.due).max()
    }

    /// Until when the requests that a task is answering last.
    pub(crate) fn last_due_at(&self, number: usize, task: u64) -> Option<At> {
        let at_task = |request: &&Request| request.service == number && request.task == task;
        let due = self.requests.values().filter(at_task);
        due.map(|request| request.due).max()
    }

    /// Whether a request is at a target of this service that drains.
    pub(crate) fn is_draining(&self, number: usize, request: u64) -> bool {
        self.requests.get(&request).is_some_and(|request| {
            request.service == number
                && self.services.get(number).is_some_and(|service| {
                    let drains =
                        |target: &TargetEntry| target.task == Some(request.task) && target.draining;
                    service.targets.iter().any(drains)
                })
        })
    }
}

impl Service {
    /// What the balancer finds a target to be.
    pub(crate) fn health(&self, target: &TargetEntry, now: At) -> TargetHealth {
        if target.draining {
            return TargetHealth::Draining;
        }
        let Some(task) = target.task.and_then(|task| self.tasks.get(&task)) else {
            return TargetHealth::Unhealthy;
        };
        match &task.state {
            TaskState::Failed { .. } | TaskState::Unhealthy { .. } => TargetHealth::Unhealthy,
            TaskState::Starting if task.first_trusted.is_some() => TargetHealth::Unhealthy,
            TaskState::Starting | TaskState::Waiting { .. } => TargetHealth::Starting,
            // A balancer does not know that a task was told to stop: whoever stops it has to say so first.
            TaskState::Ready | TaskState::Stopping => match self.healthy_from(target) {
                Some(from) if from <= now => TargetHealth::Healthy,
                _ => TargetHealth::Starting,
            },
        }
    }

    /// A task that can be asked directly, or why there is none.
    fn listening(&self, task: Option<u64>) -> Result<(Place, u64), (Option<Place>, String)> {
        let Some((task, found)) = task.and_then(|task| Some((task, self.tasks.get(&task)?))) else {
            return Err((None, "no task has this address".into()));
        };
        match found.state {
            TaskState::Ready => Ok((found.place, task)),
            TaskState::Unhealthy { .. } if !self.is_tcp() => Ok((found.place, task)),
            _ => Err((Some(found.place), format!("task {} does not listen", found.id))),
        }
    }

    /// When a target has been checked long enough to get requests, if its task goes on being ready.
    pub(crate) fn healthy_from(&self, target: &TargetEntry) -> Option<At> {
        let task = self.tasks.get(&target.task?)?;
        Some(task.trusted_from?.max(target.checked_from))
    }

    /// How many targets of a place get requests and can answer them.
    pub(crate) fn serving(&self, place: Place, now: At) -> usize {
        let serves = |target: &&TargetEntry| {
            let stopping = target
                .task
                .and_then(|task| self.tasks.get(&task))
                .is_none_or(|task| task.state == TaskState::Stopping);
            target.place == place && !stopping && self.health(target, now) == TargetHealth::Healthy
        };
        self.targets.iter().filter(serves).count()
    }

    /// Whether live requests go to a place.
    pub(crate) fn in_rotation(&self, place: Place) -> bool {
        self.routing == Routing::Pooled || self.routing.weight(place) > Weight::NONE
    }
}
