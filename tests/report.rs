//! The report room from outside: what the files say, that nothing in them acts, and what a browser makes of the page.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]

#[path = "fixtures/report/demo.rs"]
mod demo;
#[path = "fixtures/report/hostile.rs"]
mod hostile;

use std::path::{Path, PathBuf};
use std::process::Command;

use demo::{Demo, demo, draw_scene};
use llava_gauge::compare::{Attribution, Comparison, RunSummary, Verdict};
use llava_gauge::report::{self, ImageSource, ReportError, ReportFile, ReportFormat, ReportInput, ReportOptions, RunSamples};
use llava_gauge::store::SampleRecord;

const MADE: &str = "2026-11-23T10:00:00Z";

fn run_samples(records: &[Vec<SampleRecord>]) -> Vec<RunSamples<'_>> {
    records.iter().enumerate().map(|(run, records)| RunSamples { run, records }).collect()
}

fn build(demo: &Demo, images: ImageSource) -> Vec<ReportFile> {
    let samples = run_samples(&demo.records);
    let title = "pico-a against its step 4000 and its fp16 export";
    report::build(&ReportInput { comparison: &demo.comparison, samples: &samples, images, title, generated_at: MADE }).unwrap()
}

fn text<'a>(files: &'a [ReportFile], name: &str) -> &'a str {
    std::str::from_utf8(&files.iter().find(|file| file.name == name).unwrap().bytes).unwrap()
}

/// Two packages on two benchmarks, one image, and few enough numbers to check by eye.
fn small() -> Demo {
    let mut demo = demo("/home/someone/data");
    demo.comparison.runs.retain(|run| {
        ["pico-pope", "pico-ref"].contains(&run.header.benchmark.name.as_str()) && run.header.model.name != "pico-a-fp16"
    });
    demo.comparison
        .pairs
        .retain(|pair| ["pico-pope", "pico-ref"].contains(&pair.benchmark.as_str()) && pair.new != "pico-a-fp16");
    for pair in &mut demo.comparison.pairs {
        pair.flips.truncate(1);
    }
    demo.records.clear();
    demo
}

#[test]
fn markdown_json_and_csv_of_a_small_comparison() {
    let files = build(&small(), ImageSource::Omit);
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("fixtures/report/snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.bind(|| {
        insta::assert_snapshot!("report.md", text(&files, "report.md"));
        insta::assert_snapshot!("results.csv", text(&files, "results.csv"));
        insta::assert_snapshot!("results.json", text(&files, "results.json"));
    });
}

#[test]
fn the_terminal_table_fits_its_width() {
    let demo = demo("/data");
    let shown = report::terminal::comparison(&demo.comparison, 80, false);
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    assert!(!shown.contains('\u{1b}'));
    let narrow = report::terminal::comparison(&demo.comparison, 48, false);
    assert!(narrow.lines().all(|line| line.chars().count() <= 48), "{narrow}");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("fixtures/report/snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.bind(|| {
        insta::assert_snapshot!("terminal-80", shown);
        insta::assert_snapshot!("terminal-48", narrow);
        insta::assert_snapshot!(
            "terminal-colour",
            report::terminal::comparison(&small().comparison, 100, true).replace('\u{1b}', "ESC")
        );
    });
}

#[test]
fn json_reads_back_and_tells_no_paths() {
    let demo = small();
    let files = build(&demo, ImageSource::Omit);
    let read: Comparison = serde_json::from_str(text(&files, "results.json")).unwrap();
    let mut expected = demo.comparison.clone();
    for run in &mut expected.runs {
        run.header.benchmark.data_root = "data".to_owned();
    }
    assert_eq!(read, expected);
    for file in &files {
        assert!(!text(&files, &file.name).contains("/home/someone"), "{} tells where the data lies", file.name);
    }
}

#[test]
fn csv_has_one_row_per_run_and_metric() {
    let demo = small();
    let files = build(&demo, ImageSource::Omit);
    let mut reader = csv::Reader::from_reader(text(&files, "results.csv").as_bytes());
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), demo.comparison.runs.iter().map(|run| run.metrics.len()).sum::<usize>());
}

