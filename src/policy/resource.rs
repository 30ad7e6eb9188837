//! The `MilvusAutoscaler` resource: what people write, and what the API server stores.
//!
//! These types hold what was written; [`Policy`](super::Policy) holds what it means. The comments here are the
//! descriptions in the CustomResourceDefinition.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::status::MilvusAutoscalerStatus;
use super::text::{
    CronText, DaysText, DurationText, KeyText, MomentText, NameText, PercentText, TimeZoneText,
    percent_range, rules,
};

/// The most replicas that a policy may ask for.
pub const MOST_REPLICAS: i32 = 10_000;

/// An event's end is after its start, where both have an offset or neither has.
const EVENT_IN_ORDER: &str = "\
    self.start.matches('T[0-9:.]+(Z|[+-][0-9]{2}:[0-9]{2})$') && self.end.matches('T[0-9:.]+(Z|[+-][0-9]{2}:[0-9]{2})$') \
    ? self.start.matches('T[0-9]+:[0-9]+(Z|[+-])') || self.end.matches('T[0-9]+:[0-9]+(Z|[+-])') || timestamp(self.start) < timestamp(self.end) \
    : !self.start.matches('T[0-9:.]+$') || !self.end.matches('T[0-9:.]+$') || self.start < self.end";

/// How one Milvus QueryNode workload is kept ahead of its load.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "milvus-autoscaler.io",
    version = "v1alpha1",
    kind = "MilvusAutoscaler",
    plural = "milvusautoscalers",
    singular = "milvusautoscaler",
    shortname = "mas",
    category = "autoscaling",
    namespaced,
    status = "MilvusAutoscalerStatus",
    derive = "PartialEq",
    doc = "Keeps the QueryNodes of a Milvus cluster ahead of their load: forecasts demand and sets replicas, or the bounds of an HPA, before it arrives.",
    printcolumn = r#"{"name": "Mode", "type": "string", "jsonPath": ".spec.mode", "description": "Active scales; Preview only reports"}"#,
    printcolumn = r#"{"name": "Current", "type": "integer", "jsonPath": ".status.currentReplicas", "description": "Replicas that the target asks for"}"#,
    printcolumn = r#"{"name": "Desired", "type": "integer", "jsonPath": ".status.desiredReplicas", "description": "Replicas that the autoscaler wants"}"#,
    printcolumn = r#"{"name": "Min", "type": "integer", "jsonPath": ".spec.minReplicas"}"#,
    printcolumn = r#"{"name": "Max", "type": "integer", "jsonPath": ".spec.maxReplicas"}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "jsonPath": ".status.decision.reason", "description": "Why the last decision is what it is"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules(&[
    ("self.minReplicas <= self.maxReplicas",
     "minReplicas is above maxReplicas: lower minReplicas or raise maxReplicas"),
    ("!has(self.schedules) || self.schedules.all(s, s.minReplicas <= self.maxReplicas)",
     "a schedule's minReplicas is above spec.maxReplicas: lower it or raise spec.maxReplicas"),
    ("!has(self.schedules) || self.schedules.all(s, !has(s.maxReplicas) || s.maxReplicas >= self.minReplicas)",
     "a schedule's maxReplicas is below spec.minReplicas: raise it or lower spec.minReplicas"),
])))]
pub struct MilvusAutoscalerSpec {
    /// Whether the autoscaler acts. `Active` scales the target. `Preview` computes and reports everything, and
    /// writes nothing but its own status. Default: `Active`.
    #[serde(default)]
    pub mode: Mode,
    /// The workload whose QueryNode replicas are set: a Deployment or StatefulSet (`apps/v1`), or the Milvus of the
    /// Milvus operator (`milvus.io/v1beta1`). It is in the policy's own namespace.
    pub scale_target_ref: ScaleTargetRef,
    /// The HorizontalPodAutoscaler that scales the target. Then the bounds of this HPA are set, and replicas are left
    /// to it. Default: the HPA that targets the same object, if there is one; otherwise replicas are set directly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hpa_ref: Option<HpaRef>,
    /// The fewest replicas, at any time.
    #[schemars(range(min = 1, max = MOST_REPLICAS))]
    pub min_replicas: i32,
    /// The most replicas, at any time.
    #[schemars(range(min = 1, max = MOST_REPLICAS))]
    pub max_replicas: i32,
    /// Where load, latency and state of Milvus are read.
    pub prometheus: PrometheusSpec,
    /// What is counted as demand. Default: search queries a second, as offered to the proxies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub demand: Option<DemandSpec>,
    /// What QueryNodes carry within the SLO. Default: learned from CPU use, latency and queue time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<CapacitySpec>,
    /// What users of Milvus may expect. Default: a violation budget of 0.1%, and no latency target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slo: Option<SloSpec>,
    /// From asking for a replica until it serves: scheduling, start, and loading of segments. From 1s to 1d.
    /// Default: learned from real scale-outs, 10m until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lead_time: Option<DurationText>,
    /// What the forecast should know: time zone, history, holidays, events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forecast: Option<ForecastSpec>,
    /// Times with other bounds, such as a floor on weekdays. Where several are active, the highest minReplicas and
    /// the lowest maxReplicas count, and a minimum outranks a maximum. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub schedules: Option<Vec<ScheduleSpec>>,
    /// How fast replicas may change, with the HPA's own schema and meaning. Default: as fast as the plan needs, as
    /// the plan itself weighs every change. Where `behavior` is given, what it leaves out has the HPA's defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behavior: Option<BehaviorSpec>,
    /// What must stay in memory. Default: QueryNodes filled to at most 80% of their memory limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemorySpec>,
}

