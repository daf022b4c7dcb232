//! Hooks of rollouts.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use deploykit_core::{
    BlueGreen, Canary, Change, Error, Outcome, Point, Report, Rolling, ServiceSpec, Strategy,
    Weight, hook_fn, hook_of,
};
use deploykit_testing::{Behaviour, World};

use crate::world;

const TIME: Duration = Duration::from_secs(30);

/// Deploys `web:2`, with every hook written down as it is run, and `broken` failing.
async fn run(
    strategy: &dyn Strategy,
    points: &[Point],
    behaviour: Behaviour,
    broken: Option<Point>,
) -> (Report, Vec<String>) {
    let (world, web) = world(2, behaviour);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = hook_fn({
        let seen = Arc::clone(&seen);
        move |context| {
            let line = format!("{} {}", context.point, context.rollout.candidate);
            seen.lock().unwrap().push(line);
            let fails = broken == Some(context.point);
            async move { if fails { Err(Error::invalid("it is Friday")) } else { Ok(()) } }
        }
    });
    let deployer = world.deployer().gate("smoke", world.http_gate("/")).hook("note", note).build();
    let mut plan = deployer.plan(&web, strategy, Change::to("web:2")).await.unwrap();
    for point in points {
        plan = plan.with_hook(*point, "note", TIME);
    }
    let report = deployer.deploy(plan).await.unwrap().await.unwrap();
    let seen = seen.lock().unwrap().clone();
    (report, seen)
}

/// Every strategy, with the points that it comes to.
fn strategies() -> [(Box<dyn Strategy>, Vec<Point>); 4] {
    let half = Weight::percent(50).unwrap();
    let without_test =
        |point: &Point| !matches!(point, Point::TestTrafficShift | Point::PostTestTrafficShift);
    let forward: Vec<_> = Point::all().take(9).collect();
    let mut in_two = forward.clone();
    in_two.insert(7, Point::ProductionTrafficShift);
    let of_canary = in_two.iter().copied().filter(without_test).collect();
    [
        (Box::new(BlueGreen::new().validate(["smoke"])), forward),
        (Box::new(BlueGreen::new().validate(["smoke"]).shift_in([half], TIME).hold(TIME)), in_two),
        (Box::new(Canary::steps([(half, TIME)])), of_canary),
        (
            Box::new(Rolling::start_first()),
            vec![
                Point::ReconcileService,
                Point::PreScaleUp,
                Point::PreProductionTrafficShift,
                Point::ProductionTrafficShift,
                Point::PostScaleUp,
                Point::PostProductionTrafficShift,
                Point::CleanUp,
            ],
        ),
    ]
}

/// Each of these points once, and the two of the way back.
fn asked(points: &[Point]) -> Vec<Point> {
    let is_asked =
        |point: &Point| points.contains(point) || [Point::OnUndo, Point::OnUndone].contains(point);
    Point::all().filter(is_asked).collect()
}

fn lines(points: &[Point]) -> Vec<String> {
    points.iter().map(|point| format!("{point} B")).collect()
}

