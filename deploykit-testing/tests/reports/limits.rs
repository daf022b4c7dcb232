//! Providers that ask to be called less often, and time that passed for nothing.

use deploykit_core::{BlueGreen, ErrorKind, Outcome, Place, Rolling};
use deploykit_testing::{Fault, Operation};

use crate::stage::{SECOND, Stage, careful};

#[tokio::test(start_paused = true)]
async fn a_provider_that_throttles_costs_time_and_nothing_else() {
    use Operation::{
        AddTargets, Drain, Launch, ObserveRouting, ObserveTasks, Register, RemoveTargets, Retire,
        SetRouting, SetTestRoute,
    };
    for operation in [
        Register,
        Launch,
        ObserveTasks,
        ObserveRouting,
        AddTargets,
        RemoveTargets,
        SetTestRoute,
        SetRouting,
        Drain,
        Retire,
    ] {
        let stage = Stage::new();
        let traffic = stage.traffic();
        let plan = stage.plan(&careful(), "web:2").await;
        let rollout = stage.fresh().deploy(plan).await.unwrap();
        // Half a minute, of which nobody knows when it ends.
        stage.world.fail(Fault::error(operation, ErrorKind::Throttled).with_times(20));
        let report = rollout.await.unwrap();
        assert_eq!(report.outcome, Outcome::Promoted, "{operation}: {report}");
        let tally = traffic.stop().await;
        assert_eq!(tally.failed, 0, "{operation}: {tally}");
        assert_eq!(stage.whole(), Ok(Place::B), "{operation}");
        stage.world.assert_safe();
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_without_requests_is_replaced_without_waiting_for_deadlines() {
    let long = SECOND * 300;
    let blue_green = BlueGreen::new().healthy_within(long).drain(long);
    let rolling = Rolling::start_first().healthy_within(long).drain(long);
    let strategies: [&dyn deploykit_core::Strategy; 2] = [&blue_green, &rolling];
    for strategy in strategies {
        let stage = Stage::new();
        let report = stage.deploy(strategy, "web:2").await;
        assert_eq!(report.outcome, Outcome::Promoted, "{report}");
        // Three tasks that take a fifth of a second each to start, one after the other at most.
        assert!(report.duration() < SECOND * 3, "{report}");
    }
}
