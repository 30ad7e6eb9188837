//! From what was written to what it means: texts parsed, defaults filled in, everything checked.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use jiff::SignedDuration;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::error::Problem;
use super::resource::{
    BehaviorSpec, CapacitySpec, CurvePointSpec, DemandSpec, EventSpec, ForecastSpec, HeaderSpec,
    MOST_REPLICAS, MilvusAutoscaler, PrometheusSpec, ScaleTargetRef, ScalingPolicyKind, ScalingPolicySpec,
    ScalingRulesSpec, ScheduleSpec, SecretKeyRef, SelectPolicySpec, SloSpec, TargetKind,
};
use super::text::{DaysText, DurationText, KeyText, NameText, PercentText, duration_text, shown};
use super::{
    Auth, ClusterPolicy, Demand, GivenCapacity, HeaderValue, Policy, Prometheus, SecretKey, Slo, Target,
};
use crate::calendar::{Calendar, Event, Schedule, Schedules};
use crate::decide::behavior::{HpaBehavior, ScalingPolicy, ScalingRules, SelectPolicy};
use crate::units::{Qps, Ratio, Replicas};

const SECOND: SignedDuration = SignedDuration::from_secs(1);
const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const HOUR: SignedDuration = SignedDuration::from_hours(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// What `resource` means.
pub(super) fn validate(resource: &MilvusAutoscaler) -> Result<ClusterPolicy, Vec<Problem>> {
    let mut check = Check::default();
    let policy = check.cluster_policy(resource);
    if check.problems.is_empty() { Ok(policy) } else { Err(check.problems) }
}

/// Collects problems. Where there is one, a harmless value stands in, so that the rest is checked too.
#[derive(Default)]
struct Check {
    problems: Vec<Problem>,
}

impl Check {
    fn cluster_policy(&mut self, resource: &MilvusAutoscaler) -> ClusterPolicy {
        let spec = &resource.spec;
        ClusterPolicy {
            policy: self.policy(resource),
            target: self.target(&spec.scale_target_ref),
            hpa: spec.hpa_ref.as_ref().map(|hpa| self.object_name("spec.hpaRef.name", &hpa.name)),
            prometheus: self.prometheus(&spec.prometheus),
        }
    }

    fn policy(&mut self, resource: &MilvusAutoscaler) -> Policy {
        let spec = &resource.spec;
        let (min, max) = self.bounds("spec", spec.min_replicas, Some(spec.max_replicas));
        let default = Policy::with_bounds(min, max.unwrap_or(min));
        let capacity = spec.capacity.clone().unwrap_or_default();
        let memory = spec.memory.clone().unwrap_or_default();
        let forecast = spec.forecast.clone().unwrap_or_default();
        let slo = spec.slo.clone().unwrap_or_default();
        let history = forecast.history.as_ref();
        let calendar = self.calendar(&forecast);
        Policy {
            name: resource.metadata.name.clone().unwrap_or_default(),
            namespace: resource.metadata.namespace.clone(),
            mode: spec.mode,
            demand: self.demand(spec.demand.as_ref()),
            capacity: self.capacity(&capacity),
            target_utilization: self
                .percent("spec.capacity.targetUtilization", capacity.target_utilization.as_ref(), 0.1..=0.95)
                .unwrap_or(default.target_utilization),
            slo: self.slo(&slo, default.slo),
            lead_time: self.some_duration("spec.leadTime", spec.lead_time.as_ref(), SECOND..=DAY),
            history: self
                .some_duration("spec.forecast.history", history, DAY..=DAY * 366)
                .unwrap_or(default.history),
            schedules: self.schedules(spec, calendar.zone()),
            calendar,
            behavior: spec.behavior.as_ref().map_or(default.behavior, |behavior| self.behavior(behavior)),
            memory_utilization: self
                .percent("spec.memory.targetUtilization", memory.target_utilization.as_ref(), 0.1..=0.9)
                .unwrap_or(default.memory_utilization),
            ..default
        }
    }

    fn problem(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem::new(field, message));
    }

    /// The value of `result`; a problem with `field` if there is none.
    fn taken<T>(&mut self, field: &str, result: Result<T, impl ToString>) -> Option<T> {
        result.map_err(|message| self.problem(field, message.to_string())).ok()
    }

    fn duration(
        &mut self,
        field: &str,
        text: &DurationText,
        range: RangeInclusive<SignedDuration>,
    ) -> Option<SignedDuration> {
        let duration = self.taken(field, text.parse())?;
        if range.contains(&duration) {
            return Some(duration);
        }
        let (low, high) = (duration_text(*range.start()), duration_text(*range.end()));
        self.problem(field, format!("`{}` is not from {low} to {high}", shown(text.as_str())));
        None
    }

    fn some_duration(
        &mut self,
        field: &str,
        text: Option<&DurationText>,
        range: RangeInclusive<SignedDuration>,
    ) -> Option<SignedDuration> {
        text.and_then(|text| self.duration(field, text, range))
    }

    fn percent(
        &mut self,
        field: &str,
        text: Option<&PercentText>,
        range: RangeInclusive<f64>,
    ) -> Option<Ratio> {
        let text = text?;
        let ratio = self.taken(field, text.parse())?;
        if range.contains(&ratio.get()) {
            return Some(ratio);
        }
        let (low, high) = (Ratio::clamped(*range.start()), Ratio::clamped(*range.end()));
        self.problem(field, format!("`{}` is not from {low} to {high}", shown(text.as_str())));
        None
    }

    /// A rate above 0, or from 0 on if `zero` is allowed.
    fn rate(&mut self, field: &str, value: f64, zero: bool) -> Qps {
        match Qps::new(value) {
            Ok(rate) if zero || rate > Qps::ZERO => rate,
            _ => {
                let lowest = if zero { "0 or more" } else { "above 0" };
                self.problem(field, format!("{value} is not a rate; it must be a number {lowest}"));
                Qps::ZERO
            }
        }
    }

    fn replicas(&mut self, field: &str, value: i32) -> Replicas {
        if !(1..=MOST_REPLICAS).contains(&value) {
            self.problem(field, format!("{value} is not from 1 to {MOST_REPLICAS}"));
        }
        Replicas(u32::try_from(value.clamp(1, MOST_REPLICAS)).unwrap_or(1))
    }

    /// `minReplicas` and `maxReplicas` of `owner`.
    fn bounds(&mut self, owner: &str, min: i32, max: Option<i32>) -> (Replicas, Option<Replicas>) {
        let low = self.replicas(&format!("{owner}.minReplicas"), min);
        let high = max.map(|max| self.replicas(&format!("{owner}.maxReplicas"), max));
        if let Some(max) = max.filter(|max| min > *max) {
            self.problem(
                format!("{owner}.minReplicas"),
                format!("{min} is above maxReplicas {max}; lower it or raise maxReplicas"),
            );
        }
        (low, high)
    }

    fn target(&mut self, target: &ScaleTargetRef) -> Target {
        let wanted = match target.kind {
            TargetKind::Deployment | TargetKind::StatefulSet => "apps/v1",
            TargetKind::Milvus => "milvus.io/v1beta1",
        };
        if let Some(given) = target.api_version.as_deref().filter(|given| *given != wanted) {
            let kind = target.kind;
            self.problem(
                "spec.scaleTargetRef.apiVersion",
                format!("`{}` has no {kind:?} that can be scaled; write {wanted}", shown(given)),
            );
        }
        if target.query_node_group.is_some() && target.kind != TargetKind::Milvus {
            self.problem("spec.scaleTargetRef.queryNodeGroup", "is for kind Milvus only; remove it");
        }
        Target {
            kind: target.kind,
            name: self.object_name("spec.scaleTargetRef.name", &target.name),
            query_node_group: target.query_node_group.clone(),
        }
    }

    /// The name of a Kubernetes object.
    fn object_name(&mut self, field: &str, name: &NameText) -> String {
        self.taken(field, name.parse()).unwrap_or_default()
    }

    fn secret_key(&mut self, field: &str, secret: &SecretKeyRef) -> SecretKey {
        self.key_of(field, &secret.name, Some(&secret.key), "key", "")
    }

    /// Key `key` (in the resource: `key_field`) of Secret `name`.
    fn key_of(
        &mut self,
        field: &str,
        name: &NameText,
        key: Option<&KeyText>,
        key_field: &str,
        default: &str,
    ) -> SecretKey {
        let secret = self.object_name(&format!("{field}.name"), name);
        let key = key.map_or_else(|| Ok(default.to_owned()), KeyText::parse);
        SecretKey { secret, key: self.taken(&format!("{field}.{key_field}"), key).unwrap_or_default() }
    }

    fn prometheus(&mut self, spec: &PrometheusSpec) -> Prometheus {
        const FIELD: &str = "spec.prometheus";
        for name in spec.matchers.iter().flatten().map(|(name, _)| name).filter(|name| !is_label(name)) {
            self.problem(
                format!("{FIELD}.matchers"),
                format!("`{}` is no label name; use letters, digits and _, no digit first", shown(name)),
            );
        }
        if spec.tls.is_some() && !spec.url.starts_with("https://") {
            self.problem(
                format!("{FIELD}.tls"),
                "needs a url that starts with https://; correct url or remove tls",
            );
        }
        let ca = spec.tls.as_ref().map(|tls| &tls.ca_secret_ref).map(|ca| {
            self.key_of(&format!("{FIELD}.tls.caSecretRef"), &ca.name, ca.key.as_ref(), "key", "ca.crt")
        });
        Prometheus {
            url: self.url(&spec.url),
            matchers: spec.matchers.clone(),
            ca,
            auth: self.auth(spec),
            headers: self.headers(spec.headers.as_deref().unwrap_or_default()),
            timeout: self
                .some_duration(&format!("{FIELD}.timeout"), spec.timeout.as_ref(), SECOND..=MINUTE * 2)
                .unwrap_or(SECOND * 10),
            rate_window: self
                .some_duration(&format!("{FIELD}.rateWindow"), spec.rate_window.as_ref(), SECOND * 10..=HOUR)
                .unwrap_or(MINUTE * 2),
            stale_after: self
                .some_duration(&format!("{FIELD}.staleAfter"), spec.stale_after.as_ref(), SECOND * 30..=HOUR)
                .unwrap_or(MINUTE * 3),
        }
    }

    fn url(&mut self, text: &str) -> String {
        self.taken("spec.prometheus.url", address(text))
            .unwrap_or_else(|| text.trim_end_matches('/').to_owned())
    }

    fn auth(&mut self, spec: &PrometheusSpec) -> Option<Auth> {
        const BEARER: &str = "spec.prometheus.bearerTokenSecretRef";
        const BASIC: &str = "spec.prometheus.basicAuthSecretRef";
        if spec.bearer_token_secret_ref.is_some() && spec.basic_auth_secret_ref.is_some() {
            self.problem(BASIC, "excludes bearerTokenSecretRef; keep one of them");
        }
        let bearer =
            spec.bearer_token_secret_ref.as_ref().map(|token| Auth::Bearer(self.secret_key(BEARER, token)));
        let basic = spec.basic_auth_secret_ref.as_ref().map(|basic| Auth::Basic {
            username: self.key_of(BASIC, &basic.name, basic.username_key.as_ref(), "usernameKey", "username"),
            password: self.key_of(BASIC, &basic.name, basic.password_key.as_ref(), "passwordKey", "password"),
        });
        bearer.or(basic)
    }

    fn headers(&mut self, headers: &[HeaderSpec]) -> Vec<(String, HeaderValue)> {
        self.unique("spec.prometheus.headers", headers.iter().map(|header| header.name.to_ascii_lowercase()));
        let each = headers.iter().enumerate();
        each.filter_map(|(index, header)| self.header(&format!("spec.prometheus.headers[{index}]"), header))
            .collect()
    }

    fn header(&mut self, field: &str, header: &HeaderSpec) -> Option<(String, HeaderValue)> {
        use reqwest::header::{HeaderName, HeaderValue as Http};
        if HeaderName::from_bytes(header.name.as_bytes()).is_err() {
            self.problem(
                format!("{field}.name"),
                format!("`{}` is no name of a header", shown(&header.name)),
            );
        }
        let value = match (&header.value, &header.secret_key_ref) {
            (Some(value), None) => {
                if Http::from_str(value).is_err() {
                    self.problem(
                        format!("{field}.value"),
                        "holds characters that no header may have; remove them",
                    );
                }
                HeaderValue::Literal(value.clone())
            }
            (None, Some(secret)) => {
                HeaderValue::Secret(self.secret_key(&format!("{field}.secretKeyRef"), secret))
            }
            _ => {
                self.problem(field, "needs either value or secretKeyRef, not both");
                return None;
            }
        };
        Some((header.name.clone(), value))
    }

    /// Complains about a name that occurs twice in `list`.
    fn unique(&mut self, list: &str, names: impl Iterator<Item = String>) {
        let mut seen = BTreeSet::new();
        for (index, name) in names.enumerate() {
            if name.is_empty() {
                self.problem(format!("{list}[{index}].name"), "is empty; give it a name");
            } else if !seen.insert(name.clone()) {
                let message = format!("`{}` is there already; names must differ", shown(&name));
                self.problem(format!("{list}[{index}].name"), message);
            }
        }
    }

    fn demand(&mut self, demand: Option<&DemandSpec>) -> Demand {
        let demand = demand.cloned().unwrap_or_default();
        if demand.query.as_ref().is_some_and(|query| query.trim().is_empty()) {
            self.problem("spec.demand.query", "is empty; write PromQL or remove it");
        }
        Demand { unit: demand.unit, query: demand.query }
    }

    fn capacity(&mut self, capacity: &CapacitySpec) -> Option<GivenCapacity> {
        if capacity.qps_per_replica.is_some() && capacity.curve.is_some() {
            self.problem("spec.capacity.curve", "excludes qpsPerReplica; keep one of them");
        }
        if let Some(value) = capacity.qps_per_replica {
            return Some(GivenCapacity::PerReplica(self.rate("spec.capacity.qpsPerReplica", value, false)));
        }
        capacity.curve.as_ref().map(|points| GivenCapacity::Curve(self.curve(points)))
    }

    fn curve(&mut self, points: &[CurvePointSpec]) -> Vec<(Replicas, Qps)> {
        const FIELD: &str = "spec.capacity.curve";
        if points.is_empty() {
            self.problem(FIELD, "is empty; write at least one point, such as {replicas: 1, qps: 95}");
        }
        let each = points.iter().enumerate().map(|(index, point)| {
            let replicas = self.replicas(&format!("{FIELD}[{index}].replicas"), point.replicas);
            (replicas, self.rate(&format!("{FIELD}[{index}].qps"), point.qps, false), index)
        });
        let mut points: Vec<(Replicas, Qps, usize)> = each.collect();
        points.sort_by_key(|(replicas, _, index)| (*replicas, *index));
        for pair in points.windows(2) {
            let [(fewer, less, _), (more, qps, index)] = pair else { continue };
            if fewer == more {
                self.problem(
                    format!("{FIELD}[{index}].replicas"),
                    format!("{more} is there already; keep one point"),
                );
            } else if qps < less {
                self.problem(
                    format!("{FIELD}[{index}].qps"),
                    format!(
                        "{more} replicas carry {}, less than {fewer} with {}; correct one",
                        qps.get(),
                        less.get()
                    ),
                );
            }
        }
        points.into_iter().map(|(replicas, qps, _)| (replicas, qps)).collect()
    }

    fn slo(&mut self, slo: &SloSpec, default: Slo) -> Slo {
        let latencies = SignedDuration::from_millis(1)..=MINUTE * 10;
        let budget = slo.violation_budget.as_ref();
        Slo {
            p99_latency: self.some_duration("spec.slo.p99Latency", slo.p99_latency.as_ref(), latencies),
            violation_budget: self
                .percent("spec.slo.violationBudget", budget, 1e-6..=0.5)
                .unwrap_or(default.violation_budget),
        }
    }

    fn calendar(&mut self, forecast: &ForecastSpec) -> Calendar {
        let zone =
            forecast.time_zone.as_ref().and_then(|zone| self.taken("spec.forecast.timeZone", zone.parse()));
        let zone = zone.unwrap_or(TimeZone::UTC);
        let holidays = self.holidays(forecast.holidays.as_deref().unwrap_or_default());
        let events = forecast.events.as_deref().unwrap_or_default();
        self.unique("spec.forecast.events", events.iter().map(|event| event.name.clone()));
        let each = events.iter().enumerate();
        let events = each
            .filter_map(|(index, event)| self.event(&format!("spec.forecast.events[{index}]"), event, &zone));
        let events = events.collect();
        Calendar::new(zone, holidays, events)
    }

    fn holidays(&mut self, holidays: &[DaysText]) -> Vec<Date> {
        let each = holidays.iter().enumerate();
        let ranges: Vec<(Date, Date)> = each
            .filter_map(|(index, days)| self.taken(&format!("spec.forecast.holidays[{index}]"), days.parse()))
            .collect();
        let days = |(first, last): (Date, Date)| {
            std::iter::successors(Some(first), |day| day.tomorrow().ok()).take_while(move |day| *day <= last)
        };
        ranges.into_iter().flat_map(days).collect()
    }

    fn event(&mut self, field: &str, event: &EventSpec, zone: &TimeZone) -> Option<Event> {
        let start = self.taken(&format!("{field}.start"), event.start.parse(zone));
        let end = self.taken(&format!("{field}.end"), event.end.parse(zone));
        let expected = self.rate(&format!("{field}.expectedQps"), event.expected_qps, true);
        let (start, end) = (start?, end?);
        if end <= start {
            self.problem(
                format!("{field}.end"),
                format!("{end} is not after the start {start}; correct one of them"),
            );
        }
        Some(Event { name: event.name.clone(), start, end, expected })
    }

    fn schedules(&mut self, spec: &super::MilvusAutoscalerSpec, zone: &TimeZone) -> Schedules {
        let schedules = spec.schedules.as_deref().unwrap_or_default();
        self.unique("spec.schedules", schedules.iter().map(|schedule| schedule.name.clone()));
        let each = schedules.iter().enumerate();
        let schedules = each.filter_map(|(index, schedule)| {
            let field = format!("spec.schedules[{index}]");
            self.within_spec(&field, schedule, spec);
            self.schedule(&field, schedule, zone)
        });
        Schedules::new(schedules.collect())
    }

    /// Checks a schedule's bounds against the policy's.
    fn within_spec(&mut self, field: &str, schedule: &ScheduleSpec, spec: &super::MilvusAutoscalerSpec) {
        if schedule.min_replicas > spec.max_replicas {
            self.problem(
                format!("{field}.minReplicas"),
                format!(
                    "{} is above spec.maxReplicas {}; lower it or raise spec.maxReplicas",
                    schedule.min_replicas, spec.max_replicas
                ),
            );
        }
        if let Some(max) = schedule.max_replicas.filter(|max| *max < spec.min_replicas) {
            self.problem(
                format!("{field}.maxReplicas"),
                format!(
                    "{max} is below spec.minReplicas {}; raise it or lower spec.minReplicas",
                    spec.min_replicas
                ),
            );
        }
    }

    fn schedule(&mut self, field: &str, schedule: &ScheduleSpec, zone: &TimeZone) -> Option<Schedule> {
        let (min, max) = self.bounds(field, schedule.min_replicas, schedule.max_replicas);
        let duration =
            self.duration(&format!("{field}.duration"), &schedule.duration, MINUTE..=Schedule::LONGEST);
        let own =
            schedule.time_zone.as_ref().map(|zone| self.taken(&format!("{field}.timeZone"), zone.parse()));
        let zone = own.unwrap_or_else(|| Some(zone.clone()));
        // The expression is checked even where something else is wrong.
        let parts = (zone.clone().unwrap_or(TimeZone::UTC), duration.unwrap_or(MINUTE));
        let built = Schedule::new(&schedule.name, schedule.start.as_str(), parts.0, parts.1, min, max);
        self.taken(&format!("{field}.start"), built).filter(|_| zone.is_some() && duration.is_some())
    }

    fn behavior(&mut self, behavior: &BehaviorSpec) -> HpaBehavior {
        let defaults = HpaBehavior::kubernetes();
        HpaBehavior {
            scale_up: self.rules("spec.behavior.scaleUp", behavior.scale_up.as_ref(), defaults.scale_up),
            scale_down: self.rules(
                "spec.behavior.scaleDown",
                behavior.scale_down.as_ref(),
                defaults.scale_down,
            ),
        }
    }

    /// The rules given, with `defaults` for what is left out.
    fn rules(
        &mut self,
        field: &str,
        rules: Option<&ScalingRulesSpec>,
        defaults: ScalingRules,
    ) -> ScalingRules {
        let Some(rules) = rules else { return defaults };
        let window = rules
            .stabilization_window_seconds
            .map(|seconds| self.seconds(&format!("{field}.stabilizationWindowSeconds"), seconds, 0..=3600));
        let select = rules.select_policy.map(|select| match select {
            SelectPolicySpec::Max => SelectPolicy::Max,
            SelectPolicySpec::Min => SelectPolicy::Min,
            SelectPolicySpec::Disabled => SelectPolicy::Disabled,
        });
        ScalingRules {
            stabilization_window: window.unwrap_or(defaults.stabilization_window),
            select: select.unwrap_or(defaults.select),
            policies: match &rules.policies {
                Some(policies) => self.policies(&format!("{field}.policies"), policies),
                None => defaults.policies,
            },
        }
    }

    fn policies(&mut self, field: &str, policies: &[ScalingPolicySpec]) -> Vec<ScalingPolicy> {
        if policies.is_empty() {
            self.problem(
                field,
                "is empty; write at least one policy, or selectPolicy: Disabled to forbid scaling",
            );
        }
        let each = policies.iter().enumerate();
        each.map(|(index, policy)| self.scaling_policy(&format!("{field}[{index}]"), policy)).collect()
    }

    fn scaling_policy(&mut self, field: &str, policy: &ScalingPolicySpec) -> ScalingPolicy {
        let period = self.seconds(&format!("{field}.periodSeconds"), policy.period_seconds, 1..=1800);
        let value = u32::try_from(policy.value).unwrap_or(0);
        if value == 0 {
            self.problem(format!("{field}.value"), format!("{} is not above 0", policy.value));
        }
        match policy.kind {
            ScalingPolicyKind::Pods => ScalingPolicy::Pods { value, period },
            ScalingPolicyKind::Percent => ScalingPolicy::Percent { value, period },
        }
    }

    fn seconds(&mut self, field: &str, seconds: i32, range: RangeInclusive<i32>) -> SignedDuration {
        if !range.contains(&seconds) {
            self.problem(field, format!("{seconds} is not from {} to {}", range.start(), range.end()));
        }
        SignedDuration::from_secs(i64::from(seconds.max(0)))
    }
}

