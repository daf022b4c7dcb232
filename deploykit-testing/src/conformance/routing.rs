//! What a load balancer promises about where requests go, those of testers too.

use std::time::Duration;

use deploykit_core::{BalancerState, ErrorKind, Place, Routing, Weight};
use futures::future::join;

use super::balancer::{On, POLL};
use super::{Stage as _, dropped, drops, within};

fn half() -> Routing {
    Routing::split(Place::A, Place::B, Weight::ratio(1, 2).unwrap())
}

pub(super) async fn everybody_sees_the_same(on: &On<'_>) {
    on.live().await;
    let state = on.observe().await;
    let same = |other: &BalancerState| *other == state;
    on.until_seen_by(&on.second, "the second handle sees what the first does", same).await;
}

pub(super) async fn a_routing_to_one_place_is_read_back_and_followed(on: &On<'_>) {
    on.live().await;
    on.served(Place::B, 1).await;
    on.routed(&Routing::all_to(Place::B)).await;
    on.until_answered(Some(Place::B)).await;
}

pub(super) async fn a_routing_that_is_set_twice_is_set_once(on: &On<'_>) {
    on.live().await;
    let before = on.observe().await;
    on.route(&on.first, &before.routing).await.unwrap();
    assert_eq!(on.observe().await, before);
}

pub(super) async fn a_routing_whose_answer_was_lost_is_set_once(on: &On<'_>) {
    let routing = Routing::all_to(Place::A);
    drop(on.route(&on.first, &routing).await);
    on.route(&on.second, &routing).await.unwrap();
    on.until("the routing is read back", |state| state.routing == routing).await;
}

pub(super) async fn one_of_two_routings_that_are_set_at_once_is_whole(on: &On<'_>) {
    let [a, b] = [Place::A, Place::B].map(Routing::all_to);
    join(on.settled(|| on.route(&on.first, &a)), on.settled(|| on.route(&on.second, &b))).await;
    let whole = |state: &BalancerState| [&a, &b].contains(&&state.routing);
    on.until("one of them is read back", whole).await;
}

pub(super) async fn a_dropped_routing_is_the_old_or_the_new_one_and_can_be_set_again(on: &On<'_>) {
    let (old, new) = (Routing::all_to(Place::A), Routing::all_to(Place::B));
    on.routed(&old).await;
    for nth in drops() {
        let answer = dropped(nth, on.route(&on.first, &new)).await;
        let now = on.observe().await.routing;
        assert!(now == old || now == new, "{now}");
        on.settled(|| on.route(&on.second, &new)).await;
        on.until("the new one is read back", |state| state.routing == new).await;
        on.settled(|| on.route(&on.second, &old)).await;
        on.until("the old one is read back", |state| state.routing == old).await;
        if answer.is_some() {
            break;
        }
    }
}

pub(super) async fn a_closed_service_answers_nobody(on: &On<'_>) {
    on.live().await;
    on.routed(&Routing::Closed).await;
    on.until_answered(None).await;
    assert_eq!(on.observe().await.healthy(Place::A), 1, "its targets stay");
}

pub(super) async fn a_routing_to_a_place_without_targets_is_accepted(on: &On<'_>) {
    on.routed(&Routing::all_to(Place::A)).await;
    on.until_answered(None).await;
}

pub(super) async fn a_routing_set_before_its_targets_is_followed_when_they_come(on: &On<'_>) {
    on.routed(&Routing::all_to(Place::A)).await;
    on.served(Place::A, 1).await;
    on.until_answered(Some(Place::A)).await;
}

pub(super) async fn a_place_that_loses_its_targets_while_it_gets_requests_answers_nobody(
    on: &On<'_>,
) {
    let tasks = on.live().await;
    on.remove(&on.first, Place::A, &tasks).await.unwrap();
    on.until_answered(None).await;
    assert_eq!(on.observe().await.routing, Routing::all_to(Place::A), "the routing is as it was");
}

