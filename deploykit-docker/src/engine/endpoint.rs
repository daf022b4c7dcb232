//! Where the Engine listens.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use deploykit_core::{Error, ErrorKind, Result};

const DEFAULT_SOCKET: &str = "unix:///var/run/docker.sock";
const DEFAULT_PORT: u16 = 2375;

/// The longest path that fits in Linux's `sockaddr_un` (unix(7)): 108 bytes with the closing zero.
pub(crate) const LONGEST_SOCKET_PATH: usize = 107;

/// The address of an Engine that can be spoken to without TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Unix(PathBuf),
    Tcp(String),
}

impl Endpoint {
    /// What `DOCKER_HOST` names, or the default socket; `DOCKER_TLS_VERIFY` is refused rather than ignored.
    pub(super) fn from_env() -> Result<Self> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    fn from_variables(get: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        // Set but empty means not set, as to the docker client.
        let get = |name| get(name).filter(|value| !value.is_empty());
        let host = get("DOCKER_HOST").unwrap_or_else(|| DEFAULT_SOCKET.into());
        // Another Engine than the one that was meant would be worse than none.
        let host = host.into_string().map_err(|host| {
            Error::invalid(format!("DOCKER_HOST is {}, which is not UTF-8", host.display()))
        })?;
        match Self::parse(&host)? {
            Self::Tcp(_) if get("DOCKER_TLS_VERIFY").is_some() => {
                Err(refused(&host, "DOCKER_TLS_VERIFY asks for TLS"))
            }
            endpoint => Ok(endpoint),
        }
    }

    /// `unix://PATH`, `tcp://HOST[:PORT]` or `http://HOST[:PORT]`.
    pub(super) fn parse(host: &str) -> Result<Self> {
        let (scheme, rest) = host.split_once("://").ok_or_else(|| {
            Error::invalid(format!("Docker host {host:?} has no scheme"))
                .with_hint("write unix:///var/run/docker.sock or tcp://127.0.0.1:2375")
        })?;
        let rest = rest.trim_end_matches('/');
        if rest.is_empty() {
            return Err(Error::invalid(format!("Docker host {host:?} names no address"))
                .with_hint("write unix:///var/run/docker.sock or tcp://127.0.0.1:2375"));
        }
        match scheme {
            "unix" if rest.len() > LONGEST_SOCKET_PATH => Err(Error::invalid(format!(
                "the path in Docker host {host:?} has {} bytes, a unix socket's has at most {LONGEST_SOCKET_PATH}",
                rest.len()
            ))
            .with_hint("make a short symbolic link to the socket's directory and name that")),
            "unix" => Ok(Self::Unix(rest.into())),
            "tcp" | "http" => {
                // The colons of an IPv6 address are in brackets.
                let port = rest.rsplit_once(':').map(|(_, port)| port).filter(|p| !p.ends_with(']'));
                match port {
                    None => Ok(Self::Tcp(format!("{rest}:{DEFAULT_PORT}"))),
                    Some(port) if port.parse::<u16>().is_ok_and(|port| port > 0) => {
                        Ok(Self::Tcp(rest.into()))
                    }
                    Some(port) => {
                        Err(Error::invalid(format!("Docker host {host:?}: {port:?} is no port"))
                            .with_hint("write tcp://HOST:PORT and nothing after it"))
                    }
                }
            }
            "https" => Err(refused(host, "TLS is not supported")),
            "ssh" => Err(refused(host, "ssh is not supported")),
            _ => Err(Error::new(
                ErrorKind::Unsupported,
                format!("Docker host {host:?}: the scheme {scheme} is not supported"),
            )
            .with_hint("write unix:///var/run/docker.sock or tcp://127.0.0.1:2375")),
        }
    }
}

fn refused(host: &str, why: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("Docker host {host:?}: {why}")).with_hint(
        "forward the Engine's socket (ssh -nNT -L ./docker.sock:/var/run/docker.sock USER@HOST) \
         and set DOCKER_HOST=unix://$PWD/docker.sock",
    )
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_read_as_the_docker_client_reads_them() {
        let text = |host| Endpoint::parse(host).unwrap().to_string();
        assert_eq!(text("unix:///run/d.sock"), "unix:///run/d.sock");
        assert_eq!(text("tcp://10.0.0.1:4000/"), "tcp://10.0.0.1:4000");
        assert_eq!(text("http://engine"), "tcp://engine:2375");
        assert_eq!(text("tcp://[::1]:2375"), "tcp://[::1]:2375");
    }

    #[test]
    fn docker_host_decides_and_tls_is_not_silently_left_out() {
        let from = |set: &[(&str, &str)]| {
            let find = |name: &str| set.iter().find(|(n, _)| *n == name);
            Endpoint::from_variables(|name| find(name).map(|(_, value)| (*value).into()))
        };
        assert_eq!(from(&[]).unwrap().to_string(), "unix:///var/run/docker.sock");
        let host = ("DOCKER_HOST", "tcp://10.0.0.1:2376");
        assert_eq!(from(&[host]).unwrap().to_string(), "tcp://10.0.0.1:2376");
        assert!(from(&[host, ("DOCKER_TLS_VERIFY", "")]).is_ok());
        let error = from(&[host, ("DOCKER_TLS_VERIFY", "1")]).unwrap_err();
        assert!(error.message().contains("DOCKER_TLS_VERIFY"), "{error}");
    }

    #[test]
    fn a_host_that_cannot_be_read_is_refused_and_not_replaced_by_another() {
        use std::os::unix::ffi::OsStringExt;
        for host in ["tcp://h:99999", "tcp://h:2375/v1.41", "tcp://h:0", "unix://", "h:2375"] {
            let error = Endpoint::parse(host).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{host}");
            assert!(error.message().contains(host), "{error}");
        }
        let host = OsString::from_vec(b"unix:///run/\xff.sock".to_vec());
        let get = |name: &str| (name == "DOCKER_HOST").then(|| host.clone());
        let error = Endpoint::from_variables(get).unwrap_err();
        assert!(error.message().contains("DOCKER_HOST"), "{error}");
    }

    #[test]
    fn what_needs_tls_or_ssh_is_refused_with_the_way_out() {
        for host in ["https://h:2376", "ssh://me@h"] {
            let error = Endpoint::parse(host).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.hint().unwrap().contains("ssh -nNT -L"), "{error}");
            assert!(error.message().contains(host), "{error}");
        }
    }

    #[test]
    fn a_socket_path_that_the_system_cannot_hold_is_named_with_its_length() {
        let error = Endpoint::parse(&format!("unix:///{}", "d".repeat(107))).unwrap_err();
        assert!(error.message().contains("108 bytes"), "{error}");
    }
}
