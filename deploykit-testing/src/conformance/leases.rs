//! What a store promises about leases.

use std::time::Duration;

use deploykit_core::ErrorKind;
use futures::future::join_all;

use super::store::{On, busy, lines, owner};
use super::{dropped, drops, unique_service};

pub(super) async fn a_stolen_lease_is_the_thiefs_and_whoever_held_it_is_refused(on: &On<'_>) {
    let (holder, lease) = on.held().await;
    let thief = on.open().await;
    let stolen = thief.steal(&on.service, &owner("thief"), on.harness.ttl()).await.unwrap();
    assert!(stolen.token > lease.token);
    busy(holder.renew(&lease).await);
    busy(holder.append(&lease, &on.history(), 0, &lines([1])).await);
    busy(holder.put(&lease, "plan", b"1").await);
    let error = on.acquire(&holder, "else").await.unwrap_err();
    assert!(error.to_string().contains("thief"), "{error}");
    thief.renew(&stolen).await.unwrap();
    thief.append(&stolen, &on.history(), 0, &lines([2])).await.unwrap();
}

pub(super) async fn a_lease_that_nobody_holds_can_be_stolen(on: &On<'_>) {
    let store = on.open().await;
    let stolen = store.steal(&on.service, &owner("thief"), on.harness.ttl()).await.unwrap();
    busy(on.acquire(&on.open().await, "else").await);
    store.renew(&stolen).await.unwrap();
}

pub(super) async fn one_of_many_thieves_has_the_lease_in_the_end(on: &On<'_>) {
    on.held().await;
    let stores = join_all((0..8).map(|_| on.open())).await;
    let (thief, ttl) = (owner("thief"), on.harness.ttl());
    let all = join_all(stores.iter().map(|store| store.steal(&on.service, &thief, ttl))).await;
    let mut valid = 0;
    for (store, lease) in stores.iter().zip(&all) {
        if let Ok(lease) = lease {
            valid += usize::from(store.renew(lease).await.is_ok());
        }
    }
    assert_eq!(valid, 1, "{all:?}");
}

pub(super) async fn releasing_a_stolen_lease_does_not_touch_the_thiefs(on: &On<'_>) {
    let (holder, lease) = on.held().await;
    let thief = on.open().await;
    let stolen = thief.steal(&on.service, &owner("thief"), on.harness.ttl()).await.unwrap();
    holder.release(&lease).await.unwrap();
    thief.renew(&stolen).await.unwrap();
    let error = on.acquire(&on.open().await, "else").await.unwrap_err();
    assert!(error.to_string().contains("thief"), "{error}");
}

