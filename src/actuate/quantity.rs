//! Quantities of resources as Kubernetes writes them: `500m`, `4`, `16Gi`, `1e9`.

/// The number that a quantity means; `None` if it means none above 0.
pub(super) fn parse(text: &str) -> Option<f64> {
    const SUFFIXES: [(&str, f64); 15] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
    ];
    let with = |(suffix, unit): (&str, f64)| Some((text.strip_suffix(suffix)?, unit));
    let (number, unit) = SUFFIXES.into_iter().find_map(with).unwrap_or((text, 1.0));
    number.parse::<f64>().ok().map(|number| number * unit).filter(|value| value.is_finite() && *value > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        let cases = [
            ("4", Some(4.0)),
            ("500m", Some(0.5)),
            ("1.5", Some(1.5)),
            ("16Gi", Some(17_179_869_184.0)),
            ("128974848", Some(128_974_848.0)),
            ("129e6", Some(129e6)),
            ("129M", Some(129e6)),
            ("1E", Some(1e18)),
            ("0", None),
            ("-1", None),
            ("", None),
            ("Gi", None),
            ("4 Gi", None),
            ("NaN", None),
            ("inf", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
