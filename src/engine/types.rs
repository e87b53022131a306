//! What goes into an engine and what comes out.

use std::path::PathBuf;

use ndarray::Array4;

/// A part of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Text tokens.
    Tokens(Vec<u32>),
    /// The rows of the group's image with this index.
    Image(usize),
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// An end-of-sequence token was generated; it is not part of the answer.
    EndOfSequence,
    /// A stop string was completed; the caller trims it.
    StopString,
    /// The limit of new tokens was reached.
    MaxNewTokens,
    /// Whoever asked has read enough: nothing that could follow changes what is made of the answer.
    Decided,
}

impl StopReason {
    /// The name used in records and JSON: `eos`, `stop_string`, `max_new_tokens`, `decided`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EndOfSequence => "eos",
            Self::StopString => "stop_string",
            Self::MaxNewTokens => "max_new_tokens",
            Self::Decided => "decided",
        }
    }
}

/// Decides after each token whether an answer is complete. Implemented by the caller, who knows the tokenizer.
pub trait StopRule: Sync {
    /// `token_ids` are all generated so far, the newest last.
    fn check(&self, token_ids: &[u32]) -> Option<StopReason>;
}

/// One question.
pub struct Request<'a> {
    /// The prompt.
    pub segments: Vec<Segment>,
    /// Longest answer in tokens, at least 1.
    pub max_new_tokens: usize,
    /// When to stop before that.
    pub stop: &'a dyn StopRule,
}

/// An image made ready for the vision encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageTiles {
    /// Preprocessed pixels, `[tiles, 3, height, width]`: one tile, or with any-res tiling the whole view and then the tiles
    /// of the grid row by row.
    pub pixels: Array4<f32>,
    /// Width of the original picture in pixels. It decides, for an image of several tiles, which rows only show padding.
    pub width: u32,
    /// Height of the original picture in pixels.
    pub height: u32,
}

/// All questions that share the same images.
pub struct ImageGroup<'a> {
    /// Preprocessed images; each may have its own number of tiles.
    pub images: &'a [ImageTiles],
    /// The questions.
    pub requests: &'a [Request<'a>],
}

/// One answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// Generated ids; a final end-of-sequence token is not among them.
    pub token_ids: Vec<u32>,
    /// Natural-log probability of each id of `token_ids`.
    pub log_probabilities: Vec<f32>,
    /// Why it ended.
    pub stop_reason: StopReason,
    /// Milliseconds from the start of the group's work in the engine to this answer's first token; the image, the shared
    /// prefix and earlier packs of the group are in it, as they were waited for.
    pub first_token_ms: f64,
    /// Milliseconds from the first token to the last; where images decode together, the prefill of those that join meanwhile
    /// is in it, as it is waited for.
    pub remaining_tokens_ms: f64,
    /// Tokens decoded, end-of-sequence included.
    pub decoded_tokens: usize,
}

/// Why one question of a group has no answer, while its neighbours do.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RequestFailure {
    /// A logit was NaN or infinite.
    #[error("the logits of generation step {step} are not finite")]
    NonFiniteLogits {
        /// 0 is the first generated token, or the first of a candidate.
        step: usize,
    },
    /// The image token was generated, and the package's embedding graph would put an image row in its place.
    #[error("the image token was generated in step {step}, and the embedding graph of this package cannot take it as text")]
    ImageToken {
        /// 0 is the first generated token.
        step: usize,
    },
    /// The prompt and the answer do not fit the graph.
    #[error(
        "prompt of {prompt_tokens} tokens and {max_new_tokens} new ones exceed the {limit_tokens} positions of the language model"
    )]
    TooLong {
        /// Prompt length, image rows included.
        prompt_tokens: usize,
        /// Longest answer asked for.
        max_new_tokens: usize,
        /// Rows of the rotary tables.
        limit_tokens: usize,
    },
    /// The prompt and the answer do not fit the memory that the key-value cache may take, or there was none to be had.
    #[error(
        "prompt of {prompt_tokens} tokens and {max_new_tokens} new ones need more memory than there is for the key-value cache \
         ({limit}); --kv-memory sets how much it may take"
    )]
    NoMemory {
        /// Prompt length, image rows included.
        prompt_tokens: usize,
        /// Longest answer asked for.
        max_new_tokens: usize,
        /// How much there is, in words.
        limit: String,
    },
}

/// Milliseconds by stage for one group.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StageTimings {
    /// Vision encoder.
    pub vision_ms: f64,
    /// Projector.
    pub projector_ms: f64,
    /// Shared prefix and suffixes.
    pub prefill_ms: f64,
    /// All decode steps; of a step that several groups share, the part of its rows.
    pub decode_ms: f64,
    /// Tokens prefilled, the shared prefix counted once.
    pub prefill_tokens: usize,
    /// Decode steps.
    pub decode_steps: usize,
}

impl StageTimings {
    /// Both one after the other.
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            vision_ms: self.vision_ms + other.vision_ms,
            projector_ms: self.projector_ms + other.projector_ms,
            prefill_ms: self.prefill_ms + other.prefill_ms,
            decode_ms: self.decode_ms + other.decode_ms,
            prefill_tokens: self.prefill_tokens + other.prefill_tokens,
            decode_steps: self.decode_steps + other.decode_steps,
        }
    }
}

/// Answers of a group, in the order of its requests.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupAnswer {
    /// One per request.
    pub answers: Vec<Result<Generation, RequestFailure>>,
    /// The group's stages.
    pub timings: StageTimings,
}

/// One question whose answer is chosen among given continuations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChoiceRequest {
    /// The prompt.
    pub segments: Vec<Segment>,
    /// Token ids of each continuation, at least one continuation and at least one token each.
    pub candidates: Vec<Vec<u32>>,
}

