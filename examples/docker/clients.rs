//! Clients who come again and again, each with a cookie or a header of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use deploykit::docker::Sticky;
use deploykit::{Error, ErrorKind, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The header by which a client is known.
const HEADER: &str = "x-client";
/// So many clients ask at a time.
const AT_ONCE: usize = 20;
const ANSWER: Duration = Duration::from_secs(5);

/// How clients are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Cookie,
    Header,
}

impl By {
    pub(crate) const ALL: [Self; 2] = [Self::Cookie, Self::Header];

    /// The same for HAProxy.
    pub(crate) fn sticky(self) -> Sticky {
        match self {
            Self::Cookie => Sticky::cookie("version"),
            Self::Header => Sticky::header(HEADER),
        }
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cookie => "cookie",
            Self::Header => "header",
        })
    }
}

/// All clients of a service.
#[derive(Debug)]
pub(crate) struct Clients {
    /// Its `host:port`.
    address: String,
    clients: Vec<Client>,
}

/// What became of the visits so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Visits {
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    /// Answers of the old version to a client that the new one had answered before.
    pub(crate) back: u64,
    /// How many clients the new version has answered last.
    pub(crate) at_new: u64,
}

#[derive(Debug)]
struct Client {
    number: usize,
    by: By,
    cookies: BTreeMap<String, String>,
    was_at_new: bool,
    visits: Visits,
}

impl Clients {
    pub(crate) fn new(count: usize, by: By, url: &str) -> Self {
        let client = |number| Client {
            number,
            by,
            cookies: BTreeMap::new(),
            was_at_new: false,
            visits: Visits::default(),
        };
        let address = url.trim_start_matches("http://").to_owned();
        Self { address, clients: (0..count).map(client).collect() }
    }

    /// Each client comes so many times. Tells what became of all visits up to now.
    pub(crate) async fn come(&mut self, times: u32) -> Result<Visits> {
        let mut groups = JoinSet::new();
        let size = self.clients.len().div_ceil(AT_ONCE);
        while !self.clients.is_empty() {
            let rest = self.clients.len().saturating_sub(size);
            let mut group = self.clients.split_off(rest);
            let address = self.address.clone();
            groups.spawn(async move {
                for client in &mut group {
                    for _ in 0..times {
                        client.visit(&address).await;
                    }
                }
                group
            });
        }
        while let Some(group) = groups.join_next().await {
            self.clients.extend(group.map_err(|error| {
                Error::new(ErrorKind::Other, "a client ended by itself").with_source(error)
            })?);
        }
        Ok(self.clients.iter().fold(Visits::default(), |all, client| Visits {
            requests: all.requests + client.visits.requests,
            failed: all.failed + client.visits.failed,
            back: all.back + client.visits.back,
            at_new: all.at_new + client.visits.at_new,
        }))
    }
}

impl Client {
    async fn visit(&mut self, address: &str) {
        self.visits.requests += 1;
        let place = match timeout(ANSWER, self.ask(address)).await {
            Ok(Ok(Some(place))) => place,
            _ => {
                self.visits.failed += 1;
                return;
            }
        };
        let is_new = place == "B";
        self.visits.back += u64::from(self.was_at_new && !is_new);
        self.was_at_new |= is_new;
        self.visits.at_new = u64::from(is_new);
    }

    /// Who answered, where it was answered well. HTTP/1.0, so that the answer ends with its connection.
    async fn ask(&mut self, address: &str) -> std::io::Result<Option<String>> {
        let known_by = match self.by {
            By::Header => format!("{HEADER}: client-{}\r\n", self.number),
            By::Cookie if self.cookies.is_empty() => String::new(),
            By::Cookie => {
                let pairs: Vec<_> =
                    self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("Cookie: {}\r\n", pairs.join("; "))
            }
        };
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET / HTTP/1.0\r\nHost: {address}\r\n{known_by}\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let head = answer.split_once("\r\n\r\n").map_or(&*answer, |(head, _)| head);
        let mut place = None;
        for (name, value) in head.lines().filter_map(|line| line.split_once(':')) {
            match name.to_ascii_lowercase().as_str() {
                "x-version" => place = Some(value.trim().to_owned()),
                "set-cookie" => {
                    let pair = value.split(';').next().and_then(|pair| pair.split_once('='));
                    self.cookies.extend(
                        pair.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())),
                    );
                }
                _ => {}
            }
        }
        Ok(place.filter(|_| head.split(' ').nth(1) == Some("200")))
    }
}
