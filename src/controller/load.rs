//! Where the controller gets the load from: a narrow door to Prometheus, so that cycles can be tested without one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Client as Kube;
use kube::api::Api;

use crate::actuate::{Fault, bounded};
use crate::decide::Reason;
use crate::observe::prometheus::{Client, Connection, Past, QueryError};
use crate::observe::{Known, Observation, Queries};
use crate::policy::{ClusterPolicy, SecretKey};
use crate::series::{Series, Step};

/// The load of one Milvus.
pub trait Load: Send + Sync {
    /// What Milvus does now, or why Prometheus cannot be asked.
    fn observe(&self, known: Known) -> BoxFuture<'_, Result<Observation, Reason>>;

    /// Mean demand of each minute from `from` on, as far as it is known at `now`, with gaps where it is not.
    fn history(&self, from: Timestamp, now: Timestamp) -> BoxFuture<'_, Result<Series, Reason>>;
}

/// Finds the load that a policy means.
pub trait Loads: Send + Sync {
    /// The load of the Milvus that `policy`, of this namespace, is about. Secrets are read with `kube`.
    fn connect<'a>(
        &'a self,
        kube: &'a Kube,
        namespace: &'a str,
        policy: &'a ClusterPolicy,
    ) -> BoxFuture<'a, Result<Box<dyn Load>, Reason>>;
}

/// Loads from Prometheus servers.
#[derive(Default)]
pub struct Servers {
    /// Policies with the same server share a client.
    clients: Mutex<HashMap<Connection, Client>>,
}

/// How many different servers are remembered.
const MOST_SERVERS: usize = 64;

impl Servers {
    fn client(&self, connection: Connection) -> Result<Client, QueryError> {
        let known = self.clients.lock().ok().and_then(|clients| clients.get(&connection).cloned());
        if let Some(client) = known {
            return Ok(client);
        }
        let client = Client::new(&connection)?;
        if let Ok(mut clients) = self.clients.lock() {
            if clients.len() >= MOST_SERVERS {
                // Credentials that were changed leave connections behind.
                clients.clear();
            }
            clients.insert(connection, client.clone());
        }
        Ok(client)
    }

    async fn connected(
        &self,
        kube: &Kube,
        namespace: &str,
        policy: &ClusterPolicy,
    ) -> Result<Box<dyn Load>, Reason> {
        let keys = Connection::secrets(&policy.prometheus);
        let secrets = secrets(kube, namespace, &keys).await.map_err(|fault| {
            Reason::new("SecretUnreadable", format!("{fault}; spec.prometheus refers to it"))
        })?;
        let secret = |key: &SecretKey| {
            let secret = secrets.get(&key.secret)?;
            secret.data.as_ref()?.get(&key.key).map(|bytes| bytes.0.clone())
        };
        let connection = Connection::resolve(&policy.prometheus, secret).map_err(|error| reason(&error))?;
        let client = self.client(connection).map_err(|error| reason(&error))?;
        Ok(Box::new(Server::new(client, policy, namespace)))
    }
}

impl Loads for Servers {
    fn connect<'a>(
        &'a self,
        kube: &'a Kube,
        namespace: &'a str,
        policy: &'a ClusterPolicy,
    ) -> BoxFuture<'a, Result<Box<dyn Load>, Reason>> {
        self.connected(kube, namespace, policy).boxed()
    }
}

/// The Secrets that have these keys, by name.
///
/// # Errors
/// If one of them cannot be read.
pub async fn secrets(
    kube: &Kube,
    namespace: &str,
    keys: &[&SecretKey],
) -> Result<BTreeMap<String, Secret>, Fault> {
    let api: Api<Secret> = Api::namespaced(kube.clone(), namespace);
    let mut secrets = BTreeMap::new();
    for key in keys {
        if !secrets.contains_key(&key.secret) {
            let what = format!("Secret {namespace}/{}", key.secret);
            secrets.insert(key.secret.clone(), bounded(&what, api.get(&key.secret)).await?);
        }
    }
    Ok(secrets)
}

fn reason(error: &QueryError) -> Reason {
    Reason::new(error.kind.code(), error.to_string())
}

/// The load that one server knows.
struct Server {
    client: Client,
    queries: Queries,
    stale_after: jiff::SignedDuration,
}

impl Server {
    fn new(client: Client, policy: &ClusterPolicy, namespace: &str) -> Self {
        let queries = Queries::new(policy, Some(namespace));
        Self { client, queries, stale_after: policy.prometheus.stale_after }
    }
}

/// The load that the server of this client knows, whatever server a policy names.
pub struct OneServer(pub Client);

impl Loads for OneServer {
    fn connect<'a>(
        &'a self,
        _: &'a Kube,
        namespace: &'a str,
        policy: &'a ClusterPolicy,
    ) -> BoxFuture<'a, Result<Box<dyn Load>, Reason>> {
        let server: Box<dyn Load> = Box::new(Server::new(self.0.clone(), policy, namespace));
        futures::future::ready(Ok(server)).boxed()
    }
}

impl Load for Server {
    fn observe(&self, known: Known) -> BoxFuture<'_, Result<Observation, Reason>> {
        async move {
            let observation = self.client.observe(&self.queries, self.stale_after, &known).await;
            observation.map_err(|error| reason(&error))
        }
        .boxed()
    }

    fn history(&self, from: Timestamp, now: Timestamp) -> BoxFuture<'_, Result<Series, Reason>> {
        let range = now.duration_since(from);
        let past = Past { from, ..Past::of_rate(now, range, Step::MINUTE, self.queries.window()) };
        async move {
            let history = self.client.history(&self.queries.demand(), past).await;
            history.map_err(|error| reason(&error))
        }
        .boxed()
    }
}
