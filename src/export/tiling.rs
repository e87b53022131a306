//! Any-res tiling as configurations write it: aspect ratios, pinpoints, and how rows of tiles are merged.

use serde_json::Value;

use super::ExportError;
use super::config::Config;
use crate::package::{TileMerge, TileOrder, Tiling, UnpadRounding};

/// Most sizes that a tiled picture may choose from: each image is held against all of them.
const PINPOINT_LIMIT: usize = 1024;
/// Most tiles of one picture. LLaVA-OneVision has up to 36.
const TILE_LIMIT: u32 = 144;

/// What `image_aspect_ratio` and `vision_aspect_ratio` can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ratio {
    Square,
    Pad,
    AnyRes,
    /// `anyres_max_N`, by N.
    AnyResMaximum(u32),
}

/// Reads an aspect ratio; `highres`, `crop_split` and anything else is refused by name.
pub(super) fn ratio_of(config: &Config, key: &str, absent: &str) -> Result<Ratio, ExportError> {
    let found = config.text(key)?.unwrap_or(absent);
    let maximum = || found.strip_prefix("anyres_max_")?.parse::<u32>().ok().filter(|&tiles| tiles > 0);
    match found {
        "square" => Ok(Ratio::Square),
        "pad" => Ok(Ratio::Pad),
        "anyres" => Ok(Ratio::AnyRes),
        _ => {
            let tiles = maximum().ok_or_else(|| config.unsupported(key, "square, pad, anyres, anyres_max_N"))?;
            Ok(Ratio::AnyResMaximum(tiles))
        }
    }
}

/// Pairs of a JSON list.
pub(super) fn pinpoint_list(value: &Value) -> Option<Vec<[u32; 2]>> {
    let number = |value: &Value| value.as_u64().and_then(|value| u32::try_from(value).ok());
    let pair = |value: &Value| match value.as_array().map(Vec::as_slice) {
        Some([first, second]) => Some([number(first)?, number(second)?]),
        _ => None,
    };
    value.as_array()?.iter().map(pair).collect()
}

/// `image_grid_pinpoints` of the original repositories, whose pairs are `(width, height)`, as `[height, width]`: a list, a
/// list written as text (`"[(336, 672), …]"`), or a range of tile counts (`"(1x1),...,(6x6)"`).
fn original_pinpoints(config: &Config, tile: usize) -> Result<Vec<[u32; 2]>, ExportError> {
    let key = "image_grid_pinpoints";
    let value = config.get(key);
    let pairs = match value {
        Some(Value::String(text)) if text.contains('x') => pinpoint_range(text, u32::try_from(tile).unwrap_or(u32::MAX)),
        Some(Value::String(text)) => {
            // A literal of Python, whose tuples are lists here.
            let list = text.replace('(', "[").replace(')', "]");
            serde_json::from_str(&list).ok().and_then(|list| pinpoint_list(&list))
        }
        Some(value) => pinpoint_list(value),
        None => None,
    };
    let expected = "a list of [width, height], or a range such as \"(1x1),...,(6x6)\"";
    let pairs = pairs.ok_or_else(|| config.invalid(key, expected))?;
    Ok(pairs.into_iter().map(|[width, height]| [height, width]).collect())
}

/// All pairs from the first `(AxB)` of a text to the last, in tiles, times the side of a tile.
fn pinpoint_range(text: &str, tile: u32) -> Option<Vec<[u32; 2]>> {
    let pair = |text: &str| -> Option<[u32; 2]> {
        let (first, second) = text.trim().strip_prefix('(')?.strip_suffix(')')?.split_once('x')?;
        Some([first.parse().ok()?, second.parse().ok()?])
    };
    let mut pairs = text.split(',').filter_map(pair);
    let [first, second] = pairs.next()?;
    let [last_first, last_second] = pairs.next_back().unwrap_or([first, second]);
    let count = |from: u32, to: u32| u64::from(to.saturating_sub(from)) + 1;
    if last_first < first
        || last_second < second
        || count(first, last_first).saturating_mul(count(second, last_second)) > PINPOINT_LIMIT as u64
    {
        return None;
    }
    let grid = (first..=last_first).flat_map(|one| (second..=last_second).map(move |two| [one, two]));
    grid.map(|[one, two]| Some([one.checked_mul(tile)?, two.checked_mul(tile)?])).collect()
}

