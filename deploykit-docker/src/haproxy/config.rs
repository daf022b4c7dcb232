//! The configuration file: the wanted state as HAProxy reads it, and as it is read back here.
//!
//! A frontend draws at random among the places that its routing names, each as likely as its weight (weighted) or the
//! number of its usable servers (pooled). A place with no usable server has weight 0 at that moment.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;

use deploykit_core::{Error, ErrorKind, Place, Result, ServiceName};
use sha2::{Digest, Sha256};

use super::frontend::Protocol;
use super::model::{MOST_PLACES, Model, Service};

/// The header that tells testers' requests, see `LoadBalancer::set_test_route`.
pub(super) const TEST_HEADER: &str = "x-deploykit-test";

/// The variable that tells which structure a worker runs.
pub(super) const STRUCTURE: &str = "proc.deploykit";

/// How fine a draw is: the places of a routing share a line of so many points.
pub(super) const DRAWN: u32 = 1_000_000;

/// What begins the file's first line; the number is the version of what follows.
const MARK: &str = "# deploykit ";
const VERSION: u32 = 1;

/// How servers are checked; the same words in the file and on the command line.
///
/// `inter` bounds the time for connecting too: it is what a request has (`timeout connect`). The time for the answer is
/// bounded by `timeout check`: a slow server is not a dead one.
pub(super) const CHECK: &str = "check inter 500ms fastinter 100ms downinter 50ms rise 1 fall 2";

const GLOBAL: &str = "\
global
  # Descriptors, and by them connections and memory: as many as the system allows, but not more.
  fd-hard-limit 50000
";

const DEFAULTS: &str = "\
defaults deploykit.base
  balance leastconn
  timeout connect 500ms
  timeout check 2s
  # Only a connection that could not be made is tried again, on another server: nothing is sent twice.
  retries 3
  option redispatch 1

defaults deploykit.tcp from deploykit.base
  mode tcp
  # A connection is in flight as long as it lasts: one whose client has vanished is found out.
  option clitcpka
  clitcpka-idle 60s
  clitcpka-intvl 10s
  clitcpka-cnt 6

backend deploykit.unavailable.tcp from deploykit.tcp

defaults deploykit.http from deploykit.base
  mode http
  timeout http-request 30s
  timeout http-keep-alive 60s
  timeout tunnel 24h
  retry-on conn-failure
  # A kept connection may be closed by the server in the moment in which a request is sent on it.
  option http-server-close
  http-reuse never
  # A worker that is replaced answers one more request on each of its clients' connections before it closes them.
  option idle-close-on-response
  # Not those that an old worker hands on.
  option forwardfor except 127.0.0.0/8
  http-error status 503 content-type text/plain string \"no healthy task\\n\"

backend deploykit.unavailable.http from deploykit.http
";

/// The name of a service's variable: HAProxy knows no `-` in it, a service's name no `_`.
pub(super) fn variable(service: &ServiceName, what: &str) -> String {
    format!("proc.{}.{what}", service.as_str().replace('-', "_"))
}

/// The backend of a place.
pub(super) fn backend(service: &ServiceName, place: Place) -> String {
    format!("{service}.{place}")
}

/// The whole file. `dir` is where HAProxy finds certificates.
///
/// # Errors
/// `Unsupported` for a routing that the rules have no room for.
pub(super) fn render(model: &Model, dir: &Path) -> Result<String> {
    let json = serde_json::to_string(model).map_err(|error| {
        Error::new(ErrorKind::Other, "the wanted state cannot be written").with_source(error)
    })?;
    let mut text = format!(
        "{MARK}{VERSION} {json}\n# Written by deploykit at each change: yours are lost. The line above is its memory.\n\n"
    );
    text.push_str(GLOBAL);
    line(&mut text, format_args!("  set-var {STRUCTURE} str({})", fingerprint(model, dir)));
    for (name, service) in &model.services {
        let (route, test) = (variable(name, "route"), variable(name, "test"));
        line(&mut text, format_args!("  set-var {route} str({})", service.route()?));
        line(&mut text, format_args!("  set-var {test} str({})", service.test_route()));
    }
    line(&mut text, format_args!("\n{DEFAULTS}"));
    for (name, service) in &model.services {
        frontends(&mut text, name, service, dir);
        for place in Place::all() {
            line(&mut text, format_args!("backend {} from {name}", backend(name, place)));
            for server in service.targets.get(&place).into_iter().flatten() {
                let weight = u8::from(!server.draining);
                let (task, address) = (&server.task, server.address);
                line(&mut text, format_args!("  server {task} {address} weight {weight} {CHECK}"));
            }
        }
        text.push('\n');
    }
    text.push_str(&model.extra);
    text.push('\n');
    Ok(text)
}

