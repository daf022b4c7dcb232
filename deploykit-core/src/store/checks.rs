//! What every backend refuses, in the same words.

use std::fmt;

use super::{Journal, Lease};
use crate::error::{Error, ErrorKind, Result};
use crate::name::ServiceName;

/// Somebody else has the lease. `holder` says who, as far as it is known.
pub(crate) fn held(service: &ServiceName, holder: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Conflict, format!("service {service} is held by {holder}"))
        .with_hint("wait for its rollout to end, or have it undone: Deployer::wait_for_end, Deployer::supersede")
}

/// The lease that was shown has ended, or was never one.
pub(crate) fn not_valid(lease: &Lease) -> Error {
    Error::new(
        ErrorKind::Conflict,
        format!(
            "the lease of service {} with token {} is not valid any more",
            lease.service, lease.token
        ),
    )
    .with_hint("stop deciding; take a new lease and read the journal before going on")
}

/// The lines cannot be appended by this lease, whatever the journal holds.
///
/// Each must be one JSON document, so that damage to a stored line can be told from its content.
pub(crate) fn lines(lease: &Lease, journal: &Journal, lines: &[String]) -> Result<()> {
    if journal.service() != &lease.service {
        return Err(Error::new(
            ErrorKind::Conflict,
            format!(
                "the lease is of service {}, and the {journal} belongs to {}",
                lease.service,
                journal.service()
            ),
        ));
    }
    for (n, one) in lines.iter().enumerate() {
        line(one)
            .map_err(|e| e.within(format_args!("{journal}: line {} of those to append", n + 1)))?;
    }
    Ok(())
}

/// The line cannot be kept.
pub(crate) fn line(line: &str) -> Result<()> {
    if line.contains(['\n', '\r']) {
        return Err(Error::invalid("it contains a line break"));
    }
    json(line).map_err(|why| Error::invalid(format!("it is not JSON: {why}")))
}

/// Whether a line is one JSON document.
pub(crate) fn json(line: &str) -> serde_json::Result<()> {
    serde_json::from_str::<serde::de::IgnoredAny>(line).map(|_| ())
}

/// The journal is longer or shorter than the writer believes.
pub(crate) fn length(journal: &Journal, expected: u64, found: u64) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::StalePlan,
        format!("the {journal} has {found} lines, not {expected}"),
    )
    .with_hint("somebody else has written to it; read it again before deciding"))
}
