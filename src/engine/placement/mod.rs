//! Which execution provider runs which node of a graph: read back from every loaded session, never taken for granted.
//!
//! ONNX Runtime gives nodes that a provider does not take to the CPU without a word. Two things are therefore read back.
//! After loading, the assignment of every node ([`assignment`]). And of the graphs of a package, the profile of a few small
//! runs ([`profile`]), which shows what really ran where and for how long; on the CPU only where it is asked for, as nothing else can
//! run there. Both together are a [`GraphPlacement`], which must reach the least share that [`PlacementOptions`] state, or
//! the graph is refused.
//!
//! Two kinds of nodes are counted apart and allowed. Nodes on the CPU that compute shapes: a GPU provider leaves them there on
//! purpose, because what they give is read by the host. And copies between the host and a device, which are no
//! computation. Times are those that the host sees. A GPU works on after its node has been launched, so that the provider's share
//! of the time is a lower bound.

mod assignment;
mod combine;
mod probe;
mod profile;
#[cfg(test)]
mod tests;

use ort::session::Session;
use serde::Serialize;

use self::assignment::AssignedNode;
pub(super) use self::probe::PROBE_RUNS;
pub(super) use self::profile::ProfileFolder;
use super::options::EngineOptions;
use super::types::EngineError;

/// The session option under which ONNX Runtime keeps the assignment for reading back.
pub(super) const RECORD_ASSIGNMENT: &str = "session.record_ep_graph_assignment_info";

/// Offending nodes that an error names.
const NODES_NAMED: usize = 40;

/// What counts as running on the provider that was asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlacementOptions {
    /// Least share of a graph's work on the provider that was asked for, 0 to 1: of the time of its nodes where it was
    /// measured, of their number otherwise. Never NaN.
    pub minimum: f64,
    /// Measure the time also on the CPU.
    pub probe: bool,
}

// The only number in it is never NaN.
impl Eq for PlacementOptions {}

impl Default for PlacementOptions {
    fn default() -> Self {
        Self { minimum: 0.99, probe: false }
    }
}

/// A node that runs elsewhere than was asked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlacedNode {
    /// Its name in the graph.
    pub name: String,
    /// Its operator.
    pub operator: String,
    /// What runs it, in ONNX Runtime's words.
    pub provider: String,
    /// Its share of the time of all nodes that compute, 0 to 1, where it was measured.
    pub time_share: Option<f64>,
}

/// What runs the nodes of a graph.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct GraphPlacement {
    /// File name of the graph.
    pub graph: String,
    /// The provider that was asked for, in ONNX Runtime's words.
    pub provider: String,
    /// Nodes that it runs, as they were when nodes were assigned: before ONNX Runtime joins some of them.
    pub nodes: usize,
    /// Nodes on the CPU that compute shapes, where another provider was asked for.
    pub shape_nodes: usize,
    /// All others that run elsewhere, the slowest first.
    pub elsewhere: Vec<PlacedNode>,
    /// How many of them were assigned elsewhere; the rest came into being later.
    pub nodes_elsewhere: usize,
    /// The share of the measured time that the provider ran, of the nodes that compute, 0 to 1. `None` if nothing was measured, or too
    /// little for the clock.
    pub time_share: Option<f64>,
    /// The time of copies between host and device over that of all nodes, 0 to 1, where it was measured.
    pub copy_time_share: Option<f64>,
}

impl GraphPlacement {
    /// The share of the nodes that compute which run on the provider that was asked for, 0 to 1; 1 if there are none.
    pub fn node_share(&self) -> f64 {
        let all = self.nodes + self.nodes_elsewhere;
        if all == 0 { 1.0 } else { self.nodes as f64 / all as f64 }
    }

    /// The share that is judged: of the time where it was measured, of the nodes otherwise.
    pub fn share(&self) -> f64 {
        self.time_share.unwrap_or_else(|| self.node_share())
    }

