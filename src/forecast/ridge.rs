//! Ridge regression that learns batch by batch and forgets exponentially.

/// A sample: its features and its target. Seven digits are plenty, and half the memory and time.
pub(super) type Sample<const N: usize> = ([f32; N], f32);

/// Features with the precision of a [`Sample`].
#[allow(clippy::cast_possible_truncation, reason = "see `Sample`")]
pub(super) fn to_sample<const N: usize>(features: &[f64; N]) -> [f32; N] {
    features.map(|x| x as f32)
}

/// What a regression learns from a batch of samples; several regressions can learn from the same.
#[derive(Debug)]
pub(super) struct Sums<const N: usize> {
    count: usize,
    /// Lower triangle of Σ x xᵀ, in whole blocks.
    gram: [[f32; N]; N],
    /// Σ x y.
    moment: [f32; N],
}

impl<const N: usize> Sums<N> {
    pub(super) fn of(samples: &[Sample<N>]) -> Self {
        const { assert!(N.is_multiple_of(LANES), "features come in whole blocks") };
        let mut sums = Self { count: samples.len(), gram: [[0.0; N]; N], moment: [0.0; N] };
        for row in (0..N).step_by(LANES) {
            for column in (0..=row).step_by(LANES) {
                sums.add_block(samples, row, column);
            }
        }
        for (features, target) in samples {
            for (sum, x) in sums.moment.iter_mut().zip(features) {
                *sum += x * target;
            }
        }
        sums
    }

    /// One block of the gram matrix, whose sums stay in registers.
    fn add_block(&mut self, samples: &[Sample<N>], row: usize, column: usize) {
        let mut block = [[0.0; LANES]; LANES];
        for (features, _) in samples {
            let (own, other) = (lanes(features, row), lanes(features, column));
            for (sums, own) in block.iter_mut().zip(own) {
                for (sum, other) in sums.iter_mut().zip(other) {
                    *sum += own * other;
                }
            }
        }
        for (sums, cells) in block.iter().zip(&mut self.gram[row..row + LANES]) {
            cells[column..column + LANES].copy_from_slice(sums);
        }
    }
}

/// Values that one instruction works on, on any machine of the last twenty years.
const LANES: usize = 4;

fn lanes<const N: usize>(values: &[f32; N], from: usize) -> [f32; LANES] {
    std::array::from_fn(|lane| values[from + lane])
}

/// Linear regression on `N` features with exponentially fading weights, kept as normal equations.
///
/// Learning adds up sums, solving is a Cholesky factorisation; both take bounded time whatever the history.
/// The penalty is scaled by each feature's own power, so that features of different size shrink alike (Hoerl and
/// Kennard, 1970, on standardised features).
#[derive(Debug, Clone)]
pub(super) struct Ridge<const N: usize> {
    /// Lower triangle of the weighted Σ x xᵀ.
    gram: Box<[[f64; N]; N]>,
    /// Weighted Σ x y.
    moment: [f64; N],
    coefficients: [f64; N],
    prior: [f64; N],
    penalty: f64,
    growth: f64,
    /// The weight of the newest sample: growing it instead of fading the sums saves N² multiplications a batch.
    weight: f64,
}

/// Beyond this weight the sums are scaled back; far from the end of the floating-point range.
const RESCALE_AT: f64 = 1e12;

impl<const N: usize> Ridge<N> {
    /// A regression that weighs a sample `memory` samples ago by 1/e, shrunk towards `prior` by `penalty`.
    pub(super) fn new(memory: f64, penalty: f64, prior: [f64; N]) -> Self {
        Self {
            gram: Box::new([[0.0; N]; N]),
            moment: [0.0; N],
            coefficients: prior,
            prior,
            penalty,
            growth: 1.0 + 1.0 / memory,
            weight: 1.0,
        }
    }

    /// The expected value for `features`, with the coefficients of the last [`Ridge::solve`].
    pub(super) fn predict(&self, features: &[f64; N]) -> f64 {
        features.iter().zip(&self.coefficients).map(|(x, b)| x * b).sum()
    }

    /// Takes a batch of samples, all as of one age.
    pub(super) fn learn(&mut self, batch: &Sums<N>) {
        self.weight *= self.growth.powi(i32::try_from(batch.count).unwrap_or(i32::MAX));
        for (i, (row, sums)) in self.gram.iter_mut().zip(&batch.gram).enumerate() {
            for (cell, sum) in row[..=i].iter_mut().zip(sums) {
                *cell += self.weight * f64::from(*sum);
            }
            self.moment[i] += self.weight * f64::from(batch.moment[i]);
        }
        if self.weight > RESCALE_AT {
            self.rescale();
        }
    }

    fn rescale(&mut self) {
        let scale = 1.0 / self.weight;
        self.gram.iter_mut().flatten().for_each(|cell| *cell *= scale);
        self.moment.iter_mut().for_each(|cell| *cell *= scale);
        self.weight = 1.0;
    }

