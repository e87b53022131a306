//! Which samples a report shows, and each of them with the answers of all packages side by side.

use std::collections::{HashMap, HashSet};

use crate::benchmark::{Reference, option_letter};
use crate::compare::FlipSide;
use crate::guard::escape;
use crate::store::SampleRecord;

use super::format;
use super::thumbnails::Gallery;
use super::types::{ImageSource, RunSamples};
use super::view::{BenchmarkView, View};

/// Most samples shown of one benchmark.
const CARDS_PER_BENCHMARK: usize = 48;
/// Data URIs of all thumbnails together.
const IMAGE_BUDGET_BYTES: usize = 3_500_000;
/// Texts of all cards together, before escaping.
const TEXT_BUDGET_BYTES: usize = 600_000;
const QUESTION_LIMIT: usize = 600;
const ANSWER_LIMIT: usize = 600;
const PROMPT_LIMIT: usize = 1200;
/// Candidates shown of a ranking.
const RANKED_SHOWN: usize = 5;
/// Distinct annotator answers shown.
const REFERENCES_SHOWN: usize = 10;

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
            Self::Partly => "open",
            Self::Wrong | Self::Failed => "bad",
            Self::Unparsed | Self::Unscored => "open",
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
    /// Prompt as rendered, and what the generation did; empty where only a flip is known.
    pub prompt: String,
    pub facts: String,
}

/// One sample.
#[derive(Clone, Debug)]
pub(super) struct Card {
    pub key: String,
    pub category: Option<String>,
    pub image: Option<String>,
    pub further_images: usize,
    /// Index into the gallery.
    pub thumbnail: Option<usize>,
    pub question: String,
    pub reference: Option<String>,
    pub region: Option<Corners>,
    /// Width and height of the original image in pixels, where the reference tells them.
    pub size: Option<(u32, u32)>,
    pub answers: Vec<Answer>,
    pub broken: bool,
    pub fixed: bool,
    data_root: String,
    cluster: String,
}

impl Card {
    pub fn differs(&self) -> bool {
        self.broken || self.fixed
    }

    pub fn wrong(&self) -> bool {
        self.answers.iter().any(|answer| !matches!(answer.mark, Mark::Right | Mark::Unscored))
    }

    pub fn failed(&self) -> bool {
        self.answers.iter().any(|answer| answer.mark == Mark::Failed)
    }

    /// Place in the order of interest and how many of the kind are wanted at most.
    fn tier(&self) -> (usize, usize) {
        if self.broken {
            (0, 20)
        } else if self.fixed {
            (1, 12)
        } else if self.failed() {
            (2, 6)
        } else if self.wrong() {
            (3, 14)
        } else {
            (4, 6)
        }
    }

    fn text_bytes(&self) -> usize {
        let answers: usize = self
            .answers
            .iter()
            .map(|answer| answer.text.len() + answer.prompt.len() + answer.parsed.as_ref().map_or(0, String::len) + 300)
            .sum();
        self.question.len() + self.reference.as_ref().map_or(0, String::len) + answers + 300
    }
}

/// The samples shown of one benchmark.
#[derive(Clone, Debug)]
pub(super) struct SampleGroup {
    /// Index into `View::benchmarks`.
    pub benchmark: usize,
    pub cards: Vec<Card>,
    /// Samples known.
    pub total: usize,
    /// Samples whose score differs between packages.
    pub differing: usize,
}

/// All samples shown.
#[derive(Debug)]
pub(super) struct SampleList {
    pub groups: Vec<SampleGroup>,
    pub gallery: Gallery,
}

impl SampleList {
    /// Chooses and joins. Deterministic: the same records give the same list.
    pub fn collect(view: &View<'_>, samples: &[RunSamples<'_>], images: &ImageSource) -> Self {
        let mut gallery = Gallery::new(images.clone(), IMAGE_BUDGET_BYTES);
        let mut groups = Vec::new();
        let mut waiting: Vec<std::vec::IntoIter<Card>> = Vec::new();
        for (index, benchmark) in view.benchmarks.iter().enumerate() {
            let mut cards = joined(benchmark, samples);
            if cards.is_empty() {
                cards = from_flips(benchmark);
            }
            if cards.is_empty() {
                continue;
            }
            let (total, differing) = (cards.len(), cards.iter().filter(|card| card.differs()).count());
            groups.push(SampleGroup { benchmark: index, cards: Vec::new(), total, differing });
            waiting.push(choose(cards).into_iter());
        }
        // One card of each benchmark in turn, so that the budgets are shared fairly.
        let mut text_budget = TEXT_BUDGET_BYTES;
        let mut any = true;
        while any {
            any = false;
            for (group, cards) in groups.iter_mut().zip(&mut waiting) {
                let Some(mut card) = cards.next() else { continue };
                let Some(left) = text_budget.checked_sub(card.text_bytes()) else { continue };
                if let Some(image) = &card.image {
                    card.thumbnail = gallery.add(&card.data_root, image);
                }
                if gallery.is_full() {
                    any = false;
                    break;
                }
                text_budget = left;
                any = true;
                group.cards.push(card);
            }
        }
        Self { groups, gallery }
    }

    /// Samples shown.
    pub fn shown(&self) -> usize {
        self.groups.iter().map(|group| group.cards.len()).sum()
    }

    /// Samples known.
    pub fn total(&self) -> usize {
        self.groups.iter().map(|group| group.total).sum()
    }
}

