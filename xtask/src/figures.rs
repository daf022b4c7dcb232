//! `cargo xtask figures`: measures what the project promises and prints asked | got.
//!
//! The rows are in [`rows`]; a new one is one function there that returns a [`Got`].

mod example;
mod rows;

use crate::cargo::Workspace;
use crate::docker;
use crate::job::{Fault, Result};
use crate::parts;

/// What a row measured.
#[derive(Debug)]
struct Got {
    is_met: bool,
    text: String,
}

type Measure = Box<dyn Fn(&Workspace) -> Result<Got>>;

/// One promise: what is measured, what was asked, and how to find out.
struct Row {
    name: String,
    asked: String,
    measure: Measure,
}

/// Measures the rows that contain the word; fails unless all of them are met.
pub(crate) fn run(word: &str) -> Result<()> {
    let workspace = Workspace::read()?;
    let rows: Vec<_> = rows::all().into_iter().filter(|row| row.name.contains(word)).collect();
    if rows.is_empty() {
        return Err(Fault::Failed(format!(
            "no row contains `{word}`; `cargo xtask figures` shows all"
        )));
    }
    if rows.iter().any(|row| row.name.starts_with(rows::DOCKER)) {
        parts::bring(&workspace, false)?;
        println!("   {}", docker::remove_leftovers()?);
        example::build()?;
    }
    let mut missed = 0;
    for row in &rows {
        let got = match (row.measure)(&workspace) {
            Ok(got) => got,
            Err(Fault::Failed(why)) => Got { is_met: false, text: why },
            Err(fault) => {
                docker::remove_leftovers()?;
                return Err(fault);
            }
        };
        let mark = if got.is_met { "met   " } else { "MISSED" };
        missed += usize::from(!got.is_met);
        println!("{mark} | {} | {} | {}", row.name, row.asked, got.text);
    }
    if missed > 0 {
        return Err(Fault::Failed(format!("{missed} of {} figures are not met", rows.len())));
    }
    println!("every figure is met");
    Ok(())
}
