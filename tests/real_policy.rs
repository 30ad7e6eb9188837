//! A real API server refuses and accepts the same policies as the binary does, and keeps every field of the status.
//!
//! `tests/real/setup kubernetes && cargo test --test real_policy`
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod specs;
mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::Request;
use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};
use milvus_autoscaler::decide::behavior::{BehaviorState, Recommendation, ScaleEvent};
use milvus_autoscaler::policy::status::{
    Action, BoundsStatus, CapacityPoint, CapacityStatus, CurvePointStatus, DecisionStatus, ForecastStatus,
    LastScale, LeadTimePoint, LeadTimeStatus, MemoryStatus, MilvusAutoscalerStatus, Origin, OriginalBounds,
    PlannedChange, ReasonStatus, SignalProposal, TargetStatus,
};
use milvus_autoscaler::policy::{MilvusAutoscaler, crd};
use milvus_autoscaler::units::Replicas;
use serde_json::Value;
use support::eventually;
use support::kubernetes::Kubernetes;

async fn install(client: &Client) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let created = definitions.create(&PostParams::default(), &crd()).await.unwrap();
    eventually("the definition to be established", Duration::from_secs(20), || async {
        let definition = definitions.get(&created.name_any()).await.map_err(|error| error.to_string())?;
        let conditions = definition.status.and_then(|status| status.conditions).unwrap_or_default();
        let problem = conditions.iter().find(|condition| condition.type_ == "NonStructuralSchema");
        assert!(problem.is_none(), "{problem:?}");
        let established = conditions.iter().any(|c| c.type_ == "Established" && c.status == "True");
        established.then_some(()).ok_or_else(|| format!("{conditions:?}"))
    })
    .await;
}

/// Asks whether the API server would create `policy`; the message if not.
async fn refusal(client: &Client, policy: &Value) -> Option<String> {
    let path = "/apis/milvus-autoscaler.io/v1alpha1/namespaces/default/milvusautoscalers";
    let request = Request::post(format!("{path}?dryRun=All&fieldValidation=Strict"))
        .header("content-type", "application/json")
        .body(policy.to_string().into_bytes())
        .unwrap();
    client.request::<Value>(request).await.err().map(|error| error.to_string())
}

