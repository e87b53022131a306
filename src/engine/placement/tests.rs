//! Reading of profiles and judging, by recorded profiles (`tests/fixtures/placement/make_profiles.py`; the one of the CPU is
//! real, those of CUDA and TensorRT are made by hand), and what a real session on the CPU tells of itself.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;

use super::super::provider::{Provider, ProviderOptions};
use super::super::runtime;
use super::super::session::Graph;
use super::assignment::AssignedNode;
use super::combine::combine;
use super::profile::{MeasuredNode, parse};
use super::*;
use crate::package::Package;

const CPU: &str = "CPUExecutionProvider";
const CUDA: &str = "CUDAExecutionProvider";
const TENSORRT: &str = "TensorrtExecutionProvider";

fn recorded(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/placement").join(name)).unwrap()
}

fn profile(name: &str) -> Vec<MeasuredNode> {
    parse(&recorded(name)).unwrap()
}

fn assigned(nodes: &[(&str, &str, &str)]) -> Vec<AssignedNode> {
    let text = |text: &str| text.to_owned();
    nodes
        .iter()
        .map(|(name, operator, provider)| AssignedNode { name: text(name), operator: text(operator), provider: text(provider) })
        .collect()
}

/// The nodes of `cuda.json` as they were assigned: the layer's two norms were joined with additions later.
fn on_cuda() -> Vec<AssignedNode> {
    assigned(&[
        ("norm/add", "Add", CUDA),
        ("norm/norm", "RMSNormalization", CUDA),
        ("attention", "GroupQueryAttention", CUDA),
        ("mlp", "Gemm", CUDA),
        ("shape", "Shape", CPU),
        ("shape/gather", "Gather", CPU),
        ("lonely", "TopK", CPU),
    ])
}

fn options(provider: Provider, minimum: f64) -> EngineOptions {
    EngineOptions {
        provider: ProviderOptions { provider, ..ProviderOptions::default() },
        placement: PlacementOptions { minimum, probe: false },
        ..EngineOptions::default()
    }
}

#[test]
fn a_real_profile_of_the_cpu_is_read() {
    let nodes = profile("cpu.json");
    let operators: Vec<&str> = nodes.iter().map(|node| node.operator.as_str()).collect();
    // Whether names stay is the optimiser's matter, which joins and drops nodes; these two have real work.
    for operator in ["Gemm", "Softmax", "Reshape"] {
        assert!(operators.iter().any(|found| found.contains(operator)), "{operator} of {operators:?}");
    }
    assert!(nodes.iter().all(|node| node.provider == CPU));
    let shapes: Vec<&str> = nodes.iter().filter(|node| node.gives_shapes).map(|node| node.operator.as_str()).collect();
    assert!(shapes.contains(&"Shape") && shapes.contains(&"Concat"), "{shapes:?}");
    assert!(
        nodes
            .iter()
            .filter(|node| node.gives_shapes)
            .all(|node| !["Gemm", "Softmax", "Reshape"].contains(&node.operator.as_str()))
    );
    assert!(nodes.iter().any(|node| node.time_us > 0.0));

    let found = combine("g.onnx", CPU, &[], Some(&nodes));
    assert_eq!((found.time_share, found.elsewhere.len(), found.copy_time_share), (Some(1.0), 0, Some(0.0)));
    // The same runs where CUDA was asked for are what this is all about.
    let found = combine("g.onnx", CUDA, &[], Some(&nodes));
    assert_eq!((found.time_share, found.nodes), (Some(0.0), 0));
    assert!(found.fault(0.0).is_some());
}

#[test]
fn the_first_run_of_a_node_is_left_out_unless_it_is_the_only_one() {
    let nodes = profile("cuda.json");
    let time = |name: &str| nodes.iter().find(|node| node.name == name).unwrap().time_us;
    assert_eq!([time("norm"), time("attention"), time("lonely")], [80.0, 600.0, 120.0]);
    let text = String::from_utf8(recorded("cuda.json")).unwrap();
    let once: Vec<&str> = text.lines().filter(|line| !line.contains("\"ts\": 1000") && !line.contains("\"ts\": 2000")).collect();
    let nodes = parse(once.join("\n").as_bytes()).unwrap();
    assert_eq!(nodes.iter().find(|node| node.name == "norm").unwrap().time_us, 9000.0);
}

