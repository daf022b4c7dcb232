//! Bad input gets an error that names what is wrong and the way out, and nothing has moved.

use deploykit::{Change, Error, ErrorKind, Outcome, Plan};
use serde_json::{Value, json};

use super::orphan::{die_at, recover};
use super::see::*;
use super::stage::{Providers, Stage, Version, assemble, deployer, deployer_of};

/// A change that planning must refuse.
async fn unplannable<S: Stage>(stage: &S, change: Change) -> Error {
    serving(stage).await;
    let deployer = deployer(stage).await;
    refused(stage, deployer.plan(&stage.basics().service, &plain(), change)).await
}

pub(crate) async fn an_image_that_cannot_be_parsed<S: Stage>(stage: &S) {
    let error = unplannable(stage, Change::to("web:tag with spaces")).await;
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.message().contains("image"), "{error}");
    assert!(error.message().contains("tag with spaces"), "{error}");
}

pub(crate) async fn an_unknown_tag<S: Stage>(stage: &S) {
    let image = stage.image(Version::Good);
    let (name, _) = image.rsplit_once(':').unwrap();
    let error = unplannable(stage, Change::to(format!("{name}:never"))).await;
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.message().contains(&format!("image {name}:never")), "{error}");
}

pub(crate) async fn a_tag_while_the_registry_cannot_be_reached<S: Stage>(stage: &S) {
    serving(stage).await;
    let (registry, image) = stage.unreachable();
    let parts = Providers { registry, ..stage.providers().await };
    let deployer = assemble(stage, "alice", parts, &stage.basics().log.another());
    let change = Change::to(&image);
    let error = refused(stage, deployer.plan(&stage.basics().service, &plain(), change)).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains(&image), "{error}");
}

pub(crate) async fn an_image_that_cannot_be_pulled<S: Stage>(stage: &S) {
    let before = serving(stage).await;
    // A digest is believed; that nobody has it is found out when it is needed.
    let image = format!("sha256:{}", "0".repeat(64));
    let deployer = deployer(stage).await;
    let change = Change::to(&image);
    let plan = deployer.plan(&stage.basics().service, &plain(), change).await.unwrap();
    let report = Run::new::<S>(deployer.deploy(plan).await.unwrap()).end().await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
    assert!(report.why.as_ref().unwrap().contains("000000000000"), "{report}");
    assert_eq!(seen(stage).await, before);
    assert_eq!(stage.basics().log.count(is_launch), 0);
}

pub(crate) async fn zero_replicas<S: Stage>(stage: &S) {
    let change = Change::to(stage.image(Version::Better)).with_replicas(0);
    let error = unplannable(stage, change).await;
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.message().contains("replicas"), "{error}");
}

pub(crate) async fn an_unknown_service_without_a_spec<S: Stage>(stage: &S) {
    serving(stage).await;
    let deployer = deployer(stage).await;
    let (other, change) = (&stage.basics().other, Change::to(stage.image(Version::Good)));
    let error = refused(stage, deployer.plan(other, &plain(), change)).await;
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.message().contains(other.as_str()), "{error}");
    assert!(error.message().contains("spec"), "{error}");
    assert!(error.hint().unwrap().contains("with_spec"), "{error}");
    assert!(seen_of(stage, other).await.is_nothing());
}

pub(crate) async fn a_gate_that_nobody_gave<S: Stage>(stage: &S) {
    serving(stage).await;
    let deployer = deployer(stage).await;
    let change = Change::to(stage.image(Version::Better));
    let strategy = plain().validate(["smoek"]);
    let error = refused(stage, deployer.plan(&stage.basics().service, &strategy, change)).await;
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.message().contains("\"smoek\""), "{error}");
}

/// Edits a good plan as text, and tries to read and deploy it.
async fn edited<S: Stage>(stage: &S, edit: impl FnOnce(&mut Value)) -> Error {
    serving(stage).await;
    let plan = plan(stage, Version::Better, &plain()).await;
    let mut text = serde_json::to_value(&plan).unwrap();
    edit(&mut text);
    let text = serde_json::to_vec(&text).unwrap();
    let deployer = deployer(stage).await;
    let attempt = async { deployer.deploy(Plan::from_json(&text)?).await };
    refused(stage, attempt).await
}

pub(crate) async fn a_plan_edited_to_a_held_place_that_is_none<S: Stage>(stage: &S) {
    let error = edited(stage, |plan| plan["from_held"] = json!(true)).await;
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.message().contains("from_held"), "{error}");
}

pub(crate) async fn a_plan_edited_to_the_place_that_serves<S: Stage>(stage: &S) {
    let error = edited(stage, |plan| plan["candidate"] = json!("A")).await;
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.message().contains("place A"), "{error}");
}

