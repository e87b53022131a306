//! Exports in fewer bits: what is in the files, and that graphs compute what the files say. ONNX Runtime is taken from the user's
//! cache, or fetched into it by the program's own means.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first thing that is not as it should be")]

mod common;
mod export_support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::{gauge, gauge_fails, gauge_json, gauge_output, root, text};
use export_support::{Scratch, Tensor, contents, copy_folder, fixture, read_tensors, write_tensors};
use half::{bf16, f16};
use llava_gauge::engine::{EngineOptions, ImageTiles, LayerProbe, OrtEngine, Request, Segment, StopReason, StopRule};
use llava_gauge::export::{ExportOptions, StagePrecisionChoice, export};
use llava_gauge::onnx::{Attribute, Dimension, ElementType, ExternalData, GraphBuilder};
use llava_gauge::package::{GraphFlavor, LayeredModel, Package, Precision, StageName, TensorDtype};
use ndarray::{Array2, Array4};
use proptest::prelude::*;

struct Never;

impl StopRule for Never {
    fn check(&self, _: &[u32]) -> Option<StopReason> {
        None
    }
}

fn all(precision: Precision) -> StagePrecisionChoice {
    StagePrecisionChoice { all: Some(precision), ..StagePrecisionChoice::default() }
}

fn exported(checkpoint: &Path, output: &Path, precision: &StagePrecisionChoice) -> Package {
    exported_as(GraphFlavor::Contrib, checkpoint, output, precision)
}

fn exported_as(flavor: GraphFlavor, checkpoint: &Path, output: &Path, precision: &StagePrecisionChoice) -> Package {
    let options = ExportOptions { flavor, precision: precision.clone(), ..ExportOptions::new(checkpoint, output) };
    export(&options).unwrap_or_else(|error| panic!("{precision:?}: {error}"))
}

/// The logits of four steps after a prompt with an image, `[4, vocabulary]`.
fn logits(package: &Package) -> Array2<f32> {
    let options = EngineOptions { intra_op_threads: 2, ..EngineOptions::default() };
    let mut engine = OrtEngine::load(package, &options).unwrap();
    let side = package.manifest.vision.image_size;
    let pixels = Array4::from_shape_fn((1, 3, side, side), |(_, channel, y, x)| ((channel * 64 + y * 7 + x * 3) as f32).sin());
    let image = ImageTiles { pixels, width: side as u32, height: side as u32 };
    let segments = vec![Segment::Tokens(vec![1, 5, 9, 4]), Segment::Image(0), Segment::Tokens(vec![7, 3, 8, 6, 2])];
    let request = Request { segments, max_new_tokens: 4, stop: &Never };
    engine.trace_single(&[image], &request, Some(&[3, 4, 5, 6])).unwrap().logits
}

/// The norm of the difference over that of the reference.
fn relative(found: &Array2<f32>, reference: &Array2<f32>) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    norm(&mut (found - reference).iter().copied()) / norm(&mut reference.iter().copied())
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    match tensor.dtype.as_str() {
        "F32" => tensor.data.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect(),
        "F16" => tensor.data.chunks_exact(2).map(|bytes| f16::from_le_bytes(bytes.try_into().unwrap()).to_f32()).collect(),
        "BF16" => tensor.data.chunks_exact(2).map(|bytes| bf16::from_le_bytes(bytes.try_into().unwrap()).to_f32()).collect(),
        other => panic!("{} has type {other}", tensor.name),
    }
}

