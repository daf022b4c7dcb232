//! What a load balancer promises.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use deploykit_core::{
    BalancerCapability, BalancerState, Endpoint, Entry, ErrorKind, LoadBalancer, Place, Result,
    Routing, ServiceName, TaskId,
};

use super::routing::*;
use super::targets::*;
use super::{
    Case, Report, Stage, always, cases, play_all, play_one, settled, unique_service, within,
};

/// How often a request is sent to see who answers none.
const ASKS: usize = 5;

/// How the suite gets at a load balancer.
#[async_trait]
pub trait BalancerHarness: Send + Sync {
    /// A handle to the balancer, of its own, as another process would have. All of them change the same thing.
    async fn open(&self) -> Arc<dyn LoadBalancer>;

    /// A service that nobody else has, closed and without targets: where a balancer has to be told of a service first, on
    /// which port it listens for example, it has been told.
    async fn service(&self) -> ServiceName {
        unique_service()
    }

    /// So many tasks of a place of the service, that answer requests. Asked for once for a place. Tasks may be shared by all
    /// services, and have to be where the balancer cannot do without them.
    async fn tasks(&self, service: &ServiceName, place: Place, count: u32) -> Vec<Endpoint>;

    /// Sends one request to an entry of the service, and says the place of the task that answered it; none where none did.
    async fn ask(&self, service: &ServiceName, entry: &Entry) -> Option<Place>;

    /// Where nobody listens.
    fn dead_address(&self) -> String {
        "127.0.0.1:1".to_owned()
    }

    /// Removes all that a case left of its service, also where it failed.
    async fn clean(&self, service: &ServiceName);

    /// The longest that anything may take, the balancer's lag not counted.
    fn patience(&self) -> Duration {
        Duration::from_secs(30)
    }
}

/// Checks every promise of a load balancer.
pub async fn balancer(harness: &dyn BalancerHarness) -> Report {
    play_all(promises(), || On::new(harness)).await
}

/// Checks one promise of a load balancer, by its name.
///
/// # Panics
/// If it is broken.
pub async fn check_balancer(harness: &dyn BalancerHarness, promise: &str) {
    play_one(promises(), promise, On::new(harness)).await;
}

