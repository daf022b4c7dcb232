//! The rows.

use std::path::Path;
use std::time::Duration;

use super::example::{Outcome, Run};
use super::{Got, Row};
use crate::cargo::{Workspace, dependencies};
use crate::check::CORE_CRATES;
use crate::job::{Fault, Job, Result, io};

/// The rows with this beginning need the parts.
pub(super) const DOCKER: &str = "docker";

/// The exit codes of the example.
const PROMOTED: i32 = 0;
const ROLLED_BACK: i32 = 3;
const ABORTED: i32 = 5;

/// The place that a first rollout over a running service fills.
const NEW_PLACE: &str = "B";
const REPLICAS: [u32; 2] = [4, 10];
/// What a good rollout has to carry without losing one.
const REQUESTS: u64 = 20_000;
/// Enough to run before, while and after a bad version is undone.
const REQUESTS_OF_BAD: u64 = 4_000;
/// A plan has at most this many steps at which Ctrl-C is tried.
const STEPS: u32 = 9;
/// From a clone with its crates fetched to the end of the example, build included.
const QUICKSTART: Duration = Duration::from_secs(90);

pub(super) fn all() -> Vec<Row> {
    let mut rows = Vec::new();
    for replicas in REPLICAS {
        rows.push(row(
            format!("docker, {replicas} replicas"),
            format!("promoted, 0 failed of at least {REQUESTS}"),
            move |workspace| {
                let run = Run { replicas, requests: REQUESTS, bad: None, interrupt_at: None };
                let outcome = run.start(workspace)?;
                let is_met = ended(&outcome, "promoted", PROMOTED)
                    && outcome.report.failed() == Some(0)
                    && outcome.report.requests() >= Some(REQUESTS);
                Ok(Got { is_met, text: told(&outcome) })
            },
        ));
    }
    for bad in ["crash", "unhealthy", "slow"] {
        for replicas in REPLICAS {
            rows.push(row(
                format!("docker --bad {bad}, {replicas} replicas"),
                "rolled back, 0 failed".into(),
                move |workspace| {
                    let outcome = bad_run(replicas, bad).start(workspace)?;
                    let is_met = ended(&outcome, "rolled_back", ROLLED_BACK)
                        && outcome.report.failed() == Some(0);
                    Ok(Got { is_met, text: told(&outcome) })
                },
            ));
        }
    }
    for replicas in REPLICAS {
        rows.push(row(
            format!("docker --bad errors, {replicas} replicas"),
            format!("rolled back, failures only from {NEW_PLACE}"),
            move |workspace| errors(workspace, replicas),
        ));
    }
    for step in 1..=STEPS {
        rows.push(row(
            format!("docker, Ctrl-C at step {step}"),
            "aborted, 0 failed".into(),
            move |workspace| interrupted(workspace, step),
        ));
    }
    rows.push(row(
        "quickstart on a fresh clone".into(),
        format!("at most {} s", QUICKSTART.as_secs()),
        quickstart,
    ));
    rows.push(row("crates below deploykit-core".into(), format!("at most {CORE_CRATES}"), |_| {
        let count = dependencies("deploykit-core")?.len();
        Ok(Got { is_met: count <= CORE_CRATES, text: count.to_string() })
    }));
    rows
}

fn row(name: String, asked: String, measure: impl Fn(&Workspace) -> Result<Got> + 'static) -> Row {
    Row { name, asked, measure: Box::new(measure) }
}

fn bad_run(replicas: u32, bad: &'static str) -> Run {
    Run { replicas, requests: REQUESTS_OF_BAD, bad: Some(bad), interrupt_at: None }
}

fn ended(outcome: &Outcome, word: &str, code: i32) -> bool {
    outcome.report.outcome() == word && outcome.code == Some(code)
}

fn told(outcome: &Outcome) -> String {
    let Outcome { code, report, .. } = outcome;
    let number = |value: Option<u64>| value.map_or_else(|| "?".into(), |value| value.to_string());
    let seconds =
        |name| report.seconds(name).map_or_else(|| "?".into(), |value| format!("{value:.1}"));
    format!(
        "{} (exit code {}), {} failed of {}, {} s, floor {} s",
        report.outcome(),
        number(code.and_then(|code| u64::try_from(code).ok())),
        number(report.failed()),
        number(report.requests()),
        seconds("seconds"),
        seconds("floor_seconds"),
    )
}

fn errors(workspace: &Workspace, replicas: u32) -> Result<Got> {
    let outcome = bad_run(replicas, "errors").start(workspace)?;
    let report = &outcome.report;
    let by_place = report.failed_by_place();
    let answered = report.answered_by(NEW_PLACE);
    // Without any answer the version was never tried, and the row would say nothing.
    let is_from_new_place = answered > 0
        && by_place.as_ref().is_some_and(|places| places.iter().all(|(by, _)| *by == NEW_PLACE));
    let is_met = ended(&outcome, "rolled_back", ROLLED_BACK) && is_from_new_place;
    let share = match (report.failed(), report.requests()) {
        (Some(failed), Some(requests)) if requests > 0 => {
            format!("{:.2} %", failed as f64 * 100.0 / requests as f64)
        }
        _ => "unknown".into(),
    };
    let places = by_place.unwrap_or_default();
    Ok(Got {
        is_met,
        text: format!(
            "{}, share {share}, by place {places:?} of {answered} that {NEW_PLACE} answered",
            told(&outcome)
        ),
    })
}

fn interrupted(workspace: &Workspace, step: u32) -> Result<Got> {
    let run = Run { replicas: 4, requests: REQUESTS_OF_BAD, bad: None, interrupt_at: Some(step) };
    let outcome = run.start(workspace)?;
    if outcome.steps > 0 && outcome.steps < step && outcome.reached == outcome.steps {
        return Ok(Got { is_met: true, text: format!("the plan has {} steps", outcome.steps) });
    }
    let is_met = ended(&outcome, "aborted", ABORTED) && outcome.report.failed() == Some(0);
    Ok(Got { is_met, text: told(&outcome) })
}

/// Clones the last commit into an empty directory, fetches, and then takes the time.
fn quickstart(workspace: &Workspace) -> Result<Got> {
    let clone = std::env::temp_dir().join(format!("deploykit-clone-{}", std::process::id()));
    let measured = time_quickstart(&workspace.root, &clone);
    if clone.exists() {
        std::fs::remove_dir_all(&clone).map_err(io(format_args!("remove {}", clone.display())))?;
    }
    measured
}

fn time_quickstart(root: &Path, clone: &Path) -> Result<Got> {
    let (from, to) = (root.to_string_lossy(), clone.to_string_lossy());
    Job::new("git", ["clone", "--quiet", &*from, &*to]).run()?;
    Job::new("cargo", ["fetch", "--quiet"]).within(clone).run()?;
    let took = Job::new("cargo", ["run", "--example", "quickstart"])
        .within(clone)
        .without_env("CARGO_TARGET_DIR")
        .limit(600)
        .run()
        .map_err(|why| Fault::Failed(format!("{why} (only what is committed is cloned)")))?
        .took;
    Ok(Got { is_met: took <= QUICKSTART, text: format!("{:.1} s", took.as_secs_f64()) })
}
