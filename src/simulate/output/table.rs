//! The score table, for people.

use comfy_table::{Attribute, Cell, CellAlignment, ColumnConstraint, Table, Width, presets};

use crate::capacity::Capacity;
use crate::observe::Trace;
use crate::policy::text::duration_text;
use crate::simulate::{Outcome, Plant, Score, Setup};

/// How the number of decimals of a share falls with its size.
const FINE: f64 = 0.01;
const COARSE: f64 = 0.1;

/// The two lines of a column's heading, and its width.
const COLUMNS: [(&str, &str, u16); 10] = [
    ("", "strategy", 12),
    ("replica", "hours", 8),
    ("cost /", "oracle", 7),
    ("saved /", "static", 8),
    ("SLO", "missed", 7),
    ("demand", "lost", 7),
    ("added", "a day", 7),
    ("events", "a day", 7),
    ("most", "repl.", 6),
    ("SLO-adj", "cost", 8),
];

/// The scores as lines of at most 80 columns, the product's row bold where `styled`.
#[must_use]
pub fn render(outcome: &Outcome, styled: bool) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    if styled {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.set_header(COLUMNS.map(|(first, second, _)| heading(first, second)));
    for score in &outcome.scores {
        table.add_row(cells(score).into_iter().map(|cell| emphasised(cell, score)));
    }
    for (column, (_, _, width)) in table.column_iter_mut().zip(COLUMNS) {
        column.set_padding((0, 0)).set_constraint(ColumnConstraint::Absolute(Width::Fixed(width)));
        if column.index > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// What was simulated, in lines that fit 80 columns unless the trace's name is long.
#[must_use]
pub fn head(trace: &Trace, setup: &Setup, outcome: &Outcome, assumed: &[&str]) -> String {
    let (mean, peak) = trace.mean_and_peak();
    let plant = &setup.plant;
    let mut lines = vec![
        format!("Load    {}", trace.name()),
        format!(
            "        {} rows of {}, {}; mean {mean}, peak {peak}",
            grouped(trace.rows() as f64),
            duration_text(trace.step().duration()),
            gaps(trace)
        ),
        format!(
            "Fleet   {} to {} replicas, {}, lead time {}, drain {}",
            plant.min,
            plant.max,
            carries(plant),
            duration_text(plant.lead_time),
            duration_text(plant.drain_time)
        ),
    ];
    if !assumed.is_empty() {
        lines.push(format!("        assumed: {}", assumed.join(", ")));
    }
    let (from, days) = (outcome.scored_from_time, outcome.scored_days);
    lines.push(format!("Scored  {days:.1} days from {from}"));
    lines.join("\n") + "\n"
}

/// What replicas carry, in words.
pub(super) fn carries(plant: &Plant) -> String {
    match &plant.capacity {
        Capacity::Linear { per_replica } => format!("{} a replica", exact(per_replica.get())),
        Capacity::Curve(_) => format!("{} at {} replicas", plant.capacity.of(plant.max), plant.max),
    }
}

/// How often rows are missing, in words.
pub(super) fn gaps(trace: &Trace) -> String {
    let bridged = trace.gaps().filter(|gap| gap.bridged).count();
    match trace.gaps().count() {
        0 => "no gaps".to_owned(),
        1 if bridged == 1 => "1 gap, bridged".to_owned(),
        1 => "1 gap, not scored".to_owned(),
        all if bridged == all => format!("{all} gaps, all bridged"),
        all => format!("{all} gaps, {bridged} of them bridged"),
    }
}

/// Enough digits to tell what was used.
fn exact(qps: f64) -> String {
    let decimals = if qps >= 100.0 {
        1
    } else if qps >= 1.0 {
        2
    } else {
        4
    };
    let text = format!("{qps:.decimals$}");
    format!("{} QPS", text.trim_end_matches('0').trim_end_matches('.'))
}

/// What the columns mean, in lines of at most 80 columns.
#[must_use]
pub fn legend(setup: &Setup) -> String {
    format!(
        "oracle sees the future; static is a fleet for the peak. SLO missed: the share of\n\
         time with demand above capacity. SLO-adj cost: cost / oracle + {} × SLO missed.\n",
        setup.slo_weight
    )
}

fn heading(first: &str, second: &str) -> Cell {
    Cell::new(format!("{first}\n{second}"))
}

fn emphasised(text: String, score: &Score) -> Cell {
    let cell = Cell::new(text);
    if score.name == "predictive" { cell.add_attribute(Attribute::Bold) } else { cell }
}

/// A strategy's row: its name, and its scores in the order of the columns.
pub(super) fn cells(score: &Score) -> [String; 10] {
    [
        score.name.to_owned(),
        thousands(score.replica_hours),
        format!("{:.2}×", score.cost_vs_oracle),
        format!("{:.1}%", score.saving_vs_static * 100.0),
        share(score.violation_ratio),
        share(score.lost_ratio),
        rate(score.replicas_added_per_day),
        rate(score.scale_events_per_day),
        score.peak_replicas.to_string(),
        format!("{:.2}", score.slo_adjusted_cost),
    ]
}

/// A share of 1 in per cent, with more digits the smaller it is.
pub(super) fn share(ratio: f64) -> String {
    let decimals = match ratio {
        r if r <= 0.0 => 0,
        r if r < FINE => 3,
        r if r < COARSE => 2,
        _ => 1,
    };
    format!("{:.decimals$}%", ratio * 100.0)
}

/// How often a day, within its column.
fn rate(per_day: f64) -> String {
    if per_day < 1000.0 { format!("{per_day:.1}") } else { grouped(per_day) }
}

/// A number without decimals, or with one below 100, with a comma after each three digits.
pub(super) fn thousands(number: f64) -> String {
    if number < 100.0 { format!("{number:.1}") } else { grouped(number) }
}

/// A number without decimals, with a comma after each three digits.
pub(super) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(thousands(1_234_567.4), "1,234,567");
        assert_eq!(thousands(999.6), "1,000");
        assert_eq!(thousands(99.94), "99.9");
        assert_eq!(grouped(3.0), "3");
        assert_eq!(rate(999.94), "999.9");
        assert_eq!(rate(15_840.0), "15,840");
        assert_eq!(share(0.0), "0%");
        assert_eq!(share(0.00031), "0.031%");
        assert_eq!(share(0.0589), "5.89%");
        assert_eq!(share(1.0), "100.0%");
    }
}
