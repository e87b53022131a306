//! Opening packages that somebody changed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first thing that is not as it should be")]

mod export_support;

use std::fs;
use std::path::Path;

use export_support::Scratch;
use llava_gauge::onnx::proto::{ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto};
use llava_gauge::package::{Manifest, Package, PackageError, TensorLocation, TileMerge, TileOrder, Tiling, UnpadRounding};
use prost::Message;

/// An untouched package and a folder for each change of it.
fn package() -> (Scratch, Package) {
    let scratch = Scratch::of("transformers4-fp32");
    let package = scratch.export().unwrap();
    (scratch, package)
}

fn edit_manifest(root: &Path, change: impl FnOnce(&mut Manifest)) {
    let path = root.join("package.toml");
    let mut manifest = Manifest::from_text(&fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut manifest);
    fs::write(path, manifest.to_text().unwrap()).unwrap();
}

/// Rewrites a graph and records its new length, as a forger would.
fn edit_graph(root: &Path, name: &str, change: impl FnOnce(&mut ModelProto)) {
    let path = root.join(name);
    let mut model = ModelProto::decode(fs::read(&path).unwrap().as_slice()).unwrap();
    change(&mut model);
    let bytes = model.encode_to_vec();
    fs::write(&path, &bytes).unwrap();
    edit_manifest(root, |manifest| {
        manifest.files.iter_mut().find(|file| file.name == name).unwrap().bytes = bytes.len() as u64;
    });
}

fn first_external(model: &mut ModelProto) -> &mut TensorProto {
    let initializers = &mut model.graph.as_mut().unwrap().initializer;
    initializers.iter_mut().find(|tensor| !tensor.external_data.is_empty()).unwrap()
}

fn set_entry(tensor: &mut TensorProto, key: &str, value: &str) {
    tensor.external_data.iter_mut().find(|entry| entry.key.as_deref() == Some(key)).unwrap().value = Some(value.to_owned());
}

/// A change, and parts of the message that it must end in.
type Case<T> = (fn(&mut T), &'static [&'static str]);

#[track_caller]
fn refused(root: &Path, parts: &[&str]) {
    let message = Package::open(root).unwrap_err().to_string();
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

#[test]
fn a_manifest_reads_back_and_identifies_the_package() {
    let (scratch, package) = package();
    let text = fs::read_to_string(scratch.package.join("package.toml")).unwrap();
    assert_eq!(Manifest::from_text(&text).unwrap(), package.manifest);
    assert_eq!(package.manifest.to_text().unwrap(), text, "the written text is the canonical one");
    assert_eq!(package.identity.len(), 64);
    // Another layout of the same facts is the same package.
    fs::write(scratch.package.join("package.toml"), format!("# a remark\n{text}")).unwrap();
    assert_eq!(Package::open(&scratch.package).unwrap().identity, package.identity);
    edit_manifest(&scratch.package, |manifest| manifest.prompt.context_tokens = 99);
    assert_ne!(Package::open(&scratch.package).unwrap().identity, package.identity);
    assert!(package.path("llm.onnx").unwrap().is_file());
    assert!(package.path("config.yaml").is_err());
}

#[test]
fn manifests_that_do_not_fit_are_refused() {
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(Package::open(empty.path()), Err(PackageError::NoManifest { .. })));
    let cases: [(&str, &str, &[&str]); 8] = [
        ("format = 1", "format = 2", &["package.toml: format is 2, expected 1"]),
        ("format = 1", "", &["format is missing, expected 1"]),
        ("format = 1", "format = 1\nsurprise = true", &["surprise"]),
        ("feature_layer = -2", "feature_layer = \"last\"", &["feature_layer"]),
        ("flavor = \"contrib\"", "flavor = \"fused\"", &["llm.flavor is \"fused\", expected \"contrib\" or \"standard\""]),
        ("flavor = \"contrib\"", "flavor = \"standard\"", &["vision.onnx: operator is com.microsoft.MultiHeadAttention"]),
        ("name = \"package\"", "name = \"../elsewhere\"", &["package.toml: name is \"../elsewhere\"", "slashes"]),
        ("layers = 2", "layers = 1000000", &["llm.layers is 1000000, expected 1 to 1024"]),
    ];
    let (scratch, _) = package();
    let path = scratch.package.join("package.toml");
    let text = fs::read_to_string(&path).unwrap();
    for (from, to, parts) in cases {
        assert!(text.contains(from));
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        refused(&scratch.package, parts);
    }
    fs::write(&path, vec![b'#'; 2 << 20]).unwrap();
    refused(&scratch.package, &["larger than"]);
}

