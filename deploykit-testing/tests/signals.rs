//! What the process that deploys is asked by signals. The signals are real, and so is the time.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use std::process::Command;
use std::time::Duration;

use deploykit_core::{
    BlueGreen, Change, Deployer, ErrorKind, MemoryStore, Outcome, Place, Result, Rollout, Routing,
    ServiceName, Signals, UpdateKind,
};
use deploykit_testing::{Behaviour, Fault, Operation, Tap, World};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::sleep;

const LONG: Duration = Duration::from_secs(3_600);
/// Between two looks whether it is so.
const A_MOMENT: Duration = Duration::from_millis(5);

/// Signals are for the whole process: one test at a time, where one process runs them all.
static ALONE: Mutex<()> = Mutex::const_new(());

struct Stage {
    world: World,
    web: ServiceName,
    store: MemoryStore,
    signals: Signals,
    _alone: MutexGuard<'static, ()>,
}

impl Stage {
    async fn new() -> Self {
        let _alone = ALONE.lock().await;
        let world = World::new(3);
        for image in ["web:1", "web:2"] {
            world.image(image, Behaviour::good()).unwrap();
        }
        let web = world.already_runs("web", "web:1", 2).unwrap();
        let (store, signals) = (MemoryStore::new(), Signals::catch().unwrap());
        Self { world, web, store, signals, _alone }
    }

    fn deployer(&self, tap: &Tap) -> Deployer {
        let deployer = self.world.deployer().orchestrator(tap.wrap(self.world.orchestrator()));
        deployer.store(tap.wrap(self.store.clone())).build()
    }

    /// A rollout whose new version gets all requests and is watched for an hour.
    async fn bakes(&self, tap: &Tap) -> Rollout {
        let (deployer, strategy) = (self.deployer(tap), BlueGreen::new().bake(LONG));
        let plan = deployer.plan(&self.web, &strategy, Change::to("web:2")).await.unwrap();
        let mut rollout = deployer.deploy(plan).await.unwrap();
        let mut updates = rollout.updates();
        while !matches!(updates.next().await.unwrap().kind, UpdateKind::Step { name, .. } if name == "soak")
        {
        }
        rollout
    }

    fn is_whole(&self) -> bool {
        let seen = self.world.snapshot(&self.web);
        seen.routing == Routing::all_to(Place::A) && seen.places.len() == 1
    }
}

fn send(signal: &str) {
    let to = std::process::id().to_string();
    assert!(Command::new("kill").args([signal, &to]).status().unwrap().success());
}

/// Sends a signal, and a second one when the undoing hangs where nothing may end it.
async fn hangs(stage: &mut Stage, tap: &Tap, within: Duration, second: bool) -> Result<()> {
    let rollout = stage.bakes(tap).await;
    stage.world.fail(Fault::delay(Operation::Retire, LONG));
    let world = stage.world.clone();
    send("-TERM");
    let sent = async {
        while world.count(Operation::Retire) == 0 {
            sleep(A_MOMENT).await;
        }
        if second {
            send("-TERM");
        }
    };
    let (ended, ()) = tokio::join!(stage.signals.steer(rollout, within), sent);
    ended.map(drop)
}

#[tokio::test]
async fn the_first_signal_undoes_the_rollout() {
    let mut stage = Stage::new().await;
    let rollout = stage.bakes(&Tap::new()).await;
    send("-TERM");
    let report = stage.signals.steer(rollout, LONG).await.unwrap();
    assert_eq!(report.outcome, Outcome::Aborted { by: "SIGTERM".to_owned() });
    assert!(stage.is_whole());
}

#[tokio::test]
async fn the_second_signal_leaves_what_another_process_recovers() {
    let (mut stage, tap) = (Stage::new().await, Tap::new());
    let left = hangs(&mut stage, &tap, LONG, true).await.unwrap_err();
    assert!(left.to_string().contains("recover"), "{left}");
    // The process ends.
    tap.kill();
    stage.world.heal();
    // So does its lease. From here on no signal is awaited, so time can pass by itself.
    tokio::time::pause();
    sleep(Duration::from_secs(60)).await;
    let recovered = stage.deployer(&Tap::new()).recover(&stage.web).await.unwrap().unwrap();
    assert_eq!(recovered.await.unwrap().outcome, Outcome::Aborted { by: "SIGTERM".to_owned() });
    assert!(stage.is_whole());
}

#[tokio::test]
async fn an_undoing_that_takes_longer_than_it_may_is_left() {
    let (mut stage, tap) = (Stage::new().await, Tap::new());
    let left = hangs(&mut stage, &tap, Duration::from_millis(300), false).await.unwrap_err();
    assert_eq!(left.kind(), ErrorKind::Timeout);
}
