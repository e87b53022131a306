//! Every built-in benchmark in every template family, frozen. What a model is asked is the user's turn, which the benchmark
//! makes, in a frame, which the package's template makes. Both are in `tests/snapshots/benchmark_prompts__*.snap` to be
//! read; the test shows that the prompt of each pair is nothing but the one in the other.

#![allow(clippy::unwrap_used, clippy::panic)] // A helper of a test fails as a test does.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use llava_gauge::benchmark::{Asked, BenchmarkSpec, IMAGE_MARK};
use llava_gauge::package::{CONVERSATIONS, PromptRecipe, PromptTemplate, TokenizationMode};
use llava_gauge::prompt::Prompter;

/// Stands for the turn in a frame. No benchmark asks it.
const TURN: &str = "What would be asked?";

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/prompt").join(name)).unwrap()
}

/// A prompter for every conversation template of LLaVA and every chat template of the fixtures.
fn families() -> BTreeMap<String, Prompter> {
    let tokenizer = read("tokenizer_legacy.json");
    let tokens: serde_json::Value = serde_json::from_str(&tokenizer).unwrap();
    let image = tokens["added_tokens"].as_array().unwrap().iter().find(|token| token["content"] == IMAGE_MARK).unwrap();
    let image = image["id"].as_u64().unwrap() as u32;
    let open = |template: PromptTemplate, tokenization, source: Option<String>| {
        let recipe = PromptRecipe {
            template,
            tokenization,
            image_mark: IMAGE_MARK.to_owned(),
            image_token_id: (tokenization == TokenizationMode::WholeString).then_some(image),
            image_start_end: false,
            bos_token_id: Some(1),
            eos_token_ids: vec![2],
            stop_strings: Vec::new(),
            context_tokens: 4096,
        };
        Prompter::new(recipe, tokenizer.as_bytes(), source).unwrap()
    };
    let mut families: BTreeMap<String, Prompter> = CONVERSATIONS
        .iter()
        .map(|name| ((*name).to_owned(), open(PromptTemplate::Conversation((*name).to_owned()), TokenizationMode::Chunks, None)))
        .collect();
    let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/prompt/templates");
    for entry in std::fs::read_dir(templates).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        // One of the fixtures tries what Jinja can do and belongs to no checkpoint.
        if name == "json_messages.jinja" {
            continue;
        }
        let source = read(&format!("templates/{name}"));
        let template = PromptTemplate::ChatTemplate(name.clone());
        families.insert(format!("chat template {name}"), open(template, TokenizationMode::WholeString, Some(source)));
    }
    families
}

/// A user's turn: how many images stand before it, or how many stand at marks in it.
struct ExampleTurn {
    what: &'static str,
    text: String,
    before: usize,
    at_marks: usize,
}

/// What the benchmark makes of examples of each kind of question: a choice with and without a hint, an open question, images
/// at marks. Kinds that come out alike are listed once.
fn turns(spec: &BenchmarkSpec) -> Vec<ExampleTurn> {
    let options = ["red", "green", "blue", "None of the above"].map(str::to_owned);
    let tokens = ["STOP", "5th Ave"].map(str::to_owned);
    let question = "What color is the sign? Please answer yes or no.";
    let marked = "Does <image 1> show more signs than <image 2>?";
    let context = Some("The picture was taken in Boston.");
    let asked = |question, context, options, images| Asked { question, context, options, ocr_tokens: &tokens, images };
    let examples = [
        ("question", asked(question, None, &[], 1)),
        ("choice", asked(question, None, &options[..], 1)),
        ("choice with a hint", asked(question, context, &options[..], 1)),
        ("two images", asked(marked, None, &options[..2], 2)),
    ];
    let mut turns: Vec<ExampleTurn> = Vec::new();
    for (what, asked) in examples {
        let prompt = spec.prompt.ask(&asked);
        if asked.options.is_empty() && !spec.prompt.asks_open_questions() {
            continue;
        }
        let at_marks = prompt.image_order.as_ref().map_or(0, Vec::len);
        if asked.images > 1 && at_marks == 0 || turns.iter().any(|turn| turn.text == prompt.text) {
            continue;
        }
        let before = if at_marks > 0 { 0 } else { asked.images };
        turns.push(ExampleTurn { what, text: prompt.text, before, at_marks });
    }
    turns
}

fn asking_specs() -> Vec<BenchmarkSpec> {
    BenchmarkSpec::list().unwrap().into_iter().filter(|spec| !spec.compares_embeddings()).collect()
}

#[test]
fn every_benchmark_asks_what_was_reviewed() {
    let mut text = String::new();
    for spec in asking_specs() {
        writeln!(text, "{} (up to {} tokens)", spec.name, spec.max_new_tokens).unwrap();
        for turn in turns(&spec) {
            writeln!(text, "  {}: {:?}", turn.what, turn.text).unwrap();
        }
    }
    insta::assert_snapshot!("turns", text);
}

#[test]
fn every_template_frames_a_turn_as_was_reviewed() {
    let mut text = String::new();
    for (name, prompter) in families() {
        writeln!(text, "{name}\n  {:?}", prompter.render(TURN, 1).unwrap()).unwrap();
    }
    insta::assert_snapshot!("frames", text);
}

#[test]
fn every_prompt_is_the_turn_of_its_benchmark_in_the_frame_of_its_template() {
    let (families, specs) = (families(), asking_specs());
    let mut pairs = 0;
    for (name, prompter) in &families {
        for spec in &specs {
            for turn in turns(spec) {
                let frame = prompter.render(TURN, turn.before).unwrap();
                let prompt = if turn.at_marks > 0 {
                    let turn = prompter.user_turn(&turn.text, turn.at_marks).unwrap();
                    match prompter.render_conversation(&[turn]) {
                        Ok(prompt) => prompt,
                        // A template that spells its messages out and not their images, as tests/prompt.rs shows.
                        Err(error) if error.to_string().contains("image marks") => continue,
                        Err(error) => panic!("{name}, {}: {error}", spec.name),
                    }
                } else {
                    prompter.render(&turn.text, turn.before).unwrap()
                };
                let expected = frame.replace(TURN, &turn.text);
                if turn.at_marks > 0 && name.starts_with("chat template") {
                    // Some chat templates show all images of a turn before its text, whatever the text says.
                    let images = |text: &str| text.matches(IMAGE_MARK).count();
                    let words = |text: &str| text.replace(IMAGE_MARK, " ").split_whitespace().collect::<Vec<_>>().join(" ");
                    assert_eq!(images(&prompt), turn.at_marks, "{} in {name}", spec.name);
                    assert_eq!(words(&prompt), words(&expected), "{} in {name}", spec.name);
                } else {
                    assert_eq!(prompt, expected, "{} in {name}", spec.name);
                }
                pairs += 1;
            }
        }
    }
    assert!(pairs >= families.len() * specs.len(), "{pairs} prompts of {} families", families.len());
}
