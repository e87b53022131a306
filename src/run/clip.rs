//! Runs of a CLIP package: zero-shot classification and retrieval. Texts are embedded first, all of them, since every
//! answer is a choice among them; then images one after another, decoded ahead.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

use ndarray::{Array1, Array2, Array4, Axis};
use rayon::prelude::*;

use super::conductor::{Outcome, Progress, ProgressUpdate, count};
use super::error::RunError;
use super::images::FoundImage;
use super::plan::{Plan, PlannedGroup};
use super::ranking::{best, class_embedding, logits};
use super::record::{self, GroupFacts, PreparedPrompt, Ranking};
use crate::benchmark::{Benchmark, CandidateSet, ClassSet, ImageStore, Query, Sample, SampleImage, Task};
use crate::engine::{ClipEncoder, StageTimings, normalise};
use crate::package::ImageRecipe;
use crate::prompt::ClipTokenizer;
use crate::store::{RunWriter, SampleRecord};

/// Candidates of an answer that are stored, the best first: as many as the largest cut-off of a metric.
const STORED: usize = 10;
/// Texts that are embedded between two looks at the stop signal. The division into batches never depends on anything else, so that
/// a continued run has the same embeddings.
const TEXTS_AT_ONCE: usize = 1024;
/// Images that may wait decoded.
const IMAGES_AHEAD: usize = 8;

/// A run of one CLIP package on one benchmark.
pub struct ClipConductor<'a> {
    /// The benchmark.
    pub benchmark: &'a Benchmark,
    /// What is asked.
    pub plan: &'a Plan,
    /// The package's tokenizer.
    pub tokenizer: &'a ClipTokenizer,
    /// The package's image side.
    pub image_recipe: &'a ImageRecipe,
    /// Set from a signal handler to end the run.
    pub stop: &'a AtomicBool,
}

/// One image on its way to the encoder.
struct LoadedImage {
    /// `[1, 3, size, size]`, or why there are none.
    pixels: Result<Array4<f32>, String>,
    image_ms: f64,
}

/// One image's embedding `[width]`, normalised, or the kind of its failure and the reason.
struct EmbeddedImage {
    embedding: Result<Array1<f32>, (&'static str, String)>,
    image_ms: f64,
    vision_ms: f64,
}

impl ClipConductor<'_> {
    /// Runs what is still outstanding. `recovered` are the records that an earlier attempt left in the log of `writer`. A
    /// continued run ends like an uninterrupted one, because embeddings are made anew and alike.
    pub fn run(
        &self,
        encoder: &mut ClipEncoder,
        writer: &mut RunWriter,
        recovered: &[SampleRecord],
        progress: &mut dyn Progress,
    ) -> Result<Outcome, RunError> {
        let planned = self.plan.samples();
        if planned == 0 {
            return Err(RunError::NothingSelected { benchmark: self.benchmark.spec.name.clone() });
        }
        let mut state = ProgressUpdate { planned, ..Default::default() };
        recovered.iter().for_each(|record| count(&mut state, record));
        let recorded: HashSet<String> = recovered.iter().map(|record| record.key.clone()).collect();
        let outstanding = self.plan.outstanding(&self.benchmark.samples, &recorded);
        progress.records(recovered);
        progress.update(&state);
        if outstanding.is_empty() {
            return Ok(Outcome::Complete);
        }
        // Whether to go on, told before each batch of texts.
        let mut go_on = |done: usize, total: usize| {
            progress.texts(done, total);
            !self.stopped()
        };
        let texts = match &self.benchmark.task {
            Task::Classify(classes) => class_embeddings(encoder, self.tokenizer, classes, &mut go_on)?.map(Texts::Classes),
            Task::Retrieve(set) => self.captions(encoder, set, &mut go_on)?.map(Texts::Captions),
            Task::Answer => {
                return Err(RunError::Embedding(format!("{} asks for answers in words", self.benchmark.spec.name)));
            }
        };
        let Some(texts) = texts else { return Ok(Outcome::Interrupted) };
        let mut store = |mut records: Vec<SampleRecord>| -> Result<(), RunError> {
            records.retain(|record| !recorded.contains(&record.key));
            writer.append(&records)?;
            records.iter().for_each(|record| count(&mut state, record));
            progress.records(&records);
            progress.update(&state);
            Ok(())
        };
        match (&self.benchmark.task, &texts) {
            (Task::Classify(classes), Texts::Classes(classifier)) => {
                self.classify(encoder, classes, classifier, &outstanding, &mut store)
            }
            (Task::Retrieve(set), Texts::Captions(captions)) => self.retrieve(encoder, set, captions, &outstanding, &mut store),
            _ => Err(RunError::Embedding("texts of another task".to_owned())),
        }
    }

