//! Whatever happens to whichever call, the end is all old or all new, once somebody has taken up what is left.

use std::time::Duration;

use deploykit_core::{ErrorKind, OnOrphan, Outcome};
use deploykit_testing::{Blow, Part, Tap};
use tokio::time::{sleep, timeout};

use crate::stage::{LEASE, PATIENCE, Stage, careful};

/// Strikes the n-th call of a deployment; says whether there were so many.
async fn struck(
    nth: u64,
    times: u64,
    blow: Blow,
    part: Part,
    lag: Duration,
    orphan: OnOrphan,
) -> bool {
    let stage = Stage::new();
    stage.world.tune(|settings| settings.routing_lag = lag);
    let tap = Tap::new();
    let plan = stage.plan(&careful().on_orphan(orphan), "web:2").await;
    tap.strike(nth, times, blow, part);
    let deployer = stage.deployer(&tap);
    let ended = timeout(PATIENCE, async { deployer.deploy(plan).await?.await }).await;
    if !tap.has_struck() {
        return false;
    }
    let what = format!("{blow:?} at call {nth} of {part:?}");
    assert!(ended.is_ok(), "{what}: it hangs");
    tap.heal();
    sleep(LEASE).await;
    stage.clean_up().await;
    sleep(LEASE).await;
    assert!(stage.whole().is_ok(), "{what}, {ended:?}: {}", stage.world.snapshot(&stage.web));
    if orphan == OnOrphan::Continue {
        let past = stage.fresh().history(&stage.web).await.unwrap();
        let outcome = past.last().and_then(|past| past.outcome.clone());
        assert_ne!(outcome, Some(Outcome::RolledBack), "{what}");
    }
    assert!(stage.world.violations().is_empty(), "{what}: {:?}", stage.world.violations());
    true
}

async fn sweep(times: u64, blow: Blow, part: Part, lag: Duration, orphan: OnOrphan) {
    let mut nth = 1;
    while struck(nth, times, blow, part, lag, orphan).await {
        nth += 1;
    }
    assert!(nth > 20, "only {nth} calls");
}

macro_rules! sweeps {
    ($($name:ident: $times:expr, $blow:expr, $part:ident, $lag:expr, $orphan:ident;)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            sweep($times, $blow, Part::$part, Duration::from_secs($lag), OnOrphan::$orphan).await;
        }
    )*};
}

const FOR_EVER: u64 = u64::MAX;

sweeps! {
    a_call_that_fails_for_good_leaves_all_old_or_all_new: 1, Blow::Fail(ErrorKind::Denied), Provider, 0, Undo;
    a_call_that_fails_for_good_while_the_routing_lags_leaves_all_old_or_all_new: 1, Blow::Fail(ErrorKind::Denied), Provider, 20, Undo;
    a_provider_that_refuses_everything_from_some_call_on_can_be_recovered_from: FOR_EVER, Blow::Fail(ErrorKind::Denied), Provider, 0, Undo;
    a_provider_that_cannot_be_reached_for_ten_calls_is_got_over: 10, Blow::Fail(ErrorKind::Unavailable), Provider, 0, Undo;
    an_answer_of_a_provider_that_is_lost_does_no_harm: 1, Blow::Lost, Provider, 0, Undo;
    a_call_that_is_never_answered_does_not_hang_the_deployer: 1, Blow::Hang, Provider, 0, Undo;
    a_store_that_fails_once_for_good_leaves_what_can_be_recovered: 1, Blow::Fail(ErrorKind::Denied), Store, 0, Undo;
    a_store_that_cannot_be_reached_for_ten_calls_leaves_what_can_be_recovered: 10, Blow::Fail(ErrorKind::Unavailable), Store, 0, Undo;
    a_store_whose_answer_is_lost_leaves_what_can_be_recovered: 1, Blow::Lost, Store, 0, Undo;
    a_store_that_never_answers_does_not_hang_the_deployer: 1, Blow::Hang, Store, 0, Undo;
    a_deployer_that_dies_after_any_call_while_the_routing_lags_leaves_what_can_be_recovered: 1, Blow::Die, Provider, 20, Undo;
    a_deployer_that_dies_after_any_call_of_a_provider_can_be_gone_on_with: 1, Blow::Die, Provider, 0, Continue;
}
