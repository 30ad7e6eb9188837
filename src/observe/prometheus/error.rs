//! Why a query has no answer.

use std::error::Error;

/// Why a query has no answer, what to do, and whether waiting may help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Prometheus at {url}: {message}")]
pub struct QueryError {
    /// What kind of fault it is.
    pub kind: QueryErrorKind,
    url: String,
    message: String,
}

/// Kinds of [`QueryError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QueryErrorKind {
    /// The connection cannot work as it is described: address, certificates, Secrets.
    Configuration,
    /// No connection to the server.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// The server asks for patience.
    Throttled,
    /// The server has a fault of its own.
    Unavailable,
    /// The server wants other credentials.
    Refused,
    /// The server does not understand the query, or the query is too much for it.
    BadQuery,
    /// What came back is no answer of a Prometheus.
    BadAnswer,
    /// The answer is larger than any that is expected.
    TooLarge,
}

impl QueryErrorKind {
    /// A stable label for metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Configuration => "prometheus_configuration",
            Self::Unreachable => "prometheus_unreachable",
            Self::Timeout => "prometheus_timeout",
            Self::Throttled => "prometheus_throttled",
            Self::Unavailable => "prometheus_unavailable",
            Self::Refused => "prometheus_refused",
            Self::BadQuery => "prometheus_bad_query",
            Self::BadAnswer => "prometheus_bad_answer",
            Self::TooLarge => "prometheus_too_large",
        }
    }

    /// A stable CamelCase code for conditions.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Configuration => "PrometheusConfiguration",
            Self::Unreachable => "PrometheusUnreachable",
            Self::Timeout => "PrometheusTimeout",
            Self::Throttled => "PrometheusThrottled",
            Self::Unavailable => "PrometheusUnavailable",
            Self::Refused => "PrometheusRefused",
            Self::BadQuery => "PrometheusBadQuery",
            Self::BadAnswer => "PrometheusBadAnswer",
            Self::TooLarge => "PrometheusAnswerTooLarge",
        }
    }

    /// Whether the policy must be corrected, so that trying again does not help.
    #[must_use]
    pub fn is_input(self) -> bool {
        matches!(self, Self::Configuration | Self::BadQuery)
    }

    /// Whether the same query may have an answer a moment later.
    pub(super) fn may_pass(self) -> bool {
        matches!(self, Self::Unreachable | Self::Throttled | Self::Unavailable)
    }

    /// Whether a smaller piece of the past may be had where this one is not.
    pub(super) fn may_fit_in_pieces(self) -> bool {
        matches!(self, Self::Timeout | Self::Unavailable | Self::BadQuery | Self::TooLarge)
    }
}

impl QueryError {
    /// An error at the server with this address.
    pub(super) fn new(kind: QueryErrorKind, url: &str, message: String) -> Self {
        Self { kind, url: url.to_owned(), message }
    }

    /// A query that gives several series where one is needed.
    pub(in crate::observe) fn several(url: &str, query: &str, count: usize) -> Self {
        let message = format!("`{query}` gives {count} series where one is needed; put sum(…) around it");
        Self::new(QueryErrorKind::BadQuery, url, message)
    }
}

/// An error with all its causes, as the outermost one alone often says nothing.
pub(super) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    text
}
