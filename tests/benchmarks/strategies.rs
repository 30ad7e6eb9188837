//! Every strategy on every scenario that ships, or on any traces: the SLO-adjusted cost of each, and the product's
//! scores in detail, as tables in Markdown.
//!
//! `cargo bench --bench strategies -- [--trace FILE...] [--lead-time 5m,15m,30m] [--warmup default,0]`

mod replays;

use clap::Parser;
use milvus_autoscaler::simulate::strategy::StrategyKind;
use milvus_autoscaler::simulate::{Outcome, Score, simulate};
use rayon::prelude::*;
use replays::{Case, Load, Options, table};

/// Those that people could pick first, then the fixed peak; the oracle is what all are compared with.
const COLUMNS: [StrategyKind; 7] = [
    StrategyKind::Predictive,
    StrategyKind::Hpa,
    StrategyKind::Hpa50,
    StrategyKind::Cron,
    StrategyKind::HoltWinters,
    StrategyKind::LastWeek,
    StrategyKind::Static,
];

/// Score every strategy on every scenario that ships, or on traces
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn main() -> anyhow::Result<()> {
    let Arguments { options } = Arguments::parse();
    let loads = options.loads()?;
    for case in options.cases() {
        let outcomes =
            loads.par_iter().map(|load| outcome(load, case)).collect::<anyhow::Result<Vec<_>>>()?;
        let rows = |row: fn(&str, &Outcome) -> Vec<String>| -> Vec<_> {
            loads.iter().zip(&outcomes).map(|(load, outcome)| row(&load.name, outcome)).collect()
        };
        println!("### {}\n", case.title());
        println!("SLO-adjusted cost, the lowest of real strategies in bold:\n");
        let head = std::iter::once("load").chain(COLUMNS.map(StrategyKind::name));
        println!("{}", table(&head.collect::<Vec<_>>(), &rows(costs)));
        println!("`predictive` in detail:\n");
        println!("{}", table(&DETAILS, &rows(details)));
    }
    Ok(())
}

fn outcome(load: &Load, case: Case) -> anyhow::Result<Outcome> {
    Ok(simulate(load.demand.clone(), &load.setup(case)?))
}

fn score(outcome: &Outcome, kind: StrategyKind) -> &Score {
    outcome.scores.iter().find(|score| score.name == kind.name()).expect("every strategy is replayed")
}

fn costs(name: &str, outcome: &Outcome) -> Vec<String> {
    let cost = |kind: StrategyKind| format!("{:.2}", score(outcome, kind).slo_adjusted_cost);
    let real = COLUMNS.into_iter().filter(|kind| !kind.sees_the_future());
    let lowest = real
        .min_by(|a, b| score(outcome, *a).slo_adjusted_cost.total_cmp(&score(outcome, *b).slo_adjusted_cost));
    let lowest = lowest.map(cost);
    let cell = |kind: StrategyKind| {
        let cost = cost(kind);
        // What rounds to the same is as good.
        let is_lowest = !kind.sees_the_future() && Some(&cost) == lowest.as_ref();
        if is_lowest { format!("**{cost}**") } else { cost }
    };
    std::iter::once(name.to_owned()).chain(COLUMNS.map(cell)).collect()
}

const DETAILS: [&str; 7] = [
    "load",
    "SLO-adjusted cost",
    "cost / oracle",
    "minutes in violation",
    "added / oracle",
    "oracle's added a day",
    "changes a day",
];

fn details(name: &str, outcome: &Outcome) -> Vec<String> {
    let (own, oracle) = (score(outcome, StrategyKind::Predictive), score(outcome, StrategyKind::Oracle));
    let added = if oracle.replicas_added_per_day > 0.0 {
        format!("{:.2}", own.replicas_added_per_day / oracle.replicas_added_per_day)
    } else {
        "–".to_owned()
    };
    vec![
        name.to_owned(),
        format!("{:.3}", own.slo_adjusted_cost),
        format!("{:.3}", own.cost_vs_oracle),
        format!("{:.3} %", 100.0 * own.violation_ratio),
        added,
        format!("{:.1}", oracle.replicas_added_per_day),
        format!("{:.1}", own.scale_events_per_day),
    ]
}
