//! The options of an example: words that are there or not.

use std::process::ExitCode;

/// The options that were given.
pub(crate) struct Flags(Vec<String>);

impl Flags {
    /// Reads the command line. `known` are the options, each with what it does; for `--help`, or for what is not known,
    /// there is nothing to run.
    pub(crate) fn read(about: &str, known: &[(&str, &str)]) -> Result<Self, ExitCode> {
        let given: Vec<String> = std::env::args().skip(1).collect();
        if given.iter().any(|one| one == "--help" || one == "-h") {
            println!("{about}\n");
            for (name, what) in known {
                println!("  {name:9} {what}");
            }
            println!(
                "\nExit codes: 0 promoted, 3 rolled back, 4 needs an operator, 5 aborted; 1 for other errors"
            );
            return Err(ExitCode::SUCCESS);
        }
        match given.iter().find(|one| known.iter().all(|(name, _)| name != one)) {
            Some(other) => {
                eprintln!("{other} is not an option; --help shows all");
                Err(ExitCode::from(2))
            }
            None => Ok(Self(given)),
        }
    }

    /// Whether this one was given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|one| one == name)
    }
}
