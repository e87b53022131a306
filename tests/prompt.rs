//! The prompt room against its references: LLaVA's `conversation.py` and `tokenizer_image_token`, transformers'
//! `apply_chat_template` and processor, and `batch_decode`. `tests/fixtures/prompt/make_goldens.py` made the fixtures.

#![allow(clippy::unwrap_used, clippy::panic)] // A helper of a test fails as a test does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use llava_gauge::package::{CONVERSATIONS, PromptRecipe, PromptTemplate, TokenizationMode};
use llava_gauge::prompt::{Finish, Piece, PromptError, Prompter, Turn, conversation_names};
use proptest::prelude::*;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// What LLaVA puts for an image in `input_ids`.
const IMAGE_TOKEN_INDEX: i64 = -200;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/prompt").join(name)
}

fn read<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&std::fs::read(fixture(name)).unwrap()).unwrap()
}

fn tokenizer_json(name: &str) -> Vec<u8> {
    std::fs::read(fixture(&format!("tokenizer_{name}.json"))).unwrap()
}

fn added_token(tokenizer: &str, token: &str) -> u32 {
    let json: serde_json::Value = read(&format!("tokenizer_{tokenizer}.json"));
    let entry = json["added_tokens"].as_array().unwrap().iter().find(|entry| entry["content"] == token).unwrap();
    entry["id"].as_u64().unwrap() as u32
}

fn recipe(tokenizer: &str, template: PromptTemplate, tokenization: TokenizationMode) -> PromptRecipe {
    let byte_level = tokenizer == "byte_level";
    PromptRecipe {
        template,
        tokenization,
        image_mark: "<image>".to_owned(),
        image_token_id: (tokenization == TokenizationMode::WholeString).then(|| added_token(tokenizer, "<image>")),
        image_start_end: false,
        bos_token_id: (!byte_level).then_some(1),
        eos_token_ids: vec![if byte_level { added_token(tokenizer, "<|im_end|>") } else { 2 }],
        stop_strings: Vec::new(),
        context_tokens: 2048,
    }
}

fn conversation_recipe(name: &str) -> PromptRecipe {
    recipe("legacy", PromptTemplate::Conversation(name.to_owned()), TokenizationMode::Chunks)
}

fn prompter(recipe: PromptRecipe) -> Prompter {
    Prompter::new(recipe, &tokenizer_json("legacy"), None).unwrap()
}

fn with_tokenizer(tokenizer: &str, tokenization: TokenizationMode) -> Prompter {
    let recipe = recipe(tokenizer, PromptTemplate::Conversation("vicuna_v1".to_owned()), tokenization);
    Prompter::new(recipe, &tokenizer_json(tokenizer), None).unwrap()
}

static CHUNKS: LazyLock<Prompter> = LazyLock::new(|| with_tokenizer("metaspace", TokenizationMode::Chunks));
static WHOLE: LazyLock<Prompter> = LazyLock::new(|| with_tokenizer("metaspace", TokenizationMode::WholeString));

#[derive(Deserialize)]
struct ConversationGolden {
    single_turn: String,
    second_turn: Option<String>,
}