#[test]
fn tilings_that_do_not_fit_the_vision_tower_are_refused() {
    let (scratch, package) = package();
    let vision = &package.manifest.vision;
    let tile = vision.image_size as u32;
    let side = vision.image_size / vision.patch_size;
    assert_eq!(side * side, vision.tokens_per_image);
    let newline = |width: usize| {
        let embedding = package.manifest.llm.embedding.clone();
        Some(TensorLocation { bytes: width as u64 * embedding.dtype.bytes(), shape: vec![width], ..embedding })
    };
    let merge = TileMerge {
        order: TileOrder::SpatialUnpad,
        base_view: true,
        newline: true,
        maximum_tiles: Some(9),
        max_pool: false,
        unpad_rounding: UnpadRounding::SevenDigits,
    };
    let tiling = Tiling { pinpoints: vec![[tile, 2 * tile]], tile, only_single_images: false, merge };
    let width = package.manifest.projector.output_size;
    let accepted = |manifest: &mut Manifest| {
        manifest.image.tiling = Some(tiling.clone());
        manifest.projector.image_newline = newline(width);
    };
    edit_manifest(&scratch.package, accepted);
    let opened = Package::open(&scratch.package).unwrap();
    assert_eq!(opened.manifest.image.tiling.as_ref(), Some(&tiling));
    assert_ne!(opened.identity, package.identity);

    type Change<'a> = &'a dyn Fn(&mut Manifest, &mut Tiling);
    let cases: [(Change<'_>, &str); 11] = [
        (&|_, tiling| tiling.tile = tile + 1, "image.tiling.tile is"),
        (&|_, tiling| tiling.pinpoints.clear(), "image.tiling.pinpoints is a list of 0"),
        (&|_, tiling| tiling.pinpoints.push([tile, tile + 1]), "image.tiling.pinpoints is ["),
        (&|_, tiling| tiling.pinpoints.push([0, tile]), "image.tiling.pinpoints is [0, "),
        (&|_, tiling| tiling.pinpoints.push([145 * tile, tile]), "that make at most 144 tiles"),
        (&|_, tiling| tiling.pinpoints = vec![[tile, tile]; 5000], "a list of 5000, expected 1 to 4096"),
        (&|_, tiling| tiling.merge.maximum_tiles = Some(0), "image.tiling.merge.maximum_tiles is 0"),
        (&|_, tiling| tiling.merge.order = TileOrder::Flat, "image.tiling.merge.newline is true"),
        (&|manifest, _| manifest.vision.patch_size += 1, "image.tiling.merge.order is spatial, with"),
        (&|manifest, _| manifest.projector.image_newline = None, "projector.image_newline is missing"),
        (&|manifest, _| manifest.projector.image_newline = newline(width - 1), "projector.image_newline.shape is"),
    ];
    for (change, part) in cases {
        edit_manifest(&scratch.package, |manifest| {
            *manifest = package.manifest.clone();
            accepted(manifest);
            let mut tiling = tiling.clone();
            change(manifest, &mut tiling);
            manifest.image.tiling = Some(tiling);
        });
        refused(&scratch.package, &[part]);
    }
}

#[test]
fn files_that_changed_are_refused() {
    let (scratch, package) = package();
    let weights = scratch.package.join("weights.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[1..]).unwrap();
    refused(&scratch.package, &["weights.safetensors: length", &(bytes.len() - 1).to_string(), &bytes.len().to_string()]);
    let mut flipped = bytes.clone();
    *flipped.last_mut().unwrap() ^= 1;
    fs::write(&weights, flipped).unwrap();
    let opened = Package::open(&scratch.package).unwrap();
    let message = opened.verify_hashes().unwrap_err().to_string();
    assert!(message.contains("weights.safetensors: sha256"), "{message}");
    fs::remove_file(&weights).unwrap();
    refused(&scratch.package, &["weights.safetensors"]);
    fs::write(&weights, bytes).unwrap();
    assert_eq!(Package::open(&scratch.package).unwrap().identity, package.identity);

    edit_manifest(&scratch.package, |manifest| manifest.files[0].name = "../config.json".to_owned());
    refused(&scratch.package, &["../config.json"]);
}

#[test]
fn manifest_places_outside_the_files_are_refused() {
    let cases: [Case<Manifest>; 6] = [
        (|manifest| manifest.llm.embedding.offset = i64::MAX as u64, &["llm.embedding.offset"]),
        (|manifest| manifest.llm.embedding.bytes += 4, &["llm.embedding.bytes"]),
        (|manifest| manifest.llm.embedding.shape = vec![usize::MAX / 2, 16], &["llm.embedding.bytes"]),
        (|manifest| manifest.llm.embedding.file = "/etc/passwd".to_owned(), &["llm.embedding.file", "/etc/passwd"]),
        (|manifest| manifest.llm.graph = "other.onnx".to_owned(), &["other.onnx"]),
        (|manifest| manifest.files.swap(0, 1), &["files", "sorted"]),
    ];
    for (change, parts) in cases {
        let (scratch, _) = package();
        edit_manifest(&scratch.package, change);
        refused(&scratch.package, parts);
    }
}

#[test]
fn graphs_that_reach_out_are_refused() {
    let cases: [Case<ModelProto>; 14] = [
        (
            |model| set_entry(first_external(model), "location", "../model.safetensors"),
            &["external_data.location", "../model.safetensors"],
        ),
        (|model| set_entry(first_external(model), "location", "/etc/passwd"), &["external_data.location", "/etc/passwd"]),
        (|model| set_entry(first_external(model), "location", "*/_ORT_MEM_ADDR_/*"), &["external_data.location"]),
        (|model| set_entry(first_external(model), "location", "./model.safetensors"), &["external_data.location"]),
        (|model| set_entry(first_external(model), "offset", "18446744073709551615"), &["external_data.offset", ".safetensors"]),
        (|model| set_entry(first_external(model), "offset", "-1"), &["external_data.offset", "\"-1\"", "whole number"]),
        (|model| set_entry(first_external(model), "length", "1"), &["external_data.length"]),
        (
            |model| {
                let entry = StringStringEntryProto { key: Some("location".to_owned()), value: Some("x".to_owned()) };
                first_external(model).external_data.push(entry);
            },
            &["external_data.location", "twice"],
        ),
        (
            |model| {
                let domain = Some("org.example".to_owned());
                model.opset_import.push(OperatorSetIdProto { domain, version: Some(1) });
            },
            &["operator domain", "org.example"],
        ),
        (
            |model| model.graph.as_mut().unwrap().node[0].domain = Some("org.example".to_owned()),
            &["operator domain", "org.example"],
        ),
        (
            |model| {
                let domain = Some("com.microsoft".to_owned());
                let node = NodeProto { op_type: Some("EPContext".to_owned()), domain, ..NodeProto::default() };
                model.graph.as_mut().unwrap().node.push(node);
            },
            &["EPContext"],
        ),
        (|model| model.functions.push(vec![1]), &["functions"]),
        (|model| model.training_info.push(vec![1]), &["training_info"]),
        (|model| model.opset_import[0].version = Some(99), &["opset version", "99"]),
    ];
    for (change, parts) in cases {
        for graph in ["vision.onnx", "projector.onnx", "llm.onnx"] {
            let (scratch, _) = package();
            edit_graph(&scratch.package, graph, change);
            refused(&scratch.package, &[parts, &[graph]].concat());
        }
    }
}

#[test]
fn graphs_of_other_shapes_are_refused() {
    let (scratch, _) = package();
    edit_graph(&scratch.package, "llm.onnx", |model| {
        model.graph.as_mut().unwrap().input.pop();
    });
    refused(&scratch.package, &["llm.onnx: inputs"]);
    let (scratch, _) = package();
    edit_graph(&scratch.package, "vision.onnx", |model| {
        model.graph.as_mut().unwrap().output[0].name = Some("pooled".to_owned());
    });
    refused(&scratch.package, &["vision.onnx: outputs is \"pooled\", expected \"features\""]);
    let (scratch, _) = package();
    edit_manifest(&scratch.package, |manifest| manifest.llm.vocabulary_size += 8);
    refused(&scratch.package, &["llm.onnx: outputs \"logits\" is f32 [rows, 16], expected f32 [rows, 24]"]);
    let (scratch, _) = package();
    fs::copy(scratch.package.join("vision.onnx"), scratch.package.join("projector.onnx")).unwrap();
    edit_graph(&scratch.package, "projector.onnx", |_| {});
    refused(&scratch.package, &["projector.onnx: inputs is \"pixel_values\", expected \"features\""]);
    fs::write(scratch.package.join("projector.onnx"), b"\xff\xff\xff").unwrap();
    edit_manifest(&scratch.package, |manifest| {
        manifest.files.iter_mut().find(|file| file.name == "projector.onnx").unwrap().bytes = 3;
    });
    refused(&scratch.package, &["projector.onnx is not an ONNX model"]);
}
