//! Registries that send people elsewhere, or let them wait at the door.

use std::sync::{Arc, Mutex};

use deploykit_core::{Digest, ErrorKind, ImageRef, Publish, Registry};
use deploykit_docker::{Logins, OciRegistry};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::layout::layout;

/// What nobody but the registry and its token service may see.
const SECRETS: [&str; 3] = ["hush-password", "aHVzaC1wYXNzd29yZA", "hush-token"];

/// Answers each request by its first line and the number of those like it before; remembers all of them.
struct Fake {
    address: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    async fn start(answer: impl Fn(&str, usize) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let kept = Arc::clone(&seen);
        // It ends with the test's runtime.
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 1 << 20];
                let mut filled = 0;
                // Requests here are small and come at once; what they carry may come apart from their head.
                while let Ok(Ok(read @ 1..)) = tokio::time::timeout(
                    std::time::Duration::from_millis(100),
                    stream.read(&mut request[filled..]),
                )
                .await
                {
                    filled += read;
                }
                let request = String::from_utf8_lossy(&request[..filled]).into_owned();
                let line = request.lines().next().unwrap_or_default().to_owned();
                let before = {
                    let mut kept = kept.lock().unwrap();
                    kept.push(request);
                    kept.iter().filter(|other| other.starts_with(&line)).count() - 1
                };
                let reply = answer(&line, before);
                let _ = stream.write_all(reply.as_bytes()).await;
            }
        });
        Self { address, seen }
    }

    /// One that answers anything, and is another host to those who look at names.
    async fn elsewhere() -> Self {
        Self::start(|_, _| reply("200 OK", "", "{}")).await
    }

    fn is_told_a_secret(&self) -> bool {
        let seen = self.seen.lock().unwrap();
        seen.iter().any(|request| SECRETS.iter().any(|secret| request.contains(secret)))
    }

    fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

fn reply(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    )
}

fn asks_for_a_token(address: &str) -> String {
    let asks = format!("www-authenticate: Bearer realm=\"http://{address}/token\"\r\n");
    reply("401 Unauthorized", &asks, "")
}

/// An identity token, as `docker login` keeps it.
fn identity(registry: &str) -> (tempfile::TempDir, Logins) {
    let directory = tempfile::tempdir().unwrap();
    let auths = json!({ "auths": { registry: { "identitytoken": "hush-token" } } });
    std::fs::write(directory.path().join("config.json"), auths.to_string()).unwrap();
    let logins = Logins::new().with_docker_config(directory.path());
    (directory, logins)
}

fn image(registry: &str) -> ImageRef {
    ImageRef::parse(&format!("{registry}/team/web:1")).unwrap()
}

#[tokio::test]
async fn a_log_in_that_is_redirected_to_another_host_carries_no_credentials_there() {
    let thief = Fake::elsewhere().await;
    let port = thief.address.rsplit(':').next().unwrap().to_owned();
    for status in ["302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let to = format!("location: http://localhost:{port}/token\r\n");
        let service = Fake::start(move |_, _| reply(status, &to, "")).await;
        let realm = service.address.clone();
        let fake = Fake::start(move |_, _| asks_for_a_token(&realm)).await;
        let given = Logins::new().without_docker_config();
        let given = given.with_password(&fake.address, "me", "hush-password");
        let (_directory, kept) = identity(&fake.address);
        for logins in [given, kept] {
            let registry = OciRegistry::new().with_logins(logins);
            let error = registry.resolve(&image(&fake.address)).await.unwrap_err();
            assert!(error.message().contains(&fake.address), "{error}");
            assert!(!SECRETS.iter().any(|secret| error.report().contains(secret)), "{error}");
        }
        assert!(service.is_told_a_secret(), "{status}: the token service is to be told");
        assert!(!thief.is_told_a_secret(), "{status}: {:?}", thief.seen);
    }
}

