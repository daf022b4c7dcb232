//! Named steps with their times, and the table at the end.

use std::time::{Duration, Instant};

use crate::job::{Fault, Result, take_signal};

/// What has been done so far.
#[derive(Debug)]
pub(crate) struct Steps {
    started: Instant,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    name: String,
    took: Duration,
    fault: Option<String>,
}

impl Steps {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), rows: Vec::new() }
    }

    /// Runs one step. Its failure is kept for the end, so that one run shows all of them; only an
    /// interruption is handed on.
    pub(crate) fn step<T>(
        &mut self,
        name: &str,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<Option<T>> {
        println!("== {name}");
        let started = Instant::now();
        let outcome = work();
        let took = started.elapsed();
        if take_signal() {
            return Err(Fault::Interrupted);
        }
        let (value, fault) = match outcome {
            Ok(value) => (Some(value), None),
            Err(Fault::Interrupted) => return Err(Fault::Interrupted),
            Err(fault) => (None, Some(fault.to_string())),
        };
        match &fault {
            None => println!("   {name}: ok, {}", seconds(took)),
            Some(why) => println!("   {name}: FAILED, {}: {why}", seconds(took)),
        }
        self.rows.push(Row { name: name.to_owned(), took, fault });
        Ok(value)
    }

    /// Counts the time of what is not a step.
    pub(crate) fn add(&mut self, name: &str, took: Duration) {
        self.rows.push(Row { name: name.to_owned(), took, fault: None });
    }

    /// Prints where the time went, and fails when a step has.
    pub(crate) fn end(self) -> Result<()> {
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
        println!("\nWhere the time went");
        for row in &self.rows {
            let mark = if row.fault.is_some() { "FAILED" } else { "ok" };
            println!("  {:width$}  {:>9}  {mark}", row.name, seconds(row.took));
        }
        println!("  {:width$}  {:>9}", "all", seconds(self.started.elapsed()));
        let failed: Vec<_> = self
            .rows
            .iter()
            .filter_map(|row| row.fault.as_ref().map(|why| format!("\n  {}: {why}", row.name)))
            .collect();
        if failed.is_empty() {
            return Ok(());
        }
        Err(Fault::Failed(format!("{} failed:{}", count(failed.len()), failed.concat())))
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

fn count(steps: usize) -> String {
    if steps == 1 { "one step".into() } else { format!("{steps} steps") }
}
