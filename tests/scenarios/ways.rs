//! Each way in which a version can come, with a good one and with each bad one.

use std::time::Duration;

use deploykit::{
    Amount, BlueGreen, Canary, Change, Launch, Outcome, Place, Rolling, RolloutId, Strategy, Weight,
};
use deploykit_testing::Tally;

use super::see::*;
use super::stage::{Load, Stage, Version, deployer};

/// A strategy, and the bounds of capacity that it keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    BlueGreen,
    /// A quarter more, none fewer. The first flag: no shares are set. The second: none more, one fewer.
    Rolling {
        pooled: bool,
        stop_first: bool,
    },
    /// Whether the candidate's capacity follows its share.
    Canary {
        following: bool,
    },
}

pub(crate) const ROLLING: Way = Way::Rolling { pooled: false, stop_first: false };
pub(crate) const CANARY: Way = Way::Canary { following: false };
const FOLLOWING: Way = Way::Canary { following: true };
const STOP_FIRST: Way = Way::Rolling { pooled: false, stop_first: true };
const POOLED: Way = Way::Rolling { pooled: true, stop_first: false };
const POOLED_STOP_FIRST: Way = Way::Rolling { pooled: true, stop_first: true };

impl Way {
    /// Each step is watched for so long, with this gate or none, and has so many seconds to become healthy.
    fn strategy(self, watched: Duration, gate: Option<&str>, within: u64) -> Box<dyn Strategy> {
        let (within, drain) = (Duration::from_secs(within), Duration::from_secs(10));
        let gates = || gate.map(often);
        let shares = [25, 50].map(|share| Weight::percent(share).unwrap());
        match self {
            Self::BlueGreen => Box::new(
                BlueGreen::new()
                    .shift_in(shares, watched)
                    .watch(gates())
                    .bake(watched)
                    .healthy_within(within)
                    .drain(drain),
            ),
            Self::Rolling { pooled, stop_first } => {
                let rolling = match stop_first {
                    true => Rolling::stop_first(),
                    false => Rolling::new().surge(Amount::percent(25).unwrap()).unavailable(0),
                };
                let rolling = if pooled { rolling.pooled() } else { rolling };
                let rolling = rolling.min_ready(watched).watch(gates());
                Box::new(rolling.healthy_within(within).drain(drain))
            }
            Self::Canary { following } => {
                let canary = Canary::steps(shares.map(|share| (share, watched)));
                let canary = if following { canary.capacity_follows() } else { canary };
                let canary = canary.watch(gates()).bake(watched);
                Box::new(canary.healthy_within(within).drain(drain))
            }
        }
    }

    /// So that a good version passes quickly.
    pub(crate) fn quick(self) -> Box<dyn Strategy> {
        self.strategy(SHORT, Some("live"), 20)
    }

    /// Without gates: one that asks as clients do hears the old version too.
    fn trusting(self, watched: Duration) -> Box<dyn Strategy> {
        self.strategy(watched, None, 20)
    }

    /// The fewest that are ready and the most that live while `count` tasks are replaced.
    pub(crate) fn bounds(self, count: u32) -> (usize, usize) {
        let count = count as usize;
        match self {
            Self::Rolling { stop_first: true, .. } => (count - 1, count),
            Self::Rolling { stop_first: false, .. } => (count, count + count.div_ceil(4)),
            Self::BlueGreen | Self::Canary { .. } => (count, 2 * count),
        }
    }
}

/// A good version comes under load.
async fn promotes<S: Stage>(stage: &S, way: Way) {
    let before = serving_by(stage, S::COUNT).await;
    let strategy = way.quick();
    let (report, tally) = under_load(stage, async || {
        within(stage, way.bounds(S::COUNT), deploy(stage, Version::Better, &strategy)).await
    })
    .await;
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    assert_lossless(&tally);
    assert!(tally.answers_of(Place::A) > 0 && tally.answers_of(Place::B) > 0, "{tally}");
    let seen = seen(stage).await;
    assert!(seen.is_only(Place::B, S::COUNT as usize), "{seen:#?}");
    assert_eq!(seen.made.len(), before.made.len(), "{seen:#?}");
}

/// A bad version comes under load; the reason of its end has one of these in it, and everything is as it began.
async fn undoes<S: Stage>(stage: &S, way: Way, version: Version, why: &[&str]) -> Tally {
    let before = serving_by(stage, S::COUNT).await;
    let soon = if version == Version::Unhealthy { 2 } else { 20 };
    let strategy = way.strategy(LONG, Some("live"), soon);
    let (report, tally) = under_load(stage, async || {
        within(stage, way.bounds(S::COUNT), deploy(stage, version, &strategy)).await
    })
    .await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{version:?}: {report}");
    let told = report.why.clone().unwrap_or_default();
    assert!(why.iter().any(|why| told.contains(why)), "{version:?}: {report}");
    let seen = seen(stage).await;
    if way.bounds(S::COUNT).0 == S::COUNT as usize {
        assert_eq!(seen, before, "{version:?}: {report}");
    } else {
        // The task that made room for the bad one is another one now.
        assert_eq!(seen.shape(), before.shape(), "{version:?}: {report}");
    }
    tally
}