/// The weights that the codes of `weights.safetensors` stand for, by canonical name: read without any code of the exporter.
fn restored(package: &Package) -> BTreeMap<String, Vec<f32>> {
    let tensors = read_tensors(&package.root.join("weights.safetensors"));
    let by_name: BTreeMap<&str, &Tensor> = tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let mut found = BTreeMap::new();
    for tensor in &tensors {
        let Some(name) = tensor.name.strip_suffix(".codes") else {
            if tensor.shape.len() == 2 && tensor.name.ends_with(".weight") {
                found.insert(tensor.name.clone(), floats(tensor));
            }
            continue;
        };
        let scales = floats(by_name[format!("{name}.scales").as_str()]);
        let signed = |code: &u8| f32::from(i8::from_le_bytes([*code]));
        let values: Vec<f32> = match (tensor.dtype.as_str(), tensor.shape.as_slice()) {
            ("I8", &[rows, width]) if rows == scales.len() && name.ends_with("embed_tokens.weight") => {
                tensor.data.iter().enumerate().map(|(place, code)| signed(code) * scales[place / width]).collect()
            }
            // An input's codes stand together.
            ("I8", &[inputs, outputs]) => (0..inputs * outputs)
                .map(|place| signed(&tensor.data[place % inputs * outputs + place / inputs]) * scales[place / inputs])
                .collect(),
            ("U8" | "I8", &[outputs, blocks, bytes]) => {
                let is_signed = package.manifest.llm.flavor == "standard";
                let record = package.manifest.quantisation.as_ref().unwrap();
                let part =
                    record.parts().find(|(_, part)| part.block_size.is_some_and(|size| size * part.bits as usize / 8 == bytes));
                let (bits, size) = part.map(|(_, part)| (part.bits, part.block_size.unwrap())).unwrap();
                let inputs = package_inputs(package, name);
                let mut values = Vec::new();
                for output in 0..outputs {
                    for input in 0..inputs {
                        let block = output * blocks + input / size;
                        let place = input % size;
                        let byte = tensor.data[block * bytes + place * bits as usize / 8];
                        let code = if bits == 8 { byte } else { byte >> (4 * (place % 2)) & 15 };
                        let (code, middle) = (i32::from(code), 1 << (bits - 1));
                        let code = match is_signed {
                            false => code - middle,
                            true if code >= middle => code - 2 * middle,
                            true => code,
                        };
                        values.push(code as f32 * scales[block]);
                    }
                }
                values
            }
            other => panic!("{name}: {other:?}"),
        };
        found.insert(name.to_owned(), values);
    }
    found
}

/// Inputs of a linear layer, by the checkpoint that the package was made of (its configuration travels along).
fn package_inputs(package: &Package, name: &str) -> usize {
    let config: serde_json::Value = serde_json::from_slice(&fs::read(package.root.join("config.json")).unwrap()).unwrap();
    let of = |part: &str, key: &str| config[part][key].as_u64().unwrap() as usize;
    match name {
        name if name.starts_with("vision") && name.contains("fc2") => of("vision_config", "intermediate_size"),
        name if name.starts_with("vision") || name.contains("linear_1") => of("vision_config", "hidden_size"),
        name if name.contains("down_proj") => of("text_config", "intermediate_size"),
        name if name.contains("o_proj") => package.manifest.llm.attention_heads * package.manifest.llm.head_size,
        _ => of("text_config", "hidden_size"),
    }
}

/// Writes a checkpoint of fp32 tensors whose linear layers and token table are those that the package's codes stand for.
fn restored_checkpoint(checkpoint: &Path, package: &Package, output: &Path) {
    copy_folder(checkpoint, output);
    let weights = restored(package);
    let file = output.join("model.safetensors");
    let mut tensors = read_tensors(&file);
    let mut used = 0;
    for tensor in &mut tensors {
        let rest =
            |prefix: &str| tensor.name.split_once(prefix).map(|(_, rest)| rest.trim_start_matches("vision_model.").to_owned());
        let name = match (rest("vision_tower."), rest("multi_modal_projector."), rest("language_model.")) {
            (Some(rest), _, _) => format!("vision.{rest}"),
            (_, Some(rest), _) => format!("projector.{rest}"),
            (_, _, Some(rest)) => format!("llm.{}", rest.trim_start_matches("model.")),
            _ => tensor.name.clone(),
        };
        let values = match weights.get(&name) {
            Some(values) => {
                used += 1;
                values.clone()
            }
            None => floats(tensor),
        };
        assert_eq!(values.len(), tensor.shape.iter().product::<usize>(), "{name}");
        tensor.data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        "F32".clone_into(&mut tensor.dtype);
    }
    assert!(used > 0, "none of the package's weights is in the checkpoint");
    write_tensors(&file, &tensors);
}

fn pico(name: &str) -> PathBuf {
    root().join("exports").join(name)
}

