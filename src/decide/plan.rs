//! The plan: replicas over the coming hours as optimal control.
//!
//! Exact dynamic programming over stages of time and numbers of replicas. A plan pays for every replica-minute, for
//! each replica added (it loads segments, which disturbs search, and is paid for while it loads), for each change,
//! and for the shortage to expect under the forecast's distribution. Whatever is ready before the lead time has
//! passed was decided earlier; the plan can only give it up.
//!
//! One backward pass is O(stages × replicas): running minima replace the minimum over all transitions.

use super::{Costs, Fleet};
use crate::capacity::Capacity;
use crate::forecast::{Forecast, Level, Stage};
use crate::units::Replicas;

/// A stage whose demand is above this many replicas' capacity less often than this needs no more of them.
const CERTAIN: f64 = 1e-7;

/// The replicas that the plan wants, now and at each stage ahead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Replicas to ask for now.
    pub now: Replicas,
    /// Replicas that should be ready at each stage of the forecast.
    pub path: Vec<Replicas>,
}

/// What is fixed while planning: all in replica-steps.
pub(super) struct Problem<'a> {
    pub(super) forecast: &'a Forecast,
    pub(super) capacity: &'a Capacity,
    pub(super) fleet: &'a Fleet<'a>,
    pub(super) min: Replicas,
    pub(super) max: Replicas,
    pub(super) costs: Costs,
    /// The price of one step in violation.
    pub(super) shortage_price: f64,
}

impl Problem<'_> {
    /// The cheapest plan.
    pub(super) fn solve(&self) -> Plan {
        let levels = self.levels();
        let lead = self.forecast.lead_stage;
        let mut choices = vec![Vec::new(); self.forecast.stages.len()];
        let mut value = vec![0.0; levels.len()];
        for (index, stage) in self.forecast.stages.iter().enumerate().rev() {
            self.add_stage_cost(stage, &levels, &mut value);
            let cost_up = (index >= lead).then(|| self.added_price());
            choices[index] = transition(&mut value, self.costs.change, cost_up);
        }
        self.follow(&choices)
    }

    /// The load at which each number of replicas is full, as far up as numbers matter.
    fn levels(&self) -> Vec<Level> {
        let level = |replicas: u32| self.forecast.level(self.capacity.of(Replicas(replicas)));
        let needed = |stage: &Stage| {
            let (mut enough, mut short) = (self.max.0, 0);
            while short + 1 < enough {
                let middle = u32::midpoint(short, enough);
                if stage.exceedance(level(middle)) < CERTAIN { enough = middle } else { short = middle }
            }
            enough
        };
        let top = self.forecast.stages.iter().map(needed).max().unwrap_or(0);
        let top = top.max(self.fleet.desired.0).max(self.min.0).min(self.max.0.max(self.fleet.desired.0));
        (0..=top).map(level).collect()
    }

    /// Replica-steps that one more replica costs before it serves, and for disturbing search.
    fn added_price(&self) -> f64 {
        self.forecast.lead_stage as f64 + self.costs.added
    }

    /// Adds what each number of replicas costs in `stage` to `value`.
    fn add_stage_cost(&self, stage: &Stage, levels: &[Level], value: &mut [f64]) {
        let steps = stage.steps as f64;
        let shortage = Self::shortage(stage, levels);
        let ready = self.committed(stage);
        for (replicas, value) in value.iter_mut().enumerate() {
            *value += if replicas < self.min.0 as usize {
                f64::INFINITY
            } else {
                steps * (replicas as f64 + self.shortage_price * shortage[replicas.min(ready)])
            };
        }
    }

    /// Replicas that will be ready in `stage` unless some are given up; without limit once more can be added.
    fn committed(&self, stage: &Stage) -> usize {
        if stage.ahead >= self.forecast.lead_stage {
            return usize::MAX;
        }
        let arrived = self.fleet.arrivals.iter().filter(|arrival| **arrival <= stage.ahead).count();
        self.fleet.ready.0 as usize + arrived
    }

    /// The expected shortage per step with each number of replicas: the probability of a violation and, below the
    /// median's need, half a violation more for every replica that is missing, so that overload is never given up.
    fn shortage(stage: &Stage, levels: &[Level]) -> Vec<f64> {
        let mut shortage = vec![0.0; levels.len()];
        let mut median_need = levels.len();
        for (replicas, level) in levels.iter().enumerate().rev() {
            let exceedance = stage.exceedance(*level);
            if exceedance > 0.5 {
                break;
            }
            shortage[replicas] = exceedance;
            median_need = replicas;
        }
        for (replicas, shortage) in shortage[..median_need].iter_mut().enumerate() {
            *shortage = 0.5 + 0.5 * (median_need - replicas) as f64;
        }
        shortage
    }

    /// Walks the best choices forward from the fleet as it is.
    fn follow(&self, choices: &[Vec<u32>]) -> Plan {
        let lead = self.forecast.lead_stage;
        let mut replicas = self.fleet.desired.0;
        let mut path = Vec::with_capacity(choices.len());
        let mut now = Replicas(0);
        for (index, choice) in choices.iter().enumerate() {
            replicas = choice[replicas as usize];
            // A replica that is to be ready when the lead time has passed must be asked for now.
            if index == 0 || index == lead {
                now = now.max(Replicas(replicas));
            }
            path.push(Replicas(replicas));
        }
        Plan { now, path }
    }
}

