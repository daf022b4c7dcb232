//! What gates and hooks make of real servers and real processes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

mod combine;
#[cfg(all(unix, feature = "command-gate"))]
mod command;
#[cfg(all(unix, feature = "command-gate"))]
mod hook_command;
#[cfg(feature = "http-gate")]
mod hook_http;
#[cfg(feature = "http-gate")]
mod http;
#[cfg(feature = "http-gate")]
mod server;
mod tcp;
#[cfg(any(feature = "http-gate", feature = "command-gate"))]
mod undoing;

use std::time::Duration;

use deploykit_core::{
    GateContext, HealthGate, Measurement, Place, RevisionId, RolloutId, ServiceName, Verdict,
};
use tokio::net::TcpSocket;
use tokio::time::timeout;

fn context() -> GateContext {
    let mut context = GateContext::new(
        ServiceName::new("web").unwrap(),
        RolloutId::new("web-7"),
        Place::B,
        RevisionId::new("web:2"),
    );
    context.stable = Some(Place::A);
    context
}

/// Measures and expects this verdict; returns the evidence.
async fn expect(verdict: Verdict, gate: &impl HealthGate, context: &GateContext) -> String {
    let measured = timeout(Duration::from_secs(20), gate.measure(context)).await;
    let Measurement { verdict: found, evidence, .. } = measured.expect("a bound").unwrap();
    assert_eq!(found, verdict, "{evidence}");
    evidence
}

/// An address of this computer at which nobody listens, as long as the socket is kept.
fn nobody() -> (TcpSocket, String) {
    // Bound, so that nothing else gets it, and never listening.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}
