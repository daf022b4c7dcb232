use std::time::Duration;

use super::beside::{Beside, setters};
use super::{Context, Strategy};
use crate::error::{Error, ErrorKind, Result};
use crate::name::ApproverName;
use crate::plan::{Draft, GateUse, OnOrphan, Step};
use crate::routing::Weight;

/// A growing share of the requests for the new version, with a look at it after each step.
///
/// # Expected flow
/// 1. For each step: the candidate has the capacity for it, gets the share, and is watched under the
///    [gates](Self::watch), or waits for an [approval](Self::approve_at).
/// 2. Then everything is shifted, watched for the [bake](Self::bake), and promoted. The old place is
///    [held](Self::hold), or drained and removed.
///
/// A place that an earlier rollout still holds is retired just before the promotion: until then it is kept for a rollback, and
/// counts among the tasks. Where the orchestrator has room for two places only, it is retired first.
///
/// # Guarantees
/// * The share never goes beyond the step that is being watched.
/// * The old version keeps its whole capacity until the rollout has ended.
/// * Until the promotion, any failure, abort or death of the deployer sends all requests back and removes the candidate.
/// * A candidate that gets requests is undone when a task of it dies, when it has fewer healthy tasks than it should for
///   5 s, or none for 2 s.
///
/// # Assumptions
/// * The balancer splits by weight. Both versions can serve side by side, and can use the same data.
///
/// # Caveats
/// * A desired count that somebody raises meanwhile is followed. One that somebody lowers is not: a task of stable that is
///   gone counts as lost.
/// * At small shares of little traffic a gate sees few requests: a step should last long enough for them.
/// * Without gates, a canary is a slow blue/green that looks at nothing but the health of the tasks.
///
/// ```
/// use deploykit_core::{Canary, Weight};
/// use std::time::Duration;
///
/// let own = Canary::steps([(Weight::percent(1)?, Duration::from_secs(300)), (Weight::percent(20)?, Duration::from_secs(600))]);
/// let linear = Canary::linear(Weight::percent(10)?, Duration::from_secs(60)).watch(["errors"]);
/// let doubling = Canary::exponential(Weight::percent(1)?, 2, Duration::from_secs(60));
/// let preset = Canary::preset("ECSCanary10Percent5Minutes")?;
/// # Ok::<(), deploykit_core::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Canary {
    growth: Growth,
    approve: Option<(Weight, Option<ApproverName>, Duration)>,
    following: bool,
    beside: Beside,
}

/// How the share grows, as it was asked for: what cannot be is refused when it is planned.
#[derive(Clone, Debug)]
enum Growth {
    Steps(Vec<(Weight, Duration)>),
    Linear {
        step: Weight,
        every: Duration,
    },
    Exponential {
        first: Weight,
        factor: u16,
        every: Duration,
    },
    /// By the name of a preset, which says so.
    AtOnce,
}

/// The predefined configurations of CodeDeploy for ECS: name, share of a step in per cent, minutes after each, whether the
/// step repeats. From AWS's guide, "Working with deployment configurations in CodeDeploy".
const PRESETS: [(&str, u16, u64, bool); 5] = [
    ("ECSLinear10PercentEvery1Minutes", 10, 1, true),
    ("ECSLinear10PercentEvery3Minutes", 10, 3, true),
    ("ECSCanary10Percent5Minutes", 10, 5, false),
    ("ECSCanary10Percent15Minutes", 10, 15, false),
    ("ECSAllAtOnce", 100, 0, false),
];

impl Canary {
    /// These shares, one at least, each watched for its time; then everything. 5 min to become healthy, 30 s to drain,
    /// launched in full, nothing held.
    pub fn steps(steps: impl IntoIterator<Item = (Weight, Duration)>) -> Self {
        Self::growing(Growth::Steps(steps.into_iter().collect()))
    }

    /// One such share more each time, until it is everything.
    pub fn linear(step: Weight, every: Duration) -> Self {
        Self::growing(Growth::Linear { step, every })
    }

    /// From `first` on, `factor` times as much each time, which is 2 at least, until it is everything.
    pub fn exponential(first: Weight, factor: u16, every: Duration) -> Self {
        Self::growing(Growth::Exponential { first, factor, every })
    }

    fn growing(growth: Growth) -> Self {
        Self { growth, approve: None, following: false, beside: Beside::new() }
    }

    /// One of CodeDeploy's predefined configurations for ECS, with or without the prefix `CodeDeployDefault.`.
    ///
    /// # Errors
    /// `NotFound`, listing those that there are.
    pub fn preset(name: &str) -> Result<Self> {
        let short = name.strip_prefix("CodeDeployDefault.").unwrap_or(name);
        let Some((_, percent, minutes, repeats)) = PRESETS.iter().find(|preset| preset.0 == short)
        else {
            let names: Vec<_> = PRESETS.iter().map(|preset| preset.0).collect();
            return Err(Error::new(ErrorKind::NotFound, format!("there is no preset {name:?}"))
                .with_hint(format!("there are {}", names.join(", "))));
        };
        let (share, time) = (Weight::percent(*percent)?, Duration::from_secs(minutes * 60));
        Ok(match (share, repeats) {
            (Weight::ALL, _) => Self::growing(Growth::AtOnce),
            (_, true) => Self::linear(share, time),
            (_, false) => Self::steps([(share, time)]),
        })
    }

