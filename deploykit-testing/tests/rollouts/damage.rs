//! What is left of a store that was damaged, and what is made of it.

use std::path::PathBuf;

use deploykit_core::{
    Ask, BlueGreen, Change, Deployer, DirectoryStore, ErrorKind, OnOrphan, Outcome, Place, Result,
    Rollout, Routing, Supervised,
};
use deploykit_testing::{Blow, Part, Tap, World};
use tokio::time::sleep;

use crate::stage::{LEASE, SECOND, Stage, half};

/// A service whose store is a directory.
struct Shelf {
    stage: Stage,
    dir: tempfile::TempDir,
}

impl Shelf {
    fn new() -> Self {
        Self { stage: Stage::new(), dir: tempfile::tempdir().unwrap() }
    }

    fn world(&self) -> &World {
        &self.stage.world
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join("web").join(path)
    }

    fn deployer(&self, tap: &Tap) -> Deployer {
        let world = self.world();
        Deployer::builder()
            .registry(world.registry())
            .orchestrator(tap.wrap(world.orchestrator()))
            .balancer(tap.wrap(world.balancer()))
            .store(tap.wrap(DirectoryStore::open(self.dir.path()).unwrap()))
            .clock(world.clock())
            .build()
    }

    async fn begin(&self, tap: &Tap, image: &str) -> Result<Rollout> {
        let strategy = BlueGreen::new().shift_in([half()], SECOND * 5).bake(SECOND * 5);
        self.deployer(tap).rollout(&self.stage.web, &strategy, Change::to(image)).await
    }

    async fn deploy(&self, image: &str) -> Outcome {
        self.begin(&Tap::new(), image).await.unwrap().await.unwrap().outcome
    }

    /// A rollout whose deployer died while the new version got all requests, and whose journal somebody has edited.
    async fn orphan(&self, edit: impl Fn(&mut Vec<&str>)) {
        let tap = Tap::new();
        let rollout = self.begin(&tap, "web:2").await.unwrap();
        let web = &self.stage.web;
        let all = Routing::all_to(Place::B);
        self.stage.until(|world| world.snapshot(web).routing == all).await;
        sleep(SECOND).await;
        tap.kill();
        sleep(LEASE).await;
        let name = rollout.id().unwrap().to_string();
        drop(rollout);
        let file = self.path(&format!("journal/{name}.jsonl"));
        let text = std::fs::read_to_string(&file).unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        edit(&mut lines);
        std::fs::write(&file, lines.join("\n") + "\n").unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_lacks_a_line_or_has_two_swapped_is_not_followed() {
    let edits: [fn(&mut Vec<&str>); 4] = [
        |lines| {
            lines.remove(0);
        },
        |lines| {
            lines.remove(1);
        },
        |lines| {
            lines.remove(2);
        },
        |lines| lines.swap(1, 2),
    ];
    for (number, edit) in edits.into_iter().enumerate() {
        let shelf = Shelf::new();
        shelf.orphan(edit).await;
        let web = &shelf.stage.web;
        let error = shelf.deployer(&Tap::new()).recover(web).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{number}: {error}");
        assert_eq!(shelf.world().snapshot(web).routing, Routing::all_to(Place::B), "{number}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_whose_history_is_lost_is_deployed_anew_beside_its_old_journals() {
    let shelf = Shelf::new();
    for image in ["web:2", "web:1"] {
        assert_eq!(shelf.deploy(image).await, Outcome::Promoted);
    }
    std::fs::remove_file(shelf.path("history.jsonl")).unwrap();
    assert_eq!(shelf.deploy("web:3").await, Outcome::Promoted);
    let status = shelf.deployer(&Tap::new()).status(&shelf.stage.web).await.unwrap();
    assert_eq!(status.release.unwrap().image.asked.to_string(), "web:3");
    assert_eq!(shelf.stage.whole(), Ok(status.stable.unwrap().place));
}

#[tokio::test(start_paused = true)]
async fn a_history_that_is_lost_in_a_rollout_is_told_at_its_end() {
    let shelf = Shelf::new();
    let rollout = shelf.begin(&Tap::new(), "web:2").await.unwrap();
    sleep(SECOND).await;
    std::fs::remove_file(shelf.path("history.jsonl")).unwrap();
    assert_eq!(rollout.await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_one_service_does_not_end_the_supervision_of_the_others() {
    let shelf = Shelf::new();
    std::fs::write(shelf.dir.path().join("notes"), "").unwrap();
    std::fs::create_dir(shelf.dir.path().join("api")).unwrap();
    std::fs::write(shelf.dir.path().join("api/journal"), "").unwrap();
    shelf.orphan(|_| {}).await;
    let done = shelf.deployer(&Tap::new()).supervise().await.unwrap();
    let web = done.into_iter().find(|(service, _)| *service == shelf.stage.web);
    assert!(matches!(web, Some((_, Ok(Supervised::Recovered(_))))), "{web:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_nobody_could_read_is_refused() {
    let shelf = Shelf::new();
    let _rollout = shelf.begin(&Tap::new(), "web:2").await.unwrap();
    std::fs::create_dir_all(shelf.path("ask")).unwrap();
    std::fs::write(shelf.path("ask/web-1.jsonl"), "rubbish\n").unwrap();
    let asked = shelf.deployer(&Tap::new()).ask(&shelf.stage.web, Ask::Abort, "ann").await;
    assert_eq!(asked.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test(start_paused = true)]
async fn a_rollout_whose_first_two_deployers_died_at_once_is_recovered() {
    let stage = Stage::new();
    let strategy = BlueGreen::new().on_orphan(OnOrphan::Continue);
    let plan = stage.plan(&strategy, "web:2").await;
    let dies = Tap::new();
    dies.strike_by(|name, _, _| (name == "append").then_some(Blow::Die));
    let _first = stage.deployer(&dies).deploy(plan).await;
    sleep(LEASE).await;
    for _ in 0..2 {
        let dies = Tap::new();
        dies.strike_by(|name, part, _| {
            (part == Part::Provider || name == "release").then_some(Blow::DieBefore)
        });
        if let Ok(Some(rollout)) = stage.deployer(&dies).recover(&stage.web).await {
            let _ = rollout.await;
        }
        sleep(LEASE).await;
    }
    stage.clean_up().await;
    assert_eq!(stage.whole(), Ok(Place::B));
}
