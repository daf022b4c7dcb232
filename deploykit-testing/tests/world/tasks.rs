use std::collections::BTreeSet;
use std::net::SocketAddr;

use deploykit_core::{ErrorKind, LoadBalancer, Orchestrator, Routing, TargetHealth, TaskState};
use deploykit_testing::{Behaviour, Operation, Traffic};
use tokio::time::sleep;

use crate::{A, B, health, healthy, ids, launch, ms, register, states, wanted, world};

#[tokio::test(start_paused = true)]
async fn a_started_task_is_ready_only_after_its_start_up() {
    let (world, web) = world(1, Behaviour::good().starts_in(ms(300)));
    launch(&world, &web, B, "web:2", 1).await;
    sleep(ms(299)).await;
    assert_eq!(states(&world, &web, B).await, [TaskState::Starting]);
    sleep(ms(40)).await;
    assert_eq!(states(&world, &web, B).await, [TaskState::Ready]);
}

#[tokio::test(start_paused = true)]
async fn a_ready_task_takes_requests_only_after_the_registration_lag() {
    let (world, web) = world(1, Behaviour::good());
    world.tune(|settings| settings.registration_lag = ms(5_000));
    launch(&world, &web, B, "web:2", 1).await;
    sleep(ms(1_000)).await;
    assert_eq!(states(&world, &web, B).await, [TaskState::Ready]);
    assert_eq!(health(&world, &web, B).await, [TargetHealth::Starting]);
    healthy(&world, &web, B, 1).await;
}

#[tokio::test(start_paused = true)]
async fn requests_go_to_nobody_while_all_tasks_start() {
    let (world, web) = world(1, Behaviour::good());
    launch(&world, &web, B, "web:2", 1).await;
    let balancer = world.balancer();
    let all_to_b = Routing::all_to(B);
    balancer.set_routing(&web, &all_to_b).await.unwrap();
    let traffic = world.start_traffic(&web, Traffic::per_second(100));
    sleep(ms(150)).await;
    assert_eq!(traffic.tally().failures_of(B), 15);
    healthy(&world, &web, B, 1).await;
    let before = traffic.tally().failed;
    sleep(ms(1_000)).await;
    assert_eq!(traffic.tally().failed, before);
}

#[tokio::test(start_paused = true)]
async fn launching_the_same_count_again_starts_nothing() {
    let (world, web) = world(2, Behaviour::good());
    launch(&world, &web, B, "web:2", 3).await;
    let before = ids(&world, &web, B).await;
    launch(&world, &web, B, "web:2", 3).await;
    assert_eq!(ids(&world, &web, B).await, before);
    let launches = world.calls().into_iter().filter(|call| call.operation == Operation::Launch);
    let changed: Vec<_> = launches.map(|call| call.changed).collect();
    assert_eq!(changed, [true, false]);
}

