//! The world of a case, and its deployers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use deploykit_core::{
    Approval, ApprovalRequest, Approver, Deployer, Error, ErrorKind, Measurement, MemoryStore,
    Place, Routing, ServiceName, gate_fn, hook_fn,
};
use deploykit_testing::{Behaviour, Tap, Throttle, World};
use tokio::time::sleep;

use crate::case::{Answer, Case, Gate, HookKind, JobKind, SECOND, SLOW_STOP, Version, ms};

#[derive(Debug)]
struct Answers(Answer);

#[async_trait]
impl Approver for Answers {
    async fn ask(&self, _: &ApprovalRequest) -> deploykit_core::Result<Approval> {
        match self.0 {
            Answer::Yes => Ok(Approval::Approved { by: "anna".into() }),
            Answer::No => Ok(Approval::Rejected { by: "anna".into(), why: "no".into() }),
            Answer::Late => {
                sleep(SECOND * 25).await;
                Ok(Approval::Approved { by: "anna".into() })
            }
            Answer::Never => std::future::pending().await,
            Answer::Away => Err(Error::new(ErrorKind::Unavailable, "away")),
            Answer::Error => Err(Error::new(ErrorKind::Denied, "denied")),
            Answer::Panic => panic!("{ON_PURPOSE}"),
        }
    }
}

/// What panics that are part of a case say.
pub(crate) const ON_PURPOSE: &str = "it panics on purpose";

fn behaviour(version: Version, job: Option<JobKind>) -> Behaviour {
    let good = Behaviour::good();
    let behaviour = match version {
        Version::Good => good,
        Version::SlowStart => good.starts_in(SECOND * 7),
        Version::SlowStop => good.stops_in(SLOW_STOP),
        Version::Crashes => good.crashes(),
        Version::NeverReady => good.never_ready(),
        Version::Dies => good.dies_after(SECOND * 6),
        Version::Flaps => good.flaps(SECOND * 4, SECOND * 3),
        Version::FlapsFast => good.flaps(ms(700), ms(300)),
        Version::Errors => good.errors_after_first_live_request(),
    };
    match job {
        Some(JobKind::Long) => behaviour.jobs_end_in(SECOND * 20),
        Some(JobKind::Fails) => behaviour.jobs_exit_with(1, "no"),
        Some(JobKind::Endless) => behaviour.jobs_never_end(),
        Some(JobKind::Good) | None => behaviour,
    }
}

/// A world, its store, and who deploys in it.
#[derive(Debug)]
pub(crate) struct Sky {
    pub(crate) world: World,
    pub(crate) web: ServiceName,
    store: MemoryStore,
    worker: bool,
}

impl Sky {
    pub(crate) fn new(case: &Case) -> Self {
        let world = World::new(case.seed);
        world.tune(|settings| {
            settings.call_time = ms(2);
            settings.routing_lag = ms(case.routing_lag);
            settings.registration_lag = ms(case.registration_lag);
        });
        let job = case.jobs.first().map(|(_, job)| *job);
        world.image("web:1", Behaviour::good()).unwrap();
        world.image("web:2", behaviour(case.version, job)).unwrap();
        world.image("web:3", Behaviour::good()).unwrap();
        let web = world.already_runs("web", "web:1", case.count).unwrap();
        Self { world, web, store: MemoryStore::new(), worker: case.worker }
    }

    /// The limits of a cloud, from here on.
    pub(crate) fn narrow(&self, case: &Case) {
        let throttle =
            case.throttle.map(|(calls, burst)| Throttle::per_second(calls).with_burst(burst));
        let room = case.room.map(|room| (case.count + room.more) as usize);
        self.world.tune(|settings| {
            settings.stale_reads = ms(case.stale);
            (settings.orchestrator_throttle, settings.balancer_throttle) = (throttle, throttle);
            settings.room = room;
        });
    }

    /// There is room for whatever waits.
    pub(crate) fn make_room(&self) {
        self.world.tune(|settings| settings.room = None);
    }

