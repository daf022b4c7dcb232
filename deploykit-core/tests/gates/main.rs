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

use std::time::Duration;

use deploykit_core::{
    GateContext, HealthGate, HookContext, ImageRef, Measurement, PinnedImage, Place, Point,
    Release, RevisionId, RolloutId, ServiceName, ServiceSpec, Verdict,
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

/// The undoing of a rollout from version 1, which has a secret in its settings, to version 2, which has a sidecar.
#[cfg(any(feature = "http-gate", feature = "command-gate"))]
fn undoing() -> HookContext {
    let image = |name, digit: &str| {
        let digest = format!("sha256:{}", digit.repeat(64)).parse().unwrap();
        PinnedImage::pushed(ImageRef::parse(name).unwrap(), digest)
    };
    let spec = ServiceSpec::http(8080, "/health").with_env("KEY", "hush");
    let mut release = Release::new(image("reg:5000/web:2", "2"), spec.clone());
    release.sidecars.insert("proxy".to_owned(), image("envoy:1", "3"));
    let mut told = HookContext::new(Point::OnUndo, context(), release);
    told.before = Some(Release::new(image("reg:5000/web:1", "1"), spec));
    told.why = Some("smoke: it is bad".to_owned());
    told
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
