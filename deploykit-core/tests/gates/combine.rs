use std::sync::Arc;

use deploykit_core::Verdict::{Fail, Inconclusive, Pass};
use deploykit_core::{Error, ErrorKind, HealthGate, Measurement, Verdict, all_of, any_of, gate_fn};

use crate::{context, expect};

/// A gate that says this.
fn says(verdict: Verdict) -> Arc<dyn HealthGate> {
    Arc::new(gate_fn(move |_| async move {
        Ok(match verdict {
            Pass => Measurement::pass("it was good"),
            Inconclusive => Measurement::inconclusive("it was not seen"),
            Fail => Measurement::fail("it was bad"),
        })
    }))
}

/// A gate that never says anything.
fn hangs() -> Arc<dyn HealthGate> {
    Arc::new(gate_fn(|_| std::future::pending()))
}

fn breaks(kind: ErrorKind) -> Arc<dyn HealthGate> {
    Arc::new(gate_fn(move |_| async move {
        Err(Error::new(kind, "no such metric").with_hint("name one"))
    }))
}

#[tokio::test]
async fn a_function_is_a_gate_that_is_told_the_context() {
    let gate = gate_fn(|context: deploykit_core::GateContext| async move {
        Ok(Measurement::pass(format!("{} {}", context.service, context.candidate)))
    });
    assert_eq!(expect(Pass, &gate, &context()).await, "web B");
}

#[tokio::test]
async fn all_of_says_the_worst() {
    for (verdicts, together) in [
        (vec![Pass, Pass], Pass),
        (vec![Pass, Inconclusive, Pass], Inconclusive),
        (vec![Pass, Inconclusive, Fail], Fail),
        (vec![Fail, Pass], Fail),
        (vec![], Inconclusive),
    ] {
        let gate = all_of(verdicts.into_iter().map(says));
        expect(together, &gate, &context()).await;
    }
}

#[tokio::test]
async fn any_of_passes_when_one_passes_and_fails_only_when_all_fail() {
    for (verdicts, together) in [
        (vec![Fail, Inconclusive, Pass], Pass),
        (vec![Fail, Inconclusive, Fail], Inconclusive),
        (vec![Fail, Fail], Fail),
        (vec![], Inconclusive),
    ] {
        let gate = any_of(verdicts.into_iter().map(says));
        expect(together, &gate, &context()).await;
    }
}

#[tokio::test]
async fn evidence_is_that_of_the_gates_that_decided() {
    let evidence = expect(Fail, &all_of([says(Pass), says(Fail)]), &context()).await;
    assert_eq!(evidence, "it was bad");
    let evidence = expect(Fail, &any_of([says(Fail), says(Fail)]), &context()).await;
    assert_eq!(evidence, "it was bad; it was bad");
}

#[tokio::test]
async fn a_gate_that_hangs_hides_no_failure_of_another() {
    expect(Fail, &all_of([hangs(), says(Fail)]), &context()).await;
}

#[tokio::test]
async fn a_gate_that_hangs_holds_up_no_pass_of_another() {
    expect(Pass, &any_of([hangs(), says(Pass)]), &context()).await;
}

#[tokio::test]
async fn a_gate_that_returns_an_error_is_inconclusive_with_the_error_as_evidence() {
    let evidence =
        expect(Inconclusive, &all_of([says(Pass), breaks(ErrorKind::Other)]), &context()).await;
    assert_eq!(evidence, "no such metric; name one");
    expect(Inconclusive, &any_of([says(Fail), breaks(ErrorKind::Other)]), &context()).await;
    expect(Fail, &all_of([says(Fail), breaks(ErrorKind::Other)]), &context()).await;
}

#[tokio::test]
async fn gates_of_different_types_are_added_and_nested() {
    let either = any_of([says(Fail)]).or(gate_fn(|_| async { Ok(Measurement::pass("second")) }));
    let gate = all_of([says(Pass)]).and(either);
    assert_eq!(expect(Pass, &gate, &context()).await, "it was good; second");
}

#[tokio::test]
async fn a_mistake_in_the_set_up_of_one_of_all_is_one_of_them_all_and_of_any_it_is_not() {
    let wrong = || breaks(ErrorKind::Invalid);
    let error = all_of([says(Pass), wrong()]).measure(&context()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    expect(Pass, &any_of([wrong(), says(Pass)]), &context()).await;
    expect(Inconclusive, &any_of([wrong(), says(Fail)]), &context()).await;
}
