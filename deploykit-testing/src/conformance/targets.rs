//! What a load balancer promises about targets: added, drained, gone.

use deploykit_core::{BalancerState, Endpoint, Place, Routing, TargetHealth, TaskId};
use futures::future::{join, join_all};

use super::balancer::On;
use super::{dropped, drops};

pub(super) fn names(tasks: &[Endpoint]) -> Vec<TaskId> {
    tasks.iter().map(|task| task.task.clone()).collect()
}

/// The targets of a place, by name.
fn targets(state: &BalancerState, place: Place) -> Vec<Endpoint> {
    let mut targets: Vec<Endpoint> = state.targets_of(place).map(Into::into).collect();
    targets.sort_by(|one, other| one.task.cmp(&other.task));
    targets
}

fn sorted(mut tasks: Vec<Endpoint>) -> Vec<Endpoint> {
    tasks.sort_by(|one, other| one.task.cmp(&other.task));
    tasks
}

fn draining(state: &BalancerState, tasks: &[Endpoint]) -> bool {
    let is_meant = |task: &TaskId| tasks.iter().any(|one| one.task == *task);
    state.targets.iter().all(|t| (t.health == TargetHealth::Draining) == is_meant(&t.task))
}

pub(super) async fn targets_that_answer_become_healthy(on: &On<'_>) {
    let tasks = on.served(Place::A, 2).await;
    let state = on.observe().await;
    assert_eq!(targets(&state, Place::A), sorted(tasks));
    assert_eq!(state.routing, Routing::Closed);
}

pub(super) async fn a_target_where_nobody_listens_gets_no_requests(on: &On<'_>) {
    let dead = Endpoint { task: TaskId::new("dead"), address: on.harness.dead_address() };
    let all = [on.tasks(Place::A, 1).await, vec![dead]].concat();
    on.add(&on.first, Place::A, &all).await.unwrap();
    on.until("one target is healthy", |state| state.healthy(Place::A) == 1).await;
    on.routed(&Routing::all_to(Place::A)).await;
    on.until_answered(Some(Place::A)).await;
    assert_eq!(on.observe().await.healthy(Place::A), 1);
}

pub(super) async fn adding_the_same_targets_twice_changes_nothing(on: &On<'_>) {
    let tasks = on.served(Place::A, 2).await;
    let before = on.observe().await;
    on.add(&on.first, Place::A, &tasks).await.unwrap();
    assert_eq!(on.observe().await, before);
}

pub(super) async fn targets_whose_answer_was_lost_are_added_once(on: &On<'_>) {
    let tasks = on.tasks(Place::A, 2).await;
    drop(on.add(&on.first, Place::A, &tasks).await);
    on.add(&on.second, Place::A, &tasks).await.unwrap();
    let state = on.until("all are healthy", |state| state.healthy(Place::A) == 2).await;
    assert_eq!(targets(&state, Place::A), sorted(tasks));
}

pub(super) async fn targets_that_are_added_leave_the_others_as_they_are(on: &On<'_>) {
    let tasks = on.tasks(Place::A, 2).await;
    on.add(&on.first, Place::A, &tasks[..1]).await.unwrap();
    on.until("the first is healthy", |state| state.healthy(Place::A) == 1).await;
    on.add(&on.second, Place::A, &tasks[1..]).await.unwrap();
    let state = on.until("both are healthy", |state| state.healthy(Place::A) == 2).await;
    assert_eq!(targets(&state, Place::A), sorted(tasks));
}

pub(super) async fn a_target_that_is_added_under_another_address_has_that_one(on: &On<'_>) {
    let tasks = on.served(Place::A, 1).await;
    let moved = Endpoint { address: on.harness.dead_address(), ..tasks[0].clone() };
    on.add(&on.first, Place::A, std::slice::from_ref(&moved)).await.unwrap();
    assert_eq!(targets(&on.observe().await, Place::A), [moved]);
}

