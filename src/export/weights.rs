//! Where each weight of a package stands: 32-bit tensors in the checkpoint's own files, in place; everything else in
//! `weights.safetensors`, widened, put into row-major order, or merged with its base as it is written.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use half::f16;
use rayon::prelude::*;
use serde_json::{Map, Value, json};

use super::ExportError;
use super::architecture::{EMBEDDING, LlavaArchitecture, RequiredTensor};
use super::checkpoint::{CheckedTensors, FoundTensor, Shard};
use super::numbers::ShardMaps;
use crate::package::{TensorDtype, TensorLocation};

/// File of the tensors that had to be rewritten or computed.
pub(super) const WEIGHTS_FILE: &str = "weights.safetensors";
/// Numbers that are converted at a time; 16 MiB as 32-bit numbers.
const BATCH: usize = 4 << 20;
/// Numbers of a torch file that a graph uses in place stand at a multiple of their width; in safetensors they mostly do.
const ALIGNMENT_BYTES: u64 = 4;
/// Numbers that one thread converts at a time.
const PIECE: usize = 64 << 10;

/// A tensor of `weights.safetensors`.
struct Written {
    name: String,
    dtype: TensorDtype,
    shape: Vec<usize>,
    content: Content,
}

enum Content {
    /// Converted to 32 bits.
    Widened(FoundTensor),
    /// In the tensor's own number type.
    Copied(FoundTensor),
    /// Computed at export.
    Computed(Vec<f32>),
}

/// Places of all weights, and what has to be written for them.
pub(super) struct WeightPlan {
    shards: Vec<Shard>,
    places: BTreeMap<String, TensorLocation>,
    written: Vec<Written>,
    header: Vec<u8>,
    in_place: BTreeSet<usize>,
}

impl WeightPlan {
    /// Decides where every tensor stands. `computed` are tensors that the checkpoint does not have (rotary tables).
    pub fn new(architecture: &LlavaArchitecture, checked: CheckedTensors, computed: Vec<(&str, Vec<usize>, Vec<f32>)>) -> Self {
        // Rows of an embedding table are looked up outside the graph, which can widen them one by one.
        let copied = (!architecture.llm.tied).then_some(EMBEDDING);
        Self::of(architecture.required_tensors(), copied, checked, computed)
    }

    /// Decides where each of these tensors stands. `copied_name` is one that may stay narrow, as no graph reads it.
    pub fn of(
        required: Vec<RequiredTensor>,
        copied_name: Option<&str>,
        checked: CheckedTensors,
        computed: Vec<(&str, Vec<usize>, Vec<f32>)>,
    ) -> Self {
        let mut plan = Self {
            shards: checked.shards,
            places: BTreeMap::new(),
            written: Vec::new(),
            header: Vec::new(),
            in_place: BTreeSet::new(),
        };
        let mut copied = None;
        for required in required {
            let Some(found) = checked.tensors.get(&required.name) else { continue };
            let (name, shape, entry) = (required.name, required.shape, &found.entry);
            if entry.dtype == "F32" && found.is_plain() && plan.is_aligned(found) {
                plan.in_place.insert(found.shard);
                let file = plan.shards.get(found.shard).map(|shard| shard.package_name.clone()).unwrap_or_default();
                let place = TensorLocation { file, offset: entry.offset, bytes: entry.bytes, dtype: TensorDtype::F32, shape };
                plan.places.insert(name, place);
            } else if copied_name == Some(name.as_str()) {
                // Rows are looked up outside the graph, which can widen them one by one.
                let dtype = match found.dtype() {
                    "F16" => TensorDtype::F16,
                    "BF16" => TensorDtype::Bf16,
                    _ => TensorDtype::F32,
                };
                copied = Some(Written { name, dtype, shape, content: Content::Copied(found.clone()) });
            } else {
                plan.written.push(Written { name, dtype: TensorDtype::F32, shape, content: Content::Widened(found.clone()) });
            }
        }
        for (name, shape, values) in computed {
            let (name, content) = (name.to_owned(), Content::Computed(values));
            plan.written.push(Written { name, dtype: TensorDtype::F32, shape, content });
        }
        // Narrow numbers last, so that all others stay aligned to their width.
        plan.written.extend(copied);
        plan.lay_out();
        plan
    }

    fn is_aligned(&self, found: &FoundTensor) -> bool {
        let torch = self.shards.get(found.shard).is_some_and(|shard| shard.package_name.ends_with(".bin"));
        !torch || found.entry.offset.is_multiple_of(ALIGNMENT_BYTES)
    }