#[test]
fn conversation_templates_are_byte_exact() {
    let goldens: BTreeMap<String, ConversationGolden> = read("conversation_prompts.json");
    let mut names: Vec<_> = conversation_names().collect();
    names.sort_unstable();
    assert_eq!(names, goldens.keys().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(names, CONVERSATIONS, "recipes may name all templates and no others");
    for (name, golden) in goldens {
        let prompter = prompter(conversation_recipe(&name));
        assert_eq!(prompter.template_name(), name);
        assert_eq!(prompter.render("What is this?", 1).unwrap(), golden.single_turn, "{name}");
        let turns = [Turn::user("What is this?", 1), Turn::assistant("A cat."), Turn::user("Why?", 0)];
        match golden.second_turn {
            Some(expected) => assert_eq!(prompter.render_conversation(&turns).unwrap(), expected, "{name}"),
            // LLaVA's plain template has no separator after an answer and raises.
            None => assert!(matches!(prompter.render_conversation(&turns), Err(PromptError::Conversation(_))), "{name}"),
        }
    }
}

#[test]
fn the_first_release_shows_images_after_the_question_and_writes_its_own_role() {
    let mut recipe = conversation_recipe("simple");
    recipe.image_start_end = true;
    let simple = prompter(recipe);
    let prompt = simple.render("What is this?", 1).unwrap();
    assert!(prompt.ends_with("###Human: What is this?\n<im_start><image><im_end>###"), "{prompt}");
    assert_eq!(simple.trim_answer("Assistant: Response: A cat.###Human"), "A cat.");
    assert_eq!(simple.trim_answer(" ### Assistant:\nAssistant: A cat.\n"), "A cat.");
    assert_eq!(simple.trim_answer("It says Assistant: hello"), "It says Assistant: hello");
    // LLaVA-Med v1.0 leaves the role in the answers to this template.
    assert_eq!(prompter(conversation_recipe("llava_med_simple")).trim_answer("Assistant: Yes###"), "Assistant: Yes");
}

#[test]
fn several_images_and_start_end_tokens_stand_before_the_question() {
    let mut recipe = conversation_recipe("vicuna_v1");
    let two = prompter(recipe.clone()).render("Compare.", 2).unwrap();
    assert!(two.ends_with("USER: <image>\n<image>\nCompare. ASSISTANT:"), "{two}");
    recipe.image_start_end = true;
    let wrapped = prompter(recipe.clone()).render("Compare.", 1).unwrap();
    assert!(wrapped.ends_with("USER: <im_start><image><im_end>\nCompare. ASSISTANT:"), "{wrapped}");
    assert!(matches!(
        Prompter::new(PromptRecipe { bos_token_id: None, ..recipe }, &tokenizer_json("byte_level"), None),
        Err(PromptError::Recipe { field: "image_start_end", .. })
    ));
}

#[derive(Deserialize)]
struct TokenGoldens {
    rows: usize,
    encoded: Vec<Encoded>,
    decoded: Vec<Decoded>,
}

#[derive(Deserialize)]
struct Encoded {
    tokenizer: String,
    prompt: String,
    chunks: Vec<i64>,
    whole_string: Vec<i64>,
}

#[derive(Deserialize)]
struct Decoded {
    tokenizer: String,
    ids: Vec<u32>,
    text: String,
}

#[test]
fn tokens_are_those_of_both_references() {
    let goldens: TokenGoldens = read("tokens.json");
    for name in ["legacy", "metaspace", "byte_level"] {
        let chunks = with_tokenizer(name, TokenizationMode::Chunks);
        let whole = with_tokenizer(name, TokenizationMode::WholeString);
        let image_token = i64::from(added_token(name, "<image>"));
        let encoded: Vec<_> = goldens.encoded.iter().filter(|golden| golden.tokenizer == name).collect();
        assert!(encoded.len() > 60);
        for golden in encoded {
            let images = golden.prompt.matches("<image>").count();
            let (ids, spans) =
                chunks.tokenize(&golden.prompt).unwrap().expanded_ids(&vec![1; images], IMAGE_TOKEN_INDEX).unwrap();
            assert_eq!(ids, golden.chunks, "{name}, chunks: {:?}", golden.prompt);
            assert!(spans.iter().all(|span| ids[span.clone()] == [IMAGE_TOKEN_INDEX]));
            let tokenized = whole.tokenize(&golden.prompt).unwrap();
            let (ids, spans) = tokenized.expanded_ids(&vec![goldens.rows; images], image_token).unwrap();
            assert_eq!(ids, golden.whole_string, "{name}, whole string: {:?}", golden.prompt);
            assert!(spans.iter().all(|span| span.len() == goldens.rows));
        }
        for golden in goldens.decoded.iter().filter(|golden| golden.tokenizer == name) {
            assert_eq!(chunks.decode(&golden.ids).unwrap(), golden.text, "{name}: {:?}", golden.ids);
        }
    }
}

#[derive(Deserialize)]
struct ChatGolden {
    template: String,
    turns: Vec<Turn>,
    prompt: String,
}

fn chat_prompter(template: &str) -> Prompter {
    let file = format!("{template}.jinja");
    let source = std::fs::read_to_string(fixture("templates").join(&file)).unwrap();
    let recipe = recipe("legacy", PromptTemplate::ChatTemplate(file), TokenizationMode::WholeString);
    Prompter::new(recipe, &tokenizer_json("legacy"), Some(source)).unwrap()
}

#[test]
fn chat_templates_render_as_in_transformers() {
    let goldens: Vec<ChatGolden> = read("chat.json");
    let mut prompters: BTreeMap<String, Prompter> = BTreeMap::new();
    for golden in &goldens {
        let prompter = prompters.entry(golden.template.clone()).or_insert_with(|| chat_prompter(&golden.template));
        let prompt = prompter.render_conversation(&golden.turns).unwrap();
        assert_eq!(prompt, golden.prompt, "{} on {:?}", golden.template, golden.turns);
    }
    assert!(prompters.len() >= 6);
}

/// Images at marks in the text and in later turns. `tests/fixtures/prompt/make_marks.py` made the fixtures.
#[test]
fn images_stand_where_the_question_places_them() {
    let mut chats: BTreeMap<String, Prompter> = BTreeMap::new();
    let mut refused = 0;
    for golden in read::<Vec<ChatGolden>>("chat_marks.json") {
        let prompter = chats.entry(golden.template.clone()).or_insert_with(|| chat_prompter(&golden.template));
        let images: usize = golden.turns.iter().map(|turn| turn.images).sum();
        let found = prompter.render_conversation(&golden.turns);
        if golden.prompt.matches("<image>").count() == images {
            assert_eq!(found.unwrap(), golden.prompt, "{} on {:?}", golden.template, golden.turns);
        } else {
            // A template that spells its messages out and not their images.
            assert!(found.unwrap_err().to_string().contains("image marks"), "{} on {:?}", golden.template, golden.turns);
            refused += 1;
        }
    }
    assert!(chats.len() >= 10 && refused <= 7, "{refused}");
    let goldens: Vec<ChatGolden> = read("conversation_marks.json");
    for golden in &goldens {
        let prompt = prompter(conversation_recipe(&golden.template)).render_conversation(&golden.turns).unwrap();
        assert_eq!(prompt, golden.prompt, "{} on {:?}", golden.template, golden.turns);
    }
    assert!(goldens.len() >= 40);
}

#[test]
fn marks_in_a_question_count_its_images() {
    let mut recipe = conversation_recipe("vicuna_v1");
    recipe.image_mark = "<pic>".to_owned();
    recipe.image_start_end = true;
    let prompter = prompter(recipe);
    // People write `<image>`, whatever the package's own mark is.
    let turn = prompter.user_turn("Is <image> like <image>?", 2).unwrap();
    assert_eq!(turn, Turn::user_at_marks("Is <pic> like <pic>?", 2));
    let prompt = prompter.render_conversation(&[turn]).unwrap();
    assert!(prompt.ends_with("USER: Is <im_start><pic><im_end> like <im_start><pic><im_end>? ASSISTANT:"), "{prompt}");
    assert_eq!(prompter.tokenize(&prompt).unwrap().image_count(), 2);
    assert_eq!(prompter.user_turn("Compare.", 2).unwrap(), Turn::user("Compare.", 2));
    for images in [0, 1, 3] {
        let error = prompter.user_turn("Is <image> like <image>?", images).unwrap_err().to_string();
        assert!(error.contains(&format!("has 2 image marks \"<image>\" for {images} images")), "{error}");
        let error = prompter.render_conversation(&[Turn::user_at_marks("Is <pic> like <pic>?", images)]).unwrap_err();
        assert!(matches!(error, PromptError::ImageMarks { marks: 2, .. }), "{error}");
    }
    // A text that is only shown must not place images.
    let shown = [Turn::user("What does <pic> mean?", 1)];
    assert!(matches!(prompter.render_conversation(&shown), Err(PromptError::ImageMarkInText { .. })));
    let answer = [Turn::user("a", 1), Turn { images: 1, ..Turn::assistant("b") }, Turn::user("c", 0)];
    assert!(prompter.render_conversation(&answer).unwrap_err().to_string().contains("cannot show images"));
}

#[derive(Deserialize)]
struct CheckpointGolden {
    checkpoint: String,
    image_token_id: Option<u32>,
    cases: Vec<CheckpointCase>,
}

#[derive(Deserialize)]
struct CheckpointCase {
    question: String,
    input_ids: Vec<i64>,
}

/// From the question to `input_ids` with the checkpoints that the project ships, against their own processors.
#[test]
fn shipped_checkpoints_get_the_ids_of_their_processors() {
    for golden in read::<Vec<CheckpointGolden>>("checkpoints.json") {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("exports").join(&golden.checkpoint);
        if !folder.join("tokenizer.json").exists() {
            eprintln!("skipped: {} is not here", folder.display());
            continue;
        }
        let (template, tokenization) = match golden.image_token_id {
            Some(_) => (PromptTemplate::ChatTemplate("chat_template.jinja".to_owned()), TokenizationMode::WholeString),
            None => (PromptTemplate::Conversation("vicuna_v1".to_owned()), TokenizationMode::Chunks),
        };
        let recipe = PromptRecipe { image_token_id: golden.image_token_id, ..recipe("legacy", template, tokenization) };
        let prompter = Prompter::open_folder(&folder, &recipe).unwrap();
        for case in golden.cases {
            let image_token = golden.image_token_id.map_or(IMAGE_TOKEN_INDEX, i64::from);
            let rows = case.input_ids.iter().filter(|id| **id == image_token).count();
            let tokenized = prompter.tokenize(&prompter.render(&case.question, 1).unwrap()).unwrap();
            let (ids, _) = tokenized.expanded_ids(&[rows], image_token).unwrap();
            assert_eq!(ids, case.input_ids, "{}: {:?}", golden.checkpoint, case.question);
        }
    }
}

#[test]
fn a_prompt_that_brings_its_own_bos_gets_no_second_one() {
    let rendered = chat_prompter("llama_2").render("What is this?", 1).unwrap();
    let tokenized = chat_prompter("llama_2").tokenize(&rendered).unwrap();
    let Some(Piece::Tokens(first)) = tokenized.pieces.first() else { panic!("{tokenized:?}") };
    assert_eq!(first.iter().filter(|id| **id == 1).count(), 1);
    let rendered = chat_prompter("llava_1_5").render("What is this?", 1).unwrap();
    assert_eq!(rendered, "USER: <image>\nWhat is this? ASSISTANT:");
    let tokenized = chat_prompter("llava_1_5").tokenize(&rendered).unwrap();
    assert!(matches!(tokenized.pieces.first(), Some(Piece::Tokens(ids)) if ids.starts_with(&[1])));
}

#[test]
fn a_folder_is_opened_from_its_files() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer_json("legacy")).unwrap();
    let source = std::fs::read_to_string(fixture("templates/llava_1_5.jinja")).unwrap();
    std::fs::write(folder.path().join("chat_template.jinja"), &source).unwrap();
    let json = serde_json::json!({ "chat_template": source }).to_string();
    std::fs::write(folder.path().join("chat_template.json"), json).unwrap();
    let open = |file: &str| {
        let template = PromptTemplate::ChatTemplate(file.to_owned());
        Prompter::open_folder(folder.path(), &recipe("legacy", template, TokenizationMode::WholeString))
    };
    for file in ["chat_template.jinja", "chat_template.json"] {
        let prompter = open(file).unwrap();
        assert_eq!(prompter.template_name(), file);
        assert_eq!(prompter.render("Hi", 1).unwrap(), "USER: <image>\nHi ASSISTANT:");
    }
    assert!(matches!(open("../chat_template.jinja"), Err(PromptError::File(_))));
    assert!(matches!(open("absent.jinja"), Err(PromptError::File(_))));
    assert!(matches!(open("tokenizer.json"), Err(PromptError::ChatTemplate { .. })));
    assert!(Prompter::open_folder(folder.path(), &conversation_recipe("vicuna_v1")).is_ok());
    std::fs::File::create(folder.path().join("tokenizer.json")).unwrap().set_len((64 << 20) + 1).unwrap();
    let error = open("chat_template.jinja").err().unwrap().to_string();
    assert!(error.contains("tokenizer.json is larger than"), "{error}");
}

