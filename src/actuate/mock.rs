//! An API server of a few lines for tests: it records every request and answers as it is told.

use std::sync::{Arc, Mutex};

use axum::http::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tower_test::mock;

/// One request as it came.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call {
    /// `GET`, `PATCH` and others.
    pub(crate) method: String,
    /// The path without its query.
    pub(crate) path: String,
    /// The query.
    pub(crate) query: String,
    /// What kind of patch it is, where it is one.
    pub(crate) content_type: String,
    /// The body, where there is one.
    pub(crate) body: Value,
}

impl Call {
    /// `PATCH /apis/…`.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    pub(crate) fn is_write(&self) -> bool {
        self.method != "GET"
    }
}

/// What the server answers: a status and a body; `None`: nothing, ever.
pub(crate) type Answer = Option<(u16, Value)>;

/// The recorded calls.
#[derive(Debug, Clone, Default)]
pub(crate) struct Calls(Arc<Mutex<Vec<Call>>>);

impl Calls {
    pub(crate) fn all(&self) -> Vec<Call> {
        self.0.lock().unwrap().clone()
    }

    /// Lines of the writes so far.
    pub(crate) fn writes(&self) -> Vec<String> {
        self.all().iter().filter(|call| call.is_write()).map(Call::line).collect()
    }

    /// The only write whose path ends so.
    pub(crate) fn write(&self, path: &str) -> Call {
        let all: Vec<Call> =
            self.all().into_iter().filter(|call| call.is_write() && call.path.ends_with(path)).collect();
        let [call] = all.as_slice() else { panic!("writes to {path}: {all:?}") };
        call.clone()
    }
}

/// A client whose requests are recorded and answered by `answer`.
pub(crate) fn client(answer: impl Fn(&Call) -> Answer + Send + 'static) -> (Client, Calls) {
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    let calls = Calls::default();
    let recorded = calls.clone();
    tokio::spawn(async move {
        let mut unanswered = Vec::new();
        while let Some((request, send)) = handle.next_request().await {
            let call = read(request).await;
            recorded.0.lock().unwrap().push(call.clone());
            match answer(&call) {
                None => unanswered.push(send),
                Some((status, body)) => {
                    let body = Body::from(body.to_string().into_bytes());
                    send.send_response(Response::builder().status(status).body(body).unwrap());
                }
            }
        }
    });
    (Client::new(service, "default"), calls)
}

async fn read(request: Request<Body>) -> Call {
    let (head, body) = request.into_parts();
    let bytes = body.collect_bytes().await.unwrap();
    Call {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        content_type: head
            .headers
            .get("content-type")
            .map(|value| value.to_str().unwrap().to_owned())
            .unwrap_or_default(),
        body: if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() },
    }
}

/// An error as the API server writes it.
#[expect(clippy::unnecessary_wraps, reason = "an answer like any other")]
pub(crate) fn failure(code: u16) -> Answer {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "reason": "Test", "message": "refused by the test"});
    Some((code, status))
}

/// A list of these objects.
#[expect(clippy::unnecessary_wraps, reason = "an answer like any other")]
pub(crate) fn list(items: &[Value]) -> Answer {
    Some((200, json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items})))
}

/// A Deployment `querynode` that has come to rest.
pub(crate) fn deployment(replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "querynode", "namespace": "milvus", "generation": 3},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"component": "querynode"}},
            "template": {"metadata": {"labels": {"component": "querynode"}}, "spec": {"containers": []}}},
        "status": {"observedGeneration": 3, "replicas": replicas, "updatedReplicas": replicas,
            "readyReplicas": replicas},
    })
}

/// `count` pods that are Ready since 2020.
pub(crate) fn pods(count: u32) -> Answer {
    let pod = |number: u32| {
        json!({"metadata": {"name": format!("querynode-{number}"), "creationTimestamp": "2020-01-01T00:00:00Z",
                "labels": {"component": "querynode"}},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}})
    };
    list(&(0..count).map(pod).collect::<Vec<_>>())
}

/// An HPA that scales the Deployment `querynode`.
pub(crate) fn hpa(name: &str, min: u32, max: u32) -> Value {
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "namespace": "milvus"},
        "spec": {"minReplicas": min, "maxReplicas": max,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "querynode"}},
    })
}
