//! A past load as a trace: what Prometheus knows of each bucket.

use jiff::SignedDuration;

use super::prometheus::{Client, Past, QueryError};
use super::{Fault, Queries, Row, Trace, TraceBuilder};
use crate::policy::DemandUnit;
use crate::series::Step;
use crate::units::Qps;

/// The queries for the columns of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    /// Queries a second.
    pub qps: String,
    /// 99th percentile of latency in milliseconds.
    pub p99_ms: Option<String>,
    /// Vectors a second.
    pub nq_per_second: Option<String>,
    /// The window that rates are taken over.
    pub window: SignedDuration,
}

/// A trace, and what could not be had for it.
#[derive(Debug)]
pub struct Recorded {
    /// The trace.
    pub trace: Trace,
    /// Optional columns that could not be read, and why.
    pub left_out: Vec<(&'static str, QueryError)>,
}

/// Why there is no trace.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The load could not be read.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// There is too little of it.
    #[error(
        "Prometheus at {url} has {rows} of {buckets} rows for `{query}`, and a trace needs two: check that the proxies \
         are scraped and that the labels fit (spec.prometheus.matchers), or take another range"
    )]
    TooLittle {
        /// The server.
        url: String,
        /// The query of the load.
        query: String,
        /// Rows that there are.
        rows: usize,
        /// Rows that there could be.
        buckets: usize,
    },
    /// What there is makes no trace.
    #[error("Prometheus at {url}: the load is no trace: {fault}")]
    NoTrace {
        /// The server.
        url: String,
        /// Why.
        fault: Fault,
    },
}

impl Recording {
    /// What a policy counts as demand, with latency and vectors beside it, in buckets of `step`. Rates are taken over
    /// a whole bucket at least, as a row is the mean over its bucket.
    #[must_use]
    pub fn of_policy(queries: &Queries, step: Step) -> Self {
        let window = queries.window().max(step.duration());
        let demand = queries.demand_over(window);
        let (qps, nq) = match queries.unit() {
            DemandUnit::Qps => (demand, queries.offered_vectors(window)),
            DemandUnit::Nq => (queries.offered(window), demand),
        };
        Self { qps, p99_ms: Some(queries.p99(window)), nq_per_second: Some(nq), window }
    }

    /// What `query` comes to, in the unit in which demand is counted.
    #[must_use]
    pub fn of_query(query: &str, unit: DemandUnit, step: Step) -> Self {
        let nq_per_second = (unit == DemandUnit::Nq).then(|| query.to_owned());
        Self { qps: query.to_owned(), p99_ms: None, nq_per_second, window: step.duration() }
    }

    /// How many columns are read.
    #[must_use]
    pub fn columns(&self) -> usize {
        1 + usize::from(self.p99_ms.is_some()) + usize::from(self.nq_per_second.is_some())
    }
}

impl Client {
    /// Reads a recording, column by column. A bucket without load is a gap, and has no row. `read` hears how many
    /// more buckets have been read.
    ///
    /// # Errors
    /// If the load cannot be read, or is less than two rows.
    pub async fn record(
        &self,
        recording: &Recording,
        past: Past,
        read: &(dyn Fn(usize) + Sync),
    ) -> Result<Recorded, RecordError> {
        let qps = self.past_values(&recording.qps, past, read).await?;
        let mut left_out = Vec::new();
        let mut optional = Vec::new();
        for (name, query) in [("p99_ms", &recording.p99_ms), ("nq_per_second", &recording.nq_per_second)] {
            let values = match query {
                Some(query) => self.past_values(query, past, read).await.unwrap_or_else(|error| {
                    left_out.push((name, error));
                    Vec::new()
                }),
                None => Vec::new(),
            };
            optional.push(values);
        }
        let value = |column: usize, index: usize| measured(*optional.get(column)?.get(index)?);
        let rows = qps.iter().enumerate().filter_map(|(index, qps)| {
            let qps = Qps::new(measured(*qps)?).ok()?;
            let (p99_ms, nq_per_second) = (value(0, index), value(1, index));
            Some(Row { time: past.time(index), qps, p99_ms, nq_per_second })
        });
        let trace = trace(rows, self.url()).map_err(|fault| match fault {
            Fault::TooFewRows(rows) => RecordError::TooLittle {
                url: self.url().to_owned(),
                query: recording.qps.clone(),
                rows,
                buckets: past.count(),
            },
            fault => RecordError::NoTrace { url: self.url().to_owned(), fault },
        })?;
        Ok(Recorded { trace, left_out })
    }
}

fn trace(rows: impl Iterator<Item = Row>, name: &str) -> Result<Trace, Fault> {
    let mut builder = TraceBuilder::default();
    for row in rows {
        builder.push(row)?;
    }
    builder.finish(name)
}

/// A number that can be measured, without digits that no measurement has.
fn measured(value: f64) -> Option<f64> {
    let rounded = if value.abs() < 1e9 { (value * 1e4).round() / 1e4 } else { value };
    (rounded.is_finite() && rounded >= 0.0).then_some(rounded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::ClusterPolicy;

    fn queries(demand: &str) -> Queries {
        let policy = ClusterPolicy::from_yaml(&format!(
            "apiVersion: milvus-autoscaler.io/v1alpha1\nkind: MilvusAutoscaler\nmetadata: {{name: a}}\nspec:\n  \
             scaleTargetRef: {{kind: Deployment, name: q}}\n  minReplicas: 1\n  maxReplicas: 2\n  \
             prometheus: {{url: 'http://p'}}\n  demand: {demand}\n"
        ));
        Queries::new(&policy.unwrap(), None)
    }

    #[test]
    fn a_row_is_the_mean_over_its_bucket() {
        let hourly = Recording::of_policy(&queries("{}"), Step::from_seconds(3600).unwrap());
        assert!(hourly.qps.contains("[3600s]"), "{}", hourly.qps);
        let minutely = Recording::of_policy(&queries("{}"), Step::MINUTE);
        assert!(minutely.qps.contains("[120s]"), "{}", minutely.qps);
    }

    #[test]
    fn the_demand_stands_in_the_column_of_its_unit() {
        let own = |unit: &str| {
            Recording::of_policy(&queries(&format!("{{unit: {unit}, query: sum(own)}}")), Step::MINUTE)
        };
        assert_eq!(own("qps").qps, "sum(own)");
        assert_eq!(own("nq").nq_per_second.unwrap(), "sum(own)");
        assert_eq!(Recording::of_query("q", DemandUnit::Nq, Step::MINUTE).columns(), 2);
    }

    #[test]
    fn what_no_measurement_has_is_no_number() {
        assert_eq!(measured(99.833_333_333), Some(99.8333));
        for value in [f64::NAN, f64::INFINITY, -1.0] {
            assert_eq!(measured(value), None);
        }
    }
}
