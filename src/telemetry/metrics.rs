//! The controller's own metrics, under the prefix `milvus_autoscaler_`.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

type FloatGauge = Gauge<f64, AtomicU64>;

/// The policy that a metric is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Object {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Which number of replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "as they are written in labels")]
pub enum ReplicaKind {
    /// Asked for.
    current,
    /// Ready.
    ready,
    /// Wanted.
    desired,
    /// What memory needs.
    floor,
    /// The lower bound in force.
    min,
    /// The upper bound in force.
    max,
}

const KINDS: [ReplicaKind; 6] = [
    ReplicaKind::current,
    ReplicaKind::ready,
    ReplicaKind::desired,
    ReplicaKind::floor,
    ReplicaKind::min,
    ReplicaKind::max,
];

/// Where a decision goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "as they are written in labels")]
pub enum Direction {
    /// More replicas.
    up,
    /// Fewer.
    down,
    /// No change.
    hold,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    namespace: String,
    name: String,
    kind: ReplicaKind,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfQuantile {
    namespace: String,
    name: String,
    quantile: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfDecision {
    namespace: String,
    name: String,
    direction: Direction,
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfError {
    namespace: String,
    name: String,
    kind: &'static str,
}

impl Object {
    fn kind(&self, kind: ReplicaKind) -> OfKind {
        OfKind { namespace: self.namespace.clone(), name: self.name.clone(), kind }
    }

    fn quantile(&self, quantile: &'static str) -> OfQuantile {
        OfQuantile { namespace: self.namespace.clone(), name: self.name.clone(), quantile }
    }
}

/// The labels of the quantiles that are forecast.
const QUANTILES: [&str; 3] = ["0.5", "0.95", "0.99"];

/// Faults that any policy may meet.
const USUAL_FAULTS: [&str; 3] = ["metrics", "timeout", "unreachable"];

/// Every metric.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    demand: Family<Object, FloatGauge>,
    forecast: Family<OfQuantile, FloatGauge>,
    capacity: Family<Object, FloatGauge>,
    replicas: Family<OfKind, Gauge>,
    lead_time: Family<Object, FloatGauge>,
    decisions: Family<OfDecision, Counter>,
    coverage: Family<OfQuantile, FloatGauge>,
    error: Family<Object, FloatGauge>,
    metric_age: Family<Object, FloatGauge>,
    reconcile: Histogram,
    errors: Family<OfError, Counter>,
    queries: Histogram,
    leader: Gauge,
    saved: Family<Object, Counter<f64, AtomicU64>>,
    /// What counters have been made with, so that they go when their object goes.
    counted: Mutex<(Vec<OfDecision>, Vec<OfError>)>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Every metric, with nothing counted yet.
    #[must_use]
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("milvus_autoscaler"),
            demand: Family::default(),
            forecast: Family::default(),
            capacity: Family::default(),
            replicas: Family::default(),
            lead_time: Family::default(),
            decisions: Family::default(),
            coverage: Family::default(),
            error: Family::default(),
            metric_age: Family::default(),
            reconcile: Histogram::new(exponential_buckets(0.005, 2.0, 13)),
            errors: Family::default(),
            queries: Histogram::new(exponential_buckets(0.005, 2.0, 13)),
            leader: Gauge::default(),
            saved: Family::default(),
            counted: Mutex::default(),
        };
        metrics.register_load();
        metrics.register_work();
        metrics
    }

    fn register_load(&mut self) {
        let registry = &mut self.registry;
        registry.register("demand_qps", "Demand seen last", self.demand.clone());
        registry.register(
            "forecast_qps",
            "Quantiles of the highest demand from now until a replica added now is ready",
            self.forecast.clone(),
        );
        registry.register(
            "capacity_qps",
            "What the ready replicas carry within the SLO",
            self.capacity.clone(),
        );
        registry.register(
            "replicas",
            "Replicas: current (asked for), ready, desired, floor (memory), min and max (bounds in force)",
            self.replicas.clone(),
        );
        registry.register(
            "lead_time_seconds",
            "From asking for a replica until it helps, as planned with",
            self.lead_time.clone(),
        );
        registry.register(
            "forecast_coverage_ratio",
            "How often demand stayed under each quantile in the last week",
            self.coverage.clone(),
        );
        registry.register(
            "forecast_error_ratio",
            "Mean absolute error of the forecast over mean demand in the last week",
            self.error.clone(),
        );
        registry.register(
            "metric_age_seconds",
            "Age of the newest sample of demand",
            self.metric_age.clone(),
        );
    }

