//! TLS at HAProxy, and TLS that it passes through.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use deploykit_core::{
    Endpoint, Entry, ErrorKind, GateContext, HealthGate, HttpGate, LoadBalancer, Place, RevisionId,
    RolloutId, Routing, ServiceName, TaskId, Verdict,
};
use deploykit_docker::{Certificate, Frontend, Sticky};
use deploykit_testing::load::Load;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::world::{LIVE, TEST, World, free_port, frontend, get, on_haproxy_with, on_machine};

const HOST: &str = "web.example.org";

/// Who vouches for certificates, and whom clients trust.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate for [`HOST`] and its key, both in PEM.
struct Identity {
    chain: String,
    key: String,
    der: Vec<u8>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn identity(&self) -> Identity {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([HOST.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Identity {
            chain: certificate.pem(),
            key: key.serialize_pem(),
            der: certificate.der().to_vec(),
        }
    }

    /// A connection, which is made only with who has a certificate of this authority.
    async fn connect(&self, at: SocketAddr, offers: &[&str]) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let mut config =
            ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = offers.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(at).await?;
        let name = ServerName::try_from(HOST).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// A client that trusts this authority alone, and finds [`HOST`] there.
    fn client(&self, at: SocketAddr) -> ClientBuilder {
        let root = reqwest::Certificate::from_pem(self.0.pem().as_bytes()).unwrap();
        Client::builder()
            .tls_certs_only([root])
            .resolve(HOST, at)
            .redirect(Policy::none())
            .no_proxy()
    }

    /// A plain way to a TLS port, for a load that speaks no TLS.
    async fn plain_way(self: &Arc<Self>, at: SocketAddr) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let authority = Arc::clone(self);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let authority = Arc::clone(&authority);
                tokio::spawn(async move {
                    if let Ok(mut far) = authority.connect(at, &[]).await {
                        copy_bidirectional(&mut near, &mut far).await.ok();
                    }
                });
            }
        });
        url
    }
}

impl Identity {
    /// Both in one file.
    fn save(&self, file: &Path) {
        fs::write(file, format!("{}{}", self.chain, self.key)).unwrap();
    }
}

