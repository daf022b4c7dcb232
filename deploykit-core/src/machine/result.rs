//! What came of a rollout.

use super::{Machine, Phase};
use crate::name::RevisionId;
use crate::outcome::{Outcome, Report, Roles, StepTime};
use crate::plan::Standing;

impl Machine {
    /// Which place is what after all that was done.
    pub(crate) fn roles(&self) -> Roles {
        let world = &self.plan.world;
        let left = |standing: &Option<Standing>| {
            standing.clone().filter(|standing| !self.facts.retired.contains(&standing.place))
        };
        if !self.facts.promoted {
            return Roles {
                stable: world.stable.clone(),
                held: left(&world.held),
                hold_until: None,
            };
        }
        let revision = self.facts.revision.clone().unwrap_or_else(|| RevisionId::new(""));
        Roles {
            stable: Some(Standing { place: self.plan.candidate, revision }),
            held: left(&world.stable),
            hold_until: self.facts.hold_until,
        }
    }

    /// The step that it is at; none before the first, and when it has ended.
    pub(crate) fn step_time(&self) -> Option<&StepTime> {
        self.steps.last().filter(|step| step.ended.is_none())
    }

    /// What people should know, so far.
    pub(crate) fn notes(&self) -> &[String] {
        &self.facts.notes
    }

    /// How many tasks stable has now, as far as is known here.
    pub(crate) fn tasks(&self) -> u32 {
        let first = self.facts.stable.as_ref().map(|seen| seen.desired);
        if self.facts.promoted {
            self.facts.needed
        } else {
            first.unwrap_or(self.plan.world.desired)
        }
    }

    /// The report; meaningful at the end.
    pub(crate) fn report(&self) -> Report {
        let (outcome, why) = match &self.phase {
            Phase::Ended(outcome, why) => (outcome.clone(), why.clone()),
            Phase::Undo(why) => (Outcome::NeedsOperator, Some(why.text.clone())),
            Phase::Forward(_) => (Outcome::NeedsOperator, None),
        };
        Report {
            rollout: Some(self.rollout.clone()),
            service: self.plan.service.clone(),
            strategy: self.plan.strategy.clone(),
            before: self.plan.before.as_ref().map(|release| release.image.clone()),
            release: self.plan.release.image.clone(),
            candidate: self.plan.candidate,
            outcome,
            why,
            stable_was_unhealthy: self.facts.stable_was_unhealthy,
            problems: [self.facts.uncertain.as_slice(), &self.facts.problems].concat(),
            notes: self.facts.notes.clone(),
            began: self.began.unwrap_or_default(),
            ended: self.now,
            steps: self.steps.clone(),
        }
    }
}
