//! What an orchestrator promises about jobs.

use std::time::Duration;

use deploykit_core::{ErrorKind, JobEnd, JobRun, JobState, Orchestrator, Place, RevisionId};
use futures::future::join_all;

use super::orchestrator::On;
use super::{Stage as _, dropped, drops};

/// More than any job here needs.
const LONG: Duration = Duration::from_secs(3_600);
/// Less than one without end has.
const SHORT: Duration = Duration::from_millis(500);

impl On<'_> {
    fn run(&self, number: u32, limit: Duration) -> JobRun {
        let id = format!("{}-1-job-{number}", self.service);
        JobRun::new(self.service.clone(), id, "job", "conformance-1", limit)
    }

    async fn job(&self) -> (JobRun, RevisionId) {
        let revision = self.register(&self.harness.job().await).await;
        (self.run(1, LONG), revision)
    }

    /// A job that runs already.
    async fn endless(&self, number: u32, limit: Duration) -> JobRun {
        let revision = self.register(&self.harness.endless_job().await).await;
        let run = self.run(number, limit);
        self.first.start_job(&run, &revision).await.unwrap();
        run
    }

    async fn end(&self, by: &dyn Orchestrator, run: &JobRun) -> JobEnd {
        match by.await_job(run, self.patience()).await.unwrap() {
            JobState::Ended(end) => end,
            other => panic!("{other:?} after {:?}", self.patience()),
        }
    }

    async fn now(&self, by: &dyn Orchestrator, run: &JobRun) -> JobState {
        by.await_job(run, Duration::ZERO).await.unwrap()
    }
}

pub(super) async fn a_job_runs_to_its_end(on: &On<'_>) {
    let (run, revision) = on.job().await;
    on.first.start_job(&run, &revision).await.unwrap();
    let end = on.end(&on.first, &run).await;
    assert!(end.is_success(), "{end}");
}

pub(super) async fn a_job_is_no_task(on: &On<'_>) {
    on.endless(1, LONG).await;
    assert!(on.observe().await.places.is_empty());
}

pub(super) async fn a_job_that_is_started_again_is_the_same_run(on: &On<'_>) {
    let (run, revision) = on.job().await;
    on.first.start_job(&run, &revision).await.unwrap();
    on.first.start_job(&run, &revision).await.unwrap();
    let end = on.end(&on.first, &run).await;
    on.first.start_job(&run, &revision).await.unwrap();
    // One that was started anew would be running.
    assert_eq!(on.now(&on.first, &run).await, JobState::Ended(end));
}

pub(super) async fn a_job_whose_start_was_not_answered_is_the_same_run_for_everybody(on: &On<'_>) {
    let (run, revision) = on.job().await;
    drop(on.first.start_job(&run, &revision).await);
    on.second.start_job(&run, &revision).await.unwrap();
    let end = on.end(&on.second, &run).await;
    on.second.start_job(&run, &revision).await.unwrap();
    assert_eq!(on.now(&on.second, &run).await, JobState::Ended(end.clone()));
    assert_eq!(on.now(&on.first, &run).await, JobState::Ended(end));
}

pub(super) async fn many_who_start_a_job_at_once_start_it_once(on: &On<'_>) {
    let (run, revision) = on.job().await;
    let handles = [&on.first, &on.second, &on.first];
    join_all(handles.map(|handle| on.settled(|| handle.start_job(&run, &revision)))).await;
    let end = on.end(&on.second, &run).await;
    assert!(end.is_success(), "{end}");
    assert_eq!(on.now(&on.first, &run).await, JobState::Ended(end));
}

pub(super) async fn a_dropped_start_of_a_job_can_be_made_again(on: &On<'_>) {
    let (_, revision) = on.job().await;
    for (number, nth) in (1..).zip(drops()) {
        let run = on.run(number, LONG);
        let answer = dropped(nth, on.first.start_job(&run, &revision)).await;
        on.settled(|| on.second.start_job(&run, &revision)).await;
        let end = on.end(&on.second, &run).await;
        assert!(end.is_success(), "{end}");
        if answer.is_some() {
            break;
        }
    }
}

pub(super) async fn a_job_that_runs_is_running_until_the_wait_is_over(on: &On<'_>) {
    let run = on.endless(1, LONG).await;
    assert_eq!(on.now(&on.first, &run).await, JobState::Running);
    let state = on.second.await_job(&run, Duration::from_millis(10)).await;
    assert_eq!(state.unwrap(), JobState::Running);
}