#[tokio::test(start_paused = true)]
async fn launching_fewer_stops_no_living_task_and_changes_no_count() {
    let (world, web) = world(1, Behaviour::good());
    launch(&world, &web, B, "web:2", 3).await;
    launch(&world, &web, B, "web:2", 1).await;
    let seen = world.orchestrator().observe(&web).await.unwrap();
    let place = seen.place(B).unwrap();
    assert_eq!((place.desired, place.tasks.len()), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_place_with_another_revision_is_busy() {
    let (world, web) = world(1, Behaviour::good());
    let revision = register(&world, &web, "web:2").await;
    let launch = wanted(&web, A, &revision, 1);
    let error = world.orchestrator().launch(&launch).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
}

#[tokio::test(start_paused = true)]
async fn a_third_place_is_refused_where_there_are_only_two() {
    let (world, web) = world(1, Behaviour::good());
    world.tune(|settings| settings.orchestrator = settings.orchestrator.with_places(2));
    launch(&world, &web, B, "web:2", 1).await;
    let revision = register(&world, &web, "web:2").await;
    let launch = wanted(&web, deploykit_core::Place::C, &revision, 1);
    let error = world.orchestrator().launch(&launch).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[tokio::test(start_paused = true)]
async fn retiring_takes_the_stop_time_and_leaves_nothing() {
    let (world, web) = world(1, Behaviour::good().stops_in(ms(700)));
    launch(&world, &web, B, "web:2", 2).await;
    let before = world.now();
    world.orchestrator().retire(&web, B).await.unwrap();
    assert_eq!(world.now() - before, ms(700));
    let seen = world.orchestrator().observe(&web).await.unwrap();
    assert!(seen.place(B).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_task_that_takes_longer_than_its_grace_period_is_killed() {
    let (world, web) = world(1, Behaviour::good().stops_in(ms(3_600_000)));
    launch(&world, &web, B, "web:2", 1).await;
    let before = world.now();
    world.orchestrator().retire(&web, B).await.unwrap();
    assert_eq!(world.now() - before, ms(30_000));
}

#[tokio::test(start_paused = true)]
async fn stopping_lowers_the_desired_count_once_for_each_task() {
    let (world, web) = world(1, Behaviour::good());
    launch(&world, &web, B, "web:2", 3).await;
    let first = &ids(&world, &web, B).await[..1];
    for _ in 0..2 {
        world.orchestrator().stop(&web, B, first).await.unwrap();
    }
    assert_eq!(world.snapshot(&web).places[&B].desired, 2);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_change_ends_when_a_task_becomes_ready() {
    let (world, web) = world(1, Behaviour::good());
    launch(&world, &web, B, "web:2", 1).await;
    world.orchestrator().changed(&web, ms(60_000)).await;
    assert_eq!(states(&world, &web, B).await, [TaskState::Ready]);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_change_ends_when_somebody_changes_something() {
    let (world, web) = world(1, Behaviour::good());
    let orchestrator = world.orchestrator();
    let change = async {
        sleep(ms(10)).await;
        world.kill_task(&web, A, 0).unwrap();
    };
    tokio::join!(orchestrator.changed(&web, ms(60_000)), change);
    assert_eq!(world.now(), ms(10));
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_change_is_bounded_where_nothing_changes() {
    let (world, web) = world(1, Behaviour::good());
    world.orchestrator().changed(&web, ms(250)).await;
    assert_eq!(world.now(), ms(250));
}

#[tokio::test]
async fn the_world_runs_in_real_time_too() {
    let (world, web) = world(1, Behaviour::good().starts_in(ms(20)));
    launch(&world, &web, B, "web:2", 1).await;
    healthy(&world, &web, B, 1).await;
}

#[tokio::test(start_paused = true)]
async fn tasks_that_are_stopping_do_not_count_for_a_launch() {
    let (world, web) = world(1, Behaviour::good());
    launch(&world, &web, B, "web:2", 1).await;
    let orchestrator = world.orchestrator();
    let relaunch = async {
        sleep(ms(10)).await;
        launch(&world, &web, B, "web:2", 1).await;
    };
    let (retired, ()) = tokio::join!(orchestrator.retire(&web, B), relaunch);
    retired.unwrap();
    assert_eq!(states(&world, &web, B).await, [TaskState::Starting]);
}

#[tokio::test(start_paused = true)]
async fn every_one_of_very_many_tasks_has_an_address_of_its_own() {
    let (world, web) = world(1, Behaviour::good());
    let revision = register(&world, &web, "web:2").await;
    world.orchestrator().launch(&wanted(&web, B, &revision, 64_000)).await.unwrap();
    let seen = world.orchestrator().observe(&web).await.unwrap();
    let addresses = seen.places.iter().flat_map(|place| &place.tasks).map(|task| {
        let address = task.address.as_deref().unwrap();
        address.parse::<SocketAddr>().unwrap_or_else(|why| panic!("{address}: {why}"))
    });
    assert_eq!(addresses.collect::<BTreeSet<_>>().len(), 64_001);
}
