//! The control side: everything that talks to the database, on the control runtime, away from the data threads.

mod follower;
mod held;
mod outage;
mod settler;
mod sweeper;
mod usage;

pub(crate) use follower::{Follower, FollowerInbox};
pub(crate) use settler::{Blocks, Settler, SettlerInbox};
pub(crate) use sweeper::sweep;
pub(crate) use usage::flush as flush_usage;
