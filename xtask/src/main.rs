//! `cargo xtask`: the checks, the tests with the real parts that they need, and the measurements.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that says what it does")]
#![allow(clippy::indexing_slicing, reason = "a JSON value answers null for what it does not have")]

mod cargo;
mod chaos;
mod check;
mod debian;
mod docker;
mod figures;
mod fuzz;
mod job;
mod mutate;
mod named;
mod parts;
mod promises;
mod readme;
mod report;
mod simulate;
mod steps;
mod test;

use std::process::ExitCode;

use job::{Fault, Result};

const HELP: &str = "\
cargo xtask COMMAND

  test [--strict]     every test, doctest and example, with the real parts that they need;
                      what could not be tested is named in the last line, NOT TESTED,
                      and is a failure with --strict
  check               formatting, lints, documentation, each feature alone, the dependency
                      tree of the core, the commands of the README
  parts [--system]    only bring the parts: the images deploykit/testbed:*,
                      deploykit/haproxy:parts, deploykit/registry:parts and deploykit/skopeo:parts;
                      --system installs Debian's packages system-wide (needs root)
                      instead of unpacking them under target/parts
  figures [WORD..] [--json]
                      measure what the project promises, print asked | got; with words only
                      the rows that contain them; --json: all of it in one object as the
                      last line (takes some twenty minutes; not part of the tests)
  simulate [--rollouts N] [--seed S] [--json]
                      so many whole rollouts in the in-memory world, drawn from seeds, with
                      faults, kills and people's deeds; ends with one JSON line
  simulate --replay SEED|JSON|FILE
                      one of them again, with its trace
  simulate --kills    instead of drawing, let the deployer die before and after every single call
                      of each strategy, with good and bad versions
  simulate --speed    how fast the whole is
  fuzz [--seconds N]  feed what is read from outside (image references, plans, journals, answers of
                      HAProxy, manifests) with anything, each for 60 s unless told; an input
                      that makes something panic is kept, and named
  chaos [--kills N] [--seed S] [--outages] [--json]
                      kill deployers of real containers at random moments under load, 40 times
                      unless told, and check what their successors make of it (some 10 s for
                      each); Docker's daemon and other people's containers are left alone
  mutate [WORD..]     break each rule of safety on purpose, by the patches in mutations/ whose names
                      contain a word, and see that the tests notice (a minute or two for each)
  clean               remove what an interrupted test run has left in Docker
  help                this text

Environment
  DOCKER_HOST              which Docker Engine to use, as for `docker`
  DEPLOYKIT_HAPROXY_IMAGE  the HAProxy image to try first (default haproxy:2.6)
  DEPLOYKIT_REGISTRY_IMAGE the registry image to try first (default registry:2)

Exit codes: 0 all well, 1 something failed, 2 a command that is not known, 130 interrupted.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = job::catch_signals().and_then(|()| match words.as_slice() {
        ["test"] => test::run(false),
        ["test", "--strict"] => test::run(true),
        ["check"] => check::run(),
        ["parts"] => parts::run(false),
        ["parts", "--system"] => parts::run(true),
        ["figures", words @ ..] => {
            let (flags, words): (Vec<&str>, Vec<_>) =
                words.iter().partition(|word| word.starts_with("--"));
            match flags.as_slice() {
                [] => figures::run(&words, false),
                ["--json"] => figures::run(&words, true),
                _ => Err(Fault::Usage(format!("figures {}", flags.join(" ")))),
            }
        }
        ["mutate", words @ ..] => mutate::run(words),
        ["simulate", words @ ..] => simulate::run(words),
        ["fuzz", words @ ..] => fuzz::run(words),
        ["chaos", flags @ ..] => chaos::run(flags),
        ["clean"] => clean(),
        [] | ["help" | "-h" | "--help"] => {
            print!("{HELP}");
            Ok(())
        }
        _ => Err(Fault::Usage(words.join(" "))),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("xtask: {fault}");
            fault.exit_code()
        }
    }
}

fn clean() -> Result<()> {
    docker::engine()?;
    println!("{}", docker::remove_leftovers()?);
    Ok(())
}
