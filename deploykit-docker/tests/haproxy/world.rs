//! A HAProxy of a test's own on the real Engine, with targets, gone when the test ends, however it ends.

use std::fmt::Debug;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
    RestartContainerOptionsBuilder,
};
use deploykit_core::{
    BalancerState, Endpoint, LoadBalancer, Place, Routing, ServiceName, TaskId, Weight,
};
use deploykit_docker::{Frontend, HaProxy, HaProxyBuilder};
use deploykit_testing::load::Load;
use futures::TryStreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// Far more than anything takes here; only a failure waits for it.
const DEADLINE: Duration = Duration::from_secs(30);

/// On which ports of HAProxy the service and its testers are.
pub(crate) const LIVE: u16 = 8080;
pub(crate) const TEST: u16 = 8081;

#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) haproxy: HaProxy,
    pub(crate) service: ServiceName,
    pub(crate) state: PathBuf,
    /// For looking behind the scenes.
    pub(crate) client: bollard::Docker,
    name: String,
    tasks: Arc<Mutex<Vec<String>>>,
}

/// Runs a test on a HAProxy that has the service `web`, closed, and on a network of its own.
pub(crate) async fn on_haproxy<F>(name: &str, test: impl FnOnce(World) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    on_haproxy_with(name, frontend(), test).await;
}

pub(crate) fn frontend() -> Frontend {
    Frontend::new(LIVE).with_health_path("/health")
}

pub(crate) async fn on_haproxy_with<F>(
    name: &str,
    frontend: Frontend,
    test: impl FnOnce(World) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    run(name, builder, frontend, test).await;
}

/// Runs a test on a HAProxy that has the machine's own network, so that targets can be servers of the test itself.
pub(crate) async fn on_machine<F>(name: &str, frontend: Frontend, test: impl FnOnce(World) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let frontend = frontend.with_address([127, 0, 0, 1].into());
    run(name, builder_on_machine, frontend, test).await;
}

/// A port that nobody has.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn run<F>(
    name: &str,
    builder: impl FnOnce(&str, &Path) -> HaProxyBuilder,
    frontend: Frontend,
    test: impl FnOnce(World) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let name = format!("dkh-{name}-{}", std::process::id());
    let dir = tempfile::tempdir().unwrap();
    let service = ServiceName::new("web").unwrap();
    let haproxy = builder(&name, dir.path()).start().await.expect("run `cargo xtask parts` first");
    let world = World {
        haproxy,
        service,
        state: dir.path().to_owned(),
        client: bollard::Docker::connect_with_defaults().unwrap(),
        name,
        tasks: Arc::default(),
    };
    if let Err(error) = world.haproxy.add_service(&world.service, &frontend).await {
        world.haproxy.remove().await.unwrap();
        panic!("{error:?}");
    }
    let result = tokio::spawn(test(world.clone())).await;
    if result.is_err() {
        world.tell().await;
    }
    let tasks = std::mem::take(&mut *world.tasks.lock().unwrap());
    for task in tasks {
        world.kill(&task).await;
    }
    world.haproxy.remove().await.unwrap();
    if let Err(failed) = result {
        std::panic::resume_unwind(failed.into_panic());
    }
}

pub(crate) fn builder(name: &str, state: &Path) -> HaProxyBuilder {
    builder_on_machine(name, state)
        .network(name)
        .publish(format!("127.0.0.1:0:{LIVE}"))
        .publish(format!("127.0.0.1:0:{TEST}"))
}

pub(crate) fn builder_on_machine(name: &str, state: &Path) -> HaProxyBuilder {
    let image = "deploykit/haproxy:parts";
    HaProxy::builder().name(name).image(image).network("host").state_dir(state)
}

impl World {
    pub(crate) fn builder(&self) -> HaProxyBuilder {
        builder(&self.name, &self.state)
    }

    pub(crate) fn container(&self) -> String {
        format!("deploykit-haproxy-{}", self.name)
    }

