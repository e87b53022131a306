//! The tree: one shared prefix in the cache, and packs of questions that grow side by side behind it.
//!
//! Rows of the cache, for a prefix of 3 rows and questions a (2 rows) and b (1 row), after two decode steps:
//!
//! ```text
//! prefix prefix prefix | a a b | a b | a b
//! ```
//!
//! A row of question a sees the prefix and the earlier rows marked a; positions count as if a stood alone.

use std::ops::Range;
use std::time::Instant;

use super::decoder::LanguageModel;
use super::embedding::EmbeddingTable;
use super::plan::{Row, write_windowed_bias};
use super::sampling::Choice;
use super::types::{EngineError, Generation, RequestFailure, StageTimings, StopReason, StopRule};
use super::vision::{EncodedImage, milliseconds};

/// The answer to one question.
pub(super) type Outcome = Result<Generation, RequestFailure>;

/// A question of a pack.
#[derive(Clone, Copy)]
pub(super) struct Member<'a> {
    /// Position in the group.
    pub request: usize,
    /// Its rows after the shared prefix, at least 1.
    pub suffix: &'a [Row],
    /// Longest answer.
    pub max_new_tokens: usize,
    /// When to stop before that.
    pub stop: &'a dyn StopRule,
}

/// One group at work.
pub(super) struct Tree<'a> {
    pub model: &'a mut LanguageModel,
    pub embedding: &'a EmbeddingTable,
    pub images: &'a [Option<EncodedImage>],
    pub started: Instant,
    pub timings: &'a mut StageTimings,
    /// Rows of the shared prefix.
    pub prefix: usize,
}

/// A question while it is being answered.
pub(super) struct Growing<'a> {
    pub member: Member<'a>,
    /// Cache rows that its own rows may see, in the order of their positions: the prefix, its suffix, and one range per run of
    /// adjacent tokens.
    pub visible: Vec<Range<usize>>,
    pub token_ids: Vec<u32>,
    log_probabilities: Vec<f32>,
    first_token_ms: f64,
    last_token_ms: f64,
    pub stop_reason: Option<StopReason>,
}

/// A pack in which a logit was not finite: its numbers cannot be trusted, neighbours' included.
pub(super) struct NotFinite {
    pub step: usize,
}

impl<'a> Tree<'a> {
    pub(super) fn new(
        model: &'a mut LanguageModel,
        embedding: &'a EmbeddingTable,
        images: &'a [Option<EncodedImage>],
        started: Instant,
        timings: &'a mut StageTimings,
    ) -> Self {
        Self { model, embedding, images, started, timings, prefix: 0 }
    }

    /// Runs the rows that all questions share. They stay in the cache for every pack that follows.
    pub(super) fn prefill_prefix(&mut self, rows: &[Row]) -> Result<(), EngineError> {
        let started = Instant::now();
        fill(self.model, self.embedding, self.images, 0, rows)?;
        self.model.run_unread()?;
        self.prefix = rows.len();
        self.timings.prefill_ms += milliseconds(started);
        self.timings.prefill_tokens += rows.len();
        Ok(())
    }

    /// Answers a pack. If any of its logits is not finite the pack is thrown away and each question runs alone over the same
    /// prefix: a NaN spreads to every row of its run, because zero times NaN is NaN, and only so do the innocent get the
    /// answer that they would have had without the culprit.
    pub(super) fn answer_pack(&mut self, members: &[Member<'_>]) -> Result<Vec<(usize, Outcome)>, EngineError> {
        match self.run_pack(members)? {
            Ok(generations) => {
                Ok(members.iter().zip(generations).map(|(member, generation)| (member.request, Ok(generation))).collect())
            }
            Err(NotFinite { step }) => match members {
                [] => Ok(Vec::new()),
                [member] => Ok(vec![(member.request, Err(RequestFailure::NonFiniteLogits { step }))]),
                several => {
                    let mut outcomes = Vec::with_capacity(several.len());
                    for member in several {
                        outcomes.extend(self.answer_pack(std::slice::from_ref(member))?);
                    }
                    Ok(outcomes)
                }
            },
        }
    }

    /// Runs all suffixes of a pack and gives each question its first token.
    pub(super) fn prefill_pack<'m>(
        &mut self,
        members: &[Member<'m>],
    ) -> Result<Result<Vec<Growing<'m>>, NotFinite>, EngineError> {
        let started = Instant::now();
        let mut growing = self.fill_suffixes(members)?;
        let all: Vec<usize> = (0..growing.len()).collect();
        let choices = self.run_and_choose()?;
        self.timings.prefill_ms += milliseconds(started);
        self.timings.prefill_tokens += members.iter().map(|member| member.suffix.len()).sum::<usize>();
        let Some(choices) = choices else { return Ok(Err(NotFinite { step: 0 })) };
        self.take(&mut growing, &all, &choices);
        Ok(Ok(growing))
    }

