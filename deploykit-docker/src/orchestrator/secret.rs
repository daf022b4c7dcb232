//! Fetches the values of secrets that a release names.

use deploykit_core::{Error, ErrorKind, Release, Result, SecretRef};
use secrecy::SecretString;

/// The values of all secrets of a release, by variable.
pub(super) async fn fetch_all(release: &Release) -> Result<Vec<(String, SecretString)>> {
    let mut secrets = Vec::new();
    for (name, reference) in &release.spec.secrets {
        secrets.push((name.clone(), fetch(name, reference).await?));
    }
    Ok(secrets)
}

/// The value that `reference` stands for, for the variable `name`.
///
/// `env:NAME` is this process's environment, `file:/path` a file that this process can read, without its last line
/// end.
async fn fetch(name: &str, reference: &SecretRef) -> Result<SecretString> {
    let wrong = |kind, why: &str| Error::new(kind, format!("secret {name} ({reference}): {why}"));
    let value = match reference.as_str().split_once(':') {
        Some(("env", variable)) => std::env::var(variable).map_err(|error| match error {
            std::env::VarError::NotPresent => {
                wrong(ErrorKind::NotFound, "the environment variable is not set")
                    .with_hint(format!("set {variable} in the deployer's environment"))
            }
            std::env::VarError::NotUnicode(_) => {
                wrong(ErrorKind::Invalid, "the environment variable is not UTF-8")
            }
        })?,
        Some(("file", path)) => {
            let mut value = tokio::fs::read_to_string(path).await.map_err(|error| {
                let kind = match error.kind() {
                    std::io::ErrorKind::NotFound => ErrorKind::NotFound,
                    std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                    _ => ErrorKind::Invalid,
                };
                wrong(kind, "the file cannot be read")
                    .with_hint("make it readable for the deployer")
                    .with_source(error)
            })?;
            value.truncate(value.trim_end_matches(['\r', '\n']).len());
            value
        }
        _ => {
            return Err(wrong(ErrorKind::Unsupported, "the form is not known here")
                .with_hint("write env:NAME or file:/path"));
        }
    };
    if value.contains('\0') {
        return Err(wrong(ErrorKind::Invalid, "the value contains a zero byte"));
    }
    Ok(value.into())
}