pub(super) async fn a_held_lease_is_refused_saying_who_holds_it_where_and_since_when(on: &On<'_>) {
    let (holder, _) = on.held().await;
    for store in [&holder, &on.open().await] {
        let error = on.acquire(store, "else").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        for word in [on.service.as_str(), "ci", "runner-1", "4711", "2026-09-21T14:13:20.100Z"] {
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}

pub(super) async fn one_of_many_that_acquire_at_once_gets_the_lease(on: &On<'_>) {
    let stores = join_all((0..8).map(|_| on.open())).await;
    let all = join_all(stores.iter().map(|store| on.acquire(store, "ci"))).await;
    assert_eq!(all.iter().filter(|one| one.is_ok()).count(), 1, "{all:?}");
}

pub(super) async fn a_dropped_acquire_locks_nobody_out_for_longer_than_the_time_to_live(
    on: &On<'_>,
) {
    for nth in drops() {
        let store = on.open().await;
        let answer = dropped(nth, on.acquire(&store, "ci")).await;
        on.too_long().await;
        let lease = on.acquire(&on.open().await, "b").await.unwrap();
        store.release(&lease).await.unwrap();
        if answer.is_some() {
            break;
        }
    }
}

pub(super) async fn each_lease_has_a_greater_token_than_all_before(on: &On<'_>) {
    let mut tokens = Vec::new();
    for released in [true, false, true, true] {
        let (store, lease) = on.held().await;
        tokens.push(lease.token);
        if released {
            store.release(&lease).await.unwrap();
        } else {
            on.too_long().await;
        }
    }
    assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
}

pub(super) async fn a_lease_that_is_not_renewed_ends_after_its_time_to_live(on: &On<'_>) {
    let (_holder, _) = on.held().await;
    let other = on.open().await;
    on.most().await;
    busy(on.acquire(&other, "b").await);
    tokio::time::sleep(on.harness.ttl() / 2).await;
    assert!(on.acquire(&other, "b").await.is_ok());
}

pub(super) async fn a_renewed_lease_lives_on(on: &On<'_>) {
    let (holder, lease) = on.held().await;
    for _ in 0..3 {
        on.most().await;
        holder.renew(&lease).await.unwrap();
    }
    on.most().await;
    busy(on.acquire(&on.open().await, "b").await);
    holder.append(&lease, &on.history(), 0, &lines([1])).await.unwrap();
}

pub(super) async fn a_lease_that_ended_cannot_be_renewed(on: &On<'_>) {
    let (store, expired) = on.held().await;
    on.too_long().await;
    busy(store.renew(&expired).await);

    let released = on.acquire(&store, "ci").await.unwrap();
    store.release(&released).await.unwrap();
    busy(store.renew(&released).await);
}

pub(super) async fn a_lease_that_is_renewed_at_once_by_many_lives_on(on: &On<'_>) {
    let (store, lease) = on.held().await;
    on.most().await;
    let all = join_all((0..8).map(|_| store.renew(&lease))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    on.most().await;
    busy(on.acquire(&on.open().await, "b").await);
}

pub(super) async fn a_released_lease_is_free_at_once(on: &On<'_>) {
    let (holder, lease) = on.held().await;
    holder.release(&lease).await.unwrap();
    assert!(on.acquire(&on.open().await, "b").await.is_ok());
}

pub(super) async fn a_lease_can_be_released_twice_and_by_many_at_once(on: &On<'_>) {
    let (holder, lease) = on.held().await;
    let all = join_all((0..8).map(|_| holder.release(&lease))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    holder.release(&lease).await.unwrap();
}

pub(super) async fn a_dropped_release_can_be_made_again(on: &On<'_>) {
    for nth in drops() {
        let (holder, lease) = on.held().await;
        let answer = dropped(nth, holder.release(&lease)).await;
        holder.release(&lease).await.unwrap();
        let other = on.open().await;
        let next = on.acquire(&other, "b").await.unwrap();
        other.release(&next).await.unwrap();
        if answer.is_some() {
            break;
        }
    }
}

pub(super) async fn releasing_a_former_lease_does_not_touch_its_successor(on: &On<'_>) {
    let (store, former) = on.held().await;
    on.too_long().await;
    let lease = on.acquire(&store, "ci").await.unwrap();
    store.release(&former).await.unwrap();
    assert!(store.renew(&lease).await.is_ok());
    let error = on.acquire(&on.open().await, "b").await.unwrap_err();
    assert!(error.to_string().contains("ci"), "{error}");
}

pub(super) async fn leases_of_two_services_do_not_exclude_each_other(on: &On<'_>) {
    let (store, lease) = on.held().await;
    let ttl = on.harness.ttl();
    store.acquire(&unique_service(), &owner("b"), ttl).await.unwrap();
    assert!(store.renew(&lease).await.is_ok());
}

pub(super) async fn the_longest_time_to_live_is_no_overflow(on: &On<'_>) {
    let store = on.open().await;
    let lease = store.acquire(&on.service, &owner("ci"), Duration::MAX).await.unwrap();
    on.too_long().await;
    assert!(store.renew(&lease).await.is_ok());
    busy(on.acquire(&on.open().await, "b").await);
}