/// All bad versions come under load, one after the other.
async fn undoes_all<S: Stage>(stage: &S, way: Way) {
    let lossless = [
        (Version::Crash, ["exited with code 3"].as_slice()),
        (Version::Unhealthy, &["not healthy in time"]),
        (Version::Slow, &["gate live"]),
    ];
    for (version, why) in lossless {
        assert_lossless(&undoes(stage, way, version, why).await);
    }
    // The gate asks as clients do: others may answer it until the new ones are not healthy any more.
    let tally = undoes(stage, way, Version::Errors, &["gate live", "place B: 0 of "]).await;
    assert!(tally.failed > 0, "{tally}");
    assert_eq!(tally.failed, tally.failures_of(Place::B), "{tally}");
}

/// A version that crashes comes in three ways.
async fn undoes_crashes<S: Stage>(stage: &S) {
    for way in [Way::BlueGreen, ROLLING, CANARY] {
        let tally = undoes(stage, way, Version::Crash, &["exited with code 3"]).await;
        assert_lossless(&tally);
    }
}

/// A good version that came by a strategy is rolled back by it, under load.
async fn goes_back<S: Stage>(stage: &S, way: Way) {
    let before = serving_by(stage, S::COUNT).await;
    let _ = promoted(stage, Version::Better, &way.quick()).await;
    let deployer = deployer(stage).await;
    let (report, tally) = under_load(stage, async || {
        let rollout = deployer.rollback(&stage.basics().service, &way.quick()).await.unwrap();
        within(stage, way.bounds(S::COUNT), Run::new::<S>(rollout).end()).await
    })
    .await;
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    assert_lossless(&tally);
    let seen = seen(stage).await;
    assert!(seen.is_only(report.candidate, S::COUNT as usize), "{seen:#?}");
    assert_eq!(seen.places[0].revision, before.places[0].revision);
}

/// The first version is bad, and leaves nothing; the next one serves.
async fn begins<S: Stage>(stage: &S, way: Way) {
    let service = &stage.basics().service;
    for (version, outcome) in
        [(Version::Crash, Outcome::RolledBack), (Version::Good, Outcome::Promoted)]
    {
        let report = first_by(stage, service, version, &way.quick(), 2).await;
        assert_eq!(report.outcome, outcome, "{report}");
        assert_eq!(seen(stage).await.is_nothing(), version == Version::Crash, "{report}");
    }
    assert!(seen(stage).await.is_only(Place::A, 2));
    let ((), tally) = under_load(stage, async || ()).await;
    assert_lossless(&tally);
}

/// What serves has broken under its first requests when the next version comes.
async fn mends<S: Stage>(stage: &S, way: Way) {
    let _ = first(stage, &stage.basics().service, Version::Errors).await;
    let load = stage.load(&stage.basics().service).await;
    let broken = async {
        while seen(stage).await.healthy(Place::A) > 0 {
            tokio::time::sleep(SHORT / 10).await;
        }
    };
    tokio::time::timeout(S::PATIENCE, broken).await.expect("it breaks");
    let report = deploy(stage, Version::Better, &way.trusting(SHORT)).await;
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    assert!(report.stable_was_unhealthy, "{report}");
    assert!(load.stop().await.failed > 0);
    let seen = seen(stage).await;
    assert!(seen.is_only(Place::B, 2), "{seen:#?}");
    let ((), tally) = under_load(stage, async || ()).await;
    assert_lossless(&tally);
}

/// What serves has lost all its tasks when the next version comes, which is told how many there are to be.
async fn refills<S: Stage>(stage: &S, way: Way) {
    serving(stage).await;
    stage.lose_tasks(Place::A).await;
    let change = Change::to(stage.image(Version::Better)).with_replicas(2);
    let deployer = deployer(stage).await;
    let plan = deployer.plan(&stage.basics().service, &way.trusting(SHORT), change).await.unwrap();
    let report = Run::new::<S>(deployer.deploy(plan).await.unwrap()).end().await;
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    assert!(report.stable_was_unhealthy, "{report}");
    let seen = seen(stage).await;
    assert!(seen.is_only(Place::B, 2), "{seen:#?}");
}

