//! What each part brings: the product whole, and with each part left out, on every scenario that ships or on any
//! traces, as tables in Markdown.
//!
//! `cargo bench --bench ablation -- [--trace FILE...] [--lead-time 15m] [--warmup default,0]`
//!
//! It fails if the whole, as it is put together here, is not scored exactly as the product is.

mod replays;

use std::sync::Arc;

use anyhow::ensure;
use clap::Parser;
use milvus_autoscaler::capacity::Capacity;
use milvus_autoscaler::decide::behavior::{BehaviorState, normalize};
use milvus_autoscaler::decide::{Fleet, Floor, Memory, Rules, Situation, decide};
use milvus_autoscaler::forecast::{Config, Forecast, Forecaster, Parts};
use milvus_autoscaler::policy::Policy;
use milvus_autoscaler::simulate::strategy::{Band, Proposal, Strategy, StrategyKind, View};
use milvus_autoscaler::simulate::{ForecastScore, Score, Setup, simulate_own};
use milvus_autoscaler::units::{Qps, Replicas};
use rayon::prelude::*;
use replays::{Case, Load, Options, table};

/// The product, or what is left of it.
#[derive(Debug, Clone, Copy)]
struct Variant {
    name: &'static str,
    parts: Parts,
    control: Control,
    /// Whether demand measured now can raise the plan.
    reacts: bool,
}

/// How replicas are chosen.
#[derive(Debug, Clone, Copy)]
enum Control {
    /// As the product does: optimal control over the coming hours.
    Plan,
    /// As many as this quantile of the peak over the lead time needs: by its place in `Forecast::peak`.
    Quantile(usize),
}

/// What everything is compared with, then one variant for each part; those of the forecaster first.
fn variants() -> [Variant; 9] {
    let all = Parts::default();
    let whole = Variant { name: "whole", parts: all, control: Control::Plan, reacts: true };
    let without = |name, parts| Variant { name, parts, ..whole };
    [
        whole,
        without("seasonality", Parts { seasonality: false, ..all }),
        without("analogs", Parts { analogs: false, ..all }),
        without("mixing", Parts { mixing: false, ..all }),
        without("ensemble", Parts { ensemble: false, ..all }),
        without("calibration", Parts { calibration: false, ..all }),
        Variant { name: "plan (99 % rule instead)", control: Control::Quantile(2), ..whole },
        Variant { name: "plan (95 % rule instead)", control: Control::Quantile(1), ..whole },
        Variant { name: "reaction", reacts: false, ..whole },
    ]
}

/// How many of [`variants`] differ in their forecast: the whole and those without a part of the forecaster.
const FORECASTS: usize = 6;

/// Leave out each part of the autoscaler in turn
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

/// How a variant did on a load.
#[derive(Debug, Clone)]
struct Scored {
    score: Score,
    forecast: Option<ForecastScore>,
}

fn main() -> anyhow::Result<()> {
    let Arguments { options } = Arguments::parse();
    let loads = options.loads()?;
    for case in options.cases() {
        let results = results(&loads, case)?;
        println!("### {}\n", case.title());
        print(&loads, &results);
    }
    Ok(())
}

/// By load and variant.
fn results(loads: &[Load], case: Case) -> anyhow::Result<Vec<Vec<Scored>>> {
    let of_load = |load: &Load| -> anyhow::Result<Vec<Scored>> {
        let setup = load.setup(case)?;
        variants().par_iter().map(|variant| scored(load, &setup, *variant)).collect()
    };
    loads.par_iter().map(of_load).collect()
}

