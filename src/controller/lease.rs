//! Who writes: the holder of a Lease. Every process computes, only the holder writes.
//!
//! [`evaluate`] is pure: what the Lease says, who I am, what time it is, what to do. A process trusts its own clock
//! alone: a Lease is stale when it has not *changed* for as long as it is good for, whatever times are written in it,
//! so clocks that differ between machines do no harm. Writes are conditioned on the Lease's resource version, so of
//! two that try at once one succeeds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Client;
use kube::api::{Api, PostParams};
use std::sync::Mutex;
use tracing::{info, warn};

use super::clock;
use crate::actuate::{Fault, FaultKind, bounded};

/// How long a Lease is good for after its holder renewed it.
const DURATION: Duration = Duration::from_secs(15);
/// How long its holder goes on writing without having renewed it: less, so that two never write at once. A write that
/// begins at the last moment has ended, one way or the other, before the Lease is stale.
const WRITES_FOR: Duration = Duration::from_secs(9);
/// How often it is looked at.
const INTERVAL: Duration = Duration::from_secs(2);

/// A Lease as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Who holds it; `None` if it was released.
    pub holder: Option<String>,
    /// What changes with every renewal.
    pub version: String,
    /// How often it has changed hands.
    pub transitions: i32,
    /// How long it is good for, as its holder says.
    pub duration: Duration,
    /// When this version was first seen, by this process's own clock.
    pub since: Instant,
}

/// What to do about the Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There is none: make it.
    Create,
    /// It is mine: renew it.
    Renew,
    /// It is nobody's any more: take it.
    Take,
    /// It is somebody else's.
    Wait,
}

/// What `me` should do about the Lease at `now`.
#[must_use]
pub fn evaluate(lease: Option<&Seen>, me: &str, now: Instant) -> Step {
    match lease {
        None => Step::Create,
        Some(lease) => match lease.holder.as_deref() {
            Some(holder) if holder == me => Step::Renew,
            None | Some("") => Step::Take,
            Some(_) if now.saturating_duration_since(lease.since) > lease.duration => Step::Take,
            Some(_) => Step::Wait,
        },
    }
}

/// How long to wait before looking at the Lease again: never past the moment at which somebody else's becomes stale.
fn pause(lease: Option<&Seen>, me: &str, now: Instant) -> Duration {
    let others = lease.filter(|lease| lease.holder.as_deref().is_some_and(|holder| holder != me));
    let Some(lease) = others else { return INTERVAL };
    match lease.duration.checked_sub(now.saturating_duration_since(lease.since)) {
        // A moment longer, as it is stale only when its time is over.
        Some(rest) => (rest + Duration::from_millis(10)).min(INTERVAL),
        None => INTERVAL,
    }
}

/// Whether this process may write.
#[derive(Debug, Clone, Default)]
pub struct Leadership {
    renewed: Arc<Mutex<Option<Instant>>>,
    always: Arc<AtomicBool>,
}

impl Leadership {
    /// Leadership without a Lease, for one process alone.
    #[must_use]
    pub fn always() -> Self {
        Self { renewed: Arc::default(), always: Arc::new(AtomicBool::new(true)) }
    }

    /// Whether this process may write now.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.always.load(Ordering::Relaxed) || self.holds_at(Instant::now())
    }

    fn holds_at(&self, now: Instant) -> bool {
        let renewed = self.renewed.lock().ok().and_then(|renewed| *renewed);
        renewed.is_some_and(|renewed| now.saturating_duration_since(renewed) < WRITES_FOR)
    }

    fn set(&self, renewed: Option<Instant>) {
        if let Ok(mut held) = self.renewed.lock() {
            *held = renewed;
        }
    }
}

/// One process's part in the election.
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    me: String,
    leadership: Leadership,
    seen: Option<Seen>,
}

impl Candidate {
    /// `me` in the election for the Lease `namespace`/`name`.
    #[must_use]
    pub fn new(client: &Client, namespace: &str, name: &str, me: String) -> Self {
        Self {
            api: Api::namespaced(client.clone(), namespace),
            name: name.to_owned(),
            me,
            leadership: Leadership::default(),
            seen: None,
        }
    }

