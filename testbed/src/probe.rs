//! `testbed probe`: asks the service in the same container whether it is healthy.

use std::process::ExitCode;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer than any good answer takes, shorter than the bound that Docker sets by default.
const LIMIT: Duration = Duration::from_secs(5);

/// Exit code 0 when `/health` answers 200, else 1: what Docker's HEALTHCHECK expects.
pub(crate) async fn health(port: u16) -> ExitCode {
    match tokio::time::timeout(LIMIT, status_line(port)).await {
        Ok(Ok(line)) if line.starts_with("HTTP/1.1 200") => ExitCode::SUCCESS,
        Ok(Ok(line)) => {
            println!("{line}");
            ExitCode::FAILURE
        }
        Ok(Err(why)) => {
            println!("{why}");
            ExitCode::FAILURE
        }
        Err(_) => {
            println!("no answer in {} s", LIMIT.as_secs());
            ExitCode::FAILURE
        }
    }
}

async fn status_line(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream
        .write_all(
            b"GET /health HTTP/1.1\r\nhost: localhost\r\nx-deploykit-test: probe\r\nconnection: close\r\n\r\n",
        )
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}
