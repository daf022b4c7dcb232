//! The rows about rollouts of real containers, by the example `docker`.

use super::example::{NEW_PLACE, Outcome, Run};
use super::rows::{DOCKER, row};
use super::{Got, Row};
use crate::cargo::Workspace;
use crate::job::Result;

/// The exit codes of the example.
const PROMOTED: i32 = 0;
const ROLLED_BACK: i32 = 3;
const ABORTED: i32 = 5;

const REPLICAS: [u32; 2] = [4, 10];
const BLUE_GREEN: &str = "blue-green";
const STRATEGIES: [&str; 3] = [BLUE_GREEN, "rolling", "canary"];
/// What a good rollout has to carry without losing one, and at which rate, so that it does not take for ever.
const REQUESTS: u64 = 20_000;
const RATE: u32 = 400;
/// Enough to run before, while and after a bad version is undone.
const REQUESTS_OF_BAD: u64 = 2_000;
const RATE_OF_BAD: u32 = 200;
/// A plan has at most this many steps at which Ctrl-C is tried.
const STEPS: u32 = 9;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for strategy in STRATEGIES {
        for replicas in REPLICAS {
            rows.push(row(
                format!("{DOCKER} {strategy}, {replicas} replicas"),
                format!(
                    "promoted, 0 failed of at least {REQUESTS}, {}",
                    told_bounds(strategy, replicas)
                ),
                move |workspace| good(workspace, strategy, replicas),
            ));
        }
    }
    for strategy in STRATEGIES {
        for kind in ["crash", "unhealthy", "slow", "errors"] {
            for replicas in REPLICAS {
                let failures = match kind {
                    "errors" => format!("only what {NEW_PLACE} answered failed"),
                    _ => "0 failed".to_owned(),
                };
                let bounds = told_bounds(strategy, replicas);
                rows.push(row(
                    format!("{DOCKER} {strategy} --bad {kind}, {replicas} replicas"),
                    format!("rolled back, {failures}, {bounds}, as it began"),
                    move |workspace| bad(workspace, strategy, replicas, kind),
                ));
            }
        }
    }
    for step in 1..=STEPS {
        rows.push(row(
            format!("{DOCKER} {BLUE_GREEN}, Ctrl-C at step {step}"),
            "aborted, 0 failed, as it began".into(),
            move |workspace| interrupted(workspace, step),
        ));
    }
    rows
}

/// How many tasks have to serve, and how many there may be: a quarter more when rolling, rounded up; else both versions.
/// Worked out here anew, so that the deployer is not measured by its own arithmetic.
fn bounds(strategy: &str, replicas: u32) -> (u32, u32) {
    let more = if strategy == "rolling" { replicas.div_ceil(4) } else { replicas };
    (replicas, replicas + more)
}

fn told_bounds(strategy: &str, replicas: u32) -> String {
    let (least, most) = bounds(strategy, replicas);
    format!("{least} to {most} tasks")
}

fn good(workspace: &Workspace, strategy: &'static str, replicas: u32) -> Result<Got> {
    let run = Run { rate: RATE, ..Run::new(strategy, replicas, REQUESTS) };
    let outcome = run.start(workspace)?;
    let is_met = ended(&outcome, "promoted", PROMOTED)
        && within(&outcome, bounds(strategy, replicas))
        && outcome.report.failed() == Some(0)
        && outcome.report.requests() >= Some(REQUESTS);
    Ok(got(outcome, is_met, ""))
}

fn bad(
    workspace: &Workspace,
    strategy: &'static str,
    replicas: u32,
    kind: &'static str,
) -> Result<Got> {
    let run =
        Run { rate: RATE_OF_BAD, bad: Some(kind), ..Run::new(strategy, replicas, REQUESTS_OF_BAD) };
    let outcome = run.start(workspace)?;
    let report = &outcome.report;
    let answered = report.answered_by(NEW_PLACE);
    let is_failures_met = match kind {
        "errors" => {
            let by_place = report.failed_by_place();
            // Without any answer the version was never tried, and the row would say nothing.
            answered > 0
                && report.failed() <= Some(answered)
                && by_place.is_some_and(|places| places.iter().all(|(by, _)| *by == NEW_PLACE))
        }
        _ => report.failed() == Some(0),
    };
    let is_met = is_failures_met
        && ended(&outcome, "rolled_back", ROLLED_BACK)
        && within(&outcome, bounds(strategy, replicas))
        && report.as_it_began();
    let more = format!(", {answered} answered by {NEW_PLACE}");
    Ok(got(outcome, is_met, &more))
}

fn interrupted(workspace: &Workspace, step: u32) -> Result<Got> {
    let run = Run {
        rate: RATE_OF_BAD,
        interrupt_at: Some(step),
        ..Run::new(BLUE_GREEN, 4, REQUESTS_OF_BAD)
    };
    let outcome = run.start(workspace)?;
    if outcome.steps > 0 && outcome.steps < step && outcome.reached == outcome.steps {
        return Ok(Got::new(true, format!("the plan has {} steps", outcome.steps)));
    }
    let is_met = ended(&outcome, "aborted", ABORTED)
        && outcome.report.failed() == Some(0)
        && outcome.report.as_it_began();
    Ok(got(outcome, is_met, ""))
}

fn ended(outcome: &Outcome, word: &str, code: i32) -> bool {
    outcome.report.outcome() == word && outcome.code == Some(code)
}

/// Whether enough tasks served at each look from outside, and never too many were there.
fn within(outcome: &Outcome, (least, most): (u32, u32)) -> bool {
    outcome
        .report
        .tasks()
        .is_some_and(|(fewest, all)| fewest >= u64::from(least) && all <= u64::from(most))
}

fn got(outcome: Outcome, is_met: bool, more: &str) -> Got {
    let Outcome { code, report, last_lines, .. } = outcome;
    let number = |value: Option<u64>| value.map_or_else(|| "?".into(), |value| value.to_string());
    let seconds =
        |name| report.seconds(name).map_or_else(|| "?".into(), |value| format!("{value:.1}"));
    let (fewest, most) = report.tasks().unzip();
    // What is promoted is not to be as it began.
    let end = match (report.outcome(), report.as_it_began()) {
        ("promoted", _) => "",
        (_, true) => ", as it began",
        (_, false) => ", not as it began",
    };
    let text = format!(
        "{} (exit code {}), {} failed of {}{more}, {} to {} tasks{end}, {} s, floor {} s",
        report.outcome(),
        number(code.and_then(|code| u64::try_from(code).ok())),
        number(report.failed()),
        number(report.requests()),
        number(fewest),
        number(most),
        seconds("seconds"),
        seconds("floor_seconds"),
    );
    Got { is_met, text, measured: report.into(), last_lines }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Report;

    fn told(report: &str) -> String {
        let report = Report::parse(report).unwrap();
        let outcome =
            Outcome { code: Some(0), report, steps: 0, reached: 0, last_lines: String::new() };
        got(outcome, true, "").text
    }

    #[test]
    fn only_what_was_not_promoted_is_told_to_be_as_it_began_or_not() {
        assert!(!told(r#"{"outcome":"promoted","as_it_began":false}"#).contains("began"));
        assert!(told(r#"{"outcome":"rolled_back","as_it_began":true}"#).contains(", as it began,"));
        assert!(told(r#"{"outcome":"rolled_back"}"#).contains(", not as it began,"));
    }
}
