use std::time::Duration;

use deploykit_core::{ErrorKind, GateContext, HealthGate, HttpGate, Verdict};

use crate::server::{Answer, Server};
use crate::{context, expect, nobody};

/// A server behind the test route.
async fn on_test_route(answer: Answer) -> (Server, GateContext) {
    let server = Server::start(answer).await;
    let mut context = context();
    context.test_entry = Some(server.entry());
    (server, context)
}

#[tokio::test]
async fn a_good_status_passes_with_what_was_asked_and_answered_as_evidence() {
    let (_server, context) = on_test_route(Answer::status("204 No Content")).await;
    let evidence = expect(Verdict::Pass, &HttpGate::new("/health"), &context).await;
    assert!(evidence.starts_with("GET /health answered 204 in "), "{evidence}");
    assert!(evidence.ends_with(" ms"), "{evidence}");
}

#[tokio::test]
async fn a_bad_status_fails() {
    for status in ["503 Service Unavailable", "404 Not Found", "400 Bad Request"] {
        let (_server, context) = on_test_route(Answer::status(status)).await;
        let evidence = expect(Verdict::Fail, &HttpGate::new("/health"), &context).await;
        assert!(evidence.contains(&format!("answered {}", &status[..3])), "{evidence}");
    }
}

#[tokio::test]
async fn a_service_of_plain_connections_is_not_asked_and_the_way_out_is_named() {
    let (server, mut context) = on_test_route(Answer::status("200 OK")).await;
    context.test_entry.as_mut().unwrap().url = format!("tcp://{}", server.address);
    let error = HttpGate::new("/health").measure(&context).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.hint().unwrap().contains("TcpGate"), "{error}");
    assert_eq!(server.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn which_status_is_good_can_be_set() {
    let (_server, context) = on_test_route(Answer::status("404 Not Found")).await;
    let gate = HttpGate::new("/gone");
    expect(Verdict::Pass, &gate.clone().with_status(404..405), &context).await;
    expect(Verdict::Fail, &gate.with_status(400..404), &context).await;
}

#[tokio::test]
async fn by_default_only_the_test_route_is_asked_with_the_headers_that_lead_there() {
    let live = Server::start(Answer::status("503 No")).await;
    let (test, mut context) = on_test_route(Answer::status("200 OK")).await;
    context.entry = Some(live.entry());
    context.targets = vec![live.address.clone()];
    let route = context.test_entry.as_mut().unwrap();
    route.headers.push(("x-deploykit-test".to_owned(), "web".to_owned()));

    let gate = HttpGate::new("/health?deep=1")
        .with_header("authorization", "Bearer t")
        .with_header("X-Deploykit-Test", "somewhere else");
    expect(Verdict::Pass, &gate, &context).await;

    assert_eq!(live.requests(), Vec::<String>::new());
    let head = test.requests().concat();
    assert!(head.starts_with("GET /health?deep=1 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("authorization: Bearer t\r\n"), "{head}");
    assert!(head.contains("x-deploykit-test: web\r\n"), "{head}");
    assert!(!head.contains("somewhere else"), "{head}");
}

#[tokio::test]
async fn without_an_open_test_route_nothing_is_measured_and_the_way_out_is_told() {
    let mut context = context();
    let error = HttpGate::new("/health").measure(&context).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("test route"), "{error}");
    assert!(error.hint().unwrap().contains("live()"), "{error}");

    context.test_entry = Some(deploykit_core::Entry { url: "nonsense".into(), headers: vec![] });
    let error = HttpGate::new("/health").measure(&context).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn live_asks_as_live_requests_do() {
    let live = Server::start(Answer::status("200 OK")).await;
    let (test, mut context) = on_test_route(Answer::status("503 No")).await;
    context.entry = Some(live.entry());
    expect(Verdict::Pass, &HttpGate::new("/").live(), &context).await;
    assert!(test.requests().is_empty());

    context.entry = None;
    let error = HttpGate::new("/").live().measure(&context).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn each_target_is_asked_and_one_bad_one_fails() {
    let good = [
        Server::start(Answer::status("200 OK")).await,
        Server::start(Answer::status("200 OK")).await,
    ];
    let bad = Server::start(Answer::status("500 No")).await;
    let gate = HttpGate::new("/health").each_target();
    let mut context = context();

    context.targets = good.iter().map(|server| server.address.clone()).collect();
    let evidence = expect(Verdict::Pass, &gate, &context).await;
    assert!(evidence.contains("all 2 targets"), "{evidence}");
    assert!(good.iter().all(|server| server.requests().len() == 1));

    context.targets.insert(1, bad.address.clone());
    let evidence = expect(Verdict::Fail, &gate, &context).await;
    let told = format!("GET /health at {} answered 500", bad.address);
    assert!(evidence.contains(&told) && evidence.contains("1 of 3 targets"), "{evidence}");
}

#[tokio::test]
async fn a_candidate_without_targets_is_inconclusive() {
    let gate = HttpGate::new("/health").each_target();
    expect(Verdict::Inconclusive, &gate, &context()).await;
}

#[tokio::test]
async fn a_refused_connection_is_a_failure_of_the_candidate() {
    let (_bound, address) = nobody();
    let mut context = context();
    context.targets = vec![address];
    let gate = HttpGate::new("/health?key=hush").each_target();
    let evidence = expect(Verdict::Fail, &gate, &context).await;
    assert!(evidence.contains("refused") && evidence.contains(&context.targets[0]), "{evidence}");
    assert!(!evidence.contains("hush"), "{evidence}");
}

#[tokio::test]
async fn no_answer_in_time_is_a_failure_of_the_candidate() {
    let (_server, context) = on_test_route(Answer::Silence).await;
    let gate = HttpGate::new("/health").with_timeout(Duration::from_millis(50));
    let evidence = expect(Verdict::Fail, &gate, &context).await;
    assert_eq!(evidence, "GET /health had no answer within 50 ms");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_a_failure_of_the_candidate() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf of it";
    for cut in ["", "HTTP/1.1 200", head] {
        let (_server, context) = on_test_route(Answer::CutOff(cut.to_owned())).await;
        expect(Verdict::Fail, &HttpGate::new("/health"), &context).await;
    }
}

#[tokio::test]
async fn the_body_must_contain_the_expected_text() {
    let (_server, context) = on_test_route(Answer::body("{\"status\":\"ok\"}")).await;
    let gate = HttpGate::new("/health");
    expect(Verdict::Pass, &gate.clone().with_body_containing("\"ok\""), &context).await;
    let evidence = expect(Verdict::Fail, &gate.with_body_containing("ready"), &context).await;
    assert!(evidence.contains("without \"ready\""), "{evidence}");
    assert!(!evidence.contains("status"), "the body is not evidence: {evidence}");
}

#[tokio::test]
async fn an_endless_body_is_read_only_in_part() {
    let body = "x".repeat(3 << 20);
    let (_server, context) = on_test_route(Answer::body(&format!("first{body}last"))).await;
    let gate = HttpGate::new("/");
    expect(Verdict::Pass, &gate.clone().with_body_containing("first"), &context).await;
    expect(Verdict::Fail, &gate.with_body_containing("last"), &context).await;
}

#[tokio::test]
async fn an_answer_slower_than_allowed_fails() {
    let (_server, context) = on_test_route(Answer::status("200 OK")).await;
    let gate = HttpGate::new("/health");
    let evidence =
        expect(Verdict::Fail, &gate.clone().with_max_latency(Duration::ZERO), &context).await;
    assert!(evidence.contains("slower than 0 ms"), "{evidence}");
    expect(Verdict::Pass, &gate.with_max_latency(Duration::from_secs(60)), &context).await;
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let found = "HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n";
    let (server, context) = on_test_route(Answer::Bytes(found.to_owned())).await;
    let evidence = expect(Verdict::Pass, &HttpGate::new("/"), &context).await;
    assert!(evidence.contains("answered 302"), "{evidence}");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_client_that_follows_redirects_measures_nothing() {
    let found = "HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n";
    let (_server, context) = on_test_route(Answer::Bytes(found.to_owned())).await;
    let elsewhere = Server::start(Answer::status("200 OK")).await;
    let away = format!(
        "HTTP/1.1 302 Found\r\nlocation: http://{}/\r\ncontent-length: 0\r\n\r\n",
        elsewhere.address
    );
    let (_other, away) = on_test_route(Answer::Bytes(away)).await;
    let gate = HttpGate::new("/").with_client(reqwest::Client::new());
    for context in [context, away] {
        let error = gate.measure(&context).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("redirect"), "{error}");
    }
}

#[tokio::test]
async fn the_user_s_own_client_is_used() {
    let (server, context) = on_test_route(Answer::status("200 OK")).await;
    let client = reqwest::Client::builder().user_agent("mine/1").build().unwrap();
    expect(Verdict::Pass, &HttpGate::new("/").with_client(client), &context).await;
    assert!(server.requests().concat().contains("user-agent: mine/1\r\n"));
}

#[tokio::test]
async fn each_measurement_makes_a_connection_of_its_own() {
    let (server, context) = on_test_route(Answer::status("200 OK")).await;
    let gate = HttpGate::new("/");
    for _ in 0..3 {
        expect(Verdict::Pass, &gate, &context).await;
    }
    assert_eq!(server.connections(), 3);
}

#[tokio::test]
async fn what_cannot_be_asked_is_told_by_name_and_without_values() {
    let (server, context) = on_test_route(Answer::status("200 OK")).await;
    let gate = HttpGate::new("/");
    for (gate, name) in [
        (HttpGate::new("health"), "path"),
        (gate.clone().with_header("x-key", "hush\nhush"), "x-key"),
        (gate.with_header("no name", "hush"), "no name"),
    ] {
        let error = gate.measure(&context).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let text = error.report();
        assert!(text.contains(name) && !text.contains("hush"), "{text}");
    }
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn values_of_headers_and_the_query_are_in_neither_debug_nor_evidence() {
    let (_server, context) = on_test_route(Answer::status("500 No")).await;
    let gate = HttpGate::new("/health?key=hush").with_header("authorization", "Bearer hush");
    let evidence = expect(Verdict::Fail, &gate, &context).await;
    let debug = format!("{gate:?}");
    assert!(debug.contains("authorization") && debug.contains("/health"), "{debug}");
    assert!(!debug.contains("hush") && !evidence.contains("hush"), "{debug} {evidence}");
}

#[tokio::test]
async fn a_header_that_cannot_be_sent_is_a_mistake_and_no_measurement_of_targets_either() {
    let mut context = context();
    context.targets = vec!["127.0.0.1:1".to_owned()];
    let gate = HttpGate::new("/").each_target().with_header("no name", "x");
    assert_eq!(gate.measure(&context).await.unwrap_err().kind(), ErrorKind::Invalid);
}
