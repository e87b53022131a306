//! Choosing tokens on a GPU: logits stay there, and what is read of them crosses over.

use ort::memory::Allocator;
use ort::session::{IoBinding, Session};
use ort::value::{DynTensor, Tensor};

use super::options::EngineOptions;
use super::runtime::Loaded;
use super::sampling::Choice;
use super::session::{runtime_error, small_session};
use super::types::EngineError;
use crate::package::choice_graph;

/// A row of logits and a token.
pub(super) type Target = [usize; 2];

/// What chooses.
pub(super) struct Chooser {
    session: Session,
    binding: IoBinding,
}

/// What is read of some rows of logits.
struct Read {
    tokens: Vec<f32>,
    largest: Vec<f32>,
    log_sums: Vec<f32>,
    chosen: Vec<f32>,
}

const DOING: &str = "choosing tokens";

fn failed<R>(error: ort::Error<R>) -> EngineError {
    runtime_error(DOING)(error)
}

impl Chooser {
    /// For logits of so many tokens, under the options of the graph that gives them.
    pub fn new(runtime: &Loaded, vocabulary: usize, options: &EngineOptions) -> Result<Self, EngineError> {
        let broken = |message: String| EngineError::Runtime { doing: DOING.to_owned(), message };
        let graph = choice_graph(vocabulary).map_err(|error| broken(error.to_string()))?;
        let session = small_session(runtime, options, "the graph that chooses tokens", &graph)?;
        let binding = session.create_binding().map_err(failed)?;
        Ok(Self { session, binding })
    }

    /// The largest logit of each of these rows `[rows, vocabulary]`, as [`super::sampling::greedy`] gives it.
    pub fn greedy(&mut self, logits: &DynTensor, rows: usize) -> Result<Vec<Option<Choice>>, EngineError> {
        let read = self.read(logits, rows, &[[0, 0]])?;
        let choice = |(token, log_sum): (&f32, &f32)| {
            // A place of a vocabulary, exact in 32 bits.
            let found = log_sum.is_finite() && *token >= 0.0;
            found.then_some(Choice { token: *token as u32, log_probability: -*log_sum })
        };
        Ok(read.tokens.iter().zip(&read.log_sums).map(choice).collect())
    }

    /// Natural-log probability of each target; `None` where a logit of its row is not finite.
    pub fn log_probabilities(
        &mut self,
        logits: &DynTensor,
        rows: usize,
        targets: &[Target],
    ) -> Result<Vec<Option<f32>>, EngineError> {
        let read = self.read(logits, rows, targets)?;
        let number = |([row, _], chosen): (&Target, &f32)| {
            let (largest, log_sum) = (f64::from(*read.largest.get(*row)?), f64::from(*read.log_sums.get(*row)?));
            let number = f64::from(*chosen) - largest - log_sum;
            number.is_finite().then_some(number as f32)
        };
        Ok(targets.iter().zip(&read.chosen).map(number).collect())
    }

    fn read(&mut self, logits: &DynTensor, rows: usize, targets: &[Target]) -> Result<Read, EngineError> {
        // Rows and tokens are indices of buffers in memory.
        let flat: Vec<i64> = targets.iter().flatten().map(|&index| index as i64).collect();
        let targets = Tensor::from_array(([targets.len(), 2], flat)).map_err(failed)?;
        self.binding.bind_input("logits", logits).map_err(failed)?;
        self.binding.bind_input("targets", &targets).map_err(failed)?;
        let allocator = Allocator::default();
        let outputs = [("token", rows), ("largest", rows), ("log_sum", rows)];
        let mut tensors = Vec::with_capacity(outputs.len());
        for (name, rows) in outputs {
            let mut tensor = Tensor::<f32>::new(&allocator, [rows, 1]).map_err(failed)?;
            self.binding.bind_output(name, &mut tensor).map_err(failed)?;
            tensors.push(tensor);
        }
        let count = usize::try_from(targets.shape().first().copied().unwrap_or(0)).unwrap_or(0);
        let mut chosen = Tensor::<f32>::new(&allocator, [count]).map_err(failed)?;
        self.binding.bind_output("chosen", &mut chosen).map_err(failed)?;
        self.binding.synchronize_inputs().map_err(failed)?;
        drop(self.session.run_binding(&self.binding).map_err(failed)?);
        let numbers =
            |tensor: &Tensor<f32>| tensor.try_extract_tensor::<f32>().map(|(_, values)| values.to_vec()).map_err(failed);
        let mut read = tensors.iter().map(numbers);
        let mut next = || read.next().unwrap_or_else(|| Ok(Vec::new()));
        Ok(Read { tokens: next()?, largest: next()?, log_sums: next()?, chosen: numbers(&chosen)? })
    }
}