pub(super) async fn a_dropped_wait_for_a_job_changes_nothing(on: &On<'_>) {
    let (run, revision) = on.job().await;
    on.first.start_job(&run, &revision).await.unwrap();
    for nth in drops() {
        if dropped(nth, on.first.await_job(&run, on.patience())).await.is_some() {
            break;
        }
    }
    let end = on.end(&on.first, &run).await;
    assert!(end.is_success(), "{end}");
}

pub(super) async fn a_job_that_ran_for_its_limit_is_stopped_and_has_timed_out(on: &On<'_>) {
    let run = on.endless(1, SHORT).await;
    let end = on.end(&on.second, &run).await;
    assert!(end.timed_out && !end.is_success(), "{end}");
    assert_eq!(on.now(&on.first, &run).await, JobState::Ended(end));
}

pub(super) async fn a_job_that_was_never_started_is_absent(on: &On<'_>) {
    let state = on.first.await_job(&on.run(1, LONG), on.patience()).await;
    assert_eq!(state.unwrap(), JobState::Absent);
}

pub(super) async fn a_job_of_what_nobody_registered_is_not_found_and_absent(on: &On<'_>) {
    let run = on.run(1, LONG);
    let error = on.first.start_job(&run, &RevisionId::new("never")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(on.now(&on.first, &run).await, JobState::Absent);
}

pub(super) async fn jobs_are_absent_once_they_are_removed(on: &On<'_>) {
    let (run, revision) = on.job().await;
    on.first.start_job(&run, &revision).await.unwrap();
    on.end(&on.first, &run).await;
    on.first.remove_jobs(&on.service).await.unwrap();
    assert_eq!(on.now(&on.first, &run).await, JobState::Absent);
    assert_eq!(on.now(&on.second, &run).await, JobState::Absent);
}

pub(super) async fn removing_jobs_stops_those_that_run(on: &On<'_>) {
    let run = on.endless(1, LONG).await;
    on.second.remove_jobs(&on.service).await.unwrap();
    assert_eq!(on.now(&on.first, &run).await, JobState::Absent);
}

pub(super) async fn removing_jobs_where_there_are_none_is_success(on: &On<'_>) {
    on.first.remove_jobs(&on.service).await.unwrap();
    on.endless(1, LONG).await;
    let handles = [&on.first, &on.second, &on.first];
    join_all(handles.map(|handle| on.settled(|| handle.remove_jobs(&on.service)))).await;
    on.first.remove_jobs(&on.service).await.unwrap();
}

pub(super) async fn removing_jobs_leaves_the_tasks_as_they_are(on: &On<'_>) {
    let before = on.launched(Place::A, 1).await;
    on.endless(1, LONG).await;
    on.first.remove_jobs(&on.service).await.unwrap();
    assert_eq!(on.observe().await.places, [before]);
}

pub(super) async fn a_dropped_removal_of_jobs_can_be_made_again(on: &On<'_>) {
    for (number, nth) in (1..).zip(drops()) {
        let run = on.endless(number, LONG).await;
        let answer = dropped(nth, on.first.remove_jobs(&on.service)).await;
        on.settled(|| on.second.remove_jobs(&on.service)).await;
        assert_eq!(on.now(&on.first, &run).await, JobState::Absent);
        if answer.is_some() {
            break;
        }
    }
}

pub(super) async fn retiring_a_place_leaves_the_jobs_as_they_are(on: &On<'_>) {
    on.launched(Place::A, 1).await;
    let run = on.endless(1, LONG).await;
    on.first.retire(&on.service, Place::A).await.unwrap();
    assert_eq!(on.now(&on.first, &run).await, JobState::Running);
}

pub(super) async fn jobs_are_unsupported_where_there_are_none(on: &On<'_>) {
    let run = on.run(1, LONG);
    let started = on.first.start_job(&run, &RevisionId::new("never")).await;
    assert_eq!(started.unwrap_err().kind(), ErrorKind::Unsupported);
    let awaited = on.first.await_job(&run, Duration::ZERO).await;
    assert_eq!(awaited.unwrap_err().kind(), ErrorKind::Unsupported);
    on.first.remove_jobs(&on.service).await.unwrap();
}
