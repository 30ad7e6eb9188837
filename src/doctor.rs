//! Finds what makes autoscaling Milvus fail, before it does.
//!
//! What was gathered of Prometheus and the cluster are [`Facts`]; [`examine`] makes [`Check`]s of them, each with a
//! verdict and, where something is wrong, the mend. All of it is pure; the command gathers.
//!
//! | file | what it checks |
//! |---|---|
//! | `load` | Prometheus: reachable, version, every series, history |
//! | `target` | what is scaled: bounds, limits, grace period, the operator's slots |
//! | `writers` | who else writes replicas |
//! | `rights` | permissions |
//! | `table` | the checks as lines for people |

mod load;
pub mod rights;
mod table;
mod target;
mod writers;

use serde::Serialize;
use serde_json::Value;

pub use load::LoadFacts;
pub use rights::{Asked, Right};
pub use table::render;
pub use target::ClusterFacts;

use crate::policy::ClusterPolicy;

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// All is well.
    Pass,
    /// It could not be checked.
    Skip,
    /// It works, but not as well as it could, or not for long.
    Warn,
    /// Autoscaling fails, or does harm.
    Fail,
}

/// One thing that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What it is about: `Prometheus` or `Cluster`.
    pub area: &'static str,
    /// A stable name.
    pub name: &'static str,
    /// What it came to.
    pub verdict: Verdict,
    /// What was found.
    pub finding: String,
    /// What to do; empty where there is nothing to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mend: String,
}

/// The parts of a setup.
const PROMETHEUS: &str = "Prometheus";
const CLUSTER: &str = "Cluster";

impl Check {
    fn new(
        area: &'static str,
        name: &'static str,
        verdict: Verdict,
        finding: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self { area, name, verdict, finding: finding.into(), mend: mend.into() }
    }

    fn pass(area: &'static str, name: &'static str, finding: impl Into<String>) -> Self {
        Self::new(area, name, Verdict::Pass, finding, "")
    }

    fn skip(area: &'static str, name: &'static str, why: &str) -> Self {
        Self::new(area, name, Verdict::Skip, format!("not checked: {why}"), "")
    }

    fn warn(
        area: &'static str,
        name: &'static str,
        finding: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self::new(area, name, Verdict::Warn, finding, mend)
    }

    fn fail(
        area: &'static str,
        name: &'static str,
        finding: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self::new(area, name, Verdict::Fail, finding, mend)
    }
}

/// The cluster, as far as it can be seen.
#[derive(Debug, Clone)]
pub enum Cluster {
    /// There is none to look at, and why.
    Absent(String),
    /// It does not answer.
    Unreachable(String),
    /// What it says.
    Known(Box<ClusterFacts>),
}

/// All that was gathered.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The policy.
    pub policy: ClusterPolicy,
    /// What Prometheus says.
    pub load: LoadFacts,
    /// What the cluster says.
    pub cluster: Cluster,
}

/// Every check, in the order in which things must work.
#[must_use]
pub fn examine(facts: &Facts) -> Vec<Check> {
    let mut checks = load::checks(facts);
    match &facts.cluster {
        Cluster::Known(cluster) => {
            checks.push(Check::pass(CLUSTER, "reachable", format!("Kubernetes {} answers", cluster.version)));
            checks.extend(target::checks(facts, cluster));
            checks.extend(writers::checks(cluster));
            checks.extend(rights::checks(cluster));
        }
        Cluster::Unreachable(problem) => {
            let mend = "check the kubeconfig, the network and your credentials";
            checks.push(Check::fail(CLUSTER, "reachable", problem.as_str(), mend));
            checks.extend(unchecked("the cluster does not answer"));
        }
        Cluster::Absent(why) => {
            let why = format!("no cluster ({why})");
            checks.push(Check::skip(CLUSTER, "reachable", &why));
            checks.extend(unchecked(&why));
        }
    }
    checks
}

/// Every check of the cluster, not made.
fn unchecked(why: &str) -> impl Iterator<Item = Check> {
    let names = target::NAMES.into_iter().chain([writers::NAME, rights::NAME]);
    names.map(move |name| Check::skip(CLUSTER, name, why))
}

/// How many checks failed.
#[must_use]
pub fn failed(checks: &[Check]) -> usize {
    checks.iter().filter(|check| check.verdict == Verdict::Fail).count()
}

/// The value at a path such as `spec.template.spec`, without null.
fn at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(object, |value, key| value.get(key)).filter(|value| !value.is_null())
}

/// A number and a noun, in the plural where it is needed.
fn counted(count: usize, noun: &str) -> String {
    let ending = if noun.ends_with('s') { "es" } else { "s" };
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}{ending}") }
}

#[cfg(test)]
mod tests;
