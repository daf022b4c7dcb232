use deploykit_testing::{Blow, Part};
use tokio::runtime::Builder;

use crate::dice::Dice;
use crate::sky::{Case, Deed, SECOND, VERSIONS, blue_green, canary, rolling};
use deploykit_core::{ErrorKind, OnOrphan, Place, Point, Routing, Weight};
use std::time::Duration;

#[derive(Clone, Copy, Default)]
struct Kind {
    steer: bool,
    blow: bool,
    foreign: bool,
    hooks: bool,
    versions: bool,
    replicas: bool,
}

fn case(seed: u64, kind: Kind) -> Case {
    let mut dice = Dice::new(seed);
    let worker = dice.odds(20);
    let count = dice.roll(1, 12);
    let (strategy, bounds) = match dice.roll(0, 9) {
        0..6 => {
            let (s, b) = rolling(&mut dice);
            (s, Some(b))
        }
        6..9 if !worker => (canary(&mut dice), None),
        _ => (blue_green(&mut dice), None),
    };
    let mut case = Case {
        seed,
        count,
        worker,
        strategy,
        bounds,
        lag: dice.pick(&[Duration::ZERO, Duration::ZERO, SECOND, SECOND * 20]),
        version: "good",
        replicas: None,
        hooks: vec![],
        deeds: vec![],
        blow: None,
        orphan: dice.pick(&[OnOrphan::Undo, OnOrphan::Continue]),
    };
    if kind.versions {
        case.version = dice.pick(&VERSIONS);
    }
    if kind.replicas && dice.odds(40) {
        case.replicas = Some(dice.roll(1, 12));
    }
    if kind.hooks {
        // No case has a test route.
        let of_test = [Point::TestTrafficShift, Point::PostTestTrafficShift];
        let points: Vec<_> = Point::all().filter(|point| !of_test.contains(point)).collect();
        for _ in 0..dice.roll(1, 3) {
            case.hooks.push((
                dice.pick(&points),
                dice.pick(&["ok", "ok", "slow", "fails", "panics", "hangs"]),
            ));
        }
    }
    let mut at = 0;
    if kind.steer {
        for _ in 0..dice.roll(1, 4) {
            at += dice.roll(1, 6_000);
            let deed = match dice.roll(0, 9) {
                0..4 => Deed::Abort,
                4 => Deed::Pause,
                5 => Deed::Unpause,
                6 => Deed::Finish,
                7 => Deed::Approve,
                8 => Deed::Reject,
                _ => Deed::Clock(i64::from(dice.roll(0, 7_200_000)) - 3_600_000),
            };
            let pauses = matches!(deed, Deed::Pause);
            case.deeds.push((Duration::from_millis(at.into()), deed));
            if pauses {
                at += dice.roll(1, 6_000);
                case.deeds.push((Duration::from_millis(at.into()), Deed::Unpause));
            }
        }
    }
    if kind.foreign {
        for _ in 0..dice.roll(1, 3) {
            at += dice.roll(1, 5_000);
            let place = dice.pick(&[Place::A, Place::B]);
            let deed = match dice.roll(0, 9) {
                0..4 => Deed::Kill(place, dice.roll(0, count) as usize),
                4..8 => {
                    let n = dice.roll(1, 12);
                    let n = dice.pick(&[0, 1, n, n]);
                    Deed::Scale(place, n)
                }
                8 => Deed::Route(dice.pick(&[
                    Routing::all_to(Place::A),
                    Routing::all_to(Place::B),
                    Routing::Pooled,
                    Routing::Closed,
                    Routing::split(Place::A, Place::B, Weight::percent(33).unwrap()),
                ])),
                _ => Deed::Rival,
            };
            case.deeds.push((Duration::from_millis(at.into()), deed));
        }
    }
    if kind.blow {
        let blow = dice.pick(&[
            Blow::Die,
            Blow::Die,
            Blow::Fail(ErrorKind::Denied),
            Blow::Fail(ErrorKind::Unavailable),
            Blow::Lost,
            Blow::Hang,
        ]);
        let times = if blow == Blow::Die { 1 } else { dice.pick(&[1, 1, 3, 12]) };
        case.blow = Some((
            u64::from(dice.roll(1, 160)),
            times,
            blow,
            dice.pick(&[Part::Provider, Part::Store, Part::All]),
        ));
    }
    case
}

/// Runs the cases of a kind, and of some dozen seeds; `STORM=1000..2000` runs others.
fn storm(kind: Kind) {
    let asked = std::env::var("STORM").unwrap_or_else(|_| "3..15".to_owned());
    let (from, to) = asked.split_once("..").expect("STORM is a range such as 1000..2000");
    let (from, to): (u64, u64) = (from.parse().unwrap(), to.parse().unwrap());
    let mut bad = Vec::new();
    for seed in from..to {
        let case = case(seed, kind);
        let runtime =
            Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        if let Err(why) = runtime.block_on(case.run()) {
            bad.push(format!("=== seed {seed}: {why}\n{case:?}"));
        }
    }
    assert!(bad.is_empty(), "{} bad:\n{}", bad.len(), bad.join("\n"));
}

#[test]
fn every_strategy_gets_there_with_every_kind_of_version_or_back() {
    storm(Kind { versions: true, ..Kind::default() });
}

#[test]
fn whatever_people_ask_for_ends_as_the_report_says() {
    storm(Kind { steer: true, replicas: true, versions: true, ..Kind::default() });
}

#[test]
fn hooks_that_fail_hang_or_panic_leave_all_old_or_all_new() {
    storm(Kind { steer: true, hooks: true, ..Kind::default() });
}

#[test]
fn calls_that_fail_hang_or_kill_the_deployer_leave_all_old_or_all_new() {
    storm(Kind { blow: true, replicas: true, ..Kind::default() });
}

#[test]
fn what_others_change_meanwhile_leaves_all_old_or_all_new() {
    storm(Kind { foreign: true, ..Kind::default() });
}

#[test]
fn everything_at_once_leaves_all_old_or_all_new() {
    storm(Kind {
        steer: true,
        blow: true,
        foreign: true,
        hooks: true,
        versions: true,
        replicas: true,
    });
}
