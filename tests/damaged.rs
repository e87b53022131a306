//! Damaged, hostile and unsupported inputs, each through the command line: one clear error that names file and field, the
//! documented exit code, no panic, and nothing left behind.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;
mod export_support;

use std::fs;
use std::path::{Path, PathBuf};

use common::{gauge, text};
use export_support::{
    Tensor, copy_folder, edit_json, fixture, pickled_integer, pickled_tensor, pickled_text, pickled_view, read_tensors,
    root_fixture, torch_archive, torch_file, write_tensors,
};
use serde_json::{Value, json};

/// A command's folder: checkpoint, base, tower and what else a case needs.
struct Place {
    folder: tempfile::TempDir,
    checkpoint: PathBuf,
    arguments: Vec<String>,
}

impl Place {
    fn of(source: PathBuf) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = folder.path().join("checkpoint");
        copy_folder(&source, &checkpoint);
        Self { folder, checkpoint, arguments: Vec::new() }
    }

    fn hugging_face() -> Self {
        Self::of(fixture("transformers4-fp32"))
    }

    /// A checkpoint that needs a base, which is copied too.
    fn with_base(name: &str, base: &str) -> Self {
        let mut place = Self::of(root_fixture("checkpoints").join(name));
        let target = place.folder.path().join("base");
        copy_folder(&root_fixture("checkpoints").join(base), &target);
        // The folder's name says that it is a delta.
        if name.contains("delta") {
            let renamed = place.folder.path().join("llava-delta-v0");
            fs::rename(&place.checkpoint, &renamed).unwrap();
            place.checkpoint = renamed;
        }
        place.arguments = vec!["--base".to_owned(), text(&target).to_owned()];
        place.tower()
    }

    fn tower(mut self) -> Self {
        let tower = fixture("original-mlp-tower");
        self.arguments.extend(["--vision-tower".to_owned(), text(&tower).to_owned()]);
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.checkpoint.join(name)
    }

    fn write(self, name: &str, bytes: impl AsRef<[u8]>) -> Self {
        fs::write(self.path(name), bytes).unwrap();
        self
    }

    fn remove(self, name: &str) -> Self {
        fs::remove_file(self.path(name)).unwrap();
        self
    }

    /// Sets a key, given by its path, of a JSON file.
    fn set(self, file: &str, path: &[&str], value: Value) -> Self {
        edit_json(&self.path(file), |root| {
            let (last, parents) = path.split_last().unwrap();
            let parent = parents.iter().fold(root, |object, key| object[*key].as_object_mut().unwrap());
            parent.insert((*last).to_owned(), value);
        });
        self
    }

    fn tensors(self, file: &str, change: impl FnOnce(&mut Vec<Tensor>)) -> Self {
        let mut tensors = read_tensors(&self.path(file));
        change(&mut tensors);
        write_tensors(&self.path(file), &tensors);
        self
    }

    fn text(self, file: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Self {
        let bytes = fs::read(self.path(file)).unwrap();
        self.write(file, change(bytes))
    }

    /// Weights by torch.save with this pickle, and one storage of 16 bytes.
    fn pickle(self, pickle: impl AsRef<[u8]>) -> Self {
        let bytes = torch_archive(&[b"\x80\x02", pickle.as_ref(), b"."].concat(), &[("0", &[0; 16])]);
        self.torch(bytes)
    }

    fn torch(self, bytes: impl AsRef<[u8]>) -> Self {
        self.remove("model.safetensors").write("pytorch_model.bin", bytes)
    }

    /// Exports, and checks code, message and what is left.
    fn refused(&self, case: &str, code: i32, parts: &[&str]) {
        let output = self.folder.path().join("package");
        let mut arguments = vec!["export", text(&self.checkpoint), "-o", text(&output)];
        arguments.extend(self.arguments.iter().map(String::as_str));
        let result = gauge(&arguments).output().unwrap();
        one_error(case, &result.stderr, parts);
        assert_eq!(result.status.code(), Some(code), "{case}");
        assert!(result.stdout.is_empty(), "{case}: something on standard output");
        assert!(!output.exists(), "{case}: something was left");
    }
}

