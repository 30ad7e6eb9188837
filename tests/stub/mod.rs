//! A Prometheus of a few lines, whose answers a test chooses: what a real one would say, and what it should not.
#![allow(dead_code, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, clippy::disallowed_methods)]

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::routing::any;
use serde_json::{Value, json};

/// What it answers from now on.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// This demand now.
    Demand(f64),
    /// This text as the demand, such as `NaN`.
    Text(&'static str),
    /// No series at all.
    Empty,
    /// An error of the server.
    Broken,
    /// Nothing, ever.
    Silence,
}

struct Shared {
    now: Mutex<Answer>,
    past: Mutex<f64>,
    asked: AtomicU64,
    skew: AtomicI64,
    /// Milliseconds until it answers.
    delay: AtomicU64,
}

impl Shared {
    /// In seconds, by its own clock.
    fn time(&self) -> i64 {
        jiff::Timestamp::now().as_second() + self.skew.load(Ordering::Relaxed)
    }
}

pub struct PrometheusStub {
    shared: Arc<Shared>,
    url: String,
}

impl PrometheusStub {
    /// With this demand, now and in the past.
    pub async fn start(demand: f64) -> Self {
        let shared = Shared {
            now: Mutex::new(Answer::Demand(demand)),
            past: Mutex::new(demand),
            asked: AtomicU64::new(0),
            skew: AtomicI64::new(0),
            delay: AtomicU64::new(0),
        };
        let shared = Arc::new(shared);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/api/v1/query", any(instant))
            .route("/api/v1/query_range", any(range))
            .with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { shared, url }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn set(&self, answer: Answer) {
        *self.shared.now.lock().unwrap() = answer;
    }

    /// What it says of every moment of the past.
    pub fn set_past(&self, demand: f64) {
        *self.shared.past.lock().unwrap() = demand;
    }

    /// Sets its clock this many seconds ahead of the true time.
    pub fn set_skew(&self, seconds: i64) {
        self.shared.skew.store(seconds, Ordering::Relaxed);
    }

    /// Takes so long for each answer.
    pub fn set_delay(&self, delay: Duration) {
        self.shared.delay.store(u64::try_from(delay.as_millis()).unwrap(), Ordering::Relaxed);
    }

    /// How many queries have come.
    pub fn asked(&self) -> u64 {
        self.shared.asked.load(Ordering::Relaxed)
    }
}

type Response = (StatusCode, String);

async fn answer(shared: &Shared, value: impl FnOnce(&str) -> Value) -> Response {
    shared.asked.fetch_add(1, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(shared.delay.load(Ordering::Relaxed))).await;
    let now = shared.now.lock().unwrap().clone();
    let data = match now {
        Answer::Demand(demand) => value(&demand.to_string()),
        Answer::Text(text) => value(text),
        Answer::Empty => json!([]),
        Answer::Broken => return (StatusCode::INTERNAL_SERVER_ERROR, "broken".to_owned()),
        Answer::Silence => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            json!([])
        }
    };
    (StatusCode::OK, data.to_string())
}

/// Parameters come in the address or as a form.
fn parameter(uri: &Uri, body: &str, name: &str) -> String {
    let query = uri.query().unwrap_or_default();
    let url = reqwest::Url::parse(&format!("http://prometheus/?{query}&{body}")).unwrap();
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
}

type Reply = ([(&'static str, &'static str); 1], Response);

fn reply((status, text): Response, kind: &str) -> Reply {
    let empty = json!({"status": "success", "data": {"resultType": kind, "result": []}});
    let text = if text == "[]" { empty.to_string() } else { text };
    ([("content-type", "application/json")], (status, text))
}

/// `vector(1)` is asked for the time, `demand` for the demand; all else is unknown here.
async fn instant(State(shared): State<Arc<Shared>>, uri: Uri, body: String) -> Reply {
    let now = shared.time();
    let query = parameter(&uri, &body, "query");
    let is_empty = *shared.now.lock().unwrap() == Answer::Empty;
    if query == "vector(1)" && is_empty {
        // The time is known, whatever else is not.
        let vector = json!({"status": "success", "data": {"resultType": "vector",
            "result": [{"metric": {}, "value": [now, "1"]}]}});
        return reply((StatusCode::OK, vector.to_string()), "vector");
    }
    let response = answer(&shared, |value| match query.as_str() {
        "vector(1)" | "demand" => json!({"status": "success", "data": {"resultType": "vector",
            "result": [{"metric": {}, "value": [now, if query == "demand" { value } else { "1" }]}]}}),
        _ => json!([]),
    });
    reply(response.await, "vector")
}

async fn range(State(shared): State<Arc<Shared>>, uri: Uri, body: String) -> Reply {
    let past = shared.past.lock().unwrap().to_string();
    let number = |name: &str| parameter(&uri, &body, name).parse::<f64>().unwrap();
    let (start, end, step) = (number("start"), number("end"), number("step"));
    let response = answer(&shared, |_| {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let times = (start as i64..=(end as i64).min(shared.time())).step_by(step as usize);
        let values: Vec<Value> = times.map(|time| json!([time, past])).collect();
        json!({"status": "success", "data": {"resultType": "matrix",
            "result": [{"metric": {}, "values": values}]}})
    });
    reply(response.await, "matrix")
}
