//! Decodes and preprocesses images and makes the prompts about them ahead of the engine, on rayon's threads, and hands both on in
//! plan order: what the engine does not need its thread for never holds it up.

use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

use rayon::prelude::*;

use super::conductor::Questions;
use super::images::{FoundImage, PreparedImages};
use super::plan::PlannedGroup;
use crate::benchmark::{ImageStore, SampleImage};
use crate::package::Manifest;

/// One group, ready for the engine.
pub(super) struct LoadedGroup<'a> {
    /// The images, or the first image's error as text.
    pub images: Result<PreparedImages, String>,
    /// Milliseconds for decoding and preprocessing this group's images, on one core.
    pub image_ms: f64,
    /// What is asked about them.
    pub questions: Questions<'a>,
}

/// Groups that may wait decoded: enough to keep the engine fed, few enough to bound memory.
const GROUPS_AHEAD: usize = 8;
/// As many where images are tiled: one may be 37 tiles and 65 MB, which also keep the engine busy for longer.
const TILED_GROUPS_AHEAD: usize = 2;

/// Starts loading. The receiver yields one `LoadedGroup` per entry of `groups`, in order; dropping it stops the loader. `ask` makes
/// the questions of a group whose images are there or could not be had.
pub(super) fn load_ahead<'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    groups: Vec<&'scope PlannedGroup>,
    manifest: &'scope Manifest,
    ask: impl Fn(&PlannedGroup, &Result<PreparedImages, String>) -> Questions<'scope> + Send + Sync + 'scope,
) -> Receiver<LoadedGroup<'scope>> {
    let ahead = if manifest.image.tiling.is_some() { TILED_GROUPS_AHEAD } else { GROUPS_AHEAD };
    let (sender, receiver) = sync_channel(ahead);
    scope.spawn(move || {
        let store = ImageStore::default();
        let (mut rest, mut size) = (groups.as_slice(), 1);
        while !rest.is_empty() {
            // The engine waits for the first group alone, and not for a whole batch.
            let (batch, later) = rest.split_at(size.min(rest.len()));
            (rest, size) = (later, (2 * size).min(ahead));
            // Images in data files are fetched one after another, because such files are read from front to back.
            let found: Vec<_> = batch.iter().map(|group| (*group, find(&group.images, &store))).collect();
            let load = |(group, found): (&PlannedGroup, Found)| {
                let (images, image_ms) = load_images(found, manifest);
                let questions = ask(group, &images);
                LoadedGroup { images, image_ms, questions }
            };
            let loaded: Vec<LoadedGroup<'_>> = found.into_par_iter().map(load).collect();
            for group in loaded {
                if sender.send(group).is_err() {
                    return;
                }
            }
        }
    });
    receiver
}

/// The images of a group, or the first one's error as text, and the milliseconds that fetching took.
type Found = (Result<Vec<FoundImage>, String>, f64);

fn find(images: &[SampleImage], store: &ImageStore) -> Found {
    let started = Instant::now();
    let found = images.iter().map(|image| FoundImage::of(image, store)).collect();
    (found, started.elapsed().as_secs_f64() * 1000.0)
}

fn load_images((found, fetched_ms): Found, manifest: &Manifest) -> (Result<PreparedImages, String>, f64) {
    let started = Instant::now();
    let images = found.and_then(|images| PreparedImages::of(&images, manifest).map_err(|error| error.to_string()));
    (images, fetched_ms + started.elapsed().as_secs_f64() * 1000.0)
}
