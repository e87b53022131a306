//! The files that the servers of benchmarks take.

use serde::Deserialize;

/// A server's file format. Ids are the samples' keys unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SubmissionFormat {
    /// `[{"question_id", "answer"}]`, answers through the EvalAI processor (LLaVA `convert_vqav2_for_submission.py`; lmms-eval
    /// submits TextVQA alike).
    Vqa,
    /// `[{"image", "answer"}]`: the image's file name, answers through the EvalAI processor (LLaVA
    /// `convert_vizwiz_for_submission.py`).
    Vizwiz,
    /// `[{"questionId", "prediction"}]`, without final periods and in lower case (LLaVA `convert_gqa_for_eval.py`).
    Gqa,
    /// `[{"questionId", "answer"}]`: DocVQA and InfographicVQA (lmms-eval `tasks/docvqa/utils.py`).
    Docvqa,
    /// `[{"question_id", "answer"}]` as the model wrote them: ST-VQA (lmms-eval `tasks/stvqa/utils.py`).
    StVqa,
    /// A table with the column `prediction` (LLaVA `convert_mmbench_for_submission.py`), as an `.xlsx` workbook.
    Mmbench,
    /// `{"id": "A" or a text}` (MMMU `mmmu/README.md`, lmms-eval `tasks/mmmu/utils.py`).
    Mmmu,
    /// JSON Lines of `{"question_id", "prediction"}` (LLaVA `convert_seed_for_submission.py`).
    SeedBench,
    /// `{"v1_0": text}` (LLaVA `convert_mmvet_for_eval.py`).
    MmVet,
    /// `[{"image_id", "caption"}]`: COCO, NoCaps, TextCaps and Flickr30k (lmms-eval `tasks/nocaps/utils.py`).
    Captions,
    /// `{"acc", "correct", "count", "results": {id: index}, "outputs": {id: text}}` (LLaVA `eval_science_qa.py`).
    Scienceqa,
}

impl SubmissionFormat {
    /// All formats.
    pub const ALL: [Self; 11] = [
        Self::Vqa,
        Self::Vizwiz,
        Self::Gqa,
        Self::Docvqa,
        Self::StVqa,
        Self::Mmbench,
        Self::Mmmu,
        Self::SeedBench,
        Self::MmVet,
        Self::Captions,
        Self::Scienceqa,
    ];

    /// The name in TOML files and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vqa => "vqa",
            Self::Vizwiz => "vizwiz",
            Self::Gqa => "gqa",
            Self::Docvqa => "docvqa",
            Self::StVqa => "st-vqa",
            Self::Mmbench => "mmbench",
            Self::Mmmu => "mmmu",
            Self::SeedBench => "seed-bench",
            Self::MmVet => "mm-vet",
            Self::Captions => "captions",
            Self::Scienceqa => "scienceqa",
        }
    }

    /// The format of a [`name`](Self::as_str).
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == name)
    }

    /// Ending of its file's name.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Mmbench => "xlsx",
            Self::SeedBench => "jsonl",
            _ => "json",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_and_command_line_have_the_same_names() {
        #[derive(Deserialize)]
        struct Table {
            format: SubmissionFormat,
        }
        for format in SubmissionFormat::ALL {
            let table: Table = toml::from_str(&format!("format = {:?}", format.as_str())).unwrap();
            assert_eq!(table.format, format);
            assert_eq!(SubmissionFormat::by_name(format.as_str()), Some(format));
        }
        assert_eq!(SubmissionFormat::by_name("POPE"), None);
    }
}