    /// Writes the header and derives the places in `weights.safetensors` from it.
    fn lay_out(&mut self) {
        let (mut header, mut ends, mut end) = (Map::new(), Vec::new(), 0_u64);
        for tensor in &self.written {
            let begin = end;
            end += tensor.bytes();
            let dtype = match tensor.dtype {
                TensorDtype::F32 => "F32",
                TensorDtype::F16 => "F16",
                TensorDtype::Bf16 => "BF16",
            };
            header.insert(tensor.name.clone(), json!({"dtype": dtype, "shape": tensor.shape, "data_offsets": [begin, end]}));
            ends.push((begin, end));
        }
        let mut header = Value::Object(header).to_string().into_bytes();
        // Spaces are the format's own padding; 64 bytes is a cache line.
        while !(8 + header.len()).is_multiple_of(64) {
            header.push(b' ');
        }
        let data_start = 8 + header.len() as u64;
        for (tensor, (begin, end)) in self.written.iter().zip(ends) {
            let place = TensorLocation {
                file: WEIGHTS_FILE.to_owned(),
                offset: data_start + begin,
                bytes: end - begin,
                dtype: tensor.dtype,
                shape: tensor.shape.clone(),
            };
            self.places.insert(tensor.name.clone(), place);
        }
        self.header = header;
    }

    /// Where a tensor stands.
    pub fn place(&self, name: &str) -> Option<&TensorLocation> {
        self.places.get(name)
    }

    /// Weight files of the checkpoint that the package points into.
    pub fn files_in_place(&self) -> impl Iterator<Item = &Shard> {
        self.in_place.iter().filter_map(|&shard| self.shards.get(shard))
    }

    /// Whether `weights.safetensors` has any tensor.
    pub fn writes_any(&self) -> bool {
        !self.written.is_empty()
    }

    /// Length of `weights.safetensors` in bytes.
    pub fn written_bytes(&self) -> u64 {
        8 + self.header.len() as u64 + self.written.iter().map(Written::bytes).sum::<u64>()
    }

    /// Writes `weights.safetensors`; `progress` is told the bytes written so far. The outer error is the checkpoint's, the
    /// inner one the output's.
    pub fn write(&self, out: &mut dyn Write, progress: &dyn Fn(u64)) -> Result<std::io::Result<()>, ExportError> {
        let mut maps = ShardMaps::new(&self.shards);
        let mut buffer: Vec<u8> = Vec::new();
        let mut done = 8 + self.header.len() as u64;
        let start = out.write_all(&(self.header.len() as u64).to_le_bytes()).and_then(|()| out.write_all(&self.header));
        if let Err(error) = start {
            return Ok(Err(error));
        }
        for tensor in &self.written {
            let written = match &tensor.content {
                Content::Computed(values) => {
                    buffer.clear();
                    buffer.extend(values.iter().flat_map(|value| value.to_le_bytes()));
                    out.write_all(&buffer)
                }
                Content::Copied(found) if found.is_plain() => out.write_all(maps.bytes(found)?),
                Content::Widened(found) if found.is_plain() && found.entry.dtype != "F32" => {
                    maps.bytes(found)?.chunks(2 * BATCH).try_for_each(|batch| {
                        widen(batch, found.entry.dtype == "F16", &mut buffer);
                        done += buffer.len() as u64;
                        progress(done);
                        out.write_all(&buffer)
                    })
                }
                Content::Copied(found) | Content::Widened(found) => {
                    let numbers = maps.numbers(found)?;
                    let mut values = Vec::new();
                    (0..numbers.count()).step_by(BATCH).try_for_each(|start| {
                        numbers.read(start..(start + BATCH).min(numbers.count()), &mut values);
                        match &tensor.content {
                            Content::Copied(_) => numbers.narrow(&values, &mut buffer),
                            _ => bytes_of(&values, &mut buffer),
                        }
                        done += buffer.len() as u64;
                        progress(done);
                        out.write_all(&buffer)
                    })
                }
            };
            if let Err(error) = written {
                return Ok(Err(error));
            }
            let told = match &tensor.content {
                Content::Computed(_) => false,
                Content::Copied(found) => !found.is_plain(),
                Content::Widened(_) => true,
            };
            if !told {
                done += tensor.bytes();
                progress(done);
            }
        }
        Ok(Ok(()))
    }
}

impl Written {
    fn bytes(&self) -> u64 {
        self.shape.iter().map(|&size| size as u64).product::<u64>() * self.dtype.bytes()
    }
}

/// Numbers as little-endian bytes.
fn bytes_of(values: &[f32], out: &mut Vec<u8>) {
    out.clear();
    out.resize(values.len() * 4, 0);
    out.par_chunks_mut(4 * PIECE).zip(values.par_chunks(PIECE)).for_each(|(out, values)| {
        out.chunks_exact_mut(4).zip(values).for_each(|(out, value)| out.copy_from_slice(&value.to_le_bytes()));
    });
}

/// Converts 16-bit numbers (IEEE if `half`, else bfloat16) to 32 bits, exactly.
fn widen(source: &[u8], half: bool, out: &mut Vec<u8>) {
    out.clear();
    out.resize(source.len() * 2, 0);
    out.par_chunks_mut(4 * PIECE).zip(source.par_chunks(2 * PIECE)).for_each(|(out, source)| {
        for (out, source) in out.chunks_exact_mut(4).zip(source.chunks_exact(2)) {
            let bits = match source {
                [low, high] => u16::from_le_bytes([*low, *high]),
                _ => 0,
            };
            let wide = if half { f16::from_bits(bits).to_f32() } else { f32::from_bits(u32::from(bits) << 16) };
            out.copy_from_slice(&wide.to_le_bytes());
        }
    });
}
