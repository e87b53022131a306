//! From pixel tensors to rows that the language model takes: the vision encoder, the projector, and the merging of tiles.

use std::path::Path;
use std::time::Instant;

use ndarray::{Array3, Array4, ArrayView4, Axis, concatenate};
use ort::value::{DynValue, Tensor, TensorElementType, TensorRef};

use super::embedding::EmbeddingTable;
use super::image_memory::ImageMemory;
use super::merge::TileRows;
use super::options::EngineOptions;
use super::runtime::Loaded;
use super::session::{Graph, GraphLoader, Port, runtime_error};
use super::types::{EngineError, ImageTiles, StageTimings};
use crate::package::{ImageRecipe, Manifest, ProjectorStage, RowLayout, TensorLocation, VisionStage};

/// Most tiles that run through the encoder together. Bounds its memory, the attention scores above all, whatever the number
/// of tiles; and as it does not depend on the machine, an image has the same bits everywhere.
const TILES_PER_RUN: usize = 8;

/// A vision encoder with the image recipe that belongs to it.
pub(super) struct LoadedVision {
    graph: Graph,
    stage: VisionStage,
    image: ImageRecipe,
}

impl LoadedVision {
    /// Loads and checks the graph, with `load` of [`Graph`].
    pub(super) fn load(
        load: GraphLoader,
        runtime: &Loaded,
        root: &Path,
        manifest: &Manifest,
        options: &EngineOptions,
    ) -> Result<Self, EngineError> {
        let (float, stage) = (TensorElementType::Float32, &manifest.vision);
        let graph = load(runtime, root, &stage.graph, options, true)?;
        let side = Some(stage.image_size);
        graph.expect(
            &[Port::new("pixel_values", float, [None, Some(3), side, side])],
            &[Port::new("features", float, [None, Some(stage.tokens_per_image), Some(stage.hidden_size)])],
        )?;
        Ok(Self { graph, stage: stage.clone(), image: manifest.image.clone() })
    }
}

/// A projector with the newline row that belongs to it.
pub(super) struct LoadedProjector {
    graph: Graph,
    stage: ProjectorStage,
    /// The row that ends lines of tiles.
    newline: Option<Vec<f32>>,
}

impl LoadedProjector {
    /// Loads and checks the graph, with `load` of [`Graph`].
    pub(super) fn load(
        load: GraphLoader,
        runtime: &Loaded,
        root: &Path,
        manifest: &Manifest,
        options: &EngineOptions,
    ) -> Result<Self, EngineError> {
        let (float, stage) = (TensorElementType::Float32, &manifest.projector);
        let graph = load(runtime, root, &stage.graph, options, true)?;
        let tokens = Some(manifest.vision.tokens_per_image);
        graph.expect(
            &[Port::new("features", float, [None, tokens, Some(stage.input_size)])],
            &[Port::new("image_embeds", float, [None, tokens, Some(stage.output_size)])],
        )?;
        let newline = match &stage.image_newline {
            Some(location) => Some(read_newline(root, location, &graph, stage.output_size)?),
            None => None,
        };
        Ok(Self { graph, stage: stage.clone(), newline })
    }

    /// Width of its rows.
    pub(super) fn output_size(&self) -> usize {
        self.stage.output_size
    }

    /// An error about its graph.
    pub(super) fn wrong(&self, message: impl Into<String>) -> EngineError {
        self.graph.wrong(message)
    }
}

/// The first two stages.
pub(super) struct ImageEncoder {
    vision: LoadedVision,
    projector: LoadedProjector,
    manifest: Manifest,
    memory: Option<ImageMemory>,
}

impl ImageEncoder {
    /// Loads and checks both graphs.
    pub(super) fn load(runtime: &Loaded, root: &Path, manifest: &Manifest, options: &EngineOptions) -> Result<Self, EngineError> {
        let vision = LoadedVision::load(Graph::load_measured, runtime, root, manifest, options)?;
        let projector = LoadedProjector::load(Graph::load_measured, runtime, root, manifest, options)?;
        check_fit(&vision, &projector)?;
        Ok(Self { vision, projector, manifest: manifest.clone(), memory: None })
    }

    /// The manifest whose sections on images are those of the stages in use.
    pub(super) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// From now on keeps what both stages make of each image, up to `limit_bytes`.
    pub(super) fn remember(&mut self, limit_bytes: usize) {
        self.memory = Some(ImageMemory::new(limit_bytes));
    }

