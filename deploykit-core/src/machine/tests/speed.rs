//! What an event costs. `cargo test --release -p deploykit-core machine::tests::speed -- --nocapture` tells the figure.

use std::time::Instant;

use super::*;

const RUNS: usize = 7;

/// All that happens in a rollout of so many shifts, each with a soak under a gate.
fn events(shifts: u16) -> (Plan, Vec<Record>) {
    let shift = |draft: Draft, n: u16| {
        draft.shift(Weight::thousandths(1 + n % 999).unwrap()).soak(30 * SECOND, [gate("errors")])
    };
    let begin = Draft::new().launch(Weight::ALL).await_healthy(60 * SECOND);
    let plan = plan((0..shifts).fold(begin, shift).shift(Weight::ALL).promote());
    let mut run = Run::new(plan.clone());
    run.all = Some(run.journal.clone());
    while run.answer() {}
    assert_eq!(run.machine.outcome(), Some(&Outcome::Promoted));
    (plan, run.all.unwrap_or_default())
}

/// The time that one event takes, and what is wanted after it, in nanoseconds: the least of several runs.
fn cost((plan, events): &(Plan, Vec<Record>)) -> f64 {
    let run = || {
        let mut machine = Machine::new(plan.clone(), RolloutId::new("web-1"));
        let began = Instant::now();
        let mut wanted = 0;
        for event in events {
            machine.apply(event);
            wanted += machine.effects().len();
        }
        assert!(wanted >= events.len() - 1, "until the last of them something is wanted: {wanted}");
        began.elapsed().as_secs_f64() * 1e9 / events.len() as f64
    };
    (0..RUNS).map(|_| run()).fold(f64::INFINITY, f64::min)
}

#[test]
#[allow(clippy::print_stdout, reason = "who asks for the figure gets it")]
fn an_event_costs_the_same_however_many_came_before() {
    let (short, long) = (events(50), events(1_500));
    let (few, many) = (cost(&short), cost(&long));
    println!(
        "an event takes {few:.0} ns among {}, and {many:.0} ns among {}",
        short.1.len(),
        long.1.len()
    );
    // Were it not so, the second would be some thirty times as slow.
    assert!(many < few * 6.0, "{few:.0} ns, then {many:.0} ns");
}
