//! What is promised about the size of code, counted: a whole pipeline is short, a strategy is a page of planning, and the
//! machine knows none of them.

use std::fs;
use std::path::Path;

use crate::cargo::rust_files;
use crate::job::{Fault, Result, io};

/// Registry, deployment and a look at it, in so many lines of a user's code.
const PIPELINE_LINES: usize = 15;
const PIPELINE: &str = "examples/own_pipeline.rs";
const BEGIN: &str = "// The pipeline begins.";
const END: &str = "// The pipeline ends.";
/// Some thirty lines of planning.
const DRAFT_LINES: usize = 32;
const STRATEGIES: &str = "deploykit-core/src/strategy";
const MACHINE: &str = "deploykit-core/src/machine";

/// Counts the lines of the pipeline between its two markers.
pub(crate) fn pipeline(root: &Path) -> Result<()> {
    let text = read(&root.join(PIPELINE))?;
    let inside = text.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END));
    let (inside, _) = inside.ok_or_else(|| {
        Fault::Failed(format!("{PIPELINE} has no lines between {BEGIN:?} and {END:?}"))
    })?;
    at_most(PIPELINE_LINES, code_lines(inside), PIPELINE)
}

/// Counts the lines of each strategy's `draft`, and looks for their names in the machine.
pub(crate) fn strategies(root: &Path) -> Result<()> {
    let mut names = Vec::new();
    for path in rust_files(&root.join(STRATEGIES)) {
        let (text, file) = (read(&path)?, path.strip_prefix(root).unwrap_or(&path));
        for (name, strategy) in named_strategies(&text) {
            let file = format!("{}, {name}", file.display());
            at_most(DRAFT_LINES, code_lines(method(strategy, "draft")), &file)?;
            names.push(name.to_owned());
            names.extend(quoted(method(strategy, "name")).map(str::to_owned));
        }
    }
    if names.is_empty() {
        return Err(Fault::Failed(format!("no strategy was found in {STRATEGIES}")));
    }
    let tests = root.join(MACHINE).join("tests");
    for path in rust_files(&root.join(MACHINE)) {
        if !path.starts_with(&tests)
            && let Some(name) = find_name(&read(&path)?, &names)
        {
            let file = path.strip_prefix(root).unwrap_or(&path).display();
            return Err(Fault::Failed(format!("{file} knows the strategy {name}")));
        }
    }
    println!("   no name of {} is known in {MACHINE}", names.join(", "));
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(io(format_args!("read {}", path.display())))
}

fn at_most(most: usize, lines: usize, what: &str) -> Result<()> {
    println!("   {what}: {lines} lines, at most {most}");
    match lines {
        0 => Err(Fault::Failed(format!("{what} has no lines to count"))),
        lines if lines > most => {
            Err(Fault::Failed(format!("{what} has {lines} lines, and {most} are promised")))
        }
        _ => Ok(()),
    }
}

/// The lines that are neither empty nor a comment.
fn code_lines(text: &str) -> usize {
    let is_code = |line: &&str| !line.is_empty() && !line.starts_with("//");
    text.lines().map(str::trim).filter(is_code).count()
}

/// The types that are strategies, outside of comments, each with its implementation.
fn named_strategies(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split("\nimpl Strategy for ").skip(1).filter_map(|rest| {
        let (head, body) = rest.split_once(" {\n")?;
        let body = body.split("\n}\n").next().unwrap_or(body);
        // Steps that somebody wrote down are a strategy as well, and no name to be known.
        (head != "Draft").then_some((head, body))
    })
}

/// The body of a method of a formatted implementation.
fn method<'a>(implementation: &'a str, name: &str) -> &'a str {
    let begin = implementation.split_once(&format!("    fn {name}("));
    let body = begin.and_then(|(_, rest)| rest.split_once('\n'));
    body.map_or("", |(_, body)| body.split("\n    }").next().unwrap_or(body))
}

/// The texts in quotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').skip(1).step_by(2)
}

/// The first of the names that is a word of the text.
fn find_name<'a>(text: &str, names: &'a [String]) -> Option<&'a str> {
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let is_in = |name: &&String| {
        text.match_indices(name.as_str()).any(|(at, _)| {
            let before = text.get(..at).unwrap_or_default().chars().next_back();
            let after = text.get(at + name.len()..).unwrap_or_default().chars().next();
            // In lower case it is a word of the language unless it stands in quotes.
            let quotes = before == Some('"') && after == Some('"');
            let whole = !before.is_some_and(word) && !after.is_some_and(word);
            if name.starts_with(char::is_uppercase) { whole } else { quotes }
        })
    };
    names.iter().find(is_in).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRATEGY: &str = "
impl Strategy for Bold {
    fn name(&self) -> &str {
        \"bold\"
    }
    fn draft(&self, _: &Context) -> Result<Draft> {
        // Not counted.
        if bold {
            return Ok(one);
        }

        Ok(two)
    }
}
";

    #[test]
    fn lines_of_a_draft_are_counted_without_comments_and_empty_ones() {
        let [(name, body)] = named_strategies(STRATEGY).collect::<Vec<_>>()[..] else { panic!() };
        assert_eq!((name, code_lines(method(body, "draft"))), ("Bold", 4));
        assert_eq!(quoted(method(body, "name")).collect::<Vec<_>>(), ["bold"]);
    }

    #[test]
    fn a_name_is_found_as_a_word_and_not_inside_of_another() {
        let names = ["Bold".to_owned(), "bold".to_owned()];
        for text in ["use Bold;", "x == \"bold\""] {
            assert!(find_name(text, &names).is_some(), "{text}");
        }
        for text in ["Bolder", "is_Bold", "a bold step", "embolden"] {
            assert_eq!(find_name(text, &names), None, "{text}");
        }
    }

    #[test]
    fn a_line_too_many_is_a_failure_and_so_is_nothing_to_count() {
        assert!(at_most(2, 2, "x").is_ok());
        assert!(at_most(2, 3, "x").is_err());
        assert!(at_most(2, 0, "x").is_err());
    }
}