/// Every sample of a benchmark with the answers of all its packages, in the order of the first run that has it.
fn joined(benchmark: &BenchmarkView<'_>, samples: &[RunSamples<'_>]) -> Vec<Card> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut cards: Vec<Card> = Vec::new();
    for run in &benchmark.runs {
        let data_root = &run.run.header.benchmark.data_root;
        for record in samples.iter().filter(|samples| samples.run == run.index).flat_map(|samples| samples.records) {
            let place = *places.entry(record.key.as_str()).or_insert_with(|| {
                cards.push(card(record, data_root));
                cards.len() - 1
            });
            let Some(card) = cards.get_mut(place) else { continue };
            // A key twice in one run is not for the report to judge; its first record counts.
            if card.answers.iter().all(|known| known.package != run.package) {
                card.answers.push(answer(record, run.package));
            }
        }
    }
    for card in &mut cards {
        let Some(base) = card.answers.first().and_then(|base| base.score) else { continue };
        let others = || card.answers.iter().skip(1).filter_map(|other| other.score);
        (card.broken, card.fixed) = (others().any(|score| score < base), others().any(|score| score > base));
    }
    cards
}

fn card(record: &SampleRecord, data_root: &str) -> Card {
    let (reference, region, size) = reference(&record.reference);
    Card {
        key: record.key.clone(),
        category: record.category.clone(),
        image: record.images.first().cloned(),
        further_images: record.images.len().saturating_sub(1),
        thumbnail: None,
        question: escape::shorten(&record.question, QUESTION_LIMIT),
        reference: Some(reference),
        region,
        size,
        answers: Vec::new(),
        broken: false,
        fixed: false,
        data_root: data_root.to_owned(),
        cluster: record.cluster.clone(),
    }
}

fn answer(record: &SampleRecord, package: usize) -> Answer {
    let tokens = format::counted(record.token_ids.len(), "token", "tokens");
    let facts = ranking_facts(record).unwrap_or_else(|| {
        format!(
            "{tokens}, stopped by {}, prompt of {} tokens, first token after {} ms, log-probability {}",
            if record.stop_reason.is_empty() { format::MISSING } else { &record.stop_reason },
            format::count(record.prompt_tokens),
            format::significant(record.timings.ttft_ms),
            format::number(record.log_probability, 2)
        )
    });
    let facts = judge_facts(record).map_or(facts.clone(), |said| format!("{facts}; {said}"));
    Answer {
        package,
        mark: Mark::of(record.score, record.parsed.is_some(), record.failure.is_some()),
        text: shortened_answer(&record.text),
        parsed: record.parsed.as_ref().map(|parsed| escape::shorten(parsed, ANSWER_LIMIT)),
        score: record.score,
        failure: record
            .failure
            .as_ref()
            .map(|failure| escape::shorten(&format!("{}: {}", failure.kind, failure.message), ANSWER_LIMIT)),
        predicted: ["predicted_box", "prediction_box", "predicted"].iter().find_map(|name| corners(record.detail.get(name)?)),
        iou: record.detail.get("iou").and_then(serde_json::Value::as_f64).filter(|iou| iou.is_finite()),
        prompt: escape::shorten(&record.prompt, PROMPT_LIMIT),
        facts,
    }
}

/// What a judge said of the answer, or why it said nothing.
fn judge_facts(record: &SampleRecord) -> Option<String> {
    let judge = record.detail.get("judge")?;
    let said = |name: &str| judge.get(name).and_then(serde_json::Value::as_str).map(|text| escape::shorten(text, ANSWER_LIMIT));
    if let Some(reply) = said("reply") {
        return Some(format!("judge: {reply}"));
    }
    if let Some(reply) = said("unread") {
        return Some(format!("the judge's reply could not be read: {reply}"));
    }
    said("failed").map(|reason| format!("the judge gave no reply: {reason}"))
}