pub(super) async fn removing_targets_leaves_the_others_as_they_are(on: &On<'_>) {
    let tasks = on.served(Place::A, 2).await;
    let other = on.served(Place::B, 1).await;
    on.remove(&on.first, Place::A, &tasks[..1]).await.unwrap();
    let state = on.until("one is gone", |state| state.targets.len() == 2).await;
    assert_eq!(targets(&state, Place::A), &tasks[1..]);
    assert_eq!(targets(&state, Place::B), other);
    assert_eq!((state.healthy(Place::A), state.healthy(Place::B)), (1, 1), "{state:#?}");
}

pub(super) async fn removing_what_is_not_known_changes_nothing(on: &On<'_>) {
    let never = [Endpoint { task: TaskId::new("never"), address: on.harness.dead_address() }];
    on.remove(&on.first, Place::A, &never).await.unwrap();
    let tasks = on.live().await;
    let before = on.observe().await;
    on.remove(&on.first, Place::A, &never).await.unwrap();
    // Nor does a name of another place count.
    on.remove(&on.first, Place::B, &tasks).await.unwrap();
    on.remove(&on.first, Place::A, &[]).await.unwrap();
    assert_eq!(on.observe().await, before);
}

pub(super) async fn a_removal_whose_answer_was_lost_is_made_once(on: &On<'_>) {
    let tasks = on.served(Place::A, 2).await;
    drop(on.remove(&on.first, Place::A, &tasks[..1]).await);
    on.remove(&on.second, Place::A, &tasks[..1]).await.unwrap();
    let state = on.until("one is gone", |state| state.targets.len() == 1).await;
    assert_eq!(targets(&state, Place::A), &tasks[1..]);
}

pub(super) async fn targets_of_two_places_that_are_added_at_once_are_both_there(on: &On<'_>) {
    let (a, b) = (on.tasks(Place::A, 1).await, on.tasks(Place::B, 1).await);
    join(
        on.settled(|| on.add(&on.first, Place::A, &a)),
        on.settled(|| on.add(&on.second, Place::B, &b)),
    )
    .await;
    let both = |state: &BalancerState| state.healthy(Place::A) + state.healthy(Place::B) == 2;
    on.until("both are healthy", both).await;
}

pub(super) async fn of_two_who_add_and_remove_at_once_none_undoes_the_other(on: &On<'_>) {
    let tasks = on.tasks(Place::A, 2).await;
    let (old, new) = tasks.split_at(1);
    on.add(&on.first, Place::A, old).await.unwrap();
    join(
        on.settled(|| on.add(&on.first, Place::A, new)),
        on.settled(|| on.remove(&on.second, Place::A, old)),
    )
    .await;
    let state = on.until("the new one is healthy", |state| state.healthy(Place::A) == 1).await;
    assert_eq!(targets(&state, Place::A), new);
}

pub(super) async fn many_who_add_the_same_targets_at_once_add_them_once(on: &On<'_>) {
    let tasks = on.tasks(Place::A, 2).await;
    let handles = [&on.first, &on.second, &on.first];
    join_all(handles.map(|handle| on.settled(|| on.add(handle, Place::A, &tasks)))).await;
    let state = on.until("all are healthy", |state| state.healthy(Place::A) == 2).await;
    assert_eq!(targets(&state, Place::A), sorted(tasks));
}

pub(super) async fn a_dropped_removal_or_addition_can_be_made_again(on: &On<'_>) {
    let all = on.served(Place::A, 2).await;
    for nth in drops() {
        let removed = dropped(nth, on.remove(&on.first, Place::A, &all[..1])).await;
        let now = targets(&on.observe().await, Place::A);
        assert!(now == sorted(all.clone()) || now == all[1..], "{now:?}");
        on.settled(|| on.remove(&on.second, Place::A, &all[..1])).await;
        on.until("one is gone", |state| state.targets.len() == 1).await;
        let added = dropped(nth, on.add(&on.first, Place::A, &all)).await;
        on.settled(|| on.add(&on.second, Place::A, &all)).await;
        on.until("all are healthy", |state| state.healthy(Place::A) == 2).await;
        if removed.is_some() && added.is_some() {
            break;
        }
    }
}

pub(super) async fn targets_that_drain_get_no_requests(on: &On<'_>) {
    let tasks = on.live().await;
    on.drain(&on.first, &tasks).await.unwrap();
    on.until("it drains", |state| draining(state, &tasks)).await;
    on.until_answered(None).await;
}

