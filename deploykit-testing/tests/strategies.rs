//! Rolling and canary rollouts in the world: requests, bounds of capacity, and the way back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use deploykit_core::{
    Amount, BlueGreen, Canary, Change, Deployer, Draft, ErrorKind, MemoryStore, Outcome, Place,
    Report, Roll, Rolling, ServiceName, ServiceSpec, Strategy, Weight,
};
use deploykit_testing::{Behaviour, Tally, Traffic, World};

/// A service of `count` tasks on version 1, and version 2 as it behaves.
fn world(count: u32, behaviour: Behaviour) -> (World, ServiceName) {
    let world = World::new(7);
    world.image("web:1", Behaviour::good()).unwrap();
    world.image("web:2", behaviour).unwrap();
    let service = world.already_runs("web", "web:1", count).unwrap();
    (world, service)
}

fn deployer(world: &World) -> Deployer {
    Deployer::builder()
        .registry(world.registry())
        .orchestrator(world.orchestrator())
        .balancer(world.balancer())
        .store(MemoryStore::new())
        .clock(world.clock())
        .gate("errors", world.http_gate("/").live())
        .build()
}

/// Deploys version 2 under load; gives the report, the tally, and what was seen every 50 ms: tasks that were ready, and all.
async fn run(
    world: &World,
    service: &ServiceName,
    strategy: &dyn Strategy,
) -> (Report, Tally, Vec<(usize, usize)>) {
    let traffic = world.start_traffic(service, Traffic::per_second(50));
    let deployer = deployer(world);
    let plan = deployer.plan(service, strategy, Change::to("web:2")).await.unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let watcher = tokio::spawn({
        let (world, service, seen) = (world.clone(), service.clone(), Arc::clone(&seen));
        async move {
            loop {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let places = world.snapshot(&service).places;
                let ready = places.values().map(|place| place.ready).sum::<usize>();
                let all = places.values().map(|place| place.tasks).sum::<usize>();
                seen.lock().unwrap().push((ready, all));
            }
        }
    });
    let report = deployer.deploy(plan).await.unwrap().await.unwrap();
    watcher.abort();
    let seen = seen.lock().unwrap().clone();
    (report, traffic.stop().await, seen)
}

fn within(seen: &[(usize, usize)], least: usize, most: usize) {
    let beyond = seen.iter().position(|(ready, all)| *ready < least || *all > most);
    assert_eq!(
        beyond.map(|at| (at, seen[at])),
        None,
        "ready, all; {least} at least, {most} at most"
    );
}

#[tokio::test(start_paused = true)]
async fn a_rolling_update_loses_nothing_and_keeps_its_bounds() {
    for (count, strategy, least, most) in [
        (4, Rolling::start_first(), 4, 5),
        (4, Rolling::stop_first(), 3, 4),
        (10, Rolling::new(), 8, 13),
        (1, Rolling::start_first(), 1, 2),
        (4, Rolling::start_first().pooled(), 4, 5),
    ] {
        let (world, service) = world(count, Behaviour::good());
        let (report, tally, seen) = run(&world, &service, &strategy).await;
        assert_eq!(report.outcome, Outcome::Promoted, "{report}");
        assert_eq!(tally.failed, 0, "{strategy:?}: {tally}");
        within(&seen, least, most);
        let after = world.snapshot(&service);
        assert_eq!(after.places.keys().copied().collect::<Vec<_>>(), [Place::B], "{after}");
        assert_eq!(after.places[&Place::B].ready, usize::try_from(count).unwrap());
        world.assert_safe();
    }
}

#[tokio::test(start_paused = true)]
async fn a_rolling_update_to_a_bad_version_ends_as_it_began_within_its_bounds() {
    for behaviour in [Behaviour::good().crashes(), Behaviour::good().never_ready()] {
        let (world, service) = world(4, behaviour);
        let before = world.snapshot(&service);
        let strategy = Rolling::start_first().healthy_within(Duration::from_secs(20));
        let (report, tally, seen) = run(&world, &service, &strategy).await;
        assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
        assert_eq!(tally.failed, 0, "{tally}");
        within(&seen, 4, 5);
        assert_eq!(world.snapshot(&service), before);
    }
}

