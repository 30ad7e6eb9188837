//! Any bytes are a trace or an error; a trace can be written, read back and replayed on the plant's grid.
#![no_main]

use libfuzzer_sys::fuzz_target;
use milvus_autoscaler::observe::csv;
use milvus_autoscaler::series::Step;
use milvus_autoscaler::simulate::Demand;

fuzz_target!(|bytes: &[u8]| {
    let Ok(trace) = csv::read(bytes, "fuzz") else { return };
    let mut written = Vec::new();
    csv::write(&trace, &mut written).expect("memory can be written");
    assert_eq!(csv::read(&written[..], "fuzz").expect("what was written can be read"), trace);
    // Rounding may lift an interpolated value over its neighbours by a hair.
    let peak = trace.mean_and_peak().1.get() * (1.0 + 1e-9);
    if let Ok(demand) = Demand::from_trace(&trace, Step::MINUTE) {
        assert!((0..demand.len()).all(|t| demand.at(t).get() <= peak));
    }
});
