//! Connections to a TCP service: a hundred new ones in a second, whatever becomes of them, each for one question and answer.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use deploykit_testing::Tally;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

pub(crate) struct Connections {
    tally: Arc<Mutex<Tally>>,
    stop: watch::Sender<()>,
    ended: JoinHandle<()>,
}

impl Connections {
    pub(crate) fn start(address: String) -> Self {
        let tally = Arc::new(Mutex::new(Tally::new()));
        let (stop, mut stopped) = watch::channel(());
        let counted = Arc::clone(&tally);
        let ended = tokio::spawn(async move {
            let mut open = JoinSet::new();
            let mut beat = tokio::time::interval(Duration::from_millis(10));
            for number in 0_u64.. {
                tokio::select! {
                    _ = stopped.changed() => break,
                    _ = beat.tick() => {}
                }
                // One in twenty lasts two seconds.
                let path = if number.is_multiple_of(20) { "/slow?ms=2000" } else { "/" };
                let (address, counted, began) =
                    (address.clone(), Arc::clone(&counted), Instant::now());
                open.spawn(async move {
                    let answer = ask(&address, path).await;
                    let mut tally = counted.lock().unwrap();
                    match answer {
                        Some(by) => tally.answered(&by),
                        None => tally.lost(began.elapsed(), None, format!("{path} was cut")),
                    }
                });
            }
            while open.join_next().await.is_some() {}
        });
        Self { tally, stop, ended }
    }

    pub(crate) fn requests(&self) -> u64 {
        self.tally.lock().unwrap().requests
    }

    pub(crate) async fn stop(self) -> Tally {
        drop(self.stop);
        self.ended.await.unwrap();
        self.tally.lock().unwrap().clone()
    }
}

/// Who answered, if the answer came whole.
async fn ask(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let question = format!("GET {path} HTTP/1.0\r\nhost: tcp\r\n\r\n");
    stream.write_all(question.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let by = head.lines().find_map(|line| line.strip_prefix("x-version: "))?;
    body.starts_with("version").then(|| by.to_owned())
}
