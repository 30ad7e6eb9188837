//! What is known of a Milvus at one moment.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::prometheus::{Answer, Client, QueryError, Sample};
use super::queries::{Family, Queries, SIGNAL, Signal};
use super::reading::Reading;
use crate::policy::DemandUnit;
use crate::units::{Qps, Replicas};

/// What the cluster knows and Prometheus may not. `None` is unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Known {
    /// Proxies that are Ready.
    pub ready_proxies: Option<u32>,
    /// QueryNodes that are Ready.
    pub ready_query_nodes: Option<u32>,
    /// CPU limit of a QueryNode, in cores.
    pub cpu_limit: Option<f64>,
    /// Memory limit of a QueryNode, in bytes.
    pub memory_limit: Option<f64>,
}

/// What is known of a Milvus at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Observation {
    /// The moment, by the clock of Prometheus, as are all times in it.
    pub at: Timestamp,
    /// The version family, found from the series themselves.
    pub family: Option<Family>,
    /// Versions that the processes name; several during an upgrade.
    pub versions: Vec<String>,
    /// Demand in the unit of the policy, from the user's query if there is one.
    pub demand: Reading<Qps>,
    /// Search requests offered a second.
    pub offered: Reading<Qps>,
    /// Search requests served a second.
    pub served: Reading<Qps>,
    /// Vectors offered a second.
    pub offered_vectors: Reading<Qps>,
    /// Vectors served a second.
    pub served_vectors: Reading<Qps>,
    /// 99th percentile of search latency at the proxies.
    pub p99: Reading<SignedDuration>,
    /// 99th percentile of the time in the queue of the QueryNode where it is longest.
    pub queue_p99: Reading<SignedDuration>,
    /// Searches waiting at the QueryNode where most do.
    pub backlog: Reading<f64>,
    /// CPU used over the CPU limit at the busiest QueryNode; can pass 1 by a little.
    pub utilization: Reading<f64>,
    /// Resident bytes of all QueryNodes together.
    pub memory: Reading<f64>,
    /// Segments and channels that QueryCoord is loading or moving.
    pub loading: Reading<f64>,
    /// Segments and channels that stopping QueryNodes still have to give away.
    pub draining: Reading<f64>,
    /// How often the collection of which there is most in memory is held there: its in-memory replica number, if all of
    /// it is loaded and nothing moves.
    pub copies: Reading<f64>,
    /// Proxies that were scraped lately.
    pub proxies_scraped: u32,
    /// Proxies that are Ready, if the cluster says so.
    pub proxies_ready: Option<u32>,
    /// Every QueryNode that was scraped lately, by name.
    pub query_nodes: Vec<QueryNode>,
    /// What Prometheus warned of.
    pub warning: Option<String>,
}

/// One QueryNode.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueryNode {
    /// Its pod; the scraped address where there is no label `pod`.
    pub name: String,
    /// When it was last scraped.
    pub scraped: Option<Timestamp>,
    /// CPU used, in cores.
    pub cpu: Option<f64>,
    /// CPU limit, in cores.
    pub cpu_limit: Option<f64>,
    /// Resident bytes.
    pub memory: Option<f64>,
    /// Memory limit in bytes.
    pub memory_limit: Option<f64>,
    /// 99th percentile of the time in its queue.
    pub queue_p99: Option<SignedDuration>,
    /// Searches waiting.
    pub backlog: Option<f64>,
    /// Sealed segments that it holds.
    pub segments: Option<f64>,
    /// Segments and channels that it has to give away before it stops.
    pub draining: Option<f64>,
}

impl Observation {
    /// The largest in-memory replica number of the loaded collections, at least, as far as it is seen. What is not loaded
    /// whole has fewer rows in memory than its copies would; what was just compacted has more.
    #[must_use]
    pub fn in_memory_replicas(&self) -> Reading<Replicas> {
        self.copies.map(|copies| Replicas::at_least(copies - 0.1).max(Replicas(1)))
    }
}

