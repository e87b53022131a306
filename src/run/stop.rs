//! When the answer to a sample is complete.

use crate::benchmark::{Reference, ScorerSpec};
use crate::engine::{StopReason, StopRule};
use crate::prompt::{Finish, Prompter};
use crate::score;

/// Tokens within which an answer may decide its score. Closed answers do so in the first few; what goes on for longer is not
/// decoded anew at each token.
const DECISION_TOKENS: usize = 64;

/// The package's own stop rules for one sample, and the end as soon as the answer decides its score, where that is wanted.
pub(super) struct SampleStop<'a> {
    /// Where the package's rules are.
    pub prompter: &'a Prompter,
    /// How the answer is scored, where it is to end once that is decided.
    pub decided_by: Option<(&'a ScorerSpec, &'a Reference)>,
}

impl StopRule for SampleStop<'_> {
    fn check(&self, token_ids: &[u32]) -> Option<StopReason> {
        match self.prompter.finished(token_ids) {
            Finish::Eos => return Some(StopReason::EndOfSequence),
            Finish::StopString => return Some(StopReason::StopString),
            Finish::No => {}
        }
        let (scorer, reference) = self.decided_by.filter(|_| token_ids.len() <= DECISION_TOKENS)?;
        let settled = self.prompter.settled(token_ids)?;
        score::decided(scorer, reference, &settled).then_some(StopReason::Decided)
    }
}
