//! One request: tried again where that may help, bounded in time and size, decoded.

use std::time::Duration;

use prometheus_http_query::Error as ApiError;
use prometheus_http_query::response::{Data, PromqlResult};
use rand::Rng;
use reqwest::{Response, StatusCode};
use serde::Deserialize;

use super::error::causes;
use super::{Client, QueryError, QueryErrorKind};

/// The largest answer that is read. Eleven thousand points of one series take half a megabyte.
const LARGEST_ANSWER: usize = 32 << 20;
/// How much of a text that is no answer is shown.
const SHOWN: usize = 200;
/// How often a request is sent at most.
const ATTEMPTS: u32 = 3;
/// The pause before the second attempt; it doubles, and is shortened or lengthened by up to half at random, so that
/// many clients do not come back at once.
const PAUSE: Duration = Duration::from_millis(250);
/// The longest pause, whatever the server asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// A decoded answer.
pub(super) struct Reply {
    pub(super) data: Data,
    pub(super) warning: Option<String>,
}

/// The answer as it is sent.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    status: String,
    data: Option<PromqlResult>,
    error_type: Option<String>,
    error: Option<String>,
    #[serde(default)]
    warnings: Vec<String>,
}

/// Why an attempt failed, and how long the server wants to be left alone.
struct Failed {
    error: QueryError,
    wait: Option<Duration>,
}

impl From<QueryError> for Failed {
    fn from(error: QueryError) -> Self {
        Self { error, wait: None }
    }
}

impl Client {
    /// Sends what `request` makes, within the time for one query, again where that may help.
    pub(super) async fn ask<F>(&self, request: impl Fn() -> F) -> Result<Reply, QueryError>
    where
        F: Future<Output = Result<Response, ApiError>>,
    {
        let mut last = None;
        let attempts = async {
            for attempt in 0..ATTEMPTS {
                let failed = match self.attempt(request()).await {
                    Ok(reply) => return Ok(reply),
                    Err(failed) => failed,
                };
                let again = failed.error.kind.may_pass() && attempt + 1 < ATTEMPTS;
                if !again {
                    return Err(failed.error);
                }
                let pause = failed.wait.unwrap_or_else(|| jittered(PAUSE * 2_u32.pow(attempt)));
                last = Some(failed.error);
                tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
            }
            Err(self.timed_out())
        };
        match tokio::time::timeout(self.timeout, attempts).await {
            Ok(result) => result,
            // What kept it from being answered says more than that the time is up.
            Err(_) => Err(last.unwrap_or_else(|| self.timed_out())),
        }
    }

    async fn attempt(
        &self,
        request: impl Future<Output = Result<Response, ApiError>>,
    ) -> Result<Reply, Failed> {
        let response = request.await.map_err(|error| self.unsent(&error))?;
        let status = response.status();
        let wait = retry_after(&response);
        if status.is_redirection() {
            return Err(self.redirected(&response).into());
        }
        let body = self.body(response).await?;
        let envelope = serde_json::from_slice::<Envelope>(&body);
        match envelope {
            Ok(envelope) if status.is_success() => Ok(self.reply(envelope)?),
            Ok(Envelope { error: Some(error), error_type, .. }) => {
                Err(Failed { error: self.refused(status, error_type.as_deref(), &error), wait })
            }
            Err(error) if status.is_success() => Err(self.no_answer(&body, &error.to_string()).into()),
            Ok(_) | Err(_) => Err(Failed { error: self.refused(status, None, &shown(&body)), wait }),
        }
    }