    /// The captions, embedded and normalised; `None` if the stop signal came.
    fn captions(
        &self,
        encoder: &mut ClipEncoder,
        set: &CandidateSet,
        go_on: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<Option<EmbeddedTexts>, RunError> {
        let Some(texts) = embed_texts(encoder, self.tokenizer, &set.captions, go_on)? else { return Ok(None) };
        let embeddings = normalise(&texts.embeddings)
            .ok_or_else(|| RunError::Embedding("the embedding of a caption has no direction".to_owned()))?;
        Ok(Some(EmbeddedTexts { embeddings, ..texts }))
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn classify(
        &self,
        encoder: &mut ClipEncoder,
        classes: &ClassSet,
        classifier: &Array2<f32>,
        outstanding: &[&PlannedGroup],
        store: &mut dyn FnMut(Vec<SampleRecord>) -> Result<(), RunError>,
    ) -> Result<Outcome, RunError> {
        let files: Vec<SampleImage> = outstanding.iter().filter_map(|group| group.images.first().cloned()).collect();
        let mut groups = outstanding.iter();
        self.embed_images(encoder, files, &mut |image| {
            let Some(group) = groups.next() else { return Ok(()) };
            let answer = image.embedding.as_ref().map(|embedding| {
                let scores = logits(embedding.view(), classifier);
                ranking(&scores, &classes.labels)
            });
            store(self.records(group, &image, |_| 0, |_| answer.clone().map_err(Clone::clone)))
        })
    }

    fn retrieve(
        &self,
        encoder: &mut ClipEncoder,
        set: &CandidateSet,
        texts: &EmbeddedTexts,
        outstanding: &[&PlannedGroup],
        store: &mut dyn FnMut(Vec<SampleRecord>) -> Result<(), RunError>,
    ) -> Result<Outcome, RunError> {
        let captions = &texts.embeddings;
        let mut images: Vec<EmbeddedImage> = Vec::with_capacity(set.images.len());
        let outcome = self.embed_images(encoder, set.images.clone(), &mut |image| {
            images.push(image);
            Ok(())
        })?;
        if outcome == Outcome::Interrupted {
            return Ok(outcome);
        }
        // Images without an embedding are no candidates.
        let (mut found, mut labels) = (Vec::new(), Vec::new());
        for (image, label) in images.iter().zip(&set.image_labels) {
            if let Ok(embedding) = &image.embedding {
                found.push(embedding.view());
                labels.push(label.clone());
            }
        }
        let pool = ndarray::stack(Axis(0), &found).map_err(|error| RunError::Embedding(format!("no image: {error}")));
        let by_file: HashMap<&SampleImage, &EmbeddedImage> = set.images.iter().zip(&images).collect();
        for group in outstanding {
            if self.stopped() {
                return Ok(Outcome::Interrupted);
            }
            let Some(image) = group.images.first().and_then(|file| by_file.get(file)) else { continue };
            let answer = |sample: usize| {
                let embedding = image.embedding.as_ref().map_err(Clone::clone)?;
                match set.queries.get(sample) {
                    Some(Query::Caption(caption)) if *caption < captions.nrows() => {
                        let pool = pool.as_ref().map_err(|error| ("engine", error.to_string()))?;
                        Ok(ranking(&logits(captions.row(*caption), pool), &labels))
                    }
                    _ => Ok(ranking(&logits(embedding.view(), captions), &set.caption_labels)),
                }
            };
            let prompt_tokens = |sample: usize| match set.queries.get(sample) {
                Some(Query::Caption(caption)) => texts.lengths_tokens.get(*caption).copied().unwrap_or(0),
                _ => 0,
            };
            store(self.records(group, image, prompt_tokens, answer))?;
        }
        Ok(Outcome::Complete)
    }

    /// The records of a group's samples, all of the same image.
    fn records(
        &self,
        group: &PlannedGroup,
        image: &EmbeddedImage,
        prompt_tokens: impl Fn(usize) -> usize,
        answer: impl Fn(usize) -> Result<Ranking, (&'static str, String)>,
    ) -> Vec<SampleRecord> {
        let stages = StageTimings { vision_ms: image.vision_ms, ..StageTimings::default() };
        let facts = GroupFacts::new(group.samples.len(), image.image_ms, &stages);
        let known = group.samples.iter().filter_map(|&index| Some((index, self.benchmark.samples.get(index)?)));
        known
            .map(|(index, sample): (usize, &Sample)| {
                let prompt = PreparedPrompt { text: sample.prompt.clone(), tokens: prompt_tokens(index) };
                match answer(index) {
                    Ok(ranking) => record::ranked(self.benchmark, sample, &prompt, &facts, &ranking),
                    Err((kind, message)) => record::failed(self.benchmark, sample, &prompt, &facts, kind, message),
                }
            })
            .collect()
    }

    /// Embeds images in their order; `each` is told one after another.
    fn embed_images(
        &self,
        encoder: &mut ClipEncoder,
        files: Vec<SampleImage>,
        each: &mut dyn FnMut(EmbeddedImage) -> Result<(), RunError>,
    ) -> Result<Outcome, RunError> {
        let count = files.len();
        std::thread::scope(|scope| {
            let images = load_ahead(scope, files, self.image_recipe);
            for _ in 0..count {
                if self.stopped() {
                    return Ok(Outcome::Interrupted);
                }
                let Ok(loaded) = images.recv() else { return Err(RunError::Thread("image loading")) };
                let started = Instant::now();
                let embedding = match &loaded.pixels {
                    Err(message) => Err(("image", message.clone())),
                    Ok(pixels) => match normalise(&encoder.embed_images(pixels)?) {
                        Some(rows) => Ok(rows.row(0).to_owned()),
                        None => Err(("non_finite", "the embedding of the image has no direction".to_owned())),
                    },
                };
                let vision_ms = started.elapsed().as_secs_f64() * 1e3;
                each(EmbeddedImage { embedding, image_ms: loaded.image_ms, vision_ms })?;
            }
            Ok(Outcome::Complete)
        })
    }
}

/// The best candidates with their scores.
fn ranking(scores: &Array1<f32>, labels: &[String]) -> Ranking {
    let kept = best(scores.view(), STORED);
    let pairs = kept.into_iter().filter_map(|place| Some((labels.get(place)?.clone(), *scores.get(place)?)));
    let (labels, scores) = pairs.unzip();
    Ranking { labels, scores }
}

/// Embeddings of classes `[classes, width]`, normalised. `go_on` is told how many texts of how many are embedded, and answers
/// whether to go on; `None` if not.
pub fn class_embeddings(
    encoder: &mut ClipEncoder,
    tokenizer: &ClipTokenizer,
    classes: &ClassSet,
    go_on: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<Option<Array2<f32>>, RunError> {
    let templates = classes.templates.len().max(1);
    let texts: Vec<String> = (0..classes.names.len()).flat_map(|class| classes.texts(class)).collect();
    let Some(embedded) = embed_texts(encoder, tokenizer, &texts, go_on)? else { return Ok(None) };
    let mut rows = Vec::with_capacity(classes.names.len());
    for (class, label) in embedded.embeddings.axis_chunks_iter(Axis(0), templates).zip(&classes.labels) {
        let embedding = class_embedding(&class.to_owned());
        rows.push(
            embedding.ok_or_else(|| RunError::Embedding(format!("the texts of class {label:?} have no common direction")))?,
        );
    }
    let views: Vec<_> = rows.iter().map(|row| row.view()).collect();
    let stacked = ndarray::stack(Axis(0), &views).map_err(|error| RunError::Embedding(error.to_string()))?;
    Ok(Some(stacked))
}

/// The texts of a benchmark, embedded.
enum Texts {
    /// `[classes, width]`, normalised.
    Classes(Array2<f32>),
    /// Normalised.
    Captions(EmbeddedTexts),
}

/// Texts and what the encoder made of them.
struct EmbeddedTexts {
    /// `[texts, width]`.
    embeddings: Array2<f32>,
    /// Length of each text.
    lengths_tokens: Vec<usize>,
}

/// Embeds texts; `None` if `go_on` answered so.
fn embed_texts(
    encoder: &mut ClipEncoder,
    tokenizer: &ClipTokenizer,
    texts: &[String],
    go_on: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<Option<EmbeddedTexts>, RunError> {
    let tokens = texts.iter().map(|text| tokenizer.encode(text)).collect::<Result<Vec<_>, _>>()?;
    let mut parts = Vec::new();
    for (index, chunk) in tokens.chunks(TEXTS_AT_ONCE).enumerate() {
        if !go_on(index * TEXTS_AT_ONCE, tokens.len()) {
            return Ok(None);
        }
        parts.push(encoder.embed_texts(chunk)?);
    }
    let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
    let embeddings = ndarray::concatenate(Axis(0), &views).map_err(|error| RunError::Embedding(error.to_string()))?;
    Ok(Some(EmbeddedTexts { embeddings, lengths_tokens: tokens.iter().map(Vec::len).collect() }))
}

/// Starts loading. The receiver yields one image per file, in order; dropping it stops the loader.
fn load_ahead<'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    files: Vec<SampleImage>,
    recipe: &'scope ImageRecipe,
) -> Receiver<LoadedImage> {
    let (sender, receiver) = sync_channel(IMAGES_AHEAD);
    scope.spawn(move || {
        let store = ImageStore::default();
        for batch in files.chunks(IMAGES_AHEAD) {
            // Images in data files are fetched one after another, because such files are read from front to back.
            let found: Vec<_> = batch.iter().map(|image| FoundImage::of(image, &store)).collect();
            let load = |found: Result<FoundImage, String>| {
                let started = Instant::now();
                let pixels = found.and_then(|image| image.load(recipe).map_err(|error| error.to_string()));
                LoadedImage { pixels: pixels.map(|image| image.pixels), image_ms: started.elapsed().as_secs_f64() * 1e3 }
            };
            let loaded: Vec<LoadedImage> = found.into_par_iter().map(load).collect();
            for image in loaded {
                if sender.send(image).is_err() {
                    return;
                }
            }
        }
    });
    receiver
}
