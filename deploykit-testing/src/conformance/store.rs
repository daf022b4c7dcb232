//! What a store promises.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use deploykit_core::{
    Error, ErrorKind, Journal, Lease, Owner, RolloutId, ServiceName, Store, Timestamp,
};
use futures::future::join_all;
use futures::poll;

use super::leases::*;
use super::{
    Case, Report, Stage, always, cases, dropped, drops, play_all, play_one, unique_service,
};

/// How the suite gets at a store.
///
/// It is to be thrown away afterwards: a table, a bucket or a directory of the test's own. Nothing is removed from it.
#[async_trait]
pub trait StoreHarness: Send + Sync {
    /// A handle to the store, of its own, as another process would have. What one writes all of them read.
    async fn open(&self) -> Arc<dyn Store>;

    /// For how long leases are taken; cases wait for a few times that. Choose as little as keeps a quarter of it longer
    /// than any call takes. 30 s, which are nothing with tokio's clock paused.
    fn ttl(&self) -> Duration {
        Duration::from_secs(30)
    }

    /// The longest that anything may take.
    fn patience(&self) -> Duration {
        self.ttl().saturating_mul(4)
    }
}

/// Checks every promise of a store.
pub async fn store(harness: &dyn StoreHarness) -> Report {
    play_all(promises(), || On::new(harness)).await
}

/// Checks one promise of a store, by its name.
///
/// # Panics
/// If it is broken.
pub async fn check_store(harness: &dyn StoreHarness, promise: &str) {
    play_one(promises(), promise, On::new(harness)).await;
}

