//! How far the answers of packages of one checkpoint lie apart: each sample is asked of the base package, and every other package is
//! led along the base's own answer, so that all of them are asked for the same next tokens.

use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use super::CalibrationError;
use super::collect::check_benchmark;
use crate::benchmark::{Benchmark, ImageStore, Sample};
use crate::engine::{EngineError, EngineOptions, ImageTiles, LoadedEngine, Request, Trace};
use crate::package::Package;
use crate::prompt::Prompter;
use crate::run::{Plan, PreparedImages, PrompterStop, peak_memory_bytes, reset_peak_memory, sample_segments};
use crate::stats::{divergence_of_logits, wilson_interval};

/// What is asked of all packages.
pub struct AgreementQuestion<'a> {
    /// The benchmark.
    pub benchmark: &'a Benchmark,
    /// What is asked.
    pub plan: &'a Plan,
    /// Tokens of the base's answer that are looked at, at most.
    pub max_new_tokens: usize,
    /// Set from a signal handler to end the work.
    pub stop: &'a AtomicBool,
    /// Told the package, how many of its prompts are done, and of how many.
    pub progress: &'a dyn Fn(&str, usize, usize),
}

/// A share with its 95 % interval of Wilson.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Share {
    /// How many agree.
    pub agreeing: usize,
    /// Of how many.
    pub of: usize,
    /// The share.
    pub share: f64,
    /// Its interval, which takes them as independent.
    pub interval: [f64; 2],
}

/// How one package's next tokens lie from the base's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// Prompts that both packages answered.
    pub prompts: usize,
    /// Mean Kullback–Leibler divergence `D(base ‖ package)` of the first token's distribution, in nats.
    pub first_token_mean_kl: f64,
    /// The largest of them.
    pub first_token_max_kl: f64,
    /// How often the first token is the same.
    pub first_token: Share,
    /// How often the most likely token is the same at the positions of the base's answer, given the base's answer so far.
    pub led_tokens: Share,
    /// Largest difference of a logit.
    pub logit_max_error: f64,
    /// Root of the mean square difference of the logits.
    pub logit_rms_error: f64,
    /// The same as a share of the root mean square of the base's logits, each row's mean taken away.
    pub logit_relative_error: f64,
}

/// One package of the comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparedPackage {
    /// Name.
    pub name: String,
    /// Identity hash.
    pub identity: String,
    /// Precision of vision encoder, projector and language model.
    pub precision: [&'static str; 3],
    /// Bytes of all files.
    pub disk_bytes: u64,
    /// Highest memory mark while it was loaded and asked, in bytes; what the comparison itself keeps is in it.
    pub peak_memory_bytes: Option<u64>,
    /// Milliseconds that loading took.
    pub load_ms: f64,
    /// Absent for the base, which is compared with nothing.
    pub agreement: Option<Agreement>,
}

