//! Where requests go.

use deploykit_core::{ErrorKind, LoadBalancer, Place, Routing, ServiceName, TaskId, Weight};
use deploykit_docker::Frontend;

use crate::world::{TEST, frontend, get, on_haproxy, on_haproxy_with, thousandths};

#[tokio::test]
async fn every_routing_that_is_set_is_read_back() {
    on_haproxy("readback", |world| async move {
        assert_eq!(world.observe().await.routing, Routing::Closed);
        let (a, b, c) = (Place::A, Place::B, Place::C);
        let last = Place::all().last().unwrap();
        for routing in [
            Routing::all_to(a),
            Routing::split(a, b, thousandths(1)),
            Routing::split(b, c, thousandths(999)),
            Routing::all_to(last),
            Routing::Pooled,
            Routing::Closed,
        ] {
            world.route(&routing).await;
            assert_eq!(world.observe().await.routing, routing);
        }
    })
    .await;
}

#[tokio::test]
async fn a_split_depends_on_the_weights_and_not_on_the_number_of_tasks() {
    on_haproxy("split", |world| async move {
        world.serve(Place::A, 1).await;
        world.serve(Place::B, 3).await;
        world.route(&Routing::split(Place::A, Place::B, thousandths(50))).await;
        world.assert_share(Place::B, 0.05, 5_000).await;
    })
    .await;
}

#[tokio::test]
async fn any_two_places_share_the_requests() {
    on_haproxy("anytwo", |world| async move {
        world.serve(Place::B, 1).await;
        world.serve(Place::C, 1).await;
        world.route(&Routing::split(Place::B, Place::C, thousandths(500))).await;
        world.assert_share(Place::C, 0.5, 1_000).await;
    })
    .await;
}

#[tokio::test]
async fn in_a_pool_every_healthy_task_of_any_place_is_equal() {
    on_haproxy("pooled", |world| async move {
        world.serve(Place::A, 3).await;
        world.route(&Routing::Pooled).await;
        let tasks = world.serve(Place::B, 1).await;
        world.assert_share(Place::B, 0.25, 2_000).await;

        let drained: Vec<TaskId> = tasks.into_iter().map(|task| task.task).collect();
        world.haproxy.drain(&world.service, Place::B, &drained).await.unwrap();
        assert_eq!(world.answers(200).await.answers_of("B"), 0);
    })
    .await;
}

#[tokio::test]
async fn a_place_without_a_healthy_task_gets_nothing_of_its_share() {
    on_haproxy("noshare", |world| async move {
        world.serve(Place::A, 1).await;
        let sick = world.task("B", "unhealthy").await;
        world.route(&Routing::split(Place::A, Place::B, thousandths(500))).await;
        // From the first moment on: nothing is sent to it before it has passed a check.
        let load = world.load().await.without_slow().without_websocket().with_rate(500);
        let running = load.start().await.unwrap();
        world.haproxy.add_targets(&world.service, Place::B, &[sick]).await.unwrap();
        running.at_least(500).await;
        let tally = running.stop().await.tally;
        assert_eq!((tally.failed, tally.answers_of("B")), (0, 0), "{tally}");
    })
    .await;
}

#[tokio::test]
async fn a_closed_service_answers_503_and_says_so() {
    on_haproxy("closed", |world| async move {
        world.serve(Place::A, 1).await;
        let answer = world.get("").await;
        assert_eq!((answer.status, answer.body.as_str()), (503, "web is closed\n"));
    })
    .await;
}

#[tokio::test]
async fn answers_carry_no_header_of_the_balancer() {
    on_haproxy("headers", |world| async move {
        world.live(Place::A, 1).await;
        // `connection` is this one hop's, and asked for.
        let wanted = ["connection", "content-length", "date", "x-version"];
        assert_eq!(world.get("").await.headers, wanted);
    })
    .await;
}

