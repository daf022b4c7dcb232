//! Changes of the routing and of the test route, and draining: each read back before anything depends on it.

use std::time::Duration;

use tokio::time::sleep;

use super::perform::{Answer, INSIST, Performer};
use super::retry::Patience;
use super::update::UpdateKind;
use crate::error::{Error, ErrorKind, Result};
use crate::machine::Change;
use crate::name::{Place, TaskId};
use crate::provider::{BalancerState, Target, TargetHealth};
use crate::routing::{Routing, Weight};
use crate::time::Timestamp;

/// How often a value has to be read before it counts as settled.
const SETTLED: u32 = 2;
/// Between two reads, at first and at most.
const FIRST_READ: Duration = Duration::from_millis(10);
const LONGEST_READ: Duration = Duration::from_secs(1);
/// A change that does not show after this long is made again.
const REPEAT: Duration = Duration::from_secs(15);

/// What to do about a state that was read.
enum Next {
    /// It is what is wanted.
    Good,
    /// It is not, and the change may be made, or made again.
    Change,
    /// It is good enough, for this reason.
    Leave(String),
    /// Read again before anything else.
    Again,
}

impl Performer {
    pub(super) async fn route(&self, change: Change) -> Result<Answer> {
        let balancer = self.balancer()?;
        let mut foreign = 0;
        let judge = |state: &BalancerState| {
            let routing = &state.routing;
            if *routing == change.to {
                return Ok(Next::Good);
            }
            // A change that does not show is made again, and much can happen until then.
            let candidate = self.candidate;
            if change.leaving.is_none()
                && change.to.weight(candidate) != Weight::NONE
                && state.healthy(candidate) == 0
            {
                let what = format!("place {candidate} has no healthy target to send requests to");
                return Err(Error::new(ErrorKind::Unhealthy, what).with_temporary(true));
            }
            if let Some(stable) = change.needs
                && state.healthy(stable) == 0
            {
                let what = format!("place {stable} has no healthy target to take requests back");
                return Err(Error::new(ErrorKind::Unhealthy, what));
            }
            // What we set ourselves is lag; anything else, seen twice running, is somebody else's change.
            if change.ours.contains(routing) {
                foreign = 0;
                return Ok(Next::Change);
            }
            foreign += 1;
            if foreign < SETTLED {
                return Ok(Next::Again);
            }
            match change.leaving {
                // On the way back, all that matters is that the candidate gets no requests.
                Some(place)
                    if *routing != Routing::Pooled && routing.weight(place) == Weight::NONE =>
                {
                    Ok(Next::Leave(format!(
                        "somebody else set the routing to {routing}; it was left so"
                    )))
                }
                Some(_) => Ok(Next::Change),
                None => Err(foreign_routing(routing)),
            }
        };
        let note = self
            .settle("set the routing", change.unconfirmed, judge, || {
                balancer.set_routing(&self.service, &change.to)
            })
            .await?;
        self.show(UpdateKind::Routing { routing: change.to.clone() });
        Ok(Answer::Done(note))
    }

    pub(super) async fn test_route(
        &self,
        place: Option<Place>,
        unconfirmed: bool,
    ) -> Result<Answer> {
        let balancer = self.balancer()?;
        let judge = |state: &BalancerState| {
            Ok(if state.test_route == place { Next::Good } else { Next::Change })
        };
        self.settle("set the test route", unconfirmed, judge, || {
            balancer.set_test_route(&self.service, place)
        })
        .await?;
        Ok(Answer::Done(None))
    }

    /// Reads, changes where that is needed, and reads back until the wanted value was seen often enough.
    async fn settle<F>(
        &self,
        what: &str,
        unconfirmed: bool,
        mut judge: impl FnMut(&BalancerState) -> Result<Next> + Send,
        change: impl Fn() -> F + Send + Sync,
    ) -> Result<Option<String>>
    where
        F: Future<Output = Result<()>> + Send,
    {
        let balancer = self.balancer()?;
        let mut patience = Patience::new(INSIST + balancer.capability().lag);
        let (mut good, mut pause) = (0, FIRST_READ);
        let mut changed: Option<Timestamp> = None;
        // A change that was never read back may yet show. What is wanted now is set after it whatever is read, and believed
        // when the earlier one cannot come any more.
        let lag = if unconfirmed { balancer.capability().lag } else { Duration::ZERO };
        loop {
            let due = changed.is_none_or(|at: Timestamp| self.now().since(at) >= REPEAT);
            let unsure = unconfirmed && changed.is_none();
            let next: Result<Next> = async {
                let next = judge(
                    &balancer.quick("read the balancer", balancer.observe(&self.service)).await?,
                )?;
                if matches!(next, Next::Change) && due || matches!(next, Next::Good) && unsure {
                    balancer.quick(what, change()).await?;
                }
                Ok(next)
            }
            .await;
            let is_over = patience.after(next.as_ref().err()).is_zero();
            match next {
                Ok(Next::Good) if unsure => changed = Some(self.now()),
                Ok(Next::Good) if changed.is_some_and(|at| self.now().since(at) < lag) => good = 0,
                Ok(Next::Good) if good + 1 >= SETTLED => return Ok(None),
                Ok(Next::Good) => good += 1,
                Ok(Next::Leave(note)) => return Ok(Some(note)),
                Ok(Next::Again) => good = 0,
                Ok(Next::Change) => {
                    good = 0;
                    if due {
                        (changed, pause) = (Some(self.now()), FIRST_READ);
                    }
                }
                Err(error) if error.is_temporary() && !is_over => good = 0,
                Err(error) => return Err(error),
            }
            if is_over {
                return Err(Error::new(ErrorKind::Timeout, format!("{what}: it was accepted, and never shows when read back"))
                    .with_hint("look whether something else sets it, or whether the balancer's own state is full"));
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_READ);
        }
    }

