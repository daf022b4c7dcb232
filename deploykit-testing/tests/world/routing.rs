use deploykit_core::{ErrorKind, LoadBalancer, Routing, Weight};
use deploykit_testing::{Behaviour, Traffic};
use tokio::time::sleep;

use crate::{A, B, healthy, launch, ms, world};

fn split(percent: u16) -> Routing {
    Routing::split(A, B, Weight::percent(percent).unwrap())
}

#[tokio::test(start_paused = true)]
async fn requests_follow_the_shares() {
    let (world, web) = world(2, Behaviour::good());
    launch(&world, &web, B, "web:2", 2).await;
    healthy(&world, &web, B, 2).await;
    world.balancer().set_routing(&web, &split(25)).await.unwrap();
    let traffic = world.start_traffic(&web, Traffic::per_second(1_000));
    sleep(ms(10_000)).await;
    let tally = traffic.stop().await;
    let to_b = tally.answers_of(B);
    assert_eq!(tally.requests, 10_000);
    assert!((2_350..2_650).contains(&to_b), "{tally}");
}

#[tokio::test(start_paused = true)]
async fn a_pooled_routing_uses_the_targets_of_all_places() {
    let (world, web) = world(1, Behaviour::good());
    launch(&world, &web, B, "web:2", 3).await;
    healthy(&world, &web, B, 3).await;
    let balancer = world.balancer();
    balancer.set_routing(&web, &Routing::Pooled).await.unwrap();
    let traffic = world.start_traffic(&web, Traffic::per_second(1_000));
    sleep(ms(1_000)).await;
    let tally = traffic.stop().await;
    assert!((200..300).contains(&tally.answers_of(A)), "{tally}");
}

#[tokio::test(start_paused = true)]
async fn reads_show_the_old_routing_until_the_new_one_has_propagated() {
    let (world, web) = world(1, Behaviour::good());
    world.tune(|settings| settings.routing_lag = ms(2_000));
    launch(&world, &web, B, "web:2", 1).await;
    healthy(&world, &web, B, 1).await;
    let balancer = world.balancer();
    balancer.set_routing(&web, &split(100)).await.unwrap();
    sleep(ms(1_999)).await;
    assert_eq!(balancer.observe(&web).await.unwrap().routing, split(0));
    sleep(ms(1)).await;
    assert_eq!(balancer.observe(&web).await.unwrap().routing, split(100));
}

#[tokio::test(start_paused = true)]
async fn requests_follow_the_old_routing_until_the_new_one_has_propagated() {
    let (world, web) = world(1, Behaviour::good());
    world.tune(|settings| settings.routing_lag = ms(2_000));
    launch(&world, &web, B, "web:2", 1).await;
    healthy(&world, &web, B, 1).await;
    let balancer = world.balancer();
    let traffic = world.start_traffic(&web, Traffic::per_second(100));
    balancer.set_routing(&web, &split(100)).await.unwrap();
    sleep(ms(1_999)).await;
    assert_eq!(balancer.observe(&web).await.unwrap().in_flight(B), 0);
    sleep(ms(1_000)).await;
    let tally = traffic.stop().await;
    assert!((195..=200).contains(&tally.answers_of(A)), "{tally}");
    assert_eq!(tally.requests, tally.answers_of(A) + tally.answers_of(B));
}

#[tokio::test(start_paused = true)]
async fn no_live_request_goes_over_the_test_route() {
    let (world, web) = world(1, Behaviour::good());
    launch(&world, &web, B, "web:2", 1).await;
    healthy(&world, &web, B, 1).await;
    let balancer = world.balancer();
    balancer.set_test_route(&web, Some(B)).await.unwrap();
    let traffic = world.start_traffic(&web, Traffic::per_second(100));
    sleep(ms(2_000)).await;
    assert_eq!(traffic.stop().await.answers_of(B), 0);
}

#[tokio::test(start_paused = true)]
async fn a_closed_service_refuses_requests() {
    let (world, web) = world(1, Behaviour::good());
    let balancer = world.balancer();
    balancer.set_routing(&web, &Routing::Closed).await.unwrap();
    let traffic = world.start_traffic(&web, Traffic::per_second(100));
    sleep(ms(100)).await;
    let tally = traffic.stop().await;
    assert_eq!((tally.failed, tally.failures_of("nobody")), (10, 10));
}

#[tokio::test(start_paused = true)]
async fn what_the_capability_lacks_is_refused() {
    let (world, web) = world(1, Behaviour::good());
    world.tune(|settings| {
        settings.balancer =
            settings.balancer.with_weighted(false).with_pooled(false).with_test_route(false);
    });
    let balancer = world.balancer();
    let refused = [
        balancer.set_routing(&web, &split(50)).await,
        balancer.set_routing(&web, &Routing::Pooled).await,
        balancer.set_test_route(&web, Some(A)).await,
    ];
    for result in refused {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Unsupported);
    }
    balancer.set_routing(&web, &split(0)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_gets_no_answer_in_time_has_failed() {
    let (world, web) = world(1, Behaviour::good());
    let traffic = Traffic::per_second(10).with_slow(100, ms(2_000)).with_timeout(ms(500));
    let traffic = world.start_traffic(&web, traffic);
    sleep(ms(1_000)).await;
    let tally = traffic.stop().await;
    assert_eq!((tally.requests, tally.failed), (10, 10));
    assert_eq!(tally.failures[0].why, "no answer within 0.5 s");
}

#[tokio::test(start_paused = true)]
async fn setting_the_same_routing_again_changes_nothing() {
    let (world, web) = world(1, Behaviour::good());
    let balancer = world.balancer();
    balancer.set_routing(&web, &split(0)).await.unwrap();
    assert!(!world.calls()[0].changed);
}
