//! The engine that runs packages through ONNX Runtime.

use std::time::Instant;

use ndarray::{Array2, Array3};

use super::attention_probe::{self, Verdict};
use super::chooser::Chooser;
use super::decoder::LanguageModel;
use super::device::check_compute;
use super::embedding::EmbeddingTable;
use super::exchange;
use super::options::{EngineOptions, Scheduling};
use super::plan::{self, Demand, Row};
use super::row_copier::RowCopier;
use super::runtime::{self, RuntimeInfo};
use super::sampling;
use super::schedule::{Schedule, cache_bytes_per_token};
use super::session::Graph;
use super::tree::{self, Member, Outcome, Tree};
use super::types::{
    ChoiceGroup, Engine, EngineError, GroupAnswer, ImageGroup, ImageTiles, LikelihoodAnswer, Request, RequestFailure, Segment,
    StageTimings, WindowSink,
};
use super::vision::{EncodedImage, ImageEncoder, join_tiles};
use crate::package::{LanguageModelStage, Package, RowLayout};

/// A loaded package.
pub struct OrtEngine {
    pub(super) encoder: ImageEncoder,
    pub(super) model: LanguageModel,
    pub(super) embedding: EmbeddingTable,
    pub(super) options: EngineOptions,
    pub(super) limits: Limits,
    scheduling_reason: Option<String>,
    /// What cannot be shared here, and why.
    verdict: Verdict,
    pub(super) notes: Vec<String>,
    runtime: RuntimeInfo,
    load_ms: f64,
}

/// How much may run together; smaller once memory has run out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Tokens of the key-value caches.
    pub cache_tokens: usize,
    /// Suffix tokens of a packed run.
    pub packed_tokens: usize,
    /// Sequences that decode together across images.
    pub slots: usize,
    /// Groups of a window.
    pub window_groups: usize,
}

/// Suffix tokens of a packed run below which memory that runs out is no matter of packing.
const LEAST_PACKED_TOKENS: usize = 64;

/// What each stage gave for one prompt, for comparing a package with its reference.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// Vision features of all images' tiles in order, `[tiles, tokens_per_image, hidden_size]`.
    pub features: Array3<f32>,
    /// Projected rows of the same tiles before they are merged, `[tiles, tokens_per_image, output_size]`.
    pub image_embeds: Array3<f32>,
    /// Rows of all images in order as they stand in the prompt, `[rows, output_size]`: of tiled images merged, with newline
    /// rows.
    pub image_rows: Array2<f32>,
    /// Logits from which each token was chosen, `[steps, vocabulary_size]`.
    pub logits: Array2<f32>,
    /// The most likely token of each step, the lowest id where several are equally likely; 0 where logits are not finite.
    pub token_ids: Vec<u32>,
}

impl OrtEngine {
    /// Loads a package, with ONNX Runtime loaded first if it is not yet.
    pub fn load(package: &Package, options: &EngineOptions) -> Result<Self, EngineError> {
        let started = Instant::now();
        let (root, manifest) = (package.root.as_path(), &package.manifest);
        let loaded = runtime::load(&options.runtime(), &mut |_| {})?;
        check_compute(package, options)?;
        let mut verdict = attention_probe::verdict(loaded, manifest, options)?;
        let mut notes = Vec::new();
        // Packing weights is work of one thread a graph, and nearly all of a load.
        let (encoder, graph) = std::thread::scope(|scope| {
            let graph = scope.spawn(|| Graph::load_measured(loaded, root, &manifest.llm.graph, options, false));
            let encoder = ImageEncoder::load(loaded, root, manifest, options);
            let stopped = || Err(EngineError::Runtime { doing: "loading".to_owned(), message: "its thread stopped".to_owned() });
            (encoder, graph.join().unwrap_or_else(|_| stopped()))
        });
        let (encoder, graph) = (encoder?, graph?);
        if manifest.projector.output_size != manifest.llm.hidden_size {
            return Err(graph.wrong(format!(
                "takes rows of {}, but the projector gives rows of {}",
                manifest.llm.hidden_size, manifest.projector.output_size
            )));
        }
        let (mut model, embedding) = exchange::language_model(graph, package)?;
        if options.provider.provider.is_gpu() {
            // Without either, the same is computed in another way, which is told.
            match Chooser::new(loaded, manifest.llm.vocabulary_size, options) {
                Ok(chooser) => model.read_logits_in_place(chooser),
                Err(error) => notes.push(format!("logits leave the GPU to be read: {error}")),
            }
            if verdict.not_batched.is_none() {
                match RowCopier::new(loaded, &manifest.llm, options) {
                    Ok(copier) => model.copy_rows_in_place(copier),
                    Err(error) => {
                        verdict.not_batched = Some(format!("rows of the key-value cache cannot be copied on the GPU: {error}"))
                    }
                }
            }
        }
        let runtime = loaded.info.clone();
        let default = Schedule::default();
        let limits = Limits {
            cache_tokens: default.cache_tokens,
            packed_tokens: options.max_packed_tokens,
            slots: default.slots,
            window_groups: default.window_groups,
        };
        let mut engine = Self {
            encoder,
            model,
            embedding,
            options: options.clone(),
            limits,
            scheduling_reason: None,
            verdict,
            notes,
            runtime,
            load_ms: 0.0,
        };
        engine.keep_apart();
        engine.prove_placement()?;
        engine.load_ms = super::vision::milliseconds(started);
        Ok(engine)
    }

