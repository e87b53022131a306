//! Tests of the parts that the public interface does not show: the form of content that a template gets, and what hostile
//! templates and tokenizers meet. Goldens and properties are in `tests/prompt.rs`.

use std::time::{Duration, Instant};

use super::chat_template::{ChatTemplate, ContentForm};
use super::tokenizer_file::load;
use super::turn::Turn;
use super::{PromptError, Role, conversation_names, conversation_stop_strings};
use crate::package::CONVERSATIONS;

fn template(source: &str) -> Result<ChatTemplate, PromptError> {
    let tokens = vec![("bos_token", "<s>".to_owned()), ("eos_token", "</s>".to_owned())];
    ChatTemplate::new("t.jinja", source, "<image>", tokens)
}

/// A template that is fine for the probe and turns into `body` when the question is `go`.
fn armed(body: &str) -> String {
    format!("{{% if messages[0].content == '<image>\\ngo' %}}{body}{{% endif %}}{{{{ messages[0].content + '' }}}}")
}

#[test]
fn typed_parts_are_tried_first_and_strings_are_the_way_back() {
    let parts = "{% for p in messages[0].content %}{{ '<image>' if p.type == 'image' else p.text }}{% endfor %}";
    assert_eq!(template(parts).unwrap().form(), ContentForm::Parts);
    for text in [
        "{{ messages[0].content.strip() }}",
        "{{ 'USER: ' + messages[0].content }}",
        // Writes a list as Python would; the missing mark gives it away.
        "USER: {{ messages[0].content }}",
    ] {
        assert_eq!(template(text).unwrap().form(), ContentForm::Text, "{text}");
    }
}

#[test]
fn a_template_that_shows_no_image_or_no_question_is_refused() {
    for source in ["", "hello", "{{ raise_exception('no') }}", "<image>", "{{ messages[0].content }}<image>", "{% if %}"] {
        assert!(matches!(template(source), Err(PromptError::ChatTemplate { .. })), "{source}");
    }
}

#[test]
fn a_template_that_loses_an_image_later_is_refused_then() {
    let chat = template("{{ messages[0].content.replace('<image>\\n<image>\\n', '<image>\\n') }}").unwrap();
    assert_eq!(chat.render(&[Turn::user("a", 1)], "<image>").unwrap(), "<image>\na");
    let error = chat.render(&[Turn::user("a", 2)], "<image>").unwrap_err();
    assert!(error.to_string().contains("rendered 1 image marks \"<image>\" for 2 images"), "{error}");
}

#[test]
fn raise_exception_is_shown_to_the_user() {
    let chat = template(&armed("{{ raise_exception('only ' ~ 3 ~ ' turns') }}")).unwrap();
    let error = chat.render(&[Turn::user("go", 1)], "<image>").unwrap_err();
    assert!(error.to_string().contains("only 3 turns"), "{error}");
}

#[test]
fn dates_do_not_depend_on_the_day() {
    let chat = template("{{ strftime_now('%d %b %Y|%A %-d.%-m.%y|%%') }} {{ messages[0].content + '' }}").unwrap();
    assert_eq!(chat.render(&[Turn::user("", 1)], "<image>").unwrap(), "26 Jul 2024|Friday 26.7.24|% <image>\n");
    assert!(template("{{ strftime_now('%Q') }}{{ messages[0].content + '' }}").is_err());
}

/// More than the budget or, with the time limit of three seconds in tests, any sandboxed step takes, also on a machine that
/// is busy otherwise; far less than what is stopped here would need.
const PATIENCE: Duration = Duration::from_secs(25);

/// Each of these would take very long, very much memory or the whole stack without the sandbox.
#[test]
fn hostile_templates_end_in_an_error() {
    let deep_list = "{% set n = namespace(x=[]) %}".to_owned()
        + "{% for i in range(90000) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x | tojson }}";
    let shared_list = "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}".to_owned();
    let cases = [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}".to_owned(),
        "{% for a in range(99999) %}{{ 'x' * 1000 }}{% endfor %}".to_owned(),
        "{{ 'x' * 90000000 }}".to_owned(),
        "{% set n = namespace(x='xx') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}".to_owned(),
        "{% set a = 'x' * 1000000 %}{{ a.replace('x', a) }}".to_owned(),
        "{% set a = 'x' * 1000000 %}{{ a | replace('x', a) }}".to_owned(),
        "{% set a = 'x' * 1000000 %}{{ a.join(range(99999)) }}".to_owned(),
        "{{ '{:>900000000}'.format('x') }}".to_owned(),
        "{{ '%900000000d' % 1 }}".to_owned(),
        "{{ '%900000000d' | format(1) }}".to_owned(),
        "{{ 'x' | center(900000000) }}".to_owned(),
        "{{ 'x\n' | indent(900000000) }}".to_owned(),
        "{{ [1] | tojson(indent=900000000) }}{{ raise_exception('done') }}".to_owned(),
        "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}".to_owned(),
        "{% macro f(x) %}{{ f(x) }}{{ f(x) }}{% endmacro %}{{ f(1) }}".to_owned(),
        deep_list,
        shared_list + "{{ n.x | tojson }}",
        "{% include 'chat_template' %}".to_owned(),
    ];
    for body in cases {
        let start = Instant::now();
        let shown: String = body.chars().take(60).collect();
        if let Ok(chat) = template(&armed(&body)) {
            let error = chat.render(&[Turn::user("go", 1)], "<image>").err();
            assert!(error.is_some(), "{shown}");
        }
        assert!(start.elapsed() < PATIENCE, "{shown} took {:?}", start.elapsed());
    }
}

