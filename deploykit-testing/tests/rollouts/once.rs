//! A job starts at most once in a rollout, whatever happens to whichever call.

use std::time::Duration;

use deploykit_core::{BlueGreen, ErrorKind, Job, OnOrphan, Outcome, Point, UpdateKind};
use deploykit_testing::{Blow, Part, Tap};
use tokio::time::{sleep, timeout};

use crate::stage::{LEASE, PATIENCE, SECOND, Stage};

/// Longer than one look at a job, and than a deployer that died is missed.
const RUNS: Duration = Duration::from_secs(200);

/// Strikes the n-th call of a deployment with a job at its beginning, one in the middle and one at its end; says whether
/// there were so many.
async fn struck(nth: u64, blow: Blow, part: Part, orphan: OnOrphan) -> bool {
    let stage = Stage::new();
    let behaviour = deploykit_testing::Behaviour::good().jobs_end_in(RUNS);
    stage.world.image("web:2", behaviour).unwrap();
    let names = ["migrate", "smoke", "tidy"];
    let points = [Point::PreScaleUp, Point::PostScaleUp, Point::CleanUp];
    let plan = stage.plan(&BlueGreen::new().on_orphan(orphan), "web:2").await;
    let plan = names.into_iter().zip(points).fold(plan, |plan, (name, point)| {
        plan.with_job(point, Job::new(name).with_time_limit(2 * RUNS))
    });
    let tap = Tap::new();
    tap.strike(nth, 1, blow, part);
    let deployer = stage.deployer(&tap);
    let ended = timeout(PATIENCE, async { deployer.deploy(plan).await?.await }).await;
    if !tap.has_struck() {
        return false;
    }
    let what = format!("{blow:?} at call {nth} of {part:?}, {orphan:?}");
    tap.heal();
    sleep(LEASE).await;
    stage.clean_up().await;
    sleep(LEASE).await;
    let seen = stage.world.snapshot(&stage.web);
    let place = stage.whole().unwrap_or_else(|_| panic!("{what}, {ended:?}: {seen}"));
    assert_eq!(seen.jobs, 0, "{what}, {ended:?}");
    for name in names {
        let starts = stage.world.job_starts(&stage.web, name);
        assert!(starts <= 1, "{what}: {name} was started {starts} times");
        let is_new = place != deploykit_core::Place::A;
        // The last one runs when there is no way back, and is nobody's condition.
        assert!(!is_new || starts == 1 || name == "tidy", "{what}: {name} was left out");
    }
    let past = stage.fresh().history(&stage.web).await.unwrap();
    let outcome = past.last().and_then(|past| past.outcome.clone());
    // None: it had not begun.
    let good = [None, Some(Outcome::Promoted), Some(Outcome::RolledBack)];
    assert!(good.contains(&outcome), "{what}, {ended:?}: {outcome:?}");
    if orphan == OnOrphan::Continue && blow == Blow::Die {
        assert_ne!(outcome, Some(Outcome::RolledBack), "{what}");
    }
    assert!(stage.world.violations().is_empty(), "{what}: {:?}", stage.world.violations());
    true
}

async fn sweep(blow: Blow, part: Part, orphan: OnOrphan) {
    let mut nth = 1;
    while struck(nth, blow, part, orphan).await {
        nth += 1;
    }
    assert!(nth > 20, "only {nth} calls");
}

macro_rules! sweeps {
    ($($name:ident: $blow:expr, $part:ident, $orphan:ident;)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            sweep($blow, Part::$part, OnOrphan::$orphan).await;
        }
    )*};
}

sweeps! {
    a_job_starts_at_most_once_whichever_answer_of_a_provider_is_lost: Blow::Lost, Provider, Undo;
    a_job_starts_at_most_once_whichever_answer_of_the_store_is_lost: Blow::Lost, Store, Undo;
    a_job_starts_at_most_once_whichever_call_is_never_answered: Blow::Hang, Provider, Undo;
    a_job_starts_at_most_once_whichever_call_fails: Blow::Fail(ErrorKind::Denied), Provider, Undo;
    a_job_starts_at_most_once_where_its_deployer_dies_after_any_call_and_it_is_undone: Blow::Die, Provider, Undo;
    a_job_starts_once_where_its_deployer_dies_after_any_call_and_another_goes_on: Blow::Die, Provider, Continue;
    a_job_starts_at_most_once_where_its_deployer_dies_after_any_write_and_it_is_undone: Blow::Die, Store, Undo;
}

#[tokio::test(start_paused = true)]
async fn a_successor_waits_for_the_job_that_a_dead_deployer_left_running_before_it_undoes() {
    let stage = Stage::new();
    stage.world.image("web:2", deploykit_testing::Behaviour::good().jobs_end_in(RUNS)).unwrap();
    let plan = stage.plan(&BlueGreen::new(), "web:2").await;
    let tap = Tap::new();
    let deployer = stage.deployer(&tap);
    let plan = plan.with_job(Point::PreScaleUp, Job::new("migrate"));
    let _dead = deployer.deploy(plan).await.unwrap();
    stage.until(|world| world.job_starts(&stage.web, "migrate") == 1).await;
    let began = stage.world.now();
    stage.orphan(&tap).await;
    let report = stage.fresh().recover(&stage.web).await.unwrap().unwrap().await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
    assert!(stage.world.now() >= began + RUNS - SECOND, "it was not waited for");
    assert_eq!(stage.world.job_starts(&stage.web, "migrate"), 1);
}

#[tokio::test(start_paused = true)]
async fn people_are_told_of_the_job_that_a_successor_waits_for() {
    for orphan in [OnOrphan::Undo, OnOrphan::Continue] {
        let stage = Stage::new();
        stage.world.image("web:2", deploykit_testing::Behaviour::good().jobs_end_in(RUNS)).unwrap();
        let plan = stage.plan(&BlueGreen::new().on_orphan(orphan), "web:2").await;
        let tap = Tap::new();
        let plan = plan.with_job(Point::PreScaleUp, Job::new("migrate"));
        let _dead = stage.deployer(&tap).deploy(plan).await.unwrap();
        stage.until(|world| world.job_starts(&stage.web, "migrate") == 1).await;
        // Its start stands in the journal then.
        sleep(SECOND).await;
        tap.kill();
        sleep(LEASE).await;
        let mut rollout = stage.fresh().recover(&stage.web).await.unwrap().unwrap();
        let mut updates = rollout.updates();
        let mut told = Vec::new();
        while let Some(update) = updates.next().await {
            if matches!(update.kind, UpdateKind::Begins { .. } | UpdateKind::Job { .. }) {
                told.push(update.kind.to_string());
            }
        }
        let [begins, ends] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!(begins, "the wait for job migrate at PRE_SCALE_UP begins, 10 min at most");
        assert!(ends.starts_with("job migrate: "), "{ends}");
        let _ = rollout.await.unwrap();
    }
}
