use std::time::Duration;

use deploykit_core::{Entry, ErrorKind, HealthGate, TcpGate, Verdict};
use tokio::io::AsyncWriteExt;
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

/// An entry at which a server does this with each connection.
async fn entry_that(greets: bool, hangs_up: bool) -> Entry {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            if greets {
                stream.write_all(b"hello").await.unwrap();
            }
            if !hangs_up {
                kept.push(stream);
            }
        }
    });
    Entry { url, headers: Vec::new() }
}

#[tokio::test]
async fn over_an_entry_a_connection_must_stay_or_say_something() {
    for (greets, hangs_up, verdict) in [
        (false, false, Verdict::Pass),
        (true, true, Verdict::Pass),
        // A balancer without anybody behind it.
        (false, true, Verdict::Fail),
    ] {
        let mut context = context();
        context.entry = Some(entry_that(greets, hangs_up).await);
        context.test_entry = Some(entry_that(greets, hangs_up).await);
        expect(verdict, &TcpGate::new().live(), &context).await;
        expect(verdict, &TcpGate::new().test_route(), &context).await;
    }
}

#[tokio::test]
async fn where_there_is_no_entry_nothing_is_measured() {
    for (gate, missing) in
        [(TcpGate::new().live(), "balancer"), (TcpGate::new().test_route(), "test route")]
    {
        let error = gate.measure(&context()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.message().contains(missing) && error.hint().is_some(), "{error}");
    }
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
