//! From a seed to a case.

use deploykit_core::{Amount, ErrorKind, OnOrphan, Place, Point, Routing, Weight};

use crate::case::{
    Answer, Approve, Case, Deed, Fault, Gate, Harm, HookKind, JobKind, Ms, Room, Side, Steps,
    Version, Way,
};
use crate::dice::Dice;
use crate::stage::Stage;

const VERSIONS: [Version; 9] = [
    Version::Good,
    Version::SlowStart,
    Version::SlowStop,
    Version::Crashes,
    Version::NeverReady,
    Version::Dies,
    Version::Flaps,
    Version::FlapsFast,
    Version::Errors,
];

const PRESETS: [&str; 4] = [
    "ECSLinear10PercentEvery1Minutes",
    "ECSCanary10Percent5Minutes",
    "CodeDeployDefault.ECSCanary10Percent15Minutes",
    "ECSAllAtOnce",
];

/// What a case may hold.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kind {
    pub(crate) steer: bool,
    pub(crate) faults: bool,
    pub(crate) foreign: bool,
    pub(crate) hooks: bool,
    pub(crate) versions: bool,
    pub(crate) replicas: bool,
    pub(crate) throttle: bool,
    pub(crate) room: bool,
    pub(crate) stale: bool,
}

impl Kind {
    /// A part of everything: what happens at once hides what each would have brought to light.
    fn drawn(dice: &mut Dice) -> Self {
        Self {
            steer: dice.odds(25),
            faults: dice.odds(75),
            foreign: dice.odds(20),
            hooks: dice.odds(25),
            versions: dice.odds(35),
            replicas: dice.odds(30),
            throttle: dice.odds(15),
            room: dice.odds(15),
            stale: dice.odds(15),
        }
    }
}

/// The case of a seed.
pub(crate) fn any(seed: u64) -> Case {
    let kind = Kind::drawn(&mut Dice::new(seed ^ 0x5eed));
    case(seed, kind)
}

/// The case of a seed that holds no more than that.
pub(crate) fn case(seed: u64, kind: Kind) -> Case {
    let mut dice = Dice::new(seed);
    let dice = &mut dice;
    let worker = dice.odds(15);
    let count = if dice.odds(80) { dice.roll(1, 5) } else { dice.roll(6, 12) };
    let mut way = match dice.roll(0, 9) {
        0..4 => rolling(dice),
        4..7 if !worker => canary(dice),
        _ => blue_green(dice),
    };
    if let (true, Way::BlueGreen { shares, bake, watch, .. }) = (worker, &mut way) {
        // It has no requests to share.
        shares.clear();
        *watch = watch.take().filter(|_| *bake > 0);
    }
    let mut case = Case {
        seed,
        count,
        worker,
        way,
        replicas: (kind.replicas && dice.odds(60)).then(|| dice.roll(1, 8)),
        version: if kind.versions { dice.pick(&VERSIONS) } else { Version::Good },
        routing_lag: dice.pick(&[0, 0, 1_000, 20_000]),
        registration_lag: if dice.odds(4) { 20_000 } else { dice.pick(&[50, 50, 50, 1_000]) },
        stale: if kind.stale { dice.pick(&[500, 2_000, 5_000]) } else { 0 },
        throttle: kind.throttle.then(|| (dice.roll(2, 10), dice.roll(2, 40))),
        room: kind.room.then(|| Room {
            more: dice.roll(0, count + 1),
            until: dice.odds(50).then(|| dice.millis(1_000, 60_000)),
        }),
        rate: dice.pick(&[2, 5, 10, 25]),
        orphan: dice.pick(&[OnOrphan::Undo, OnOrphan::Continue]),
        hooks: vec![],
        jobs: vec![],
        deeds: vec![],
        faults: vec![],
        calm: None,
    };
    if kind.hooks {
        let points: Vec<_> = Point::all().collect();
        for _ in 0..dice.roll(0, 2) {
            let hook = dice.pick(&[
                HookKind::Ok,
                HookKind::Ok,
                HookKind::Slow,
                HookKind::Fails,
                HookKind::Panics,
                HookKind::Hangs,
            ]);
            case.hooks.push((dice.pick(&points), hook));
        }
        for _ in 0..dice.roll(0, 2) {
            let job = dice.pick(&[
                JobKind::Good,
                JobKind::Good,
                JobKind::Long,
                JobKind::Fails,
                JobKind::Endless,
            ]);
            case.jobs.push((dice.pick(&points), job));
        }
    }
    if stages(&case).contains(&Stage::Hold) && dice.odds(30) {
        // Nothing else asks a provider there.
        case.hooks.push((Point::CleanUp, HookKind::Ok));
    }
    let mut at = 0;
    if kind.steer {
        steer(dice, &mut case.deeds, &mut at);
    }
    if kind.foreign {
        foreign(dice, &mut case.deeds, &mut at, count);
    }
    if kind.faults {
        let stages = stages(&case);
        for _ in 0..dice.pick(&[1, 1, 2, 3, 5]) {
            let fault = fault(dice, &stages);
            case.faults.push(fault);
        }
        case.calm = match dice.roll(0, 3) {
            // They stop early, late, or when each has struck as often as it should.
            0 => Some(dice.millis(0, 60_000)),
            1 => Some(dice.millis(0, 1_200_000)),
            _ => None,
        };
    }
    case
}

