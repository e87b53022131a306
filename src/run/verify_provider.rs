//! A package on a provider against a reference on the CPU in fp32, stage by stage.
//!
//! The reference is another package of the same checkpoint, or the package itself where there is none: the CPU computes in fp32
//! whatever the weights are stored in. It says what every stage gives and which tokens follow. Then each stage of the package takes
//! the place of the reference's, alone, and runs on the provider: what differs is this stage's own error. At last the
//! whole package runs there, led along the reference's tokens. The prompts are those of a parity fixture, or made up where
//! there is none.

use ndarray::{ArrayView, Dimension};
use serde::Serialize;

use super::conductor::segments;
use super::error::RunError;
use super::images::PreparedImages;
use super::verify::{FIXTURE, Fixture, StageDifference, relative_limit};
use crate::engine::provider::TensorRtPrecision;
use crate::engine::{
    EngineOptions, ImageTiles, LoadedEngine, LoadedStage, PlacementOptions, Provider, ProviderOptions, Request, Segment,
    StopReason, StopRule, Trace,
};
use crate::package::{Package, Precision, StageName};
use crate::prompt::Prompter;

/// Largest accepted error of a stage in fp32, as the norm of the difference over that of the reference's output. Another order of
/// additions gives about 1e-6, after many layers 1e-5; a wrong mask, scale or order of numbers gives about 1.
const EXACT_LIMIT: f64 = 1e-4;

/// Largest accepted error of precisions that only other programs write: that of their like, 4-bit weights.
const OTHER_LIMIT: f64 = 0.6;

/// Least share of next tokens in fp32 that are the reference's on a GPU, whose kernels may add up in another order each time: the share of
/// determinism class D1. On the CPU all are.
const EQUAL_TOKENS_ON_GPU: f64 = 0.995;

/// Most tokens that a case is led along.
const MOST_STEPS: usize = 16;

/// Made-up prompts, and their tokens before the image and after it.
const MADE_UP_CASES: u32 = 2;
const MADE_UP_TOKENS: usize = 8;
const MADE_UP_STEPS: usize = 4;

/// The largest error of one stage over all cases.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageCheck {
    /// `vision`, `projector` or `llm`, each alone on the provider; or `whole`, the package as it runs.
    pub stage: String,
    /// What was compared: `features`, `image_embeds` or `logits`.
    pub output: &'static str,
    /// The difference.
    pub difference: StageDifference,
    /// Largest accepted relative difference.
    pub limit: f64,
    /// Whether it is within the limit.
    pub passed: bool,
}

/// A package on a provider against the reference on the CPU.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProviderCheck {
    /// The provider by its short name.
    pub provider: String,
    /// Name of the package that the CPU ran.
    pub reference: String,
    /// Where the prompts come from: `parity fixture` or `made up`.
    pub prompts: &'static str,
    /// Prompts.
    pub cases: usize,
    /// Stage by stage, then the whole. Of a package that another program wrote the whole alone.
    pub stages: Vec<StageCheck>,
    /// Next tokens, led along the reference's.
    pub tokens: usize,
    /// How many of them are the reference's.
    pub tokens_equal: usize,
    /// The least share of them that must be; `None` where the precision decides by the errors alone.
    pub least_equal_tokens: Option<f64>,
    /// Whether all is within its limits.
    pub passed: bool,
}

/// A prompt.
struct Case {
    images: Vec<ImageTiles>,
    segments: Vec<Segment>,
    steps: usize,
}

/// Answers have as many tokens as are asked for.
struct Never;

impl StopRule for Never {
    fn check(&self, _: &[u32]) -> Option<StopReason> {
        None
    }
}

impl Case {
    fn request(&self) -> Request<'static> {
        Request { segments: self.segments.clone(), max_new_tokens: self.steps, stop: &Never }
    }
}

/// Whether a package folder has a parity fixture.
pub fn has_parity_fixture(root: &std::path::Path) -> bool {
    root.join(FIXTURE).is_file()
}

