use std::time::Duration;

use deploykit_core::{TcpGate, Verdict};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::{context, expect, nobody};

#[tokio::test]
async fn a_candidate_whose_targets_all_accept_connections_passes() {
    let listeners = [
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
    ];
    let mut context = context();
    context.targets =
        listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect();
    let evidence = expect(Verdict::Pass, &TcpGate::new(), &context).await;
    assert!(evidence.contains("all 2 targets"), "{evidence}");
    for listener in &listeners {
        listener.accept().await.unwrap();
    }
}

#[tokio::test]
async fn one_target_that_refuses_fails_and_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_bound, refusing) = nobody();
    let mut context = context();
    context.targets = vec![listener.local_addr().unwrap().to_string(), refusing.clone()];
    let evidence = expect(Verdict::Fail, &TcpGate::new(), &context).await;
    assert!(evidence.contains(&refusing) && evidence.contains("1 of 2 targets"), "{evidence}");
}

#[tokio::test]
async fn a_candidate_without_targets_is_inconclusive() {
    expect(Verdict::Inconclusive, &TcpGate::new(), &context()).await;
}

// Elsewhere a full queue of connections refuses further ones.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_connection_that_is_not_made_in_time_fails() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    // Nobody accepts: after these, the system answers no more.
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
    {
        waiting.push(stream);
        assert!(waiting.len() < 100, "the queue is never full");
    }
    let mut context = context();
    context.targets = vec![address.to_string()];
    let gate = TcpGate::new().with_timeout(Duration::from_millis(50));
    let evidence = expect(Verdict::Fail, &gate, &context).await;
    assert_eq!(evidence, format!("no connection to {address} within 50 ms"));
}
