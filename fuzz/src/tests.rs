//! The seeds, tried one by one: what the engine begins with, and what it once found.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use deploykit_core::{
    Amount, BlueGreen, Canary, GateUse, Job, Journal, Judge, Plan, Point, Rolling, RolloutId,
    Store as _, Strategy, Weight,
};

use crate::stage::{Stage, paused};
use crate::{haproxy, image, journal, manifest, plan, store};

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

fn seeds(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(corpus(target)).unwrap().map(|file| file.unwrap().path());
    let seeds: Vec<_> = files.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    assert!(!seeds.is_empty(), "no seeds of {target}");
    seeds
}

/// Panics are caught in many places, as a provider's may be; here each one counts.
fn try_all(target: &str, run: fn(&[u8])) {
    static ONE: Mutex<()> = Mutex::new(());
    static PANICKED: Mutex<Option<String>> = Mutex::new(None);
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(|panic| {
        *PANICKED.lock().unwrap() = Some(panic.to_string());
    }));
    let mut bad = None;
    for (path, data) in seeds(target) {
        let ran = std::panic::catch_unwind(|| run(&data));
        let panicked = PANICKED.lock().unwrap().take();
        if ran.is_err() || panicked.is_some() {
            bad = Some(format!("{}: {panicked:?}", path.display()));
            break;
        }
    }
    std::panic::set_hook(told);
    assert_eq!(bad, None);
}

#[test]
fn image_references_of_the_corpus_make_nothing_panic() {
    try_all("image", image);
}

#[test]
fn plans_of_the_corpus_make_nothing_panic() {
    try_all("plan", plan);
}

#[test]
fn journals_of_the_corpus_make_nothing_panic() {
    try_all("journal", journal);
}

#[test]
fn files_of_the_corpus_make_no_store_panic() {
    try_all("store", store);
}

#[test]
fn answers_of_haproxy_of_the_corpus_make_nothing_panic() {
    try_all("haproxy", haproxy);
}

#[test]
fn manifests_of_the_corpus_make_nothing_panic() {
    try_all("manifest", manifest);
}

const SECOND: Duration = Duration::from_secs(1);

/// One of each strategy, with as much in it as a seed should know of.
fn strategies() -> [(&'static str, Box<dyn Strategy>); 4] {
    let judge = Judge::new().with_interval(SECOND).with_successes(2);
    let gate = |name: &str| GateUse::new(name).with_judge(judge.clone());
    let half = Weight::percent(50).unwrap();
    [
        (
            "blue-green",
            Box::new(
                BlueGreen::new()
                    .validate([gate("smoke")])
                    .shift_in([half], SECOND)
                    .watch([gate("live")])
                    .bake(SECOND)
                    .hold(60 * SECOND),
            ),
        ),
        (
            "canary",
            Box::new(
                Canary::steps([(half, SECOND)])
                    .approve_at_by(half, "bob", 60 * SECOND)
                    .watch([gate("live")])
                    .capacity_follows(),
            ),
        ),
        (
            "rolling",
            Box::new(
                Rolling::new()
                    .surge(Amount::percent(50).unwrap())
                    .unavailable(1)
                    .min_ready(3 * SECOND)
                    .watch([gate("live")]),
            ),
        ),
        ("pooled", Box::new(Rolling::start_first().pooled())),
    ]
}

/// Runs each strategy to its end, or until it is aborted, and keeps the plan and what the store holds then.
#[test]
#[ignore = "writes the seeds of plans and journals anew, after a change of their form; with HOSTNAME=runner-1"]
fn write_seeds() {
    for (name, strategy) in strategies() {
        for aborted in [false, true] {
            paused(async {
                let stage = Stage::new();
                let plan = stage
                    .plan(&*strategy)
                    .await
                    .with_hook(Point::PreScaleUp, "announce", SECOND)
                    .with_job(Point::PreProductionTrafficShift, Job::new("migrate"));
                let json = serde_json::to_string(&plan).unwrap();
                fs::write(corpus("plan").join(format!("{name}.json")), &json).unwrap();
                let rollout = stage.deployer.deploy(plan).await.unwrap();
                if aborted {
                    tokio::time::sleep(SECOND / 2).await;
                    rollout.abort("bob");
                }
                let _ = rollout.await.unwrap();
                let (web, id) = (stage.web.clone(), RolloutId::new("web-1"));
                let history = stage.store.read(&Journal::History(web.clone()), 0).await.unwrap();
                let events = stage.store.read(&Journal::Rollout(web, id), 0).await.unwrap();
                let write = |how: &str, lines: Vec<String>| {
                    let file = corpus("journal").join(format!("{name}-{how}"));
                    fs::write(file, lines.join("\n") + "\n").unwrap();
                };
                // As its deployer left it when it died.
                let begun = history.first().unwrap().clone();
                let half = events.iter().take(events.len() / 2).cloned();
                let dead = [json.clone(), begun].into_iter().chain(half).collect();
                write(if aborted { "dead-undoing" } else { "dead" }, dead);
                let whole = [json].into_iter().chain(history).chain(events);
                write(if aborted { "undone" } else { "whole" }, whole.collect());
            });
        }
    }
}

#[test]
fn each_plan_of_the_corpus_is_one_that_is_run_to_its_end() {
    for (path, json) in seeds("plan") {
        let Ok(plan) = Plan::from_json(&json) else { continue };
        paused(async {
            let stage = Stage::new();
            let deployed = stage.deployer.deploy(plan).await;
            let report = deployed.unwrap().await.unwrap();
            assert_eq!(report.outcome.to_string(), "promoted", "{}: {report}", path.display());
        });
    }
}

#[test]
fn json_that_is_changed_is_json_again_and_mostly_another() {
    let (_, seed) = seeds("plan").remove(0);
    let other = (1..100).filter_map(|n| crate::mutate::mutated(&seed, n)).filter(|text| {
        serde_json::from_str::<serde_json::Value>(text).unwrap();
        text.as_bytes() != seed
    });
    assert!(other.count() > 50);
}
