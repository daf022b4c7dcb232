//! A registry that wants bearer tokens, and the service that it sends its users to.

use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use deploykit_core::{Digest, ErrorKind, Publish, PublishEvent, Registry};
use deploykit_docker::Logins;
use rcgen::SigningKey;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::credentials::write_config;
use crate::tls::Authority;
use crate::world::{Events, IMAGE, PUSHER, Stand, World};

/// What is exchanged for a token instead of a password.
const IDENTITY: &str = "an-identity-token";

/// Signs tokens for whoever is the pusher.
struct TokenService {
    address: String,
    authority: Authority,
    /// What was asked for: the scopes of each request.
    asked: Mutex<Vec<Vec<String>>>,
    /// How many of the first tokens have run out already.
    stale: Mutex<usize>,
}

impl TokenService {
    async fn start(stale: usize) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (authority, asked, stale) = (Authority::new(), Mutex::default(), Mutex::new(stale));
        let service = Arc::new(Self { address, authority, asked, stale });
        let serving = Arc::clone(&service);
        // It ends with the test's runtime.
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serving.serve(stream).await;
            }
        });
        service
    }

    /// A registry that believes it.
    fn stand(&self, name: &'static str) -> Stand {
        Stand::new(name)
            .file("authority.pem", &self.authority.pem)
            .env("AUTH", "token")
            .env("AUTH_TOKEN_REALM", format!("http://{}/token", self.address))
            .env("AUTH_TOKEN_SERVICE", "registry of a test")
            .env("AUTH_TOKEN_ISSUER", "issuer of a test")
            .env("AUTH_TOKEN_ROOTCERTBUNDLE", "/files/authority.pem")
    }

    async fn serve(&self, mut stream: TcpStream) {
        let mut text = String::new();
        let body = loop {
            let mut part = [0; 4096];
            let count = stream.read(&mut part).await.unwrap_or_default();
            if count == 0 {
                return;
            }
            text.push_str(std::str::from_utf8(&part[..count]).unwrap());
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let head = head.to_lowercase();
            let length = head.split_once("content-length: ").map_or("0", |(_, rest)| rest);
            let length = length.lines().next().unwrap().parse::<usize>().unwrap();
            if body.len() >= length {
                break body.to_owned();
            }
        };
        let target = text.split(' ').nth(1).unwrap();
        let query = if body.is_empty() { target.to_owned() } else { format!("/?{body}") };
        let url = reqwest::Url::parse(&format!("http://service{query}")).unwrap();
        let fields = |wanted: &str| {
            let pairs = url.query_pairs().filter(|(name, _)| name == wanted);
            pairs.map(|(_, value)| value.into_owned()).collect::<Vec<_>>()
        };
        let scopes: Vec<_> = fields("scope")
            .iter()
            .flat_map(|scope| scope.split(' ').map(str::to_owned).collect::<Vec<_>>())
            .collect();
        self.asked.lock().unwrap().push(scopes.clone());
        let password = STANDARD.encode(format!("{}:{}", PUSHER.0, PUSHER.1));
        let is_known = text.contains(&format!("Basic {password}"))
            || text.contains(&format!("basic {password}"))
            || (fields("grant_type") == ["refresh_token"] && fields("refresh_token") == [IDENTITY]);
        let answer = if is_known && fields("service") == ["registry of a test"] {
            let token = json!({ "token": self.token(&scopes) }).to_string();
            format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{token}",
                token.len()
            )
        } else {
            "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned()
        };
        let _ = stream.write_all(answer.as_bytes()).await;
    }

    /// As the distribution project's token specification says.
    fn token(&self, scopes: &[String]) -> String {
        let access: Vec<_> = scopes
            .iter()
            .map(|scope| {
                let parts: Vec<_> = scope.split(':').collect();
                let actions: Vec<_> = parts[2].split(',').collect();
                json!({ "type": parts[0], "name": parts[1], "actions": actions })
            })
            .collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut stale = self.stale.lock().unwrap();
        let end = if *stale > 0 { now - 300 } else { now + 300 };
        *stale = stale.saturating_sub(1);
        let certificate = STANDARD.encode(self.authority.certificate.der());
        let head = json!({ "typ": "JWT", "alg": "ES256", "x5c": [certificate] });
        let claims = json!({ "iss": "issuer of a test", "aud": "registry of a test", "sub": PUSHER.0,
            "iat": now - 600, "nbf": now - 600, "exp": end, "jti": "1", "access": access });
        let encode = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&head), encode(&claims));
        let signature = flat(&self.authority.key.sign(signed.as_bytes()).unwrap());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn asked(&self) -> Vec<Vec<String>> {
        self.asked.lock().unwrap().clone()
    }
}

