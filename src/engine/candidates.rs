//! Planning the likelihoods of candidates: which candidates of which questions run together. Pure code.
//!
//! A candidate of n tokens needs n − 1 rows: its first token is predicted by the last row of the prompt, and nothing is
//! predicted by its last token.

use std::ops::Range;

use super::types::{ChoiceGroup, EngineError, Likelihoods, RequestFailure};

/// Most logits that one run may give, in bytes: a long list of candidates asks for many rows of a long vocabulary.
const LOGITS_LIMIT_BYTES: usize = 256 << 20;

/// What a pack of candidates may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Rows of one pack.
    pub packed_rows: usize,
    /// Rows of the cache, prefix included.
    pub positions: usize,
    /// Rows whose logits one run gives.
    pub logit_rows: usize,
}

impl Limits {
    pub fn new(packed_rows: usize, positions: usize, vocabulary_size: usize) -> Self {
        let row_bytes = vocabulary_size.max(1).saturating_mul(size_of::<f32>());
        Self { packed_rows, positions, logit_rows: (LOGITS_LIMIT_BYTES / row_bytes).max(1) }
    }
}

/// A question that is to be packed.
#[derive(Clone, Debug)]
pub(super) struct Question {
    /// Position in the group.
    pub request: usize,
    /// Rows after the shared prefix, at least 1.
    pub suffix_rows: usize,
    /// Tokens of each candidate, each at least 1.
    pub candidate_tokens: Vec<usize>,
}

/// Some candidates of a question that run on top of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Position of the question in the group.
    pub request: usize,
    /// Its candidates.
    pub candidates: Range<usize>,
}

/// Parts that run together over one shared prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CandidatePack {
    pub parts: Vec<Part>,
    /// Rows after the prefix.
    pub rows: usize,
    logit_rows: usize,
}

/// Splits questions into packs, in order and greedily, so that the same group is always split the same way. A question stays
/// in one piece if it can; otherwise its own rows run again for each part. A single candidate is always a part, whatever its
/// size. Without a shared prefix each candidate is a pack of its own, because the attention kernel wants positions that
/// restart only on top of a past.
pub(super) fn packs(prefix: usize, questions: &[Question], limits: Limits) -> Vec<CandidatePack> {
    let fits = |pack: &CandidatePack, rows: usize, logit_rows: usize| {
        let all = pack.rows.saturating_add(rows);
        all <= limits.packed_rows
            && prefix.saturating_add(all) <= limits.positions
            && pack.logit_rows.saturating_add(logit_rows) <= limits.logit_rows
    };
    let mut packs: Vec<CandidatePack> = Vec::new();
    for question in questions {
        let count = question.candidate_tokens.len();
        let branch_rows = |range: Range<usize>| -> usize {
            let tokens = question.candidate_tokens.get(range).unwrap_or_default();
            tokens.iter().map(|tokens| tokens.saturating_sub(1)).fold(0, usize::saturating_add)
        };
        let add = |packs: &mut Vec<CandidatePack>, candidates: Range<usize>, new: bool| {
            let branches = branch_rows(candidates.clone());
            if new || packs.is_empty() {
                packs.push(CandidatePack::default());
            }
            if let Some(pack) = packs.last_mut() {
                pack.rows = pack.rows.saturating_add(question.suffix_rows).saturating_add(branches);
                pack.logit_rows = pack.logit_rows.saturating_add(1).saturating_add(branches);
                pack.parts.push(Part { request: question.request, candidates });
            }
        };
        if prefix == 0 {
            (0..count).for_each(|candidate| add(&mut packs, candidate..candidate + 1, true));
            continue;
        }
        let (rows, logit_rows) = (question.suffix_rows.saturating_add(branch_rows(0..count)), 1 + branch_rows(0..count));
        if packs.last().is_some_and(|pack| fits(pack, rows, logit_rows)) {
            add(&mut packs, 0..count, false);
        } else if fits(&CandidatePack::default(), rows, logit_rows) {
            add(&mut packs, 0..count, true);
        } else {
            let mut start = 0;
            while start < count {
                let mut end = start + 1;
                while end < count {
                    let branches = branch_rows(start..end + 1);
                    if !fits(&CandidatePack::default(), question.suffix_rows.saturating_add(branches), 1 + branches) {
                        break;
                    }
                    end += 1;
                }
                add(&mut packs, start..end, true);
                start = end;
            }
        }
    }
    packs
}

/// Refuses what no engine can rank: no candidate, an empty one, or a token beyond the vocabulary.
pub(super) fn check(group: &ChoiceGroup<'_>, vocabulary_size: usize, unembeddable: Option<u32>) -> Result<(), EngineError> {
    for (index, request) in group.requests.iter().enumerate() {
        let malformed = |message: String| Err(EngineError::Request { index, message });
        if request.candidates.is_empty() {
            return malformed("there is no candidate".to_owned());
        }
        for (number, candidate) in request.candidates.iter().enumerate() {
            if candidate.is_empty() {
                return malformed(format!("candidate {number} has no token"));
            }
            if let Some(token) = candidate.iter().find(|&&token| token as usize >= vocabulary_size) {
                return malformed(format!("token {token} of candidate {number} is beyond the vocabulary of {vocabulary_size}"));
            }
            if let Some(token) = unembeddable.filter(|token| candidate.contains(token)) {
                return malformed(format!("image token {token} in candidate {number}"));
            }
        }
    }
    Ok(())
}

