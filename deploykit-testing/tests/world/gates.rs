use deploykit_core::{
    GateContext, HealthGate, LoadBalancer, RevisionId, RolloutId, Routing, ServiceName,
    TargetHealth, Verdict,
};
use deploykit_testing::{Behaviour, World, WorldGate};

use crate::{B, healthy, launch, ms, world};

/// What a driver would tell a gate about candidate B.
pub(crate) async fn context(world: &World, web: &ServiceName) -> GateContext {
    let seen = world.balancer().observe(web).await.unwrap();
    let (rollout, revision) = (RolloutId::new("web-1"), RevisionId::new("web-2"));
    let mut context = GateContext::new(web.clone(), rollout, B, revision);
    context.entry = seen.entry;
    context.test_entry = seen.test_entry;
    let healthy = seen
        .targets
        .iter()
        .filter(|target| target.place == B && target.health == TargetHealth::Healthy);
    context.targets = healthy.map(|target| target.address.clone()).collect();
    context
}

#[tokio::test(start_paused = true)]
async fn without_a_test_route_there_is_no_verdict() {
    let (world, web) = world(1, Behaviour::good());
    let context = context(&world, &web).await;
    let measured = world.http_gate("/health").measure(&context).await.unwrap();
    assert_eq!(measured.verdict, Verdict::Inconclusive);
    assert_eq!(measured.evidence, "no test route is open");
}

#[tokio::test(start_paused = true)]
async fn over_the_test_route_the_candidate_answers() {
    let (world, web) = world(1, Behaviour::good());
    launch(&world, &web, B, "web:2", 1).await;
    healthy(&world, &web, B, 1).await;
    let balancer = world.balancer();
    balancer.set_test_route(&web, Some(B)).await.unwrap();
    let context = context(&world, &web).await;
    let measured = world.http_gate("/health").measure(&context).await.unwrap();
    assert_eq!(measured.verdict, Verdict::Pass);
    assert!(measured.evidence.ends_with("from B"), "{}", measured.evidence);
}

#[tokio::test(start_paused = true)]
async fn over_the_live_entry_whoever_has_the_shares_answers() {
    let (world, web) = world(1, Behaviour::good());
    let context = context(&world, &web).await;
    let gate = world.http_gate("/").live();
    let measured = gate.measure(&context).await.unwrap();
    assert!(measured.evidence.ends_with("from A"), "{}", measured.evidence);
}

#[tokio::test(start_paused = true)]
async fn a_candidate_without_a_healthy_target_fails() {
    let (world, web) = world(1, Behaviour::good().never_ready());
    launch(&world, &web, B, "web:2", 1).await;
    let balancer = world.balancer();
    balancer.set_test_route(&web, Some(B)).await.unwrap();
    let context = context(&world, &web).await;
    let measured = world.http_gate("/health").measure(&context).await.unwrap();
    assert_eq!(measured.verdict, Verdict::Fail);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_cut_fails_the_measurement() {
    let (world, web) = world(1, Behaviour::good());
    launch(&world, &web, B, "web:2", 1).await;
    healthy(&world, &web, B, 1).await;
    let balancer = world.balancer();
    balancer.set_test_route(&web, Some(B)).await.unwrap();
    let context = context(&world, &web).await;
    let kill = async {
        tokio::time::sleep(ms(2)).await;
        world.kill_task(&web, B, 0).unwrap();
    };
    let gate = world.http_gate("/health");
    let (measured, ()) = tokio::join!(gate.measure(&context), kill);
    let measured = measured.unwrap();
    assert_eq!(measured.verdict, Verdict::Fail);
    assert!(measured.evidence.contains("died"), "{}", measured.evidence);
}

#[tokio::test(start_paused = true)]
async fn a_status_outside_of_the_range_fails() {
    let (world, web) = world(1, Behaviour::good());
    let context = context(&world, &web).await;
    let gate = world.http_gate("/").live().with_status(300..400);
    let measured = gate.measure(&context).await.unwrap();
    assert_eq!(measured.verdict, Verdict::Fail);
}

#[tokio::test(start_paused = true)]
async fn a_measurement_changes_nothing() {
    let (world, web) = world(1, Behaviour::good());
    let before = world.snapshot(&web);
    let context = context(&world, &web).await;
    let gate = world.http_gate("/").live();
    gate.measure(&context).await.unwrap();
    assert_eq!(world.snapshot(&web), before);
    assert_eq!(world.snapshot(&web).routing, Routing::all_to(crate::A));
    assert!(world.calls().is_empty());
}

/// Three healthy targets of candidate B, and a gate that asks each.
async fn three(next: Behaviour) -> (World, ServiceName, GateContext, WorldGate) {
    let (world, web) = world(1, next);
    launch(&world, &web, B, "web:2", 3).await;
    healthy(&world, &web, B, 3).await;
    let (context, gate) = (context(&world, &web).await, world.http_gate("/").each_target());
    (world, web, context, gate)
}

#[tokio::test(start_paused = true)]
async fn each_target_of_the_candidate_answers_without_any_route_to_it() {
    let (world, _, context, gate) = three(Behaviour::good()).await;
    let measured = gate.measure(&context).await.unwrap();
    assert_eq!(measured.verdict, Verdict::Pass, "{}", measured.evidence);
    assert!(measured.evidence.contains(&context.targets[0]), "{}", measured.evidence);
    assert!(measured.evidence.ends_with("from B (all 3 targets passed)"), "{}", measured.evidence);
    world.assert_safe();
}

#[tokio::test(start_paused = true)]
async fn one_target_that_died_fails_the_measurement_of_each() {
    let (world, web, context, gate) = three(Behaviour::good()).await;
    world.kill_task(&web, B, 1).unwrap();
    let measured = gate.measure(&context).await.unwrap();
    assert_eq!(measured.verdict, Verdict::Fail, "{}", measured.evidence);
    assert!(measured.evidence.contains(&context.targets[1]), "{}", measured.evidence);
    assert!(measured.evidence.ends_with("(1 of 3 targets)"), "{}", measured.evidence);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_became_unhealthy_answers_as_its_health_check_does() {
    let (_, _, context, gate) = three(Behaviour::good().flaps(ms(2_000), ms(60_000))).await;
    tokio::time::sleep(ms(4_000)).await;
    let measured = gate.measure(&context).await.unwrap();
    assert_eq!(measured.verdict, Verdict::Fail, "{}", measured.evidence);
    assert!(measured.evidence.contains("answered 503"), "{}", measured.evidence);
}

#[tokio::test(start_paused = true)]
async fn asking_each_target_is_no_live_request() {
    let (world, web, context, gate) =
        three(Behaviour::good().errors_after_first_live_request()).await;
    for _ in 0..2 {
        let measured = gate.measure(&context).await.unwrap();
        assert_eq!(measured.verdict, Verdict::Pass, "{}", measured.evidence);
    }
    assert!(world.snapshot(&web).places[&B].healthy == 3);
}

#[tokio::test(start_paused = true)]
async fn a_candidate_without_targets_says_nothing() {
    let (world, web) = world(1, Behaviour::good());
    let context = context(&world, &web).await;
    let measured = world.http_gate("/").each_target().measure(&context).await.unwrap();
    assert_eq!(measured.verdict, Verdict::Inconclusive, "{}", measured.evidence);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_no_task_has_is_not_answered() {
    let (_, _, mut context, gate) = three(Behaviour::good()).await;
    context.targets = vec!["10.9.9.9:8080".to_owned()];
    let measured = gate.measure(&context).await.unwrap();
    assert_eq!(measured.verdict, Verdict::Fail, "{}", measured.evidence);
}
