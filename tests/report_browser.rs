//! The report's sample browser in a real one: makes reports of several kinds and has `tests/browser/test_report.py` use them.
//! What needs no browser is checked on the way: sizes, the split into pages, and the time it takes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    dead_code,
    reason = "a test that cannot go on should stop; the fixtures have more than is used here"
)]

#[path = "fixtures/report/demo.rs"]
mod demo;
#[path = "fixtures/report/hostile.rs"]
mod hostile;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use demo::{Demo, Dice, demo, draw_scene};
use llava_gauge::benchmark::{PixelBox, Reference};
use llava_gauge::report::{self, ImageSource, ReportInput, RunSamples};
use llava_gauge::store::SampleRecord;
use serde_json::json;

/// Most bytes of a page.
const PAGE_BYTES: u64 = 5_000_000;

/// Writes the report of `demo` into an emptied folder and returns its files.
fn write(demo: &Demo, title: &str, folder: &Path) -> Vec<PathBuf> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).unwrap();
    }
    let samples: Vec<RunSamples<'_>> =
        demo.records.iter().enumerate().map(|(run, records)| RunSamples { run, records }).collect();
    let input = ReportInput {
        comparison: &demo.comparison,
        samples: &samples,
        images: ImageSource::DataRoot,
        title,
        generated_at: "2026-11-23T10:00:00Z",
    };
    let paths = report::write_to(folder, &report::build(&input).unwrap()).unwrap();
    for path in &paths {
        let bytes = path.metadata().unwrap().len();
        assert!(path.extension().is_none_or(|kind| kind != "html") || bytes <= PAGE_BYTES, "{}: {bytes} bytes", path.display());
    }
    paths
}

