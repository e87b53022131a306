//! Decodes and preprocesses images ahead of the engine, on rayon's threads, and hands them on in plan order.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

use ndarray::Array4;
use rayon::prelude::*;

use crate::package::ImageRecipe;

/// The images of one group, or why they could not be had.
pub(super) struct LoadedGroup {
    /// One tensor per image, or the first image's error as text.
    pub pixels: Result<Vec<Array4<f32>>, String>,
    /// Milliseconds for decoding and preprocessing this group's images, on one core.
    pub image_ms: f64,
}

/// Groups that may wait decoded: enough to keep the engine fed, few enough to bound memory.
const GROUPS_AHEAD: usize = 8;

/// Starts loading. The receiver yields one `LoadedGroup` per entry of `groups`, in order; dropping it stops the loader.
pub(super) fn load_ahead<'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    groups: Vec<Vec<PathBuf>>,
    recipe: &'scope ImageRecipe,
) -> Receiver<LoadedGroup> {
    let (sender, receiver) = sync_channel(GROUPS_AHEAD);
    scope.spawn(move || {
        for batch in groups.chunks(GROUPS_AHEAD) {
            let loaded: Vec<LoadedGroup> = batch.par_iter().map(|images| load_group(images, recipe)).collect();
            for group in loaded {
                if sender.send(group).is_err() {
                    return;
                }
            }
        }
    });
    receiver
}

fn load_group(images: &[PathBuf], recipe: &ImageRecipe) -> LoadedGroup {
    let started = Instant::now();
    let pixels = images
        .iter()
        .map(|path| crate::image::load(path, recipe).map(|image| image.pixels).map_err(|error| error.to_string()))
        .collect();
    LoadedGroup { pixels, image_ms: started.elapsed().as_secs_f64() * 1000.0 }
}
