use std::time::Duration;

use deploykit_core::{Entry, ErrorKind, Hook as _, HookContext, HttpHook, Point};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::server::{Answer, Server};
use crate::{nobody, undoing::undoing};

/// A path that is as secret as with many receivers.
fn hook(server: &Server) -> HttpHook {
    HttpHook::post(format!("http://{}/hooks/hush?key=hush", server.address))
}

/// Runs it; what it fails with is told without secrets.
async fn refused(hook: &HttpHook) -> (ErrorKind, String) {
    let ran = timeout(Duration::from_secs(20), hook.run(&undoing())).await.expect("a bound");
    let error = ran.unwrap_err();
    assert!(!error.report().contains("hush"), "{}", error.report());
    (error.kind(), error.to_string())
}

#[tokio::test]
async fn what_is_posted_tells_where_the_rollout_is_and_why_it_is_undone() {
    let server = Server::start(Answer::status("204 No Content")).await;
    let mut context = undoing();
    context.rollout.entry = Some(Entry { url: "http://127.0.0.1:80".into(), headers: vec![] });
    hook(&server).with_header("authorization", "Bearer hush").run(&context).await.unwrap();
    let requests = server.requests();
    let [request] = requests.as_slice() else { panic!("{requests:?}") };
    assert!(request.starts_with("POST /hooks/hush?key=hush HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("authorization: Bearer hush\r\n"), "{request}");
    assert!(request.contains("content-type: application/json\r\n"), "{request}");
    let image = |name, digit: &str| {
        let digest = format!("sha256:{}", digit.repeat(64));
        json!({ "asked": name, "digest": digest, "local": false })
    };
    let (_, body) = request.split_once("\r\n\r\n").unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    let expected = json!({
        "point": "ON_UNDO",
        "service": "web",
        "rollout": "web-7",
        "image": image("reg:5000/web:2", "2"),
        "sidecars": { "proxy": image("envoy:1", "3") },
        "before": image("reg:5000/web:1", "1"),
        "place": "B",
        "revision": "web:2",
        "url": "http://127.0.0.1:80",
        "why": "smoke: it is bad",
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn what_there_is_not_is_not_in_the_body() {
    let server = Server::start(Answer::status("200 OK")).await;
    let full = undoing();
    let mut release = full.release;
    release.sidecars.clear();
    let context = HookContext::new(Point::PreScaleUp, full.rollout, release);
    hook(&server).run(&context).await.unwrap();
    let request = server.requests().concat();
    let body: Value = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
    let mut fields: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["image", "place", "point", "revision", "rollout", "service"]);
}

#[tokio::test]
async fn an_answer_that_is_no_success_is_an_error_with_the_status_and_the_beginning_of_the_body() {
    for (status, kind) in [
        ("500 No", ErrorKind::Other),
        ("302 Found", ErrorKind::Other),
        ("404 Not Found", ErrorKind::Other),
        ("401 Unauthorized", ErrorKind::Denied),
        ("403 Forbidden", ErrorKind::Denied),
    ] {
        let body = format!("it is Friday\n{}", "x".repeat(1_000));
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
        let server = Server::start(Answer::Bytes(format!("{head}{body}"))).await;
        let (found, text) = refused(&hook(&server)).await;
        assert_eq!(found, kind, "{status}");
        let told = format!("POST to {} answered {}: it is Friday x", server.address, &status[..3]);
        assert!(text.starts_with(&told) && text.ends_with("x…"), "{text}");
        assert!(text.len() < 400, "{text}");
    }
}

#[tokio::test]
async fn a_status_without_a_body_is_told_alone() {
    let server = Server::start(Answer::status("503 No")).await;
    let (_, text) = refused(&hook(&server)).await;
    assert_eq!(text, format!("POST to {} answered 503", server.address));
}

#[tokio::test]
async fn nobody_there_or_an_answer_that_breaks_off_is_an_error_that_names_the_host_alone() {
    let (_bound, address) = nobody();
    let (kind, text) = refused(&HttpHook::post(format!("http://{address}/hush"))).await;
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(text.contains(&address) && text.contains("refused"), "{text}");
    let server = Server::start(Answer::CutOff("HTTP/1.1 2".to_owned())).await;
    assert_eq!(refused(&hook(&server)).await.0, ErrorKind::Unavailable);
}

#[tokio::test]
async fn an_answer_that_never_comes_is_the_plan_s_business() {
    let server = Server::start(Answer::Silence).await;
    let (hook, context) = (hook(&server), undoing());
    let ran = timeout(Duration::from_millis(50), hook.run(&context)).await;
    assert!(ran.is_err(), "{ran:?}");
}

#[tokio::test]
async fn the_user_s_own_client_posts_and_may_not_follow_redirects() {
    let server = Server::start(Answer::status("200 OK")).await;
    let client = reqwest::Client::builder().user_agent("mine/1").build().unwrap();
    hook(&server).with_client(client.clone()).run(&undoing()).await.unwrap();
    assert!(server.requests().concat().contains("user-agent: mine/1\r\n"));
    let found = format!(
        "HTTP/1.1 302 Found\r\nlocation: http://{}/\r\ncontent-length: 0\r\n\r\n",
        server.address
    );
    let away = Server::start(Answer::Bytes(found)).await;
    let (kind, text) = refused(&hook(&away).with_client(client)).await;
    assert_eq!(kind, ErrorKind::Invalid);
    assert!(text.contains("redirect"), "{text}");
}

#[tokio::test]
async fn what_cannot_be_posted_is_told_by_name_and_without_values() {
    let server = Server::start(Answer::status("200 OK")).await;
    for (wrong, name) in [
        (HttpHook::post("hooks.example.org/hush"), "URL"),
        (HttpHook::post("file:///hush"), "URL"),
        (hook(&server).with_header("x-key", "hush\nhush"), "x-key"),
        (hook(&server).with_header("no name", "hush"), "no name"),
    ] {
        let (kind, text) = refused(&wrong).await;
        assert_eq!(kind, ErrorKind::Invalid, "{text}");
        assert!(text.contains(name), "{text}");
    }
    assert!(server.requests().is_empty());
}

#[test]
fn neither_path_nor_query_nor_values_of_headers_are_in_debug() {
    let hook = HttpHook::post("https://user:hush@chat.example.org/hush?key=hush")
        .with_header("authorization", "Bearer hush");
    let debug = format!("{hook:?}");
    assert!(debug.contains("chat.example.org") && debug.contains("authorization"), "{debug}");
    assert!(!debug.contains("hush"), "{debug}");
}

#[tokio::test]
async fn a_success_is_one_though_its_body_never_comes_and_a_failure_is_told_by_its_status() {
    for status in ["200 OK", "500 No"] {
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: 10\r\n\r\n");
        let server = Server::start(Answer::Bytes(head)).await;
        let (hook, context) = (hook(&server), undoing());
        let ran = timeout(Duration::from_secs(20), hook.run(&context)).await.expect("a bound");
        match ran {
            Ok(()) => assert_eq!(status, "200 OK"),
            Err(error) => assert!(error.to_string().ends_with("answered 500"), "{error}"),
        }
    }
}