    /// From now on runs questions as scheduled.
    pub fn set_schedule(&mut self, schedule: &Schedule) {
        self.options.scheduling = schedule.scheduling;
        self.scheduling_reason = schedule.reason.clone();
        self.keep_apart();
        self.limits = Limits {
            cache_tokens: schedule.cache_tokens.max(1),
            packed_tokens: self.options.max_packed_tokens,
            slots: schedule.slots,
            window_groups: schedule.window_groups,
        };
    }

    /// Where questions cannot be packed, they run one by one, whatever was asked for, and the reason is told.
    fn keep_apart(&mut self) {
        if let (Some(reason), true) = (&self.verdict.not_packed, self.options.scheduling != Scheduling::OneByOne) {
            self.options.scheduling = Scheduling::OneByOne;
            self.scheduling_reason = Some(reason.clone());
        }
    }

    /// Why questions are scheduled as they are, where there was a choice.
    pub fn scheduling_reason(&self) -> Option<&str> {
        self.scheduling_reason.as_deref()
    }

    /// Why several sequences cannot decode at once; `None` if they can.
    pub fn no_batches(&self) -> Option<&str> {
        const ONE: &str =
            "the package's graph decodes one sequence at a time; export the checkpoint again to decode across images";
        (!self.takes_batches()).then(|| self.verdict.not_batched.as_deref().unwrap_or(ONE))
    }

    /// Whether several sequences can decode at once.
    pub fn takes_batches(&self) -> bool {
        self.model.takes_batches()
    }

    /// The language model's stage of the manifest.
    pub fn language_model(&self) -> &LanguageModelStage {
        self.model.stage()
    }

    /// The library in use.
    pub fn runtime(&self) -> &RuntimeInfo {
        &self.runtime
    }

    /// The settings in use.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// Rows that the key-value cache can hold now; it grows with the largest group so far and is then reused.
    pub fn cache_capacity_tokens(&self) -> usize {
        self.model.capacity()
    }

    /// Milliseconds that loading took, the runtime included if this engine was the first.
    pub fn load_ms(&self) -> f64 {
        self.load_ms
    }