impl QueryNode {
    /// CPU used over the limit.
    #[must_use]
    pub fn utilization(&self) -> Option<f64> {
        Some(self.cpu? / self.cpu_limit.filter(|limit| *limit > 0.0)?)
    }
}

impl Client {
    /// What is known now. One request, and another one where the policy has a query of its own for demand.
    ///
    /// # Errors
    /// If Prometheus does not answer. That something is not measured is no error, but a [`Reading`].
    pub async fn observe(
        &self,
        queries: &Queries,
        stale_after: SignedDuration,
        known: &Known,
    ) -> Result<Observation, QueryError> {
        let combined = queries.combined();
        let (answer, own) = match queries.own_demand() {
            None => (self.instant(&combined).await?, None),
            Some(query) => {
                let (answer, own) = tokio::join!(self.instant(&combined), self.instant(query));
                (answer?, Some(own?))
            }
        };
        if let Some(own) = own.as_ref().filter(|own| own.samples.len() > 1) {
            let query = queries.own_demand().unwrap_or_default();
            return Err(QueryError::several(self.url(), query, own.samples.len()));
        }
        // An empty answer carries no time.
        let at = match answer.samples.first() {
            Some(sample) => sample.at,
            None => self.now().await?,
        };
        Ok(observation(at, &answer, own.as_ref(), queries, stale_after, known))
    }
}

/// What the answers to the combined query and to the user's own say.
#[must_use]
pub fn observation(
    at: Timestamp,
    answer: &Answer,
    own: Option<&Answer>,
    queries: &Queries,
    stale_after: SignedDuration,
    known: &Known,
) -> Observation {
    let seen = Seen::new(at, answer, queries, stale_after, known);
    let offered = seen.rate(Signal::Offered);
    let offered_vectors = seen.rate(Signal::OfferedVectors);
    let demand = match (own, queries.unit()) {
        (Some(own), _) => seen.own_rate(own),
        (None, DemandUnit::Qps) => offered,
        (None, DemandUnit::Nq) => offered_vectors,
    };
    let nodes = seen.query_nodes(known);
    let partial_nodes = seen.warned
        || known
            .ready_query_nodes
            .is_some_and(|ready| nodes.iter().filter(|n| n.scraped.is_some()).count() < ready as usize);
    let worst = |value: fn(&QueryNode) -> Option<f64>| {
        seen.over_nodes(&nodes, value, f64::max).partial_if(partial_nodes)
    };
    let total = |value: fn(&QueryNode) -> Option<f64>| {
        seen.over_nodes(&nodes, value, |a, b| a + b).partial_if(partial_nodes)
    };
    Observation {
        at,
        family: seen.family(),
        versions: seen
            .of(Signal::Version)
            .map(|s| s.label("version").to_owned())
            .filter(|v| !v.is_empty())
            .collect(),
        demand,
        offered,
        served: seen.rate(Signal::Served),
        offered_vectors,
        served_vectors: seen.rate(Signal::ServedVectors),
        p99: seen.at_proxies(Signal::P99).map(milliseconds),
        queue_p99: worst(|node| node.queue_p99.map(|p99| p99.as_secs_f64() * 1e3)).map(milliseconds),
        backlog: worst(|node| node.backlog),
        utilization: worst(QueryNode::utilization),
        memory: total(|node| node.memory),
        loading: seen.loading(),
        draining: seen.draining(&nodes).partial_if(partial_nodes),
        copies: seen.copies(&nodes).partial_if(partial_nodes),
        proxies_scraped: u32::try_from(seen.proxies.len()).unwrap_or(u32::MAX),
        proxies_ready: known.ready_proxies,
        query_nodes: nodes,
        warning: answer.warning.clone(),
    }
}

/// A process, by pod and address.
type Process = (String, String);

