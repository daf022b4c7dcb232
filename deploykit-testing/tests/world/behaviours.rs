use deploykit_core::{
    HealthGate, LoadBalancer, Orchestrator, Routing, TargetHealth, TaskState, Verdict, Weight,
};
use deploykit_testing::{Behaviour, Traffic};
use tokio::time::sleep;

use crate::gates::context;
use crate::{A, B, health, healthy, launch, ms, states, world};

#[tokio::test(start_paused = true)]
async fn a_crash_loop_stays_failed_and_says_exit_code_and_last_log_line() {
    let (world, web) = world(1, Behaviour::good().crashes());
    launch(&world, &web, B, "web:2", 1).await;
    sleep(ms(230)).await;
    for _ in 0..100 {
        let TaskState::Failed { why } = &states(&world, &web, B).await[0] else {
            panic!("{}", world.snapshot(&web));
        };
        assert!(why.contains("code 3") && why.contains("last log line: fatal"), "{why}");
        sleep(ms(37)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_never_ready_says_what_its_check_answers() {
    let (world, web) = world(1, Behaviour::good().never_ready());
    launch(&world, &web, B, "web:2", 1).await;
    sleep(ms(3_600_000)).await;
    let why = "its health check answers 503".to_owned();
    assert_eq!(states(&world, &web, B).await, [TaskState::Unhealthy { why }]);
    assert_eq!(health(&world, &web, B).await, [TargetHealth::Unhealthy]);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_errors_answers_its_first_live_request_well_and_nothing_after_it() {
    let (world, web) = world(1, Behaviour::good().errors_after_first_live_request());
    launch(&world, &web, B, "web:2", 1).await;
    healthy(&world, &web, B, 1).await;
    let balancer = world.balancer();
    let all_to_b = Routing::all_to(B);
    balancer.set_routing(&web, &all_to_b).await.unwrap();
    let traffic = world.start_traffic(&web, Traffic::per_second(100).with_slow(0, ms(0)));
    sleep(ms(1_000)).await;
    let tally = traffic.stop().await;
    assert_eq!((tally.requests, tally.failures_of(B)), (100, 99), "{tally}");
    assert_eq!(tally.failures[0].why, "status 500");
}

#[tokio::test(start_paused = true)]
async fn a_version_that_errors_passes_tests_until_it_is_live() {
    let (world, web) = world(1, Behaviour::good().errors_after_first_live_request());
    launch(&world, &web, B, "web:2", 1).await;
    healthy(&world, &web, B, 1).await;
    let balancer = world.balancer();
    balancer.set_test_route(&web, Some(B)).await.unwrap();
    let gate = world.http_gate("/health");
    for _ in 0..3 {
        let measured = gate.measure(&context(&world, &web).await).await.unwrap();
        assert_eq!(measured.verdict, Verdict::Pass, "{}", measured.evidence);
    }
    let ten = Weight::percent(10).unwrap();
    let routing = Routing::split(A, B, ten);
    balancer.set_routing(&web, &routing).await.unwrap();
    let traffic = world.start_traffic(&web, Traffic::per_second(100));
    sleep(ms(500)).await;
    let measured = gate.measure(&context(&world, &web).await).await.unwrap();
    assert_eq!(measured.verdict, Verdict::Fail, "{}", measured.evidence);
    drop(traffic);
}

#[tokio::test(start_paused = true)]
async fn failing_health_checks_are_noticed_after_the_detection_time() {
    let (world, web) = world(1, Behaviour::good().errors_after_first_live_request());
    launch(&world, &web, B, "web:2", 1).await;
    healthy(&world, &web, B, 1).await;
    let all_to_b = Routing::all_to(B);
    world.balancer().set_routing(&web, &all_to_b).await.unwrap();
    let traffic = world.start_traffic(&web, Traffic::per_second(1));
    sleep(ms(2_999)).await;
    assert_eq!(health(&world, &web, B).await, [TargetHealth::Healthy]);
    sleep(ms(1)).await;
    assert_eq!(health(&world, &web, B).await, [TargetHealth::Unhealthy]);
    assert!(matches!(states(&world, &web, B).await[0], TaskState::Unhealthy { .. }));
    drop(traffic);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_dies_is_restarted_and_dies_again() {
    let (world, web) = world(1, Behaviour::good().dies_after(ms(5_000)));
    launch(&world, &web, B, "web:2", 1).await;
    let mut seen = Vec::new();
    for _ in 0..120 {
        let failed = matches!(states(&world, &web, B).await[0], TaskState::Failed { .. });
        if seen.last() != Some(&failed) {
            seen.push(failed);
        }
        sleep(ms(100)).await;
    }
    assert_eq!(seen, [false, true, false, true, false]);
}

#[tokio::test(start_paused = true)]
async fn a_flapping_version_loses_its_health_and_finds_it_again() {
    let (world, web) = world(1, Behaviour::good().flaps(ms(1_000), ms(500)));
    launch(&world, &web, B, "web:2", 1).await;
    healthy(&world, &web, B, 1).await;
    let orchestrator = world.orchestrator();
    while health(&world, &web, B).await != [TargetHealth::Unhealthy] {
        orchestrator.changed(&web, ms(10_000)).await;
    }
    let down = world.now();
    healthy(&world, &web, B, 1).await;
    assert_eq!(world.now() - down, ms(550));
}

#[tokio::test(start_paused = true)]
async fn a_slow_version_answers_late() {
    let (world, web) = world(1, Behaviour::good().slow(ms(1_500)));
    launch(&world, &web, B, "web:2", 1).await;
    healthy(&world, &web, B, 1).await;
    let balancer = world.balancer();
    balancer.set_test_route(&web, Some(B)).await.unwrap();
    let context = context(&world, &web).await;
    let before = world.now();
    let measured = world.http_gate("/").measure(&context).await.unwrap();
    assert_eq!(measured.verdict, Verdict::Pass);
    assert!(world.now() - before >= ms(1_500));
    let gate = world.http_gate("/").with_max_latency(ms(1_000));
    let measured = gate.measure(&context).await.unwrap();
    assert_eq!(measured.verdict, Verdict::Fail);
    assert!(measured.evidence.contains("over 1000 ms"), "{}", measured.evidence);
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_is_restarted_ever_more_slowly() {
    let (world, web) = world(1, Behaviour::good().crashes());
    launch(&world, &web, B, "web:2", 1).await;
    sleep(ms(60_000)).await;
    // 0.1 + 0.2 + … + 25.6 s of waiting, and nine starts of 0.2 s, fit into the minute.
    let TaskState::Failed { why } = &states(&world, &web, B).await[0] else {
        panic!("{}", world.snapshot(&web));
    };
    assert!(why.contains("restarted 9 times before"), "{why}");
}
