//! What a simulation shows and writes.

pub mod files;
pub mod report;
pub mod summary;
pub mod table;
pub mod timeline;
