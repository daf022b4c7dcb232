//! The rows about the routing alone: shares that were asked for against those that requests met.

use super::example::{self, NEW_PLACE, OLD_PLACE};
use super::rows::{DOCKER, row};
use super::{Got, Row};
use crate::cargo::Workspace;
use crate::job::Result;

/// Shares in per cent, tasks of the old and of the new version: uneven, since it is not the tasks that count. By them each
/// share would be 22 %.
const SPLITS: [(u16, u32, u32); 3] = [(1, 7, 2), (5, 7, 2), (50, 7, 2)];
const REQUESTS: u64 = 20_000;
/// How many clients the example follows.
const CLIENTS: u64 = 1_000;
/// The rest is left out, half of it at either end.
const LEFT_OUT: f64 = 0.01;

pub(super) fn rows() -> Vec<Row> {
    let rows = SPLITS.into_iter().map(|(percent, old, new)| {
        row(
            format!("{DOCKER} split {percent} %, {old} tasks against {new}"),
            format!("of at least {REQUESTS} within the binomial range of 99 %, 0 failed"),
            move |workspace| measure(workspace, percent, old, new),
        )
    });
    let sticky = ["cookie", "header"].into_iter().map(|by| {
        row(
            format!("{DOCKER} sticky by {by}"),
            format!("{CLIENTS} clients through 1, 10, 50 and 100 %: none goes back, 0 failed"),
            move |workspace| stay(workspace, by),
        )
    });
    rows.chain(sticky).collect()
}

fn stay(workspace: &Workspace, by: &'static str) -> Result<Got> {
    let outcome = example::sticky(workspace, by)?;
    let report = &outcome.report;
    let at_new = report.numbers("at_new");
    // Of clients that never move, or all move at once, nobody could go back.
    let is_growing = at_new.len() == 4 && at_new.windows(2).all(|two| two[0] < two[1]);
    let is_met = is_growing
        && at_new.last() == Some(&CLIENTS)
        && report.number("back") == Some(0)
        && report.failed() == Some(0);
    let told: Vec<_> = at_new.iter().map(u64::to_string).collect();
    let number = |value: Option<u64>| value.map_or_else(|| "?".into(), |value| value.to_string());
    let text = format!(
        "at the new version {}; {} went back, {} failed of {} requests",
        told.join(", "),
        number(report.number("back")),
        number(report.failed()),
        number(report.requests())
    );
    Ok(Got { is_met, text, measured: outcome.report.into(), last_lines: outcome.last_lines })
}

fn measure(workspace: &Workspace, percent: u16, old: u32, new: u32) -> Result<Got> {
    let outcome = example::split(workspace, percent, (old, new), REQUESTS)?;
    let report = &outcome.report;
    let seen = report.answered_by(NEW_PLACE);
    let all = seen + report.answered_by(OLD_PLACE);
    let (least, most) = range(all, f64::from(percent) / 100.0);
    let is_met = all >= REQUESTS && report.failed() == Some(0) && (least..=most).contains(&seen);
    let share = |count: u64| 100.0 * count as f64 / all.max(1) as f64;
    let mut text = format!(
        "asked {percent} %, seen {:.2} % ({seen} of {all}), range {:.2} to {:.2} %, {} failed",
        share(seen),
        share(least),
        share(most),
        report.failed().unwrap_or_default()
    );
    if !is_met {
        text.push_str("; one run in a hundred is outside by chance: measure it again");
    }
    Ok(Got { is_met, text, measured: outcome.report.into(), last_lines: outcome.last_lines })
}

/// Between which counts of `n` draws, each with probability `p`, 99 % of all outcomes are, the rarest left out at both ends.
fn range(n: u64, p: f64) -> (u64, u64) {
    // From the likeliest count outwards, each weight from its neighbour's: the true ones would underflow.
    let likeliest = (((n + 1) as f64 * p) as u64).min(n);
    let odds = p / (1.0 - p);
    let up = std::iter::successors(Some((likeliest, 1.0)), |(k, weight)| {
        (*k < n).then(|| (k + 1, weight * odds * (n - k) as f64 / (k + 1) as f64))
    });
    let down = std::iter::successors(Some((likeliest, 1.0)), |(k, weight)| {
        (*k > 0).then(|| (k - 1, weight / odds * *k as f64 / (n - k + 1) as f64))
    });
    let mut weights: Vec<(u64, f64)> = down.skip(1).collect();
    weights.reverse();
    weights.extend(up);
    let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
    let below = |share: f64| {
        let mut sum = 0.0;
        let reaches = weights.iter().find(|(_, weight)| {
            sum += weight;
            sum >= share * total
        });
        reaches.map_or(n, |(k, _)| *k)
    };
    (below(LEFT_OUT / 2.0), below(1.0 - LEFT_OUT / 2.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against quantiles by exact sums of integers (Python's `math.comb` and `fractions`).
    #[test]
    fn the_range_is_that_of_the_binomial_distribution() {
        assert_eq!(range(100, 0.5), (37, 63));
        assert_eq!(range(20_000, 0.01), (165, 237));
        assert_eq!(range(20_000, 0.5), (9_818, 10_182));
    }
}
