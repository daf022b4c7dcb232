//! Images from a real registry.

use std::sync::Arc;
use std::time::Duration;

use deploykit::docker::DockerRegistry;
use deploykit::{Change, Deployer, ErrorKind, Outcome, Place};

use crate::docker::{Docker, engine, play, registrys_container, try_engine};
use crate::scenarios::see::*;
use crate::scenarios::stage::{Kind, Providers, Stage, assemble};

/// A registry of a test's own.
struct TestRegistry {
    container: String,
    address: String,
}

impl TestRegistry {
    fn start(stage: &Docker) -> Self {
        let container = registrys_container(&stage.basics().service);
        let image = "deploykit/registry:parts";
        engine(&["run", "--detach", "--name", &container, "--publish", "127.0.0.1:0:5000", image]);
        let address = engine(&["port", &container, "5000/tcp"]).swap_remove(0);
        Self { container, address }
    }

    /// Puts a test image under a tag, and leaves nothing of that on the Engine.
    async fn push(&self, version: &str, tag: &str) -> String {
        let name = format!("{}/team/web:{tag}", self.address);
        engine(&["tag", &format!("deploykit/testbed:{version}"), &name]);
        let pushed = async {
            // It accepts connections before it listens.
            while try_engine(&["push", "--quiet", &name]).is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Docker::PATIENCE, pushed).await.expect("the registry answers");
        self.forget(&name);
        name
    }

    fn forget(&self, name: &str) {
        let _ = try_engine(&["rmi", name]);
    }

    /// Forgets whatever was pulled from it.
    fn forget_all(&self) {
        let pulled = format!("reference={}/*/*", self.address);
        let format = "{{.Repository}}@{{.Digest}}";
        for name in engine(&["images", "--digests", "--filter", &pulled, "--format", format]) {
            self.forget(&name);
        }
    }
}

impl Drop for TestRegistry {
    fn drop(&mut self) {
        self.forget_all();
    }
}

async fn deployer(stage: &Docker) -> Deployer {
    let registry = Arc::new(DockerRegistry::new(stage.engine.clone()));
    assemble(
        stage,
        "alice",
        Providers { registry, ..stage.providers().await },
        &stage.basics().log.another(),
    )
}

async fn deploy(stage: &Docker, deployer: &Deployer, change: Change) -> deploykit::Report {
    let plan = deployer.plan(&stage.basics().service, &plain(), change).await.unwrap();
    Run::new::<Docker>(deployer.deploy(plan).await.unwrap()).end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_moves_is_deployed_by_what_it_means_and_no_request_is_lost() {
    play(async |stage: &Docker| {
        let registry = TestRegistry::start(stage);
        let deployer = deployer(stage).await;
        let image = registry.push("good", "latest").await;
        let first = Change::to(&image).with_spec(Kind::Http.spec()).with_replicas(2);
        let first = deploy(stage, &deployer, first).await;
        assert_eq!(first.outcome, Outcome::Promoted, "{first}");

        registry.push("good-b", "latest").await;
        let (second, tally) =
            under_load(stage, async || deploy(stage, &deployer, Change::to(&image)).await).await;
        assert_eq!(second.outcome, Outcome::Promoted, "{second}");
        assert_lossless(&tally);
        assert!(tally.answers_of("A") > 0 && tally.answers_of("B") > 0, "{tally}");
        assert_ne!(first.release.digest, second.release.digest);
        assert!(seen(stage).await.is_only(Place::B, 2));

        // The first one is brought back by its digest, though no tag names it any more.
        registry.forget_all();
        let rollout = deployer.rollback(&stage.basics().service, &plain()).await.unwrap();
        let back = Run::new::<Docker>(rollout).end().await;
        assert_eq!((&back.outcome, &back.release), (&Outcome::Promoted, &first.release), "{back}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_registry_does_not_have_or_say_is_named_before_anything_has_moved() {
    play(async |stage: &Docker| {
        let before = serving(stage).await;
        let registry = TestRegistry::start(stage);
        let deployer = deployer(stage).await;
        let service = &stage.basics().service;
        let image = registry.push("good-b", "1").await;
        let unknown = format!("{}/team/web:2", registry.address);
        let error = refused(stage, deployer.plan(service, &plain(), Change::to(&unknown))).await;
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(error.message().contains(&unknown), "{error}");

        // A digest is believed; that it is not there is found out when it is needed.
        let digest = format!("{}/team/web@sha256:{}", registry.address, "0".repeat(64));
        let report = deploy(stage, &deployer, Change::to(&digest)).await;
        assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
        assert!(report.why.as_ref().unwrap().contains(&registry.address), "{report}");
        assert_eq!(stage.basics().log.count(is_launch), 0);
        assert_eq!(seen(stage).await, before);

        engine(&["stop", "--time", "0", &registry.container]);
        let error = refused(stage, deployer.plan(service, &plain(), Change::to(&image))).await;
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.message().contains(&registry.address), "{error}");
    })
    .await;
}
