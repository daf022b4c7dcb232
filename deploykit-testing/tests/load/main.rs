//! The real load against a small server on loopback: what is sent, what counts as failed, and that nothing is hidden.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail as tests do"
)]

mod server;

use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use deploykit_core::ErrorKind;
use deploykit_testing::load::{Load, Report, Running};
use hyper::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use server::{Answer, Seen, Server, Socket};

const GOOD: Answer = Answer::Status(200);

/// What must happen happens within this time, or the test fails.
const SOON: Duration = Duration::from_secs(20);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let within = tokio::time::timeout(SOON, future).await;
    within.unwrap_or_else(|_| panic!("not within {SOON:?}: {what}"))
}

async fn until(what: &str, condition: impl Fn() -> bool + Send + Sync) {
    soon(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// Fast, and without WebSockets: each test of requests counts nothing else.
fn requests(server: &Server) -> Load {
    let load = Load::new(server.url()).with_rate(500);
    load.with_timeout(SOON).without_websocket()
}

/// Hardly any requests, and WebSockets that are closed from here soon.
fn websockets(server: &Server) -> Load {
    let load = Load::new(server.url()).with_rate(1).with_timeout(SOON);
    load.with_websocket_held(Duration::from_millis(10))
}

async fn stopped_after(running: Running, requests: u64) -> Report {
    soon("enough requests", running.at_least(requests)).await;
    soon("the load's end", running.stop()).await
}

async fn sent(server: &Server, load: Load) -> (Report, Vec<Seen>) {
    let report = stopped_after(load.start().await.unwrap(), 100).await;
    (report, server.seen())
}

fn only(key: &str, count: u64) -> BTreeMap<String, u64> {
    BTreeMap::from([(key.to_owned(), count)])
}

/// All requests have failed in this one way, each was sent once, and each has been counted.
async fn all_fail(answer: Answer, load: impl FnOnce(Load) -> Load, how: &str, by: &str) {
    let server = Server::start(answer, Socket::Stays).await;
    let (report, seen) = sent(&server, load(requests(&server))).await;
    let count = seen.len() as u64;
    assert_eq!(report.tally.requests, count, "{}", report.tally);
    assert_eq!(report.tally.failed, count, "{}", report.tally);
    assert_eq!(report.failed_how, only(how, count));
    assert_eq!(report.tally.failed_by, only(by, count));
}

#[tokio::test]
async fn every_request_is_counted_once_and_by_the_place_that_answered() {
    let server = Server::start(GOOD, Socket::Stays).await;
    let (report, seen) = sent(&server, requests(&server)).await;
    let count = seen.len() as u64;
    assert_eq!(report.tally.requests, count);
    assert_eq!(report.tally.answered_by, only("B", count));
    assert_eq!(report.tally.failed, 0, "{}", report.tally);
}

#[tokio::test]
async fn half_are_posts_with_a_body() {
    let server = Server::start(GOOD, Socket::Stays).await;
    let (report, seen) = sent(&server, requests(&server)).await;
    let posts = seen.iter().filter(|seen| seen.method == Method::POST);
    assert!(posts.clone().all(|post| post.body > 0));
    assert_eq!(posts.clone().count(), seen.len() / 2);
    assert_eq!(posts.count() as u64, report.posts);
}

#[tokio::test]
async fn one_in_twenty_goes_to_the_slow_path_with_either_method_and_either_connection() {
    let server = Server::start(GOOD, Socket::Stays).await;
    let (report, seen) = sent(&server, requests(&server)).await;
    let slow = seen.iter().filter(|seen| seen.path == "/slow?ms=2000");
    let count = slow.clone().count();
    assert!((seen.len() / 20..=seen.len().div_ceil(20)).contains(&count));
    assert_eq!(count as u64, report.slow);
    let kinds: HashSet<_> =
        slow.map(|seen| (&seen.method, seen.headers.contains_key("connection"))).collect();
    assert_eq!(kinds.len(), 4);
}

#[tokio::test]
async fn half_use_kept_connections_and_half_new_ones() {
    let server = Server::start(GOOD, Socket::Stays).await;
    let (report, seen) = sent(&server, requests(&server)).await;
    let (new, kept): (Vec<_>, Vec<_>) =
        seen.iter().partition(|seen| seen.headers.contains_key("connection"));
    assert!(new.len().abs_diff(kept.len()) <= 2);

    let connections = |of: &[&Seen]| of.iter().map(|seen| seen.connection).collect::<HashSet<_>>();
    assert_eq!(connections(&new).len(), new.len());
    let first_uses = connections(&kept).len();
    assert!(first_uses < kept.len() / 2, "{first_uses} connections for {} requests", kept.len());
    assert_eq!(report.reused, (kept.len() - first_uses) as u64);
}

#[tokio::test]
async fn path_and_headers_go_with_every_request() {
    let server = Server::start(GOOD, Socket::Stays).await;
    let load = requests(&server).without_slow().with_path("/orders?a=1");
    let (_, seen) = sent(&server, load.with_header("x-test", "candidate")).await;
    let right = |seen: &Seen| seen.path == "/orders?a=1" && seen.headers["x-test"] == "candidate";
    assert!(seen.iter().all(right));
}

#[tokio::test]
async fn a_500_has_failed_by_the_place_that_answered_it() {
    all_fail(Answer::Status(500), |load| load, "status", "B").await;
}

#[tokio::test]
async fn a_404_has_not_failed() {
    let server = Server::start(Answer::Status(404), Socket::Stays).await;
    let (report, _) = sent(&server, requests(&server)).await;
    assert_eq!(report.tally.failed, 0, "{}", report.tally);
}

#[tokio::test]
async fn a_connection_closed_without_an_answer_has_failed_and_is_not_retried() {
    all_fail(Answer::Reset, |load| load, "reset", "nobody").await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_has_failed_by_the_place_that_began_it() {
    all_fail(Answer::Cut, |load| load, "reset", "B").await;
}

#[tokio::test]
async fn an_answer_that_takes_longer_than_the_time_out_has_failed() {
    let short = |load: Load| load.with_timeout(Duration::from_secs(1));
    all_fail(Answer::Never, short, "timeout", "nobody").await;
}

#[tokio::test]
async fn a_refused_connection_has_failed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let load = Load::new(format!("http://{address}")).with_rate(500);
    let report = stopped_after(load.start().await.unwrap(), 50).await;
    assert_eq!(report.tally.failed, report.tally.requests);
    assert_eq!(report.failed_how, only("connect", report.tally.failed));
    assert!(report.websockets > 0);
}

#[tokio::test]
async fn slow_answers_do_not_delay_the_next_requests() {
    let server = Server::start(Answer::Never, Socket::Stays).await;
    let running = requests(&server).start().await.unwrap();
    // A load that waits for an answer, on however many connections, would stop at some number.
    until("300 requests", || server.seen().len() >= 300).await;
    assert_eq!(running.requests(), 0);
}

#[tokio::test]
async fn stop_waits_for_what_is_in_flight_and_counts_it() {
    let server = Server::start(Answer::Held, Socket::Stays).await;
    let running = requests(&server).start().await.unwrap();
    until("10 requests in flight", || server.seen().len() >= 10).await;
    let mut stop = pin!(running.stop());
    assert!(futures::poll!(&mut stop).is_pending());
    server.release();
    let report = soon("the load's end", stop).await;
    assert_eq!(report.tally.requests, server.seen().len() as u64);
    assert_eq!(report.tally.failed, 0, "{}", report.tally);
}

#[tokio::test]
async fn a_load_that_is_dropped_stops() {
    let server = Server::start(GOOD, Socket::Stays).await;
    let running = requests(&server).start().await.unwrap();
    until("the first request", || !server.seen().is_empty()).await;
    drop(running);
    let mut before = 0;
    soon("silence", async {
        // At 500 requests a second a running load is never silent for so long.
        while before != server.seen().len() {
            before = server.seen().len();
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_while_idle_costs_no_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                // Any request of this load fits into one packet and is there at once. The answer does not say that the
                // connection ends, but it does.
                let _ = stream.read(&mut [0; 4096]).await;
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                let _ = stream.write_all(answer).await;
            });
        }
    });
    // So slowly that the server has closed each connection long before the next request.
    let load = Load::new(format!("http://{address}")).with_rate(20);
    let running = load.without_websocket().start().await.unwrap();
    let report = stopped_after(running, 20).await;
    assert_eq!(report.tally.failed, 0, "{}", report.tally);
    assert_eq!(report.reused, 0);
    assert_eq!(report.tally.answers_of("unnamed"), report.tally.requests);
}

