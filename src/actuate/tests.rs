//! The exact calls: what is read, what is written, and that nothing else is.

use serde_json::{Value, json};

use super::mock::{self, Answer, Call};
use super::*;

const NAMESPACE: &str = "milvus";

fn target(kind: TargetKind, name: &str) -> Target {
    Target { kind, name: name.to_owned(), query_node_group: None }
}

/// A cluster with the Deployment `querynode` and these HPAs; every write succeeds.
fn cluster(replicas: u32, hpas: Vec<Value>) -> impl Fn(&Call) -> Answer + Send + 'static {
    move |call| match call.line().as_str() {
        "GET /apis/apps/v1/namespaces/milvus/deployments/querynode" => {
            Some((200, mock::deployment(replicas)))
        }
        "GET /api/v1/namespaces/milvus/pods" => mock::pods(replicas),
        "GET /apis/autoscaling/v2/namespaces/milvus/horizontalpodautoscalers" => mock::list(&hpas),
        line if line.starts_with("GET") => {
            let named = |hpa: &&Value| call.path.ends_with(hpa["metadata"]["name"].as_str().unwrap());
            hpas.iter().find(named).map_or_else(|| mock::failure(404), |hpa| Some((200, hpa.clone())))
        }
        _ => Some((200, call.body.clone())),
    }
}

async fn survey_of(client: &Client) -> Survey {
    survey(client, NAMESPACE, &target(TargetKind::Deployment, "querynode"), None).await.unwrap()
}

#[tokio::test]
async fn a_deployment_is_scaled_through_its_subresource_and_nothing_else_changes() {
    let (client, calls) = mock::client(cluster(2, Vec::new()));
    let survey = survey_of(&client).await;
    assert_eq!((survey.desired, survey.ready(), survey.draining()), (Replicas(2), Replicas(2), Replicas(0)));
    assert!(!survey.lever.would_change(Replicas(2)));
    assert!(calls.writes().is_empty());
    survey.lever.set(&client, NAMESPACE, Replicas(5)).await.unwrap();
    let write = calls.write("/deployments/querynode/scale");
    assert_eq!(write.body, json!({"spec": {"replicas": 5}}));
    assert_eq!(write.content_type, "application/merge-patch+json");
    assert!(write.query.contains("fieldManager=milvus-autoscaler"), "{}", write.query);
    assert_eq!(calls.writes().len(), 1);
}

#[tokio::test]
async fn ready_proxies_are_counted_where_labels_tell_which_they_are() {
    let labelled = |component: &str| {
        let mut deployment = mock::deployment(2);
        deployment["spec"]["template"]["metadata"]["labels"] =
            json!({"app.kubernetes.io/instance": "one", component: "querynode"});
        deployment
    };
    for (deployment, proxies, expected) in [
        (labelled("component"), 3, Some(3)),
        (labelled("app.kubernetes.io/component"), 1, Some(1)),
        (labelled("component"), 0, None),
        (labelled("role"), 3, None),
        (mock::deployment(2), 3, None),
    ] {
        let (client, _) = mock::client(move |call| match call.line().rsplit('/').next() {
            Some("querynode") => Some((200, deployment.clone())),
            Some("pods") if call.query.contains("proxy") => mock::pods(proxies),
            Some("pods") => mock::pods(2),
            _ => mock::list(&[]),
        });
        assert_eq!(survey_of(&client).await.known.ready_proxies, expected);
    }
}

#[tokio::test]
async fn an_hpa_is_found_by_its_target_and_gets_its_bounds_by_apply() {
    let mut other = mock::hpa("other", 1, 9);
    other["spec"]["scaleTargetRef"]["name"] = json!("proxy");
    let (client, calls) = mock::client(cluster(2, vec![other, mock::hpa("ours", 1, 4)]));
    let survey = survey_of(&client).await;
    assert_eq!(survey.lever.status().name, "ours");
    survey.lever.set(&client, NAMESPACE, Replicas(3)).await.unwrap();
    let write = calls.write("/horizontalpodautoscalers/ours");
    assert_eq!(write.content_type, "application/apply-patch+yaml");
    assert!(write.query.contains("force=true") && write.query.contains("fieldManager=milvus-autoscaler"));
    assert_eq!(write.body["spec"], json!({"minReplicas": 3}));
    let kept = write.body["metadata"]["annotations"][ORIGINAL_BOUNDS].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(kept).unwrap(), json!({"minReplicas": 1, "maxReplicas": 4}));
}