#[test]
fn a_node_that_fell_to_the_cpu_is_found_and_shapes_and_copies_are_not_held_against_the_provider() {
    let found = combine("llm.onnx", CUDA, &on_cuda(), Some(&profile("cuda.json")));
    // By hand: 80 + 600 + 800 on CUDA, 120 elsewhere, 20 for shapes, 80 for copies.
    assert_eq!((found.nodes, found.shape_nodes, found.nodes_elsewhere), (4, 2, 1));
    assert_eq!(found.time_share, Some(1480.0 / 1600.0));
    assert_eq!(found.copy_time_share, Some(80.0 / 1700.0));
    assert_eq!(found.node_share(), 0.8);
    let lonely = PlacedNode {
        name: "lonely".to_owned(),
        operator: "TopK".to_owned(),
        provider: CPU.to_owned(),
        time_share: Some(120.0 / 1600.0),
    };
    assert_eq!(found.elsewhere, [lonely]);

    assert!(judge(&found, &options(Provider::Cuda, 0.92)).is_ok());
    let error = judge(&found, &options(Provider::Cuda, 0.99)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "llm.onnx: 92.50 % of the time of its nodes on CUDAExecutionProvider, which was asked for, less than the 99.00 % of \
         --minimum-placement; elsewhere run lonely (TopK, CPUExecutionProvider, 7.50 % of the time)"
    );
    // Without the lonely node the CPU computes shapes alone, and nothing is wrong.
    let nodes: Vec<MeasuredNode> = profile("cuda.json").into_iter().filter(|node| node.name != "lonely").collect();
    let found = combine("llm.onnx", CUDA, &on_cuda()[..6], Some(&nodes));
    assert_eq!((found.time_share, found.node_share(), found.elsewhere.len()), (Some(1.0), 1.0, 0));
    assert!(judge(&found, &options(Provider::Cuda, 1.0)).is_ok());
}

#[test]
fn nodes_that_tensorrt_compiled_into_one_are_counted_one_by_one() {
    let nodes = assigned(&[
        ("norm", "RMSNormalization", TENSORRT),
        ("attention", "Attention", TENSORRT),
        ("mlp", "MatMul", TENSORRT),
        ("scatter", "TensorScatter", CUDA),
    ]);
    let found = combine("llm.onnx", TENSORRT, &nodes, Some(&profile("tensorrt.json")));
    assert_eq!((found.nodes, found.shape_nodes, found.nodes_elsewhere), (3, 0, 1));
    // What CUDA runs in TensorRT's place is elsewhere, but a hundredth of the time is allowed.
    assert_eq!((found.time_share, found.elsewhere[0].name.as_str()), (Some(0.99), "scatter"));
    assert!(judge(&found, &options(Provider::TensorRt, 0.99)).is_ok());
    assert!(judge(&found, &options(Provider::TensorRt, 0.995)).is_err());
}

#[test]
fn without_a_profile_nodes_are_counted() {
    let found = combine("llm.onnx", CUDA, &on_cuda(), None);
    assert_eq!((found.nodes, found.shape_nodes, found.time_share), (4, 2, None));
    assert_eq!(found.share(), 0.8);
    let message = judge(&found, &options(Provider::Cuda, 0.99)).unwrap_err().to_string();
    assert!(
        message.contains("80.00 % of its nodes on CUDA") && message.contains("lonely (TopK, CPUExecutionProvider)"),
        "{message}"
    );
    // No node at all where it was asked for is refused whatever the least share is.
    let nowhere = combine("llm.onnx", CUDA, &assigned(&[("mlp", "Gemm", CPU)]), None);
    let message = judge(&nowhere, &options(Provider::Cuda, 0.0)).unwrap_err().to_string();
    assert_eq!(
        message,
        "llm.onnx: no node runs on CUDAExecutionProvider, which was asked for; elsewhere run mlp (Gemm, CPUExecutionProvider)"
    );
    // A graph whose nodes were all computed away has nothing to place.
    assert!(judge(&combine("g.onnx", CUDA, &[], None), &options(Provider::Cuda, 1.0)).is_ok());
}

#[test]
fn many_offenders_are_counted_after_the_first_ones() {
    let names: Vec<String> = (0..50).map(|index| format!("n{index}")).collect();
    let nodes: Vec<(&str, &str, &str)> = names.iter().map(|name| (name.as_str(), "Gemm", CPU)).collect();
    let message = combine("g.onnx", CUDA, &assigned(&nodes), None).fault(0.99).unwrap();
    assert!(message.contains("n39 (Gemm") && !message.contains("n40 (Gemm") && message.ends_with(", and 10 more"), "{message}");
}

