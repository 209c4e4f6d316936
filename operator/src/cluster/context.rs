//! What every look at an object needs, put together once per term of leadership. It refuses to know any one kind.

use std::ops::ControlFlow;
use std::sync::Arc;

use kube::Client;

use super::departures::Departures;
use super::events::EventSink;
use super::fleets::Fleets;
use super::gate::Gate;
use super::in_force::ProjectsInForce;
use super::memories::Memories;
use super::metrics::Metrics;
use super::options::Options;
use super::references::References;
use super::secret_watch::OwnSecrets;
use super::stores::Stores;
use super::wake::Wakes;
use crate::effect::Effect;
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
    /// What is remembered of each object.
    pub(crate) memories: Memories,
    /// The projects' rows, for their tokens.
    pub(crate) in_force: ProjectsInForce,
    /// The objects that are gone and whose rows may still stand.
    pub(crate) departures: Departures,
    /// Telling people what happened.
    pub(crate) events: EventSink,
    /// The Secrets that this process wrote itself.
    pub(crate) own_secrets: OwnSecrets,
    /// What is counted.
    pub(crate) metrics: Metrics,
    /// For tests.
    pub(crate) hook: Option<Hook>,
}
