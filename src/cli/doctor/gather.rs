//! Gathers what the doctor examines. Nothing is written.

use futures::future::join_all;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::authorization::v1::{SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::Client as Kube;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, PostParams};
use serde_json::Value;

use super::Arguments;
use crate::actuate::{FaultKind, Lever, Survey, bounded, survey};
use crate::cli::{Failure, cluster};
use crate::doctor::rights::needed;
use crate::doctor::{Asked, Cluster, ClusterFacts, Facts, LoadFacts, Right};
use crate::observe::prometheus::{Client, Past};
use crate::observe::{Known, Queries};
use crate::policy::{ClusterPolicy, MilvusAutoscaler, TargetKind};
use crate::series::Step;

/// The annotation of a Milvus with the number of its active QueryNode Deployment.
const ACTIVE: &str = "milvus.io/querynode-current-group-id";

/// Everything; the cluster first, as it tells what should be scraped.
pub(super) async fn facts(arguments: &Arguments, policy: ClusterPolicy) -> Result<Facts, Failure> {
    let found = cluster::find(arguments.user.as_deref()).await;
    let namespace = policy.policy.namespace.clone();
    let namespace = namespace.or_else(|| found.as_ref().ok().map(|cluster| cluster.namespace.clone()));
    let state = match &found {
        Err(why) => Cluster::Absent(why.clone()),
        Ok(cluster) => {
            let namespace = namespace.as_deref().unwrap_or_default();
            of_cluster(&cluster.client, &policy, namespace, &arguments.own_namespace).await
        }
    };
    let client = arguments.access.of_policy(&policy, found.as_ref().map_err(String::as_str)).await;
    let queries = Queries::new(&policy, namespace.as_deref());
    let load = match client {
        Ok(client) => of_load(&client, &queries, &policy, known(&state)).await,
        // What was written wrong is not the setup's fault.
        Err(failure @ Failure::Input(_)) => return Err(failure),
        Err(failure @ Failure::Outside(_)) => LoadFacts {
            url: policy.prometheus.url.clone(),
            selector: queries.selector().to_owned(),
            observation: Err(failure.to_string()),
            history: Err(String::new()),
            without_pod: None,
        },
    };
    Ok(Facts { policy, load, cluster: state })
}

/// What the cluster knows of what should be scraped.
fn known(cluster: &Cluster) -> Known {
    let Cluster::Known(cluster) = cluster else { return Known::default() };
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let known = cluster.survey.as_ref().map(|survey| survey.known).unwrap_or_default();
    Known {
        ready_proxies: known.ready_proxies.or(cluster.proxies_ready.map(count)),
        ready_query_nodes: cluster.survey.as_ref().ok().map(|survey| survey.ready().0),
        ..known
    }
}

async fn of_load(client: &Client, queries: &Queries, policy: &ClusterPolicy, known: Known) -> LoadFacts {
    let observation = client.observe(queries, policy.prometheus.stale_after, &known).await;
    let (history, without_pod) = match &observation {
        Err(_) => (Err(String::new()), None),
        Ok(observation) => {
            // As coarse as one query can answer.
            let step = Step::from_seconds(300).unwrap_or(Step::MINUTE);
            let past = Past::of_rate(observation.at, policy.policy.history, step, queries.window());
            let history = client.history(&queries.demand(), past).await;
            let history = history.map_err(|error| error.to_string());
            (history, without_pod(client, queries).await)
        }
    };
    LoadFacts {
        url: client.url().to_owned(),
        selector: queries.selector().to_owned(),
        observation: observation.map_err(|error| error.to_string()),
        history,
        without_pod,
    }
}

