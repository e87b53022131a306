//! Which samples a report shows, in which order, on which of its pages, and each of them with the answers of all packages
//! side by side.

mod embed;
mod join;
mod order;
mod pages;
mod texts;

use crate::store::GroupTimings;

use super::thumbnails::Gallery;
use super::types::{ImageSource, RunSamples};
use super::view::View;

pub(super) use pages::{SamplePage, file_name};

/// Images shown of a sample that has several.
const IMAGES_SHOWN: usize = 4;

/// Left, top, right, bottom in pixels of the original image.
pub(super) type Corners = [f64; 4];

/// How an answer fared. The symbol and the word carry it, colour only repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Right,
    Partly,
    Wrong,
    Unparsed,
    Unscored,
    Failed,
}

impl Mark {
    /// All of them, in the order of their numbers in the page's data.
    pub const ALL: [Self; 6] = [Self::Right, Self::Partly, Self::Wrong, Self::Unparsed, Self::Unscored, Self::Failed];

    pub fn symbol(self) -> &'static str {
        match self {
            Self::Right => "✓",
            Self::Partly => "◐",
            Self::Wrong => "✗",
            Self::Unparsed => "?",
            Self::Unscored => "–",
            Self::Failed => "!",
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::Partly => "partly right",
            Self::Wrong => "wrong",
            Self::Unparsed => "unparsed",
            Self::Unscored => "no score",
            Self::Failed => "failed",
        }
    }

    pub fn class(self) -> &'static str {
        match self {
            Self::Right => "good",
            Self::Wrong | Self::Failed => "bad",
            Self::Partly | Self::Unparsed | Self::Unscored => "open",
        }
    }

    fn of(score: Option<f64>, parsed: bool, failed: bool) -> Self {
        match score {
            _ if failed => Self::Failed,
            None => Self::Unscored,
            // Scores are sums of tenths at the finest; this only absorbs their rounding.
            Some(score) if score >= 1.0 - 1e-9 => Self::Right,
            Some(score) if score > 0.0 => Self::Partly,
            Some(_) if !parsed => Self::Unparsed,
            Some(_) => Self::Wrong,
        }
    }
}

/// A prompt as rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Prompt {
    /// None is known.
    Unknown,
    /// What stands before and after the sample's question: most prompts of a run differ in the question alone.
    Around(String, String),
    /// The whole, shortened.
    Whole(String),
}

/// What the generation of an answer did.
#[derive(Clone, Debug)]
pub(super) struct Generation {
    pub tokens: usize,
    /// The first of their ids.
    pub token_ids: Vec<u32>,
    pub stop_reason: String,
    pub prompt_tokens: usize,
    pub log_probability: f64,
    pub ttft_ms: f64,
    pub tpot_ms: Option<f64>,
    /// Of all questions about the same images.
    pub group: GroupTimings,
}

/// One package's answer to a sample.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// Index into `View::packages`.
    pub package: usize,
    pub mark: Mark,
    pub text: String,
    pub parsed: Option<String>,
    pub score: Option<f64>,
    /// Why there is none.
    pub failure: Option<String>,
    pub predicted: Option<Corners>,
    pub iou: Option<f64>,
    pub prompt: Prompt,
    pub generation: Option<Generation>,
    /// What a judge said, or how the candidates were ranked.
    pub note: Option<String>,
}

/// One sample.
#[derive(Clone, Debug)]
pub(super) struct Card {
    /// Index into `View::benchmarks`.
    pub benchmark: usize,
    pub key: String,
    pub category: Option<String>,
    /// The first [`IMAGES_SHOWN`].
    pub images: Vec<String>,
    /// How many there are beyond these.
    pub further_images: usize,
    pub question: String,
    pub reference: Option<String>,
    pub region: Option<Corners>,
    /// Width and height of the original image in pixels, where the reference tells them.
    pub size: Option<(u32, u32)>,
    pub answers: Vec<Answer>,
    /// Some package scores lower than the first.
    pub broken: bool,
    /// Some package scores higher than the first.
    pub fixed: bool,
    data_root: String,
    /// Number of the image (or whatever binds samples together) within the benchmark.
    cluster: usize,
}

