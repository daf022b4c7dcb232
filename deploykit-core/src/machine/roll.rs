//! The batches of a roll.
//!
//! The arithmetic is that of Kubernetes' deployment controller: how many may be started follows from the surge, how many
//! may be stopped from what has to stay available, and tasks that are not ready go first.

use std::time::Duration;

use super::event::{Seen, Survey};
use super::op::{COMING_BACK, Op, Side};
use super::{
    Machine,
    facts::{Rolled, Span},
};
use crate::name::{Place, TaskId};
use crate::plan::{Roll, Step};
use crate::routing::{Routing, Weight};
use crate::time::Timestamp;

/// How often somebody may add tasks to the side that goes before it has become smaller: who adds them each time would
/// keep the roll going, and growing, for ever.
const MOST_ADDED: u32 = 5;

/// How long stable is awaited on the way back until tasks of the candidate make room for it. Most balancers find a good
/// target healthy sooner.
pub(super) const IN_VAIN: Duration = Duration::from_secs(60);

/// What is to be done next.
#[derive(Debug, PartialEq)]
pub(crate) enum Batch {
    /// Start tasks, so that there are this many.
    Start(u32),
    /// Stop so many, those that are not ready first.
    Stop(u32),
    /// Wait for those that were started.
    Await(u32),
    /// Nothing is left of the old side.
    Over,
}

/// The tasks of a side.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tasks {
    pub(crate) desired: u32,
    pub(crate) ready: u32,
}

/// The next batch from `old` to `new`, with `surge` tasks above `desired` at most and `unavailable` below at most.
pub(crate) fn batch(desired: u32, surge: u32, unavailable: u32, old: Tasks, new: Tasks) -> Batch {
    let total = old.desired.saturating_add(new.desired);
    let most = desired.saturating_add(surge);
    let start = most.saturating_sub(total).min(desired.saturating_sub(new.desired));
    if start > 0 {
        return Batch::Start(new.desired + start);
    }
    if new.ready < new.desired.min(desired) && old.desired == 0 {
        return Batch::Await(new.desired.min(desired));
    }
    if old.desired == 0 {
        return Batch::Over;
    }
    let least = desired.saturating_sub(unavailable);
    let not_ready = new.desired.saturating_sub(new.ready);
    let stoppable = total.saturating_sub(least).saturating_sub(not_ready).min(old.desired);
    let dead = old.desired.saturating_sub(old.ready).min(stoppable);
    let spare = (old.ready + new.ready).saturating_sub(least);
    match dead + (stoppable - dead).min(spare) {
        0 => Batch::Await(new.desired),
        stop => Batch::Stop(stop),
    }
}