#[test]
fn the_headline_says_no_more_than_the_verdicts() {
    let cases: [(&[Verdict], &str); 6] = [
        (&[Verdict::Regressed, Verdict::Inconclusive], "new is worse than base on 1 of 2 benchmarks and better on none."),
        (&[Verdict::Improved, Verdict::NoWorse], "new is better than base on 1 of 2 benchmarks and worse on none."),
        (&[Verdict::Regressed, Verdict::Improved], "new is worse than base on 1 of 2 benchmarks and better on 1."),
        (
            &[Verdict::NoWorse, Verdict::Identical],
            "new is no worse than base on all 2 benchmarks, within a margin of 1.0 points.",
        ),
        (&[Verdict::NoWorse, Verdict::Inconclusive], "Whether new is better or worse than base is not decided by these samples."),
        (&[Verdict::Identical, Verdict::Identical], "new scores exactly as base does, on every sample."),
    ];
    for (verdicts, expected) in cases {
        let mut demo = small();
        for run in &mut demo.comparison.runs {
            run.header.model.name = if run.header.model.name == "pico-a" { "base" } else { "new" }.to_owned();
        }
        for (pair, verdict) in demo.comparison.pairs.iter_mut().zip(verdicts) {
            (pair.base, pair.new) = ("base".to_owned(), "new".to_owned());
            pair.metrics[0].verdict = *verdict;
        }
        let files = build(&demo, ImageSource::Omit);
        assert!(text(&files, "report.md").contains(expected), "{expected}\n{}", text(&files, "report.md"));
        assert!(text(&files, "index.html").contains(expected));
        let terminal = report::terminal::comparison(&demo.comparison, 200, false);
        assert!(terminal.starts_with(expected), "{terminal}");
    }
}

#[test]
fn one_package_alone_is_reported_without_a_verdict() {
    let mut demo = small();
    demo.comparison.pairs.clear();
    demo.comparison.runs.retain(|run| run.header.model.name == "pico-a");
    let files = build(&demo, ImageSource::Omit);
    assert!(text(&files, "index.html").contains("nothing to compare it with"));
    assert!(!text(&files, "index.html").contains("id=\"differences\""));
    assert!(text(&files, "report.md").contains("Nothing to compare"));
    report::terminal::comparison(&demo.comparison, 80, false);
}

#[test]
fn runs_without_numbers_are_shown_as_missing() {
    let mut demo = small();
    for run in &mut demo.comparison.runs {
        run.metrics[0].estimate.interval = None;
        run.metrics[0].estimate.value = f64::NAN;
        run.metrics.truncate(1);
        run.complete = false;
        let latency = &mut run.latency;
        (latency.image, latency.vision, latency.projector, latency.prefill, latency.decode) = (None, None, None, None, None);
        (latency.ttft, latency.tpot, latency.per_question_ms) = (None, None, None);
    }
    for pair in &mut demo.comparison.pairs {
        pair.metrics[0].difference.interval = None;
        pair.metrics[0].difference.value = f64::INFINITY;
        pair.metrics[0].p_value = None;
        pair.latency = None;
    }
    let files = build(&demo, ImageSource::Omit);
    for name in ["index.html", "report.md"] {
        let content = text(&files, name);
        assert!(!content.contains("NaN") && !content.contains("inf ") && content.contains('–'), "{name}");
        assert!(content.contains("the run is not complete"), "{name}");
    }
    assert!(!text(&files, "results.csv").contains("NaN"));
}

#[test]
fn equal_names_are_told_apart() {
    let mut demo = small();
    for run in &mut demo.comparison.runs {
        run.header.model.name = "llava".to_owned();
    }
    for pair in &mut demo.comparison.pairs {
        (pair.base, pair.new) = ("llava".to_owned(), "llava".to_owned());
    }
    let files = build(&demo, ImageSource::Omit);
    assert!(text(&files, "report.md").contains("llava (2) "), "{}", text(&files, "report.md"));
}

