use std::time::Duration;

use deploykit_core::{LoadBalancer, Orchestrator, Routing, ServiceName};
use deploykit_testing::{Behaviour, World};
use tokio::time::sleep;

use crate::{A, B, launch, ms, register, wanted, world};

fn stale() -> (World, ServiceName) {
    let (world, web) = world(1, Behaviour::good());
    set_stale(&world);
    (world, web)
}

fn set_stale(world: &World) {
    world.tune(|settings| settings.stale_reads = ms(5_000));
}

/// What a hundred reads of the orchestrator show now: whether there is a task in B.
async fn shown(world: &World, web: &ServiceName) -> Vec<bool> {
    let mut shown = Vec::new();
    for _ in 0..100 {
        let seen = world.orchestrator().observe(web).await.unwrap();
        shown.push(seen.place(B).is_some());
    }
    shown
}

async fn launch_b(world: &World, web: &ServiceName) {
    let revision = register(world, web, "web:2").await;
    world.orchestrator().launch(&wanted(web, B, &revision, 1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_read_may_show_what_was_so_and_never_for_longer_than_is_set() {
    let (world, web) = stale();
    sleep(ms(20_000)).await;
    launch_b(&world, &web).await;
    sleep(ms(4_500)).await;
    assert!(shown(&world, &web).await.contains(&false));
    sleep(ms(501)).await;
    assert!(!shown(&world, &web).await.contains(&false));
}

#[tokio::test(start_paused = true)]
async fn one_read_may_show_more_than_the_next() {
    let (world, web) = stale();
    sleep(ms(20_000)).await;
    launch_b(&world, &web).await;
    sleep(ms(2_500)).await;
    let shown = shown(&world, &web).await;
    assert!(shown.windows(2).any(|two| two == [true, false]), "{shown:?}");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_was_just_made_may_not_be_seen() {
    let (world, _) = stale();
    sleep(ms(20_000)).await;
    let new = ServiceName::new("new").unwrap();
    launch_b(&world, &new).await;
    sleep(ms(2_500)).await;
    let shown = shown(&world, &new).await;
    assert!(shown.contains(&false) && shown.contains(&true), "{shown:?}");
}

#[tokio::test(start_paused = true)]
async fn what_has_been_running_for_long_is_seen_by_every_read() {
    let world = World::new(7);
    set_stale(&world);
    world.image("web:1", Behaviour::good()).unwrap();
    sleep(ms(1_000)).await;
    let web = world.already_runs("web", "web:1", 2).unwrap();
    for _ in 0..100 {
        assert_eq!(world.orchestrator().observe(&web).await.unwrap().place(A).unwrap().ready(), 2);
        assert_eq!(world.balancer().observe(&web).await.unwrap().healthy(A), 2);
        sleep(ms(20)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_may_be_shown_as_healthy_late_and_never_early() {
    let (world, web) = world(1, Behaviour::good());
    world.tune(|settings| settings.registration_lag = ms(10_000));
    sleep(ms(20_000)).await;
    launch(&world, &web, B, "web:2", 1).await;
    set_stale(&world);
    let (mut first, mut last) = (None, None);
    for _ in 0..2_000 {
        let is_healthy = world.balancer().observe(&web).await.unwrap().healthy(B) == 1;
        if is_healthy {
            first.get_or_insert(world.now());
        } else {
            last = Some(world.now());
        }
        sleep(ms(10)).await;
    }
    let since_launch = |at: Option<Duration>| at.unwrap() - ms(20_000);
    assert!(since_launch(first) >= ms(10_200), "{first:?}");
    assert!(since_launch(last) >= ms(13_000), "{last:?}");
    assert!(since_launch(last) <= ms(15_300), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_done_follows_what_there_is_and_not_what_is_shown() {
    let (world, web) = stale();
    sleep(ms(20_000)).await;
    launch_b(&world, &web).await;
    launch_b(&world, &web).await;
    assert_eq!(world.snapshot(&web).places[&B].tasks, 1);
}

/// Whether any of a hundred reads shows all requests with A, and any with B.
async fn routings(world: &World, web: &ServiceName) -> (bool, bool) {
    let mut shown = Vec::new();
    for _ in 0..100 {
        shown.push(world.balancer().observe(web).await.unwrap().routing);
    }
    (shown.contains(&Routing::all_to(A)), shown.contains(&Routing::all_to(B)))
}

#[tokio::test(start_paused = true)]
async fn a_routing_shows_late_by_its_lag_or_by_the_age_of_the_read_and_not_by_both() {
    for (lag, latest) in [(0, 5_000), (3_000, 5_000), (8_000, 8_000)] {
        let (world, web) = world(1, Behaviour::good());
        world.tune(|settings| settings.routing_lag = ms(lag));
        launch(&world, &web, B, "web:2", 1).await;
        set_stale(&world);
        assert_eq!(world.balancer().capability().lag, ms(latest));
        sleep(ms(20_000)).await;
        world.balancer().set_routing(&web, &Routing::all_to(B)).await.unwrap();
        sleep(ms(lag.max(1) - 1)).await;
        assert_eq!(routings(&world, &web).await, (true, false), "{lag}");
        sleep(ms(latest + 2) - ms(lag.max(1))).await;
        assert_eq!(routings(&world, &web).await, (false, true), "{lag}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_follow_a_routing_that_reads_do_not_show_yet() {
    let (world, web) = world(1, Behaviour::good());
    launch(&world, &web, B, "web:2", 1).await;
    set_stale(&world);
    sleep(ms(20_000)).await;
    world.balancer().set_routing(&web, &Routing::all_to(B)).await.unwrap();
    sleep(ms(100)).await;
    assert_eq!(world.snapshot(&web).routing, Routing::all_to(B));
    assert!(routings(&world, &web).await.0);
}