    fn register_work(&mut self) {
        let registry = &mut self.registry;
        registry.register("decisions", "Decisions by direction and reason", self.decisions.clone());
        registry.register("reconcile_duration_seconds", "Time that one cycle took", self.reconcile.clone());
        registry.register("reconcile_errors", "Faults in cycles by kind", self.errors.clone());
        registry.register(
            "prometheus_query_duration_seconds",
            "Time that Prometheus took for one observation",
            self.queries.clone(),
        );
        registry.register("leader", "1 if this process writes, 0 if it only computes", self.leader.clone());
        registry.register(
            "saved_replica_hours",
            "Replica-hours saved against a fleet that always has the replicas of the highest demand seen",
            self.saved.clone(),
        );
    }

    /// Everything in the OpenMetrics text format.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing into a text does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// The demand seen last and its age; without a demand the gauge goes, as no data is not 0.
    pub fn set_demand(&self, object: &Object, demand: Option<f64>, age: Option<Duration>) {
        set_or_remove(&self.demand, object, demand);
        set_or_remove(&self.metric_age, object, age.map(|age| age.as_secs_f64()));
    }

    /// The forecast quantiles, in the order of [`QUANTILES`].
    pub fn set_forecast(&self, object: &Object, peak: Option<[f64; 3]>) {
        for (index, quantile) in QUANTILES.iter().enumerate() {
            set_or_remove(&self.forecast, &object.quantile(quantile), peak.map(|peak| peak[index]));
        }
    }

    /// How good the forecast has been: error, and coverage in the order of [`QUANTILES`].
    pub fn set_accuracy(&self, object: &Object, accuracy: Option<(f64, [f64; 3])>) {
        set_or_remove(&self.error, object, accuracy.map(|(error, _)| error));
        for (index, quantile) in QUANTILES.iter().enumerate() {
            let coverage = accuracy.map(|(_, coverage)| coverage[index]);
            set_or_remove(&self.coverage, &object.quantile(quantile), coverage);
        }
    }

    /// What the ready replicas carry.
    pub fn set_capacity(&self, object: &Object, qps: Option<f64>) {
        set_or_remove(&self.capacity, object, qps);
    }

    /// The lead time in use.
    pub fn set_lead_time(&self, object: &Object, seconds: f64) {
        self.lead_time.get_or_create(object).set(seconds);
    }

    /// One of the numbers of replicas.
    pub fn set_replicas(&self, object: &Object, kind: ReplicaKind, replicas: Option<u32>) {
        let labels = object.kind(kind);
        match replicas {
            Some(replicas) => {
                self.replicas.get_or_create(&labels).set(i64::from(replicas));
            }
            None => {
                self.replicas.remove(&labels);
            }
        }
    }

    /// Counts a decision.
    pub fn count_decision(&self, object: &Object, direction: Direction, reason: &str) {
        let (namespace, name) = (object.namespace.clone(), object.name.clone());
        let labels = OfDecision { namespace, name, direction, reason: reason.to_owned() };
        self.decisions.get_or_create(&labels).inc();
        self.remember(|counted| &mut counted.0, labels);
    }

    /// Shows the counters of the usual faults at 0: `increase()` does not see a series' first sample.
    pub fn begin(&self, object: &Object) {
        for kind in USUAL_FAULTS {
            let labels = OfError { namespace: object.namespace.clone(), name: object.name.clone(), kind };
            drop(self.errors.get_or_create(&labels));
            self.remember(|counted| &mut counted.1, labels);
        }
    }

    /// Counts a fault.
    pub fn count_error(&self, object: &Object, kind: &'static str) {
        let labels = OfError { namespace: object.namespace.clone(), name: object.name.clone(), kind };
        self.errors.get_or_create(&labels).inc();
        self.remember(|counted| &mut counted.1, labels);
    }

    fn remember<T: PartialEq>(
        &self,
        of: impl FnOnce(&mut (Vec<OfDecision>, Vec<OfError>)) -> &mut Vec<T>,
        labels: T,
    ) {
        let Ok(mut counted) = self.counted.lock() else { return };
        let list = of(&mut counted);
        if !list.contains(&labels) {
            list.push(labels);
        }
    }

    /// How long a cycle took.
    pub fn observe_cycle(&self, took: Duration) {
        self.reconcile.observe(took.as_secs_f64());
    }

    /// How long Prometheus took.
    pub fn observe_query(&self, took: Duration) {
        self.queries.observe(took.as_secs_f64());
    }

    /// Whether this process writes.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Adds to what was saved; a loss adds nothing.
    pub fn add_saved(&self, object: &Object, replica_hours: f64) {
        self.saved.get_or_create(object).inc_by(replica_hours.max(0.0));
    }