pub(super) async fn draining_twice_changes_nothing(on: &On<'_>) {
    let tasks = on.live().await;
    on.drain(&on.first, &tasks).await.unwrap();
    on.until_answered(None).await;
    on.drain(&on.first, &tasks).await.unwrap();
    let state = on.observe().await;
    assert!(draining(&state, &tasks), "{state:#?}");
}

pub(super) async fn a_drain_whose_answer_was_lost_is_made_once(on: &On<'_>) {
    let tasks = on.served(Place::A, 2).await;
    drop(on.drain(&on.first, &tasks[..1]).await);
    on.drain(&on.second, &tasks[..1]).await.unwrap();
    on.until("one of them drains", |state| draining(state, &tasks[..1])).await;
}

pub(super) async fn many_who_drain_at_once_succeed(on: &On<'_>) {
    let tasks = on.served(Place::A, 2).await;
    let handles = [(&on.first, 0..1), (&on.second, 1..2), (&on.first, 0..2)];
    let drains = handles.map(|(handle, which)| {
        let tasks = &tasks[which];
        on.settled(move || on.drain(handle, tasks))
    });
    join_all(drains).await;
    on.until("both drain", |state| draining(state, &tasks)).await;
}

pub(super) async fn a_dropped_drain_can_be_made_again(on: &On<'_>) {
    let tasks = on.tasks(Place::A, 2).await;
    for nth in drops() {
        on.settled(|| on.add(&on.first, Place::A, &tasks)).await;
        on.until("all are healthy", |state| state.healthy(Place::A) == 2).await;
        let answer = dropped(nth, on.drain(&on.first, &tasks)).await;
        on.settled(|| on.drain(&on.second, &tasks)).await;
        on.until("both drain", |state| draining(state, &tasks)).await;
        on.settled(|| on.remove(&on.second, Place::A, &tasks)).await;
        on.until("no targets", |state| state.targets.is_empty()).await;
        if answer.is_some() {
            break;
        }
    }
}

pub(super) async fn draining_one_target_leaves_the_others_as_they_are(on: &On<'_>) {
    let tasks = on.served(Place::A, 2).await;
    let other = on.served(Place::B, 1).await;
    on.drain(&on.first, &tasks[..1]).await.unwrap();
    let state = on.until("one of them drains", |state| draining(state, &tasks[..1])).await;
    assert_eq!((state.healthy(Place::A), state.healthy(Place::B)), (1, 1), "{state:#?}");
    assert_eq!(targets(&state, Place::B), other);
}

pub(super) async fn draining_what_is_not_known_changes_nothing(on: &On<'_>) {
    on.first.drain(&on.service, Place::A, &[TaskId::new("never")]).await.unwrap();
    let tasks = on.live().await;
    let before = on.observe().await;
    on.first.drain(&on.service, Place::A, &[TaskId::new("never")]).await.unwrap();
    // Nor does a name of another place count.
    on.first.drain(&on.service, Place::B, &names(&tasks)).await.unwrap();
    on.drain(&on.first, &[]).await.unwrap();
    assert_eq!(on.observe().await, before);
}

pub(super) async fn draining_targets_stay_so_when_they_are_added_again(on: &On<'_>) {
    let tasks = on.served(Place::A, 2).await;
    on.drain(&on.first, &tasks[..1]).await.unwrap();
    on.until("one of them drains", |state| draining(state, &tasks[..1])).await;
    on.add(&on.second, Place::A, &tasks).await.unwrap();
    let state = on.observe().await;
    assert!(draining(&state, &tasks[..1]), "{state:#?}");
}

pub(super) async fn a_target_that_drained_and_went_is_new_when_it_comes_back(on: &On<'_>) {
    let tasks = on.served(Place::A, 1).await;
    on.drain(&on.first, &tasks).await.unwrap();
    on.until("it drains", |state| draining(state, &tasks)).await;
    on.remove(&on.first, Place::A, &tasks).await.unwrap();
    on.until("it is gone", |state| state.targets.is_empty()).await;
    on.add(&on.first, Place::A, &tasks).await.unwrap();
    on.until("it is healthy", |state| state.healthy(Place::A) == 1).await;
}
