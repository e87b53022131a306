//! Weight files: which tensors go into which, their headers, and writing them in blocks.

use std::io::Write;

use rayon::prelude::*;

use super::numbers::{self, NumberType};
use super::tensors::Tensor;

/// Numbers made and written at a time: a buffer of 32 MiB at most.
const BLOCK_NUMBERS: u64 = 8 << 20;
/// Numbers that one task makes.
const TASK_NUMBERS: usize = 1 << 16;

/// One weight file.
pub(super) struct Shard<'a> {
    /// File name.
    pub name: String,
    /// Its tensors in the order of the file, which is by name, as the reference implementation writes it.
    pub tensors: Vec<&'a Tensor>,
    /// Bytes of its tensors.
    pub data_bytes: u64,
    header: Vec<u8>,
    number_type: NumberType,
}

impl<'a> Shard<'a> {
    /// Splits tensors into files of at most `limit_bytes`, in order, as `split_torch_state_dict_into_shards` of huggingface_hub
    /// does; a larger tensor has a file of its own.
    pub fn plan(tensors: &'a [Tensor], number_type: NumberType, limit_bytes: u64) -> Vec<Self> {
        let mut groups: Vec<(Vec<&Tensor>, u64)> = Vec::new();
        let mut open = false;
        for tensor in tensors {
            let bytes = tensor.count().saturating_mul(number_type.bytes());
            match groups.last_mut() {
                Some((group, total)) if open && bytes <= limit_bytes && total.saturating_add(bytes) <= limit_bytes => {
                    group.push(tensor);
                    *total += bytes;
                }
                _ => {
                    groups.push((vec![tensor], bytes));
                    open = bytes <= limit_bytes;
                }
            }
        }
        let count = groups.len();
        let numbered = groups.into_iter().enumerate().map(|(index, (mut tensors, data_bytes))| {
            let name = match count {
                1 => "model.safetensors".to_owned(),
                _ => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
            };
            tensors.sort_by(|left, right| left.name.cmp(&right.name));
            let header = header(&tensors, number_type);
            Self { name, tensors, data_bytes, header, number_type }
        });
        numbered.collect()
    }

    /// Bytes of the whole file.
    pub fn file_bytes(&self) -> u64 {
        self.data_bytes.saturating_add(self.header.len() as u64)
    }

    /// Writes the file; `wrote` is told the bytes of each block.
    pub fn write(
        &self,
        out: &mut dyn Write,
        seed: u64,
        pool: &rayon::ThreadPool,
        wrote: &mut dyn FnMut(u64),
    ) -> std::io::Result<()> {
        out.write_all(&self.header)?;
        let size = self.number_type.bytes();
        let mut buffer = Vec::new();
        for tensor in &self.tensors {
            let stream = numbers::stream_of(seed, &tensor.name);
            let columns = tensor.shape.last().copied().unwrap_or(1);
            let mut first = 0;
            while first < tensor.count() {
                let count = BLOCK_NUMBERS.min(tensor.count() - first);
                let bytes = (count * size) as usize;
                buffer.resize(bytes, 0);
                pool.install(|| {
                    buffer.par_chunks_mut(TASK_NUMBERS * size as usize).enumerate().for_each(|(task, bytes)| {
                        let first = first + (task * TASK_NUMBERS) as u64;
                        numbers::write(&tensor.fill, stream, first, columns, self.number_type, bytes);
                    });
                });
                out.write_all(&buffer)?;
                wrote(bytes as u64);
                first += count;
            }
        }
        Ok(())
    }
}

/// Length and JSON of a safetensors file, padded with spaces to a multiple of eight bytes.
fn header(tensors: &[&Tensor], number_type: NumberType) -> Vec<u8> {
    let mut entries = serde_json::Map::new();
    entries.insert("__metadata__".to_owned(), serde_json::json!({ "format": "pt" }));
    let mut offset = 0_u64;
    for tensor in tensors {
        let end = offset.saturating_add(tensor.count().saturating_mul(number_type.bytes()));
        let dtype = number_type.stored_name();
        let entry = serde_json::json!({ "dtype": dtype, "shape": tensor.shape, "data_offsets": [offset, end] });
        entries.insert(tensor.name.clone(), entry);
        offset = end;
    }
    let mut json = serde_json::Value::Object(entries).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.append(&mut json);
    header
}