/// Replaces the value of being at each number of replicas in a stage by that of coming into it with that number, and
/// returns the number to go to. Going down costs `change`; going up, where it is possible, `change` and `up` for each
/// replica.
fn transition(value: &mut [f64], change: f64, up: Option<f64>) -> Vec<u32> {
    let mut choice: Vec<u32> = (0..).take(value.len()).collect();
    let stay = value.to_vec();
    let mut lowest = (f64::INFINITY, 0);
    for (replicas, now) in (0_u32..).zip(&stay) {
        let index = replicas as usize;
        if lowest.0 + change < value[index] {
            (value[index], choice[index]) = (lowest.0 + change, lowest.1);
        }
        if *now < lowest.0 {
            lowest = (*now, replicas);
        }
    }
    if let Some(up) = up {
        // The cost of ending at r from below is value(r) + up × r, less up × where one comes from.
        let mut lowest = (f64::INFINITY, 0);
        for (index, now) in stay.iter().enumerate().rev() {
            let replicas = u32::try_from(index).unwrap_or(u32::MAX);
            let paid = up * f64::from(replicas);
            if lowest.0 - paid + change < value[index] {
                (value[index], choice[index]) = (lowest.0 - paid + change, lowest.1);
            }
            if *now + paid < lowest.0 {
                lowest = (*now + paid, replicas);
            }
        }
    }
    choice
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Qps;

    const HUNDRED: Capacity = Capacity::Linear { per_replica: Qps::HUNDRED };

    fn plan(desired: u32, ready: u32, demand: impl Fn(usize) -> f64) -> Plan {
        let forecast = Forecast::from_medians(10, 0.02, |ahead| Qps::clamped(demand(ahead)));
        let problem = Problem {
            forecast: &forecast,
            capacity: &HUNDRED,
            fleet: &Fleet { desired: Replicas(desired), ready: Replicas(ready), arrivals: &[] },
            min: Replicas(1),
            max: Replicas(50),
            costs: Costs::default(),
            shortage_price: 30.0 * f64::from(desired),
        };
        problem.solve()
    }

    #[test]
    fn a_steady_load_keeps_its_replicas() {
        assert_eq!(plan(5, 5, |_| 430.0).now, Replicas(5));
    }

    #[test]
    fn a_ramp_is_met_a_lead_time_ahead() {
        assert!(plan(2, 2, |ahead| if ahead < 10 { 150.0 } else { 750.0 }).now >= Replicas(8));
        assert_eq!(plan(2, 2, |ahead| if ahead < 40 { 150.0 } else { 750.0 }).now, Replicas(2));
    }

    #[test]
    fn a_short_dip_is_not_worth_giving_replicas_up() {
        assert_eq!(plan(8, 8, |ahead| if ahead < 12 { 300.0 } else { 720.0 }).now, Replicas(8));
        assert!(plan(8, 8, |_| 300.0).now <= Replicas(4));
    }

    #[test]
    fn overload_beyond_the_maximum_takes_the_maximum() {
        assert_eq!(plan(10, 10, |_| 50_000.0).now, Replicas(50));
    }

    #[test]
    fn the_path_is_within_bounds_and_as_long_as_the_forecast() {
        let plan = plan(2, 2, |ahead| 100.0 + 10.0 * ahead as f64);
        assert!(plan.path.iter().all(|r| (1..=50).contains(&r.0)));
        assert!(plan.path.windows(2).filter(|w| w[0] < w[1]).count() > 0);
    }
}
