//! Prometheus: reachable, version, every series, history.

use jiff::{SignedDuration, Timestamp};

use super::{Check, Cluster, Facts, PROMETHEUS, counted};
use crate::observe::{Observation, Reading};
use crate::policy::text::duration_text;
use crate::series::Series;

/// With less history the week is not known, and the forecast has only days to go by.
const A_WEEK: SignedDuration = SignedDuration::from_hours(7 * 24);
/// So much of the history may be missing before it is worth a word.
const MOST_GAPS: f64 = 0.1;

/// What Prometheus says.
#[derive(Debug, Clone)]
pub struct LoadFacts {
    /// The server's address.
    pub url: String,
    /// What selects the series of this Milvus.
    pub selector: String,
    /// What is known of Milvus now, or why nothing is.
    pub observation: Result<Observation, String>,
    /// Hourly demand over the history that the policy asks for, or why there is none.
    pub history: Result<Series, String>,
    /// Processes whose series lack the label `pod`, if that is known.
    pub without_pod: Option<usize>,
}

pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    let load = &facts.load;
    let observation = match &load.observation {
        Ok(observation) => observation,
        Err(problem) => {
            let mut checks = vec![Check::fail(PROMETHEUS, "reachable", problem.as_str(), "")];
            checks.extend(NAMES.map(|name| Check::skip(PROMETHEUS, name, "Prometheus does not answer")));
            return checks;
        }
    };
    let reachable = match &observation.warning {
        None => Check::pass(PROMETHEUS, "reachable", format!("{} answers", load.url)),
        Some(warning) => Check::fail(
            PROMETHEUS,
            "reachable",
            format!("{} answers in part: {warning}", load.url),
            "mend the stores behind it: while its answers are partial, nothing is taken away",
        ),
    };
    vec![
        reachable,
        version(observation, load),
        demand(observation, facts),
        latency(observation, facts),
        proxies(observation, facts),
        query_nodes(observation, facts),
        labels(load),
        queue(observation),
        utilization(observation, facts),
        memory(observation),
        copies(observation, facts),
        loading(observation),
        history(facts),
    ]
}

/// The checks after the first, in their order.
const NAMES: [&str; 12] = [
    "milvus",
    "demand",
    "latency",
    "proxies",
    "querynodes",
    "labels",
    "queue",
    "cpu",
    "memory",
    "in-memory",
    "loading",
    "history",
];

fn braces(load: &LoadFacts) -> String {
    format!("{{{}}}", load.selector)
}

fn version(observation: &Observation, load: &LoadFacts) -> Check {
    let Some(family) = observation.family else {
        return Check::fail(
            PROMETHEUS,
            "milvus",
            format!("no series of a Milvus has the labels {}", braces(load)),
            "correct spec.prometheus.matchers, or let Prometheus scrape port 9091 of every Milvus pod \
             (deploy/prometheus)",
        );
    };
    match observation.versions.as_slice() {
        [] => Check::pass(
            PROMETHEUS,
            "milvus",
            format!("Milvus {family}, by its series: it does not name its version"),
        ),
        [version] => Check::pass(PROMETHEUS, "milvus", format!("Milvus {version}")),
        several => Check::warn(
            PROMETHEUS,
            "milvus",
            format!("Milvus {} side by side", several.join(", ")),
            "finish the upgrade; if these are two installations, tell them apart in spec.prometheus.matchers",
        ),
    }
}

/// How fresh a sample is.
fn age(observation: &Observation, at: Timestamp) -> String {
    format!("{} s old", observation.at.duration_since(at).as_secs().max(0))
}

fn demand(observation: &Observation, facts: &Facts) -> Check {
    const NAME: &str = "demand";
    let settings = &facts.policy.prometheus;
    match observation.demand {
        Reading::Value { value, at } => {
            Check::pass(PROMETHEUS, NAME, format!("{value}, {}", age(observation, at)))
        }
        Reading::Partial { value, .. } => Check::fail(
            PROMETHEUS,
            NAME,
            format!("{value}, which leaves part of the load out"),
            "let Prometheus scrape every proxy: while demand is partial, nothing is taken away",
        ),
        Reading::Stale { at } => Check::fail(
            PROMETHEUS,
            NAME,
            format!("the newest sample is {}", age(observation, at)),
            format!(
                "check the scrape of the proxies; a sample may be {} old (spec.prometheus.staleAfter)",
                duration_text(settings.stale_after)
            ),
        ),
        Reading::Missing if facts.policy.policy.demand.query.is_some() => Check::fail(
            PROMETHEUS,
            NAME,
            "spec.demand.query comes to nothing",
            "try the query in Prometheus: it must give one number",
        ),
        Reading::Missing if observation.proxies_scraped > 0 => Check::fail(
            PROMETHEUS,
            NAME,
            "proxies are scraped, and no search has been counted",
            format!(
                "search once, as Milvus counts from the first search on; if searches run, set \
                 spec.prometheus.rateWindow ({}) to four scrape intervals or more",
                duration_text(settings.rate_window)
            ),
        ),
        Reading::Missing => Check::fail(
            PROMETHEUS,
            NAME,
            "no proxy is scraped, and demand is counted there",
            "let Prometheus scrape port 9091 of the proxies, and check spec.prometheus.matchers",
        ),
    }
}

