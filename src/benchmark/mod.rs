//! The benchmark room: `benchmarks/*.toml` and the readers of official data formats, giving samples with a key and a
//! cluster (the image).
//!
//! It must not know models, engines or scores: it says what is asked and what the reference is.

mod answering;
mod choice;
mod columns;
mod error;
mod image;
mod load;
mod own;
mod pattern;
mod places;
pub mod predictions;
mod predictions_keyed;
mod predictions_short_answers;
mod prompt;
mod readers;
mod scorer_rule;
mod short_answer_rule;
mod spec;
mod spec_answering;
mod spec_data;
mod spec_file;
mod spec_scorer;
mod spec_table;
mod spreadsheet;
mod submission_format;
mod table_spec;
mod task;
mod types;

pub use answering::{Answering, CandidateTexts, LikelihoodRule, Normalisation};
pub use choice::{ChoiceParser, InterleaveVariant};
pub use columns::{ColumnPath, ColumnTemplate};
pub use error::BenchmarkError;
pub use image::{EmbeddedImage, SampleImage};
pub use load::{Benchmark, samples_sha256};
pub use own::{OwnData, own_metrics};
pub use pattern::{ClassTemplate, ImagePattern};
pub use places::{DataChoice, FormStatus, form_statuses};
pub use prompt::{Asked, AskedPrompt, PromptTemplate, option_letter};
pub use readers::{BrokenRow, ImageStore};
pub use scorer_rule::{BoxSpace, JudgeContext, RelativeScore, ScorerRule, ScorerSpec, ThresholdRule, VqaVariant};
pub use short_answer_rule::{Edition, ShortAnswerRule};
pub use spec::{
    BenchmarkSpec, CaptionFiles, CaptionLayout, DataFormat, DataSpec, RefcocoFiles, ReferenceScore, RegionTask, SplitFile,
};
pub use submission_format::SubmissionFormat;
pub use table_spec::{
    AnswerForm, ChoiceOptions, JoinMissing, JoinSpec, ReferenceKind, RegionForm, TableFiles, TableReference, TableSpec,
};
pub use task::{CandidateSet, ClassSet, Query, Task};
pub use types::{
    Contribution, Contributions, Conversation, Exchange, IMAGE_MARK, MetricSpec, PixelBox, Reference, RetrievalDirection, Sample,
};
