//! The tree with given answers: candidates as branches on top of their question, all in one run.
//!
//! Rows of the cache, for a prefix of 3 rows, question a (2 rows) with candidates of 3 and 2 tokens, and question b (1 row)
//! whose candidates have one token each:
//!
//! ```text
//! prefix prefix prefix | a a | a₁ a₁ | a₂ | b
//! ```
//!
//! A row of a₂ sees the prefix, the rows of a, and itself; its position counts as if it followed a at once. The last row of a
//! predicts the first token of both its candidates, and nobody asks what follows the last token of a candidate.

use std::time::Instant;

use super::candidates::Collected;
use super::chooser::Target;
use super::plan::{Row, write_windowed_bias};
use super::sampling;
use super::tree::{Tree, embed};
use super::types::{EngineError, RequestFailure};
use super::vision::milliseconds;

/// A question of a pack with some of its candidates.
#[derive(Clone, Debug)]
pub(super) struct Branching<'a> {
    /// Position in the group.
    pub request: usize,
    /// Its rows after the shared prefix, at least 1.
    pub suffix: &'a [Row],
    /// Numbers and tokens of its candidates.
    pub candidates: Vec<(usize, &'a [u32])>,
}

/// The numbers of one candidate: or the token whose logits are not finite.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RankedCandidate {
    pub request: usize,
    pub candidate: usize,
    /// Natural-log probability of each token, or the place of the first whose logits are not finite.
    pub outcome: Result<Vec<f32>, usize>,
}

/// What became of a pack: the numbers of its candidates, or the place of the first token whose logits are not finite.
pub(super) type PackOutcome = Result<Result<Vec<RankedCandidate>, usize>, EngineError>;