#[tokio::test]
async fn the_maximum_rises_with_need_and_comes_back_with_what_runs() {
    let raised = |min: u32, max: u32| {
        let mut hpa = mock::hpa("ours", min, max);
        hpa["metadata"]["annotations"] = json!({ORIGINAL_BOUNDS: r#"{"minReplicas":1,"maxReplicas":4}"#});
        hpa["metadata"]["managedFields"] = json!([{"manager": MANAGER, "operation": "Apply",
            "apiVersion": "autoscaling/v2", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:minReplicas": {}, "f:maxReplicas": {}}}}]);
        hpa
    };
    // (replicas that run, bounds now, replicas wanted, what is applied)
    let cases = [
        (2, mock::hpa("ours", 1, 4), 7, json!({"minReplicas": 7, "maxReplicas": 7})),
        (7, raised(7, 7), 3, json!({"minReplicas": 3, "maxReplicas": 7})),
        (5, raised(3, 7), 3, json!({"minReplicas": 3, "maxReplicas": 5})),
        (3, raised(3, 5), 3, json!({"minReplicas": 3, "maxReplicas": 4})),
    ];
    for (running, hpa, wanted, applied) in cases {
        let (client, calls) = mock::client(cluster(running, vec![hpa]));
        let survey = survey_of(&client).await;
        assert!(survey.lever.would_change(Replicas(wanted)));
        survey.lever.set(&client, NAMESPACE, Replicas(wanted)).await.unwrap();
        assert_eq!(calls.write("/ours").body["spec"], applied);
    }
    let (client, _) = mock::client(cluster(3, vec![raised(3, 4)]));
    assert!(!survey_of(&client).await.lever.would_change(Replicas(3)));
}

#[tokio::test]
async fn restoring_gives_back_what_was_there_once() {
    let mut hpa = mock::hpa("ours", 5, 9);
    hpa["metadata"]["annotations"] = json!({ORIGINAL_BOUNDS: r#"{"minReplicas":2,"maxReplicas":4}"#});
    let (client, calls) = mock::client(cluster(5, vec![hpa, mock::hpa("theirs", 1, 4)]));
    assert_eq!(restore(&client, NAMESPACE, "HorizontalPodAutoscaler", "ours").await, Ok(true));
    let write = calls.write("/ours");
    assert_eq!(write.body["spec"], json!({"minReplicas": 2, "maxReplicas": 4}));
    assert!(write.body["metadata"]["annotations"].is_null());
    // What was never overridden, or is gone, is left alone.
    for name in ["theirs", "gone"] {
        assert_eq!(restore(&client, NAMESPACE, "HorizontalPodAutoscaler", name).await, Ok(false));
    }
    assert_eq!(calls.writes().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_scaled_is_told_with_the_mend() {
    let two = vec![mock::hpa("one", 1, 4), mock::hpa("two", 1, 4)];
    let (client, calls) = mock::client(cluster(2, two));
    let deployment = target(TargetKind::Deployment, "querynode");
    let fault = survey(&client, NAMESPACE, &deployment, None).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unsuitable);
    assert!(fault.message.contains("one and two: delete one"), "{fault}");
    let missing = survey(&client, NAMESPACE, &deployment, Some("three")).await.unwrap_err();
    assert_eq!(missing.kind, FaultKind::NotFound);
    let (client, _) = mock::client(cluster(0, Vec::new()));
    assert_eq!(survey_of(&client).await.frozen.unwrap().code, "TargetAtZero");
    assert!(calls.writes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn every_fault_of_the_api_server_has_a_kind_and_an_end() {
    for (code, kind) in [
        (403, FaultKind::Forbidden),
        (409, FaultKind::Conflict),
        (422, FaultKind::Invalid),
        (429, FaultKind::Throttled),
        (500, FaultKind::Unreachable),
    ] {
        let reads = cluster(2, Vec::new());
        let (client, calls) =
            mock::client(move |call| if call.is_write() { mock::failure(code) } else { reads(call) });
        let survey = survey_of(&client).await;
        let fault = survey.lever.set(&client, NAMESPACE, Replicas(3)).await.unwrap_err();
        assert_eq!(fault.kind, kind, "{code}");
        assert_eq!(calls.writes().len(), 1, "a write is tried once; the next cycle tries again");
    }
    let (client, _) = mock::client(|_| None);
    let deployment = target(TargetKind::Deployment, "querynode");
    assert_eq!(survey(&client, NAMESPACE, &deployment, None).await.unwrap_err().kind, FaultKind::Timeout);
}

#[tokio::test]
async fn a_group_of_a_milvus_is_written_only_if_nobody_else_has_written() {
    let (client, calls) = mock::client(|call| match call.line().as_str() {
        "GET /apis/milvus.io/v1beta1/namespaces/milvus/milvuses/one" => Some((
            200,
            json!({"apiVersion": "milvus.io/v1beta1", "kind": "Milvus",
                "metadata": {"name": "one", "resourceVersion": "42"},
                "spec": {"components": {"queryNode": {"groups": [
                    {"name": "a", "replicas": 1}, {"name": "b", "replicas": 2, "x": true}]}}}}),
        )),
        "GET /api/v1/namespaces/milvus/pods" => mock::pods(2),
        line if line.starts_with("GET") => mock::failure(404),
        _ => Some((200, json!({"metadata": {"name": "one"}}))),
    });
    let mut milvus = target(TargetKind::Milvus, "one");
    let fault = survey(&client, NAMESPACE, &milvus, None).await.unwrap_err();
    assert!(fault.message.contains("groups a, b: name one of them"), "{fault}");
    milvus.query_node_group = Some("b".to_owned());
    let survey = survey(&client, NAMESPACE, &milvus, None).await.unwrap();
    survey.lever.set(&client, NAMESPACE, Replicas(4)).await.unwrap();
    let write = calls.write("/milvuses/one");
    let expected = json!({
        "metadata": {"resourceVersion": "42"},
        "spec": {"components": {"queryNode": {"groups": [
            {"name": "a", "replicas": 1}, {"name": "b", "replicas": 4, "x": true}]}}},
    });
    assert_eq!(write.body, expected);
}

#[test]
fn replicas_help_a_lead_time_after_they_were_asked_for() {
    let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
    let pod =
        |seconds: i64, state: PodState| Pod { created: now - SignedDuration::from_secs(seconds), state };
    let survey = Survey {
        lever: Lever::Milvus(milvus::MilvusField { name: "one".into(), group: None, replicas: Replicas(5) }),
        desired: Replicas(5),
        pods: vec![
            pod(9000, PodState::Ready),
            pod(9000, PodState::Starting),
            pod(8000, PodState::Ending),
            pod(400, PodState::Ready),
            pod(30, PodState::Starting),
        ],
        rolling: false,
        known: Known::default(),
        frozen: None,
    };
    let lead = SignedDuration::from_secs(600);
    let (helping, waits) = survey.helping(now, lead, SignedDuration::from_mins(1));
    assert_eq!(helping, Replicas(1));
    // The one that lost its readiness, the one half-way, the new one, and the one that is not there yet.
    assert_eq!(waits, [1, 4, 10, 10]);
    let codes: Vec<_> = survey.guards(now, lead).iter().map(|guard| guard.code).collect();
    assert_eq!(codes, ["Draining", "TargetUnready"]);
    // Replicas that never start do not hold for ever.
    assert_eq!(survey.guards(now + SignedDuration::from_hours(1), lead).len(), 1);
}