/// What the base package said to a prompt.
struct BaseAnswer {
    token_ids: Vec<u32>,
    /// Logits from which each of them was chosen, one row after another.
    logits: Vec<f32>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PackageComparison {
    /// The base first.
    pub packages: Vec<ComparedPackage>,
    /// Samples that were asked.
    pub samples: usize,
    /// What is wrong with samples that were left out.
    pub left_out: Vec<String>,
}

/// Asks the first package, and leads all others along its answers.
pub fn compare_packages(
    packages: &[Package],
    options: &EngineOptions,
    question: &AgreementQuestion<'_>,
) -> Result<PackageComparison, CalibrationError> {
    check_benchmark(question.benchmark)?;
    let Some((base, others)) = packages.split_first() else {
        return Ok(PackageComparison { packages: Vec::new(), samples: 0, left_out: Vec::new() });
    };
    let base_prompter = Prompter::open(base)?;
    for other in others {
        check_tokens(base, &base_prompter, other)?;
    }
    let samples = question.plan.samples();
    let (mut answers, mut left_out) = (Vec::with_capacity(samples), Vec::new());
    let described = ask(
        base,
        options,
        question,
        &mut left_out,
        |_, trace| {
            // Row by row in memory, as they were appended.
            answers
                .push(trace.map(|trace| BaseAnswer { token_ids: trace.token_ids, logits: trace.logits.into_iter().collect() }));
        },
        None,
    )?;
    if answers.iter().all(Option::is_none) {
        let reason = left_out.into_iter().next().unwrap_or_else(|| "no sample was selected".to_owned());
        return Err(CalibrationError::NothingUsable { benchmark: question.benchmark.spec.name.clone(), samples, reason });
    }
    let mut compared = vec![described];
    for other in others {
        let mut sums = Sums::default();
        let mut described = ask(
            other,
            options,
            question,
            &mut left_out,
            |index, trace| {
                if let (Some(Some(base)), Some(trace)) = (answers.get(index), trace) {
                    sums.add(base, &trace);
                }
            },
            Some(&answers),
        )?;
        described.agreement = Some(sums.finish().ok_or_else(|| CalibrationError::NothingUsable {
            benchmark: question.benchmark.spec.name.clone(),
            samples,
            reason: format!("{} gives no finite logits", other.manifest.name),
        })?);
        compared.push(described);
    }
    Ok(PackageComparison { packages: compared, samples: answers.iter().flatten().count(), left_out })
}

/// Tokens must mean the same to both packages, and there must be as many.
fn check_tokens(base: &Package, prompter: &Prompter, other: &Package) -> Result<(), CalibrationError> {
    let sizes = [base, other].map(|package| package.manifest.llm.vocabulary_size);
    let problem = match prompter.token_conflict(&Prompter::open(other)?) {
        _ if sizes[0] != sizes[1] => format!("the vocabularies have {} and {} tokens", sizes[0], sizes[1]),
        Some((token, base_id, id)) => format!("token {token:?} is {base_id} and {id}"),
        None => return Ok(()),
    };
    Err(CalibrationError::Unequal { base: base.manifest.name.clone(), other: other.manifest.name.clone(), problem })
}

/// Asks one package all samples, each alone, and hands on what its stages gave by the sample's place in the plan. With `lead`, along
/// the base's answers.
fn ask(
    package: &Package,
    options: &EngineOptions,
    question: &AgreementQuestion<'_>,
    left_out: &mut Vec<String>,
    mut hand_on: impl FnMut(usize, Option<Trace>),
    lead: Option<&[Option<BaseAnswer>]>,
) -> Result<ComparedPackage, CalibrationError> {
    reset_peak_memory();
    let prompter = Prompter::open(package)?;
    let mut engine = LoadedEngine::load(package, options)?;
    let stop = PrompterStop { prompter: &prompter };
    let (mut index, total) = (0, question.plan.samples());
    for group in &question.plan.groups {
        let prepared = PreparedImages::of_group(&group.images, &ImageStore::default(), &package.manifest);
        let samples = group.samples.iter().filter_map(|&index| question.benchmark.samples.get(index));
        for sample in samples {
            if question.stop.load(Ordering::Relaxed) {
                return Err(CalibrationError::Interrupted);
            }
            let forced = match lead {
                Some(answers) => match answers.get(index) {
                    Some(Some(answer)) => Some(answer.token_ids.as_slice()),
                    // The base has no answer: there is nothing to compare.
                    _ => {
                        index += 1;
                        continue;
                    }
                },
                None => None,
            };
            let traced = match &prepared {
                Ok(prepared) => trace(&mut engine, &prompter, sample, &prepared.images, question, &stop, forced)?,
                Err(message) => Err(message.clone()),
            };
            hand_on(index, traced.map_err(|message| left_out.push(message)).ok());
            index += 1;
            (question.progress)(&package.manifest.name, index, total);
        }
    }
    let manifest = &package.manifest;
    Ok(ComparedPackage {
        name: manifest.name.clone(),
        identity: package.identity.clone(),
        precision: [manifest.precision.vision, manifest.precision.projector, manifest.precision.llm]
            .map(crate::package::Precision::as_str),
        disk_bytes: manifest.files.iter().map(|file| file.bytes).sum(),
        peak_memory_bytes: peak_memory_bytes(),
        load_ms: engine.load_ms(),
        agreement: None,
    })
}

/// One prompt alone; the inner error concerns this sample only.
fn trace(
    engine: &mut LoadedEngine,
    prompter: &Prompter,
    sample: &Sample,
    images: &[ImageTiles],
    question: &AgreementQuestion<'_>,
    stop: &PrompterStop<'_>,
    forced: Option<&[u32]>,
) -> Result<Result<Trace, String>, CalibrationError> {
    let segments = match sample_segments(prompter, sample) {
        Ok(segments) => segments,
        Err(error) => return Ok(Err(format!("{}: {error}", sample.key))),
    };
    let request = Request { segments, max_new_tokens: question.max_new_tokens, stop };
    match engine.trace_single(images, &request, forced) {
        Ok(trace) => Ok(Ok(trace)),
        Err(EngineError::Request { message, .. }) => Ok(Err(format!("{}: {message}", sample.key))),
        Err(error) => Err(error.into()),
    }
}

/// Sums over all prompts.
#[derive(Default)]
struct Sums {
    prompts: usize,
    divergence: f64,
    largest_divergence: f64,
    first_agreeing: usize,
    tokens: usize,
    agreeing: usize,
    largest_error: f64,
    error_squares: f64,
    base_squares: f64,
    logits: usize,
}

impl Sums {
    /// Adds a prompt, unless its logits are not finite.
    fn add(&mut self, base: &BaseAnswer, trace: &Trace) {
        let steps = base.token_ids.len();
        let width = base.logits.len() / steps.max(1);
        let rows: Vec<(&[f32], Vec<f32>)> =
            base.logits.chunks_exact(width.max(1)).zip(trace.logits.rows()).map(|(base, row)| (base, row.to_vec())).collect();
        let divergences: Vec<f64> = rows.iter().map_while(|(base, new)| divergence_of_logits(base, new)).collect();
        let Some(first) = divergences.first().filter(|_| divergences.len() == steps && rows.len() == steps) else { return };
        self.prompts += 1;
        self.divergence += first;
        self.largest_divergence = self.largest_divergence.max(*first);
        self.first_agreeing += usize::from(base.token_ids.first() == trace.token_ids.first());
        self.tokens += steps;
        self.agreeing += base.token_ids.iter().zip(&trace.token_ids).filter(|(base, new)| base == new).count();
        for (base, new) in rows {
            let mean = base.iter().map(|&logit| f64::from(logit)).sum::<f64>() / width as f64;
            for (&base, &new) in base.iter().zip(&new) {
                let error = f64::from(new) - f64::from(base);
                self.largest_error = self.largest_error.max(error.abs());
                self.error_squares += error * error;
                self.base_squares += (f64::from(base) - mean).powi(2);
            }
            self.logits += width;
        }
    }

    fn finish(&self) -> Option<Agreement> {
        let (prompts, logits) = (self.prompts as f64, self.logits as f64);
        Some(Agreement {
            prompts: self.prompts,
            first_token_mean_kl: self.divergence / prompts,
            first_token_max_kl: self.largest_divergence,
            first_token: share(self.first_agreeing, self.prompts)?,
            led_tokens: share(self.agreeing, self.tokens)?,
            logit_max_error: self.largest_error,
            logit_rms_error: (self.error_squares / logits).sqrt(),
            logit_relative_error: if self.base_squares > 0.0 { (self.error_squares / self.base_squares).sqrt() } else { 0.0 },
        })
    }
}

/// `None` of nothing.
fn share(agreeing: usize, of: usize) -> Option<Share> {
    let interval = wilson_interval(agreeing as u64, of as u64, 0.95)?;
    Some(Share { agreeing, of, share: agreeing as f64 / of as f64, interval })
}
