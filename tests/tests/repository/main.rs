//! Tests of the repository itself: its architecture, its style, and that its documentation
//! names things that exist.

mod architecture;
mod documents;
mod metrics;
mod mutants;
mod style;
mod text;
