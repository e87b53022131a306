//! Cuts the samples into pages of a few megabytes, each with its own images.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;

use super::super::thumbnails::Gallery;
use super::super::view::View;
use super::embed::{Embedding, json_string};
use super::{Card, Mark};

/// Data and images of the samples in `index.html`, which has charts and tables besides.
const FIRST_PAGE_BYTES: usize = 3_400_000;
/// Data and images of a further page.
const PAGE_BYTES: usize = 4_600_000;
/// Keys of the samples on further pages that `index.html` knows, so that a link to any of them can be made to it.
const KEYS_BYTES: usize = 400_000;
/// Most pages. A report is looked at, not archived: the runs hold everything.
const MOST_PAGES: usize = 24;
/// Cards that a page shows without its script, and the bytes of their texts.
const READY_CARDS: usize = 12;
const READY_BYTES: usize = 60_000;
/// Images that are decoded at a time.
const IMAGES_AHEAD: usize = 128;

/// One page of samples.
#[derive(Debug)]
pub(in super::super) struct SamplePage {
    /// Samples on it.
    pub samples: usize,
    /// The first of them with the numbers of their pictures on the page, to be readable without the script.
    pub ready: Vec<(Card, Vec<usize>)>,
    /// Its images, by their place in the gallery.
    pub pictures: Vec<usize>,
    /// The data for its script, JSON that may stand in a script element.
    pub data: String,
}

/// `index.html`, `samples-2.html`, …, counted from 0.
pub(in super::super) fn file_name(page: usize) -> Cow<'static, str> {
    if page == 0 { Cow::Borrowed("index.html") } else { Cow::Owned(format!("samples-{}.html", page + 1)) }
}

/// A page being filled.
#[derive(Default)]
struct Filling {
    embedding: Embedding,
    pictures: Vec<usize>,
    places: HashMap<usize, usize>,
    picture_bytes: usize,
    ready: Vec<(Card, Vec<usize>)>,
    ready_bytes: usize,
    keys: Vec<(usize, String)>,
}

impl Filling {
    /// Puts a card on the page; `false`, and nothing done, where the page is full.
    fn add(&mut self, card: &Card, images: &[usize], gallery: &Gallery, budget_bytes: usize) -> bool {
        let known = self.pictures.len();
        let mut new_bytes = 0;
        let mut places = Vec::with_capacity(images.len());
        for image in images {
            let place = *self.places.entry(*image).or_insert_with(|| {
                self.pictures.push(*image);
                new_bytes += gallery.thumbnails.get(*image).map_or(0, |thumbnail| thumbnail.data_uri.len() + 100);
                self.pictures.len() - 1
            });
            places.push(place);
        }
        let before = self.embedding.add(card, &places);
        if self.embedding.count() > 1 && self.embedding.bytes() + self.picture_bytes + new_bytes > budget_bytes {
            self.embedding.take_back(before);
            self.pictures.truncate(known);
            self.places.retain(|_, place| *place < known);
            return false;
        }
        self.picture_bytes += new_bytes;
        let text_bytes = card.question.len() + card.answers.iter().map(|answer| answer.text.len() + 100).sum::<usize>();
        if self.ready.len() < READY_CARDS && self.ready_bytes + text_bytes <= READY_BYTES {
            self.ready_bytes += text_bytes;
            self.ready.push((card.clone(), places));
        }
        self.keys.push((card.benchmark, card.key.clone()));
        true
    }
}

/// Fills pages in the order of the cards.
pub(super) fn cut(view: &View<'_>, cards: Vec<Card>, gallery: &mut Gallery) -> Vec<SamplePage> {
    let keys_bytes: usize = cards.iter().map(|card| card.key.len() + 8).sum();
    let knows_keys = keys_bytes <= KEYS_BYTES;
    let first_budget = FIRST_PAGE_BYTES - if knows_keys { keys_bytes } else { 0 };
    let mut filled: Vec<Filling> = Vec::new();
    let mut filling = Filling::default();
    for (index, card) in cards.iter().enumerate() {
        let images = shown_images(&cards, index, gallery);
        let budget = if filled.is_empty() { first_budget } else { PAGE_BYTES };
        if !filling.add(card, &images, gallery, budget) {
            filled.push(std::mem::take(&mut filling));
            if filled.len() == MOST_PAGES {
                break;
            }
            filling.add(card, &images, gallery, PAGE_BYTES);
        }
    }
    if filling.embedding.count() > 0 {
        filled.push(filling);
    }
    let pages = filled.len();
    let elsewhere = if knows_keys { elsewhere(&filled) } else { "null".to_owned() };
    let head = head(view);
    let finish = |(page, filling): (usize, Filling)| {
        let sizes: Vec<String> = filling
            .pictures
            .iter()
            .filter_map(|picture| gallery.thumbnails.get(*picture))
            .map(|thumbnail| format!("[{},{}]", thumbnail.width, thumbnail.height))
            .collect();
        let samples = filling.embedding.count();
        let data = format!(
            "{{\"format\":1,\"page\":{},\"pages\":{pages},\"elsewhere\":{},{head},\"images\":[{}],{}}}",
            page + 1,
            if page == 0 { &elsewhere } else { "null" },
            sizes.join(","),
            filling.embedding.finish()
        );
        SamplePage { samples, ready: filling.ready, pictures: filling.pictures, data }
    };
    filled.into_iter().enumerate().map(finish).collect()
}

/// The card's images that can be shown, by their place in the gallery. Decodes those of the next cards along with it.
fn shown_images(cards: &[Card], index: usize, gallery: &mut Gallery) -> Vec<usize> {
    let Some(card) = cards.get(index) else { return Vec::new() };
    if card.images.iter().any(|image| !gallery.knows(&card.data_root, image)) {
        let ahead = cards.iter().skip(index);
        let names = ahead.flat_map(|card| card.images.iter().map(|image| (card.data_root.as_str(), image.as_str())));
        gallery.read_ahead(names, IMAGES_AHEAD);
    }
    card.images.iter().filter_map(|image| gallery.get(&card.data_root, image)).collect()
}

/// Names of packages and benchmarks, and the marks of answers.
fn head(view: &View<'_>) -> String {
    let packages: Vec<String> = view.packages.iter().map(|package| json_string(package)).collect();
    let benchmarks: Vec<String> =
        view.benchmarks.iter().map(|of| format!("[{},{}]", json_string(of.name), json_string(of.title))).collect();
    let marks: Vec<String> = Mark::ALL
        .iter()
        .map(|mark| format!("[{},{},{}]", json_string(mark.symbol()), json_string(mark.word()), json_string(mark.class())))
        .collect();
    format!("\"packages\":[{}],\"benchmarks\":[{}],\"marks\":[{}]", packages.join(","), benchmarks.join(","), marks.join(","))
}

/// `{"2":[[benchmark,key],…],…}`: what is on the further pages.
fn elsewhere(filled: &[Filling]) -> String {
    let mut json = "{".to_owned();
    for (page, filling) in filled.iter().enumerate().skip(1) {
        let keys: Vec<String> =
            filling.keys.iter().map(|(benchmark, key)| format!("[{benchmark},{}]", json_string(key))).collect();
        let _ = write!(json, "{}\"{}\":[{}]", if page > 1 { "," } else { "" }, page + 1, keys.join(","));
    }
    json.push('}');
    json
}
