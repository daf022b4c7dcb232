//! Jobs: once, whatever happens.

use super::*;
use crate::plan::Job;
use crate::provider::Point;

fn job(name: &str) -> Job {
    Job::new(name).with_command(["run", name])
}

fn with_migration(draft: Draft) -> Plan {
    plan(draft).with_job(Point::PreScaleUp, job("migrate"))
}

fn starts(run: &Run) -> usize {
    run.calls.iter().filter(|call| call.starts_with("start job")).count()
}

fn dies(run: &mut Run) {
    run.event(Event::Recovered { by: owner() });
}

fn aborts(run: &mut Run) {
    run.event(Event::AbortRequested { by: "ann".into() });
}

#[test]
fn jobs_run_at_their_points_after_the_hooks_and_before_anything_depends_on_them() {
    let plan = with_migration(full())
        .with_job(Point::PreScaleUp, job("seed"))
        .with_hook(Point::PreScaleUp, "backup", SECOND)
        .with_job(Point::PreProductionTrafficShift, job("smoke"));
    let mut run = Run::new(plan);
    assert_eq!(run.end(), Outcome::Promoted);
    let calls: Vec<_> = run.calls.iter().map(String::as_str).filter(|c| *c != "survey").collect();
    assert_eq!(
        calls[..6],
        [
            "hook PRE_SCALE_UP",
            "start job migrate",
            "job migrate",
            "start job seed",
            "job seed",
            "register"
        ]
    );
    let smoke = calls.iter().position(|call| *call == "job smoke").unwrap();
    assert_eq!(calls[smoke + 1..smoke + 3], ["healthy B 2", "route A 90 %, B 10 %"]);
}

