//! LLaVA-Med's chat questions (`llava_med_eval_qa50_qa.jsonl`): question, answer of the reference model, caption of the
//! figure and what the article says of it.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::super::error::BenchmarkError;
use super::super::types::{Conversation, IMAGE_MARK, Reference, Sample};
use super::Context;
use super::python_repr::display;
use super::rows::{Id, RowPlace, json_lines, read_data_file};

/// Domains in the order in which the official summary looks for them.
const DOMAINS: [&str; 5] = ["chest_xray", "mri", "histology", "gross", "ct_scan"];

/// Kinds of questions.
const TYPES: [&str; 2] = ["conversation", "detailed_description"];

pub(super) fn read(context: &mut Context<'_>, questions: &str, rows: &[usize]) -> Result<Vec<Sample>, BenchmarkError> {
    let path = context.file(questions)?;
    let text = read_data_file(&path)?;
    let lines: Vec<(usize, &str)> = json_lines(&text).collect();
    context.check_rows(&path, rows, lines.len())?;
    let mut samples = Vec::with_capacity(lines.len());
    let mut taken: HashMap<String, usize> = HashMap::with_capacity(lines.len());
    for (row, raw) in lines {
        let place = RowPlace { path: &path, row };
        let object = place.object(raw)?;
        let Id(key) = object.field("question_id")?;
        if let Some(earlier) = taken.insert(key.clone(), row) {
            return Err(place.error("question_id", "each question once", format!("{key} again, first in row {earlier}")));
        }
        let image: String = object.field("image")?;
        let question: String = object.field("text")?;
        let kind: String = object.field("type")?;
        if !TYPES.contains(&kind.as_str()) {
            return Err(place.error("type", TYPES.join(" or "), format!("{kind:?}")));
        }
        let domains: BTreeMap<String, bool> = object.field("domain")?;
        let domain = DOMAINS.iter().find(|name| domains.get(**name) == Some(&true));
        let domain = domain.ok_or_else(|| place.error("domain", format!("true for one of {}", DOMAINS.join(", ")), "none"))?;
        let label = display(&object.field::<Value>("fig_label")?);
        let caption = display(&object.field::<Value>("fig_caption")?);
        // A list of objects in the release, which the official prompt has as Python prints it.
        let mention = display(&object.field::<Value>("in_text_mention")?);
        samples.push(Sample {
            images: vec![context.image(&place, "image", &image)?],
            key,
            cluster: image,
            // `model_vqa.py` takes the mark out and strips.
            prompt: context.spec.prompt.render(question.replace(IMAGE_MARK, "").trim(), &[]),
            question,
            conversation: Conversation::default(),
            reference: Reference::Judged {
                answer: object.field("gpt4_answer")?,
                context: Some(format!("Figure Caption:\n{label}: {caption}\n\nFigure Context:\n\t- {mention}")),
                capabilities: vec![(*domain).to_owned()],
            },
            category: Some(kind),
        });
    }
    Ok(samples)
}
