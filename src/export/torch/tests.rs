//! Files that torch wrote (`tests/fixtures/checkpoints/make_checkpoints.py`), and bytes that nobody should have written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::Value;

use super::{TorchError, TorchFile};
use crate::export::checkpoint::{FoundTensor, Shard};
use crate::export::numbers::ShardMaps;
use crate::package::safetensors::TensorEntry;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/checkpoints").join(name)
}

/// Number type, shape, and the numbers of a floating-point tensor.
type Contents = (String, Vec<usize>, Option<Vec<f32>>);

/// Every number of every floating-point tensor, in 32 bits.
fn contents(path: &Path) -> BTreeMap<String, Contents> {
    let shards = [Shard { path: path.to_path_buf(), package_name: "x".to_owned() }];
    let mut tensors = BTreeMap::new();
    for tensor in TorchFile::open(path).unwrap().tensors {
        let entry = TensorEntry {
            key: tensor.key.clone(),
            dtype: tensor.dtype.to_owned(),
            shape: tensor.shape.clone(),
            offset: tensor.offset,
            bytes: tensor.bytes,
        };
        let found = FoundTensor { shard: 0, entry, strides: tensor.strides, change: None };
        let values = matches!(tensor.dtype, "F32" | "F16" | "BF16").then(|| {
            let (mut maps, mut values) = (ShardMaps::new(&shards), Vec::new());
            let numbers = maps.numbers(&found).unwrap();
            numbers.read(0..numbers.count(), &mut values);
            values
        });
        tensors.insert(tensor.key, (tensor.dtype.to_owned(), tensor.shape, values));
    }
    tensors
}

fn check(file: &str, expected: &str) -> BTreeMap<String, Contents> {
    let expected: BTreeMap<String, Value> = serde_json::from_slice(&std::fs::read(fixture(expected)).unwrap()).unwrap();
    let found = contents(&fixture(file));
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{file}");
    for (name, (_, shape, values)) in &found {
        assert_eq!(serde_json::json!(shape), expected[name]["shape"], "{file}: {name}");
        let reference: Vec<f32> =
            expected[name]["values"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect();
        if let Some(values) = values {
            assert_eq!(*values, reference, "{file}: {name}");
        }
    }
    found
}

#[test]
fn tensors_are_what_torch_saved() {
    for file in ["views.bin", "views-legacy.bin"] {
        let found = check(file, "views.json");
        let dtypes: Vec<&str> =
            ["half", "brain", "numbers", "flags", "double"].iter().map(|name| found[*name].0.as_str()).collect();
        assert_eq!(dtypes, ["F16", "BF16", "I64", "BOOL", "F64"], "{file}");
    }
    check("module.bin", "module.json");
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    for file in ["views.bin", "views-legacy.bin"] {
        let bytes = std::fs::read(fixture(file)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cut.bin");
        for length in (0..bytes.len()).step_by(7) {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(TorchFile::open(&path).is_err(), "{file} cut to {length} bytes");
        }
    }
}

fn read(bytes: &[u8]) -> Result<TorchFile, TorchError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    TorchFile::open(file.path())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_change_of_a_byte_makes_it_panic(position in 0_usize..2400, value in any::<u8>(), legacy in any::<bool>()) {
        let mut bytes = std::fs::read(fixture(if legacy { "views-legacy.bin" } else { "views.bin" })).unwrap();
        let length = bytes.len();
        bytes[position % length] = value;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        if TorchFile::open(file.path()).is_ok() {
            // What is accepted can also be read.
            contents(file.path());
        }
    }

    #[test]
    fn no_bytes_make_it_panic(tail in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&[&super::legacy::BEGINNING[..], b".", &tail].concat());
        let _ = read(&[&[0x80, 2], &tail[..]].concat());
    }
}
