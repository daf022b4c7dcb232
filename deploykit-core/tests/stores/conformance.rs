//! The promises of the trait, in functions that know nothing of the backend.

use std::time::Duration;

use deploykit_core::{ErrorKind, Journal, Lease, RolloutId, ServiceName, Store};
use futures::future::join_all;
use futures::poll;
use tokio::time::advance;

use crate::{Backend, TTL, history, lines, owner, rollout, web};

const TICK: Duration = Duration::from_millis(1);

async fn take(store: &impl Store) -> Lease {
    store.acquire(&web(), &owner("ci"), TTL).await.unwrap()
}

pub(crate) async fn a_held_lease_is_refused_saying_who_holds_it_where_and_since_when(
    backend: &impl Backend,
) {
    let (holder, other) = (backend.open(), backend.open());
    take(&holder).await;
    for store in [&holder, &other] {
        let error = store.acquire(&web(), &owner("else"), TTL).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        for word in ["web", "ci", "runner-1", "4711", "2026-09-21T14:13:20.100Z"] {
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}

pub(crate) async fn one_of_many_that_acquire_at_once_gets_the_lease(backend: &impl Backend) {
    let stores: Vec<_> = (0..8).map(|_| backend.open()).collect();
    let (name, owner) = (web(), owner("ci"));
    let all = join_all(stores.iter().map(|store| store.acquire(&name, &owner, TTL))).await;
    assert_eq!(all.iter().filter(|one| one.is_ok()).count(), 1, "{all:?}");
}

pub(crate) async fn each_lease_has_a_greater_token_than_all_before(backend: &impl Backend) {
    let mut tokens = Vec::new();
    for released in [true, false, true, true] {
        let store = backend.open();
        let lease = take(&store).await;
        tokens.push(lease.token);
        if released {
            store.release(&lease).await.unwrap();
        } else {
            advance(TTL).await;
        }
    }
    assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
}

pub(crate) async fn a_lease_that_is_not_renewed_ends_after_its_time_to_live(
    backend: &impl Backend,
) {
    let (holder, other) = (backend.open(), backend.open());
    take(&holder).await;
    advance(TTL - TICK).await;
    assert!(other.acquire(&web(), &owner("b"), TTL).await.is_err());
    advance(TICK * 2).await;
    // The holder's own timer has had no turn yet.
    tokio::task::yield_now().await;
    assert!(other.acquire(&web(), &owner("b"), TTL).await.is_ok());
}

pub(crate) async fn a_renewed_lease_lives_on(backend: &impl Backend) {
    let (holder, other) = (backend.open(), backend.open());
    let lease = take(&holder).await;
    for _ in 0..5 {
        advance(TTL - TICK).await;
        holder.renew(&lease).await.unwrap();
    }
    advance(TTL - TICK).await;
    assert!(other.acquire(&web(), &owner("b"), TTL).await.is_err());
    holder.append(&lease, &history(), 0, &lines([1])).await.unwrap();
}

pub(crate) async fn a_lease_that_ended_cannot_be_renewed(backend: &impl Backend) {
    let store = backend.open();
    let expired = take(&store).await;
    advance(TTL).await;
    let error = store.renew(&expired).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);

    let released = take(&store).await;
    store.release(&released).await.unwrap();
    assert!(store.renew(&released).await.is_err());
}

pub(crate) async fn a_released_lease_is_free_at_once(backend: &impl Backend) {
    let (holder, other) = (backend.open(), backend.open());
    let lease = take(&holder).await;
    holder.release(&lease).await.unwrap();
    holder.release(&lease).await.unwrap();
    assert!(other.acquire(&web(), &owner("b"), TTL).await.is_ok());
}

pub(crate) async fn releasing_a_former_lease_does_not_touch_its_successor(backend: &impl Backend) {
    let store = backend.open();
    let former = take(&store).await;
    advance(TTL).await;
    let lease = take(&store).await;
    store.release(&former).await.unwrap();
    assert!(store.renew(&lease).await.is_ok());
    let error = backend.open().acquire(&web(), &owner("b"), TTL).await.unwrap_err();
    assert!(error.to_string().contains("ci"), "{error}");
}

pub(crate) async fn leases_of_two_services_do_not_exclude_each_other(backend: &impl Backend) {
    let store = backend.open();
    let lease = take(&store).await;
    let api = ServiceName::new("api").unwrap();
    store.acquire(&api, &owner("b"), TTL).await.unwrap();
    assert!(store.renew(&lease).await.is_ok());
}

pub(crate) async fn the_longest_time_to_live_is_no_overflow(backend: &impl Backend) {
    let store = backend.open();
    let lease = store.acquire(&web(), &owner("ci"), Duration::MAX).await.unwrap();
    advance(Duration::from_secs(365 * 86_400)).await;
    assert!(store.renew(&lease).await.is_ok());
}

pub(crate) async fn what_was_appended_is_read_from_any_line_on(backend: &impl Backend) {
    let store = backend.open();
    let lease = take(&store).await;
    let first = store.append(&lease, &history(), 0, &lines([1, 2])).await;
    assert_eq!(first.unwrap(), 2);
    let second = store.append(&lease, &history(), 2, &lines([3])).await;
    assert_eq!(second.unwrap(), 3);

    let other = backend.open();
    assert_eq!(other.read(&history(), 0).await.unwrap(), lines([1, 2, 3]));
    assert_eq!(other.read(&history(), 2).await.unwrap(), lines([3]));
    assert_eq!(other.read(&history(), 9).await.unwrap(), lines([]));
}

pub(crate) async fn an_append_that_expects_another_length_is_stale_and_changes_nothing(
    backend: &impl Backend,
) {
    let store = backend.open();
    let lease = take(&store).await;
    store.append(&lease, &history(), 0, &lines([1, 2])).await.unwrap();
    for expected in [0, 1, 3] {
        let error = store.append(&lease, &history(), expected, &lines([9])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StalePlan);
        assert!(error.to_string().contains("has 2 lines"), "{error}");
    }
    assert_eq!(store.read(&history(), 0).await.unwrap(), lines([1, 2]));
}

pub(crate) async fn an_append_under_an_ended_lease_is_refused_and_changes_nothing(
    backend: &impl Backend,
) {
    let store = backend.open();
    let expired = take(&store).await;
    advance(TTL).await;
    let refused = |result: deploykit_core::Result<u64>| {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Busy);
    };
    refused(store.append(&expired, &history(), 0, &lines([1])).await);
    // Nor does it come back to life under somebody else's.
    let lease = take(&store).await;
    refused(store.append(&expired, &history(), 0, &lines([1])).await);
    store.release(&lease).await.unwrap();
    refused(store.append(&lease, &history(), 0, &lines([1])).await);
    assert_eq!(store.read(&history(), 0).await.unwrap(), lines([]));
}

