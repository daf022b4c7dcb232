//! The tests that documents name as their proof exist.

use std::path::{Component, Path, PathBuf};

use crate::cargo::rust_files;
use crate::job::{Fault, Result, io};

/// What names tests.
const DOCUMENTS: [&str; 2] = ["ARCHITECTURE.md", "docs/reports.md"];
/// The names of tests are sentences; with fewer words between backticks it is some other name.
const WORDS: usize = 4;
/// The package at the root, whose files lie in no directory of its name.
const ROOT: &str = "deploykit";

/// Fails with every test that a document names and that there is not.
pub(crate) fn check(root: &Path) -> Result<()> {
    let read = |path: PathBuf| {
        std::fs::read_to_string(&path)
            .map(|text| (path.strip_prefix(root).unwrap_or(&path).to_owned(), text))
            .map_err(io(format_args!("read {}", path.display())))
    };
    let files = rust_files(root).into_iter().map(read).collect::<Result<Vec<_>>>()?;
    let mut missing = Vec::new();
    for document in DOCUMENTS {
        let (_, text) = read(root.join(document))?;
        let named = named(&text);
        if named.is_empty() {
            missing.push(format!("{document} names no test"));
        }
        println!("   {document}: {} tests", named.len());
        let gone = named.into_iter().filter(|(_, test)| !exists(test, &files));
        missing.extend(gone.map(|(line, test)| format!("{document}:{line}: there is no {test}")));
    }
    if missing.is_empty() { Ok(()) } else { Err(Fault::Failed(missing.join("\n  "))) }
}

/// The tests that a text names between backticks, and all of a file as `file::*`, with their lines.
fn named(text: &str) -> Vec<(usize, &str)> {
    let is_path =
        |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "_-:*".contains(c));
    let is_test = |text: &&str| {
        let (_, name) = text.rsplit_once("::").unwrap_or(("", text));
        is_path(text) && (name == "*" || name.split('_').count() >= WORDS)
    };
    let mut named = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let quoted = line.split('`').skip(1).step_by(2);
        named.extend(quoted.filter(is_test).map(|test| (number + 1, test)));
    }
    named
}

/// Whether there is a file whose path has the qualifiers of `test`, in this order, with a test of that name: a function, or a
/// row of a macro that makes it one.
fn exists(test: &str, files: &[(PathBuf, String)]) -> bool {
    let (path, name) = test.rsplit_once("::").unwrap_or(("", test));
    let qualifiers: Vec<_> = path.split("::").filter(|part| !["", ROOT].contains(part)).collect();
    let has = |text: &str| {
        name == "*"
            || text.lines().map(str::trim_start).any(|line| {
                let function = line.split_once("fn ").map_or(line, |(_, rest)| rest);
                function.strip_prefix(name).is_some_and(|rest| rest.starts_with(['(', '<', ':']))
            })
    };
    files.iter().any(|(path, text)| lies_at(path, &qualifiers) && has(text))
}

fn lies_at(path: &Path, qualifiers: &[&str]) -> bool {
    let stem = path.with_extension("");
    let mut parts = stem.components().filter_map(|part| match part {
        Component::Normal(part) => part.to_str(),
        _ => None,
    });
    qualifiers.iter().all(|wanted| parts.any(|part| part == *wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_between_backticks_are_tests() {
        let text =
            "`on_orphan` of `a::b`\n| `core::a_b_c_d`, `x::*` | `cargo run a_b_c_d` |\na_b_c_d";
        assert_eq!(named(text), [(2, "core::a_b_c_d"), (2, "x::*")]);
    }

    #[test]
    fn a_test_is_looked_for_in_the_file_that_its_path_names() {
        let file = |path: &str, text: &str| (PathBuf::from(path), text.to_owned());
        let files = [
            file("core/tests/slow/lost.rs", "    pub(crate) async fn a_b_c_d<S>() {}\n"),
            file("tests/ways.rs", "rows! {\n    e_f_g_h: 1;\n    // i_j_k_l\n}\n"),
        ];
        let found =
            ["a_b_c_d", "core::slow::lost::a_b_c_d", "core::a_b_c_d", "deploykit::ways::e_f_g_h"];
        for test in found {
            assert!(exists(test, &files), "{test}");
        }
        assert!(exists("ways::*", &files) && !exists("slow::ways::*", &files));
        for test in ["a_b_c", "b_c_d", "core::e_f_g_h", "core::lost::slow::a_b_c_d", "i_j_k_l"] {
            assert!(!exists(test, &files), "{test}");
        }
    }
}