/// Whether the autoscaler acts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// Scales the target.
    #[default]
    Active,
    /// Computes and reports everything, and writes nothing but its own status.
    Preview,
}

/// The workload whose replicas are set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules(&[
    ("!has(self.apiVersion) || self.apiVersion == (self.kind == 'Milvus' ? 'milvus.io/v1beta1' : 'apps/v1')",
     "apiVersion does not fit the kind: Deployment and StatefulSet are apps/v1, Milvus is milvus.io/v1beta1"),
    ("!has(self.queryNodeGroup) || self.kind == 'Milvus'",
     "queryNodeGroup is for kind Milvus only: remove it"),
])))]
pub struct ScaleTargetRef {
    /// `apps/v1` for a Deployment or StatefulSet, `milvus.io/v1beta1` for a Milvus. Default: the one of the kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub api_version: Option<String>,
    /// `Deployment`, `StatefulSet` or `Milvus`.
    pub kind: TargetKind,
    /// Its name, in the policy's namespace.
    pub name: NameText,
    /// For a Milvus with `spec.components.queryNode.groups`: the group to scale. Default: the only group, or
    /// `queryNode.replicas` where there are no groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub query_node_group: Option<String>,
}

/// The kinds of workload that can be scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum TargetKind {
    /// A Deployment of QueryNodes.
    Deployment,
    /// A StatefulSet of QueryNodes.
    StatefulSet,
    /// A Milvus of the Milvus operator.
    Milvus,
}

/// A HorizontalPodAutoscaler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HpaRef {
    /// Its name, in the policy's namespace.
    pub name: NameText,
}

/// Where load, latency and state of Milvus are read: any server with the Prometheus API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules(&[
    ("!(has(self.bearerTokenSecretRef) && has(self.basicAuthSecretRef))",
     "bearerTokenSecretRef and basicAuthSecretRef exclude each other: keep one"),
    ("!has(self.tls) || self.url.startsWith('https://')",
     "tls needs a url that starts with https://"),
])))]
pub struct PrometheusSpec {
    /// Address of the server, with a path if it has one: `http://prometheus.monitoring.svc:9090`.
    #[schemars(length(max = 1024), extend("x-kubernetes-validations" = rules(&[
        ("self.matches('^https?://[^/?#@ ]+(/[^?#@ ]*)?$')",
         "must be an http:// or https:// address without query or password, such as http://prometheus.monitoring.svc:9090; credentials belong in basicAuthSecretRef"),
    ])))]
    pub url: String,
    /// Labels and values that select the series of this Milvus, such as `namespace: milvus`. They must fit proxies
    /// and QueryNodes alike. Default: the policy's own namespace as `namespace`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 32, "x-kubernetes-validations" = rules(&[
        ("self.all(name, name.matches('^[a-zA-Z_][a-zA-Z0-9_]*$'))",
         "names must be Prometheus labels: letters, digits and underscores, not starting with a digit"),
    ])))]
    pub matchers: Option<BTreeMap<String, String>>,
    /// TLS settings for an `https://` address. The server's certificate is always verified. Default: the roots of
    /// the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,
    /// The Secret with a bearer token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bearer_token_secret_ref: Option<SecretKeyRef>,
    /// The Secret with user name and password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic_auth_secret_ref: Option<BasicAuthSecretRef>,
    /// Further headers, such as `X-Scope-OrgID` for Mimir. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub headers: Option<Vec<HeaderSpec>>,
    /// How long one query may take. From 1s to 2m. Default: 10s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<DurationText>,
    /// The window of `rate()`: at least four scrape intervals. From 10s to 1h. Default: 2m.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_window: Option<DurationText>,
    /// How old the newest sample may be before the metrics count as missing. From 30s to 1h. Default: 3m.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_after: Option<DurationText>,
}

