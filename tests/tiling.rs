//! Any-res tiling against the reference implementations: geometry, rows and pixels. Fixtures and their origin:
//! `tests/fixtures/tiling/make_goldens.py`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on should say so")]

use std::path::{Path, PathBuf};

use llava_gauge::image::{ImageError, MAX_TILED_PIXELS, RgbImage8, decode, preprocess};
use llava_gauge::package::{
    AspectMode, ImageRecipe, MAXIMUM_TILES, Manifest, Resample, ResizeRule, TileMerge, TileOrder, Tiling, TilingError,
    UnpadRounding,
};
use proptest::prelude::*;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn read<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&std::fs::read(fixtures().join("tiling").join(name)).unwrap()).unwrap()
}

/// A configuration of a reference.
#[derive(Deserialize)]
struct Configuration {
    reference: String,
    tile: u32,
    patch: usize,
    pinpoints: Vec<[u32; 2]>,
    aspect: String,
    merge: String,
    sizes: Vec<(u32, u32, Option<usize>)>,
}

impl Configuration {
    fn tiling(&self) -> Tiling {
        let unpad = self.merge.contains("unpad");
        let rounding =
            if self.reference.starts_with("transformers") { UnpadRounding::SevenDigits } else { UnpadRounding::Truncate };
        Tiling {
            pinpoints: self.pinpoints.clone(),
            tile: self.tile,
            only_single_images: false,
            merge: TileMerge {
                order: match self.merge.as_str() {
                    "flat" => TileOrder::Flat,
                    _ if unpad => TileOrder::SpatialUnpad,
                    _ => TileOrder::Spatial,
                },
                base_view: !self.merge.contains("nobase"),
                newline: unpad,
                maximum_tiles: self.aspect.strip_prefix("anyres_max_").map(|number| number.parse().unwrap()),
                max_pool: self.merge.contains("maxpool2x2"),
                unpad_rounding: rounding,
            },
        }
    }
}

fn manifest(tiling: Tiling, patch: usize) -> Manifest {
    let text = std::fs::read_to_string(fixtures().join("engine/tiny/package.toml")).unwrap();
    let mut manifest = Manifest::from_text(&text).unwrap();
    manifest.vision.image_size = tiling.tile as usize;
    manifest.vision.patch_size = patch;
    manifest.vision.tokens_per_image = (tiling.tile as usize / patch).pow(2);
    manifest.image.tiling = Some(tiling);
    manifest
}

#[test]
fn rows_are_those_of_both_references() {
    let configurations: Vec<Configuration> = read("geometry.json");
    assert!(configurations.len() >= 12);
    let mut checked = 0;
    for configuration in &configurations {
        let manifest = manifest(configuration.tiling(), configuration.patch);
        for &(width, height, expected) in &configuration.sizes {
            let found = manifest.image_rows(1, width, height);
            let name = format!("{} {} {}", configuration.reference, configuration.aspect, configuration.merge);
            match expected {
                Some(rows) => assert_eq!(found, Ok(rows), "{name}: {width} x {height}"),
                None => assert!(found.is_err(), "{name}: {width} x {height} gives {found:?} where the reference raises"),
            }
            checked += 1;
        }
    }
    assert!(checked > 1500, "{checked}");
}

#[derive(Deserialize)]
struct LlavaGeometry {
    pinpoints: Vec<[u32; 2]>,
    patch: usize,
    tile: u32,
    rows: Vec<LlavaRow>,
}

/// Sizes as `[width, height]`.
#[derive(Deserialize)]
struct LlavaRow {
    width: u32,
    height: u32,
    best: [u32; 2],
    resized: [u32; 2],
    paste: [u32; 2],
    grid_w: usize,
    grid_h: usize,
    tiles: usize,
    unpad_h: usize,
    unpad_w: usize,
    tokens_spatial_unpad: usize,
    tokens_spatial: usize,
}

