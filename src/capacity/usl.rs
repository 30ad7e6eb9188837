//! The Universal Scalability Law, fitted to what was observed.

use super::{Capacity, CapacityError, Curve};
use crate::units::{Qps, Replicas};

/// Gunther's law of scaling: `X(N) = λN / (1 + σ(N − 1) + κN(N − 1))`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usl {
    /// λ: what one replica carries.
    pub per_replica: Qps,
    /// σ, contention: the share of work that does not run in parallel.
    pub contention: f64,
    /// κ, coherency: what each pair of replicas costs in keeping each other informed.
    pub coherency: f64,
    /// Root mean square of the relative error over the observed points.
    pub error: f64,
}

impl Usl {
    /// Fits the law to observed `(replicas, throughput)`, by least squares of the relative error with σ and κ not
    /// negative. Observations at one replica count leave σ and κ at 0, at two leave κ at 0.
    ///
    /// # Errors
    /// If there is no point, or one has no replicas or no throughput.
    pub fn fit(observed: &[(Replicas, Qps)]) -> Result<Self, CapacityError> {
        check(observed)?;
        let terms = |count: usize| -> &'static [Terms] {
            const ALL: [Terms; 4] = [
                Terms { contention: false, coherency: false },
                Terms { contention: true, coherency: false },
                Terms { contention: false, coherency: true },
                Terms { contention: true, coherency: true },
            ];
            match count {
                1 => ALL.get(..1).unwrap_or(&ALL),
                2 => ALL.get(..2).unwrap_or(&ALL),
                _ => &ALL,
            }
        };
        terms(distinct(observed))
            .iter()
            .filter_map(|terms| fit_with(observed, *terms))
            .min_by(|a, b| a.error.total_cmp(&b.error))
            .ok_or(CapacityError::Nothing)
    }

    /// Throughput at `replicas`.
    #[must_use]
    pub fn at(&self, replicas: Replicas) -> Qps {
        let n = replicas.as_f64();
        let drag = 1.0 + self.contention * (n - 1.0) + self.coherency * n * (n - 1.0);
        Qps::clamped(self.per_replica.get() * n / drag)
    }

    /// Capacity up to `max` replicas by this law. Where it says that more replicas carry less, they count as carrying
    /// what fewer do.
    #[must_use]
    pub fn capacity(&self, max: Replicas) -> Capacity {
        let max = max.min(Curve::MAX_REPLICAS);
        Capacity::Curve(Curve::from_table((1..=max.0).map(|n| self.at(Replicas(n)).get())))
    }
}

/// Which parameters besides λ a fit may use.
#[derive(Debug, Clone, Copy)]
struct Terms {
    contention: bool,
    coherency: bool,
}

fn check(observed: &[(Replicas, Qps)]) -> Result<(), CapacityError> {
    if observed.is_empty() {
        return Err(CapacityError::NoPoints);
    }
    for (replicas, qps) in observed {
        if *replicas == Replicas(0) {
            return Err(CapacityError::Replicas(*replicas));
        }
        if *qps == Qps::ZERO {
            return Err(CapacityError::Nothing);
        }
    }
    Ok(())
}

fn distinct(observed: &[(Replicas, Qps)]) -> usize {
    let mut counts: Vec<_> = observed.iter().map(|(r, _)| *r).collect();
    counts.sort_unstable();
    counts.dedup();
    counts.len()
}

/// Linear least squares: `N/X = a + b(N − 1) + cN(N − 1)` with `a = 1/λ`, `b = σ/λ`, `c = κ/λ`, each row multiplied by
/// `X/N` so that errors count relative to what was observed. `None` where a parameter would be negative.
fn fit_with(observed: &[(Replicas, Qps)], terms: Terms) -> Option<Usl> {
    let scale = observed.iter().map(|(r, q)| q.get() / r.as_f64()).fold(0.0, f64::max);
    let (mut matrix, mut right) = ([[0.0; 3]; 3], [0.0; 3]);
    for (replicas, qps) in observed {
        let n = replicas.as_f64();
        let efficiency = qps.get() / n / scale;
        let b = if terms.contention { n - 1.0 } else { 0.0 };
        let c = if terms.coherency { n * (n - 1.0) } else { 0.0 };
        let row = [efficiency, efficiency * b, efficiency * c];
        for (i, x) in row.iter().enumerate() {
            right[i] += x;
            for (j, y) in row.iter().enumerate() {
                matrix[i][j] += x * y;
            }
        }
    }
    if !terms.contention {
        matrix[1][1] = 1.0;
    }
    if !terms.coherency {
        matrix[2][2] = 1.0;
    }
    let [a, b, c] = solve(matrix, right)?;
    if !(a > 0.0 && b >= 0.0 && c >= 0.0) {
        return None;
    }
    let mut fit =
        Usl { per_replica: Qps::clamped(scale / a), contention: b / a, coherency: c / a, error: 0.0 };
    fit.error = relative_error(&fit, observed);
    Some(fit)
}

