//! Awaiting and watching the health of a place.

use std::sync::PoisonError;
use std::time::Duration;

use super::perform::{Answer, Performer, Providers};
use super::retry::Patience;
use super::routes::foreign_routing;
use super::update::UpdateKind;
use crate::error::{Error, ErrorKind, Result};
use crate::name::{Place, TaskId};
use crate::provider::{Endpoint, Target, TargetHealth, Task, TaskState};
use crate::routing::Routing;
use crate::time::{Timestamp, human};

/// How long nothing is looked at while something is awaited, or is not as it should be, and nobody reports a change.
const QUIET: Duration = Duration::from_millis(500);
/// The same while all is well: no provider can lose its reports for longer.
const CALM: Duration = Duration::from_secs(5);
/// The same while only the balancer's own checks are awaited, which report nothing.
const CHECKS: Duration = Duration::from_millis(20);
/// How long a task may stay dead before the candidate is given up: a provider that restarts it gets this chance.
const DEAD: Duration = Duration::from_secs(1);
/// How often tasks may die, however quickly they are restarted.
const DEATHS: u32 = 3;
/// How long a watched place may lack healthy tasks, and how long it may have none at all: then its requests fail.
const LACKING: Duration = Duration::from_secs(5);
const EMPTY: Duration = Duration::from_secs(2);

/// A routing that is not ours has to be read this often to be believed.
const SEEN_TWICE: u32 = 2;

/// What a look at a place shows.
#[derive(Debug)]
struct Look {
    desired: u32,
    ready: u32,
    /// Takes requests; equal to `ready` where there is no balancer.
    healthy: u32,
    dead: Option<String>,
    trouble: Option<String>,
    routing: Option<Routing>,
}

impl Look {
    /// How many tasks are ready, and take requests where there is a balancer.
    fn takes_requests(&self) -> u32 {
        self.healthy.min(self.ready)
    }
}

/// Tasks that died while a place was awaited.
#[derive(Debug, Default)]
struct Deaths {
    since: Option<Timestamp>,
    count: u32,
}

impl Deaths {
    /// Whether the deaths seen so far are enough to give up.
    fn enough(&mut self, dead: bool, now: Timestamp) -> bool {
        if !dead {
            self.since = None;
            return false;
        }
        if self.since.is_none() {
            self.count += 1;
        }
        let since = *self.since.get_or_insert(now);
        self.count >= DEATHS || now.since(since) >= DEAD
    }
}

/// How long a place has had fewer healthy tasks than it should.
#[derive(Debug, Default)]
struct Lacking(Option<Timestamp>);

impl Lacking {
    /// The error when that has been so for too long.
    fn look(&mut self, place: Place, look: &Look, count: u32, now: Timestamp) -> Option<Error> {
        let healthy = look.takes_requests();
        if healthy >= count {
            self.0 = None;
            return None;
        }
        let lacking = now.since(*self.0.get_or_insert(now));
        if lacking < if healthy == 0 { EMPTY } else { LACKING } {
            return None;
        }
        let trouble =
            look.trouble.as_ref().map(|trouble| format!("; {trouble}")).unwrap_or_default();
        let text =
            format!("place {place}: {healthy} of {count} healthy for {}{trouble}", human(lacking));
        Some(Error::new(ErrorKind::Unhealthy, text))
    }
}

impl Performer {
    /// Waits until `count` tasks take requests; `serving` of them do already, and have to stay well.
    pub(super) async fn await_healthy(
        &self,
        place: Place,
        count: u32,
        serving: u32,
        until: Timestamp,
        patient: bool,
    ) -> Result<Answer> {
        let (mut deaths, mut lacking) = (Deaths::default(), Lacking::default());
        let mut patience = Patience::new(until.since(self.now()));
        loop {
            let mut at_most = QUIET;
            let look = self.look(place).await;
            let left = patience.after(look.as_ref().err());
            let why = match look {
                Ok(look) => {
                    let healthy = look.takes_requests();
                    self.show_tasks(place, healthy, count);
                    // Where there is no other side to turn to, somebody's wish for fewer tasks counts at once.
                    let enough = if patient { count.min(look.desired.max(1)) } else { count };
                    if healthy >= enough {
                        return Ok(Answer::Done(None));
                    }
                    if let Some(error) = lacking.look(place, &look, serving, self.now()) {
                        return Err(error);
                    }
                    if !patient && deaths.enough(look.dead.is_some(), self.now()) {
                        let why = look.dead.unwrap_or_default();
                        return Err(Error::new(
                            ErrorKind::Unhealthy,
                            format!("place {place}: {why}"),
                        ));
                    }
                    if look.ready >= count || look.dead.is_some() {
                        at_most = CHECKS;
                    }
                    match look.trouble {
                        Some(trouble) => format!("{healthy} of {count} healthy; {trouble}"),
                        None => format!("{healthy} of {count} healthy"),
                    }
                }
                Err(error) if error.is_temporary() && !left.is_zero() => String::new(),
                Err(error) => {
                    return Err(error.within(format_args!("place {place} cannot be looked at")));
                }
            };
            if left.is_zero() {
                return Err(Error::new(
                    ErrorKind::Timeout,
                    format!("place {place} is not healthy in time: {why}"),
                )
                .with_hint("if it only needs longer, give it more time"));
            }
            self.changed(at_most.min(left)).await;
        }
    }

