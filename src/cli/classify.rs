//! `classify`: which of some labels fits an image, by a CLIP package.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, anyhow};
use clap::Args;
use serde::Serialize;

use super::exit::{Exit, Failure};
use super::{Globals, VerbResult, clip, terminal};
use crate::benchmark::{ClassSet, ClassTemplate};
use crate::engine::normalise;
use crate::run::{best, class_embeddings};

/// Template where none is given: the label as it is.
const PLAIN_TEMPLATE: &str = "{c}";

/// Arguments of `classify`.
#[derive(Debug, Args)]
pub struct ClassifyArguments {
    /// CLIP package folder, or the name of a shipped package
    package: PathBuf,
    /// Image file; repeat for several images
    #[arg(long, value_name = "FILE", required = true)]
    image: Vec<PathBuf>,
    /// Labels to choose among; repeat or list several
    #[arg(long, value_name = "TEXT", required = true, num_args = 1..)]
    label: Vec<String>,
    /// Texts with `{c}` for the label, such as "a photo of a {c}."; embeddings of several are averaged [default: the label alone]
    #[arg(long, value_name = "TEXT", num_args = 1..)]
    template: Vec<String>,
    /// Print scores and timings as JSON
    #[arg(long)]
    json: bool,
}

/// What `classify --json` prints.
#[derive(Debug, Serialize)]
struct Classified {
    format: u32,
    package: String,
    templates: Vec<String>,
    images: Vec<ImageLabels>,
    timings_ms: Timings,
}

#[derive(Debug, Serialize)]
struct ImageLabels {
    image: String,
    /// The best first.
    labels: Vec<Scored>,
}

#[derive(Debug, Serialize)]
struct Scored {
    label: String,
    /// Softmax over the labels of the cosines times e^logit_scale.
    probability: f64,
    /// Cosine of image and label.
    cosine: f64,
}

#[derive(Debug, Serialize)]
struct Timings {
    load: f64,
    text: f64,
    image: f64,
    vision: f64,
}

/// Runs the verb.
pub fn run(arguments: ClassifyArguments, globals: &Globals) -> VerbResult {
    let setup = |message: String| Failure::new(Exit::Setup, anyhow!(message));
    let given = if arguments.template.is_empty() { vec![PLAIN_TEMPLATE.to_owned()] } else { arguments.template };
    let templates = given.iter().map(|text| ClassTemplate::parse(text)).collect::<Result<Vec<_>, _>>();
    let templates = templates.map_err(|message| setup(format!("--template: {message}")))?;
    if arguments.label.iter().any(|label| label.trim().is_empty()) {
        return Err(setup("--label: expected a text, found an empty one".to_owned()));
    }
    let mut model = clip::load(&arguments.package, globals)?;

    let classes = ClassSet::new(arguments.label, templates);
    let started = Instant::now();
    let embeddings = class_embeddings(&mut model.encoder, &model.tokenizer, &classes, &mut |_, _| true)?;
    let embeddings = embeddings.context("the labels were not embedded")?;
    let text_ms = milliseconds(started);

    let scale = model.package.manifest.logit_scale.exp();
    let (mut images, mut image_ms, mut vision_ms) = (Vec::new(), 0.0, 0.0);
    for path in &arguments.image {
        let started = Instant::now();
        let image =
            crate::image::load(path, &model.package.manifest.image).map_err(|error| Failure::new(Exit::Rejected, error))?;
        image_ms += milliseconds(started);
        let started = Instant::now();
        let embedding = normalise(&model.encoder.embed_images(&image.pixels)?);
        vision_ms += milliseconds(started);
        let embedding = embedding
            .ok_or_else(|| Failure::new(Exit::TooManyFailures, anyhow!("{}: the embedding has no direction", path.display())))?;
        let cosines = embeddings.dot(&embedding.row(0));
        let order = best(cosines.view(), classes.labels.len());
        let cosine = |place: usize| cosines.get(place).copied().map_or(f64::NAN, f64::from);
        let largest = order.first().map_or(0.0, |&place| cosine(place));
        let weight = |place: usize| ((cosine(place) - largest) * scale).exp();
        let sum: f64 = order.iter().map(|&place| weight(place)).sum();
        let labels = order.iter().map(|&place| Scored {
            label: classes.labels.get(place).cloned().unwrap_or_default(),
            probability: weight(place) / sum,
            cosine: cosine(place),
        });
        images.push(ImageLabels { image: path.display().to_string(), labels: labels.collect() });
    }
    if arguments.json {
        terminal::print_json(&Classified {
            format: 1,
            package: model.package.manifest.name.clone(),
            templates: given,
            images,
            timings_ms: Timings { load: model.encoder.load_ms(), text: text_ms, image: image_ms, vision: vision_ms },
        })?;
    } else {
        terminal::print(&table(&images))?;
    }
    Ok(Exit::Success)
}

fn table(images: &[ImageLabels]) -> String {
    let mut lines = Vec::new();
    for image in images {
        if images.len() > 1 {
            lines.push(terminal::clean(&image.image));
        }
        for scored in &image.labels {
            lines.push(format!("{:6.2} %  {}", 100.0 * scored.probability, terminal::clean(&scored.label)));
        }
    }
    lines.join("\n")
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