#[test]
fn geometry_is_that_of_llava_step_by_step() {
    let golden: LlavaGeometry = read("anyres_geometry.json");
    // LLaVA lists widths first.
    let pinpoints = golden.pinpoints.iter().map(|&[width, height]| [height, width]).collect();
    let configuration = Configuration {
        reference: "llava".to_owned(),
        tile: golden.tile,
        patch: golden.patch,
        pinpoints,
        aspect: "anyres".to_owned(),
        merge: "spatial_unpad".to_owned(),
        sizes: Vec::new(),
    };
    let tiling = configuration.tiling();
    let unpadded = manifest(tiling.clone(), golden.patch);
    let merge = TileMerge { order: TileOrder::Spatial, newline: false, ..tiling.merge.clone() };
    let spatial = manifest(Tiling { merge, ..tiling.clone() }, golden.patch);
    assert!(golden.rows.len() >= 12);
    for row in golden.rows {
        let (width, height) = (row.width, row.height);
        let placement = tiling.placement(width, height).unwrap();
        assert_eq!([placement.width, placement.height], row.best, "{width} x {height}");
        assert_eq!([placement.resized_width, placement.resized_height], row.resized, "{width} x {height}");
        assert_eq!([placement.left, placement.top], row.paste, "{width} x {height}");
        assert_eq!([placement.tile_columns, placement.tile_lines, placement.tiles()], [row.grid_w, row.grid_h, row.tiles]);
        let layout = unpadded.row_layout(placement.tiles(), width, height).unwrap();
        assert_eq!(layout.grid.unwrap().final_size(), [row.unpad_h, row.unpad_w], "{width} x {height}");
        assert_eq!(layout.rows(), row.tokens_spatial_unpad, "{width} x {height}");
        assert_eq!(spatial.image_rows(1, width, height), Ok(row.tokens_spatial), "{width} x {height}");
    }
}

#[test]
fn an_untiled_image_has_its_rows_and_a_newline() {
    let [mut next, mut flat] = ["spatial_unpad", "flat"].map(|merge| {
        let configuration = Configuration {
            reference: "transformers-onevision".to_owned(),
            tile: 24,
            patch: 8,
            pinpoints: vec![[24, 48], [48, 24]],
            aspect: "anyres_max_9".to_owned(),
            merge: merge.to_owned(),
            sizes: Vec::new(),
        };
        manifest(configuration.tiling(), 8)
    });
    assert_eq!(next.row_layout(1, 500, 20).unwrap().rows(), 10);
    assert_eq!(flat.row_layout(1, 500, 20).unwrap().rows(), 9);
    assert!(next.image_rows(2, 500, 20).unwrap() > 10, "several images are tiled too");
    for manifest in [&mut next, &mut flat] {
        manifest.image.tiling.as_mut().unwrap().only_single_images = true;
    }
    assert_eq!((next.image_rows(2, 500, 20), flat.image_rows(2, 1, 4000)), (Ok(10), Ok(9)));
    assert_eq!((next.image_rows(1, 24, 48), flat.image_rows(0, 24, 48)), (Ok(9 + 6 * 4), Ok(27)));
    let error = next.row_layout(4, 24, 48).unwrap_err();
    assert_eq!(error.to_string(), "an image of 24 x 48 pixels has 1 or 3 tiles, found 4");
    next.image.tiling = None;
    assert_eq!(next.row_layout(4, 24, 48).unwrap().rows(), 36);
}

#[test]
fn slivers_are_tiled_unless_scaling_leaves_nothing() {
    let configurations: Vec<Configuration> = read("geometry.json");
    let tiling = configurations[0].tiling();
    // Both references take the smallest grid, the first of two, for a picture that truncates to nothing in all of them.
    let placement = tiling.placement(1, 4000).unwrap();
    assert_eq!([placement.height, placement.width, placement.resized_height, placement.resized_width], [336, 672, 336, 1]);
    assert!(matches!(tiling.placement(0, 10), Err(TilingError::NoResolution { .. })) && tiling.placement(10, 0).is_err());
    let error = Tiling { pinpoints: Vec::new(), ..tiling }.placement(10, 10).unwrap_err();
    assert_eq!(error.to_string(), "an image of 10 x 10 pixels cannot be tiled with 0 grid pinpoints");
    // Few rows may be kept of a grid, but not scaled to none: PyTorch refuses to interpolate to an empty tensor.
    let mut squares = configurations.iter().find(|one| one.tile == 24 && one.aspect == "anyres_max_2").unwrap().tiling();
    squares.merge.maximum_tiles = Some(1);
    squares.pinpoints = vec![[24, 24 * 12]];
    let error = manifest(squares, 8).image_rows(1, 280, 8).unwrap_err();
    assert!(matches!(error, TilingError::NothingLeft { lines: 1, scaled_lines: 0, .. }), "{error}");
}

const CLIP: ([f64; 3], [f64; 3]) = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]);

fn recipe(tile: u32, tiling: Option<Tiling>) -> ImageRecipe {
    ImageRecipe {
        aspect: AspectMode::Pad,
        pad_colour: [127, 127, 127],
        resize: Some(ResizeRule::ShortestEdge(tile)),
        resample: Resample::Bicubic,
        centre_crop: Some([tile, tile]),
        rescale_factor: Some(1.0 / 255.0),
        mean: Some(CLIP.0),
        std: Some(CLIP.1),
        tiling,
        origin: "test".to_owned(),
    }
}

