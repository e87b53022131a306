//! From pixel tensors to rows that the language model takes: the vision encoder, the projector, and the merging of tiles.

use std::path::Path;
use std::time::Instant;

use ndarray::{Array3, ArrayView4, Axis, concatenate};
use ort::value::{DynValue, TensorElementType, TensorRef};

use super::embedding::EmbeddingTable;
use super::merge::TileRows;
use super::options::EngineOptions;
use super::runtime::Loaded;
use super::session::{Graph, Port, runtime_error};
use super::types::{EngineError, ImageTiles, StageTimings};
use crate::package::{Manifest, RowLayout, TensorLocation};

/// Most tiles that run through the encoder together. Bounds its memory, the attention scores above all, whatever the number
/// of tiles; and as it does not depend on the machine, an image has the same bits everywhere.
const TILES_PER_RUN: usize = 8;

/// The first two stages.
pub(super) struct ImageEncoder {
    vision: Graph,
    projector: Graph,
    manifest: Manifest,
    /// The row that ends lines of tiles.
    newline: Option<Vec<f32>>,
}

impl ImageEncoder {
    /// Loads and checks both graphs.
    pub(super) fn load(runtime: &Loaded, root: &Path, manifest: &Manifest, options: &EngineOptions) -> Result<Self, EngineError> {
        let float = TensorElementType::Float32;
        let (vision_stage, projector_stage) = (&manifest.vision, &manifest.projector);
        let vision = Graph::load(runtime, root, &vision_stage.graph, options, true)?;
        let (side, tokens) = (Some(vision_stage.image_size), Some(vision_stage.tokens_per_image));
        vision.expect(
            &[Port::new("pixel_values", float, [None, Some(3), side, side])],
            &[Port::new("features", float, [None, tokens, Some(vision_stage.hidden_size)])],
        )?;
        let projector = Graph::load(runtime, root, &projector_stage.graph, options, true)?;
        projector.expect(
            &[Port::new("features", float, [None, tokens, Some(projector_stage.input_size)])],
            &[Port::new("image_embeds", float, [None, tokens, Some(projector_stage.output_size)])],
        )?;
        if vision_stage.hidden_size != projector_stage.input_size {
            return Err(projector.wrong(format!(
                "takes rows of {}, but the vision encoder gives rows of {}",
                projector_stage.input_size, vision_stage.hidden_size
            )));
        }
        let newline = match &projector_stage.image_newline {
            Some(location) => Some(read_newline(root, location, &projector, projector_stage.output_size)?),
            None => None,
        };
        let needs_newline = manifest.image.tiling.as_ref().is_some_and(|tiling| tiling.merge.newline);
        if needs_newline && newline.is_none() {
            return Err(projector.wrong("the tiling asks for a newline row, but the manifest names none"));
        }
        Ok(Self { vision, projector, manifest: manifest.clone(), newline })
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
        let mut kept = TileOutputs::default();
        let mut embeds = Vec::new();
        let tiles = image.pixels.len_of(Axis(0));
        for pixels in image.pixels.axis_chunks_iter(Axis(0), TILES_PER_RUN) {
            let (features, image_embeds) = self.run(pixels, timings)?;
            if keep_tiles {
                kept.features.push(to_array(&features)?);
                kept.image_embeds.push(to_array(&image_embeds)?);
            }
            // One tile that is its image needs no copy.
            if tiles == 1 && layout.whole_tiles == (0..1) && layout.grid.is_none() && !layout.final_newline {
                return Ok(EncodedImage { rows: Rows::Runtime(image_embeds), width, tiles: kept });
            }
            embeds.extend_from_slice(values(&image_embeds)?);
        }
        let started = Instant::now();
        let rows = TileRows::new(&embeds, width, self.manifest.vision.tokens_per_image).merge(layout, self.newline.as_deref())?;
        timings.projector_ms += milliseconds(started);
        Ok(EncodedImage { rows: Rows::Merged(rows), width, tiles: kept })
    }

    /// Runs both graphs on some tiles.
    fn run(&mut self, pixels: ArrayView4<'_, f32>, timings: &mut StageTimings) -> Result<(DynValue, DynValue), EngineError> {
        let started = Instant::now();
        let tiles = pixels.len_of(Axis(0));
        let pixels = pixels.as_standard_layout();
        let tensor = TensorRef::from_array_view(&pixels).map_err(runtime_error("passing pixels"))?;
        let mut outputs = self
            .vision
            .session
            .run(ort::inputs!["pixel_values" => tensor])
            .map_err(runtime_error("running the vision encoder"))?;
        let features = outputs.remove("features");
        drop(outputs);
        let features = features.ok_or_else(|| self.vision.wrong("gave no `features`"))?;
        timings.vision_ms += milliseconds(started);

        let started = Instant::now();
        let mut outputs =
            self.projector.session.run(ort::inputs!["features" => &features]).map_err(runtime_error("running the projector"))?;
        let image_embeds = outputs.remove("image_embeds");
        drop(outputs);
        let image_embeds = image_embeds.ok_or_else(|| self.projector.wrong("gave no `image_embeds`"))?;
        timings.projector_ms += milliseconds(started);

        let (vision, projector) = (&self.manifest.vision, &self.manifest.projector);
        let tokens = vision.tokens_per_image;
        check_shape(&self.vision, "features", &features, [tiles, tokens, vision.hidden_size])?;
        check_shape(&self.projector, "image_embeds", &image_embeds, [tiles, tokens, projector.output_size])?;
        Ok((features, image_embeds))
    }
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

fn check_shape(graph: &Graph, output: &str, value: &DynValue, expected: [usize; 3]) -> Result<(), EngineError> {
    let found: Vec<i64> = value.shape().to_vec();
    let fits = found.len() == 3 && found.iter().zip(expected).all(|(&found, expected)| usize::try_from(found) == Ok(expected));
    if fits { Ok(()) } else { Err(graph.wrong(format!("output `{output}` has shape {found:?}, expected {expected:?}"))) }
}

/// Milliseconds since `started`.
pub(super) fn milliseconds(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1e3
}
