//! What cannot be done says what, where and what to do; and nothing has moved.

use std::net::TcpListener;

use deploykit_core::{
    Endpoint, Error, ErrorKind, LoadBalancer, Place, Routing, ServiceName, TaskId, Weights,
};
use deploykit_docker::{Engine, Frontend, HaProxy, HaProxyBuilder};

use crate::world::{LIVE, builder_on_machine, on_haproxy, thousandths};

fn builder(test: &str, state: &tempfile::TempDir) -> HaProxyBuilder {
    let name = format!("dkh-{test}-{}", std::process::id());
    crate::world::builder(&name, state.path())
}

/// The error of a start that must fail, and with it that no container is left.
async fn refused(builder: HaProxyBuilder, test: &str) -> Error {
    let error = builder.start().await.unwrap_err();
    let client = bollard::Docker::connect_with_defaults().unwrap();
    let name = format!("deploykit-haproxy-dkh-{test}-{}", std::process::id());
    assert!(client.inspect_container(&name, None).await.is_err(), "{name} was left");
    let network = format!("dkh-{test}-{}", std::process::id());
    client.remove_network(&network).await.ok();
    error
}

#[tokio::test]
async fn a_published_port_that_is_taken_is_named() {
    let state = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    let error = refused(builder("taken", &state).publish(&at), "taken").await;
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(error.message().contains(&at) && error.hint().is_some(), "{error}");
}

#[tokio::test]
async fn a_port_that_is_taken_on_the_machine_is_named_with_its_service() {
    let state = tempfile::tempdir().unwrap();
    let name = format!("dkh-hosttaken-{}", std::process::id());
    let haproxy = builder_on_machine(&name, state.path()).start().await.unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let frontend = Frontend::new(port).with_address([127, 0, 0, 1].into());
    let web = ServiceName::new("web").unwrap();
    let added = haproxy.add_service(&web, &frontend).await;
    let observed = haproxy.observe(&web).await;
    haproxy.remove().await.unwrap();

    let error = added.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(error.message().contains(&format!("service web: port {port}")), "{error}");
    assert_eq!(observed.unwrap().entry, None);
}

#[tokio::test]
async fn an_image_that_cannot_be_had_is_named_with_the_way_to_get_it() {
    let state = tempfile::tempdir().unwrap();
    // Nothing listens on port 1: no network is needed to know.
    let image = "127.0.0.1:1/haproxy:2.6";
    let error = refused(builder("noimage", &state).image(image), "noimage").await;
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.hint().unwrap().contains(&format!("docker pull {image}")), "{error}");
}

#[tokio::test]
async fn a_bad_configuration_is_told_in_haproxys_own_words() {
    let state = tempfile::tempdir().unwrap();
    let bad = builder("badcfg", &state).extra_config("frontend mine\n  nonsense here\n");
    let error = bad.start().await.unwrap_err();
    let good = builder("badcfg", &state).start().await.unwrap();
    good.remove().await.unwrap();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("unknown keyword 'nonsense'"), "{error}");
}

#[tokio::test]
async fn a_haproxy_that_cannot_be_reached_is_named_by_its_socket() {
    let state = tempfile::tempdir().unwrap();
    let (socket, file) = (state.path().join("none.sock"), state.path().join("haproxy.cfg"));
    let error = HaProxy::attach(&socket, &file).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains(socket.to_str().unwrap()), "{error}");
    assert!(!file.exists());
}

#[tokio::test]
async fn a_stopped_haproxy_is_named_by_its_socket_and_takes_the_change_when_it_is_back() {
    on_haproxy("stopped", |world| async move {
        world.serve(Place::A, 1).await;
        world.client.stop_container(&world.container(), None).await.unwrap();
        let routing = Routing::all_to(Place::A);
        let error = world.haproxy.set_routing(&world.service, &routing).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.message().contains("run/master.sock"), "{error}");
        let error = world.haproxy.observe(&world.service).await.unwrap_err();
        assert!(error.message().contains("run/master.sock"), "{error}");
        let other = ServiceName::new("other").unwrap();
        let unpublished = Frontend::new(9_000).unpublished();
        let error = world.haproxy.add_service(&other, &unpublished).await.unwrap_err();
        assert!(error.is_temporary(), "{error:?}");
        assert!(error.message().contains(&world.container()), "{error}");
        world.builder().start().await.unwrap();
        assert_eq!(world.observe().await.routing, routing);
    })
    .await;
}