    /// After the step with this share, whoever holds the rollout's control has to approve within this time. There is one
    /// such step at most: a later call takes the place of an earlier one.
    pub fn approve_at(mut self, share: Weight, within: Duration) -> Self {
        self.approve = Some((share, None, within));
        self
    }

    /// As [`approve_at`](Self::approve_at), and the approver of this name is asked.
    pub fn approve_at_by(
        mut self,
        share: Weight,
        approver: impl Into<ApproverName>,
        within: Duration,
    ) -> Self {
        self.approve = Some((share, Some(approver.into()), within));
        self
    }

    /// The candidate is launched with the capacity for each share instead of all at once.
    pub fn capacity_follows(mut self) -> Self {
        self.following = true;
        self
    }

    setters!();
}

impl Growth {
    /// The shares before everything.
    fn shares(&self) -> Result<Vec<(Weight, Duration)>> {
        let refused = |why: String| {
            Err(Error::invalid(format!("canary: {why}")).with_hint(
                "let the share grow from above 0 % to below 100 %, or take BlueGreen, which shifts all requests at once",
            ))
        };
        let (name, first, every, times, plus) = match self {
            Self::AtOnce => return Ok(Vec::new()),
            Self::Steps(steps) if steps.is_empty() => {
                return refused(
                    "steps is empty, so that all requests would be shifted at once".into(),
                );
            }
            Self::Steps(steps) => return Ok(steps.clone()),
            Self::Exponential { factor, .. } if *factor < 2 => {
                return refused(format!(
                    "exponential has the factor {factor}, by which nothing grows"
                ));
            }
            Self::Exponential { first, factor, every } => ("exponential", first, every, *factor, 0),
            Self::Linear { step, every } => ("linear", step, every, 1, step.get()),
        };
        if *first == Weight::NONE || *first == Weight::ALL {
            return refused(format!("{name} begins with {first}"));
        }
        let next = |share: &u16| Some(share.saturating_mul(times).saturating_add(plus));
        let shares = std::iter::successors(Some(first.get()), next);
        let shares = shares.map_while(|share| Weight::thousandths(share).ok());
        Ok(shares.take_while(|share| *share < Weight::ALL).map(|share| (share, *every)).collect())
    }
}

impl Canary {
    /// The shares before everything, and how long each is watched; what cannot be is refused.
    fn steps_for(&self, context: &Context) -> Result<Vec<(Weight, Duration)>> {
        if context.balancer.is_none() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "a canary needs a balancer that splits requests",
            )
            .with_hint("roll a worker, or replace it blue/green"));
        }
        let steps = self.growth.shares()?;
        if let Some((share, ..)) = self.approve
            && !steps.iter().any(|step| step.0 == share)
        {
            let steps: Vec<_> = steps.iter().map(|step| step.0.to_string()).collect();
            return Err(Error::invalid(format!(
                "canary: approve_at names {share}, and there is no such step"
            ))
            .with_hint(match steps.as_slice() {
                [] => "take a preset that has steps, or steps of your own".to_owned(),
                steps => format!("name one of {}", steps.join(", ")),
            }));
        }
        Ok(steps)
    }
}

impl Strategy for Canary {
    fn name(&self) -> &str {
        "canary"
    }

    fn draft(&self, context: &Context) -> Result<Draft> {
        let steps = self.steps_for(context)?;
        // Before the first deployment there is nobody to share with.
        let steps = if context.stable.is_some() { steps.as_slice() } else { &[] };
        let mut draft = Draft::new().on_orphan(self.beside.on_orphan);
        if !self.following || steps.is_empty() {
            draft = draft.launch(Weight::ALL).await_healthy(self.beside.healthy_within);
        }
        for (share, time) in steps {
            if self.following {
                draft = draft.launch(*share).await_healthy(self.beside.healthy_within);
            }
            draft = draft.shift(*share);
            let approve = self.approve.as_ref().filter(|(at, ..)| at == share);
            // A step can wait for a person alone.
            if !time.is_zero() || approve.is_none() {
                draft = draft.soak(*time, self.beside.watch.clone());
            }
            if let Some((_, approver, within)) = approve {
                draft = draft.step(Step::Approve {
                    approver: approver.clone(),
                    within: *within,
                    gates: self.beside.watch.clone(),
                });
            }
        }
        if self.following && !steps.is_empty() {
            draft = draft.launch(Weight::ALL).await_healthy(self.beside.healthy_within);
        }
        draft = draft.shift(Weight::ALL);
        Ok(self.beside.end(draft, context))
    }
}
