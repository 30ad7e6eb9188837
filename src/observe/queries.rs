//! PromQL for what Milvus exports, from 2.3 to 2.6.
//!
//! The versions differ in labels more than in names, so the queries aggregate over labels and never match them
//! exactly, and one set fits all. One request asks for everything a cycle needs: each part carries the label `signal`.
//!
//! Traps that are avoided here: `status="total"` is counted beside successes and failures; QueryNodes count a search
//! once for each shard, so demand is read at the proxies; `node_id` changes with every restart, so processes are told
//! apart by `pod` and `instance`; a StreamingNode of 2.6 embeds a QueryNode.

use std::collections::BTreeMap;
use std::fmt;

use jiff::SignedDuration;

use crate::policy::{ClusterPolicy, Demand, DemandUnit};

/// The label that says what a value of the combined query is.
pub const SIGNAL: &str = "signal";

/// A version family of Milvus, as far as metrics differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub enum Family {
    /// 2.3 and earlier.
    #[serde(rename = "2.3")]
    V2_3,
    /// 2.4 and 2.5.
    #[serde(rename = "2.4-2.5")]
    V2_4,
    /// 2.6 and later.
    #[serde(rename = "2.6")]
    V2_6,
}

impl Family {
    /// The family of a version such as `2.5.10` or `v2.6.7-dev`.
    #[must_use]
    pub fn of_version(version: &str) -> Option<Self> {
        let mut numbers =
            version.trim_start_matches(['v', 'V']).split(['.', '-', '+']).map(str::parse::<u32>);
        let (major, minor) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        match (major, minor) {
            (0 | 1, _) | (2, 0..=3) => Some(Self::V2_3),
            (2, 4 | 5) => Some(Self::V2_4),
            _ => Some(Self::V2_6),
        }
    }

    /// One unit of `milvus_querynode_load_segment_latency`.
    #[must_use]
    pub fn load_latency_unit(self) -> SignedDuration {
        if self == Self::V2_3 { SignedDuration::from_secs(1) } else { SignedDuration::from_millis(1) }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V2_3 => "2.3",
            Self::V2_4 => "2.4 or 2.5",
            Self::V2_6 => "2.6 or later",
        })
    }
}

/// The parts of the combined query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// Processes by role.
    Role,
    /// Versions by name.
    Version,
    /// Series that only 2.4 and later have.
    SinceV2_4,
    /// When each process was last scraped.
    Scraped,
    /// Processes that count requests: the proxies.
    Proxy,
    /// Search requests offered a second.
    Offered,
    /// Search requests served a second.
    Served,
    /// Vectors offered a second.
    OfferedVectors,
    /// Vectors served a second.
    ServedVectors,
    /// 99th percentile of search latency at the proxies, in milliseconds.
    P99,
    /// 99th percentile of the time in the queue, in milliseconds, by process.
    QueueP99,
    /// Searches ready to run, by process.
    Backlog,
    /// Searches waiting before that, by process; until 2.3.
    Unsolved,
    /// CPU seconds a second, by process.
    Cpu,
    /// Resident bytes, by process.
    Memory,
    /// CPU and memory limits, by pod and container, where kube-state-metrics are collected.
    Limit,
    /// Sealed segments, by process.
    Segments,
    /// Tasks of QueryCoord that load or move segments and channels.
    Loading,
    /// Segments and channels still to be moved away, by stopping process.
    Draining,
    /// Rows that QueryNodes hold over rows that are stored, for the collection of which there is most in memory.
    Copies,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::Role,
        Self::Version,
        Self::SinceV2_4,
        Self::Scraped,
        Self::Proxy,
        Self::Offered,
        Self::Served,
        Self::OfferedVectors,
        Self::ServedVectors,
        Self::P99,
        Self::QueueP99,
        Self::Backlog,
        Self::Unsolved,
        Self::Cpu,
        Self::Memory,
        Self::Limit,
        Self::Segments,
        Self::Loading,
        Self::Draining,
        Self::Copies,
    ];

    /// The value of the label [`SIGNAL`].
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Role => "role",
            Self::Version => "version",
            Self::SinceV2_4 => "since_2_4",
            Self::Scraped => "scraped",
            Self::Proxy => "proxy",
            Self::Offered => "offered",
            Self::Served => "served",
            Self::OfferedVectors => "offered_vectors",
            Self::ServedVectors => "served_vectors",
            Self::P99 => "p99",
            Self::QueueP99 => "queue_p99",
            Self::Backlog => "backlog",
            Self::Unsolved => "unsolved",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Limit => "limit",
            Self::Segments => "segments",
            Self::Loading => "loading",
            Self::Draining => "draining",
            Self::Copies => "copies",
        }
    }
}

/// The queries for one Milvus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queries {
    /// What selects its series: `namespace="milvus"`, without braces.
    selector: String,
    /// The namespace, if the selector says one.
    namespace: Option<String>,
    window: SignedDuration,
    unit: DemandUnit,
    own_demand: Option<String>,
}

