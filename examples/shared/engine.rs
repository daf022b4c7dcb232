//! Bare calls to the Docker Engine: for what is beside deploykit here, and for the floor that deploykit is measured
//! against. HTTP/1.0, so that an answer ends with its connection.

use std::path::PathBuf;

use deploykit::{Error, ErrorKind, Result};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// The Engine behind a socket of this machine.
#[derive(Clone, Debug)]
pub(crate) struct Bare {
    socket: PathBuf,
}

impl Bare {
    /// The one at this address, as `DOCKER_HOST` would name it.
    pub(crate) fn at(address: &str) -> Result<Self> {
        let socket = address.strip_prefix("unix://").ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, format!("the Engine at {address} is no local one"))
                .with_hint("run this where the Engine is, with DOCKER_HOST=unix://PATH or without")
        })?;
        Ok(Self { socket: socket.into() })
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        self.call("GET", path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Option<&Value>) -> Result<Value> {
        self.call("POST", path, body).await
    }

    /// Removes something; what is gone already is fine.
    pub(crate) async fn delete(&self, path: &str) -> Result<()> {
        match self.call("DELETE", path, None).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            deleted => deleted.map(drop),
        }
    }

    async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let broken = |error: std::io::Error| {
            let what = format!("{method} {path}: the Engine at {} is gone", self.socket.display());
            Error::new(ErrorKind::Unavailable, what).with_source(error)
        };
        let body = body.map(Value::to_string).unwrap_or_default();
        // A push needs credentials to be given, even none: `{}` in base64.
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: docker\r\nX-Registry-Auth: e30=\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = UnixStream::connect(&self.socket).await.map_err(broken)?;
        stream.write_all(request.as_bytes()).await.map_err(broken)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.map_err(broken)?;
        let answer = String::from_utf8_lossy(&answer);
        read(&answer).map_err(|error| error.within(format_args!("{method} {path}")))
    }
}

/// The body of an answer as JSON, or what the Engine has against it.
fn read(answer: &str) -> Result<Value> {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status: u16 = head.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
    // An answer in parts has one object in each line; a failure can be in any.
    let lines: Vec<Value> =
        body.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let said = lines.iter().find_map(|line| line.get("message").or(line.get("error"))?.as_str());
    let kind = match status {
        200..300 | 304 if said.is_none() => {
            return Ok(lines.into_iter().next().unwrap_or_default());
        }
        404 => ErrorKind::NotFound,
        409 => ErrorKind::Busy,
        _ => ErrorKind::Other,
    };
    Err(Error::new(kind, said.unwrap_or(head).to_owned()))
}