    fn run_pack(&mut self, members: &[Member<'_>]) -> Result<Result<Vec<Generation>, NotFinite>, EngineError> {
        let mut growing = match self.prefill_pack(members)? {
            Ok(growing) => growing,
            Err(not_finite) => return Ok(Err(not_finite)),
        };
        let mut length = self.prefix + members.iter().map(|member| member.suffix.len()).sum::<usize>();
        let going_on = growing.iter().enumerate().filter(|(_, question)| question.stop_reason.is_none());
        let mut active: Vec<usize> = going_on.map(|(index, _)| index).collect();
        let mut step = 0;
        while !active.is_empty() {
            let started = Instant::now();
            step += 1;
            self.fill_step(&mut growing, &active, length)?;
            length += active.len();
            let choices = self.run_and_choose()?;
            self.timings.decode_ms += milliseconds(started);
            self.timings.decode_steps += 1;
            let Some(choices) = choices else { return Ok(Err(NotFinite { step })) };
            active = self.take(&mut growing, &active, &choices);
        }
        Ok(Ok(growing.into_iter().map(Growing::finish).collect()))
    }

    /// Prepares the run of all suffixes of a pack.
    fn fill_suffixes<'m>(&mut self, members: &[Member<'m>]) -> Result<Vec<Growing<'m>>, EngineError> {
        let rows = members.iter().map(|member| member.suffix.len()).sum();
        let total = self.prefix + rows;
        let (width, window) = (self.model.stage().hidden_size, self.model.stage().sliding_window);
        let inputs = self.model.prepare(self.prefix, rows, members.len())?;
        let mut embeddings = inputs.embeddings.chunks_exact_mut(width.max(1));
        let mut bias = inputs.attention_bias.chunks_exact_mut(total.max(1));
        let mut position_ids = inputs.position_ids.iter_mut();
        let mut logit_rows = inputs.logit_rows.iter_mut();
        let mut growing = Vec::with_capacity(members.len());
        let mut start = self.prefix;
        for member in members {
            let places = (&mut embeddings).zip(&mut bias).zip(&mut position_ids);
            // `zip` asks its left side first, so that the rows must lead or one place would be lost per member.
            for ((index, row), ((embedding, bias), position)) in member.suffix.iter().enumerate().zip(places) {
                embed(self.embedding, self.images, *row, embedding)?;
                write_windowed_bias(bias, &[0..self.prefix, start..start + index + 1], window);
                *position = (self.prefix + index) as i64;
            }
            let end = start + member.suffix.len();
            if let Some(logit_row) = logit_rows.next() {
                *logit_row = (end - self.prefix) as i64 - 1;
            }
            growing.push(Growing {
                member: *member,
                visible: vec![0..self.prefix, start..end],
                token_ids: Vec::new(),
                log_probabilities: Vec::new(),
                first_token_ms: 0.0,
                last_token_ms: 0.0,
                stop_reason: None,
            });
            start = end;
        }
        Ok(growing)
    }

    /// Prepares one decode step: the newest token of each active question, in new cache rows after `length`.
    fn fill_step(&mut self, growing: &mut [Growing<'_>], active: &[usize], length: usize) -> Result<(), EngineError> {
        let total = length + active.len();
        let (width, window) = (self.model.stage().hidden_size, self.model.stage().sliding_window);
        let inputs = self.model.prepare(length, active.len(), active.len())?;
        let places = inputs.embeddings.chunks_exact_mut(width.max(1)).zip(inputs.attention_bias.chunks_exact_mut(total.max(1)));
        let places = places.zip(inputs.position_ids).zip(inputs.logit_rows);
        for (slot, (&index, (((embedding, bias), position), logit_row))) in active.iter().zip(places).enumerate() {
            let Some(question) = growing.get_mut(index) else { continue };
            let token = question.token_ids.last().copied().unwrap_or(0);
            embed(self.embedding, self.images, Row::Token(token), embedding)?;
            question.see(length + slot);
            write_windowed_bias(bias, &question.visible, window);
            *position = (self.prefix + question.member.suffix.len() + question.token_ids.len()) as i64 - 1;
            *logit_row = slot as i64;
        }
        Ok(())
    }

    /// Runs and chooses a token for each wanted row; `None` if any row is not finite.
    fn run_and_choose(&mut self) -> Result<Option<Vec<Choice>>, EngineError> {
        Ok(self.model.run_and_choose()?.into_iter().collect())
    }

    /// Hands new tokens to the active questions and gives those that go on.
    fn take(&self, growing: &mut [Growing<'_>], active: &[usize], choices: &[Choice]) -> Vec<usize> {
        let now = milliseconds(self.started);
        let mut going_on = Vec::with_capacity(active.len());
        for (&index, choice) in active.iter().zip(choices) {
            let Some(question) = growing.get_mut(index) else { continue };
            question.push(*choice, now);
            if question.stop_reason.is_none() {
                going_on.push(index);
            }
        }
        going_on
    }
}

impl Growing<'_> {
    /// Lets the question see its own new cache row.
    fn see(&mut self, row: usize) {
        match self.visible.last_mut() {
            Some(range) if range.end == row => range.end += 1,
            _ => self.visible.push(row..row + 1),
        }
    }

    pub(super) fn push(&mut self, choice: Choice, now_ms: f64) {
        if self.token_ids.is_empty() {
            self.first_token_ms = now_ms;
        }
        self.last_token_ms = now_ms;
        self.token_ids.push(choice.token);
        self.log_probabilities.push(choice.log_probability);
        self.stop_reason = self.member.stop.check(&self.token_ids);
        if self.stop_reason.is_none() && self.token_ids.len() >= self.member.max_new_tokens {
            self.stop_reason = Some(StopReason::MaxNewTokens);
        }
    }

    pub(super) fn finish(mut self) -> Generation {
        let decoded_tokens = self.token_ids.len();
        let stop_reason = self.stop_reason.unwrap_or(StopReason::MaxNewTokens);
        if stop_reason == StopReason::EndOfSequence {
            self.token_ids.pop();
            self.log_probabilities.pop();
        }
        Generation {
            token_ids: self.token_ids,
            log_probabilities: self.log_probabilities,
            stop_reason,
            first_token_ms: self.first_token_ms,
            remaining_tokens_ms: self.last_token_ms - self.first_token_ms,
            decoded_tokens,
        }
    }
}

