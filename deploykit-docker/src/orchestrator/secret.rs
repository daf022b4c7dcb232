//! Fetches the values of secrets that a release names.

use deploykit_core::{Error, ErrorKind, Release, Result, SecretRef};
use secrecy::SecretString;
use tokio::io::AsyncReadExt;

/// What Linux allows for a variable with its name, `=` and closing zero (execve(2): 32 pages).
const LONGEST: usize = 32 * 4_096;

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
/// `env:NAME` is this process's environment, `file:/path` a regular file that this process can read, without its last
/// line end: a pipe would give its value to the first launch only, and might never end.
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
            let failed = |error: std::io::Error| {
                let kind = match error.kind() {
                    std::io::ErrorKind::NotFound => ErrorKind::NotFound,
                    std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                    _ => ErrorKind::Invalid,
                };
                wrong(kind, "the file cannot be read")
                    .with_hint("make it readable for the deployer")
                    .with_source(error)
            };
            // Before it is opened: opening a pipe waits for somebody to write.
            if !tokio::fs::metadata(path).await.map_err(failed)?.is_file() {
                return Err(wrong(ErrorKind::Invalid, "it is not a regular file")
                    .with_hint("write the value into a file of its own"));
            }
            let mut value = String::new();
            let file = tokio::fs::File::open(path).await.map_err(failed)?;
            let most = u64::try_from(LONGEST).unwrap_or(u64::MAX);
            file.take(most).read_to_string(&mut value).await.map_err(failed)?;
            let line = value.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
            value.truncate(line.unwrap_or(&value).len());
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
    if name.len() + value.len() + 2 > LONGEST {
        return Err(wrong(ErrorKind::Invalid, "the value is too long for the environment")
            .with_hint(format!("at most {LONGEST} bytes with its name; mount the file instead")));
    }
    Ok(value.into())
}
