//! The table `scorer` of a benchmark's TOML file: which options each kind has, and which data it can score.

use serde::Deserialize;
use toml::Spanned;

use super::choice::{ChoiceParser, InterleaveVariant};
use super::error::BenchmarkError;
use super::scorer_rule::{BoxSpace, JudgeContext, RelativeScore, ScorerRule, ScorerSpec, ThresholdRule, VqaVariant};
use super::short_answer_rule::{Edition, ShortAnswerRule};
use super::spec::{DataFormat, DataSpec, RegionTask};
use super::spec_data::FormatName;
use super::spec_file::Place;
use super::table_spec::ReferenceKind;

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ScorerKind {
    Vqa,
    Pope,
    Textvqa,
    Grounding,
    LlavaMed,
    ZeroShot,
    Retrieval,
    LlavaBench,
    LlavaMedChat,
    MmVet,
    JudgeMatch,
    #[serde(rename = "vizwiz")]
    VizWiz,
    Gqa,
    Exact,
    Anls,
    RelaxedAccuracy,
    #[serde(rename = "ocrbench")]
    OcrBench,
    Mme,
    Slake,
    Choice,
    Nlvr2,
    Interleave,
    InterleaveLmms,
    ChoiceLikelihood,
    Caption,
}

/// Whose code a scorer follows.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Variant {
    Official,
    M4c,
    Lmms,
    Vlmevalkit,
}

