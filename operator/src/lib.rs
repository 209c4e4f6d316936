//! Floor 2: the control plane. `observe → decide → one effect → observe again`, for the three kinds.
//! The decisions are pure; executors observe and perform: [`files`] for standalone, an API server's later. It refuses to know HTTP proxying.

pub mod cluster;
pub mod decide;
pub mod effect;
pub mod files;
pub mod fleet;
pub mod memory;
pub mod object;
pub mod observed;
pub mod rows;

pub use decide::decide;