#[test]
fn wrong_input_is_named() {
    let mut demo = small();
    let samples = [RunSamples { run: 9, records: &[] }];
    fn input<'a>(comparison: &'a Comparison, samples: &'a [RunSamples<'a>]) -> ReportInput<'a> {
        ReportInput { comparison, samples, images: ImageSource::Omit, title: "t", generated_at: MADE }
    }
    let unknown = report::build(&input(&demo.comparison, &samples)).unwrap_err();
    assert_eq!(unknown.to_string(), "samples were given for run 9, but the comparison has 4 runs (counted from 0)");
    demo.comparison.runs.clear();
    assert!(matches!(report::build(&input(&demo.comparison, &[])), Err(ReportError::NoRuns)));
}

#[test]
fn files_appear_whole_and_errors_name_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let files = build(&small(), ImageSource::Omit);
    let target = folder.path().join("a/b");
    let paths = report::write_to(&target, &files).unwrap();
    assert_eq!(paths.len(), 4);
    let mut names: Vec<String> =
        std::fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["index.html", "report.md", "results.csv", "results.json"]);
    report::write_to(&target, &files).unwrap();

    let blocked = folder.path().join("blocked");
    std::fs::write(&blocked, b"a file").unwrap();
    let error = report::write_to(&blocked, &files).unwrap_err();
    assert!(error.to_string().starts_with(&format!("cannot write {}: ", blocked.display())), "{error}");

    // A folder stands where a file should: the old state stays and no leftover is seen.
    let occupied = folder.path().join("occupied");
    std::fs::create_dir_all(occupied.join("report.md")).unwrap();
    let error = report::write_to(&occupied, &files).unwrap_err();
    assert!(error.to_string().contains("report.md"), "{error}");
    assert!(std::fs::read_dir(&occupied).unwrap().all(|entry| !entry.unwrap().file_name().to_string_lossy().contains("partial")));
}

/// Tag names with their attribute names, in order, as a browser's tokenizer sees them.
fn structure(page: &str) -> Vec<String> {
    let mut tags = Vec::new();
    let mut rest = page;
    while let Some(start) = rest.find('<') {
        rest = &rest[start + 1..];
        if !rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '!') {
            panic!("a stray < stands in the page: {}", rest.chars().take(60).collect::<String>());
        }
        let mut tag = String::new();
        let mut quoted = false;
        let mut end = rest.len();
        for (index, character) in rest.char_indices() {
            match character {
                '"' => quoted = !quoted,
                '>' if !quoted => {
                    end = index + 1;
                    break;
                }
                _ if !quoted => tag.push(character),
                _ => {}
            }
        }
        rest = &rest[end..];
        for raw in ["style", "script"] {
            if tag == raw {
                rest = &rest[rest.find(&format!("</{raw}>")).unwrap()..];
            }
        }
        tags.push(tag);
    }
    tags
}