fn steer(dice: &mut Dice, deeds: &mut Vec<(Ms, Deed)>, at: &mut Ms) {
    for _ in 0..dice.roll(1, 3) {
        *at += if dice.odds(80) { dice.millis(1, 6_000) } else { dice.millis(1, 60_000) };
        let deed = match dice.roll(0, 9) {
            0..3 => Deed::Abort,
            3 => Deed::Pause,
            4 => Deed::Unpause,
            5 => Deed::Finish,
            6 => Deed::Approve,
            7 => Deed::Reject,
            _ => Deed::Clock(i64::from(dice.roll(0, 7_200_000)) - 3_600_000),
        };
        let pauses = deed == Deed::Pause;
        deeds.push((*at, deed));
        // A pause that nobody ends takes a day, with a look at the tasks each half second.
        if pauses && dice.roll(1, 400) > 1 {
            *at += dice.millis(1, 6_000);
            deeds.push((*at, Deed::Unpause));
        }
    }
}

fn foreign(dice: &mut Dice, deeds: &mut Vec<(Ms, Deed)>, at: &mut Ms, count: u32) {
    for _ in 0..dice.roll(1, 3) {
        *at += dice.millis(1, 5_000);
        let place = dice.pick(&[Place::A, Place::B]);
        let deed = match dice.roll(0, 9) {
            0..4 => Deed::Kill(place, dice.roll(0, count) as usize),
            4..7 => {
                let n = dice.roll(1, 12);
                Deed::Scale(place, dice.pick(&[0, 1, n, n]))
            }
            7 => Deed::Route(dice.pick(&[
                Routing::all_to(Place::A),
                Routing::all_to(Place::B),
                Routing::Pooled,
                Routing::Closed,
                Routing::split(Place::A, Place::B, Weight::percent(33).unwrap()),
            ])),
            _ => Deed::Rival,
        };
        deeds.push((*at, deed));
    }
}

/// The stages that a case may come to.
fn stages(case: &Case) -> Vec<Stage> {
    let mut stages = vec![Stage::Begin, Stage::Promote, Stage::Undo, Stage::End, Stage::Recover];
    let (shares, watched, held, approved) = match &case.way {
        Way::Rolling { .. } => {
            stages.extend([Stage::Roll, Stage::Roll, Stage::Retire]);
            return stages;
        }
        Way::BlueGreen { validate, shares, bake, hold, .. } => {
            if validate.is_some() {
                stages.extend([Stage::Validate, Stage::TestRoute]);
            }
            (!shares.is_empty(), *bake > 0, *hold > 0, false)
        }
        Way::Canary { hold, approve, .. } => (true, true, *hold > 0, approve.is_some()),
    };
    stages.extend([Stage::Launch, Stage::AwaitHealthy, Stage::Shift]);
    stages.extend((shares || watched).then_some(Stage::Soak));
    stages.extend(approved.then_some(Stage::Approve));
    stages.push(if held { Stage::Hold } else { Stage::Retire });
    stages
}

fn fault(dice: &mut Dice, stages: &[Stage]) -> Fault {
    let blow = match dice.roll(0, 8) {
        0 => Harm::Fail(ErrorKind::Unavailable),
        1 => Harm::Fail(ErrorKind::Throttled),
        2 => Harm::Fail(ErrorKind::Timeout),
        3 => Harm::Fail(dice.pick(&[ErrorKind::Denied, ErrorKind::Other, ErrorKind::Invalid])),
        4 => Harm::Lost,
        5 => Harm::Hang,
        6 => Harm::Slow(dice.millis(100, 30_000)),
        7 => Harm::KillBefore,
        _ => Harm::KillAfter,
    };
    let times = match blow {
        Harm::KillBefore | Harm::KillAfter => dice.pick(&[1, 1, 1, 2]),
        // A fault of a minute, of longer than anybody insists, and one that does not pass by itself.
        _ => dice.pick(&[1, 1, 1, 2, 3, 12, 60, 1_000]),
    };
    let stage = dice.odds(70).then(|| dice.pick(stages));
    let nth = if stage.is_some() { dice.roll(1, 10) } else { dice.roll(1, 120) };
    let side = dice.pick(&[Side::Any, Side::Provider, Side::Provider, Side::Store, Side::Writes]);
    // Few calls are made at these to what is meant.
    let nth = if side == Side::Store { nth.div_ceil(4) } else { nth };
    Fault { side, stage, nth, times, blow }
}

