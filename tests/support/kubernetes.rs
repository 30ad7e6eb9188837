//! A real Kubernetes control plane: etcd, kube-apiserver (RBAC, audit log,
//! aggregation) and kube-controller-manager with the controllers that an
//! autoscaler meets. There are no nodes and no scheduler; [`super::kubelet`]
//! plays the kubelet.

use super::process::Process;
use super::{Folder, crypto, eventually, free_port, part};
use axum::http::Request;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{Api, ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const ADMIN: &str = "admin-of-the-test-cluster";
const CONTROLLER_MANAGER: &str = "controller-manager-of-the-test-cluster";
const START: Duration = Duration::from_secs(90);

/// As they are called in `kube-controller-manager --controllers`.
const CONTROLLERS: &str = "deployment-controller,replicaset-controller,statefulset-controller,\
    horizontal-pod-autoscaler-controller,serviceaccount-controller,serviceaccount-token-controller,\
    namespace-controller,garbage-collector-controller,endpointslice-controller,disruption-controller,\
    root-ca-certificate-publisher-controller,clusterrole-aggregation-controller";

/// What is sped up for tests, or watched more closely.
#[derive(Clone, Debug)]
pub struct Options {
    /// How often the HPA controller looks; 15 s in a cluster.
    pub hpa_sync: Duration,
    /// The HPA's default stabilisation window for scaling in (an HPA's own
    /// `behavior` outranks it); 5 min in a cluster.
    pub hpa_downscale_stabilization: Duration,
    /// Whether the audit log holds reads as well as writes.
    pub audit_reads: bool,
    /// Further arguments of the API server.
    pub api_server: Vec<String>,
    /// Further arguments of the controller manager.
    pub controller_manager: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            hpa_sync: Duration::from_secs(1),
            hpa_downscale_stabilization: Duration::from_secs(5),
            audit_reads: false,
            api_server: Vec::new(),
            controller_manager: Vec::new(),
        }
    }
}

pub struct Kubernetes {
    controller_manager: Option<Process>,
    api_server: Option<Process>,
    etcd: Process,
    _data: Folder,
    folder: Folder,
    options: Options,
    binaries: PathBuf,
    port: u16,
    etcd_port: u16,
}