#[test]
fn hostile_texts_leave_the_structure_of_every_format_as_it_is() {
    assert!(hostile::PAYLOADS.len() >= 30);
    let plain = hostile::demo_with(|_| "harmless text".to_owned());
    let plain_files = build_hostile(&plain, "harmless text");
    let mut payloads: Vec<&str> = hostile::PAYLOADS.to_vec();
    payloads.push("\u{202e}\u{1b}]8;;https://evil.invalid\u{7}click\u{1b}]8;;\u{7}\u{0}\u{9b}31m");
    for payload in payloads {
        let demo = hostile::demo_with(|_| payload.to_owned());
        let files = build_hostile(&demo, payload);
        let page = text(&files, "index.html");
        assert_eq!(structure(page), structure(text(&plain_files, "index.html")), "{payload}");
        assert!(!page.contains('\u{1b}') && !page.contains('\u{202e}') && !page.contains('\0'), "{payload}");

        let markdown = text(&files, "report.md");
        assert_eq!(table_shape(markdown), table_shape(text(&plain_files, "report.md")), "{payload}");
        assert!(
            !markdown.contains('<') && !markdown.contains("://") && !markdown.replace("\\](", "").contains("]("),
            "{payload}\n{markdown}"
        );
        assert!(!markdown.contains('\u{1b}'), "{payload}");

        let mut reader = csv::Reader::from_reader(text(&files, "results.csv").as_bytes());
        for row in reader.records() {
            for cell in &row.unwrap() {
                let number = cell.parse::<f64>().is_ok();
                assert!(number || !cell.trim_start().starts_with(['=', '+', '-', '@']), "{payload}: {cell}");
                assert!(!cell.contains('\u{1b}'));
            }
        }
        serde_json::from_str::<Comparison>(text(&files, "results.json")).unwrap();

        let terminal = report::terminal::comparison(&demo.comparison, 80, false);
        assert!(terminal.chars().all(|character| character == '\n' || !character.is_control()), "{payload}: {terminal:?}");
    }
}

fn build_hostile(demo: &Demo, title: &str) -> Vec<ReportFile> {
    let samples = run_samples(&demo.records);
    let input = ReportInput {
        comparison: &demo.comparison,
        samples: &samples,
        images: ImageSource::DataRoot,
        title,
        generated_at: title,
    };
    report::build(&input).unwrap()
}

/// Unescaped pipes of every line.
fn table_shape(markdown: &str) -> Vec<usize> {
    let pipes = |line: &str| {
        let mut count = 0;
        let mut characters = line.chars();
        while let Some(character) = characters.next() {
            match character {
                '\\' => drop(characters.next()),
                '|' => count += 1,
                _ => {}
            }
        }
        count
    };
    markdown.lines().map(pipes).collect()
}

#[test]
fn the_page_refers_to_nothing_outside_itself() {
    let folder = tempfile::tempdir().unwrap();
    for index in 0..demo::IMAGES {
        draw_scene(folder.path(), index);
    }
    let demo = demo(&folder.path().to_string_lossy());
    let files = build(&demo, ImageSource::DataRoot);
    let page = text(&files, "index.html");
    assert!(page.len() <= 5_000_000, "{} bytes", page.len());
    assert!(page.contains("default-src 'none'; img-src data:; style-src 'sha256-") && page.contains("; script-src 'sha256-"));
    for attribute in ["href=\"", "src=\"", "url(", "@import"] {
        for (position, _) in page.match_indices(attribute) {
            let target = &page[position + attribute.len()..];
            assert!(target.starts_with('#') || target.starts_with("data:"), "{}", &target[..target.len().min(80)]);
        }
    }
    // Every image is embedded once, however many questions it has; the page's script refers to them by number.
    assert_eq!(page.matches("data:image/").count(), demo::IMAGES);
    assert!(page.contains("href=\"#image-"));
    for reference in page.match_indices("href=\"#image-").map(|(start, _)| &page[start + 7..]) {
        let id = &reference[..reference.find('"').unwrap()];
        assert!(page.contains(&format!("id=\"{id}\"")), "{id}");
    }
}

#[test]
fn many_large_samples_keep_the_page_small() {
    let folder = tempfile::tempdir().unwrap();
    let mut dice = demo::Dice(7);
    for index in 0..demo::IMAGES {
        // Noise does not compress: the worst case for the budget.
        image::RgbImage::from_fn(300, 300, |_, _| {
            image::Rgb([dice.below(256) as u8, dice.below(256) as u8, dice.below(256) as u8])
        })
        .save(folder.path().join(format!("scene_{index:04}.png")))
        .unwrap();
    }
    let mut demo = demo(&folder.path().to_string_lossy());
    for record in demo.records.iter_mut().flatten() {
        record.text = "long answer <b> ".repeat(2_000);
        record.prompt = "& prompt ".repeat(5_000);
    }
    let files = build(&demo, ImageSource::DataRoot);
    let page = text(&files, "index.html");
    assert!(page.len() <= 5_000_000, "{} bytes", page.len());
    assert!(page.contains("characters in all"));
}

