//! A case as plain data: drawn from a seed, kept as JSON, shrunk, and run again.

use std::time::Duration;

use deploykit_core::{
    Amount, BlueGreen, Canary, ErrorKind, GateUse, Judge, OnOrphan, Place, Point, Rolling, Routing,
    Strategy, Weight,
};
use serde::{Deserialize, Serialize};

use crate::stage::Stage;

/// Milliseconds.
pub(crate) type Ms = u64;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// What strategies are given for the candidate to become healthy, and for requests to end.
const HEALTHY: Duration = Duration::from_secs(40);
pub(crate) const DRAIN: Duration = Duration::from_secs(20);

/// What is deployed how, and what happens meanwhile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Case {
    /// Of the world: start-up times, requests.
    pub(crate) seed: u64,
    pub(crate) count: u32,
    pub(crate) worker: bool,
    pub(crate) way: Way,
    pub(crate) replicas: Option<u32>,
    pub(crate) version: Version,
    pub(crate) routing_lag: Ms,
    pub(crate) registration_lag: Ms,
    /// How long ago what is read may have been so.
    pub(crate) stale: Ms,
    /// How often orchestrator and balancer may each be called: in a second, and at once.
    pub(crate) throttle: Option<(u32, u32)>,
    pub(crate) room: Option<Room>,
    /// Requests in a second.
    pub(crate) rate: u32,
    pub(crate) orphan: OnOrphan,
    pub(crate) hooks: Vec<(Point, HookKind)>,
    pub(crate) jobs: Vec<(Point, JobKind)>,
    pub(crate) deeds: Vec<(Ms, Deed)>,
    pub(crate) faults: Vec<Fault>,
    /// From when on no fault strikes any more.
    pub(crate) calm: Option<Ms>,
}

/// There is room for so many tasks more than run at first, for a time or until somebody cleans up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Room {
    pub(crate) more: u32,
    pub(crate) until: Option<Ms>,
}

/// How it is deployed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Way {
    BlueGreen {
        validate: Option<Gate>,
        shares: Vec<u16>,
        between: Ms,
        watch: Option<Gate>,
        bake: Ms,
        hold: Ms,
    },
    Canary {
        steps: Steps,
        watch: Option<Gate>,
        follow: bool,
        bake: Ms,
        hold: Ms,
        approve: Option<Approve>,
    },
    Rolling {
        surge: Amount,
        unavailable: Amount,
        pooled: bool,
        min_ready: Ms,
        watch: Option<Gate>,
    },
}

/// The shares of a canary in thousandths, and how long each is watched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Steps {
    Own(Vec<(u16, Ms)>),
    Linear(u16, Ms),
    Exponential(u16, u16, Ms),
    Preset(String),
}

/// After the step with this share.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Approve {
    pub(crate) share: u16,
    /// Nobody, where whoever steers has to.
    pub(crate) by: Option<Answer>,
    pub(crate) within: Ms,
}

/// The gates that there are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Gate {
    Live,
    Smoke,
    Good,
    Flips,
    Bad,
    Hangs,
}

impl Gate {
    pub(crate) const ALL: [Self; 6] =
        [Self::Live, Self::Smoke, Self::Good, Self::Flips, Self::Bad, Self::Hangs];

    fn used(self, interval: Duration) -> GateUse {
        let judge = Judge::new().with_interval(interval).with_successes(2);
        GateUse::new(format!("{self:?}")).with_judge(judge.with_deadline(interval * 8 + HEALTHY))
    }
}

/// What an approver does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Yes,
    No,
    Late,
    Never,
    Away,
    Error,
    Panic,
}

impl Answer {
    pub(crate) const ALL: [Self; 7] =
        [Self::Yes, Self::No, Self::Late, Self::Never, Self::Away, Self::Error, Self::Panic];
}

/// What a hook does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum HookKind {
    Ok,
    Slow,
    Fails,
    Panics,
    Hangs,
}

impl HookKind {
    pub(crate) const ALL: [Self; 5] =
        [Self::Ok, Self::Slow, Self::Fails, Self::Panics, Self::Hangs];
}

/// How the jobs of the new version end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum JobKind {
    Good,
    Long,
    Fails,
    Endless,
}

/// How the new version behaves.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Version {
    Good,
    SlowStart,
    SlowStop,
    Crashes,
    NeverReady,
    Dies,
    Flaps,
    FlapsFast,
    Errors,
}

/// How long tasks of that version take to stop.
pub(crate) const SLOW_STOP: Duration = Duration::from_secs(8);

impl Version {
    /// Whether it fails after it was healthy.
    pub(crate) fn is_treacherous(self) -> bool {
        matches!(self, Self::Dies | Self::Flaps | Self::FlapsFast | Self::Errors)
    }
}

/// What somebody does at some time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Deed {
    /// A task is killed.
    Kill(Place, usize),
    Scale(Place, u32),
    Route(Routing),
    Pause,
    Unpause,
    Finish,
    Abort,
    Approve,
    Reject,
    /// The clock jumps by so many milliseconds.
    Clock(i64),
    /// Somebody else deploys something else.
    Rival,
}

