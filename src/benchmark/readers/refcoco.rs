//! RefCOCO, RefCOCO+ and RefCOCOg: regions of images and the sentences that describe them. Either each sentence asks for its
//! region, or each region for a sentence.

use super::super::error::BenchmarkError;
use super::super::spec::{RegionTask, SplitFile};
use super::super::types::{Conversation, PixelBox, Reference, Sample};
use super::Context;
use super::rows::{RowPlace, json_array, read_data_file};

/// How far a box may reach over the image's edge in pixels: coordinates are rounded to hundredths.
const EDGE_TOLERANCE_PIXELS: f64 = 0.02;

/// A region with its sentences.
pub(super) struct Region {
    /// Row of the file, from 1; of several the first.
    pub row: usize,
    pub split: String,
    /// `<image>_<reference>`.
    pub img_id: String,
    pub sentences: Vec<String>,
    pub region: PixelBox,
    /// Size of the image in pixels.
    pub width: u32,
    pub height: u32,
}

/// Files as MiniGPT-4 publishes them: one row a sentence, boxes as x, y, width, height in pixels. Sentences of a region follow one
/// another.
pub(super) fn read(context: &mut Context<'_>, splits: &[SplitFile], task: RegionTask) -> Result<Vec<Sample>, BenchmarkError> {
    let mut samples = Vec::new();
    for split in splits {
        let path = context.file(&split.file)?;
        let text = read_data_file(&path)?;
        let raw_rows = json_array(&path, &text)?;
        context.check_rows(&path, &split.rows, raw_rows.len())?;
        let mut regions: Vec<Region> = Vec::new();
        for (index, raw) in raw_rows.iter().enumerate() {
            let place = RowPlace { path: &path, row: index + 1 };
            let object = place.object(raw.get())?;
            let img_id: String = object.field("img_id")?;
            let sentence: String = object.field("sents")?;
            let (width, height): (u32, u32) = (object.field("width")?, object.field("height")?);
            let region = region(&place, "bbox", object.field("bbox")?, width, height)?;
            match regions.last_mut() {
                Some(last) if last.img_id == img_id && last.region == region => last.sentences.push(sentence),
                _ => {
                    let (row, split) = (index + 1, split.name.clone());
                    regions.push(Region { row, split, img_id, sentences: vec![sentence], region, width, height });
                }
            }
        }
        ask(context, &path, &regions, task, &mut samples)?;
    }
    Ok(samples)
}

/// Makes samples of the regions of one split or several; sentences are numbered within their split.
pub(super) fn ask(
    context: &mut Context<'_>,
    path: &std::path::Path,
    regions: &[Region],
    task: RegionTask,
    samples: &mut Vec<Sample>,
) -> Result<(), BenchmarkError> {
    let mut numbers: std::collections::HashMap<&str, usize> = std::collections::HashMap::new();
    let mut described = std::collections::HashSet::new();
    for region in regions {
        let place = RowPlace { path, row: region.row };
        // `COCO_train2014_000000580957_4` is reference 4 in image `COCO_train2014_000000580957`.
        let Some((image, _)) = region.img_id.rsplit_once('_') else {
            return Err(place.error("img_id", "<image>_<reference>", format!("{:?}", region.img_id)));
        };
        let file = context.image(&place, "img_id", image)?;
        let mut add = |key: String, question: String, reference: Reference| {
            samples.push(Sample {
                key,
                images: vec![file.clone()],
                cluster: image.to_owned(),
                prompt: context.spec.prompt.render(&question, &[]),
                conversation: Conversation::default(),
                question,
                reference,
                category: Some(region.split.clone()),
            });
        };
        match task {
            RegionTask::Find => {
                let number = numbers.entry(&region.split).or_default();
                for sentence in &region.sentences {
                    // Sentences repeat within a reference, so only the row tells samples apart.
                    let key = format!("{}/{number}", region.split);
                    let Region { region, width, height, .. } = *region;
                    add(key, sentence.clone(), Reference::Region { region, width, height });
                    *number += 1;
                }
            }
            RegionTask::Describe => {
                let key = format!("{}/{}", region.split, region.img_id);
                if !described.insert(key.clone()) {
                    return Err(place.error(
                        "img_id",
                        "all sentences of a region together",
                        format!("{:?} again", region.img_id),
                    ));
                }
                let question = padded_square_shares(&region.region, region.width, region.height);
                add(key, question, Reference::Answers { answers: region.sentences.clone() });
            }
        }
    }
    Ok(())
}

/// The box as corners, clipped to the image after a check that it lies in it.
pub(super) fn region(
    place: &RowPlace<'_>,
    field: &str,
    bbox: [f64; 4],
    image_width: u32,
    image_height: u32,
) -> Result<PixelBox, BenchmarkError> {
    if image_width == 0 || image_height == 0 {
        let found = format!("{image_width} × {image_height}");
        return Err(place.error("width", "an image of at least 1 × 1 pixels", found));
    }
    let (image_width, image_height) = (f64::from(image_width), f64::from(image_height));
    let [x, y, width, height] = bbox;
    let inside = x >= -EDGE_TOLERANCE_PIXELS
        && y >= -EDGE_TOLERANCE_PIXELS
        && width > 0.0
        && height > 0.0
        && x + width <= image_width + EDGE_TOLERANCE_PIXELS
        && y + height <= image_height + EDGE_TOLERANCE_PIXELS;
    if !inside {
        let expected = format!("x, y, width, height of a box within {image_width} × {image_height}");
        return Err(place.error(field, expected, format!("{:?}", bbox)));
    }
    Ok(PixelBox {
        x1: x.clamp(0.0, image_width),
        y1: y.clamp(0.0, image_height),
        x2: (x + width).clamp(0.0, image_width),
        y2: (y + height).clamp(0.0, image_height),
    })
}

/// A box as LLaVA's training data write it: shares of the padded square, rounded to two decimals and printed as Python prints
/// numbers, `[0.32, 0.8, 0.59, 1.0]`.
fn padded_square_shares(region: &PixelBox, width: u32, height: u32) -> String {
    let side = width.max(height).max(1);
    let share = |pixel: f64, size: u32| {
        let text = format!("{:.2}", (pixel + f64::from((side - size) / 2)) / f64::from(side));
        text.strip_suffix('0').map_or(text.clone(), str::to_owned)
    };
    let (x1, y1) = (share(region.x1, width), share(region.y1, height));
    format!("[{x1}, {y1}, {}, {}]", share(region.x2, width), share(region.y2, height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_written_as_python_prints_rounded_shares() {
        let region = PixelBox { x1: 0.0, y1: 0.0, x2: 640.0, y2: 212.0 };
        // The image stands 108 pixels below the top of the square.
        assert_eq!(padded_square_shares(&region, 640, 424), "[0.0, 0.17, 1.0, 0.5]");
        let region = PixelBox { x1: 10.0, y1: 0.0, x2: 20.0, y2: 100.0 };
        assert_eq!(padded_square_shares(&region, 51, 100), "[0.34, 0.0, 0.44, 1.0]");
    }
}
