//! What an orchestrator promises.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use deploykit_core::{
    ErrorKind, Launch, Orchestrator, OrchestratorCapability, Place, PlaceState, Release, Result,
    RevisionId, RolloutId, ServiceName, ServiceState, TaskId,
};
use futures::future::{join, join_all};

use super::jobs::*;
use super::{
    Case, Report, Stage, always, cases, dropped, drops, play_all, play_one, settled,
    unique_service, within,
};

/// How the suite gets at an orchestrator.
#[async_trait]
pub trait OrchestratorHarness: Send + Sync {
    /// A handle to the orchestrator, of its own, as another process would have. All of them see the same tasks.
    async fn open(&self) -> Arc<dyn Orchestrator>;

    /// What is launched: its tasks become ready, and end soon when they are stopped.
    async fn release(&self) -> Release;

    /// Another release of that kind; one more environment variable makes it one.
    async fn another_release(&self) -> Release {
        let mut release = self.release().await;
        release.spec = release.spec.with_env("CONFORMANCE", "another");
        release
    }

    /// What runs as a job, ends by itself with exit code 0, and has time for a call or two before that. Asked for where the
    /// capability has jobs.
    async fn job(&self) -> Release {
        panic!("the orchestrator runs jobs: the harness has to say what one is")
    }

    /// What runs as a job until it is stopped, and ends soon then. Asked for where the capability has jobs.
    async fn endless_job(&self) -> Release {
        panic!("the orchestrator runs jobs: the harness has to say what one without end is")
    }

    /// A name for a service that nobody else has.
    fn service(&self) -> ServiceName {
        unique_service()
    }

    /// Removes all that a case left of its service, also where it failed.
    async fn clean(&self, service: &ServiceName) {
        let orchestrator = self.open().await;
        orchestrator.remove_jobs(service).await.unwrap();
        for place in orchestrator.observe(service).await.unwrap().places {
            orchestrator.retire(service, place.place).await.unwrap();
        }
    }

    /// The longest that anything may take.
    fn patience(&self) -> Duration {
        Duration::from_secs(30)
    }
}

/// Checks every promise of an orchestrator.
pub async fn orchestrator(harness: &dyn OrchestratorHarness) -> Report {
    play_all(promises(), || On::new(harness)).await
}

/// Checks one promise of an orchestrator, by its name.
///
/// # Panics
/// If it is broken.
pub async fn check_orchestrator(harness: &dyn OrchestratorHarness, promise: &str) {
    play_one(promises(), promise, On::new(harness)).await;
}

