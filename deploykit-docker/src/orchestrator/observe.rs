//! How a container fares, as a task.

use std::net::SocketAddr;
use std::time::Duration;

use deploykit_core::{Clock, Release, SystemClock, Task, TaskId, TaskState};

use super::changes::Death;
use super::labels::Tag;
use super::probe::{Found, SETTLED, Subject, socket};
use super::{Docker, labels};
use crate::engine::{Failure, Inspected, time};

/// How many of the last log lines an account of a death has, and how long each may be.
const LOG_LINES: usize = 5;
const LINE_LENGTH: usize = 200;

impl Docker {
    /// What this container is as a task; `release` is what its label says.
    pub(super) async fn task(
        &self,
        container: &Inspected,
        tag: &Tag,
        release: &Release,
    ) -> Result<Task, Failure> {
        let address = socket(container.address_on(&tag.network), release.spec.port);
        let state = self.state(container, release, address).await?;
        let address = address.map(|address| address.to_string());
        let id = container.label(labels::TASK).unwrap_or(container.name());
        Ok(Task { id: TaskId::new(id), state, address })
    }

    async fn state(
        &self,
        container: &Inspected,
        release: &Release,
        address: Option<SocketAddr>,
    ) -> Result<TaskState, Failure> {
        let state = &container.state;
        if self.is_stopping(&container.id) {
            return Ok(TaskState::Stopping);
        }
        match state.status.as_str() {
            "removing" => Ok(TaskState::Stopping),
            "created" if state.error.is_empty() => Ok(TaskState::Starting),
            "created" => {
                Ok(TaskState::Failed { why: format!("it cannot be started: {}", state.error) })
            }
            "paused" => Ok(TaskState::Unhealthy { why: "it is paused".into() }),
            "running" => self.readiness(container, release, address).await,
            _ => self.account(container, release).await,
        }
    }

    /// A running container: its own HEALTHCHECK decides where there is one.
    async fn readiness(
        &self,
        container: &Inspected,
        release: &Release,
        address: Option<SocketAddr>,
    ) -> Result<TaskState, Failure> {
        let check = container.state.health.as_ref().filter(|health| health.status != "none");
        let found = match check {
            Some(health) => match health.status.as_str() {
                "healthy" => Found::Passes,
                "unhealthy" => Found::FailsNow { why: shorten(&health.last_output()) },
                _ => Found::NotYet { why: shorten(&health.last_output()) },
            },
            None => {
                let subject = Subject {
                    container: container.id.clone(),
                    started_at: container.state.started_at.clone(),
                    up: uptime(&container.state.started_at),
                    address,
                    readiness: release.spec.readiness.clone(),
                };
                let service = container.label(labels::SERVICE).unwrap_or_default();
                self.inner.probes.ask(subject, self.inner.changes.notifier(service)).await
            }
        };
        match found {
            Found::Passes => Ok(TaskState::Ready),
            Found::FailsNow { why } | Found::Refuses { why } => Ok(TaskState::Unhealthy { why }),
            // It runs at this moment, but it died before and has not been ready since: a crash loop, not a start.
            Found::NotYet { .. } if container.restart_count > 0 => {
                self.account(container, release).await
            }
            // What is asked at a port where nobody listens would start for ever.
            Found::NotYet { why }
                if uptime(&container.state.started_at) >= SETTLED && !why.is_empty() =>
            {
                Ok(TaskState::Unhealthy { why })
            }
            Found::NotYet { .. } => Ok(TaskState::Starting),
        }
    }

    /// A failed task, with all that is known of its end.
    async fn account(
        &self,
        container: &Inspected,
        release: &Release,
    ) -> Result<TaskState, Failure> {
        let remembered = self.inner.changes.death(&container.id);
        let death = if container.state.status == "running" {
            remembered.unwrap_or_default()
        } else {
            let out_of_memory =
                container.state.oom_killed || remembered.is_some_and(|death| death.out_of_memory);
            Death { exit_code: Some(container.state.exit_code), out_of_memory }
        };
        let mut why = cause(death, release);
        if !container.state.error.is_empty() {
            why.push_str(&format!(" ({})", container.state.error));
        }
        match container.restart_count {
            0 => {}
            1 => why.push_str(", was restarted once"),
            n => why.push_str(&format!(", was restarted {n} times")),
        }
        // Some log drivers cannot be read back; the death is worth telling without the lines.
        let lines = self.inner.engine.log_tail(&container.id, LOG_LINES).await.unwrap_or_default();
        if !lines.is_empty() {
            let mut lines: Vec<_> = lines.iter().map(|line| shorten(line)).collect();
            // A crash loop says the same each time.
            lines.dedup();
            why.push_str(&format!("; its last lines: {}", lines.join(" | ")));
        }
        Ok(TaskState::Failed { why })
    }
}

/// How long ago this was, in the Engine's way to write it; zero if that cannot be told.
pub(super) fn uptime(started_at: &str) -> Duration {
    time(started_at).map(|started| SystemClock.now().since(started)).unwrap_or_default()
}

fn cause(death: Death, release: &Release) -> String {
    if death.out_of_memory {
        return match release.spec.limits.memory_bytes {
            Some(bytes) => format!("it ran out of memory (its limit is {} MiB)", bytes >> 20),
            None => "it ran out of memory".into(),
        };
    }
    match death.exit_code {
        // 128 and the signal's number, as shells and the Engine tell it.
        Some(code @ 129..=192) => {
            format!("it was killed by signal {} (exit code {code})", code - 128)
        }
        Some(code) => format!("it exited with code {code}"),
        None => "it died".into(),
    }
}

/// A task's own words, for one line of a report on somebody's terminal: the task may not write to that as it likes.
pub(super) fn shorten(line: &str) -> String {
    let line: String = line
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LINE_LENGTH + 1)
        .collect();
    match line.char_indices().nth(LINE_LENGTH) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}