#[test]
fn recipes_that_do_not_fit_are_refused_by_field() {
    let vicuna = || conversation_recipe("vicuna_v1");
    let whole = |id| PromptRecipe { tokenization: TokenizationMode::WholeString, image_token_id: id, ..vicuna() };
    let cases = [
        ("template", conversation_recipe("llava_v9")),
        ("image_mark", PromptRecipe { image_mark: String::new(), ..vicuna() }),
        ("image_token_id", whole(None)),
        ("image_token_id", whole(Some(3))),
        ("bos_token_id", PromptRecipe { bos_token_id: Some(99_999), ..vicuna() }),
        ("bos_token_id", PromptRecipe { bos_token_id: Some(2), ..vicuna() }),
        ("bos_token_id", PromptRecipe { bos_token_id: None, ..vicuna() }),
        ("stop_strings", PromptRecipe { stop_strings: vec![String::new()], ..vicuna() }),
    ];
    for (expected, recipe) in cases {
        match Prompter::new(recipe, &tokenizer_json("legacy"), None) {
            Err(PromptError::Recipe { field, .. }) => assert_eq!(field, expected),
            other => panic!("{expected}: {:?}", other.err()),
        }
    }
}

#[test]
fn texts_and_turns_that_cannot_be_rendered_are_refused() {
    let prompter = prompter(conversation_recipe("vicuna_v1"));
    assert!(matches!(prompter.render("Look: <image> there", 1), Err(PromptError::ImageMarkInText { turn: 0, .. })));
    // What only looks like the mark is text.
    assert!(prompter.render("Look: <image 1> < image>", 1).is_ok());
    assert!(matches!(prompter.render(&"x".repeat(1 << 20), 1), Err(PromptError::TextTooLong { .. })));
    assert!(matches!(prompter.render("x", usize::MAX), Err(PromptError::TextTooLong { .. })));
    for turns in [
        vec![],
        vec![Turn::assistant("a")],
        vec![Turn::user("a", 1), Turn::assistant("b")],
        vec![Turn::user("a", 1), Turn::user("b", 0), Turn::user("c", 0)],
        vec![Turn::user("a", 0), Turn { images: 1, ..Turn::assistant("b") }, Turn::user("c", 0)],
    ] {
        assert!(matches!(prompter.render_conversation(&turns), Err(PromptError::Conversation(_))), "{turns:?}");
    }
}

