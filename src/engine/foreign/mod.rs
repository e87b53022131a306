//! Running packages that other programs wrote.
//!
//! Their graphs have other interfaces than ours: the projector is inside the vision graph, token embeddings come from a
//! graph (which may put image rows in their places itself), and the decoder's cache grows by a new tensor at each step.
//! What can share work is decided by the decoder's interface and proven at load on a few tokens ([`probe`]).

mod answer;
mod cache;
mod candidates;
mod decoder;
mod embedder;
mod images;
mod packed;
mod probe;
mod values;

use std::path::Path;
use std::time::Instant;

use ndarray::{Array2, Array3, Array4, Axis, concatenate};

use super::options::{EngineOptions, Scheduling};
use super::ort_engine::Trace;
use super::placement::{GraphPlacement, PROBE_RUNS, measures};
use super::plan::{self, Demand, Row};
use super::provider::{self, Provider};
use super::runtime::{self, Loaded, RuntimeInfo};
use super::sampling;
use super::session::{Graph, profile_folder, with_profile};
use super::types::{EngineError, GroupAnswer, ImageGroup, ImageTiles, Request, RequestFailure, Segment, StageTimings};
use crate::guard::files::contained;
use crate::package::Package;
use crate::package::foreign::{CacheScheme, ForeignGraphs};
use answer::{Asked, Group};
use decoder::Decoder;
use embedder::Embedder;
use images::{ImageRows, Vision};
use probe::Way;

/// A loaded package of another program.
pub(super) struct ForeignEngine {
    vision: Vision,
    embedder: Embedder,
    decoder: Decoder,
    way: Way,
    options: EngineOptions,
    runtime: RuntimeInfo,
    load_ms: f64,
}

/// The answer to one question.
type Outcome = Result<super::types::Generation, RequestFailure>;

impl ForeignEngine {
    /// Loads the graphs and tries how the questions of an image can share work.
    pub(super) fn load(package: &Package, foreign: &ForeignGraphs, options: &EngineOptions) -> Result<Self, EngineError> {
        let started = Instant::now();
        let manifest = &package.manifest;
        let loaded = runtime::load(&options.runtime(), &mut |_| {})?;
        let width = manifest.llm.hidden_size;
        let graph = |name: &str, fixed_shapes| load(loaded, &package.root, name, options, fixed_shapes);
        let mut vision =
            Vision::new(graph(&manifest.vision.graph, true)?, foreign.vision.clone(), manifest.vision.clone(), width);
        let image_token = manifest.prompt.image_token_id.unwrap_or(0);
        let embedding = graph(&foreign.embedding.graph, false)?;
        let mut embedder = Embedder::new(embedding, foreign.embedding.clone(), image_token, width);
        let mut decoder = Decoder::new(graph(&manifest.llm.graph, false)?, foreign.decoder.clone(), manifest.llm.clone());
        let way = probe::choose(&mut decoder, &mut embedder, options.scheduling)?;
        if measures(options) {
            let side = manifest.vision.image_size;
            for _ in 0..PROBE_RUNS {
                drop(vision.encode(&Array4::zeros((1, 3, side, side)), &mut StageTimings::default())?);
            }
        }
        // The self-check has run the two others.
        for graph in [vision.graph_mut(), embedder.graph_mut(), decoder.graph_mut()] {
            graph.settle(options)?;
        }
        let (options, runtime) = (options.clone(), loaded.info.clone());
        let load_ms = super::vision::milliseconds(started);
        Ok(Self { vision, embedder, decoder, way, options, runtime, load_ms })
    }

    /// How questions share work, and why.
    pub(super) fn scheme(&self) -> (CacheScheme, &str) {
        (self.way.scheme, &self.way.reason)
    }

    /// What runs the nodes of each graph: the vision encoder's, the embedding's and the decoder's.
    pub(super) fn placement(&self) -> Vec<GraphPlacement> {
        let graphs = [self.vision.graph(), self.embedder.graph(), self.decoder.graph()];
        graphs.map(|graph| graph.placed.found().clone()).to_vec()
    }

    pub(super) fn runtime(&self) -> &RuntimeInfo {
        &self.runtime
    }

