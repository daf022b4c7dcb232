//! What has to hold in every case.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use deploykit_core::{ErrorKind, Outcome, Place, Plan, Report, Routing, Step, Weight};
use deploykit_testing::{Breach, Mutation, PlaceSnapshot, Snapshot, Violation, World};

use crate::case::{self, Case, Deed, Harm, SECOND, SLOW_STOP, Version, Way};

/// What is wrong with a case.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) what: Wrong,
    pub(crate) why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wrong {
    /// It cannot be planned.
    NoPlan,
    Panicked,
    /// A rule that the world watches was broken.
    Unsafe,
    /// Requests were lost.
    Lost,
    /// A routing was set that the plan does not know, or whose shares are not a whole.
    Routing,
    /// A rolling update left its bounds.
    Bounds,
    /// It comes to no end, or to one that nobody gets away from.
    Hangs,
    /// It took longer than its plan can take.
    Late,
    /// The report says what is not so.
    Untrue,
    /// It needs an operator though nothing lasting was in the way.
    Unjustified,
    /// It has another number of tasks than it should.
    Unwhole,
    /// It is neither all new nor all old, or something is left that nobody owns.
    Unowned,
}

pub(crate) fn wrong<T>(what: Wrong, why: impl Into<String>) -> Result<T, Failure> {
    Err(Failure { what, why: why.into() })
}

/// How long a plan can take at most once nothing strikes any more: forward with every deadline used up, back the same way,
/// and what an undo waits for stable.
pub(crate) fn bound(case: &Case, plan: &Plan) -> Duration {
    let paused = case.has(|deed| *deed == Deed::Pause);
    // With what a rival is waited for at most.
    let day = if paused { SECOND * 90_000 } else { Duration::ZERO };
    let deeds = case.deeds.last().map_or(0, |(at, _)| *at);
    plan.estimate().most * 2 + SECOND * 1_200 + day + case::ms(deeds)
}

/// Whether the routings that were set are whole, and on the way of the plan.
pub(crate) fn routings(plan: &Plan, mutations: &[Mutation]) -> Result<(), String> {
    let shares: BTreeSet<Weight> = plan
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Shift { weight } => Some(*weight),
            _ => None,
        })
        .chain([Weight::NONE, Weight::ALL])
        .collect();
    let rolls = plan.steps.iter().any(|step| matches!(step, Step::Roll(_)));
    for mutation in mutations {
        let Mutation::Routing(routing) = mutation else { continue };
        if let Routing::Weighted(_) = routing {
            let all = routing.places().map(|place| routing.weight(place).get());
            if all.sum::<u16>() != Weight::ALL.get() {
                return Err(format!("the shares of {routing} are no whole"));
            }
        }
        if !rolls && !shares.contains(&routing.weight(plan.candidate)) {
            return Err(format!("the routing {routing} is none of the plan"));
        }
    }
    Ok(())
}

/// Whether a report tells what there is. `before` is what there was when it began.
pub(crate) fn report(
    case: &Case,
    report: &Report,
    before: &Snapshot,
    now: &Snapshot,
    undisturbed: bool,
) -> Result<(), String> {
    match &report.outcome {
        Outcome::Promoted => {
            // What could not be removed is an obligation, and a note.
            let obliged = report.notes.iter().any(|n| n.contains("retire") || n.contains("drain"));
            if obliged {
                return Ok(());
            }
            let serves = now.places.get(&report.candidate).map(|place| place.desired);
            let routed = case.worker || now.routing == Routing::all_to(report.candidate);
            if serves != Some(case.new_count()) || !routed {
                return Err(format!("promoted, and it is not so:\n{now}"));
            }
            let held = report.notes.iter().any(|note| note.contains("held"));
            let left =
                |place: &&PlaceSnapshot| place.tasks > 0 || (!case.worker && place.targets > 0);
            if undisturbed && !held && now.places.values().filter(left).count() != 1 {
                return Err(format!("promoted, and something is left:\n{now}"));
            }
            Ok(())
        }
        Outcome::RolledBack | Outcome::Aborted { .. } => {
            let (mut was, mut is) = (before.clone(), now.clone());
            if case.worker {
                // A worker's world has a balancer that nobody uses.
                is.routing = was.routing.clone();
                for place in was.places.values_mut().chain(is.places.values_mut()) {
                    (place.targets, place.healthy) = (0, 0);
                }
            }
            if was == is { Ok(()) } else { Err(format!("undone, and it is not as it was:\n{now}")) }
        }
        _ => Ok(()),
    }
}

