use deploykit_core::{ErrorKind, Orchestrator};
use deploykit_testing::{Behaviour, Fault, Operation, Traffic, World};
use tokio::time::sleep;

use crate::{A, blue_green, ms};

/// A run with a bit of everything, as text.
async fn run(seed: u64) -> String {
    let world = World::new(seed);
    world.image("web:1", Behaviour::good()).unwrap();
    let next = Behaviour::good().flaps(ms(2_000), ms(300));
    world.image("web:2", next).unwrap();
    let web = world.already_runs("web", "web:1", 3).unwrap();
    let traffic = world.start_traffic(&web, Traffic::per_second(150));
    let fault = Fault::error(Operation::ObserveTasks, ErrorKind::Unavailable).with_nth(2);
    world.fail(fault.with_service(&web));
    sleep(ms(1_500)).await;
    world.kill_task(&web, A, 1).unwrap();
    let _ = world.orchestrator().observe(&web).await;
    let _ = world.orchestrator().observe(&web).await;
    blue_green(&world, &web, 3).await;
    let tally = traffic.stop().await;
    let snapshot = world.snapshot(&web);
    let (calls, violations) = (world.calls(), world.violations());
    format!("{tally:?}\n{snapshot:?}\n{calls:?}\n{violations:?}\n{:?}", world.now())
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_run_to_the_byte() {
    assert_eq!(run(11).await, run(11).await);
}

#[tokio::test(start_paused = true)]
async fn another_seed_gives_another_run() {
    assert_ne!(run(11).await, run(12).await);
}

#[tokio::test(start_paused = true)]
async fn looking_at_the_world_changes_nothing_in_its_run() {
    let world = |_| {
        let (world, web) = crate::world(2, Behaviour::good());
        let traffic = world.start_traffic(&web, Traffic::per_second(100));
        (world, web, traffic)
    };
    let (_watched, watched_web, watched_traffic) = world(());
    for _ in 0..500 {
        _watched.snapshot(&watched_web);
        sleep(ms(7)).await;
    }
    let watched = watched_traffic.stop().await;
    let (_left, _, left_traffic) = world(());
    sleep(ms(3_500)).await;
    assert_eq!(watched, left_traffic.stop().await);
}
