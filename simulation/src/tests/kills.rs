//! A deployer that dies at any call of any strategy.

use crate::kills::sweep;

/// Some of the calls; all of them are for `--kills`.
const EVERY: u32 = 41;

#[test]
fn a_deployer_that_dies_at_any_call_of_any_strategy_leaves_all_old_or_all_new() {
    let kills = sweep(EVERY, |_| {}).unwrap_or_else(|failed| {
        let (case, why) = *failed;
        panic!("{why}\n{}", serde_json::json!(case));
    });
    assert!(kills > 500, "only {kills} deaths");
}