#[test]
fn a_template_that_escapes_its_budget_is_stopped_by_the_clock_and_not_started_again() {
    let doubling = "{% set n = namespace(x=[1], y=[1]) %}\
        {% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% set n.y = [n.y, n.y] %}{% endfor %}";
    let chat = template(&armed(&format!("{doubling}{{{{ n.x == n.y }}}}"))).unwrap();
    for expected in ["takes longer than 3 s", "time limit before"] {
        let error = chat.render(&[Turn::user("go", 1)], "<image>").unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn sources_nested_without_end_are_refused_or_compile() {
    let times = 40_000;
    let cases = [
        "(".repeat(times),
        format!("{{{{ {}1{} }}}}", "(".repeat(times), ")".repeat(times)),
        format!("{{{{ {}1 }}}}", "-".repeat(times)),
        format!("{{{{ {}1 }}}}", "not ".repeat(times)),
        format!("{{{{ a{} }}}}", ".b".repeat(times)),
        format!("{{{{ a{} }}}}", "[0]".repeat(times)),
        format!("{{{{ a{} }}}}", "()".repeat(times)),
        format!("{{{{ a{} }}}}", "|e".repeat(times)),
        format!("{{{{ 'a'{} }}}}", "~'a'".repeat(times)),
        format!("{{{{ a{} }}}}", "+a".repeat(times)),
        format!("{{{{ {}1 }}}}", "1 if 1 else ".repeat(times / 4)),
        format!("{{% if 1 %}}{}{{% endif %}}", "{% elif 1 %}".repeat(times / 4)),
        "{% if 1 %}".repeat(times / 4),
        "{% generation %}".repeat(times / 4),
        "{{ [".repeat(times),
        "{#".repeat(times),
        "x".repeat(200 << 10),
    ];
    for source in cases {
        let start = Instant::now();
        // Whether such a source is refused while it is parsed or renders to something odd does not matter.
        let _ = template(&armed(&source));
        assert!(start.elapsed() < PATIENCE, "{}… took {:?}", &source[..40], start.elapsed());
    }
}

fn legacy_tokenizer() -> serde_json::Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/prompt/tokenizer_legacy.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn tokenizers_that_amplify_text_or_are_random_are_refused() {
    let replace = |content: String| serde_json::json!({"type": "Replace", "pattern": {"String": " "}, "content": content});
    let doubling = serde_json::json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"});
    let cases = [
        ("normalizer", replace("x".repeat(1 << 20))),
        ("normalizer", serde_json::json!({"type": "Sequence", "normalizers": vec![doubling.clone(); 40]})),
        ("normalizer", serde_json::json!({"type": "Replace", "pattern": {"Regex": ""}, "content": "x".repeat(999)})),
        ("normalizer", serde_json::json!({"type": "Prepend", "prepend": "x".repeat(1 << 20)})),
        ("normalizer", replace("x".repeat(5 << 20))),
        ("decoder", serde_json::json!({"type": "Sequence", "decoders": vec![doubling; 40]})),
    ];
    for (section, value) in cases {
        let mut tokenizer = legacy_tokenizer();
        tokenizer[section] = value;
        let error = load(&serde_json::to_vec(&tokenizer).unwrap()).unwrap_err();
        assert!(error.to_string().contains(section), "{error}");
    }
    let mut tokenizer = legacy_tokenizer();
    tokenizer["model"]["dropout"] = 0.5.into();
    assert!(load(&serde_json::to_vec(&tokenizer).unwrap()).unwrap_err().to_string().contains("dropout"));
}

#[test]
fn each_conversation_template_knows_its_stop_strings() {
    assert_eq!(conversation_names().count(), CONVERSATIONS.len());
    for (name, stops) in [
        ("llava_v0", vec!["###"]),
        ("simple", vec!["###"]),
        ("vicuna_v1", vec![]),
        ("plain", vec![]),
        ("mpt", vec!["<|im_end|>"]),
        ("qwen_1_5", vec!["<|im_end|>"]),
        ("llava_llama_3", vec!["<|eot_id|>"]),
        ("gemma_instruct", vec!["<end_of_turn>"]),
        ("llama_2", vec![]),
    ] {
        assert_eq!(conversation_stop_strings(name), Some(stops), "{name}");
    }
    assert_eq!(conversation_stop_strings("nobody"), None);
    assert_eq!(Role::User.as_str(), "user");
}
