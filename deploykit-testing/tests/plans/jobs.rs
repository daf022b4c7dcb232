//! Jobs of rollouts.

use std::time::Duration;

use deploykit_core::{
    BlueGreen, Canary, Change, Deployer, ErrorKind, Job, OrchestratorCapability, Outcome, Plan,
    Point, Report, Rolling, ServiceName, Strategy, UpdateKind, Weight,
};
use deploykit_testing::{Behaviour, Fault, Operation, World};

use crate::world;

const SECOND: Duration = Duration::from_secs(1);

struct Stage {
    world: World,
    web: ServiceName,
    deployer: Deployer,
}

impl Stage {
    /// Two tasks of `web:1` serve, and `web:2` behaves so.
    fn new(behaviour: Behaviour) -> Self {
        let (world, web) = world(2, behaviour);
        let deployer = world.deployer().build();
        Self { world, web, deployer }
    }

    async fn plan(&self) -> Plan {
        self.deployer.plan(&self.web, &BlueGreen::new(), Change::to("web:2")).await.unwrap()
    }

    async fn deploy(&self, point: Point, job: Job) -> Report {
        let plan = self.plan().await.with_job(point, job);
        self.deployer.deploy(plan).await.unwrap().await.unwrap()
    }

    fn starts(&self) -> u64 {
        self.world.job_starts(&self.web, "migrate")
    }
}

fn migrate() -> Job {
    Job::new("migrate").with_command(["migrate", "--all"]).with_time_limit(60 * SECOND)
}