/// The certificate that the other side showed.
fn shown(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

async fn address(world: &World) -> SocketAddr {
    address_of(&world.observe().await.entry)
}

fn address_of(entry: &Option<Entry>) -> SocketAddr {
    entry.as_ref().unwrap().url.strip_prefix("https://").unwrap().parse().unwrap()
}

/// What a test with a service under TLS has.
struct Site {
    world: World,
    authority: Arc<Authority>,
    identity: Identity,
    /// The certificate and its key.
    file: PathBuf,
}

impl Site {
    fn frontend(&self) -> Frontend {
        frontend().with_tls(Certificate::pem(&self.file))
    }
}

async fn under_tls<F>(name: &str, change: fn(Frontend) -> Frontend, test: impl FnOnce(Site) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let (dir, authority) = (tempfile::tempdir().unwrap(), Arc::new(Authority::new()));
    let (identity, file) = (authority.identity(), dir.path().join("site.pem"));
    identity.save(&file);
    let tls = change(frontend().with_tls(Certificate::pem(&file)));
    on_haproxy_with(name, tls, |world| test(Site { world, authority, identity, file })).await;
}

fn as_it_is(frontend: Frontend) -> Frontend {
    frontend
}

fn copies(world: &World) -> Vec<PathBuf> {
    let entries = fs::read_dir(world.state.join("conf")).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    files.filter(|file| file.extension().is_some_and(|ending| ending == "pem")).collect()
}

#[tokio::test]
async fn clients_get_the_certificate_and_http_2_or_1_as_they_can() {
    under_tls("tlsalpn", as_it_is, |Site { world, authority, identity, .. }| async move {
        world.live(Place::A, 1).await;
        let at = address(&world).await;
        let none: &[&str] = &[];
        for (offers, agreed) in [
            (["h2", "http/1.1"].as_slice(), Some("h2")),
            (["http/1.1"].as_slice(), Some("http/1.1")),
            (none, None),
        ] {
            let stream = authority.connect(at, offers).await.unwrap();
            let protocol = stream.get_ref().1.alpn_protocol();
            assert_eq!(protocol, agreed.map(str::as_bytes), "{offers:?}");
            assert_eq!(shown(&stream), identity.der);
        }
        let client = authority.client(at).build().unwrap();
        let url = format!("https://{HOST}:{}", at.port());
        let answer = client.get(&url).send().await.unwrap();
        assert_eq!((answer.version(), answer.status().as_u16()), (Version::HTTP_2, 200));
        assert_eq!(answer.text().await.unwrap(), "version A");
        assert!(Authority::new().connect(at, &[]).await.is_err(), "any authority would do");
    })
    .await;
}

#[tokio::test]
async fn nothing_of_the_key_is_readable_to_others_or_told() {
    under_tls("tlskey", as_it_is, |site| async move {
        let (world, secret) = (&site.world, site.identity.key.lines().nth(1).unwrap());
        let mut found = 0;
        for entry in fs::read_dir(world.state.join("conf")).unwrap() {
            let path = entry.unwrap().path();
            if fs::read_to_string(&path).unwrap().contains(secret) {
                found += 1;
                let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
                assert_eq!(mode, 0o600, "{}", path.display());
            }
        }
        assert_eq!(found, 1);
        let told = format!("{:?} {:?}", world.haproxy, site.frontend());
        assert!(told.contains("site.pem") && !told.contains(secret), "{told}");

        world.haproxy.remove_service(&world.service).await.unwrap();
        assert_eq!(copies(world), Vec::<PathBuf>::new(), "the copy outlives the service");
    })
    .await;
}

#[tokio::test]
async fn renewing_a_certificate_under_load_loses_no_request() {
    under_tls("tlsrenew", as_it_is, |site| async move {
        let (world, authority) = (&site.world, &site.authority);
        world.live(Place::A, 2).await;
        let at = address(world).await;
        let load = Load::new(authority.plain_way(at).await).with_rate(200).start().await.unwrap();
        load.at_least(200).await;
        for _ in 0..5 {
            let next = authority.identity();
            next.save(&site.file);
            world.haproxy.add_service(&world.service, &site.frontend()).await.unwrap();
            let stream = authority.connect(at, &[]).await.unwrap();
            assert_eq!(shown(&stream), next.der);
            let more = load.requests() + 200;
            load.at_least(more).await;
        }
        let report = load.stop().await;
        assert_eq!(report.tally.failed, 0, "{}", report.tally);
        assert!(report.websockets > 0, "{report:?}");
        assert_eq!(copies(world).len(), 1);
    })
    .await;
}

#[tokio::test]
async fn clients_of_http_2_notice_nothing_of_a_reload() {
    under_tls("tlsh2", as_it_is, |site| async move {
        let (world, authority) = (&site.world, &site.authority);
        world.live(Place::A, 2).await;
        let at = address(world).await;
        let client = authority.client(at).build().unwrap();
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let mut loops = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let (client, stopped) = (client.clone(), stopped.clone());
            let url = format!("https://{HOST}:{}", at.port());
            loops.spawn(async move {
                let mut served = 0_u32;
                while !*stopped.borrow() {
                    let answer = client.get(&url).send().await.unwrap();
                    assert_eq!(
                        (answer.version(), answer.status().as_u16()),
                        (Version::HTTP_2, 200)
                    );
                    answer.text().await.unwrap();
                    served += 1;
                }
                served
            });
        }
        for _ in 0..5 {
            authority.identity().save(&site.file);
            world.haproxy.add_service(&world.service, &site.frontend()).await.unwrap();
        }
        stop.send(true).unwrap();
        let served: u32 = loops.join_all().await.into_iter().sum();
        assert!(served > 100, "{served}");
    })
    .await;
}