#[tokio::test(start_paused = true)]
async fn a_rolling_update_whose_second_batch_fails_a_gate_brings_the_old_tasks_back() {
    let (world, service) = world(4, Behaviour::good().errors_after_first_live_request());
    let strategy = Rolling::start_first().min_ready(Duration::from_secs(10)).watch(["errors"]);
    let (report, tally, seen) = run(&world, &service, &strategy).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
    assert_eq!(tally.failed, tally.failures_of(Place::B), "{tally}");
    within(&seen, 4, 5);
    let after = world.snapshot(&service);
    assert_eq!((after.places.len(), after.places[&Place::A].ready), (1, 4), "{after}");
}

#[tokio::test(start_paused = true)]
async fn a_canary_grows_step_by_step_and_loses_nothing() {
    for strategy in [
        Canary::linear(Weight::percent(20).unwrap(), Duration::from_secs(10)),
        Canary::exponential(Weight::percent(1).unwrap(), 3, Duration::from_secs(10))
            .capacity_follows(),
        Canary::preset("ECSCanary10Percent5Minutes").unwrap(),
    ] {
        let (world, service) = world(4, Behaviour::good());
        let (report, tally, _) = run(&world, &service, &strategy).await;
        assert_eq!(report.outcome, Outcome::Promoted, "{report}");
        assert_eq!(tally.failed, 0, "{tally}");
        world.assert_safe();
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_canary_fails_at_most_what_it_answered() {
    let (world, service) = world(4, Behaviour::good().errors_after_first_live_request());
    let strategy =
        Canary::steps([(Weight::percent(5).unwrap(), Duration::from_secs(60))]).watch(["errors"]);
    let (report, tally, _) = run(&world, &service, &strategy).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
    assert_eq!(tally.failed, tally.failures_of(Place::B), "{tally}");
    assert!(tally.failed <= tally.answers_of(Place::B), "{tally}");
}

#[test]
fn an_unknown_preset_lists_those_that_there_are() {
    let error = Canary::preset("Canary10Percent").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("\"Canary10Percent\""), "{error}");
    for name in ["ECSCanary10Percent5Minutes", "ECSLinear10PercentEvery1Minutes", "ECSAllAtOnce"] {
        assert!(error.hint().unwrap().contains(name), "{error}");
        assert!(Canary::preset(name).is_ok());
        assert!(Canary::preset(&format!("CodeDeployDefault.{name}")).is_ok());
    }
}

/// A deployer of workers, and a worker with `count` tasks on version 1.
async fn worker(world: &World, count: u32) -> Deployer {
    let deployer = Deployer::builder()
        .registry(world.registry())
        .orchestrator(world.orchestrator())
        .without_balancer()
        .store(MemoryStore::new())
        .clock(world.clock())
        .build();
    world.image("work:1", Behaviour::good()).unwrap();
    let first = Change::to("work:1").with_spec(ServiceSpec::worker()).with_replicas(count);
    let plan = deployer.plan("work", &BlueGreen::new(), first).await.unwrap();
    let report = deployer.deploy(plan).await.unwrap().await.unwrap();
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    deployer
}

#[tokio::test(start_paused = true)]
async fn a_worker_is_replaced_at_once_or_in_batches() {
    let strategies: [Box<dyn Strategy>; 3] = [
        Box::new(BlueGreen::new().bake(Duration::from_secs(5))),
        Box::new(Rolling::start_first()),
        Box::new(Rolling::stop_first()),
    ];
    for strategy in strategies {
        let world = World::new(7);
        let deployer = worker(&world, 3).await;
        world.image("work:2", Behaviour::good()).unwrap();
        let plan = deployer.plan("work", &strategy, Change::to("work:2")).await.unwrap();
        let report = deployer.deploy(plan).await.unwrap().await.unwrap();
        assert_eq!(report.outcome, Outcome::Promoted, "{report}");
        let after = world.snapshot(&ServiceName::new("work").unwrap());
        assert_eq!((after.places.len(), after.places[&Place::B].ready), (1, 3), "{after}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_worker_ends_as_it_began() {
    for strategy in [Rolling::start_first(), Rolling::stop_first()] {
        let world = World::new(7);
        let deployer = worker(&world, 3).await;
        world.image("work:2", Behaviour::good().crashes()).unwrap();
        let work = ServiceName::new("work").unwrap();
        let plan = deployer.plan(&work, &strategy, Change::to("work:2")).await.unwrap();
        let report = deployer.deploy(plan).await.unwrap().await.unwrap();
        assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
        let after = world.snapshot(&work);
        assert_eq!((after.places.len(), after.places[&Place::A].ready), (1, 3), "{after}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_canary_of_a_worker_is_refused_with_what_to_do_instead() {
    let world = World::new(7);
    let deployer = worker(&world, 3).await;
    let canary = Canary::linear(Weight::percent(10).unwrap(), Duration::from_secs(1));
    let error = deployer.plan("work", &canary, Change::restart()).await.unwrap_err();
    assert!(error.hint().unwrap().contains("roll a worker"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_planned_names_the_field_and_the_way_out_and_moves_nothing() {
    let percent = |share| Weight::percent(share).unwrap();
    let second = Duration::from_secs(1);
    let cases: [(Box<dyn Strategy>, &str, &str); 11] = [
        (
            Box::new(Rolling::new().surge(0).unavailable(0)),
            "surge and unavailable are both zero",
            "1 at least",
        ),
        (
            Box::new(Rolling::new().surge(Amount::percent(0).unwrap()).unavailable(0)),
            "surge and unavailable are both zero",
            "1 at least",
        ),
        (Box::new(Rolling::new().surge(Amount::Percent(400))), "surge: 400 % is over", "settings"),
        (
            Box::new(Draft::new().launch(Weight::ALL).approve(second).approve(second)),
            "step 3 (approve): waits for an approval right after one like it",
            "settings",
        ),
        (Box::new(Rolling::new().watch(["errors"])), "min_ready", "settings"),
        (
            Box::new(Canary::steps([(percent(50), second), (percent(10), second)])),
            "step 5 (shift): takes the candidate's share from 50 % to 10 %",
            "let the shares grow",
        ),
        (
            Box::new(BlueGreen::new().shift_in([percent(50), percent(10)], second)),
            "from 50 % to 10 %",
            "let the shares grow",
        ),
        (Box::new(Canary::linear(Weight::NONE, second)), "from 0 % to 0 %", "let the shares grow"),
        (Box::new(BlueGreen::new().watch(["errors"])), "watch", "set bake"),
        (
            Box::new(Canary::steps([(percent(5), second)]).approve_at(percent(7), second)),
            "approve_at names 7 %",
            "name one of 5 %",
        ),
        (
            Box::new(Canary::steps([(percent(5), second)]).approve_at(percent(5), Duration::ZERO)),
            "step 5 (approve): waits for no time at all",
            "settings",
        ),
    ];
    for (strategy, what, way_out) in cases {
        let (world, service) = world(4, Behaviour::good());
        let before = world.snapshot(&service);
        let planned = deployer(&world).plan(&service, &strategy, Change::to("web:2")).await;
        let error = planned.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.message().contains(what), "{error}");
        assert!(error.hint().unwrap().contains(way_out), "{error}");
        assert!(world.calls().is_empty());
        assert_eq!(world.snapshot(&service), before);
    }
}

#[tokio::test(start_paused = true)]
async fn steps_that_were_drafted_for_one_time_are_checked_and_carried_out() {
    let (world, service) = world(4, Behaviour::good());
    let (deployer, minute) = (deployer(&world), Duration::from_secs(60));
    let endless = Draft::new().roll(Roll::new(2, 0));
    let error =
        deployer.rollout(&service, &endless, Change::to("web:2")).await.map(drop).unwrap_err();
    assert!(error.message().contains("no step promotes the candidate"), "{error}");
    assert!(world.calls().is_empty());
    let steps = endless.promote().retire(minute);
    let rollout = deployer.rollout(&service, &steps, Change::to("web:2")).await.unwrap();
    let report = rollout.await.unwrap();
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    assert_eq!(report.strategy, "steps");
    assert_eq!(world.snapshot(&service).places[&Place::B].ready, 4);
}

#[tokio::test(start_paused = true)]
async fn more_tasks_than_any_service_has_are_refused() {
    let (world, service) = world(4, Behaviour::good());
    let change = Change::to("web:2").with_replicas(u32::MAX);
    let error = deployer(&world).plan(&service, &Rolling::new(), change).await.unwrap_err();
    assert!(error.message().contains("4294967295 tasks are asked for"), "{error}");
}

#[test]
fn a_weight_over_everything_is_refused_with_its_unit() {
    for error in [Weight::thousandths(1_001), Weight::percent(101), Weight::ratio(5, 4)] {
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    let error = Weight::thousandths(1_001).unwrap_err();
    assert!(error.message().contains("weight 1001"), "{error}");
    assert!(error.hint().unwrap().contains("1,000 is everything"), "{error}");
    assert!(Weight::ratio(0, 0).is_err() && Weight::ratio(1, 3).unwrap().get() == 333);
}

#[tokio::test(start_paused = true)]
async fn an_approval_that_nobody_answers_is_undone_at_its_deadline() {
    let (world, service) = world(4, Behaviour::good());
    let before = world.snapshot(&service);
    let (share, minute) = (Weight::percent(5).unwrap(), Duration::from_secs(60));
    let strategy = Canary::steps([(share, minute)]).approve_at(share, minute);
    let (report, tally, _) = run(&world, &service, &strategy).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
    assert!(report.why.as_ref().unwrap().contains("nobody approved in time"), "{report}");
    assert_eq!(tally.failed, 0, "{tally}");
    assert_eq!(world.snapshot(&service), before);
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_turns_unhealthy_while_more_of_it_is_started_is_not_waited_for() {
    let behaviour = Behaviour::good()
        .starts_in(Duration::from_secs(15))
        .flaps(Duration::from_secs(20), Duration::from_secs(3600));
    let (world, service) = world(10, behaviour);
    let patience = Duration::from_secs(600);
    let strategy = Canary::steps([
        (Weight::percent(10).unwrap(), Duration::from_secs(10)),
        (Weight::percent(50).unwrap(), Duration::from_secs(10)),
    ])
    .capacity_follows()
    .healthy_within(patience);
    let (report, _, _) = run(&world, &service, &strategy).await;
    assert_eq!(report.outcome, Outcome::RolledBack);
    assert!(report.ended.since(report.began) < patience, "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_canary_can_wait_for_a_person_alone() {
    let (world, service) = world(4, Behaviour::good());
    let tenth = Weight::percent(10).unwrap();
    let strategy =
        Canary::steps([(tenth, Duration::ZERO)]).approve_at(tenth, Duration::from_secs(3600));
    let deployer = deployer(&world);
    let plan = deployer.plan(&service, &strategy, Change::to("web:2")).await.unwrap();
    assert!(plan.steps.iter().all(|step| step.name() != "soak"), "{plan}");
}

#[tokio::test(start_paused = true)]
async fn a_candidate_with_no_healthy_task_at_all_is_given_up_sooner_than_one_that_lacks_some() {
    // Less than what a candidate may lack some of its tasks for.
    let behaviour = Behaviour::good().flaps(Duration::from_secs(20), Duration::from_secs(3));
    let (world, service) = world(4, behaviour);
    let strategy = BlueGreen::new().bake(Duration::from_secs(60));
    let (report, _, _) = run(&world, &service, &strategy).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
    assert!(report.why.as_ref().unwrap().contains("0 of 4 healthy"), "{report}");
}
