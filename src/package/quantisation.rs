//! How the weights of a package were stored in fewer bits: a record for people and reports. The graphs hold what runs; this says how
//! it came about.

use serde::{Deserialize, Serialize};

use super::manifest::Precision;
use super::stages::StageName;

/// What was done to the weights of a package; absent where all of them are 32 bits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantisation {
    /// The linear layers of the vision encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vision: Option<WeightQuantisation>,
    /// The linear layers of the projector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projector: Option<WeightQuantisation>,
    /// The linear layers of CLIP's text encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<WeightQuantisation>,
    /// The linear layers of the language model, the output head excluded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub llm: Option<WeightQuantisation>,
    /// The output head of the language model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<WeightQuantisation>,
    /// The token embedding table, where it is not stored as the checkpoint has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding: Option<Precision>,
    /// The samples whose activations guided it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<CalibrationRecord>,
}

/// How the weights of some linear layers are stored and multiplied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightQuantisation {
    /// The precision by name.
    pub scheme: Precision,
    /// Bits of a weight.
    pub bits: u32,
    /// Inputs that share a scale; absent where an output has one scale, or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_size: Option<usize>,
    /// `accuracy_level` of `MatMulNBits`: 4 rounds activations to 8 bits a block, 0 leaves them in 32 bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy_level: Option<u32>,
    /// How weights became codes: `rounded` (16 bits), `round-to-nearest`, `scale-search`, or what calibration adds.
    pub method: String,
    /// Share of the activations' range that was moved into the weights, channel by channel, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smoothing: Option<f64>,
}

/// The samples that a calibration looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrationRecord {
    /// Name of the benchmark.
    pub benchmark: String,
    /// How many samples.
    pub samples: u64,
    /// SHA-256 of the samples' keys, each ended by a line feed, in lower-case hexadecimal.
    pub keys_sha256: String,
}

impl WeightQuantisation {
    /// Such as `int4 (4 bits, blocks of 32, accuracy level 4, scale-search)`.
    pub fn summary(&self) -> String {
        use std::fmt::Write as _;
        let mut text = format!("{} ({} bits", self.scheme.as_str(), self.bits);
        // Writing to a String cannot fail.
        if let Some(size) = self.block_size {
            let _ = write!(text, ", blocks of {size}");
        }
        if let Some(level) = self.accuracy_level {
            let _ = write!(text, ", accuracy level {level}");
        }
        let _ = write!(text, ", {}", self.method);
        if let Some(smoothing) = self.smoothing {
            let _ = write!(text, ", smoothing {smoothing}");
        }
        text.push(')');
        text
    }
}

impl Quantisation {
    /// The record of a package whose stages `new_stages` come from `new` and the others from `base`.
    pub(super) fn mixed(base: Option<&Self>, new: Option<&Self>, new_stages: &[StageName]) -> Option<Self> {
        let nothing = Self::default();
        let (base, new) = (base.unwrap_or(&nothing), new.unwrap_or(&nothing));
        let of = |stage| if new_stages.contains(&stage) { new } else { base };
        let llm = of(StageName::Llm);
        let mixed = Self {
            vision: of(StageName::Vision).vision.clone(),
            projector: of(StageName::Projector).projector.clone(),
            text: None,
            llm: llm.llm.clone(),
            head: llm.head.clone(),
            embedding: llm.embedding,
            calibration: llm.calibration.clone(),
        };
        (mixed != nothing).then_some(mixed)
    }

    /// Each part that has a record, by its name in the manifest.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, &WeightQuantisation)> {
        let parts = [
            ("vision", &self.vision),
            ("projector", &self.projector),
            ("text", &self.text),
            ("llm", &self.llm),
            ("head", &self.head),
        ];
        parts.into_iter().filter_map(|(name, part)| part.as_ref().map(|part| (name, part)))
    }

    /// One line for each part that has fewer bits, and one for what guided it.
    pub fn lines(&self) -> Vec<String> {
        let parts = self.parts().map(|(name, part)| format!("{name} {}", part.summary()));
        let embedding = self.embedding.map(|precision| format!("embeddings {}", precision.as_str()));
        let calibration = self.calibration.as_ref();
        let calibration =
            calibration.map(|calibration| format!("calibrated on {} samples of {}", calibration.samples, calibration.benchmark));
        parts.chain(embedding).chain(calibration).collect()
    }

    /// What does not fit the precision of a stage, whose record this is: field, found, expected.
    pub(super) fn fault(&self, stages: &[(&str, Precision)]) -> Option<(String, String, String)> {
        for (name, part) in self.parts() {
            let field = |field: &str| format!("quantisation.{name}.{field}");
            let stage = stages.iter().find(|(stage, _)| *stage == name);
            match stage {
                Some((_, precision)) if *precision != part.scheme => {
                    let expected = format!("{:?} as precision.{name} says", precision.as_str());
                    return Some((field("scheme"), format!("{:?}", part.scheme.as_str()), expected));
                }
                None if name != "head" => {
                    return Some((format!("quantisation.{name}"), "present".to_owned(), "a stage of this package".to_owned()));
                }
                _ => {}
            }
            if part.bits == 0 || part.bits > 16 {
                return Some((field("bits"), part.bits.to_string(), "1 to 16".to_owned()));
            }
            if part.smoothing.is_some_and(|smoothing| !(0.0..=1.0).contains(&smoothing)) {
                return Some((field("smoothing"), format!("{:?}", part.smoothing), "0 to 1".to_owned()));
            }
        }
        None
    }
}