#[derive(Deserialize)]
struct PixelGolden {
    file: String,
    view: String,
    #[serde(flatten)]
    tensors: std::collections::BTreeMap<String, TensorGolden>,
}

#[derive(Deserialize)]
struct TensorGolden {
    shape: Vec<usize>,
    sha256: String,
}

fn view(image: &RgbImage8, view: &str) -> RgbImage8 {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let at = |x: usize, y: usize| &image.as_bytes()[(y * width + x) * 3..][..3];
    match view {
        "whole" => image.clone(),
        "turned" => {
            let bytes = (0..width).flat_map(|x| (0..height).flat_map(move |y| at(x, y).to_vec())).collect();
            RgbImage8::new(height as u32, width as u32, bytes).unwrap()
        }
        "sliver" => RgbImage8::new(width as u32, 9, image.as_bytes()[..width * 9 * 3].to_vec()).unwrap(),
        other => panic!("{other}"),
    }
}

/// Equal to the bit, tile by tile, to `LlavaNextImageProcessorPil`, `LlavaOnevisionImageProcessorPil` and LLaVA's
/// `process_anyres_image`.
#[test]
fn tiles_have_the_pixels_of_every_reference() {
    let goldens: Vec<PixelGolden> = read("pixels.json");
    assert!(goldens.len() >= 18);
    let mut checked = 0;
    for golden in goldens {
        let picture = decode(&std::fs::read(fixtures().join("image/images").join(&golden.file)).unwrap()).unwrap();
        let image = view(&picture, &golden.view);
        for (key, tensor) in &golden.tensors {
            let (reference, tile) = key.rsplit_once('-').unwrap();
            let tile: u32 = tile.parse().unwrap();
            let scaled = |grids: &[[u32; 2]]| grids.iter().map(|grid| grid.map(|side| side * tile)).collect::<Vec<_>>();
            let next = scaled(&[[1, 2], [2, 1], [2, 2], [3, 1], [1, 3]]);
            let squares = scaled(&(1..4).flat_map(|lines| (1..5).map(move |columns| [lines, columns])).collect::<Vec<_>>());
            let configuration = Configuration {
                reference: reference.to_owned(),
                tile,
                patch: 8,
                pinpoints: if reference.contains("onevision") { squares } else { next },
                aspect: "anyres".to_owned(),
                merge: "spatial_unpad".to_owned(),
                sizes: Vec::new(),
            };
            let mut recipe = recipe(tile, Some(Tiling { only_single_images: true, ..configuration.tiling() }));
            if reference.contains("onevision") {
                recipe.resize = Some(ResizeRule::Exact { height: tile, width: tile });
                recipe.centre_crop = None;
                (recipe.mean, recipe.std) = (Some([0.5; 3]), Some([0.5; 3]));
            }
            let images = if reference.contains("several") { 2 } else { 1 };
            let values = preprocess(&image, &recipe.for_images(images)).unwrap();
            assert_eq!(values.shape(), tensor.shape, "{} {}: {key}", golden.file, golden.view);
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let sha256: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(sha256, tensor.sha256, "{} {}: {key}", golden.file, golden.view);
            checked += 1;
        }
    }
    assert!(checked >= 144, "{checked}");
}

#[test]
fn a_tiled_recipe_is_told_in_a_few_words() {
    let configurations: Vec<Configuration> = read("geometry.json");
    let next = recipe(336, Some(configurations[0].tiling()));
    assert_eq!(next.summary(), "any-res, 5 grids of 336 px, bicubic, spatial_unpad");
    let mut tiling = configurations[2].tiling();
    (tiling.only_single_images, tiling.merge.base_view) = (true, false);
    let summary = recipe(384, Some(tiling)).summary();
    assert_eq!(summary, "any-res, 36 grids of 384 px, bicubic, spatial_unpad_nobase, max 9, several images pad");
}

#[test]
fn a_processor_that_resizes_to_another_size_than_the_tile_is_followed() {
    let image = RgbImage8::new(40, 20, (0..2400).map(|at| (at * 7 % 251) as u8).collect()).unwrap();
    let tiling = Tiling { pinpoints: vec![[16, 32]], tile: 16, ..read::<Vec<Configuration>>("geometry.json")[0].tiling() };
    let mut recipe = recipe(16, Some(tiling));
    recipe.resize = Some(ResizeRule::Exact { height: 8, width: 12 });
    recipe.centre_crop = None;
    assert_eq!(preprocess(&image, &recipe).unwrap().shape(), [3, 3, 8, 12]);
    recipe.resize = None;
    assert_eq!(preprocess(&image, &recipe).unwrap().shape(), [3, 3, 16, 16]);
    // What follows the tiling must not blow their number up.
    for (resize, crop) in [(Some(ResizeRule::ShortestEdge(4000)), None), (None, Some([4000, 4000]))] {
        (recipe.resize, recipe.centre_crop) = (resize, crop);
        let error = preprocess(&image, &recipe).unwrap_err();
        assert!(matches!(error, ImageError::TilesTooLarge { tiles: 3, width: 4000, height: 4000 }), "{error}");
    }
    recipe.tiling.as_mut().unwrap().tile = 7;
    assert!(preprocess(&image, &recipe).unwrap_err().to_string().contains("do not fill"));
    recipe.tiling.as_mut().unwrap().tile = 0;
    assert!(preprocess(&image, &recipe).is_err());
    recipe.tiling.as_mut().unwrap().pinpoints.clear();
    assert!(preprocess(&image, &recipe).unwrap_err().to_string().contains("0 grid pinpoints"));
}