impl Machine {
    /// The current roll's next operations, by what the service looks like.
    pub(super) fn rolled(&mut self, to: Side, survey: &Survey) {
        let Some(roll) = self.plan.steps.iter().find_map(|step| match step {
            Step::Roll(roll) => Some(roll.clone()),
            _ => None,
        }) else {
            return self.next();
        };
        let Some(stable) = self.plan.world.stable.as_ref().map(|stable| stable.place) else {
            return self.next();
        };
        let candidate = self.plan.candidate;
        let (at_stable, at_candidate) = (survey.place(stable), survey.place(candidate));
        let rolling = self.count_changes(to, at_stable, at_candidate);
        let (from, new, old_seen, new_seen) = match to {
            Side::Candidate => (stable, candidate, at_stable, at_candidate),
            Side::Stable => (candidate, stable, at_candidate, at_stable),
        };
        if rolling.added > MOST_ADDED {
            return self.failed(format!(
                "somebody else adds tasks to place {from} as fast as they are replaced"
            ));
        }
        let (old_tasks, new_tasks) = (tasks(old_seen), tasks(new_seen));
        let (surge, mut unavailable) = roll.bounds(rolling.desired);
        let planned = self.plan.replicas.unwrap_or(self.plan.world.desired);
        if surge > 0 && roll.bounds(planned).1 < planned {
            // A plan that leaves tasks does not leave none because somebody wants fewer of them.
            unavailable = unavailable.min(rolling.desired.saturating_sub(1));
        }
        if rolling.cramped {
            // As few as the way forward would have made do with.
            let enough = self.plan.replicas.unwrap_or(rolling.desired);
            unavailable += rolling.desired.saturating_sub(enough);
        }
        // A stable that was not whole when the rollout began is asked for what it had, not for more; but who answers requests
        // does not make way for nobody.
        let least = u32::from(old_tasks.ready > 0);
        let lacked = match (&self.facts.stable, to) {
            (Some(first), Side::Stable) => first.desired.saturating_sub(first.ready),
            _ => 0,
        };
        let mut as_good = new_tasks;
        if new_tasks.ready >= least {
            as_good.ready = new_tasks.ready.saturating_add(lacked).min(new_tasks.desired);
        }
        let (within, again) = match to {
            Side::Candidate => (roll.within, roll.within),
            Side::Stable => (COMING_BACK, IN_VAIN),
        };
        let healthy = |count: u32, within: Duration| Op::AwaitHealthy {
            side: to,
            place: new,
            count: count.saturating_sub(lacked).max(least.min(count)),
            within: within.min(again),
        };
        let mut ops = Vec::new();
        let dead = old_tasks.desired.saturating_sub(old_tasks.ready);
        let (next, awaited) = match batch(rolling.desired, surge, unavailable, old_tasks, as_good) {
            Batch::Await(_) if rolling.cramped && dead > 0 => (Batch::Stop(dead), 0),
            next if rolling.cramped => (next, new_tasks.ready),
            next => (next, new_tasks.desired),
        };
        match next {
            Batch::Over => {
                if lacked > 0 {
                    self.await_lacking_last(new, rolling.desired);
                }
                return self.next();
            }
            Batch::Await(count) => {
                // Tasks that are healthy at one look and not at the next are awaited once, not again and again.
                let since = self.waits_since();
                let within = within.saturating_sub(self.now.since(since));
                // One that is not ready may be dead for good and count all the same.
                if to == Side::Stable && as_good.ready < count {
                    ops.push(Op::Launch { place: new, count });
                }
                ops.push(healthy(count, within));
            }
            Batch::Start(count) => {
                self.may_have(to, count);
                if to == Side::Stable {
                    ops.push(Op::Register { side: to });
                }
                ops.push(Op::Launch { place: new, count });
                ops.push(healthy(count, within));
                if to == Side::Candidate && !roll.min_ready.is_zero() {
                    // What is watched has its share of the requests.
                    ops.extend(self.share(&roll, from, old_tasks.ready, new, count, to));
                    ops.push(Op::Soak { time: roll.min_ready, gates: roll.gates.clone() });
                }
            }
            Batch::Stop(count) => {
                let stop: Vec<TaskId> = old_seen
                    .into_iter()
                    .flat_map(|seen| {
                        seen.tasks.iter().take(usize::try_from(count).unwrap_or(usize::MAX))
                    })
                    .cloned()
                    .collect();
                let left = old_tasks.ready.saturating_sub(count - dead.min(count));
                // A task can be ready without the balancer knowing it: what was being drained when the roll turned back, or
                // was launched by a deployer that died.
                if awaited > 0 {
                    ops.push(healthy(awaited, within));
                    ops.extend(self.share(&roll, from, left, new, new_tasks.ready, to));
                }
                self.may_have(other(to), old_seen.map_or(0, |seen| seen.desired) - count);
                let others = left > 0 || new_tasks.ready > 0;
                let (tasks, within) = (stop.clone(), roll.drain);
                ops.push(Op::Drain { place: from, tasks, others, within });
                ops.push(Op::Stop { place: from, tasks: stop });
            }
        }
        ops.push(Op::Roll { to });
        for op in ops.into_iter().rev() {
            self.queue.push_front(op);
        }
        self.next();
    }

    /// Counts that are not what was left behind are somebody's wish for more or fewer tasks.
    fn count_changes(
        &mut self,
        to: Side,
        stable: Option<&Seen>,
        candidate: Option<&Seen>,
    ) -> Rolled {
        let count = |seen: Option<&Seen>| seen.map_or(0, |seen| seen.desired);
        let (stable, candidate) = (count(stable), count(candidate));
        let found = i64::from(stable) + i64::from(candidate);
        let changed = self.facts.roll.map_or(0, |before| {
            let least = i64::from(before.stable.least) + i64::from(before.candidate.least);
            let most = i64::from(before.stable.most) + i64::from(before.candidate.most);
            before.changed + (found - most).max(0) + (found - least).min(0)
        });
        let first = self.facts.stable.as_ref().map_or(0, |first| first.desired);
        let first = if first == 0 { self.plan.world.desired } else { first };
        let with =
            |changed: i64| u32::try_from((i64::from(first) + changed).max(1)).unwrap_or(u32::MAX);
        let own = with(changed);
        if let Some(before) = self.facts.roll.filter(|before| before.changed != changed) {
            let before = with(before.changed);
            let note = format!("somebody changed the desired count from {before} to {own}");
            self.facts.notes.push(note);
        }
        let desired = match to {
            Side::Candidate => self.plan.replicas.unwrap_or(own),
            // What was asked for is for the new version only.
            Side::Stable => own,
        };
        let goes = if to == Side::Candidate { stable } else { candidate };
        let (fewest, added) = self.facts.roll.map_or((None, 0), |mut before| {
            let is_added = goes > before.of(other(to)).most;
            (before.fewest, before.added + u32::from(is_added))
        });
        let added = if fewest.is_none_or(|fewest| goes < fewest) { 0 } else { added };
        let fewest = Some(fewest.map_or(goes, |fewest| fewest.min(goes)));
        self.facts.needed = candidate;
        let waits = self.facts.roll.and_then(|before| before.waits);
        let cramped = self.facts.roll.is_some_and(|before| before.cramped);
        let (stable, candidate) = (Span::exactly(stable), Span::exactly(candidate));
        let rolling = Rolled { desired, changed, stable, candidate, fewest, added, waits, cramped };
        self.facts.roll = Some(rolling);
        rolling
    }

