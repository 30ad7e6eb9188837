//! `report.html`: one file that shows a simulation, for people. It needs no network and no other file.

mod data;
mod encode;
mod facts;

use std::fmt::Write as _;

use encode::{html_safe, script_safe};

use super::table;
use crate::observe::Trace;
use crate::simulate::strategy::StrategyKind;
use crate::simulate::{Outcome, Score, Setup};

const PAGE: &str = include_str!("report/page.html");
const STYLE: &str = include_str!("report/style.css");
const SCRIPT: &str = concat!(
    include_str!("report/data.js"),
    include_str!("report/clock.js"),
    include_str!("report/draw.js"),
    include_str!("report/charts.js"),
    include_str!("report/lists.js"),
    include_str!("report/page.js"),
);

/// The columns of the score table: heading, and what it means.
const COLUMNS: [(&str, &str); 9] = [
    ("Replica<br>hours", "what was paid for: replicas asked for or draining, over the scored time"),
    ("Cost /<br>oracle", "replica-hours over those of the oracle, which sees the future"),
    ("Saved /<br>static", "the share of the replica-hours of a fleet for the peak that was saved"),
    ("SLO<br>missed", "the share of time with demand above the capacity of the ready replicas"),
    ("Demand<br>lost", "the share of demand above capacity"),
    ("Added<br>a day", "replicas added a day; each one loads segments and disturbs search"),
    ("Events<br>a day", "changes a day of the number of replicas asked for"),
    ("Most<br>replicas", "the most replicas asked for"),
    ("SLO-adj.<br>cost", "cost / oracle plus a weight times SLO missed: the lower, the better"),
];

/// The report of a simulation as HTML. `assumed` lists what neither an option nor a policy said.
#[must_use]
pub fn render(trace: &Trace, setup: &Setup, outcome: &Outcome, assumed: &[&str]) -> String {
    let data = script_safe(&data::json(setup, outcome));
    let name = html_safe(facts::short_name(trace.name()));
    let parts = [
        ("name", name.as_str()),
        ("style", STYLE),
        ("lead", &html_safe(&facts::sentence(outcome, setup))),
        ("tiles", &facts::tiles(outcome, setup)),
        ("head", &head(setup)),
        ("rows", &rows(outcome)),
        ("facts", &facts::list(trace, setup, outcome, assumed)),
        ("data", &data),
        ("script", SCRIPT),
    ];
    fill(PAGE, &parts)
}

/// `template` with each `{{name}}` replaced by its part; what is filled in is not looked at again.
fn fill(template: &str, parts: &[(&str, &str)]) -> String {
    let mut page =
        String::with_capacity(template.len() + parts.iter().map(|(_, text)| text.len()).sum::<usize>());
    let mut rest = template;
    while let Some((before, (name, after))) =
        rest.split_once("{{").and_then(|(before, after)| Some((before, after.split_once("}}")?)))
    {
        page.push_str(before);
        page.push_str(parts.iter().find(|(part, _)| *part == name).map_or("", |(_, text)| text));
        rest = after;
    }
    page + rest
}

/// The heading of the score table.
fn head(setup: &Setup) -> String {
    let mut html = String::new();
    for (i, (heading, meaning)) in COLUMNS.iter().enumerate() {
        let weight =
            if i == COLUMNS.len() - 1 { format!(" (weight {})", setup.slo_weight) } else { String::new() };
        let _ = write!(
            html,
            "<th scope=\"col\"><abbr title=\"{}\">{heading}</abbr></th>",
            html_safe(&format!("{meaning}{weight}"))
        );
    }
    html
}

fn rows(outcome: &Outcome) -> String {
    outcome.scores.iter().map(row).collect()
}

/// A strategy's scores, with the controls that show it in the charts.
fn row(score: &Score) -> String {
    let name = html_safe(score.name);
    let [_, cells @ ..] = table::cells(score);
    let own = if score.name == StrategyKind::Predictive.name() { " class=\"own\"" } else { "" };
    let mut html = format!(
        "<tr data-strategy=\"{name}\"{own}>\
         <td class=\"pick\"><input type=\"checkbox\" name=\"show\" value=\"{name}\" aria-label=\"Show {name} in the charts\"></td>\
         <td class=\"pick\"><input type=\"radio\" name=\"focus\" value=\"{name}\" aria-label=\"Hold the load against the capacity of {name}\"></td>\
         <th scope=\"row\"><span class=\"swatch\" aria-hidden=\"true\"></span>{name}</th>\
         <td class=\"what\">{}</td>",
        html_safe(facts::what_it_is(score.name))
    );
    for cell in &cells {
        let _ = write!(html, "<td>{}</td>", html_safe(cell));
    }
    html + "</tr>\n"
}

#[cfg(test)]
mod tests;
