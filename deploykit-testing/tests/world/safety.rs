use deploykit_core::{LoadBalancer, Orchestrator, Routing, ServiceName};
use deploykit_testing::{Behaviour, Breach, Traffic, World};
use tokio::time::sleep;

use crate::{A, B, blue_green, drain, healthy, ids, launch, ms, world};

fn breaches(world: &World) -> Vec<Breach> {
    let mut breaches: Vec<_> = world.violations().iter().map(|found| found.breach).collect();
    breaches.dedup();
    breaches
}

async fn route(world: &World, web: &ServiceName, to: Routing) {
    world.balancer().set_routing(web, &to).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_careful_rollout_breaks_no_rule() {
    let (world, web) = world(3, Behaviour::good());
    let traffic = world.start_traffic(&web, Traffic::per_second(50));
    blue_green(&world, &web, 3).await;
    assert_eq!(traffic.stop().await.failed, 0);
    assert_eq!(world.violations(), []);
}

#[tokio::test(start_paused = true)]
async fn routing_to_a_place_that_is_not_healthy_is_noticed() {
    let (world, web) = world(1, Behaviour::good());
    launch(&world, &web, B, "web:2", 1).await;
    route(&world, &web, Routing::all_to(B)).await;
    assert_eq!(breaches(&world), [Breach::NoHealthyTarget]);
}

#[tokio::test(start_paused = true)]
async fn routing_to_a_place_before_all_its_tasks_came_up_is_noticed() {
    let (world, web) = world(1, Behaviour::good());
    launch(&world, &web, B, "web:2", 1).await;
    healthy(&world, &web, B, 1).await;
    launch(&world, &web, B, "web:2", 2).await;
    route(&world, &web, Routing::all_to(B)).await;
    assert_eq!(breaches(&world), [Breach::BelowCapacity]);
}

#[tokio::test(start_paused = true)]
async fn draining_a_place_that_gets_requests_is_noticed() {
    let (world, web) = world(2, Behaviour::good());
    drain(&world, &web, A).await;
    assert_eq!(breaches(&world), [Breach::NoHealthyTarget]);
}

#[tokio::test(start_paused = true)]
async fn draining_before_the_new_routing_has_propagated_is_noticed() {
    let (world, web) = world(1, Behaviour::good());
    launch(&world, &web, B, "web:2", 1).await;
    healthy(&world, &web, B, 1).await;
    world.tune(|settings| settings.routing_lag = ms(2_000));
    route(&world, &web, Routing::all_to(B)).await;
    drain(&world, &web, A).await;
    assert_eq!(breaches(&world), [Breach::NoHealthyTarget]);
}

#[tokio::test(start_paused = true)]
async fn stopping_a_task_in_rotation_is_noticed_even_without_traffic() {
    let (world, web) = world(2, Behaviour::good());
    let first = &ids(&world, &web, A).await[..1];
    world.orchestrator().stop(&web, A, first).await.unwrap();
    assert_eq!(breaches(&world), [Breach::NotDrained]);
}

#[tokio::test(start_paused = true)]
async fn a_request_to_a_stopping_task_is_noticed() {
    let (world, web) = world(1, Behaviour::good());
    let traffic = world.start_traffic(&web, Traffic::per_second(100));
    world.orchestrator().retire(&web, A).await.unwrap();
    assert_eq!(breaches(&world), [Breach::NotDrained, Breach::SentToStopping]);
    assert!(traffic.stop().await.failed > 0);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_dies_by_itself_is_nobodys_fault() {
    let (world, web) = world(1, Behaviour::good());
    let traffic = world.start_traffic(&web, Traffic::per_second(100));
    world.kill_task(&web, A, 0).unwrap();
    sleep(ms(1_000)).await;
    assert!(traffic.stop().await.failed > 0);
    assert_eq!(world.violations(), []);
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "replayed with seed 7")]
async fn a_failed_assertion_names_the_seed() {
    let (world, web) = world(1, Behaviour::good());
    world.orchestrator().retire(&web, A).await.unwrap();
    world.assert_safe();
}

#[tokio::test(start_paused = true)]
async fn draining_a_place_is_fine_while_a_pooled_routing_has_others() {
    let (world, web) = world(1, Behaviour::good());
    launch(&world, &web, B, "web:2", 1).await;
    healthy(&world, &web, B, 1).await;
    route(&world, &web, Routing::Pooled).await;
    drain(&world, &web, A).await;
    assert_eq!(world.violations(), []);
    drain(&world, &web, B).await;
    assert_eq!(breaches(&world), [Breach::NoHealthyTarget]);
}

#[tokio::test(start_paused = true)]
async fn going_back_from_a_dead_place_to_another_dead_one_is_no_breach() {
    let (world, web) = world(1, Behaviour::good());
    launch(&world, &web, B, "web:2", 1).await;
    healthy(&world, &web, B, 1).await;
    route(&world, &web, Routing::all_to(B)).await;
    world.kill_task(&web, A, 0).unwrap();
    world.kill_task(&web, B, 0).unwrap();
    route(&world, &web, Routing::all_to(A)).await;
    assert_eq!(world.violations(), []);
}
