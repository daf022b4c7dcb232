//! The real parts that the tests need, as local images: the service under deployment, the load
//! balancer, the registry, and skopeo.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::cargo::Workspace;
use crate::debian::{self, Program, create_dir};
use crate::docker;
use crate::job::{Fault, Job, Result, io};

/// The test images: tag, version, mode.
const TESTBED: [(&str, &str, &str); 7] = [
    ("good", "A", "good"),
    ("good-b", "B", "good"),
    ("crash", "B", "crash"),
    ("unhealthy", "B", "unhealthy"),
    ("slow", "B", "slow"),
    ("errors", "B", "errors"),
    // The only one with a HEALTHCHECK.
    ("healthcheck", "A", "good"),
];

/// A part that comes as an official image or as a package.
struct Bought {
    name: &'static str,
    /// The official image, where there is one with a short name, unless the variable names another.
    official: Option<&'static str>,
    variable: &'static str,
    program: Program,
    /// Where the program is in our image.
    destination: &'static str,
    /// How both images are made to start alike. Neither has an entry point: whoever starts one with
    /// arguments of its own names the program first.
    changes: &'static [&'static str],
    /// What else our image holds: path and text; no text stands for a directory.
    files: &'static [(&'static str, Option<&'static str>)],
}

const HAPROXY: Bought = Bought {
    name: "haproxy",
    official: Some("haproxy:2.6"),
    variable: "DEPLOYKIT_HAPROXY_IMAGE",
    program: Program { package: "haproxy", path: "usr/sbin/haproxy" },
    destination: "usr/local/sbin/haproxy",
    changes: &[
        "USER root",
        "WORKDIR /",
        r#"CMD ["haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]"#,
    ],
    files: &[
        ("usr/local/etc/haproxy", None),
        ("var/lib/haproxy", None),
        ("etc/passwd", Some("root:x:0:0:root:/:/none\nhaproxy:x:99:99::/var/lib/haproxy:/none\n")),
        ("etc/group", Some("root:x:0:\nhaproxy:x:99:\n")),
    ],
};

const REGISTRY: Bought = Bought {
    name: "registry",
    official: Some("registry:2"),
    variable: "DEPLOYKIT_REGISTRY_IMAGE",
    program: Program { package: "docker-registry", path: "usr/bin/docker-registry" },
    destination: "bin/registry",
    changes: &[
        "ENV REGISTRY_STORAGE_DELETE_ENABLED=true",
        "EXPOSE 5000",
        r#"CMD ["registry", "serve", "/etc/docker/registry/config.yml"]"#,
    ],
    files: &[
        ("var/lib/registry", None),
        (
            "etc/docker/registry/config.yml",
            Some(
                "version: 0.1\nlog: {level: warn, accesslog: {disabled: true}}\nstorage:\n  \
                 filesystem: {rootdirectory: /var/lib/registry}\n  delete: {enabled: true}\n\
                 http: {addr: ':5000'}\n",
            ),
        ),
    ],
};