pub(crate) async fn an_append_under_a_token_that_was_never_given_is_refused(
    backend: &impl Backend,
) {
    let store = backend.open();
    let lease = take(&store).await;
    let forged = Lease { token: lease.token + 1, ..lease };
    let error = store.append(&forged, &history(), 0, &lines([1])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
}

pub(crate) async fn an_append_to_another_service_s_journal_is_refused(backend: &impl Backend) {
    let store = backend.open();
    let lease = take(&store).await;
    let api = ServiceName::new("api").unwrap();
    store.acquire(&api, &owner("b"), TTL).await.unwrap();
    let journal = Journal::History(api);
    let error = store.append(&lease, &journal, 0, &lines([1])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert_eq!(store.read(&journal, 0).await.unwrap(), lines([]));
}

pub(crate) async fn a_batch_with_one_line_that_cannot_be_kept_leaves_nothing_behind(
    backend: &impl Backend,
) {
    let store = backend.open();
    let lease = take(&store).await;
    for bad in ["{\"two\":\n1}", "{}\r", "{\"half", ""] {
        let mut batch = lines([1, 2]);
        batch.push(bad.to_owned());
        let error = store.append(&lease, &history(), 0, &batch).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("line 3"), "{error}");
    }
    assert_eq!(store.read(&history(), 0).await.unwrap(), lines([]));
}

pub(crate) async fn one_of_many_appends_at_the_same_length_is_taken(backend: &impl Backend) {
    let store = backend.open();
    let lease = take(&store).await;
    let (journal, batch) = (history(), lines([1, 2]));
    let all = join_all((0..8).map(|_| store.append(&lease, &journal, 0, &batch))).await;
    assert_eq!(all.iter().filter(|one| one.is_ok()).count(), 1, "{all:?}");
    assert_eq!(store.read(&journal, 0).await.unwrap(), batch);
}

pub(crate) async fn a_dropped_append_has_happened_or_not_and_the_next_one_can_rely_on_it(
    backend: &impl Backend,
) {
    let store = backend.open();
    let lease = take(&store).await;
    for _ in 0..20 {
        let before = store.read(&history(), 0).await.unwrap().len();
        {
            let (journal, batch) = (history(), lines([1, 2]));
            let mut append = std::pin::pin!(store.append(&lease, &journal, before as u64, &batch));
            let _ = poll!(append.as_mut());
        }
        let after = store.read(&history(), 0).await.unwrap().len();
        assert!(after == before || after == before + 2, "{before} {after}");
        store.append(&lease, &history(), after as u64, &lines([3])).await.unwrap();
    }
}

pub(crate) async fn an_append_of_nothing_makes_no_journal(backend: &impl Backend) {
    let store = backend.open();
    let lease = take(&store).await;
    assert_eq!(store.append(&lease, &history(), 0, &[]).await.unwrap(), 0);
    assert!(store.append(&lease, &history(), 1, &[]).await.is_err());
    assert_eq!(store.services().await.unwrap(), []);
}

pub(crate) async fn journals_with_hostile_names_stay_apart(backend: &impl Backend) {
    let store = backend.open();
    let lease = take(&store).await;
    let names = ["web-1", "Web-1", "../web-1", "web/1", "", ".", "..", "%"];
    for (n, name) in (0..).zip(names) {
        store.append(&lease, &rollout(name), 0, &lines([n])).await.unwrap();
    }
    for (n, name) in (0..).zip(names) {
        let kept = store.read(&rollout(name), 0).await.unwrap();
        assert_eq!(kept, lines([n]), "{name:?}");
    }
}

pub(crate) async fn blobs_are_kept_under_any_name(backend: &impl Backend) {
    let store = backend.open();
    let lease = take(&store).await;
    let long = "n".repeat(3_000);
    let longer = format!("{long}n");
    let names =
        ["plan", "Plan", "release:sha256:0f", "evidence/web-1", "..", "", ".new", &long, &longer];
    for name in names {
        store.put(&lease, name, name.as_bytes()).await.unwrap();
    }
    store.put(&lease, "binary", &[0, 255, 10, 13]).await.unwrap();

    let other = backend.open();
    for name in names {
        let blob = other.get(&web(), name).await.unwrap();
        assert_eq!(blob.as_deref(), Some(name.as_bytes()));
    }
    let binary = other.get(&web(), "binary").await.unwrap();
    assert_eq!(binary.as_deref(), Some(&[0, 255, 10, 13][..]));
}

pub(crate) async fn a_blob_is_replaced_by_one_of_the_same_name(backend: &impl Backend) {
    let store = backend.open();
    let lease = take(&store).await;
    store.put(&lease, "plan", b"a longer one").await.unwrap();
    store.put(&lease, "plan", b"short").await.unwrap();
    let blob = store.get(&web(), "plan").await.unwrap();
    assert_eq!(blob.as_deref(), Some(&b"short"[..]));
}

pub(crate) async fn nothing_is_put_or_removed_under_an_ended_lease(backend: &impl Backend) {
    let store = backend.open();
    let lease = take(&store).await;
    store.put(&lease, "web-1", b"kept").await.unwrap();
    advance(TTL).await;
    let put = store.put(&lease, "web-1", b"lost").await.unwrap_err();
    let removed = store.remove(&lease, &RolloutId::new("web-1")).await;
    assert_eq!(put.kind(), ErrorKind::Busy);
    assert_eq!(removed.unwrap_err().kind(), ErrorKind::Busy);
    let blob = store.get(&web(), "web-1").await.unwrap();
    assert_eq!(blob.as_deref(), Some(&b"kept"[..]));
}

pub(crate) async fn a_removed_rollout_takes_its_journal_and_blob_and_nothing_else(
    backend: &impl Backend,
) {
    let store = backend.open();
    let lease = take(&store).await;
    for id in ["web-1", "web-2"] {
        store.append(&lease, &rollout(id), 0, &lines([1])).await.unwrap();
        store.put(&lease, id, b"plan").await.unwrap();
    }
    store.append(&lease, &history(), 0, &lines([1])).await.unwrap();

    let gone = RolloutId::new("web-1");
    store.remove(&lease, &gone).await.unwrap();
    store.remove(&lease, &gone).await.unwrap();

    assert_eq!(store.read(&rollout("web-1"), 0).await.unwrap(), lines([]));
    assert_eq!(store.get(&web(), "web-1").await.unwrap(), None);
    assert_eq!(store.read(&rollout("web-2"), 0).await.unwrap(), lines([1]));
    assert!(store.get(&web(), "web-2").await.unwrap().is_some());
    assert_eq!(store.read(&history(), 0).await.unwrap(), lines([1]));
}

pub(crate) async fn services_are_those_that_have_a_journal_in_order(backend: &impl Backend) {
    let store = backend.open();
    assert_eq!(store.services().await.unwrap(), []);
    for name in ["web", "api", "idle", "batch"] {
        let service = ServiceName::new(name).unwrap();
        let lease = store.acquire(&service, &owner("ci"), TTL).await.unwrap();
        let journal = match name {
            "idle" => continue,
            "api" => Journal::Rollout(service, RolloutId::new("api-1")),
            _ => Journal::History(service),
        };
        store.append(&lease, &journal, 0, &lines([1])).await.unwrap();
    }
    let names = ["api", "batch", "web"].map(|name| ServiceName::new(name).unwrap());
    assert_eq!(backend.open().services().await.unwrap(), names);
}

pub(crate) async fn what_does_not_exist_is_read_as_nothing(backend: &impl Backend) {
    let store = backend.open();
    assert_eq!(store.read(&history(), 0).await.unwrap(), lines([]));
    assert_eq!(store.read(&rollout("web-1"), 0).await.unwrap(), lines([]));
    assert_eq!(store.get(&web(), "plan").await.unwrap(), None);
    let never = Lease { service: web(), token: 7, ttl: TTL };
    store.release(&never).await.unwrap();
}
