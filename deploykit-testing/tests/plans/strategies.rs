//! What strategies ask for, and what is refused before anything moves.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use deploykit_core::{
    Amount, BlueGreen, Canary, Change, Draft, ErrorKind, Outcome, Place, Report, Roll, Rolling,
    ServiceName, ServiceSpec, Step, Strategy, UpdateKind, Weight,
};
use deploykit_testing::{Behaviour, Tally, Traffic, World};

use crate::world;

/// Deploys version 2 under load; gives the report, the tally, and what was seen every 50 ms: tasks that were ready, and all.
async fn run(
    world: &World,
    service: &ServiceName,
    strategy: &dyn Strategy,
) -> (Report, Tally, Vec<(usize, usize)>) {
    let traffic = world.start_traffic(service, Traffic::per_second(50));
    let deployer = world.deployer().build();
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
async fn a_rolling_update_of_one_task_or_of_several_at_once_loses_nothing_and_keeps_its_bounds() {
    for (count, strategy, least, most) in
        [(10, Rolling::new(), 8, 13), (1, Rolling::start_first(), 1, 2)]
    {
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

/// The shares of the candidate in per cent, and the minutes for which each is watched.
async fn watched(canary: Canary) -> Vec<(u16, u64)> {
    let (world, service) = world(4, Behaviour::good());
    let deployer = world.deployer().build();
    let plan = deployer.plan(&service, &canary, Change::to("web:2")).await.unwrap();
    let pairs = plan.steps.windows(2).filter_map(|pair| match pair {
        [Step::Shift { weight }, Step::Soak { time, .. }] => {
            Some((weight.get() / 10, time.as_secs() / 60))
        }
        _ => None,
    });
    pairs.collect()
}

#[tokio::test(start_paused = true)]
async fn a_linear_canary_grows_by_the_same_share_each_time() {
    let canary = Canary::linear(Weight::percent(30).unwrap(), Duration::from_secs(120));
    assert_eq!(watched(canary).await, [(30, 2), (60, 2), (90, 2)]);
}

#[tokio::test(start_paused = true)]
async fn an_exponential_canary_grows_by_its_factor() {
    let (first, minute) = (Weight::percent(5).unwrap(), Duration::from_secs(60));
    let canary = |factor| Canary::exponential(first, factor, minute);
    assert_eq!(watched(canary(3)).await, [(5, 1), (15, 1), (45, 1)]);
    assert_eq!(watched(canary(2)).await, [(5, 1), (10, 1), (20, 1), (40, 1), (80, 1)]);
    assert_eq!(watched(canary(u16::MAX)).await, [(5, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_preset_has_the_shares_and_times_that_its_name_says() {
    let tens = |minutes| (1..10).map(|n| (n * 10, minutes)).collect::<Vec<_>>();
    for (name, shares) in [
        ("ECSLinear10PercentEvery1Minutes", tens(1)),
        ("ECSLinear10PercentEvery3Minutes", tens(3)),
        ("ECSCanary10Percent5Minutes", vec![(10, 5)]),
        ("ECSCanary10Percent15Minutes", vec![(10, 15)]),
        ("ECSAllAtOnce", vec![]),
    ] {
        for name in [name.to_owned(), format!("CodeDeployDefault.{name}")] {
            assert_eq!(watched(Canary::preset(&name).unwrap()).await, shares, "{name}");
        }
    }
}

#[test]
fn an_unknown_preset_lists_those_that_there_are() {
    let error = Canary::preset("Canary10Percent").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("\"Canary10Percent\""), "{error}");
    for name in ["ECSCanary10Percent5Minutes", "ECSLinear10PercentEvery1Minutes", "ECSAllAtOnce"] {
        assert!(error.hint().unwrap().contains(name), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn shares_of_requests_are_refused_for_a_worker_with_what_to_do_instead() {
    let (world, _) = world(1, Behaviour::good());
    let deployer = world.deployer().without_balancer().build();
    let half = Weight::percent(50).unwrap();
    let strategy = BlueGreen::new().shift_in([half], Duration::from_secs(1));
    let change = Change::to("web:2").with_spec(ServiceSpec::worker());
    let error = deployer.plan("work", &strategy, change).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.message().contains("shift_in"), "{error}");
    assert!(error.hint().unwrap().contains("roll a worker"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_variable_that_is_not_there_cannot_be_removed_and_the_closest_name_is_told() {
    let (world, _) = world(1, Behaviour::good());
    let deployer = world.deployer().build();
    let bare = ServiceSpec::http(80, "/");
    let spec = bare.clone().with_env("LOG_LEVEL", "info").with_secret("TOKEN", "env:T");
    for (spec, name, hint) in [
        (&spec, "LOG_LEVL", "is it LOG_LEVEL?"),
        (&spec, "token", "is it TOKEN?"),
        (&spec, "DATABASE", "there are LOG_LEVEL, TOKEN"),
        (&bare, "LOG_LEVEL", "there are none at all; leave without_env out"),
    ] {
        let change = Change::to("web:2").with_spec(spec.clone()).without_env(name);
        let error = deployer.plan("shop", &Rolling::new(), change).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.message().contains(&format!("without_env names {name:?}")), "{error}");
        assert_eq!(error.hint(), Some(hint), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_variable_that_is_there_is_removed_or_becomes_a_secret() {
    let (world, _) = world(1, Behaviour::good());
    let deployer = world.deployer().build();
    let spec = ServiceSpec::http(80, "/").with_env("LOG", "info").with_env("TOKEN", "x");
    let change = Change::to("web:2").with_spec(spec).without_env("LOG").without_env("TOKEN");
    let change = change.with_secret("TOKEN", "env:T");
    let plan = deployer.plan("shop", &Rolling::new(), change).await.unwrap();
    assert!(plan.release.spec.env.is_empty());
    assert!(plan.release.spec.secrets.contains_key("TOKEN"));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_planned_names_the_field_and_the_way_out_and_moves_nothing() {
    let percent = |share| Weight::percent(share).unwrap();
    let second = Duration::from_secs(1);
    let cases: [(Box<dyn Strategy>, &str, &str); 15] = [
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
        (Box::new(Canary::steps([])), "steps is empty", "take BlueGreen"),
        (Box::new(Canary::linear(Weight::NONE, second)), "linear begins with 0 %", "above 0 %"),
        (Box::new(Canary::linear(Weight::ALL, second)), "linear begins with 100 %", "BlueGreen"),
        (
            Box::new(Canary::exponential(Weight::NONE, 2, second)),
            "exponential begins with 0 %",
            "above 0 %",
        ),
        (
            Box::new(Canary::exponential(percent(1), 1, second)),
            "exponential has the factor 1",
            "let the share grow",
        ),
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
        let planned = world.deployer().build().plan(&service, &strategy, Change::to("web:2")).await;
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
    let (deployer, minute) = (world.deployer().build(), Duration::from_secs(60));
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
    let error = world.deployer().build().plan(&service, &Rolling::new(), change).await.unwrap_err();
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
    let deployer = world.deployer().build();
    let plan = deployer.plan(&service, &strategy, Change::to("web:2")).await.unwrap();
    let has = |name: &str| plan.steps.iter().any(|step| step.name() == name);
    assert!(has("approve") && !has("soak"), "{plan}");
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

#[tokio::test(start_paused = true)]
async fn the_health_of_a_place_is_told_when_it_changes_and_not_again() {
    let (world, service) = world(4, Behaviour::good());
    let (deployer, half) = (world.deployer().build(), Weight::percent(50).unwrap());
    // The candidate is awaited again before each shift and the promotion, and stable on the way back.
    let strategy =
        BlueGreen::new().shift_in([half], Duration::from_secs(10)).bake(Duration::from_secs(60));
    let mut rollout = deployer.rollout(&service, &strategy, Change::to("web:2")).await.unwrap();
    let (mut updates, mut told, mut last) = (rollout.updates(), 0, BTreeMap::new());
    while let Some(update) = updates.next().await {
        match update.kind {
            UpdateKind::Step { name, .. } if name == "promote" => rollout.abort("ann"),
            UpdateKind::Tasks { place, healthy, wanted } => {
                told += 1;
                let before = last.insert(place, (healthy, wanted));
                assert_ne!(before, Some((healthy, wanted)), "{place} once more");
            }
            _ => {}
        }
    }
    let report = rollout.await.unwrap();
    assert!(last.contains_key(&Place::A) && last.contains_key(&Place::B), "{report}");
    assert!(told >= 3, "{told}");
}