/// A folder for images, emptied.
fn images(root: &Path, name: &str) -> PathBuf {
    let folder = root.join("images").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The runs of two packages on one benchmark of the demo; its records become `records(package)`.
fn two_packages(data_root: &Path, benchmark: &str, records: impl Fn(usize, &SampleRecord) -> Vec<SampleRecord>) -> Demo {
    let mut demo = demo(&data_root.to_string_lossy());
    let keep = |name: &str, package: &str| name == benchmark && package != "pico-a-fp16";
    let kept: Vec<bool> =
        demo.comparison.runs.iter().map(|run| keep(&run.header.benchmark.name, &run.header.model.name)).collect();
    let pattern = demo.records.iter().zip(&kept).find(|(_, kept)| **kept).map(|(records, _)| records[0].clone()).unwrap();
    let mut index = 0;
    demo.comparison.runs.retain(|_| (kept[index], index += 1).0);
    demo.comparison.pairs.retain(|pair| pair.benchmark == benchmark && pair.new != "pico-a-fp16");
    demo.records = (0..2).map(|package| records(package, &pattern)).collect();
    demo
}

/// Pictures with a red rectangle, the reference, of several sizes and ratios; and predicted boxes that lie elsewhere.
fn boxes(root: &Path) {
    let folder = images(root, "boxes");
    let sizes = [(400, 200), (97, 301), (1600, 1200), (64, 64)];
    for (index, (width, height)) in sizes.into_iter().enumerate() {
        let region = red(width, height);
        image::RgbImage::from_fn(width, height, |x, y| {
            let inside =
                f64::from(x) >= region.x1 && f64::from(x) < region.x2 && f64::from(y) >= region.y1 && f64::from(y) < region.y2;
            image::Rgb(if inside { [255, 0, 0] } else { [230, 230, 230] })
        })
        .save(folder.join(format!("{index}.png")))
        .unwrap();
    }
    let demo = two_packages(&folder, "pico-ref", |package, pattern| {
        let record = |(index, (width, height)): (usize, (u32, u32))| {
            let region = red(width, height);
            let found = match (index % 2, package) {
                // The same, half of it, one that reaches out of the image, and one with its corners swapped.
                (0, 0) => [region.x1, region.y1, region.x2, region.y2],
                (0, _) => [region.x1, region.y1, (region.x1 + region.x2) / 2.0, region.y2],
                (_, 0) => [-50.0, region.y1, f64::from(width) + 80.0, region.y2],
                _ => [region.x2, region.y2, region.x1, region.y1],
            };
            let mut record = pattern.clone();
            record.key = format!("box/{index}");
            record.cluster = format!("{index}.png");
            record.images = vec![format!("{index}.png")];
            record.reference = Reference::Region { region, width, height };
            record.detail = json!({"predicted_box": found, "iou": 0.5});
            record
        };
        sizes.into_iter().enumerate().map(record).collect()
    });
    write(&demo, "Boxes", &root.join("boxes"));
}

fn red(width: u32, height: u32) -> PixelBox {
    let (width, height) = (f64::from(width), f64::from(height));
    PixelBox { x1: (width * 0.2).round(), y1: (height * 0.3).round(), x2: (width * 0.75).round(), y2: (height * 0.6).round() }
}

/// `count` samples of two packages, `questions` of an image each; answers of both differ now and then.
fn many(data_root: &Path, count: usize, questions: usize) -> Demo {
    two_packages(data_root, "pico-vqa", |package, pattern| {
        let mut dice = Dice(package as u64 + 1);
        let record = |sample: usize| {
            let mut record = pattern.clone();
            let right = !dice.chance(0.3);
            let image = format!("{}.jpg", sample / questions);
            record.key = format!("question/{sample:06}");
            record.question = format!("What color is the square number {sample} of the scene, seen from the left?");
            record.prompt = format!("USER: <image>\n{}\nAnswer with a single word or phrase. ASSISTANT:", record.question);
            record.images = vec![image.clone()];
            record.cluster = image;
            record.text = if right { "a red square" } else { "an orange square" }.to_owned();
            record.score = Some(f64::from(u8::from(right)));
            record.parsed = Some(record.text.clone());
            record.timings.group.vision_ms += (sample / questions) as f64;
            record.timings.ttft_ms += sample as f64 * 0.01;
            record
        };
        (0..count).map(record).collect()
    })
}

/// `count` pictures of noise, eight different ones.
fn grainy(folder: &Path, count: usize, width: u32, height: u32) {
    let mut dice = Dice(5);
    for index in 0..count.min(8) {
        let noise: Vec<u8> = (0..width * height * 3).map(|_| dice.next() as u8).collect();
        image::RgbImage::from_raw(width, height, noise).unwrap().save(folder.join(format!("{index}.jpg"))).unwrap();
    }
    for index in 8..count {
        std::fs::copy(folder.join(format!("{}.jpg", index % 8)), folder.join(format!("{index}.jpg"))).unwrap();
    }
}

/// `count` pictures that compress as photographs do: coarse noise made large and smooth, eight different ones.
fn smooth(folder: &Path, count: usize, width: u32, height: u32) {
    let mut dice = Dice(9);
    for index in 0..count {
        let path = folder.join(format!("{index}.jpg"));
        if index < 8 {
            let noise: Vec<u8> = (0..20 * 15 * 3).map(|_| dice.next() as u8).collect();
            let small = image::RgbImage::from_raw(20, 15, noise).unwrap();
            image::imageops::resize(&small, width, height, image::imageops::FilterType::CatmullRom).save(path).unwrap();
        } else {
            std::fs::copy(folder.join(format!("{}.jpg", index % 8)), path).unwrap();
        }
    }
}

#[test]
fn the_sample_browser_works_in_a_browser() {
    let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("report-browser");
    std::fs::create_dir_all(&root).unwrap();

    let scenes = images(&root, "demo");
    (0..demo::IMAGES).for_each(|index| draw_scene(&scenes, index));
    let mut of = demo(&scenes.to_string_lossy());
    for record in of.records.iter_mut().flatten().filter(|record| record.key.ends_with("13")) {
        // Some answers that no scorer understood, and some of several sentences.
        (record.parsed, record.score) = (None, Some(0.0));
        record.text = format!("I think that it is {}. The rest of the scene is grey.", record.text);
    }
    write(&of, "pico-a against its step 4000 and its fp16 export", &root.join("demo"));
    boxes(&root);

    let mut next = 0;
    let in_turn = hostile::demo_with(|_| {
        next += 1;
        hostile::PAYLOADS[next % hostile::PAYLOADS.len()].to_owned()
    });
    write(&in_turn, hostile::PAYLOADS[0], &root.join("hostile-0"));
    let everything = hostile::PAYLOADS.join(" ");
    write(&hostile::demo_with(|_| everything.clone()), &everything, &root.join("hostile-1"));

    // Noise hardly compresses: few pictures fill a page.
    let noise = images(&root, "paged");
    grainy(&noise, 90, 256, 256);
    let paths = write(&many(&noise, 270, 3), "Several pages", &root.join("paged"));
    let pages = paths.iter().filter(|path| path.extension().is_some_and(|kind| kind == "html")).count();
    assert!((3..=9).contains(&pages), "{pages} pages");
    std::fs::write(root.join("paged/expected.json"), json!({"samples": 270}).to_string()).unwrap();

    // As many as POPE has: 500 images of VGA size, and 20 questions of each.
    let photographs = images(&root, "large");
    if !photographs.join("499.jpg").exists() {
        smooth(&photographs, 500, 640, 480);
    }
    let large = many(&photographs, 10_000, 20);
    let began = Instant::now();
    let paths = write(&large, "Ten thousand samples", &root.join("large"));
    let spent = began.elapsed().as_secs_f64();
    let pages: Vec<u64> = paths
        .iter()
        .filter(|path| path.extension().is_some_and(|kind| kind == "html"))
        .map(|path| path.metadata().unwrap().len())
        .collect();
    eprintln!("10,000 samples on 500 images: {spent:.1} s, pages of {pages:?} bytes");
    let began = Instant::now();
    std::fs::create_dir_all(root.join("no-images")).unwrap();
    write(&many(&root.join("no-images"), 10_000, 20), "Ten thousand samples without images", &root.join("plain"));
    eprintln!("10,000 samples without images: {:.1} s", began.elapsed().as_secs_f64());

    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/browser/run.sh");
    let Ok(output) = Command::new("bash").arg(script).arg("test_report.py").arg(&root).output() else {
        eprintln!("skipped: no bash to run the browser tests");
        return;
    };
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    eprintln!("{said}");
    if output.status.code() != Some(77) {
        assert!(output.status.success(), "{complained}");
    }
}
