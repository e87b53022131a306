//! Tests and sweeps: from what was asked for to a list of tests.

use super::BenchError;

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// One image through vision encoder and projector.
    Image,
    /// So many tokens through the language model, on top of nothing.
    Prefill {
        /// Tokens.
        tokens: usize,
    },
    /// Decoding on top of a context.
    Decode {
        /// Steps.
        tokens: usize,
        /// Tokens in the cache before the first step.
        depth: usize,
        /// Answers that grow side by side.
        rows: usize,
    },
    /// Questions about one image through the real scheduler, from pixels to tokens.
    Questions {
        /// Questions.
        questions: usize,
        /// New tokens of each, whatever they are.
        new_tokens: usize,
    },
    /// Likelihoods of four options of three tokens for each of so many questions about one image.
    Score {
        /// Questions.
        questions: usize,
    },
}

impl Test {
    /// The name in tables, which [`expand`] reads, too.
    pub fn name(&self) -> String {
        match self {
            Self::Image => "img".to_owned(),
            Self::Prefill { tokens } => format!("prefill {tokens}"),
            Self::Decode { tokens, depth, rows: 1 } => format!("decode {tokens}@{depth}"),
            Self::Decode { tokens, depth, rows } => format!("decode {tokens}@{depth}x{rows}"),
            Self::Questions { questions, new_tokens } => format!("questions {questions}x{new_tokens}"),
            Self::Score { questions } => format!("score {questions}"),
        }
    }

    /// How many of what are done in one repetition: the rate counts these.
    pub fn units(&self) -> (f64, &'static str) {
        match *self {
            Self::Image => (1.0, "images"),
            Self::Prefill { tokens } => (tokens as f64, "tokens"),
            Self::Decode { tokens, rows, .. } => ((tokens * rows) as f64, "tokens"),
            Self::Questions { questions, .. } | Self::Score { questions } => (questions as f64, "questions"),
        }
    }
}

/// Sizes for tests that are named without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sweeps {
    /// Tokens of a prefill.
    pub prefill: Vec<usize>,
    /// Tokens decoded.
    pub decode: Vec<usize>,
    /// Depths of decoding.
    pub depth: Vec<usize>,
    /// Answers that decode side by side.
    pub rows: Vec<usize>,
    /// Questions of an image.
    pub questions: Vec<usize>,
    /// New tokens of a question.
    pub new_tokens: Vec<usize>,
}

/// Most sizes of a list.
const LONGEST_SWEEP: usize = 1_000;
/// Largest size.
const LARGEST: usize = 1 << 20;

/// Reads `1,6,32`, `128-2048+128` (in steps) and `128-2048*2` (in factors), also mixed. Sizes begin at `least`.
pub fn parse_sweep(text: &str, least: usize) -> Result<Vec<usize>, BenchError> {
    let fault = |expected| BenchError::Sweep { found: text.to_owned(), expected };
    let number = |part: &str| {
        let number = part.trim().parse::<usize>().ok().filter(|number| (least..=LARGEST).contains(number));
        number.ok_or_else(|| fault("numbers such as 128,636, ranges such as 128-2048+128 or 128-2048*2, from 1 to 1048576"))
    };
    let mut sizes: Vec<usize> = Vec::new();
    for part in text.split(',') {
        let Some((first, rest)) = part.split_once('-') else {
            sizes.push(number(part)?);
            continue;
        };
        let mut at = number(first)?;
        let (last, step, factor) = match (rest.split_once('+'), rest.split_once('*')) {
            (Some((last, step)), _) => (number(last)?, number(step)?.max(1), 1),
            (None, Some((last, factor))) => (number(last)?, 0, number(factor)?),
            (None, None) => return Err(fault("a range needs a step: first-last+step or first-last*factor")),
        };
        if at > last || (step == 0 && (factor < 2 || at == 0)) {
            return Err(fault("a range goes up: first at most last, a factor of at least 2 and not from 0"));
        }
        while at <= last {
            if sizes.len() >= LONGEST_SWEEP {
                return Err(fault("at most 1000 sizes"));
            }
            sizes.push(at);
            at = at * factor + step;
        }
    }
    Ok(sizes)
}

/// The tests that were asked for, each once: `name` alone stands for all sizes of the sweeps, `name size` for itself.
pub fn expand(asked: &[String], sweeps: &Sweeps) -> Result<Vec<Test>, BenchError> {
    let mut tests: Vec<Test> = Vec::new();
    for text in asked {
        let fault = || BenchError::Test { found: text.clone() };
        let (kind, size) = match text.trim().split_once(char::is_whitespace) {
            Some((kind, size)) => (kind, Some(size.trim())),
            None => (text.trim(), None),
        };
        let positive = |text: &str| text.parse::<usize>().ok().filter(|size| (1..=LARGEST).contains(size)).ok_or_else(fault);
        let own = |size: Option<&str>, all: &[usize]| match size {
            Some(size) => positive(size).map(|size| vec![size]),
            None => Ok(all.to_vec()),
        };
        let new: Vec<Test> = match kind {
            "img" if size.is_none() => vec![Test::Image],
            "prefill" => own(size, &sweeps.prefill)?.into_iter().map(|tokens| Test::Prefill { tokens }).collect(),
            "decode" => {
                let (size, rows) =
                    match size.map(|size| size.split_once('x').map_or((size, None), |(size, rows)| (size, Some(rows)))) {
                        Some((size, rows)) => (Some(size), rows),
                        None => (None, None),
                    };
                let (tokens, depth) =
                    match size.map(|size| size.split_once('@').map_or((size, None), |(n, depth)| (n, Some(depth)))) {
                        Some((tokens, depth)) => (Some(tokens), depth),
                        None => (None, None),
                    };
                let depths = match depth {
                    Some(depth) => vec![depth.parse::<usize>().ok().filter(|depth| *depth <= LARGEST).ok_or_else(fault)?],
                    None => sweeps.depth.clone(),
                };
                let (counts, rows) = (own(tokens, &sweeps.decode)?, own(rows, if size.is_some() { &[1] } else { &sweeps.rows })?);
                let mut all = Vec::new();
                for &tokens in &counts {
                    for &depth in &depths {
                        all.extend(rows.iter().map(|&rows| Test::Decode { tokens, depth, rows }));
                    }
                }
                all
            }
            "questions" => {
                let (questions, new_tokens) =
                    match size.map(|size| size.split_once('x').map_or((size, None), |(q, n)| (q, Some(n)))) {
                        Some((questions, new_tokens)) => (Some(questions), new_tokens),
                        None => (None, None),
                    };
                let lengths = own(new_tokens, &sweeps.new_tokens)?;
                let each = |questions| lengths.iter().map(move |&new_tokens| Test::Questions { questions, new_tokens });
                own(questions, &sweeps.questions)?.into_iter().flat_map(each).collect()
            }
            "score" => own(size, &sweeps.questions)?.into_iter().map(|questions| Test::Score { questions }).collect(),
            _ => return Err(fault()),
        };
        for test in new {
            if !tests.contains(&test) {
                tests.push(test);
            }
        }
    }
    Ok(tests)
}
