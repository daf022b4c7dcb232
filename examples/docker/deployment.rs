//! The deployment itself: what is deployed, by whom, and how.

use std::fmt;
use std::time::Duration;

use deploykit::docker::{Docker, DockerRegistry, HaProxy};
use deploykit::{
    Amount, BlueGreen, Canary, Deployer, DirectoryStore, GateUse, HttpGate, Judge, Result, Rolling,
    ServiceSpec, Strategy, Weight,
};

use crate::site::{HEALTH, PORT, Site};

/// How the new version comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    BlueGreen,
    Rolling,
    Canary,
}

impl How {
    pub(crate) const ALL: [Self; 3] = [Self::BlueGreen, Self::Rolling, Self::Canary];
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::BlueGreen => "blue-green",
            Self::Rolling => "rolling",
            Self::Canary => "canary",
        })
    }
}

/// The service as this example runs it: how each version says who it is, and how long it may take to end.
pub(crate) fn service(version: &str) -> ServiceSpec {
    ServiceSpec::http(PORT, HEALTH)
        .with_env("VERSION", version)
        .with_stop_grace(Duration::from_secs(5))
}

pub(crate) fn deployer(site: &Site, haproxy: &HaProxy) -> Result<Deployer> {
    // Over the test route, before anybody else gets there.
    let smoke = HttpGate::new("/").with_max_latency(Duration::from_secs(1));
    // Each of the new containers, while they serve. The header says that this is a test and no customer.
    let errors = HttpGate::new("/")
        .each_target()
        .with_max_latency(Duration::from_secs(1))
        .with_header("x-deploykit-test", site.service.as_str());
    Ok(Deployer::builder()
        .registry(DockerRegistry::new(site.engine.clone()))
        .orchestrator(Docker::new(site.engine.clone()).with_network(&site.network))
        .balancer(haproxy.clone())
        .store(DirectoryStore::open(site.dir.join("store"))?)
        .gate("smoke", smoke)
        .gate("errors", errors)
        .build())
}

pub(crate) fn strategy(how: How) -> Result<Box<dyn Strategy>> {
    let quick = Judge::new().with_interval(Duration::from_millis(100));
    let gate = |name| GateUse::new(name).with_judge(quick.clone());
    let (second, healthy, drain) =
        (Duration::from_secs(1), Duration::from_secs(20), Duration::from_secs(10));
    Ok(match how {
        How::BlueGreen => Box::new(
            BlueGreen::new()
                .healthy_within(healthy)
                .validate([gate("smoke")])
                .shift_in([Weight::percent(25)?, Weight::percent(50)?], second)
                .watch([gate("errors")])
                .bake(second * 2)
                .drain(drain),
        ),
        How::Rolling => Box::new(
            Rolling::new()
                .surge(Amount::percent(25)?)
                .unavailable(0)
                .healthy_within(healthy)
                .min_ready(second)
                .watch([gate("errors")])
                .drain(drain),
        ),
        How::Canary => Box::new(
            Canary::steps([
                (Weight::percent(5)?, second * 2),
                (Weight::percent(25)?, second),
                (Weight::percent(50)?, second),
            ])
            .healthy_within(healthy)
            .watch([gate("errors")])
            .bake(second * 2)
            .drain(drain),
        ),
    })
}
