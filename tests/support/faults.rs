//! A proxy before the real API server that lets chosen requests fail. The others pass as they are, watches included.

use super::background::Background;
use super::free_port;
use super::kubernetes::Kubernetes;
use super::tls::Tls;
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde_json::json;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// It is answered with this status, and a 429 with `Retry-After`; the API server does not see it.
    Status(u16),
    /// The connection ends; the API server does not see it.
    Reset,
    /// It is carried out, and the connection ends before the answer.
    LostAnswer,
    /// It is passed on so much later.
    Slow(Duration),
}

/// Which requests fail, and how.
struct Rule {
    method: &'static str,
    /// Part of the path.
    path: &'static str,
    fault: Fault,
    struck: u32,
}

struct Shared {
    server: String,
    client: reqwest::Client,
    rule: Mutex<Option<Rule>>,
}

pub struct Faults {
    shared: Arc<Shared>,
    server: String,
    port: u16,
    _work: Background,
}

impl Faults {
    /// A proxy that lets everything pass.
    pub fn start(cluster: &Kubernetes) -> Self {
        let pem = std::fs::read(cluster.ca_certificate()).unwrap();
        let authority = reqwest::Certificate::from_pem_bundle(&pem).unwrap();
        let client = reqwest::Client::builder().tls_certs_only(authority).build().unwrap();
        let shared = Arc::new(Shared { server: cluster.url(), client, rule: Mutex::default() });
        let (port, folder) = (free_port(), cluster.folder().to_owned());
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let router = Router::new().fallback(pass).with_state(Arc::clone(&shared));
        let work = Background::spawn("faults", move || async move {
            axum::serve(Tls::bind(address, &folder).await, router).await.unwrap();
        });
        Self { shared, server: cluster.url(), port, _work: work }
    }

    /// The same kubeconfig, by way of the proxy.
    pub fn kubeconfig(&self, original: &Path) -> PathBuf {
        let text = std::fs::read_to_string(original).unwrap();
        let path = original.with_extension("faults");
        let proxied = text.replace(&self.server, &format!("https://127.0.0.1:{}", self.port));
        assert_ne!(text, proxied, "{} is not of this cluster", original.display());
        std::fs::write(&path, proxied).unwrap();
        path
    }

    /// From now on, requests with this method and this part in their path fail in this way.
    pub fn inject(&self, method: &'static str, path: &'static str, fault: Fault) {
        *self.shared.rule.lock().unwrap() = Some(Rule { method, path, fault, struck: 0 });
    }

    /// How many requests have failed since the last [`Self::inject`].
    pub fn struck(&self) -> u32 {
        self.shared.rule.lock().unwrap().as_ref().map_or(0, |rule| rule.struck)
    }

    /// Everything passes again.
    pub fn clear(&self) {
        *self.shared.rule.lock().unwrap() = None;
    }
}

impl Shared {
    fn fault(&self, request: &Parts) -> Option<Fault> {
        let mut rule = self.rule.lock().unwrap();
        let rule = rule.as_mut()?;
        let is_meant = request.method.as_str() == rule.method && request.uri.path().contains(rule.path);
        is_meant.then(|| {
            rule.struck += 1;
            rule.fault
        })
    }

    async fn forward(&self, request: Parts, body: Bytes) -> reqwest::Result<Response> {
        let mut headers = request.headers;
        headers.remove(header::HOST);
        let url = format!("{}{}", self.server, request.uri);
        let answer = self.client.request(request.method, url).headers(headers).body(body).send().await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        // A watch goes on for long: it is passed on piece by piece.
        let pieces = stream::try_unfold(answer, |mut answer| async move {
            Ok::<_, reqwest::Error>(answer.chunk().await?.map(|piece| (piece, answer)))
        });
        let mut response = (status, Body::from_stream(pieces)).into_response();
        *response.headers_mut() = headers;
        response.headers_mut().remove(header::TRANSFER_ENCODING);
        Ok(response)
    }
}

async fn pass(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (request, body) = request.into_parts();
    let Ok(body) = to_bytes(body, usize::MAX).await else { return cut() };
    let fault = shared.fault(&request);
    match fault {
        Some(Fault::Status(code)) => return refusal(code),
        Some(Fault::Reset) => return cut(),
        Some(Fault::Slow(time)) => tokio::time::sleep(time).await,
        Some(Fault::LostAnswer) | None => {}
    }
    let answer = shared.forward(request, body).await;
    match answer {
        Ok(answer) if fault != Some(Fault::LostAnswer) => answer,
        _ => cut(),
    }
}

/// As the API server words it.
fn refusal(code: u16) -> Response {
    let reason = match code {
        409 => "Conflict",
        429 => "TooManyRequests",
        _ => "InternalError",
    };
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "a fault of the test", "reason": reason, "code": code});
    let status = (
        StatusCode::from_u16(code).unwrap(),
        [(header::CONTENT_TYPE, "application/json")],
        status.to_string(),
    );
    if code == 429 { ([(header::RETRY_AFTER, "1")], status).into_response() } else { status.into_response() }
}

/// The end of the connection in the middle of an answer.
fn cut() -> Response {
    let end = stream::once(async { Err::<Bytes, _>(io::Error::from(io::ErrorKind::ConnectionReset)) });
    Body::from_stream(end).into_response()
}