/// What the browser check says of a page: nothing when there is no browser, the first line of its complaint when it fails.
fn browser(page: &Path, folder: &Path, screenshots: bool) -> Option<Result<(), String>> {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/report_in_browser.sh");
    let output = Command::new("bash")
        .arg(script)
        .arg(page)
        .arg(folder)
        .env("SCREENSHOTS", if screenshots { "1" } else { "0" })
        .output()
        .map_err(|error| eprintln!("skipped: no bash to run the browser check ({error})"))
        .ok()?;
    if output.status.code() == Some(77) {
        eprintln!("skipped: no Chromium on this machine, the page was not opened in a browser");
        return None;
    }
    let complaint = || format!("{} {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    Some(if output.status.success() { Ok(()) } else { Err(complaint()) })
}

#[test]
fn hostile_texts_do_nothing_in_a_browser() {
    // Payloads in turn over the fields, and then all of them in every field.
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("report-hostile");
    std::fs::create_dir_all(&folder).unwrap();
    let mut next = 0;
    let demo = hostile::demo_with(|_| {
        next += 1;
        hostile::PAYLOADS[next % hostile::PAYLOADS.len()].to_owned()
    });
    let mut joined = build_hostile(&demo, hostile::PAYLOADS[0]);
    let everything = hostile::PAYLOADS.join(" ");
    joined.extend(build_hostile(&hostile::demo_with(|_| everything.clone()), &everything));
    for (index, file) in joined.iter().filter(|file| file.name == "index.html").enumerate() {
        let page = folder.join(format!("index-{index}.html"));
        std::fs::write(&page, &file.bytes).unwrap();
        if let Some(checked) = browser(&page, &folder, false) {
            assert_eq!(checked, Ok(()), "{}", page.display());
        }
    }
}

#[test]
fn the_browser_check_itself_sees_what_it_should() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        (
            "request",
            "asked for something over the network",
            "<!doctype html><html><body><img src=\"http://evil.invalid/x.png\"></body></html>",
        ),
        (
            "script",
            "injected markup acted",
            "<!doctype html><html><body><script>document.documentElement.setAttribute('data-pwned','1')</script></body></html>",
        ),
        ("console", "wrote to the console", "<!doctype html><html><body><script>console.error('x')</script></body></html>"),
        (
            "width",
            "px wide in a window of 390 px",
            "<!doctype html><html><body><div style=\"width:700px\">wide</div></body></html>",
        ),
        (
            "accessible",
            "axe-core finds in light colours: button-name",
            "<!doctype html><html lang=\"en\"><head><title>t</title></head><body><main><h1>t</h1><button></button></main></body></html>",
        ),
    ];
    for (name, expected, content) in cases {
        let page = folder.path().join(format!("{name}.html"));
        std::fs::write(&page, content).unwrap();
        if let Some(checked) = browser(&page, folder.path(), false) {
            let complaint = checked.unwrap_err();
            assert!(complaint.contains(expected), "{name}: {complaint}");
        }
    }
}

#[test]
fn the_demo_page_works_in_a_browser() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("report-demo");
    std::fs::create_dir_all(&folder).unwrap();
    for index in 0..demo::IMAGES {
        draw_scene(&folder, index);
    }
    let demo = demo(&folder.to_string_lossy());
    let paths = report::write_to(&folder, &build(&demo, ImageSource::DataRoot)).unwrap();
    if let Some(checked) = browser(&paths[0], &folder, true) {
        assert_eq!(checked, Ok(()));
    }
    eprintln!("the demo report lies in {}", folder.display());
}

