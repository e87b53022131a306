//! Loading one graph and checking that it is what the manifest says.

use std::path::{Path, PathBuf};

use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::{Outlet, TensorElementType};

use super::device::Place;
use super::options::EngineOptions;
use super::placement::{self, Placed, ProfileFolder};
use super::prepacked::{self, Source};
use super::provider::{self, GraphSource, Provider};
use super::runtime::Loaded;
use super::types::EngineError;
use crate::guard::files;

/// Graph files are kilobytes; their weights lie elsewhere. The cap leaves room for inline rotary tables.
const GRAPH_LIMIT_BYTES: u64 = 256 << 20;

/// Wraps an error of ONNX Runtime; `R` is what its builders hand back for recovery.
pub(super) fn runtime_error<R>(doing: &str) -> impl FnOnce(ort::Error<R>) -> EngineError {
    move |error| EngineError::Runtime { doing: doing.to_owned(), message: error.message().to_owned() }
}

/// A promised input or output.
pub(super) struct Port {
    /// Its name.
    pub name: String,
    /// Number type.
    pub dtype: TensorElementType,
    /// Size of each axis where the manifest fixes it.
    pub shape: Vec<Option<usize>>,
}

impl Port {
    pub(super) fn new(name: impl Into<String>, dtype: TensorElementType, shape: impl Into<Vec<Option<usize>>>) -> Self {
        Self { name: name.into(), dtype, shape: shape.into() }
    }
}

/// A session and the file it came from, for errors.
pub(super) struct Graph {
    /// The session.
    pub session: Session,
    /// File name inside the package.
    pub name: String,
    /// Full path.
    pub path: PathBuf,
    /// Where what need not leave its provider lives.
    pub memory: Place,
    /// What runs its nodes.
    pub placed: Placed,
}

/// How a graph is loaded: [`Graph::load`] or [`Graph::load_measured`].
pub(super) type GraphLoader = fn(&Loaded, &Path, &str, &EngineOptions, bool) -> Result<Graph, EngineError>;

impl Graph {
    /// Reads `name` below the package folder `root` and makes a session of it. Weights are found from `root`, whatever
    /// symbolic links lead to it, or come packed from the prepacked cache if `options` name one. `fixed_shapes` says that every
    /// run will have the same shapes.
    pub(super) fn load(
        runtime: &Loaded,
        root: &Path,
        name: &str,
        options: &EngineOptions,
        fixed_shapes: bool,
    ) -> Result<Self, EngineError> {
        let path = files::contained(root, name)?;
        let bytes = files::read_capped(&path, GRAPH_LIMIT_BYTES)?;
        // What is packed is packed for the processor.
        if let (true, Some(cache), false) = (options.prepack, &options.prepacked_cache, options.provider.provider.is_gpu()) {
            let source = Source { root, name, bytes: &bytes, fixed_shapes };
            if let Some(session) = prepacked::session(runtime, cache, &source, options) {
                return Self::of_session(session, name, path, options, None);
            }
        }
        Self::of_bytes(runtime, root, name, &bytes, options, fixed_shapes)
    }

    /// As [`load`](Self::load), but where graphs are measured, the first runs of this one are, until [`settle`](Self::settle) is
    /// called. The prepacked cache is then left aside.
    pub(super) fn load_measured(
        runtime: &Loaded,
        root: &Path,
        name: &str,
        options: &EngineOptions,
        fixed_shapes: bool,
    ) -> Result<Self, EngineError> {
        if !placement::measures(options) {
            return Self::load(runtime, root, name, options, fixed_shapes);
        }
        let bytes = files::read_capped(&files::contained(root, name)?, GRAPH_LIMIT_BYTES)?;
        let profile = profile_folder(name)?;
        Self::commit(runtime, root, name, &bytes, (options, fixed_shapes), Some(profile))
    }

    /// A graph whose session is made.
    pub(super) fn of_session(
        session: Session,
        name: &str,
        path: PathBuf,
        options: &EngineOptions,
        profile: Option<ProfileFolder>,
    ) -> Result<Self, EngineError> {
        let placed = Placed::of(&session, name, options, profile)?;
        Ok(Self { session, name: name.to_owned(), path, memory: Place::of(&options.provider), placed })
    }

