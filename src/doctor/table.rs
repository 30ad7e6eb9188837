//! The checks as lines for people, of 80 columns at most unless a word is longer.

use std::fmt::Write;

use super::{Check, Verdict, counted, failed};
use crate::text::wrapped;

/// Columns of a check's name, and before its finding.
const NAME: usize = 15;
const INDENT: usize = 2 + 5 + NAME;

/// A line a check, with its mend below, then the sums.
#[must_use]
pub fn render(checks: &[Check]) -> String {
    let mut text = String::new();
    let mut area = "";
    for check in checks {
        if check.area != area {
            let gap = if area.is_empty() { "" } else { "\n" };
            area = check.area;
            let _ = writeln!(text, "{gap}{area}");
        }
        let verdict = match check.verdict {
            Verdict::Pass => "ok",
            Verdict::Skip => "–",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        let head = format!("  {verdict:<5}{:<NAME$}", check.name);
        text += &wrapped(&head, &check.finding, INDENT);
        if !check.mend.is_empty() {
            let head = format!("{}→ ", " ".repeat(INDENT));
            text += &wrapped(&head, &check.mend, INDENT + 2);
        }
    }
    let count = |verdict: Verdict| checks.iter().filter(|check| check.verdict == verdict).count();
    let sums = [
        format!("{} passed", count(Verdict::Pass)),
        counted(count(Verdict::Warn), "warning"),
        format!("{} failed", failed(checks)),
        format!("{} not checked", count(Verdict::Skip)),
    ];
    let _ = writeln!(text, "\n{}", sums.join(", "));
    text
}