/// Makes a test of each promise of a [`Store`]: an attribute for all of them, and a [`StoreHarness`] that is made for each.
/// See [`conformance`](crate::conformance).
#[macro_export]
macro_rules! store_conformance {
    ($(#[$attribute:meta])+ $harness:expr) => {
        $crate::__promises_of_a_store! {
            [$crate::__conformance_tests] [[$(#[$attribute])+] check_store $harness]
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __promises_of_a_store {
    ([$($then:tt)+] $with:tt) => { $($then)+! { $with
        always:
            a_stolen_lease_is_the_thiefs_and_whoever_held_it_is_refused
            a_lease_that_nobody_holds_can_be_stolen
            one_of_many_thieves_has_the_lease_in_the_end
            releasing_a_stolen_lease_does_not_touch_the_thiefs
            requests_are_read_in_order_from_any_number_on
            whoever_waits_for_requests_gets_what_is_posted_later
            of_many_requests_at_once_none_is_lost
            a_dropped_wait_for_requests_loses_nothing
            a_request_that_cannot_be_a_line_is_refused
            a_removed_rollout_takes_its_requests
            a_held_lease_is_refused_saying_who_holds_it_where_and_since_when
            one_of_many_that_acquire_at_once_gets_the_lease
            a_dropped_acquire_locks_nobody_out_for_longer_than_the_time_to_live
            each_lease_has_a_greater_token_than_all_before
            a_lease_that_is_not_renewed_ends_after_its_time_to_live
            a_renewed_lease_lives_on
            a_lease_that_ended_cannot_be_renewed
            a_lease_that_is_renewed_at_once_by_many_lives_on
            a_released_lease_is_free_at_once
            a_lease_can_be_released_twice_and_by_many_at_once
            a_dropped_release_can_be_made_again
            releasing_a_former_lease_does_not_touch_its_successor
            leases_of_two_services_do_not_exclude_each_other
            the_longest_time_to_live_is_no_overflow
            what_was_appended_is_read_from_any_line_on
            an_append_that_expects_another_length_is_stale_and_changes_nothing
            an_append_whose_answer_was_lost_is_stale_and_was_made_once
            an_append_under_an_ended_lease_is_refused_and_changes_nothing
            an_append_under_a_token_that_was_never_given_is_refused
            an_append_to_another_service_s_journal_is_refused
            a_batch_with_one_line_that_cannot_be_kept_leaves_nothing_behind
            one_of_many_appends_at_the_same_length_is_taken
            a_dropped_append_has_happened_or_not_and_the_next_one_can_rely_on_it
            an_append_of_nothing_makes_no_journal
            journals_with_hostile_names_stay_apart
            blobs_are_kept_under_any_name
            a_blob_is_replaced_by_one_of_the_same_name
            a_blob_that_many_put_at_once_is_that_of_one_of_them
            a_dropped_put_leaves_the_old_blob_or_the_new_one
            nothing_is_put_or_removed_under_an_ended_lease
            a_removed_rollout_takes_its_journal_and_blob_and_nothing_else
            a_rollout_is_removed_twice_and_by_many_at_once
            a_dropped_remove_can_be_made_again
            a_removed_journal_can_be_begun_again
            services_are_those_that_have_a_journal_in_order
            what_does_not_exist_is_read_as_nothing
        ;
    } };
}

fn promises<'h>() -> Vec<Case<On<'h>>> {
    __promises_of_a_store! { [cases] [] }
}

pub(super) struct On<'h> {
    pub(super) harness: &'h dyn StoreHarness,
    pub(super) service: ServiceName,
}

#[async_trait]
impl Stage for On<'_> {
    fn patience(&self) -> Duration {
        self.harness.patience()
    }
}

impl<'h> On<'h> {
    async fn new(harness: &'h dyn StoreHarness) -> Self {
        Self { harness, service: unique_service() }
    }

    pub(super) async fn open(&self) -> Arc<dyn Store> {
        self.harness.open().await
    }

    pub(super) async fn acquire(&self, store: &dyn Store, name: &str) -> Result<Lease, Error> {
        store.acquire(&self.service, &owner(name), self.harness.ttl()).await
    }

    /// A handle, and the lease of the case's service, which it holds.
    pub(super) async fn held(&self) -> (Arc<dyn Store>, Lease) {
        let store = self.open().await;
        let lease = self.acquire(&store, "ci").await.unwrap();
        (store, lease)
    }

    /// Most of a lease's time.
    pub(super) async fn most(&self) {
        tokio::time::sleep(self.harness.ttl() * 3 / 4).await;
    }

    /// More than a lease's time.
    pub(super) async fn too_long(&self) {
        tokio::time::sleep(self.harness.ttl() * 5 / 4).await;
    }

    pub(super) fn history(&self) -> Journal {
        Journal::History(self.service.clone())
    }

    fn rollout(&self, id: &str) -> Journal {
        Journal::Rollout(self.service.clone(), RolloutId::new(id))
    }
}

pub(super) fn owner(name: &str) -> Owner {
    Owner {
        name: name.to_owned(),
        host: "runner-1".to_owned(),
        pid: 4711,
        since: Timestamp::from_millis(1_790_000_000_100),
    }
}

/// Lines as journals hold them.
pub(super) fn lines<const N: usize>(numbers: [u32; N]) -> Vec<String> {
    numbers.map(|n| format!("{{\"n\":{n}}}")).to_vec()
}

#[track_caller]
pub(super) fn busy<T: std::fmt::Debug>(answer: Result<T, Error>) {
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Conflict);
}

async fn requests_are_read_in_order_from_any_number_on(on: &On<'_>) {
    let (store, rollout) = (on.open().await, RolloutId::new("web-1"));
    for line in lines([1, 2, 3]) {
        store.post(&on.service, &rollout, &line).await.unwrap();
    }
    let other = on.open().await;
    assert_eq!(other.posted(&on.service, &rollout, 0).await.unwrap(), lines([1, 2, 3]));
    assert_eq!(other.posted(&on.service, &rollout, 2).await.unwrap(), lines([3]));
}

async fn whoever_waits_for_requests_gets_what_is_posted_later(on: &On<'_>) {
    let (store, other) = (on.open().await, on.open().await);
    let rollout = RolloutId::new("web-1");
    let other_rollout = RolloutId::new("web-2");
    let mut waiting = pin!(store.posted(&on.service, &rollout, 0));
    assert!(poll!(&mut waiting).is_pending());
    other.post(&on.service, &other_rollout, &lines([9])[0]).await.unwrap();
    assert!(poll!(&mut waiting).is_pending());
    other.post(&on.service, &rollout, &lines([1])[0]).await.unwrap();
    assert_eq!(waiting.await.unwrap(), lines([1]));
}

async fn of_many_requests_at_once_none_is_lost(on: &On<'_>) {
    let rollout = RolloutId::new("web-1");
    let stores = join_all((0..8).map(|_| on.open())).await;
    let wanted = lines([0, 1, 2, 3, 4, 5, 6, 7]);
    let posts = stores.iter().zip(&wanted);
    let posts = posts.map(|(store, line)| store.post(&on.service, &rollout, line));
    let all = join_all(posts).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    let mut there = on.open().await.posted(&on.service, &rollout, 0).await.unwrap();
    there.sort();
    assert_eq!(there, wanted);
}

async fn a_dropped_wait_for_requests_loses_nothing(on: &On<'_>) {
    let (store, rollout) = (on.open().await, RolloutId::new("web-1"));
    for nth in drops() {
        if dropped(nth, store.posted(&on.service, &rollout, 0)).await.is_some() {
            break;
        }
        store.post(&on.service, &rollout, &lines([1])[0]).await.unwrap();
    }
    let there = store.posted(&on.service, &rollout, 0).await.unwrap();
    assert_eq!(there.first(), lines([1]).first());
}

async fn a_request_that_cannot_be_a_line_is_refused(on: &On<'_>) {
    let (store, rollout) = (on.open().await, RolloutId::new("web-1"));
    for bad in ["{\"two\":\n1}", "{}\r", "{\"half", ""] {
        let error = store.post(&on.service, &rollout, bad).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{bad:?}");
    }
    store.post(&on.service, &rollout, &lines([1])[0]).await.unwrap();
    assert_eq!(store.posted(&on.service, &rollout, 0).await.unwrap(), lines([1]));
}

async fn a_removed_rollout_takes_its_requests(on: &On<'_>) {
    let (store, lease) = on.held().await;
    let rollout = RolloutId::new("web-1");
    store.post(&on.service, &rollout, &lines([1])[0]).await.unwrap();
    store.remove(&lease, &rollout).await.unwrap();
    store.post(&on.service, &rollout, &lines([2])[0]).await.unwrap();
    assert_eq!(store.posted(&on.service, &rollout, 0).await.unwrap(), lines([2]));
}

async fn what_was_appended_is_read_from_any_line_on(on: &On<'_>) {
    let (store, lease) = on.held().await;
    let first = store.append(&lease, &on.history(), 0, &lines([1, 2])).await;
    assert_eq!(first.unwrap(), 2);
    let second = store.append(&lease, &on.history(), 2, &lines([3])).await;
    assert_eq!(second.unwrap(), 3);

    let other = on.open().await;
    assert_eq!(other.read(&on.history(), 0).await.unwrap(), lines([1, 2, 3]));
    assert_eq!(other.read(&on.history(), 2).await.unwrap(), lines([3]));
    assert_eq!(other.read(&on.history(), 9).await.unwrap(), lines([]));
}

async fn an_append_that_expects_another_length_is_stale_and_changes_nothing(on: &On<'_>) {
    let (store, lease) = on.held().await;
    store.append(&lease, &on.history(), 0, &lines([1, 2])).await.unwrap();
    for expected in [0, 1, 3] {
        let error = store.append(&lease, &on.history(), expected, &lines([9])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StalePlan);
        assert!(error.to_string().contains("has 2 lines"), "{error}");
    }
    assert_eq!(store.read(&on.history(), 0).await.unwrap(), lines([1, 2]));
}

async fn an_append_whose_answer_was_lost_is_stale_and_was_made_once(on: &On<'_>) {
    let (store, lease) = on.held().await;
    drop(store.append(&lease, &on.history(), 0, &lines([1])).await);
    let again = store.append(&lease, &on.history(), 0, &lines([1])).await;
    assert_eq!(again.unwrap_err().kind(), ErrorKind::StalePlan);
    assert_eq!(on.open().await.read(&on.history(), 0).await.unwrap(), lines([1]));
}

async fn an_append_under_an_ended_lease_is_refused_and_changes_nothing(on: &On<'_>) {
    let (store, expired) = on.held().await;
    on.too_long().await;
    busy(store.append(&expired, &on.history(), 0, &lines([1])).await);
    // Nor does it come back to life under somebody else's.
    let lease = on.acquire(&store, "ci").await.unwrap();
    busy(store.append(&expired, &on.history(), 0, &lines([1])).await);
    store.release(&lease).await.unwrap();
    busy(store.append(&lease, &on.history(), 0, &lines([1])).await);
    assert_eq!(store.read(&on.history(), 0).await.unwrap(), lines([]));
}

async fn an_append_under_a_token_that_was_never_given_is_refused(on: &On<'_>) {
    let (store, lease) = on.held().await;
    let forged = Lease { token: lease.token + 1, ..lease };
    busy(store.append(&forged, &on.history(), 0, &lines([1])).await);
}

async fn an_append_to_another_service_s_journal_is_refused(on: &On<'_>) {
    let (store, lease) = on.held().await;
    let other = unique_service();
    store.acquire(&other, &owner("b"), on.harness.ttl()).await.unwrap();
    let journal = Journal::History(other);
    busy(store.append(&lease, &journal, 0, &lines([1])).await);
    assert_eq!(store.read(&journal, 0).await.unwrap(), lines([]));
}

async fn a_batch_with_one_line_that_cannot_be_kept_leaves_nothing_behind(on: &On<'_>) {
    let (store, lease) = on.held().await;
    for bad in ["{\"two\":\n1}", "{}\r", "{\"half", ""] {
        let mut batch = lines([1, 2]);
        batch.push(bad.to_owned());
        let error = store.append(&lease, &on.history(), 0, &batch).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("line 3"), "{error}");
    }
    assert_eq!(store.read(&on.history(), 0).await.unwrap(), lines([]));
}

async fn one_of_many_appends_at_the_same_length_is_taken(on: &On<'_>) {
    let (store, lease) = on.held().await;
    let (journal, batch) = (on.history(), lines([1, 2]));
    let all = join_all((0..8).map(|_| store.append(&lease, &journal, 0, &batch))).await;
    assert_eq!(all.iter().filter(|one| one.is_ok()).count(), 1, "{all:?}");
    assert_eq!(store.read(&journal, 0).await.unwrap(), batch);
}

async fn a_dropped_append_has_happened_or_not_and_the_next_one_can_rely_on_it(on: &On<'_>) {
    let (store, lease) = on.held().await;
    let (journal, batch) = (on.history(), lines([1, 2]));
    for nth in drops() {
        let before = store.read(&journal, 0).await.unwrap().len();
        let answer = dropped(nth, store.append(&lease, &journal, before as u64, &batch)).await;
        let after = store.read(&journal, 0).await.unwrap().len();
        assert!(after == before || after == before + 2, "{before} {after}");
        store.append(&lease, &journal, after as u64, &lines([3])).await.unwrap();
        if answer.is_some() {
            break;
        }
    }
}

async fn an_append_of_nothing_makes_no_journal(on: &On<'_>) {
    let (store, lease) = on.held().await;
    assert_eq!(store.append(&lease, &on.history(), 0, &[]).await.unwrap(), 0);
    assert!(store.append(&lease, &on.history(), 1, &[]).await.is_err());
    assert!(!store.services().await.unwrap().contains(&on.service));
}

async fn journals_with_hostile_names_stay_apart(on: &On<'_>) {
    let (store, lease) = on.held().await;
    let names = ["web-1", "Web-1", "../web-1", "web/1", "", ".", "..", "%"];
    for (n, name) in (0..).zip(names) {
        store.append(&lease, &on.rollout(name), 0, &lines([n])).await.unwrap();
    }
    for (n, name) in (0..).zip(names) {
        let kept = store.read(&on.rollout(name), 0).await.unwrap();
        assert_eq!(kept, lines([n]), "{name:?}");
    }
}

async fn blobs_are_kept_under_any_name(on: &On<'_>) {
    let (store, lease) = on.held().await;
    let long = "n".repeat(3_000);
    let longer = format!("{long}n");
    let names =
        ["plan", "Plan", "release:sha256:0f", "evidence/web-1", "..", "", ".new", &long, &longer];
    for name in names {
        store.put(&lease, name, name.as_bytes()).await.unwrap();
    }
    store.put(&lease, "binary", &[0, 255, 10, 13]).await.unwrap();

    let other = on.open().await;
    for name in names {
        let blob = other.get(&on.service, name).await.unwrap();
        assert_eq!(blob.as_deref(), Some(name.as_bytes()));
    }
    let binary = other.get(&on.service, "binary").await.unwrap();
    assert_eq!(binary.as_deref(), Some(&[0, 255, 10, 13][..]));
}

async fn a_blob_is_replaced_by_one_of_the_same_name(on: &On<'_>) {
    let (store, lease) = on.held().await;
    for bytes in ["a longer one", "short", "short"] {
        store.put(&lease, "plan", bytes.as_bytes()).await.unwrap();
        let blob = on.open().await.get(&on.service, "plan").await.unwrap();
        assert_eq!(blob.as_deref(), Some(bytes.as_bytes()));
    }
}

async fn a_blob_that_many_put_at_once_is_that_of_one_of_them(on: &On<'_>) {
    let (store, lease) = on.held().await;
    let blobs: Vec<_> = (1..9).map(|n| vec![n; 10_000 * usize::from(n)]).collect();
    let all = join_all(blobs.iter().map(|blob| store.put(&lease, "plan", blob))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    let kept = store.get(&on.service, "plan").await.unwrap().unwrap();
    assert!(blobs.contains(&kept), "{} bytes that nobody has put", kept.len());
}

async fn a_dropped_put_leaves_the_old_blob_or_the_new_one(on: &On<'_>) {
    let (store, lease) = on.held().await;
    let (old, new) = (vec![b'o'; 100_000], vec![b'n'; 50_000]);
    for nth in drops() {
        store.put(&lease, "plan", &old).await.unwrap();
        let answer = dropped(nth, store.put(&lease, "plan", &new)).await;
        let kept = store.get(&on.service, "plan").await.unwrap().unwrap();
        assert!(kept == old || kept == new, "{} bytes that nobody has put", kept.len());
        if answer.is_some() {
            break;
        }
    }
}

async fn nothing_is_put_or_removed_under_an_ended_lease(on: &On<'_>) {
    let (store, lease) = on.held().await;
    store.put(&lease, "web-1", b"kept").await.unwrap();
    on.too_long().await;
    busy(store.put(&lease, "web-1", b"lost").await);
    busy(store.remove(&lease, &RolloutId::new("web-1")).await);
    let blob = store.get(&on.service, "web-1").await.unwrap();
    assert_eq!(blob.as_deref(), Some(&b"kept"[..]));
}

async fn a_removed_rollout_takes_its_journal_and_blob_and_nothing_else(on: &On<'_>) {
    let (store, lease) = on.held().await;
    for id in ["web-1", "web-2"] {
        store.append(&lease, &on.rollout(id), 0, &lines([1])).await.unwrap();
        store.put(&lease, id, b"plan").await.unwrap();
    }
    store.append(&lease, &on.history(), 0, &lines([1])).await.unwrap();

    store.remove(&lease, &RolloutId::new("web-1")).await.unwrap();

    assert_eq!(store.read(&on.rollout("web-1"), 0).await.unwrap(), lines([]));
    assert_eq!(store.get(&on.service, "web-1").await.unwrap(), None);
    assert_eq!(store.read(&on.rollout("web-2"), 0).await.unwrap(), lines([1]));
    assert!(store.get(&on.service, "web-2").await.unwrap().is_some());
    assert_eq!(store.read(&on.history(), 0).await.unwrap(), lines([1]));
}

async fn a_rollout_is_removed_twice_and_by_many_at_once(on: &On<'_>) {
    let (store, lease) = on.held().await;
    store.append(&lease, &on.rollout("web-1"), 0, &lines([1])).await.unwrap();
    store.put(&lease, "web-1", b"plan").await.unwrap();
    let gone = RolloutId::new("web-1");
    let all = join_all((0..8).map(|_| store.remove(&lease, &gone))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    store.remove(&lease, &gone).await.unwrap();
    assert_eq!(store.read(&on.rollout("web-1"), 0).await.unwrap(), lines([]));
}

async fn a_dropped_remove_can_be_made_again(on: &On<'_>) {
    let (store, lease) = on.held().await;
    let gone = RolloutId::new("web-1");
    for nth in drops() {
        store.append(&lease, &on.rollout("web-1"), 0, &lines([1])).await.unwrap();
        store.put(&lease, "web-1", b"plan").await.unwrap();
        let answer = dropped(nth, store.remove(&lease, &gone)).await;
        store.remove(&lease, &gone).await.unwrap();
        assert_eq!(store.read(&on.rollout("web-1"), 0).await.unwrap(), lines([]));
        assert_eq!(store.get(&on.service, "web-1").await.unwrap(), None);
        if answer.is_some() {
            break;
        }
    }
}

async fn a_removed_journal_can_be_begun_again(on: &On<'_>) {
    let (store, lease) = on.held().await;
    store.append(&lease, &on.rollout("web-1"), 0, &lines([1, 2])).await.unwrap();
    store.remove(&lease, &RolloutId::new("web-1")).await.unwrap();
    assert_eq!(store.append(&lease, &on.rollout("web-1"), 0, &lines([3])).await.unwrap(), 1);
    assert_eq!(store.read(&on.rollout("web-1"), 0).await.unwrap(), lines([3]));
}

async fn services_are_those_that_have_a_journal_in_order(on: &On<'_>) {
    let (store, ttl) = (on.open().await, on.harness.ttl());
    let named = |name: &str| ServiceName::new(format!("{}-{name}", on.service)).unwrap();
    for name in ["web", "api", "idle", "batch"] {
        let service = named(name);
        let lease = store.acquire(&service, &owner("ci"), ttl).await.unwrap();
        let journal = match name {
            "idle" => continue,
            "api" => Journal::Rollout(service, RolloutId::new("api-1")),
            _ => Journal::History(service),
        };
        store.append(&lease, &journal, 0, &lines([1])).await.unwrap();
    }
    let mut services = on.open().await.services().await.unwrap();
    // The store may be shared with other cases.
    services.retain(|service| service.as_str().starts_with(&format!("{}-", on.service)));
    assert_eq!(services, ["api", "batch", "web"].map(named));
}

async fn what_does_not_exist_is_read_as_nothing(on: &On<'_>) {
    let store = on.open().await;
    assert_eq!(store.read(&on.history(), 0).await.unwrap(), lines([]));
    assert_eq!(store.read(&on.rollout("web-1"), 0).await.unwrap(), lines([]));
    assert_eq!(store.get(&on.service, "plan").await.unwrap(), None);
    let never = Lease { service: on.service.clone(), token: 7, ttl: on.harness.ttl() };
    store.release(&never).await.unwrap();
}