/// Prepares a run of rows that follow `past` rows of the same sequence, with the logits of the last.
pub(super) fn fill(
    model: &mut LanguageModel,
    embedding: &EmbeddingTable,
    images: &[Option<EncodedImage>],
    past: usize,
    rows: &[Row],
) -> Result<(), EngineError> {
    let (width, window) = (model.stage().hidden_size, model.stage().sliding_window);
    let total = past + rows.len();
    let inputs = model.prepare(past, rows.len(), 1)?;
    let places = inputs.embeddings.chunks_exact_mut(width.max(1)).zip(inputs.attention_bias.chunks_exact_mut(total.max(1)));
    for (index, (row, ((target, bias), position))) in rows.iter().zip(places.zip(inputs.position_ids)).enumerate() {
        embed(embedding, images, *row, target)?;
        write_windowed_bias(bias, std::slice::from_ref(&(0..past + index + 1)), window);
        *position = (past + index) as i64;
    }
    if let Some(logit_row) = inputs.logit_rows.first_mut() {
        *logit_row = rows.len() as i64 - 1;
    }
    Ok(())
}

/// Writes what the language model sees of one row.
pub(super) fn embed(
    embedding: &EmbeddingTable,
    images: &[Option<EncodedImage>],
    row: Row,
    target: &mut [f32],
) -> Result<(), EngineError> {
    let written = match row {
        Row::Token(token) => embedding.write_row(token, target),
        Row::Image { image, row } => match images.get(image).and_then(Option::as_ref) {
            Some(encoded) => match encoded.embeds()?.chunks_exact(encoded.width().max(1)).nth(row) {
                Some(source) if source.len() == target.len() => {
                    target.copy_from_slice(source);
                    true
                }
                _ => false,
            },
            None => false,
        },
    };
    // Requests are checked before anything runs, so that this is a broken promise between this room's own parts.
    if written {
        Ok(())
    } else {
        Err(EngineError::Runtime { doing: "embedding a prompt".to_owned(), message: format!("there is no {row:?}") })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::path::Path;

    use proptest::prelude::*;

    use super::super::options::EngineOptions;
    use super::super::runtime;
    use super::super::session::Graph;
    use super::*;
    use crate::package::Package;

    struct Never;

    impl StopRule for Never {
        fn check(&self, _: &[u32]) -> Option<StopReason> {
            None
        }
    }

    fn tiny() -> (LanguageModel, EmbeddingTable) {
        tiny_with_window(None)
    }

    fn tiny_with_window(sliding_window: Option<usize>) -> (LanguageModel, EmbeddingTable) {
        let package = Package::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/engine/tiny")).unwrap();
        let loaded = runtime::load(&Default::default(), &mut |_| {}).unwrap();
        let stage = &package.manifest.llm;
        let graph = Graph::load(loaded, &package.root, &stage.graph, &EngineOptions::default(), false).unwrap();
        let embedding = EmbeddingTable::open(&package.root, &stage.embedding, &graph.path).unwrap();
        let stage = crate::package::LanguageModelStage { sliding_window, ..stage.clone() };
        let mut model = LanguageModel::new(graph, &stage).unwrap();
        model.reserve(64).unwrap();
        (model, embedding)
    }

    /// Answers of questions that share a prefix, from one pack, or each on its own from its whole prompt.
    fn answers(
        (model, embedding): &mut (LanguageModel, EmbeddingTable),
        prefix: &[u32],
        questions: &[Vec<u32>],
        packed: bool,
    ) -> Vec<Generation> {
        let mut answers = Vec::new();
        let suffixes: Vec<Vec<Row>> =
            questions.iter().map(|question| rows(&if packed { question.clone() } else { [prefix, question].concat() })).collect();
        let member = |(request, suffix)| Member { request, suffix, max_new_tokens: 6, stop: &Never };
        let members: Vec<Member<'_>> = suffixes.iter().map(Vec::as_slice).enumerate().map(member).collect();
        for pack in members.chunks(if packed { members.len() } else { 1 }) {
            let mut timings = StageTimings::default();
            let mut tree = Tree::new(model, embedding, &[], Instant::now(), &mut timings);
            if packed {
                tree.prefill_prefix(&rows(prefix)).unwrap();
            }
            answers.extend(tree.answer_pack(pack).unwrap().into_iter().map(|(_, outcome)| outcome.unwrap()));
        }
        answers
    }

    fn rows(tokens: &[u32]) -> Vec<Row> {
        tokens.iter().map(|&token| Row::Token(token)).collect()
    }

    /// Bits of all logits of question `place`, after the suffixes and after one decode step, in which the questions are fed
    /// the tokens `fed`.
    fn logit_bits(questions: &[Vec<u32>], fed: &[u32], place: usize) -> Vec<u32> {
        thread_local! {
            static MODEL: RefCell<(LanguageModel, EmbeddingTable)> = RefCell::new(tiny());
        }
        MODEL.with_borrow_mut(|(model, embedding)| {
            let suffixes: Vec<Vec<Row>> = questions.iter().map(|tokens| rows(tokens)).collect();
            let members: Vec<Member<'_>> = suffixes
                .iter()
                .enumerate()
                .map(|(request, suffix)| Member { request, suffix, max_new_tokens: 8, stop: &Never })
                .collect();
            let mut timings = StageTimings::default();
            let mut tree = Tree::new(model, embedding, &[], Instant::now(), &mut timings);
            tree.prefill_prefix(&rows(&[1, 5, 9])).unwrap();
            let mut growing = tree.fill_suffixes(&members).unwrap();
            let mut bits: Vec<u32> = tree.model.run().unwrap().nth(place).unwrap().iter().map(|x| x.to_bits()).collect();
            for (question, &token) in growing.iter_mut().zip(fed) {
                question.push(Choice { token, log_probability: 0.0 }, 0.0);
            }
            let all: Vec<usize> = (0..members.len()).collect();
            let length = 3 + suffixes.iter().map(Vec::len).sum::<usize>();
            tree.fill_step(&mut growing, &all, length).unwrap();
            bits.extend(tree.model.run().unwrap().nth(place).unwrap().iter().map(|x| x.to_bits()));
            bits
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

        /// At equal lengths, what the neighbours say does not change one bit of one logit.
        #[test]
        fn neighbours_change_no_bit(
            mine in prop::collection::vec(0_u32..95, 1..6),
            before in prop::collection::vec((0_u32..95, 0_u32..95), 1..6),
            after in prop::collection::vec((0_u32..95, 0_u32..95), 1..6),
            fed in (0_u32..95, 0_u32..95, 0_u32..95),
        ) {
            let side = |pairs: &[(u32, u32)], left: bool| -> Vec<u32> {
                pairs.iter().map(|pair| if left { pair.0 } else { pair.1 }).collect()
            };
            let one = logit_bits(&[side(&before, true), mine.clone(), side(&after, true)], &[fed.0, 7, fed.1], 1);
            let other = logit_bits(&[side(&before, false), mine, side(&after, false)], &[fed.1, 7, fed.2], 1);
            prop_assert_eq!(one, other);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

        /// With a window far smaller than the prompts, a pack answers as each question alone does: the window follows
        /// positions, which a pack's cache rows are not. Without the window the answers' probabilities are others.
        #[test]
        fn a_window_slides_in_a_pack_as_it_does_alone(
            prefix in prop::collection::vec(0_u32..95, 4..9),
            questions in prop::collection::vec(prop::collection::vec(0_u32..95, 1..7), 2..4),
            window in 1_usize..6,
        ) {
            thread_local! {
                static MODELS: RefCell<Vec<(LanguageModel, EmbeddingTable)>> =
                    RefCell::new((0..6).map(|window| tiny_with_window((window > 0).then_some(window))).collect());
            }
            MODELS.with_borrow_mut(|models| {
                let packed = answers(&mut models[window], &prefix, &questions, true);
                let alone = answers(&mut models[window], &prefix, &questions, false);
                let unlimited = answers(&mut models[0], &prefix, &questions, false);
                for ((packed, alone), unlimited) in packed.iter().zip(&alone).zip(&unlimited) {
                    prop_assert_eq!(&packed.token_ids, &alone.token_ids);
                    for (one, other) in packed.log_probabilities.iter().zip(&alone.log_probabilities) {
                        // Sums of the same few numbers in runs of other lengths.
                        prop_assert!((one - other).abs() < 1e-4, "{one} {other}");
                    }
                    prop_assert!(unlimited.log_probabilities != alone.log_probabilities);
                }
                Ok(())
            })?;
        }
    }

    /// Tokens that are chosen in their place are those that the host chooses.
    #[test]
    fn tokens_chosen_in_place_are_those_of_the_logits() {
        let questions = [vec![4, 8, 15], vec![16], vec![23, 42]];
        let mut model = tiny();
        let expected = answers(&mut model, &[1, 5, 9], &questions, true);
        let loaded = runtime::load(&Default::default(), &mut |_| {}).unwrap();
        let vocabulary = model.0.stage().vocabulary_size;
        let chooser = super::super::chooser::Chooser::new(loaded, vocabulary, &EngineOptions::default()).unwrap();
        model.0.read_logits_in_place(chooser);
        for (found, expected) in answers(&mut model, &[1, 5, 9], &questions, true).iter().zip(&expected) {
            assert_eq!(found.token_ids, expected.token_ids);
            for (found, expected) in found.log_probabilities.iter().zip(&expected.log_probabilities) {
                assert!((found - expected).abs() < 1e-4, "{found} {expected}");
            }
        }
    }

    #[test]
    fn adjacent_rows_are_seen_as_one_range() {
        let member = Member { request: 0, suffix: &[], max_new_tokens: 9, stop: &Never };
        let mut question = Growing {
            member,
            visible: vec![0..3, 3..5],
            token_ids: Vec::new(),
            log_probabilities: Vec::new(),
            first_token_ms: 0.0,
            last_token_ms: 0.0,
            stop_reason: None,
        };
        for row in [5, 6, 8, 9, 12] {
            question.see(row);
        }
        assert_eq!(question.visible, [0..3, 3..7, 8..10, 12..13]);
    }
}