async fn without_pod(client: &Client, queries: &Queries) -> Option<usize> {
    let query = format!(r#"count(milvus_num_node{{pod="",{}}})"#, queries.selector());
    let count = client.value(&query).await.ok()?.unwrap_or(0.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of processes")]
    Some(count as usize)
}

async fn of_cluster(kube: &Kube, policy: &ClusterPolicy, namespace: &str, own: &str) -> Cluster {
    let version = match bounded("the API server", kube.apiserver_version()).await {
        Ok(version) => version.git_version,
        Err(fault) => return Cluster::Unreachable(fault.message),
    };
    let survey = survey(kube, namespace, &policy.target, policy.hpa.as_deref()).await;
    let objects = Objects { kube, namespace };
    let (workload, milvus, other_slot) = objects.of_target(policy).await;
    let lever = objects.lever(survey.as_ref().ok()).await.or_else(|| {
        let is_field = survey.as_ref().is_ok_and(|survey| matches!(survey.lever, Lever::Milvus(_)));
        milvus.clone().filter(|_| is_field)
    });
    let rights = join_all(needed(policy, namespace, own).into_iter().map(|right| asked(kube, right))).await;
    Cluster::Known(Box::new(ClusterFacts {
        version,
        namespace: namespace.to_owned(),
        survey,
        proxies_ready: objects.ready_proxies(workload.as_ref()).await,
        workload,
        lever,
        milvus,
        other_slot,
        has_definition: objects.has_definition().await,
        user: user(kube).await,
        rights,
    }))
}

/// Objects of one namespace, as they are stored.
struct Objects<'a> {
    kube: &'a Kube,
    namespace: &'a str,
}

impl Objects<'_> {
    /// An object, if it is there and may be read.
    async fn get(&self, group: &str, version: &str, kind: &str, name: &str) -> Option<Value> {
        let kind = GroupVersionKind::gvk(group, version, kind);
        let resource = match kind.kind.as_str() {
            "Milvus" => ApiResource::from_gvk_with_plural(&kind, "milvuses"),
            _ => ApiResource::from_gvk(&kind),
        };
        let api: Api<DynamicObject> = Api::namespaced_with(self.kube.clone(), self.namespace, &resource);
        let what = format!("{} {}/{name}", kind.kind, self.namespace);
        serde_json::to_value(bounded(&what, api.get(name)).await.ok()?).ok()
    }

    /// The workload, the Milvus that it belongs to, and the other one of its two Deployments.
    async fn of_target(&self, policy: &ClusterPolicy) -> (Option<Value>, Option<Value>, Option<Value>) {
        let name = &policy.target.name;
        if policy.target.kind != TargetKind::Milvus {
            let workload = self.get("apps", "v1", &format!("{:?}", policy.target.kind), name).await;
            let owner = workload.as_ref().and_then(owner);
            let milvus = match owner {
                Some(owner) => self.get("milvus.io", "v1beta1", "Milvus", &owner).await,
                None => None,
            };
            return (workload, milvus, None);
        }
        let Some(milvus) = self.get("milvus.io", "v1beta1", "Milvus", name).await else {
            return (None, None, None);
        };
        let active = milvus["metadata"]["annotations"][ACTIVE].as_str().unwrap_or("0");
        let other = if active == "0" { "1" } else { "0" };
        let deployment = |slot: &str| format!("{name}-milvus-querynode-{slot}");
        let workload = self.get("apps", "v1", "Deployment", &deployment(active)).await;
        let other = self.get("apps", "v1", "Deployment", &deployment(other)).await;
        (workload, Some(milvus), other)
    }

    /// The object in which replicas are asked for, where that is neither the workload nor the Milvus.
    async fn lever(&self, survey: Option<&Survey>) -> Option<Value> {
        match &survey?.lever {
            Lever::Hpa(hpa) => self.get("autoscaling", "v2", "HorizontalPodAutoscaler", &hpa.name).await,
            Lever::ScaledObject(object) => {
                self.get("keda.sh", "v1alpha1", "ScaledObject", &object.name).await
            }
            Lever::Scale(_) | Lever::Milvus(_) => None,
        }
    }

    /// Ready proxies of the same installation, by the labels of chart and operator; `None` where there are none.
    async fn ready_proxies(&self, workload: Option<&Value>) -> Option<usize> {
        let instance = workload?["metadata"]["labels"]["app.kubernetes.io/instance"].as_str();
        let instance = instance.map_or(String::new(), |name| format!(",app.kubernetes.io/instance={name}"));
        let api: Api<Pod> = Api::namespaced(self.kube.clone(), self.namespace);
        for label in ["component=proxy", "app.kubernetes.io/component=proxy"] {
            let parameters = ListParams::default().labels(&format!("{label}{instance}")).match_any();
            let pods = bounded("pods of proxies", api.list(&parameters)).await.ok()?.items;
            if !pods.is_empty() {
                return Some(pods.iter().filter(|pod| is_ready(pod)).count());
            }
        }
        None
    }

    async fn has_definition(&self) -> Option<bool> {
        let api: Api<MilvusAutoscaler> = Api::namespaced(self.kube.clone(), self.namespace);
        match bounded("MilvusAutoscalers", api.list(&ListParams::default().limit(1))).await {
            Ok(_) => Some(true),
            Err(fault) if fault.kind == FaultKind::NotFound => Some(false),
            Err(_) => None,
        }
    }
}

/// The Milvus that owns an object.
fn owner(object: &Value) -> Option<String> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    let owner = owners.iter().find(|owner| owner["kind"] == "Milvus")?;
    owner["name"].as_str().map(str::to_owned)
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}

/// Whether a right is granted.
async fn asked(kube: &Kube, right: Right) -> Asked {
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(right.attributes()),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let api: Api<SelfSubjectAccessReview> = Api::all(kube.clone());
    let answer = bounded("SelfSubjectAccessReview", api.create(&PostParams::default(), &review)).await;
    let granted = answer.map(|review| review.status.is_some_and(|status| status.allowed));
    Asked { right, granted: granted.map_err(|fault| fault.message) }
}

/// Who asks, by the cluster's name.
async fn user(kube: &Kube) -> String {
    let api: Api<SelfSubjectReview> = Api::all(kube.clone());
    let (parameters, question) = (PostParams::default(), SelfSubjectReview::default());
    let review = bounded("SelfSubjectReview", api.create(&parameters, &question));
    let info = review.await.ok().and_then(|review| review.status?.user_info);
    info.and_then(|info| info.username).unwrap_or_else(|| "this user".to_owned())
}
