use std::fmt::Write as _;

use super::{JobUse, Plan};
use crate::provider::Point;
use crate::time::human;

impl Plan {
    /// The plan as a flowchart in Mermaid's language, which many viewers of Markdown draw.
    ///
    /// Steps that are undone by themselves stand in a box of their own, with the way back beside it; what the plan takes
    /// stands at the beginning. A hook is named at the step before or after which it runs.
    pub fn to_mermaid(&self) -> String {
        let mut text = String::from("flowchart TD\n");
        let returns = self.estimate().point_of_no_return.unwrap_or(self.steps.len());
        let service = &self.service;
        // Writing to a String cannot fail.
        let mut line = |indent: &str, words: std::fmt::Arguments<'_>| {
            let _ = writeln!(text, "{indent}{words}");
        };
        if self.is_noop() {
            line("  ", format_args!("done([{}])", quoted(&[self.to_string()])));
            return text;
        }
        let before = self.before.as_ref().map(|before| before.image.to_string());
        let before = before.unwrap_or_else(|| "nothing".to_owned());
        let begin = [format!("{service}: {before} serves"), self.totals().replace("; ", "<br/>")];
        line("  ", format_args!("begin([{}])", quoted(&begin)));
        line("  ", format_args!("subgraph undoable [undone by itself]"));
        for (index, step) in self.steps.iter().enumerate() {
            if index == returns {
                line("  ", format_args!("end"));
            }
            let indent = if index < returns { "    " } else { "  " };
            let (before, after) = self.points(index);
            // A number and a full stop would make a list of it.
            let mut words = self.runs("before", before);
            words.push(format!("{}: {}", index + 1, step.name()));
            words.push(self.describe(index).unwrap_or_default());
            words.extend(self.runs("after", after));
            line(indent, format_args!("s{}[{}]", index + 1, quoted(&words)));
        }
        if returns >= self.steps.len() {
            line("  ", format_args!("end"));
        }
        let done = [format!("{service}: {} serves", self.release.image)];
        line("  ", format_args!("done([{}])", quoted(&done)));
        let mut from = "begin".to_owned();
        for number in 1..=self.steps.len() {
            line("  ", format_args!("{from} --> s{number}"));
            from = format!("s{number}");
        }
        line("  ", format_args!("{from} --> done"));
        let mut back = self.runs("before", vec![Point::OnUndo]);
        back.push("requests first, then tasks".to_owned());
        back.extend(self.runs("after", vec![Point::OnUndone]));
        line(
            "  ",
            format_args!("undoable -. fails, aborted, too late .-> back[{}]", quoted(&back)),
        );
        line("  ", format_args!("back --> begin"));
        text
    }

    /// The hooks and jobs of these points, one a line.
    fn runs(&self, when: &str, points: Vec<Point>) -> Vec<String> {
        let told = |what: String, point, within| {
            format!("{when}: {what} ({point}, {} at most)", human(within))
        };
        let at = |point| {
            let hooks = self.hooks_at(point).map(|used| (used.hook.to_string(), used.within));
            let jobs = self
                .jobs_at(point)
                .map(|JobUse { job, .. }| (format!("job {}", job.name), job.time_limit));
            hooks.chain(jobs).map(move |(what, within)| told(what, point, within))
        };
        points.into_iter().flat_map(at).collect()
    }
}

/// Lines as a label that Mermaid takes.
fn quoted(lines: &[String]) -> String {
    format!("\"{}\"", lines.join("<br/>").replace('#', "#35;").replace('"', "#quot;"))
}