#[tokio::test]
async fn a_configuration_file_of_others_is_not_overwritten() {
    on_haproxy("foreignfile", |world| async move {
        let file = world.state.join("theirs.cfg");
        std::fs::write(&file, "global\n").unwrap();
        let socket = world.state.join("run/master.sock");
        let error = HaProxy::attach(socket, &file).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.message().contains("theirs.cfg"), "{error}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "global\n");
    })
    .await;
}

#[tokio::test]
async fn a_service_that_was_not_added_is_closed_and_cannot_be_routed() {
    on_haproxy("unknown", |world| async move {
        let service = ServiceName::new("nobody").unwrap();
        let state = world.haproxy.observe(&service).await.unwrap();
        assert_eq!((state.routing, state.entry), (Routing::Closed, None));
        let error = world.haproxy.set_routing(&service, &Routing::Pooled).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("add_service"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn what_it_cannot_do_is_refused_and_nothing_changes() {
    on_haproxy("cannot", |world| async move {
        let before = std::fs::read_to_string(world.state.join("conf/haproxy.cfg")).unwrap();
        let (haproxy, service) = (&world.haproxy, &world.service);
        let five = Place::all().take(5).map(|place| (place, thousandths(200)));
        let five = Routing::Weighted(Weights::new(five).unwrap());
        for routing in [five, Routing::None] {
            let error = haproxy.set_routing(service, &routing).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        }
        for (task, address) in [("t", "example.org:80"), ("t;quit", "10.0.0.1:80")] {
            let target = Endpoint { task: TaskId::new(task), address: address.into() };
            let error = haproxy.add_targets(service, Place::A, &[target]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        }
        let after = std::fs::read_to_string(world.state.join("conf/haproxy.cfg")).unwrap();
        assert_eq!(after, before);
    })
    .await;
}

#[tokio::test]
async fn a_state_directory_that_is_too_deep_for_a_socket_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let deep = state.path().join("d".repeat(100));
    let error = builder("deep", &state).state_dir(&deep).start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.hint().unwrap().contains("state_dir"), "{error}");
}

#[tokio::test]
async fn an_engine_on_another_machine_is_refused() {
    // A relay to the local Engine: to the client it is another machine.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut far = tokio::net::UnixStream::connect("/var/run/docker.sock").await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        }
    });
    let engine = Engine::connect_to(&format!("tcp://{address}")).await.unwrap();
    let error = HaProxy::builder().engine(engine).start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn a_service_on_a_port_that_is_not_published_is_refused_unless_that_is_meant() {
    on_haproxy("unpublished", |world| async move {
        let before = std::fs::read_to_string(world.state.join("conf/haproxy.cfg")).unwrap();
        let other = ServiceName::new("other").unwrap();
        let on_test_port = Frontend::new(LIVE).with_test_port(9_000);
        for (service, frontend) in [(&other, Frontend::tcp(9_000)), (&world.service, on_test_port)]
        {
            let error = world.haproxy.add_service(service, &frontend).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            let message = error.message();
            assert!(message.contains(service.as_str()) && message.contains("9000"), "{error}");
            let hint = error.hint().unwrap();
            assert!(hint.contains("publish") && hint.contains("unpublished"), "{error}");
        }
        let after = std::fs::read_to_string(world.state.join("conf/haproxy.cfg")).unwrap();
        assert_eq!(after, before);
        let inside = Frontend::tcp(9_000).unpublished();
        world.haproxy.add_service(&other, &inside).await.unwrap();
        let state = world.haproxy.observe(&other).await.unwrap();
        assert_eq!((state.routing, state.entry), (Routing::Closed, None));
    })
    .await;
}

#[tokio::test]
async fn a_haproxy_that_is_to_start_with_a_service_that_it_does_not_publish_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let web = ServiceName::new("web").unwrap();
    let builder = builder("nopublish", &state).service(&web, &Frontend::new(9_000));
    let error = refused(builder, "nopublish").await;
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("9000"), "{error}");
}
