//! llava-gauge: says whether a LLaVA checkpoint, version, precision or export is better or worse than another,
//! by how much, how fast, and how surely.
//!
//! Each public module is one room of the house with one job; `ARCHITECTURE.md` shows the allowed edges between
//! them, and `tests/layering.rs` holds them.

pub mod bench;
pub mod benchmark;
pub mod calibration;
pub mod cli;
pub mod compare;
pub mod engine;
pub mod export;
pub mod guard;
pub mod hub;
pub mod image;
pub mod judge;
pub mod onnx;
pub mod package;
pub mod prompt;
pub mod report;
pub mod run;
pub mod score;
pub mod stats;
pub mod store;
pub mod submission;
pub mod swap;
pub mod web;