fn gate(dice: &mut Dice) -> Gate {
    dice.pick(&[
        Gate::Live,
        Gate::Live,
        Gate::Live,
        Gate::Good,
        Gate::Flips,
        Gate::Bad,
        Gate::Hangs,
    ])
}

fn rolling(dice: &mut Dice) -> Way {
    let amount = |dice: &mut Dice| match dice.roll(0, 3) {
        0 => Amount::Count(0),
        1 => Amount::Count(dice.roll(1, 3)),
        2 => Amount::Count(dice.roll(1, 14)),
        _ => Amount::percent(u16::try_from(dice.roll(1, 100)).unwrap()).unwrap(),
    };
    let (surge, mut unavailable) = (amount(dice), amount(dice));
    if matches!((surge, unavailable), (Amount::Count(0), Amount::Count(0))) {
        unavailable = Amount::Count(1);
    }
    let min_ready = if dice.odds(40) { dice.millis(200, 8_000) } else { 0 };
    let watch = (min_ready > 0 && dice.odds(60)).then(|| gate(dice));
    Way::Rolling { surge, unavailable, pooled: dice.odds(40), min_ready, watch }
}

fn share(dice: &mut Dice) -> u16 {
    u16::try_from(dice.roll(1, 999)).unwrap()
}

fn canary(dice: &mut Dice) -> Way {
    let steps = match dice.roll(0, 9) {
        0 => Steps::Linear(u16::try_from(dice.roll(80, 500)).unwrap(), dice.millis(100, 9_000)),
        1 => Steps::Exponential(
            u16::try_from(dice.roll(10, 300)).unwrap(),
            u16::try_from(dice.roll(2, 4)).unwrap(),
            dice.millis(100, 9_000),
        ),
        2 => Steps::Preset(dice.pick(&PRESETS).to_owned()),
        _ => {
            let mut shares: Vec<u16> = (0..dice.roll(1, 4)).map(|_| share(dice)).collect();
            shares.sort_unstable();
            Steps::Own(shares.into_iter().map(|share| (share, dice.millis(100, 9_000))).collect())
        }
    };
    let first = match &steps {
        Steps::Own(steps) => steps.first().map(|(share, _)| *share),
        Steps::Linear(share, _) | Steps::Exponential(share, ..) => Some(*share),
        Steps::Preset(name) => (!name.ends_with("AllAtOnce")).then_some(100),
    };
    let approve = first.filter(|_| dice.odds(40)).map(|share| Approve {
        share,
        by: dice.odds(60).then(|| {
            let yes = dice.odds(40);
            if yes { Answer::Yes } else { dice.pick(&Answer::ALL) }
        }),
        within: dice.millis(1_000, 60_000),
    });
    Way::Canary {
        steps,
        watch: dice.odds(50).then(|| gate(dice)),
        follow: dice.odds(50),
        bake: if dice.odds(40) { dice.millis(100, 9_000) } else { 0 },
        hold: if dice.odds(25) { dice.millis(1, 900_000) } else { 0 },
        approve,
    }
}

fn blue_green(dice: &mut Dice) -> Way {
    let mut shares: Vec<u16> = match dice.odds(50) {
        true => (0..dice.roll(1, 4)).map(|_| share(dice)).collect(),
        false => Vec::new(),
    };
    shares.sort_unstable();
    shares.dedup();
    let between = if dice.odds(80) { dice.millis(100, 9_000) } else { 0 };
    let bake = if dice.odds(50) { dice.millis(100, 20_000) } else { 0 };
    let waits = bake > 0 || (!shares.is_empty() && between > 0);
    Way::BlueGreen {
        validate: dice.odds(40).then(|| {
            dice.pick(&[Gate::Smoke, Gate::Smoke, Gate::Good, Gate::Flips, Gate::Bad, Gate::Hangs])
        }),
        watch: (waits && dice.odds(50)).then(|| gate(dice)),
        shares,
        between,
        bake,
        hold: if dice.odds(30) { dice.millis(1, 900_000) } else { 0 },
    }
}