#[tokio::test(start_paused = true)]
async fn every_point_of_a_strategy_comes_in_order_and_no_other() {
    for (strategy, points) in strategies() {
        let (report, seen) = run(&strategy, &asked(&points), Behaviour::good(), None).await;
        assert_eq!(report.outcome, Outcome::Promoted, "{report}");
        assert_eq!(seen, lines(&points), "{strategy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_point_a_hook_fails_at_it_is_undone_between_the_two_points_of_the_way_back() {
    for (strategy, points) in strategies() {
        for broken in points.iter().copied().filter(|point| *point != Point::CleanUp) {
            let (report, seen) =
                run(&strategy, &asked(&points), Behaviour::good(), Some(broken)).await;
            assert_eq!(report.outcome, Outcome::RolledBack, "{strategy:?}: {report}");
            let upto = points.iter().position(|point| *point == broken).unwrap();
            let mut expected = points[..=upto].to_vec();
            expected.extend([Point::OnUndo, Point::OnUndone]);
            assert_eq!(seen, lines(&expected), "{strategy:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_report_says_which_hook_failed_where_and_why() {
    let (broken, strategy) = (Point::PostScaleUp, BlueGreen::new());
    let (report, _) = run(&strategy, &[broken], Behaviour::good(), Some(broken)).await;
    let why = report.why.unwrap();
    assert!(why.contains("note at POST_SCALE_UP: it is Friday"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_fails_on_the_way_back_is_only_noted() {
    let (back, never) = ([Point::OnUndo, Point::OnUndone], Behaviour::good().crashes());
    for broken in back {
        let (report, seen) = run(&BlueGreen::new(), &back, never, Some(broken)).await;
        assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
        assert_eq!(seen, lines(&back));
        let note = format!("note at {broken}: it is Friday");
        assert!(report.notes.iter().any(|line| line.contains(&note)), "{report}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_fails_after_the_promotion_is_noted_and_the_old_place_removed_all_the_same() {
    let (broken, strategy) = (Point::CleanUp, BlueGreen::new());
    let (report, _) = run(&strategy, &[broken], Behaviour::good(), Some(broken)).await;
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    let note = "note at CLEAN_UP: it is Friday";
    assert!(report.notes.iter().any(|line| line.contains(note)), "{report}");
    assert!(report.steps.iter().any(|step| step.name == "retire" && step.ended > Some(step.began)));
}

#[tokio::test(start_paused = true)]
async fn a_hook_is_told_what_is_rolled_out_what_it_replaces_and_why_it_is_undone() {
    let (world, web) = world(2, Behaviour::good().crashes());
    let told = Arc::new(Mutex::new(Vec::new()));
    let note = hook_fn({
        let told = Arc::clone(&told);
        move |context| {
            told.lock().unwrap().push(context);
            async { Ok(()) }
        }
    });
    let deployer = world.deployer().hook("note", note).build();
    let plan = deployer.plan(&web, &BlueGreen::new(), Change::to("web:2")).await.unwrap();
    let (release, before) = (plan.release.clone(), plan.before.clone());
    let plan = plan.with_hook(Point::PreScaleUp, "note", TIME);
    let report =
        deployer.deploy(plan.with_hook(Point::OnUndo, "note", TIME)).await.unwrap().await.unwrap();
    let told = told.lock().unwrap().clone();
    let [forward, back] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((&forward.release, &forward.before, &forward.why), (&release, &before, &None));
    assert_eq!((&back.release, &back.why), (&release, &report.why));
    assert!(back.why.is_some() && before.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_would_never_run_is_refused_and_the_points_that_there_are_are_told() {
    let world = World::new(7);
    world.image("web:1", Behaviour::good()).unwrap();
    let deployer = world.deployer().hook("test", hook_fn(|_| async { Ok(()) })).build();
    let first = Change::to("web:1").with_spec(ServiceSpec::http(8080, "/health"));
    let plan = deployer.plan("web", &BlueGreen::new(), first).await.unwrap();
    let wrong = plan.clone().with_hook(Point::PostTestTrafficShift, "test", TIME);
    let error = deployer.deploy(wrong).await.unwrap_err();
    assert!(error.to_string().contains("test would never run"), "{error}");
    assert!(error.hint().unwrap().contains("POST_SCALE_UP"), "{error}");
    assert!(world.calls().is_empty());
    // There is nothing to clean up yet, which is no mistake.
    let plan = plan.with_hook(Point::CleanUp, "test", TIME);
    let report = deployer.deploy(plan).await.unwrap().await.unwrap();
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_hook_without_time_to_run_is_refused() {
    let (world, web) = world(2, Behaviour::good());
    let deployer = world.deployer().hook("test", hook_fn(|_| async { Ok(()) })).build();
    let plan = deployer.plan(&web, &BlueGreen::new(), Change::to("web:2")).await.unwrap();
    let wrong = plan.with_hook(Point::PreScaleUp, "test", Duration::ZERO);
    let error = deployer.deploy(wrong).await.unwrap_err();
    assert!(error.to_string().contains("test has no time to run"), "{error}");
    assert!(world.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_gate_as_a_hook_undoes_what_it_finds_bad() {
    let (world, web) = world(2, Behaviour::good().slow(Duration::from_secs(3)));
    let quick = world.http_gate("/").live().with_max_latency(Duration::from_secs(1));
    let deployer = world.deployer().hook("check", hook_of(quick)).build();
    let plan = deployer.plan(&web, &BlueGreen::new(), Change::to("web:2")).await.unwrap();
    let plan = plan.with_hook(Point::PostProductionTrafficShift, "check", TIME);
    let report = deployer.deploy(plan).await.unwrap().await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
    let why = report.why.unwrap();
    assert!(
        why.contains("check at POST_PRODUCTION_TRAFFIC_SHIFT") && why.contains("over"),
        "{why}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_does_not_end_in_time_undoes_the_rollout() {
    let (world, web) = world(2, Behaviour::good());
    let deployer = world.deployer().hook("slow", hook_fn(|_| std::future::pending())).build();
    let plan = deployer.plan(&web, &BlueGreen::new(), Change::to("web:2")).await.unwrap();
    let plan = plan.with_hook(Point::PreScaleUp, "slow", TIME);
    let report = deployer.deploy(plan).await.unwrap().await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
    assert!(report.why.unwrap().contains("did not end within 30 s"));
}

#[tokio::test(start_paused = true)]
async fn a_plan_with_a_hook_that_nobody_gave_is_refused_before_anything_moves() {
    let (world, web) = world(2, Behaviour::good());
    let deployer = world.deployer().build();
    let plan = deployer.plan(&web, &BlueGreen::new(), Change::restart()).await.unwrap();
    let error = deployer.deploy(plan.with_hook(Point::CleanUp, "tell", TIME)).await.unwrap_err();
    assert!(error.to_string().contains("hook \"tell\""), "{error}");
    assert!(world.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_panics_undoes_the_rollout_and_one_of_the_way_back_is_noted() {
    let (world, web) = world(2, Behaviour::good());
    let broken = hook_fn(|_| async { panic!("a mistake in the hook") });
    let deployer = world.deployer().hook("broken", broken).build();
    let plan = deployer.plan(&web, &BlueGreen::new(), Change::to("web:2")).await.unwrap();
    let plan = plan.with_hook(Point::PostScaleUp, "broken", TIME);
    let plan = plan.with_hook(Point::OnUndo, "broken", TIME);
    let report = deployer.deploy(plan).await.unwrap().await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
    assert!(
        report.why.as_ref().unwrap().contains("broken at POST_SCALE_UP: it panicked"),
        "{report}"
    );
    assert!(report.notes.iter().any(|note| note.contains("ON_UNDO: it panicked")), "{report}");
}
