//! What a round does: all of it from the seed.

use std::fmt;
use std::time::Duration;

use crate::deployment::How;
use crate::dice::Dice;

/// The images, under the tags that they get: two that are good, so that each rollout can bring another one, and the bad ones.
pub(crate) const IMAGES: [(&str, &str); 6] = [
    ("deploykit/testbed:good", "good"),
    ("deploykit/testbed:good-b", "good-b"),
    ("deploykit/testbed:crash", "crash"),
    ("deploykit/testbed:unhealthy", "unhealthy"),
    ("deploykit/testbed:slow", "slow"),
    ("deploykit/testbed:errors", ERRORS),
];
/// The one whose answers fail.
pub(crate) const ERRORS: &str = "errors";
const GOOD: [&str; 2] = ["good", "good-b"];
const BAD: [&str; 4] = ["crash", "unhealthy", "slow", ERRORS];

/// What happens to the deployers of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The deployer is killed.
    Kill,
    /// Two deployers start at the same moment.
    Rivals,
    /// The disk of the store is full.
    Disk,
    /// HAProxy's container is restarted.
    Balancer,
    /// The container of a task is killed, and comes back.
    Task,
    /// The Engine's daemon is restarted, and with it everything.
    Daemon,
}

impl Kind {
    /// Those in which a part is out, and only meanwhile requests may fail.
    pub(crate) fn is_outage(self) -> bool {
        matches!(self, Self::Balancer | Self::Task | Self::Daemon)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kill => "kill",
            Self::Rivals => "rivals",
            Self::Disk => "disk",
            Self::Balancer => "balancer",
            Self::Task => "task",
            Self::Daemon => "daemon",
        })
    }
}

/// A round.
#[derive(Clone, Debug)]
pub(crate) struct Draw {
    pub(crate) number: u32,
    pub(crate) kind: Kind,
    pub(crate) strategy: How,
    pub(crate) tag: &'static str,
    pub(crate) holds: bool,
    pub(crate) has_job: bool,
    pub(crate) goes_on: bool,
    /// When it happens, after the start of the deployer.
    pub(crate) at: Duration,
    /// When the successor is killed too, after its own start.
    pub(crate) again: Option<Duration>,
    /// How long the disk stays full; until the deployer gives up, where it is none.
    pub(crate) full_for: Option<Duration>,
    /// How much is left on it: bytes, or the blocks that a file may have.
    pub(crate) left: u32,
}

impl Draw {
    /// Each round has dice of its own, so that it is the same whatever became of those before.
    pub(crate) fn new(seed: u64, number: u32, outage: Option<Kind>) -> Self {
        let mut dice = Dice::new(seed.wrapping_mul(1_000_003).wrapping_add(number.into()));
        let ordinary = match dice.roll(1, 20) {
            1..=3 => Kind::Rivals,
            4..=5 => Kind::Disk,
            _ => Kind::Kill,
        };
        let strategy = dice.pick(&How::ALL);
        let kind = outage.unwrap_or(ordinary);
        let is_good = dice.odds(60) || kind != Kind::Kill;
        // Some longer than a rollout takes: an end is a moment like any other. What is bad is found early.
        let most = if is_good { 11_000 } else { 7_000 };
        Self {
            number,
            kind,
            strategy,
            tag: if is_good { dice.pick(&GOOD) } else { dice.pick(&BAD) },
            holds: strategy != How::Rolling && dice.odds(30),
            has_job: dice.odds(25),
            goes_on: dice.odds(30),
            at: Duration::from_millis(dice.millis(30, most)),
            again: dice.odds(25).then(|| Duration::from_millis(dice.millis(30, 4_000))),
            full_for: dice.odds(60).then(|| Duration::from_millis(dice.millis(500, 6_000))),
            left: dice.roll(0, 16_000),
        }
    }

    pub(crate) fn is_bad(&self) -> bool {
        BAD.contains(&self.tag)
    }

    /// What the tasks call themselves: no two rounds bring the same release.
    pub(crate) fn version(&self) -> String {
        format!("v{}", self.number)
    }
}

impl fmt::Display for Draw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, kind, strategy, tag, at, .. } = self;
        write!(f, "{number:3} {kind:8} {strategy:10} {tag:9} at {:6.3} s", at.as_secs_f64())?;
        for (is, word) in [(self.holds, "hold"), (self.has_job, "job"), (self.goes_on, "continue")]
        {
            if is {
                write!(f, ", {word}")?;
            }
        }
        match self.again {
            Some(again) if *kind == Kind::Kill => {
                write!(f, ", successor at {:.3} s", again.as_secs_f64())
            }
            _ => Ok(()),
        }
    }
}