impl<'a> Tree<'a> {
    /// Runs a pack; see [`rank_apart`].
    pub(super) fn rank_pack(&mut self, members: &[Branching<'a>]) -> Result<Vec<RankedCandidate>, EngineError> {
        rank_apart(members, &mut |members| self.run_candidates(members))
    }

    fn run_candidates(&mut self, members: &[Branching<'a>]) -> PackOutcome {
        let started = Instant::now();
        let rows = self.fill_candidates(members)?;
        let ranked = match self.model.run_and_read(&targets(members))? {
            Some(numbers) => gather(numbers.into_iter(), members),
            None => rank(self.model.run()?, members),
        };
        self.timings.prefill_ms += milliseconds(started);
        self.timings.prefill_tokens += rows;
        ranked
    }

    /// Prepares the run of a pack and gives its number of rows.
    pub(super) fn fill_candidates(&mut self, members: &[Branching<'a>]) -> Result<usize, EngineError> {
        let branch_rows = |member: &Branching<'_>| -> usize {
            member.candidates.iter().map(|(_, tokens)| tokens.len().saturating_sub(1)).sum()
        };
        let branches: usize = members.iter().map(branch_rows).sum();
        let rows = members.iter().map(|member| member.suffix.len()).sum::<usize>() + branches;
        let total = self.prefix + rows;
        let (width, window) = (self.model.stage().hidden_size, self.model.stage().sliding_window);
        let inputs = self.model.prepare(self.prefix, rows, members.len() + branches)?;
        let places = inputs.embeddings.chunks_exact_mut(width.max(1)).zip(inputs.attention_bias.chunks_exact_mut(total.max(1)));
        let mut places = places.zip(inputs.position_ids);
        let mut logit_rows = inputs.logit_rows.iter_mut();
        let mut next = self.prefix;
        for member in members {
            let own = next..next + member.suffix.len();
            for ((index, row), ((embedding, bias), position)) in member.suffix.iter().enumerate().zip(&mut places) {
                embed(self.embedding, self.images, *row, embedding)?;
                write_windowed_bias(bias, &[0..self.prefix, own.start..own.start + index + 1], window);
                *position = (self.prefix + index) as i64;
            }
            next = own.end;
            // The rows of a question lead to its first tokens; those of its branches to the others.
            logit_rows.next().into_iter().for_each(|row| *row = (own.end - self.prefix) as i64 - 1);
            for (_, tokens) in &member.candidates {
                let start = next;
                let fed = tokens.iter().take(tokens.len().saturating_sub(1)).enumerate();
                for ((index, &token), ((embedding, bias), position)) in fed.zip(&mut places) {
                    embed(self.embedding, self.images, Row::Token(token), embedding)?;
                    write_windowed_bias(bias, &[0..self.prefix, own.clone(), start..start + index + 1], window);
                    *position = (self.prefix + member.suffix.len() + index) as i64;
                    logit_rows.next().into_iter().for_each(|row| *row = (next - self.prefix) as i64);
                    next += 1;
                }
            }
        }
        Ok(rows)
    }
}

/// The tokens of all candidates of a pack in order, each with the row of its logits.
fn targets(members: &[Branching<'_>]) -> Vec<Target> {
    let (mut targets, mut next) = (Vec::new(), 0);
    for member in members {
        let first = next;
        next += 1;
        for (_, tokens) in &member.candidates {
            for (place, &token) in tokens.iter().enumerate() {
                let row = if place == 0 { first } else { next };
                next += usize::from(place > 0);
                targets.push([row, token as usize]);
            }
        }
    }
    targets
}

/// Deals out the numbers of [`targets`], or gives the place of the first token that has none.
fn gather(mut numbers: impl Iterator<Item = Option<f32>>, members: &[Branching<'_>]) -> PackOutcome {
    let mut ranked = Vec::new();
    for member in members {
        for &(candidate, tokens) in &member.candidates {
            let mut log_probabilities = Vec::with_capacity(tokens.len());
            for place in 0..tokens.len() {
                let Some(number) = numbers.next().flatten() else { return Ok(Err(place)) };
                log_probabilities.push(number);
            }
            ranked.push(RankedCandidate { request: member.request, candidate, outcome: Ok(log_probabilities) });
        }
    }
    Ok(Ok(ranked))
}

/// Puts what was ranked in its place. A question with a candidate whose logits are not finite fails.
pub(super) fn take(ranked: Vec<RankedCandidate>, collected: &mut [Collected], now_ms: f64) {
    for ranked in ranked {
        let Some(collected) = collected.get_mut(ranked.request) else { continue };
        match ranked.outcome {
            Ok(log_probabilities) => collected.put(ranked.candidate, log_probabilities, now_ms),
            Err(step) => collected.fail(RequestFailure::NonFiniteLogits { step }),
        }
    }
}

/// Ranks a pack with `run`, which gives the place of the first token whose logits are not finite where there is one. The pack is
/// thrown away then, and each candidate runs alone over the same prefix, because a NaN spreads to every row of its run.
pub(super) fn rank_apart<'a>(
    members: &[Branching<'a>],
    run: &mut dyn FnMut(&[Branching<'a>]) -> PackOutcome,
) -> Result<Vec<RankedCandidate>, EngineError> {
    let step = match run(members)? {
        Ok(ranked) => return Ok(ranked),
        Err(step) => step,
    };
    if let [Branching { request, candidates, .. }] = members
        && let [(candidate, _)] = candidates.as_slice()
    {
        return Ok(vec![RankedCandidate { request: *request, candidate: *candidate, outcome: Err(step) }]);
    }
    let mut ranked = Vec::new();
    for member in members {
        for &candidate in &member.candidates {
            let alone = Branching { candidates: vec![candidate], ..*member };
            ranked.extend(rank_apart(std::slice::from_ref(&alone), run)?);
        }
    }
    Ok(ranked)
}

/// Reads the candidates' numbers from the logits of a pack, or gives the place of the first token whose logits are not finite.
pub(super) fn rank<'l>(mut logits: impl Iterator<Item = &'l [f32]>, members: &[Branching<'_>]) -> PackOutcome {
    let broken = || EngineError::Runtime {
        doing: "reading the logits of candidates".to_owned(),
        message: "there are fewer than were asked for".to_owned(),
    };
    let mut ranked = Vec::new();
    for member in members {
        let first = logits.next().ok_or_else(broken)?;
        let Some(first_sum) = sampling::log_sum(first) else { return Ok(Err(0)) };
        for &(candidate, tokens) in &member.candidates {
            let mut log_probabilities = Vec::with_capacity(tokens.len());
            for (place, &token) in tokens.iter().enumerate() {
                let (row, sum) = if place == 0 {
                    (first, first_sum)
                } else {
                    let row = logits.next().ok_or_else(broken)?;
                    let Some(sum) = sampling::log_sum(row) else { return Ok(Err(place)) };
                    (row, sum)
                };
                log_probabilities.push(sampling::log_probability(row, sum, token).ok_or_else(broken)?);
            }
            ranked.push(RankedCandidate { request: member.request, candidate, outcome: Ok(log_probabilities) });
        }
    }
    Ok(Ok(ranked))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::path::Path;

    use proptest::prelude::*;

    use super::super::decoder::LanguageModel;
    use super::super::embedding::EmbeddingTable;
    use super::super::options::EngineOptions;
    use super::super::runtime;
    use super::super::session::Graph;
    use super::super::types::StageTimings;
    use super::*;
    use crate::package::Package;

    fn tiny_with_window(sliding_window: Option<usize>) -> (LanguageModel, EmbeddingTable) {
        let package = Package::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/engine/tiny")).unwrap();
        let loaded = runtime::load(&Default::default(), &mut |_| {}).unwrap();
        let stage = &package.manifest.llm;
        let graph = Graph::load(loaded, &package.root, &stage.graph, &EngineOptions::default(), false).unwrap();
        let embedding = EmbeddingTable::open(&package.root, &stage.embedding, &graph.path).unwrap();
        let stage = crate::package::LanguageModelStage { sliding_window, ..stage.clone() };
        let mut model = LanguageModel::new(graph, &stage).unwrap();
        model.reserve(192).unwrap();
        (model, embedding)
    }

    fn rows(tokens: &[u32]) -> Vec<Row> {
        tokens.iter().map(|&token| Row::Token(token)).collect()
    }

    /// The numbers of all candidates of questions over a prefix, from one pack, or each candidate from its whole prompt alone.
    fn numbers(
        (model, embedding): &mut (LanguageModel, EmbeddingTable),
        prefix: &[u32],
        questions: &[(Vec<u32>, Vec<Vec<u32>>)],
        packed: bool,
    ) -> Vec<Vec<f32>> {
        let suffixes: Vec<Vec<Row>> =
            questions.iter().map(|(own, _)| rows(&if packed { own.clone() } else { [prefix, own].concat() })).collect();
        let mut members = Vec::new();
        for (request, (suffix, (_, candidates))) in suffixes.iter().zip(questions).enumerate() {
            let candidates: Vec<(usize, &[u32])> = candidates.iter().map(Vec::as_slice).enumerate().collect();
            if packed {
                members.push(Branching { request, suffix, candidates });
            } else {
                members.extend(candidates.into_iter().map(|one| Branching { request, suffix, candidates: vec![one] }));
            }
        }
        let mut found = Vec::new();
        for pack in members.chunks(if packed { members.len() } else { 1 }) {
            let mut timings = StageTimings::default();
            let mut tree = Tree::new(model, embedding, &[], Instant::now(), &mut timings);
            if packed {
                tree.prefill_prefix(&rows(prefix)).unwrap();
            }
            found.extend(tree.rank_pack(pack).unwrap().into_iter().map(|ranked| ranked.outcome.unwrap()));
        }
        found
    }

    /// Logits that are read in their place give what logits on the host give.
    #[test]
    fn numbers_read_in_place_are_those_of_the_logits() {
        let questions = [
            (vec![4, 8], vec![vec![3, 4, 5], vec![6]]),
            (vec![7], vec![vec![9], vec![11, 12]]),
            (vec![3, 3, 2], vec![vec![5, 6]]),
        ];
        let mut model = tiny_with_window(None);
        let expected = numbers(&mut model, &[1, 5, 9], &questions, true);
        let loaded = runtime::load(&Default::default(), &mut |_| {}).unwrap();
        let vocabulary = model.0.stage().vocabulary_size;
        let chooser = super::super::chooser::Chooser::new(loaded, vocabulary, &EngineOptions::default()).unwrap();
        model.0.read_logits_in_place(chooser);
        let found = numbers(&mut model, &[1, 5, 9], &questions, true);
        assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), expected.iter().map(Vec::len).collect::<Vec<_>>());
        for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
            assert!((found - expected).abs() < 1e-4, "{found} {expected}");
        }
    }

    fn bits(numbers: &[Vec<f32>]) -> Vec<Vec<u32>> {
        numbers.iter().map(|numbers| numbers.iter().map(|number| number.to_bits()).collect()).collect()
    }

    type Neighbour = (Vec<(u32, u32)>, Vec<Vec<(u32, u32)>>);

    /// A question and its candidates, each token in two versions.
    fn neighbour() -> impl Strategy<Value = Neighbour> {
        let tokens = |lengths| prop::collection::vec((0_u32..95, 0_u32..95), lengths);
        (tokens(1..4), prop::collection::vec(tokens(1..4), 1..4))
    }

    fn side((own, candidates): &Neighbour, left: bool) -> (Vec<u32>, Vec<Vec<u32>>) {
        let choose = |pairs: &[(u32, u32)]| pairs.iter().map(|pair| if left { pair.0 } else { pair.1 }).collect::<Vec<_>>();
        (choose(own), candidates.iter().map(|candidate| choose(candidate)).collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

        /// At equal lengths, neither other questions nor the other candidates of a question change one bit of a candidate.
        #[test]
        fn neighbours_change_no_bit(
            before in neighbour(),
            (own, candidates) in (prop::collection::vec(0_u32..95, 1..4), prop::collection::vec(0_u32..95, 1..5)),
            sibling in prop::collection::vec((0_u32..95, 0_u32..95), 1..5),
            after in neighbour(),
        ) {
            thread_local! {
                static MODEL: RefCell<(LanguageModel, EmbeddingTable)> = RefCell::new(tiny_with_window(None));
            }
            let ranked = |left: bool| MODEL.with_borrow_mut(|model| {
                let other = sibling.iter().map(|pair| if left { pair.0 } else { pair.1 }).collect();
                let questions = [side(&before, left), (own.clone(), vec![other, candidates.clone()]), side(&after, left)];
                let all = bits(&numbers(model, &[1, 5, 9], &questions, true));
                all[before.1.len() + 1].clone()
            });
            prop_assert_eq!(ranked(true), ranked(false));
        }

        /// With a window far smaller than the prompts, a pack gives each candidate what it has alone: the window follows
        /// positions, which a pack's cache rows are not.
        #[test]
        fn a_window_slides_over_branches_as_it_does_alone(
            prefix in prop::collection::vec(0_u32..95, 4..9),
            questions in prop::collection::vec(neighbour(), 2..4),
            window in 0_usize..6,
        ) {
            thread_local! {
                static MODELS: RefCell<Vec<(LanguageModel, EmbeddingTable)>> =
                    RefCell::new((0..6).map(|window| tiny_with_window((window > 0).then_some(window))).collect());
            }
            let questions: Vec<_> = questions.iter().map(|question| side(question, true)).collect();
            MODELS.with_borrow_mut(|models| {
                let packed = numbers(&mut models[window], &prefix, &questions, true);
                let alone = numbers(&mut models[window], &prefix, &questions, false);
                prop_assert_eq!(packed.len(), alone.len());
                for (packed, alone) in packed.iter().flatten().zip(alone.iter().flatten()) {
                    // Sums of the same few numbers in runs of other lengths.
                    prop_assert!((packed - alone).abs() < 1e-4, "{packed} {alone}");
                }
                let others = numbers(&mut models[(window + 1) % 6], &prefix, &questions, false);
                prop_assert!(bits(&alone) != bits(&others), "a window of one more position says something else");
                Ok(())
            })?;
        }
    }
}