/// Somebody changes how many tasks there are to be, up and down, in the middle of rollouts that are aborted, and of
/// others that are promoted.
async fn follows<S: Stage>(stage: &S, way: Way) {
    serving(stage).await;
    let service = &stage.basics().service;
    let parts = stage.providers().await;
    let bob = Outcome::Aborted { by: "bob".to_owned() };
    let mut stable = Place::A;
    for (version, raised, outcome) in [
        (Version::Better, true, &bob),
        (Version::Better, false, &bob),
        (Version::Better, true, &Outcome::Promoted),
        (Version::Good, false, &Outcome::Promoted),
    ] {
        let before = seen(stage).await;
        let mut run = begin(stage, version, &way.trusting(LONG)).await;
        run.routed().await;
        let old = before.place(stable).unwrap();
        if raised {
            let (revision, count) = (old.revision.clone(), old.desired + 1);
            let rollout = RolloutId::new("somebody-else");
            let launch =
                Launch { service: service.clone(), place: stable, revision, count, rollout };
            parts.orchestrator.launch(&launch).await.unwrap();
        } else {
            let last = [old.tasks.last().unwrap().0.clone()];
            parts.balancer.as_ref().unwrap().drain(service, stable, &last).await.unwrap();
            parts.orchestrator.stop(service, stable, &last).await.unwrap();
        }
        match outcome {
            Outcome::Promoted => run.control().finish_now("bob"),
            _ => run.control().abort("bob"),
        }
        let report = run.end().await;
        assert_eq!(report.outcome, *outcome, "{report}");
        if *outcome == Outcome::Promoted {
            stable = report.candidate;
        }
        let count = match (raised, way) {
            (true, _) => old.tasks.len() + 1,
            (false, Way::Rolling { .. }) => old.tasks.len() - 1,
            // All of the candidate's tasks are there by then, and a task of stable that is gone is one that it has lost.
            (false, _) => old.tasks.len(),
        };
        let seen = seen(stage).await;
        assert!(seen.is_only(stable, count), "{count} wanted: {report}: {seen:#?}");
    }
}

/// An old version is still held when a bad one comes, which leaves it alone, and then a good one.
async fn makes_room<S: Stage>(stage: &S, way: Way) {
    serving(stage).await;
    let _ = promoted(stage, Version::Better, &plain().hold(LONG)).await;
    let before = seen(stage).await;
    let ((), tally) = under_load(stage, async || {
        let report = deploy(stage, Version::Crash, &way.quick()).await;
        assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
        assert_eq!(seen(stage).await, before);
        let report = promoted(stage, Version::Good, &way.quick()).await;
        let seen = seen(stage).await;
        assert!(seen.is_only(report.candidate, 2), "{seen:#?}");
    })
    .await;
    assert_lossless(&tally);
}

/// A test for each row.
macro_rules! scenarios {
    ($($name:ident: $play:ident($($with:expr),*);)*) => {$(
        pub(crate) async fn $name<S: Stage>(stage: &S) {
            $play(stage, $($with),*).await;
        }
    )*};
}

scenarios! {
    a_rolling_update_promotes: promotes(ROLLING);
    a_rolling_update_that_stops_first_promotes: promotes(STOP_FIRST);
    a_pooled_rolling_update_promotes: promotes(POOLED);
    a_pooled_rolling_update_that_stops_first_promotes: promotes(POOLED_STOP_FIRST);
    a_canary_promotes: promotes(CANARY);
    a_canary_whose_capacity_follows_promotes: promotes(FOLLOWING);

    a_rolling_update_undoes_whatever_is_bad: undoes_all(ROLLING);
    a_rolling_update_that_stops_first_undoes_whatever_is_bad: undoes_all(STOP_FIRST);
    a_pooled_rolling_update_undoes_whatever_is_bad: undoes_all(POOLED);
    a_pooled_rolling_update_that_stops_first_undoes_whatever_is_bad: undoes_all(POOLED_STOP_FIRST);
    a_canary_undoes_whatever_is_bad: undoes_all(CANARY);
    a_canary_whose_capacity_follows_undoes_whatever_is_bad: undoes_all(FOLLOWING);

    a_rolling_update_is_rolled_back_by_another: goes_back(ROLLING);
    a_pooled_rolling_update_is_rolled_back_by_another: goes_back(POOLED);
    a_canary_is_rolled_back_by_another: goes_back(CANARY);

    a_tcp_service_is_replaced_by_a_blue_green_rollout: promotes(Way::BlueGreen);
    a_tcp_service_is_replaced_by_a_rolling_update: promotes(ROLLING);
    a_tcp_service_is_replaced_by_a_canary: promotes(CANARY);
    a_tcp_service_that_crashes_is_undone: undoes_crashes();

    a_service_begins_by_a_rolling_update: begins(ROLLING);
    a_service_begins_by_a_canary: begins(CANARY);

    a_blue_green_rollout_replaces_a_stable_that_is_broken: mends(Way::BlueGreen);
    a_rolling_update_replaces_a_stable_that_is_broken: mends(ROLLING);
    a_canary_replaces_a_stable_that_is_broken: mends(CANARY);
    a_blue_green_rollout_replaces_a_stable_that_has_no_tasks: refills(Way::BlueGreen);
    a_rolling_update_replaces_a_stable_that_has_no_tasks: refills(ROLLING);
    a_canary_replaces_a_stable_that_has_no_tasks: refills(CANARY);

    a_blue_green_rollout_follows_a_desired_count_that_somebody_changes: follows(Way::BlueGreen);
    a_rolling_update_follows_a_desired_count_that_somebody_changes: follows(ROLLING);
    a_canary_follows_a_desired_count_that_somebody_changes: follows(CANARY);

    a_rolling_update_leaves_nothing_of_what_was_held_unless_it_fails: makes_room(ROLLING);
    a_canary_leaves_nothing_of_what_was_held_unless_it_fails: makes_room(CANARY);
}