/// The likelihoods of a question while its candidates are being run.
#[derive(Clone, Debug)]
pub(super) struct Collected {
    candidates: Vec<Option<Vec<f32>>>,
    failure: Option<RequestFailure>,
    ready_ms: f64,
}

impl Collected {
    pub fn new(candidates: usize) -> Self {
        Self { candidates: vec![None; candidates], failure: None, ready_ms: 0.0 }
    }

    /// A failure, once there is one, stays: a question needs all its candidates.
    pub fn fail(&mut self, failure: RequestFailure) {
        self.failure.get_or_insert(failure);
    }

    pub fn put(&mut self, candidate: usize, log_probabilities: Vec<f32>, now_ms: f64) {
        if let Some(slot) = self.candidates.get_mut(candidate) {
            *slot = Some(log_probabilities);
            self.ready_ms = now_ms;
        }
    }

    pub fn finish(self, index: usize) -> Result<Result<Likelihoods, RequestFailure>, EngineError> {
        if let Some(failure) = self.failure {
            return Ok(Err(failure));
        }
        let missing = || EngineError::Request { index, message: "a candidate was not planned".to_owned() };
        let log_probabilities = self.candidates.into_iter().map(|found| found.ok_or_else(missing)).collect::<Result<_, _>>()?;
        Ok(Ok(Likelihoods { log_probabilities, ready_ms: self.ready_ms }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn question(request: usize, suffix_rows: usize, candidate_tokens: &[usize]) -> Question {
        Question { request, suffix_rows, candidate_tokens: candidate_tokens.to_vec() }
    }

    fn limits(packed_rows: usize) -> Limits {
        Limits { packed_rows, positions: 1000, logit_rows: 1000 }
    }

    fn shape(packs: &[CandidatePack]) -> Vec<Vec<(usize, Range<usize>)>> {
        packs.iter().map(|pack| pack.parts.iter().map(|part| (part.request, part.candidates.clone())).collect()).collect()
    }

    #[test]
    fn all_candidates_of_all_questions_run_together() {
        let questions = [question(0, 3, &[1, 1, 1, 1]), question(2, 4, &[5, 2])];
        let packs = packs(9, &questions, limits(100));
        assert_eq!(shape(&packs), [[(0, 0..4), (2, 0..2)]]);
        // Letters need no rows of their own.
        assert_eq!(packs[0].rows, 3 + 4 + 4 + 1);
    }

    #[test]
    fn a_question_that_does_not_fit_is_split_and_keeps_its_own_rows() {
        let questions = [question(0, 3, &[3, 3, 3]), question(1, 3, &[1])];
        assert_eq!(shape(&packs(9, &questions, limits(7))), [vec![(0, 0..2)], vec![(0, 2..3)], vec![(1, 0..1)]][..]);
        assert_eq!(shape(&packs(9, &questions, limits(8))), [vec![(0, 0..2)], vec![(0, 2..3), (1, 0..1)]][..]);
        assert_eq!(shape(&packs(9, &questions, limits(1))).len(), 4, "a single candidate is always a part");
        assert_eq!(shape(&packs(0, &questions, limits(100))).len(), 4, "nothing is packed without a prefix");
        let few_logits = Limits { logit_rows: 4, ..limits(100) };
        assert_eq!(shape(&packs(9, &questions, few_logits)).len(), 3);
        let few_positions = Limits { positions: 9 + 7, ..limits(100) };
        assert_eq!(shape(&packs(9, &questions, few_positions)).len(), 3);
    }

    proptest! {
        #[test]
        fn every_candidate_runs_once_and_within_limits(
            questions in prop::collection::vec((1_usize..20, prop::collection::vec(1_usize..12, 1..6)), 0..20),
            prefix in 0_usize..20,
            packed_rows in 1_usize..80,
            positions in 40_usize..100,
            logit_rows in 1_usize..50,
        ) {
            let questions: Vec<Question> =
                questions.iter().enumerate().map(|(request, (suffix, tokens))| question(request, *suffix, tokens)).collect();
            let packs = packs(prefix, &questions, Limits { packed_rows, positions, logit_rows });
            let run: Vec<(usize, usize)> = packs
                .iter()
                .flat_map(|pack| &pack.parts)
                .flat_map(|part| part.candidates.clone().map(|candidate| (part.request, candidate)))
                .collect();
            let all: Vec<(usize, usize)> = questions
                .iter()
                .flat_map(|question| (0..question.candidate_tokens.len()).map(|candidate| (question.request, candidate)))
                .collect();
            prop_assert_eq!(run, all);
            for pack in &packs {
                let single = pack.parts.len() == 1 && pack.parts[0].candidates.len() == 1;
                prop_assert!(single || prefix > 0);
                prop_assert!(single || pack.rows <= packed_rows && prefix + pack.rows <= positions && pack.logit_rows <= logit_rows);
            }
        }
    }
}