impl Queries {
    /// The queries that a policy asks for. `namespace` is where it lives, if it does not say so itself.
    #[must_use]
    pub fn new(policy: &ClusterPolicy, namespace: Option<&str>) -> Self {
        let settings = &policy.prometheus;
        let home = policy.policy.namespace.as_deref().or(namespace);
        let matchers = settings.matchers.clone().unwrap_or_else(|| {
            home.map(|home| ("namespace".to_owned(), home.to_owned())).into_iter().collect()
        });
        Self {
            selector: selector(&matchers),
            namespace: matchers.get("namespace").cloned(),
            window: settings.rate_window,
            unit: policy.policy.demand.unit,
            own_demand: policy.policy.demand.query.clone(),
        }
    }

    /// The queries for every Milvus that a Prometheus knows, with rates over two minutes.
    #[must_use]
    pub fn of_all(demand: &Demand) -> Self {
        Self {
            selector: String::new(),
            namespace: None,
            window: SignedDuration::from_mins(2),
            unit: demand.unit,
            own_demand: demand.query.clone(),
        }
    }

    /// What selects the series of this Milvus, for people.
    #[must_use]
    pub fn selector(&self) -> &str {
        &self.selector
    }

    /// The window of rates.
    #[must_use]
    pub fn window(&self) -> SignedDuration {
        self.window
    }

    /// The unit of demand.
    #[must_use]
    pub fn unit(&self) -> DemandUnit {
        self.unit
    }

    /// The user's own query for demand.
    #[must_use]
    pub fn own_demand(&self) -> Option<&str> {
        self.own_demand.as_deref()
    }

    /// Demand in the policy's unit, with the window of rates of the policy.
    #[must_use]
    pub fn demand(&self) -> String {
        self.demand_over(self.window)
    }

    /// Demand in the policy's unit, with rates over `window`.
    #[must_use]
    pub fn demand_over(&self, window: SignedDuration) -> String {
        match (&self.own_demand, self.unit) {
            (Some(query), _) => query.clone(),
            (None, DemandUnit::Qps) => self.offered(window),
            (None, DemandUnit::Nq) => self.offered_vectors(window),
        }
    }

    /// Search requests offered a second: all that came, those that failed included.
    #[must_use]
    pub fn offered(&self, window: SignedDuration) -> String {
        self.requests("total", window)
    }