    pub(crate) fn deployer(&self, tap: &Tap) -> Deployer {
        let world = &self.world;
        let turns = Arc::new(AtomicU32::new(0));
        let mut builder = Deployer::builder()
            .registry(world.registry())
            .orchestrator(tap.wrap(world.orchestrator()))
            .without_balancer()
            .store(tap.wrap(self.store.clone()))
            .clock(world.clock())
            .owner("storm");
        for gate in Gate::ALL {
            let name = format!("{gate:?}");
            let turns = Arc::clone(&turns);
            builder = match gate {
                Gate::Live => builder.gate(name, world.http_gate("/").live()),
                Gate::Smoke => builder.gate(name, world.http_gate("/")),
                Gate::Good => {
                    builder.gate(name, gate_fn(|_| async { Ok(Measurement::pass("good")) }))
                }
                Gate::Bad => {
                    builder.gate(name, gate_fn(|_| async { Ok(Measurement::fail("bad")) }))
                }
                Gate::Hangs => builder.gate(name, gate_fn(|_| std::future::pending())),
                Gate::Flips => builder.gate(
                    name,
                    gate_fn(move |_| {
                        let turn = turns.fetch_add(1, Ordering::SeqCst);
                        async move {
                            match turn % 5 {
                                0 | 1 | 3 => Ok(Measurement::pass("good")),
                                2 => Ok(Measurement::inconclusive("who knows")),
                                _ => Err(Error::new(ErrorKind::Unavailable, "away")),
                            }
                        }
                    }),
                ),
            };
        }
        for hook in HookKind::ALL {
            builder = builder.hook(
                format!("{hook:?}"),
                hook_fn(move |_| async move {
                    match hook {
                        HookKind::Ok => Ok(()),
                        HookKind::Slow => {
                            sleep(SECOND * 3).await;
                            Ok(())
                        }
                        HookKind::Fails => Err(Error::invalid("it is Friday")),
                        HookKind::Panics => panic!("{ON_PURPOSE}"),
                        HookKind::Hangs => std::future::pending().await,
                    }
                }),
            );
        }
        for answer in Answer::ALL {
            builder = builder.approver(format!("{answer:?}"), Answers(answer));
        }
        if self.worker {
            builder.build()
        } else {
            builder.balancer(tap.wrap(world.balancer())).build()
        }
    }

    /// A deployer to which nothing happens.
    pub(crate) fn fresh(&self) -> Deployer {
        self.deployer(&Tap::new())
    }

    /// The place that serves and how many tasks it is to have, if the service is wholly one version. Where requests go is
    /// somebody else's business if that has been changed.
    pub(crate) fn whole(&self, rerouted: bool) -> Result<(Place, u32), String> {
        let seen = self.world.snapshot(&self.web);
        let mut places = seen
            .places
            .iter()
            .filter(|(_, p)| p.tasks > 0 || p.desired > 0 || (!self.worker && p.targets > 0));
        let (Some((place, only)), None) = (places.next(), places.next()) else {
            return Err(seen.to_string());
        };
        let desired = only.desired as usize;
        let mut good = [only.tasks, only.ready] == [desired; 2] && seen.jobs == 0;
        if !self.worker {
            good &= [only.targets, only.healthy] == [desired; 2] && seen.test_route.is_none();
            good &= seen.routing == Routing::all_to(*place) || rerouted;
        }
        if good { Ok((*place, only.desired)) } else { Err(seen.to_string()) }
    }

    /// Ready tasks, and all of them.
    pub(crate) fn capacity(&self) -> (usize, usize) {
        let seen = self.world.snapshot(&self.web);
        let places = seen.places.values();
        (places.clone().map(|p| p.ready).sum(), places.map(|p| p.tasks).sum())
    }

    /// Waits for the next change in the world.
    pub(crate) async fn changed(&self, at_most: Duration) {
        use deploykit_core::Orchestrator;
        self.world.orchestrator().changed(&self.web, at_most).await;
    }
}
