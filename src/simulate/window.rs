//! Sliding maxima.

use std::collections::VecDeque;

/// For each `t` the highest of `values[t..=t + ahead]`, shortened at the end.
#[must_use]
pub(crate) fn highest_ahead<T: PartialOrd + Copy>(values: &[T], ahead: usize) -> Vec<T> {
    let mut highest = Vec::with_capacity(values.len());
    // From the nearest to the farthest, each higher than those before it: the last is the highest.
    let mut candidates: VecDeque<(usize, T)> = VecDeque::new();
    for (t, value) in values.iter().enumerate().rev() {
        while candidates.front().is_some_and(|(_, nearer)| *nearer <= *value) {
            candidates.pop_front();
        }
        candidates.push_front((t, *value));
        while candidates.back().is_some_and(|(at, _)| *at > t.saturating_add(ahead)) {
            candidates.pop_back();
        }
        highest.push(candidates.back().map_or(*value, |(_, highest)| *highest));
    }
    highest.reverse();
    highest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_the_maximum(values in prop::collection::vec(0_u32..50, 0..60), ahead in 0_usize..70) {
            let slow: Vec<_> = (0..values.len())
                .map(|t| *values[t..values.len().min(t + ahead + 1)].iter().max().unwrap())
                .collect();
            prop_assert_eq!(highest_ahead(&values, ahead), slow);
        }
    }
}
