//! Providers behind `Arc` and `Box` are providers. A method that a wrapper forgets would silently take a default, so a
//! missing one is refused.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::*;
use crate::error::Result;
use crate::image::{ImageRef, PinnedImage};
use crate::name::{Place, RevisionId, ServiceName, TaskId};
use crate::release::Release;
use crate::routing::Routing;

macro_rules! forward {
    ($($pointer:ident),*) => {$(
        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<T: Registry + ?Sized> Registry for $pointer<T> {
            async fn resolve(&self, image: &ImageRef) -> Result<PinnedImage> {
                (**self).resolve(image).await
            }
            async fn publish(&self, publish: &Publish) -> Result<PinnedImage> {
                (**self).publish(publish).await
            }
            async fn tag(&self, image: &PinnedImage, tags: &[&str]) -> Result<PinnedImage> {
                (**self).tag(image, tags).await
            }
        }

        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<T: Orchestrator + ?Sized> Orchestrator for $pointer<T> {
            fn capability(&self) -> OrchestratorCapability {
                (**self).capability()
            }
            async fn observe(&self, service: &ServiceName) -> Result<ServiceState> {
                (**self).observe(service).await
            }
            async fn register(&self, service: &ServiceName, release: &Release) -> Result<RevisionId> {
                (**self).register(service, release).await
            }
            async fn describe(&self, service: &ServiceName, revision: &RevisionId) -> Result<Release> {
                (**self).describe(service, revision).await
            }
            async fn launch(&self, launch: &Launch) -> Result<()> {
                (**self).launch(launch).await
            }
            async fn stop(&self, service: &ServiceName, place: Place, tasks: &[TaskId]) -> Result<()> {
                (**self).stop(service, place, tasks).await
            }
            async fn retire(&self, service: &ServiceName, place: Place) -> Result<()> {
                (**self).retire(service, place).await
            }
            async fn start_job(&self, job: &JobRun, revision: &RevisionId) -> Result<()> {
                (**self).start_job(job, revision).await
            }
            async fn await_job(&self, job: &JobRun, at_most: Duration) -> Result<JobState> {
                (**self).await_job(job, at_most).await
            }
            async fn remove_jobs(&self, service: &ServiceName) -> Result<()> {
                (**self).remove_jobs(service).await
            }
            async fn changed(&self, service: &ServiceName, at_most: Duration) {
                (**self).changed(service, at_most).await;
            }
        }

        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<T: LoadBalancer + ?Sized> LoadBalancer for $pointer<T> {
            fn capability(&self) -> BalancerCapability {
                (**self).capability()
            }
            async fn capability_for(&self, service: &ServiceName) -> Result<BalancerCapability> {
                (**self).capability_for(service).await
            }
            async fn observe(&self, service: &ServiceName) -> Result<BalancerState> {
                (**self).observe(service).await
            }
            async fn set_routing(&self, service: &ServiceName, routing: &Routing) -> Result<()> {
                (**self).set_routing(service, routing).await
            }
            async fn set_test_route(&self, service: &ServiceName, place: Option<Place>) -> Result<()> {
                (**self).set_test_route(service, place).await
            }
            async fn add_targets(&self, service: &ServiceName, place: Place, targets: &[Endpoint]) -> Result<()> {
                (**self).add_targets(service, place, targets).await
            }
            async fn remove_targets(&self, service: &ServiceName, place: Place, tasks: &[TaskId]) -> Result<()> {
                (**self).remove_targets(service, place, tasks).await
            }
            async fn drain(&self, service: &ServiceName, place: Place, tasks: &[TaskId]) -> Result<()> {
                (**self).drain(service, place, tasks).await
            }
            async fn changed(&self, service: &ServiceName, at_most: Duration) {
                (**self).changed(service, at_most).await;
            }
        }

        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<T: HealthGate + ?Sized> HealthGate for $pointer<T> {
            async fn measure(&self, context: &GateContext) -> Result<Measurement> {
                (**self).measure(context).await
            }
        }
    )*};
}

forward!(Arc, Box);
