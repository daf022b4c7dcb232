//! TCP services: whole connections instead of requests.

use std::time::Duration;

use deploykit_core::{
    BalancerState, Endpoint, Entry, ErrorKind, GateContext, HealthGate, LoadBalancer, Place,
    RevisionId, RolloutId, Routing, ServiceName, TaskId, TcpGate, Verdict,
};
use deploykit_docker::Frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::world::{World, free_port, is_likely, on_machine, thousandths};

/// A server that speaks first, as databases do: it greets with one letter, and then echoes.
async fn server(letter: u8) -> (Endpoint, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let running = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                // HAProxy's checks go away at once.
                stream.write_all(&[letter]).await.ok();
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await.ok();
            });
        }
    });
    let task = TaskId::new(format!("{}-{}", char::from(letter), address.replace(':', "-")));
    (Endpoint { task, address }, running)
}

/// Gives a place so many healthy servers, which greet with its letter.
async fn serve(world: &World, place: Place, count: u32) -> Vec<TaskId> {
    let mut tasks = Vec::new();
    for _ in 0..count {
        tasks.push(server(place.to_string().as_bytes()[0]).await.0);
    }
    world.haproxy.add_targets(&world.service, place, &tasks).await.unwrap();
    world.until("healthy", |state| state.healthy(place) == count).await;
    tasks.into_iter().map(|task| task.task).collect()
}

/// A connection of a client, after the greeting.
struct Connection {
    stream: TcpStream,
    by: char,
}

impl Connection {
    /// None where it is closed without a greeting.
    async fn open(entry: &Entry) -> Option<Self> {
        let address = entry.url.strip_prefix("tcp://").unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut greeting = [0];
        let read = stream.read_exact(&mut greeting).await;
        read.is_ok().then(|| Self { stream, by: char::from(greeting[0]) })
    }

    async fn works(&mut self) -> bool {
        let mut echo = [0; 5];
        let said = self.stream.write_all(b"hello").await;
        said.is_ok() && self.stream.read_exact(&mut echo).await.is_ok() && echo == *b"hello"
    }
}

fn live(state: BalancerState) -> Entry {
    state.entry.unwrap()
}

async fn open_all(world: &World, count: usize) -> Vec<Connection> {
    let entry = live(world.observe().await);
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(Connection::open(&entry).await.expect("a greeting"));
    }
    all
}

/// How many of so many new connections a place gets.
async fn share(world: &World, place: char, connections: usize) -> u64 {
    open_all(world, connections).await.iter().filter(|one| one.by == place).count() as u64
}

