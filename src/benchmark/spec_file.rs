//! Reading benchmark TOML files, the built-in ones among them.

use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::error::BenchmarkError;
use super::prompt::{PromptParts, PromptTemplate};
use super::spec::{BenchmarkSpec, ReferenceScore};
use super::spec_answering::{Generation, GenerationTable, agree, generation, stops_when_decided};
use super::spec_data::{DataTables, FormatName, forms};
use super::spec_scorer::{ScorerTable, scorer, unknown_metric};
use super::submission_format::SubmissionFormat;

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        /// Names and texts of the benchmarks that the program knows.
        pub(super) const BUILT_IN: &[(&str, &str)] = &[
            $(($name, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/benchmarks/", $name, ".toml")))),*
        ];
    };
}

built_in!(
    "vqav2",
    "vqav2_test_dev",
    "gqa",
    "vizwiz",
    "vizwiz_test",
    "scienceqa_img",
    "scienceqa",
    "textvqa",
    "textvqa_ocr",
    "textvqa_test",
    "pope",
    "mme",
    "mmbench_dev",
    "mmbench_cn_dev",
    "mmbench_test",
    "mmbench_cn_test",
    "seed_bench",
    "seed_bench_likelihood",
    "llava_bench_coco",
    "llava_bench_in_the_wild",
    "mm_vet",
    "mmmu_val",
    "mmmu_test",
    "ai2d",
    "chartqa",
    "docvqa",
    "docvqa_test",
    "infovqa",
    "infovqa_test",
    "ocrbench",
    "ocr_vqa",
    "st_vqa",
    "st_vqa_test",
    "refcoco",
    "refcoco+",
    "refcocog",
    "refcoco_caption",
    "refcoco+_caption",
    "refcocog_caption",
    "coco_caption_val2014",
    "coco_caption_val2017",
    "coco_caption_karpathy",
    "flickr30k",
    "flickr30k_all",
    "nocaps",
    "nocaps_test",
    "textcaps",
    "textcaps_test",
    "vqa_rad",
    "slake",
    "slake_lmms",
    "slake_zh",
    "path_vqa",
    "llava_med_chat",
    "nlvr2_dev",
    "nlvr2_test",
    "blink_val",
    "blink_val_extracted",
    "mantis_eval",
    "llava_interleave_in_domain",
    "llava_interleave_out_domain",
    "llava_interleave_multi_view",
    "imagenet_zero_shot",
    "coco_retrieval",
    "pico-vqa",
    "pico-pope",
    "pico-textvqa",
    "pico-refcoco",
    "pico-fineprint",
    "pico-vqa-rad",
    "pico-zeroshot",
    "pico-retrieval",
    "pico-mme",
    "pico-mmbench",
    "pico-mmbench-likelihood",
    "pico-caption",
    "pico-nlvr2",
);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SpecFile {
    name: Spanned<String>,
    title: String,
    licence: String,
    source: String,
    data: Spanned<DataTables>,
    prompt: Option<Spanned<PromptTable>>,
    generation: Option<Spanned<GenerationTable>>,
    scorer: Spanned<ScorerTable>,
    #[serde(default)]
    reference_scores: Vec<Spanned<ReferenceScore>>,
    submission: Option<SubmissionTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubmissionTable {
    format: SubmissionFormat,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PromptTable {
    template: Spanned<String>,
    open_template: Option<Spanned<String>>,
    context: Option<Spanned<String>>,
    without_context: Option<String>,
    option: Option<Spanned<String>>,
    option_separator: Option<String>,
    lettered_option: Option<String>,
    remove: Option<Spanned<Vec<String>>>,
    image_mark: Option<Spanned<String>>,
    image: Option<Spanned<String>>,
    source: String,
}

/// Turns what is wrong at a place into an error that names line and column.
pub(super) struct Place<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Place<'_> {
    pub(super) fn error<T>(&self, at: &Spanned<T>, message: impl std::fmt::Display) -> BenchmarkError {
        let before = self.text.get(..at.span().start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        BenchmarkError::Spec { path: self.path.to_path_buf(), message: format!("line {line}, column {column}: {message}") }
    }

    /// A field that the format or kind must have.
    pub(super) fn needed<T, U>(
        &self,
        field: Option<Spanned<T>>,
        name: &str,
        owner: &str,
        table: &Spanned<U>,
    ) -> Result<T, BenchmarkError> {
        field.map(Spanned::into_inner).ok_or_else(|| self.error(table, format_args!("{owner} needs the field `{name}`")))
    }

    /// A field that the format or kind must have, with its place.
    pub(super) fn needed_spanned<T, U>(
        &self,
        field: Option<Spanned<T>>,
        name: &str,
        owner: &str,
        table: &Spanned<U>,
    ) -> Result<Spanned<T>, BenchmarkError> {
        field.ok_or_else(|| self.error(table, format_args!("{owner} needs the field `{name}`")))
    }

    /// A field that the format or kind must not have.
    pub(super) fn unused<T>(&self, field: &Option<Spanned<T>>, name: &str, owner: &str) -> Result<(), BenchmarkError> {
        match field {
            Some(value) => Err(self.error(value, format_args!("the field `{name}` has no use with {owner}"))),
            None => Ok(()),
        }
    }
}

impl BenchmarkSpec {
    /// The benchmarks that the program knows, in the order in which they are listed to people.
    pub fn list() -> Result<Vec<Self>, BenchmarkError> {
        BUILT_IN.iter().map(|(name, text)| Self::parse(text, Path::new(&format!("{name}.toml")))).collect()
    }

    /// Reads a benchmark from TOML text. `path` is for messages only.
    pub fn parse(text: &str, path: &Path) -> Result<Self, BenchmarkError> {
        let place = Place { path, text };
        let file: SpecFile = toml::from_str(text).map_err(|error| BenchmarkError::Spec {
            path: path.to_path_buf(),
            message: error.to_string().trim_end().to_owned(),
        })?;
        if !is_plain_name(file.name.get_ref()) {
            let message =
                "`name` must be 1 to 64 lower-case letters, digits, `.`, `_`, `+` or `-`, beginning with a letter or digit";
            return Err(place.error(&file.name, message));
        }
        let at_data = Spanned::new(file.data.span(), ());
        let mut tables = file.data.into_inner().0;
        if let [table] = tables.as_mut_slice()
            && table.span().is_empty()
        {
            let lone = tables.remove(0).into_inner();
            tables.push(Spanned::new(at_data.span(), lone));
        }
        let formats: Vec<FormatName> = tables.iter().map(|table| table.get_ref().format).collect();
        let forms = forms(&place, tables)?;
        let (Some(&format), Some(data)) = (formats.first(), forms.first().cloned()) else {
            return Err(place.error(&at_data, "expected at least one form of the data"));
        };
        if formats.iter().any(|other| other.compares_embeddings() != format.compares_embeddings()) {
            return Err(
                place.error(&at_data, "some forms of the data are for answers in words and some for comparing embeddings")
            );
        }
        let (prompt, prompt_source, asked) = asking(&place, &formats, file.prompt, file.generation, &at_data)?;
        let Generation { max_new_tokens, answering, stop_when_decided } = asked;
        let kind = Spanned::new(file.scorer.get_ref().kind.span(), ());
        let primary_metric = file.scorer.get_ref().primary_metric.as_ref().map(|metric| Spanned::new(metric.span(), ()));
        let mut scorer = scorer(&place, &formats, &forms, file.scorer)?;
        agree(&place, answering, &mut scorer, &kind, primary_metric.as_ref())?;
        let stop_when_decided = stops_when_decided(&place, stop_when_decided, &scorer.rule)?;
        for score in &file.reference_scores {
            let metric = &score.get_ref().metric;
            if !scorer.rule.metric_names().contains(&metric.as_str()) {
                return Err(place.error(score, unknown_metric(metric, &scorer.rule)));
            }
        }
        Ok(Self {
            name: file.name.into_inner(),
            title: file.title,
            licence: file.licence,
            source: file.source,
            data,
            forms,
            prompt,
            prompt_source,
            max_new_tokens,
            scorer,
            reference_scores: file.reference_scores.into_iter().map(Spanned::into_inner).collect(),
            answering,
            stop_when_decided,
            submission: file.submission.map(|table| table.format),
        })
    }
}

/// The user's turn, where its text comes from, and the longest answer. Formats whose images and texts are only compared ask
/// nothing.
fn asking(
    place: &Place<'_>,
    formats: &[FormatName],
    prompt: Option<Spanned<PromptTable>>,
    table: Option<Spanned<GenerationTable>>,
    data: &Spanned<()>,
) -> Result<(PromptTemplate, String, Generation), BenchmarkError> {
    let Some(format) = formats.first() else { return Err(place.error(data, "expected at least one form of the data")) };
    let owner = format.owner();
    if format.compares_embeddings() {
        place.unused(&prompt, "prompt", owner)?;
        place.unused(&table, "generation", owner)?;
        let template = PromptTemplate::parse("{question}", &["question"]).map_err(|message| place.error(data, message))?;
        return Ok((template, String::new(), Generation::default()));
    }
    let PromptTable {
        template,
        open_template,
        context,
        without_context,
        option,
        option_separator,
        lettered_option,
        remove,
        image_mark,
        image,
        source,
    } = place.needed(prompt, "prompt", owner, data)?;
    let generation = generation(place, place.needed_spanned(table, "generation", owner, data)?)?;
    // What every form of the data can fill.
    let fillable = |hole: &&'static str| formats.iter().all(|format| format.prompt_holes().contains(hole));
    let allowed: Vec<&'static str> = format.prompt_holes().iter().copied().filter(|hole| fillable(hole)).collect();
    let spans = [
        ("template", Some(template.span())),
        ("open_template", open_template.as_ref().map(Spanned::span)),
        ("context", context.as_ref().map(Spanned::span)),
        ("option", option.as_ref().map(Spanned::span)),
        ("remove", remove.as_ref().map(Spanned::span)),
        ("image_mark", image_mark.as_ref().map(Spanned::span)),
        ("image", image.as_ref().map(Spanned::span)),
    ];
    let at_template = template.span();
    let inner = |field: Option<Spanned<String>>| field.map(Spanned::into_inner);
    let parts = PromptParts {
        template: template.into_inner(),
        open_template: inner(open_template),
        context: inner(context),
        without_context,
        option: inner(option),
        option_separator,
        lettered_option,
        remove: remove.map(Spanned::into_inner).unwrap_or_default(),
        image_mark: inner(image_mark),
        image: inner(image),
    };
    let parsed = PromptTemplate::build(parts, &allowed).map_err(|(part, message)| {
        let at = spans.into_iter().find(|(name, _)| *name == part).and_then(|(_, span)| span).unwrap_or(at_template);
        place.error(&Spanned::new(at, ()), message)
    })?;
    Ok((parsed, source, generation))
}

/// A name is also a folder name in the output of a run.
fn is_plain_name(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._+-".contains(&byte);
    name.len() <= 64 && name.bytes().all(good) && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
}