/// Another program that reads registries, so that what was published is not judged by what published it.
const SKOPEO: Bought = Bought {
    name: "skopeo",
    official: None,
    variable: "DEPLOYKIT_SKOPEO_IMAGE",
    program: Program { package: "skopeo", path: "usr/bin/skopeo" },
    destination: "usr/bin/skopeo",
    changes: &["WORKDIR /", r#"CMD ["skopeo", "--version"]"#],
    files: &[("var/tmp", None)],
};

/// `cargo xtask parts`.
pub(crate) fn run(system: bool) -> Result<()> {
    match bring(&Workspace::read()?, system) {
        Ok(()) => Ok(()),
        Err(Fault::Failed(why)) => Err(Fault::Failed(format!("\nNOT TESTED: docker ({why})"))),
        Err(fault) => Err(fault),
    }
}

/// Brings every part that is not there yet; the failure names all that cannot be had.
pub(crate) fn bring(workspace: &Workspace, system: bool) -> Result<()> {
    let version = docker::engine()?;
    println!("   Docker Engine {version}");
    if system {
        debian::install(&[HAPROXY, REGISTRY, SKOPEO].map(|part| part.program.package))?;
    }
    let parts = workspace.target.join("parts");
    let mut missing = Vec::new();
    for (name, outcome) in [
        ("testbed", testbed(workspace, &parts)),
        (HAPROXY.name, HAPROXY.bring(&parts, system)),
        (REGISTRY.name, REGISTRY.bring(&parts, system)),
        (SKOPEO.name, SKOPEO.bring(&parts, system)),
    ] {
        match outcome {
            Ok(how) => println!("   deploykit/{name}: {how}"),
            Err(Fault::Failed(why)) => missing.push(format!("deploykit/{name}: {why}")),
            Err(fault) => return Err(fault),
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(Fault::Failed(missing.join("; "))) }
}

/// Compiles the service and makes one image for each way to behave.
fn testbed(workspace: &Workspace, parts: &Path) -> Result<String> {
    let target = host()?;
    let root = workspace.root.join("Cargo.toml");
    let arguments = ["build", "--release", "--package", "testbed", "--bin", "testbed", "--target"];
    let more = [&*target, "--manifest-path", &*root.to_string_lossy()];
    Job::new("cargo", arguments.into_iter().chain(more))
        // An image from scratch has no C library. In this form it outranks whatever flags are set.
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static\u{1f}-Cstrip=symbols")
        .shown()
        .limit(600)
        .run()?;
    let binary = workspace.target.join(&target).join("release/testbed");
    let bytes = fs::read(&binary).map_err(io(format_args!("read {}", binary.display())))?;
    let tree = clear(&parts.join("testbed/image"))?;
    fs::copy(&binary, tree.join("testbed")).map_err(io("copy the testbed"))?;
    let mut made = 0;
    for (tag, version, mode) in TESTBED {
        let mut changes = vec![
            format!("ENV VERSION={version} MODE={mode}"),
            "EXPOSE 8080".into(),
            r#"ENTRYPOINT ["/testbed"]"#.into(),
        ];
        if tag == "healthcheck" {
            changes.push(
                r#"HEALTHCHECK --interval=250ms --timeout=2s --retries=2 CMD ["/testbed", "probe"]"#
                    .into(),
            );
        }
        let (image, key) = (format!("deploykit/testbed:{tag}"), key(&(&bytes, &changes)));
        if !docker::is_current(&image, &key)? {
            docker::import(&image, &key, &tree, &changes)?;
            made += 1;
        }
    }
    Ok(format!("{made} of {} images made, the others are up to date", TESTBED.len()))
}

impl Bought {
    fn bring(&self, parts: &Path, system: bool) -> Result<String> {
        let official = std::env::var(self.variable).ok().or(self.official.map(str::to_owned));
        let image = format!("deploykit/{}:parts", self.name);
        let changes: Vec<_> = self.changes.iter().map(|change| (*change).to_owned()).collect();
        let key = key(&(&official, system, &changes, self.files, self.destination));
        if docker::is_current(&image, &key)? {
            return Ok("up to date".into());
        }
        if let Some(official) = official.filter(|_| !system) {
            match docker::adopt(&official, &image, &key, &changes) {
                Ok(()) => return Ok(format!("the image {official}")),
                Err(Fault::Interrupted) => return Err(Fault::Interrupted),
                Err(why) => println!("   no {official}, so Debian's package is taken: {why}"),
            }
        }
        let work = parts.join(self.name);
        let tree = clear(&work.join("image"))?;
        let from = debian::compose(&self.program, &work, &tree, self.destination)?;
        create_dir(&tree.join("tmp"))?;
        for (path, text) in self.files {
            let path = tree.join(path);
            match text {
                None => create_dir(&path)?,
                Some(text) => {
                    path.parent().map_or(Ok(()), create_dir)?;
                    fs::write(&path, text).map_err(io(format_args!("write {}", path.display())))?;
                }
            }
        }
        let mut changes = changes;
        changes
            .push("ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
        docker::import(&image, &key, &tree, &changes)?;
        Ok(from.into())
    }
}

/// Stands for the content of an image: the same key, the same image.
fn key(content: &impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

fn clear(directory: &Path) -> Result<PathBuf> {
    if directory.exists() {
        fs::remove_dir_all(directory)
            .map_err(io(format_args!("remove {}", directory.display())))?;
    }
    create_dir(directory)?;
    Ok(directory.to_owned())
}

/// The target triple of this machine.
fn host() -> Result<String> {
    let done = Job::new("rustc", ["-vV"]).limit(60).run()?;
    let host = done.stdout.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "`rustc -vV` names no host".to_owned().into())
}
