use std::fmt;

use super::{Estimate, GateUse, Job, JobUse, OnOrphan, Plan, Step};
use crate::routing::Weight;
use crate::time::human;

impl Plan {
    /// One step in words, with today's numbers; `None` beyond the last.
    pub fn describe(&self, index: usize) -> Option<String> {
        let step = self.steps.get(index)?;
        let (desired, candidate) = (self.replicas.unwrap_or(self.world.desired), self.candidate);
        let stable = self.world.stable.as_ref().map(|stable| stable.place);
        let text = match step {
            Step::Launch { share } => {
                let tasks = tasks(Self::tasks(*share, desired));
                format!(
                    "start {tasks} of {} in place {candidate} ({share} of the desired count)",
                    self.release.image
                )
            }
            Step::AwaitHealthy { within } => {
                format!("wait until place {candidate} is healthy, {} at most", human(*within))
            }
            Step::OpenTest => format!("let testers reach place {candidate}"),
            Step::Validate { gates } => format!("by {}", names(gates)),
            Step::CloseTest => format!("no more testers at place {candidate}"),
            Step::Shift { weight } => match stable {
                Some(stable) if *weight != Weight::ALL => {
                    format!(
                        "send {weight} of the requests to {candidate}, {} to {stable}",
                        weight.rest()
                    )
                }
                _ => format!("send all requests to {candidate}"),
            },
            Step::Soak { time, gates } => {
                format!("watch place {candidate} for {}{}", human(*time), under(gates))
            }
            Step::Roll(roll) => {
                let (surge, unavailable) = roll.bounds(desired);
                let watched = if roll.min_ready.is_zero() {
                    String::new()
                } else {
                    format!(", each batch watched for {}", human(roll.min_ready))
                };
                let gates = under(&roll.gates);
                let least = desired.saturating_sub(unavailable);
                let gap = if least == 0 && !self.is_worker() {
                    ", so that requests fail while there is none"
                } else {
                    ""
                };
                format!(
                    "replace {} by {} in batches: {} to {} tasks at any time (surge {}, unavailable {}){gap}{watched}{gates}",
                    stable.map_or_else(|| "nothing".to_owned(), |stable| stable.to_string()),
                    self.release.image,
                    least,
                    desired.saturating_add(surge),
                    roll.surge,
                    roll.unavailable
                )
            }
            Step::Approve { approver, within, gates } => {
                let who = approver.as_ref().map_or("somebody", |approver| approver.as_str());
                format!("wait until {who} approves, {} at most{}", human(*within), under(gates))
            }
            Step::Promote => match stable {
                Some(stable) => format!("make {candidate} stable instead of {stable}"),
                None => format!("make {candidate} stable"),
            },
            Step::Hold { time } => match stable {
                Some(stable) => format!("keep {stable} for {}, for a fast rollback", human(*time)),
                None => "nothing to keep".to_owned(),
            },
            Step::Retire { drain, .. } => {
                let before_launch =
                    !self.steps.iter().take(index).any(|step| matches!(step, Step::Promote));
                let held = if before_launch {
                    self.world.held.as_ref().map(|held| held.place)
                } else {
                    stable
                };
                match held {
                    Some(held) => {
                        format!("drain place {held}, {} at most, and remove it", human(*drain))
                    }
                    None => "nothing to remove".to_owned(),
                }
            }
        };
        Some(text)
    }

    /// What it takes in all, in words.
    pub(super) fn totals(&self) -> String {
        let Estimate { least, most, peak_tasks, changes, point_of_no_return } = self.estimate();
        let mut text = format!(
            "takes {} at least, {} at most; up to {}; {} at providers",
            human(least),
            human(most),
            tasks(peak_tasks),
            counted(changes, "change")
        );
        if let Some(step) = point_of_no_return {
            text.push_str(&format!("; goes back by itself until step {step} has ended"));
        }
        if self.on_orphan == OnOrphan::Continue {
            text.push_str("; goes on if the deployer dies");
        }
        text
    }
}

fn job_text(job: &Job) -> String {
    match job.command.as_slice() {
        [] => format!("job {}", job.name),
        command => format!("job {} ({})", job.name, command.join(" ")),
    }
}

fn tasks(count: u32) -> String {
    counted(count, "task")
}

fn counted(count: u32, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn passes(count: u32) -> String {
    if count == 1 { "1 pass".to_owned() } else { format!("{count} passes in a row") }
}

fn under(gates: &[GateUse]) -> String {
    if gates.is_empty() { String::new() } else { format!(", under gate {}", names(gates)) }
}

fn names(gates: &[GateUse]) -> String {
    let names: Vec<_> = gates
        .iter()
        .map(|g| {
            format!(
                "{} ({}, one every {})",
                g.gate,
                passes(g.judge.successes),
                human(g.judge.interval)
            )
        })
        .collect();
    names.join(" and ")
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, release, .. } = self;
        if self.is_noop() {
            return write!(f, "{service} already runs {}; nothing to do", release.image);
        }
        write!(f, "{service}: {}, ", self.strategy)?;
        match &self.before {
            Some(before) => write!(f, "{} -> {}", before.image, release.image)?,
            None if self.world.stable.is_none() => {
                write!(f, "first deployment of {}", release.image)?
            }
            None => write!(f, "{}", release.image)?,
        }
        let desired = self.replicas.unwrap_or(self.world.desired);
        writeln!(f, ", {}", tasks(desired))?;
        let width = self.steps.iter().map(|step| step.name().len()).max().unwrap_or_default();
        for (index, step) in self.steps.iter().enumerate() {
            let text = self.describe(index).unwrap_or_default();
            writeln!(f, "  {:>2}. {:width$}  {text}", index + 1, step.name())?;
        }
        for hook in &self.hooks {
            writeln!(f, "  at {}: {}, {} at most", hook.point, hook.hook, human(hook.within))?;
        }
        for JobUse { point, job } in &self.jobs {
            writeln!(f, "  at {point}: {}, {} at most", job_text(job), human(job.time_limit))?;
        }
        write!(f, "  {}", self.totals())
    }
}