    /// Returns when a provider reports a change, and after `at_most` anyway.
    async fn changed(&self, at_most: Duration) {
        let tasks = self.providers.orchestrator.changed(&self.service, at_most);
        match &self.providers.balancer {
            Some(balancer) => tokio::select! {
                () = tasks => {}
                () = balancer.changed(&self.service, at_most) => {}
            },
            None => tasks.await,
        }
    }

    /// Returns when a place that was healthy is not any more. A candidate that dies while it is watched is not
    /// promoted because its provider restarts it.
    pub(super) async fn guard(&self, place: Place, count: u32, routing: Option<Routing>) -> Error {
        let (mut lacking, mut foreign) = (Lacking::default(), 0);
        loop {
            let mut at_most = QUIET;
            match self.look(place).await {
                Ok(look) => {
                    self.show_tasks(place, look.takes_requests(), count);
                    let other =
                        look.routing.is_some() && routing.is_some() && look.routing != routing;
                    foreign = if other { foreign + 1 } else { 0 };
                    if foreign >= SEEN_TWICE
                        && let Some(there) = &look.routing
                    {
                        return foreign_routing(there);
                    }
                    if let Some(dead) = &look.dead {
                        return Error::new(ErrorKind::Unhealthy, format!("place {place}: {dead}"));
                    }
                    if let Some(error) = lacking.look(place, &look, count, self.now()) {
                        return error;
                    }
                    if look.takes_requests() >= count && !other {
                        at_most = CALM;
                    }
                }
                // What cannot be seen says nothing about the candidate.
                Err(error) => {
                    tracing::debug!(error = error.report(), "the candidate cannot be seen")
                }
            }
            self.changed(at_most).await;
        }
    }

    /// Tells how healthy a place is, where that is not what was told last, in whichever wait or watch.
    fn show_tasks(&self, place: Place, healthy: u32, wanted: u32) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.insert(place, (healthy, wanted)) != Some((healthy, wanted)) {
            self.show(UpdateKind::Tasks { place, healthy, wanted });
        }
    }

    /// Looks at a place, and gives the balancer the targets that it has.
    async fn look(&self, place: Place) -> Result<Look> {
        let Providers { orchestrator, balancer, .. } = &*self.providers;
        // Read before the tasks: a target without a task is then one that is gone, not one that somebody has just added.
        let seen = match balancer {
            Some(balancer) => {
                Some(balancer.quick("observe the balancer", balancer.observe(&self.service)).await?)
            }
            None => None,
        };
        let state =
            orchestrator.quick("observe the tasks", orchestrator.observe(&self.service)).await?;
        let Some(state) = state.place(place) else {
            return Ok(Look {
                desired: 0,
                ready: 0,
                healthy: 0,
                dead: None,
                trouble: Some("it has no tasks".to_owned()),
                routing: None,
            });
        };
        let dead = state.tasks.iter().find_map(|task| match &task.state {
            TaskState::Failed { why } => Some(format!("task {}: {why}", task.id)),
            _ => None,
        });
        let (ready, trouble) = (state.ready(), state.trouble());
        let Some((balancer, mut seen)) = balancer.as_ref().zip(seen) else {
            return Ok(Look {
                desired: state.desired,
                ready,
                healthy: ready,
                dead,
                trouble,
                routing: None,
            });
        };
        // One that was ready once stays: the balancer's own checks keep requests from it while it is not, and give it back when
        // it is. But one that drained takes no requests again before it was removed: the next look adds it anew.
        let is_of = |target: &Target, task: &Task| {
            target.task == task.id && Some(&target.address) == task.address.as_ref()
        };
        let stays = |target: &Target| {
            state.tasks.iter().any(|task| is_of(target, task))
                && (target.health != TargetHealth::Draining || target.in_flight > 0)
        };
        let leaving = seen.targets_of(place).filter(|target| !stays(target));
        let leaving: Vec<TaskId> = leaving.map(|target| target.task.clone()).collect();
        let coming = state.tasks.iter().filter(|task| {
            let is_known = seen.targets_of(place).any(|target| is_of(target, task));
            task.state == TaskState::Ready && !is_known
        });
        let coming: Vec<Endpoint> = coming
            .filter_map(|task| {
                Some(Endpoint { task: task.id.clone(), address: task.address.clone()? })
            })
            .collect();
        if !leaving.is_empty() {
            self.remove_targets(place, &leaving).await?;
        }
        if !coming.is_empty() {
            let added = balancer.add_targets(&self.service, place, &coming);
            balancer.quick("add the targets", added).await?;
        }
        if !leaving.is_empty() || !coming.is_empty() {
            seen = balancer.quick("observe the balancer", balancer.observe(&self.service)).await?;
        }
        // A target is only as good as the task behind it.
        let healthy = seen.targets_of(place).filter(|target| {
            target.health == TargetHealth::Healthy
                && state.tasks.iter().any(|t| t.id == target.task && t.state == TaskState::Ready)
        });
        Ok(Look {
            desired: state.desired,
            ready,
            healthy: u32::try_from(healthy.count()).unwrap_or(u32::MAX),
            dead,
            trouble,
            routing: Some(seen.routing),
        })
    }
}
