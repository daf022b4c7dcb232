//! The tasks of a service as the Engine lists them, asked over its socket by nothing of ours, and whether they answer.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

use deploykit::docker::Engine;

use crate::scenarios::stage::{Basics, Kind};

/// A container that lives.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Task {
    id: String,
    /// Where it runs; none while it does not.
    address: Option<String>,
}

/// How many tasks are ready, counted no further than `enough`, and how many live.
pub(crate) async fn capacity(engine: &Engine, basics: &Basics, enough: usize) -> (usize, usize) {
    loop {
        let tasks = living(engine, basics).await;
        let ready = ready(&tasks, basics.kind, enough).await;
        // A task that leaves between the list and the question is no gap: what counts is what was there all the time.
        if ready >= enough || living(engine, basics).await == tasks {
            return (ready, tasks.len());
        }
    }
}

async fn living(engine: &Engine, basics: &Basics) -> Vec<Task> {
    let address = engine.address();
    let socket = address.strip_prefix("unix://").expect("the tests need a local Engine");
    let stream = UnixStream::connect(socket).await.unwrap();
    let filters = format!("%7B%22label%22%3A%5B%22deploykit.service%3D{}%22%5D%7D", basics.service);
    let body = get(stream, &format!("/containers/json?all=1&filters={filters}")).await.unwrap();
    let listed: Vec<Value> = serde_json::from_str(&body).unwrap();
    let task = |container: &Value| {
        let state = container["State"].as_str()?;
        let of_network = container["NetworkSettings"]["Networks"].as_object()?.values().next();
        let address = of_network.and_then(|network| network["IPAddress"].as_str());
        Some(Task {
            id: container["Id"].as_str()?.to_owned(),
            address: address.filter(|_| state == "running").map(str::to_owned),
        })
        .filter(|_| !matches!(state, "exited" | "dead" | "removing"))
    };
    listed.iter().filter_map(task).collect()
}

/// How many of them answer that they are ready.
async fn ready(tasks: &[Task], kind: Kind, enough: usize) -> usize {
    let mut asked = JoinSet::new();
    for address in tasks.iter().filter_map(|task| task.address.clone()) {
        asked.spawn(async move {
            match kind {
                Kind::Worker => true,
                Kind::Tcp => TcpStream::connect((address, 8080)).await.is_ok(),
                Kind::Http => match TcpStream::connect((address, 8080)).await {
                    Ok(stream) => get(stream, "/health").await.is_some(),
                    Err(_) => false,
                },
            }
        });
    }
    let mut ready = 0;
    while ready < enough {
        // Those that answer late are not waited for when there are enough.
        match asked.join_next().await {
            Some(answer) => ready += usize::from(answer.unwrap()),
            None => break,
        }
    }
    ready
}

/// The body of an answer, if that is 200 and comes whole. It does not count as a live request.
async fn get(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, path: &str) -> Option<String> {
    let request = format!("GET {path} HTTP/1.0\r\nhost: watch\r\nx-deploykit-test: watch\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?;
    (status == "200").then(|| body.to_owned())
}