/// Compares `engine`, which is the package's, with `reference` on the CPU. The engine is given up before the stages are
/// loaded one by one.
pub fn verify_provider(
    package: &Package,
    reference: &Package,
    prompter: &Prompter,
    mut engine: LoadedEngine,
) -> Result<ProviderCheck, RunError> {
    let options = engine.options().clone();
    let on_cpu =
        EngineOptions { provider: ProviderOptions::default(), placement: PlacementOptions::default(), ..options.clone() };
    let mut cpu = LoadedEngine::load(reference, &on_cpu)?;
    let (prompts, cases) = cases(package, reference, prompter)?;
    let mut expected = Vec::with_capacity(cases.len());
    let (mut whole, mut tokens, mut tokens_equal) = (StageDifference::default(), 0, 0);
    for case in &cases {
        let trace = cpu.trace_single(&case.images, &case.request(), None)?;
        let own = engine.trace_single(&case.images, &case.request(), Some(&trace.token_ids))?;
        whole = whole.worse(between(package, "logits", own.logits.view(), trace.logits.view())?);
        tokens += trace.token_ids.len();
        tokens_equal += trace.token_ids.iter().zip(&own.token_ids).filter(|(expected, own)| expected == own).count();
        expected.push(trace);
    }
    drop(engine);
    let limits = Limits::of(package, &options);
    let mut stages = Vec::new();
    if package.manifest.foreign.is_none() && reference.manifest.foreign.is_none() {
        for stage in StageName::ALL {
            let (output, difference) = alone(package, stage, (&options, &mut cpu), &cases, &expected)?;
            stages.push(check(stage.as_str(), output, difference, limits.of_stage(stage)));
        }
    }
    let of_all = limits.vision.max(limits.projector).max(limits.llm);
    stages.push(check("whole", "logits", whole, of_all));
    let least_equal_tokens = (of_all <= EXACT_LIMIT).then_some(match options.provider.provider {
        Provider::Cpu => 1.0,
        Provider::Cuda | Provider::TensorRt => EQUAL_TOKENS_ON_GPU,
    });
    let enough = least_equal_tokens.is_none_or(|least| tokens_equal as f64 >= least * tokens as f64);
    Ok(ProviderCheck {
        provider: options.provider.provider.as_str().to_owned(),
        reference: reference.manifest.name.clone(),
        prompts,
        cases: cases.len(),
        passed: enough && stages.iter().all(|stage| stage.passed),
        stages,
        tokens,
        tokens_equal,
        least_equal_tokens,
    })
}

fn check(stage: &str, output: &'static str, difference: StageDifference, limit: f64) -> StageCheck {
    // Written so that an error that is no number does not pass.
    let passed = difference.relative <= limit && difference.max_absolute.is_finite();
    StageCheck { stage: stage.to_owned(), output, difference, limit, passed }
}

/// The error of one stage of the package that runs with the other two of the reference. These are put back.
fn alone(
    package: &Package,
    stage: StageName,
    (options, cpu): (&EngineOptions, &mut LoadedEngine),
    cases: &[Case],
    expected: &[Trace],
) -> Result<(&'static str, StageDifference), RunError> {
    let output = match stage {
        StageName::Vision => "features",
        StageName::Projector => "image_embeds",
        StageName::Llm => "logits",
    };
    let mut worst = StageDifference::default();
    let Some(engine) = cpu.own() else { return Ok((output, worst)) };
    let mut loaded = LoadedStage::load(package, stage, options)?;
    engine.exchange(&mut loaded)?;
    for (case, expected) in cases.iter().zip(expected) {
        let difference = match stage {
            StageName::Vision => {
                let found = engine.image_stages(&case.images)?;
                between(package, output, found.features.view(), expected.features.view())?
            }
            StageName::Projector => {
                let found = engine.image_stages(&case.images)?;
                between(package, output, found.image_embeds.view(), expected.image_embeds.view())?
            }
            StageName::Llm => {
                let found = engine.trace_single(&case.images, &case.request(), Some(&expected.token_ids))?;
                between(package, output, found.logits.view(), expected.logits.view())?
            }
        };
        worst = worst.worse(difference);
    }
    engine.exchange(&mut loaded)?;
    Ok((output, worst))
}

fn between<D: Dimension>(
    package: &Package,
    output: &str,
    own: ArrayView<'_, f32, D>,
    reference: ArrayView<'_, f32, D>,
) -> Result<StageDifference, RunError> {
    if own.shape() != reference.shape() {
        return Err(RunError::Parity {
            path: package.root.clone(),
            message: format!(
                "its {output} have shape {:?}, the reference's {:?}: the reference is another model's",
                own.shape(),
                reference.shape()
            ),
        });
    }
    Ok(StageDifference::between(own, reference))
}

/// Accepted relative errors.
struct Limits {
    vision: f64,
    projector: f64,
    llm: f64,
}

impl Limits {
    fn of(package: &Package, options: &EngineOptions) -> Self {
        let (precision, record) = (package.manifest.precision, package.manifest.quantisation.as_ref());
        let of = |own: Precision, names: &[&str], other: Option<Precision>| {
            let parts = record.iter().flat_map(|record| record.parts());
            let named = parts.filter(|(name, _)| names.contains(name)).map(|(_, part)| part.scheme);
            let precisions: Vec<Precision> = [own].into_iter().chain(named).chain(other).collect();
            limit(&precisions, &options.provider)
        };
        Self {
            vision: of(precision.vision, &["vision"], None),
            projector: of(precision.projector, &["projector"], None),
            llm: of(precision.llm, &["llm", "head"], record.and_then(|record| record.embedding)),
        }
    }

    fn of_stage(&self, stage: StageName) -> f64 {
        match stage {
            StageName::Vision => self.vision,
            StageName::Projector => self.projector,
            StageName::Llm => self.llm,
        }
    }
}