fn latency(observation: &Observation, facts: &Facts) -> Check {
    const NAME: &str = "latency";
    let slo = facts.policy.policy.slo.p99_latency;
    let Some(p99) = observation.p99.at_least() else {
        let finding = format!("the 99th percentile is {}", observation.p99.state());
        let mend = "milvus_proxy_sq_latency_bucket must be scraped, and some search must have succeeded";
        return Check::warn(PROMETHEUS, NAME, finding, mend);
    };
    let milliseconds = p99.as_millis();
    match slo {
        None => Check::pass(PROMETHEUS, NAME, format!("99 % of searches take up to {milliseconds} ms")),
        Some(slo) if p99 <= slo => Check::pass(
            PROMETHEUS,
            NAME,
            format!("99 % of searches take up to {milliseconds} ms, of {} ms allowed", slo.as_millis()),
        ),
        Some(slo) => Check::warn(
            PROMETHEUS,
            NAME,
            format!("99 % of searches take up to {milliseconds} ms, and {} ms are allowed", slo.as_millis()),
            "this asks for more replicas; if it stays so with more, raise spec.slo.p99Latency",
        ),
    }
}

fn proxies(observation: &Observation, facts: &Facts) -> Check {
    const NAME: &str = "proxies";
    let scraped = observation.proxies_scraped as usize;
    let ready = match &facts.cluster {
        Cluster::Known(cluster) => cluster.proxies_ready,
        Cluster::Absent(_) | Cluster::Unreachable(_) => None,
    };
    let mend =
        "let Prometheus scrape port 9091 of every proxy: what one of them serves is not seen otherwise";
    match ready {
        _ if scraped == 0 => Check::fail(PROMETHEUS, NAME, "none is scraped", mend),
        Some(ready) if scraped < ready => {
            Check::fail(PROMETHEUS, NAME, format!("{scraped} of {ready} ready ones are scraped"), mend)
        }
        Some(ready) => Check::pass(PROMETHEUS, NAME, format!("{scraped} scraped, {ready} ready")),
        None => Check::new(
            PROMETHEUS,
            NAME,
            super::Verdict::Skip,
            format!("{scraped} scraped; not compared: the cluster's proxies are not known"),
            "",
        ),
    }
}

fn query_nodes(observation: &Observation, facts: &Facts) -> Check {
    const NAME: &str = "querynodes";
    let scraped = observation.query_nodes.len();
    let ready = match &facts.cluster {
        Cluster::Known(cluster) => cluster.survey.as_ref().ok().map(|survey| survey.ready().0 as usize),
        Cluster::Absent(_) | Cluster::Unreachable(_) => None,
    };
    let mend = "let Prometheus scrape port 9091 of every QueryNode, and check spec.prometheus.matchers";
    match ready {
        _ if scraped == 0 => Check::fail(PROMETHEUS, NAME, "none is scraped", mend),
        Some(ready) if scraped < ready => {
            Check::fail(PROMETHEUS, NAME, format!("{scraped} of {ready} ready ones are scraped"), mend)
        }
        Some(ready) => Check::pass(PROMETHEUS, NAME, format!("{scraped} scraped, {ready} ready")),
        None => Check::pass(PROMETHEUS, NAME, format!("{scraped} scraped")),
    }
}

fn labels(load: &LoadFacts) -> Check {
    const NAME: &str = "labels";
    match load.without_pod {
        None | Some(0) if load.selector.is_empty() => Check::warn(
            PROMETHEUS,
            NAME,
            "no label tells this Milvus from another",
            "name some in spec.prometheus.matchers, or put the policy into the namespace of the Milvus",
        ),
        None | Some(0) => Check::pass(PROMETHEUS, NAME, format!("{} and pod", load.selector)),
        Some(count) => Check::warn(
            PROMETHEUS,
            NAME,
            format!("the series of {} lack the label pod", counted(count, "process")),
            "set pod and namespace when scraping, as the PodMonitor in deploy/prometheus does: without them limits \
             are not found, and processes are told apart by address",
        ),
    }
}

fn queue(observation: &Observation) -> Check {
    const NAME: &str = "queue";
    match observation.queue_p99.at_least() {
        Some(p99) => Check::pass(
            PROMETHEUS,
            NAME,
            format!("99 % of searches wait up to {} ms at the busiest QueryNode", p99.as_millis()),
        ),
        None => Check::warn(
            PROMETHEUS,
            NAME,
            format!("the time in the queues is {}", observation.queue_p99.state()),
            "milvus_querynode_sq_queue_latency_bucket must be scraped: it tells overload before latency does",
        ),
    }
}

