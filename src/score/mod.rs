//! The score room: the official metrics as pure functions of an answer and a reference.
//!
//! It must not read files, know models, or compute intervals: it turns text into a parsed answer, a score and
//! contributions to metrics.

mod caption;
mod choice;
mod contractions;
mod decided;
mod grounding;
mod groups;
mod interleave;
mod judged;
mod likelihood;
mod lmms_boxes;
mod medical;
mod metrics;
mod nlvr2;
mod pope;
mod python_number;
mod python_text;
mod ranking;
mod rouge_sentences;
mod set_level;
mod short_answer;
mod types;
mod vqa;
mod vqa_text;

pub use caption::{ptb_caption, ptb_tokens};
pub use decided::decided;
pub use grounding::{intersection_over_union, parse_box, to_original_pixels};
pub use judged::{Verdict, judged, read_reply};
pub use likelihood::{Candidate, most_likely};
pub use medical::{WordOverlap, closed_is_right, word_overlap};
pub use metrics::{metrics, score, score_in_category};
pub use pope::says_yes;
pub use set_level::{Answered, complete, needs_all_answers};
pub use short_answer::{anls, anls_m4c, mme_answer, ocr_bench_is_right, relaxed_correctness, slake_normalise};
pub use types::SampleScore;
pub use vqa::{lmms_accuracy, m4c_accuracy, official_accuracy};
pub use vqa_text::{m4c_normalise, med_normalise, official_normalise};
