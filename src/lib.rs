//! Keeps Milvus QueryNodes ahead of their load.
//!
//! The core ([`units`], [`series`], [`forecast`], [`capacity`], [`decide`]) is pure: no I/O and no clock, time is an
//! argument. [`simulate`] and the controller call the same core, so what people simulate is what runs.

#![cfg_attr(not(test), warn(unused_crate_dependencies))]

pub mod actuate;
pub mod calendar;
pub mod capacity;
pub mod cli;
pub mod controller;
pub mod decide;
pub mod doctor;
pub mod forecast;
pub mod learn;
pub mod observe;
pub mod policy;
pub mod recommend;
pub mod series;
pub mod simulate;
pub mod telemetry;
pub mod text;
pub mod units;