/// The stage swapping of the sample with every text replaced.
fn attribution(replace: impl Fn(&str) -> String) -> Attribution {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/report/attribution.json");
    let mut attribution: Attribution = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    (attribution.base, attribution.new) = (replace(&attribution.base), replace(&attribution.new));
    attribution.notes = vec![replace("a note")];
    for benchmark in &mut attribution.benchmarks {
        (benchmark.title, benchmark.metric) = (replace(&benchmark.title), replace(&benchmark.metric));
        benchmark.notes = vec![replace("a note")];
    }
    attribution
}

fn build_all(demo: &Demo, attributions: &[Attribution]) -> Vec<ReportFile> {
    let samples = run_samples(&demo.records);
    let input = ReportInput {
        comparison: &demo.comparison,
        samples: &samples,
        images: ImageSource::Omit,
        title: "all of it",
        generated_at: MADE,
    };
    let formats = [ReportFormat::Html, ReportFormat::Markdown, ReportFormat::Plots];
    report::build_with(&input, &ReportOptions { attributions, formats: &formats }).unwrap()
}

#[test]
fn every_section_is_linked_and_headings_are_in_order() {
    let files = build_all(&demo("/data"), &[attribution(str::to_owned)]);
    let page = text(&files, "index.html");
    let ids = [
        "verdict",
        "accuracy",
        "profile",
        "differences",
        "categories",
        "ranking",
        "latency",
        "trade-off",
        "attribution",
        "basis",
    ];
    for id in ids {
        assert!(page.contains(&format!("<section id=\"{id}\"")) || page.contains(&format!(" id=\"{id}\"")), "{id}");
        assert!(page.contains(&format!("href=\"#{id}\"")), "{id}");
    }
    let levels: Vec<u8> = page
        .match_indices("<h")
        .filter_map(|(place, _)| page.as_bytes().get(place + 2).copied().filter(u8::is_ascii_digit).map(|digit| digit - b'0'))
        .collect();
    assert_eq!(levels.iter().filter(|level| **level == 1).count(), 1);
    for pair in levels.windows(2) {
        assert!(pair[1] <= pair[0] + 1, "a heading of level {} follows one of level {}", pair[1], pair[0]);
    }
    // The base stands first in the key table, whatever the order of the runs.
    let table = &page[page.find("table class=\"glance\"").unwrap()..];
    let head = &table[..table.find("</thead>").unwrap()];
    let place = |name: &str| head.find(name).unwrap_or(usize::MAX);
    assert!(place("pico-a<") < place("pico-a-fp16"), "{head}");
}

#[test]
fn the_stages_to_blame_are_named_on_the_page_and_in_markdown() {
    let attribution = attribution(str::to_owned);
    let files = build_all(&demo("/data"), std::slice::from_ref(&attribution));
    let largest = attribution.benchmarks[0].stages.iter().max_by(|a, b| a.share.unwrap().total_cmp(&b.share.unwrap())).unwrap();
    let share = format!("of which {:.0}", 100.0 * largest.share.unwrap());
    for name in ["index.html", "report.md"] {
        assert!(text(&files, name).contains(&share), "{name}: {share}");
    }
    assert!(text(&files, "report.md").contains("| base | **new** | base |"));
}

#[test]
fn plots_are_whole_files_of_both_kinds() {
    let files = build_all(&demo("/data"), &[attribution(str::to_owned)]);
    let expected = ["accuracy", "differences", "categories", "latency", "first-token", "trade-off", "radar", "attribution"];
    for name in expected {
        let svg = text(&files, Box::leak(format!("plots/{name}.svg").into_boxed_str()));
        assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\"") && svg.trim_end().ends_with("</svg>"), "{name}");
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count(), "{name}");
        let png = files.iter().find(|file| file.name == format!("plots/{name}.png")).unwrap();
        let image = image::load_from_memory(&png.bytes).unwrap().to_rgb8();
        let inked = image.pixels().filter(|pixel| pixel.0 != [255; 3]).count();
        assert!(inked > 500, "{name}: {inked} pixels of {:?} are painted", image.dimensions());
    }
    let folder = tempfile::tempdir().unwrap();
    let paths = report::write_to(folder.path(), &files).unwrap();
    assert_eq!(paths.len(), files.len());
    let mut left: Vec<_> =
        std::fs::read_dir(folder.path().join("plots")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.retain(|name| name.to_string_lossy().contains("partial"));
    assert!(left.is_empty());
}