    /// Takes out everything about an object that is gone.
    pub fn forget(&self, object: &Object) {
        for family in [&self.demand, &self.capacity, &self.lead_time, &self.error, &self.metric_age] {
            family.remove(object);
        }
        self.saved.remove(object);
        for quantile in QUANTILES {
            self.forecast.remove(&object.quantile(quantile));
            self.coverage.remove(&object.quantile(quantile));
        }
        for kind in KINDS {
            self.replicas.remove(&object.kind(kind));
        }
        let Ok(mut counted) = self.counted.lock() else { return };
        let is_it = |namespace: &str, name: &str| namespace == object.namespace && name == object.name;
        counted.0.retain(|labels| {
            let gone = is_it(&labels.namespace, &labels.name) && self.decisions.remove(labels);
            !gone
        });
        counted.1.retain(|labels| {
            let gone = is_it(&labels.namespace, &labels.name) && self.errors.remove(labels);
            !gone
        });
    }
}

fn set_or_remove<S>(family: &Family<S, FloatGauge>, labels: &S, value: Option<f64>)
where
    S: Clone + Eq + std::hash::Hash,
{
    match value {
        Some(value) => {
            family.get_or_create(labels).set(value);
        }
        None => {
            family.remove(labels);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str) -> Object {
        Object { namespace: "milvus".into(), name: name.into() }
    }

    #[test]
    fn names_and_labels_are_as_dashboards_know_them() {
        let metrics = Metrics::new();
        let one = object("one");
        metrics.set_demand(&one, Some(12.5), Some(Duration::from_secs(3)));
        metrics.set_forecast(&one, Some([1.0, 2.0, 3.0]));
        metrics.set_accuracy(&one, Some((0.1, [0.5, 0.95, 0.99])));
        metrics.set_capacity(&one, Some(200.0));
        metrics.set_lead_time(&one, 600.0);
        metrics.set_replicas(&one, ReplicaKind::current, Some(2));
        metrics.count_decision(&one, Direction::up, "ForecastRise");
        metrics.count_error(&one, "timeout");
        metrics.observe_cycle(Duration::from_millis(10));
        metrics.observe_query(Duration::from_millis(10));
        metrics.set_leader(true);
        metrics.add_saved(&one, 0.25);
        let text = metrics.encode();
        let of = r#"namespace="milvus",name="one""#;
        for line in [
            format!("milvus_autoscaler_demand_qps{{{of}}} 12.5"),
            format!("milvus_autoscaler_forecast_qps{{{of},quantile=\"0.99\"}} 3.0"),
            format!("milvus_autoscaler_capacity_qps{{{of}}} 200.0"),
            format!("milvus_autoscaler_replicas{{{of},kind=\"current\"}} 2"),
            format!("milvus_autoscaler_lead_time_seconds{{{of}}} 600.0"),
            format!("milvus_autoscaler_decisions_total{{{of},direction=\"up\",reason=\"ForecastRise\"}} 1"),
            format!("milvus_autoscaler_forecast_coverage_ratio{{{of},quantile=\"0.5\"}} 0.5"),
            format!("milvus_autoscaler_forecast_error_ratio{{{of}}} 0.1"),
            format!("milvus_autoscaler_metric_age_seconds{{{of}}} 3.0"),
            "milvus_autoscaler_reconcile_duration_seconds_count 1".to_owned(),
            format!("milvus_autoscaler_reconcile_errors_total{{{of},kind=\"timeout\"}} 1"),
            "milvus_autoscaler_prometheus_query_duration_seconds_count 1".to_owned(),
            "milvus_autoscaler_leader 1".to_owned(),
            format!("milvus_autoscaler_saved_replica_hours_total{{{of}}} 0.25"),
        ] {
            assert!(text.lines().any(|seen| seen == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn what_is_gone_leaves_nothing_behind() {
        let metrics = Metrics::new();
        let before = metrics.encode();
        for name in ["one", "two"] {
            let object = object(name);
            metrics.set_demand(&object, Some(1.0), Some(Duration::ZERO));
            metrics.set_forecast(&object, Some([1.0; 3]));
            metrics.set_replicas(&object, ReplicaKind::max, Some(2));
            metrics.count_decision(&object, Direction::hold, "Steady");
            metrics.count_error(&object, "timeout");
            metrics.add_saved(&object, 1.0);
        }
        metrics.forget(&object("one"));
        assert!(!metrics.encode().contains("name=\"one\""));
        assert!(metrics.encode().contains("name=\"two\""));
        metrics.forget(&object("two"));
        assert_eq!(metrics.encode(), before);
    }
}