    /// Starts a container of the test image that names itself `version`.
    pub(crate) async fn task(&self, version: &str, mode: &str) -> Endpoint {
        let number = self.tasks.lock().unwrap().len();
        let name = format!("{}-{version}-{number}", self.name);
        self.tasks.lock().unwrap().push(name.clone());
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        let body = ContainerCreateBody {
            image: Some("deploykit/testbed:good".into()),
            env: Some(vec![format!("VERSION={version}"), format!("MODE={mode}")]),
            host_config: Some(HostConfig {
                network_mode: Some(self.name.clone()),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        self.client.create_container(Some(options), body).await.unwrap();
        self.client.start_container(&name, None).await.unwrap();
        let seen = self.client.inspect_container(&name, None).await.unwrap();
        let networks = seen.network_settings.unwrap().networks.unwrap();
        let ip = networks[&self.name].ip_address.clone().unwrap();
        Endpoint { task: TaskId::new(name), address: format!("{ip}:8080") }
    }

    /// What HAProxy has to say about a test that failed.
    async fn tell(&self) {
        let seen = self.client.inspect_container(&self.container(), None).await.unwrap();
        eprintln!("HAProxy, restarted {:?} times: {:?}", seen.restart_count, seen.state);
        let all = LogsOptionsBuilder::new().stdout(true).stderr(true).tail("60").build();
        let lines: Vec<_> =
            self.client.logs(&self.container(), Some(all)).try_collect().await.unwrap();
        lines.iter().for_each(|line| eprint!("{line}"));
    }

    pub(crate) async fn kill(&self, task: &str) {
        let force = RemoveContainerOptionsBuilder::new().force(true).build();
        self.client.remove_container(task, Some(force)).await.ok();
    }

    /// Gives a place so many healthy tasks, which name themselves as the place.
    pub(crate) async fn serve(&self, place: Place, count: u32) -> Vec<Endpoint> {
        let mut tasks = Vec::new();
        for _ in 0..count {
            tasks.push(self.task(&place.to_string(), "good").await);
        }
        self.haproxy.add_targets(&self.service, place, &tasks).await.unwrap();
        self.until("healthy", |state| state.healthy(place) == count).await;
        tasks
    }

    /// Removes targets, whatever they do.
    pub(crate) async fn remove(&self, place: Place, tasks: &[TaskId]) {
        self.haproxy.remove_targets(&self.service, place, tasks).await.unwrap();
    }

    /// Gives a place so many healthy tasks, and all requests.
    pub(crate) async fn live(&self, place: Place, count: u32) -> Vec<Endpoint> {
        let tasks = self.serve(place, count).await;
        self.route(&Routing::all_to(place)).await;
        tasks
    }

    pub(crate) async fn route(&self, routing: &Routing) {
        self.haproxy.set_routing(&self.service, routing).await.unwrap();
    }

    pub(crate) async fn observe(&self) -> BalancerState {
        self.haproxy.observe(&self.service).await.unwrap()
    }

    pub(crate) async fn until(
        &self,
        wanted: &str,
        is_so: impl Fn(&BalancerState) -> bool + Send + Sync,
    ) -> BalancerState {
        let mut last = None;
        let wait = async {
            loop {
                // While HAProxy restarts it cannot be asked.
                last = self.haproxy.observe(&self.service).await.ok();
                if let Some(state) = last.clone().filter(&is_so) {
                    return state;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(DEADLINE, wait).await {
            Ok(state) => state,
            Err(_) => panic!("not {wanted} in {DEADLINE:?}, but {last:#?}"),
        }
    }

    /// The whole load on the service: POST, slow ones, new and kept connections, a WebSocket.
    pub(crate) async fn load(&self) -> Load {
        Load::new(self.observe().await.entry.unwrap().url)
    }

    /// Who answers this many plain requests, all of which must be served.
    pub(crate) async fn answers(&self, requests: u64) -> deploykit_testing::Tally {
        let load = self.load().await.without_slow().without_websocket().with_rate(500);
        let running = load.start().await.unwrap();
        running.at_least(requests).await;
        let tally = running.stop().await.tally;
        assert_eq!(tally.failed, 0, "{tally}");
        tally
    }

    /// Asserts that a place answers its share. A fair draw lies outside of the 99 % range once in a hundred runs, so there
    /// is a second one.
    pub(crate) async fn assert_share(&self, place: Place, chance: f64, requests: u64) {
        let first = self.answers(requests).await;
        if !is_likely(first.answers_of(place), first.requests, chance) {
            let again = self.answers(requests).await;
            let hits = again.answers_of(place);
            assert!(is_likely(hits, again.requests, chance), "{chance}: {first}, then {again}");
        }
    }

    pub(crate) async fn get(&self, headers: &str) -> Answer {
        get(&self.observe().await.entry.unwrap().url, headers).await
    }

    pub(crate) async fn restart(&self) {
        let at_once = RestartContainerOptionsBuilder::new().t(0).build();
        self.client.restart_container(&self.container(), Some(at_once)).await.unwrap();
    }

    /// Says something to HAProxy's worker behind everybody's back.
    pub(crate) async fn whisper(&self, command: &str) -> String {
        let mut socket = UnixStream::connect(self.state.join("run/master.sock")).await.unwrap();
        let line = format!("experimental-mode on; @1 {command}\n");
        socket.write_all(line.as_bytes()).await.unwrap();
        socket.shutdown().await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

/// A share of the requests.
pub(crate) fn thousandths(weight: u16) -> Weight {
    Weight::thousandths(weight).unwrap()
}

/// Whether `hits` of `n` lie where 99 % of all draws with this chance do (normal approximation).
pub(crate) fn is_likely(hits: u64, n: u64, chance: f64) -> bool {
    is_within(2.576, hits, n, chance)
}

/// Whether `hits` of `n` lie within so many standard deviations of a draw with this chance.
pub(crate) fn is_within(deviations: f64, hits: u64, n: u64, chance: f64) -> bool {
    let (hits, n) = (hits as f64, n as f64);
    (hits - n * chance).abs() <= deviations * (n * chance * (1.0 - chance)).sqrt()
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names, in lower case and in order.
    pub(crate) headers: Vec<String>,
    /// The values of `set-cookie`, in order.
    pub(crate) cookies: Vec<String>,
    pub(crate) body: String,
}

/// `GET /` on a connection of its own; `headers` are lines, each with its line end.
pub(crate) async fn get(url: &str, headers: &str) -> Answer {
    let address = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request =
        format!("GET / HTTP/1.1\r\nhost: {address}\r\n{headers}connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let name = |line: &str| line.split_once(':').unwrap().0.to_lowercase();
    let mut names: Vec<_> = head.lines().skip(1).map(name).collect();
    names.sort();
    let cookie = |line: &str| line.strip_prefix("set-cookie: ").map(str::to_owned);
    Answer {
        cookies: head.lines().filter_map(cookie).collect(),
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        headers: names,
        body: body.to_owned(),
    }
}
