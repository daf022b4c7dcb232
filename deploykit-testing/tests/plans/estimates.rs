//! What a plan tells about itself, compared with what the world saw when it ran.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use deploykit_core::{
    Amount, BlueGreen, Canary, Change, Deployer, GateUse, Job, Judge, Measurement, OnOrphan,
    Outcome, Plan, Point, Rolling, ServiceSpec, Strategy, Weight, gate_fn, hook_fn,
};
use deploykit_testing::{Behaviour, World};
use serde_json::Value;

const TIME: Duration = Duration::from_secs(10);

fn percent(share: u16) -> Weight {
    Weight::percent(share).unwrap()
}

/// Every strategy with each of its settings that changes what a plan takes.
fn strategies() -> Vec<Box<dyn Strategy>> {
    let gate = || GateUse::new("good").with_judge(Judge::new());
    vec![
        Box::new(BlueGreen::new()),
        Box::new(
            BlueGreen::new()
                .validate([gate()])
                .shift_in([percent(10), percent(50)], TIME)
                .watch([gate()])
                .bake(TIME)
                .hold(TIME),
        ),
        Box::new(Rolling::start_first()),
        Box::new(Rolling::stop_first()),
        Box::new(Rolling::new().min_ready(TIME).watch([gate()])),
        Box::new(Rolling::new().surge(Amount::percent(100).unwrap()).pooled()),
        Box::new(Canary::linear(percent(25), TIME)),
        Box::new(Canary::steps([(percent(5), TIME), (percent(50), TIME)]).capacity_follows()),
        Box::new(Canary::steps([(percent(5), TIME)]).approve_at_by(percent(5), "boss", TIME)),
        Box::new(Canary::exponential(percent(10), 3, TIME).bake(TIME).hold(TIME)),
    ]
}

/// Strategies that a worker can have.
fn of_workers() -> Vec<Box<dyn Strategy>> {
    vec![
        Box::new(BlueGreen::new().bake(TIME)),
        Box::new(Rolling::start_first()),
        Box::new(Rolling::stop_first().min_ready(TIME)),
        Box::new(Rolling::new()),
    ]
}

fn world() -> World {
    let world = World::new(7);
    // So that nothing comes and goes unseen between two looks.
    world.tune(|settings| settings.call_time = Duration::from_millis(20));
    for image in ["web:1", "web:2", "web:3"] {
        // At once, so that tasks that are started together become ready together.
        world.image(image, Behaviour::good().starts_in(Duration::ZERO)).unwrap();
    }
    world
}

fn deployer(world: &World) -> Deployer {
    world
        .deployer()
        .gate("good", gate_fn(|_| async { Ok(Measurement::pass("fine")) }))
        .hook("note", hook_fn(|_| async { Ok(()) }))
        .approver("boss", Boss)
        .build()
}

/// Approves of everything.
#[derive(Debug)]
struct Boss;

#[deploykit_core::async_trait]
impl deploykit_core::Approver for Boss {
    async fn ask(
        &self,
        _: &deploykit_core::ApprovalRequest,
    ) -> deploykit_core::Result<deploykit_core::Approval> {
        Ok(deploykit_core::Approval::Approved { by: "boss".to_owned() })
    }
}

/// Runs a plan; tells whether the world saw what it had told.
async fn compare(world: &World, deployer: &Deployer, plan: Plan) {
    let (service, text, told) = (plan.service.clone(), plan.to_string(), plan.estimate());
    let most = Arc::new(AtomicUsize::new(0));
    let watcher = tokio::spawn({
        let (world, most) = (world.clone(), Arc::clone(&most));
        async move {
            loop {
                let places = world.snapshot(&service).places;
                let tasks = places.values().map(|place| place.tasks).sum();
                most.fetch_max(tasks, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(15)).await;
            }
        }
    });
    let before = world.calls().len();
    let report = deployer.deploy(plan).await.unwrap().await.unwrap();
    watcher.abort();
    assert_eq!(report.outcome, Outcome::Promoted, "{text}\n{report}");
    let calls = world.calls().split_off(before);
    let list: Vec<_> = calls.iter().map(|call| format!("\n{call}")).collect();
    assert_eq!(calls.len(), told.changes as usize, "{text}{}", list.concat());
    assert_eq!(most.load(Ordering::Relaxed), told.peak_tasks as usize, "{text}");
    let took = report.duration();
    assert!(told.least <= took && took <= told.most, "{text}\n{report}");
}

