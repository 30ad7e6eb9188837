//! What is kept across restarts beside the status: the load's history and the memory of decisions, in a ConfigMap of
//! the controller's own namespace.

use std::collections::BTreeMap;
use std::hash::Hasher;

use fnv::FnvHasher;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::history::History;
use crate::actuate::{Fault, MANAGER, bounded, found};
use crate::decide::Memory;
use crate::units::Replicas;

const HISTORY: &str = "history";
const MEMORY: &str = "memory";

/// What is kept of one policy.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kept {
    pub(super) history: Option<History>,
    pub(super) memory: Remembered,
}

/// The small part, as JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Remembered {
    /// The memory of decisions.
    pub(super) decisions: Memory,
    /// The replicas that the highest demand so far needed.
    pub(super) peak_replicas: Replicas,
}

/// The ConfigMaps of a controller.
#[derive(Clone)]
pub(super) struct Store {
    client: Client,
    /// The controller's own namespace.
    namespace: String,
}

impl Store {
    pub(super) fn new(client: Client, namespace: String) -> Self {
        Self { client, namespace }
    }

    fn api(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// What is kept of the policy `namespace`/`name`, if anything is.
    pub(super) async fn load(&self, namespace: &str, name: &str) -> Result<Option<Kept>, Fault> {
        let map = config_map_name(namespace, name);
        let found = found(&format!("ConfigMap {}/{map}", self.namespace), self.api().get(&map)).await?;
        Ok(found.map(|map| Kept {
            history: map.binary_data.and_then(|data| History::from_bytes(&data.get(HISTORY)?.0)),
            memory: map
                .data
                .and_then(|data| serde_json::from_str(data.get(MEMORY)?).ok())
                .unwrap_or_default(),
        }))
    }

    /// Keeps this of the policy `namespace`/`name`.
    pub(super) async fn save(&self, namespace: &str, name: &str, kept: &Kept) -> Result<(), Fault> {
        let map = config_map_name(namespace, name);
        let memory = serde_json::to_string(&kept.memory).unwrap_or_default();
        let history = kept.history.as_ref().map(|history| ByteString(history.to_bytes()));
        let binary: BTreeMap<&str, ByteString> = history.into_iter().map(|bytes| (HISTORY, bytes)).collect();
        let patch = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": map, "namespace": self.namespace,
                "labels": {"app.kubernetes.io/managed-by": MANAGER},
                "annotations": {"milvus-autoscaler.io/policy": format!("{namespace}/{name}")},
            },
            "data": {MEMORY: memory}, "binaryData": binary,
        });
        let parameters = PatchParams::apply(MANAGER).force();
        let what = format!("ConfigMap {}/{map}", self.namespace);
        bounded(&what, self.api().patch(&map, &parameters, &Patch::Apply(&patch))).await.map(|_| ())
    }
}

/// A name that no two policies share, readable as far as it may be long, and the same in every release.
fn config_map_name(namespace: &str, name: &str) -> String {
    let mut hasher = FnvHasher::default();
    hasher.write(namespace.as_bytes());
    hasher.write(b"/");
    hasher.write(name.as_bytes());
    let readable: String = format!("mas-{namespace}-{name}").chars().take(230).collect();
    format!("{}-{:016x}", readable.trim_end_matches(['-', '.']), hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_policies_share_a_name() {
        assert_ne!(config_map_name("a-b", "c"), config_map_name("a", "b-c"));
        let long = config_map_name(&"n".repeat(63), &"p".repeat(253));
        assert!(long.len() <= 253);
        assert_eq!(config_map_name("milvus", "querynode"), "mas-milvus-querynode-fea80f6ed084b706");
    }
}
