//! Ways back that were not taken, or not told.

use deploykit_core::{Outcome, Place, Routing};
use deploykit_testing::{Behaviour, Operation};

use crate::stage::{SECOND, Stage, careful};

#[tokio::test(start_paused = true)]
async fn what_was_rolled_back_does_not_end_as_a_success() {
    let stage = Stage::new();
    stage.world.image("web:3", Behaviour::good().crashes()).unwrap();
    let good = stage.deploy(&careful(), "web:2").await;
    let bad = stage.deploy(&careful(), "web:3").await;
    assert_eq!(good.outcome.exit_code(), 0, "{good}");
    for outcome in [bad.outcome, Outcome::Aborted { by: "bob".to_owned() }, Outcome::NeedsOperator]
    {
        assert_ne!(outcome.exit_code(), 0, "{outcome}");
    }
    let past = stage.fresh().history(&stage.web).await.unwrap();
    let outcomes: Vec<_> = past.into_iter().map(|past| past.outcome).collect();
    assert_eq!(outcomes, [Some(Outcome::Promoted), Some(Outcome::RolledBack)]);
}

#[tokio::test(start_paused = true)]
async fn requests_go_back_once_after_an_abort_and_not_to_and_fro() {
    let stage = Stage::new();
    let plan = stage.plan(&careful().bake(SECOND * 600), "web:2").await;
    let rollout = stage.fresh().deploy(plan).await.unwrap();
    stage.until(|world| world.snapshot(&stage.web).routing == Routing::all_to(Place::B)).await;
    let before = stage.world.calls().len();
    rollout.abort("bob");
    let _ = rollout.await.unwrap();
    tokio::time::sleep(SECOND * 3_600).await;
    let calls = stage.world.calls();
    let after = calls[before..].iter().filter(|call| call.operation == Operation::SetRouting);
    assert_eq!(after.count(), 1, "{calls:#?}");
    assert_eq!(stage.whole(), Ok(Place::A));
}
