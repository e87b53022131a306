//! An engine without a model: answers come from a script. For tests of whatever drives an engine.

use super::types::{
    ChoiceGroup, ChoiceRequest, Engine, EngineError, Generation, GroupAnswer, ImageGroup, LikelihoodAnswer, Likelihoods,
    RequestFailure, StageTimings, StopReason,
};

/// What the script says to one question.
#[derive(Clone, Debug, PartialEq)]
pub struct MockAnswer {
    /// The ids that the "model" would go on generating; the request's stop rule and limit cut them as they would a real
    /// answer. Where they run out, generation ends as if with an end-of-sequence token.
    pub token_ids: Vec<u32>,
    /// Natural-log probability given to every token.
    pub log_probability: f32,
    /// Milliseconds to the first token, counted from the start of the group.
    pub first_token_ms: f64,
    /// Milliseconds of each further token.
    pub token_ms: f64,
}

impl MockAnswer {
    /// An answer of these tokens, with timings that are the same on every machine: 10 ms to the first token, 1 ms each after.
    pub fn new(token_ids: impl Into<Vec<u32>>) -> Self {
        Self { token_ids: token_ids.into(), log_probability: -0.5, first_token_ms: 10.0, token_ms: 1.0 }
    }
}

/// What the script gives for question `index` of a group: an answer, a failure of that question, or an error that fails the
/// whole group.
pub type MockReply = Result<Result<MockAnswer, RequestFailure>, EngineError>;

