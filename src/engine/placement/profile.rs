//! Profiles of ONNX Runtime: which nodes ran, on which provider, and for how long.
//!
//! A profile is a JSON array of trace events. Those of nodes have the category `Node`, a name that ends in `_kernel_time`, a
//! duration `dur` in whole microseconds, and among their arguments `op_name`, `provider` and `output_type_shape`, a list with one
//! object for each output, its type as the key of its shape. Other events are left out.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use ort::session::Session;
use serde::Deserialize;

use crate::guard::files::read_capped;

/// Largest profile that is read. The first runs of a graph of ten thousand nodes write about a tenth of it.
const PROFILE_LIMIT_BYTES: u64 = 256 << 20;

/// Most numbers that the outputs of a node may have together which computes shapes. A shape has as many as axes; a mask or
/// positions of a prompt have more.
const SHAPE_LIMIT_NUMBERS: u64 = 64;

/// How names of the events of nodes end.
const NODE_EVENT: &str = "_kernel_time";

/// A node that ran.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct MeasuredNode {
    /// Its name.
    pub name: String,
    /// Its operator.
    pub operator: String,
    /// What ran it, in ONNX Runtime's words.
    pub provider: String,
    /// Microseconds of all its runs but the first, which holds what is done only once; of the first if there is no other.
    pub time_us: f64,
    /// Whether it gave whole numbers and truth values alone, and few of them: shapes.
    pub gives_shapes: bool,
}

/// A folder of its own for a profile, removed with all that is in it when it is dropped.
#[derive(Debug)]
pub(in crate::engine) struct ProfileFolder(PathBuf);

impl ProfileFolder {
    /// Makes one among the system's temporary files.
    pub fn new() -> std::io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("llava-gauge-profile-{}-{number}-{now}", std::process::id()));
        // Fails where there is something of that name already, so that nobody else has made it.
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }

    /// What names of files in it begin with, for ONNX Runtime.
    pub fn prefix(&self) -> PathBuf {
        self.0.join("profile")
    }

    /// Ends the profile of a session and reads it.
    pub(super) fn read(&self, session: &mut Session) -> Result<Vec<MeasuredNode>, String> {
        let file = session.end_profiling().map_err(|error| error.message().to_owned())?;
        read(Path::new(&file))
    }
}

impl Drop for ProfileFolder {
    fn drop(&mut self) {
        // What cannot be removed is left to the system, which empties that folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The nodes of a profile in a file, in the order in which they first ran.
pub(super) fn read(path: &Path) -> Result<Vec<MeasuredNode>, String> {
    let bytes = read_capped(path, PROFILE_LIMIT_BYTES).map_err(|error| error.to_string())?;
    parse(&bytes).map_err(|message| format!("{}: {message}", path.display()))
}

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    cat: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    dur: f64,
    #[serde(default)]
    args: Arguments,
}

#[derive(Default, Deserialize)]
struct Arguments {
    #[serde(default)]
    op_name: String,
    #[serde(default)]
    provider: String,
    #[serde(default)]
    output_type_shape: serde_json::Value,
}

/// What is gathered of a node.
struct Runs {
    operator: String,
    count: usize,
    first_us: f64,
    later_us: f64,
    gives_shapes: bool,
}

/// The nodes of a profile. Without any it proves nothing and is an error.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<MeasuredNode>, String> {
    let events: Vec<Event> = serde_json::from_slice(bytes).map_err(|error| format!("is no profile of ONNX Runtime: {error}"))?;
    let mut order: Vec<(String, String)> = Vec::new();
    let mut nodes: HashMap<(String, String), Runs> = HashMap::new();
    for event in events {
        let Some(name) = event.name.strip_suffix(NODE_EVENT).filter(|_| event.cat == "Node") else { continue };
        let arguments = event.args;
        if arguments.provider.is_empty() {
            return Err(format!("the event of node {name:?} does not say which provider ran it"));
        }
        if !(event.dur.is_finite() && event.dur >= 0.0) {
            return Err(format!("the event of node {name:?} has the duration {}", event.dur));
        }
        let gives_shapes = gives_shapes(&arguments.output_type_shape);
        let key = (name.to_owned(), arguments.provider);
        if !nodes.contains_key(&key) {
            order.push(key.clone());
        }
        let operator = arguments.op_name;
        let runs = nodes.entry(key).or_insert(Runs { operator, count: 0, first_us: 0.0, later_us: 0.0, gives_shapes: true });
        if runs.count == 0 {
            runs.first_us = event.dur;
        } else {
            runs.later_us += event.dur;
        }
        runs.count += 1;
        runs.gives_shapes &= gives_shapes;
    }
    if order.is_empty() {
        return Err("its profile has no event of any node".to_owned());
    }
    let measured = order.into_iter().filter_map(|key| {
        let runs = nodes.remove(&key)?;
        let (name, provider) = key;
        let time_us = if runs.count > 1 { runs.later_us } else { runs.first_us };
        Some(MeasuredNode { name, operator: runs.operator, provider, time_us, gives_shapes: runs.gives_shapes })
    });
    Ok(measured.collect())
}

/// Whether these are shapes: whole numbers or truth values, few of them. What is not understood is not.
fn gives_shapes(outputs: &serde_json::Value) -> bool {
    let Some(outputs) = outputs.as_array().filter(|outputs| !outputs.is_empty()) else { return false };
    let mut numbers = 0_u64;
    for output in outputs {
        let Some(output) = output.as_object().filter(|output| !output.is_empty()) else { return false };
        for (dtype, shape) in output {
            let Some(shape) = shape.as_array().filter(|_| matches!(dtype.as_str(), "int64" | "int32" | "bool")) else {
                return false;
            };
            let size = shape.iter().try_fold(1_u64, |size, axis| Some(size.saturating_mul(axis.as_u64()?)));
            let Some(size) = size else { return false };
            numbers = numbers.saturating_add(size);
        }
    }
    numbers <= SHAPE_LIMIT_NUMBERS
}