#[tokio::test]
async fn a_restarted_haproxy_has_its_certificate() {
    under_tls("tlsrestart", as_it_is, |Site { world, authority, file, .. }| async move {
        // It is needed to add the service and never again.
        fs::remove_file(file).unwrap();
        world.restart().await;
        world.until("back", |state| state.entry.is_some()).await;
        let other = ServiceName::new("other").unwrap();
        world.haproxy.add_service(&other, &Frontend::new(9_000).unpublished()).await.unwrap();
        authority.connect(address(&world).await, &[]).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn nothing_is_left_of_a_key_whose_copy_cannot_be_made() {
    under_tls("tlscopy", as_it_is, |site| async move {
        // Where the copy was, there is something else.
        let copy = copies(&site.world).remove(0);
        fs::remove_file(&copy).unwrap();
        fs::create_dir(&copy).unwrap();
        let error = site.world.haproxy.add_service(&site.world.service, &site.frontend()).await;
        let error = error.unwrap_err();
        assert!(error.message().contains(copy.to_str().unwrap()), "{error}");
        fs::remove_dir(&copy).unwrap();
        let secret = site.identity.key.lines().nth(1).unwrap();
        for entry in fs::read_dir(site.world.state.join("conf")).unwrap() {
            let path = entry.unwrap().path();
            assert!(!fs::read_to_string(&path).unwrap().contains(secret), "{}", path.display());
        }
    })
    .await;
}

#[tokio::test]
async fn a_certificate_that_would_have_to_be_waited_for_is_refused() {
    under_tls("tlspipe", as_it_is, |site| async move {
        let pipe = site.file.with_extension("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let (there, text) = (pipe.clone(), format!("{}{}", site.identity.chain, site.identity.key));
        // Each time that somebody opens it; for ever, where nobody does.
        std::thread::spawn(move || while fs::write(&there, &text).is_ok() {});
        let tls = frontend().with_tls(Certificate::pem(&pipe));
        let error = site.world.haproxy.add_service(&site.world.service, &tls).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.message().contains(pipe.to_str().unwrap()), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_named_and_nothing_has_moved() {
    under_tls("tlsbad", as_it_is, |Site { world, authority, identity, file }| async move {
        let at = address(&world).await;
        let (before, dir) =
            (fs::read(world.state.join("conf/haproxy.cfg")).unwrap(), file.parent());
        let path = |name: &str| dir.unwrap().join(name);
        let write = |name: &str, text: &str| fs::write(path(name), text).unwrap();
        let other = authority.identity();
        write("chain.pem", &identity.chain);
        write("key.pem", &identity.key);
        write("strange.pem", &other.key);
        write("garbage.pem", "hello\n");
        let cut = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        write("cut.pem", cut);
        let encrypted = identity.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        write("encrypted.pem", &encrypted);
        let pair = |chain: &str, key: &str| Certificate::chain_and_key(path(chain), path(key));
        for (certificate, kind, named) in [
            (Certificate::pem(path("none.pem")), ErrorKind::NotFound, "none.pem"),
            (Certificate::pem(path("garbage.pem")), ErrorKind::Invalid, "garbage.pem"),
            (Certificate::pem(path("chain.pem")), ErrorKind::Invalid, "chain.pem"),
            (pair("chain.pem", "none.pem"), ErrorKind::NotFound, "none.pem"),
            (pair("chain.pem", "garbage.pem"), ErrorKind::Invalid, "garbage.pem"),
            (pair("chain.pem", "encrypted.pem"), ErrorKind::Invalid, "encrypted.pem"),
            // These only HAProxy itself finds out.
            (pair("chain.pem", "strange.pem"), ErrorKind::Invalid, "strange.pem"),
            (pair("cut.pem", "key.pem"), ErrorKind::Invalid, "cut.pem"),
        ] {
            let bad = frontend().with_tls(certificate);
            let error = world.haproxy.add_service(&world.service, &bad).await.unwrap_err();
            let told = error.report();
            assert_eq!(error.kind(), kind, "{told}");
            assert!(told.contains("web") && told.contains(named), "{told}");
            assert!(error.hint().is_some(), "{told}");
            let secret = identity.key.lines().nth(1).unwrap();
            assert!(!format!("{error:?}{told}").contains(secret));
        }
        let on_tcp = Frontend::tcp(LIVE).with_tls(Certificate::pem(&file));
        let error = world.haproxy.add_service(&world.service, &on_tcp).await.unwrap_err();
        assert!(error.message().contains("tls"), "{error}");

        assert_eq!(fs::read(world.state.join("conf/haproxy.cfg")).unwrap(), before);
        assert_eq!(copies(&world).len(), 1);
        let stream = authority.connect(at, &[]).await.unwrap();
        assert_eq!(shown(&stream), identity.der);
        // Two files are as good as one.
        let both = frontend().with_tls(pair("chain.pem", "key.pem"));
        world.haproxy.add_service(&world.service, &both).await.unwrap();
        authority.connect(at, &[]).await.unwrap();
    })
    .await;
}

/// What a gate is told of a candidate in place A.
async fn context(world: &World) -> GateContext {
    let (service, state) = (world.service.clone(), world.observe().await);
    let (rollout, revision) = (RolloutId::new("web-1"), RevisionId::new("web:1"));
    let mut context = GateContext::new(service, rollout, Place::A, revision);
    (context.entry, context.test_entry) = (state.entry, state.test_entry);
    context
}

#[tokio::test]
async fn a_test_port_stays_plain() {
    let with_port = |frontend: Frontend| frontend.with_test_port(TEST);
    under_tls("tlstest", with_port, |Site { world, .. }| async move {
        world.serve(Place::A, 1).await;
        world.haproxy.set_test_route(&world.service, Some(Place::A)).await.unwrap();
        let context = context(&world).await;
        let url = &context.test_entry.as_ref().unwrap().url;
        assert_eq!(get(url, "").await.status, 200);
        let measured = HttpGate::new("/").measure(&context).await.unwrap();
        assert_eq!(measured.verdict, Verdict::Pass, "{}", measured.evidence);
    })
    .await;
}

#[tokio::test]
async fn under_tls_the_cookie_of_a_sticky_service_is_for_tls_alone() {
    let sticky = |frontend: Frontend| frontend.with_sticky(Sticky::cookie("version"));
    under_tls("tlssticky", sticky, |Site { world, authority, .. }| async move {
        world.live(Place::A, 1).await;
        let url = authority.plain_way(address(&world).await).await;
        let cookies = get(&url, "").await.cookies;
        assert!(cookies[0].ends_with("; HttpOnly; SameSite=Lax; Secure"), "{cookies:?}");
    })
    .await;
}

#[tokio::test]
async fn the_service_is_told_that_its_clients_came_over_tls_testers_included() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Arc::new(Authority::new()));
    let file = dir.path().join("site.pem");
    authority.identity().save(&file);
    let tls = Frontend::new(free_port()).with_test_port(free_port());
    on_machine("tlstold", tls.with_tls(Certificate::pem(&file)), |world| async move {
        // Answers with what it was asked.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 4_096];
                // HAProxy's checks ask nothing.
                let Ok(length @ 1..) = stream.read(&mut head).await else { continue };
                let head = String::from_utf8_lossy(&head[..length]);
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{head}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let target = Endpoint { task: TaskId::new("t"), address };
        world.haproxy.add_targets(&world.service, Place::A, &[target]).await.unwrap();
        world.haproxy.set_test_route(&world.service, Some(Place::A)).await.unwrap();
        world.route(&Routing::all_to(Place::A)).await;
        let state = world.until("healthy", |state| state.healthy(Place::A) == 1).await;
        let lie = "x-forwarded-proto: http\r\n";
        let tested = get(&state.test_entry.unwrap().url, lie).await.body;
        let url = authority.plain_way(address_of(&state.entry)).await;
        let live = get(&url, lie).await.body;
        for told in [tested, live] {
            assert!(told.contains("x-forwarded-proto: https\r\n"), "{told}");
            assert!(!told.contains(lie), "{told}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_gate_that_trusts_no_certificate_says_so_instead_of_failing_the_version() {
    under_tls("tlsgate", as_it_is, |Site { world, authority, .. }| async move {
        world.serve(Place::A, 1).await;
        world.haproxy.set_test_route(&world.service, Some(Place::A)).await.unwrap();
        let context = context(&world).await;
        let gate = HttpGate::new("/");
        let error = gate.measure(&context).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.hint().unwrap().contains("with_client"), "{error}");
        // The certificate is for a name, and the entry is an address.
        let client = authority.client(address(&world).await).danger_accept_invalid_hostnames(true);
        let gate = gate.with_client(client.build().unwrap());
        let measured = gate.measure(&context).await.unwrap();
        assert_eq!(measured.verdict, Verdict::Pass, "{}", measured.evidence);
    })
    .await;
}

#[tokio::test]
async fn tls_that_the_service_speaks_itself_is_passed_through() {
    on_machine("tlspass", Frontend::tcp(free_port()), |world| async move {
        let authority = Authority::new();
        let identity = authority.identity();
        let chain = CertificateDer::from_pem_slice(identity.chain.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
        let config =
            ServerConfig::builder().with_no_client_auth().with_single_cert(vec![chain], key);
        let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Endpoint {
            task: TaskId::new("t"),
            address: listener.local_addr().unwrap().to_string(),
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // HAProxy's checks shake no hands.
                    if let Ok(mut stream) = acceptor.accept(stream).await {
                        stream.write_all(b"hello").await.unwrap();
                        stream.shutdown().await.unwrap();
                    }
                });
            }
        });
        world.haproxy.add_targets(&world.service, Place::A, &[target]).await.unwrap();
        world.until("healthy", |state| state.healthy(Place::A) == 1).await;
        world.route(&Routing::all_to(Place::A)).await;
        let url = world.observe().await.entry.unwrap().url;
        let at = url.strip_prefix("tcp://").unwrap().parse().unwrap();
        let mut stream = authority.connect(at, &[]).await.unwrap();
        assert_eq!(shown(&stream), identity.der);
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "hello");
        assert_eq!(copies(&world), Vec::<PathBuf>::new());
    })
    .await;
}