#[tokio::test]
async fn new_connections_are_split_by_weight_or_among_all_healthy_tasks() {
    on_machine("tcpsplit", Frontend::tcp(free_port()), |world| async move {
        serve(&world, Place::A, 1).await;
        serve(&world, Place::B, 3).await;
        for (routing, chance) in [
            (Routing::split(Place::A, Place::B, thousandths(100)), 0.1),
            (Routing::split(Place::B, Place::A, thousandths(0)), 1.0),
            (Routing::Pooled, 0.75),
        ] {
            world.route(&routing).await;
            assert_eq!(world.observe().await.routing, routing);
            let hits = share(&world, 'B', 1_000).await;
            // One in a hundred fair draws lies outside of the 99 % range.
            let fair = is_likely(hits, 1_000, chance)
                || is_likely(share(&world, 'B', 1_000).await, 1_000, chance);
            assert!(fair, "{routing}: {hits} of 1,000");
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_outlives_the_shift_and_draining_counts_down_to_the_last_one() {
    on_machine("tcpdrain", Frontend::tcp(free_port()), |world| async move {
        let old = serve(&world, Place::A, 2).await;
        serve(&world, Place::B, 1).await;
        world.route(&Routing::all_to(Place::A)).await;
        let mut connections = open_all(&world, 10).await;
        world.route(&Routing::all_to(Place::B)).await;
        world.haproxy.drain(&world.service, Place::A, &old).await.unwrap();
        assert_eq!(share(&world, 'B', 20).await, 20);
        while let Some(mut connection) = connections.pop() {
            assert!(connection.works().await, "cut while it was drained");
            let left = connections.len() as u64;
            assert_eq!(world.observe().await.in_flight(Place::A), left + 1);
            drop(connection);
            world.until("one less", |state| state.in_flight(Place::A) == left).await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_removed_without_draining_is_cut() {
    on_machine("tcpcut", Frontend::tcp(free_port()), |world| async move {
        let tasks = serve(&world, Place::A, 1).await;
        world.route(&Routing::all_to(Place::A)).await;
        let mut connection = open_all(&world, 1).await.remove(0);
        world.remove(Place::A, &tasks).await;
        assert!(!connection.works().await);
    })
    .await;
}

#[tokio::test]
async fn a_connection_lives_through_a_reload_and_is_still_counted() {
    on_machine("tcpreload", Frontend::tcp(free_port()), |world| async move {
        serve(&world, Place::A, 1).await;
        world.route(&Routing::all_to(Place::A)).await;
        let mut connection = open_all(&world, 1).await.remove(0);
        let other = ServiceName::new("other").unwrap();
        let frontend = Frontend::tcp(free_port()).with_address([127, 0, 0, 1].into());
        world.haproxy.add_service(&other, &frontend).await.unwrap();
        assert_eq!(world.observe().await.in_flight(Place::A), 1);
        assert!(connection.works().await);
        drop(connection);
        world.until("drained", |state| state.in_flight(Place::A) == 0).await;
    })
    .await;
}

#[tokio::test]
async fn a_task_that_died_costs_no_new_connection() {
    on_machine("tcpdead", Frontend::tcp(free_port()), |world| async move {
        let ((dead, running), (well, _)) = (server(b'A').await, server(b'A').await);
        let both = [dead, well];
        world.haproxy.add_targets(&world.service, Place::A, &both).await.unwrap();
        world.until("healthy", |state| state.healthy(Place::A) == 2).await;
        world.route(&Routing::all_to(Place::A)).await;
        running.abort();
        running.await.unwrap_err();
        assert_eq!(share(&world, 'A', 50).await, 50);
    })
    .await;
}

#[tokio::test]
async fn a_closed_service_closes_connections_at_once_and_so_does_one_without_healthy_tasks() {
    on_machine("tcpclosed", Frontend::tcp(free_port()), |world| async move {
        let entry = live(world.observe().await);
        assert!(Connection::open(&entry).await.is_none());
        world.route(&Routing::all_to(Place::A)).await;
        assert!(Connection::open(&entry).await.is_none());
    })
    .await;
}

#[tokio::test]
async fn the_test_port_reaches_the_candidate_alone() {
    let frontend = Frontend::tcp(free_port()).with_test_port(free_port());
    on_machine("tcptest", frontend, |world| async move {
        serve(&world, Place::A, 1).await;
        serve(&world, Place::B, 1).await;
        world.route(&Routing::all_to(Place::A)).await;
        let (haproxy, service) = (&world.haproxy, &world.service);
        haproxy.set_test_route(service, Some(Place::B)).await.unwrap();
        let entry = world.observe().await.test_entry.unwrap();
        assert_eq!(entry.headers, []);
        for _ in 0..20 {
            assert_eq!(Connection::open(&entry).await.unwrap().by, 'B');
        }
        assert_eq!(share(&world, 'A', 200).await, 200);

        haproxy.set_test_route(service, None).await.unwrap();
        assert_eq!(world.observe().await.test_entry, None);
        assert!(Connection::open(&entry).await.is_none());
    })
    .await;
}

#[tokio::test]
async fn a_test_route_without_a_port_is_refused_naming_the_setting() {
    on_machine("tcpnotest", Frontend::tcp(free_port()), |world| async move {
        let (haproxy, service) = (&world.haproxy, &world.service);
        let error = haproxy.set_test_route(service, Some(Place::B)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(
            error.message().contains("web") && error.message().contains("test_port"),
            "{error}"
        );
        assert_eq!(world.observe().await.test_route, None);
        haproxy.set_test_route(service, None).await.unwrap();
        // Planning asks before.
        assert!(!haproxy.capability_for(service).await.unwrap().test_route);
        let address = [127, 0, 0, 1].into();
        let testable = Frontend::tcp(free_port()).with_test_port(free_port()).with_address(address);
        haproxy.add_service(service, &testable).await.unwrap();
        assert!(haproxy.capability_for(service).await.unwrap().test_route);
        let nobody = ServiceName::new("nobody").unwrap();
        let error = haproxy.capability_for(&nobody).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);

        let frontend = Frontend::tcp(free_port()).with_health_path("/health");
        let error = haproxy.add_service(service, &frontend).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.message().contains("health_path"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn the_tcp_gate_tells_a_service_that_answers_from_one_that_hangs_up() {
    on_machine("tcpgate", Frontend::tcp(free_port()), |world| async move {
        serve(&world, Place::A, 1).await;
        let rollout = RolloutId::new("web-1");
        let mut context =
            GateContext::new(world.service.clone(), rollout, Place::A, RevisionId::new("web:1"));
        context.entry = world.observe().await.entry;
        let gate = TcpGate::new().live();
        let closed = gate.measure(&context).await.unwrap();
        assert_eq!(closed.verdict, Verdict::Fail, "{}", closed.evidence);
        world.route(&Routing::all_to(Place::A)).await;
        let open = gate.measure(&context).await.unwrap();
        assert_eq!(open.verdict, Verdict::Pass, "{}", open.evidence);
    })
    .await;
}

/// Longer than a closed idle connection would take to be noticed, far shorter than an idle timeout.
const SILENCE: Duration = Duration::from_millis(700);

#[tokio::test]
async fn a_silent_connection_stays_within_its_idle_timeout_and_not_beyond() {
    let short = Duration::from_millis(300);
    on_machine("tcpidle", Frontend::tcp(free_port()), |world| async move {
        serve(&world, Place::A, 1).await;
        world.route(&Routing::all_to(Place::A)).await;
        let mut connection = open_all(&world, 1).await.remove(0);
        assert!(tokio::time::timeout(SILENCE, connection.stream.read_u8()).await.is_err());
        assert!(connection.works().await);

        let impatient =
            Frontend::tcp(free_port()).with_address([127, 0, 0, 1].into()).with_idle_timeout(short);
        world.haproxy.add_service(&world.service, &impatient).await.unwrap();
        world.until("healthy", |state| state.healthy(Place::A) == 1).await;
        let mut connection = open_all(&world, 1).await.remove(0);
        let end = tokio::time::timeout(Duration::from_secs(10), connection.stream.read_u8()).await;
        assert!(end.expect("an end").is_err());
    })
    .await;
}