fn relative_error(fit: &Usl, observed: &[(Replicas, Qps)]) -> f64 {
    let squares: f64 = observed.iter().map(|(r, q)| (fit.at(*r).get() / q.get() - 1.0).powi(2)).sum();
    (squares / observed.len() as f64).sqrt()
}

/// Solves three equations by Cramer's rule; `None` if they are (almost) dependent.
fn solve(m: [[f64; 3]; 3], right: [f64; 3]) -> Option<[f64; 3]> {
    let determinant = |m: &[[f64; 3]; 3]| {
        m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
            + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0])
    };
    let whole = determinant(&m);
    let size: f64 = (0..3).map(|i| m[i][i]).product();
    if whole.abs() <= 1e-12 * size || !whole.is_finite() {
        return None;
    }
    let mut solution = [0.0; 3];
    for (column, value) in solution.iter_mut().enumerate() {
        let mut replaced = m;
        for (row, right) in replaced.iter_mut().zip(right) {
            row[column] = right;
        }
        *value = determinant(&replaced) / whole;
    }
    Some(solution)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn law(per_replica: f64, contention: f64, coherency: f64) -> Usl {
        Usl { per_replica: Qps::clamped(per_replica), contention, coherency, error: 0.0 }
    }

    fn observe(law: &Usl, replicas: &[u32]) -> Vec<(Replicas, Qps)> {
        replicas.iter().map(|r| (Replicas(*r), law.at(Replicas(*r)))).collect()
    }

    proptest! {
        #[test]
        fn a_law_is_found_again(
            per_replica in 1.0..1e4_f64,
            contention in 0.0..0.5_f64,
            coherency in 0.0..0.01_f64,
        ) {
            let truth = law(per_replica, contention, coherency);
            let fit = Usl::fit(&observe(&truth, &[1, 2, 4, 8, 16, 32])).unwrap();
            prop_assert!((fit.per_replica.get() / per_replica - 1.0).abs() < 1e-3, "{fit:?}");
            prop_assert!((fit.contention - contention).abs() < 1e-3, "{fit:?}");
            prop_assert!((fit.coherency - coherency).abs() < 1e-4, "{fit:?}");
        }

        #[test]
        fn any_points_give_a_law_or_an_error(
            points in prop::collection::vec((0_u32..1000, 0.0..1e12_f64), 0..9),
        ) {
            let points: Vec<_> = points.iter().map(|(r, q)| (Replicas(*r), Qps::clamped(*q))).collect();
            if let Ok(fit) = Usl::fit(&points) {
                prop_assert!(fit.contention >= 0.0 && fit.coherency >= 0.0);
                let capacity = fit.capacity(Replicas(40));
                prop_assert!(capacity.of(Replicas(40)) >= capacity.of(Replicas(39)));
            }
        }
    }

    #[test]
    fn few_observations_claim_little() {
        let truth = law(100.0, 0.1, 0.01);
        let one = Usl::fit(&observe(&truth, &[4, 4])).unwrap();
        assert!(one.contention.abs() < 1e-12 && one.coherency.abs() < 1e-12);
        let two = Usl::fit(&observe(&truth, &[1, 4])).unwrap();
        assert!(two.contention > 0.0 && two.coherency.abs() < 1e-12);
    }

    #[test]
    fn beyond_its_peak_capacity_stays_flat() {
        let capacity = law(100.0, 0.05, 0.02).capacity(Replicas(40));
        let peak = capacity.of(Replicas(7));
        assert_eq!(capacity.of(Replicas(30)), peak);
        assert_eq!(capacity.of(Replicas(400)), peak);
        assert_eq!(capacity.replicas_for(Qps::clamped(peak.get() + 1.0), Replicas(40)), Replicas(40));
    }

    #[test]
    fn published_figures_fit_within_a_sixth() {
        let observed = [(1, 7153.0), (2, 15903.0), (4, 19281.0), (8, 30655.0)]
            .map(|(r, q)| (Replicas(r), Qps::clamped(q)));
        let fit = Usl::fit(&observed).unwrap();
        assert!(fit.error < 0.17, "{fit:?}");
        assert!(fit.contention > 0.0);
    }
}
