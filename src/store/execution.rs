//! What ran the graphs of a run, and how far its answers would come again.

use serde::{Deserialize, Serialize};

/// How far runs of one package under the same settings give the same answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DeterminismClass {
    /// The CPU with a fixed number of threads: on one kind of processor with one ONNX Runtime, the same answers every time.
    D0,
    /// CUDA: kernels may add up in another order from run to run. At least 99.5 % of the answers are expected to be the same.
    D1,
    /// TensorRT: as D1, and an engine that is built anew may choose other kernels, which differ in rounding. Only the same engine
    /// file is expected to give the same answers.
    D2,
}

impl DeterminismClass {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::D0 => "D0",
            Self::D1 => "D1",
            Self::D2 => "D2",
        }
    }

    /// What it means, as half a sentence.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::D0 => "the same answers in every run",
            Self::D1 => "CUDA, at least 99.5 % the same answers in every run",
            Self::D2 => "TensorRT, the same answers only from the same engine file",
        }
    }

    /// The class of a provider, as [`RunSettings::provider`](super::RunSettings) names it; `None` where it is not known.
    pub fn of_provider(provider: &str) -> Option<Self> {
        match provider {
            "cpu" => Some(Self::D0),
            "cuda" => Some(Self::D1),
            "tensorrt" => Some(Self::D2),
            _ => None,
        }
    }

    /// The share of answers that may differ between two runs of one package by the class alone, 0 to 1; `None` where no
    /// bound is known.
    pub fn noise(self) -> Option<f64> {
        match self {
            Self::D0 => Some(0.0),
            Self::D1 => Some(0.005),
            Self::D2 => None,
        }
    }
}

/// What ran the graphs of a package, read back from ONNX Runtime when they were loaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Execution {
    /// The execution provider that was asked for, in ONNX Runtime's words.
    pub provider: String,
    /// How far the answers would come again.
    pub determinism: DeterminismClass,
    /// The least share of each graph's work that had to run there, 0 to 1.
    pub minimum_placement: f64,
    /// Graph by graph.
    pub graphs: Vec<GraphExecution>,
}

/// What ran the nodes of one graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GraphExecution {
    /// File name.
    pub graph: String,
    /// Nodes on the provider that was asked for.
    pub nodes: usize,
    /// Nodes on the CPU that compute shapes, which is allowed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub shape_nodes: usize,
    /// Other nodes that were assigned elsewhere.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub nodes_elsewhere: usize,
    /// The provider's share of the nodes that compute, 0 to 1.
    pub node_share: f64,
    /// Its share of their time in the first runs, 0 to 1, where those were measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_share: Option<f64>,
    /// The share that copies between host and device had in the time of all nodes, 0 to 1, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_time_share: Option<f64>,
    /// The slowest nodes that ran elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elsewhere: Vec<NodeExecution>,
}

/// A node that ran elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeExecution {
    /// Its name in the graph.
    pub name: String,
    /// Its operator.
    pub operator: String,
    /// What ran it, in ONNX Runtime's words.
    pub provider: String,
    /// Its share of the time of the nodes that compute, 0 to 1, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_share: Option<f64>,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Execution {
    /// In one line, such as `CPUExecutionProvider 100 % of 57 nodes`.
    pub fn summary(&self) -> String {
        let (nodes, elsewhere) =
            self.graphs.iter().fold((0, 0), |(nodes, elsewhere), graph| (nodes + graph.nodes, elsewhere + graph.nodes_elsewhere));
        placed_text(
            &self.provider,
            nodes,
            elsewhere,
            self.least_time_share(),
            self.graphs.iter().map(|graph| graph.shape_nodes).sum(),
        )
    }

    /// The smallest share of time of any graph, if all were measured.
    fn least_time_share(&self) -> Option<f64> {
        self.graphs.iter().map(|graph| graph.time_share).try_fold(1.0, |least: f64, share| Some(least.min(share?)))
    }

    /// One line for each graph.
    pub fn lines(&self) -> Vec<String> {
        let line = |graph: &GraphExecution| {
            let placed = placed_text(&self.provider, graph.nodes, graph.nodes_elsewhere, graph.time_share, graph.shape_nodes);
            let copies = match graph.copy_time_share {
                Some(share) if share > 0.0 => format!(", copies {} of all time", percent(share)),
                _ => String::new(),
            };
            let named: Vec<String> = graph.elsewhere.iter().map(NodeExecution::described).collect();
            let elsewhere = if named.is_empty() { String::new() } else { format!("; elsewhere {}", named.join(", ")) };
            format!("{}: {placed}{copies}{elsewhere}", graph.graph)
        };
        self.graphs.iter().map(line).collect()
    }
}