#[test]
fn one_prompter_serves_many_threads() {
    let golden = CHUNKS.tokenize("What is this?<image>\nA cat.").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(CHUNKS.tokenize("What is this?<image>\nA cat.").unwrap(), golden));
        }
    });
}

#[test]
fn rows_must_match_the_images_and_stay_within_reason() {
    let tokenized = CHUNKS.tokenize("a<image>b").unwrap();
    assert!(matches!(tokenized.expanded_ids(&[], -200), Err(PromptError::RowCount { images: 1, rows: 0 })));
    assert!(matches!(tokenized.expanded_ids(&[1, 1], -200), Err(PromptError::RowCount { .. })));
    assert!(matches!(tokenized.expanded_ids(&[usize::MAX], -200), Err(PromptError::TooManyTokens { .. })));
}

/// Ids of `text` after the BOS.
fn answer_ids(prompter: &Prompter, text: &str) -> Vec<u32> {
    match prompter.tokenize(text).unwrap().pieces.first() {
        Some(Piece::Tokens(ids)) => ids.iter().copied().filter(|id| *id != 1).collect(),
        _ => Vec::new(),
    }
}

/// Steps of an answer until it is finished: number of tokens and how.
fn run(prompter: &Prompter, ids: &[u32]) -> Option<(usize, Finish)> {
    (1..=ids.len()).map(|length| (length, prompter.finished(&ids[..length]))).find(|(_, finish)| *finish != Finish::No)
}