#[tokio::test(start_paused = true)]
async fn calls_peak_and_time_are_as_the_plan_told_for_every_strategy() {
    for count in [1, 7] {
        for strategy in strategies() {
            let world = world();
            let web = world.already_runs("web", "web:1", count).unwrap();
            let deployer = deployer(&world);
            let plan = deployer.plan(&web, &strategy, Change::to("web:2")).await.unwrap();
            compare(&world, &deployer, plan).await;
            // With whatever that one holds.
            let plan = deployer.plan(&web, &strategy, Change::to("web:3")).await.unwrap();
            compare(&world, &deployer, plan).await;
            let plan = deployer.plan_rollback(&web, &strategy).await.unwrap();
            compare(&world, &deployer, plan).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_deployment_and_another_count_are_as_the_plan_told() {
    for (strategy, (first, then)) in
        strategies().iter().flat_map(|one| [(3, 5), (5, 2)].map(|counts| (one, counts)))
    {
        let world = world();
        let deployer = deployer(&world);
        let spec = ServiceSpec::http(8080, "/health");
        for (image, replicas) in [("web:1", first), ("web:2", then)] {
            let change = Change::to(image).with_spec(spec.clone()).with_replicas(replicas);
            let plan = deployer.plan("web", strategy, change).await.unwrap();
            compare(&world, &deployer, plan).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_is_as_the_plan_told() {
    for strategy in of_workers() {
        let world = world();
        let deployer = world.deployer().without_balancer().build();
        for image in ["web:1", "web:2"] {
            let change = Change::to(image).with_spec(ServiceSpec::worker()).with_replicas(4);
            let plan = deployer.plan("web", &strategy, change).await.unwrap();
            compare(&world, &deployer, plan).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn hooks_and_jobs_are_as_the_plan_told() {
    for strategy in strategies() {
        let world = world();
        let web = world.already_runs("web", "web:1", 2).unwrap();
        let deployer = deployer(&world);
        let plan = deployer.plan(&web, &strategy, Change::to("web:2")).await.unwrap();
        let plan = plan
            .with_hook(Point::PostScaleUp, "note", TIME)
            .with_job(Point::PreScaleUp, Job::new("migrate"))
            .with_job(Point::PostProductionTrafficShift, Job::new("tell"));
        compare(&world, &deployer, plan).await;
    }
}

#[tokio::test(start_paused = true)]
async fn tasks_that_become_ready_one_after_the_other_cost_one_call_more_each_at_most() {
    for strategy in strategies() {
        // Up to a second apart.
        let slow = Behaviour::good().starts_in(Duration::from_secs(10));
        let (world, web) = crate::world(4, slow);
        let deployer = deployer(&world);
        let plan = deployer.plan(&web, &strategy, Change::to("web:2")).await.unwrap();
        let told = plan.estimate().changes as usize;
        let report = deployer.deploy(plan).await.unwrap().await.unwrap();
        assert_eq!(report.outcome, Outcome::Promoted, "{report}");
        let calls = world.calls().len();
        assert!((told..told + 4).contains(&calls), "{calls} calls, {told} told: {strategy:?}");
    }
}

/// Time, peak, calls and the point of no return, as people read them.
fn totals(plan: &Plan) -> String {
    let text = plan.to_string();
    text.lines().last().unwrap().trim().to_owned()
}

#[tokio::test(start_paused = true)]
async fn text_json_and_mermaid_tell_time_peak_calls_and_the_point_of_no_return() {
    for strategy in strategies() {
        let world = world();
        let web = world.already_runs("web", "web:1", 4).unwrap();
        let plan = deployer(&world).plan(&web, &strategy, Change::to("web:2")).await.unwrap();
        let plan = plan
            .with_hook(Point::PreScaleUp, "note", TIME)
            .with_hook(Point::OnUndone, "note", TIME)
            .with_on_orphan(OnOrphan::Continue);
        let told = plan.estimate();
        let step = told.point_of_no_return.unwrap();
        assert_eq!(plan.steps[step - 1], deploykit_core::Step::Promote);

        let text = totals(&plan);
        for part in [
            format!("up to {} tasks", told.peak_tasks),
            format!("{} changes at providers", told.changes),
            format!("goes back by itself until step {step} has ended"),
        ] {
            assert!(text.contains(&part), "{part}: {text}");
        }
        assert!(text.starts_with("takes ") && text.contains(" at least, "), "{text}");
        assert!(plan.to_string().contains("at PRE_SCALE_UP: note, 10 s at most"), "{plan}");

        let json: Value = serde_json::from_str(&plan.to_json().unwrap()).unwrap();
        let estimate = &json["estimate"];
        assert_eq!(estimate["least_ms"], told.least.as_millis() as u64);
        assert_eq!(estimate["most_ms"], told.most.as_millis() as u64);
        assert_eq!(estimate["peak_tasks"], told.peak_tasks);
        assert_eq!(estimate["changes"], told.changes);
        assert_eq!(estimate["point_of_no_return"], step);
        assert_eq!(Plan::from_json(plan.to_json().unwrap().as_bytes()).unwrap(), plan);

        let mermaid = plan.to_mermaid();
        for part in text.split("; ") {
            assert!(mermaid.contains(part), "{part}: {mermaid}");
        }
        assert!(mermaid.contains("before: note (PRE_SCALE_UP, 10 s at most)<br/>1: "), "{mermaid}");
        assert!(mermaid.contains("after: note (ON_UNDONE, 10 s at most)"), "{mermaid}");
        let inside = mermaid.split("  end\n").next().unwrap();
        assert!(inside.contains(&format!("    s{step}[")), "{mermaid}");
        assert!(!inside.contains(&format!("s{}[", step + 1)), "{mermaid}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_of_nothing_tells_so_in_every_form() {
    let world = world();
    let web = world.already_runs("web", "web:1", 4).unwrap();
    let plan = deployer(&world).plan(&web, &BlueGreen::new(), Change::to("web:1")).await.unwrap();
    assert!(plan.to_string().contains("nothing to do"), "{plan}");
    assert!(plan.to_mermaid().contains("nothing to do"), "{}", plan.to_mermaid());
    let json: Value = serde_json::from_str(&plan.to_json().unwrap()).unwrap();
    assert_eq!(
        (&json["estimate"]["changes"], &json["estimate"]["peak_tasks"]),
        (&0.into(), &4.into())
    );
}
