//! What ran a package's graphs, as a run records it.

use crate::engine::{EngineOptions, GraphPlacement, PlacedNode, Provider};
use crate::store::{DeterminismClass, Execution, GraphExecution, NodeExecution};

/// Nodes that a record names of each graph; the counts are of all.
const NODES_RECORDED: usize = 20;

/// What ran these graphs, which were loaded with these options.
pub fn execution(graphs: &[GraphPlacement], options: &EngineOptions) -> Execution {
    let provider = options.provider.provider;
    Execution {
        provider: provider.execution_provider().to_owned(),
        determinism: match provider {
            Provider::Cpu => DeterminismClass::D0,
            Provider::Cuda => DeterminismClass::D1,
            Provider::TensorRt => DeterminismClass::D2,
        },
        minimum_placement: options.placement.minimum,
        graphs: graphs.iter().map(graph).collect(),
    }
}

fn graph(found: &GraphPlacement) -> GraphExecution {
    GraphExecution {
        graph: found.graph.clone(),
        nodes: found.nodes,
        shape_nodes: found.shape_nodes,
        nodes_elsewhere: found.nodes_elsewhere,
        node_share: found.node_share(),
        time_share: found.time_share,
        copy_time_share: found.copy_time_share,
        elsewhere: found.elsewhere.iter().take(NODES_RECORDED).map(node).collect(),
    }
}

fn node(found: &PlacedNode) -> NodeExecution {
    NodeExecution {
        name: found.name.clone(),
        operator: found.operator.clone(),
        provider: found.provider.clone(),
        time_share: found.time_share,
    }
}