/// An answer, sorted.
struct Seen<'a> {
    at: Timestamp,
    window: SignedDuration,
    by_signal: BTreeMap<&'a str, Vec<&'a Sample>>,
    /// When each process was last scraped.
    scraped: BTreeMap<Process, Timestamp>,
    /// The newest scrape of any proxy, and those scraped lately.
    newest_proxy: Option<Timestamp>,
    proxies: BTreeMap<Process, Timestamp>,
    stale_after: SignedDuration,
    /// Something is known to be left out of every value.
    warned: bool,
    proxies_missing: bool,
}

impl<'a> Seen<'a> {
    fn new(
        at: Timestamp,
        answer: &'a Answer,
        queries: &Queries,
        stale_after: SignedDuration,
        known: &Known,
    ) -> Self {
        let mut by_signal: BTreeMap<&str, Vec<&Sample>> = BTreeMap::new();
        for sample in &answer.samples {
            by_signal.entry(sample.label(SIGNAL)).or_default().push(sample);
        }
        let mut seen = Self {
            at,
            window: queries.window(),
            by_signal,
            scraped: BTreeMap::new(),
            newest_proxy: None,
            proxies: BTreeMap::new(),
            stale_after,
            warned: answer.warning.is_some(),
            proxies_missing: false,
        };
        seen.scraped = seen.scrapes();
        let proxies = seen.processes_of("proxy", Signal::Proxy);
        let scrapes: BTreeMap<Process, Timestamp> =
            proxies.into_iter().filter_map(|proxy| seen.scraped.get(&proxy).map(|at| (proxy, *at))).collect();
        seen.newest_proxy = scrapes.values().max().copied();
        seen.proxies = scrapes.into_iter().filter(|(_, at)| seen.is_fresh(*at)).collect();
        seen.proxies_missing = known.ready_proxies.is_some_and(|ready| seen.proxies.len() < ready as usize);
        seen
    }

    fn of(&self, signal: Signal) -> impl Iterator<Item = &'a Sample> + '_ {
        self.by_signal.get(signal.name()).into_iter().flatten().copied()
    }

    fn is_fresh(&self, at: Timestamp) -> bool {
        self.at.duration_since(at) <= self.stale_after
    }

    fn scrapes(&self) -> BTreeMap<Process, Timestamp> {
        self.of(Signal::Scraped)
            .filter_map(|sample| Some((process(sample), seconds(positive(sample.value)?)?)))
            .collect()
    }

    /// Processes with this role; by what they export where roles are not collected.
    fn processes_of(&self, role: &str, otherwise: Signal) -> BTreeSet<Process> {
        let with = |role: &str| -> BTreeSet<Process> {
            self.of(Signal::Role)
                .filter(|s| s.label("role_name") == role && s.value > 0.0)
                .map(process)
                .collect()
        };
        let found = with(role);
        if found.is_empty() { self.of(otherwise).map(process).collect() } else { found }
    }

    /// QueryNodes; not those that a StreamingNode embeds, unless everything is in one process.
    fn query_node_processes(&self) -> BTreeSet<Process> {
        let mut nodes = self.processes_of("querynode", Signal::Backlog);
        let roles = |process: &Process, role: &str| {
            self.of(Signal::Role).any(|s| s.label("role_name") == role && self::process(s) == *process)
        };
        nodes.retain(|node| !roles(node, "streamingnode") || roles(node, "proxy"));
        nodes
    }

    fn family(&self) -> Option<Family> {
        let named = self.of(Signal::Version).filter_map(|sample| Family::of_version(sample.label("version")));
        // During an upgrade the older one: what it lacks is missing.
        if let Some(family) = named.min() {
            return Some(family);
        }
        let has_role = |role: &str| self.of(Signal::Role).any(|sample| sample.label("role_name") == role);
        if has_role("mixcoord") || has_role("streamingnode") {
            Some(Family::V2_6)
        } else if self.of(Signal::SinceV2_4).next().is_some() {
            Some(Family::V2_4)
        } else {
            self.of(Signal::Proxy).next().map(|_| Family::V2_3)
        }
    }