    /// Swaps the vision encoder, if the projector can take its rows.
    pub(super) fn exchange_vision(&mut self, vision: &mut LoadedVision) -> Result<(), EngineError> {
        check_fit(vision, &self.projector)?;
        std::mem::swap(&mut self.vision, vision);
        self.manifest.vision = self.vision.stage.clone();
        self.manifest.image = self.vision.image.clone();
        if let Some(memory) = &mut self.memory {
            memory.forget_all();
        }
        Ok(())
    }

    /// Swaps the projector, if it can take the vision encoder's rows.
    pub(super) fn exchange_projector(&mut self, projector: &mut LoadedProjector) -> Result<(), EngineError> {
        check_fit(&self.vision, projector)?;
        std::mem::swap(&mut self.projector, projector);
        self.manifest.projector = self.projector.stage.clone();
        if let Some(memory) = &mut self.memory {
            memory.forget_rows();
        }
        Ok(())
    }

    /// How the rows of an image's tiles are merged, or why the vision encoder cannot take it.
    pub(super) fn layout(&self, image: &ImageTiles) -> Result<RowLayout, String> {
        let side = self.manifest.vision.image_size;
        match *image.pixels.shape() {
            [tiles, 3, height, width] if tiles > 0 && height == side && width == side => {
                self.manifest.row_layout(tiles, image.width, image.height).map_err(|error| error.to_string())
            }
            _ => Err(format!("its image has shape {:?}, expected [tiles, 3, {side}, {side}]", image.pixels.shape())),
        }
    }

    /// Encodes and projects one image, at most [`TILES_PER_RUN`] tiles at a time, and merges the rows. `keep_tiles` keeps
    /// what both stages gave for each tile.
    pub(super) fn encode(
        &mut self,
        image: &ImageTiles,
        layout: &RowLayout,
        keep_tiles: bool,
        timings: &mut StageTimings,
    ) -> Result<EncodedImage, EngineError> {
        let width = self.manifest.projector.output_size;
        let remembered = self.memory.as_ref().map(|memory| memory.of(image));
        if let (Some(remembered), false) = (&remembered, keep_tiles)
            && let Some(rows) = &remembered.rows
        {
            return Ok(EncodedImage { rows: Rows::Merged(rows.to_vec()), width, tiles: TileOutputs::default() });
        }
        let mut kept = TileOutputs::default();
        let mut embeds = Vec::new();
        let mut features_of_runs = Vec::new();
        let tiles = image.pixels.len_of(Axis(0));
        for (run, pixels) in image.pixels.axis_chunks_iter(Axis(0), TILES_PER_RUN).enumerate() {
            let known = remembered.as_ref().and_then(|remembered| remembered.features.as_ref()?.get(run));
            let features = match known {
                Some(features) => to_value(features)?,
                // What only the projector reads need not leave a GPU.
                None if self.vision.graph.memory.is_gpu() && !keep_tiles && remembered.is_none() => {
                    self.run_vision_on_gpu(pixels, timings)?
                }
                None => self.run_vision(pixels, timings)?,
            };
            let image_embeds = self.run_projector(&features, pixels.len_of(Axis(0)), timings)?;
            if keep_tiles {
                kept.features.push(to_array(&features)?);
                kept.image_embeds.push(to_array(&image_embeds)?);
            }
            if remembered.as_ref().is_some_and(|remembered| remembered.features.is_none()) {
                features_of_runs.push(to_array(&features)?);
            }
            // One tile that is its image needs no copy.
            if tiles == 1 && layout.whole_tiles == (0..1) && layout.grid.is_none() && !layout.final_newline {
                if let (Some(memory), Some(remembered)) = (&mut self.memory, &remembered) {
                    memory.keep(remembered.key, features_of_runs, values(&image_embeds)?);
                }
                return Ok(EncodedImage { rows: Rows::Runtime(image_embeds), width, tiles: kept });
            }
            embeds.extend_from_slice(values(&image_embeds)?);
        }
        let started = Instant::now();
        let tokens = self.manifest.vision.tokens_per_image;
        let rows = TileRows::new(&embeds, width, tokens).merge(layout, self.projector.newline.as_deref())?;
        timings.projector_ms += milliseconds(started);
        if let (Some(memory), Some(remembered)) = (&mut self.memory, &remembered) {
            memory.keep(remembered.key, features_of_runs, &rows);
        }
        Ok(EncodedImage { rows: Rows::Merged(rows), width, tiles: kept })
    }

