//! POPE: one JSON Lines file a split.

use std::collections::HashMap;

use super::super::error::BenchmarkError;
use super::super::spec::SplitFile;
use super::super::types::{Conversation, Reference, Sample};
use super::Context;
use super::rows::{Id, RowPlace, json_lines, read_data_file};

pub(super) fn read(context: &mut Context<'_>, splits: &[SplitFile]) -> Result<Vec<Sample>, BenchmarkError> {
    let mut samples = Vec::new();
    for split in splits {
        let path = context.file(&split.file)?;
        let text = read_data_file(&path)?;
        let before = samples.len();
        let mut taken: HashMap<String, usize> = HashMap::new();
        for (line, raw) in json_lines(&text) {
            let place = RowPlace { path: &path, row: line };
            let object = place.object(raw)?;
            let Id(id) = object.field("question_id")?;
            let image: String = object.field("image")?;
            let question: String = object.field("text")?;
            let label: String = object.field("label")?;
            if let Some(earlier) = taken.insert(id.clone(), line) {
                return Err(place.error("question_id", "each question once", format!("{id} again, first in row {earlier}")));
            }
            let yes = match label.as_str() {
                "yes" => true,
                "no" => false,
                other => return Err(place.error("label", "yes or no", format!("{other:?}"))),
            };
            samples.push(Sample {
                key: format!("{}/{id}", split.name),
                images: vec![context.image(&place, "image", &image)?],
                cluster: image,
                prompt: context.spec.prompt.render(&question, &[]),
                conversation: Conversation::default(),
                question,
                reference: Reference::YesNo { yes },
                category: Some(split.name.clone()),
            });
        }
        context.check_rows(&path, &split.rows, samples.len() - before)?;
    }
    Ok(samples)
}
