//! `cargo xtask figures`: measures what the project promises and prints asked | got.
//!
//! The rows are in [`rows`]; a new one is one function that returns a [`Got`].

mod example;
mod rollouts;
mod rows;
mod shares;

use std::time::Instant;

use serde_json::{Value, json};

use crate::cargo::Workspace;
use crate::docker;
use crate::job::{Fault, Result};
use crate::parts;

/// What a row measured.
#[derive(Debug)]
struct Got {
    is_met: bool,
    text: String,
    /// All of it, for programs.
    measured: Value,
    /// What the measuring program said last: shown when the row is missed.
    last_lines: String,
}

impl Got {
    fn new(is_met: bool, text: String) -> Self {
        Self { is_met, text, measured: Value::Null, last_lines: String::new() }
    }
}

type Measure = Box<dyn Fn(&Workspace) -> Result<Got>>;

/// One promise: what is measured, what was asked, and how to find out.
struct Row {
    name: String,
    asked: String,
    measure: Measure,
}

/// Measures the rows that contain all of the words; fails unless all of them are met.
pub(crate) fn run(words: &[&str], as_json: bool) -> Result<()> {
    let began = Instant::now();
    let workspace = Workspace::read()?;
    let contains = |row: &Row| words.iter().all(|word| row.name.contains(word));
    let rows: Vec<_> = rows::all().into_iter().filter(contains).collect();
    if rows.is_empty() {
        return Err(Fault::Failed(format!(
            "no row contains `{}`; `cargo xtask figures` shows all",
            words.join("` and `")
        )));
    }
    if rows.iter().any(|row| row.name.starts_with(rows::DOCKER)) {
        parts::bring(&workspace, false)?;
        println!("   {}", docker::remove_leftovers()?);
        example::build(&workspace)?;
    }
    let (mut missed, mut told) = (0, Vec::new());
    for row in &rows {
        let got = match (row.measure)(&workspace) {
            Ok(got) => got,
            Err(Fault::Failed(why)) => Got::new(false, why),
            Err(fault) => {
                docker::remove_leftovers()?;
                return Err(fault);
            }
        };
        let mark = if got.is_met { "met   " } else { "MISSED" };
        println!("{mark} | {} | {} | {}", row.name, row.asked, got.text);
        if !got.is_met {
            missed += 1;
            print!("{}", got.last_lines);
        }
        told.push(json!({
            "row": row.name, "asked": row.asked, "got": got.text, "met": got.is_met,
            "measured": got.measured,
        }));
    }
    if missed == 0 {
        println!("every figure is met");
    }
    if as_json {
        let seconds = began.elapsed().as_secs();
        let all = json!({ "rows": told, "missed": missed, "seconds": seconds });
        println!("{all}");
    }
    match missed {
        0 => Ok(()),
        _ => Err(Fault::Failed(format!("{missed} of {} figures are not met", rows.len()))),
    }
}
