//! What HAProxy answers, read. Nothing else is needed here, so that any text can be tried.

use deploykit_core::{Error, ErrorKind, Result, Routing, Weight, Weights};

/// The processes behind a master.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Processes {
    /// How often it was reloaded.
    pub(super) reloads: u32,
    /// How many of the last reloads failed.
    pub(super) failed: u32,
    pub(super) current: u32,
    pub(super) old: Vec<u32>,
}

/// A server as a worker has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) backend: String,
    pub(super) name: String,
    pub(super) address: String,
    pub(super) status: String,
    pub(super) check: String,
    pub(super) weight: u32,
    pub(super) in_flight: u64,
}

/// What is missing at an answer's end must not pass for what is not there: a target that cannot be seen would not be
/// drained.
pub(super) fn cut_short(command: &str, answer: &str) -> Error {
    let end: String = answer.trim_end().chars().rev().take(80).collect();
    let end: String = end.chars().rev().collect();
    let what = format!("HAProxy's answer to {command:?} cannot be read; it ends with {end:?}");
    Error::new(ErrorKind::Unavailable, what).with_hint("if this stays so, see HAProxy's log")
}

pub(super) fn refused(command: &str, answer: &str) -> Error {
    let answer = answer.trim();
    Error::new(ErrorKind::Other, format!("HAProxy refused {command:?}: {answer}"))
}

/// None where there is no worker that serves.
pub(super) fn parse_processes(text: &str) -> Option<Processes> {
    let mut found = Processes::default();
    let mut section = "";
    for line in text.lines() {
        if let Some(title) = line.strip_prefix('#') {
            section = title.trim();
            continue;
        }
        let mut words = line.split_whitespace();
        let (Some(pid), Some(kind)) = (words.next().and_then(|pid| pid.parse().ok()), words.next())
        else {
            continue;
        };
        match (kind, section) {
            // `1 master 2 [failed: 1] ...`
            ("master", _) => {
                found.reloads = words.next()?.parse().ok()?;
                let failed = words.nth(1)?.trim_end_matches(']');
                found.failed = failed.parse().ok()?;
            }
            // There can be several: a failed reload may leave one that is about to end. The last is the one that serves.
            ("worker", "workers") => found.current = pid,
            ("worker", _) => found.old.push(pid),
            _ => {}
        }
    }
    (found.current != 0).then_some(found)
}

/// Reads `show stat`: CSV whose first line names the columns.
pub(super) fn parse_rows(text: &str) -> Result<Vec<Row>> {
    let mut lines = text.lines();
    let titles: Vec<_> =
        lines.next().unwrap_or_default().trim_start_matches("# ").split(',').collect();
    let column = |title: &str| {
        titles.iter().position(|t| *t == title).ok_or_else(|| {
            refused("show stat", text.lines().next().unwrap_or_default()).with_hint(format!(
                "its answer has no column {title}; HAProxy 2.6 or later is needed"
            ))
        })
    };
    let columns = ["pxname", "svname", "addr", "status", "check_status", "weight", "scur"];
    let columns = columns.into_iter().map(column).collect::<Result<Vec<_>>>()?;
    let unreadable = || cut_short("show stat", text);
    let mut rows = Vec::new();
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let fields: Vec<_> = line.split(',').collect();
        let mut values = columns.iter().map(|n| fields.get(*n).copied().unwrap_or_default());
        let mut next = || values.next().unwrap_or_default().to_owned();
        rows.push(Row {
            backend: next(),
            name: next(),
            address: next(),
            status: next(),
            check: next(),
            weight: next().parse().map_err(|_| unreadable())?,
            in_flight: next().parse().map_err(|_| unreadable())?,
        });
    }
    // The last line is an empty one.
    if text.ends_with("\n\n") { Ok(rows) } else { Err(unreadable()) }
}

/// The value of a process-wide text variable, as `get var` answers; none where there is no such variable.
pub(super) fn parse_variable(command: &str, answer: &str) -> Result<Option<String>> {
    let value = answer.trim().split_once("value=<").and_then(|(_, v)| v.strip_suffix('>'));
    match value {
        Some(value) => Ok(Some(value.to_owned())),
        None if answer.starts_with("Variable not found") => Ok(None),
        None => Err(cut_short(command, answer)),
    }
}

/// Reads the routing back from HAProxy's variable; none for what was not written here.
pub(super) fn parse_route(text: &str) -> Option<Routing> {
    let mut parts = text.split(':');
    match parts.next()? {
        "closed" => Some(Routing::Closed),
        "p" => Some(Routing::Pooled),
        "w" => {
            let mut shares = Vec::new();
            while let Some(place) = parts.next() {
                let weight = parts.next()?.parse::<u16>().ok()?.try_into().ok()?;
                shares.push((place.parse().ok()?, weight));
            }
            // Fillers have the weight 0 and may name a place again.
            shares.retain(|(_, weight)| *weight > Weight::NONE);
            Weights::new(shares).ok().map(Routing::Weighted)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn current_and_old_workers_are_told_apart() {
        let text = "#<PID>          <type>          <reloads>       <uptime>        <version>      \n\
                    1               master          3 [failed: 1]   0d00h01m09s     2.6.12-1\n\
                    # workers\n18              worker          0               0d00h00m01s     2.6.12-1\n\
                    # old workers\n8               worker          3               0d00h01m09s     2.6.12-1\n\
                    12              worker          1               0d00h01m09s     2.6.12-1\n\
                    # programs\n\n";
        let wanted = Processes { reloads: 3, failed: 1, current: 18, old: vec![8, 12] };
        assert_eq!(parse_processes(text), Some(wanted));
        assert_eq!(parse_processes("Unknown command: show proc\n"), None);
    }

    #[test]
    fn columns_are_found_by_name() {
        let text = "# scur,pxname,svname,addr,status,check_status,weight,\n\
                    7,web.A,t,10.0.0.1:80,UP,L7OK,1,\n\n";
        let rows = parse_rows(text).unwrap();
        assert_eq!((rows[0].in_flight, rows[0].address.as_str()), (7, "10.0.0.1:80"));
        assert!(parse_rows("# pxname,\n").unwrap_err().to_string().contains("svname"));
        // Wherever it is cut after its titles.
        for end in text.find('\n').unwrap() + 1..text.len() {
            let error = parse_rows(&text[..end]).unwrap_err();
            assert!(error.is_temporary(), "{end}: {error}");
        }
    }
}