#[tokio::test(start_paused = true)]
async fn a_migration_has_ended_before_the_candidate_starts_and_nothing_is_left_of_it() {
    let stage = Stage::new(Behaviour::good().jobs_end_in(20 * SECOND));
    let report = stage.deploy(Point::PreScaleUp, migrate()).await;
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    assert_eq!(stage.starts(), 1);
    assert_eq!(stage.world.snapshot(&stage.web).jobs, 0);
    let at = |operation| stage.world.calls().iter().find(|c| c.operation == operation).unwrap().at;
    assert!(at(Operation::Launch) >= at(Operation::StartJob) + 20 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_does_not_end_in_time_is_stopped_and_undoes_the_rollout() {
    let stage = Stage::new(Behaviour::good().jobs_never_end());
    let report = stage.deploy(Point::PreScaleUp, migrate()).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
    assert!(report.why.as_ref().unwrap().contains("within its time limit"), "{report}");
    assert!((60 * SECOND..70 * SECOND).contains(&report.duration()), "{report}");
}

#[tokio::test(start_paused = true)]
async fn an_abort_does_not_cut_a_job() {
    let stage = Stage::new(Behaviour::good().jobs_end_in(40 * SECOND));
    let plan = stage.plan().await.with_job(Point::PreScaleUp, migrate());
    let rollout = stage.deployer.deploy(plan).await.unwrap();
    tokio::time::sleep(5 * SECOND).await;
    rollout.abort("ann");
    let report = rollout.await.unwrap();
    assert_eq!(report.outcome, Outcome::Aborted { by: "ann".into() }, "{report}");
    assert!(report.duration() >= 40 * SECOND, "{report}");
    assert_eq!(stage.world.snapshot(&stage.web).jobs, 0);
}

#[tokio::test(start_paused = true)]
async fn a_job_is_announced_once_with_its_time_limit_when_it_begins() {
    let stage = Stage::new(Behaviour::good());
    let plan = stage.plan().await.with_job(Point::PreScaleUp, migrate());
    let mut rollout = stage.deployer.deploy(plan).await.unwrap();
    let mut updates = rollout.updates();
    let mut told = Vec::new();
    while let Some(update) = updates.next().await {
        if let UpdateKind::Begins { .. } = update.kind {
            told.push(update.kind.to_string());
        }
    }
    assert_eq!(told, ["job migrate at PRE_SCALE_UP begins, 1 min at most"]);
    let _ = rollout.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_job_is_told_to_those_who_listen() {
    let stage = Stage::new(Behaviour::good().jobs_exit_with(0, "applied 4"));
    let plan = stage.plan().await.with_job(Point::PreScaleUp, migrate());
    let mut rollout = stage.deployer.deploy(plan).await.unwrap();
    let mut updates = rollout.updates();
    let told = loop {
        if let UpdateKind::Job { job, end } = updates.next().await.unwrap().kind {
            break (job, end);
        }
    };
    assert_eq!(told.0.as_str(), "migrate");
    assert!(told.1.is_success());
    assert_eq!(told.1.log, ["applied 4"]);
    let _ = rollout.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_start_whose_answer_was_lost_for_good_is_looked_up_and_not_repeated() {
    let stage = Stage::new(Behaviour::good());
    stage.world.fail(Fault::answer_lost(Operation::StartJob).always());
    let report = stage.deploy(Point::PreScaleUp, migrate()).await;
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    assert_eq!(stage.starts(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_cannot_be_looked_at_any_more_needs_an_operator_and_is_left_to_be_looked_at() {
    let stage = Stage::new(Behaviour::good());
    stage.world.fail(Fault::error(Operation::AwaitJob, ErrorKind::Denied).always());
    let report = stage.deploy(Point::PreScaleUp, migrate()).await;
    assert_eq!(report.outcome, Outcome::NeedsOperator, "{report}");
    assert_eq!(stage.world.snapshot(&stage.web).jobs, 1);
    stage.world.heal();
    let report = stage.deployer.recover(&stage.web).await.unwrap().unwrap().await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
    assert_eq!(stage.world.snapshot(&stage.web).jobs, 0);
    assert_eq!(stage.starts(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_before_anything_ran_is_an_ordinary_failure() {
    let stage = Stage::new(Behaviour::good());
    stage.world.fail(Fault::error(Operation::StartJob, ErrorKind::Denied));
    let report = stage.deploy(Point::PreScaleUp, migrate()).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
    assert_eq!(stage.starts(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_jobs_left_and_nobody_could_remove_is_removed_by_recovering() {
    let stage = Stage::new(Behaviour::good());
    stage.world.fail(Fault::error(Operation::RemoveJobs, ErrorKind::Denied));
    let plan = stage.plan().await.with_job(Point::PreScaleUp, migrate());
    let error = stage.deployer.deploy(plan).await.unwrap().await.unwrap_err();
    assert!(error.to_string().contains("is promoted, and what its jobs left"), "{error}");
    assert!(error.hint().unwrap().contains("recover"), "{error}");
    let report = stage.deployer.recover(&stage.web).await.unwrap().unwrap().await.unwrap();
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    assert_eq!(stage.world.snapshot(&stage.web).jobs, 0);
}

/// The error of a plan that is refused before anything moves.
async fn refused(stage: &Stage, change: impl FnOnce(Plan) -> Plan) -> deploykit_core::Error {
    let error = stage.deployer.deploy(change(stage.plan().await)).await.unwrap_err();
    assert!(error.hint().is_some(), "{error}");
    assert!(stage.world.calls().is_empty());
    error
}

#[tokio::test(start_paused = true)]
async fn a_plan_with_a_job_is_refused_where_the_orchestrator_runs_none() {
    let stage = Stage::new(Behaviour::good());
    stage.world.tune(|settings| settings.orchestrator = OrchestratorCapability::new());
    let error = refused(&stage, |plan| plan.with_job(Point::PreScaleUp, migrate())).await;
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_job_at_a_point_that_never_comes_is_refused() {
    let stage = Stage::new(Behaviour::good());
    let error = refused(&stage, |plan| plan.with_job(Point::TestTrafficShift, migrate())).await;
    assert!(error.message().contains("would never run"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn two_jobs_of_one_name_are_refused() {
    let stage = Stage::new(Behaviour::good());
    let twice = |plan: Plan| {
        plan.with_job(Point::PreScaleUp, migrate()).with_job(Point::CleanUp, migrate())
    };
    let error = refused(&stage, twice).await;
    assert!(error.message().contains("two jobs are called migrate"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_name_cannot_be_one_is_refused() {
    let stage = Stage::new(Behaviour::good());
    let named = |plan: Plan| plan.with_job(Point::PreScaleUp, Job::new("my job"));
    let error = refused(&stage, named).await;
    assert!(error.message().contains("\"my job\""), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_job_without_time_to_run_is_refused() {
    let stage = Stage::new(Behaviour::good());
    let timeless = migrate().with_time_limit(Duration::ZERO);
    let error = refused(&stage, |plan| plan.with_job(Point::PreScaleUp, timeless)).await;
    assert!(error.message().contains("no time to run"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_plan_shows_its_jobs_as_text_and_as_a_flowchart() {
    let stage = Stage::new(Behaviour::good());
    let plan = stage.plan().await.with_job(Point::PreScaleUp, migrate());
    let shown = plan.to_string();
    let line = "at PRE_SCALE_UP: job migrate (migrate --all), 1 min at most";
    assert!(shown.contains(line), "{shown}");
    let drawn = plan.to_mermaid();
    let before = "before: job migrate (PRE_SCALE_UP, 1 min at most)<br/>1: launch";
    assert!(drawn.contains(before), "{drawn}");
}

#[tokio::test(start_paused = true)]
async fn a_job_adds_its_time_limit_and_three_changes_to_what_a_plan_takes() {
    let stage = Stage::new(Behaviour::good());
    let without = stage.plan().await;
    let before = without.estimate();
    let after = without.with_job(Point::PreScaleUp, migrate()).estimate();
    assert_eq!(after.most, before.most + 60 * SECOND);
    assert_eq!(after.changes, before.changes + 3);
}

#[tokio::test(start_paused = true)]
async fn a_plan_with_jobs_reads_back_and_one_without_says_nothing_of_them() {
    let stage = Stage::new(Behaviour::good());
    let without = stage.plan().await;
    assert!(!without.to_json().unwrap().contains("jobs"));
    for plan in [without.clone(), without.with_job(Point::PreScaleUp, migrate())] {
        let json = plan.to_json().unwrap();
        assert_eq!(Plan::from_json(json.as_bytes()).unwrap(), plan);
    }
}

/// Points of the way forward before the promotion, in every strategy.
const FORWARD: [Point; 6] = [
    Point::ReconcileService,
    Point::PreScaleUp,
    Point::PostScaleUp,
    Point::PreProductionTrafficShift,
    Point::ProductionTrafficShift,
    Point::PostProductionTrafficShift,
];

fn strategies() -> [Box<dyn Strategy>; 3] {
    let half = Weight::percent(50).unwrap();
    [
        Box::new(BlueGreen::new().shift_in([half], SECOND)),
        Box::new(Canary::steps([(half, SECOND)])),
        Box::new(Rolling::start_first()),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_job_runs_at_every_point_of_every_strategy_and_its_failure_undoes_what_was_done() {
    for strategy in strategies() {
        for point in FORWARD.into_iter().chain([Point::CleanUp]) {
            for code in [0, 3] {
                let stage = Stage::new(Behaviour::good().jobs_exit_with(code, "done"));
                let before = stage.world.snapshot(&stage.web);
                let plan = stage.deployer.plan(&stage.web, &strategy, Change::to("web:2")).await;
                // The way back has one too, which fails alike and stops nothing.
                let plan = plan.unwrap().with_job(point, migrate());
                let plan = plan.with_job(Point::OnUndone, Job::new("tell"));
                let report = stage.deployer.deploy(plan).await.unwrap().await.unwrap();
                let what = format!("{strategy:?}, {point}, exit code {code}: {report}");
                let is_good = code == 0 || point == Point::CleanUp;
                let expected = if is_good { Outcome::Promoted } else { Outcome::RolledBack };
                assert_eq!(report.outcome, expected, "{what}");
                assert!(stage.starts() >= 1, "{what}");
                assert_eq!(
                    stage.world.job_starts(&stage.web, "tell"),
                    u64::from(!is_good),
                    "{what}"
                );
                let after = stage.world.snapshot(&stage.web);
                assert_eq!((after.places.len(), after.jobs), (1, 0), "{what}");
                assert!(is_good || after == before, "{what}: {after}");
                assert!(stage.world.violations().is_empty(), "{what}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_may_have_all_the_time_there_is() {
    let stage = Stage::new(Behaviour::good().jobs_end_in(3_600 * SECOND));
    let report = stage.deploy(Point::PreScaleUp, migrate().with_time_limit(Duration::MAX)).await;
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    let plan =
        stage.plan().await.with_job(Point::PreScaleUp, migrate().with_time_limit(Duration::MAX));
    let json = plan.to_json().unwrap();
    let _ =
        (plan.to_string(), plan.to_mermaid(), Plan::from_json(json.as_bytes()).unwrap().estimate());
}
