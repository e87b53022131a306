//! Running the tests: packages take turns in every repetition, in an order that turns round each time (A B, B A, A B, …), so that a
//! machine that slows down or speeds up favours nobody.

use std::time::Instant;

use ndarray::Array4;

use super::plan::Test;
use super::results::{PackageFacts, Series};
use super::{BenchError, conditions};
use crate::engine::{
    ChoiceGroup, ChoiceRequest, Engine, EngineError, EngineOptions, ImageGroup, ImageTiles, LoadedEngine, OrtEngine, Request,
    RequestFailure, Segment, StageTimings, StopReason, StopRule,
};
use crate::package::{Manifest, Package};
use crate::stats::Generator;

/// Tokens before the image in questions, as LLaVA-1.5's prompts have.
pub const SYSTEM_TOKENS: usize = 35;
/// Tokens of a question after the image.
pub const SUFFIX_TOKENS: usize = 25;
/// Options of a question whose likelihoods are asked for.
pub(super) const CANDIDATES: usize = 4;
/// Tokens of an option.
pub(super) const CANDIDATE_TOKENS: usize = 3;
/// Width and height of the picture that images stand for, in pixels: a photograph as benchmarks have them.
const PICTURE: [u32; 2] = [640, 480];
/// Says which tokens and pixels.
const SEED: u64 = 7;

/// How to measure.
#[derive(Clone, Debug, PartialEq)]
pub struct BenchOptions {
    /// The tests, in order.
    pub tests: Vec<Test>,
    /// Times of each test of each package that count.
    pub repetitions: usize,
    /// Times before that do not.
    pub warmup: usize,
}

/// A package ready to be measured.
pub struct BenchPackage {
    /// What is said of it.
    pub facts: PackageFacts,
    /// The package.
    pub package: Package,
    engine: LoadedEngine,
    image: ImageTiles,
}

/// Never ends an answer early: all have the same length.
struct Never;

impl StopRule for Never {
    fn check(&self, _: &[u32]) -> Option<StopReason> {
        None
    }
}

/// Tiles of the picture, and its rows in a prompt.
pub(super) fn picture(manifest: &Manifest) -> Result<(usize, usize), BenchError> {
    let [width, height] = PICTURE;
    let tiles = match &manifest.image.tiling {
        Some(tiling) => tiling.placement(width, height)?.tiles(),
        None => 1,
    };
    Ok((tiles, manifest.row_layout(tiles, width, height)?.rows()))
}

/// Rows of a prompt with one image and one question.
pub fn prompt_tokens(manifest: &Manifest) -> Result<usize, BenchError> {
    Ok(SYSTEM_TOKENS + picture(manifest)?.1 + SUFFIX_TOKENS)
}

impl BenchPackage {
    /// Loads a package.
    pub fn load(package: Package, options: &EngineOptions) -> Result<Self, BenchError> {
        let before = conditions::memory_bytes();
        let engine = LoadedEngine::load(&package, options)?;
        let manifest = &package.manifest;
        let grown = before.zip(conditions::memory_bytes()).map(|([before, _], [now, _])| now.saturating_sub(before));
        let precision = [manifest.precision.vision, manifest.precision.projector, manifest.precision.llm];
        let facts = PackageFacts {
            name: manifest.name.clone(),
            folder: package.root.display().to_string(),
            identity: package.identity.clone(),
            precision: precision.map(|precision| precision.as_str().to_owned()),
            disk_bytes: manifest.files.iter().map(|file| file.bytes).sum(),
            load_ms: engine.load_ms(),
            load_memory_bytes: grown,
            scheduling: engine.scheduling().0.to_owned(),
        };
        let (tiles, _) = picture(manifest)?;
        let side = manifest.vision.image_size;
        let mut random = Generator::new(SEED);
        let pixels = Array4::from_shape_simple_fn([tiles, 3, side, side], || (random.uniform() * 3.6 - 1.8) as f32);
        let image = ImageTiles { pixels, width: PICTURE[0], height: PICTURE[1] };
        Ok(Self { facts, package, engine, image })
    }