    /// Whether this process may write, now and later.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    /// Takes part until `shutdown`, and then gives the Lease back.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>, changed: impl Fn(bool)) {
        tokio::pin!(shutdown);
        let mut led = false;
        loop {
            if let Err(fault) = self.turn().await
                && fault.kind != FaultKind::Conflict
            {
                warn!(lease = self.name, error = %fault, "cannot take part in the election");
            }
            let leads = self.leadership.holds();
            if leads != led {
                info!(lease = self.name, identity = self.me, leads, "leadership changed");
                changed(leads);
                led = leads;
            }
            tokio::select! {
                () = tokio::time::sleep(pause(self.seen.as_ref(), &self.me, Instant::now())) => {}
                () = &mut shutdown => break,
            }
        }
        self.leadership.set(None);
        changed(false);
        if let Err(fault) = self.release().await {
            warn!(lease = self.name, error = %fault, "could not give the lease back");
        }
    }

    /// Looks at the Lease and does what is to be done.
    async fn turn(&mut self) -> Result<(), Fault> {
        let what = format!("Lease {}", self.name);
        let lease = bounded(&what, self.api.get_opt(&self.name)).await?;
        // Counted from before the write: the Lease is good for at least so long.
        let now = Instant::now();
        self.see(lease.as_ref(), now);
        match evaluate(self.seen.as_ref(), &self.me, now) {
            Step::Wait => self.leadership.set(None),
            Step::Create => self.create(now).await?,
            Step::Renew => self.write(lease, now, false).await?,
            Step::Take => self.write(lease, now, true).await?,
        }
        Ok(())
    }

    /// Notes what the Lease says, and since when it has said so.
    fn see(&mut self, lease: Option<&Lease>, now: Instant) {
        let Some(lease) = lease else {
            self.seen = None;
            return;
        };
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let since = self.seen.as_ref().filter(|seen| seen.version == version).map_or(now, |seen| seen.since);
        let spec = lease.spec.as_ref();
        let seconds = spec.and_then(|spec| spec.lease_duration_seconds);
        let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
        self.seen = Some(Seen {
            holder: spec.and_then(|spec| spec.holder_identity.clone()),
            transitions: spec.and_then(|spec| spec.lease_transitions).unwrap_or(0),
            duration: seconds.map_or(DURATION, Duration::from_secs),
            version,
            since,
        });
    }

    async fn create(&mut self, now: Instant) -> Result<(), Fault> {
        let moment = MicroTime(clock::now());
        let lease = Lease {
            metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
            spec: Some(self.spec(moment.0, Some(moment), 0)),
        };
        let what = format!("Lease {}", self.name);
        let written = bounded(&what, self.api.create(&PostParams::default(), &lease)).await?;
        self.leadership.set(Some(now));
        self.see(Some(&written), now);
        Ok(())
    }

    async fn write(&mut self, lease: Option<Lease>, now: Instant, takes: bool) -> Result<(), Fault> {
        let Some(mut lease) = lease else { return Ok(()) };
        let moment = clock::now();
        let old = lease.spec.take().unwrap_or_default();
        let acquired = if takes { Some(MicroTime(moment)) } else { old.acquire_time };
        let transitions = old.lease_transitions.unwrap_or(0) + i32::from(takes);
        lease.spec = Some(self.spec(moment, acquired, transitions));
        // With its resource version: whoever else wrote meanwhile wins.
        let what = format!("Lease {}", self.name);
        match bounded(&what, self.api.replace(&self.name, &PostParams::default(), &lease)).await {
            Ok(written) => {
                self.leadership.set(Some(now));
                self.see(Some(&written), now);
                Ok(())
            }
            Err(fault) => {
                if fault.kind == FaultKind::Conflict {
                    self.leadership.set(None);
                }
                Err(fault)
            }
        }
    }

    fn spec(&self, renewed: Timestamp, acquired: Option<MicroTime>, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: Some(i32::try_from(DURATION.as_secs()).unwrap_or(i32::MAX)),
            acquire_time: acquired,
            renew_time: Some(MicroTime(renewed)),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// Gives the Lease back, so that another need not wait.
    async fn release(&mut self) -> Result<(), Fault> {
        let what = format!("Lease {}", self.name);
        let Some(mut lease) = bounded(&what, self.api.get_opt(&self.name)).await? else { return Ok(()) };
        let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_deref() == Some(&self.me))
        else {
            return Ok(());
        };
        spec.holder_identity = None;
        spec.renew_time = Some(MicroTime(clock::now()));
        bounded(&what, self.api.replace(&self.name, &PostParams::default(), &lease)).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(holder: Option<&str>, since: Instant) -> Seen {
        Seen {
            holder: holder.map(str::to_owned),
            version: "1".into(),
            transitions: 0,
            duration: Duration::from_secs(15),
            since,
        }
    }

    #[test]
    fn the_lease_goes_to_one_at_a_time() {
        let start = Instant::now();
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        assert_eq!(evaluate(None, "a", start), Step::Create);
        let held = seen(Some("a"), start);
        assert_eq!(evaluate(Some(&held), "a", after(100)), Step::Renew);
        assert_eq!(evaluate(Some(&held), "b", after(15)), Step::Wait);
        assert_eq!(evaluate(Some(&held), "b", after(16)), Step::Take);
        assert_eq!(evaluate(Some(&seen(None, start)), "b", start), Step::Take);
        assert_eq!(evaluate(Some(&seen(Some(""), start)), "b", start), Step::Take);
        // A clock that goes back never makes a lease stale.
        assert_eq!(evaluate(Some(&seen(Some("a"), after(60))), "b", start), Step::Wait);
    }

    #[test]
    fn a_stale_lease_is_noticed_at_once() {
        let start = Instant::now();
        let pause_at = |milliseconds: u64, holder: &str| {
            pause(Some(&seen(Some(holder), start)), "b", start + Duration::from_millis(milliseconds))
        };
        assert_eq!(pause_at(0, "a"), INTERVAL);
        assert_eq!(pause_at(14_500, "a"), Duration::from_millis(510));
        assert_eq!(pause_at(14_500, "b"), INTERVAL);
        // It was stale, and could not be taken: no reason to hurry.
        assert_eq!(pause_at(20_000, "a"), INTERVAL);
        assert_eq!(pause(None, "b", start), INTERVAL);
    }

    #[test]
    fn whoever_cannot_renew_stops_writing_before_another_begins() {
        let leadership = Leadership::default();
        let start = Instant::now();
        assert!(!leadership.holds_at(start));
        leadership.set(Some(start));
        assert!(leadership.holds_at(start + Duration::from_secs(8)));
        assert!(!leadership.holds_at(start + WRITES_FOR));
        assert!(WRITES_FOR + crate::actuate::REQUEST_TIMEOUT < DURATION);
        leadership.set(None);
        assert!(!leadership.holds_at(start));
    }
}
