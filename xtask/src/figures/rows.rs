//! The rows.

use std::path::Path;
use std::time::Duration;

use super::{Got, Row, rollouts, shares};
use crate::cargo::{Workspace, dependencies};
use crate::check::CORE_CRATES;
use crate::job::{Fault, Job, Result, io};

/// The rows with this beginning need the parts.
pub(super) const DOCKER: &str = "docker";

/// From a clone with its crates fetched to the end of the example, build included.
const QUICKSTART: Duration = Duration::from_secs(90);

pub(super) fn all() -> Vec<Row> {
    let mut rows = rollouts::rows();
    rows.extend(shares::rows());
    rows.push(row(
        "quickstart on a fresh clone".into(),
        format!("at most {} s", QUICKSTART.as_secs()),
        quickstart,
    ));
    rows.push(row("crates below deploykit-core".into(), format!("at most {CORE_CRATES}"), |_| {
        let count = dependencies("deploykit-core")?.len();
        Ok(Got::new(count <= CORE_CRATES, count.to_string()))
    }));
    rows
}

pub(super) fn row(
    name: String,
    asked: String,
    measure: impl Fn(&Workspace) -> Result<Got> + 'static,
) -> Row {
    Row { name, asked, measure: Box::new(measure) }
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
    Ok(Got::new(took <= QUICKSTART, format!("{:.1} s", took.as_secs_f64())))
}
