//! Jobs: started once, awaited whatever happens.

use super::effect::JobCall;
use super::op::{JobOp, Op};
use super::{Machine, Phase};
use crate::name::JobId;
use crate::provider::JobRun;

/// A job that may be running when its deployer is gone is awaited before anything is undone, and not started for that.
pub(super) fn awaited(op: Option<Op>) -> Option<Op> {
    match op {
        Some(Op::StartJob(job) | Op::AwaitJob(job)) => Some(Op::AwaitJob(job)),
        _ => None,
    }
}

impl Machine {
    pub(super) fn job_call(&self, op: &JobOp) -> JobCall {
        let JobOp { used, key } = op;
        // A store that was lost counts its rollouts anew; the time tells them apart.
        let began = self.began.unwrap_or_default().as_millis();
        JobCall {
            run: JobRun {
                service: self.plan.service.clone(),
                id: JobId::new(format!("{}-{key}-{began:x}", self.rollout)),
                name: used.job.name.clone(),
                rollout: self.rollout.clone(),
                limit: used.job.time_limit,
            },
            point: used.point,
            release: Box::new(used.job.release(&self.plan.release)),
            started: self.facts.jobs_started.contains(key),
            until: self.entered.plus(used.job.time_limit),
        }
    }

    /// Nobody can tell what became of a job: a person has to look before anybody does it again.
    pub(super) fn uncertain(&mut self, text: &str) {
        if matches!(self.phase, Phase::Forward(_))
            && !self.facts.promoted
            && matches!(self.op, Some(Op::StartJob(_) | Op::AwaitJob(_)))
        {
            self.facts.uncertain.push(text.to_owned());
        }
    }
}
