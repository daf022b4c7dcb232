use deploykit_core::{Clock, Orchestrator, Routing, TaskState, Timestamp};
use deploykit_testing::{Behaviour, Traffic};
use tokio::time::sleep;

use crate::{A, B, blue_green, healthy, ids, launch, ms, states, world};

#[tokio::test(start_paused = true)]
async fn a_killed_task_loses_what_it_was_answering_and_is_restarted() {
    let (world, web) = world(2, Behaviour::good());
    let traffic = world.start_traffic(&web, Traffic::per_second(100));
    sleep(ms(3_000)).await;
    let before = ids(&world, &web, A).await;
    world.kill_task(&web, A, 1).unwrap();
    let states = states(&world, &web, A).await;
    assert!(matches!(&states[1], TaskState::Failed { why } if why.contains("137")));
    sleep(ms(1_000)).await;
    healthy(&world, &web, A, 2).await;
    assert_eq!(ids(&world, &web, A).await, before);
    let tally = traffic.stop().await;
    assert!(tally.failed > 0 && tally.failed < 10, "{tally}");
    assert!(tally.failures.iter().all(|failure| failure.why.contains("died")), "{tally}");
    world.assert_safe();
}

#[tokio::test(start_paused = true)]
async fn a_task_that_comes_back_after_a_restart_is_shown_as_starting() {
    let (world, web) = world(1, Behaviour::good());
    sleep(ms(1_000)).await;
    world.kill_task(&web, A, 0).unwrap();
    sleep(ms(150)).await;
    assert_eq!(states(&world, &web, A).await, [TaskState::Starting]);
}

#[tokio::test(start_paused = true)]
async fn an_autoscaler_changes_the_count_and_loses_no_request() {
    let (world, web) = world(2, Behaviour::good());
    let traffic = world.start_traffic(&web, Traffic::per_second(100));
    world.scale(&web, A, 5).unwrap();
    healthy(&world, &web, A, 5).await;
    sleep(ms(3_000)).await;
    world.scale(&web, A, 1).unwrap();
    assert_eq!(world.snapshot(&web).places[&A].desired, 1);
    sleep(ms(10_000)).await;
    let seen = &world.snapshot(&web).places[&A];
    assert_eq!((seen.tasks, seen.targets, seen.desired), (1, 1, 1));
    assert_eq!(traffic.stop().await.failed, 0);
    world.assert_safe();
}

#[tokio::test(start_paused = true)]
async fn an_autoscaler_that_grows_again_sends_nothing_to_what_is_stopping() {
    let (world, web) = world(2, Behaviour::good());
    world.scale(&web, A, 1).unwrap();
    sleep(ms(10)).await;
    world.scale(&web, A, 2).unwrap();
    let seen = &world.snapshot(&web).places[&A];
    assert_eq!((seen.tasks, seen.targets), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_one_too_many_does_not_come_back_when_it_dies_before_it_has_drained() {
    let (world, web) = world(2, Behaviour::good());
    let slow = Traffic::per_second(10).with_slow(100, ms(2_000));
    let _traffic = world.start_traffic(&web, slow);
    sleep(ms(1_000)).await;
    world.scale(&web, A, 1).unwrap();
    world.kill_task(&web, A, 1).unwrap();
    sleep(ms(10_000)).await;
    let seen = &world.snapshot(&web).places[&A];
    assert_eq!((seen.tasks, seen.targets, seen.desired), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn somebody_else_can_change_the_routing() {
    let (world, web) = world(1, Behaviour::good());
    world.set_routing_by_someone_else(&web, &Routing::Closed);
    assert_eq!(world.snapshot(&web).routing, Routing::Closed);
    assert!(world.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_undone_looks_as_it_began() {
    let (world, web) = world(2, Behaviour::good());
    let before = world.snapshot(&web);
    launch(&world, &web, B, "web:2", 2).await;
    assert_ne!(world.snapshot(&web), before);
    crate::remove_targets(&world, &web, B).await;
    world.orchestrator().retire(&web, B).await.unwrap();
    assert_eq!(world.snapshot(&web), before);
}

#[tokio::test(start_paused = true)]
async fn what_is_left_behind_shows_in_the_snapshot() {
    let (world, web) = world(2, Behaviour::good());
    blue_green(&world, &web, 2).await;
    launch(&world, &web, A, "web:1", 1).await;
    world.orchestrator().retire(&web, A).await.unwrap();
    let left = &world.snapshot(&web).places[&A];
    assert_eq!((left.tasks, left.targets), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn the_clock_follows_the_virtual_time_and_can_jump_back() {
    let (world, _) = world(1, Behaviour::good());
    let clock = world.clock();
    let before = clock.now();
    sleep(ms(86_400_000)).await;
    assert_eq!(clock.now(), before.plus(ms(86_400_000)));
    world.set_clock_off(-80_000_000);
    world.set_clock_off(-10_000_000);
    assert!(clock.now() < before);
    assert_ne!(before, Timestamp::default());
}