    /// Both graphs.
    pub(super) fn graphs(&self) -> [&Graph; 2] {
        [&self.vision.graph, &self.projector.graph]
    }

    /// Both graphs.
    pub(super) fn graphs_mut(&mut self) -> [&mut Graph; 2] {
        [&mut self.vision.graph, &mut self.projector.graph]
    }

    /// Runs both graphs on a tile of zeros, for what the runs show of themselves.
    pub(super) fn run_empty_tile(&mut self) -> Result<(), EngineError> {
        let side = self.manifest.vision.image_size;
        let pixels = Array4::zeros((1, 3, side, side));
        let features = self.run_vision(pixels.view(), &mut StageTimings::default())?;
        drop(self.run_projector(&features, 1, &mut StageTimings::default())?);
        Ok(())
    }

    /// Runs the vision encoder on some tiles.
    fn run_vision(&mut self, pixels: ArrayView4<'_, f32>, timings: &mut StageTimings) -> Result<DynValue, EngineError> {
        let started = Instant::now();
        let tiles = pixels.len_of(Axis(0));
        let pixels = pixels.as_standard_layout();
        let tensor = TensorRef::from_array_view(&pixels).map_err(runtime_error("passing pixels"))?;
        let mut outputs = self
            .vision
            .graph
            .session
            .run(ort::inputs!["pixel_values" => tensor])
            .map_err(runtime_error("running the vision encoder"))?;
        let features = outputs.remove("features");
        drop(outputs);
        let features = features.ok_or_else(|| self.vision.graph.wrong("gave no `features`"))?;
        timings.vision_ms += milliseconds(started);
        let stage = &self.manifest.vision;
        check_shape(&self.vision.graph, "features", &features, [tiles, stage.tokens_per_image, stage.hidden_size])?;
        Ok(features)
    }

    /// As [`Self::run_vision`], with features that stay on the GPU.
    fn run_vision_on_gpu(&mut self, pixels: ArrayView4<'_, f32>, timings: &mut StageTimings) -> Result<DynValue, EngineError> {
        let error = || runtime_error::<()>("running the vision encoder");
        let started = Instant::now();
        let tiles = pixels.len_of(Axis(0));
        let pixels = Tensor::from_array(pixels.to_owned()).map_err(error())?;
        let graph = &mut self.vision.graph;
        let mut binding = graph.session.create_binding().map_err(error())?;
        binding.bind_input("pixel_values", &pixels).map_err(error())?;
        binding.bind_output_to_device("features", &graph.memory.info().map_err(error())?).map_err(error())?;
        let features = graph.session.run_binding(&binding).map_err(error())?.remove("features");
        let features = features.ok_or_else(|| self.vision.graph.wrong("gave no `features`"))?;
        timings.vision_ms += milliseconds(started);
        let stage = &self.manifest.vision;
        check_shape(&self.vision.graph, "features", &features, [tiles, stage.tokens_per_image, stage.hidden_size])?;
        Ok(features)
    }

    /// Runs the projector on the features of so many tiles.
    fn run_projector(&mut self, features: &DynValue, tiles: usize, timings: &mut StageTimings) -> Result<DynValue, EngineError> {
        let started = Instant::now();
        let mut outputs = self
            .projector
            .graph
            .session
            .run(ort::inputs!["features" => features])
            .map_err(runtime_error("running the projector"))?;
        let image_embeds = outputs.remove("image_embeds");
        drop(outputs);
        let image_embeds = image_embeds.ok_or_else(|| self.projector.graph.wrong("gave no `image_embeds`"))?;
        timings.projector_ms += milliseconds(started);
        let shape = [tiles, self.manifest.vision.tokens_per_image, self.manifest.projector.output_size];
        check_shape(&self.projector.graph, "image_embeds", &image_embeds, shape)?;
        Ok(image_embeds)
    }
}