    /// A value that all proxies make up together.
    fn at_proxies(&self, signal: Signal) -> Reading<f64> {
        let value = self.of(signal).next().and_then(|sample| positive(sample.value));
        let fresh = self.proxies.values().min().copied();
        match (value, fresh, self.newest_proxy) {
            (Some(value), Some(at), _) => {
                Reading::Value { value, at }.partial_if(self.warned || self.proxies_missing)
            }
            (Some(_), None, Some(at)) => Reading::Stale { at },
            // A rate comes to nothing when its window has passed the last sample.
            (None, _, Some(at)) if self.at.duration_since(at) > self.window / 2 => Reading::Stale { at },
            _ => Reading::Missing,
        }
    }

    fn rate(&self, signal: Signal) -> Reading<Qps> {
        self.at_proxies(signal).map(Qps::clamped)
    }

    /// The user's own demand: its samples are of unknown age, but no older than what Prometheus looks back on.
    fn own_rate(&self, own: &Answer) -> Reading<Qps> {
        let [sample] = own.samples.as_slice() else { return Reading::Missing };
        let Some(value) = positive(sample.value) else { return Reading::Missing };
        // A query of the user's own may well be of a server that knows nothing of proxies.
        let partial = own.warning.is_some() || (self.proxies_missing && self.newest_proxy.is_some());
        Reading::Value { value: Qps::clamped(value), at: sample.at }.partial_if(partial)
    }

    fn query_nodes(&self, known: &Known) -> Vec<QueryNode> {
        let by_process = |signal: Signal| -> BTreeMap<Process, f64> {
            self.of(signal).filter_map(|s| Some((process(s), positive(s.value)?))).collect()
        };
        let (cpu, memory) = (by_process(Signal::Cpu), by_process(Signal::Memory));
        let (queue, segments) = (by_process(Signal::QueueP99), by_process(Signal::Segments));
        let (backlog, unsolved) = (by_process(Signal::Backlog), by_process(Signal::Unsolved));
        let draining = by_process(Signal::Draining);
        let limits = Limits::new(self.of(Signal::Limit));
        let nodes = self.query_node_processes().into_iter().filter_map(|process| {
            let scraped = self.scraped.get(&process).copied().filter(|at| self.is_fresh(*at));
            // Without a time nothing says that it is of now.
            scraped?;
            let of = |values: &BTreeMap<Process, f64>| values.get(&process).copied();
            let (pod, instance) = &process;
            Some(QueryNode {
                name: if pod.is_empty() { instance.clone() } else { pod.clone() },
                scraped,
                cpu: of(&cpu),
                cpu_limit: known.cpu_limit.or_else(|| limits.of(pod, "cpu")),
                memory: of(&memory),
                memory_limit: known.memory_limit.or_else(|| limits.of(pod, "memory")),
                queue_p99: of(&queue).map(milliseconds),
                backlog: of(&backlog).map(|ready| ready + of(&unsolved).unwrap_or(0.0)),
                segments: of(&segments),
                draining: of(&draining),
            })
        });
        nodes.collect()
    }

    /// One value of all QueryNodes; partial if some that were scraped lack it.
    fn over_nodes(
        &self,
        nodes: &[QueryNode],
        value: impl Fn(&QueryNode) -> Option<f64>,
        combine: impl Fn(f64, f64) -> f64,
    ) -> Reading<f64> {
        let values: Vec<f64> = nodes.iter().filter_map(&value).collect();
        let at = nodes.iter().filter(|node| value(node).is_some()).filter_map(|node| node.scraped).min();
        match (values.iter().copied().reduce(combine), at) {
            (Some(value), Some(at)) => Reading::Value { value, at },
            _ => self.no_node(nodes),
        }
    }

