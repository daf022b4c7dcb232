use deploykit_core::{Orchestrator, Place, ServiceName, TaskState};
use deploykit_testing::{Behaviour, World};
use tokio::time::sleep;

use crate::{A, B, healthy, ids, launch, ms, states, world};

fn room(world: &World, tasks: usize) {
    world.tune(|settings| settings.room = Some(tasks));
}

async fn waiting(world: &World, web: &ServiceName, place: Place) -> usize {
    let states = states(world, web, place).await;
    states.iter().filter(|state| matches!(state, TaskState::Waiting { .. })).count()
}

#[tokio::test(start_paused = true)]
async fn a_task_without_room_waits_and_says_why() {
    let (world, web) = world(2, Behaviour::good());
    room(&world, 3);
    launch(&world, &web, B, "web:2", 2).await;
    sleep(ms(60_000)).await;
    let states = states(&world, &web, B).await;
    let why = "unable to place it: 3 tasks take up the room of 3".to_owned();
    assert_eq!(states, [TaskState::Ready, TaskState::Waiting { why }]);
    let seen = world.orchestrator().observe(&web).await.unwrap();
    let trouble = seen.place(B).unwrap().trouble().unwrap();
    assert!(trouble.contains("unable to place it"), "{trouble}");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_waits_starts_when_another_is_gone() {
    let (world, web) = world(2, Behaviour::good().stops_in(ms(3_000)));
    room(&world, 3);
    launch(&world, &web, B, "web:2", 2).await;
    healthy(&world, &web, B, 1).await;
    let of_b = ids(&world, &web, B).await;
    let stop = tokio::spawn({
        let (world, web) = (world.clone(), web.clone());
        async move { world.orchestrator().stop(&web, B, &of_b[..1]).await }
    });
    sleep(ms(2_000)).await;
    // Who stops needs the room until the end.
    assert_eq!(waiting(&world, &web, B).await, 1);
    stop.await.unwrap().unwrap();
    assert_eq!(states(&world, &web, B).await, [TaskState::Starting]);
    healthy(&world, &web, B, 1).await;
}

#[tokio::test(start_paused = true)]
async fn tasks_that_wait_start_when_there_is_more_room() {
    let (world, web) = world(2, Behaviour::good());
    room(&world, 2);
    launch(&world, &web, B, "web:2", 3).await;
    assert_eq!(waiting(&world, &web, B).await, 3);
    room(&world, 4);
    assert_eq!(waiting(&world, &web, B).await, 1);
    world.tune(|settings| settings.room = None);
    healthy(&world, &web, B, 3).await;
}

#[tokio::test(start_paused = true)]
async fn all_services_share_the_room() {
    let (world, web) = world(2, Behaviour::good());
    let other = world.already_runs("other", "web:1", 2).unwrap();
    room(&world, 4);
    launch(&world, &web, B, "web:2", 1).await;
    assert_eq!(waiting(&world, &web, B).await, 1);
    let looked = tokio::spawn({
        let (world, web) = (world.clone(), web.clone());
        async move { world.orchestrator().changed(&web, ms(60_000)).await }
    });
    world.orchestrator().retire(&other, A).await.unwrap();
    looked.await.unwrap();
    assert!(world.now() < ms(60_000));
    healthy(&world, &web, B, 1).await;
}

#[tokio::test(start_paused = true)]
async fn less_room_stops_nothing_that_runs() {
    let (world, web) = world(3, Behaviour::good());
    room(&world, 1);
    sleep(ms(10_000)).await;
    assert_eq!(states(&world, &web, A).await, vec![TaskState::Ready; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_dies_keeps_its_room() {
    let (world, web) = world(2, Behaviour::good());
    room(&world, 2);
    launch(&world, &web, B, "web:2", 1).await;
    world.kill_task(&web, A, 0).unwrap();
    sleep(ms(10_000)).await;
    assert_eq!(states(&world, &web, A).await, vec![TaskState::Ready; 2]);
    assert_eq!(waiting(&world, &web, B).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_waits_is_stopped_at_once() {
    let (world, web) = world(2, Behaviour::good().stops_in(ms(3_000)));
    room(&world, 2);
    launch(&world, &web, B, "web:2", 1).await;
    world.orchestrator().retire(&web, B).await.unwrap();
    assert!(world.now() < ms(100), "{:?}", world.now());
    assert_eq!(world.snapshot(&web).places[&B].tasks, 0);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_waits_cannot_be_killed() {
    let (world, web) = world(2, Behaviour::good());
    room(&world, 2);
    launch(&world, &web, B, "web:2", 1).await;
    assert!(world.kill_task(&web, B, 0).is_err());
}