    /// Brings the coefficients up to date with all samples.
    pub(super) fn solve(&mut self) {
        let mean_power = (0..N).map(|i| self.gram[i][i]).sum::<f64>() / N as f64;
        let ridge =
            |i: usize| self.penalty * (0.2 * self.gram[i][i] + 0.02 * mean_power) + 1e-6 * self.weight;
        let (mut factor, mut solution) = (*self.gram, [0.0; N]);
        for (i, cell) in solution.iter_mut().enumerate() {
            factor[i][i] += ridge(i);
            *cell = self.moment[i] + ridge(i) * self.prior[i];
        }
        // Cholesky, a block of columns at a time: what is right of them is then updated by all of them at once.
        for from in (0..N).step_by(LANES) {
            let columns = factorise_columns(&mut factor, &mut solution, from);
            update_right_of(from + LANES, &mut factor, &columns);
        }
        for i in (0..N).rev() {
            solution[i] *= factor[i][i];
            let known = solution[i];
            for (cell, above) in solution[..i].iter_mut().zip(&factor[i][..i]) {
                *cell -= above * known;
            }
        }
        if solution.iter().all(|b| b.is_finite()) {
            self.coefficients = solution;
        }
    }
}

/// Finishes the columns of a block, and the part of the solution that they make; returns them. The diagonal is kept
/// inverted.
fn factorise_columns<const N: usize>(
    factor: &mut [[f64; N]; N],
    solution: &mut [f64; N],
    from: usize,
) -> [[f64; N]; LANES] {
    let mut columns = [[0.0; N]; LANES];
    for (k, column) in (from..from + LANES).zip(&mut columns) {
        let scale = 1.0 / factor[k][k].max(1e-12).sqrt();
        factor[k][k] = scale;
        solution[k] *= scale;
        for i in k + 1..N {
            column[i] = factor[i][k] * scale;
            factor[i][k] = column[i];
            solution[i] -= column[i] * solution[k];
        }
        for i in k + 1..N {
            for j in k + 1..from + LANES {
                factor[i][j] -= column[i] * column[j];
            }
        }
    }
    columns
}

/// Takes the products of finished columns from all that is right of them. Whole blocks: what is right of the diagonal is
/// never read.
fn update_right_of<const N: usize>(from: usize, factor: &mut [[f64; N]; N], columns: &[[f64; N]; LANES]) {
    for (i, row) in factor.iter_mut().enumerate().skip(from) {
        for at in (from..=i).step_by(LANES) {
            let cells = &mut row[at..at + LANES];
            for column in columns {
                for (cell, other) in cells.iter_mut().zip(&column[at..at + LANES]) {
                    *cell -= column[i] * other;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A constant, and features that say nothing.
    const ONE: [f32; 4] = [1.0, 0.0, 0.0, 0.0];

    fn learn<const N: usize>(ridge: &mut Ridge<N>, samples: &[Sample<N>]) {
        samples.chunks(20).for_each(|batch| ridge.learn(&Sums::of(batch)));
        ridge.solve();
    }

    #[test]
    fn finds_the_coefficients_of_a_linear_law() {
        let mut ridge = Ridge::<4>::new(1e6, 1e-6, [0.0; 4]);
        let sample = |i: i16| {
            let x = [1.0, f32::from(i % 7), f32::from(i % 11) * 100.0, 0.0];
            (x, 2.0 - 0.5 * x[1] + 0.01 * x[2])
        };
        learn(&mut ridge, &(0..500).map(sample).collect::<Vec<_>>());
        assert!((ridge.predict(&[1.0, 3.0, 200.0, 0.0]) - 2.5).abs() < 0.02);
    }

    #[test]
    fn without_samples_it_answers_its_prior() {
        let mut ridge = Ridge::<4>::new(100.0, 0.01, [0.5, 0.25, 0.0, 0.0]);
        ridge.solve();
        assert!((ridge.predict(&[2.0, 4.0, 9.0, 9.0]) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn forgets_an_old_law_for_a_new_one() {
        let mut ridge = Ridge::<4>::new(50.0, 1e-6, [0.0; 4]);
        learn(&mut ridge, &vec![(ONE, 1.0); 1000]);
        learn(&mut ridge, &vec![(ONE, 3.0); 500]);
        assert!((ridge.predict(&ONE.map(f64::from)) - 3.0).abs() < 1e-3);
    }

    #[test]
    fn a_batch_weighs_as_much_as_its_samples_one_by_one() {
        let (mut together, mut apart) =
            (Ridge::<4>::new(500.0, 1e-6, [0.0; 4]), Ridge::<4>::new(500.0, 1e-6, [0.0; 4]));
        for y in [1.0, 3.0] {
            let samples = [(ONE, y); 100];
            learn(&mut together, &samples);
            for sample in samples {
                learn(&mut apart, &[sample]);
            }
        }
        assert!((together.predict(&ONE.map(f64::from)) - apart.predict(&ONE.map(f64::from))).abs() < 1e-2);
    }

    #[test]
    fn weights_never_overflow() {
        let mut ridge = Ridge::<4>::new(10.0, 1e-6, [0.0; 4]);
        learn(&mut ridge, &vec![(ONE, 7.0); 100_000]);
        assert!((ridge.predict(&ONE.map(f64::from)) - 7.0).abs() < 1e-3);
    }
}