/// Makes a test of each promise of a [`LoadBalancer`]: an attribute for all of them, and a [`BalancerHarness`] that is made
/// for each. See [`conformance`](crate::conformance).
#[macro_export]
macro_rules! balancer_conformance {
    ($(#[$attribute:meta])+ $harness:expr) => {
        $crate::__promises_of_a_balancer! {
            [$crate::__conformance_tests] [[$(#[$attribute])+] check_balancer $harness]
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __promises_of_a_balancer {
    ([$($then:tt)+] $with:tt) => { $($then)+! { $with
        always:
            a_service_that_is_not_known_is_closed_and_has_no_targets
            a_change_of_a_service_that_is_not_known_is_made_or_not_found
            a_new_service_is_closed_and_answers_nobody
            targets_that_answer_become_healthy
            a_target_where_nobody_listens_gets_no_requests
            adding_the_same_targets_twice_changes_nothing
            targets_whose_answer_was_lost_are_added_once
            targets_that_are_added_leave_the_others_as_they_are
            a_target_that_is_added_under_another_address_has_that_one
            removing_targets_leaves_the_others_as_they_are
            removing_what_is_not_known_changes_nothing
            a_removal_whose_answer_was_lost_is_made_once
            targets_of_two_places_that_are_added_at_once_are_both_there
            of_two_who_add_and_remove_at_once_none_undoes_the_other
            many_who_add_the_same_targets_at_once_add_them_once
            a_dropped_removal_or_addition_can_be_made_again
            everybody_sees_the_same
            a_routing_to_one_place_is_read_back_and_followed
            a_routing_that_is_set_twice_is_set_once
            a_routing_whose_answer_was_lost_is_set_once
            one_of_two_routings_that_are_set_at_once_is_whole
            a_dropped_routing_is_the_old_or_the_new_one_and_can_be_set_again
            a_closed_service_answers_nobody
            a_routing_to_a_place_without_targets_is_accepted
            a_routing_set_before_its_targets_is_followed_when_they_come
            a_place_that_loses_its_targets_while_it_gets_requests_answers_nobody
            no_routing_at_all_is_unsupported
            changes_of_two_services_do_not_mix
            targets_that_drain_get_no_requests
            draining_twice_changes_nothing
            a_drain_whose_answer_was_lost_is_made_once
            many_who_drain_at_once_succeed
            a_dropped_drain_can_be_made_again
            draining_one_target_leaves_the_others_as_they_are
            draining_what_is_not_known_changes_nothing
            draining_targets_stay_so_when_they_are_added_again
            a_target_that_drained_and_went_is_new_when_it_comes_back
            a_wait_for_a_change_ends_by_its_bound
            a_routing_ends_the_wait_for_a_change
        ;
        weighted:
            shares_are_read_back
            a_share_goes_where_it_is_set
        ;
        not_weighted:
            shares_are_unsupported_where_there_are_none
        ;
        pooled:
            a_pooled_routing_is_read_back_and_followed
        ;
        not_pooled:
            a_pooled_routing_is_unsupported_where_there_is_none
        ;
        test_route:
            testers_reach_the_place_of_the_test_route_and_live_requests_do_not
            a_test_route_that_is_set_twice_is_set_once
            a_test_route_that_is_closed_has_no_entry_and_closing_it_twice_is_success
            a_dropped_test_route_is_the_old_or_the_new_one_and_can_be_set_again
            a_routing_leaves_the_test_route_as_it_is
        ;
        no_test_route:
            a_test_route_is_unsupported_where_there_is_none
        ;
    } };
}

fn promises<'h>() -> Vec<Case<On<'h>>> {
    __promises_of_a_balancer! { [cases] [] }
}

fn weighted(on: &On<'_>) -> bool {
    on.capability.weighted
}

fn not_weighted(on: &On<'_>) -> bool {
    !on.capability.weighted
}

fn pooled(on: &On<'_>) -> bool {
    on.capability.pooled
}

fn not_pooled(on: &On<'_>) -> bool {
    !on.capability.pooled
}

fn test_route(on: &On<'_>) -> bool {
    on.capability.test_route
}

fn no_test_route(on: &On<'_>) -> bool {
    !on.capability.test_route
}

pub(super) struct On<'h> {
    pub(super) harness: &'h dyn BalancerHarness,
    pub(super) service: ServiceName,
    pub(super) first: Arc<dyn LoadBalancer>,
    /// As another process has it.
    pub(super) second: Arc<dyn LoadBalancer>,
    pub(super) capability: BalancerCapability,
}

#[async_trait]
impl Stage for On<'_> {
    fn patience(&self) -> Duration {
        self.harness.patience().saturating_add(self.capability.lag)
    }

    async fn clean(&self) {
        self.harness.clean(&self.service).await;
    }
}

impl<'h> On<'h> {
    pub(super) async fn new(harness: &'h dyn BalancerHarness) -> Self {
        let (first, second) = (harness.open().await, harness.open().await);
        let (capability, service) = (first.capability(), harness.service().await);
        Self { harness, service, first, second, capability }
    }

    pub(super) async fn tasks(&self, place: Place, count: u32) -> Vec<Endpoint> {
        let tasks = self.harness.tasks(&self.service, place, count).await;
        assert_eq!(tasks.len() as u64, u64::from(count), "the harness gives what it was asked for");
        tasks
    }

    pub(super) async fn add(
        &self,
        by: &dyn LoadBalancer,
        place: Place,
        targets: &[Endpoint],
    ) -> Result<()> {
        by.add_targets(&self.service, place, targets).await
    }

    pub(super) async fn remove(
        &self,
        by: &dyn LoadBalancer,
        place: Place,
        targets: &[Endpoint],
    ) -> Result<()> {
        by.remove_targets(&self.service, place, &names(targets)).await
    }

    pub(super) async fn route(&self, by: &dyn LoadBalancer, routing: &Routing) -> Result<()> {
        by.set_routing(&self.service, routing).await
    }

    pub(super) async fn drain(&self, by: &dyn LoadBalancer, tasks: &[Endpoint]) -> Result<()> {
        by.drain(&self.service, Place::A, &names(tasks)).await
    }

    pub(super) async fn test(&self, by: &dyn LoadBalancer, place: Option<Place>) -> Result<()> {
        by.set_test_route(&self.service, place).await
    }

    /// So many healthy targets.
    pub(super) async fn served(&self, place: Place, count: u32) -> Vec<Endpoint> {
        let tasks = self.tasks(place, count).await;
        self.add(&self.first, place, &tasks).await.unwrap();
        self.until("all targets are healthy", |state| state.healthy(place) == count).await;
        tasks
    }

    /// A healthy target in `A` that gets all requests.
    pub(super) async fn live(&self) -> Vec<Endpoint> {
        let tasks = self.served(Place::A, 1).await;
        self.routed(&Routing::all_to(Place::A)).await;
        self.until_answered(Some(Place::A)).await;
        tasks
    }

    /// Sets a routing, and reads it back.
    pub(super) async fn routed(&self, routing: &Routing) -> BalancerState {
        self.route(&self.first, routing).await.unwrap();
        self.until(&format!("the routing is {routing}"), |state| state.routing == *routing).await
    }

    pub(super) async fn observe(&self) -> BalancerState {
        self.first.observe(&self.service).await.unwrap()
    }

    pub(super) async fn until(
        &self,
        wanted: &str,
        is_so: impl Fn(&BalancerState) -> bool + Send + Sync,
    ) -> BalancerState {
        self.until_seen_by(&self.first, wanted, is_so).await
    }

    pub(super) async fn until_seen_by(
        &self,
        by: &dyn LoadBalancer,
        wanted: &str,
        is_so: impl Fn(&BalancerState) -> bool + Send + Sync,
    ) -> BalancerState {
        let mut last = None;
        let look = async {
            loop {
                let state = by.observe(&self.service).await.unwrap();
                if is_so(&state) {
                    return state;
                }
                last = Some(state);
                tokio::time::sleep(POLL).await;
            }
        };
        let found = tokio::time::timeout(self.patience(), look).await.ok();
        found.unwrap_or_else(|| panic!("not so: {wanted}, but {last:#?}"))
    }

    /// Who answers a request; none where nobody does.
    pub(super) async fn answer(&self) -> Option<Place> {
        let entry = self.observe().await.entry?;
        self.harness.ask(&self.service, &entry).await
    }

    /// Waits until several requests in a row are answered like this.
    pub(super) async fn until_answered(&self, by: Option<Place>) {
        let wanted = match by {
            Some(place) => format!("place {place} answers"),
            None => "nobody answers".to_owned(),
        };
        let look = async {
            let mut in_a_row = 0;
            while in_a_row < ASKS {
                in_a_row = if self.answer().await == by { in_a_row + 1 } else { 0 };
                if in_a_row == 0 {
                    tokio::time::sleep(POLL).await;
                }
            }
        };
        within(self.patience(), &wanted, look).await;
    }

    /// Waits until a request is answered by a place, whoever answers others.
    pub(super) async fn until_seen(&self, place: Place) {
        let look = async {
            while self.answer().await != Some(place) {
                tokio::time::sleep(POLL).await;
            }
        };
        within(self.patience(), &format!("place {place} answers a request"), look).await;
    }

    pub(super) async fn settled<T: Send, F: Future<Output = Result<T>> + Send>(
        &self,
        call: impl Fn() -> F + Send + Sync,
    ) -> T {
        settled(self.patience(), call).await.unwrap()
    }
}

/// How often something is looked at.
pub(super) const POLL: Duration = Duration::from_millis(10);

async fn a_service_that_is_not_known_is_closed_and_has_no_targets(on: &On<'_>) {
    let state = on.first.observe(&unique_service()).await.unwrap();
    assert_eq!((state.routing, state.test_route), (Routing::Closed, None));
    assert_eq!(state.targets, []);
}

async fn a_change_of_a_service_that_is_not_known_is_made_or_not_found(on: &On<'_>) {
    let nobody = unique_service();
    for answer in [
        on.first.set_routing(&nobody, &Routing::Closed).await,
        on.first.add_targets(&nobody, Place::A, &[]).await,
        on.first.remove_targets(&nobody, Place::A, &[TaskId::new("never")]).await,
        on.first.drain(&nobody, Place::A, &[TaskId::new("never")]).await,
    ] {
        assert!(answer.as_ref().is_ok_and(|()| true) || answer.is_err_and(is_not_found));
    }
}

fn is_not_found(error: deploykit_core::Error) -> bool {
    error.kind() == ErrorKind::NotFound
}

async fn a_new_service_is_closed_and_answers_nobody(on: &On<'_>) {
    let state = on.observe().await;
    assert_eq!((state.routing, state.test_route), (Routing::Closed, None));
    assert_eq!(state.targets, []);
    assert_eq!(on.answer().await, None);
}