#[test]
fn answers_end_at_eos_and_at_stop_strings_that_span_tokens() {
    let v0 = prompter(conversation_recipe("llava_v0"));
    assert_eq!(v0.finished(&[]), Finish::No);
    // One `#` per token, then as the tokenizer merges them, behind an answer longer than the decoded tail.
    let hash = answer_ids(&v0, "a#");
    let hash = *hash.last().unwrap();
    let answer = answer_ids(&v0, &"A cat and a dog. ".repeat(20));
    let mut ids = answer.clone();
    ids.extend([hash; 5]);
    assert_eq!(run(&v0, &ids), Some((answer.len() + 3, Finish::StopString)));
    let merged = answer_ids(&v0, "A cat.###Human: more");
    let (length, finish) = run(&v0, &merged).unwrap();
    assert_eq!(finish, Finish::StopString);
    assert_eq!(v0.trim_answer(&v0.decode(&merged[..length]).unwrap()), "A cat.");
    let eos = [answer.as_slice(), &[2]].concat();
    assert_eq!(run(&v0, &eos), Some((eos.len(), Finish::Eos)));
    assert_eq!(v0.decode(&eos).unwrap(), v0.decode(&answer).unwrap(), "the end token is not text");
}

#[test]
fn stop_strings_are_found_through_bytes_special_tokens_and_spaces() {
    let stops = ["日本", "\nUSER:", "<im_end>"].map(str::to_owned).to_vec();
    let prompter = prompter(PromptRecipe { stop_strings: stops, ..conversation_recipe("vicuna_v1") });
    for (text, answer) in
        [("A cat. 日本語", "A cat."), ("A cat.\nUSER: and", "A cat."), ("one <im_end> two", "one"), ("A cat.", "A cat.")]
    {
        let ids = answer_ids(&prompter, text);
        let stopped = run(&prompter, &ids);
        assert_eq!(stopped.is_some(), text != answer, "{text}");
        let length = stopped.map_or(ids.len(), |(length, _)| length);
        assert_eq!(prompter.trim_answer(&prompter.decode(&ids[..length]).unwrap()), answer);
    }
    // Special tokens between the parts are skipped by decoding, so they must not hide a stop string.
    let mut ids = answer_ids(&prompter, "x\nUSER");
    ids.extend([0; 40]);
    let colon = answer_ids(&prompter, "a:");
    ids.push(*colon.last().unwrap());
    assert_eq!(run(&prompter, &ids), Some((ids.len(), Finish::StopString)));
}