#[test]
fn a_job_at_a_point_that_comes_twice_is_two_runs() {
    let mut run = Run::new(plan(full()).with_job(Point::ProductionTrafficShift, job("warm")));
    let mut ids = Vec::new();
    while run.machine.outcome().is_none() {
        if let Some(Call::StartJob(job)) = run.wish().map(|effect| effect.call) {
            ids.push(job.run.id);
        }
        run.answer();
    }
    assert_eq!(ids.len(), 2);
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn a_job_that_fails_undoes_the_rollout() {
    let mut run = Run::new(with_migration(full()));
    run.until("job migrate").fail("exit code 3");
    assert_eq!(run.end(), Outcome::RolledBack);
    assert_eq!(run.machine.report().why.as_deref(), Some("exit code 3"));
    assert_eq!(starts(&run), 1);
}

#[test]
fn a_job_that_fails_while_undoing_is_noted_and_stops_nothing() {
    let plan = plan(full()).with_job(Point::OnUndo, job("restore"));
    let mut run = Run::new(plan.with_job(Point::OnUndone, job("tell")));
    run.until("healthy B 2").fail("bad");
    run.until("job restore").fail("no backup");
    run.until("start job tell").fail("no such command");
    assert_eq!(run.end(), Outcome::RolledBack);
    assert_eq!(run.machine.report().notes, ["no backup", "no such command"]);
    assert!(run.calls.contains(&"retire B".to_owned()));
}

#[test]
fn an_abort_waits_for_the_end_of_a_job_and_then_undoes() {
    for moment in ["start job migrate", "job migrate"] {
        let mut run = Run::new(with_migration(full()));
        run.until(moment);
        aborts(&mut run);
        run.until("job migrate").answer();
        assert_eq!(run.end(), Outcome::Aborted { by: "ann".into() }, "{moment}");
        assert_eq!(run.since("job migrate"), [""; 0], "{moment}");
    }
}

#[test]
fn a_job_that_was_started_is_awaited_while_the_rollout_is_paused() {
    let mut run = Run::new(with_migration(full()));
    run.until("start job migrate");
    run.event(Event::Paused { by: "ann".into() });
    run.answer();
    assert_eq!(text(&run.wish().unwrap().call), "job migrate");
    run.answer();
    assert_eq!(run.wish(), None);
}

#[test]
fn a_job_that_is_known_to_have_started_is_not_started_by_a_successor() {
    let mut run = Run::new(with_migration(full().on_orphan(OnOrphan::Continue)));
    run.until("job migrate");
    dies(&mut run);
    let Call::AwaitJob(job) = run.wish().unwrap().call else { panic!("it is awaited") };
    assert!(job.started);
    assert_eq!(run.end(), Outcome::Promoted);
    assert_eq!(starts(&run), 1);
}

#[test]
fn a_job_whose_start_was_not_written_down_is_asked_for_again_by_the_same_id() {
    let id = |run: &Run| match run.wish().unwrap().call {
        Call::StartJob(job) => job.run.id,
        other => panic!("{other:?}"),
    };
    let mut run = Run::new(with_migration(full().on_orphan(OnOrphan::Continue)));
    run.until("start job migrate");
    let before = id(&run);
    dies(&mut run);
    assert_eq!(id(&run), before);
    assert_eq!(run.end(), Outcome::Promoted);
}

#[test]
fn a_job_that_has_ended_is_over_though_its_step_begins_again() {
    let mut run = Run::new(with_migration(full().on_orphan(OnOrphan::Continue)));
    run.until("launch B 2");
    dies(&mut run);
    assert_eq!(run.end(), Outcome::Promoted);
    assert_eq!(run.calls.iter().filter(|call| *call == "job migrate").count(), 1);
}

#[test]
fn a_successor_that_undoes_awaits_the_job_of_the_dead_first_and_starts_none() {
    for moment in ["start job migrate", "job migrate"] {
        let mut run = Run::new(with_migration(full()));
        run.until(moment);
        let so_far = starts(&run);
        dies(&mut run);
        let Call::AwaitJob(job) = run.wish().unwrap().call else { panic!("{moment}") };
        assert_eq!(job.started, so_far == 1, "{moment}");
        assert_eq!(run.end(), Outcome::RolledBack, "{moment}");
        assert_eq!(starts(&run), so_far, "{moment}");
    }
}

#[test]
fn a_job_of_which_nobody_can_tell_needs_an_operator_and_is_undone_when_that_has_looked() {
    let mut run = Run::new(with_migration(full()));
    run.until("job migrate");
    let effect = run.wish().unwrap().id;
    let error = "migrate was started and cannot be found".to_owned();
    run.event(Event::Failed { effect, kind: ErrorKind::Uncertain, error });
    assert_eq!(run.end(), Outcome::NeedsOperator);
    assert!(run.machine.report().problems[0].contains("cannot be found"));
    dies(&mut run);
    assert_eq!(run.end(), Outcome::RolledBack);
    assert_eq!(starts(&run), 1);
}

#[test]
fn a_job_of_which_nobody_can_tell_needs_an_operator_though_the_deployer_died_while_undoing() {
    let mut run = Run::new(plan(full()).with_job(Point::PreProductionTrafficShift, job("smoke")));
    run.until("job smoke");
    let effect = run.wish().unwrap().id;
    let error = "smoke was started and cannot be found".to_owned();
    run.event(Event::Failed { effect, kind: ErrorKind::Uncertain, error });
    run.until("retire B");
    dies(&mut run);
    assert_eq!(run.end(), Outcome::NeedsOperator);
    assert_eq!(run.machine.report().problems, ["smoke was started and cannot be found"]);
}

#[test]
fn a_job_on_the_way_back_runs_once_however_often_it_is_undone() {
    let mut run = Run::new(plan(full()).with_job(Point::OnUndo, job("restore")));
    run.until("healthy B 2").fail("bad");
    run.until("drain B");
    dies(&mut run);
    assert_eq!(run.end(), Outcome::RolledBack);
    assert_eq!(starts(&run), 1);
}

#[test]
fn a_job_runs_the_image_of_the_release_in_the_service_s_settings_and_its_own() {
    let mut plan = plan(full());
    let spec = plan.release.spec.clone();
    plan.release.spec = spec
        .with_command(["serve"])
        .with_env("LOG", "info")
        .with_env("DB", "reader")
        .with_secret("TOKEN", "env:TOKEN")
        .with_network("db");
    let migrate = job("migrate").with_secret("DB", "env:OWNER").with_env("TOKEN", "none");
    let run = Run::new(plan.with_job(Point::ReconcileService, migrate));
    let Call::StartJob(call) = run.wish().unwrap().call else { panic!("it is the first") };
    let spec = &call.release.spec;
    assert_eq!(call.release.image, release("web:2").image);
    assert_eq!(spec.command, ["run", "migrate"]);
    assert_eq!(spec.port, None);
    assert_eq!(spec.networks, ["db"]);
    let env: Vec<_> = spec.env.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(env, ["LOG=info", "TOKEN=none"]);
    let secrets: Vec<_> = spec.secrets.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(secrets, ["DB=env:OWNER"]);
}

#[test]
fn a_job_that_fails_after_the_promotion_is_noted_and_the_old_place_goes_all_the_same() {
    for moment in ["start job tidy", "job tidy"] {
        let mut run = Run::new(plan(full()).with_job(Point::CleanUp, job("tidy")));
        run.until(moment).fail("no such command");
        assert_eq!(run.end(), Outcome::Promoted, "{moment}");
        assert_eq!(run.machine.report().notes, ["no such command"], "{moment}");
        assert!(run.since(moment).contains(&"retire A"), "{moment}: {:?}", run.calls);
    }
}