/// A copy of a shipped checkpoint without the package that lies beside it.
fn pico_checkpoint(name: &str, to: &Path) {
    copy_folder(&pico(name), to);
    for file in ["package.toml", "weights.safetensors", "vision.onnx", "projector.onnx", "llm.onnx", "parity.safetensors"] {
        fs::remove_file(to.join(file)).unwrap();
    }
}

/// Graphs compute what the codes stand for. Where activations stay in 32 bits, only the order of sums differs; where they are rounded
/// to 8 bits, each layer adds about 0.5 % of its output, which random directions keep below 5 % over these few layers.
#[test]
fn graphs_compute_what_the_codes_stand_for() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = folder.path().join("shipped");
    pico_checkpoint("pico-llava-1.5", &shipped);
    let exact = |precision| StagePrecisionChoice { accuracy_level: Some(0), ..all(precision) };
    let choices = [
        ("fp16", all(Precision::Fp16), 1e-5),
        ("bf16", all(Precision::Bf16), 1e-5),
        ("int8", all(Precision::Int8), 0.05),
        ("int8-weights", all(Precision::Int8Weights), 0.05),
        ("int8-weights-exact", exact(Precision::Int8Weights), 1e-5),
        ("int4", all(Precision::Int4), 0.05),
        ("int4-exact", exact(Precision::Int4), 1e-5),
        ("int4-128", StagePrecisionChoice { block_size: Some(128), ..exact(Precision::Int4) }, 1e-5),
        ("int4-16", StagePrecisionChoice { block_size: Some(16), ..exact(Precision::Int4) }, 1e-5),
        ("embeddings", StagePrecisionChoice { embeddings: Some(Precision::Int8), ..StagePrecisionChoice::default() }, 1e-5),
        (
            "mixed",
            StagePrecisionChoice {
                vision: Some(Precision::Bf16),
                projector: Some(Precision::Fp32),
                llm: Some(Precision::Int4),
                head: Some(Precision::Fp16),
                embeddings: Some(Precision::Fp16),
                accuracy_level: Some(0),
                ..StagePrecisionChoice::default()
            },
            1e-5,
        ),
    ];
    for (case, checkpoint) in [("odd", fixture("transformers4-fp32")), ("shipped", shipped)] {
        for (name, choice, limit) in &choices {
            let path = |what: &str| folder.path().join(format!("{case}-{name}-{what}"));
            let package = exported(&checkpoint, &path("package"), choice);
            package.verify_hashes().unwrap();
            restored_checkpoint(&checkpoint, &package, &path("restored"));
            let reference = exported(&path("restored"), &path("reference"), &StagePrecisionChoice::default());
            let error = relative(&logits(&package), &logits(&reference));
            assert!(error <= *limit, "{case} {name}: the logits differ by {error:e} of their norm, at most {limit:e} expected");
            if *limit > 1e-4 {
                assert!(error > 1e-6, "{case} {name}: activations were not rounded");
            }
        }
    }
}

/// The same of graphs of standard operators: they leave activations in 32 bits, so that no more than the order of sums differs, but
/// in int8.
#[test]
fn standard_operators_compute_what_the_codes_stand_for() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = folder.path().join("shipped");
    pico_checkpoint("pico-llava-1.5", &shipped);
    let sized = |precision, size| StagePrecisionChoice { block_size: Some(size), ..all(precision) };
    let choices = [
        ("bf16", all(Precision::Bf16), 1e-5),
        ("int8", all(Precision::Int8), 0.05),
        ("int8-weights", all(Precision::Int8Weights), 1e-5),
        ("int4", all(Precision::Int4), 1e-5),
        ("int4-128", sized(Precision::Int4, 128), 1e-5),
        ("int8-weights-16", sized(Precision::Int8Weights, 16), 1e-5),
    ];
    for (case, checkpoint) in [("odd", fixture("transformers4-fp32")), ("shipped", shipped)] {
        for (name, choice, limit) in &choices {
            let path = |what: &str| folder.path().join(format!("{case}-{name}-{what}"));
            let package = exported_as(GraphFlavor::Standard, &checkpoint, &path("package"), choice);
            package.verify_hashes().unwrap();
            restored_checkpoint(&checkpoint, &package, &path("restored"));
            let reference = exported(&path("restored"), &path("reference"), &StagePrecisionChoice::default());
            let error = relative(&logits(&package), &logits(&reference));
            assert!(error <= *limit, "{case} {name}: the logits differ by {error:e} of their norm, at most {limit:e} expected");
            assert!(*limit < 1e-4 || error > 1e-6, "{case} {name}: activations were not rounded");
        }
    }
}

