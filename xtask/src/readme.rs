//! The README names the two commands that a newcomer needs, in a form that can be copied.

use std::path::Path;

use crate::job::{Fault, Result, io};

/// See a rollout; run every test.
const COMMANDS: [&str; 2] = ["cargo run --example quickstart", "cargo xtask test"];

/// Fails unless each command stands once, on a line of its own, in a fenced block of the README.
pub(crate) fn check(root: &Path) -> Result<()> {
    let readme = std::fs::read_to_string(root.join("README.md")).map_err(io("read README.md"))?;
    let fenced = fenced_lines(&readme);
    for command in COMMANDS {
        let count = fenced.iter().filter(|line| **line == command).count();
        if count != 1 {
            return Err(Fault::Failed(format!(
                "README.md has `{command}` {count} times as a line of a fenced block; it must have \
                 it once, with nothing else on that line"
            )));
        }
    }
    Ok(())
}

fn fenced_lines(text: &str) -> Vec<&str> {
    let mut is_inside = false;
    let mut lines = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with("```") {
            is_inside = !is_inside;
        } else if is_inside {
            lines.push(line);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_inside_of_a_fence_count() {
        let text = "a\n```sh\nb\n```\nc\n```\nd\n```\n";
        assert_eq!(fenced_lines(text), ["b", "d"]);
    }
}