/// The address of a Prometheus, without a slash at its end.
///
/// # Errors
/// If it is none, or holds more than an address, such as a password.
pub fn address(text: &str) -> Result<String, String> {
    let problem = match reqwest::Url::parse(text) {
        Err(error) => format!("`{}` is not an address ({error})", shown(text)),
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            format!("`{}` is neither http:// nor https://", shown(text))
        }
        // The text itself is not shown, as it holds a password.
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            "has a user or password in it; put them into basicAuthSecretRef".to_owned()
        }
        Ok(_) if !is_plain_address(text) => {
            format!("`{}` has more to it than the server's address and path", shown(text))
        }
        Ok(_) => return Ok(text.trim_end_matches('/').to_owned()),
    };
    Err(format!("{problem}; write it like http://prometheus.monitoring.svc:9090"))
}

/// Whether `text` is what the rule of the resource allows: scheme, host, port and path only.
fn is_plain_address(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    rest.is_some_and(|rest| !rest.starts_with('/') && !rest.contains(['?', '#', '@', ' ']))
}

/// Whether `name` is the name of a Prometheus label.
fn is_label(name: &str) -> bool {
    name.bytes()
        .enumerate()
        .all(|(index, b)| b == b'_' || b.is_ascii_alphabetic() || index > 0 && b.is_ascii_digit())
        && !name.is_empty()
}