    /// Reads the body up to the largest size that is expected.
    async fn body(&self, mut response: Response) -> Result<Vec<u8>, QueryError> {
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > LARGEST_ANSWER => {
                    let message = format!(
                        "the answer is over {} MB; correct spec.demand.query or spec.prometheus.matchers so that \
                         fewer series fit",
                        LARGEST_ANSWER >> 20
                    );
                    return Err(QueryError::new(QueryErrorKind::TooLarge, self.url(), message));
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return Ok(body),
                Err(error) => return Err(self.broken(&error)),
            }
        }
    }

    fn reply(&self, envelope: Envelope) -> Result<Reply, QueryError> {
        match envelope {
            Envelope { status, data: Some(result), warnings, .. } if status == "success" => {
                // Remarks on the query itself are no sign of missing data.
                let warning = warnings.into_iter().find(|warning| !warning.starts_with("PromQL"));
                Ok(Reply { data: result.into_inner().0, warning })
            }
            Envelope { error_type, error, .. } => {
                let message = error.unwrap_or_else(|| "an answer without data".to_owned());
                Err(self.refused(StatusCode::OK, error_type.as_deref(), &message))
            }
        }
    }

    fn unsent(&self, error: &ApiError) -> QueryError {
        match error {
            ApiError::Client(client) => match client.inner() {
                Some(error) => self.broken(error),
                None => QueryError::configuration(self.url(), &error.to_string()),
            },
            _ => QueryError::configuration(self.url(), &causes(error)),
        }
    }

    /// A request that was not sent, or an answer that broke off.
    fn broken(&self, error: &reqwest::Error) -> QueryError {
        if error.is_timeout() {
            return self.timed_out();
        }
        let kind = if error.is_connect() { QueryErrorKind::Unreachable } else { QueryErrorKind::BadAnswer };
        let (what, mend) = match kind {
            QueryErrorKind::Unreachable if is_of_a_cluster(self.url()) => (
                "no connection",
                "check spec.prometheus.url and the network policies; outside the cluster, where nobody knows this \
                 name, use `kubectl port-forward` and --prometheus http://localhost:9090",
            ),
            QueryErrorKind::Unreachable => {
                ("no connection", "check spec.prometheus.url and the network policies")
            }
            _ => ("the answer broke off", "check the server and what lies between"),
        };
        let cause = error.to_string();
        let cause = std::error::Error::source(error).map_or(cause, causes);
        QueryError::new(kind, self.url(), format!("{what}: {cause}; {mend}"))
    }

    fn timed_out(&self) -> QueryError {
        let message = format!(
            "no answer within {} s; check the server, or raise spec.prometheus.timeout",
            self.timeout.as_secs_f64()
        );
        QueryError::new(QueryErrorKind::Timeout, self.url(), message)
    }

    fn redirected(&self, response: &Response) -> QueryError {
        let to = response.headers().get(reqwest::header::LOCATION).and_then(|to| to.to_str().ok());
        let message = format!(
            "redirects to `{}`, which is not followed as it could carry secrets elsewhere; write the final address \
             into spec.prometheus.url",
            to.unwrap_or("nowhere")
        );
        QueryError::new(QueryErrorKind::Configuration, self.url(), message)
    }

    fn no_answer(&self, body: &[u8], problem: &str) -> QueryError {
        let message = format!(
            "not the answer of a Prometheus ({problem}): `{}`; check spec.prometheus.url",
            shown(body)
        );
        QueryError::new(QueryErrorKind::BadAnswer, self.url(), message)
    }

    /// An error that the server, or something before it, reports.
    fn refused(&self, status: StatusCode, kind: Option<&str>, message: &str) -> QueryError {
        let (kind, mend) = match (status.as_u16(), kind) {
            (401 | 403, _) => {
                (QueryErrorKind::Refused, "check the credentials of spec.prometheus and what they may read")
            }
            (404 | 405, None) => (
                QueryErrorKind::BadAnswer,
                "no Prometheus answers there; check the path in spec.prometheus.url",
            ),
            (429, _) => (QueryErrorKind::Throttled, "the server asks for fewer queries"),
            (500.., _) | (_, Some("timeout" | "canceled" | "unavailable" | "internal")) => {
                (QueryErrorKind::Unavailable, "check the server")
            }
            _ => (QueryErrorKind::BadQuery, "check spec.demand.query and spec.prometheus.matchers"),
        };
        QueryError::new(kind, self.url(), format!("{message} (HTTP {}); {mend}", status.as_u16()))
    }
}

/// The beginning of a text for people.
fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body.get(..SHOWN).unwrap_or(body));
    let text = text.replace(|c: char| c.is_control(), " ");
    if body.len() > SHOWN { format!("{}…", text.trim()) } else { text.trim().to_owned() }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(reqwest::header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.5..1.5))
}

/// Whether the host's name is one that only pods know.
fn is_of_a_cluster(url: &str) -> bool {
    let host = reqwest::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned));
    host.is_some_and(|host| host.split('.').skip(1).any(|label| label == "svc"))
}