pub(super) async fn no_routing_at_all_is_unsupported(on: &On<'_>) {
    let error = on.route(&on.first, &Routing::None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(on.observe().await.routing, Routing::Closed);
}

pub(super) async fn changes_of_two_services_do_not_mix(on: &On<'_>) {
    on.live().await;
    let other = On::new(on.harness).await;
    let kept = on.observe().await;
    let served = async {
        other.served(Place::B, 1).await;
        other.routed(&Routing::all_to(Place::B)).await;
        other.until_answered(Some(Place::B)).await;
    };
    join(served, on.settled(|| on.route(&on.second, &kept.routing))).await;
    let seen = on.observe().await;
    other.clean().await;
    assert_eq!(seen, kept);
    on.until_answered(Some(Place::A)).await;
}

pub(super) async fn shares_are_read_back(on: &On<'_>) {
    for thousandths in [1, 50, 333, 500, 999] {
        let weight = Weight::thousandths(thousandths).unwrap();
        on.routed(&Routing::split(Place::A, Place::B, weight)).await;
    }
}

pub(super) async fn a_share_goes_where_it_is_set(on: &On<'_>) {
    on.live().await;
    on.served(Place::B, 1).await;
    on.routed(&half()).await;
    on.until_seen(Place::A).await;
    on.until_seen(Place::B).await;
}

pub(super) async fn shares_are_unsupported_where_there_are_none(on: &On<'_>) {
    assert_eq!(on.route(&on.first, &half()).await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(on.observe().await.routing, Routing::Closed);
}

pub(super) async fn a_pooled_routing_is_read_back_and_followed(on: &On<'_>) {
    on.live().await;
    on.served(Place::B, 1).await;
    on.routed(&Routing::Pooled).await;
    on.until_seen(Place::A).await;
    on.until_seen(Place::B).await;
}

pub(super) async fn a_pooled_routing_is_unsupported_where_there_is_none(on: &On<'_>) {
    let error = on.route(&on.first, &Routing::Pooled).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(on.observe().await.routing, Routing::Closed);
}

pub(super) async fn testers_reach_the_place_of_the_test_route_and_live_requests_do_not(
    on: &On<'_>,
) {
    on.live().await;
    on.served(Place::B, 1).await;
    on.test(&on.first, Some(Place::B)).await.unwrap();
    let state = on.until("it is open", |state| state.test_route == Some(Place::B)).await;
    let entry = state.test_entry.unwrap_or_else(|| panic!("an open test route has an entry"));
    let asked = async {
        while on.harness.ask(&on.service, &entry).await != Some(Place::B) {
            tokio::time::sleep(POLL).await;
        }
    };
    within(on.patience(), "testers reach B", asked).await;
    on.until_answered(Some(Place::A)).await;
}

pub(super) async fn a_test_route_that_is_set_twice_is_set_once(on: &On<'_>) {
    on.live().await;
    on.test(&on.first, Some(Place::A)).await.unwrap();
    let open = |state: &BalancerState| state.test_route == Some(Place::A);
    let before = on.until("it is open", open).await;
    on.test(&on.first, Some(Place::A)).await.unwrap();
    on.test(&on.second, Some(Place::A)).await.unwrap();
    assert_eq!(on.observe().await, before);
}

pub(super) async fn a_test_route_that_is_closed_has_no_entry_and_closing_it_twice_is_success(
    on: &On<'_>,
) {
    on.test(&on.first, None).await.unwrap();
    on.test(&on.first, Some(Place::A)).await.unwrap();
    on.until("it is open", |state| state.test_entry.is_some()).await;
    for by in [&on.first, &on.second] {
        on.test(by, None).await.unwrap();
        let closed =
            |state: &BalancerState| state.test_route.is_none() && state.test_entry.is_none();
        on.until("it is closed", closed).await;
    }
}

pub(super) async fn a_dropped_test_route_is_the_old_or_the_new_one_and_can_be_set_again(
    on: &On<'_>,
) {
    for nth in drops() {
        let answer = dropped(nth, on.test(&on.first, Some(Place::A))).await;
        let now = on.observe().await.test_route;
        assert!(now.is_none() || now == Some(Place::A), "{now:?}");
        on.settled(|| on.test(&on.second, Some(Place::A))).await;
        on.until("it is open", |state| state.test_route == Some(Place::A)).await;
        on.settled(|| on.test(&on.second, None)).await;
        on.until("it is closed", |state| state.test_route.is_none()).await;
        if answer.is_some() {
            break;
        }
    }
}

pub(super) async fn a_routing_leaves_the_test_route_as_it_is(on: &On<'_>) {
    on.test(&on.first, Some(Place::B)).await.unwrap();
    on.until("it is open", |state| state.test_route == Some(Place::B)).await;
    let state = on.routed(&Routing::all_to(Place::A)).await;
    assert_eq!(state.test_route, Some(Place::B));
}

pub(super) async fn a_test_route_is_unsupported_where_there_is_none(on: &On<'_>) {
    let error = on.test(&on.first, Some(Place::A)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    on.test(&on.first, None).await.unwrap();
}

pub(super) async fn a_wait_for_a_change_ends_by_its_bound(on: &On<'_>) {
    let wait = on.first.changed(&on.service, Duration::from_millis(10));
    within(on.patience(), "nothing has changed for 10 ms", wait).await;
}

pub(super) async fn a_routing_ends_the_wait_for_a_change(on: &On<'_>) {
    on.live().await;
    let wait = on.second.changed(&on.service, Duration::from_secs(86_400));
    let routing = Routing::all_to(Place::B);
    let both = join(wait, on.route(&on.first, &routing));
    within(on.patience(), "the routing shows", both).await.1.unwrap();
}