#[tokio::test]
async fn websockets_are_reopened_one_at_a_time_and_closed_properly() {
    let server = Server::start(GOOD, Socket::Stays).await;
    let running = websockets(&server).start().await.unwrap();
    let report = stopped_after(running, 5).await;
    assert!(report.websockets >= 3);
    assert_eq!(server.most_open(), 1);
    assert_eq!(report.tally.failed, 0, "{}", report.tally);
    assert_eq!(report.tally.answers_of("B"), report.tally.requests);
}

#[tokio::test]
async fn a_websocket_that_the_service_closes_with_a_frame_has_not_failed() {
    let server = Server::start(GOOD, Socket::Closes).await;
    let load = websockets(&server).with_websocket_held(SOON);
    let report = stopped_after(load.start().await.unwrap(), 5).await;
    assert!(report.websockets >= 3);
    assert_eq!(report.tally.failed, 0, "{}", report.tally);
}

/// The WebSockets have failed in this way, by place B, and nothing else has.
async fn websockets_fail(socket: Socket, timeout: Duration, how: &str) {
    let server = Server::start(GOOD, socket).await;
    let load = websockets(&server).with_timeout(timeout);
    let report = stopped_after(load.start().await.unwrap(), 5).await;
    assert_eq!(report.failed_how, only(how, report.websockets));
    assert_eq!(report.tally.failed_by, only("B", report.websockets));
}

