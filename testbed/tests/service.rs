//! What the images promise to the tests that use them.

#![allow(clippy::expect_used, reason = "a test's helpers fail as tests do")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;

/// Far above anything that happens here: it only keeps a broken test from hanging.
const LIMIT: Duration = Duration::from_secs(20);

/// A running service; dropping it ends it.
struct Running {
    child: Child,
    address: SocketAddr,
}

impl Running {
    fn start(variables: &[(&str, &str)]) -> Self {
        let mut child = command(variables).spawn().expect("the program starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("is piped"))
            .read_line(&mut line)
            .expect("says where it listens");
        let port = line.trim().rsplit(':').next().and_then(|port| port.parse().ok());
        let address = SocketAddr::from(([127, 0, 0, 1], port.expect("names the port")));
        Self { child, address }
    }

    /// Sends the bytes of a request and does not read.
    fn send(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).expect("listens");
        stream.set_read_timeout(Some(LIMIT)).expect("is a socket");
        stream.write_all(request.as_bytes()).expect("accepts");
        stream
    }

    /// The whole answer, head and body.
    fn get(&self, path: &str) -> String {
        self.get_with(path, "")
    }

    fn get_with(&self, path: &str, header: &str) -> String {
        read(
            self.send(&format!(
                "GET {path} HTTP/1.1\r\nhost: t\r\n{header}connection: close\r\n\r\n"
            )),
        )
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", self.child.id())])
            .status()
            .expect("a shell is there");
        assert!(sent.success());
    }

    fn ended(&mut self) -> ExitStatus {
        let until = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().expect("is ours") {
                return status;
            }
            assert!(Instant::now() < until, "it still runs");
            std::thread::yield_now();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_testbed"));
    command.env_clear().env("PORT", "0").envs(variables.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn read(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset after some bytes still leaves what came before it.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |parts| parts.1)
}

#[test]
fn each_answer_names_the_version() {
    let service = Running::start(&[("VERSION", "B")]);
    for path in ["/", "/health", "/nowhere"] {
        assert!(service.get(path).contains("x-version: B\r\n"), "{path}");
    }
}

#[test]
fn a_post_is_read_to_its_end() {
    let service = Running::start(&[]);
    let data = "x".repeat(100_000);
    let answer = read(service.send(&format!(
        "POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 100000\r\nconnection: close\r\n\r\n{data}"
    )));
    assert_eq!((status(&answer), body(&answer)), ("200", "100000"));
}

#[test]
fn sigterm_drops_the_work_in_flight() {
    let mut service = Running::start(&[]);
    let waiting = service.send("GET /slow?ms=600000 HTTP/1.1\r\nhost: t\r\n\r\n");
    // Answered on another connection of the only thread: so the first request is in work as well.
    assert_eq!(status(&service.get("/")), "200");
    service.signal("TERM");
    assert!(service.ended().success());
    assert_eq!(read(waiting), "");
}

#[test]
fn sigterm_ends_a_service_that_still_starts() {
    let mut child = command(&[("STARTUP_MS", "600000")]).spawn().expect("starts");
    let pid = child.id();
    // The handler is there as soon as the kernel shows SIGTERM (15) among the caught signals.
    let until = Instant::now() + LIMIT;
    while !catches_sigterm(pid) {
        assert!(Instant::now() < until, "SIGTERM is never handled");
        std::thread::yield_now();
    }
    assert!(
        Command::new("sh").args(["-c", &format!("kill -TERM {pid}")]).status().unwrap().success()
    );
    assert!(child.wait().expect("is ours").success());
}

fn catches_sigterm(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> 14 & 1 == 1)
}

#[test]
fn crash_ends_with_3_and_a_reason_before_it_listens() {
    let output = command(&[("MODE", "crash")]).output().expect("starts");
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot start"));
    assert!(output.stdout.is_empty());
}

#[test]
fn unhealthy_serves_but_is_never_ready() {
    let service = Running::start(&[("MODE", "unhealthy")]);
    assert_eq!(status(&service.get("/health")), "503");
    assert_eq!(status(&service.get("/")), "200");
}

#[test]
fn slow_is_late_with_everything() {
    let service = Running::start(&[("MODE", "slow"), ("SLOW_MS", "300")]);
    for path in ["/", "/health"] {
        let asked = Instant::now();
        assert_eq!(status(&service.get(path)), "200");
        assert!(asked.elapsed() >= Duration::from_millis(300), "{path}");
    }
}

#[test]
fn errors_begin_after_the_first_live_request() {
    let service = Running::start(&[("MODE", "errors")]);
    let test = |path| service.get_with(path, "x-deploykit-test: 1\r\n");
    // Neither a test nor a health check is live.
    assert_eq!(status(&test("/")), "200");
    assert_eq!(status(&service.get("/health")), "200");
    assert_eq!(status(&test("/")), "200");
    assert_eq!(status(&service.get("/")), "200");
    for answer in [service.get("/"), test("/"), service.get("/health"), service.get("/slow?ms=1")] {
        assert_eq!(status(&answer), "500");
    }
}

#[test]
fn variables_and_files_can_be_seen_from_outside() {
    let file = env!("CARGO_MANIFEST_PATH");
    let service = Running::start(&[("SECRET", "s3cret")]);
    assert_eq!(body(&service.get("/env?name=SECRET")), "s3cret");
    assert_eq!(status(&service.get("/env?name=MISSING")), "404");
    assert!(body(&service.get(&format!("/file?path={file}"))).contains("testbed"));
}

#[test]
fn what_is_set_but_not_understood_is_refused() {
    let output = command(&[("MODE", "mad")]).output().expect("starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("MODE=mad"));
}

#[test]
fn the_probe_tells_ready_from_not_ready() {
    for (mode, code) in [("good", 0), ("unhealthy", 1)] {
        let service = Running::start(&[("MODE", mode)]);
        let port = service.address.port().to_string();
        let output = command(&[("PORT", &port)]).arg("probe").output().expect("starts");
        assert_eq!(output.status.code(), Some(code), "{mode}");
    }
}

#[tokio::test]
async fn a_websocket_echoes_beats_and_closes_properly() {
    let service = Running::start(&[]);
    let stream = tokio::net::TcpStream::connect(service.address).await.expect("listens");
    let (mut socket, answer) =
        tokio_tungstenite::client_async("ws://testbed/ws", stream).await.expect("upgrades");
    assert_eq!(answer.headers()["x-version"], "A");

    socket.send(Message::text("hello")).await.expect("is open");
    let (mut ticks, mut echoed) = (0, false);
    while ticks < 3 || !echoed {
        let message = tokio::time::timeout(LIMIT, socket.next()).await.expect("beats");
        match message.expect("is open").expect("is whole") {
            Message::Text(text) if text.starts_with("tick ") => ticks += 1,
            Message::Text(text) => echoed = text == "hello",
            other => panic!("{other:?}"),
        }
    }

    socket.close(None).await.expect("is open");
    let mut closed = false;
    while let Some(message) = tokio::time::timeout(LIMIT, socket.next()).await.expect("ends") {
        closed |= matches!(message, Ok(Message::Close(_)));
    }
    assert!(closed, "the stream ended without a close frame");
}