impl Variant {
    /// As the file has it.
    fn name(self) -> &'static str {
        match self {
            Self::Official => "official",
            Self::M4c => "m4c",
            Self::Lmms => "lmms",
            Self::Vlmevalkit => "vlmevalkit",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScorerTable {
    pub kind: Spanned<ScorerKind>,
    variant: Option<Spanned<Variant>>,
    boundary: Option<Spanned<ThresholdRule>>,
    box_space: Option<Spanned<BoxSpace>>,
    threshold_rule: Option<Spanned<ThresholdRule>>,
    context: Option<Spanned<JudgeContext>>,
    relative_score: Option<Spanned<RelativeScore>>,
    pub primary_metric: Option<Spanned<String>>,
    parser: Option<Spanned<ChoiceParser>>,
}

pub(super) fn scorer(
    place: &Place<'_>,
    formats: &[FormatName],
    forms: &[DataSpec],
    table: Spanned<ScorerTable>,
) -> Result<ScorerSpec, BenchmarkError> {
    let span = Spanned::new(table.span(), ());
    let ScorerTable { kind, variant, boundary, box_space, threshold_rule, context, relative_score, primary_metric, parser } =
        table.into_inner();
    let owner = match kind.get_ref() {
        ScorerKind::Vqa => "the scorer `vqa`",
        ScorerKind::Pope => "the scorer `pope`",
        ScorerKind::Textvqa => "the scorer `textvqa`",
        ScorerKind::Grounding => "the scorer `grounding`",
        ScorerKind::LlavaMed => "the scorer `llava-med`",
        ScorerKind::ZeroShot => "the scorer `zero-shot`",
        ScorerKind::Retrieval => "the scorer `retrieval`",
        ScorerKind::LlavaBench => "the scorer `llava-bench`",
        ScorerKind::LlavaMedChat => "the scorer `llava-med-chat`",
        ScorerKind::MmVet => "the scorer `mm-vet`",
        ScorerKind::JudgeMatch => "the scorer `judge-match`",
        ScorerKind::VizWiz => "the scorer `vizwiz`",
        ScorerKind::Gqa => "the scorer `gqa`",
        ScorerKind::Exact => "the scorer `exact`",
        ScorerKind::Anls => "the scorer `anls`",
        ScorerKind::RelaxedAccuracy => "the scorer `relaxed-accuracy`",
        ScorerKind::OcrBench => "the scorer `ocrbench`",
        ScorerKind::Mme => "the scorer `mme`",
        ScorerKind::Slake => "the scorer `slake`",
        ScorerKind::Choice => "the scorer `choice`",
        ScorerKind::Nlvr2 => "the scorer `nlvr2`",
        ScorerKind::Interleave => "the scorer `interleave`",
        ScorerKind::InterleaveLmms => "the scorer `interleave-lmms`",
        ScorerKind::ChoiceLikelihood => "the scorer `choice-likelihood`",
        ScorerKind::Caption => "the scorer `caption`",
    };
    let fits = formats.iter().zip(forms).all(|(format, form)| match &form.format {
        DataFormat::Table(table) => fits_reference(*kind.get_ref(), table.reference.kind()),
        DataFormat::RefcocoMinigpt4 { task: RegionTask::Describe, .. }
        | DataFormat::RefcocoRefs { task: RegionTask::Describe, .. } => *kind.get_ref() == ScorerKind::Caption,
        _ => fits_format(*kind.get_ref(), *format),
    });
    if !fits {
        return Err(place.error(&kind, format_args!("{owner} cannot score data of this format")));
    }
    if *kind.get_ref() != ScorerKind::Anls {
        place.unused(&boundary, "boundary", owner)?;
    }
    if *kind.get_ref() != ScorerKind::Grounding {
        place.unused(&box_space, "box_space", owner)?;
        place.unused(&threshold_rule, "threshold_rule", owner)?;
    }
    if *kind.get_ref() != ScorerKind::LlavaBench {
        place.unused(&context, "context", owner)?;
        place.unused(&relative_score, "relative_score", owner)?;
    }
    let taken = match kind.get_ref() {
        ScorerKind::Vqa => &[Variant::Official, Variant::M4c, Variant::Lmms][..],
        ScorerKind::Pope | ScorerKind::VizWiz | ScorerKind::Gqa | ScorerKind::OcrBench | ScorerKind::Mme => {
            &[Variant::Official, Variant::Lmms]
        }
        ScorerKind::Anls => &[Variant::Official, Variant::M4c],
        ScorerKind::RelaxedAccuracy => &[Variant::Official, Variant::Vlmevalkit],
        ScorerKind::Slake => &[Variant::Lmms],
        _ => &[],
    };
    if taken.is_empty() {
        place.unused(&variant, "variant", owner)?;
    }
    if let Some(given) = variant.as_ref().filter(|given| !taken.contains(given.get_ref())) {
        let known: Vec<String> = taken.iter().map(|variant| format!("`{}`", variant.name())).collect();
        let message = format!("{owner} has the variants {}, found `{}`", known.join(", "), given.get_ref().name());
        return Err(place.error(given, message));
    }
    let chosen = variant.as_ref().map(|variant| *variant.get_ref());
    let edition = if chosen == Some(Variant::Lmms) { Edition::Lmms } else { Edition::Official };
    if *kind.get_ref() != ScorerKind::Choice {
        place.unused(&parser, "parser", owner)?;
    }
    let rule = match kind.get_ref() {
        ScorerKind::Vqa => ScorerRule::Vqa {
            variant: match place.needed(variant, "variant", owner, &span)? {
                Variant::M4c => VqaVariant::M4c,
                Variant::Lmms => VqaVariant::Lmms,
                Variant::Official | Variant::Vlmevalkit => VqaVariant::Official,
            },
        },
        ScorerKind::Pope if edition == Edition::Lmms => ScorerRule::ShortAnswer(ShortAnswerRule::PopeLmms),
        ScorerKind::Pope => ScorerRule::Pope,
        ScorerKind::Textvqa => ScorerRule::Textvqa,
        ScorerKind::LlavaMed => ScorerRule::LlavaMed,
        ScorerKind::ZeroShot => ScorerRule::ZeroShot,
        ScorerKind::Retrieval => ScorerRule::Retrieval,
        ScorerKind::ChoiceLikelihood => ScorerRule::ChoiceLikelihood,
        ScorerKind::Caption => ScorerRule::Caption,
        ScorerKind::LlavaBench => ScorerRule::LlavaBench {
            context: place.needed(context, "context", owner, &span)?,
            relative_score: place.needed(relative_score, "relative_score", owner, &span)?,
        },
        ScorerKind::LlavaMedChat => ScorerRule::LlavaMedChat,
        ScorerKind::MmVet => ScorerRule::MmVet,
        ScorerKind::JudgeMatch => ScorerRule::JudgeMatch,
        ScorerKind::Grounding => ScorerRule::Grounding {
            box_space: place.needed(box_space, "box_space", owner, &span)?,
            threshold_rule: place.needed(threshold_rule, "threshold_rule", owner, &span)?,
        },
        ScorerKind::VizWiz => ScorerRule::ShortAnswer(ShortAnswerRule::VizWiz(edition)),
        ScorerKind::Gqa => ScorerRule::ShortAnswer(ShortAnswerRule::Gqa(edition)),
        ScorerKind::Exact => ScorerRule::ShortAnswer(ShortAnswerRule::Exact),
        ScorerKind::Anls if chosen == Some(Variant::M4c) => {
            place.unused(&boundary, "boundary", "the variant `m4c`")?;
            ScorerRule::ShortAnswer(ShortAnswerRule::AnlsM4c)
        }
        ScorerKind::Anls => ScorerRule::ShortAnswer(ShortAnswerRule::Anls(place.needed(boundary, "boundary", owner, &span)?)),
        ScorerKind::RelaxedAccuracy if chosen == Some(Variant::Vlmevalkit) => {
            ScorerRule::ShortAnswer(ShortAnswerRule::RelaxedAccuracyTrimmed)
        }
        ScorerKind::RelaxedAccuracy => ScorerRule::ShortAnswer(ShortAnswerRule::RelaxedAccuracy),
        ScorerKind::OcrBench => ScorerRule::ShortAnswer(ShortAnswerRule::OcrBench(edition)),
        ScorerKind::Mme => ScorerRule::ShortAnswer(ShortAnswerRule::Mme(edition)),
        ScorerKind::Slake => ScorerRule::ShortAnswer(ShortAnswerRule::SlakeLmms),
        ScorerKind::Choice => ScorerRule::Choice { parser: place.needed(parser, "parser", owner, &span)? },
        ScorerKind::Nlvr2 => ScorerRule::Nlvr2,
        ScorerKind::Interleave => ScorerRule::Interleave { variant: InterleaveVariant::Official },
        ScorerKind::InterleaveLmms => ScorerRule::Interleave { variant: InterleaveVariant::Lmms },
    };
    if let ScorerRule::Choice { parser } = rule
        && !parser.scores_open_questions()
        && forms.iter().any(
            |form| matches!(&form.format, DataFormat::Table(table) if table.reference.kind() == ReferenceKind::ChoiceOrAnswers),
        )
    {
        return Err(place.error(&kind, format_args!("the parser `{}` cannot score questions without options", parser.as_str())));
    }
    match primary_metric {
        None => Ok(ScorerSpec::new(rule)),
        Some(metric) if rule.metric_names().contains(&metric.get_ref().as_str()) => {
            Ok(ScorerSpec { rule, primary_metric: metric.into_inner() })
        }
        Some(metric) => Err(place.error(&metric, unknown_metric(metric.get_ref(), &rule))),
    }
}

/// Whether a scorer can score data of a format other than `table`.
fn fits_format(kind: ScorerKind, format: FormatName) -> bool {
    match format {
        FormatName::Vqav2 | FormatName::Textvqa | FormatName::LlavaConversations => fits_reference(kind, ReferenceKind::Answers),
        FormatName::Pope => matches!(kind, ScorerKind::Pope | ScorerKind::ChoiceLikelihood),
        FormatName::MmeRelease => kind == ScorerKind::Mme,
        FormatName::RefcocoMinigpt4 => kind == ScorerKind::Grounding,
        FormatName::VqaRad => matches!(kind, ScorerKind::LlavaMed | ScorerKind::Slake | ScorerKind::JudgeMatch),
        FormatName::ZeroShot => kind == ScorerKind::ZeroShot,
        FormatName::Retrieval => kind == ScorerKind::Retrieval,
        FormatName::Captions => kind == ScorerKind::Caption,
        FormatName::RefcocoRefs => kind == ScorerKind::Grounding,
        FormatName::Table => false,
        FormatName::LlavaBench => matches!(kind, ScorerKind::LlavaBench | ScorerKind::JudgeMatch),
        FormatName::LlavaMedChat => matches!(kind, ScorerKind::LlavaMedChat | ScorerKind::JudgeMatch),
        FormatName::MmVet => matches!(kind, ScorerKind::MmVet | ScorerKind::JudgeMatch),
    }
}

/// Whether a scorer can score a kind of reference, for data of the format `table`.
fn fits_reference(kind: ScorerKind, reference: ReferenceKind) -> bool {
    match kind {
        // Answers are then only written for the benchmark's server.
        _ if reference == ReferenceKind::Withheld => !matches!(kind, ScorerKind::ZeroShot | ScorerKind::Retrieval),
        ScorerKind::Vqa | ScorerKind::Textvqa => reference == ReferenceKind::Answers,
        ScorerKind::Pope => reference == ReferenceKind::YesNo,
        ScorerKind::Grounding => reference == ReferenceKind::Region,
        ScorerKind::LlavaMed => reference == ReferenceKind::OpenOrClosed,
        ScorerKind::ZeroShot | ScorerKind::Retrieval => false,
        ScorerKind::LlavaBench | ScorerKind::LlavaMedChat | ScorerKind::MmVet => reference == ReferenceKind::Judged,
        ScorerKind::JudgeMatch => {
            matches!(reference, ReferenceKind::Judged | ReferenceKind::Answers | ReferenceKind::OpenOrClosed)
        }
        ScorerKind::VizWiz
        | ScorerKind::Gqa
        | ScorerKind::Exact
        | ScorerKind::Anls
        | ScorerKind::RelaxedAccuracy
        | ScorerKind::OcrBench => reference == ReferenceKind::Answers,
        ScorerKind::Mme => reference == ReferenceKind::YesNo,
        ScorerKind::Slake => reference == ReferenceKind::OpenOrClosed,
        ScorerKind::Choice => {
            matches!(reference, ReferenceKind::Choice | ReferenceKind::ChoiceOrAnswers | ReferenceKind::Withheld)
        }
        ScorerKind::Nlvr2 => reference == ReferenceKind::YesNo,
        ScorerKind::Interleave | ScorerKind::InterleaveLmms => reference == ReferenceKind::OpenOrClosed,
        ScorerKind::ChoiceLikelihood => matches!(reference, ReferenceKind::Choice | ReferenceKind::YesNo),
        ScorerKind::Caption => matches!(reference, ReferenceKind::Answers | ReferenceKind::Withheld),
    }
}

pub(super) fn unknown_metric(metric: &str, rule: &ScorerRule) -> String {
    format!("expected one of the metrics {}, found {metric:?}", rule.metric_names().join(", "))
}
