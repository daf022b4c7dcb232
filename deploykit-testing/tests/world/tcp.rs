//! A TCP service: connections that last, instead of requests.

use std::time::Duration;

use deploykit_core::{
    BlueGreen, Change, Deployer, Draft, ErrorKind, HealthGate, LoadBalancer, Outcome, ServiceName,
    ServiceSpec, Strategy, Weight,
};
use deploykit_testing::{Behaviour, Traffic, World};
use tokio::time::sleep;

use crate::gates::context;
use crate::{A, B, ms};

const MINUTE: Duration = Duration::from_secs(60);

/// A world with a database of two tasks, deployed by the deployer that is returned.
async fn database() -> (World, ServiceName, Deployer) {
    let world = World::new(7);
    for image in ["db:1", "db:2"] {
        world.image(image, Behaviour::good()).unwrap();
    }
    let db = ServiceName::new("db").unwrap();
    let deployer = world.deployer().gate("connects", world.tcp_gate()).build();
    let first = Change::to("db:1").with_spec(ServiceSpec::tcp(5432)).with_replicas(2);
    let report = deployer.rollout(&db, &BlueGreen::new(), first).await.unwrap().await.unwrap();
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    (world, db, deployer)
}

fn strategy(drain: Duration) -> BlueGreen {
    BlueGreen::new()
        .validate(["connects"])
        .shift_in([Weight::percent(50).unwrap()], MINUTE)
        .drain(drain)
}

#[tokio::test(start_paused = true)]
async fn connections_last_through_a_rollout_that_has_the_time_to_drain() {
    let (world, db, deployer) = database().await;
    let traffic = world.start_traffic(&db, Traffic::connections_per_second(2, 3 * MINUTE));
    sleep(MINUTE).await;
    let change = Change::to("db:2");
    let rollout = deployer.rollout(&db, &strategy(5 * MINUTE), change).await.unwrap();
    let report = rollout.await.unwrap();
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    let tally = traffic.stop().await;
    assert!(tally.answers_of(A) > 0 && tally.answers_of(B) > 0, "{tally}");
    assert_eq!(tally.failed, 0, "{tally}");
    world.assert_safe();
}

#[tokio::test(start_paused = true)]
async fn connections_that_outlast_the_drain_are_cut_and_told() {
    let (world, db, deployer) = database().await;
    let traffic = world.start_traffic(&db, Traffic::connections_per_second(2, 60 * MINUTE));
    sleep(MINUTE).await;
    let rollout = deployer.rollout(&db, &strategy(MINUTE), Change::to("db:2")).await.unwrap();
    let report = rollout.await.unwrap();
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    let cut = traffic.tally();
    assert!(cut.failed > 0 && cut.failures_of(A) == cut.failed, "{cut}");
    assert!(report.to_string().contains("still in flight at the drain deadline"), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_in_flight_at_its_task_as_long_as_it_lasts() {
    let (world, db, _) = database().await;
    let traffic = world.start_traffic(&db, Traffic::connections_per_second(1, 10 * MINUTE));
    sleep(ms(5_500)).await;
    let balancer = world.balancer();
    assert_eq!(balancer.observe(&db).await.unwrap().in_flight(A), 5);
    drop(traffic);
    sleep(11 * MINUTE).await;
    assert_eq!(balancer.observe(&db).await.unwrap().in_flight(A), 0);
}

#[tokio::test(start_paused = true)]
async fn its_entries_are_addresses_and_requests_are_refused_with_the_gate_to_use() {
    let (world, db, _) = database().await;
    world.balancer().set_test_route(&db, Some(A)).await.unwrap();
    let context = context(&world, &db).await;
    let (entry, test) = (context.entry.clone().unwrap(), context.test_entry.clone().unwrap());
    assert!(entry.url.starts_with("tcp://") && test.url.starts_with("tcp://"));
    assert!(entry.url != test.url && test.headers.is_empty());
    let error = world.http_gate("/health").measure(&context).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.hint().unwrap().contains("tcp_gate"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn without_a_test_route_a_plan_that_opens_one_is_refused_and_so_is_one_from_before() {
    let (world, db, deployer) = database().await;
    let before = deployer.plan(&db, &strategy(MINUTE), Change::to("db:2")).await.unwrap();
    world.tune(|settings| {
        settings.without_test_route.insert(db.clone());
    });
    let steps = Draft::new()
        .launch(Weight::ALL)
        .await_healthy(MINUTE)
        .open_test()
        .close_test()
        .shift(Weight::ALL)
        .promote()
        .retire(MINUTE);
    let strategies: [&dyn Strategy; 2] = [&strategy(MINUTE), &steps];
    for strategy in strategies {
        let error = deployer.plan(&db, strategy, Change::to("db:2")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(
            error.message().contains("test route") && error.message().contains("db"),
            "{error}"
        );
    }
    let error = deployer.deploy(before).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert_eq!(world.snapshot(&db).places.len(), 1);
    // What opens none is as good as ever.
    let report = deployer.rollout(&db, &BlueGreen::new(), Change::to("db:2")).await.unwrap();
    assert_eq!(report.await.unwrap().outcome, Outcome::Promoted);
}