    fn no_node(&self, nodes: &[QueryNode]) -> Reading<f64> {
        let processes = self.query_node_processes();
        let newest = processes.iter().filter_map(|process| self.scraped.get(process)).max();
        match newest {
            Some(at) if nodes.is_empty() => Reading::Stale { at: *at },
            _ => Reading::Missing,
        }
    }

    /// Milvus exports the number of tasks from the first task on: a coordinator that is scraped and exports none has
    /// had none.
    fn loading(&self) -> Reading<f64> {
        let coordinators: BTreeSet<Process> = self
            .of(Signal::Role)
            .filter(|s| matches!(s.label("role_name"), "querycoord" | "mixcoord"))
            .map(process)
            .collect();
        let newest = coordinators.iter().filter_map(|process| self.scraped.get(process)).max().copied();
        let value = self.of(Signal::Loading).next().map(|sample| positive(sample.value));
        match (value, newest) {
            (_, Some(at)) if !self.is_fresh(at) => Reading::Stale { at },
            (Some(Some(value)), at) => {
                Reading::Value { value, at: at.unwrap_or(self.at) }.partial_if(self.warned)
            }
            (None, Some(at)) => Reading::Value { value: 0.0, at }.partial_if(self.warned),
            (Some(None), _) | (None, None) => Reading::Missing,
        }
    }

    /// QueryNodes export what they still have to give away once they stop: one that is scraped and exports nothing
    /// is not stopping.
    fn draining(&self, nodes: &[QueryNode]) -> Reading<f64> {
        let total = nodes.iter().filter_map(|node| node.draining).sum();
        match nodes.iter().filter_map(|node| node.scraped).min() {
            Some(at) => Reading::Value { value: total, at },
            None => self.no_node(nodes),
        }
    }

    fn copies(&self, nodes: &[QueryNode]) -> Reading<f64> {
        let value = self.of(Signal::Copies).next().and_then(|sample| positive(sample.value));
        match (value, nodes.iter().filter_map(|node| node.scraped).min()) {
            (Some(value), Some(at)) => Reading::Value { value, at },
            _ => self.no_node(nodes),
        }
    }
}

/// Limits of containers by pod.
struct Limits<'a>(BTreeMap<(&'a str, &'a str), BTreeMap<&'a str, f64>>);

impl<'a> Limits<'a> {
    fn new(samples: impl Iterator<Item = &'a Sample>) -> Self {
        let mut limits: BTreeMap<_, BTreeMap<&str, f64>> = BTreeMap::new();
        for sample in samples {
            if let Some(value) = positive(sample.value) {
                let key = (sample.label("pod"), sample.label("resource"));
                limits.entry(key).or_default().insert(sample.label("container"), value);
            }
        }
        Self(limits)
    }

    /// The limit of the container that runs the QueryNode, not of those beside it.
    fn of(&self, pod: &str, resource: &str) -> Option<f64> {
        let containers = self.0.get(&(pod, resource))?;
        let named =
            |part: &str| containers.iter().find(|(name, _)| name.contains(part)).map(|(_, limit)| *limit);
        let only = || (containers.len() == 1).then(|| containers.values().next().copied()).flatten();
        named("querynode").or_else(|| named("milvus")).or_else(only).filter(|limit| *limit > 0.0)
    }
}

fn process(sample: &Sample) -> Process {
    (sample.label("pod").to_owned(), sample.label("instance").to_owned())
}

/// A number that can be measured: finite and not negative.
fn positive(value: f64) -> Option<f64> {
    (value.is_finite() && value >= 0.0).then_some(value)
}

fn seconds(value: f64) -> Option<Timestamp> {
    #[expect(clippy::cast_possible_truncation, reason = "float casts saturate")]
    Timestamp::from_millisecond((value * 1e3) as i64).ok()
}

fn milliseconds(value: f64) -> SignedDuration {
    SignedDuration::try_from_secs_f64(value / 1e3).unwrap_or(SignedDuration::MAX)
}