    /// Version of ONNX Runtime.
    pub fn runtime_version(&self) -> String {
        self.engine.runtime().version.to_string()
    }

    fn own(&mut self, test: &Test) -> Result<&mut OrtEngine, BenchError> {
        let foreign = || BenchError::Foreign { test: test.name(), package: self.facts.name.clone() };
        let fault = foreign();
        self.engine.own().ok_or(fault)
    }

    /// What comes before the first repetition of a test and is not repeated.
    fn prepare(&mut self, test: &Test, tokens: &Tokens) -> Result<(), BenchError> {
        if let Test::Decode { tokens: steps, depth, rows } = *test
            && depth > 0
        {
            self.own(test)?.measure_fill(&tokens.text(0, depth), steps.saturating_mul(rows))?;
        }
        Ok(())
    }

    /// One repetition: milliseconds, and those of the stages where the test has any.
    fn measure(&mut self, test: &Test, tokens: &Tokens) -> Result<(f64, Option<StageTimings>), BenchError> {
        match *test {
            Test::Image => {
                let image = self.image.clone();
                let started = Instant::now();
                let stages = self.own(test)?.measure_image(&image)?;
                Ok((1e3 * started.elapsed().as_secs_f64(), Some(stages)))
            }
            Test::Prefill { tokens: count } => {
                let text = tokens.text(0, count);
                Ok((self.own(test)?.measure_prefill(&text)?, None))
            }
            Test::Decode { tokens: steps, depth, rows } => {
                let text = tokens.text(1, steps.saturating_mul(rows));
                Ok((self.own(test)?.measure_decode(depth, rows, &text)?, None))
            }
            Test::Questions { questions, new_tokens } => {
                let requests: Vec<Request<'_>> = (0..questions)
                    .map(|question| Request { segments: tokens.prompt(question), max_new_tokens: new_tokens, stop: &Never })
                    .collect();
                let images = std::slice::from_ref(&self.image);
                let started = Instant::now();
                let group = self.engine.answer(&ImageGroup { images, requests: &requests })?;
                let elapsed_ms = 1e3 * started.elapsed().as_secs_f64();
                let failed = group.answers.iter().enumerate().find_map(|(index, answer)| Some((index, answer.as_ref().err()?)));
                failed.map_or(Ok((elapsed_ms, Some(group.timings))), |(index, failure)| Err(failure_of(index, failure)))
            }
            Test::Score { questions } => {
                let requests: Vec<ChoiceRequest> = (0..questions)
                    .map(|question| ChoiceRequest {
                        segments: tokens.prompt(question),
                        candidates: (0..CANDIDATES)
                            .map(|candidate| tokens.text(1_000 + question * CANDIDATES + candidate, CANDIDATE_TOKENS))
                            .collect(),
                    })
                    .collect();
                let images = std::slice::from_ref(&self.image);
                let started = Instant::now();
                let group = self.engine.likelihoods(&ChoiceGroup { images, requests: &requests })?;
                let elapsed_ms = 1e3 * started.elapsed().as_secs_f64();
                let failed = group.answers.iter().enumerate().find_map(|(index, answer)| Some((index, answer.as_ref().err()?)));
                failed.map_or(Ok((elapsed_ms, Some(group.timings))), |(index, failure)| Err(failure_of(index, failure)))
            }
        }
    }
}

fn failure_of(index: usize, failure: &RequestFailure) -> BenchError {
    BenchError::Engine(EngineError::Request { index, message: failure.to_string() })
}

/// The tokens of all tests: random, but always the same, and such as every package knows.
struct Tokens {
    vocabulary: usize,
    image_marks: Vec<u32>,
}