fn utilization(observation: &Observation, facts: &Facts) -> Check {
    const NAME: &str = "cpu";
    if let Some(share) = observation.utilization.at_least() {
        let finding = format!("the busiest QueryNode uses {:.0} % of its limit", share * 100.0);
        return Check::pass(PROMETHEUS, NAME, finding);
    }
    let has_cpu = observation.query_nodes.iter().any(|node| node.cpu.is_some());
    let (finding, mend) = if has_cpu {
        (
            "the CPU that QueryNodes use is known, and their limit is not",
            "give the container a CPU limit, or let Prometheus scrape kube-state-metrics",
        )
    } else {
        ("the CPU that QueryNodes use is not known", "let Prometheus keep process_cpu_seconds_total")
    };
    if facts.policy.policy.capacity.is_some() {
        let mend = format!("{mend}; spec.capacity is used meanwhile");
        return Check::warn(PROMETHEUS, NAME, finding, mend);
    }
    let mend = format!("{mend}: capacity is learned from it; or set spec.capacity");
    Check::fail(PROMETHEUS, NAME, finding, mend)
}

fn memory(observation: &Observation) -> Check {
    const NAME: &str = "memory";
    match observation.memory.at_least() {
        Some(bytes) => Check::pass(
            PROMETHEUS,
            NAME,
            format!(
                "{:.1} GiB at {}",
                bytes / (1_u64 << 30) as f64,
                counted(observation.query_nodes.len(), "QueryNode")
            ),
        ),
        None => Check::warn(
            PROMETHEUS,
            NAME,
            format!("the memory that QueryNodes use is {}", observation.memory.state()),
            "let Prometheus keep process_resident_memory_bytes: without it no floor keeps the data in memory",
        ),
    }
}

/// Collections that are loaded several times need as many QueryNodes, or Milvus cannot load them (error 304).
fn copies(observation: &Observation, facts: &Facts) -> Check {
    const NAME: &str = "in-memory";
    let min = facts.policy.policy.min_replicas;
    let Some(copies) = observation.in_memory_replicas().at_least() else {
        let why = "what is loaded and stored is not scraped, or nothing is; compare spec.minReplicas with the \
                   replica_number of your collections";
        return Check::skip(PROMETHEUS, NAME, why);
    };
    let loaded =
        format!("collections are loaded with up to {}", counted(copies.0 as usize, "in-memory replica"));
    if copies > min {
        return Check::fail(
            PROMETHEUS,
            NAME,
            format!(
                "{loaded}, and spec.minReplicas is {min}: with fewer QueryNodes than that they cannot be loaded"
            ),
            format!("set spec.minReplicas: {copies}"),
        );
    }
    Check::pass(PROMETHEUS, NAME, format!("{loaded}, within spec.minReplicas {min}"))
}

fn loading(observation: &Observation) -> Check {
    const NAME: &str = "loading";
    match observation.loading.at_least() {
        Some(tasks) => Check::pass(PROMETHEUS, NAME, format!("{tasks:.0} segments or channels on the move")),
        None => Check::warn(
            PROMETHEUS,
            NAME,
            format!("what QueryCoord loads and moves is {}", observation.loading.state()),
            "let Prometheus scrape the coordinator too: otherwise replicas are taken away while segments move",
        ),
    }
}

fn history(facts: &Facts) -> Check {
    const NAME: &str = "history";
    let wanted = facts.policy.policy.history;
    let series = match &facts.load.history {
        Ok(series) => series,
        Err(problem) => {
            return Check::fail(
                PROMETHEUS,
                NAME,
                problem.as_str(),
                "the forecast begins from it: give Prometheus time for long queries (spec.prometheus.timeout)",
            );
        }
    };
    let values: Vec<bool> = series.iter().map(|value| value.is_some()).collect();
    let Some(first) = values.iter().position(|known| *known) else {
        return Check::warn(
            PROMETHEUS,
            NAME,
            "there is none yet",
            "wait: until the week is known, the autoscaler goes by the load now and its headroom",
        );
    };
    let hours = values.len() - first;
    let missing = values[first..].iter().filter(|known| !**known).count();
    let length = series.step().duration() * i32::try_from(hours).unwrap_or(i32::MAX);
    let days = length.as_secs_f64() / 86_400.0;
    let share = missing as f64 / hours as f64;
    let finding = format!(
        "{days:.1} days of {:.0}, {:.0} % of it missing",
        wanted.as_secs_f64() / 86_400.0,
        share * 100.0
    );
    if length < A_WEEK.min(wanted) {
        let mend = "wait for a whole week, or let Prometheus keep more (its retention): until then the week is not \
                    forecast";
        return Check::warn(PROMETHEUS, NAME, finding, mend);
    }
    if share > MOST_GAPS {
        return Check::warn(PROMETHEUS, NAME, finding, "find out why Prometheus misses scrapes");
    }
    Check::pass(PROMETHEUS, NAME, finding)
}
