//! Any text is a scenario or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use milvus_autoscaler::simulate::scenario::Scenario;

fuzz_target!(|text: &str| {
    let _ = Scenario::from_yaml(text);
});
