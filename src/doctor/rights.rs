//! Permissions: what the controller must be allowed to do, and whether it is.

use k8s_openapi::api::authorization::v1::ResourceAttributes;

use super::{CLUSTER, Check, ClusterFacts};
use crate::observe::prometheus::Connection;
use crate::policy::{API_VERSION, ClusterPolicy, TargetKind};

/// The check.
pub(super) const NAME: &str = "permissions";

/// One thing that must be allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    /// The namespace.
    pub namespace: String,
    /// The API group; empty for the core.
    pub group: &'static str,
    /// The resource, with its subresource: `deployments/scale`.
    pub resource: &'static str,
    /// The object, where it is about one alone.
    pub name: Option<String>,
    /// What is done.
    pub verb: &'static str,
}

/// A right, and whether it is granted; or why that is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The right.
    pub right: Right,
    /// Whether it is granted.
    pub granted: Result<bool, String>,
}

impl Right {
    /// It as the API server asks for it.
    #[must_use]
    pub fn attributes(&self) -> ResourceAttributes {
        let (resource, subresource) = match self.resource.split_once('/') {
            Some((resource, subresource)) => (resource, Some(subresource)),
            None => (self.resource, None),
        };
        ResourceAttributes {
            namespace: Some(self.namespace.clone()),
            group: Some(self.group.to_owned()),
            resource: Some(resource.to_owned()),
            subresource: subresource.map(str::to_owned),
            name: self.name.clone(),
            verb: Some(self.verb.to_owned()),
            ..ResourceAttributes::default()
        }
    }
}

/// What the controller, whose own namespace is `own`, needs for `policy` in `namespace`.
#[must_use]
pub fn needed(policy: &ClusterPolicy, namespace: &str, own: &str) -> Vec<Right> {
    let ours = API_VERSION.split_once('/').map_or(API_VERSION, |(group, _)| group);
    let in_namespace =
        |namespace: &str, group: &'static str, resource: &'static str, verbs: &[&'static str]| {
            let right = |verb: &&'static str| Right {
                namespace: namespace.to_owned(),
                group,
                resource,
                name: None,
                verb,
            };
            verbs.iter().map(right).collect::<Vec<_>>()
        };
    let of = |group, resource, verbs: &[&'static str]| in_namespace(namespace, group, resource, verbs);
    let mut rights = of(ours, "milvusautoscalers", &["list", "watch", "patch"]);
    rights.extend(of(ours, "milvusautoscalers/status", &["patch"]));
    rights.extend(match policy.target.kind {
        TargetKind::Deployment => workload(&of, "deployments", "deployments/scale"),
        TargetKind::StatefulSet => workload(&of, "statefulsets", "statefulsets/scale"),
        TargetKind::Milvus => {
            let milvus = of("milvus.io", "milvuses", &["get", "patch"]);
            [milvus, workload(&of, "deployments", "deployments/scale")].concat()
        }
    });
    rights.extend(of("autoscaling", "horizontalpodautoscalers", &["get", "list", "patch"]));
    rights.extend(of("", "pods", &["list"]));
    rights.extend(of("events.k8s.io", "events", &["create", "patch"]));
    rights.extend(Connection::secrets(&policy.prometheus).into_iter().map(|key| Right {
        namespace: namespace.to_owned(),
        group: "",
        resource: "secrets",
        name: Some(key.secret.clone()),
        verb: "get",
    }));
    rights.extend(in_namespace(own, "coordination.k8s.io", "leases", &["get", "create", "update"]));
    rights.extend(in_namespace(own, "", "configmaps", &["get", "create", "patch"]));
    rights.dedup();
    rights
}

fn workload(
    of: &impl Fn(&'static str, &'static str, &[&'static str]) -> Vec<Right>,
    resource: &'static str,
    scale: &'static str,
) -> Vec<Right> {
    [of("apps", resource, &["get"]), of("apps", scale, &["patch"])].concat()
}

pub(super) fn checks(cluster: &ClusterFacts) -> Vec<Check> {
    let (user, rights) = (&cluster.user, &cluster.rights);
    if let Some(problem) = rights.iter().find_map(|asked| asked.granted.as_ref().err()) {
        return vec![Check::warn(CLUSTER, NAME, problem.as_str(), "the permissions could not be asked for")];
    }
    let missing: Vec<&Right> =
        rights.iter().filter(|asked| asked.granted == Ok(false)).map(|asked| &asked.right).collect();
    if missing.is_empty() {
        let finding = format!("{user} may do all that is needed ({} permissions)", rights.len());
        return vec![Check::pass(CLUSTER, NAME, finding)];
    }
    let secret = missing.iter().any(|right| right.resource == "secrets");
    let mend = if secret && missing.len() == 1 {
        "grant get on this Secret in a Role of its namespace: deploy/examples has one"
    } else {
        "apply deploy/autoscaler/rbac.yaml; --as system:serviceaccount:NAMESPACE:NAME asks for another user"
    };
    vec![Check::fail(CLUSTER, NAME, format!("{user} may not {}", listed(&missing)), mend)]
}

/// Verbs by resource: `get, patch milvuses.milvus.io in milvus; …`.
fn listed(rights: &[&Right]) -> String {
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for right in rights {
        let group = if right.group.is_empty() { String::new() } else { format!(".{}", right.group) };
        let resource = match right.resource.split_once('/') {
            Some((resource, subresource)) => format!("{resource}{group}/{subresource}"),
            None => format!("{}{group}", right.resource),
        };
        let name = right.name.as_ref().map_or(String::new(), |name| format!(" {name}"));
        let what = format!("{resource}{name} in {}", right.namespace);
        match groups.iter_mut().find(|(known, _)| *known == what) {
            Some((_, verbs)) => verbs.push(right.verb),
            None => groups.push((what, vec![right.verb])),
        }
    }
    groups.iter().map(|(what, verbs)| format!("{} {what}", verbs.join(", "))).collect::<Vec<_>>().join("; ")
}
