use deploykit_core::{
    ErrorKind, ImageRef, LoadBalancer, Orchestrator, Registry, Routing, ServiceName,
};
use deploykit_testing::{Behaviour, Fault, Operation, Throttle, World};
use tokio::time::sleep;

use crate::{A, B, ms, world};

/// How many of so many calls at once the orchestrator takes.
async fn taken(world: &World, web: &ServiceName, calls: usize) -> usize {
    let mut taken = 0;
    for _ in 0..calls {
        taken += usize::from(world.orchestrator().observe(web).await.is_ok());
    }
    taken
}

fn throttled() -> (World, ServiceName) {
    let (world, web) = world(1, Behaviour::good());
    let throttle = Throttle::per_second(2).with_burst(5);
    world.tune(|settings| settings.orchestrator_throttle = Some(throttle));
    (world, web)
}

#[tokio::test(start_paused = true)]
async fn a_bucket_lets_its_burst_through_and_no_call_more() {
    let (world, web) = throttled();
    assert_eq!(taken(&world, &web, 9).await, 5);
}

#[tokio::test(start_paused = true)]
async fn a_bucket_is_refilled_as_time_goes_by_up_to_its_burst() {
    let (world, web) = throttled();
    assert_eq!(taken(&world, &web, 9).await, 5);
    sleep(ms(499)).await;
    assert_eq!(taken(&world, &web, 9).await, 0);
    sleep(ms(1)).await;
    assert_eq!(taken(&world, &web, 9).await, 1);
    sleep(ms(60_000)).await;
    assert_eq!(taken(&world, &web, 9).await, 5);
}

#[tokio::test(start_paused = true)]
async fn a_throttled_call_says_so_and_changes_nothing() {
    let (world, web) = world(1, Behaviour::good());
    world.tune(|settings| settings.balancer_throttle = Some(Throttle::one_each(ms(60_000))));
    let balancer = world.balancer();
    balancer.observe(&web).await.unwrap();
    let error = balancer.set_routing(&web, &Routing::all_to(B)).await.unwrap_err();
    assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Throttled, true));
    assert_eq!(world.snapshot(&web).routing, Routing::all_to(A));
}

#[tokio::test(start_paused = true)]
async fn all_who_call_take_from_one_bucket() {
    let (world, web) = throttled();
    let (one, other) = (world.orchestrator(), world.orchestrator());
    for _ in 0..2 {
        one.observe(&web).await.unwrap();
        other.observe(&web).await.unwrap();
    }
    assert_eq!(taken(&world, &web, 9).await, 1);
}

#[tokio::test(start_paused = true)]
async fn each_provider_has_a_bucket_of_its_own() {
    let (world, web) = throttled();
    world.tune(|settings| settings.registry_throttle = Some(Throttle::one_each(ms(1_000))));
    assert_eq!(taken(&world, &web, 9).await, 5);
    world.balancer().observe(&web).await.unwrap();
    let image = ImageRef::parse("web:2").unwrap();
    world.registry().resolve(&image).await.unwrap();
    let error = world.registry().resolve(&image).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Throttled);
}

#[tokio::test(start_paused = true)]
async fn a_throttled_call_whose_answer_should_be_lost_is_not_made() {
    let (world, web) = world(1, Behaviour::good());
    world.tune(|settings| settings.balancer_throttle = Some(Throttle::one_each(ms(1_000))));
    let balancer = world.balancer();
    balancer.observe(&web).await.unwrap();
    world.fail(Fault::answer_lost(Operation::SetRouting));
    let error = balancer.set_routing(&web, &Routing::all_to(B)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Throttled);
    assert_eq!(world.snapshot(&web).routing, Routing::all_to(A));
}