/// The best candidates with their scores, of an answer that was chosen among candidates.
fn ranking_facts(record: &SampleRecord) -> Option<String> {
    let labels = record.detail.get("ranking")?.as_array()?.iter().filter_map(serde_json::Value::as_str);
    let scores = record.detail.get("scores")?.as_array()?.iter().filter_map(serde_json::Value::as_f64);
    let shown = |(label, score): (&str, f64)| format!("{} {}", escape::shorten(label, 60), format::number(score, 2));
    let best: Vec<String> = labels.zip(scores).take(RANKED_SHOWN).map(shown).collect();
    let rank = match record.detail.get("rank").and_then(serde_json::Value::as_u64) {
        Some(rank) => format!("right one at rank {rank}"),
        None => "right one not among the best".to_owned(),
    };
    Some(format!("{rank}; {}; after {} ms", best.join(", "), format::significant(record.timings.ttft_ms)))
}

fn shortened_answer(text: &str) -> String {
    let length = text.chars().count();
    if length <= ANSWER_LIMIT {
        text.to_owned()
    } else {
        format!("{} ({} characters in all)", escape::shorten(text, ANSWER_LIMIT), format::count(length))
    }
}

fn reference(reference: &Reference) -> (String, Option<Corners>, Option<(u32, u32)>) {
    match reference {
        Reference::YesNo { yes } => (if *yes { "yes" } else { "no" }.to_owned(), None, None),
        Reference::Answers { answers } => (annotators(answers), None, None),
        Reference::OpenOrClosed { answer, open } => {
            (format!("{} ({})", escape::shorten(answer, 240), if *open { "open-ended" } else { "closed-ended" }), None, None)
        }
        Reference::Class { label, classes } => (format!("{} (of {classes} classes)", escape::shorten(label, 120)), None, None),
        Reference::Retrieval { relevant, candidates, .. } => {
            (format!("{} (of {candidates} candidates)", annotators(relevant)), None, None)
        }
        Reference::Choice { options, answer } => (chosen(options, *answer), None, None),
        Reference::Judged { answer, .. } => (escape::shorten(answer, 240), None, None),
        Reference::Withheld => ("withheld: only the benchmark's server has it".to_owned(), None, None),
        Reference::Region { region, width, height } => {
            let corners = [region.x1, region.y1, region.x2, region.y2];
            let [left, top, right, bottom] = corners.map(|value| format::number(value, 0));
            let text = format!("box from ({left}, {top}) to ({right}, {bottom}) in {width} × {height} pixels");
            (text, Some(corners).filter(|corners| corners.iter().all(|value| value.is_finite())), Some((*width, *height)))
        }
    }
}

/// `B (of 4): red`.
fn chosen(options: &[String], answer: usize) -> String {
    let letter = option_letter(answer);
    let text = options.get(answer).map(|text| escape::shorten(text, 120)).unwrap_or_default();
    format!("{letter} (of {}): {text}", options.len())
}

/// `yes × 8, no × 2`, in file order.
fn annotators(answers: &[String]) -> String {
    let mut counted: Vec<(&str, usize)> = Vec::new();
    for answer in answers {
        match counted.iter_mut().find(|(known, _)| known == answer) {
            Some((_, count)) => *count += 1,
            None => counted.push((answer, 1)),
        }
    }
    let more = counted.len().saturating_sub(REFERENCES_SHOWN);
    let mut shown: Vec<String> = counted
        .iter()
        .take(REFERENCES_SHOWN)
        .map(|(answer, count)| {
            let answer = escape::shorten(answer, 120);
            if *count > 1 { format!("{answer} × {count}") } else { answer }
        })
        .collect();
    if more > 0 {
        shown.push(format!("and {more} more"));
    }
    if shown.is_empty() { format::MISSING.to_owned() } else { shown.join(", ") }
}

/// A box in a scorer's facts: `[x1, y1, x2, y2]` or `{"x1": …, "y1": …, "x2": …, "y2": …}`.
fn corners(value: &serde_json::Value) -> Option<Corners> {
    let read = |key: &str, index: usize| match value {
        serde_json::Value::Array(items) if items.len() == 4 => items.get(index)?.as_f64(),
        serde_json::Value::Object(fields) => fields.get(key)?.as_f64(),
        _ => None,
    };
    let corners = [read("x1", 0)?, read("y1", 1)?, read("x2", 2)?, read("y2", 3)?];
    corners.iter().all(|value| value.is_finite()).then_some(corners)
}