/// Pinpoints must be whole tiles, and few enough.
pub(super) fn check_pinpoints(config: &Config, key: &str, pinpoints: &[[u32; 2]], tile: usize) -> Result<(), ExportError> {
    let tile = u32::try_from(tile).unwrap_or(u32::MAX).max(1);
    let fits = |&[height, width]: &[u32; 2]| {
        let whole = height > 0 && width > 0 && height % tile == 0 && width % tile == 0;
        whole && u64::from(height / tile) * u64::from(width / tile) <= u64::from(TILE_LIMIT)
    };
    if pinpoints.is_empty() || pinpoints.len() > PINPOINT_LIMIT || !pinpoints.iter().all(fits) {
        let expected = format!(
            "1 to {PINPOINT_LIMIT} sizes of whole tiles of {tile} pixels, the tower's image_size, at most {TILE_LIMIT} each"
        );
        return Err(config.invalid(key, &expected));
    }
    Ok(())
}

/// The tiling of an original checkpoint (`llava_arch.py` and `mm_utils.py` of LLaVA and LLaVA-NeXT); `None` where images
/// are not tiled. `tile` is the tower's input in pixels; `newline_alone` says that the scripts of this model hand images over
/// as a list, where a newline follows even an image of one tile.
pub(super) fn original_tiling(config: &Config, tile: usize, newline_alone: bool) -> Result<Option<Tiling>, ExportError> {
    let merge_key = "mm_patch_merge_type";
    let merge_type = config.text(merge_key)?.unwrap_or("flat");
    let supported = "flat, spatial, spatial_unpad, and either with nobase; spatial_maxpool2x2";
    let mut words = merge_type.split('_');
    let order = match words.next() {
        Some("flat") if merge_type == "flat" => TileOrder::Flat,
        Some("spatial") => TileOrder::Spatial,
        _ => return Err(config.unsupported(merge_key, supported)),
    };
    let (mut unpad, mut max_pool, mut base_view) = (false, false, true);
    for word in words {
        match word {
            "unpad" => unpad = true,
            "maxpool2x2" => max_pool = true,
            "nobase" => base_view = false,
            _ => return Err(config.unsupported(merge_key, supported)),
        }
    }
    if unpad && max_pool {
        // LLaVA-NeXT then pools tiled images without any newline and gives one to the others.
        return Err(config.unsupported(merge_key, supported));
    }
    let ratio = ratio_of(config, "image_aspect_ratio", "square")?;
    let maximum = match ratio {
        Ratio::Square | Ratio::Pad if unpad && newline_alone => {
            return Err(config.unsupported(merge_key, "a merge type without unpad where image_aspect_ratio is not anyres"));
        }
        Ratio::Square | Ratio::Pad => return Ok(None),
        Ratio::AnyRes => None,
        Ratio::AnyResMaximum(tiles) => Some(tiles),
    };
    let pinpoints = original_pinpoints(config, tile)?;
    check_pinpoints(config, "image_grid_pinpoints", &pinpoints, tile)?;
    Ok(Some(Tiling {
        pinpoints,
        tile: u32::try_from(tile).unwrap_or(u32::MAX),
        // LLaVA-OneVision's evaluation pads each of several images to one tile; LLaVA-1.6 tiles them all.
        only_single_images: maximum.is_some(),
        merge: TileMerge {
            order: if unpad { TileOrder::SpatialUnpad } else { order },
            base_view,
            newline: unpad,
            maximum_tiles: maximum.filter(|_| unpad),
            max_pool,
            unpad_rounding: UnpadRounding::Truncate,
        },
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(keys: Value) -> Result<Option<Tiling>, ExportError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, keys.to_string()).unwrap();
        original_tiling(&Config::read(&path).unwrap(), 336, true)
    }

    #[test]
    fn pinpoints_are_read_in_all_three_spellings() {
        let with = |pinpoints: Value| {
            let keys = json!({
                "image_aspect_ratio": "anyres", "mm_patch_merge_type": "spatial_unpad", "image_grid_pinpoints": pinpoints,
            });
            read(keys).map(|tiling| tiling.unwrap().pinpoints)
        };
        let sizes = [[672, 336], [336, 672], [672, 672], [336, 1008]];
        assert_eq!(with(json!([[336, 672], [672, 336], [672, 672], [1008, 336]])).unwrap(), sizes, "height first");
        assert_eq!(with(json!("[(336, 672), (672, 336), (672, 672), (1008, 336)]")).unwrap(), sizes);
        assert_eq!(with(json!("(1x1),...,(2x3)")).unwrap().len(), 6);
        assert_eq!(with(json!("(1x1),...,(2x3)")).unwrap()[2], [1008, 336], "width 1 tile, height 3");
        assert_eq!(with(json!("(1x2)")).unwrap(), [[672, 336]]);
        for wrong in [
            json!([[336, 670]]),
            json!([]),
            json!([[0, 336]]),
            json!("(2x2),...,(1x1)"),
            json!("(0x1),...,(1x1)"),
            json!("(1x1),...,(99999x99999)"),
            json!("(1x1),...,(12x13)"),
            json!("[(336, )]"),
            json!([[336]]),
            json!(7),
            json!(null),
        ] {
            let message = with(wrong.clone()).unwrap_err().to_string();
            assert!(message.contains("config.json: image_grid_pinpoints is"), "{wrong}: {message}");
        }
    }

    #[test]
    fn merge_types_say_how_rows_stand() {
        let with = |ratio: &str, merge: &str| {
            read(json!({"image_aspect_ratio": ratio, "mm_patch_merge_type": merge, "image_grid_pinpoints": [[336, 672]]}))
        };
        let merge = |ratio: &str, merge: &str| with(ratio, merge).unwrap().unwrap().merge;
        let unpadded = merge("anyres", "spatial_unpad");
        assert_eq!((unpadded.order, unpadded.newline, unpadded.base_view), (TileOrder::SpatialUnpad, true, true));
        assert_eq!((unpadded.maximum_tiles, unpadded.unpad_rounding), (None, UnpadRounding::Truncate));
        assert_eq!(merge("anyres_max_9", "spatial_unpad").maximum_tiles, Some(9));
        assert_eq!(merge("anyres_max_9", "spatial").maximum_tiles, None, "only unpadded grids are scaled down");
        let flat = merge("anyres", "flat");
        assert_eq!((flat.order, flat.newline, flat.base_view), (TileOrder::Flat, false, true));
        assert!(merge("anyres", "spatial_maxpool2x2").max_pool && !merge("anyres", "spatial_unpad_nobase").base_view);
        assert!(with("pad", "flat").unwrap().is_none() && with("square", "spatial").unwrap().is_none());
        assert!(with("anyres_max_9", "spatial_unpad").unwrap().unwrap().only_single_images);
        for (ratio, merge, key) in [
            ("highres", "flat", "image_aspect_ratio"),
            ("crop_split", "flat", "image_aspect_ratio"),
            ("anyres_max_0", "flat", "image_aspect_ratio"),
            ("anyres_max_x", "flat", "image_aspect_ratio"),
            ("pad", "spatial_unpad", "mm_patch_merge_type"),
            ("anyres", "spatial_unpad_maxpool2x2", "mm_patch_merge_type"),
            ("anyres", "spatial_avgpool", "mm_patch_merge_type"),
            ("anyres", "flat_nobase", "mm_patch_merge_type"),
        ] {
            let message = with(ratio, merge).unwrap_err().to_string();
            assert!(message.contains(&format!("config.json: {key} = ")), "{ratio} {merge}: {message}");
        }
    }
}
