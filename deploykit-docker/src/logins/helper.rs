//! Programs that keep credentials: `docker-credential-NAME get`, the registry on standard input, JSON on standard
//! output (docker/docker-credential-helpers, section "Development").

use std::io::ErrorKind as Io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use deploykit_core::{Error, ErrorKind, Result};
use secrecy::SecretString;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

/// How long a helper may take: long enough for a person who is asked to unlock a keychain.
const LIMIT: Duration = Duration::from_secs(30);

/// More than any helper has to say.
const LONGEST: u64 = 1 << 20;

/// What a helper says when it has nothing for a registry; other failures are failures.
const NOT_FOUND: &str = "credentials not found";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Found {
    pub(super) username: String,
    pub(super) secret: SecretString,
}

pub(super) fn program(name: &str) -> String {
    format!("docker-credential-{name}")
}

/// None where the helper has nothing for this registry. What it prints is never told: it may hold the secret.
pub(super) async fn get(name: &str, registry: &str, config: &Path) -> Result<Option<Found>> {
    let program = program(name);
    let config = config.display();
    let failed = |kind, why: &str| {
        let text = format!("{program}, which {config} names for registry {registry}, {why}");
        Error::new(kind, text).with_hint(format!("try it by hand: echo {registry} | {program} get"))
    };
    if name.contains(['/', '\\']) {
        return Err(failed(ErrorKind::Invalid, "is not the name of a program"));
    }
    let child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    let mut child = child.map_err(|error| match error.kind() {
        Io::NotFound => failed(ErrorKind::Invalid, "is not in PATH"),
        _ => failed(ErrorKind::Invalid, "cannot be started").with_source(error),
    })?;
    let exchange = async {
        if let Some(mut input) = child.stdin.take() {
            // A helper that does not read its input says why by its end.
            let _ = input.write_all(format!("{registry}\n").as_bytes()).await;
        }
        let mut answer = Vec::new();
        if let Some(output) = child.stdout.take() {
            // Closed after that, which ends one that says more.
            output.take(LONGEST).read_to_end(&mut answer).await?;
        }
        Ok::<_, std::io::Error>((child.wait().await?, answer))
    };
    let (ended, answer) = tokio::time::timeout(LIMIT, exchange)
        .await
        .map_err(|_| failed(ErrorKind::Timeout, &format!("does not end within {LIMIT:?}")))?
        .map_err(|error| failed(ErrorKind::Other, "cannot be listened to").with_source(error))?;
    if !ended.success() {
        if String::from_utf8_lossy(&answer).contains(NOT_FOUND) {
            return Ok(None);
        }
        return Err(failed(ErrorKind::Other, &format!("failed with {ended}")));
    }
    let found = serde_json::from_slice(&answer);
    found.map(Some).map_err(|_| failed(ErrorKind::Other, "does not answer as helpers do"))
}