fn scored(load: &Load, setup: &Setup, variant: Variant) -> anyhow::Result<Scored> {
    let is_whole = variant.name == "whole";
    let strategies = if is_whole { vec![StrategyKind::Predictive] } else { Vec::new() };
    let setup = Setup { strategies, ..setup.clone() };
    let outcome = simulate_own(&mut Assembled::new(&setup, variant), load.demand.clone(), &setup);
    let score = outcome.scores[0].clone();
    if let Some(product) = outcome.scores.get(1) {
        let own = Score { name: product.name, ..score.clone() };
        ensure!(own == *product, "{}: the whole is scored {own:?}, the product {product:?}", load.name);
    }
    Ok(Scored { score, forecast: outcome.forecast })
}

/// The product's parts, put together as [`StrategyKind::Predictive`] does, or without one of them.
struct Assembled {
    variant: Variant,
    policy: Policy,
    capacity: Capacity,
    config: Config,
    forecaster: Option<Forecaster>,
    memory: Memory,
    behavior: BehaviorState,
}

impl Assembled {
    fn new(setup: &Setup, variant: Variant) -> Self {
        let (plant, policy) = (&setup.plant, setup.policy.clone());
        let calendar = Arc::new(policy.calendar.clone());
        Self {
            capacity: plant.capacity.clone(),
            config: Config { step: plant.step, lead: plant.lead_steps(), calendar, parts: variant.parts },
            forecaster: None,
            memory: Memory::default(),
            behavior: BehaviorState::default(),
            variant,
            policy,
        }
    }

    fn forecast(&mut self, view: &View<'_>) -> Option<Forecast> {
        let start = view.demand.start();
        let forecaster = self.forecaster.get_or_insert_with(|| Forecaster::new(self.config.clone(), start));
        for step in forecaster.len()..view.step {
            forecaster.observe(view.demand.get(step));
        }
        forecaster.forecast()
    }

    fn plan(
        &mut self,
        rules: &Rules,
        view: &View<'_>,
        forecast: Option<&Forecast>,
        floors: &[Floor],
    ) -> Replicas {
        let arrivals: Vec<usize> = view.arrivals.iter().map(|at| at.saturating_sub(view.step)).collect();
        // A demand of 0 raises nothing, and it is not missing, which would hold the number of replicas.
        let demand = view.last().map(|demand| if self.variant.reacts { demand } else { Qps::ZERO });
        let situation = Situation {
            now: view.now,
            demand,
            forecast,
            fleet: Fleet { desired: view.desired, ready: view.ready, arrivals: &arrivals },
            floors,
            guards: &[],
            pressure: None,
        };
        let desired = decide(rules, &mut self.memory, &situation).desired;
        self.memory.record_scale(rules, view.now, view.desired, desired);
        desired
    }

    /// The rule that people would write: enough for `demand_ahead` and for demand now, stabilised as the HPA does.
    fn follow(
        &mut self,
        rules: &Rules,
        view: &View<'_>,
        demand_ahead: Option<Qps>,
        floors: &[Floor],
    ) -> Replicas {
        let Rules { capacity, min, max, behavior, .. } = rules;
        let floor = floors.iter().map(|floor| floor.replicas).fold(*min, Replicas::max).min(*max);
        let needed = |demand: Qps| capacity.replicas_for(demand, *max);
        let wanted = match (view.last(), demand_ahead) {
            (Some(now), Some(ahead)) => needed(now).max(needed(ahead)),
            (Some(now), None) => view.desired.max(needed(now)),
            (None, ahead) => view.desired.max(ahead.map_or(Replicas(0), needed)),
        };
        let wanted = wanted.max(floor);
        let (desired, _) =
            normalize(&mut self.behavior, behavior, view.now, view.desired, wanted, floor, *max);
        self.behavior.record_scale(behavior, view.now, view.desired, desired);
        desired
    }
}

