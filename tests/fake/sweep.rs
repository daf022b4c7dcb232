//! A deployer that dies at any of its writes, an abort at any moment, an answer lost at any call.

use std::time::Duration;

use deploykit::{ErrorKind, OnOrphan, Outcome, Place};
use deploykit_testing::{Blow, Fault, Operation, Part};

use crate::fake::Fake;
use crate::scenarios::see::*;
use crate::scenarios::stage::{Doomed, Stage, Version, deployer};

/// Lets a deployer die at the last of so many writes, and another one take up what it left. Says whether it died.
async fn dies(on_orphan: OnOrphan, writes: u64, blow: Blow) -> bool {
    let fake = Fake::quick(7);
    let before = serving(&fake).await;
    let plan = plan(&fake, Version::Better, &careful().on_orphan(on_orphan)).await;
    let tap = fake.basics().log.another();
    tap.strike(writes, 1, blow, Part::Writes);
    let doomed = Doomed::of(&fake, tap.clone()).await;
    let at = format!("{on_orphan:?}, write {writes}, {blow:?}");
    let ((died, recovered), tally) = under_load(&fake, async || {
        let deployed = async { Run::new::<Fake>(doomed.deploy(plan).await.unwrap()).end().await };
        let died = tokio::select! {
            biased;
            () = tap.killed() => true,
            report = deployed => {
                assert_eq!(report.outcome, Outcome::Promoted, "{at}: {report}");
                false
            }
        };
        (died, take_up(&fake).await)
    })
    .await;
    let after = seen(&fake).await;
    let is_new = after.is_only(Place::B, 2);
    match recovered {
        Some(Outcome::RolledBack) => assert_eq!(after, before, "{at}"),
        Some(Outcome::Promoted) => assert!(is_new, "{at}: {after:#?}"),
        // It had not begun, or had just ended.
        None => assert!(is_new || after == before, "{at}: {after:#?}"),
        Some(other) => panic!("{at}: {other}"),
    }
    if on_orphan == OnOrphan::Continue {
        assert_ne!(recovered, Some(Outcome::RolledBack), "{at}");
    }
    assert_eq!(tally.failed, 0, "{at}: {tally}");
    fake.world.assert_safe();
    // Nothing stands in the way of the next one.
    let next = if is_new { Version::Good } else { Version::Better };
    let _ = promoted(&fake, next, &plain()).await;
    died
}

/// Recovers what is open, once the lease of the dead has ended.
async fn take_up(fake: &Fake) -> Option<Outcome> {
    let deployer = deployer(fake).await;
    let service = &fake.basics().service;
    loop {
        // Where nothing is open there is still the lease.
        let free =
            deployer.settle(service).await.err().is_none_or(|e| !e.message().contains("held by"));
        if free {
            let rollout = deployer.recover(service).await.unwrap();
            let report = match rollout {
                Some(rollout) => Run::new::<Fake>(rollout).end().await,
                None => return None,
            };
            return Some(report.outcome);
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

async fn dies_everywhere(on_orphan: OnOrphan, blow: Blow) {
    let mut writes = 1;
    while dies(on_orphan, writes, blow).await {
        writes += 1;
    }
    assert!(writes > 30, "a rollout has more writes than {writes}");
}

#[tokio::test(start_paused = true)]
async fn a_deployer_that_dies_before_any_of_its_writes_leaves_all_old_or_all_new() {
    dies_everywhere(OnOrphan::Undo, Blow::DieBefore).await;
}

#[tokio::test(start_paused = true)]
async fn a_deployer_that_dies_after_any_of_its_writes_leaves_all_old_or_all_new() {
    dies_everywhere(OnOrphan::Undo, Blow::Die).await;
}

#[tokio::test(start_paused = true)]
async fn a_deployer_that_dies_before_any_of_its_writes_can_be_gone_on_with() {
    dies_everywhere(OnOrphan::Continue, Blow::DieBefore).await;
}

#[tokio::test(start_paused = true)]
async fn a_deployer_that_dies_after_any_of_its_writes_can_be_gone_on_with() {
    dies_everywhere(OnOrphan::Continue, Blow::Die).await;
}

#[tokio::test(start_paused = true)]
async fn an_abort_at_any_moment_leaves_all_old_or_all_new() {
    let (mut moment, mut aborted) = (Duration::ZERO, 0);
    loop {
        let fake = Fake::quick(7);
        let before = serving(&fake).await;
        let (report, tally) = under_load(&fake, async || {
            let run = begin(&fake, Version::Better, &careful()).await;
            tokio::time::sleep(moment).await;
            run.control().abort("bob");
            run.end().await
        })
        .await;
        assert_eq!(tally.failed, 0, "at {moment:?}: {tally}");
        fake.world.assert_safe();
        let after = seen(&fake).await;
        if report.outcome == Outcome::Promoted {
            assert!(after.is_only(Place::B, 2), "at {moment:?}: {after:#?}");
            break;
        }
        let by = Outcome::Aborted { by: "bob".to_owned() };
        assert_eq!(report.outcome, by, "at {moment:?}: {report}");
        assert_eq!(after, before, "at {moment:?}: {report}");
        // Calls take 2 ms: none of them is left out.
        moment += Duration::from_millis(2);
        aborted += 1;
    }
    assert!(aborted > 250, "it was over at the abort number {aborted}");
}

const CHANGES: [Operation; 8] = [
    Operation::Register,
    Operation::Launch,
    Operation::Retire,
    Operation::SetRouting,
    Operation::SetTestRoute,
    Operation::AddTargets,
    Operation::RemoveTargets,
    Operation::Drain,
];
const READS: [Operation; 2] = [Operation::ObserveTasks, Operation::ObserveRouting];

/// Deploys while one fault waits, for each nth call; it is promoted all the same.
async fn overcomes(fault: impl Fn() -> Fault, most: u64) {
    for nth in 1..=most {
        let fake = Fake::quick(7);
        serving(&fake).await;
        let plan = plan(&fake, Version::Better, &careful()).await;
        let deployer = deployer(&fake).await;
        let (report, tally) = under_load(&fake, async || {
            fake.world.fail(fault().with_nth(nth));
            let ended = match deployer.deploy(plan).await {
                Ok(rollout) => Some(Run::new::<Fake>(rollout).end().await),
                // A plan is compared with the world before anything is begun.
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                    None
                }
            };
            // One that has not struck is not for whoever looks.
            fake.world.heal();
            ended
        })
        .await;
        assert_eq!(tally.failed, 0, "{:?} {nth}: {tally}", fault());
        fake.world.assert_safe();
        if let Some(report) = report {
            assert_eq!(report.outcome, Outcome::Promoted, "{:?} {nth}: {report}", fault());
            assert!(seen(&fake).await.is_only(Place::B, 2));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_after_the_change_was_made_does_no_harm() {
    for operation in CHANGES {
        overcomes(|| Fault::answer_lost(operation), 3).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_once_is_made_again() {
    for operation in CHANGES {
        overcomes(|| Fault::error(operation, ErrorKind::Unavailable), 3).await;
    }
    for operation in READS {
        overcomes(|| Fault::error(operation, ErrorKind::Unavailable), 40).await;
    }
}