/// The head of a tied model is a weight of its own where it cannot read the table.
#[test]
fn tied_heads_take_their_own_precision() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = fixture("nested-fp16-tied");
    let full = exported(&checkpoint, &folder.path().join("fp32"), &StagePrecisionChoice::default());
    let reference = logits(&full);
    let choice = |head, embeddings| StagePrecisionChoice { head, embeddings, ..StagePrecisionChoice::default() };
    // Type of the table, whether the graph reads it, and the error: this checkpoint's numbers are halves, so that halves are exact.
    let cases = [
        (choice(None, None), TensorDtype::F32, true, 0.0),
        (choice(Some(Precision::Fp16), None), TensorDtype::F16, true, 1e-6),
        (choice(None, Some(Precision::Fp16)), TensorDtype::F16, false, 1e-6),
        (choice(Some(Precision::Int8Weights), None), TensorDtype::F16, false, 0.05),
        (choice(Some(Precision::Int8), Some(Precision::Int8)), TensorDtype::I8, false, 0.05),
        (choice(Some(Precision::Int4), Some(Precision::Fp32)), TensorDtype::F32, false, 0.3),
    ];
    for (index, (choice, dtype, shared, limit)) in cases.into_iter().enumerate() {
        let package = exported(&checkpoint, &folder.path().join(index.to_string()), &choice);
        assert_eq!(package.manifest.llm.embedding.dtype, dtype, "{choice:?}");
        assert_eq!(package.manifest.llm.embedding_scales.is_some(), dtype == TensorDtype::I8);
        let graph = llava_gauge::onnx::inspect_file(&package.path("llm.onnx").unwrap()).unwrap();
        let reads_table = graph.external.iter().any(|tensor| tensor.name == "llm.embed_tokens.weight");
        assert_eq!(reads_table, shared, "{choice:?}");
        let error = relative(&logits(&package), &reference);
        assert!(error <= limit, "{choice:?}: {error:e}");
    }
}

#[test]
fn the_same_export_always_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = fixture("transformers4-fp32");
    for precision in [Precision::Int8, Precision::Int4, Precision::Bf16] {
        let runs = [1, 4].map(|threads| {
            let output = folder.path().join(format!("{precision:?}-{threads}")).join("same-name");
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| exported(&checkpoint, &output, &all(precision)));
            contents(&output)
        });
        assert_eq!(runs[0], runs[1], "{precision:?}");
    }
}

#[test]
fn weights_that_codes_cannot_hold_are_named() {
    let name = "language_model.model.layers.0.mlp.up_proj.weight";
    let cases = [
        (f32::NAN, Precision::Int8, "codes of fewer bits"),
        (f32::INFINITY, Precision::Int4, "codes of fewer bits"),
        (70_000.0, Precision::Fp16, "fp16"),
        (f32::MAX, Precision::Bf16, "bf16"),
    ];
    for (value, precision, wanted) in cases {
        let scratch = Scratch::of("transformers4-fp32");
        scratch.edit_tensors(|tensors| {
            let tensor = tensors.iter_mut().find(|tensor| tensor.name == name).unwrap();
            tensor.data[4 * 21..4 * 22].copy_from_slice(&value.to_le_bytes());
        });
        let options = ExportOptions { precision: all(precision), ..scratch.options() };
        let message = export(&options).unwrap_err().to_string();
        let expected = format!("number 21 of tensor {name:?} is {value}, which {wanted} cannot hold");
        assert!(message.contains("model.safetensors") && message.contains(&expected), "{message}");
        assert!(!scratch.package.join("package.toml").exists(), "a refused export left a package");
        assert!(!scratch.package.exists() || contents(&scratch.package).is_empty(), "{:?}", contents(&scratch.package));
        // Zero, the smallest and the largest numbers are fine.
        scratch.edit_tensors(|tensors| {
            let tensor = tensors.iter_mut().find(|tensor| tensor.name == name).unwrap();
            let extreme = if precision == Precision::Fp16 { 65_504.0 } else { 1e30 };
            tensor.data[4 * 21..4 * 22].copy_from_slice(&f32::to_le_bytes(extreme));
            tensor.data[..4].copy_from_slice(&f32::from_bits(1).to_le_bytes());
        });
        let package = export(&options).unwrap();
        assert!(logits(&package).iter().all(|logit| logit.is_finite()), "{precision:?}");
    }
}