#[tokio::test]
async fn a_websocket_cut_without_a_close_frame_has_failed() {
    websockets_fail(Socket::Drops, SOON, "websocket").await;
}

#[tokio::test]
async fn a_websocket_whose_close_frame_is_never_answered_has_failed() {
    websockets_fail(Socket::Deaf, Duration::from_millis(200), "timeout").await;
}

#[tokio::test]
async fn a_websocket_that_is_refused_has_failed() {
    websockets_fail(Socket::Refused, SOON, "websocket").await;
}

#[tokio::test]
async fn stopping_closes_the_websocket_instead_of_waiting_for_its_time() {
    let server = Server::start(GOOD, Socket::Stays).await;
    let load = websockets(&server).with_websocket_held(Duration::from_secs(3600));
    let running = load.start().await.unwrap();
    until("an open WebSocket", || server.most_open() == 1).await;
    let report = soon("the load's end", running.stop()).await;
    assert_eq!((report.websockets, report.tally.failed), (1, 0), "{}", report.tally);
}

#[tokio::test]
async fn the_report_is_one_flat_object_with_times_in_milliseconds() {
    let server = Server::start(GOOD, Socket::Stays).await;
    let (report, _) = sent(&server, requests(&server)).await;
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["requests"], report.tally.requests);
    assert_eq!(json["failed"], 0);
    let p50 = json["latency"]["p50_ms"].as_f64().unwrap();
    let p99 = json["latency"]["p99_ms"].as_f64().unwrap();
    assert!(0.0 < p50 && p50 <= p99 && p99 <= report.elapsed_ms as f64);
}

#[tokio::test]
async fn bad_input_is_an_error_that_names_the_field() {
    let good = || Load::new("http://127.0.0.1:1");
    for (load, field) in [
        (Load::new("127.0.0.1:1"), "URL"),
        (Load::new("https://127.0.0.1:1"), "URL"),
        (Load::new("http://user:hunter2@127.0.0.1:1"), "URL"),
        (good().with_rate(0), "rate"),
        (good().with_path("orders"), "path"),
        (good().with_path("/a b"), "path"),
        (good().with_header("x test", "hunter2"), "header \"x test\""),
        (good().with_header("x-key", "hunter2\n"), "header \"x-key\""),
        (good().with_header("Connection", "close"), "header \"Connection\""),
    ] {
        let error = load.start().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.message().contains(field), "{error}");
        assert!(error.hint().is_some(), "{error}");
        assert!(!error.report().contains("hunter2"), "{error}");
    }
}

#[test]
fn debug_shows_no_header_values() {
    let load = Load::new("http://user:hunter2@host").with_header("authorization", "hunter2");
    assert!(!format!("{load:?}").contains("hunter2"));
}