#[test]
fn hostile_texts_leave_the_structure_of_plots_and_stages_as_it_is() {
    // All of them in every field: a plot takes its time, and one text that breaks out is as bad as the other.
    let everything = hostile::PAYLOADS.join(" ");
    let payloads = [everything.as_str(), "\u{202e}\u{1b}]8;;https://evil.invalid\u{7}click\u{1b}]8;;\u{7}\u{0}\u{9b}31m"];
    for payload in payloads {
        // Long texts are cut, which adds marks of its own: the harmless text is as long.
        let harmless: String = "harmless ".chars().cycle().take(payload.chars().count()).collect();
        let plain = build_all(&hostile::demo_with(|_| harmless.clone()), &[attribution(|_| harmless.clone())]);
        let files = build_all(&hostile::demo_with(|_| payload.to_owned()), &[attribution(|_| payload.to_owned())]);
        for (file, plain) in files.iter().zip(&plain) {
            assert_eq!(file.name, plain.name);
            if file.name.ends_with(".svg") || file.name.ends_with(".html") {
                let (said, expected) = (std::str::from_utf8(&file.bytes).unwrap(), std::str::from_utf8(&plain.bytes).unwrap());
                assert_eq!(structure(said), structure(expected), "{} with {payload}", file.name);
                assert!(!said.contains('\u{1b}') && !said.contains('\u{202e}'), "{} with {payload}", file.name);
            }
        }
        let markdown = text(&files, "report.md");
        assert_eq!(table_shape(markdown), table_shape(text(&plain, "report.md")), "{payload}");
        assert!(!markdown.contains('<') && !markdown.contains("://"), "{payload}");
    }
}

#[test]
fn odd_numbers_draw_something_or_nothing_but_never_break() {
    type Change = fn(&mut RunSummary);
    let changes: [Change; 5] = [
        |run| run.metrics.iter_mut().for_each(|metric| metric.estimate.value = 0.0),
        |run| run.metrics.clear(),
        |run| {
            run.latency.per_question_ms = Some(f64::INFINITY);
            run.latency.ttft = None;
            if let Some(stage) = &mut run.latency.prefill {
                stage.mean_ms = f64::NAN;
            }
        },
        |run| run.metrics.iter_mut().for_each(|metric| metric.estimate.interval = Some([f64::NEG_INFINITY, f64::INFINITY])),
        |run| {
            run.metrics.iter_mut().for_each(|metric| {
                (metric.estimate.value, metric.higher_is_better) = (1e300, None);
            });
            run.categories.iter_mut().for_each(|category| category.estimate.value = -1e300);
        },
    ];
    let plain = demo("/data");
    for (number, change) in changes.iter().enumerate() {
        let mut demo = Demo { comparison: plain.comparison.clone(), records: Vec::new() };
        demo.comparison.runs.iter_mut().for_each(change);
        let files = build_all(&demo, &[attribution(str::to_owned)]);
        for file in files.iter().filter(|file| !file.name.ends_with(".png")) {
            let said = std::str::from_utf8(&file.bytes).unwrap();
            assert!(
                !said.contains("NaN") && !said.contains("\"inf") && !said.contains(" inf "),
                "change {number}: {}",
                file.name
            );
        }
    }
    // One run of one benchmark.
    let mut alone = small();
    alone.comparison.pairs.clear();
    alone.comparison.runs.truncate(1);
    alone.comparison.matrices.clear();
    let names: Vec<_> = build_all(&alone, &[]).into_iter().map(|file| file.name.into_owned()).collect();
    assert!(names.contains(&"plots/accuracy.svg".to_owned()) && !names.contains(&"plots/trade-off.svg".to_owned()), "{names:?}");
}
