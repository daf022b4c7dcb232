use deploykit_core::{ErrorKind, ImageRef, LoadBalancer, Orchestrator, Registry, Routing};
use deploykit_testing::{Behaviour, Fault, Operation};

use crate::{A, B, launch, ms, register, wanted, world};

#[tokio::test(start_paused = true)]
async fn a_fault_hits_exactly_the_next_call_of_its_operation() {
    let (world, web) = world(1, Behaviour::good());
    let revision = register(&world, &web, "web:2").await;
    world.fail(Fault::error(Operation::Launch, ErrorKind::Throttled));
    let orchestrator = world.orchestrator();
    orchestrator.observe(&web).await.unwrap();
    let launch = wanted(&web, B, &revision, 1);
    let error = orchestrator.launch(&launch).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Throttled);
    assert!(!world.snapshot(&web).places.contains_key(&B));
    orchestrator.launch(&launch).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_fault_can_wait_for_the_nth_call_and_strike_several() {
    let (world, web) = world(1, Behaviour::good());
    let fault = Fault::error(Operation::ObserveTasks, ErrorKind::Unavailable);
    world.fail(fault.with_nth(3).with_times(2));
    let mut failed = Vec::new();
    for _ in 0..6 {
        failed.push(world.orchestrator().observe(&web).await.is_err());
    }
    assert_eq!(failed, [false, false, true, true, false, false]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_means_that_the_change_was_made() {
    let (world, web) = world(1, Behaviour::good());
    let revision = register(&world, &web, "web:2").await;
    world.fail(Fault::answer_lost(Operation::Launch));
    let launch = wanted(&web, B, &revision, 2);
    let error = world.orchestrator().launch(&launch).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(world.snapshot(&web).places[&B].tasks, 2);
    let call = world.calls().pop().unwrap();
    assert_eq!((call.changed, call.error), (true, Some(ErrorKind::Timeout)));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_takes_effect_after_that_time() {
    let (world, web) = world(1, Behaviour::good());
    world.fail(Fault::delay(Operation::SetRouting, ms(3_000)));
    let balancer = world.balancer();
    balancer.set_routing(&web, &Routing::Closed).await.unwrap();
    assert_eq!(world.now(), ms(3_000));
    assert_eq!(world.calls().pop().unwrap().at, ms(3_000));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_given_up_while_it_hangs_does_nothing() {
    let (world, web) = world(1, Behaviour::good());
    world.fail(Fault::delay(Operation::SetRouting, ms(3_000)));
    let balancer = world.balancer();
    let call = balancer.set_routing(&web, &Routing::Closed);
    assert!(tokio::time::timeout(ms(1_000), call).await.is_err());
    tokio::time::sleep(ms(10_000)).await;
    assert_eq!(world.snapshot(&web).routing, Routing::all_to(A));
}

#[tokio::test(start_paused = true)]
async fn a_conditional_fault_strikes_only_while_the_condition_holds() {
    let (world, web) = world(1, Behaviour::good());
    let fault = Fault::error(Operation::ObserveRouting, ErrorKind::Unavailable);
    let fault = fault.with_condition(|service| service.places.contains_key(&B));
    world.fail(fault.always());
    let balancer = world.balancer();
    balancer.observe(&web).await.unwrap();
    launch(&world, &web, B, "web:2", 1).await;
    assert!(balancer.observe(&web).await.is_err());
    crate::remove_targets(&world, &web, B).await;
    world.orchestrator().retire(&web, B).await.unwrap();
    balancer.observe(&web).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn healing_takes_back_the_faults() {
    let (world, _) = world(1, Behaviour::good());
    world.fail(Fault::error(Operation::Resolve, ErrorKind::Unavailable).always());
    let image = ImageRef::parse("web:2").unwrap();
    assert!(world.registry().resolve(&image).await.is_err());
    world.heal();
    world.registry().resolve(&image).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_tag_that_was_never_pushed_is_not_found() {
    let (world, _) = world(1, Behaviour::good());
    let image = ImageRef::parse("web:9").unwrap();
    let error = world.registry().resolve(&image).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("web:2"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_tag_that_is_pushed_again_means_something_else() {
    let (world, _) = world(1, Behaviour::good());
    let image = ImageRef::parse("web:2").unwrap();
    let before = world.registry().resolve(&image).await.unwrap();
    world.image("web:2", Behaviour::good()).unwrap();
    let after = world.registry().resolve(&image).await.unwrap();
    assert_ne!(before.digest, after.digest);
}

#[tokio::test(start_paused = true)]
async fn every_call_is_counted_and_only_mutations_are_written_down() {
    let (world, web) = world(1, Behaviour::good());
    let balancer = world.balancer();
    balancer.observe(&web).await.unwrap();
    balancer.set_routing(&web, &Routing::Closed).await.unwrap();
    assert_eq!(world.count(Operation::ObserveRouting), 1);
    let calls: Vec<_> = world.calls().iter().map(ToString::to_string).collect();
    assert_eq!(calls, ["0.000 s web: set routing closed"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_by_itself_keeps_its_error_when_its_answer_should_be_lost() {
    let (world, web) = world(1, Behaviour::good());
    world.fail(Fault::answer_lost(Operation::Launch));
    let launch = wanted(&web, B, &"web@none".into(), 2);
    let error = world.orchestrator().launch(&launch).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}