/// A small package does not drag the checkpoint's large files along, and one that uses most of a file points into it.
#[test]
fn files_of_the_checkpoint_belong_to_a_package_only_where_they_are_used() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = folder.path().join("shipped");
    pico_checkpoint("pico-llava-1.5", &shipped);
    let has_source = |package: &Package| package.manifest.files.iter().any(|file| file.name == "model.safetensors");
    let bytes = |package: &Package| -> u64 {
        let weights = package.manifest.files.iter().filter(|file| file.name.ends_with(".safetensors"));
        weights.map(|file| file.bytes).sum()
    };
    let full = exported(&shipped, &folder.path().join("fp32"), &StagePrecisionChoice::default());
    let small = exported(&shipped, &folder.path().join("int4"), &all(Precision::Int4));
    assert!(has_source(&full) && !has_source(&small));
    // Linear layers are nearly all of it, and rotary tables a fixed part: 4 bits and a scale for each 32 are 5 bits of 32.
    assert!(bytes(&small) * 3 < bytes(&full), "{} is not a third of {}", bytes(&small), bytes(&full));
    let one_stage = StagePrecisionChoice { projector: Some(Precision::Int8), ..StagePrecisionChoice::default() };
    assert!(has_source(&exported(&shipped, &folder.path().join("projector"), &one_stage)));

    // Tensors are aligned, and halves of a checkpoint of halves stay where they are.
    for tensor in small.manifest.files.iter().filter(|file| file.name == "weights.safetensors") {
        let file = llava_gauge::package::safetensors::SafetensorsFile::open(&small.path(&tensor.name).unwrap()).unwrap();
        let padding = |key: &str| key.starts_with("padding.");
        assert!(file.tensors.iter().all(|tensor| tensor.offset.is_multiple_of(64) || padding(&tensor.key)));
    }
    let halves = exported(&fixture("nested-fp16-tied"), &folder.path().join("halves"), &all(Precision::Fp16));
    assert_ne!(halves.manifest.llm.embedding.file, "weights.safetensors");
}

#[test]
fn the_record_of_a_package_is_held_against_it() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("package");
    let choice = StagePrecisionChoice { llm: Some(Precision::Int4), block_size: Some(64), ..StagePrecisionChoice::default() };
    let package = exported(&fixture("transformers4-fp32"), &output, &choice);
    let record = package.manifest.quantisation.as_ref().unwrap();
    let lines = record.lines();
    let llm = "llm int4 (4 bits, blocks of 64, accuracy level 4, scale-search)";
    let head = "head int8-weights (8 bits, blocks of 64, accuracy level 4, round-to-nearest)";
    assert_eq!(lines, [llm, head]);
    assert_eq!(package.manifest.precision.llm, Precision::Int4);
    assert!(gauge_output(&["package", "inspect", text(&output)]).contains(llm));
    let shown = gauge_json(&["package", "inspect", text(&output), "--json"]);
    assert_eq!(shown["manifest"]["precision"]["llm"], "int4");
    assert_eq!(shown["manifest"]["quantisation"]["head"]["scheme"], "int8-weights");

    let manifest = output.join("package.toml");
    let original = fs::read_to_string(&manifest).unwrap();
    let cases = [
        ("llm = \"int4\"", "llm = \"int8\"", "quantisation.llm.scheme"),
        ("bits = 4", "bits = 99", "quantisation.llm.bits"),
        ("[quantisation.llm]", "[quantisation.vision]", "quantisation.vision.scheme"),
        ("[quantisation.llm]", "[quantisation.text]", "quantisation.text"),
        ("dtype = \"f32\"", "dtype = \"i8\"", "llm.embedding"),
    ];
    for (from, to, field) in cases {
        assert!(original.contains(from), "{from} is not in {original}");
        fs::write(&manifest, original.replacen(from, to, 1)).unwrap();
        let message = Package::open(&output).unwrap_err().to_string();
        assert!(message.contains(field), "{from} → {to}: {message}");
    }
    // A package from before there were precisions has no record, and one of fp32 gets none.
    let plain = exported(&fixture("transformers4-fp32"), &folder.path().join("plain"), &StagePrecisionChoice::default());
    assert!(plain.manifest.quantisation.is_none() && !plain.manifest.to_text().unwrap().contains("quantisation"));
}