/// TLS settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TlsSpec {
    /// The Secret with the certificates (PEM) of the authority that signed the server's. Default key: `ca.crt`.
    pub ca_secret_ref: CaSecretRef,
}

/// A key of a Secret in the policy's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretKeyRef {
    /// Name of the Secret.
    pub name: NameText,
    /// Key in the Secret.
    pub key: KeyText,
}

/// A Secret in the policy's namespace with certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CaSecretRef {
    /// Name of the Secret.
    pub name: NameText,
    /// Key in the Secret. Default: `ca.crt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyText>,
}

/// A Secret in the policy's namespace with user name and password, such as one of type `kubernetes.io/basic-auth`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BasicAuthSecretRef {
    /// Name of the Secret.
    pub name: NameText,
    /// Key of the user name. Default: `username`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username_key: Option<KeyText>,
    /// Key of the password. Default: `password`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_key: Option<KeyText>,
}

/// An HTTP header with its value, or the Secret that holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules(&[
    ("has(self.value) != has(self.secretKeyRef)", "a header needs either value or secretKeyRef, not both"),
])))]
pub struct HeaderSpec {
    /// Name of the header.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// Its value.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub value: Option<String>,
    /// The Secret that holds its value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
}

/// What is counted as demand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DemandSpec {
    /// `qps`: search requests a second. `nq`: query vectors a second, better where requests carry different numbers
    /// of vectors. All numbers of demand and capacity in the policy are in this unit. Default: `qps`.
    #[serde(default)]
    pub unit: DemandUnit,
    /// PromQL of one's own for the demand in that unit; it must give one series, without `matchers`. Default: what
    /// is offered to the proxies of Milvus.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub query: Option<String>,
}

/// The unit of demand and capacity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DemandUnit {
    /// Search requests a second.
    #[default]
    Qps,
    /// Query vectors a second.
    Nq,
}

/// What QueryNodes carry within the SLO.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules(&[
    ("!(has(self.qpsPerReplica) && has(self.curve))", "qpsPerReplica and curve exclude each other: keep one"),
])))]
pub struct CapacitySpec {
    /// What each replica adds, in the unit of `demand`. Default: learned.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = rules(&[
        ("self > 0.0", "must be above 0; leave capacity out to have it learned"),
    ])))]
    pub qps_per_replica: Option<f64>,
    /// What certain numbers of replicas carry together, where it is not proportional: measured points, between which
    /// the curve is drawn. Default: learned.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 32),
        extend(
            "x-kubernetes-list-type" = "map",
            "x-kubernetes-list-map-keys" = ["replicas"],
            "x-kubernetes-validations" = rules(&[
                ("self.all(a, self.all(b, a.replicas >= b.replicas || a.qps <= b.qps))",
                 "more replicas must not carry less: check the points of the curve"),
            ])
        )
    )]
    pub curve: Option<Vec<CurvePointSpec>>,
    /// How busy the busiest QueryNode may be while capacity is learned: CPU used over its CPU limit. From 10% to
    /// 95%. Default: 70%.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = percent_range("10", "95")))]
    pub target_utilization: Option<PercentText>,
}

/// A measured point of the capacity curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CurvePointSpec {
    /// A number of replicas.
    #[schemars(range(min = 1, max = MOST_REPLICAS))]
    pub replicas: i32,
    /// What they carry together, in the unit of `demand`.
    #[schemars(extend("x-kubernetes-validations" = rules(&[("self > 0.0", "must be above 0")])))]
    pub qps: f64,
}

/// What users of Milvus may expect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SloSpec {
    /// The latency that 99% of searches must not exceed, at the proxy. From 1ms to 10m. Default: none; then latency
    /// neither corrects the learned capacity nor raises replicas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_latency: Option<DurationText>,
    /// The share of time in which demand may exceed capacity. It sets the price of shortage: a smaller budget keeps
    /// more replicas in reserve. From 0.0001% to 50%. Default: 0.1%.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = percent_range("0.0001", "50")))]
    pub violation_budget: Option<PercentText>,
}

