//! RefCOCO, RefCOCO+ and RefCOCOg as MiniGPT-4 publishes them: one row a sentence, boxes as x, y, width, height in pixels.

use super::super::error::BenchmarkError;
use super::super::spec::SplitFile;
use super::super::types::{Conversation, PixelBox, Reference, Sample};
use super::Context;
use super::rows::{RowPlace, json_array, read_data_file};

/// How far a box may reach over the image's edge in pixels: coordinates are rounded to hundredths.
const EDGE_TOLERANCE_PIXELS: f64 = 0.02;

pub(super) fn read(context: &mut Context<'_>, splits: &[SplitFile]) -> Result<Vec<Sample>, BenchmarkError> {
    let mut samples = Vec::new();
    for split in splits {
        let path = context.file(&split.file)?;
        let text = read_data_file(&path)?;
        let raw_rows = json_array(&path, &text)?;
        context.check_rows(&path, &split.rows, raw_rows.len())?;
        for (index, raw) in raw_rows.iter().enumerate() {
            let place = RowPlace { path: &path, row: index + 1 };
            let object = place.object(raw.get())?;
            let img_id: String = object.field("img_id")?;
            let sentence: String = object.field("sents")?;
            let (width, height): (u32, u32) = (object.field("width")?, object.field("height")?);
            let region = region(&place, object.field("bbox")?, width, height)?;
            // `COCO_train2014_000000580957_4` is reference 4 in image `COCO_train2014_000000580957`.
            let Some((image, _)) = img_id.rsplit_once('_') else {
                return Err(place.error("img_id", "<image>_<reference>", format!("{:?}", img_id)));
            };
            samples.push(Sample {
                // Sentences repeat within a reference, so only the row tells samples apart.
                key: format!("{}/{index}", split.name),
                images: vec![context.image(&place, "img_id", image)?],
                cluster: image.to_owned(),
                prompt: context.spec.prompt.render(&sentence, &[]),
                conversation: Conversation::default(),
                question: sentence,
                reference: Reference::Region { region, width, height },
                category: Some(split.name.clone()),
            });
        }
    }
    Ok(samples)
}

/// The box as corners, clipped to the image after a check that it lies in it.
fn region(place: &RowPlace<'_>, bbox: [f64; 4], image_width: u32, image_height: u32) -> Result<PixelBox, BenchmarkError> {
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
        return Err(place.error("bbox", expected, format!("{:?}", bbox)));
    }
    Ok(PixelBox {
        x1: x.clamp(0.0, image_width),
        y1: y.clamp(0.0, image_height),
        x2: (x + width).clamp(0.0, image_width),
        y2: (y + height).clamp(0.0, image_height),
    })
}