pub(crate) async fn a_plan_edited_to_shift_before_anything_runs<S: Stage>(stage: &S) {
    let error = edited(stage, |plan| {
        plan["steps"].as_array_mut().unwrap().remove(0);
    })
    .await;
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.message().contains("step 1 (await healthy)"), "{error}");
}

pub(crate) async fn a_plan_edited_to_have_no_end<S: Stage>(stage: &S) {
    let error = edited(stage, |plan| {
        plan["steps"].as_array_mut().unwrap().pop();
    })
    .await;
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.message().contains("no end"), "{error}");
}

pub(crate) async fn a_plan_of_a_later_version<S: Stage>(stage: &S) {
    let error = edited(stage, |plan| plan["format"] = json!(1_000)).await;
    assert_eq!(error.kind(), ErrorKind::Newer, "{error}");
    assert!(error.message().contains("1000"), "{error}");
}

/// Edits the journal of a rollout whose deployer has died, and tries to recover it. Given its text back it can be.
async fn unrecoverable<S: Stage>(stage: &S, edit: impl FnOnce(&str) -> String) -> Error {
    let before = serving(stage).await;
    die_at(stage, plan(stage, Version::Better, &careful()).await, "soak").await;
    let journal = stage.basics().journal();
    let text = std::fs::read_to_string(&journal).unwrap();
    std::fs::write(&journal, edit(&text)).unwrap();
    let deployer = deployer(stage).await;
    let error = refused(stage, async { recover(stage, &deployer).await.map(drop) }).await;
    std::fs::write(&journal, text).unwrap();
    let report = recover(stage, &deployer).await.unwrap().end().await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
    assert_eq!(seen(stage).await, before);
    error
}

pub(crate) async fn a_journal_of_a_later_version<S: Stage>(stage: &S) {
    let error =
        unrecoverable(stage, |text| text.replacen("\"machine\":1", "\"machine\":1000", 1)).await;
    assert_eq!(error.kind(), ErrorKind::Newer, "{error}");
    assert!(error.message().contains("1000") && error.message().contains("line 1 "), "{error}");
}

/// The third line, cut in its middle.
fn damage(text: &str) -> String {
    let damaged = |(n, line): (usize, &str)| {
        let keep = if n == 2 { line.len() / 2 } else { line.len() };
        format!("{}\n", &line[..keep])
    };
    text.lines().enumerate().map(damaged).collect()
}

pub(crate) async fn a_journal_with_a_damaged_line<S: Stage>(stage: &S) {
    let error = unrecoverable(stage, damage).await;
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    let journal = stage.basics().journal();
    assert!(error.message().contains(journal.to_str().unwrap()), "{error}");
    assert!(error.message().contains("line 3 "), "{error}");
}

pub(crate) async fn a_history_with_a_damaged_line<S: Stage>(stage: &S) {
    serving(stage).await;
    let _ = promoted(stage, Version::Better, &plain()).await;
    let history = stage.basics().history();
    let text = std::fs::read_to_string(&history).unwrap();
    std::fs::write(&history, damage(&text)).unwrap();
    let deployer = deployer(stage).await;
    let change = Change::to(stage.image(Version::Good));
    let error = refused(stage, deployer.plan(&stage.basics().service, &plain(), change)).await;
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.message().contains(history.to_str().unwrap()), "{error}");
    assert!(error.message().contains("line 3 "), "{error}");
}

pub(crate) async fn a_lease_whose_file_is_damaged_while_it_is_held<S: Stage>(stage: &S) {
    serving(stage).await;
    let made_before = plan(stage, Version::Better, &plain()).await;
    let mut run = begin(stage, Version::Better, &plain().bake(LONG)).await;
    run.step("soak").await;
    let lease = stage.basics().lease();
    std::fs::write(&lease, "{\"owner\":").unwrap();
    let bob = deployer_of(stage, "bob").await;
    let error = refused(stage, bob.deploy(made_before)).await;
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.message().contains(lease.to_str().unwrap()), "{error}");
    run.control().finish_now("alice");
    let report = run.end().await;
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
}

pub(crate) async fn a_store_that_has_lost_both_its_lease_and_its_token<S: Stage>(stage: &S) {
    serving(stage).await;
    let plan = plan(stage, Version::Better, &plain()).await;
    let token = stage.basics().token();
    std::fs::write(stage.basics().lease(), "{\"owner\":").unwrap();
    std::fs::write(&token, "?").unwrap();
    let deployer = deployer(stage).await;
    let error = refused(stage, deployer.deploy(plan)).await;
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.message().contains(token.to_str().unwrap()), "{error}");
    assert!(error.message().contains("lease.json"), "{error}");
}