    pub(super) fn options(&self) -> &EngineOptions {
        &self.options
    }

    pub(super) fn load_ms(&self) -> f64 {
        self.load_ms
    }

    /// As [`super::OrtEngine::trace_single`]. The projector is inside the vision graph, so that there are no features: they
    /// come back empty.
    pub(super) fn trace_single(
        &mut self,
        images: &[ImageTiles],
        request: &Request<'_>,
        forced: Option<&[u32]>,
    ) -> Result<Trace, EngineError> {
        let malformed = |message: String| EngineError::Request { index: 0, message };
        let prompts = self.prompts(images, std::slice::from_ref(request))?;
        let rows = prompts.into_iter().next().unwrap_or_default();
        let steps = forced.map_or(request.max_new_tokens, <[u32]>::len);
        let vocabulary = self.decoder.stage().vocabulary_size;
        if let Some(bad) = forced.and_then(|tokens| tokens.iter().find(|&&token| token as usize >= vocabulary)) {
            return Err(malformed(format!("forced token {bad} is beyond the vocabulary of {vocabulary}")));
        }
        if steps == 0 {
            return Err(malformed("no token is to be generated".to_owned()));
        }
        self.fits(&rows, steps).map_err(|failure| malformed(failure.to_string()))?;
        let encoded = self.encode(images, (0..images.len()).collect(), &mut StageTimings::default())?;
        let width = self.decoder.stage().hidden_size;
        let shaped = |rows: &ImageRows| Array3::from_shape_vec((1, rows.len() / width.max(1), width), rows.clone());
        let arrays = encoded.iter().flatten().map(shaped).collect::<Result<Vec<_>, _>>();
        let arrays = arrays.map_err(|error| malformed(error.to_string()))?;
        let views: Vec<_> = arrays.iter().map(|array| array.view()).collect();
        let image_embeds = if views.is_empty() { Ok(Array3::zeros((0, 0, 0))) } else { concatenate(Axis(0), &views) }
            .map_err(|error| malformed(error.to_string()))?;

        let mut all = self.embedder.embed(&rows, &encoded)?;
        let (mut row, mut cache) = self.decoder.extend(all.clone(), None)?;
        let (mut logits, mut token_ids, mut fed) = (Vec::with_capacity(steps * vocabulary), Vec::new(), Vec::new());
        loop {
            logits.extend_from_slice(&row);
            let chosen = sampling::greedy(&row).map_or(0, |choice| choice.token);
            let token = forced.and_then(|tokens| tokens.get(token_ids.len())).copied().unwrap_or(chosen);
            token_ids.push(chosen);
            fed.push(token);
            if fed.len() == steps || (forced.is_none() && request.stop.check(&fed).is_some()) {
                break;
            }
            if Some(token) == self.embedder.unembeddable() {
                return Err(malformed(RequestFailure::ImageToken { step: fed.len() - 1 }.to_string()));
            }
            let embeds = self.embedder.embed_tokens(&[token])?;
            if self.way.remembers {
                (row, cache) = self.decoder.extend(embeds, cache.as_ref())?;
            } else {
                all.extend(embeds);
                (row, _) = self.decoder.extend(all.clone(), None)?;
            }
        }
        let flat: Vec<f32> = encoded.iter().flatten().flatten().copied().collect();
        let image_rows = Array2::from_shape_vec((flat.len() / width.max(1), width), flat);
        let image_rows = image_rows.map_err(|error| malformed(error.to_string()))?;
        let logits =
            Array2::from_shape_vec((token_ids.len(), vocabulary), logits).map_err(|error| malformed(error.to_string()))?;
        Ok(Trace { features: Array3::zeros((0, 0, 0)), image_embeds, image_rows, logits, token_ids })
    }