    /// Runs one prompt alone and keeps what every stage gave. With `forced`, these tokens are fed whatever the model would
    /// choose, and there are as many steps; otherwise the model's own choices, until the request's limit or stop rule.
    pub fn trace_single(
        &mut self,
        images: &[ImageTiles],
        request: &Request<'_>,
        forced: Option<&[u32]>,
    ) -> Result<Trace, EngineError> {
        let malformed = |message: String| EngineError::Request { index: 0, message };
        let steps = forced.map_or(request.max_new_tokens, <[u32]>::len);
        let layouts = self.layouts(images);
        let rows = match self.prompt(0, request, steps, &layouts)? {
            Ok(rows) => rows,
            Err(failure) => return Err(malformed(failure.to_string())),
        };
        if let Some(bad) = forced.and_then(|tokens| tokens.iter().find(|&&token| token as usize >= self.embedding.rows())) {
            return Err(malformed(format!("forced token {bad} is beyond the vocabulary of {}", self.embedding.rows())));
        }
        if steps == 0 {
            return Err(malformed("no token is to be generated".to_owned()));
        }

        let mut timings = StageTimings::default();
        let encoded = self.encode(images, &layouts, (0..images.len()).collect(), true, &mut timings)?;
        let (features, image_embeds) = join_tiles(encoded.iter().flatten())?;
        let mut image_rows = Vec::new();
        for image in encoded.iter().flatten() {
            image_rows.extend_from_slice(image.embeds()?);
        }
        let width = self.embedding.width();
        let image_rows = Array2::from_shape_vec((image_rows.len() / width.max(1), width), image_rows)
            .map_err(|error| malformed(error.to_string()))?;

        self.model.reserve(rows.len() + steps)?;
        let mut logits = Vec::with_capacity(steps * self.model.stage().vocabulary_size);
        let (mut token_ids, mut fed) = (Vec::new(), Vec::new());
        let mut past = 0;
        let mut next: Vec<Row> = rows;
        loop {
            tree::fill(&mut self.model, &self.embedding, &encoded, past, &next)?;
            past += next.len();
            let row = self.model.run()?.next().unwrap_or_default();
            logits.extend_from_slice(row);
            let chosen = sampling::greedy(row).map_or(0, |choice| choice.token);
            let step = token_ids.len();
            token_ids.push(chosen);
            let token = forced.and_then(|tokens| tokens.get(step)).copied().unwrap_or(chosen);
            fed.push(token);
            if fed.len() == steps || (forced.is_none() && request.stop.check(&fed).is_some()) {
                break;
            }
            next = vec![Row::Token(token)];
        }
        let logits = Array2::from_shape_vec((token_ids.len(), self.model.stage().vocabulary_size), logits)
            .map_err(|error| malformed(error.to_string()))?;
        Ok(Trace { features, image_embeds, image_rows, logits, token_ids })
    }

    /// How the rows of each image are merged, or why it cannot be encoded.
    pub(super) fn layouts(&self, images: &[ImageTiles]) -> Vec<Result<RowLayout, String>> {
        images.iter().map(|image| self.encoder.layout(image)).collect()
    }

    /// Checks request `index` of a group and spells its prompt out, unless it is too long.
    fn prompt(
        &self,
        index: usize,
        request: &Request<'_>,
        max_new_tokens: usize,
        layouts: &[Result<RowLayout, String>],
    ) -> Result<Result<Vec<Row>, RequestFailure>, EngineError> {
        if request.max_new_tokens == 0 {
            return Err(EngineError::Request { index, message: "max_new_tokens is 0".to_owned() });
        }
        self.spelled_out(index, &request.segments, max_new_tokens, layouts)
    }

    /// Checks the prompt of request `index` and spells it out, unless it is too long with so many new tokens.
    pub(super) fn spelled_out(
        &self,
        index: usize,
        segments: &[Segment],
        max_new_tokens: usize,
        layouts: &[Result<RowLayout, String>],
    ) -> Result<Result<Vec<Row>, RequestFailure>, EngineError> {
        let malformed = |message: String| EngineError::Request { index, message };
        for segment in segments {
            match segment {
                Segment::Tokens(tokens) => {
                    if let Some(token) = tokens.iter().find(|&&token| token as usize >= self.embedding.rows()) {
                        return Err(malformed(format!("token {token} is beyond the vocabulary of {}", self.embedding.rows())));
                    }
                }
                Segment::Image(image) => match layouts.get(*image) {
                    None => return Err(malformed(format!("image {image} is beyond the {} of its group", layouts.len()))),
                    Some(Err(message)) => return Err(malformed(message.clone())),
                    Some(Ok(_)) => {}
                },
            }
        }
        let rows_of_image: Vec<usize> = layouts.iter().map(|layout| layout.as_ref().map_or(0, RowLayout::rows)).collect();
        let prompt_tokens = plan::length(segments, &rows_of_image);
        if prompt_tokens == 0 {
            return Err(malformed("the prompt is empty".to_owned()));
        }
        let limit_tokens = self.model.stage().maximum_positions;
        if prompt_tokens.saturating_add(max_new_tokens) > limit_tokens {
            return Ok(Err(RequestFailure::TooLong { prompt_tokens, max_new_tokens, limit_tokens }));
        }
        if prompt_tokens.saturating_add(max_new_tokens) > self.limits.cache_tokens {
            return Ok(Err(self.no_memory(prompt_tokens, max_new_tokens)));
        }
        Ok(Ok(plan::rows(segments, &rows_of_image)))
    }