#[test]
fn options_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("package");
    let (llava, clip) = (fixture("transformers4-fp32"), pico("pico-clip"));
    let cases: [(&Path, &[&str], &str); 11] = [
        (&llava, &["--llm", "int8", "--head", "int8-weights", "--flavor", "standard"], "--head int8-weights"),
        (&llava, &["--llm", "int4", "--accuracy-level", "4", "--flavor", "standard"], "--flavor standard"),
        (&llava, &["--precision", "int8", "--block-size", "32"], "--block-size 32"),
        (&llava, &["--accuracy-level", "0"], "--accuracy-level 0"),
        (&llava, &["--llm", "int4", "--block-size", "48"], "16, 32, 64, 128 or 256"),
        (&llava, &["--llm", "int4", "--accuracy-level", "2"], "--accuracy-level 2"),
        (&llava, &["--embeddings", "int4"], "--embeddings int4"),
        (&llava, &["--text", "int8"], "--text int8"),
        (&clip, &["--llm", "int8"], "--llm int8"),
        (&clip, &["--head", "int8"], "--head int8"),
        (&clip, &["--embeddings", "fp16"], "--embeddings fp16"),
    ];
    for (checkpoint, options, expected) in cases {
        let arguments = [&["export", text(checkpoint), "-o", text(&output)], options].concat();
        let message = gauge_fails(&arguments, 96);
        assert!(message.contains(expected), "{options:?}: {message}");
        assert!(!output.exists());
    }
    gauge(&["export", text(&llava), "-o", text(&output), "--llm", "q4"]).assert().code(2);
}

/// A kill at any moment leaves a whole package or none, and the same command again ends as an uninterrupted one.
#[test]
#[cfg(unix)]
fn a_killed_export_leaves_no_half_package() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = pico("pico-llava-1.5");
    let whole = folder.path().join("whole").join("package");
    let arguments =
        |output: &Path| ["export", text(&shipped), "-o", text(output), "--precision", "int4", "--no-progress"].map(str::to_owned);
    let started = std::time::Instant::now();
    gauge(&arguments(&whole).each_ref().map(String::as_str)).assert().success();
    let duration = started.elapsed();
    let mut killed = 0;
    for eighth in 1..8 {
        let output = folder.path().join(eighth.to_string()).join("package");
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_llava-gauge"))
            .args(arguments(&output))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(duration * eighth / 8);
        killed += u32::from(child.try_wait().unwrap().is_none());
        let _ = child.kill();
        child.wait().unwrap();
        if output.join("package.toml").exists() {
            Package::open(&output).unwrap().verify_hashes().unwrap();
        }
        gauge(&arguments(&output).each_ref().map(String::as_str)).assert().success();
        let files = |folder: &Path| {
            contents(folder).into_iter().filter(|(name, _)| !name.starts_with('.')).collect::<Vec<(String, String)>>()
        };
        assert_eq!(files(&output), files(&whole), "killed at {eighth}/8");
    }
    assert!(killed > 0, "no export was still running when it was to be killed");
}

