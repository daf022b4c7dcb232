//! Every strategy, with whatever chance brings.

use crate::draw::{Kind, case};
use crate::run::run;

/// Runs the cases of a kind, and of some dozen seeds.
fn storm(kind: Kind) {
    let mut bad = Vec::new();
    for seed in 3..20 {
        let case = case(seed, kind);
        if let Err(failure) = run(&case, false).found {
            let json = serde_json::to_string(&case).unwrap();
            bad.push(format!("=== {json}\n{:?}: {}", failure.what, failure.why));
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
fn hooks_and_jobs_that_fail_hang_or_panic_leave_all_old_or_all_new() {
    storm(Kind { steer: true, hooks: true, ..Kind::default() });
}

#[test]
fn calls_that_fail_hang_or_kill_the_deployer_leave_all_old_or_all_new() {
    storm(Kind { faults: true, replicas: true, ..Kind::default() });
}

#[test]
fn what_others_change_meanwhile_leaves_all_old_or_all_new() {
    storm(Kind { foreign: true, ..Kind::default() });
}

#[test]
fn a_cloud_that_throttles_and_has_little_room_leaves_all_old_or_all_new() {
    storm(Kind { throttle: true, replicas: true, ..Kind::default() });
    storm(Kind { room: true, replicas: true, ..Kind::default() });
}

#[test]
fn reads_that_are_old_leave_all_old_or_all_new() {
    storm(Kind { stale: true, replicas: true, ..Kind::default() });
    storm(Kind { stale: true, faults: true, steer: true, ..Kind::default() });
}

#[test]
fn everything_at_once_leaves_all_old_or_all_new() {
    storm(Kind {
        steer: true,
        faults: true,
        foreign: true,
        hooks: true,
        versions: true,
        replicas: true,
        throttle: true,
        room: true,
        stale: true,
    });
}