#[tokio::test]
async fn an_upload_that_is_sent_to_another_host_carries_no_credentials_there() {
    let store = Fake::start(|_, _| reply("201 Created", "location: /there\r\n", "")).await;
    let port = store.address.rsplit(':').next().unwrap().to_owned();
    let fake = Fake::start(move |line, _| match line.split(' ').next().unwrap() {
        "GET" => reply("401 Unauthorized", "www-authenticate: Basic realm=\"r\"\r\n", ""),
        "POST" => {
            let to = format!("location: http://localhost:{port}/upload\r\n");
            reply("202 Accepted", &to, "")
        }
        _ => reply("404 Not Found", "", ""),
    })
    .await;
    let logins = Logins::new().without_docker_config();
    let logins = logins.with_password(&fake.address, "me", "hush-password");
    let directory = tempfile::tempdir().unwrap();
    layout(directory.path(), 100);
    let repository = format!("{}/team/web", fake.address);
    let publish = Publish::layout(directory.path(), &repository, ["1"]).unwrap();
    let error = OciRegistry::new().with_logins(logins).publish(&publish).await.unwrap_err();
    assert!(!error.report().contains("hush"), "{}", error.report());
    assert!(store.count() > 0, "{}", error.report());
    assert!(fake.is_told_a_secret(), "the registry itself is to be told");
    let seen = store.seen.lock().unwrap().clone();
    assert!(
        !seen.iter().any(|request| request.to_lowercase().contains("authorization")),
        "{seen:?}"
    );
}

#[tokio::test]
async fn a_token_service_that_stumbles_when_a_token_has_run_out_is_asked_again() {
    let digest = Digest::of(b"x");
    let service = Fake::start(|_, before| match before {
        1 => reply("503 Service Unavailable", "", ""),
        number => reply("200 OK", "", &format!("{{\"token\":\"opaque-{number}\"}}")),
    })
    .await;
    let (realm, head) = (service.address.clone(), format!("docker-content-digest: {digest}\r\n"));
    let fake = Fake::start(move |line, before| {
        if line.starts_with("HEAD") && before > 1 {
            reply("200 OK", &head, "")
        } else {
            asks_for_a_token(&realm)
        }
    })
    .await;
    let registry = OciRegistry::new().with_logins(Logins::new().without_docker_config());
    assert_eq!(registry.resolve(&image(&fake.address)).await.unwrap().digest, digest);
    assert_eq!(service.count(), 3);
}

#[tokio::test]
async fn a_refusal_that_stays_is_one_and_is_asked_about_once_more_only() {
    let service = Fake::start(|_, _| reply("200 OK", "", "{\"token\":\"opaque\"}")).await;
    let realm = service.address.clone();
    let fake = Fake::start(move |_, _| asks_for_a_token(&realm)).await;
    let registry = OciRegistry::new().with_logins(Logins::new().without_docker_config());
    let error = registry.resolve(&image(&fake.address)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{}", error.report());
    assert_eq!(service.count(), 2);
}

/// Everything that anything in this process logs, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn neither_passwords_nor_tokens_are_in_any_log_or_debug_print() {
    let log = Log::default();
    let to = log.clone();
    let all = tracing_subscriber::filter::LevelFilter::TRACE;
    tracing_subscriber::fmt().with_max_level(all).with_writer(move || to.clone()).init();
    let service = Fake::start(|_, _| reply("200 OK", "", "{\"token\":\"hush-token\"}")).await;
    let realm = service.address.clone();
    let head = format!("docker-content-digest: {}\r\n", Digest::of(b"x"));
    for asks in ["Bearer", "Basic"] {
        let (realm, head) = (realm.clone(), head.clone());
        let fake = Fake::start(move |line, _| match line {
            line if line.starts_with("HEAD") => reply("200 OK", &head, ""),
            _ if asks == "Bearer" => asks_for_a_token(&realm),
            _ => reply("401 Unauthorized", "www-authenticate: Basic realm=\"r\"\r\n", ""),
        })
        .await;
        let given = Logins::new().without_docker_config();
        let given = given.with_password(&fake.address, "me", "hush-password");
        let (_directory, kept) = identity(&fake.address);
        for logins in [given, kept] {
            let registry = OciRegistry::new().with_logins(logins);
            // An identity token is nothing to who asks for a password.
            let _ = registry.resolve(&image(&fake.address)).await;
            assert!(!format!("{registry:?}").contains("hush"), "{registry:?}");
        }
        let logged = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
        assert!(logged.contains(&fake.address), "the log must be there to be searched");
        for secret in SECRETS {
            assert!(!logged.contains(secret), "{secret}");
        }
        assert!(service.is_told_a_secret() || fake.is_told_a_secret());
    }
}
