//! From a case that fails to the simplest one that still fails in the same way.

use deploykit_core::Amount;

use crate::case::{Case, Gate, Harm, Steps, Version, Way};
use crate::checks::Wrong;
use crate::run::run;

/// How many cases are tried at most.
const TRIES: usize = 600;

/// Takes the first simplification that still fails, until there is none.
pub(crate) fn shrink(case: &Case, what: Wrong) -> Case {
    let mut best = case.clone();
    let mut left = TRIES;
    while let Some(next) = simpler(&best).into_iter().find(|next| {
        left = left.saturating_sub(1);
        left > 0 && run(next, false).found.is_err_and(|failure| failure.what == what)
    }) {
        best = next;
    }
    best
}

/// All that is one step simpler, the greatest steps first.
fn simpler(case: &Case) -> Vec<Case> {
    let mut all = Vec::new();
    let mut offer = |change: &dyn Fn(&mut Case)| {
        let mut next = case.clone();
        change(&mut next);
        if next != *case {
            all.push(next);
        }
    };
    for n in 0..case.faults.len() {
        offer(&|case| {
            case.faults.remove(n);
        });
    }
    for n in 0..case.deeds.len() {
        offer(&|case| {
            case.deeds.remove(n);
        });
    }
    offer(&|case| case.hooks.clear());
    offer(&|case| case.jobs.clear());
    offer(&|case| case.replicas = None);
    offer(&|case| case.version = Version::Good);
    offer(&|case| case.calm = None);
    offer(&|case| case.count = 1);
    offer(&|case| case.count = case.count.div_ceil(2));
    offer(&|case| case.routing_lag = 0);
    offer(&|case| case.registration_lag = 50);
    offer(&|case| case.stale = 0);
    offer(&|case| case.throttle = None);
    offer(&|case| case.room = None);
    offer(&|case| case.rate = 2);
    offer(&|case| case.hooks.truncate(1));
    offer(&|case| case.jobs.truncate(1));
    offer(&|case| simplify(&mut case.way));
    offer(&|case| match &mut case.way {
        Way::BlueGreen { watch, validate, .. } => (*watch, *validate) = (None, None),
        Way::Canary { watch, approve, .. } => (*watch, *approve) = (None, None),
        Way::Rolling { watch, .. } => *watch = None,
    });
    offer(&|case| match &mut case.way {
        Way::BlueGreen { hold, .. } | Way::Canary { hold, .. } => *hold = 0,
        Way::Rolling { pooled, .. } => *pooled = false,
    });
    offer(&|case| match &mut case.way {
        Way::BlueGreen { watch, shares, bake, .. } if watch.is_none() || !shares.is_empty() => {
            *bake = 0
        }
        Way::Canary { bake, .. } => *bake = 0,
        Way::Rolling { watch: None, min_ready, .. } => *min_ready = 0,
        _ => {}
    });
    offer(&|case| match &mut case.way {
        Way::BlueGreen { validate: Some(gate), .. }
        | Way::BlueGreen { watch: Some(gate), .. }
        | Way::Canary { watch: Some(gate), .. }
        | Way::Rolling { watch: Some(gate), .. } => *gate = Gate::Good,
        _ => {}
    });
    offer(&|case| match &mut case.way {
        Way::BlueGreen { shares, .. } => drop(shares.pop()),
        Way::Canary { steps: Steps::Own(steps), approve: None, .. } if steps.len() > 1 => {
            steps.pop();
        }
        Way::Canary { follow, .. } => *follow = false,
        Way::Rolling { .. } => {}
    });
    for n in 0..case.faults.len() {
        offer(&|case| case.faults[n].times = 1);
        offer(&|case| case.faults[n].times = case.faults[n].times.div_ceil(2));
        offer(&|case| {
            if case.faults[n].blow == Harm::KillBefore {
                case.faults[n].blow = Harm::KillAfter;
            }
        });
    }
    for n in 0..case.deeds.len() {
        offer(&|case| case.deeds[n].0 = case.deeds[n].0 / 1_000 * 1_000);
    }
    all
}

fn simplify(way: &mut Way) {
    match way {
        Way::BlueGreen { shares, validate, watch, bake, .. } => {
            shares.clear();
            (*validate, *watch, *bake) = (None, None, 0);
        }
        Way::Canary { steps, watch, approve, bake, .. } => {
            *steps = Steps::Own(vec![(500, 100)]);
            (*watch, *approve, *bake) = (None, None, 0);
        }
        Way::Rolling { surge, unavailable, min_ready, watch, .. } => {
            (*surge, *unavailable) = (Amount::Count(1), Amount::Count(1));
            (*min_ready, *watch) = (0, None);
        }
    }
}