#[cfg(test)]
mod tests {
    use super::super::runtime;
    use super::super::sampling::{greedy, log_probability, log_sum};
    use super::*;

    /// Rows of logits as models give them, one with two equal largest ones.
    fn rows(count: usize, vocabulary: usize) -> Vec<f32> {
        let mut values: Vec<f32> =
            (0..count * vocabulary).map(|index| 9.0 * (0.7 * index as f32).sin() - 3.0 * (0.013 * index as f32).cos()).collect();
        values[vocabulary + 5] = 20.0;
        values[vocabulary + 2] = 20.0;
        values
    }

    fn tensor(values: Vec<f32>, vocabulary: usize) -> DynTensor {
        Tensor::from_array(([values.len() / vocabulary, vocabulary], values)).unwrap().upcast()
    }

    fn chooser(vocabulary: usize) -> Chooser {
        let loaded = runtime::load(&Default::default(), &mut |_| {}).unwrap();
        Chooser::new(loaded, vocabulary, &EngineOptions::default()).unwrap()
    }

    #[test]
    fn the_graph_chooses_what_the_host_chooses() {
        let (count, vocabulary) = (4, 1_003);
        let values = rows(count, vocabulary);
        let mut chooser = chooser(vocabulary);
        let logits = tensor(values.clone(), vocabulary);
        let chosen = chooser.greedy(&logits, count).unwrap();
        let targets: Vec<Target> = (0..9).map(|index| [index % count, (index * 211) % vocabulary]).collect();
        let numbers = chooser.log_probabilities(&logits, count, &targets).unwrap();
        assert_eq!(chosen.len(), count);
        for (row, chosen) in values.chunks(vocabulary).zip(&chosen) {
            let (chosen, expected) = (chosen.unwrap(), greedy(row).unwrap());
            assert_eq!(chosen.token, expected.token);
            assert!((chosen.log_probability - expected.log_probability).abs() < 1e-5);
        }
        assert_eq!(chosen[1].unwrap().token, 2, "the lowest of equal ones");
        for ([row, token], number) in targets.iter().zip(numbers) {
            let row = &values[row * vocabulary..(row + 1) * vocabulary];
            let expected = log_probability(row, log_sum(row).unwrap(), *token as u32).unwrap();
            assert!((number.unwrap() - expected).abs() < 1e-5);
        }
    }

    #[test]
    fn a_row_that_is_not_finite_has_no_choice_and_no_numbers() {
        let vocabulary = 64;
        let mut chooser = chooser(vocabulary);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for place in [0, 31, 63] {
                let mut values = rows(3, vocabulary);
                values[vocabulary + place] = bad;
                let logits = tensor(values, vocabulary);
                let chosen = chooser.greedy(&logits, 3).unwrap();
                assert_eq!(chosen.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true], "{bad} at {place}");
                let numbers = chooser.log_probabilities(&logits, 3, &[[0, 3], [1, 7], [2, 63]]).unwrap();
                assert_eq!(numbers.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true], "{bad} at {place}");
            }
        }
    }
}