    /// A change of a side to so many tasks is begun: until it is done, there may be as many as before, or anything between.
    fn may_have(&mut self, side: Side, count: u32) {
        if let Some(rolling) = &mut self.facts.roll {
            let span = rolling.of(side);
            (span.least, span.most) = (span.least.min(count), span.most.max(count));
            rolling.waits = None;
            if side == Side::Candidate {
                self.facts.needed = count;
            }
        }
    }

    fn waits_since(&mut self) -> Timestamp {
        let now = self.now;
        self.facts.roll.as_mut().map_or(now, |rolling| *rolling.waits.get_or_insert(now))
    }

    /// The shares that follow the tasks, where shares are set at all.
    fn share(
        &self,
        roll: &Roll,
        from: Place,
        left: u32,
        to: Place,
        ready: u32,
        side: Side,
    ) -> Option<Op> {
        if self.plan.is_worker() || ready == 0 {
            return None;
        }
        let undoing = side == Side::Stable;
        if roll.pooled {
            // It is so already, unless somebody else has changed it: then no task may go that requests are sent to.
            return Some(Op::Route { to: Routing::Pooled, undoing });
        }
        let weight = Weight::ratio(ready, ready.saturating_add(left)).ok()?;
        // On the way back the candidate is never given more than it has.
        let has = self.facts.routings.last().filter(|_| side == Side::Stable);
        let weight = weight.max(has.map_or(Weight::NONE, |routing| routing.weight(to)));
        Some(Op::Route { to: Routing::split(from, to, weight), undoing })
    }
}

fn tasks(seen: Option<&Seen>) -> Tasks {
    seen.map_or(Tasks::default(), |seen| Tasks {
        // Where nobody replaces tasks that are gone, the desired count says more than there is.
        desired: seen.desired.min(u32::try_from(seen.tasks.len()).unwrap_or(u32::MAX)),
        ready: seen.ready.min(seen.desired),
    })
}

fn other(side: Side) -> Side {
    match side {
        Side::Candidate => Side::Stable,
        Side::Stable => Side::Candidate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rolls with tasks that become ready at once; gives every pair of counts on the way.
    fn roll(desired: u32, surge: u32, unavailable: u32) -> Vec<(u32, u32)> {
        let all = |n| Tasks { desired: n, ready: n };
        let (mut old, mut new, mut seen) = (desired, 0, vec![(desired, 0)]);
        for _ in 0..1_000 {
            match batch(desired, surge, unavailable, all(old), all(new)) {
                Batch::Start(count) => new = count,
                Batch::Stop(count) => old -= count,
                Batch::Await(_) => panic!("waits for what is ready: {seen:?}"),
                Batch::Over => return seen,
            }
            seen.push((old, new));
        }
        panic!("no end: {seen:?}");
    }

    #[test]
    fn capacity_stays_within_its_bounds_and_the_roll_ends() {
        for desired in 1..12 {
            for (surge, unavailable) in [(1, 0), (0, 1), (1, 1), (3, 0), (0, 3), (2, 5)] {
                let unavailable = unavailable.min(desired);
                let seen = roll(desired, surge, unavailable);
                assert_eq!(seen.last(), Some(&(0, desired)));
                for (old, new) in seen {
                    assert!(old + new <= desired + surge && old + new >= desired - unavailable);
                }
            }
        }
    }

    #[test]
    fn tasks_that_are_not_ready_go_first_and_cost_no_availability() {
        let old = Tasks { desired: 4, ready: 2 };
        // Two of four are dead already: with one more wanted and none to spare, only the dead may go.
        assert_eq!(batch(4, 0, 1, old, Tasks::default()), Batch::Stop(1));
        assert_eq!(batch(4, 1, 0, old, Tasks { desired: 1, ready: 1 }), Batch::Stop(1));
    }

    #[test]
    fn nothing_is_stopped_while_the_new_tasks_are_not_ready() {
        let new = Tasks { desired: 1, ready: 0 };
        assert_eq!(batch(4, 1, 0, Tasks { desired: 4, ready: 4 }, new), Batch::Await(1));
    }
}