    /// Vectors offered a second.
    #[must_use]
    pub fn offered_vectors(&self, window: SignedDuration) -> String {
        let received = self.rate("milvus_proxy_received_nq", r#"query_type=~"search|hybrid_search""#, window);
        format!("sum({received})")
    }

    /// 99th percentile of search latency at the proxies, in milliseconds.
    #[must_use]
    pub fn p99(&self, window: SignedDuration) -> String {
        let buckets =
            self.rate("milvus_proxy_sq_latency_bucket", r#"query_type=~"search|hybrid_search""#, window);
        format!("histogram_quantile(0.99, sum by (le) ({buckets}))")
    }

    /// Everything at once: the parts with their label [`SIGNAL`].
    #[must_use]
    pub fn combined(&self) -> String {
        let parts = Signal::ALL.into_iter().filter_map(|signal| {
            let query = self.of(signal)?;
            Some(format!(r#"label_replace({query}, "{SIGNAL}", "{}", "", "")"#, signal.name()))
        });
        parts.collect::<Vec<_>>().join("\nor ")
    }

    /// The query of one part; `None` if it cannot be asked for.
    #[must_use]
    pub fn of(&self, signal: Signal) -> Option<String> {
        let window = self.window;
        let query = match signal {
            Signal::Role => {
                format!("count by (pod, instance, role_name) ({})", self.series("milvus_num_node", ""))
            }
            Signal::Version => format!("count by (version) ({})", self.series("milvus_build_info", "")),
            Signal::SinceV2_4 => format!(
                "(count({}) or count({}))",
                self.series("milvus_querycoord_resource_group_info", ""),
                self.series("milvus_proxy_req_count", r#"db_name!="""#)
            ),
            Signal::Scraped => {
                by_process(&format!("timestamp({})", self.series("process_resident_memory_bytes", "")))
            }
            Signal::Proxy => by_process(&self.series("milvus_proxy_req_count", "")),
            Signal::Offered => self.offered(window),
            Signal::Served => self.requests("success", window),
            Signal::OfferedVectors => self.offered_vectors(window),
            Signal::ServedVectors => {
                format!("sum({})", self.rate("milvus_proxy_search_vectors_count", "", window))
            }
            Signal::P99 => self.p99(window),
            Signal::QueueP99 => self.queue_p99(window),
            Signal::Backlog => by_process(&self.series("milvus_querynode_read_task_ready_len", "")),
            Signal::Unsolved => by_process(&self.series("milvus_querynode_read_task_unsolved_len", "")),
            Signal::Cpu => by_process(&self.rate("process_cpu_seconds_total", "", window)),
            Signal::Memory => by_process(&self.series("process_resident_memory_bytes", "")),
            Signal::Limit => self.limits()?,
            Signal::Segments => format!(
                "sum by (pod, instance) ({})",
                self.series("milvus_querynode_segment_num", r#"segment_state="Sealed""#)
            ),
            Signal::Loading => format!("sum({})", self.loading()),
            Signal::Draining => format!(
                "sum by (pod, instance) ({{{}}})",
                join(
                    r#"__name__=~"milvus_querynode_stopping_balance_(segment|channel)_num""#,
                    &self.selector
                )
            ),
            Signal::Copies => self.copies(),
        };
        Some(query)
    }

    fn requests(&self, status: &str, window: SignedDuration) -> String {
        let matchers = format!(r#"function_name=~"Search|HybridSearch",status="{status}""#);
        format!("sum({})", self.rate("milvus_proxy_req_count", &matchers, window))
    }

    fn queue_p99(&self, window: SignedDuration) -> String {
        let buckets = self.rate("milvus_querynode_sq_queue_latency_bucket", "", window);
        format!("histogram_quantile(0.99, sum by (le, pod, instance) ({buckets}))")
    }

    fn loading(&self) -> String {
        self.series(
            "milvus_querycoord_task_num",
            r#"querycoord_task_type=~"segment_(grow|move)|channel_(grow|move)""#,
        )
    }

    /// Milvus exports no replica number, so copies are counted. A coordinator that was active before may still export
    /// what is stored: it counts once.
    fn copies(&self) -> String {
        let held = self.series("milvus_querynode_entity_num", r#"segment_state="Sealed""#);
        let stored = self.series("milvus_datacoord_stored_rows_num", r#"segment_state="Flushed""#);
        format!(
            "max(sum by (collection_id) ({held}) / \
             (max by (collection_id) (sum by (collection_id, pod, instance) ({stored})) > 0))"
        )
    }

    /// kube-state-metrics has labels of its own, so it can be asked only where the namespace is known.
    fn limits(&self) -> Option<String> {
        let namespace = self.namespace.as_deref()?;
        let matcher = selector(&BTreeMap::from([("namespace".to_owned(), namespace.to_owned())]));
        Some(format!(
            r#"max by (pod, container, resource) (kube_pod_container_resource_limits{{{matcher},resource=~"cpu|memory"}})"#
        ))
    }

    fn series(&self, name: &str, matchers: &str) -> String {
        format!("{name}{{{}}}", join(matchers, &self.selector))
    }

    fn rate(&self, name: &str, matchers: &str, window: SignedDuration) -> String {
        format!("rate({}[{}s])", self.series(name, matchers), window.as_secs().max(1))
    }
}

/// A process that is scraped twice counts once.
fn by_process(query: &str) -> String {
    format!("max by (pod, instance) ({query})")
}

fn join(first: &str, second: &str) -> String {
    [first, second].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(",")
}

fn selector(matchers: &BTreeMap<String, String>) -> String {
    let escaped = |value: &str| value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
    let each = matchers.iter().map(|(name, value)| format!(r#"{name}="{}""#, escaped(value)));
    each.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queries(extra: &str) -> Queries {
        let policy = ClusterPolicy::from_yaml(&format!(
            "apiVersion: milvus-autoscaler.io/v1alpha1\nkind: MilvusAutoscaler\nmetadata: {{name: a, namespace: \
             home}}\nspec:\n  scaleTargetRef: {{kind: Deployment, name: q}}\n  minReplicas: 1\n  maxReplicas: 2\n  \
             prometheus: {{url: 'http://p'{extra}}}\n"
        ));
        Queries::new(&policy.unwrap(), None)
    }

    #[test]
    fn values_of_matchers_are_quoted() {
        let queries = queries(r#", matchers: {a: 'x"y\z', namespace: milvus}"#);
        assert_eq!(queries.selector(), r#"a="x\"y\\z",namespace="milvus""#);
        assert!(queries.of(Signal::Limit).unwrap().contains(r#"{namespace="milvus",resource"#));
    }

    #[test]
    fn the_namespace_of_the_policy_selects_where_nothing_else_does() {
        assert_eq!(queries("").selector(), r#"namespace="home""#);
        let empty = queries(", matchers: {}");
        assert_eq!(empty.selector(), "");
        assert_eq!(empty.of(Signal::Limit), None);
        assert!(empty.combined().contains("milvus_num_node{}"));
    }

    #[test]
    fn names_of_versions_have_a_family() {
        for (version, family) in [
            ("2.3.5", Some(Family::V2_3)),
            ("v2.4.0-rc.1", Some(Family::V2_4)),
            ("2.5.10", Some(Family::V2_4)),
            ("v2.6.7", Some(Family::V2_6)),
            ("3.0.0", Some(Family::V2_6)),
            ("master-20250101-abc", None),
            ("", None),
        ] {
            assert_eq!(Family::of_version(version), family, "{version}");
        }
    }
}