/// The two numbers of an ECDSA signature one after the other, as JWT wants them, from their DER form.
fn flat(der: &[u8]) -> Vec<u8> {
    let mut flat = Vec::new();
    let mut rest = &der[2..];
    for _ in 0..2 {
        let (number, after) = rest[2..].split_at(usize::from(rest[1]));
        let number = &number[number.len().saturating_sub(32)..];
        flat.extend(std::iter::repeat_n(0, 32 - number.len()));
        flat.extend(number);
        rest = after;
    }
    flat
}

#[tokio::test]
async fn a_token_is_asked_for_that_lets_the_pusher_push() {
    let service = TokenService::start(0).await;
    let asked = Arc::clone(&service);
    service
        .stand("token")
        .run(async move |world: World| {
            let (publish, _) = world.publish(&["1"]);
            let registry = world.as_pusher();
            let pinned = registry.publish(&publish).await.unwrap();
            assert_eq!(asked.asked(), [["repository:team/web:pull,push"]]);
            let resolved = registry.resolve(&world.image("team/web:1")).await.unwrap();
            assert_eq!(resolved.digest, pinned.digest);
            assert_eq!(asked.asked()[1], ["repository:team/web:pull"]);
        })
        .await;
}

#[tokio::test]
async fn a_wrong_password_is_refused_by_the_service_and_its_source_is_named() {
    let service = TokenService::start(0).await;
    service
        .stand("token-wrong")
        .run(async |world: World| {
            let (publish, _) = world.publish(&["1"]);
            let registry = world.directly().with_logins(world.login(PUSHER.0, "wrong-word"));
            let error = registry.publish(&publish).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Denied, "{}", error.report());
            assert!(error.message().contains("given in code for user \"pusher\""), "{error}");
            assert!(!error.report().contains("wrong-word"), "{}", error.report());
        })
        .await;
}

#[tokio::test]
async fn a_token_that_has_run_out_is_renewed() {
    let service = TokenService::start(1).await;
    let asked = Arc::clone(&service);
    service
        .stand("token-stale")
        .run(async move |world: World| {
            let (publish, _) = world.publish(&["1"]);
            let registry = world.as_pusher();
            registry.publish(&publish).await.unwrap();
            assert!(asked.asked().len() > 1);
        })
        .await;
}

#[tokio::test]
async fn an_identity_token_is_exchanged_for_one_that_the_registry_takes() {
    let service = TokenService::start(0).await;
    service
        .stand("token-identity")
        .run(async |world: World| {
            let directory = tempfile::tempdir().unwrap();
            let auths = json!({ "auths": { &world.registry: { "identitytoken": IDENTITY } } });
            write_config(directory.path(), &auths);
            let logins = Logins::new().with_docker_config(directory.path());
            let (publish, _) = world.publish(&["1"]);
            world.directly().with_logins(logins).publish(&publish).await.unwrap();
        })
        .await;
}

#[tokio::test]
async fn a_mount_asks_for_a_token_of_both_repositories() {
    let service = TokenService::start(0).await;
    service
        .stand("token-mount")
        .run(async |world: World| {
            let registry = world.as_pusher();
            let (publish, _) = world.publish(&["1"]);
            let one: Digest = registry.publish(&publish).await.unwrap().digest;
            let (web, other) = (world.image("team/web"), world.image("other/web").to_string());
            let publish = Publish::image(IMAGE, &other, ["1"]).unwrap();
            let (publish, events) = Events::of(publish.mounts_from(&web.to_string()).unwrap());
            assert_eq!(registry.publish(&publish).await.unwrap().digest, one);
            let mounted = |event: &PublishEvent| matches!(event, PublishEvent::Mounted { .. });
            assert_eq!(events.count(mounted), events.found());
        })
        .await;
}