impl Tokens {
    fn of(packages: &[BenchPackage]) -> Self {
        let manifests = || packages.iter().map(|package| &package.package.manifest);
        Self {
            vocabulary: manifests().map(|manifest| manifest.llm.vocabulary_size).min().unwrap_or(1),
            image_marks: manifests().filter_map(|manifest| manifest.prompt.image_token_id).collect(),
        }
    }

    /// The text of this number and length.
    fn text(&self, number: usize, length: usize) -> Vec<u32> {
        let mut random = Generator::new(SEED + 1 + number as u64);
        let mut text = Vec::with_capacity(length);
        while text.len() < length {
            let token = random.below(self.vocabulary.max(1)) as u32;
            // A tiny vocabulary of nothing but image marks would never end the loop.
            if !self.image_marks.contains(&token) || self.vocabulary < 8 {
                text.push(token);
            }
        }
        text
    }

    /// System text, image, question.
    fn prompt(&self, question: usize) -> Vec<Segment> {
        let suffix = self.text(100 + question, SUFFIX_TOKENS);
        vec![Segment::Tokens(self.text(99, SYSTEM_TOKENS)), Segment::Image(0), Segment::Tokens(suffix)]
    }
}

/// Refuses a test that a package cannot take.
pub fn check(package: &Package, test: &Test) -> Result<(), BenchError> {
    let manifest = &package.manifest;
    let name = || manifest.name.clone();
    let inside = matches!(test, Test::Image | Test::Prefill { .. } | Test::Decode { .. });
    if manifest.foreign.is_some() && inside {
        return Err(BenchError::Foreign { test: test.name(), package: name() });
    }
    let prompt = prompt_tokens(manifest)?;
    let needed = match *test {
        Test::Image => 0,
        Test::Prefill { tokens } => tokens,
        Test::Decode { tokens, depth, rows } => tokens.saturating_mul(rows).saturating_add(depth),
        Test::Questions { new_tokens, .. } => prompt.saturating_add(new_tokens),
        Test::Score { .. } => prompt.saturating_add(CANDIDATE_TOKENS),
    };
    let limit = manifest.llm.maximum_positions;
    if needed > limit {
        return Err(BenchError::TooLong { test: test.name(), needed, package: name(), limit });
    }
    Ok(())
}

/// Measures all tests of all packages. `progress` is told how many of the runs are done, of how many, and which is next.
pub fn run(
    packages: &mut [BenchPackage],
    options: &BenchOptions,
    progress: &mut dyn FnMut(usize, usize, &str),
) -> Result<Vec<Series>, BenchError> {
    if packages.is_empty() || options.tests.is_empty() || options.repetitions == 0 {
        return Err(BenchError::Nothing);
    }
    for test in &options.tests {
        for package in packages.iter() {
            check(&package.package, test)?;
        }
    }
    let tokens = Tokens::of(packages);
    let rounds = options.warmup + options.repetitions;
    let total = options.tests.len() * packages.len() * rounds;
    let mut done = 0;
    let mut all = Vec::new();
    for test in &options.tests {
        let name = test.name();
        let mut series: Vec<Series> = (0..packages.len())
            .map(|package| Series { package, test: *test, samples_ms: Vec::new(), stages_ms: Vec::new() })
            .collect();
        for package in packages.iter_mut() {
            package.prepare(test, &tokens)?;
        }
        for round in 0..rounds {
            let mut order: Vec<usize> = (0..packages.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for index in order {
                progress(done, total, &name);
                let (Some(package), Some(series)) = (packages.get_mut(index), series.get_mut(index)) else { continue };
                let (elapsed_ms, stages) = package.measure(test, &tokens)?;
                done += 1;
                if round >= options.warmup {
                    series.samples_ms.push(elapsed_ms);
                    if let Some(stages) = stages {
                        series.stages_ms.push([stages.vision_ms, stages.projector_ms, stages.prefill_ms, stages.decode_ms]);
                    }
                }
            }
        }
        all.append(&mut series);
    }
    progress(total, total, "");
    Ok(all)
}
