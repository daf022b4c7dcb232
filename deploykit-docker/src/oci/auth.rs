//! What a registry asks for, and the tokens that it takes.
//!
//! The rules are those of the distribution project's "Token Authentication Specification" and "Token Authentication
//! Implementation" (OAuth 2 for identity tokens). The registry client could ask for tokens itself, but not for more
//! than one repository, as a mount needs, nor with an identity token, and its failures would not be told.

use deploykit_core::{Error, ErrorKind, Result};
use http::header::{ACCEPT, CONTENT_TYPE, WWW_AUTHENTICATE};
use http_auth::parser::ChallengeParser;
use reqwest::{Response, StatusCode, Url};
use secrecy::ExposeSecret;
use serde::Deserialize;

use super::failure::{CALL, Peer};
use crate::logins::Proof;

/// How this program is called where OAuth 2 wants a name.
const CLIENT: &str = "deploykit";

/// What a registry asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Nothing,
    Password,
    Token { realm: String, service: Option<String> },
}

/// What is sent with every request from then on.
#[derive(Debug)]
pub(super) enum Ticket {
    Nothing,
    Password { user: String, password: secrecy::SecretString },
    Token(secrecy::SecretString),
}

/// Asks what the registry at `base` wants, and gets a token where it wants one.
pub(super) async fn authenticate(
    http: &reqwest::Client,
    base: &str,
    peer: &Peer,
    scopes: &[String],
) -> Result<Ticket> {
    let sent = http.get(format!("{base}/v2/")).timeout(CALL).send().await;
    let answer = sent.map_err(|error| peer.unreachable("log in", error))?;
    let headers = answer.headers().get_all(WWW_AUTHENTICATE);
    let headers: Vec<_> = headers.iter().filter_map(|value| value.to_str().ok()).collect();
    let challenge = Challenge::read(&headers);
    match (challenge, &peer.login.proof) {
        (Challenge::Nothing, _) => Ok(Ticket::Nothing),
        (_, Some(Proof::Token(token))) => Ok(Ticket::Token(token.clone())),
        (Challenge::Password, Some(Proof::Password { user, password })) => {
            Ok(Ticket::Password { user: user.clone(), password: password.clone() })
        }
        (Challenge::Password, _) => Err(peer.refused("log in", "it asks for user and password")),
        (Challenge::Token { realm, service }, _) => {
            token(http, peer, &realm, service.as_deref(), scopes).await
        }
    }
}

async fn token(
    http: &reqwest::Client,
    peer: &Peer,
    realm: &str,
    service: Option<&str>,
    scopes: &[String],
) -> Result<Ticket> {
    let strange = |why: &str| {
        let registry = &peer.registry;
        Error::new(
            ErrorKind::Other,
            format!("log in: registry {registry} names {realm:?} for tokens, {why}"),
        )
    };
    let mut url =
        Url::parse(realm).map_err(|error| strange("which is no address").with_source(error))?;
    if url.scheme() != "https" && !peer.plain && !is_loopback(&url) {
        return Err(strange("to which credentials would go unencrypted")
            .with_hint("mend the registry's realm, or name it with OciRegistry::with_plain_http"));
    }
    let mut fields: Vec<(&str, &str)> =
        service.map(|service| ("service", service)).into_iter().collect();
    let request = match &peer.login.proof {
        Some(Proof::Identity(identity)) => {
            // One field with all scopes, where the other form repeats the field.
            let scope = scopes.join(" ");
            fields.extend([("grant_type", "refresh_token"), ("client_id", CLIENT)]);
            fields.extend([("scope", &*scope), ("refresh_token", identity.expose_secret())]);
            let mut form = url.clone();
            form.set_query(None);
            form.query_pairs_mut().extend_pairs(&fields);
            http.post(url)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.query().unwrap_or_default().to_owned())
        }
        proof => {
            fields.extend(scopes.iter().map(|scope| ("scope", &**scope)));
            if let Some(Proof::Password { user, .. }) = proof {
                fields.push(("account", user));
            }
            url.query_pairs_mut().extend_pairs(&fields);
            let request = http.get(url);
            match proof {
                Some(Proof::Password { user, password }) => {
                    request.basic_auth(user, Some(password.expose_secret()))
                }
                _ => request,
            }
        }
    };
    let sent = request.header(ACCEPT, "application/json").timeout(CALL).send().await;
    let answer = sent.map_err(|error| {
        let registry = &peer.registry;
        let text =
            format!("log in: {realm}, where registry {registry} has its tokens, cannot be reached");
        Error::new(ErrorKind::Unavailable, text).with_source(error.without_url())
    })?;
    granted(answer, peer, &strange).await
}

async fn granted(
    answer: Response,
    peer: &Peer,
    strange: &(dyn Fn(&str) -> Error + Sync),
) -> Result<Ticket> {
    #[derive(Deserialize)]
    struct Granted {
        token: Option<secrecy::SecretString>,
        access_token: Option<secrecy::SecretString>,
    }
    let status = answer.status();
    match status {
        StatusCode::OK => {}
        StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            return Err(peer.refused("log in", &format!("its token service answers {status}")));
        }
        _ => return Err(peer.answered("log in", status.as_u16(), "its token service")),
    }
    let body = answer.bytes().await.map_err(|error| peer.unreachable("log in", error))?;
    let granted = serde_json::from_slice::<Granted>(&body).ok();
    let token = granted.and_then(|granted| granted.token.or(granted.access_token));
    // It goes into a header as it is.
    let is_plain = |token: &str| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
    match token.filter(|token| is_plain(token.expose_secret())) {
        Some(token) => Ok(Ticket::Token(token)),
        None => Err(strange("which answers with no token that can be read")),
    }
}

fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| super::is_loopback(host.trim_matches(['[', ']'])))
}

impl Challenge {
    /// A token is preferred where a registry takes either.
    fn read(headers: &[&str]) -> Self {
        let mut asked = Self::Nothing;
        for challenge in headers.iter().flat_map(|header| ChallengeParser::new(header)).flatten() {
            let field = |name: &str| {
                let mut fields = challenge.params.iter();
                let found = fields.find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.to_unescaped())
            };
            if challenge.scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = field("realm")
            {
                return Self::Token { realm, service: field("service") };
            }
            if challenge.scheme.eq_ignore_ascii_case("basic") {
                asked = Self::Password;
            }
        }
        asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_preferred_to_a_password_and_either_to_nothing() {
        assert_eq!(Challenge::read(&[]), Challenge::Nothing);
        assert_eq!(Challenge::read(&["Negotiate"]), Challenge::Nothing);
        assert_eq!(Challenge::read(&["Basic realm=\"r\""]), Challenge::Password);
        let bearer = r#"Bearer realm="https://auth.example.org/token?a=b",service="r.example.org""#;
        let wanted = Challenge::Token {
            realm: "https://auth.example.org/token?a=b".into(),
            service: Some("r.example.org".into()),
        };
        assert_eq!(Challenge::read(&["Basic realm=\"r\"", bearer]), wanted);
    }
}