impl ChoiceRequest {
    /// Tokens of the longest candidate.
    pub fn longest_candidate(&self) -> usize {
        self.candidates.iter().map(Vec::len).max().unwrap_or(0)
    }
}

/// Questions with candidates that share the same images.
pub struct ChoiceGroup<'a> {
    /// Preprocessed images; each may have its own number of tiles.
    pub images: &'a [ImageTiles],
    /// The questions.
    pub requests: &'a [ChoiceRequest],
}

/// How likely the candidates of one question are.
#[derive(Clone, Debug, PartialEq)]
pub struct Likelihoods {
    /// Natural-log probability of each token of each candidate, given the prompt and the candidate's earlier tokens.
    pub log_probabilities: Vec<Vec<f32>>,
    /// Milliseconds from the start of the group's work in the engine to this question's last number.
    pub ready_ms: f64,
}

/// Likelihoods of a group, in the order of its requests.
#[derive(Clone, Debug, PartialEq)]
pub struct LikelihoodAnswer {
    /// One per request.
    pub answers: Vec<Result<Likelihoods, RequestFailure>>,
    /// The group's stages; nothing is decoded, all rows of candidates count as prefilled.
    pub timings: StageTimings,
}

/// Where the answers of a window go while its groups finish, in an order that depends on the window alone.
pub trait WindowSink {
    /// Group `index` of the window is answered.
    fn finished(&mut self, index: usize, answer: GroupAnswer);

    /// Whether to end now; groups that are not finished then get no answer.
    fn stopped(&self) -> bool;
}

/// Anything that answers groups: the ONNX Runtime engine, or the mock.
pub trait Engine {
    /// Answers all questions of a group. An error concerns the whole group (a broken graph, no memory); what concerns one
    /// question only stands in its answer.
    fn answer(&mut self, group: &ImageGroup<'_>) -> Result<GroupAnswer, EngineError>;

    /// Answers the groups of a window, in whatever order and together as far as it pays. Errors are as in
    /// [`answer`](Self::answer).
    fn answer_window(&mut self, groups: &[ImageGroup<'_>], sink: &mut dyn WindowSink) -> Result<(), EngineError> {
        for (index, group) in groups.iter().enumerate() {
            if sink.stopped() {
                break;
            }
            let answer = self.answer(group)?;
            sink.finished(index, answer);
        }
        Ok(())
    }

    /// Groups that a window should have. What is asked again after a cut is a whole window, so that windows of one are best
    /// where groups are answered one by one.
    fn window_groups(&self) -> usize {
        1
    }

    /// What there is to tell about how the questions are run, since the last call: that memory ran out and less runs together.
    fn take_notes(&mut self) -> Vec<String> {
        Vec::new()
    }

    /// How likely each candidate of each question of a group is. Errors are as in [`answer`](Self::answer). An engine that
    /// only generates says so.
    fn likelihoods(&mut self, _group: &ChoiceGroup<'_>) -> Result<LikelihoodAnswer, EngineError> {
        Err(EngineError::Runtime {
            doing: "computing likelihoods".to_owned(),
            message: "this engine only generates answers".to_owned(),
        })
    }
}

/// What can go wrong in the engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// ONNX Runtime could not be found or fetched. The text says what was tried and the manual step.
    #[error("ONNX Runtime could not be found or fetched: {0}")]
    RuntimeMissing(String),
    /// The execution provider that was asked for cannot be used. Nothing runs on another instead.
    #[error("--provider {provider} cannot be used here: {reason}")]
    Provider {
        /// `cuda` or `tensorrt`.
        provider: &'static str,
        /// All that is in the way, and what to do about it.
        reason: String,
    },
    /// ONNX Runtime reported an error.
    #[error("ONNX Runtime failed while {doing}: {message}")]
    Runtime {
        /// What was being done, such as `loading vision.onnx`.
        doing: String,
        /// Its own words.
        message: String,
    },
    /// A graph does not have the inputs or outputs that its manifest promises.
    #[error("{graph}: {message}")]
    Graph {
        /// Graph file.
        graph: PathBuf,
        /// What is wrong: name, expected, found.
        message: String,
    },
    /// Too little of a graph runs on the provider that was asked for, or what runs it cannot be told.
    #[error("{graph}: {message}")]
    Placement {
        /// File name of the graph.
        graph: String,
        /// The share, the least share, and the nodes that run elsewhere.
        message: String,
    },
    /// A request is malformed: a token beyond the vocabulary, an image index beyond the group, a wrong tensor shape.
    #[error("request {index}: {message}")]
    Request {
        /// Position in the group.
        index: usize,
        /// What is wrong.
        message: String,
    },
    /// A file of the package could not be read.
    #[error(transparent)]
    File(#[from] crate::guard::files::GuardError),
}

impl EngineError {
    /// Whether memory ran out. ONNX Runtime has no code for it, so that its words must do: those of the CPU allocator
    /// (`std::bad_alloc`), of its arena, and of its own checks.
    pub fn is_out_of_memory(&self) -> bool {
        const WORDS: [&str; 5] = ["bad_alloc", "bad allocation", "Failed to allocate memory", "out of memory", "BFCArena"];
        matches!(self, Self::Runtime { message, .. } if WORDS.iter().any(|words| message.contains(words)))
    }
}

impl RequestFailure {
    /// Machine-readable kind for records: `non_finite`, `image_token`, `too_long` or `memory`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NonFiniteLogits { .. } => "non_finite",
            Self::ImageToken { .. } => "image_token",
            Self::TooLong { .. } => "too_long",
            Self::NoMemory { .. } => "memory",
        }
    }
}
