//! The assignment of a graph's nodes and the profile of its first runs, as one statement.

use std::collections::HashMap;

use super::assignment::AssignedNode;
use super::profile::MeasuredNode;
use super::{GraphPlacement, PlacedNode};

/// The provider of last resort.
const CPU: &str = "CPUExecutionProvider";

/// How the operators of copies between host and device begin; ONNX Runtime adds such nodes itself.
const COPY: &str = "Memcpy";

/// Operators by which shapes are computed. On the CPU, where another provider was asked for, they are taken for that as long as
/// no profile tells what they gave: a GPU provider leaves them there if their inputs are sizes, and only then.
const SHAPE_OPERATORS: [&str; 26] = [
    "Add",
    "Cast",
    "Concat",
    "ConstantOfShape",
    "Div",
    "Equal",
    "Expand",
    "Gather",
    "Greater",
    "Identity",
    "Less",
    "Max",
    "Min",
    "Mod",
    "Mul",
    "Range",
    "ReduceMax",
    "ReduceProd",
    "Reshape",
    "Shape",
    "Size",
    "Slice",
    "Squeeze",
    "Sub",
    "Unsqueeze",
    "Where",
];

/// What runs the nodes of `graph`, of which `provider` was asked for.
///
/// Nodes are counted as they were assigned; joined ones and those that a provider compiles into one are then counted one by one. Times
/// come from the profile, if there is one, whatever its nodes are called by then.
pub(super) fn combine(
    graph: &str,
    provider: &str,
    assigned: &[AssignedNode],
    measured: Option<&[MeasuredNode]>,
) -> GraphPlacement {
    let mut found = GraphPlacement { graph: graph.to_owned(), provider: provider.to_owned(), ..GraphPlacement::default() };
    let ran: HashMap<(&str, &str), &MeasuredNode> =
        measured.unwrap_or_default().iter().map(|node| ((node.name.as_str(), node.provider.as_str()), node)).collect();
    let (mut here_us, mut elsewhere_us, mut copies_us, mut all_us) = (0.0, 0.0, 0.0, 0.0);
    for node in measured.unwrap_or_default() {
        all_us += node.time_us;
        if node.operator.starts_with(COPY) {
            copies_us += node.time_us;
        } else if node.provider == provider {
            here_us += node.time_us;
        } else if !is_shape(node) {
            elsewhere_us += node.time_us;
        }
    }
    let computing_us: f64 = here_us + elsewhere_us;
    let share = |time_us: f64| (computing_us > 0.0).then(|| time_us / computing_us);

    let mut named: Vec<(&str, &str)> = Vec::new();
    for node in assigned {
        if node.provider == provider {
            found.nodes += 1;
            continue;
        }
        let key = (node.name.as_str(), node.provider.as_str());
        let ran = ran.get(&key);
        let shape = match ran {
            Some(ran) => is_shape(ran),
            None => node.provider == CPU && SHAPE_OPERATORS.contains(&node.operator.as_str()),
        };
        if shape {
            found.shape_nodes += 1;
            continue;
        }
        named.push(key);
        found.elsewhere.push(PlacedNode {
            name: node.name.clone(),
            operator: node.operator.clone(),
            provider: node.provider.clone(),
            time_share: ran.and_then(|ran| share(ran.time_us)),
        });
    }
    found.nodes_elsewhere = found.elsewhere.len();
    // Nodes that ONNX Runtime made after the assignment, by joining others or by casting for them.
    let later = measured.unwrap_or_default().iter().filter(|node| {
        let elsewhere = node.provider != provider && !node.operator.starts_with(COPY) && !is_shape(node);
        elsewhere && !named.contains(&(node.name.as_str(), node.provider.as_str()))
    });
    found.elsewhere.extend(later.map(|node| PlacedNode {
        name: node.name.clone(),
        operator: node.operator.clone(),
        provider: node.provider.clone(),
        time_share: share(node.time_us),
    }));
    let time = |node: &PlacedNode| node.time_share.unwrap_or(0.0);
    found.elsewhere.sort_by(|left, right| time(right).total_cmp(&time(left)));
    if measured.is_some() {
        found.time_share = share(here_us);
        found.copy_time_share = (all_us > 0.0).then(|| copies_us / all_us);
    }
    found
}

/// Whether a node on the CPU computed shapes.
fn is_shape(node: &MeasuredNode) -> bool {
    node.provider == CPU && node.gives_shapes
}