    /// Why the graph is refused, if it is.
    fn fault(&self, minimum: f64) -> Option<String> {
        let nothing = self.nodes == 0 && !self.elsewhere.is_empty();
        // Written so that a share that is no number does not pass.
        if self.share() >= minimum && !nothing {
            return None;
        }
        let measured = if self.time_share.is_some() { "of the time of its nodes" } else { "of its nodes" };
        let mut text = format!(
            "{:.2} % {measured} on {}, which was asked for, less than the {:.2} % of --minimum-placement; elsewhere run ",
            100.0 * if nothing { 0.0 } else { self.share() },
            self.provider,
            100.0 * minimum
        );
        if nothing && self.share() >= minimum {
            text = format!("no node runs on {}, which was asked for; elsewhere run ", self.provider);
        }
        let named: Vec<String> = self.elsewhere.iter().take(NODES_NAMED).map(PlacedNode::described).collect();
        text.push_str(&named.join(", "));
        match self.elsewhere.len().saturating_sub(NODES_NAMED) {
            0 => {}
            more => text.push_str(&format!(", and {more} more")),
        }
        Some(text)
    }
}

impl PlacedNode {
    fn described(&self) -> String {
        let time = self.time_share.map_or_else(String::new, |share| format!(", {:.2} % of the time", 100.0 * share));
        let name = if self.name.is_empty() { "a node without a name" } else { &self.name };
        format!("{name} ({}, {}{time})", self.operator, self.provider)
    }
}

/// What is known of the nodes of a loaded session.
pub(super) struct Placed {
    found: GraphPlacement,
    /// While its first runs are being measured.
    measuring: Option<(Vec<AssignedNode>, ProfileFolder)>,
}

impl Placed {
    /// Reads the assignment of a session of the graph `name`. Without `profile` it is judged at once; with it, when
    /// [`settle`](Self::settle) is called.
    pub(super) fn of(
        session: &Session,
        name: &str,
        options: &EngineOptions,
        profile: Option<ProfileFolder>,
    ) -> Result<Self, EngineError> {
        let assigned = assignment::of_session(session).map_err(|message| unproven(name, &message))?;
        let found = combine::combine(name, options.provider.provider.execution_provider(), &assigned, None);
        let measuring = profile.map(|folder| (assigned, folder));
        if measuring.is_none() {
            judge(&found, options)?;
        }
        Ok(Self { found, measuring })
    }

    /// Ends the measuring of the first runs, if they are measured, and judges the graph by them.
    pub(super) fn settle(&mut self, session: &mut Session, options: &EngineOptions) -> Result<(), EngineError> {
        let Some((assigned, folder)) = self.measuring.take() else { return Ok(()) };
        let measured = folder.read(session).map_err(|message| unproven(&self.found.graph, &message))?;
        self.found = combine::combine(&self.found.graph, &self.found.provider, &assigned, Some(&measured));
        judge(&self.found, options)
    }

    /// What was found.
    pub(super) fn found(&self) -> &GraphPlacement {
        &self.found
    }
}

/// What runs the nodes of a session of the graph `name`, of which `provider` was asked for, whatever its share is.
pub(super) fn look(session: &Session, name: &str, provider: &str) -> Result<GraphPlacement, EngineError> {
    let assigned = assignment::of_session(session).map_err(|message| unproven(name, &message))?;
    Ok(combine::combine(name, provider, &assigned, None))
}

/// Whether the graphs of a package are measured.
pub(super) fn measures(options: &EngineOptions) -> bool {
    options.placement.probe || options.provider.provider.is_gpu()
}

/// Refuses a graph of which too little runs on the provider that was asked for.
fn judge(found: &GraphPlacement, options: &EngineOptions) -> Result<(), EngineError> {
    match found.fault(options.placement.minimum) {
        Some(message) => Err(EngineError::Placement { graph: found.graph.clone(), message }),
        None => Ok(()),
    }
}

fn unproven(graph: &str, message: &str) -> EngineError {
    EngineError::Placement { graph: graph.to_owned(), message: format!("what runs its nodes cannot be told: {message}") }
}
