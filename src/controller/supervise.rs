//! Watches the policies and gives each one a task of its own.

use std::collections::{HashMap, HashSet};
use std::hash::Hasher;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use fnv::FnvHasher;
use futures::future::FutureExt;
use futures::stream::{SelectAll, StreamExt};
use kube::api::Api;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_all};
use kube::{Client, ResourceExt};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::clock::Clock;
use super::keeper::{Context, Keeper, Next};
use super::{Options, until};
use crate::policy::MilvusAutoscaler;
use crate::telemetry::{Health, Object};

/// How long one cycle may take, whatever happens in it.
const CYCLE: Duration = Duration::from_secs(45);
/// The first pause after a fault; it doubles up to the interval.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// How long keepers have to put their state away when the controller stops.
const FAREWELL: Duration = Duration::from_secs(10);

type Key = (String, String);
type Versions = watch::Sender<Option<Arc<MilvusAutoscaler>>>;

/// Keeps every policy until `stopped`.
pub(super) async fn supervise(
    context: &Arc<Context>,
    options: &Options,
    health: &Health,
    stopped: watch::Receiver<bool>,
) {
    let mut keepers = Keepers {
        context: Arc::clone(context),
        interval: options.interval,
        stopped: stopped.clone(),
        known: HashMap::new(),
        listed: HashMap::new(),
        tasks: JoinSet::new(),
    };
    let mut events = watch_policies(&context.client, &options.namespaces);
    let mut stop = pin!(until(stopped));
    let mut lists = options.namespaces.len().max(1);
    loop {
        let event = futures::select_biased! {
            () = stop.as_mut().fuse() => break,
            event = events.next().fuse() => event,
        };
        match event {
            Some((scope, Ok(event))) => {
                if matches!(event, Event::InitDone) {
                    lists = lists.saturating_sub(1);
                }
                keepers.take(&scope, event);
                if lists == 0 {
                    health.set_ready();
                }
            }
            Some((_, Err(error))) => warn!(%error, "policies cannot be watched; trying again"),
            None => {
                error!("the watch of policies has ended");
                health.set_stuck(true);
                break;
            }
        }
        keepers.reap();
    }
    keepers.stop().await;
}

/// What one watch sees: a namespace, or all of them.
type Scope = Option<String>;
type Seen = (Scope, Result<Event<MilvusAutoscaler>, watcher::Error>);
type Events = SelectAll<futures::stream::BoxStream<'static, Seen>>;

fn watch_policies(client: &Client, namespaces: &[String]) -> Events {
    let scopes: Vec<Scope> =
        if namespaces.is_empty() { vec![None] } else { namespaces.iter().cloned().map(Some).collect() };
    let watched = scopes.into_iter().map(|scope| {
        let api: Api<MilvusAutoscaler> = match &scope {
            None => Api::all(client.clone()),
            Some(namespace) => Api::namespaced(client.clone(), namespace),
        };
        let events = watch_all(api, watcher::Config::default()).default_backoff();
        events.map(move |event| (scope.clone(), event)).boxed()
    });
    futures::stream::select_all(watched)
}

/// The tasks, one a policy.
struct Keepers {
    context: Arc<Context>,
    interval: Duration,
    stopped: watch::Receiver<bool>,
    known: HashMap<Key, (Option<String>, Versions)>,
    /// What a new list has brought so far, by what is listed.
    listed: HashMap<Scope, HashSet<Key>>,
    tasks: JoinSet<()>,
}

impl Keepers {
    fn take(&mut self, scope: &Scope, event: Event<MilvusAutoscaler>) {
        match event {
            Event::Init => drop(self.listed.insert(scope.clone(), HashSet::new())),
            Event::InitApply(resource) => {
                if let Some(listed) = self.listed.get_mut(scope) {
                    listed.insert(key(&resource));
                }
                self.apply(resource);
            }
            Event::InitDone => self.forget_unlisted(scope),
            Event::Apply(resource) => self.apply(resource),
            Event::Delete(resource) => self.forget(&key(&resource)),
        }
    }

    fn apply(&mut self, resource: MilvusAutoscaler) {
        let (key, uid) = (key(&resource), resource.uid());
        let resource = Arc::new(resource);
        match self.known.get(&key) {
            // The same object: its keeper takes the new version.
            Some((known, versions)) if *known == uid => {
                versions.send_replace(Some(resource));
            }
            _ => {
                let (versions, taken) = watch::channel(Some(Arc::clone(&resource)));
                let keeper = Keeper::new(Arc::clone(&self.context), resource);
                let delay = phase(&key, self.interval);
                let rhythm = Rhythm::new(Arc::clone(&self.context.clock), self.interval, delay);
                self.tasks.spawn(keep(keeper, taken, rhythm, self.stopped.clone()));
                self.known.insert(key, (uid, versions));
            }
        }
    }

    /// A keeper ends when its sender goes.
    fn forget(&mut self, key: &Key) {
        self.known.remove(key);
    }