/// The accepted relative error of weights in these precisions on this provider: the largest of what the weights and the arithmetic
/// bring about.
fn limit(precisions: &[Precision], provider: &ProviderOptions) -> f64 {
    let of = |precisions: &[Precision]| {
        if precisions.iter().all(|precision| *precision == Precision::Fp32) {
            return EXACT_LIMIT;
        }
        relative_limit(precisions).unwrap_or(OTHER_LIMIT)
    };
    of(precisions).max(of(&computed_precisions(provider)))
}

/// The precisions that a provider may compute in beside what the graphs say. TensorFloat-32 rounds factors to the 10 bits
/// that fp16 has.
pub(super) fn computed_precisions(provider: &ProviderOptions) -> Vec<Precision> {
    let mut computed = Vec::new();
    if provider.provider.is_gpu() && provider.use_tf32 {
        computed.push(Precision::Fp16);
    }
    if provider.provider == Provider::TensorRt {
        match provider.tensorrt.precision {
            TensorRtPrecision::Graph => {}
            TensorRtPrecision::Fp16 => computed.push(Precision::Fp16),
            TensorRtPrecision::Bf16 => computed.push(Precision::Bf16),
        }
    }
    computed
}

/// The prompts of a parity fixture of either package, or made-up ones; and which.
fn cases(package: &Package, reference: &Package, prompter: &Prompter) -> Result<(&'static str, Vec<Case>), RunError> {
    let with_fixture = [package, reference].into_iter().find(|package| has_parity_fixture(&package.root));
    let Some(with_fixture) = with_fixture else { return Ok(("made up", made_up(package)?)) };
    let path = with_fixture.root.join(FIXTURE);
    let fixture = Fixture::open(&path)?;
    let mut cases = Vec::new();
    for (index, (prompt, images, steps)) in fixture.prompts().enumerate() {
        let files =
            (0..images).map(|image| fixture.bytes(index, &format!("image_file.{image}"))).collect::<Result<Vec<_>, _>>()?;
        let prepared = PreparedImages::decode(files.into_iter(), &package.manifest)
            .map_err(|error| fixture.broken(format!("case {index}: {error}")))?;
        let segments = segments(&prompter.tokenize(prompt)?.pieces);
        cases.push(Case { images: prepared.images, segments, steps: steps.clamp(1, MOST_STEPS) });
    }
    Ok(("parity fixture", cases))
}

/// Prompts of one image between tokens, the same in every process.
fn made_up(package: &Package) -> Result<Vec<Case>, RunError> {
    let (manifest, mut state) = (&package.manifest, 1_u64);
    let vocabulary = manifest.llm.vocabulary_size.max(1) as u64;
    // Knuth's generator; its high bits are as good as random.
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let mut tokens = |count: usize| {
        let mut tokens = Vec::with_capacity(count);
        while tokens.len() < count {
            let token = u32::try_from(next() % vocabulary).unwrap_or(0);
            // With a vocabulary of the image token alone there would be no other.
            if manifest.prompt.image_token_id != Some(token) || vocabulary == 1 {
                tokens.push(token);
            }
        }
        Segment::Tokens(tokens)
    };
    let mut cases = Vec::new();
    for number in 1..=MADE_UP_CASES {
        let picture = bitmap(40 * number, 48);
        let prepared = PreparedImages::decode([picture.as_slice()].into_iter(), manifest)
            .map_err(|error| RunError::Parity { path: package.root.clone(), message: format!("a made-up picture: {error}") })?;
        let segments = vec![tokens(MADE_UP_TOKENS), Segment::Image(0), tokens(MADE_UP_TOKENS)];
        cases.push(Case { images: prepared.images, segments, steps: MADE_UP_STEPS });
    }
    Ok(cases)
}

/// A picture with colours that run across and down, as a Windows bitmap of 24 bits a pixel.
fn bitmap(width: u32, height: u32) -> Vec<u8> {
    const HEADER_BYTES: u32 = 54;
    let row_bytes = (3 * width).next_multiple_of(4);
    let mut file = b"BM".to_vec();
    let words = |file: &mut Vec<u8>, words: &[u32]| words.iter().for_each(|word| file.extend_from_slice(&word.to_le_bytes()));
    words(&mut file, &[HEADER_BYTES + row_bytes * height, 0, HEADER_BYTES, 40, width, height]);
    // One plane; 24 bits.
    file.extend_from_slice(&[1, 0, 24, 0]);
    words(&mut file, &[0, row_bytes * height, 0, 0, 0, 0]);
    for y in 0..height {
        let mut row: Vec<u8> = Vec::with_capacity(row_bytes as usize);
        for x in 0..width {
            let part = |value: u32, of: u32| u8::try_from(value * 255 / of.max(1)).unwrap_or(u8::MAX);
            row.extend_from_slice(&[part(x, width), part(y, height), part((x * 7 + y * 13) % 64, 64)]);
        }
        row.resize(row_bytes as usize, 0);
        file.extend_from_slice(&row);
    }
    file
}
