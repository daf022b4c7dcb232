//! A small HTTP/1.1 service for the test images. It is good, or bad in one of the ways that a
//! deployment has to survive, and it **drops its work in flight on SIGTERM**: only a real drain
//! saves a request that it is answering.
//!
//! Everything is set by the environment; see [`config::Config`]. What it answers is in [`routes`].

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that says what it does")]

mod config;
mod job;
mod probe;
mod routes;
mod websocket;

use std::process::ExitCode;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use config::{Config, Mode};
use routes::Service;

/// What `crash` ends with, before it has listened.
const CRASH: u8 = 3;

// One thread: ten of these share two cores with the load and the balancer.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let config = match Config::from_env(|name| std::env::var(name).ok()) {
        Ok(config) => config,
        Err(why) => {
            eprintln!("testbed: {why}");
            return ExitCode::from(2);
        }
    };
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        // The image's HEALTHCHECK: there is no curl in an empty image.
        Some("probe") => return probe::health(config.port).await,
        Some("job") => return job::run(arguments).await,
        _ => {}
    }
    match serve(config).await {
        Ok(code) => code,
        Err(why) => {
            eprintln!("testbed: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until a signal comes. Returning ends the process and with it every connection.
async fn serve(config: Config) -> std::io::Result<ExitCode> {
    // First of all: process 1 of a container ignores every signal that it has no handler for, and a
    // signal that comes while it starts must end it too.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        outcome = accept(config) => return outcome,
    }
    Ok(ExitCode::SUCCESS)
}

async fn accept(config: Config) -> std::io::Result<ExitCode> {
    tokio::time::sleep(config.startup).await;
    if config.mode == Mode::Crash {
        eprintln!(
            "testbed: cannot start: the configuration of version {} is broken",
            config.version
        );
        return Ok(ExitCode::from(CRASH));
    }
    let listener = TcpListener::bind(("0.0.0.0", config.port)).await?;
    println!(
        "testbed: version {} ({:?}) listens on {}",
        config.version,
        config.mode,
        listener.local_addr()?
    );
    let service = Arc::new(Service::new(config));
    loop {
        // Running out of descriptors is over when a connection ends: refusing to serve ever again
        // would be worse than a short wait.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            continue;
        };
        // Answers are small; waiting for more to send would only add latency.
        let _ = stream.set_nodelay(true);
        let service = Arc::clone(&service);
        tokio::spawn(async move {
            let answer = service_fn(move |request| {
                let service = Arc::clone(&service);
                async move { service.answer(request).await }
            });
            // A client that goes away is its own business.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer)
                .with_upgrades()
                .await;
        });
    }
}