impl Strategy for Assembled {
    fn name(&self) -> &'static str {
        self.variant.name
    }

    fn propose(&mut self, view: &View<'_>) -> Proposal {
        let forecast = self.forecast(view);
        let terms = self.policy.terms(self.capacity.clone(), view.now);
        let floors: Vec<Floor> = terms.floor.into_iter().collect();
        let peak = forecast.as_ref().map(|forecast| forecast.peak);
        let desired = match self.variant.control {
            Control::Plan => self.plan(&terms.rules, view, forecast.as_ref(), &floors),
            Control::Quantile(place) => {
                self.follow(&terms.rules, view, peak.map(|peak| peak[place]), &floors)
            }
        };
        let forecast = peak.map(|[p50, p95, p99]| Band { p50, p95, p99 });
        Proposal { desired, forecast, reasons: Vec::new() }
    }
}

fn print(loads: &[Load], results: &[Vec<Scored>]) {
    let cost = |scored: &Scored| Some(format!("{:.3}", scored.score.slo_adjusted_cost));
    let pinball = |scored: &Scored| {
        Some(format!("{:.2} / {:.2}", 100.0 * pinball_95(scored)?, 100.0 * pinball_99(scored)?))
    };
    let coverage = |scored: &Scored| {
        let coverage = scored.forecast.as_ref()?.coverage;
        Some(format!("{:.1} / {:.1}", 100.0 * coverage.p95, 100.0 * coverage.p99))
    };
    println!("SLO-adjusted cost, whole and without each part:\n");
    println!("{}", per_load(loads, results, variants().len(), cost));
    println!("Pinball loss at 0.95 / 0.99 of the peak over the lead time, in % of the mean demand:\n");
    println!("{}", per_load(loads, results, FORECASTS, pinball));
    println!("Coverage of its 95 % / 99 % quantiles, in %:\n");
    println!("{}", per_load(loads, results, FORECASTS, coverage));
    println!(
        "How much worse it is without a part: means over the loads, and on how many of them by over 0.005:\n"
    );
    let head = ["without", "SLO-adjusted cost", "worse on", "better on", "pinball 0.95", "pinball 0.99"];
    println!("{}", table(&head, &(1..variants().len()).map(|v| brings(results, v)).collect::<Vec<_>>()));
}

fn per_load(
    loads: &[Load],
    results: &[Vec<Scored>],
    columns: usize,
    cell: impl Fn(&Scored) -> Option<String>,
) -> String {
    let names = variants().map(|variant| variant.name);
    let head: Vec<_> = std::iter::once("load").chain(names.into_iter().take(columns)).collect();
    let row = |(load, results): (&Load, &Vec<Scored>)| -> Vec<String> {
        let cells = results.iter().take(columns).map(|result| cell(result).unwrap_or("–".to_owned()));
        std::iter::once(load.name.clone()).chain(cells).collect()
    };
    table(&head, &loads.iter().zip(results).map(row).collect::<Vec<_>>())
}

fn pinball_95(result: &Scored) -> Option<f64> {
    Some(result.forecast.as_ref()?.pinball.p95)
}

fn pinball_99(result: &Scored) -> Option<f64> {
    Some(result.forecast.as_ref()?.pinball.p99)
}

fn brings(results: &[Vec<Scored>], variant: usize) -> Vec<String> {
    let differences: Vec<f64> = results
        .iter()
        .map(|of_load| of_load[variant].score.slo_adjusted_cost - of_load[0].score.slo_adjusted_cost)
        .collect();
    let count = |is: fn(f64) -> bool| differences.iter().filter(|d| is(**d)).count().to_string();
    let loss = |of: fn(&Scored) -> Option<f64>| {
        if variant >= FORECASTS {
            return "–".to_owned();
        }
        let ratios =
            results.iter().filter_map(|of_load| Some(of(&of_load[variant])? / of(&of_load[0])? - 1.0));
        format!("{:+.1} %", 100.0 * mean(&ratios.filter(|ratio| ratio.is_finite()).collect::<Vec<_>>()))
    };
    vec![
        variants()[variant].name.to_owned(),
        format!("{:+.3}", mean(&differences)),
        count(|d| d > 0.005),
        count(|d| d < -0.005),
        loss(pinball_95),
        loss(pinball_99),
    ]
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