    /// The failure of a question that does not fit the memory of the cache.
    pub(super) fn no_memory(&self, prompt_tokens: usize, max_new_tokens: usize) -> RequestFailure {
        let tokens = self.limits.cache_tokens;
        let limit = if tokens == usize::MAX {
            "what the machine has left".to_owned()
        } else {
            format!("{tokens} tokens of {} bytes", cache_bytes_per_token(self.model.stage()))
        };
        RequestFailure::NoMemory { prompt_tokens, max_new_tokens, limit }
    }

    /// The prompts of a group that fit; the others' failures are put in their place.
    pub(super) fn fitting_prompts(
        &self,
        group: &ImageGroup<'_>,
        layouts: &[Result<RowLayout, String>],
        answers: &mut [Option<Outcome>],
    ) -> Result<Vec<(usize, Vec<Row>)>, EngineError> {
        let mut prompts = Vec::with_capacity(group.requests.len());
        for (index, (request, slot)) in group.requests.iter().zip(answers).enumerate() {
            match self.prompt(index, request, request.max_new_tokens, layouts)? {
                Ok(rows) => prompts.push((index, rows)),
                Err(failure) => *slot = Some(Err(failure)),
            }
        }
        Ok(prompts)
    }

    /// Rows that a packed run's cache may have.
    pub(super) fn maximum_rows(&self) -> usize {
        self.model.stage().maximum_positions.min(self.limits.cache_tokens)
    }

    /// After memory has run out, halves what is packed together; `false` if that is little already.
    pub(super) fn pack_less(&mut self) -> bool {
        if self.limits.packed_tokens <= LEAST_PACKED_TOKENS {
            return false;
        }
        self.limits.packed_tokens = (self.limits.packed_tokens / 2).max(LEAST_PACKED_TOKENS);
        let tokens = self.limits.packed_tokens;
        self.notes.push(format!("memory ran out; from now on at most {tokens} tokens of an image's questions run together"));
        true
    }

    /// Encodes the images with these indices; the others stay `None`.
    pub(super) fn encode(
        &mut self,
        images: &[ImageTiles],
        layouts: &[Result<RowLayout, String>],
        mut wanted: Vec<usize>,
        keep_tiles: bool,
        timings: &mut StageTimings,
    ) -> Result<Vec<Option<EncodedImage>>, EngineError> {
        wanted.sort_unstable();
        wanted.dedup();
        let mut encoded: Vec<Option<EncodedImage>> = images.iter().map(|_| None).collect();
        for index in wanted {
            if let (Some(image), Some(Ok(layout)), Some(slot)) = (images.get(index), layouts.get(index), encoded.get_mut(index)) {
                *slot = Some(self.encoder.encode(image, layout, keep_tiles, timings)?);
            }
        }
        Ok(encoded)
    }