#[test]
fn answers_are_stripped_as_python_strips() {
    let v0 = prompter(conversation_recipe("llava_v0"));
    for (text, expected) in [
        (" \n\u{1c}Yes\u{a0}\u{85}\t", "Yes"),
        ("Yes\n###Human: No", "Yes"),
        ("###", ""),
        ("", ""),
        ("a ## b", "a ## b"),
        ("\u{200b}x", "\u{200b}x"),
    ] {
        assert_eq!(v0.trim_answer(text), expected, "{text:?}");
    }
}

#[test]
fn padding_and_truncation_in_the_file_do_not_reach_the_prompt() {
    let mut json: serde_json::Value = read("tokenizer_legacy.json");
    json["padding"] = serde_json::json!({
        "strategy": {"Fixed": 1_000_000_000}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "<pad>"
    });
    json["truncation"] = serde_json::json!({"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0});
    let padded = Prompter::new(conversation_recipe("vicuna_v1"), &serde_json::to_vec(&json).unwrap(), None).unwrap();
    let text = "How many cats are there?<image>x";
    assert_eq!(padded.tokenize(text).unwrap(), prompter(conversation_recipe("vicuna_v1")).tokenize(text).unwrap());
}

#[test]
fn tokenizers_that_are_none_are_refused() {
    let good = tokenizer_json("legacy");
    let open = |bytes: &[u8]| Prompter::new(conversation_recipe("vicuna_v1"), bytes, None);
    for bytes in [&b""[..], b"{}", b"[]", b"null", b"\xff\xfe", &[b'['; 100_000], b"{\"model\":{\"type\":\"BPE\"}}"] {
        assert!(matches!(open(bytes), Err(PromptError::TokenizerFile(_))));
    }
    for length in (0..good.len() - 2).step_by(977) {
        assert!(matches!(open(&good[..length]), Err(PromptError::TokenizerFile(_))), "cut to {length} bytes");
    }
    let json: serde_json::Value = serde_json::from_slice(&good).unwrap();
    for (pointer, value) in [
        ("/model/vocab", serde_json::json!([1, 2])),
        ("/model/vocab", serde_json::json!({"a": -1})),
        ("/model/vocab", serde_json::json!({"a": 1e99})),
        ("/model/merges", serde_json::json!(["no such pair"])),
        ("/model/merges", serde_json::json!([["nothing", "here"]])),
        ("/model/type", serde_json::json!("Oracle")),
        ("/normalizer", serde_json::json!({"type": "Replace", "pattern": {"Regex": "("}, "content": ""})),
        ("/normalizer", serde_json::json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"})),
        (
            "/post_processor",
            serde_json::json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<x>", "type_id": 0}}], "pair": [], "special_tokens": {}}),
        ),
        ("/decoder", serde_json::json!(7)),
        ("/added_tokens", serde_json::json!("none")),
        ("/version", serde_json::json!("9.9")),
    ] {
        let mut broken = json.clone();
        *broken.pointer_mut(pointer).unwrap() = value.clone();
        assert!(open(&serde_json::to_vec(&broken).unwrap()).is_err(), "{pointer} = {value}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_question_renders_and_tokenises_without_panic(text in "\\PC*|[ -~\\n]*|(<image>|</s>|###| |x)*", images in 0_usize..4, rows in 0_usize..9) {
        for prompter in [&*CHUNKS, &*WHOLE] {
            match prompter.render(&text, images) {
                Err(error) => prop_assert!(text.contains("<image>"), "{}", error),
                Ok(rendered) => {
                    let tokenized = prompter.tokenize(&rendered).unwrap();
                    prop_assert_eq!(tokenized.image_count(), images);
                    let (ids, spans) = tokenized.expanded_ids(&vec![rows; images], -7).unwrap();
                    prop_assert_eq!(ids.len(), tokenized.text_token_count() + images * rows);
                    prop_assert_eq!(ids.iter().filter(|id| **id == -7).count(), images * rows);
                    prop_assert_eq!(spans.len(), images);
                    for span in spans {
                        prop_assert!(ids[span].iter().all(|id| *id == -7));
                    }
                }
            }
        }
    }

    #[test]
    fn decoding_an_encoded_ascii_text_gives_it_back(text in "([a-zA-Z0-9.,:;?!'()]{1,8} ?){0,20}") {
        for name in ["metaspace", "legacy"] {
            let prompter = if name == "legacy" { with_tokenizer(name, TokenizationMode::Chunks) } else { with_tokenizer(name, TokenizationMode::WholeString) };
            prop_assert_eq!(prompter.decode(&answer_ids(&prompter, &text)).unwrap(), text.as_str());
        }
    }

    #[test]
    fn any_ids_decode_and_are_judged(ids in prop::collection::vec(prop_oneof![0_u32..700, any::<u32>()], 0..40)) {
        let text = CHUNKS.decode(&ids).unwrap();
        let _ = CHUNKS.trim_answer(&text);
        let expected = if ids.last() == Some(&2) { Finish::Eos } else { Finish::No };
        prop_assert_eq!(CHUNKS.finished(&ids), expected);
    }

    /// However the answer is cut into tokens, the first token after which the whole decoded text holds the stop string is
    /// the one at which generation ends.
    #[test]
    fn the_bounded_tail_finds_what_the_whole_text_shows(ids in prop::collection::vec(0_u32..620, 0..60)) {
        let stops = ["is", " a", "é"];
        static PROMPTER: LazyLock<Prompter> = LazyLock::new(|| prompter(PromptRecipe {
            stop_strings: vec!["is".to_owned(), " a".to_owned(), "é".to_owned()],
            eos_token_ids: vec![],
            ..conversation_recipe("vicuna_v1")
        }));
        let whole = (1..=ids.len()).find(|length| {
            let text = PROMPTER.decode(&ids[..*length]).unwrap();
            stops.iter().any(|stop| text.contains(*stop))
        });
        prop_assert_eq!(run(&PROMPTER, &ids).map(|(length, _)| length), whole);
    }

    /// What is settled of an answer stays, whatever follows: byte tokens, stop strings that begin and do not end, prefixes.
    #[test]
    fn what_is_settled_stays_at_the_beginning(ids in prop::collection::vec(prop_oneof![0_u32..270, 0_u32..620], 0..24)) {
        static PROMPTERS: LazyLock<Vec<Prompter>> = LazyLock::new(|| {
            let stop_strings = || vec!["is a".to_owned(), "\n\n".to_owned(), "é".to_owned(), "e e".to_owned()];
            let made = |name: &str, template: &str| {
                let template = PromptTemplate::Conversation(template.to_owned());
                let recipe = recipe(name, template, TokenizationMode::Chunks);
                let recipe = PromptRecipe { stop_strings: stop_strings(), eos_token_ids: Vec::new(), ..recipe };
                Prompter::new(recipe, &tokenizer_json(name), None).unwrap()
            };
            vec![made("legacy", "vicuna_v1"), made("metaspace", "vicuna_v1"), made("byte_level", "vicuna_v1"), made("legacy", "simple")]
        });
        for prompter in &*PROMPTERS {
            let end = (1..=ids.len()).find(|length| prompter.finished(&ids[..*length]) != Finish::No);
            let whole = prompter.trim_answer(&prompter.decode(&ids[..end.unwrap_or(ids.len())]).unwrap());
            for length in 1..end.unwrap_or(ids.len() + 1) {
                let Some(settled) = prompter.settled(&ids[..length]) else { continue };
                let kept = settled.trim_end_matches(|c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c));
                prop_assert!(whole.starts_with(&settled) || whole == kept, "{:?} of {:?}, after {}", settled, whole, length);
            }
        }
    }

    #[test]
    fn a_tokenizer_with_a_flipped_part_opens_or_is_refused(at in 0_usize..12_000, byte in any::<u8>()) {
        let mut bytes = tokenizer_json("legacy");
        let length = bytes.len();
        bytes[at % length] = byte;
        if let Ok(prompter) = Prompter::new(conversation_recipe("vicuna_v1"), &bytes, None) {
            let _ = prompter.tokenize("A chat <image>\nHow many cats? é日 ASSISTANT:");
            let _ = prompter.decode(&[0, 1, 2, 3, 100, 300, 500, 607, 9999]);
        }
    }
}
