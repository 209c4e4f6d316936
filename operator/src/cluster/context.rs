//! What every look at an object needs, put together once per term of leadership. It refuses to know any one kind.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use kube::Client;
use store::ResourceUid;

use super::fleets::Fleets;
use super::gate::Gate;
use super::metrics::Metrics;
use super::options::Options;
use super::references::References;
use super::stores::Stores;
use super::wake::Wakes;
use crate::effect::Effect;
use crate::memory::Memory;
use crate::object::Object;

/// Called after each performed effect; `Break` ends the process's work on the spot, as a crash would. For tests.
pub type Hook = Arc<dyn Fn(&Object, &Effect) -> ControlFlow<()> + Send + Sync>;

/// What every look at an object needs.
pub(crate) struct Context {
    /// The API server.
    pub(crate) client: Client,
    /// The cluster part of every identity.
    pub(crate) cluster: String,
    /// What the operator was told.
    pub(crate) options: Options,
    /// What the watches have shown.
    pub(crate) stores: Stores,
    /// Who refers to what.
    pub(crate) references: References,
    /// The open databases.
    pub(crate) fleets: Fleets,
    /// Asking for another look.
    pub(crate) wakes: Wakes,
    /// The right to write.
    pub(crate) gate: Gate,
    /// What is remembered of each object, by uid.
    pub(crate) memories: Mutex<HashMap<ResourceUid, Memory>>,
    /// What is counted.
    pub(crate) metrics: Metrics,
    /// For tests.
    pub(crate) hook: Option<Hook>,
}
