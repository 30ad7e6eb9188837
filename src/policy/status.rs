//! What the controller reports in a `MilvusAutoscaler`: enough to see why, and to go on after a restart.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::DurationText;
use crate::decide::behavior::BehaviorState;

/// What the autoscaler sees, decided and learned.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MilvusAutoscalerStatus {
    /// The generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `ForecastReady`, `MetricsFresh`, `Limited` and `Paused`, each with its reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Replicas that the target asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_replicas: Option<i32>,
    /// Replicas that serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// Replicas that the autoscaler wants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired_replicas: Option<i32>,
    /// When the autoscaler last changed the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_scale_time: Option<Time>,
    /// The last change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_scale: Option<LastScale>,
    /// The decision in force, and what it rests on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionStatus>,
    /// The next changes that the plan foresees, soonest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub planned_changes: Vec<PlannedChange>,
    /// The bounds in force, schedules and floors included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bounds: Option<BoundsStatus>,
    /// What QueryNodes carry, as given or learned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<CapacityStatus>,
    /// How long a replica takes until it serves, as given or learned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lead_time: Option<LeadTimeStatus>,
    /// What stays in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryStatus>,
    /// How good the forecast is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forecast: Option<ForecastStatus>,
    /// What is written to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetStatus>,
    /// The bounds that the HPA or ScaledObject had before; they are restored when the policy is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original_bounds: Option<OriginalBounds>,
    /// Recent recommendations and changes, for stabilisation and rate limits across restarts.
    #[serde(skip_serializing_if = "BehaviorState::is_empty")]
    pub behavior: BehaviorState,
    /// Until when scaling is paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused_until: Option<Time>,
    /// Replica-hours saved so far, against a fleet that always has the replicas of the highest demand seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saved_replica_hours: Option<f64>,
}

/// The last change that the autoscaler made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastScale {
    /// When.
    pub time: Time,
    /// Replicas before.
    pub from: i32,
    /// Replicas after.
    pub to: i32,
    /// The reason's code.
    pub reason: String,
    /// The reason in a sentence.
    pub message: String,
}

/// A decision, and what it rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DecisionStatus {
    /// `ScaleUp`, `ScaleDown` or `Hold`.
    pub action: Action,
    /// Replicas decided on; with `Hold`, the current ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Code of the reason that settled it.
    pub reason: String,
    /// The reasons in sentences, with their numbers.
    pub message: String,
    /// Since when the decision has been this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// What each signal asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proposals: Vec<SignalProposal>,
    /// What changed the number after the signals: floors, stabilisation, rate limits, bounds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<ReasonStatus>,
    /// Demand seen last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub demand_qps: Option<f64>,
    /// What the ready replicas carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_qps: Option<f64>,
    /// Quantiles, such as `0.99`, of the highest demand between now and the lead time.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub forecast_qps: BTreeMap<String, f64>,
}

/// What a decision does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Action {
    /// More replicas.
    ScaleUp,
    /// Fewer replicas.
    ScaleDown,
    /// No change.
    Hold,
}

/// What one signal asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignalProposal {
    /// The signal: `Forecast`, `Demand`, `Latency`, `QueueTime`, `Memory`, `Schedule` and others.
    pub signal: String,
    /// Replicas that it asked for; absent if it had no data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Why, in a sentence.
    pub message: String,
}

/// A reason's code and sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReasonStatus {
    /// Its code.
    pub reason: String,
    /// Its sentence.
    pub message: String,
}

/// A change that the plan foresees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedChange {
    /// When.
    pub time: Time,
    /// Replicas from then on.
    pub replicas: i32,
    /// Code of the reason.
    pub reason: String,
}

/// The bounds in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BoundsStatus {
    /// The fewest replicas, by policy and active schedules.
    pub min_replicas: i32,
    /// The most replicas, by policy and active schedules.
    pub max_replicas: i32,
    /// The floor by memory and in-memory replicas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor_replicas: Option<i32>,
    /// Names of the active schedules.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub active_schedules: Vec<String>,
}

