//! Programs from Debian's packages, with the libraries that they need, as a tree for an image.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::job::{Fault, Job, Result, io};

/// Which program of which package.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) package: &'static str,
    /// Without the leading slash.
    pub(crate) path: &'static str,
}

/// Installs the packages on this machine.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let apt = |arguments: &[&str]| {
        Job::new("apt-get", arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .shown()
            .limit(600)
            .run()
            .map_err(|why| {
                Fault::Failed(format!(
                    "{why}; --system needs root and Debian's apt-get; without --system the \
                     packages are unpacked under target/parts"
                ))
            })
    };
    apt(&["update", "-q"])?;
    let mut arguments = vec!["install", "-q", "-y", "--no-install-recommends"];
    arguments.extend(packages);
    apt(&arguments).map(drop)
}

/// Puts the program and its libraries below `image`, the program as `destination` (without the
/// leading slash), from this machine if it has it, else from the package, unpacked below `work`.
pub(crate) fn compose(
    program: &Program,
    work: &Path,
    image: &Path,
    destination: &str,
) -> Result<&'static str> {
    let installed = Path::new("/").join(program.path);
    let (binary, libraries, from) = if installed.exists() {
        let listed = Job::new("ldd", [&*installed.to_string_lossy()]).outcome()?;
        (installed, libraries(&listed.stdout), "installed on this machine")
    } else {
        let root = unpack(program.package, work)?;
        let binary = root.join(program.path);
        let listed = list_libraries(&root, &binary)?;
        (binary, libraries(&listed), "Debian's package, unpacked")
    };
    copy(&binary, &image.join(destination))?;
    // A static program has neither libraries nor a loader.
    for (name, path) in &libraries {
        // /lib is searched by every loader; the loader itself has its place fixed in the program.
        let target =
            if name == LOADER.1 { format!("{}/{name}", LOADER.0) } else { format!("lib/{name}") };
        copy(path, &image.join(target))?;
    }
    Ok(from)
}

#[cfg(target_arch = "aarch64")]
const LOADER: (&str, &str) = ("lib", "ld-linux-aarch64.so.1");
#[cfg(not(target_arch = "aarch64"))]
const LOADER: (&str, &str) = ("lib64", "ld-linux-x86-64.so.2");

/// Downloads the package and the libraries that it depends on, and unpacks all of them.
fn unpack(package: &str, work: &Path) -> Result<PathBuf> {
    let (archives, root) = (work.join("archives"), work.join("root"));
    for directory in [&archives, &root] {
        if directory.exists() {
            fs::remove_dir_all(directory)
                .map_err(io(format_args!("remove {}", directory.display())))?;
        }
        create_dir(directory)?;
    }
    // The machine's own package lists may be missing or too old to download anything.
    let download = |apt: &Apt| apt.download(&apt.closure(package)?, &archives);
    let machine = Apt { options: Vec::new() };
    if download(&machine).is_err() {
        download(&Apt::private(&work.join("apt"))?)?;
    }
    for archive in fs::read_dir(&archives).map_err(io("read the downloaded packages"))?.flatten() {
        let path = archive.path();
        Job::new("dpkg-deb", ["-x", &*path.to_string_lossy(), &*root.to_string_lossy()]).run()?;
    }
    Ok(root)
}

/// apt with the machine's package lists, or with lists of our own.
struct Apt {
    options: Vec<String>,
}

impl Apt {
    /// Fetches the package lists into a directory of our own: the machine's stay as they are, and
    /// nobody needs to be root.
    fn private(directory: &Path) -> Result<Self> {
        create_dir(&directory.join("lists/partial"))?;
        let directory = directory.display();
        let apt = Self {
            options: vec![
                format!("-oDir::State::lists={directory}/lists"),
                format!("-oDir::Cache={directory}"),
                "-oAPT::Sandbox::User=root".into(),
                "-oAcquire::Languages=none".into(),
            ],
        };
        apt.run("apt-get", &["-q", "update"])?;
        Ok(apt)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        self.job(program, arguments).run().map(|done| done.stdout)
    }

    fn job(&self, program: &str, arguments: &[&str]) -> Job {
        let options = self.options.iter().map(String::as_str);
        Job::new(program, options.chain(arguments.iter().copied()))
    }

    /// The package and the libraries below it. Their other dependencies (shells, init systems, user
    /// management) are for a whole machine.
    fn closure(&self, package: &str) -> Result<BTreeSet<String>> {
        let mut found = BTreeSet::from([package.to_owned()]);
        let mut open = vec![package.to_owned()];
        while !open.is_empty() {
            let mut arguments =
                vec!["depends", "--no-recommends", "--no-suggests", "--no-conflicts"];
            arguments.extend(["--no-breaks", "--no-replaces", "--no-enhances"]);
            arguments.extend(open.iter().map(String::as_str));
            let output = self.run("apt-cache", &arguments)?;
            open = library_packages(&output);
            open.retain(|package| found.insert(package.clone()));
        }
        Ok(found)
    }