/// A call that goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Fault {
    /// Which calls are counted.
    pub(crate) side: Side,
    /// Only those at this stage.
    pub(crate) stage: Option<Stage>,
    /// The first that is struck, 1 being the first that is counted.
    pub(crate) nth: u32,
    pub(crate) times: u32,
    pub(crate) blow: Harm,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Side {
    Any,
    Provider,
    Store,
    Writes,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Harm {
    Fail(ErrorKind),
    Lost,
    Hang,
    Slow(Ms),
    KillBefore,
    KillAfter,
}

pub(crate) fn ms(millis: Ms) -> Duration {
    Duration::from_millis(millis)
}

fn weight(thousandths: u16) -> Weight {
    Weight::thousandths(thousandths).unwrap()
}

impl Way {
    pub(crate) fn strategy(&self) -> Box<dyn Strategy> {
        match self {
            Self::BlueGreen { validate, shares, between, watch, bake, hold } => {
                let shares = shares.iter().map(|share| weight(*share));
                let interval = interval((*between).max(*bake));
                Box::new(
                    BlueGreen::new()
                        .healthy_within(HEALTHY)
                        .drain(DRAIN)
                        .validate(validate.map(|gate| gate.used(ms(300))))
                        .shift_in(shares, ms(*between))
                        .watch(watch.map(|gate| gate.used(interval)))
                        .bake(ms(*bake))
                        .hold(ms(*hold)),
                )
            }
            Self::Canary { steps, watch, follow, bake, hold, approve } => {
                let (canary, longest) = match steps {
                    Steps::Own(steps) => {
                        let longest = steps.iter().map(|(_, time)| *time).max();
                        let steps = steps.iter().map(|(share, time)| (weight(*share), ms(*time)));
                        (Canary::steps(steps), longest.unwrap_or_default())
                    }
                    Steps::Linear(step, every) => {
                        (Canary::linear(weight(*step), ms(*every)), *every)
                    }
                    Steps::Exponential(first, factor, every) => {
                        (Canary::exponential(weight(*first), *factor, ms(*every)), *every)
                    }
                    Steps::Preset(name) => (Canary::preset(name).unwrap(), 60_000),
                };
                let interval = interval(longest.max(*bake));
                let mut canary = canary
                    .healthy_within(HEALTHY)
                    .drain(DRAIN)
                    .watch(watch.map(|gate| gate.used(interval)))
                    .bake(ms(*bake))
                    .hold(ms(*hold));
                if *follow {
                    canary = canary.capacity_follows();
                }
                if let Some(Approve { share, by, within }) = approve {
                    let (share, within) = (weight(*share), ms(*within));
                    canary = match by {
                        Some(by) => canary.approve_at_by(share, format!("{by:?}"), within),
                        None => canary.approve_at(share, within),
                    };
                }
                Box::new(canary)
            }
            Self::Rolling { surge, unavailable, pooled, min_ready, watch } => {
                let rolling = Rolling::new()
                    .surge(*surge)
                    .unavailable(*unavailable)
                    .healthy_within(HEALTHY)
                    .drain(DRAIN)
                    .min_ready(ms(*min_ready))
                    .watch(watch.map(|gate| gate.used(interval(*min_ready))));
                Box::new(if *pooled { rolling.pooled() } else { rolling })
            }
        }
    }

    /// Surge and unavailable of a rolling update.
    pub(crate) fn bounds(&self) -> Option<(Amount, Amount)> {
        match self {
            Self::Rolling { surge, unavailable, .. } => Some((*surge, *unavailable)),
            _ => None,
        }
    }
}

/// Between two measurements: long watches are not measured thousands of times.
fn interval(watched: Ms) -> Duration {
    ms(watched / 20).max(ms(300))
}

impl Case {
    /// Whether somebody changes what the rollout has to do with, or kills its tasks.
    pub(crate) fn is_foreign(&self) -> bool {
        self.deeds.iter().any(|(_, deed)| {
            matches!(deed, Deed::Kill(..) | Deed::Scale(..) | Deed::Route(_) | Deed::Rival)
        })
    }

    /// Whether somebody wants more tasks than there is room for: that has no end.
    pub(crate) fn is_over_full(&self) -> bool {
        let is_over = |count| self.room.is_some_and(|room| self.count + room.more < count);
        self.has(|deed| matches!(deed, Deed::Scale(_, count) if is_over(*count)))
    }

    pub(crate) fn has(&self, is_meant: impl Fn(&Deed) -> bool) -> bool {
        self.deeds.iter().any(|(_, deed)| is_meant(deed))
    }

    /// How many tasks the new version is to have.
    pub(crate) fn new_count(&self) -> u32 {
        self.replicas.unwrap_or(self.count)
    }

    /// Whether the bounds leave a moment without any task.
    pub(crate) fn has_gap(&self) -> bool {
        let count = self.count.min(self.new_count());
        let scaled = self.deeds.iter().filter_map(|(_, deed)| match deed {
            Deed::Scale(_, count) => Some(*count),
            _ => None,
        });
        let (is_scaled, scaled) = (scaled.clone().next().is_some(), scaled.min().unwrap_or(count));
        self.way.bounds().is_some_and(|(surge, unavailable)| {
            let missing = bound(surge, unavailable, self.count.max(self.new_count())).1;
            missing >= count || (is_scaled && missing >= 1 && scaled <= missing + 1)
        })
    }

    /// Whether requests may get lost without anybody's fault here.
    pub(crate) fn may_lose(&self) -> bool {
        self.has_gap() || self.is_foreign() || self.version.is_treacherous()
    }
}

/// Surge and unavailable of so many tasks, worked out here anew.
pub(crate) fn bound(surge: Amount, unavailable: Amount, count: u32) -> (u32, u32) {
    let of = |amount, up| match amount {
        Amount::Count(n) => n,
        Amount::Percent(p) if up => (count * u32::from(p)).div_ceil(100),
        Amount::Percent(p) => count * u32::from(p) / 100,
    };
    match (of(surge, true), of(unavailable, false).min(count)) {
        (0, 0) => (0, 1),
        bounds => bounds,
    }
}
