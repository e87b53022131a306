//! Run directories made by hand, as a program would have written them.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::{Path, PathBuf};

use llava_gauge::store::{RunHeader, RunWriter, SampleRecord};
use serde_json::{Value, json};

/// Header of a run of `package` on a benchmark of so many yes/no questions; `change` may alter it.
pub fn header(package: &str, samples: usize, started: &str, change: impl Fn(&mut Value)) -> RunHeader {
    let mut header = json!({
        "format": 1,
        "started": started,
        "model": {
            "name": package, "identity": "ab".repeat(32), "precision": "fp32/fp32/fp32", "template": "vicuna_v1",
            "image_recipe": "pad 64px bicubic", "weight_bytes": 1_500_000
        },
        "benchmark": {
            "name": "yes-no", "title": "Yes or no", "scorer": "yes-no/1", "samples_sha256": "cd".repeat(32), "samples": samples,
            "samples_available": samples, "data_root": "data",
            "metrics": [
                {"name": "accuracy", "scale": 100.0, "higher_is_better": true, "primary": true},
                {"name": "yes_ratio", "scale": 100.0, "higher_is_better": null, "primary": false}
            ]
        },
        "settings": {
            "max_new_tokens": 16, "provider": "cpu", "intra_op_threads": 2, "scheduling": "packed-tree", "prompt_sha256": "01".repeat(32)
        },
        "environment": {
            "program_version": "0.1.0", "runtime_version": "1.31.1", "runtime_sha256": "ef".repeat(32), "platform": "linux, x86_64",
            "processor": "a processor", "physical_cores": 2, "memory_bytes": 17_179_869_184_u64
        }
    });
    change(&mut header);
    serde_json::from_value(header).unwrap()
}

/// A record: question `index` of image `index / 2`, right or wrong, in so many milliseconds of the vision encoder.
pub fn record(index: usize, right: bool, vision_ms: f64) -> SampleRecord {
    let score = f64::from(u8::from(right));
    let one = |numerator: f64| json!({"numerator": numerator, "denominator": 1.0});
    serde_json::from_value(json!({
        "key": format!("q{index}"), "cluster": format!("image{}", index / 2), "images": [format!("image{}.png", index / 2)],
        "question": format!("Question {index}?"), "prompt": "USER: <image>", "prompt_sha256": "01".repeat(32), "prompt_tokens": 30,
        "reference": {"kind": "yes-no", "yes": true}, "token_ids": [1, 2], "text": if right { "yes" } else { "no" },
        "log_probability": -0.5, "stop_reason": "eos", "parsed": if right { "yes" } else { "no" }, "score": score,
        "contributions": {"accuracy": one(score), "yes_ratio": one(score)}, "detail": null,
        "timings": {
            "ttft_ms": vision_ms + 5.0, "tpot_ms": 2.0,
            "group": {
                "questions": 2, "image_ms": 1.0, "vision_ms": vision_ms, "projector_ms": 0.5, "prefill_ms": 3.0, "decode_ms": 4.0,
                "prefill_tokens": 60, "decode_steps": 2
            }
        }
    }))
    .unwrap()
}

/// Writes a complete run: `right` of `samples` questions are answered rightly.
pub fn write(directory: &Path, header: &RunHeader, right: usize, vision_ms: f64) -> PathBuf {
    let (mut writer, _) = RunWriter::open_or_resume(directory, header).unwrap();
    let records: Vec<SampleRecord> = (0..header.benchmark.samples).map(|index| record(index, index < right, vision_ms)).collect();
    writer.append(&records).unwrap();
    writer.finish(b"{}").unwrap();
    directory.to_path_buf()
}
