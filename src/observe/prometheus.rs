//! A client of Prometheus, and of what answers like it: Thanos, Mimir and others.
//!
//! Whatever the server does, a query ends: it is bounded in time and in the size of its answer, and is tried again
//! only where that may help. What was not measured is missing, never 0.
//!
//! | file | what it does |
//! |---|---|
//! | `connection` | address and credentials; secrets are never shown |
//! | `error` | why a query has no answer |
//! | `wire` | one request: retries, bounds, decoding |
//! | `history` | a long past in pieces, with its gaps |

mod connection;
mod error;
mod history;
mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Once};
use std::time::Duration;

use jiff::Timestamp;
use prometheus_http_query::response::Data;

pub use connection::{Connection, Login, Secret};
pub use error::{QueryError, QueryErrorKind};
pub use history::Past;

/// One value with its labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The moment that the query was answered for.
    pub at: Timestamp,
    /// The value as it came, NaN and infinity included.
    pub value: f64,
}

impl Sample {
    /// The label's value; empty if it is not there, as in PromQL.
    #[must_use]
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// What a query came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The values; none if nothing fits the query.
    pub samples: Vec<Sample>,
    /// What the server warns of, such as a store that did not answer: then values may be missing.
    pub warning: Option<String>,
}

/// Asks one server.
#[derive(Clone)]
pub struct Client {
    api: prometheus_http_query::Client,
    /// The server's address, for messages.
    url: Arc<str>,
    timeout: Duration,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Client {
    /// A client; nothing is sent yet.
    ///
    /// # Errors
    /// If the address, a header or the certificates cannot be used.
    pub fn new(connection: &Connection) -> Result<Self, QueryError> {
        install_crypto();
        let unusable = |problem: String| QueryError::configuration(&connection.url, &problem);
        let http = connection.http_client()?;
        let api = prometheus_http_query::Client::from(http, &connection.url)
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Self { api, url: Arc::from(connection.url.as_str()), timeout: connection.timeout })
    }

    /// The server's address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How long one query may take, retries included.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// What `query` comes to now, by the server's clock.
    ///
    /// # Errors
    /// If there is no answer, or it is an error or no vector.
    pub async fn instant(&self, query: &str) -> Result<Answer, QueryError> {
        let reply = self.ask(|| self.api.query(query).query("partial_response", "false").post_raw()).await?;
        let at = |seconds: f64| self.moment(seconds);
        let samples = match reply.data {
            Data::Vector(vectors) => vectors
                .into_iter()
                .map(|vector| {
                    let (labels, sample) = vector.into_inner();
                    let at = at(sample.timestamp())?;
                    Ok(Sample { labels: labels.into_iter().collect(), at, value: sample.value() })
                })
                .collect::<Result<_, _>>()?,
            Data::Scalar(sample) => {
                vec![Sample { labels: BTreeMap::new(), at: at(sample.timestamp())?, value: sample.value() }]
            }
            Data::Matrix(_) => {
                return Err(QueryError::new(
                    QueryErrorKind::BadQuery,
                    &self.url,
                    format!("`{query}` gives a range; write a query that gives one value for each series"),
                ));
            }
        };
        Ok(Answer { samples, warning: reply.warning })
    }

    /// The one value that `query` comes to; `None` if nothing fits it or the value is no number.
    ///
    /// # Errors
    /// If there is no answer, or it has several values.
    pub async fn value(&self, query: &str) -> Result<Option<f64>, QueryError> {
        let answer = self.instant(query).await?;
        match answer.samples.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(one.value).filter(|value| value.is_finite())),
            several => Err(QueryError::several(&self.url, query, several.len())),
        }
    }

    /// The time by the server's clock.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn now(&self) -> Result<Timestamp, QueryError> {
        let answer = self.instant("vector(1)").await?;
        answer.samples.first().map(|sample| sample.at).ok_or_else(|| {
            QueryError::new(QueryErrorKind::BadAnswer, &self.url, "`vector(1)` came to nothing".to_owned())
        })
    }

    fn moment(&self, seconds: f64) -> Result<Timestamp, QueryError> {
        #[expect(clippy::cast_possible_truncation, reason = "float casts saturate")]
        let milliseconds = (seconds * 1e3).round() as i64;
        Timestamp::from_millisecond(milliseconds).map_err(|_| {
            QueryError::new(QueryErrorKind::BadAnswer, &self.url, format!("{seconds} is no time"))
        })
    }
}

/// TLS needs a provider of cryptography, once in a process; without it building any client fails.
pub fn install_crypto() {
    static ONCE: Once = Once::new();
    // An error only says that there is one already.
    ONCE.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}
