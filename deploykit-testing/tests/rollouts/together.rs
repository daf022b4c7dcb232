//! Two deployers that begin together, a hundred times: at each of ten moments after each other, ten ways round.

use std::sync::Arc;
use std::time::Duration;

use deploykit_core::{
    BlueGreen, Deployer, DirectoryStore, ErrorKind, MemoryStore, Outcome, Place, Rollout, Store,
};
use deploykit_testing::Tap;
use tokio::time::{Instant, sleep};

use crate::stage::Stage;

/// Between the beginnings of two: a call takes twice as long.
const APART: Duration = Duration::from_millis(1);
/// What is refused at once is refused within this: a few calls that read, and none that waits for anything.
const AT_ONCE: Duration = Duration::from_millis(50);

/// What became of one of the two.
struct Answer {
    rollout: deploykit_core::Result<Rollout>,
    /// When it came, and how long it took.
    at: Instant,
    took: Duration,
    tap: Tap,
}

fn deployer(stage: &Stage, store: &Arc<dyn Store>, name: &str, tap: &Tap) -> Deployer {
    let world = &stage.world;
    Deployer::builder()
        .registry(world.registry())
        .orchestrator(tap.wrap(world.orchestrator()))
        .balancer(tap.wrap(world.balancer()))
        .store(Arc::clone(store))
        .clock(world.clock())
        .owner(name)
        .build()
}

/// One round: alice begins after `alice`, bob after `bob`.
async fn round(stage: &Stage, store: Arc<dyn Store>, alice: Duration, bob: Duration) {
    let plan = stage.plan(&BlueGreen::new(), "web:2").await;
    let begin = |name, after| {
        let (tap, plan) = (Tap::new(), plan.clone());
        let deployer = deployer(stage, &store, name, &tap);
        tokio::spawn(async move {
            sleep(after).await;
            let began = Instant::now();
            let rollout = deployer.deploy(plan).await;
            Answer { rollout, at: Instant::now(), took: began.elapsed(), tap }
        })
    };
    let (one, other) = (begin("alice", alice), begin("bob", bob));
    let (one, other) = (one.await.unwrap(), other.await.unwrap());
    let (name, winner, loser) = match (&one.rollout, &other.rollout) {
        (Ok(_), Err(_)) => ("alice", one, other),
        (Err(_), Ok(_)) => ("bob", other, one),
        both => panic!("not exactly one of them: {both:?}"),
    };

    let error = loser.rollout.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    let holder = format!("held by {name} on ");
    let since = format!("(process {}) since 2026-01-01T", std::process::id());
    assert!(error.message().contains(&holder) && error.message().contains(&since), "{error}");
    assert!(loser.took < AT_ONCE, "{:?}", loser.took);

    let report = winner.rollout.unwrap().await.unwrap();
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    assert!(loser.at < Instant::now() - AT_ONCE);
    assert_eq!(loser.tap.mutations(), []);
    assert_ne!(winner.tap.mutations(), []);
    assert_eq!(stage.whole(), Ok(Place::B));
    stage.world.assert_safe();
}

/// So many milliseconds for alice, so many for bob, in each of a hundred rounds.
fn beginnings() -> impl Iterator<Item = (Duration, Duration)> {
    (0..10).flat_map(|alice| (0..10).map(move |bob| (APART * alice, APART * bob)))
}

#[tokio::test(start_paused = true)]
async fn of_two_who_deploy_together_a_store_in_memory_lets_one_proceed_and_tells_the_other_by_whom()
{
    for (alice, bob) in beginnings() {
        round(&Stage::new(), Arc::new(MemoryStore::new()), alice, bob).await;
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_who_deploy_together_a_store_on_disk_lets_one_proceed_and_tells_the_other_by_whom() {
    let directory = tempfile::tempdir().unwrap();
    for (n, (alice, bob)) in beginnings().enumerate() {
        let store = DirectoryStore::open(directory.path().join(n.to_string())).unwrap();
        round(&Stage::new(), Arc::new(store), alice, bob).await;
    }
}
