use deploykit_core::{LoadBalancer, Orchestrator, Routing, TargetHealth};
use deploykit_testing::{Behaviour, Traffic};
use tokio::time::sleep;

use crate::{A, B, blue_green, drain, health, healthy, ids, launch, ms, world};

#[tokio::test(start_paused = true)]
async fn a_rollout_that_drains_loses_no_request() {
    let (world, web) = world(4, Behaviour::good());
    let traffic = world.start_traffic(&web, Traffic::per_second(200));
    sleep(ms(2_000)).await;
    blue_green(&world, &web, 4).await;
    sleep(ms(1_000)).await;
    let tally = traffic.stop().await;
    assert!(tally.requests > 1_000 && tally.answers_of(B) > 0, "{tally}");
    assert_eq!(tally.failed, 0, "{tally}");
    world.assert_safe();
}

#[tokio::test(start_paused = true)]
async fn stopping_without_draining_loses_what_is_in_flight_and_the_tally_says_so() {
    let (world, web) = world(1, Behaviour::good());
    launch(&world, &web, B, "web:2", 1).await;
    healthy(&world, &web, B, 1).await;
    let traffic = world.start_traffic(&web, Traffic::per_second(100));
    sleep(ms(3_000)).await;
    let balancer = world.balancer();
    let all_to_b = Routing::all_to(B);
    balancer.set_routing(&web, &all_to_b).await.unwrap();
    let in_flight = balancer.observe(&web).await.unwrap().in_flight(A);
    assert!(in_flight > 0);
    world.orchestrator().retire(&web, A).await.unwrap();
    let tally = traffic.stop().await;
    assert_eq!((tally.failed, tally.failures_of(A)), (in_flight, in_flight));
    assert!(tally.failures[0].why.contains("stopped"), "{tally}");
}

#[tokio::test(start_paused = true)]
async fn a_draining_target_finishes_what_it_has_and_gets_nothing_new() {
    let (world, web) = world(2, Behaviour::good());
    let traffic = world.start_traffic(&web, Traffic::per_second(100));
    sleep(ms(3_000)).await;
    let first = &ids(&world, &web, A).await[..1];
    let balancer = world.balancer();
    balancer.drain(&web, A, first).await.unwrap();
    let mut last = u64::MAX;
    for _ in 0..30 {
        let now = balancer.observe(&web).await.unwrap().targets[0].in_flight;
        assert!(now <= last, "{now} after {last}");
        last = now;
        sleep(ms(100)).await;
    }
    assert_eq!(last, 0);
    assert_eq!(traffic.stop().await.failed, 0);
}

#[tokio::test(start_paused = true)]
async fn adding_the_same_targets_again_leaves_draining_ones_draining() {
    let (world, web) = world(1, Behaviour::good());
    drain(&world, &web, A).await;
    crate::add_targets(&world, &web, A).await;
    assert_eq!(health(&world, &web, A).await, [TargetHealth::Draining]);
}

#[tokio::test(start_paused = true)]
async fn removing_a_target_cuts_what_it_answers() {
    let (world, web) = world(1, Behaviour::good());
    let traffic = world.start_traffic(&web, Traffic::per_second(100));
    sleep(ms(3_000)).await;
    let balancer = world.balancer();
    let in_flight = balancer.observe(&web).await.unwrap().in_flight(A);
    crate::remove_targets(&world, &web, A).await;
    assert_eq!(traffic.tally().failed, in_flight);
}

#[tokio::test(start_paused = true)]
async fn draining_skips_a_task_that_is_not_known() {
    let (world, web) = world(1, Behaviour::good());
    let balancer = world.balancer();
    balancer.drain(&web, A, &["no-such".into()]).await.unwrap();
    assert_eq!(health(&world, &web, A).await, [TargetHealth::Healthy]);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_change_ends_when_a_target_has_drained() {
    let (world, web) = world(1, Behaviour::good());
    let traffic = Traffic::per_second(1).with_slow(100, ms(2_000));
    let traffic = world.start_traffic(&web, traffic);
    sleep(ms(1_000)).await;
    let tasks = ids(&world, &web, A).await;
    let balancer = world.balancer();
    balancer.drain(&web, A, &tasks).await.unwrap();
    assert_eq!(balancer.observe(&web).await.unwrap().in_flight(A), 1);
    world.orchestrator().changed(&web, ms(60_000)).await;
    assert_eq!(balancer.observe(&web).await.unwrap().in_flight(A), 0);
    drop(traffic);
}
