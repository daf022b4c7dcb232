//! Docker's configuration file, as far as it is about credentials.
//!
//! Its keys are described in the reference of `docker login`, its reading in `cli/config` of docker/cli.

use std::collections::BTreeMap;
use std::io::ErrorKind as Io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use deploykit_core::{Error, Result};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{DEFAULT_REGISTRY, Login, Proof, Source, canonical, helper};

pub(super) const NAME: &str = "config.json";

/// What Docker's own registry is called in the file and to helpers.
const DEFAULT_KEY: &str = "https://index.docker.io/v1/";

/// The user name by which a helper says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct File {
    auths: BTreeMap<String, Entry>,
    creds_store: String,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    /// `user:password` in base64.
    auth: SecretString,
    username: String,
    password: SecretString,
    identitytoken: SecretString,
    registrytoken: SecretString,
}

/// Where `docker login` keeps it; none where there is no home.
pub(super) fn of_this_user() -> Option<PathBuf> {
    from_variables(|name| std::env::var_os(name).map(PathBuf::from))
}

fn from_variables(get: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    // Set but empty means not set, as to the docker client.
    let get = |name| get(name).filter(|path| !path.as_os_str().is_empty());
    let directory = get("DOCKER_CONFIG").or_else(|| Some(get("HOME")?.join(".docker")))?;
    Some(directory.join(NAME))
}

/// None where there is no such file: nobody has logged in.
pub(super) async fn read(path: &Path) -> Result<Option<File>> {
    let failed = |why: String| {
        Error::invalid(format!("Docker's configuration {} cannot be read: {why}", path.display()))
            .with_hint("mend it, or leave it out with Logins::without_docker_config")
    };
    match tokio::fs::read(path).await {
        Ok(text) => parse(&text).map(Some).map_err(failed),
        Err(error) if matches!(error.kind(), Io::NotFound | Io::NotADirectory) => Ok(None),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// The error says where, not what: the parser's own words may quote a secret.
fn parse(text: &[u8]) -> std::result::Result<File, String> {
    serde_json::from_slice(text).map_err(|error| {
        format!("no JSON of its kind, line {} column {}", error.line(), error.column())
    })
}

impl File {
    pub(super) async fn find(&self, registry: &str, path: &Path) -> Result<Option<Login>> {
        let mut helpers = self.cred_helpers.iter();
        let own = helpers.find(|(key, _)| is_for(key, registry)).map(|(_, name)| name);
        for name in own.into_iter().chain([&self.creds_store]).filter(|name| !name.is_empty()) {
            let key = if registry == DEFAULT_REGISTRY { DEFAULT_KEY } else { registry };
            let Some(found) = helper::get(name, key, path).await? else { continue };
            let proof = match found.username {
                token if token == TOKEN_USER => Proof::Identity(found.secret),
                user => Proof::Password { user, password: found.secret },
            };
            let source = Source::Helper { program: helper::program(name), file: path.into() };
            return Ok(Some(Login { proof: Some(proof), source }));
        }
        let Some((key, entry)) = self.auths.iter().find(|(key, _)| is_for(key, registry)) else {
            return Ok(None);
        };
        let proof = entry.proof().ok_or_else(|| {
            Error::invalid(format!(
                "the entry {key:?} under auths in {} is not user:password in base64",
                path.display()
            ))
            .with_hint(format!("run `docker login {registry}` again"))
        })?;
        Ok(proof.map(|proof| Login { proof: Some(proof), source: Source::File(path.into()) }))
    }
}

impl Entry {
    /// None: it cannot be read. Some(None): it holds nothing, as where a helper keeps the secret.
    fn proof(&self) -> Option<Option<Proof>> {
        let is_set = |secret: &SecretString| !secret.expose_secret().is_empty();
        if is_set(&self.registrytoken) {
            return Some(Some(Proof::Token(self.registrytoken.clone())));
        }
        if is_set(&self.identitytoken) {
            return Some(Some(Proof::Identity(self.identitytoken.clone())));
        }
        if is_set(&self.auth) {
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(self.auth.expose_secret().trim())
                .ok()?;
            let text = String::from_utf8(bytes).ok()?;
            // Some tools pad with zero bytes.
            let (user, password) = text.trim_end_matches('\0').split_once(':')?;
            return Some(Some(Proof::Password { user: user.into(), password: password.into() }));
        }
        let user = self.username.clone();
        let password = self.password.clone();
        Some((!user.is_empty()).then_some(Proof::Password { user, password }))
    }
}

/// Keys are written with and without scheme and path.
fn is_for(key: &str, registry: &str) -> bool {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let host = rest.unwrap_or(key).split('/').next().unwrap_or_default();
    canonical(host) == registry
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(entry: &str) -> Option<Option<Proof>> {
        serde_json::from_str::<Entry>(entry).unwrap().proof()
    }

    #[test]
    fn the_file_is_where_the_docker_client_has_it() {
        let from = |set: &'static [(&str, &str)]| {
            let find = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into());
            from_variables(find)
        };
        let home = from(&[("HOME", "/home/me"), ("DOCKER_CONFIG", "")]);
        assert_eq!(home, Some("/home/me/.docker/config.json".into()));
        let named = from(&[("HOME", "/home/me"), ("DOCKER_CONFIG", "/etc/ci")]);
        assert_eq!(named, Some("/etc/ci/config.json".into()));
        assert_eq!(from(&[]), None);
    }

    #[test]
    fn each_form_of_an_entry_is_understood() {
        let is_password = |entry: &str, wanted: (&str, &str)| match proof(entry) {
            Some(Some(Proof::Password { user, password })) => {
                assert_eq!((&*user, password.expose_secret()), wanted);
            }
            other => panic!("{entry}: {other:?}"),
        };
        // printf 'me:a:b' | base64
        is_password(r#"{"auth": "bWU6YTpi"}"#, ("me", "a:b"));
        is_password(r#"{"username": "me", "password": "x"}"#, ("me", "x"));
        assert!(matches!(
            proof(r#"{"auth": "bWU6YTpi", "identitytoken": "t"}"#),
            Some(Some(Proof::Identity(_)))
        ));
        assert!(matches!(proof(r#"{"registrytoken": "t"}"#), Some(Some(Proof::Token(_)))));
        assert!(matches!(proof("{}"), Some(None)));
        assert!(proof(r#"{"auth": "!"}"#).is_none());
    }

    #[test]
    fn a_registry_is_found_however_its_key_is_written() {
        for key in
            ["r.example.org:5000", "https://r.example.org:5000", "http://r.example.org:5000/v1/"]
        {
            assert!(is_for(key, "r.example.org:5000"), "{key}");
        }
        assert!(is_for(DEFAULT_KEY, "docker.io"));
        assert!(!is_for("r.example.org", "r.example.org:5000"));
        assert!(!is_for("evil.example.org/r.example.org", "r.example.org"));
    }
}
