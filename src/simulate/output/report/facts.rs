//! What the report says in words.

use std::fmt::Write as _;

use super::super::table;
use super::encode::html_safe;
use crate::observe::Trace;
use crate::policy::text::duration_text;
use crate::simulate::strategy::StrategyKind;
use crate::simulate::{Outcome, Score, Setup};

/// The file's name without its folders.
pub(super) fn short_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).find(|part| !part.is_empty()).unwrap_or(path)
}

/// What a strategy is, in a few words.
pub(super) fn what_it_is(name: &str) -> &'static str {
    match name.parse() {
        Ok(StrategyKind::Predictive) => "this autoscaler",
        Ok(StrategyKind::Static) => "a fleet for the peak, always",
        Ok(StrategyKind::Hpa) => "Kubernetes HPA at 70% CPU",
        Ok(StrategyKind::Hpa50) => "Kubernetes HPA at 50% CPU",
        Ok(StrategyKind::Cron) => "a schedule for day, night, weekend",
        Ok(StrategyKind::HoltWinters) => "the predictive HPA's forecast",
        Ok(StrategyKind::LastWeek) => "what last week needed at this time",
        Ok(StrategyKind::Oracle) => "sees the future: the bound",
        Err(_) => "",
    }
}

fn own(outcome: &Outcome) -> Option<&Score> {
    outcome.scores.iter().find(|score| score.name == StrategyKind::Predictive.name())
}

/// The best by SLO-adjusted cost of those that somebody could use instead.
fn best_rival(outcome: &Outcome) -> Option<&Score> {
    let possible = |score: &&Score| {
        score
            .name
            .parse()
            .is_ok_and(|kind: StrategyKind| kind != StrategyKind::Predictive && kind != StrategyKind::Oracle)
    };
    outcome.scores.iter().filter(possible).min_by(|a, b| a.slo_adjusted_cost.total_cmp(&b.slo_adjusted_cost))
}

/// The result in one sentence; without the product's own strategy, what was compared.
pub(super) fn sentence(outcome: &Outcome, setup: &Setup) -> String {
    let days = outcome.scored_days;
    let Some(own) = own(outcome) else {
        return format!("{} strategies over {days:.1} scored days.", outcome.scores.len());
    };
    let saved = own.saving_vs_static * 100.0;
    let (share, verb) = (saved.abs(), if saved < 0.0 { "more" } else { "less" });
    let budget = setup.policy.slo.violation_budget.get();
    let kept = if own.violation_ratio <= budget { "within" } else { "beyond" };
    format!(
        "Over {days:.1} scored days the autoscaler paid {share:.1}% {verb} than a fleet for the peak, and demand \
         was above capacity {} of the time: {kept} the budget of {}.",
        table::share(own.violation_ratio),
        budget_text(setup),
    )
}

/// The product's main scores.
pub(super) fn tiles(outcome: &Outcome, setup: &Setup) -> String {
    let Some(own) = own(outcome) else { return String::new() };
    let rival = best_rival(outcome).map_or("no rival".to_owned(), |rival| {
        format!("best rival: {} {:.2}", rival.name, rival.slo_adjusted_cost)
    });
    let oracle = format!("{} replica-hours", table::thousands(own.replica_hours));
    let saved = format!("{:.1}%", own.saving_vs_static * 100.0);
    [
        tile("Saved against static", &saved, "the fleet for the peak"),
        tile("Cost against oracle", &format!("{:.2}×", own.cost_vs_oracle), &oracle),
        tile("SLO missed", &table::share(own.violation_ratio), &format!("budget {}", budget_text(setup))),
        tile("SLO-adjusted cost", &format!("{:.2}", own.slo_adjusted_cost), &rival),
    ]
    .concat()
}

/// The violation budget as the user wrote it.
fn budget_text(setup: &Setup) -> String {
    // Rounded, so that 0.001 × 100 is not 0.10000000000000002.
    let per_cent = (setup.policy.slo.violation_budget.get() * 1e8).round() / 1e6;
    format!("{per_cent}%")
}

fn tile(label: &str, value: &str, note: &str) -> String {
    let [label, value, note] = [label, value, note].map(html_safe);
    format!("<div class=\"tile\"><dt>{label}</dt><dd><b>{value}</b> <small>{note}</small></dd></div>\n")
}

/// Load, fleet, scored time and forecast.
pub(super) fn list(trace: &Trace, setup: &Setup, outcome: &Outcome, assumed: &[&str]) -> String {
    let forecast = forecast(outcome);
    let (load, fleet) = (load(trace), fleet(setup));
    let scored = format!(
        "{:.1} days from {}; what is before is for learning",
        outcome.scored_days, outcome.scored_from_time
    );
    let assumed = assumed.join(", ");
    let mut html = String::new();
    let facts =
        [("Load", load), ("Fleet", fleet), ("Assumed", assumed), ("Scored", scored), ("Forecast", forecast)];
    for (term, text) in facts.iter().filter(|(_, text)| !text.is_empty()) {
        let _ = writeln!(html, "<div><dt>{term}</dt><dd>{}</dd></div>", html_safe(text));
    }
    html
}

fn load(trace: &Trace) -> String {
    let (mean, peak) = trace.mean_and_peak();
    format!(
        "{}: {} rows of {}, {}; mean {mean}, peak {peak}",
        trace.name(),
        table::grouped(trace.rows() as f64),
        duration_text(trace.step().duration()),
        table::gaps(trace)
    )
}

fn fleet(setup: &Setup) -> String {
    let plant = &setup.plant;
    format!(
        "{} to {} replicas, {}; lead time {}, drain {}, a decision every {}",
        plant.min,
        plant.max,
        table::carries(plant),
        duration_text(plant.lead_time),
        duration_text(plant.drain_time),
        duration_text(plant.step.duration())
    )
}

/// How good the forecast was; nothing if there was none.
fn forecast(outcome: &Outcome) -> String {
    outcome.forecast.as_ref().map_or_else(String::new, |forecast| {
        format!(
            "of the highest load in the next {}: the median is off by {:.1}% (WAPE); {:.1}% of what came stayed \
             within the 95% quantile, {:.2}% within the 99% quantile",
            duration_text(jiff::SignedDuration::from_secs(forecast.horizon_seconds)),
            forecast.wape * 100.0,
            forecast.coverage.p95 * 100.0,
            forecast.coverage.p99 * 100.0
        )
    })
}