/// Makes a test of each promise of an [`Orchestrator`]: an attribute for all of them, and an [`OrchestratorHarness`] that is
/// made for each. See [`conformance`](crate::conformance).
#[macro_export]
macro_rules! orchestrator_conformance {
    ($(#[$attribute:meta])+ $harness:expr) => {
        $crate::__promises_of_an_orchestrator! {
            [$crate::__conformance_tests] [[$(#[$attribute])+] check_orchestrator $harness]
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __promises_of_an_orchestrator {
    ([$($then:tt)+] $with:tt) => { $($then)+! { $with
        always:
            a_service_that_was_never_launched_has_no_places
            an_equal_release_gets_the_same_revision_from_everybody
            another_release_gets_another_revision
            many_who_register_a_release_at_once_get_one_revision
            a_dropped_registration_can_be_made_again
            a_revision_stands_for_the_release_that_was_registered
            a_revision_that_runs_is_known_to_everybody
            a_revision_that_nobody_registered_is_not_found
            launched_tasks_become_ready_and_are_as_many_as_were_asked_for
            everybody_sees_what_runs
            launching_twice_changes_nothing
            a_launch_whose_answer_was_lost_is_made_once
            many_who_launch_the_same_at_once_launch_it_once
            a_lower_and_a_higher_count_at_once_end_as_the_higher_one
            a_dropped_launch_can_be_made_again
            a_higher_count_adds_tasks_and_leaves_those_that_run
            a_lower_count_changes_nothing
            a_launch_leaves_other_places_as_they_are
            two_places_that_are_launched_at_once_both_come_up
            a_place_with_another_revision_is_busy_and_stays_as_it_is
            a_launch_of_no_tasks_is_invalid_and_makes_no_place
            a_launch_of_what_nobody_registered_is_not_found_and_makes_no_place
            a_stopped_task_is_gone_when_the_call_returns_and_the_count_is_lower
            stopping_twice_stops_nobody_else
            a_stop_whose_answer_was_lost_is_made_once
            many_who_stop_a_task_at_once_stop_it_once
            a_dropped_stop_can_be_made_again
            stopping_what_was_never_launched_is_success
            stopping_a_task_in_another_place_stops_nobody
            a_place_without_tasks_is_not_listed_any_more
            a_stopped_task_is_replaced_by_the_next_launch
            a_retired_place_is_gone_when_the_call_returns_and_no_other_is
            retiring_an_empty_place_is_success
            many_who_retire_a_place_at_once_succeed
            a_dropped_retirement_can_be_made_again
            a_place_that_is_launched_and_retired_at_once_can_be_retired
            a_retired_place_takes_another_revision
            a_wait_for_a_change_ends_by_its_bound
            a_launch_ends_the_wait_for_a_change
        ;
        few_places:
            more_places_than_there_can_be_are_unsupported
        ;
        jobs:
            a_job_runs_to_its_end
            a_job_is_no_task
            a_job_that_is_started_again_is_the_same_run
            a_job_whose_start_was_not_answered_is_the_same_run_for_everybody
            many_who_start_a_job_at_once_start_it_once
            a_dropped_start_of_a_job_can_be_made_again
            a_job_that_runs_is_running_until_the_wait_is_over
            a_dropped_wait_for_a_job_changes_nothing
            a_job_that_ran_for_its_limit_is_stopped_and_has_timed_out
            a_job_that_was_never_started_is_absent
            a_job_of_what_nobody_registered_is_not_found_and_absent
            jobs_are_absent_once_they_are_removed
            removing_jobs_stops_those_that_run
            removing_jobs_where_there_are_none_is_success
            removing_jobs_leaves_the_tasks_as_they_are
            a_dropped_removal_of_jobs_can_be_made_again
            retiring_a_place_leaves_the_jobs_as_they_are
        ;
        no_jobs:
            jobs_are_unsupported_where_there_are_none
        ;
    } };
}

fn promises<'h>() -> Vec<Case<On<'h>>> {
    __promises_of_an_orchestrator! { [cases] [] }
}

fn few_places(on: &On<'_>) -> bool {
    on.capability.places < Place::COUNT
}

fn jobs(on: &On<'_>) -> bool {
    on.capability.jobs
}

fn no_jobs(on: &On<'_>) -> bool {
    !on.capability.jobs
}

pub(super) struct On<'h> {
    pub(super) harness: &'h dyn OrchestratorHarness,
    pub(super) service: ServiceName,
    pub(super) first: Arc<dyn Orchestrator>,
    /// As another process has it.
    pub(super) second: Arc<dyn Orchestrator>,
    capability: OrchestratorCapability,
}

#[async_trait]
impl Stage for On<'_> {
    fn patience(&self) -> Duration {
        self.harness.patience()
    }

    async fn clean(&self) {
        self.harness.clean(&self.service).await;
    }
}

impl<'h> On<'h> {
    async fn new(harness: &'h dyn OrchestratorHarness) -> Self {
        let (first, second) = (harness.open().await, harness.open().await);
        let capability = first.capability();
        Self { harness, service: harness.service(), first, second, capability }
    }

    /// Registered with both handles.
    pub(super) async fn register(&self, release: &Release) -> RevisionId {
        let one = self.first.register(&self.service, release).await.unwrap();
        let other = self.second.register(&self.service, release).await.unwrap();
        assert_eq!(one, other);
        one
    }

    async fn revision(&self) -> RevisionId {
        self.register(&self.harness.release().await).await
    }

    fn wanted(&self, place: Place, revision: &RevisionId, count: u32) -> Launch {
        Launch {
            service: self.service.clone(),
            place,
            revision: revision.clone(),
            count,
            rollout: RolloutId::new("conformance-1"),
        }
    }

    /// So many tasks of the release, ready.
    pub(super) async fn launched(&self, place: Place, count: u32) -> PlaceState {
        let revision = self.revision().await;
        self.first.launch(&self.wanted(place, &revision, count)).await.unwrap();
        self.ready(place, count).await
    }

    pub(super) async fn observe(&self) -> ServiceState {
        self.first.observe(&self.service).await.unwrap()
    }

    async fn place(&self, place: Place) -> Option<PlaceState> {
        self.observe().await.place(place).cloned()
    }

    /// The place, once it has so many tasks and no other, all ready.
    async fn ready(&self, place: Place, count: u32) -> PlaceState {
        let mut last = None;
        let look = async {
            loop {
                last = self.place(place).await;
                let is_so = |place: &&PlaceState| {
                    place.ready() == count && place.tasks.len() as u64 == u64::from(count)
                };
                if let Some(ready) = last.as_ref().filter(is_so) {
                    return ready.clone();
                }
                self.first.changed(&self.service, Duration::from_secs(1)).await;
            }
        };
        let found = tokio::time::timeout(self.patience(), look).await.ok();
        found.unwrap_or_else(|| panic!("{count} tasks in {place} are not all ready, but {last:#?}"))
    }

    /// Makes a call until it is answered with something else than a temporary failure, as the driver does.
    pub(super) async fn settled<T: Send, F: Future<Output = Result<T>> + Send>(
        &self,
        call: impl Fn() -> F + Send + Sync,
    ) -> T {
        settled(self.patience(), call).await.unwrap()
    }

    async fn stop(&self, by: &dyn Orchestrator, tasks: &[TaskId]) -> Result<()> {
        by.stop(&self.service, Place::A, tasks).await
    }
}

fn ids(place: &PlaceState) -> BTreeSet<TaskId> {
    place.tasks.iter().map(|task| task.id.clone()).collect()
}

async fn a_service_that_was_never_launched_has_no_places(on: &On<'_>) {
    assert_eq!(on.observe().await, ServiceState::default());
}

async fn an_equal_release_gets_the_same_revision_from_everybody(on: &On<'_>) {
    let release = on.harness.release().await;
    assert_eq!(on.register(&release).await, on.register(&release).await);
}

async fn another_release_gets_another_revision(on: &On<'_>) {
    let other = on.register(&on.harness.another_release().await).await;
    assert_ne!(on.revision().await, other);
}

async fn many_who_register_a_release_at_once_get_one_revision(on: &On<'_>) {
    let release = on.harness.release().await;
    let handles = [&on.first, &on.second, &on.first, &on.second];
    let all = handles.map(|handle| on.settled(|| handle.register(&on.service, &release)));
    let revisions: BTreeSet<_> = join_all(all).await.into_iter().collect();
    assert_eq!(revisions.len(), 1, "{revisions:?}");
}

async fn a_dropped_registration_can_be_made_again(on: &On<'_>) {
    let release = on.harness.another_release().await;
    for nth in drops() {
        let answer = dropped(nth, on.first.register(&on.service, &release)).await;
        let revision = on.first.register(&on.service, &release).await.unwrap();
        assert_eq!(on.first.describe(&on.service, &revision).await.unwrap(), release);
        if answer.is_some() {
            break;
        }
    }
}

async fn a_revision_stands_for_the_release_that_was_registered(on: &On<'_>) {
    for release in [on.harness.release().await, on.harness.another_release().await] {
        let revision = on.register(&release).await;
        assert_eq!(on.first.describe(&on.service, &revision).await.unwrap(), release);
    }
}

async fn a_revision_that_runs_is_known_to_everybody(on: &On<'_>) {
    let release = on.harness.release().await;
    let revision = on.first.register(&on.service, &release).await.unwrap();
    on.first.launch(&on.wanted(Place::A, &revision, 1)).await.unwrap();
    assert_eq!(on.second.describe(&on.service, &revision).await.unwrap(), release);
    // It knows enough to launch more.
    on.second.launch(&on.wanted(Place::A, &revision, 2)).await.unwrap();
    on.ready(Place::A, 2).await;
}

async fn a_revision_that_nobody_registered_is_not_found(on: &On<'_>) {
    let never = on.first.describe(&on.service, &RevisionId::new("never")).await;
    assert_eq!(never.unwrap_err().kind(), ErrorKind::NotFound);
}

async fn launched_tasks_become_ready_and_are_as_many_as_were_asked_for(on: &On<'_>) {
    let place = on.launched(Place::A, 2).await;
    assert_eq!((place.desired, ids(&place).len()), (2, 2), "{place:#?}");
    assert_eq!(place.revision, on.revision().await);
    let has_port = on.harness.release().await.spec.port.is_some();
    assert!(place.tasks.iter().all(|task| task.address.is_some() == has_port), "{place:#?}");
}

async fn everybody_sees_what_runs(on: &On<'_>) {
    let here = on.launched(Place::A, 2).await;
    let look = async {
        while on.second.observe(&on.service).await.unwrap().place(Place::A) != Some(&here) {
            on.second.changed(&on.service, Duration::from_secs(1)).await;
        }
    };
    within(on.patience(), "the second handle sees what the first does", look).await;
}

async fn launching_twice_changes_nothing(on: &On<'_>) {
    let before = on.launched(Place::A, 2).await;
    on.first.launch(&on.wanted(Place::A, &before.revision, 2)).await.unwrap();
    assert_eq!(on.ready(Place::A, 2).await, before);
}

async fn a_launch_whose_answer_was_lost_is_made_once(on: &On<'_>) {
    let revision = on.revision().await;
    let wanted = on.wanted(Place::A, &revision, 2);
    drop(on.first.launch(&wanted).await);
    // They are only starting yet.
    on.second.launch(&wanted).await.unwrap();
    assert_eq!(on.ready(Place::A, 2).await.desired, 2);
}

async fn many_who_launch_the_same_at_once_launch_it_once(on: &On<'_>) {
    let revision = on.revision().await;
    let wanted = on.wanted(Place::A, &revision, 2);
    let handles = [&on.first, &on.second, &on.first];
    join_all(handles.map(|handle| on.settled(|| handle.launch(&wanted)))).await;
    assert_eq!(on.ready(Place::A, 2).await.desired, 2);
}

async fn a_lower_and_a_higher_count_at_once_end_as_the_higher_one(on: &On<'_>) {
    let revision = on.revision().await;
    let (low, high) = (on.wanted(Place::A, &revision, 1), on.wanted(Place::A, &revision, 2));
    join(on.settled(|| on.first.launch(&low)), on.settled(|| on.second.launch(&high))).await;
    assert_eq!(on.ready(Place::A, 2).await.desired, 2);
}

async fn a_dropped_launch_can_be_made_again(on: &On<'_>) {
    let revision = on.revision().await;
    let wanted = on.wanted(Place::A, &revision, 2);
    for nth in drops() {
        let answer = dropped(nth, on.first.launch(&wanted)).await;
        on.settled(|| on.second.launch(&wanted)).await;
        assert_eq!(on.ready(Place::A, 2).await.desired, 2);
        on.second.retire(&on.service, Place::A).await.unwrap();
        if answer.is_some() {
            break;
        }
    }
}

async fn a_higher_count_adds_tasks_and_leaves_those_that_run(on: &On<'_>) {
    let before = on.launched(Place::A, 1).await;
    on.first.launch(&on.wanted(Place::A, &before.revision, 2)).await.unwrap();
    let after = on.ready(Place::A, 2).await;
    assert_eq!((after.desired, after.tasks.first()), (2, before.tasks.first()));
}

async fn a_lower_count_changes_nothing(on: &On<'_>) {
    let before = on.launched(Place::A, 2).await;
    on.first.launch(&on.wanted(Place::A, &before.revision, 1)).await.unwrap();
    assert_eq!(on.place(Place::A).await, Some(before));
}

async fn a_launch_leaves_other_places_as_they_are(on: &On<'_>) {
    let before = on.launched(Place::A, 1).await;
    let other = on.register(&on.harness.another_release().await).await;
    on.first.launch(&on.wanted(Place::B, &other, 1)).await.unwrap();
    let new = on.ready(Place::B, 1).await;
    assert_eq!(on.place(Place::A).await.as_ref(), Some(&before));
    assert_eq!(new.revision, other);
    // Names are unique in the service.
    assert!(ids(&before).is_disjoint(&ids(&new)), "{before:#?} {new:#?}");
}

async fn two_places_that_are_launched_at_once_both_come_up(on: &On<'_>) {
    let revision = on.revision().await;
    let [a, b] = [Place::A, Place::B].map(|place| on.wanted(place, &revision, 1));
    join(on.settled(|| on.first.launch(&a)), on.settled(|| on.second.launch(&b))).await;
    join(on.ready(Place::A, 1), on.ready(Place::B, 1)).await;
}

async fn a_place_with_another_revision_is_busy_and_stays_as_it_is(on: &On<'_>) {
    let before = on.launched(Place::A, 1).await;
    let other = on.register(&on.harness.another_release().await).await;
    let error = on.first.launch(&on.wanted(Place::A, &other, 2)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert_eq!(on.place(Place::A).await, Some(before));
}

async fn a_launch_of_no_tasks_is_invalid_and_makes_no_place(on: &On<'_>) {
    let revision = on.revision().await;
    let error = on.first.launch(&on.wanted(Place::A, &revision, 0)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(on.observe().await, ServiceState::default());
}

async fn a_launch_of_what_nobody_registered_is_not_found_and_makes_no_place(on: &On<'_>) {
    let never = on.wanted(Place::A, &RevisionId::new("never"), 1);
    assert_eq!(on.first.launch(&never).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(on.observe().await, ServiceState::default());
}

async fn a_stopped_task_is_gone_when_the_call_returns_and_the_count_is_lower(on: &On<'_>) {
    let before = on.launched(Place::A, 2).await;
    on.stop(&on.first, &[before.tasks[0].id.clone()]).await.unwrap();
    let after = on.place(Place::A).await.unwrap();
    assert_eq!((after.desired, &after.tasks[..]), (1, &before.tasks[1..]));
}

async fn stopping_twice_stops_nobody_else(on: &On<'_>) {
    let before = on.launched(Place::A, 2).await;
    let gone = [before.tasks[0].id.clone()];
    on.stop(&on.first, &gone).await.unwrap();
    let once = on.place(Place::A).await;
    on.stop(&on.first, &gone).await.unwrap();
    assert_eq!(on.place(Place::A).await, once);
}

async fn a_stop_whose_answer_was_lost_is_made_once(on: &On<'_>) {
    let before = on.launched(Place::A, 2).await;
    let gone = [before.tasks[0].id.clone()];
    drop(on.stop(&on.first, &gone).await);
    on.stop(&on.second, &gone).await.unwrap();
    let after = on.place(Place::A).await.unwrap();
    assert_eq!((after.desired, &after.tasks[..]), (1, &before.tasks[1..]));
}

async fn many_who_stop_a_task_at_once_stop_it_once(on: &On<'_>) {
    let before = on.launched(Place::A, 2).await;
    let gone = [before.tasks[0].id.clone()];
    let handles = [&on.first, &on.second, &on.first];
    join_all(handles.map(|handle| on.settled(|| on.stop(handle, &gone)))).await;
    let after = on.place(Place::A).await.unwrap();
    assert_eq!((after.desired, &after.tasks[..]), (1, &before.tasks[1..]));
}

async fn a_dropped_stop_can_be_made_again(on: &On<'_>) {
    for nth in drops() {
        let before = on.launched(Place::A, 2).await;
        let gone = [before.tasks[0].id.clone()];
        let answer = dropped(nth, on.stop(&on.first, &gone)).await;
        on.settled(|| on.stop(&on.second, &gone)).await;
        let after = on.place(Place::A).await.unwrap();
        assert_eq!((after.desired, &after.tasks[..]), (1, &before.tasks[1..]));
        if answer.is_some() {
            break;
        }
    }
}

async fn stopping_what_was_never_launched_is_success(on: &On<'_>) {
    on.stop(&on.first, &[TaskId::new("never")]).await.unwrap();
    let before = on.launched(Place::A, 1).await;
    on.stop(&on.first, &[TaskId::new("never")]).await.unwrap();
    on.stop(&on.first, &[]).await.unwrap();
    assert_eq!(on.place(Place::A).await, Some(before));
}

async fn stopping_a_task_in_another_place_stops_nobody(on: &On<'_>) {
    let before = on.launched(Place::A, 1).await;
    let tasks = [before.tasks[0].id.clone()];
    on.first.stop(&on.service, Place::B, &tasks).await.unwrap();
    assert_eq!(on.place(Place::A).await, Some(before));
}

async fn a_place_without_tasks_is_not_listed_any_more(on: &On<'_>) {
    let place = on.launched(Place::A, 1).await;
    on.stop(&on.first, &[place.tasks[0].id.clone()]).await.unwrap();
    assert_eq!(on.observe().await, ServiceState::default());
}

async fn a_stopped_task_is_replaced_by_the_next_launch(on: &On<'_>) {
    let before = on.launched(Place::A, 2).await;
    on.stop(&on.first, &[before.tasks[0].id.clone()]).await.unwrap();
    on.first.launch(&on.wanted(Place::A, &before.revision, 2)).await.unwrap();
    let after = on.ready(Place::A, 2).await;
    assert!(after.desired == 2 && after.tasks.contains(&before.tasks[1]), "{after:#?}");
}

async fn a_retired_place_is_gone_when_the_call_returns_and_no_other_is(on: &On<'_>) {
    on.launched(Place::A, 1).await;
    let other = on.launched(Place::B, 1).await;
    on.first.retire(&on.service, Place::A).await.unwrap();
    assert_eq!(on.observe().await.places, [other]);
}

async fn retiring_an_empty_place_is_success(on: &On<'_>) {
    on.first.retire(&on.service, Place::A).await.unwrap();
    let other = on.launched(Place::B, 1).await;
    on.first.retire(&on.service, Place::A).await.unwrap();
    assert_eq!(on.observe().await.places, [other]);
}

async fn many_who_retire_a_place_at_once_succeed(on: &On<'_>) {
    on.launched(Place::A, 2).await;
    let handles = [&on.first, &on.second, &on.first];
    join_all(handles.map(|handle| on.settled(|| handle.retire(&on.service, Place::A)))).await;
    assert_eq!(on.observe().await, ServiceState::default());
}

async fn a_dropped_retirement_can_be_made_again(on: &On<'_>) {
    for nth in drops() {
        on.launched(Place::A, 1).await;
        let answer = dropped(nth, on.first.retire(&on.service, Place::A)).await;
        on.settled(|| on.second.retire(&on.service, Place::A)).await;
        assert_eq!(on.observe().await, ServiceState::default());
        if answer.is_some() {
            break;
        }
    }
}

async fn a_place_that_is_launched_and_retired_at_once_can_be_retired(on: &On<'_>) {
    let revision = on.revision().await;
    let wanted = on.wanted(Place::A, &revision, 2);
    let retire = || on.second.retire(&on.service, Place::A);
    // Whether anything came up is nobody's promise.
    drop(join(on.first.launch(&wanted), retire()).await);
    on.settled(retire).await;
    assert_eq!(on.observe().await, ServiceState::default());
}

async fn a_retired_place_takes_another_revision(on: &On<'_>) {
    on.launched(Place::A, 1).await;
    on.first.retire(&on.service, Place::A).await.unwrap();
    let other = on.register(&on.harness.another_release().await).await;
    on.first.launch(&on.wanted(Place::A, &other, 1)).await.unwrap();
    assert_eq!(on.ready(Place::A, 1).await.revision, other);
}

async fn a_wait_for_a_change_ends_by_its_bound(on: &On<'_>) {
    let wait = on.first.changed(&on.service, Duration::from_millis(10));
    within(on.patience(), "nothing has changed for 10 ms", wait).await;
}

async fn a_launch_ends_the_wait_for_a_change(on: &On<'_>) {
    let revision = on.revision().await;
    let wanted = on.wanted(Place::A, &revision, 1);
    on.second.observe(&on.service).await.unwrap();
    let wait = on.second.changed(&on.service, Duration::from_secs(86_400));
    let both = join(wait, on.first.launch(&wanted));
    within(on.patience(), "the launch shows", both).await.1.unwrap();
}

async fn more_places_than_there_can_be_are_unsupported(on: &On<'_>) {
    let revision = on.revision().await;
    let mut places = Place::all();
    for place in places.by_ref().take(on.capability.places) {
        on.first.launch(&on.wanted(place, &revision, 1)).await.unwrap();
    }
    let one_more = on.wanted(places.next().unwrap(), &revision, 1);
    assert_eq!(on.first.launch(&one_more).await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(on.observe().await.places.len(), on.capability.places);
}