    /// Forgets what was deleted while nobody watched: what a list of its scope does not have any more.
    fn forget_unlisted(&mut self, scope: &Scope) {
        let Some(listed) = self.listed.remove(scope) else { return };
        let is_of = |key: &Key| scope.as_ref().is_none_or(|namespace| *namespace == key.0);
        self.known.retain(|key, _| listed.contains(key) || !is_of(key));
    }

    /// Notices tasks that have ended, in whatever way.
    fn reap(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            if let Err(error) = ended {
                error!(%error, "a policy's task has failed");
            }
        }
    }

    async fn stop(mut self) {
        let farewell = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
            warn!("not every policy could put its history away in time");
        }
    }
}

fn key(resource: &MilvusAutoscaler) -> Key {
    (resource.namespace().unwrap_or_default(), resource.name_any())
}

/// The first cycle comes soon, and the cycles of many policies spread over the interval, the same way in each run.
fn phase(key: &Key, interval: Duration) -> Duration {
    let mut hasher = FnvHasher::default();
    hasher.write(key.0.as_bytes());
    hasher.write(b"/");
    hasher.write(key.1.as_bytes());
    // Multiplied, as names that differ at their end differ in the hash's low bits.
    let mixed = hasher.finish().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let share = (mixed >> 11) as f64 / (1_u64 << 53) as f64;
    interval.mul_f64(share)
}

/// When the cycles of one policy are due: on the grid `start + phase + n × interval`, and sooner after a fault.
struct Rhythm {
    clock: Arc<dyn Clock>,
    interval: Duration,
    phase: Duration,
    start: Instant,
    /// The next pause after a fault.
    retry: Duration,
}

impl Rhythm {
    fn new(clock: Arc<dyn Clock>, interval: Duration, phase: Duration) -> Self {
        Self { clock, interval, phase, start: Instant::now(), retry: FIRST_RETRY }
    }

    /// The pause before the very first cycle: it comes at once, within a tenth of the interval.
    fn first(&self) -> Duration {
        self.phase / 10
    }

    fn regular(&mut self) -> Duration {
        self.retry = FIRST_RETRY;
        until_next(self.start.elapsed(), self.phase, self.interval)
    }

    fn soon(&mut self) -> Duration {
        let pause = jittered(self.retry).min(self.interval);
        self.retry = (self.retry * 2).min(self.interval);
        pause
    }
}

/// The task of one policy: cycles until the policy is gone or the controller stops.
async fn keep(
    mut keeper: Keeper,
    mut versions: watch::Receiver<Option<Arc<MilvusAutoscaler>>>,
    mut rhythm: Rhythm,
    stopped: watch::Receiver<bool>,
) {
    let mut stop = pin!(until(stopped).fuse());
    let mut pause = rhythm.clock.sleep(rhythm.first());
    loop {
        tokio::select! {
            () = &mut stop => {
                keeper.put_away_now().await;
                return;
            }
            changed = changed(&mut versions, &mut keeper) => match changed {
                Change::Gone => break,
                Change::Status => continue,
                Change::Meaning => {}
            },
            () = &mut pause => {}
        }
        let next = tokio::time::timeout(CYCLE, keeper.cycle(rhythm.clock.now())).await;
        let until_due = match next {
            Ok(Next::Gone) => break,
            Ok(Next::Regular) => rhythm.regular(),
            Ok(Next::Soon) => rhythm.soon(),
            Err(_) => {
                keeper.note_timeout();
                rhythm.regular()
            }
        };
        pause = rhythm.clock.sleep(until_due);
    }
    keeper.forget();
    let Object { namespace, name } = keeper.object();
    info!(namespace, name, "the policy is gone");
}

/// What a new version of a policy changes.
enum Change {
    /// It is gone.
    Gone,
    /// Its status alone: often our own write.
    Status,
    /// What it asks for: a cycle is due at once.
    Meaning,
}

async fn changed(
    versions: &mut watch::Receiver<Option<Arc<MilvusAutoscaler>>>,
    keeper: &mut Keeper,
) -> Change {
    if versions.changed().await.is_err() {
        return Change::Gone;
    }
    let version = versions.borrow_and_update().clone();
    let matters = version.is_some_and(|resource| keeper.update(resource));
    if matters { Change::Meaning } else { Change::Status }
}

/// Time until the next point of the grid `phase + n × interval`.
fn until_next(since: Duration, phase: Duration, interval: Duration) -> Duration {
    let since = since.as_nanos();
    let (interval, phase) = (interval.as_nanos().max(1), phase.as_nanos());
    let rest = interval - (since + interval - phase % interval) % interval;
    Duration::from_nanos(u64::try_from(rest).unwrap_or(u64::MAX))
}

/// Between half and all of `pause`.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_policies_spread_over_the_interval() {
        let interval = Duration::from_secs(30);
        let mut thirds = [0; 3];
        for number in 0..300 {
            let phase = phase(&("milvus".to_owned(), format!("policy-{number}")), interval);
            thirds[usize::try_from(phase.as_secs() / 10).unwrap()] += 1;
        }
        assert!(thirds.iter().all(|count| *count > 60), "{thirds:?}");
    }
}