    /// Checks the requests and spells their prompts out.
    fn prompts(&self, images: &[ImageTiles], requests: &[Request<'_>]) -> Result<Vec<Vec<Row>>, EngineError> {
        if let Some(index) = requests.iter().position(|request| request.max_new_tokens == 0) {
            return Err(EngineError::Request { index, message: "max_new_tokens is 0".to_owned() });
        }
        let segments: Vec<&[Segment]> = requests.iter().map(|request| request.segments.as_slice()).collect();
        self.spelled_out(images, &segments)
    }

    /// Checks prompts and spells them out.
    fn spelled_out(&self, images: &[ImageTiles], prompts: &[&[Segment]]) -> Result<Vec<Vec<Row>>, EngineError> {
        let shapes: Vec<Result<usize, String>> = images.iter().map(|image| self.vision.rows(&image.pixels)).collect();
        let vocabulary = self.decoder.stage().vocabulary_size;
        for (index, segments) in prompts.iter().enumerate() {
            let malformed = |message: String| Err(EngineError::Request { index, message });
            for segment in *segments {
                match segment {
                    Segment::Tokens(tokens) => {
                        if let Some(token) = self.embedder.unembeddable().filter(|token| tokens.contains(token)) {
                            return malformed(format!("image token {token} among the text tokens"));
                        }
                        if let Some(token) = tokens.iter().find(|&&token| token as usize >= vocabulary) {
                            return malformed(format!("token {token} is beyond the vocabulary of {vocabulary}"));
                        }
                    }
                    Segment::Image(image) => match shapes.get(*image) {
                        None => return malformed(format!("image {image} is beyond the {} of its group", images.len())),
                        Some(Err(message)) => return malformed(message.clone()),
                        Some(Ok(_)) => {}
                    },
                }
            }
        }
        let rows_of_image: Vec<usize> = shapes.into_iter().map(|shape| shape.unwrap_or(0)).collect();
        let prompts: Vec<Vec<Row>> = prompts.iter().map(|segments| plan::rows(segments, &rows_of_image)).collect();
        match prompts.iter().position(Vec::is_empty) {
            Some(index) => Err(EngineError::Request { index, message: "the prompt is empty".to_owned() }),
            None => Ok(prompts),
        }
    }

    fn fits(&self, rows: &[Row], max_new_tokens: usize) -> Result<(), RequestFailure> {
        let limit_tokens = self.decoder.stage().maximum_positions;
        if rows.len().saturating_add(max_new_tokens) <= limit_tokens {
            return Ok(());
        }
        Err(RequestFailure::TooLong { prompt_tokens: rows.len(), max_new_tokens, limit_tokens })
    }

    /// Encodes the images with these indices; the others stay `None`.
    fn encode(
        &mut self,
        images: &[ImageTiles],
        mut wanted: Vec<usize>,
        timings: &mut StageTimings,
    ) -> Result<Vec<Option<ImageRows>>, EngineError> {
        wanted.sort_unstable();
        wanted.dedup();
        let mut encoded: Vec<Option<ImageRows>> = images.iter().map(|_| None).collect();
        for index in wanted {
            if let (Some(image), Some(slot)) = (images.get(index), encoded.get_mut(index)) {
                *slot = Some(self.vision.encode(&image.pixels, timings)?);
            }
        }
        Ok(encoded)
    }

    /// Answers these requests of a group; their prompts fit. What they share is decided by the scheme.
    fn answer_some(
        &mut self,
        group: &ImageGroup<'_>,
        prompts: &[(usize, &[Row])],
        answers: &mut [Option<Outcome>],
        timings: &mut StageTimings,
    ) -> Result<(), EngineError> {
        let started = Instant::now();
        let images = prompts.iter().flat_map(|(_, rows)| rows.iter());
        let images = images.filter_map(|row| if let Row::Image { image, row: 0 } = row { Some(*image) } else { None });
        let encoded = self.encode(group.images, images.collect(), timings)?;
        let prefix = match self.way.scheme {
            CacheScheme::OneByOne => 0,
            _ => plan::shared_prefix(prompts.iter().map(|(_, rows)| *rows)),
        };
        let unembeddable = self.embedder.unembeddable();
        let mut questions = Vec::with_capacity(prompts.len());
        for &(index, rows) in prompts {
            if let (Some(request), Some(suffix)) = (group.requests.get(index), rows.get(prefix..)) {
                questions.push(Asked::new(index, suffix, request.max_new_tokens, request.stop, unembeddable));
            }
        }
        let (decoder, embedder) = (&mut self.decoder, &mut self.embedder);
        let mut work = Group { decoder, embedder, images: &encoded, started, timings };
        let shared = prompts.first().and_then(|(_, rows)| rows.get(..prefix)).unwrap_or_default();
        let cache = work.prefill_prefix(shared)?;
        if self.way.scheme == CacheScheme::PackedTree {
            let demand = |asked: &Asked<'_>| Demand {
                request: asked.request,
                suffix_rows: asked.suffix.len(),
                max_new_tokens: asked.max_new_tokens,
            };
            let demands: Vec<Demand> = questions.iter().map(demand).collect();
            let limit = work.decoder.stage().maximum_positions;
            let mut rest = questions.as_mut_slice();
            for pack in plan::packs(prefix, &demands, self.options.max_packed_tokens, limit) {
                let (now, later) = rest.split_at_mut(pack.members.len().min(rest.len()));
                work.answer_pack(now, cache.as_ref())?;
                rest = later;
            }
        } else {
            work.answer(&mut questions, cache.as_ref(), &self.way)?;
        }
        for (index, outcome) in questions.into_iter().map(Asked::finish) {
            if let Some(slot) = answers.get_mut(index) {
                *slot = Some(outcome);
            }
        }
        Ok(())
    }

