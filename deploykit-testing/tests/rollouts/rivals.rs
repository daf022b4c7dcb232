//! A deployer that has lost its service, and does not know yet.

use std::sync::{Arc, Mutex};

use deploykit_core::{BlueGreen, ErrorKind, Place};
use deploykit_testing::{Blow, Tap};
use tokio::time::{Instant, sleep};

use crate::stage::{SECOND, Stage, half};

/// A deployer that cannot make one call is taken off its service; some time after that the call works, slowly.
async fn taken_over_from(call: &'static str, works_after: u32, slowly: Option<u32>) -> Stage {
    let stage = Stage::new();
    let tap = Tap::new();
    let taken: Arc<Mutex<Option<Instant>>> = Arc::default();
    let (tries, since) = (Arc::new(Mutex::new(0)), Arc::clone(&taken));
    let tried = Arc::clone(&tries);
    tap.strike_by(move |name, _, _| {
        if name != call {
            return None;
        }
        *tried.lock().unwrap() += 1;
        let works = since.lock().unwrap().is_some_and(|at| at.elapsed() >= SECOND * works_after);
        match (works, slowly) {
            (false, _) => Some(Blow::Fail(ErrorKind::Unavailable)),
            (true, Some(seconds)) => Some(Blow::Slow(SECOND * seconds)),
            (true, None) => None,
        }
    });
    let strategy = BlueGreen::new().shift_in([half()], SECOND * 5).bake(SECOND * 5);
    let plan = stage.plan(&strategy, "web:2").await;
    let _former = stage.deployer(&tap).deploy(plan).await.unwrap();
    while *tries.lock().unwrap() == 0 {
        sleep(SECOND / 20).await;
    }
    *taken.lock().unwrap() = Some(Instant::now());
    let traffic = stage.traffic();
    let rollout = stage.fresh().take_over(&stage.web).await.unwrap().unwrap();
    let _ = rollout.await.unwrap();
    sleep(SECOND * 60).await;
    assert_eq!(traffic.stop().await.failed, 0);
    stage
}

#[tokio::test(start_paused = true)]
async fn who_was_taken_off_a_service_sets_no_routing_afterwards() {
    for works_after in [5, 13, 20, 29] {
        let stage = taken_over_from("set routing", works_after, Some(4)).await;
        assert_eq!(stage.whole(), Ok(Place::A), "{works_after}");
        stage.world.assert_safe();
    }
}

#[tokio::test(start_paused = true)]
async fn who_was_taken_off_a_service_launches_nothing_afterwards() {
    for works_after in [5, 16, 25, 31] {
        let stage = taken_over_from("launch", works_after, None).await;
        assert_eq!(stage.whole(), Ok(Place::A), "{works_after}");
    }
}