    /// Ends the measuring of the first runs, if they are measured. Refuses the graph if too little of it runs on the provider
    /// that was asked for.
    pub(super) fn settle(&mut self, options: &EngineOptions) -> Result<(), EngineError> {
        self.placed.settle(&mut self.session, options)
    }

    /// Makes a session of a graph in memory that was made of the graph `name` of the package folder `root`.
    pub(super) fn of_bytes(
        runtime: &Loaded,
        root: &Path,
        name: &str,
        bytes: &[u8],
        options: &EngineOptions,
        fixed_shapes: bool,
    ) -> Result<Self, EngineError> {
        Self::commit(runtime, root, name, bytes, (options, fixed_shapes), None)
    }

    fn commit(
        runtime: &Loaded,
        root: &Path,
        name: &str,
        bytes: &[u8],
        (options, fixed_shapes): (&EngineOptions, bool),
        profile: Option<ProfileFolder>,
    ) -> Result<Self, EngineError> {
        let path = files::contained(root, name)?;
        let doing = format!("loading {name}");
        let folder = root
            .canonicalize()
            .map_err(|source| files::GuardError::Read { path: root.to_path_buf(), source })?
            .to_str()
            .map(str::to_owned)
            .ok_or_else(|| EngineError::Graph { graph: path.clone(), message: "its folder's name is not Unicode".to_owned() })?;
        let builder = builder_at(runtime, options, fixed_shapes, GraphOptimizationLevel::Level3);
        let builder = builder.and_then(|builder| suited(builder, bytes));
        let builder = with_profile(builder, profile.as_ref()).map_err(runtime_error(&doing))?;
        let session = provider::register(builder, runtime, &options.provider, Some(&GraphSource { root, name, bytes }))?
            .with_config_entry("session.model_external_initializers_file_folder_path", &folder)
            .map_err(runtime_error(&doing))?
            .commit_from_memory(bytes)
            .map_err(|error| provider::loading_failed(&doing, options.provider.provider, error.message()))?;
        Self::of_session(session, name, path, options, profile)
    }

    /// Refuses the graph unless it has exactly the promised inputs and outputs.
    pub(super) fn expect(&self, inputs: &[Port], outputs: &[Port]) -> Result<(), EngineError> {
        let check = |kind, expected: &[Port], found: &[Outlet]| {
            compare_ports(kind, expected, found).map_err(|message| self.wrong(message))
        };
        check("input", inputs, self.session.inputs())?;
        check("output", outputs, self.session.outputs())
    }

    /// An error about this graph.
    pub(super) fn wrong(&self, message: impl Into<String>) -> EngineError {
        EngineError::Graph { graph: self.path.clone(), message: message.into() }
    }
}

/// A session of a small graph of this program's own, which must run where the others do. TensorRT, which builds engines for minutes, is
/// not asked: CUDA runs it on the same GPU.
pub(super) fn small_session(runtime: &Loaded, options: &EngineOptions, name: &str, bytes: &[u8]) -> Result<Session, EngineError> {
    let mut options = options.clone();
    if options.provider.provider.is_gpu() {
        options.provider.provider = Provider::Cuda;
    }
    let doing = format!("loading {name}");
    let builder = builder(runtime, &options, false).map_err(runtime_error(&doing))?;
    let session = provider::register(builder, runtime, &options.provider, None)?
        .commit_from_memory(bytes)
        .map_err(|error| provider::loading_failed(&doing, options.provider.provider, error.message()))?;
    drop(Placed::of(&session, name, &options, None)?);
    Ok(session)
}

/// A folder for the profile of the graph `name`.
pub(super) fn profile_folder(name: &str) -> Result<ProfileFolder, EngineError> {
    ProfileFolder::new().map_err(|error| EngineError::Placement {
        graph: name.to_owned(),
        message: format!("no folder for the profile of its first runs can be made among temporary files: {error}"),
    })
}