fn one_error(case: &str, stderr: &[u8], parts: &[&str]) {
    let message = String::from_utf8(stderr.to_vec()).unwrap();
    for part in parts {
        assert!(message.contains(part), "{case}: {part:?} is not in {message:?}");
    }
    assert_eq!(message.matches("error: ").count(), 1, "{case}: {message:?}");
    assert!(message.lines().count() == 1 && !message.contains("panicked"), "{case}: {message:?}");
}

/// Case, checkpoint, parts of the message; the exit code is 102.
type Case = (&'static str, Place, &'static [&'static str]);

fn check(cases: Vec<Case>) {
    for (case, place, parts) in cases {
        place.refused(case, 102, parts);
    }
}

fn mapping(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let items = entries.iter().flat_map(|(key, value)| [pickled_text(key), value.clone()].concat());
    [b"}(".to_vec(), items.collect(), b"u".to_vec()].concat()
}

#[test]
fn hostile_pickles() {
    let hf = Place::hugging_face;
    let command = pickled_text("touch /tmp/llava-gauge-was-here");
    let call = |name: &str| [name.as_bytes(), b"(", &command[..], b"tR"].concat();
    let one = |pickle: &[u8]| hf().pickle(pickle);
    let view = |count, offset, shape: &[usize], strides: &[usize]| {
        hf().pickle(mapping(&[("w", pickled_view("0", "FloatStorage", count, offset, shape, strides))]))
    };
    let huge = |opcode: &[u8], length: &[u8]| one(&[opcode, length, b"abc"].concat());
    const FILE: &str = "pytorch_model.bin";
    check(vec![
        ("reduce of os.system", one(&call("cos\nsystem\n")), &[FILE, "names os.system"]),
        ("reduce of posix.system", one(&call("cposix\nsystem\n")), &[FILE, "names posix.system"]),
        ("global eval", one(&call("cbuiltins\neval\n")), &[FILE, "names builtins.eval"]),
        ("global exec of Python 2", one(&call("c__builtin__\nexec\n")), &[FILE, "names __builtin__.exec"]),
        ("getattr", one(b"cbuiltins\ngetattr\n"), &[FILE, "names builtins.getattr"]),
        (
            "stack global",
            one(&[&pickled_text("subprocess"), &pickled_text("Popen"), &b"\x93"[..]].concat()),
            &[FILE, "names subprocess.Popen"],
        ),
        ("torch.load of another file", one(b"ctorch\nload\n"), &[FILE, "names torch.load"]),
        ("torch.nn module", one(b"ctorch.nn.modules.linear\nLinear\n"), &[FILE, "names torch.nn.modules.linear.Linear"]),
        ("numpy array", one(b"cnumpy.core.multiarray\n_reconstruct\n"), &[FILE, "numpy.core.multiarray._reconstruct"]),
        ("dotted name", one(b"ctorch._utils\n_rebuild_tensor_v2.__globals__\n"), &[FILE, "__globals__"]),
        ("call of a storage", one(b"ctorch\nFloatStorage\n)R"), &[FILE, "calls Storage"]),
        ("call of a dictionary", one(b"})R"), &[FILE, "calls something that is no known name"]),
        ("build of a name", one(b"ccollections\nOrderedDict\n}b"), &[FILE, "BUILD"]),
        ("build with a list", one(b"ccollections\nOrderedDict\n)R]b"), &[FILE, "BUILD"]),
        ("inst", one(b"(ios\nsystem\n"), &[FILE, "INST"]),
        ("obj", one(b"(ccollections\nOrderedDict\no"), &[FILE, "OBJ"]),
        ("newobj", one(b"ccollections\nOrderedDict\n)\x81"), &[FILE, "NEWOBJ"]),
        ("newobj_ex", one(b"ccollections\nOrderedDict\n)}\x92"), &[FILE, "NEWOBJ_EX"]),
        ("extension", one(b"\x82\x01"), &[FILE, "EXT"]),
        ("persistent text", one(b"Pabc\n"), &[FILE, "PERSID"]),
        ("persistent object that is no storage", one(&[&b"("[..], &pickled_text("file"), b"tQ"].concat()), &[FILE, "no storage"]),
        ("text protocol", one(b"I1\n"), &[FILE, "protocol 0"]),
        ("unknown instruction", one(b"\xff"), &[FILE, "0xff"]),
        ("buffers", one(b"\x97"), &[FILE, "buffers"]),
        ("deep nesting", one(&[&b")"[..], &vec![0x85; 5_000_000]].concat()), &[FILE, "4000000 allowed"]),
        ("deep marks", one(&vec![b'('; 2_000_000]), &[FILE, "values on its stack"]),
        ("memo bomb", one(&[&b")q\0"[..], &b"h\0h\0h\0\x87q\0".repeat(100_000)].concat()), &[FILE, "no dictionary"]),
        ("list in itself", one(b"]q\0h\0a"), &[FILE, "no dictionary"]),
        (
            "references without end",
            one(&[&b"]q\0"[..], &b"(h\0h\0h\0h\0h\0h\0h\0h\0e".repeat(600_000)].concat()),
            &[FILE, "allowed"],
        ),
        ("recall of nothing", one(b"h\x07"), &[FILE, "never stored"]),
        ("huge text", huge(b"X", &u32::MAX.to_le_bytes()), &[FILE, "bytes in one text"]),
        ("huge text of 64 bits", huge(b"\x8d", &u64::MAX.to_le_bytes()), &[FILE, "bytes in one text"]),
        ("huge bytes", huge(b"B", &u32::MAX.to_le_bytes()), &[FILE, "bytes in one byte string"]),
        ("empty stack", one(b"t"), &[FILE, "a mark is missing"]),
        ("end in the middle", one(b"}(X\x05\0\0\0ab"), &[FILE, "ends in the middle"]),
        ("a name without end", one(&[&b"c"[..], &[b'a'; 5000]].concat()), &[FILE, "has no end"]),
        ("no tensor", hf().pickle(mapping(&[("w", pickled_integer(3))])), &[FILE, "\"w\"", "no tensor"]),
        ("training state", hf().pickle(mapping(&[("state_dict", b"}".to_vec())])), &[FILE, "\"state_dict\"", "dictionary"]),
        (
            "twice",
            hf().pickle(mapping(&[
                ("w", pickled_tensor("0", "FloatStorage", &[4])),
                ("w", pickled_tensor("0", "FloatStorage", &[4])),
            ])),
            &[FILE, "\"w\"", "twice"],
        ),
        ("view beyond its storage", view(4, 2, &[3], &[1]), &[FILE, "\"w\"", "reach number 4"]),
        ("view made of nothing", view(4, 0, &[1 << 30], &[0]), &[FILE, "\"w\"", "view of only 4"]),
        ("sizes that overflow", view(4, 0, &[1 << 30, 1 << 30, 1 << 30], &[1, 1, 1]), &[FILE, "\"w\"", "overflow"]),
        ("storage of another length", view(5, 0, &[5], &[1]), &[FILE, "\"w\"", "16 bytes"]),
        (
            "storage that is missing",
            hf().pickle(mapping(&[("w", pickled_tensor("../0", "FloatStorage", &[4]))])),
            &[FILE, "\"w\"", "../0", "missing"],
        ),
        (
            "complex numbers",
            hf().pickle(mapping(&[("w", pickled_tensor("0", "ComplexFloatStorage", &[2]))])),
            &[FILE, "ComplexFloatStorage"],
        ),
    ]);
    assert!(!Path::new("/tmp/llava-gauge-was-here").exists());
}

/// Places of a signature in some bytes.
fn places(bytes: &[u8], signature: &[u8]) -> Vec<usize> {
    (0..bytes.len() - signature.len()).filter(|&at| bytes[at..].starts_with(signature)).collect()
}

#[test]
fn hostile_archives() {
    let hf = Place::hugging_face;
    const FILE: &str = "pytorch_model.bin";
    let tensors = read_tensors(&fixture("transformers4-fp32").join("model.safetensors"));
    let good = torch_file(&tensors);
    // Of the third entry's record in the directory: its offset at 42, its name at 46.
    let record = places(&good, b"PK\x01\x02")[2];
    let changed = |at: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        hf().torch(changed)
    };
    let first = places(&good, b"PK\x01\x02")[3];
    let offset: [u8; 4] = good[first + 42..first + 46].try_into().unwrap();
    let compressed = {
        let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let deflated = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        archive.start_file("a/data.pkl", deflated).unwrap();
        std::io::Write::write_all(&mut archive, &vec![b'N'; 40 << 20]).unwrap();
        archive.finish().unwrap().into_inner()
    };
    let script = {
        let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        for name in ["a/data.pkl", "a/code/__torch__.py", "a/constants.pkl"] {
            archive.start_file(name, stored).unwrap();
        }
        archive.finish().unwrap().into_inner()
    };
    let renamed = |from: &[u8], to: &[u8]| {
        let mut changed = good.clone();
        for at in places(&good, from) {
            changed[at..at + to.len()].copy_from_slice(to);
        }
        hf().torch(changed)
    };
    check(vec![
        ("cut archive", hf().torch(&good[..good.len() - 30]), &[FILE, "zip archive"]),
        ("cut in the middle", hf().torch(&good[..good.len() / 2]), &[FILE, "zip archive"]),
        ("overlapping entries", changed(record + 42, &offset), &[FILE, "zip archive", "overlap"]),
        ("an offset into nowhere", changed(record + 42, &[0xf0, 0xff, 0xff, 0x00]), &[FILE, "zip archive"]),
        (
            "an offset beside the entry",
            changed(record + 42, &[offset[0] ^ 0x10, offset[1], offset[2], offset[3]]),
            &[FILE, "zip archive"],
        ),
        ("another name in the directory", changed(record + 46, b"brchive"), &[FILE, "zip archive"]),
        ("another size in the directory", changed(record + 20, &[1, 0, 0, 0, 1, 0, 0, 0]), &[FILE, "zip archive"]),
        ("compressed bomb", hf().torch(compressed), &[FILE, "compressed"]),
        ("big endian", hf().torch(replaced(&good, b"little", b"biggie")), &[FILE]),
        ("no pickle", renamed(b"archive/data.pkl", b"archive/data.pk1"), &[FILE, "no data.pkl"]),
        ("TorchScript", hf().torch(script), &[FILE, "TorchScript"]),
        ("names that climb", renamed(b"archive/byteorder", b"../../../escape.x"), &[FILE, "not in the folder of the others"]),
        ("empty file", hf().torch(b""), &[FILE, "empty"]),
        ("text", hf().torch(b"weights"), &[FILE, "not a file of torch.save"]),
        (
            "git-lfs pointer",
            hf().torch(b"version https://git-lfs.example/spec/v1\noid sha256:0\nsize 5\n"),
            &[FILE, "git lfs pull"],
        ),
        ("bare pickle", hf().torch(b"\x80\x02cos\nsystem\n."), &[FILE, "names os.system"]),
        (
            "older format cut",
            Place::of(root_fixture("checkpoints/bin-legacy")).tower().text(FILE, |bytes| bytes[..bytes.len() - 1].to_vec()),
            &[FILE, "truncated"],
        ),
    ]);
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    for at in places(bytes, from) {
        changed[at..at + to.len()].copy_from_slice(to);
    }
    changed
}

#[test]
fn damaged_weights() {
    let hf = Place::hugging_face;
    let sharded = || Place::of(root_fixture("checkpoints/bin-sharded")).tower();
    const FILE: &str = "model.safetensors";
    const INDEX: &str = "pytorch_model.bin.index.json";
    let header = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &[0; 16]].concat();
    let named = |name: &'static str| {
        hf().tensors(FILE, move |tensors| {
            let mut copy = tensors[0].clone();
            copy.name = name.to_owned();
            tensors.push(copy);
        })
    };
    let retyped = |dtype: &'static str, divisor: usize| {
        hf().tensors(FILE, move |tensors| {
            let tensor = tensors.iter_mut().find(|tensor| tensor.name.ends_with("up_proj.weight")).unwrap();
            tensor.dtype = dtype.to_owned();
            tensor.data.truncate(tensor.data.len() / divisor);
        })
    };
    check(vec![
        ("no weights", hf().remove(FILE), &["has no model.safetensors"]),
        ("another format", hf().remove(FILE).write("model.gguf", b"GGUF"), &["has no model.safetensors", "model.gguf"]),
        ("a shard is missing", sharded().remove("pytorch_model-00002-of-00002.bin"), &["has no pytorch_model-00002-of-00002.bin", INDEX]),
        (
            "an index names an absent tensor",
            sharded().set(INDEX, &["weight_map", "model.layers.7.extra.weight"], json!("pytorch_model-00001-of-00002.bin")),
            &[INDEX, "model.layers.7.extra.weight", "pytorch_model-00001-of-00002.bin does not"],
        ),
        ("an index leads elsewhere", sharded().set(INDEX, &["weight_map", "a"], json!("../../x.bin")), &[INDEX, "../../x.bin"]),
        ("an index of another format", sharded().set(INDEX, &["weight_map", "a"], json!("x.safetensors")), &[INDEX, "a .bin file"]),
        ("an index without files", sharded().write(INDEX, r#"{"weight_map": {}}"#), &[INDEX, "weight_map"]),
        ("truncated", hf().text(FILE, |bytes| bytes[..bytes.len() - 9].to_vec()), &[FILE, "truncated"]),
        ("a header beyond the file", hf().write(FILE, u64::MAX.to_le_bytes()), &[FILE, "header"]),
        (
            "overlapping tensors",
            hf().write(FILE, header(r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"b":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}"#)),
            &[FILE, "\"b\" begins at byte"],
        ),
        (
            "sizes that overflow",
            hf().write(FILE, header(r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,16]}}"#)),
            &[FILE, "\"a\"", "16 bytes"],
        ),
        ("one weight under two names", named("model.language_model.layers.0.mlp.up_proj.weight"), &[FILE, "two names"]),
        ("a tensor that nothing explains", named("adapter.extra"), &[FILE, "unexpected tensor \"adapter.extra\""]),
        ("a tensor is missing", hf().tensors(FILE, |tensors| drop(tensors.remove(3))), &["is missing"]),
        ("wrong shape", hf().set("config.json", &["text_config", "intermediate_size"], json!(48)), &[FILE, "expected [48, 16]"]),
        ("whole numbers", retyped("I32", 1), &[FILE, "up_proj.weight", "I32"]),
        ("double precision", retyped("I8", 4), &[FILE, "up_proj.weight", "I8"]),
        ("GPTQ weights", named("language_model.model.layers.0.mlp.up_proj.qweight"), &[FILE, "up_proj.qweight", "GPTQ"]),
        ("bitsandbytes weights", named("language_model.model.layers.0.mlp.up_proj.weight.absmax"), &[FILE, "bitsandbytes 4-bit"]),
        ("bitsandbytes 8-bit", named("language_model.model.layers.0.mlp.up_proj.SCB"), &[FILE, "bitsandbytes 8-bit"]),
    ]);
}

#[test]
fn damaged_configurations() {
    let hf = Place::hugging_face;
    let original = || Place::of(fixture("original-mlp")).tower();
    const CONFIG: &str = "config.json";
    let llm = |key: &'static str, value: Value| hf().set(CONFIG, &["text_config", key], value);
    let quantised = |method: &str| hf().set(CONFIG, &["quantization_config"], json!({"quant_method": method, "bits": 4}));
    check(vec![
        ("no configuration", hf().remove(CONFIG), &["has no config.json"]),
        ("empty configuration", hf().write(CONFIG, b""), &[CONFIG, "not readable"]),
        ("a list", hf().write(CONFIG, b"[1]"), &[CONFIG, "not an object"]),
        ("nested without end", hf().write(CONFIG, "[".repeat(100_000)), &[CONFIG, "recursion limit"]),
        ("UTF-16", hf().write(CONFIG, b"\xff\xfe{\0}\0"), &[CONFIG, "not readable"]),
        (
            "NaN",
            hf().text(CONFIG, |bytes| replaced(&bytes, b"\"model_type\": \"llava\"", b"\"model_type\": NaN    ")),
            &[CONFIG, "not readable"],
        ),
        ("NaN as a text", llm("rms_norm_eps", json!("NaN")), &[CONFIG, "text_config.rms_norm_eps is \"NaN\""]),
        ("infinite", hf().text(CONFIG, |bytes| replaced(&bytes, b"1e-05", b"1e999")), &[CONFIG]),
        ("absurd width", llm("hidden_size", json!(1_000_000_000_000_u64)), &[CONFIG, "text_config.hidden_size", "16777216"]),
        ("absurd depth", llm("num_hidden_layers", json!(1_000_000)), &[CONFIG, "text_config.num_hidden_layers"]),
        ("negative width", llm("hidden_size", json!(-16)), &[CONFIG, "text_config.hidden_size is -16"]),
        ("fractional width", llm("vocab_size", json!(16.5)), &[CONFIG, "text_config.vocab_size is 16.5"]),
        ("unknown model", hf().set(CONFIG, &["model_type"], json!("video_llava")), &[CONFIG, "model_type = \"video_llava\""]),
        (
            "unknown projector",
            original().set(CONFIG, &["mm_projector_type"], json!("ldpnet")),
            &[CONFIG, "mm_projector_type = \"ldpnet\""],
        ),
        ("GPTQ", quantised("gptq"), &[CONFIG, "quantization_config", "gptq"]),
        ("AWQ", quantised("awq"), &[CONFIG, "quantization_config", "awq"]),
        ("bitsandbytes", quantised("bitsandbytes"), &[CONFIG, "quantization_config", "bitsandbytes"]),
        ("no tower", Place::of(fixture("original-mlp")), &[CONFIG, "--vision-tower"]),
        (
            "image token that is not in the vocabulary",
            hf().set(CONFIG, &["image_token_index"], json!(9)),
            &["tokenizer.json", "<image>", "id 9"],
        ),
        ("no tokenizer", hf().remove("tokenizer.json"), &["has no tokenizer.json"]),
        ("broken tokenizer", hf().write("tokenizer.json", b"{\"model\":"), &["tokenizer.json", "not readable"]),
        (
            "tokenizer.model that is none",
            hf().remove("tokenizer.json").write("tokenizer.model", [0x0a, 0xff, 0xff, 0xff, 0xff]),
            &["tokenizer.model", "SentencePiece"],
        ),
        (
            "tokenizer of another model",
            hf().remove("tokenizer.json")
                .write("tokenizer_config.json", "{}")
                .write("tokenizer.model", fs::read(root_fixture("sentencepiece/llama.model")).unwrap()),
            &["tokenizer.model", "largest token id is 559", "vocab_size = 16"],
        ),
    ]);
}

#[test]
fn deltas_adapters_and_projectors_that_do_not_fit() {
    let lora = || Place::with_base("lora-fp16", "base-fp16");
    let delta = || Place::with_base("llava-delta-v0", "base-fp16");
    let alone = |name: &str| Place::of(root_fixture("checkpoints").join(name)).tower();
    const ADAPTER: &str = "adapter_model.safetensors";
    const SETTINGS: &str = "adapter_config.json";
    let setting = |key: &'static str, value: Value| lora().set(SETTINGS, &[key], value);
    let base_setting = |place: Place, key: &str, value: Value| {
        edit_json(&place.folder.path().join("base/config.json"), |config| drop(config.insert(key.to_owned(), value)));
        place
    };
    let mut named = alone("llava-delta-v0");
    let renamed = named.folder.path().join("LLaVA-7b-delta-v0");
    fs::rename(&named.checkpoint, &renamed).unwrap();
    named.checkpoint = renamed;
    let mut useless = alone("bin-legacy");
    useless.arguments.extend(["--base".to_owned(), text(&root_fixture("checkpoints/base-fp16")).to_owned()]);
    let mut nowhere = alone("projector");
    nowhere.arguments.extend(["--base".to_owned(), "does/not/exist".to_owned()]);
    let narrow = {
        let place = delta();
        let tensors = read_tensors(&root_fixture("checkpoints/base-fp32/model.safetensors"));
        let fewer: Vec<Tensor> = tensors
            .into_iter()
            .map(|mut tensor| {
                if tensor.name == "model.norm.weight" {
                    (tensor.shape, tensor.data) = (vec![8], tensor.data[..32].to_vec());
                }
                tensor
            })
            .collect();
        write_tensors(&place.folder.path().join("base/model.safetensors"), &fewer);
        place
    };
    check(vec![
        ("adapter without base", alone("lora-fp16"), &["LoRA adapter", "--base"]),
        ("projector without base", alone("projector"), &["projector alone", "--base"]),
        ("delta without base", named, &["delta", "--base"]),
        ("base without use", useless, &["whole weights", "--base"]),
        ("base that is not there", nowhere, &["does/not/exist", "has no config.json"]),
        (
            "quantised base",
            base_setting(lora(), "quantization_config", json!({"quant_method": "awq"})),
            &["base/config.json", "quantization_config"],
        ),
        ("delta of another shape", narrow, &["model.norm.weight", "has shape [16], and [8] in the base"]),
        ("DoRA", setting("use_dora", json!(true)), &[SETTINGS, "use_dora = true"]),
        ("another kind of adapter", setting("peft_type", json!("IA3")), &[SETTINGS, "peft_type = \"IA3\"", "LORA"]),
        ("biases", setting("bias", json!("lora_only")), &[SETTINGS, "bias = \"lora_only\""]),
        ("PiSSA", setting("init_lora_weights", json!("pissa_niter_4")), &[SETTINGS, "init_lora_weights"]),
        ("copied layers", setting("layer_replication", json!([[0, 1]])), &[SETTINGS, "layer_replication"]),
        (
            "regular expressions",
            setting("rank_pattern", json!({".*q_proj$": 8})),
            &[SETTINGS, "rank_pattern", "regular expressions"],
        ),
        ("another rank", setting("r", json!(8)), &[SETTINGS, "r is 8", "expected 4"]),
        ("no rank", setting("r", json!(0)), &[SETTINGS, "r is 0"]),
        ("no matrices", lora().remove(ADAPTER), &["has no adapter_model.safetensors"]),
        (
            "ranks that do not fit",
            lora().tensors(ADAPTER, |tensors| {
                let tensor = tensors.iter_mut().find(|tensor| tensor.name.ends_with("q_proj.lora_A.weight")).unwrap();
                (tensor.shape, tensor.data) = (vec![2, 16], tensor.data[..128].to_vec());
            }),
            &[ADAPTER, "q_proj.lora_B.weight", "does not fit [2, 16]"],
        ),
        (
            "half of a pair",
            lora().tensors(ADAPTER, |tensors| tensors.retain(|tensor| !tensor.name.ends_with("q_proj.lora_B.weight"))),
            &[ADAPTER, "q_proj.lora_A.weight", "no lora_B"],
        ),
        (
            "a layer that the base does not have",
            lora().tensors(ADAPTER, |tensors| {
                tensors.iter_mut().for_each(|tensor| tensor.name = tensor.name.replace("layers.0", "layers.9"));
            }),
            &[ADAPTER, "layers.9", "the base does not have"],
        ),
        (
            "a tensor that is no part of LoRA",
            lora().tensors(ADAPTER, |tensors| tensors[0].name = "base_model.model.lm_head.weight".to_owned()),
            &[ADAPTER, "lm_head.weight", "modules_to_save"],
        ),
        (
            "hostile trained weights",
            lora().write("non_lora_trainables.bin", b"\x80\x02cos\nsystem\n."),
            &["non_lora_trainables.bin", "os.system"],
        ),
        (
            "hostile projector",
            Place::with_base("projector", "base-fp16").write("mm_projector.bin", b"PK\x03\x04"),
            &["mm_projector.bin"],
        ),
    ]);
}

#[test]
fn images_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let package = folder.path().join("package");
    gauge(&["export", text(&fixture("transformers4-fp32")), "-o", text(&package)]).assert().success();
    let bitmap = |width: i32, height: i32| {
        let mut bytes = b"BM".to_vec();
        for number in [54_i32, 0, 54, 40, width, height] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend([1, 0, 24, 0]);
        bytes.extend([0; 24]);
        bytes
    };
    let mut png = Vec::new();
    let tall = image::RgbImage::new(1, 4000);
    tall.write_to(&mut std::io::Cursor::new(&mut png), image::ImageFormat::Png).unwrap();
    // The package crops a square of 8 pixels after the short side became 8: 1 x 4000 becomes 8 x 32000.
    let cases: [(&str, Vec<u8>, &[&str]); 6] = [
        ("empty.png", Vec::new(), &["empty.png"]),
        ("zero.bmp", bitmap(0, 5), &["zero.bmp", "0 x 5"]),
        ("huge.bmp", bitmap(1 << 30, 1 << 30), &["huge.bmp", "1073741824"]),
        ("cut.png", png[..40].to_vec(), &["cut.png"]),
        ("tall.png", png.clone(), &["tall.png", "32000"]),
        ("text.png", b"no image".to_vec(), &["text.png"]),
    ];
    for (name, bytes, parts) in cases {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let arguments = ["ask", text(&package), "--image", text(&path), "--prompt", "what"];
        let result = gauge(&arguments).assert().code(102);
        one_error(name, &result.get_output().stderr, parts);
    }
}
