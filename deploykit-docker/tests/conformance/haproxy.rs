//! The load balancer. All services share the same few tasks, which is nothing to HAProxy.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use deploykit_core::{
    Endpoint, Entry, LoadBalancer, Orchestrator as _, Place, ServiceName, async_trait,
};
use deploykit_docker::{Frontend, HaProxy};
use deploykit_testing::conformance::{self, BalancerHarness, unique_service};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::PATIENCE;
use crate::tasks::Tasks;

struct Balancer {
    /// As two processes have it.
    handles: [HaProxy; 2],
    opened: AtomicUsize,
    tasks: BTreeMap<Place, Vec<Endpoint>>,
}

/// Starts it, or adopts the one that runs. It has the machine's own network, so that each service can have any port.
pub(crate) async fn start(name: &str, state: &Path) -> HaProxy {
    let builder = HaProxy::builder().name(name).image("deploykit/haproxy:parts").network("host");
    builder.state_dir(state).start().await.expect("run `cargo xtask parts` first")
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[async_trait]
impl BalancerHarness for Balancer {
    async fn open(&self) -> Arc<dyn LoadBalancer> {
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        Arc::new(self.handles[number % 2].clone())
    }

    async fn service(&self) -> ServiceName {
        let service = unique_service();
        let frontend = Frontend::new(free_port()).with_health_path("/health");
        let frontend = frontend.with_address([127, 0, 0, 1].into());
        self.handles[0].add_service(&service, &frontend).await.unwrap();
        service
    }

    async fn tasks(&self, _: &ServiceName, place: Place, count: u32) -> Vec<Endpoint> {
        self.tasks[&place].iter().take(count as usize).cloned().collect()
    }

    async fn ask(&self, _: &ServiceName, entry: &Entry) -> Option<Place> {
        let address = entry.url.strip_prefix("http://").unwrap();
        let headers = entry.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        let headers: String = headers.collect();
        let request = format!("GET / HTTP/1.0\r\nhost: {address}\r\n{headers}\r\n");
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        answer.split_once("\r\n\r\nversion ")?.1.trim().parse().ok()
    }

    async fn clean(&self, service: &ServiceName) {
        self.handles[0].remove_service(service).await.unwrap();
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_keeps_the_promises_of_a_load_balancer() {
    let (running, dir) = (Tasks::new("targets").await, tempfile::tempdir().unwrap());
    let name = format!("dkc-{}", std::process::id());
    let handles = [start(&name, dir.path()).await, start(&name, dir.path()).await];
    let service = unique_service();
    let mut tasks = BTreeMap::new();
    for place in [Place::A, Place::B] {
        let served = running.serve(&service, place, 2).await.into_iter();
        let endpoint = |task: deploykit_core::Task| Endpoint {
            task: task.id,
            address: task.address.expect("the Engine gives it one"),
        };
        tasks.insert(place, served.map(endpoint).collect());
    }
    let balancer = Balancer { handles, opened: AtomicUsize::new(0), tasks };
    let report = conformance::balancer(&balancer).await;
    balancer.handles[0].remove().await.unwrap();
    for place in [Place::A, Place::B] {
        running.docker().await.retire(&service, place).await.unwrap();
    }
    println!("{report}");
    report.assert_kept();
}