#[test]
fn a_damaged_package_is_found_and_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("package");
    let shipped = pico("pico-llava-1.5");
    let arguments = ["export", text(&shipped), "-o", text(&output), "--precision", "int8"];
    gauge(&arguments).assert().success();
    let before = contents(&output);
    let weights = output.join("weights.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&weights, &bytes).unwrap();
    let message = gauge_fails(&["package", "inspect", text(&output), "--hashes"], 102);
    assert!(message.contains("weights.safetensors") && message.contains("sha256"), "{message}");
    let message = gauge_fails(&arguments, 102);
    assert!(message.contains("weights.safetensors") && message.contains("--force"), "{message}");
    gauge(&[&arguments[..], &["--force"]].concat()).assert().success();
    assert_eq!(contents(&output), before);
    // Another precision is another package, which takes --force as well.
    let other = ["export", text(&shipped), "-o", text(&output), "--precision", "int4"];
    assert!(gauge_fails(&other, 102).contains("--force"));
    // A tensor cut short is refused before anything runs.
    fs::write(&weights, &bytes[..last]).unwrap();
    assert!(gauge_fails(&["package", "inspect", text(&output)], 102).contains("length"));
}

/// Quantised packages are verified against the fixture of the package that they were made beside, by the size of their error.
#[test]
fn quantised_packages_are_verified_by_their_relative_error() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = pico("pico-llava-1.5");
    for precision in ["fp16", "bf16", "int8", "int8-weights", "int4"] {
        let output = folder.path().join(precision);
        gauge(&["export", text(&shipped), "-o", text(&output), "--precision", precision]).assert().success();
        let report = gauge_json(&["package", "verify", text(&output), "--reference", "pico-llava-1.5", "--json"]);
        assert_eq!(report["passed"], true, "{precision}: {report}");
        let error = report["relative_logit_error"].as_f64().unwrap();
        assert!(error > 1e-6 && error < report["relative_logit_error_limit"].as_f64().unwrap(), "{precision}: {error}");
    }
    // A table in 8 bits makes the package another one, too, though its stages compute in 32 bits.
    let output = folder.path().join("embeddings");
    gauge(&["export", text(&shipped), "-o", text(&output), "--embeddings", "int8"]).assert().success();
    let report = gauge_json(&["package", "verify", text(&output), "--reference", "pico-llava-1.5", "--json"]);
    assert_eq!(report["passed"], true, "{report}");
    assert!(report["relative_logit_error"].as_f64().unwrap() > 1e-4, "{report}");
    // The fixture of another checkpoint is not passed: these weights are not its weights.
    let message = gauge(&["package", "verify", text(&folder.path().join("int4")), "--reference", "pico-llava-1.5-stage1"]);
    let output = { message }.assert().code(101).get_output().stdout.clone();
    assert!(String::from_utf8(output).unwrap().contains("FAILED"));
    // Without --reference there is no fixture in the new folder.
    let message = gauge_fails(&["package", "verify", text(&folder.path().join("int4"))], 102);
    assert!(message.contains("--reference"), "{message}");
}

#[test]
fn clip_packages_have_precisions_too() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = pico("pico-clip");
    for (options, shown) in [(&["--precision", "int8"][..], "int8/int8"), (&["--vision", "int4", "--text", "fp16"], "int4/fp16")]
    {
        let output = folder.path().join(shown.replace('/', "-"));
        let arguments = [&["export", text(&shipped), "-o", text(&output)], options].concat();
        let line = gauge_output(&arguments);
        assert!(line.contains(shown), "{line}");
        let report = gauge_json(&["package", "verify", text(&output), "--reference", text(&shipped), "--json"]);
        assert_eq!(report["passed"], true, "{report}");
        assert!(report["logits"]["relative"].as_f64().unwrap() > 1e-6, "{report}");
    }
}

/// A quantised stage can be looked at layer by layer, and a pair of precisions be attributed.
#[test]
fn precisions_can_be_attributed_layer_by_layer() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("int8");
    gauge(&["export", text(&pico("pico-llava-1.5")), "-o", text(&output), "--precision", "int8"]).assert().success();
    let attribution = folder.path().join("attribution");
    let arguments = [
        "attribute",
        "pico-llava-1.5",
        text(&output),
        "--benchmark",
        "pico-vqa",
        "--limit",
        "12",
        "--deep",
        "-o",
        text(&attribution),
        "--json",
    ];
    let found = gauge_json(&arguments).to_string();
    assert!(found.contains("\"layer\""), "{found}");
}