#[test]
fn large_whole_numbers_are_data_and_not_shapes() {
    let event = |outputs: &str| {
        format!(
            r#"[{{"cat":"Node","name":"n_kernel_time","dur":3,"args":{{"op_name":"Add","provider":"{CPU}","output_type_shape":{outputs}}}}}]"#
        )
    };
    let shapes = |outputs: &str| parse(event(outputs).as_bytes()).unwrap()[0].gives_shapes;
    assert!(shapes(r#"[{"int64":[4]}]"#) && shapes(r#"[{"int64":[]},{"bool":[8,8]}]"#[..].replace("[8,8]", "[7,9]").as_str()));
    for data in [
        r#"[{"int64":[1,65]}]"#,
        r#"[{"int32":[4611686018427387904,4611686018427387904]}]"#,
        r#"[{"int64":[4]},{"float":[1]}]"#,
        r#"[{"int64":[-1]}]"#,
        r#"[{"int64":"4"}]"#,
        r#"[{}]"#,
        r#"[]"#,
        r#""int64""#,
        "null",
    ] {
        assert!(!shapes(data), "{data}");
    }
}

#[test]
fn what_is_no_profile_proves_nothing() {
    let node = |fields: &str| format!(r#"[{{"cat":"Node","name":"n_kernel_time",{fields}}}]"#);
    for (text, expected) in [
        (String::new(), "is no profile of ONNX Runtime"),
        ("{}".to_owned(), "is no profile of ONNX Runtime"),
        ("[]".to_owned(), "has no event of any node"),
        (r#"[{"cat":"Session","name":"model_run","dur":3}]"#.to_owned(), "has no event of any node"),
        (node(r#""dur":3"#), "does not say which provider"),
        (node(r#""dur":-1,"args":{"provider":"CPUExecutionProvider"}"#), "has the duration -1"),
        (node(r#""dur":"3","args":{"provider":"CPUExecutionProvider"}"#), "is no profile of ONNX Runtime"),
    ] {
        let message = parse(text.as_bytes()).unwrap_err();
        assert!(message.contains(expected), "{text}: {message}");
    }
    // A profile that was cut off anywhere is refused, never half of it believed.
    let whole = recorded("cuda.json");
    let end = whole.iter().rposition(|byte| *byte == b']').unwrap();
    for length in 0..=end {
        assert!(parse(&whole[..length]).is_err(), "{length} bytes");
    }
}

fn tiny() -> Package {
    Package::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/engine/tiny")).unwrap()
}

/// A session that really runs on the CPU is refused where a GPU was asked for, with its nodes by name: this is what keeps a
/// provider that quietly took nothing from being believed.
#[test]
fn a_session_on_the_cpu_is_no_session_on_cuda() {
    let package = tiny();
    let loaded = runtime::load(&Default::default(), &mut |_| {}).unwrap();
    let graph = Graph::load(loaded, &package.root, &package.manifest.llm.graph, &EngineOptions::default(), false).unwrap();
    let found = graph.placed.found();
    assert_eq!((found.provider.as_str(), found.node_share(), found.time_share), (CPU, 1.0, None));
    assert!(found.nodes > 10, "{found:?}");
    for provider in [Provider::Cuda, Provider::TensorRt] {
        let error = Placed::of(&graph.session, &graph.name, &options(provider, 0.5), None).err().unwrap();
        let message = error.to_string();
        assert!(matches!(error, EngineError::Placement { .. }), "{message}");
        assert!(
            message.contains("GroupQueryAttention, CPUExecutionProvider") && message.contains(provider.execution_provider()),
            "{message}"
        );
    }
}

/// The folder of a profile belongs to it alone and is gone afterwards, profile included.
#[test]
fn folders_of_profiles_are_removed() {
    let (one, other) = (ProfileFolder::new().unwrap(), ProfileFolder::new().unwrap());
    assert_ne!(one.prefix(), other.prefix());
    let folder = one.prefix().parent().unwrap().to_path_buf();
    std::fs::write(folder.join("profile_1.json"), "[]").unwrap();
    drop(one);
    assert!(!folder.exists() && other.prefix().parent().unwrap().exists());
}