impl Kubernetes {
    pub async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    /// Ready when it returns: the API server answers and the default service
    /// account is there, so that pods can be made.
    pub async fn start_with(options: Options) -> Self {
        crypto();
        let binaries = part("KUBEBUILDER_ASSETS", "kubernetes", "kubernetes");
        for name in ["etcd", "kube-apiserver", "kube-controller-manager"] {
            assert!(
                binaries.join(name).exists(),
                "{} has no {name}: run `eval \"$(tests/real/setup kubernetes)\"`, which builds it",
                binaries.display()
            );
        }
        let folder = Folder::new("kubernetes");
        let data = Folder::in_memory("etcd");
        let (port, etcd_port) = (free_port(), free_port());
        certificates(folder.path());
        std::fs::write(folder.path().join("audit.yaml"), audit_policy(options.audit_reads)).unwrap();
        std::fs::write(
            folder.path().join("tokens.csv"),
            format!(
                "{ADMIN},admin,admin,\"system:masters\"\n{CONTROLLER_MANAGER},system:kube-controller-manager,kcm\n"
            ),
        )
        .unwrap();
        write_kubeconfig(folder.path(), "kubeconfig", port, ADMIN);
        write_kubeconfig(folder.path(), "controller-manager.kubeconfig", port, CONTROLLER_MANAGER);

        let etcd = start_etcd(&binaries, folder.path(), data.path(), etcd_port);
        let mut cluster = Self {
            controller_manager: None,
            api_server: None,
            etcd,
            _data: data,
            folder,
            options,
            binaries,
            port,
            etcd_port,
        };
        cluster.start_api_server().await;
        cluster.start_controller_manager();
        let accounts: Api<ServiceAccount> = Api::default_namespaced(cluster.client().await);
        let deadline = Instant::now() + START;
        while let Err(error) = accounts.get("default").await {
            cluster.controller_manager.as_mut().unwrap().assert_running();
            assert!(Instant::now() < deadline, "no default service account: {error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        cluster
    }

    /// An administrator's kubeconfig, for programs.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    pub fn ca_certificate(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// An administrator's client. It belongs to the runtime that it is made in.
    pub async fn client(&self) -> Client {
        client(&self.kubeconfig()).await
    }

    /// A kubeconfig with the rights of a service account and no others.
    pub async fn kubeconfig_of(&self, namespace: &str, service_account: &str) -> PathBuf {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await, namespace);
        let request = TokenRequest {
            spec: TokenRequestSpec { expiration_seconds: Some(24 * 3600), ..TokenRequestSpec::default() },
            ..TokenRequest::default()
        };
        let answer = accounts.create_token_request(service_account, &PostParams::default(), &request).await;
        let token = answer.unwrap().status.unwrap().token;
        let name = format!("{namespace}-{service_account}.kubeconfig");
        write_kubeconfig(self.folder.path(), &name, self.port, &token)
    }

    pub async fn namespace(&self, name: &str) {
        let namespaces: Api<Namespace> = Api::all(self.client().await);
        let namespace = Namespace {
            metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        namespaces.create(&PostParams::default(), &namespace).await.unwrap();
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await, name);
        eventually("the namespace's service account", START, || async {
            accounts.get("default").await.map_err(|error| error.to_string())
        })
        .await;
    }

    /// The audit log as it is now: an event for each write that was answered,
    /// with `requestObject` where it concerns a workload or an autoscaler. Reads
    /// are in it with [`Options::audit_reads`].
    pub fn audit(&self) -> Vec<Value> {
        let log = std::fs::read_to_string(self.folder.path().join("audit.log")).unwrap_or_default();
        // The last line may be only half written.
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Writes to a resource (`deployments`, `horizontalpodautoscalers`, …) and
    /// its subresources, as (user, verb, subresource).
    pub fn writes(&self, resource: &str) -> Vec<(String, String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        self.audit()
            .iter()
            .filter(|event| event["objectRef"]["resource"] == resource)
            .filter(|event| !matches!(event["verb"].as_str(), Some("get" | "list" | "watch")))
            .map(|event| {
                (
                    text(&event["user"]["username"]),
                    text(&event["verb"]),
                    text(&event["objectRef"]["subresource"]),
                )
            })
            .collect()
    }

    /// Takes the API server away, as `kill -9` does. Data and port stay for
    /// [`Self::start_api_server`].
    pub fn stop_api_server(&mut self) {
        self.api_server = None;
    }

    /// Lets the API server hang: connections are taken and nothing is answered.
    pub fn pause_api_server(&mut self) {
        self.api_server.as_mut().unwrap().signal("STOP");
    }

    pub fn resume_api_server(&mut self) {
        self.api_server.as_mut().unwrap().signal("CONT");
    }

    pub async fn start_api_server(&mut self) {
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        let mut arguments = vec![
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=127.0.0.1".into(),
            format!("--secure-port={}", self.port),
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port),
            format!("--tls-cert-file={}", file("server.crt")),
            format!("--tls-private-key-file={}", file("server.key")),
            format!("--token-auth-file={}", file("tokens.csv")),
            "--authorization-mode=RBAC".into(),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            format!("--service-account-signing-key-file={}", file("server.key")),
            format!("--service-account-key-file={}", file("server.crt")),
            "--service-cluster-ip-range=10.96.0.0/16".into(),
            // The aggregation layer, for resource metrics.
            format!("--client-ca-file={}", file("ca.crt")),
            format!("--requestheader-client-ca-file={}", file("ca.crt")),
            "--requestheader-username-headers=X-Remote-User".into(),
            "--requestheader-group-headers=X-Remote-Group".into(),
            "--requestheader-extra-headers-prefix=X-Remote-Extra-".into(),
            format!("--proxy-client-cert-file={}", file("server.crt")),
            format!("--proxy-client-key-file={}", file("server.key")),
            format!("--audit-policy-file={}", file("audit.yaml")),
            format!("--audit-log-path={}", file("audit.log")),
            "--endpoint-reconciler-type=none".into(),
            "--profiling=false".into(),
        ];
        arguments.extend(self.options.api_server.iter().cloned());
        let program = self.binaries.join("kube-apiserver");
        let mut server = Process::start("kube-apiserver", self.folder.path(), &program, &arguments, &[]);
        let client = self.client().await;
        let request = || Request::get("/readyz").body(Vec::new()).unwrap();
        let deadline = Instant::now() + START;
        loop {
            server.assert_running();
            self.etcd.assert_running();
            let ready = tokio::time::timeout(Duration::from_secs(5), client.request_text(request())).await;
            if matches!(ready, Ok(Ok(_))) {
                break;
            }
            assert!(Instant::now() < deadline, "the API server is not ready: {ready:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.api_server = Some(server);
    }

    pub fn stop_controller_manager(&mut self) {
        self.controller_manager = None;
    }

    pub fn start_controller_manager(&mut self) {
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        let milliseconds = |time: Duration| format!("{}ms", time.as_millis());
        let mut arguments = vec![
            format!("--kubeconfig={}", file("controller-manager.kubeconfig")),
            "--secure-port=0".to_owned(),
            "--leader-elect=false".into(),
            // Each controller is a service account of its own, as in a cluster:
            // real rights, and the audit log tells them apart.
            "--use-service-account-credentials".into(),
            format!("--service-account-private-key-file={}", file("server.key")),
            format!("--root-ca-file={}", file("ca.crt")),
            format!("--controllers={CONTROLLERS}"),
            "--kube-api-qps=500".into(),
            "--kube-api-burst=1000".into(),
            format!("--horizontal-pod-autoscaler-sync-period={}", milliseconds(self.options.hpa_sync)),
            format!(
                "--horizontal-pod-autoscaler-downscale-stabilization={}",
                milliseconds(self.options.hpa_downscale_stabilization)
            ),
            // A simulated pod has true metrics from its first second.
            "--horizontal-pod-autoscaler-cpu-initialization-period=1s".into(),
            "--horizontal-pod-autoscaler-initial-readiness-delay=1s".into(),
        ];
        arguments.extend(self.options.controller_manager.iter().cloned());
        let program = self.binaries.join("kube-controller-manager");
        let process =
            Process::start("kube-controller-manager", self.folder.path(), &program, &arguments, &[]);
        self.controller_manager = Some(process);
    }

    /// Runs kubectl as administrator; its output.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let kubectl = part("KUBECTL", "kubectl/kubectl", "kubectl");
        let run = Command::new(kubectl)
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .args(arguments)
            .output()
            .unwrap();
        assert!(
            run.status.success(),
            "kubectl {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&run.stderr)
        );
        String::from_utf8(run.stdout).unwrap()
    }
}

/// A client from a kubeconfig, in the runtime at hand.
pub async fn client(kubeconfig: &Path) -> Client {
    crypto();
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

fn start_etcd(binaries: &Path, folder: &Path, data: &Path, port: u16) -> Process {
    let client = format!("http://127.0.0.1:{port}");
    let peer = format!("http://127.0.0.1:{}", free_port());
    let arguments = [
        format!("--data-dir={}", data.join("data").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        "--log-level=warn".to_owned(),
    ];
    Process::start("etcd", folder, &binaries.join("etcd"), &arguments, &[])
}

fn write_kubeconfig(folder: &Path, name: &str, port: u16, token: &str) -> PathBuf {
    let path = folder.join(name);
    let authority = folder.join("ca.crt");
    let text = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {
            "server": format!("https://127.0.0.1:{port}"), "certificate-authority": authority}}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    });
    std::fs::write(&path, text.to_string()).unwrap();
    path
}

/// An authority, and one certificate for all servers of the cluster.
/// An authority (`ca.crt`) and a server's certificate that it signed (`server.crt`, `server.key`).
pub fn certificates(folder: &Path) {
    std::fs::write(
        folder.join("server.ext"),
        "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=CA:FALSE\n",
    )
    .unwrap();
    let curve = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    for line in [
        format!("req -x509 {curve} -keyout ca.key -out ca.crt -days 3 -subj /CN=test-authority"),
        format!("req {curve} -keyout server.key -out server.csr -subj /CN=test-server"),
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 3 -extfile server.ext -out server.crt"
            .to_owned(),
    ] {
        let run = Command::new("openssl").args(line.split(' ')).current_dir(folder).output();
        let run = run.unwrap_or_else(|error| panic!("openssl is needed to make certificates: {error}"));
        assert!(run.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&run.stderr));
    }
}

/// Whole requests where it matters who wrote what; who and when elsewhere.
fn audit_policy(reads: bool) -> String {
    let writes = "[create, update, patch, delete, deletecollection]";
    let mut policy = format!(
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n\
         - level: Request\n  verbs: {writes}\n  resources:\n  - group: apps\n  - group: autoscaling\n  \
         - group: keda.sh\n  - group: milvus.io\n  - group: milvus-autoscaler.io\n  \
         - group: coordination.k8s.io\n\
         - level: Metadata\n  verbs: {writes}\n"
    );
    if reads {
        policy.push_str("- level: Metadata\n  verbs: [get, list, watch]\n\n");
    }
    policy
}