/// Tilings whose tiles have up to `side` patches of up to `patch` pixels a side.
fn any_tiling(side: usize, patch: usize) -> impl Strategy<Value = (Tiling, usize)> {
    let order = prop::sample::select(vec![TileOrder::Flat, TileOrder::Spatial, TileOrder::SpatialUnpad]);
    let merge = (order, any::<[bool; 3]>(), prop::option::of(1_u32..10), any::<bool>());
    let grids = prop::collection::vec((1_u32..9, 1_u32..9), 1..12);
    (merge, grids, 1..=side, 1..=patch).prop_map(|((order, flags, maximum_tiles, seven_digits), grids, side, patch)| {
        let tile = (side * patch) as u32;
        let unpad_rounding = if seven_digits { UnpadRounding::SevenDigits } else { UnpadRounding::Truncate };
        let merge = TileMerge {
            order,
            base_view: flags[0],
            newline: flags[1] && order != TileOrder::Flat,
            maximum_tiles,
            max_pool: flags[2],
            unpad_rounding,
        };
        let pinpoints = grids.into_iter().map(|(lines, columns)| [lines * tile, columns * tile]).collect();
        (Tiling { pinpoints, tile, only_single_images: false, merge }, patch)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn geometry_fits_any_size_and_pinpoints((tiling, patch) in any_tiling(30, 16), width in 1_u32..5000, height in 1_u32..5000) {
        let manifest = manifest(tiling.clone(), patch);
        let side = tiling.tile as usize / patch;
        match tiling.placement(width, height) {
            Ok(placement) => {
                prop_assert!(tiling.pinpoints.contains(&[placement.height, placement.width]));
                prop_assert!((1..=placement.height).contains(&placement.resized_height));
                prop_assert!((1..=placement.width).contains(&placement.resized_width));
                let fills = placement.resized_height == placement.height || placement.resized_width == placement.width;
                prop_assert!(fills, "{placement:?}");
                let below = placement.height - placement.resized_height - placement.top;
                prop_assert!(below == placement.top || below == placement.top + 1);
                prop_assert!(placement.tiles() <= MAXIMUM_TILES);
                let Ok(layout) = manifest.row_layout(placement.tiles(), width, height) else { return Ok(()) };
                prop_assert_eq!(Ok(layout.rows()), manifest.image_rows(1, width, height));
                let most = placement.tiles() * side * side + placement.tile_lines * side;
                prop_assert!(layout.rows() <= most, "{layout:?}");
                prop_assert_eq!(layout.whole_tiles.contains(&0), tiling.merge.base_view);
                if let Some(grid) = layout.grid {
                    prop_assert!(2 * grid.top + grid.lines == placement.tile_lines * side);
                    prop_assert!(2 * grid.left + grid.columns == placement.tile_columns * side);
                    prop_assert!(grid.top == 0 || grid.left == 0);
                }
            }
            Err(error) => prop_assert!(false, "{error}"),
        }
        prop_assert_eq!(manifest.row_layout(1, width, height).unwrap().rows(), side * side + usize::from(tiling.merge.newline));
    }

    #[test]
    fn any_picture_gives_the_promised_tiles(
        (tiling, _) in any_tiling(5, 6),
        width in 1_u32..80,
        height in 1_u32..80,
        seed in any::<u8>(),
    ) {
        let image = RgbImage8::new(width, height, (0..width * height * 3).map(|at| (at as u8) ^ seed).collect()).unwrap();
        let recipe = recipe(tiling.tile, Some(tiling.clone()));
        let (values, placement) = (preprocess(&image, &recipe).unwrap(), tiling.placement(width, height).unwrap());
        let side = tiling.tile as usize;
        prop_assert_eq!(values.shape(), [placement.tiles(), 3, side, side]);
        prop_assert!(values.len() as u64 <= 3 * MAX_TILED_PIXELS);
    }
}
