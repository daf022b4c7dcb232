//! A registry, spoken to directly and asked through the Engine.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bollard::models::{ContainerCreateBody, HostConfig, NetworkCreateRequest, PortBinding};
use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder};
use deploykit_core::{ImageRef, Publish, Registry, async_trait};
use deploykit_docker::{DockerRegistry, Engine, Logins, OciRegistry};
use deploykit_testing::conformance::{self, RegistryHarness, Report};

use tempfile::TempDir;

use crate::PATIENCE;
use crate::layout::layout;

#[derive(Clone)]
struct Directly {
    /// `127.0.0.1:PORT`.
    registry: String,
    engine: Engine,
    /// What is published. It is small: packing layers is not what is checked.
    layout: Arc<TempDir>,
}

#[async_trait]
impl RegistryHarness for Directly {
    async fn open(&self) -> Arc<dyn Registry> {
        Arc::new(OciRegistry::new().with_engine(self.engine.clone()))
    }

    async fn image(&self) -> ImageRef {
        ImageRef::parse(&format!("{}/conformance:1", self.registry)).unwrap()
    }

    async fn publish(&self, unique: &str) -> Option<Publish> {
        let repository = format!("{}/{unique}", self.registry);
        Some(Publish::layout(self.layout.path(), &repository, ["1", "1.4"]).unwrap())
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }
}

/// The same images, asked for through the Engine.
struct ByEngine(Directly);

#[async_trait]
impl RegistryHarness for ByEngine {
    async fn open(&self) -> Arc<dyn Registry> {
        Arc::new(DockerRegistry::new(self.0.engine.clone()))
    }

    async fn image(&self) -> ImageRef {
        self.0.image().await
    }

    async fn publish(&self, _: &str) -> Option<Publish> {
        None
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }
}

/// Checks something against a registry of its own, which holds `conformance:1`.
async fn on_registry<F: Future<Output = Report>>(name: &str, check: impl FnOnce(Directly) -> F) {
    let client = bollard::Docker::connect_with_defaults().unwrap();
    let client = client.negotiate_version().await.unwrap();
    let container = format!("dkc-{name}-{}", std::process::id());
    let loopback = PortBinding { host_ip: Some("127.0.0.1".into()), host_port: Some("0".into()) };
    let host = HostConfig {
        network_mode: Some(container.clone()),
        port_bindings: Some([("5000/tcp".into(), Some(vec![loopback]))].into()),
        ..HostConfig::default()
    };
    let body = ContainerCreateBody {
        image: Some("deploykit/registry:parts".into()),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    };
    // Of its own, so that nothing depends on the machine's default network.
    let network = NetworkCreateRequest { name: container.clone(), ..Default::default() };
    client.create_network(network).await.unwrap();
    let options = CreateContainerOptionsBuilder::new().name(&container).build();
    client.create_container(Some(options), body).await.expect("run `cargo xtask parts` first");
    client.start_container(&container, None).await.unwrap();
    let found = client.inspect_container(&container, None).await.unwrap();
    let ports = found.network_settings.unwrap().ports.unwrap();
    let port = ports["5000/tcp"].as_ref().unwrap()[0].host_port.clone().unwrap();
    let engine = Engine::connect().await.unwrap();
    let engine = engine.with_logins(Logins::new().without_docker_config());
    let dir = tempfile::tempdir().unwrap();
    layout(dir.path(), 1_000);
    let harness = Directly { layout: Arc::new(dir), registry: format!("127.0.0.1:{port}"), engine };
    let seed = harness.publish("conformance").await.unwrap();
    // The Engine accepts connections before anybody listens behind them.
    let seeded = async {
        while let Err(error) = harness.open().await.publish(&seed).await {
            assert!(error.is_temporary(), "{}", error.report());
        }
    };
    let seeded = tokio::time::timeout(PATIENCE, seeded).await;
    let report = check(harness).await;
    let force = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    client.remove_container(&container, Some(force)).await.unwrap();
    client.remove_network(&container).await.unwrap();
    seeded.expect("the registry answers");
    println!("{report}");
    report.assert_kept();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_spoken_to_directly_keeps_the_promises() {
    on_registry("oci", async |harness| conformance::registry(&harness).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_asked_through_the_engine_keeps_the_promises() {
    on_registry("engine", async |harness| conformance::registry(&ByEngine(harness)).await).await;
}