    /// Answers all questions of a group.
    pub(super) fn answer(&mut self, group: &ImageGroup<'_>) -> Result<GroupAnswer, EngineError> {
        let prompts = self.prompts(group.images, group.requests)?;
        let mut timings = StageTimings::default();
        let mut answers: Vec<Option<Outcome>> = group.requests.iter().map(|_| None).collect();
        let mut fitting = Vec::with_capacity(prompts.len());
        for (index, ((rows, request), slot)) in prompts.iter().zip(group.requests).zip(&mut answers).enumerate() {
            match self.fits(rows, request.max_new_tokens) {
                Ok(()) => fitting.push((index, rows.as_slice())),
                Err(failure) => *slot = Some(Err(failure)),
            }
        }
        match self.options.scheduling {
            Scheduling::PackedTree | Scheduling::AcrossImages => self.answer_some(group, &fitting, &mut answers, &mut timings)?,
            Scheduling::OneByOne => {
                for prompt in &fitting {
                    self.answer_some(group, std::slice::from_ref(prompt), &mut answers, &mut timings)?;
                }
            }
        }
        let answers = answers
            .into_iter()
            .enumerate()
            .map(|(index, answer)| answer.ok_or_else(|| EngineError::Request { index, message: "was not planned".to_owned() }));
        Ok(GroupAnswer { answers: answers.collect::<Result<_, _>>()?, timings })
    }
}

/// Makes a session of a graph from its file, from which ONNX Runtime finds external data; opening the package has checked
/// where that lies.
fn load(loaded: &Loaded, root: &Path, name: &str, options: &EngineOptions, fixed_shapes: bool) -> Result<Graph, EngineError> {
    let path = contained(root, name)?;
    let doing = format!("loading {name}");
    let profile = if measures(options) { Some(profile_folder(name)?) } else { None };
    if options.provider.provider == Provider::TensorRt {
        let message = "it is another program's, and the shapes of its inputs, which TensorRT must know beforehand, are known of packages \
                       of this program only; use --provider cuda";
        return Err(EngineError::Graph { graph: path, message: message.to_owned() });
    }
    let builder = with_profile(super::session::builder(loaded, options, fixed_shapes), profile.as_ref())
        .map_err(super::session::runtime_error(&doing))?;
    let session = provider::register(builder, loaded, &options.provider, None)?
        .commit_from_file(&path)
        // The file is another program's, so that what ONNX Runtime has against it is a fault of the package.
        .map_err(|error| match provider::loading_failed(&doing, options.provider.provider, error.message()) {
            EngineError::Runtime { message, .. } => EngineError::Graph { graph: path.clone(), message },
            of_the_machine => of_the_machine,
        })?;
    Graph::of_session(session, name, path, options, profile)
}