/// The same builder, with its sessions profiled if there is a folder for that.
pub(super) fn with_profile(builder: ort::Result<SessionBuilder>, profile: Option<&ProfileFolder>) -> ort::Result<SessionBuilder> {
    match profile {
        Some(folder) => Ok(builder?.with_profiling(folder.prefix())?),
        None => builder,
    }
}

pub(super) fn builder(runtime: &Loaded, options: &EngineOptions, fixed_shapes: bool) -> ort::Result<SessionBuilder> {
    Ok(builder_at(runtime, options, fixed_shapes, GraphOptimizationLevel::Level3)?.with_config_entry(EXACT_PRODUCTS, "1")?)
}

/// Whether integer products are exact: on x86 without VNNI, they would saturate in 16 bits.
const EXACT_PRODUCTS: &str = "session.x64quantprecision";

/// Integer products are exact, but for graphs that have weights in blocks instead: where products would not be exact, ONNX Runtime
/// makes signed codes unsigned, those of blocks too, which it cannot compute with then (1.31).
pub(super) fn suited(builder: SessionBuilder, graph: &[u8]) -> ort::Result<SessionBuilder> {
    const OF_BLOCKS: &[u8] = b"DequantizeLinear";
    let blocks = graph.windows(OF_BLOCKS.len()).any(|part| part == OF_BLOCKS);
    Ok(builder.with_config_entry(EXACT_PRODUCTS, if blocks { "0" } else { "1" })?)
}

/// [`builder`] with another level of optimisation, and without the setting that [`suited`] makes. What changes graphs or weights here
/// must stand in the key of the prepacked cache, too.
pub(super) fn builder_at(
    runtime: &Loaded,
    options: &EngineOptions,
    fixed_shapes: bool,
    level: GraphOptimizationLevel,
) -> ort::Result<SessionBuilder> {
    Ok(Session::builder(&runtime.environment)?
        .with_optimization_level(level)?
        .with_intra_threads(options.intra_op_threads.max(1))?
        .with_inter_threads(1)?
        // The three stages have a pool each, and image decoding runs beside them: idle threads must not burn the cores
        // that others need once a run has ended.
        .with_config_entry("session.force_spinning_stop", "1")?
        .with_config_entry(placement::RECORD_ASSIGNMENT, "1")?
        // A memory plan is kept for each new shape, and in decoding each step has one.
        .with_memory_pattern(fixed_shapes)?
        .with_deterministic_compute(true)?
        .with_prepacking(options.prepack)?)
}

fn compare_ports(kind: &str, expected: &[Port], found: &[Outlet]) -> Result<(), String> {
    for port in expected {
        let outlet = found.iter().find(|outlet| outlet.name() == port.name).ok_or_else(|| {
            let names: Vec<&str> = found.iter().map(Outlet::name).take(12).collect();
            format!("{kind} `{}` is missing; found {}", port.name, names.join(", "))
        })?;
        let dtype = outlet.dtype();
        if dtype.tensor_type() != Some(port.dtype) {
            return Err(format!("{kind} `{}` must be a tensor of {}, found {dtype}", port.name, port.dtype));
        }
        let shape = dtype.tensor_shape().map(|shape| shape.to_vec()).unwrap_or_default();
        // A negative size stands for any; a graph may also leave an output's shape out altogether.
        let fits = shape.len() == port.shape.len()
            && shape.iter().zip(&port.shape).all(|(&found, expected)| {
                found < 0 || expected.is_none_or(|expected| usize::try_from(found).is_ok_and(|found| found == expected))
            });
        let untold = kind == "output" && shape.is_empty();
        if !fits && !untold {
            let expected: Vec<String> =
                port.shape.iter().map(|size| size.map_or_else(|| "any".to_owned(), |size| size.to_string())).collect();
            return Err(format!("{kind} `{}` must have shape [{}], found {shape:?}", port.name, expected.join(", ")));
        }
    }
    match found.iter().find(|outlet| expected.iter().all(|port| port.name != outlet.name())) {
        Some(extra) if kind == "input" => Err(format!("input `{}` is not one that the manifest's interface has", extra.name())),
        _ => Ok(()),
    }
}
