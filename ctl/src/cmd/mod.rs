//! The verbs, one per file. Each has its arguments and a `run` that prints to stdout or fails with one line.

pub mod actor;
pub mod apply;
pub mod ask;
pub mod bench;
pub mod completions;
pub mod config;
pub mod coordinator;
pub mod coordinators;
pub mod delete;
pub mod demo;
pub mod describe;
pub mod dev;
pub mod device;
pub mod doctor;
pub mod get;
pub mod get_devices;
pub mod node;
pub mod scale;
pub mod status;
pub mod tell;
pub mod version;