#[tokio::test]
async fn the_api_server_refuses_and_accepts_what_the_binary_does() {
    let cluster = Kubernetes::start().await;
    let client = cluster.client().await;
    install(&client).await;
    let mut wrong = Vec::new();
    for case in specs::cases() {
        let refusal = refusal(&client, &case.policy).await;
        let as_expected = match (&refusal, &case.refused) {
            (None, None) => true,
            (Some(message), Some(expected)) => message.contains(expected.as_str()),
            _ => false,
        };
        if !as_expected {
            wrong.push(format!("{case:?}: {refusal:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn time() -> Time {
    Time(Timestamp::from_second(1_800_000_000).unwrap())
}

fn decision() -> DecisionStatus {
    let proposal =
        SignalProposal { signal: "Forecast".into(), replicas: Some(5), message: "480 QPS at 10:05".into() };
    DecisionStatus {
        action: Action::ScaleUp,
        replicas: Some(5),
        reason: "ForecastRise".into(),
        message: "480 QPS at 10:05 need 5 replicas".into(),
        since: Some(time()),
        proposals: vec![proposal],
        limits: vec![ReasonStatus {
            reason: "ScaleUpLimit".into(),
            message: "at most 4 pods in 60 s".into(),
        }],
        demand_qps: Some(120.5),
        capacity_qps: Some(190.0),
        forecast_qps: BTreeMap::from([("0.99".into(), 480.25)]),
    }
}

fn capacity() -> CapacityStatus {
    CapacityStatus {
        origin: Origin::Learned,
        qps_per_replica: Some(95.0),
        lower_qps_per_replica: Some(80.0),
        upper_qps_per_replica: Some(110.0),
        curve: vec![CurvePointStatus { replicas: 1, qps: 95.0 }],
        confidence: 0.8,
        points: vec![CapacityPoint {
            time: time(),
            replicas: 2,
            qps: 190.0,
            signal: "Utilization".into(),
            utilization: 0.5,
        }],
        updated: Some(time()),
    }
}

fn lead_time() -> LeadTimeStatus {
    LeadTimeStatus {
        origin: Origin::Learned,
        value: "7m30s".into(),
        lower: Some("6m".into()),
        upper: Some("9m".into()),
        confidence: 0.5,
        points: vec![LeadTimePoint { time: time(), replicas: 3, seconds: 450 }],
        updated: Some(time()),
    }
}

/// A status with every field.
fn status() -> MilvusAutoscalerStatus {
    MilvusAutoscalerStatus {
        observed_generation: Some(1),
        conditions: vec![Condition {
            last_transition_time: time(),
            message: "all is well".into(),
            observed_generation: Some(1),
            reason: "Working".into(),
            status: "True".into(),
            type_: "Ready".into(),
        }],
        current_replicas: Some(3),
        ready_replicas: Some(2),
        desired_replicas: Some(5),
        last_scale_time: Some(time()),
        last_scale: Some(LastScale {
            time: time(),
            from: 2,
            to: 3,
            reason: "DemandRise".into(),
            message: "more demand".into(),
        }),
        decision: Some(decision()),
        planned_changes: vec![PlannedChange { time: time(), replicas: 9, reason: "ForecastRise".into() }],
        bounds: Some(BoundsStatus {
            min_replicas: 2,
            max_replicas: 20,
            floor_replicas: Some(2),
            active_schedules: vec!["weekday-floor".into()],
        }),
        capacity: Some(capacity()),
        lead_time: Some(lead_time()),
        memory: Some(MemoryStatus {
            resident_bytes: Some(1 << 40),
            limit_bytes_per_replica: Some(1 << 36),
            in_memory_replicas: Some(2),
            floor_replicas: Some(2),
        }),
        forecast: Some(ForecastStatus {
            history_from: Some(time()),
            history_samples: Some(40_320),
            horizon_seconds: Some(600),
            error_ratio: Some(0.07),
            coverage: BTreeMap::from([("0.99".into(), 0.988)]),
            pinball_loss: BTreeMap::from([("0.99".into(), 0.003)]),
            method_weights: BTreeMap::from([("seasonal".into(), 0.75)]),
            checked: Some(1440),
        }),
        target: Some(TargetStatus {
            kind: "HorizontalPodAutoscaler".into(),
            name: "milvus-querynode".into(),
            field: "spec.minReplicas".into(),
        }),
        original_bounds: Some(OriginalBounds {
            kind: "HorizontalPodAutoscaler".into(),
            name: "milvus-querynode".into(),
            min_replicas: Some(1),
            max_replicas: Some(5),
        }),
        behavior: BehaviorState {
            recommendations: vec![Recommendation { at: time().0, replicas: Replicas(5) }],
            scale_events: vec![ScaleEvent { at: time().0, change: -2 }],
        },
        paused_until: Some(time()),
        saved_replica_hours: Some(12.5),
    }
}

#[tokio::test]
async fn the_api_server_keeps_the_whole_status() {
    let cluster = Kubernetes::start().await;
    let client = cluster.client().await;
    install(&client).await;
    let policies: Api<MilvusAutoscaler> = Api::default_namespaced(client);
    let policy: MilvusAutoscaler = serde_json::from_value(specs::full()).unwrap();
    let mut created = policies.create(&PostParams::default(), &policy).await.unwrap();
    created.status = Some(status());
    let written = policies.replace_status("search", &PostParams::default(), &created).await.unwrap();
    assert_eq!(written.status, created.status);
    created.status = Some(MilvusAutoscalerStatus::default());
    created.metadata.resource_version = written.metadata.resource_version;
    let emptied = policies.replace_status("search", &PostParams::default(), &created).await.unwrap();
    assert_eq!(emptied.status.unwrap_or_default(), MilvusAutoscalerStatus::default());

    let columns = cluster.kubectl(&["get", "mas"]);
    for heading in ["NAME", "MODE", "CURRENT", "DESIRED", "MIN", "MAX", "REASON", "AGE"] {
        assert!(columns.contains(heading), "{columns}");
    }
}
