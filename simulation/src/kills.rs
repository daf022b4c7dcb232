//! The deployer dies before, and after, every single call that it makes: exhaustive where the storms are drawn.
//!
//! Between two calls nothing happens that anybody but the deployer can see, so a death at any other await is one of these.

use std::process::ExitCode;
use std::time::Instant;

use deploykit_core::{Amount, OnOrphan};

use crate::case::{Answer, Approve, Case, Fault, Gate, Harm, Side, Steps, Version, Way};
use crate::run;

/// The strategies, with every kind of step among them.
fn ways() -> Vec<(&'static str, Way)> {
    let blue_green = |shares: &[u16], gate, hold| Way::BlueGreen {
        validate: gate,
        shares: shares.to_vec(),
        between: 1_000,
        watch: gate,
        bake: 1_000,
        hold,
    };
    let canary = |follow, approve| Way::Canary {
        steps: Steps::Own(vec![(100, 1_000), (500, 1_000)]),
        watch: Some(Gate::Live),
        follow,
        bake: 1_000,
        hold: 0,
        approve,
    };
    let by_a_person = Approve { share: 100, by: Some(Answer::Yes), within: 60_000 };
    let (none, one) = (Amount::Count(0), Amount::Count(1));
    let rolling = |surge, unavailable, pooled| Way::Rolling {
        surge,
        unavailable,
        pooled,
        min_ready: 1_000,
        watch: Some(Gate::Live),
    };
    vec![
        ("blue/green", blue_green(&[], None, 0)),
        ("blue/green in shares", blue_green(&[100, 500], Some(Gate::Live), 3_600_000)),
        ("canary", canary(false, None)),
        ("canary, approved", canary(true, Some(by_a_person))),
        ("rolling, starts first", rolling(one, none, false)),
        ("rolling, stops first", rolling(none, one, false)),
        ("rolling, pooled", rolling(one, one, true)),
    ]
}

const VERSIONS: [Version; 5] =
    [Version::Good, Version::Crashes, Version::NeverReady, Version::Errors, Version::Dies];

/// Kills everywhere, and tells how often. `every` leaves out all but each so manieth call.
pub(crate) fn sweep(every: u32, tell: impl Fn(&str)) -> Result<u64, Box<(Case, String)>> {
    let mut kills = 0;
    for (name, way) in ways() {
        for version in VERSIONS {
            for orphan in [OnOrphan::Undo, OnOrphan::Continue] {
                let before = kills;
                for blow in [Harm::KillBefore, Harm::KillAfter] {
                    let mut nth = 1;
                    while struck(&way, version, orphan, blow, nth)? {
                        kills += 1;
                        nth += every;
                    }
                }
                tell(&format!("{name}, {version:?}, {orphan:?}: {} kills", kills - before));
            }
        }
    }
    Ok(kills)
}

/// One death; says whether the deployer makes so many calls.
fn struck(
    way: &Way,
    version: Version,
    orphan: OnOrphan,
    blow: Harm,
    nth: u32,
) -> Result<bool, Box<(Case, String)>> {
    let case = Case {
        seed: 7,
        count: 3,
        worker: false,
        way: way.clone(),
        replicas: None,
        version,
        routing_lag: 0,
        registration_lag: 50,
        stale: 0,
        throttle: None,
        room: None,
        rate: 20,
        orphan,
        hooks: vec![],
        jobs: vec![],
        deeds: vec![],
        faults: vec![Fault { side: Side::Any, stage: None, nth, times: 1, blow }],
        calm: None,
    };
    let run = run::run(&case, false);
    match run.found {
        Err(failure) => Err(Box::new((case, format!("{:?}: {}", failure.what, failure.why)))),
        Ok(()) => Ok(!run.met.is_empty()),
    }
}

/// The whole sweep, told on the way.
pub(crate) fn tell() -> ExitCode {
    let began = Instant::now();
    let swept = sweep(1, |line| println!("  {line}"));
    let seconds = (began.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    match swept {
        Ok(kills) => {
            println!(
                "{}",
                serde_json::json!({ "kills": kills, "violations": 0, "seconds": seconds })
            );
            ExitCode::SUCCESS
        }
        Err(failed) => {
            let (case, why) = *failed;
            println!(
                "WRONG, {why}\n--- to be run again with --replay '{}'",
                serde_json::json!(case)
            );
            ExitCode::FAILURE
        }
    }
}
