//! What the example `docker` says in its last line with `--json`.

use std::fmt;

use serde_json::Value;

use crate::job::{Done, Fault, Result};

/// The object of the last line.
#[derive(Debug)]
pub(crate) struct Report(Value);

impl Report {
    /// What a run of it said.
    pub(crate) fn of(done: &Done) -> Result<Self> {
        Self::parse(&done.stdout)
            .map_err(|why| Fault::Failed(format!("{why}\n{}", done.last_lines().trim_end())))
    }

    /// Reads the last line of the standard output.
    pub(crate) fn parse(stdout: &str) -> Result<Self> {
        let last = stdout.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        match serde_json::from_str(last) {
            Ok(value @ Value::Object(_)) => Ok(Self(value)),
            _ => Err(Fault::Failed(format!(
                "the last line of standard output is no JSON object: `{last}`"
            ))),
        }
    }

    /// `promoted`, `rolled_back`, `aborted` or `needs_operator`; empty when it is not said.
    pub(crate) fn outcome(&self) -> &str {
        self.0["outcome"].as_str().unwrap_or_default()
    }

    pub(crate) fn requests(&self) -> Option<u64> {
        self.number("requests")
    }

    pub(crate) fn failed(&self) -> Option<u64> {
        self.number("failed")
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.0[name].as_u64()
    }

    pub(crate) fn numbers(&self, name: &str) -> Vec<u64> {
        self.0[name].as_array().into_iter().flatten().filter_map(Value::as_u64).collect()
    }

    /// The places that have answered a failed request, and how many each.
    pub(crate) fn failed_by_place(&self) -> Option<Vec<(&str, u64)>> {
        self.places("failed_by_place")
    }

    /// How many requests a place has answered, well or not.
    pub(crate) fn answered_by(&self, wanted: &str) -> u64 {
        let places = self.places("answered_by_place").unwrap_or_default();
        places.iter().find(|(place, _)| *place == wanted).map_or(0, |(_, count)| *count)
    }

    fn places(&self, name: &str) -> Option<Vec<(&str, u64)>> {
        let places = self.0[name].as_object()?;
        let counts = places.iter().map(|(place, count)| Some((&**place, count.as_u64()?)));
        let counts = counts.collect::<Option<Vec<_>>>()?;
        Some(counts.into_iter().filter(|(_, count)| *count > 0).collect())
    }

    /// The fewest tasks that served while it was watched, and the most that were there.
    pub(crate) fn tasks(&self) -> Option<(u64, u64)> {
        let capacity = &self.0["capacity"];
        Some((capacity["least_serving"].as_u64()?, capacity["most_there"].as_u64()?))
    }

    /// Whether everything was at the end what it was at the beginning.
    pub(crate) fn as_it_began(&self) -> bool {
        self.0["as_it_began"] == true
    }

    pub(crate) fn seconds(&self, name: &str) -> Option<f64> {
        self.0[name].as_f64()
    }
}

impl From<Report> for Value {
    fn from(report: Report) -> Self {
        report.0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts_and_places_without_a_failure_do_not() {
        let report = Report::parse(
            "step 1\n{\"outcome\":\"rolled_back\",\"failed\":3,\"failed_by_place\":{\"A\":0,\"B\":3}}\n\n",
        )
        .unwrap();
        assert_eq!((report.outcome(), report.failed()), ("rolled_back", Some(3)));
        assert_eq!(report.failed_by_place(), Some(vec![("B", 3)]));
        assert_eq!(report.requests(), None);
        assert!(!report.as_it_began() && report.tasks().is_none());
    }

    #[test]
    fn an_example_that_says_nothing_is_a_failure() {
        assert!(Report::parse("step 1\n").is_err());
        assert!(Report::parse("").is_err());
    }
}