type Script = Box<dyn FnMut(&ImageGroup<'_>, usize) -> MockReply + Send>;

/// Natural-log probabilities of the tokens of a question's candidates.
type LikelihoodScript = Box<dyn FnMut(&ChoiceRequest) -> Result<Vec<Vec<f32>>, RequestFailure> + Send>;

/// An engine that asks a script. It does not sleep: the timings are only reported.
pub struct MockEngine {
    script: Script,
    likelihoods: Option<LikelihoodScript>,
}

impl MockEngine {
    /// An engine that answers question `index` of each group with what `script` gives.
    pub fn new(script: impl FnMut(&ImageGroup<'_>, usize) -> MockReply + Send + 'static) -> Self {
        Self { script: Box::new(script), likelihoods: None }
    }

    /// The same engine, which gives the candidates of a question what `script` says of them.
    pub fn with_likelihoods(
        self,
        script: impl FnMut(&ChoiceRequest) -> Result<Vec<Vec<f32>>, RequestFailure> + Send + 'static,
    ) -> Self {
        Self { likelihoods: Some(Box::new(script)), ..self }
    }
}

impl Engine for MockEngine {
    fn answer(&mut self, group: &ImageGroup<'_>) -> Result<GroupAnswer, EngineError> {
        let mut answers = Vec::with_capacity(group.requests.len());
        let mut timings = StageTimings::default();
        for (index, request) in group.requests.iter().enumerate() {
            let answer = (self.script)(group, index)?.map(|answer| {
                let mut token_ids = Vec::new();
                let mut stop_reason = None;
                let mut decoded_tokens = 0;
                for &token in answer.token_ids.iter().take(request.max_new_tokens) {
                    token_ids.push(token);
                    decoded_tokens += 1;
                    stop_reason = request.stop.check(&token_ids);
                    if stop_reason.is_some() {
                        break;
                    }
                }
                let stop_reason = stop_reason.unwrap_or_else(|| {
                    if decoded_tokens >= request.max_new_tokens {
                        StopReason::MaxNewTokens
                    } else {
                        decoded_tokens += 1;
                        token_ids.push(0);
                        StopReason::EndOfSequence
                    }
                });
                if stop_reason == StopReason::EndOfSequence {
                    token_ids.pop();
                }
                Generation {
                    log_probabilities: vec![answer.log_probability; token_ids.len()],
                    token_ids,
                    stop_reason,
                    first_token_ms: answer.first_token_ms,
                    remaining_tokens_ms: answer.token_ms * decoded_tokens.saturating_sub(1) as f64,
                    decoded_tokens,
                }
            });
            if let Ok(generation) = &answer {
                timings.prefill_ms = timings.prefill_ms.max(generation.first_token_ms);
                timings.decode_ms = timings.decode_ms.max(generation.remaining_tokens_ms);
                timings.decode_steps = timings.decode_steps.max(generation.decoded_tokens.saturating_sub(1));
            }
            answers.push(answer);
        }
        Ok(GroupAnswer { answers, timings })
    }

    fn likelihoods(&mut self, group: &ChoiceGroup<'_>) -> Result<LikelihoodAnswer, EngineError> {
        let Some(script) = &mut self.likelihoods else {
            let (doing, message) = ("computing likelihoods".to_owned(), "the script has none".to_owned());
            return Err(EngineError::Runtime { doing, message });
        };
        let mut answer = |request| Ok(Likelihoods { log_probabilities: script(request)?, ready_ms: 10.0 });
        let answers = group.requests.iter().map(&mut answer).collect();
        Ok(LikelihoodAnswer { answers, timings: StageTimings { prefill_ms: 10.0, ..StageTimings::default() } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Request, Segment, StopRule};

    struct StopAt(u32, StopReason);

    impl StopRule for StopAt {
        fn check(&self, token_ids: &[u32]) -> Option<StopReason> {
            (token_ids.last() == Some(&self.0)).then_some(self.1)
        }
    }

    fn answer(stop: StopAt, max_new_tokens: usize) -> Generation {
        let requests = [Request { segments: vec![Segment::Tokens(vec![1])], max_new_tokens, stop: &stop }];
        let mut engine = MockEngine::new(|_, _| Ok(Ok(MockAnswer::new([5, 6, 7]))));
        engine.answer(&ImageGroup { images: &[], requests: &requests }).unwrap().answers.remove(0).unwrap()
    }

    #[test]
    fn scripted_answers_end_as_real_ones_do() {
        let generation = answer(StopAt(6, StopReason::EndOfSequence), 10);
        assert_eq!((generation.token_ids, generation.stop_reason), (vec![5], StopReason::EndOfSequence));
        assert_eq!((generation.decoded_tokens, generation.log_probabilities.len()), (2, 1));
        let generation = answer(StopAt(6, StopReason::StopString), 10);
        assert_eq!((generation.token_ids, generation.stop_reason), (vec![5, 6], StopReason::StopString));
        let generation = answer(StopAt(99, StopReason::StopString), 2);
        assert_eq!((generation.token_ids, generation.stop_reason), (vec![5, 6], StopReason::MaxNewTokens));
        let generation = answer(StopAt(99, StopReason::StopString), 10);
        assert_eq!((generation.token_ids, generation.stop_reason), (vec![5, 6, 7], StopReason::EndOfSequence));
        assert_eq!((generation.decoded_tokens, generation.remaining_tokens_ms), (4, 3.0));
    }

    #[test]
    fn a_question_may_fail_alone_or_with_its_group() {
        let stop = StopAt(99, StopReason::StopString);
        let request = || Request { segments: vec![Segment::Tokens(vec![1])], max_new_tokens: 4, stop: &stop };
        let requests = [request(), request()];
        let group = ImageGroup { images: &[], requests: &requests };
        let failure = RequestFailure::NonFiniteLogits { step: 0 };
        let expected = failure.clone();
        let mut engine =
            MockEngine::new(move |_, index| Ok(if index == 0 { Err(failure.clone()) } else { Ok(MockAnswer::new([1])) }));
        let answers = engine.answer(&group).unwrap().answers;
        assert_eq!(answers[0], Err(expected));
        assert!(answers[1].is_ok());
        let mut engine = MockEngine::new(|_, index| Err(EngineError::Request { index, message: "no".to_owned() }));
        assert!(engine.answer(&group).is_err());
    }
}