/// What the comparison itself knows of samples, where the records are not at hand.
fn from_flips(benchmark: &BenchmarkView<'_>) -> Vec<Card> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut cards: Vec<Card> = Vec::new();
    for pair in &benchmark.pairs {
        for flip in &pair.pair.flips {
            let place = *places.entry(flip.key.as_str()).or_insert_with(|| {
                cards.push(Card {
                    key: flip.key.clone(),
                    category: None,
                    image: None,
                    further_images: 0,
                    thumbnail: None,
                    question: escape::shorten(&flip.question, QUESTION_LIMIT),
                    reference: None,
                    region: None,
                    size: None,
                    answers: vec![flip_side(&flip.base, pair.base)],
                    broken: false,
                    fixed: false,
                    data_root: String::new(),
                    cluster: flip.key.clone(),
                });
                cards.len() - 1
            });
            let Some(card) = cards.get_mut(place) else { continue };
            if card.answers.iter().all(|known| known.package != pair.new) {
                card.answers.push(flip_side(&flip.new, pair.new));
            }
            match format::compare_scores(flip.new.score, flip.base.score) {
                std::cmp::Ordering::Less => card.broken = true,
                std::cmp::Ordering::Greater => card.fixed = true,
                std::cmp::Ordering::Equal => {}
            }
        }
    }
    cards
}

fn flip_side(side: &FlipSide, package: usize) -> Answer {
    Answer {
        package,
        mark: Mark::of(side.score, side.parsed.is_some(), false),
        text: shortened_answer(&side.text),
        parsed: side.parsed.as_ref().map(|parsed| escape::shorten(parsed, ANSWER_LIMIT)),
        score: side.score,
        failure: None,
        predicted: None,
        iou: None,
        prompt: String::new(),
        facts: String::new(),
    }
}

/// At most [`CARDS_PER_BENCHMARK`], the most telling first: broken, fixed, failed, wrong, and a few right ones. Within a
/// kind every image comes once before any comes again.
fn choose(cards: Vec<Card>) -> Vec<Card> {
    let mut tiers: Vec<Vec<Card>> = (0..5).map(|_| Vec::new()).collect();
    for card in cards {
        if let Some(tier) = tiers.get_mut(card.tier().0) {
            tier.push(card);
        }
    }
    let (mut chosen, mut spare) = (Vec::new(), Vec::new());
    for tier in tiers {
        let quota = tier.first().map_or(0, |card| card.tier().1);
        let mut seen = HashSet::new();
        let (mut first, again): (Vec<Card>, Vec<Card>) = tier.into_iter().partition(|card| seen.insert(card.cluster.clone()));
        first.extend(again);
        let rest = first.split_off(quota.min(first.len()));
        chosen.push(first);
        spare.push(rest);
    }
    // Room that a kind does not need goes to the others, again the most telling first.
    let mut room = CARDS_PER_BENCHMARK.saturating_sub(chosen.iter().map(Vec::len).sum());
    for (kind, rest) in chosen.iter_mut().zip(spare) {
        let taken = room.min(rest.len());
        kind.extend(rest.into_iter().take(taken));
        room -= taken;
    }
    let mut chosen: Vec<Card> = chosen.into_iter().flatten().collect();
    chosen.truncate(CARDS_PER_BENCHMARK);
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn boxes_are_read_in_both_spellings_and_never_half() {
        assert_eq!(corners(&json!([1, 2.5, 3, 4])), Some([1.0, 2.5, 3.0, 4.0]));
        assert_eq!(corners(&json!({"x1": 1, "y1": 2, "x2": 3, "y2": 4})), Some([1.0, 2.0, 3.0, 4.0]));
        for bad in [json!([1, 2, 3]), json!({"x1": 1}), json!("box"), json!([1, 2, "3", 4]), json!(null)] {
            assert_eq!(corners(&bad), None, "{bad}");
        }
    }

    #[test]
    fn annotators_are_counted_in_file_order() {
        let answers = ["blue", "red", "blue", "blue"].map(str::to_owned);
        assert_eq!(annotators(&answers), "blue × 3, red");
        assert_eq!(annotators(&[]), "–");
        let many: Vec<String> = (0..30).map(|number| number.to_string()).collect();
        assert!(annotators(&many).ends_with("and 20 more"));
    }

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

    #[test]
    fn the_most_telling_samples_come_first_and_images_vary() {
        let make = |key: usize, broken: bool, cluster: usize| Card {
            key: key.to_string(),
            category: None,
            image: None,
            further_images: 0,
            thumbnail: None,
            question: String::new(),
            reference: None,
            region: None,
            size: None,
            answers: Vec::new(),
            broken,
            fixed: false,
            data_root: String::new(),
            cluster: cluster.to_string(),
        };
        let cards = (0..300).map(|key| make(key, key % 3 == 0, key / 6)).collect();
        let chosen = choose(cards);
        assert_eq!(chosen.len(), CARDS_PER_BENCHMARK);
        let broken = chosen.iter().take_while(|card| card.broken).count();
        assert_eq!(chosen.iter().filter(|card| card.broken).count(), broken);
        let clusters: HashSet<&str> = chosen.iter().take(20).map(|card| card.cluster.as_str()).collect();
        assert_eq!(clusters.len(), 20, "twenty broken samples of twenty images");
    }
}