#[tokio::test]
async fn the_test_header_reaches_the_candidate_alone_and_live_requests_never_do() {
    on_haproxy("testheader", |world| async move {
        world.serve(Place::A, 1).await;
        world.serve(Place::B, 1).await;
        world.route(&Routing::all_to(Place::A)).await;
        let (haproxy, service) = (&world.haproxy, &world.service);
        haproxy.set_test_route(service, Some(Place::B)).await.unwrap();

        let state = world.observe().await;
        assert_eq!(state.test_route, Some(Place::B));
        let entry = state.test_entry.unwrap();
        let tests = entry
            .headers
            .iter()
            .fold(world.load().await, |load, (name, value)| load.with_header(name, value));
        let tests = tests.with_rate(200).start().await.unwrap();
        let live = world.answers(1_000).await;
        let tests = tests.stop().await.tally;
        assert_eq!(live.answers_of("A"), live.requests, "{live}");
        assert_eq!((tests.answers_of("B"), tests.failed), (tests.requests, 0), "{tests}");

        haproxy.set_test_route(service, None).await.unwrap();
        assert_eq!(world.observe().await.test_entry, None);
        let answer = world.get("x-deploykit-test: web\r\n").await;
        assert_eq!(answer.status, 503, "{answer:?}");
    })
    .await;
}

#[tokio::test]
async fn a_test_port_reaches_the_candidate_and_marks_what_it_passes_on() {
    let frontend = frontend().with_test_port(TEST);
    on_haproxy_with("testport", frontend, |world| async move {
        // It breaks with the first request that is not marked as a test.
        let task = world.task("B", "errors").await;
        world.haproxy.add_targets(&world.service, Place::B, &[task]).await.unwrap();
        world.haproxy.set_test_route(&world.service, Some(Place::B)).await.unwrap();
        let state = world.until("healthy", |state| state.healthy(Place::B) == 1).await;
        let entry = state.test_entry.unwrap();
        assert_eq!(entry.headers, []);
        for _ in 0..3 {
            assert_eq!(get(&entry.url, "").await.status, 200);
        }
        // An outsider's mark counts for nothing on the live port: this is a live request, and the next one fails.
        world.route(&Routing::all_to(Place::B)).await;
        assert_eq!(world.get("x-deploykit-test: web\r\n").await.status, 200);
        assert!(get(&entry.url, "").await.status >= 500);
    })
    .await;
}

#[tokio::test]
async fn what_somebody_else_changed_is_seen_and_the_next_change_repairs_it() {
    on_haproxy("foreign", |world| async move {
        let tasks = world.live(Place::A, 2).await;
        let (gone, out) = (&tasks[0].task, &tasks[1].task);
        world.whisper("set var proc.web.route str(w:C:1000)").await;
        world.whisper(&format!("set server web.A/{out} state maint")).await;
        world.whisper(&format!("set server web.A/{gone} state maint")).await;
        world.whisper(&format!("del server web.A/{gone}")).await;
        let state = world.observe().await;
        assert_eq!(state.routing, Routing::all_to(Place::C));
        assert_eq!((state.targets.len(), state.healthy(Place::A)), (1, 0));

        world.haproxy.set_test_route(&world.service, None).await.unwrap();
        let state = world.until("healthy", |state| state.healthy(Place::A) == 2).await;
        assert_eq!(state.routing, Routing::all_to(Place::A));

        world.whisper("set var proc.web.route str(nonsense)").await;
        let error = world.haproxy.observe(&world.service).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Foreign);
    })
    .await;
}

#[tokio::test]
async fn services_share_one_haproxy_without_meeting() {
    on_haproxy("services", |world| async move {
        let other = ServiceName::new("web-test").unwrap();
        world.haproxy.add_service(&other, &Frontend::new(TEST)).await.unwrap();
        world.live(Place::A, 1).await;
        let state = world.haproxy.observe(&other).await.unwrap();
        assert_eq!((state.routing, state.targets.len()), (Routing::Closed, 0));
        world.haproxy.remove_service(&other).await.unwrap();
        assert_eq!(world.haproxy.observe(&other).await.unwrap().entry, None);
        assert_eq!(world.observe().await.routing.weight(Place::A), Weight::ALL);
        assert_eq!(world.get("").await.status, 200);
    })
    .await;
}
