use std::fmt::Write as _;

use super::Plan;

impl Plan {
    /// The plan as a flowchart in Mermaid's language, which many viewers of Markdown draw.
    ///
    /// Steps that are undone by themselves stand in a box of their own, with the way back beside it.
    pub fn to_mermaid(&self) -> String {
        let mut text = String::from("flowchart TD\n");
        let returns = self.estimate().point_of_no_return.unwrap_or(self.steps.len());
        let service = &self.service;
        let before = self.before.as_ref().map(|before| before.image.to_string());
        let before = before.unwrap_or_else(|| "nothing".to_owned());
        // Writing to a String cannot fail.
        let mut line = |indent: &str, words: std::fmt::Arguments<'_>| {
            let _ = writeln!(text, "{indent}{words}");
        };
        line("  ", format_args!("begin([{}])", quoted(&format!("{service}: {before} serves"))));
        line("  ", format_args!("subgraph undoable [undone by itself]"));
        for (index, step) in self.steps.iter().enumerate() {
            if index == returns {
                line("  ", format_args!("end"));
            }
            let indent = if index < returns { "    " } else { "  " };
            let words = self.describe(index).unwrap_or_default();
            let words = quoted(&format!("{}. {}<br/>{words}", index + 1, step.name()));
            line(indent, format_args!("s{}[{words}]", index + 1));
        }
        if returns >= self.steps.len() {
            line("  ", format_args!("end"));
        }
        line(
            "  ",
            format_args!(
                "done([{}])",
                quoted(&format!("{service}: {} serves", self.release.image))
            ),
        );
        let mut from = "begin".to_owned();
        for number in 1..=self.steps.len() {
            line("  ", format_args!("{from} --> s{number}"));
            from = format!("s{number}");
        }
        line("  ", format_args!("{from} --> done"));
        if !self.steps.is_empty() {
            line(
                "  ",
                format_args!(
                    "undoable -. fails, aborted, too late .-> back[requests first, then tasks]"
                ),
            );
            line("  ", format_args!("back --> begin"));
        }
        text
    }
}

/// A label as Mermaid takes it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "#quot;"))
}
