//! What a registry's failures mean, in one place.

use std::error::Error as StdError;
use std::time::Duration;

use deploykit_core::{Error, ErrorKind};
use oci_client::errors::{OciDistributionError, OciErrorCode};

use crate::logins::Login;

/// How long a call may take that carries no blob.
pub(super) const CALL: Duration = Duration::from_secs(60);

/// As much of a registry's words as is told.
const WORDS: usize = 300;

/// Who is spoken to, and as whom.
#[derive(Debug)]
pub(super) struct Peer {
    /// As image names write it.
    pub(super) registry: String,
    pub(super) login: Login,
    /// Whether it is spoken to without encryption.
    pub(super) plain: bool,
}

impl Peer {
    pub(super) fn refused(&self, doing: &str, says: &str) -> Error {
        self.login.refused(doing, &self.registry, says)
    }

    pub(super) fn missing(&self, doing: &str) -> Error {
        let registry = &self.registry;
        Error::new(ErrorKind::NotFound, format!("{doing}: registry {registry} does not have it"))
            .with_hint("check the repository and the tag, or publish the image")
    }

    pub(super) fn silent(&self, doing: &str, patience: Duration) -> Error {
        let registry = &self.registry;
        let text = format!("{doing}: registry {registry} did nothing for {patience:?}");
        Error::new(ErrorKind::Timeout, text)
    }

    /// An answer with an error status.
    pub(super) fn answered(&self, doing: &str, status: u16, words: &str) -> Error {
        let words = brief(words);
        let kind = match status {
            401 | 403 => return self.refused(doing, &words),
            404 => return self.missing(doing),
            408 | 504 => ErrorKind::Timeout,
            429 => ErrorKind::Throttled,
            500.. => ErrorKind::Unavailable,
            _ => ErrorKind::Other,
        };
        let registry = &self.registry;
        Error::new(kind, format!("{doing}: registry {registry} answered {status}: {words}"))
    }

    pub(super) fn unreachable(&self, doing: &str, error: reqwest::Error) -> Error {
        let registry = &self.registry;
        if let Some(status) = error.status() {
            return self.answered(doing, status.as_u16(), "");
        }
        let is_untrusted = chain_says(&error, "certificate");
        let (what, hint) = if is_untrusted {
            (
                "has a certificate that is not trusted here",
                "give its authority with OciRegistry::with_authority".to_owned(),
            )
        } else if error.is_connect() && !self.plain && chain_says(&error, "corrupt message") {
            (
                "does not speak TLS",
                format!("name it with OciRegistry::with_plain_http({registry:?})"),
            )
        } else {
            ("cannot be reached", "check that it runs, and its name and port".into())
        };
        Error::new(ErrorKind::Unavailable, format!("{doing}: registry {registry} {what}"))
            .with_temporary(!is_untrusted)
            .with_hint(hint)
            .with_source(error.without_url())
    }

    pub(super) fn explain(&self, doing: &str, error: OciDistributionError) -> Error {
        use OciDistributionError as Oci;
        let registry = &self.registry;
        match error {
            Oci::RequestError(error) => self.unreachable(doing, error),
            Oci::UnauthorizedError { .. } => self.refused(doing, "it answers 401"),
            Oci::AuthenticationFailure(words) => self.refused(doing, &brief(&words)),
            Oci::ServerError { code, message, .. } => self.answered(doing, code, &message),
            Oci::RegistryError { envelope, .. } => {
                let words: Vec<_> = envelope
                    .errors
                    .iter()
                    .map(
                        |one| if one.message.is_empty() { "no reason given" } else { &one.message },
                    )
                    .collect();
                let words = words.join(", ");
                match envelope.errors.first().map(|one| &one.code) {
                    Some(OciErrorCode::Denied | OciErrorCode::Unauthorized) => {
                        self.refused(doing, &brief(&words))
                    }
                    Some(
                        OciErrorCode::ManifestUnknown
                        | OciErrorCode::NameUnknown
                        | OciErrorCode::BlobUnknown
                        | OciErrorCode::NotFound,
                    ) => self.missing(doing),
                    Some(OciErrorCode::Toomanyrequests) => self.answered(doing, 429, &words),
                    _ => self.answered(doing, 400, &words),
                }
            }
            Oci::ImageManifestNotFoundError(_) => self.missing(doing),
            // Of the registry itself it is a request's error; this one comes from the file that is sent.
            Oci::IoError(error) => {
                Error::new(ErrorKind::Other, format!("{doing}: the source cannot be read"))
                    .with_source(error)
            }
            other => Error::new(
                ErrorKind::Other,
                format!("{doing}: registry {registry} gave an answer that cannot be used"),
            )
            .with_source(other),
        }
    }
}

/// The first line or so of what may be a whole page.
fn brief(words: &str) -> String {
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    if words.is_empty() {
        return "no reason given".into();
    }
    words.chars().take(WORDS).collect()
}

fn chain_says(error: &(dyn StdError + 'static), part: &str) -> bool {
    error.to_string().contains(part) || error.source().is_some_and(|cause| chain_says(cause, part))
}