/// A graph that multiplies codes of activations with codes of weights, as int8 packages do, in a session as the engine makes them.
fn integer_products(activations: &[i32], weights: &[i8], [rows, inputs, outputs]: [usize; 3]) -> Vec<f32> {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("package");
    let package = exported(&fixture("transformers4-fp32"), &output, &StagePrecisionChoice::default());
    // Weights and their scales, which are 1.
    let scales = vec![1.0_f32; outputs];
    let bytes: Vec<u8> =
        scales.iter().flat_map(|scale| scale.to_le_bytes()).chain(weights.iter().map(|code| code.to_le_bytes()[0])).collect();
    fs::write(output.join("codes.bin"), bytes).unwrap();
    let mut graph = GraphBuilder::new("products");
    let (tiles, fixed) = (Dimension::named("tiles"), |size: usize| Dimension::Fixed(size));
    let pixels = graph.input("pixel_values", ElementType::Float32, &[tiles, fixed(1), fixed(rows), fixed(inputs)]);
    let shape = graph.integers("shape", &[-1, inputs as i64]);
    let flat = graph.op("Reshape", "flat", &[&pixels, &shape], &[]);
    let (one, zero) = (graph.float("one", 1.0), graph.byte("zero", 128));
    let codes = graph.op("QuantizeLinear", "codes", &[&flat, &one, &zero], &[]);
    let data = |offset, bytes| ExternalData { file: "codes.bin".to_owned(), offset, bytes };
    let scales = graph.external("scales", ElementType::Float32, &[outputs], &data(0, 4 * outputs as u64));
    let weight =
        graph.external("weight", ElementType::Int8, &[inputs, outputs], &data(4 * outputs as u64, (inputs * outputs) as u64));
    let product = graph.microsoft_op("MatMulIntegerToFloat", "product", &[&codes, &weight, &one, &scales, &zero], &[]);
    let product = graph.op("Cast", "result", &[&product], &[("to", Attribute::Int(1))]);
    graph.output(&product, ElementType::Float32, &[Dimension::named("rows"), fixed(outputs)]);
    let model = LayeredModel { bytes: graph.finish().unwrap(), states: vec!["result".to_owned()], given: Vec::new() };
    let options = EngineOptions { intra_op_threads: 2, ..EngineOptions::default() };
    let mut probe = LayerProbe::load(&package, StageName::Vision, model, &options).unwrap();
    let pixels = Array4::from_shape_fn((1, 1, rows, inputs), |(_, _, row, input)| activations[row * inputs + input] as f32);
    probe.vision(pixels.view(), &[]).unwrap().remove(0).into_iter().collect()
}

/// Without the engine's setting, the kernel for processors without VNNI saturates in 16 bits: two products of 255 · 127 are more.
fn check_products(activations: &[i32], weights: &[i8], sizes: [usize; 3]) -> Result<(), TestCaseError> {
    let [rows, inputs, outputs] = sizes;
    let found = integer_products(activations, weights, sizes);
    for row in 0..rows {
        for output in 0..outputs {
            let expected: i64 = (0..inputs)
                .map(|input| i64::from(activations[row * inputs + input]) * i64::from(weights[input * outputs + output]))
                .sum();
            // Below 2^24, so that a 32-bit floating-point number holds it.
            prop_assert_eq!(f64::from(found[row * outputs + output]), expected as f64);
        }
    }
    Ok(())
}

#[test]
fn products_of_the_largest_codes_are_exact() {
    for (activation, weight) in [(127, 127), (-127, -127), (127, -127), (-127, 127)] {
        for rows in [1, 7] {
            let sizes = [rows, 640, 24];
            check_products(&vec![activation; rows * 640], &vec![weight; 640 * 24], sizes).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn products_of_codes_are_exact(
        sizes in (1_usize..9, 1_usize..130, 1_usize..40),
        seed in any::<u64>(),
        extreme in any::<bool>(),
    ) {
        let (rows, inputs, outputs) = sizes;
        let mut state = seed | 1;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let value = ((state >> 33) % 255) as i32 - 127;
            if extreme { if value < 0 { -127 } else { 127 } } else { value }
        };
        let activations: Vec<i32> = (0..rows * inputs).map(|_| next()).collect();
        let weights: Vec<i8> = (0..inputs * outputs).map(|_| next() as i8).collect();
        check_products(&activations, &weights, [rows, inputs, outputs])?;
    }
}