    fn download(&self, packages: &BTreeSet<String>, directory: &Path) -> Result<()> {
        let mut arguments = vec!["-q", "download"];
        arguments.extend(packages.iter().map(String::as_str));
        self.job("apt-get", &arguments).within(directory).run().map(drop)
    }
}

/// The libraries among the dependencies that `apt-cache depends` prints; of alternatives the first.
fn library_packages(output: &str) -> Vec<String> {
    let mut after_alternative = false;
    let mut packages = Vec::new();
    for line in output.lines() {
        let Some((kind, name)) = line.trim().split_once("Depends: ") else {
            continue;
        };
        let is_alternative = kind.starts_with('|');
        if !after_alternative && (name.starts_with("lib") || name.starts_with("zlib")) {
            packages.push(name.to_owned());
        }
        after_alternative = is_alternative;
    }
    packages
}

/// Asks the unpacked loader itself, so that the libraries fit each other, whatever this machine has.
fn list_libraries(root: &Path, binary: &Path) -> Result<String> {
    let Some(loader) = find(root, LOADER.1) else {
        return Ok(String::new());
    };
    let mut directories = BTreeSet::new();
    library_directories(root, &mut directories);
    let path: Vec<_> = directories.iter().map(|one| one.to_string_lossy().into_owned()).collect();
    let done = Job::new(&loader.to_string_lossy(), ["--list", &*binary.to_string_lossy()])
        .env("LD_LIBRARY_PATH", &path.join(":"))
        .outcome()?;
    if let Some(missing) = done.stdout.lines().find(|line| line.contains("not found")) {
        let binary = binary.display();
        return Err(Fault::Failed(format!("{binary} needs a library: {}", missing.trim())));
    }
    let loader = format!("{} => {} (0)\n", LOADER.1, loader.display());
    // A program that the loader refuses is static.
    Ok(if done.code == Some(0) { done.stdout + &loader } else { String::new() })
}

/// Each library with its file, from the output of `ldd`.
fn libraries(output: &str) -> BTreeMap<String, PathBuf> {
    output
        .lines()
        .filter_map(|line| {
            let (left, right) = line.trim().split_once("=> ").unwrap_or((line.trim(), line.trim()));
            let path = right.split_whitespace().next().filter(|path| path.starts_with('/'))?;
            let name = left.split_whitespace().next()?.rsplit('/').next()?;
            Some((name.to_owned(), PathBuf::from(path)))
        })
        .collect()
}

/// A regular file of that name: a link may point to this machine's own.
fn find(directory: &Path, name: &str) -> Option<PathBuf> {
    let entries: Vec<_> = fs::read_dir(directory).ok()?.flatten().collect();
    entries.iter().find_map(|entry| {
        let kind = entry.file_type().ok()?;
        if kind.is_dir() {
            find(&entry.path(), name)
        } else {
            (kind.is_file() && entry.file_name() == name).then(|| entry.path())
        }
    })
}

fn library_directories(directory: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            library_directories(&entry.path(), found);
        } else if entry.file_name().to_string_lossy().contains(".so") {
            found.insert(directory.to_owned());
        }
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        create_dir(parent)?;
    }
    let what = format!("copy {} to {}", from.display(), to.display());
    fs::copy(from, to).map(drop).map_err(io(what))
}

pub(crate) fn create_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(io(format_args!("create {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_alternatives_the_first_is_taken_and_only_libraries_are() {
        let output = "haproxy\n  PreDepends: dpkg\n  Depends: libc6\n |Depends: libsystemd0\n  \
                      Depends: libelogind0\n  Depends: adduser\n  Depends: zlib1g\n";
        assert_eq!(library_packages(output), ["libc6", "libsystemd0", "zlib1g"]);
    }

    #[test]
    fn the_output_of_ldd_is_understood() {
        let output = "\tlinux-vdso.so.1 (0x7ff)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x7f0)\n\t\
                      /lib64/ld-linux-x86-64.so.2 (0x7f1)\n";
        let found: Vec<_> = libraries(output).into_iter().collect();
        assert_eq!(
            found,
            [
                ("ld-linux-x86-64.so.2".into(), PathBuf::from("/lib64/ld-linux-x86-64.so.2")),
                ("libc.so.6".into(), PathBuf::from("/lib/x/libc.so.6")),
            ]
        );
    }
}
