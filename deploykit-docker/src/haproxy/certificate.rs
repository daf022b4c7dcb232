//! The user's certificates: read, looked at, and copied to where HAProxy reads them.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use deploykit_core::{Error, Result, ServiceName};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::config::short_hash;
use super::store::failed;

/// The files that hold a service's certificate and its key, in PEM.
///
/// They are read by [`HaProxy::add_service`](super::HaProxy::add_service), which copies what is in them beside HAProxy's
/// configuration, readable to its owner alone. To renew, add the service again when the files have changed.
///
/// ```
/// use deploykit_docker::{Certificate, Frontend};
///
/// let certificate = Certificate::chain_and_key("/etc/ssl/fullchain.pem", "/etc/ssl/privkey.pem");
/// let frontend = Frontend::new(8443).with_tls(certificate);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    chain: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<PathBuf>,
}

impl Certificate {
    /// One file with the certificate, those that vouch for it, and the key.
    pub fn pem(file: impl Into<PathBuf>) -> Self {
        Self { chain: file.into(), key: None }
    }

    /// A file with the certificate and those that vouch for it, and one with the key: what ACME clients write.
    pub fn chain_and_key(chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { chain: chain.into(), key: Some(key.into()) }
    }

    /// What is in the files, as one text.
    ///
    /// # Errors
    /// `NotFound`, `Denied` or `Invalid`, naming service and file. Nothing of what is in it.
    pub(super) fn load(&self, service: &ServiceName) -> Result<Pem> {
        self.read().map_err(|error| error.within(format!("service {service}")))
    }

    fn read(&self) -> Result<Pem> {
        let key_file = self.key.as_ref().unwrap_or(&self.chain);
        let (chain, key) = (read(&self.chain)?, read(key_file)?);
        let (chain, key) = (chain.expose_secret(), key.expose_secret());
        let wrong = |file: &Path, what: &str, hint: &str| {
            let what = format!("certificate {}: {what}", file.display());
            Err(Error::invalid(what).with_hint(hint))
        };
        if !holds(chain, "CERTIFICATE-----") {
            let hint = "convert a binary one with: openssl x509 -inform der -in FILE";
            return wrong(&self.chain, "it holds no certificate in PEM", hint);
        }
        if !holds(key, "PRIVATE KEY-----") {
            let hint = "where the key is in a file of its own, use Certificate::chain_and_key";
            return wrong(key_file, "it holds no key in PEM", hint);
        }
        // Both forms that OpenSSL writes.
        if holds(key, "ENCRYPTED PRIVATE KEY-----") || key.contains("4,ENCRYPTED") {
            let hint =
                "HAProxy cannot ask for a passphrase; decrypt it with: openssl pkey -in FILE";
            return wrong(key_file, "its key is encrypted", hint);
        }
        let text = match self.key {
            Some(_) => format!("{}\n{key}", chain.trim_end()),
            None => chain.to_owned(),
        };
        Ok(Pem { hash: short_hash(text.as_bytes()), text: text.into() })
    }
}

/// The files, for people.
impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "certificate {}", self.chain.display())?;
        match &self.key {
            Some(key) => write!(f, " with key {}", key.display()),
            None => Ok(()),
        }
    }
}

/// A certificate and its key.
#[derive(Debug)]
pub(super) struct Pem {
    pub(super) text: SecretString,
    /// Tells it from others, and nothing of the key.
    pub(super) hash: String,
}

fn read(file: &Path) -> Result<SecretString> {
    let failed = |error| {
        failed("read certificate", file, error).with_hint("the deployer must be able to read it")
    };
    // Before it is opened: opening a pipe waits for somebody to write, and all that time everybody else for the lock.
    if !fs::metadata(file).map_err(failed)?.is_file() {
        let what = format!("certificate {}: it is not a regular file", file.display());
        return Err(Error::invalid(what).with_hint("write it into a file of its own"));
    }
    let bytes = fs::read(file).map_err(failed)?;
    // Text in another encoding may stand between the blocks.
    Ok(String::from_utf8_lossy(&bytes).into_owned().into())
}

/// Whether a block of this kind begins in the text.
fn holds(text: &str, kind: &str) -> bool {
    text.lines().any(|line| line.starts_with("-----BEGIN ") && line.contains(kind))
}
