//! Two who deploy.

use std::sync::{Arc, Mutex};

use deploykit_core::{BlueGreen, Change, ErrorKind, Outcome, Place, Point, hook_fn};
use deploykit_testing::{Operation, Tap};
use tokio::time::sleep;

use crate::stage::{LEASE, PATIENCE, Stage, careful};

#[tokio::test(start_paused = true)]
async fn a_service_is_not_deployed_while_the_last_hook_of_another_rollout_runs() {
    let stage = Arc::new(Stage::new());
    let refusals = Arc::new(Mutex::new(Vec::new()));
    let hook = hook_fn({
        let (stage, refusals) = (Arc::clone(&stage), Arc::clone(&refusals));
        move |_| {
            let (stage, refusals) = (Arc::clone(&stage), Arc::clone(&refusals));
            async move {
                // Longer than a lease lives that nobody renews.
                for _ in 0..3 {
                    let (next, change) = (BlueGreen::new(), Change::to("web:3"));
                    let planned = stage.fresh().plan(&stage.web, &next, change).await;
                    refusals.lock().unwrap().push(planned.map(drop).map_err(|e| e.kind()));
                    sleep(LEASE).await;
                }
                Ok(())
            }
        }
    });
    let world = &stage.world;
    let deployer = world.deployer().store(stage.store.clone()).hook("migrate", hook).build();
    let plan = deployer.plan(&stage.web, &BlueGreen::new(), Change::to("web:2")).await.unwrap();
    let plan = plan.with_hook(Point::CleanUp, "migrate", LEASE * 5);
    let report = deployer.deploy(plan).await.unwrap().await.unwrap();
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    assert_eq!(*refusals.lock().unwrap(), [Err(ErrorKind::Conflict); 3]);
    assert_eq!(stage.whole(), Ok(Place::B));
}

#[tokio::test(start_paused = true)]
async fn a_deployer_that_is_killed_and_run_again_does_not_double_the_tasks() {
    for killed_at in [Operation::Launch, Operation::SetRouting, Operation::Retire] {
        let (stage, tap) = (Stage::new(), Tap::new());
        let plan = stage.plan(&careful(), "web:2").await;
        let _killed = stage.deployer(&tap).deploy(plan).await.unwrap();
        stage.until(|world| world.count(killed_at) > 0).await;
        stage.orphan(&tap).await;
        let again = stage.fresh();
        again.wait_for_end(&stage.web, PATIENCE).await.unwrap();
        let change = Change::to("web:2");
        let rollout = again.rollout(&stage.web, &careful(), change).await.unwrap();
        assert_eq!(rollout.await.unwrap().outcome, Outcome::Promoted, "{killed_at}");
        assert_eq!(stage.whole(), Ok(Place::B), "{killed_at}");
    }
}