/// Where a number comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Origin {
    /// From the policy.
    Given,
    /// From observation.
    Learned,
    /// A careful default until enough was observed.
    Assumed,
}

/// What QueryNodes carry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CapacityStatus {
    /// Where the numbers come from.
    pub origin: Origin,
    /// What one more replica adds at the current number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qps_per_replica: Option<f64>,
    /// The least that it may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower_qps_per_replica: Option<f64>,
    /// The most that it may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper_qps_per_replica: Option<f64>,
    /// The curve in use, where there is one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<CurvePointStatus>,
    /// How sure it is, from 0 to 1.
    pub confidence: f64,
    /// The observations that it rests on, newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<CapacityPoint>,
    /// When it last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated: Option<Time>,
}

/// A point of the capacity curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CurvePointStatus {
    /// A number of replicas.
    pub replicas: i32,
    /// What they carry together.
    pub qps: f64,
}

/// An observation of capacity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CapacityPoint {
    /// When it was made.
    pub time: Time,
    /// Replicas that served.
    pub replicas: i32,
    /// What they would have carried within the SLO.
    pub qps: f64,
    /// What it was taken from: `Utilization`, `Latency` or `QueueTime`.
    pub signal: String,
    /// How busy the busiest QueryNode was: CPU used over its limit.
    pub utilization: f64,
}

/// How long a replica takes until it serves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeadTimeStatus {
    /// Where the number comes from.
    pub origin: Origin,
    /// The lead time that is planned with.
    pub value: DurationText,
    /// The shortest that was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower: Option<DurationText>,
    /// The longest that was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper: Option<DurationText>,
    /// How sure it is, from 0 to 1.
    pub confidence: f64,
    /// The scale-outs that it rests on, newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<LeadTimePoint>,
    /// When it last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated: Option<Time>,
}

/// A scale-out that was watched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LeadTimePoint {
    /// When it was asked for.
    pub time: Time,
    /// Replicas that were added.
    pub replicas: i32,
    /// How long it took until the segments had moved.
    pub seconds: i64,
}

/// What stays in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MemoryStatus {
    /// Resident bytes of all QueryNodes together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resident_bytes: Option<i64>,
    /// Memory limit of one QueryNode in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_bytes_per_replica: Option<i64>,
    /// The largest in-memory replica number of the loaded collections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_memory_replicas: Option<i32>,
    /// The fewest QueryNodes that hold it all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor_replicas: Option<i32>,
}

/// How good the forecast is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ForecastStatus {
    /// When the history in use begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history_from: Option<Time>,
    /// Samples in the history in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history_samples: Option<i64>,
    /// How far ahead the error and coverage below are measured, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub horizon_seconds: Option<i64>,
    /// Mean absolute error over mean demand, as a fraction of 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_ratio: Option<f64>,
    /// How often the real demand stayed under each quantile, such as `0.99`; it should equal the quantile.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub coverage: BTreeMap<String, f64>,
    /// Pinball loss of each quantile over mean demand.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pinball_loss: BTreeMap<String, f64>,
    /// The weight of each forecasting method, from 0 to 1.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub method_weights: BTreeMap<String, f64>,
    /// Forecasts that were checked against what came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checked: Option<i64>,
}

/// What is written to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetStatus {
    /// Kind of the object whose field is set: `Deployment`, `StatefulSet`, `Milvus`, `HorizontalPodAutoscaler` or
    /// `ScaledObject`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The field that is set, such as `spec.replicas` or `spec.minReplicas`.
    pub field: String,
}

/// The bounds that another autoscaler had before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OriginalBounds {
    /// `HorizontalPodAutoscaler` or `ScaledObject`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its minimum; absent if it was unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_replicas: Option<i32>,
    /// Its maximum; absent if it was unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_replicas: Option<i32>,
}

impl OriginalBounds {
    /// Whether they are those of `target`.
    #[must_use]
    pub fn is_of(&self, target: &TargetStatus) -> bool {
        self.kind == target.kind && self.name == target.name
    }
}