impl NodeExecution {
    fn described(&self) -> String {
        let time = self.time_share.map_or_else(String::new, |share| format!(", {}", percent(share)));
        format!("{} ({}, {}{time})", self.name, self.operator, self.provider)
    }
}

/// `CUDAExecutionProvider 99.20 % of 1204 nodes, 99.97 % of their time; 31 nodes for shapes on the CPU`.
fn placed_text(provider: &str, nodes: usize, elsewhere: usize, time_share: Option<f64>, shape_nodes: usize) -> String {
    let all = nodes + elsewhere;
    let share = if all == 0 { 1.0 } else { nodes as f64 / all as f64 };
    let noun = if all == 1 { "node" } else { "nodes" };
    let time = time_share.map_or_else(String::new, |share| format!(", {} of their time", percent(share)));
    let shapes = match shape_nodes {
        0 => String::new(),
        1 => "; 1 node for shapes on the CPU".to_owned(),
        count => format!("; {count} nodes for shapes on the CPU"),
    };
    format!("{provider} {} of {all} {noun}{time}{shapes}", percent(share))
}

/// A share in per cent, rounded down, so that only all of it is 100 %.
fn percent(share: f64) -> String {
    if share >= 1.0 {
        return "100 %".to_owned();
    }
    format!("{:.2} %", (share * 1e4).floor().max(0.0) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(name: &str, nodes: usize, elsewhere: usize, time_share: Option<f64>) -> GraphExecution {
        GraphExecution {
            graph: name.to_owned(),
            nodes,
            shape_nodes: 0,
            nodes_elsewhere: elsewhere,
            node_share: nodes as f64 / (nodes + elsewhere) as f64,
            time_share,
            copy_time_share: None,
            elsewhere: Vec::new(),
        }
    }

    fn execution(provider: &str, graphs: Vec<GraphExecution>) -> Execution {
        Execution { provider: provider.to_owned(), determinism: DeterminismClass::D1, minimum_placement: 0.99, graphs }
    }

    #[test]
    fn the_summary_counts_all_graphs_and_never_rounds_up_to_all() {
        let all = execution("CPUExecutionProvider", vec![graph("vision.onnx", 40, 0, None), graph("llm.onnx", 60, 0, None)]);
        assert_eq!(all.summary(), "CPUExecutionProvider 100 % of 100 nodes");
        let most = vec![graph("vision.onnx", 9999, 1, Some(0.99999)), graph("llm.onnx", 60000, 0, Some(1.0))];
        let most = execution("CUDAExecutionProvider", most);
        assert_eq!(most.summary(), "CUDAExecutionProvider 99.99 % of 70000 nodes, 99.99 % of their time");
    }

    #[test]
    fn a_line_names_what_ran_elsewhere() {
        let mut llm = graph("llm.onnx", 3, 1, Some(0.875));
        llm.shape_nodes = 1;
        llm.copy_time_share = Some(0.25);
        llm.elsewhere = vec![NodeExecution {
            name: "head".to_owned(),
            operator: "Gemm".to_owned(),
            provider: "CPUExecutionProvider".to_owned(),
            time_share: Some(0.125),
        }];
        assert_eq!(
            execution("CUDAExecutionProvider", vec![llm]).lines(),
            [
                "llm.onnx: CUDAExecutionProvider 75.00 % of 4 nodes, 87.50 % of their time; 1 node for shapes on the CPU, copies 25.00 % of \
              all time; elsewhere head (Gemm, CPUExecutionProvider, 12.50 %)"
            ]
        );
    }
}