    /// Answers these requests of a group together; their prompts fit.
    fn answer_together(
        &mut self,
        group: &ImageGroup<'_>,
        layouts: &[Result<RowLayout, String>],
        prompts: &[(usize, &[Row])],
        answers: &mut [Option<Outcome>],
        timings: &mut StageTimings,
    ) -> Result<(), EngineError> {
        let started = Instant::now();
        let used = |rows: &[Row]| {
            rows.iter().filter_map(|row| if let Row::Image { image, row: 0 } = row { Some(*image) } else { None }).collect()
        };
        let wanted = prompts.iter().flat_map(|(_, rows): &(usize, &[Row])| -> Vec<usize> { used(rows) }).collect();
        let encoded = self.encode(group.images, layouts, wanted, false, timings)?;

        let prefix = plan::shared_prefix(prompts.iter().map(|(_, rows)| *rows));
        let mut demands = Vec::with_capacity(prompts.len());
        for &(request, rows) in prompts {
            let max_new_tokens = group.requests.get(request).map_or(1, |request| request.max_new_tokens);
            demands.push(Demand { request, suffix_rows: rows.len() - prefix, max_new_tokens });
        }
        let packs = plan::packs(prefix, &demands, self.limits.packed_tokens, self.maximum_rows());
        self.model.reserve(packs.iter().map(|pack| pack.total_rows).max().unwrap_or(0))?;

        let mut tree = Tree::new(&mut self.model, &self.embedding, &encoded, started, timings);
        if prefix > 0
            && let Some((_, rows)) = prompts.first()
        {
            tree.prefill_prefix(rows.get(..prefix).unwrap_or_default())?;
        }
        let member = |demand: &Demand| {
            let request = group.requests.get(demand.request)?;
            let rows = prompts.iter().find(|(index, _)| *index == demand.request)?.1.get(prefix..)?;
            Some(Member { request: demand.request, suffix: rows, max_new_tokens: demand.max_new_tokens, stop: request.stop })
        };
        for pack in &packs {
            let members: Vec<Member<'_>> = pack.members.iter().filter_map(member).collect();
            for (request, outcome) in tree.answer_pack(&members)? {
                if let Some(slot) = answers.get_mut(request) {
                    *slot = Some(outcome);
                }
            }
        }
        Ok(())
    }
}

impl OrtEngine {
    /// Answers one group. Where memory runs out, less of it runs together; in the end each question alone, and one that cannot
    /// even so fails by itself.
    pub(super) fn answer_group(&mut self, group: &ImageGroup<'_>) -> Result<GroupAnswer, EngineError> {
        let layouts = self.layouts(group.images);
        loop {
            let mut timings = StageTimings::default();
            let mut answers: Vec<Option<Outcome>> = group.requests.iter().map(|_| None).collect();
            let prompts = self.fitting_prompts(group, &layouts, &mut answers)?;
            let fitting: Vec<(usize, &[Row])> = prompts.iter().map(|(index, rows)| (*index, rows.as_slice())).collect();
            let together = match self.options.scheduling {
                Scheduling::PackedTree | Scheduling::AcrossImages => {
                    match self.answer_together(group, &layouts, &fitting, &mut answers, &mut timings) {
                        Err(error) if error.is_out_of_memory() && self.pack_less() => continue,
                        Err(error) if error.is_out_of_memory() => false,
                        outcome => outcome.map(|()| true)?,
                    }
                }
                Scheduling::OneByOne => false,
            };
            if !together {
                for prompt in &fitting {
                    let alone = std::slice::from_ref(prompt);
                    match self.answer_together(group, &layouts, alone, &mut answers, &mut timings) {
                        Err(error) if error.is_out_of_memory() => {
                            let new = group.requests.get(prompt.0).map_or(1, |request| request.max_new_tokens);
                            let failure = self.no_memory(prompt.1.len(), new);
                            answers.get_mut(prompt.0).into_iter().for_each(|slot| *slot = Some(Err(failure.clone())));
                        }
                        outcome => outcome?,
                    }
                }
            }
            let answers = answers.into_iter().enumerate().map(|(index, answer)| {
                answer.ok_or_else(|| EngineError::Request { index, message: "was not planned".to_owned() })
            });
            return Ok(GroupAnswer { answers: answers.collect::<Result<_, _>>()?, timings });
        }
    }
}

impl Engine for OrtEngine {
    fn answer(&mut self, group: &ImageGroup<'_>) -> Result<GroupAnswer, EngineError> {
        self.answer_group(group)
    }

    fn answer_window(&mut self, groups: &[ImageGroup<'_>], sink: &mut dyn WindowSink) -> Result<(), EngineError> {
        self.answer_across(groups, sink)
    }

    fn window_groups(&self) -> usize {
        if self.options.scheduling == Scheduling::AcrossImages { self.limits.window_groups } else { 1 }
    }

    fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    fn likelihoods(&mut self, group: &ChoiceGroup<'_>) -> Result<LikelihoodAnswer, EngineError> {
        loop {
            match self.rank(group) {
                Err(error) if error.is_out_of_memory() && self.pack_less() => {}
                outcome => return outcome,
            }
        }
    }
}
