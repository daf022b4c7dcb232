//! Clients that stay with the version that they got.

use deploykit_core::{Error, Result, ServiceName};
use serde::{Deserialize, Serialize};

use super::config::{DRAWN, TEST_HEADER};

/// How long a browser keeps the cookie, in seconds: 30 days, longer than rollouts take.
const COOKIE_AGE: u32 = 30 * 24 * 60 * 60;

/// Longer than names of cookies and headers are.
const LONGEST_NAME: usize = 64;

/// What a client is known by, so that it stays with the version that it got.
///
/// What it is known by is hashed to a point on a line, which is always the same one; the places of a routing share the line, in
/// the order of their letters, each as much of it as is its share. So a growing share only adds clients, whichever of two
/// places it is that grows, and a client of the growing one never goes back. Nothing is stored: it holds through restarts and
/// for several HAProxys.
///
/// Under a pooled routing, as in a rolling update, places share the line by the number of their healthy tasks. A client stays with
/// a version, not with a task. A place without a healthy task has no part of the line at that moment.
///
/// ```
/// use deploykit_docker::{Frontend, Sticky};
///
/// let by_browser = Frontend::new(8080).with_sticky(Sticky::cookie("version"));
/// let by_customer = Frontend::new(8080).with_sticky(Sticky::header("x-customer"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sticky {
    by: By,
    name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum By {
    Cookie,
    Header,
}

impl Sticky {
    /// A cookie of this name, which must be nobody else's: HAProxy gives clients that come without it one with a random id, for
    /// 30 days, `Path=/; HttpOnly; SameSite=Lax`, and `Secure` where it speaks TLS.
    ///
    /// A cache in front must not keep answers that set it.
    pub fn cookie(name: impl Into<String>) -> Self {
        Self { by: By::Cookie, name: name.into() }
    }

    /// A header of this name that clients, or a proxy in front, send: a customer's number, say. Requests without it, or with an
    /// empty one, go where the random draw sends them.
    pub fn header(name: impl Into<String>) -> Self {
        Self { by: By::Header, name: name.into() }
    }

    /// # Errors
    /// `Invalid`, naming the service and the name.
    pub(super) fn check(&self, service: &ServiceName) -> Result<()> {
        let Self { by, name } = self;
        let what = match by {
            By::Cookie => "cookie",
            By::Header => "header",
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let fits = (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(plain);
        if fits && !name.eq_ignore_ascii_case(TEST_HEADER) {
            return Ok(());
        }
        Err(Error::invalid(format!("service {service}: sticky by {what} {name:?} is not possible"))
            .with_hint("use a name of letters, digits, '-' and '_' that is not deploykit's own"))
    }

    /// The rules that put who is known at his point of the line. `live` is the condition of live requests that this worker is
    /// to route: others get no cookie.
    pub(super) fn rules(&self, live: &str, secure: bool) -> String {
        let name = &self.name;
        let find = match self.by {
            By::Cookie => {
                let secure = if secure { "; Secure" } else { "" };
                let rest = format!("Path=/; Max-Age={COOKIE_AGE}; HttpOnly; SameSite=Lax{secure}");
                format!(
                    "  http-request set-var(txn.client) req.cook({name})\n  \
                     http-request set-var(txn.new) uuid() if !known {live}\n  \
                     http-request set-var(txn.client) var(txn.new) if !known {live}\n  \
                     http-response add-header set-cookie \"{name}=%[var(txn.new)]; {rest}\" if {{ var(txn.new) -m found }}"
                )
            }
            By::Header => format!("  http-request set-var(txn.client) req.fhdr({name})"),
        };
        format!(
            "  acl known var(txn.client),length -m int gt 0\n{find}\n  \
             http-request set-var(txn.at) var(txn.client),xxh32,mod({DRAWN}) if known"
        )
    }
}