impl Card {
    pub fn differs(&self) -> bool {
        self.broken || self.fixed
    }

    fn wrong(&self) -> bool {
        self.answers.iter().any(|answer| matches!(answer.mark, Mark::Wrong | Mark::Partly | Mark::Unparsed))
    }

    fn failed(&self) -> bool {
        self.answers.iter().any(|answer| answer.mark == Mark::Failed)
    }

    /// Place in the order of interest: broken, fixed, failed, wrong, the others.
    pub fn tier(&self) -> usize {
        if self.broken {
            0
        } else if self.fixed {
            1
        } else if self.failed() {
            2
        } else if self.wrong() {
            3
        } else {
            4
        }
    }

    /// Whether there is a box to draw.
    pub fn has_boxes(&self) -> bool {
        self.region.is_some() || self.answers.iter().any(|answer| answer.predicted.is_some())
    }
}

/// How many samples of a benchmark there are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct GroupCount {
    /// Samples known.
    pub total: usize,
    /// Samples whose score differs between packages.
    pub differing: usize,
}

/// All samples, cut into pages.
#[derive(Debug)]
pub(super) struct SampleList {
    /// The benchmarks that have any.
    pub groups: Vec<GroupCount>,
    /// The first is part of `index.html`, the others are files of their own. Empty where no sample is known.
    pub pages: Vec<SamplePage>,
    /// The images of all pages.
    pub gallery: Gallery,
}

impl SampleList {
    /// Joins, orders and cuts. Deterministic: the same records give the same list.
    pub fn collect(view: &View<'_>, samples: &[RunSamples<'_>], images: &ImageSource) -> Self {
        let (mut groups, mut by_benchmark) = (Vec::new(), Vec::new());
        for (benchmark, of) in view.benchmarks.iter().enumerate() {
            let mut cards = join::joined(benchmark, of, samples);
            if cards.is_empty() {
                cards = join::from_flips(benchmark, of);
            }
            if cards.is_empty() {
                continue;
            }
            let differing = cards.iter().filter(|card| card.differs()).count();
            groups.push(GroupCount { total: cards.len(), differing });
            by_benchmark.push(cards);
        }
        let cards = order::in_order(by_benchmark);
        let distinct: std::collections::HashSet<(&str, &str)> =
            cards.iter().flat_map(|card| card.images.iter().map(|image| (card.data_root.as_str(), image.as_str()))).collect();
        let mut gallery = Gallery::new(images.clone(), distinct.len());
        let pages = pages::cut(view, cards, &mut gallery);
        Self { groups, pages, gallery }
    }

    /// Samples shown on all pages.
    pub fn shown(&self) -> usize {
        self.pages.iter().map(|page| page.samples).sum()
    }

    /// Samples known.
    pub fn total(&self) -> usize {
        self.groups.iter().map(|group| group.total).sum()
    }

    /// Samples known whose score differs between packages.
    pub fn differing(&self) -> usize {
        self.groups.iter().map(|group| group.differing).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_follow_the_score() {
        assert_eq!(Mark::of(Some(1.0), true, false), Mark::Right);
        assert_eq!(Mark::of(Some(0.1 + 0.2 + 0.7), true, false), Mark::Right);
        assert_eq!(Mark::of(Some(0.3), true, false), Mark::Partly);
        assert_eq!(Mark::of(Some(0.0), true, false), Mark::Wrong);
        assert_eq!(Mark::of(Some(0.0), false, false), Mark::Unparsed);
        assert_eq!(Mark::of(None, false, true), Mark::Failed);
        assert_eq!(Mark::of(None, true, false), Mark::Unscored);
    }
}
