//! MM-Vet: one JSON object of questions by key (`mm-vet.json`).

use std::collections::BTreeSet;

use serde_json::value::RawValue;

use super::super::error::BenchmarkError;
use super::super::types::{Conversation, Reference, Sample};
use super::Context;
use super::rows::{RowPlace, read_data_file};

/// What questions may test, as MM-Vet names it: recognition, text, knowledge, generation, spatial relations, mathematics.
const CAPABILITIES: [&str; 6] = ["rec", "ocr", "know", "gen", "spat", "math"];

/// Members in file order; serde's maps would sort them or need another crate.
struct InOrder<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for InOrder<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> serde::de::Visitor<'de> for Members {
            type Value = Vec<(String, &'de RawValue)>;
            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object of questions by key")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Members).map(InOrder)
    }
}

pub(super) fn read(context: &mut Context<'_>, questions: &str, rows: &[usize]) -> Result<Vec<Sample>, BenchmarkError> {
    let path = context.file(questions)?;
    let text = read_data_file(&path)?;
    let InOrder(members) = serde_json::from_str(&text).map_err(|error| BenchmarkError::File {
        path: path.clone(),
        expected: "a JSON object of questions by key".to_owned(),
        found: error.to_string(),
    })?;
    context.check_rows(&path, rows, members.len())?;
    let mut samples = Vec::with_capacity(members.len());
    let mut taken = BTreeSet::new();
    for (index, (key, raw)) in members.into_iter().enumerate() {
        let place = RowPlace { path: &path, row: index + 1 };
        let object = place.object(raw.get())?;
        if !taken.insert(key.clone()) {
            return Err(place.error("-", "each question once", format!("{key:?} again")));
        }
        let image: String = object.field("imagename")?;
        let question: String = object.field("question")?;
        let capabilities: BTreeSet<String> = object.field("capability")?;
        if let Some(unknown) = capabilities.iter().find(|name| !CAPABILITIES.contains(&name.as_str())) {
            return Err(place.error("capability", CAPABILITIES.join(", "), format!("{unknown:?}")));
        }
        let capabilities: Vec<String> = capabilities.into_iter().collect();
        samples.push(Sample {
            images: vec![context.image(&place, "imagename", &image)?],
            key,
            cluster: image,
            prompt: context.spec.prompt.render(&question, &[]),
            question,
            conversation: Conversation::default(),
            // An integration of capabilities; the official table has it in an order that changes from run to run.
            category: Some(capabilities.join("_")).filter(|name| !name.is_empty()),
            reference: Reference::Judged { answer: object.field("answer")?, context: None, capabilities },
        });
    }
    Ok(samples)
}