/// Refuses a projector that cannot take the rows of a vision encoder, or has no newline row where its tiling needs one.
fn check_fit(vision: &LoadedVision, projector: &LoadedProjector) -> Result<(), EngineError> {
    let (gives, takes) = (vision.stage.hidden_size, projector.stage.input_size);
    if gives != takes {
        return Err(projector.wrong(format!("takes rows of {takes}, but the vision encoder gives rows of {gives}")));
    }
    let needs_newline = vision.image.tiling.as_ref().is_some_and(|tiling| tiling.merge.newline);
    if needs_newline && projector.newline.is_none() {
        return Err(projector.wrong("the tiling asks for a newline row, but the manifest names none"));
    }
    Ok(())
}

/// Reads the row `image_newline`, with the care that the embedding table gets.
fn read_newline(root: &Path, location: &TensorLocation, projector: &Graph, width: usize) -> Result<Vec<f32>, EngineError> {
    if location.shape != [width] {
        return Err(projector.wrong(format!("image_newline has shape {:?}, expected [{width}]", location.shape)));
    }
    let table = TensorLocation { shape: vec![1, width], ..location.clone() };
    let mut row = vec![0.0; width];
    if !EmbeddingTable::open(root, &table, &projector.path)?.write_row(0, &mut row) {
        return Err(projector.wrong("image_newline cannot be read"));
    }
    Ok(row)
}

/// What the first two stages made of one image.
pub(super) struct EncodedImage {
    rows: Rows,
    width: usize,
    tiles: TileOutputs,
}

enum Rows {
    /// As the projector left them.
    Runtime(DynValue),
    /// Merged on the host.
    Merged(Vec<f32>),
}

/// Copies of what both stages gave, one entry a run; empty unless asked for.
#[derive(Default)]
struct TileOutputs {
    features: Vec<Array3<f32>>,
    image_embeds: Vec<Array3<f32>>,
}

impl EncodedImage {
    /// The image's rows in the prompt as one slice, each of the language model's width.
    pub(super) fn embeds(&self) -> Result<&[f32], EngineError> {
        match &self.rows {
            Rows::Runtime(value) => values(value),
            Rows::Merged(rows) => Ok(rows),
        }
    }

    /// Width of a row.
    pub(super) fn width(&self) -> usize {
        self.width
    }
}

/// The features `[tiles, tokens, hidden]` and the projected rows `[tiles, tokens, width]` of all kept tiles of these images.
pub(super) fn join_tiles<'a>(
    images: impl Iterator<Item = &'a EncodedImage> + Clone,
) -> Result<(Array3<f32>, Array3<f32>), EngineError> {
    let joined = |parts: Vec<&'a Array3<f32>>| {
        let views: Vec<_> = parts.into_iter().map(|part| part.view()).collect();
        if views.is_empty() {
            return Ok(Array3::zeros((0, 0, 0)));
        }
        concatenate(Axis(0), &views)
            .map_err(|error| EngineError::Runtime { doing: "joining image rows".to_owned(), message: error.to_string() })
    };
    let features = joined(images.clone().flat_map(|image| &image.tiles.features).collect())?;
    Ok((features, joined(images.flat_map(|image| &image.tiles.image_embeds).collect())?))
}

fn values(value: &DynValue) -> Result<&[f32], EngineError> {
    Ok(value.try_extract_tensor::<f32>().map_err(runtime_error("reading image rows"))?.1)
}

fn to_array(value: &DynValue) -> Result<Array3<f32>, EngineError> {
    let view = value.try_extract_array::<f32>().map_err(runtime_error("reading image rows"))?;
    view.into_dimensionality()
        .map(|view| view.to_owned())
        .map_err(|error| EngineError::Runtime { doing: "reading image rows".to_owned(), message: error.to_string() })
}

fn to_value(array: &Array3<f32>) -> Result<DynValue, EngineError> {
    Ok(Tensor::from_array(array.clone()).map_err(runtime_error("passing image features"))?.into_dyn())
}

fn check_shape(graph: &Graph, output: &str, value: &DynValue, expected: [usize; 3]) -> Result<(), EngineError> {
    let found: Vec<i64> = value.shape().to_vec();
    let fits = found.len() == 3 && found.iter().zip(expected).all(|(&found, expected)| usize::try_from(found) == Ok(expected));
    if fits { Ok(()) } else { Err(graph.wrong(format!("output `{output}` has shape {found:?}, expected {expected:?}"))) }
}

/// Milliseconds since `started`.
pub(super) fn milliseconds(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1e3
}