    /// Drains these tasks of a place, all where none are named, and removes them from the balancer. Where there have to be
    /// `others`, that is `Unhealthy` when requests would find nobody else.
    pub(crate) async fn drain(
        &self,
        place: Place,
        tasks: &[TaskId],
        others: bool,
        within: Duration,
    ) -> Result<Answer> {
        let Some(balancer) = &self.providers.balancer else {
            return Ok(Answer::Done(None));
        };
        let leaves = |target: &Target| {
            target.place == place && (tasks.is_empty() || tasks.contains(&target.task))
        };
        // Read anew at each attempt: much can happen while the balancer does not answer.
        let begin = || async {
            let state = self.left_alone(place, tasks).await?;
            if others && takes_all(&state, place, &leaves) {
                let what = format!(
                    "place {place}, which gets requests, would have no healthy target left"
                );
                return Err(Error::new(ErrorKind::Unhealthy, what));
            }
            let leaving = state.targets.iter().filter(|target| leaves(target));
            let names: Vec<TaskId> = leaving.map(|target| target.task.clone()).collect();
            if !names.is_empty() {
                balancer.quick("drain", balancer.drain(&self.service, place, &names)).await?;
            }
            Ok(names)
        };
        if self.insist(INSIST, begin).await?.is_empty() {
            return Ok(Answer::Done(None));
        }
        let until = self.now().plus(within);
        let (mut idle, mut shown, mut pause) = (0, None, FIRST_READ);
        let mut note = None;
        let leaving = loop {
            let state = self.insist(INSIST, || self.left_alone(place, tasks)).await?;
            let leaving: Vec<&Target> = state.targets.iter().filter(|t| leaves(t)).collect();
            if leaving.is_empty() {
                return Ok(Answer::Done(None));
            }
            let requests = leaving.iter().map(|target| target.in_flight).sum();
            idle = if requests == 0 { idle + 1 } else { 0 };
            if shown.replace(requests) != Some(requests) {
                self.show(UpdateKind::InFlight { place, requests });
            }
            let over = self.now() >= until;
            if idle >= SETTLED || over {
                if idle < SETTLED {
                    note = Some(format!(
                        "place {place}: requests still in flight at the drain deadline were cut: {requests}"
                    ));
                }
                break leaving.iter().map(|target| target.task.clone()).collect::<Vec<_>>();
            }
            sleep(pause.min(until.since(self.now()))).await;
            pause = (pause * 2).min(LONGEST_READ / 10);
        };
        self.insist(INSIST, || self.remove_targets(place, &leaving)).await?;
        Ok(Answer::Done(note))
    }

    pub(super) async fn remove_targets(&self, place: Place, tasks: &[TaskId]) -> Result<()> {
        let balancer = self.balancer()?;
        let removed = balancer.remove_targets(&self.service, place, tasks);
        balancer.quick("remove the targets", removed).await
    }

    /// What the balancer shows. A whole place that is to be removed gets no requests, unless somebody else sends them there:
    /// that is `Foreign`.
    async fn left_alone(&self, place: Place, tasks: &[TaskId]) -> Result<BalancerState> {
        let balancer = self.balancer()?;
        let mut routed = 0;
        loop {
            let state =
                balancer.quick("read the balancer", balancer.observe(&self.service)).await?;
            let routed_there =
                state.routing == Routing::Pooled || state.routing.weight(place) != Weight::NONE;
            if !tasks.is_empty() || !routed_there {
                return Ok(state);
            }
            routed += 1;
            if routed >= SETTLED {
                return Err(foreign_routing(&state.routing));
            }
            sleep(FIRST_READ).await;
        }
    }
}

/// Whether requests that come to a place find a healthy target now, and none any more without those that leave.
fn takes_all(state: &BalancerState, place: Place, leaves: &impl Fn(&Target) -> bool) -> bool {
    let pooled = state.routing == Routing::Pooled;
    if !pooled && state.routing.weight(place) == Weight::NONE {
        return false;
    }
    let healthy = state.targets.iter().filter(|target| {
        target.health == TargetHealth::Healthy && (pooled || target.place == place)
    });
    let (leaving, left): (Vec<_>, Vec<_>) = healthy.partition(|target| leaves(target));
    !leaving.is_empty() && left.is_empty()
}

pub(super) fn foreign_routing(routing: &Routing) -> Error {
    let message = format!(
        "the routing is {routing}, which this rollout did not set: somebody else changes it"
    );
    Error::new(ErrorKind::Foreign, message)
}
