//! Likelihoods of candidates on our own graphs.

use std::time::Instant;

use super::candidates::{self, Collected, Limits, Question};
use super::options::Scheduling;
use super::ort_engine::OrtEngine;
use super::plan::{self, Row};
use super::tree::Tree;
use super::tree_candidates::{Branching, take};
use super::types::{ChoiceGroup, EngineError, LikelihoodAnswer, StageTimings};
use super::vision::milliseconds;
use crate::package::RowLayout;

impl OrtEngine {
    /// The likelihoods of all candidates of a group.
    pub(super) fn rank(&mut self, group: &ChoiceGroup<'_>) -> Result<LikelihoodAnswer, EngineError> {
        candidates::check(group, self.embedding.rows().min(self.model.stage().vocabulary_size), None)?;
        let layouts = self.layouts(group.images);
        let mut timings = StageTimings::default();
        let mut collected: Vec<Collected> =
            group.requests.iter().map(|request| Collected::new(request.candidates.len())).collect();
        let mut prompts = Vec::with_capacity(group.requests.len());
        for (index, (request, collected)) in group.requests.iter().zip(&mut collected).enumerate() {
            match self.spelled_out(index, &request.segments, request.longest_candidate(), &layouts)? {
                Ok(rows) => prompts.push((index, rows)),
                Err(failure) => collected.fail(failure),
            }
        }
        let fitting: Vec<(usize, &[Row])> = prompts.iter().map(|(index, rows)| (*index, rows.as_slice())).collect();
        match self.options.scheduling {
            Scheduling::PackedTree | Scheduling::AcrossImages => {
                let prefix = plan::shared_prefix(fitting.iter().map(|(_, rows)| *rows));
                if prefix > 0 {
                    self.rank_together(group, &layouts, &fitting, prefix, &mut collected, &mut timings)?;
                } else {
                    // What questions do not share, the candidates of one still do: its prompt, but for the last row.
                    for prompt in &fitting {
                        let prefix = prompt.1.len().saturating_sub(1);
                        let alone = std::slice::from_ref(prompt);
                        self.rank_together(group, &layouts, alone, prefix, &mut collected, &mut timings)?;
                    }
                }
            }
            Scheduling::OneByOne => {
                for prompt in &fitting {
                    self.rank_together(group, &layouts, std::slice::from_ref(prompt), 0, &mut collected, &mut timings)?;
                }
            }
        }
        let answers = collected.into_iter().enumerate().map(|(index, collected)| collected.finish(index));
        Ok(LikelihoodAnswer { answers: answers.collect::<Result<_, _>>()?, timings })
    }

    /// Ranks the candidates of these prompts, whose first `prefix` rows are the same.
    fn rank_together(
        &mut self,
        group: &ChoiceGroup<'_>,
        layouts: &[Result<RowLayout, String>],
        prompts: &[(usize, &[Row])],
        prefix: usize,
        collected: &mut [Collected],
        timings: &mut StageTimings,
    ) -> Result<(), EngineError> {
        let started = Instant::now();
        let images = prompts.iter().flat_map(|(_, rows)| rows.iter());
        let images = images.filter_map(|row| if let Row::Image { image, row: 0 } = row { Some(*image) } else { None });
        let encoded = self.encode(group.images, layouts, images.collect(), false, timings)?;

        let mut questions = Vec::with_capacity(prompts.len());
        for &(request, rows) in prompts {
            let candidates = group.requests.get(request).map(|request| request.candidates.as_slice()).unwrap_or_default();
            let candidate_tokens = candidates.iter().map(Vec::len).collect();
            questions.push(Question { request, suffix_rows: rows.len().saturating_sub(prefix), candidate_tokens });
        }
        let limits = Limits::new(self.limits.packed_tokens, self.maximum_rows(), self.model.stage().vocabulary_size);
        let packs = candidates::packs(prefix, &questions, limits);
        self.model.reserve(prefix + packs.iter().map(|pack| pack.rows).max().unwrap_or(0))?;

        let mut tree = Tree::new(&mut self.model, &self.embedding, &encoded, started, timings);
        if prefix > 0
            && let Some((_, rows)) = prompts.first()
        {
            tree.prefill_prefix(rows.get(..prefix).unwrap_or_default())?;
        }
        for pack in &packs {
            let mut members = Vec::with_capacity(pack.parts.len());
            for part in &pack.parts {
                let (Some(request), Some((_, rows))) =
                    (group.requests.get(part.request), prompts.iter().find(|(index, _)| *index == part.request))
                else {
                    continue;
                };
                let candidates = part.candidates.clone();
                let candidates = candidates.filter_map(|number| Some((number, request.candidates.get(number)?.as_slice())));
                let suffix = rows.get(prefix..).unwrap_or_default();
                members.push(Branching { request: part.request, suffix, candidates: candidates.collect() });
            }
            take(tree.rank_pack(&members)?, collected, milliseconds(started));
        }
        Ok(())
    }
}