/// The rules of safety that were broken.
pub(crate) fn violations(case: &Case, world: &World) -> Vec<String> {
    if case.has_gap() || case.worker {
        return Vec::new();
    }
    let scaled = case.has(|deed| matches!(deed, Deed::Scale(..)));
    let is_roll = matches!(case.way, Way::Rolling { .. });
    let lacked = is_roll && case.has(|deed| matches!(deed, Deed::Kill(Place::A, _)));
    let throttled = case.throttle.is_some()
        || case.faults.iter().any(|fault| fault.blow == Harm::Fail(ErrorKind::Throttled));
    // What is done follows what was read right before, and somebody can be faster; a provider that throttles lets wait for some
    // seconds between the two, what is read may be old, and a call may be long on its way.
    let slow = case.faults.iter().filter_map(|fault| match fault.blow {
        Harm::Slow(time) => Some(time),
        _ => None,
    });
    // Whoever removes what stops slowly waits as long.
    let stops = if case.version == Version::SlowStop { SLOW_STOP.as_secs() * 1_000 } else { 0 };
    let slowest = slow.max().unwrap_or_default().max(stops);
    let wait = if throttled { 10_000 } else { 0 };
    let reach = Duration::from_millis(100 + case.stale + slowest + wait);
    let meanwhile = |found: &Violation| {
        case.deeds.iter().any(|(at, deed)| {
            let since = found.at.checked_sub(Duration::from_millis(*at));
            matches!(deed, Deed::Route(_) | Deed::Scale(..) | Deed::Kill(..))
                && since.is_some_and(|since| since < reach)
        })
    };
    let emptied = case.has(|deed| matches!(deed, Deed::Scale(Place::A, 0)));
    let is_late = slowest > 0 || throttled || case.stale > 0;
    let counts = |found: &&Violation| match found.breach {
        // Whoever is given more tasks by somebody else needs no more of them than stable has; and a stable that lacked a task
        // when the rollout began is not waited for longer than the others. Where there is no room, the requests follow the tasks.
        // A provider that does not answer for a minute looks like one without room.
        Breach::BelowCapacity => !(scaled || lacked || is_roll && (case.room.is_some() || is_late)),
        // What somebody else registers while a call is on its way, or was made by an old read, that call does not know.
        Breach::NotDrained => !(scaled && (is_late || found.what.ends_with("with 0 requests"))),
        // What was healthy by the read that led to a call may not be any more when it arrives.
        // Who takes all tasks from stable has requests fail already.
        Breach::NoHealthyTarget => !(case.version.is_treacherous() || meanwhile(found) || emptied),
        // Nor does an old read show who sent requests there, nor does a call on its way.
        Breach::SentToStopping => !(is_late && case.is_foreign()),
        _ => true,
    };
    world.violations().iter().filter(counts).map(ToString::to_string).collect()
}

/// Whether a rolling update kept its bounds, by what there was at each change: ready tasks, and all of them.
pub(crate) fn bounds(case: &Case, seen: &[(Duration, (usize, usize))]) -> Result<(), String> {
    let Some((surge, unavailable)) = case.way.bounds() else { return Ok(()) };
    if case.is_foreign() || case.version.is_treacherous() {
        return Ok(());
    }
    let (few, many) = (case.count.min(case.new_count()), case.count.max(case.new_count()));
    let bound = |count| case::bound(surge, unavailable, count);
    let least = few - bound(few).1.max(bound(many).1).min(few);
    let most = many + bound(many).0.max(bound(few).0);
    for (at, (ready, all)) in seen {
        if *ready < least as usize || *all > most as usize {
            return Err(format!(
                "at {at:?} {ready} ready, {all} in all; the bounds are {least} to {most}"
            ));
        }
    }
    Ok(())
}

/// What was changed in the world, for people and to compare two runs.
pub(crate) fn add_calls(trace: &mut String, world: &World) {
    trace.push_str("--- calls that changed something, or failed\n");
    for call in world.calls().iter().filter(|call| call.changed || call.error.is_some()) {
        let _ = writeln!(trace, "{call}");
    }
    for violation in world.violations() {
        let _ = writeln!(trace, "VIOLATION {violation}");
    }
}