/// Names everything that only a reload can change: equal for equal structures.
pub(super) fn fingerprint(model: &Model, dir: &Path) -> String {
    let mut text = format!("{GLOBAL}{DEFAULTS}{CHECK}{}", model.extra);
    for (name, service) in &model.services {
        frontends(&mut text, name, service, dir);
    }
    short_hash(text.as_bytes())
}

/// Sixteen digits that tell one text from another.
pub(super) fn short_hash(text: &[u8]) -> String {
    let hash = Sha256::digest(text);
    hash.iter().take(8).fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

/// Reads the wanted state back.
///
/// # Errors
/// `Corrupt` or `Newer`; `Invalid` for a file that was not written here. `path` is for them.
pub(super) fn parse(text: &str, path: &Path) -> Result<Model> {
    let path = path.display();
    let first = text.lines().next().unwrap_or_default();
    let rest = first.strip_prefix(MARK).ok_or_else(|| {
        Error::invalid(format!("{path} was not written by deploykit, which would overwrite it"))
            .with_hint("give it a file of its own; haproxy takes several, each with -f")
    })?;
    let (version, json) = rest.split_once(' ').unwrap_or_default();
    if version.parse::<u32>().is_ok_and(|version| version > VERSION) {
        return Err(Error::new(
            ErrorKind::Newer,
            format!(
                "{path} was written by a newer deploykit (format {version}, known is {VERSION})"
            ),
        )
        .with_hint("use that version"));
    }
    serde_json::from_str(json).map_err(|error| {
        Error::new(ErrorKind::Corrupt, format!("the first line of {path} cannot be read"))
            .with_hint("restore it from a backup; or remove the file and add the services again")
            .with_source(error)
    })
}

fn frontends(text: &mut String, name: &ServiceName, service: &Service, dir: &Path) {
    let frontend = &service.frontend;
    let (protocol, idle) = (frontend.protocol.name(), frontend.idle_timeout.as_millis());
    line(text, format_args!("defaults {name} from deploykit.{protocol}"));
    line(text, format_args!("  timeout client {idle}ms\n  timeout server {idle}ms"));
    if let Some(path) = &frontend.health_path {
        line(
            text,
            format_args!(
                "  option httpchk\n  http-check send meth GET uri {path} ver HTTP/1.1 hdr host localhost"
            ),
        );
    }
    let (route, test) = (variable(name, "route"), variable(name, "test"));
    let rule = frontend.protocol.rule();
    let refuse = |why: &str| match frontend.protocol {
        Protocol::Http => {
            format!("  {rule} return status 503 content-type text/plain string \"{why}\\n\"")
        }
        Protocol::Tcp => format!("  {rule} reject"),
    };
    let no_test = refuse(&format!("no version of {name} can be tested now"));
    let no_test = format!("{no_test} if !leaving {{ var({test}) -m str none }}");
    let to_test = format!("  use_backend {name}.%[var({test})]");
    let closed = refuse(&format!("{name} is closed"));
    let closed = format!("{closed} if !leaving {{ var(txn.route) -m str closed }}");
    let tls = service.certificate.as_ref().map(|file| dir.join(file));
    // Only what a service is told by its balancer; without TLS here somebody before us may have said it.
    let told = tls.as_ref().map(|_| format!("  {rule} set-header x-forwarded-proto https\n"));
    let told = told.unwrap_or_default();
    open(text, name, service, frontend.port, tls.as_deref());
    line(text, format_args!("{told}  {rule} set-var(txn.route) var({route})"));
    let header = frontend.has_test_header();
    match frontend.protocol {
        _ if header => {
            line(text, format_args!("  acl test req.fhdr({TEST_HEADER}) -m str {name}"));
            line(text, format_args!("{no_test} test\n{closed} !test"));
            line(text, format_args!("  {rule} del-header {TEST_HEADER} if !test"));
        }
        Protocol::Http => {
            line(text, format_args!("  {rule} del-header {TEST_HEADER}\n{closed}"));
        }
        Protocol::Tcp => line(text, format_args!("{closed}")),
    }
    line(text, format_args!("  {rule} set-var(txn.at) rand({DRAWN})"));
    if let Some(sticky) = &frontend.sticky {
        let live = if header { "!leaving !test" } else { "!leaving" };
        line(text, format_args!("{}", sticky.rules(live, tls.is_some())));
    }
    draw(text, name, rule);
    line(text, format_args!("{}", again(name, frontend.port)));
    if header {
        line(text, format_args!("{to_test} if test"));
    }
    for n in 1..=MOST_PLACES {
        let drawn = format!("var(txn.draw),sub(txn.sum{n}) -m int lt 0");
        line(text, format_args!("  use_backend %[var(txn.to{n})] if {{ {drawn} }}"));
    }
    line(text, format_args!("  default_backend deploykit.unavailable.{protocol}"));
    if let Some(port) = frontend.test_port {
        open(text, name, service, port, None);
        line(text, format_args!("{told}{no_test}"));
        if frontend.protocol == Protocol::Http {
            line(text, format_args!("  {rule} set-header {TEST_HEADER} {name}"));
        }
        line(text, format_args!("{}\n{to_test}", again(name, port)));
    }
}

/// Begins a frontend, and has the backend that [`again`] needs.
fn open(text: &mut String, name: &ServiceName, service: &Service, port: u16, tls: Option<&Path>) {
    let address = service.frontend.address;
    let here = if address.is_unspecified() { Ipv4Addr::LOCALHOST } else { address };
    // To itself: there is nobody else whom a certificate could rule out.
    let verify = if tls.is_some() { " ssl verify none" } else { "" };
    let tls = tls
        .map(|file| format!(" ssl crt '{}' alpn h2,http/1.1 ssl-min-ver TLSv1.2", file.display()));
    let tls = tls.unwrap_or_default();
    line(text, format_args!("backend {name}.again.{port} from {name}"));
    line(text, format_args!("  server now {here}:{port}{verify}"));
    line(text, format_args!("frontend {name}.{port} from {name}\n  bind {address}:{port}{tls}"));
    line(text, format_args!("  acl leaving stopping"));
}

/// A request may come to a worker that was replaced by a reload, on a connection from before. Its routing and servers are
/// those of that moment and cannot be changed any more, so it hands the request to the port of the worker that serves now.
fn again(name: &ServiceName, port: u16) -> String {
    format!("  use_backend {name}.again.{port} if leaving")
}

/// The rules that send a live request, or a connection, to a place. They read the routing once, so that a change falls
/// between two.
fn draw(text: &mut String, name: &ServiceName, rule: &str) {
    line(text, format_args!("  acl pooled var(txn.route) -m beg p"));
    line(text, format_args!("  {rule} set-var(txn.sum0) int(0)"));
    for n in 1..=MOST_PLACES {
        let (place, factor, before) = (2 * n, 2 * n + 1, n - 1);
        line(
            text,
            format_args!(
                "  {rule} set-var-fmt(txn.to{n}) {name}.%[var(txn.route),field({place},:)]\n  \
                 {rule} set-var(txn.by{n}) var(txn.route),field({factor},:),add(0)"
            ),
        );
        let mut sum = |servers: &str, when: &str| {
            let of = format!("var(txn.to{n}),{servers},mul(txn.by{n}),add(txn.sum{before})");
            line(text, format_args!("  {rule} set-var(txn.sum{n}) {of} {when}"));
        };
        sum("nbsrv", "if pooled");
        sum("nbsrv,bool", "unless pooled");
    }
    let drawn = format!("var(txn.at),mul(txn.sum{MOST_PLACES}),div({DRAWN})");
    line(text, format_args!("  {rule} set-var(txn.draw) {drawn}"));
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use deploykit_core::{Routing, TaskId};

    use super::*;
    use crate::haproxy::Frontend;
    use crate::haproxy::model::Server;

    fn model() -> Model {
        let mut model = Model::default();
        model.add(&ServiceName::new("web").unwrap(), &Frontend::new(80), None).unwrap();
        model
    }

    #[test]
    fn the_file_gives_back_the_state_that_it_was_made_of() {
        let mut model = model();
        let name = ServiceName::new("web").unwrap();
        let address = "10.0.0.1:80".parse().unwrap();
        let server = Server { task: TaskId::new("t"), address, draining: true };
        model.service(&name).unwrap().targets.insert(Place::B, vec![server]);
        model.service(&name).unwrap().routing = Routing::all_to(Place::B);
        model.extra = "# mine".into();
        let text = render(&model, Path::new("/conf")).unwrap();
        assert_eq!(parse(&text, Path::new("f")).unwrap(), model);
        assert!(text.contains("  server t 10.0.0.1:80 weight 0 "), "{text}");
    }

    #[test]
    fn only_the_structure_changes_the_fingerprint() {
        let print = |model: &Model| fingerprint(model, Path::new("/conf"));
        let mut other = model();
        let name = ServiceName::new("web").unwrap();
        other.service(&name).unwrap().routing = Routing::all_to(Place::C);
        assert_eq!(print(&other), print(&model()));
        other.add(&name, &Frontend::new(81), None).unwrap();
        assert_ne!(print(&other), print(&model()));
    }

    #[test]
    fn a_file_of_others_a_cut_one_and_a_newer_one_are_told_apart() {
        let kind = |text: &str| parse(text, Path::new("f")).unwrap_err().kind();
        assert_eq!(kind("global\n"), ErrorKind::Invalid);
        assert_eq!(kind("# deploykit 1 {\"serv"), ErrorKind::Corrupt);
        assert_eq!(kind("# deploykit 2 {}"), ErrorKind::Newer);
    }
}