/// What the forecast should know.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ForecastSpec {
    /// The time zone that the users live in, as their day and week shape the load. Default: `UTC`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<TimeZoneText>,
    /// How much history the forecast rests on. From 1d to 366d. Default: 28d.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<DurationText>,
    /// Days on which the load is as on no usual weekday: `2026-10-01`, or several in a row as
    /// `2026-10-01/2026-10-07`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub holidays: Option<Vec<DaysText>>,
    /// Known one-off loads, such as a launch. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub events: Option<Vec<EventSpec>>,
}

/// A known one-off load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules(&[
    (EVENT_IN_ORDER,
     "the event ends before it starts: correct start or end"),
])))]
pub struct EventSpec {
    /// Its name, shown in reasons.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// When it starts. Without an offset it is a local time in `timeZone`.
    pub start: MomentText,
    /// When it ends.
    pub end: MomentText,
    /// The highest load to expect in it, in the unit of `demand`.
    #[schemars(extend("x-kubernetes-validations" = rules(&[("self >= 0.0", "must be 0 or more")])))]
    pub expected_qps: f64,
}

/// A recurring time with other bounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules(&[
    ("!has(self.maxReplicas) || self.minReplicas <= self.maxReplicas",
     "the schedule's minReplicas is above its maxReplicas: lower minReplicas or raise maxReplicas"),
])))]
pub struct ScheduleSpec {
    /// Its name, shown in reasons.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// When it starts: a cron expression of five fields, such as `0 8 * * MON-FRI`.
    pub start: CronText,
    /// How long it lasts from each start. From 1m to 31d.
    pub duration: DurationText,
    /// The time zone of `start`. Default: `forecast.timeZone`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<TimeZoneText>,
    /// The fewest replicas while it is active.
    #[schemars(range(min = 1, max = MOST_REPLICAS))]
    pub min_replicas: i32,
    /// The most replicas while it is active. Default: `spec.maxReplicas`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MOST_REPLICAS))]
    pub max_replicas: Option<i32>,
}

/// How fast replicas may change, as in `autoscaling/v2`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BehaviorSpec {
    /// Rules for scaling up. Default: no stabilisation; at most the larger of 4 pods and 100% in 15 seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_up: Option<ScalingRulesSpec>,
    /// Rules for scaling down. Default: stabilised over 300 seconds; at most 100% in 15 seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_down: Option<ScalingRulesSpec>,
}

/// Rules for one direction, as in `autoscaling/v2`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScalingRulesSpec {
    /// Over how many seconds recommendations are looked back on: scaling up takes the lowest of them, scaling down
    /// the highest. Default: 0 for scaling up, 300 for scaling down.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3600))]
    pub stabilization_window_seconds: Option<i32>,
    /// Which policy counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub select_policy: Option<SelectPolicySpec>,
    /// The policies. Default: those of the HPA.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub policies: Option<Vec<ScalingPolicySpec>>,
}

/// Which policy counts: the one that allows the largest change (`Max`), the smallest (`Min`), or none (`Disabled`: no
/// scaling in this direction). Default: `Max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SelectPolicySpec {
    /// The one that allows the largest change.
    Max,
    /// The one that allows the smallest change.
    Min,
    /// No scaling in this direction.
    Disabled,
}

/// The largest change within a period, as in `autoscaling/v2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScalingPolicySpec {
    /// `Pods`: a number of replicas. `Percent`: a share of the replicas at the period's start.
    #[serde(rename = "type")]
    pub kind: ScalingPolicyKind,
    /// How many, or how many percent.
    #[schemars(range(min = 1))]
    pub value: i32,
    /// Length of the period in seconds.
    #[schemars(range(min = 1, max = 1800))]
    pub period_seconds: i32,
}

/// What a scaling policy counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ScalingPolicyKind {
    /// Replicas.
    Pods,
    /// Percent of the replicas at the period's start.
    Percent,
}

/// What must stay in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemorySpec {
    /// How full QueryNodes may be after a scale-in: resident bytes over memory limit. From 10% to 90%, beyond which
    /// Milvus loads no more segments. Default: 80%.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = percent_range("10", "90")))]
    pub target_utilization: Option<PercentText>,
}
