//! The engine on a tiny package whose answers NumPy has computed too (`fixtures/engine/make_tiny.py`). The tests need ONNX
//! Runtime: it is taken from the user's cache, or fetched into it by the program's own means.

#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy allows them in test functions but not in their helpers")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use llava_gauge::engine::{
    Engine, EngineError, EngineOptions, Generation, GroupAnswer, ImageGroup, ImageTiles, OrtEngine, Request, RequestFailure,
    Scheduling, Segment, StopReason, StopRule, Trace,
};
use llava_gauge::package::{Package, TensorLocation, TileMerge, TileOrder, Tiling, UnpadRounding};
use ndarray::Array4;
use proptest::prelude::*;
use serde::Deserialize;

/// The embedding rows of these tokens are not finite.
const NAN_TOKEN: u32 = 96;
const INFINITE_TOKEN: u32 = 95;
const POSITIONS: usize = 192;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/engine")
}

fn options(scheduling: Scheduling) -> EngineOptions {
    EngineOptions { scheduling, intra_op_threads: 2, ..EngineOptions::default() }
}

fn engine(options: &EngineOptions) -> OrtEngine {
    OrtEngine::load(&Package::open(&fixture().join("tiny")).unwrap(), options).unwrap()
}

fn pixels(seed: usize) -> Array4<f32> {
    Array4::from_shape_fn((1, 3, 8, 8), |(_, channel, y, x)| {
        (0.37 * (channel * 64 + y * 8 + x) as f64 + seed as f64).sin() as f32
    })
}

fn tiles(pixels: Array4<f32>) -> ImageTiles {
    ImageTiles { pixels, width: 8, height: 8 }
}

/// The images that `make_tiny.py` uses.
fn image(seed: usize) -> ImageTiles {
    tiles(pixels(seed))
}

struct Never;

impl StopRule for Never {
    fn check(&self, _: &[u32]) -> Option<StopReason> {
        None
    }
}

struct StopAt(u32, StopReason);

impl StopRule for StopAt {
    fn check(&self, token_ids: &[u32]) -> Option<StopReason> {
        (token_ids.last() == Some(&self.0)).then_some(self.1)
    }
}

fn text(tokens: &[u32]) -> Segment {
    Segment::Tokens(tokens.to_vec())
}

fn question(tokens: &[u32]) -> Vec<Segment> {
    vec![text(&[1, 5, 9, 14]), Segment::Image(0), text(tokens)]
}

fn ask(engine: &mut OrtEngine, prompts: &[Vec<Segment>], max_new_tokens: usize) -> GroupAnswer {
    let images = [image(0), image(1)];
    let requests: Vec<Request<'_>> =
        prompts.iter().map(|segments| Request { segments: segments.clone(), max_new_tokens, stop: &Never }).collect();
    engine.answer(&ImageGroup { images: &images, requests: &requests }).unwrap()
}

fn answered(answer: &GroupAnswer) -> Vec<&Generation> {
    answer.answers.iter().map(|answer| answer.as_ref().unwrap()).collect()
}

fn tokens(answer: &GroupAnswer) -> Vec<Vec<u32>> {
    answered(answer).iter().map(|generation| generation.token_ids.clone()).collect()
}

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
    features_of_image_0: Vec<Vec<f32>>,
    image_embeds_of_image_0: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
struct Case {
    segments: Vec<GoldenSegment>,
    token_ids: Vec<u32>,
    log_probabilities: Vec<f32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum GoldenSegment {
    Tokens(Vec<u32>),
    Image(usize),
}

impl Case {
    fn segments(&self) -> Vec<Segment> {
        let segment = |segment: &GoldenSegment| match segment {
            GoldenSegment::Tokens(tokens) => text(tokens),
            GoldenSegment::Image(image) => Segment::Image(*image),
        };
        self.segments.iter().map(segment).collect()
    }
}

fn golden() -> Golden {
    serde_json::from_slice(&std::fs::read(fixture().join("golden.json")).unwrap()).unwrap()
}

#[test]
fn packed_and_alone_give_the_reference_answers() {
    let golden = golden();
    let prompts: Vec<Vec<Segment>> = golden.cases.iter().map(Case::segments).collect();
    let expected: Vec<&Vec<u32>> = golden.cases.iter().map(|case| &case.token_ids).collect();
    for scheduling in [Scheduling::PackedTree, Scheduling::OneByOne] {
        let mut engine = engine(&options(scheduling));
        // All cases share only the system text; the first five share the image too; a single one shares nothing.
        for take in [prompts.len(), 5, 1] {
            let answer = ask(&mut engine, &prompts[..take], 12);
            assert_eq!(tokens(&answer).iter().collect::<Vec<_>>(), expected[..take], "{scheduling:?} {take}");
            for (generation, case) in answered(&answer).iter().zip(&golden.cases) {
                assert_eq!((generation.stop_reason, generation.decoded_tokens), (StopReason::MaxNewTokens, 12));
                assert!(generation.first_token_ms > 0.0 && generation.remaining_tokens_ms > 0.0);
                for (found, expected) in generation.log_probabilities.iter().zip(&case.log_probabilities) {
                    // Single precision through two layers against double precision.
                    assert!((found - expected).abs() < 2e-4, "{found} {expected}");
                }
            }
        }
    }
}

#[test]
fn an_engine_can_move_to_another_thread() {
    let mut engine = engine(&options(Scheduling::PackedTree));
    let answer = std::thread::spawn(move || ask(&mut engine, &[question(&[20, 21, 22, 7])], 3)).join().unwrap();
    assert_eq!(tokens(&answer), [golden().cases[0].token_ids[..3].to_vec()]);
}

#[test]
fn the_shared_work_is_done_once() {
    let prompts: Vec<Vec<Segment>> = golden().cases[..5].iter().map(Case::segments).collect();
    let suffixes: Vec<usize> = vec![4, 3, 6, 2, 5];
    let packed = ask(&mut engine(&options(Scheduling::PackedTree)), &prompts, 12).timings;
    // The prefix is four system tokens and four image rows; two questions begin alike, but not all of them.
    assert_eq!(packed.prefill_tokens, 8 + suffixes.iter().sum::<usize>());
    assert_eq!(packed.decode_steps, 11);
    assert!(packed.vision_ms > 0.0 && packed.projector_ms > 0.0 && packed.prefill_ms > 0.0 && packed.decode_ms > 0.0);
    let alone = ask(&mut engine(&options(Scheduling::OneByOne)), &prompts, 12).timings;
    assert_eq!(alone.prefill_tokens, 5 * 8 + suffixes.iter().sum::<usize>());
    assert_eq!(alone.decode_steps, 55);
}

#[test]
fn a_trace_shows_every_stage_and_can_be_forced() {
    let golden = golden();
    let mut engine = engine(&options(Scheduling::PackedTree));
    let case = &golden.cases[0];
    let request = Request { segments: case.segments(), max_new_tokens: 12, stop: &Never };
    let images = [image(0)];
    let trace = engine.trace_single(&images, &request, None).unwrap();
    assert_eq!(trace.token_ids, case.token_ids);
    assert_eq!(trace.logits.dim(), (12, 97));
    for (found, expected) in
        [(&trace.features, &golden.features_of_image_0), (&trace.image_embeds, &golden.image_embeds_of_image_0)]
    {
        assert_eq!(found.dim(), (1, expected.len(), expected[0].len()));
        for ((_, row, column), value) in found.indexed_iter() {
            assert!((value - expected[row][column]).abs() < 1e-5, "{row} {column}");
        }
    }
    // Forced along its own way it says the same; forced elsewhere only what follows can differ.
    let forced = engine.trace_single(&images, &request, Some(&case.token_ids)).unwrap();
    assert_eq!(forced, trace);
    let mut other = case.token_ids.clone();
    other[2] = 34;
    let elsewhere = engine.trace_single(&images, &request, Some(&other[..5])).unwrap();
    assert_eq!(elsewhere.logits.dim(), (5, 97));
    assert_eq!(elsewhere.token_ids[..3], case.token_ids[..3]);
    assert_ne!(elsewhere.logits.row(3), trace.logits.row(3));
    // The stop rule ends a free trace.
    let stop = StopAt(case.token_ids[3], StopReason::EndOfSequence);
    let stopping = Request { segments: case.segments(), max_new_tokens: 12, stop: &stop };
    assert_eq!(engine.trace_single(&images, &stopping, None).unwrap().token_ids, case.token_ids[..4]);
    // No image, no rows.
    let request = Request { segments: vec![text(&[1, 5])], max_new_tokens: 1, stop: &Never };
    let Trace { features, token_ids, .. } = engine.trace_single(&[], &request, None).unwrap();
    assert_eq!((features.len(), token_ids.len()), (0, 1));
    for (forced, part) in [(Some(&[97][..]), "forced token 97"), (Some(&[][..]), "no token is to be generated")] {
        let error = engine.trace_single(&images, &request, forced).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn small_packs_and_a_growing_cache_change_no_token() {
    let prompts: Vec<Vec<Segment>> = (0..24).map(|index| question(&[20 + index, 33 + index % 5, 7])).collect();
    let mut reference = engine(&options(Scheduling::OneByOne));
    let expected = tokens(&ask(&mut reference, &prompts, 6));
    for max_packed_tokens in [1, 7, 1024] {
        let mut engine = engine(&EngineOptions { max_packed_tokens, ..options(Scheduling::PackedTree) });
        assert_eq!(engine.cache_capacity_tokens(), 0);
        // 24 × (3 + 6) rows and the prefix do not fit 192 positions: the largest limit needs two packs all the same.
        assert_eq!(tokens(&ask(&mut engine, &prompts[..1], 6)), expected[..1], "{max_packed_tokens}");
        assert_eq!(tokens(&ask(&mut engine, &prompts, 6)), expected, "{max_packed_tokens}");
        let capacity = engine.cache_capacity_tokens();
        assert!(capacity <= POSITIONS, "{capacity}");
        assert_eq!(tokens(&ask(&mut engine, &prompts[..3], 6)), expected[..3], "{max_packed_tokens}");
        assert_eq!(engine.cache_capacity_tokens(), capacity, "the cache is reused");
    }
}

#[test]
fn without_prepacking_and_with_one_thread_the_tokens_are_the_same() {
    let prompts: Vec<Vec<Segment>> = golden().cases.iter().map(Case::segments).collect();
    let expected: Vec<Vec<u32>> = golden().cases.into_iter().map(|case| case.token_ids).collect();
    let options = EngineOptions { prepack: false, intra_op_threads: 1, ..options(Scheduling::PackedTree) };
    assert_eq!(tokens(&ask(&mut engine(&options), &prompts, 12)), expected);
}

#[test]
fn prompts_that_are_equal_or_prefixes_of_each_other_are_answered() {
    for scheduling in [Scheduling::PackedTree, Scheduling::OneByOne] {
        let mut engine = engine(&options(scheduling));
        let alone =
            |engine: &mut OrtEngine, prompt: &Vec<Segment>| tokens(&ask(engine, std::slice::from_ref(prompt), 8)).remove(0);
        let (short, long) = (question(&[20]), question(&[20, 21, 22]));
        let bare = vec![text(&[1, 5, 9, 14]), Segment::Image(0)];
        let prompts = [long.clone(), short.clone(), long.clone(), bare.clone(), short.clone()];
        let together = tokens(&ask(&mut engine, &prompts, 8));
        let expected: Vec<Vec<u32>> = prompts.iter().map(|prompt| alone(&mut engine, prompt)).collect();
        assert_eq!(together, expected);
        assert_eq!(together[0], together[2]);
        let single = [vec![text(&[1])], vec![text(&[1])]];
        let together = tokens(&ask(&mut engine, &single, 3));
        assert_eq!(together[0], together[1]);
    }
}

#[test]
fn prompts_that_share_nothing_are_answered() {
    let prompts = [vec![text(&[1, 2, 3])], vec![text(&[4, 5, 6])], vec![Segment::Image(1), text(&[7])]];
    let together = tokens(&ask(&mut engine(&options(Scheduling::PackedTree)), &prompts, 6));
    let alone = tokens(&ask(&mut engine(&options(Scheduling::OneByOne)), &prompts, 6));
    assert_eq!(together, alone);
}

#[test]
fn answers_end_when_their_rule_says_so() {
    let golden = golden();
    let mut engine = engine(&options(Scheduling::PackedTree));
    let ids = &golden.cases[0].token_ids;
    let end = StopAt(ids[3], StopReason::EndOfSequence);
    let string = StopAt(ids[2], StopReason::StopString);
    let at_once = StopAt(ids[0], StopReason::EndOfSequence);
    let request = |stop, max_new_tokens| Request { segments: golden.cases[0].segments(), max_new_tokens, stop };
    let requests = [
        request(&end as &dyn StopRule, 12),
        request(&string, 12),
        request(&at_once, 12),
        request(&Never, 1),
        request(&Never, 12),
    ];
    let images = [image(0)];
    let answer = engine.answer(&ImageGroup { images: &images, requests: &requests }).unwrap();
    let found: Vec<(Vec<u32>, StopReason, usize)> = answered(&answer)
        .iter()
        .map(|generation| {
            assert_eq!(generation.log_probabilities.len(), generation.token_ids.len());
            (generation.token_ids.clone(), generation.stop_reason, generation.decoded_tokens)
        })
        .collect();
    assert_eq!(found[0], (ids[..3].to_vec(), StopReason::EndOfSequence, 4));
    assert_eq!(found[1], (ids[..3].to_vec(), StopReason::StopString, 3));
    assert_eq!(found[2], (vec![], StopReason::EndOfSequence, 1));
    assert_eq!(found[3], (ids[..1].to_vec(), StopReason::MaxNewTokens, 1));
    assert_eq!(found[4], (ids.clone(), StopReason::MaxNewTokens, 12), "neighbours that ended do not matter");
    assert_eq!(answered(&answer)[3].remaining_tokens_ms, 0.0);
    // One token each needs no decode step at all.
    let requests = [request(&Never, 1), request(&Never, 1)];
    let answer = engine.answer(&ImageGroup { images: &images, requests: &requests }).unwrap();
    assert_eq!(answer.timings.decode_steps, 0);
}

#[test]
fn a_question_that_is_not_finite_fails_alone() {
    let good: Vec<Vec<Segment>> = vec![question(&[20, 21, 22, 7]), question(&[60, 7]), question(&[41, 42, 7])];
    for scheduling in [Scheduling::PackedTree, Scheduling::OneByOne] {
        let mut engine = engine(&options(scheduling));
        let expected = tokens(&ask(&mut engine, &good, 8));
        for bad in [NAN_TOKEN, INFINITE_TOKEN] {
            for place in 0..=good.len() {
                let mut prompts = good.clone();
                prompts.insert(place, question(&[20, bad, 7]));
                let mut answers = ask(&mut engine, &prompts, 8).answers;
                assert_eq!(answers.remove(place), Err(RequestFailure::NonFiniteLogits { step: 0 }));
                let others: Vec<Vec<u32>> = answers.into_iter().map(|answer| answer.unwrap().token_ids).collect();
                assert_eq!(others, expected, "{scheduling:?} {bad} {place}");
            }
        }
        // In the shared prefix it takes everyone with it, and the next group is clean again.
        let prompts = [vec![text(&[1, NAN_TOKEN, 20])], vec![text(&[1, NAN_TOKEN, 21])]];
        let answers = ask(&mut engine, &prompts, 8).answers;
        assert_eq!(answers, vec![Err(RequestFailure::NonFiniteLogits { step: 0 }); 2]);
        assert_eq!(tokens(&ask(&mut engine, &good, 8)), expected);
    }
}

#[test]
fn a_question_that_turns_not_finite_while_decoding_fails_alone() {
    // The same package, with a NaN in the embedding row of a token that only the third answer generates.
    let prompts: Vec<Vec<Segment>> = golden().cases[..5].iter().map(Case::segments).collect();
    let expected: Vec<Vec<u32>> = golden().cases.into_iter().map(|case| case.token_ids).collect();
    let culprit = 25;
    assert_eq!(expected[2][0], culprit);
    assert!([0, 1, 3, 4].iter().all(|&index| !expected[index].contains(&culprit)));
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture().join("tiny")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let package = Package::open(folder.path()).unwrap();
    let location = &package.manifest.llm.embedding;
    let weights = folder.path().join(&location.file);
    let mut bytes = std::fs::read(&weights).unwrap();
    let start = location.offset as usize + culprit as usize * 32 * 4;
    bytes[start..start + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&weights, bytes).unwrap();
    let mut engine = OrtEngine::load(&package, &options(Scheduling::PackedTree)).unwrap();
    for (index, answer) in ask(&mut engine, &prompts, 12).answers.into_iter().enumerate() {
        if index == 2 {
            assert_eq!(answer, Err(RequestFailure::NonFiniteLogits { step: 1 }));
        } else {
            assert_eq!(answer.unwrap().token_ids, expected[index]);
        }
    }
}

#[test]
fn a_question_that_is_too_long_fails_alone() {
    let long: Vec<u32> = (0..180).map(|index| index % 90).collect();
    for scheduling in [Scheduling::PackedTree, Scheduling::OneByOne] {
        let mut engine = engine(&options(scheduling));
        let good = [question(&[20, 7]), question(&[60, 7])];
        let expected = tokens(&ask(&mut engine, &good, 5));
        let mut answers = ask(&mut engine, &[good[0].clone(), question(&long), good[1].clone()], 5).answers;
        assert_eq!(
            answers.remove(1),
            Err(RequestFailure::TooLong { prompt_tokens: 188, max_new_tokens: 5, limit_tokens: POSITIONS })
        );
        let others: Vec<Vec<u32>> = answers.into_iter().map(|answer| answer.unwrap().token_ids).collect();
        assert_eq!(others, expected);
        // Exactly full still runs, together with neighbours that need a pack of their own.
        let full = tokens(&ask(&mut engine, &[question(&long[..179]), good[1].clone()], 5));
        assert_eq!((full[0].len(), &full[1]), (5, &expected[1]));
    }
}

#[test]
fn malformed_requests_are_named() {
    let mut engine = engine(&options(Scheduling::PackedTree));
    let good = question(&[20]);
    let ask = |engine: &mut OrtEngine, images: &[ImageTiles], segments: Vec<Segment>, max_new_tokens| {
        let first = Request { segments: vec![text(&[1])], max_new_tokens: 1, stop: &Never };
        let requests = [first, Request { segments, max_new_tokens, stop: &Never }];
        match engine.answer(&ImageGroup { images, requests: &requests }) {
            Err(EngineError::Request { index: 1, message }) => message,
            other => panic!("{other:?}"),
        }
    };
    let images = [image(0)];
    for (segments, max_new_tokens, expected) in [
        (good.clone(), 0, "max_new_tokens is 0"),
        (vec![text(&[1, 97])], 1, "token 97 is beyond the vocabulary of 97"),
        (vec![text(&[1]), Segment::Image(1)], 1, "image 1 is beyond the 1 of its group"),
        (vec![], 1, "the prompt is empty"),
        (vec![text(&[])], 1, "the prompt is empty"),
    ] {
        assert_eq!(ask(&mut engine, &images, segments, max_new_tokens), expected);
    }
    for shape in [(1, 3, 8, 9), (1, 1, 8, 8), (0, 3, 8, 8)] {
        let message = ask(&mut engine, &[tiles(Array4::zeros(shape))], good.clone(), 1);
        assert!(message.contains("expected [tiles, 3, 8, 8]"), "{message}");
    }
    let empty = engine.answer(&ImageGroup { images: &images, requests: &[] }).unwrap();
    assert!(empty.answers.is_empty());
}

#[test]
fn pixels_of_any_memory_layout_are_read_in_order() {
    let mut engine = engine(&options(Scheduling::PackedTree));
    let request = Request { segments: question(&[20, 7]), max_new_tokens: 1, stop: &Never };
    let plain = pixels(0);
    let mut turned = Array4::zeros((1, 8, 8, 3));
    turned.assign(&plain.clone().permuted_axes([0, 2, 3, 1]));
    let turned = turned.permuted_axes([0, 3, 1, 2]);
    assert!(!turned.is_standard_layout());
    let left = engine.trace_single(&[tiles(plain)], &request, None).unwrap();
    let right = engine.trace_single(&[tiles(turned)], &request, None).unwrap();
    assert_eq!(left, right);
}

#[test]
fn two_tiles_give_twice_the_rows() {
    let mut engine = engine(&options(Scheduling::PackedTree));
    let both = ndarray::concatenate(ndarray::Axis(0), &[pixels(0).view(), pixels(1).view()]).unwrap();
    let request = |segments| Request { segments, max_new_tokens: 3, stop: &Never };
    let joined = engine.trace_single(&[tiles(both)], &request(vec![text(&[1]), Segment::Image(0), text(&[7])]), None).unwrap();
    let apart = vec![text(&[1]), Segment::Image(0), Segment::Image(1), text(&[7])];
    let apart = engine.trace_single(&[image(0), image(1)], &request(apart), None).unwrap();
    assert_eq!(joined.features.dim(), (2, 4, 8));
    assert_eq!(joined.token_ids, apart.token_ids);
}

/// A token whose embedding row serves as the newline row.
const NEWLINE_TOKEN: u32 = 50;

/// The tiny package as if its images were tiled, without the files' knowing.
fn tiled_package(order: TileOrder, newline: bool) -> Package {
    let mut package = Package::open(&fixture().join("tiny")).unwrap();
    let manifest = &mut package.manifest;
    let embedding = &manifest.llm.embedding;
    let bytes = embedding.shape[1] as u64 * 4;
    let offset = embedding.offset + u64::from(NEWLINE_TOKEN) * bytes;
    manifest.projector.image_newline =
        Some(TensorLocation { offset, bytes, shape: vec![embedding.shape[1]], ..embedding.clone() });
    manifest.image.tiling = Some(Tiling {
        pinpoints: vec![[8, 16], [16, 8], [24, 32]],
        tile: 8,
        only_single_images: false,
        merge: TileMerge {
            order,
            base_view: true,
            newline,
            maximum_tiles: None,
            max_pool: false,
            unpad_rounding: UnpadRounding::SevenDigits,
        },
    });
    package
}

/// An image of so many tiles, all different.
fn tiled_image(count: usize, width: u32, height: u32) -> ImageTiles {
    let tiles: Vec<_> = (0..count).map(|tile| pixels(10 + tile)).collect();
    let views: Vec<_> = tiles.iter().map(|tile| tile.view()).collect();
    ImageTiles { pixels: ndarray::concatenate(ndarray::Axis(0), &views).unwrap(), width, height }
}

#[test]
fn an_image_of_one_tile_ends_with_the_newline_row() {
    let package = tiled_package(TileOrder::SpatialUnpad, true);
    let mut engine = OrtEngine::load(&package, &options(Scheduling::PackedTree)).unwrap();
    let with_newline = ask(&mut engine, &[question(&[20, 7])], 6);
    let mut plain = self::engine(&options(Scheduling::PackedTree));
    let written_out = vec![text(&[1, 5, 9, 14]), Segment::Image(0), text(&[NEWLINE_TOKEN, 20, 7])];
    assert_eq!(tokens(&with_newline), tokens(&ask(&mut plain, &[written_out], 6)));
    assert_ne!(tokens(&with_newline), tokens(&ask(&mut plain, &[question(&[20, 7])], 6)));
    assert_eq!(with_newline.timings.prefill_tokens, 4 + 5 + 2);
}

#[test]
fn tiles_are_encoded_in_order_and_merged_line_by_line() {
    let mut engine = OrtEngine::load(&tiled_package(TileOrder::Spatial, true), &options(Scheduling::PackedTree)).unwrap();
    let request = Request { segments: question(&[20, 7]), max_new_tokens: 3, stop: &Never };
    // The whole view and 3 lines of 4 tiles: more than one run of the encoder takes.
    let image = tiled_image(13, 640, 480);
    let trace = engine.trace_single(std::slice::from_ref(&image), &request, None).unwrap();
    assert_eq!((trace.features.dim(), trace.image_embeds.dim()), ((13, 4, 8), (13, 4, 32)));
    let mut plain = self::engine(&options(Scheduling::PackedTree));
    for tile in [0, 7, 8, 12] {
        let alone = plain.trace_single(&[tiles(pixels(10 + tile))], &request, None).unwrap();
        let own = trace.image_embeds.index_axis(ndarray::Axis(0), tile);
        for (own, alone) in own.iter().zip(alone.image_embeds.iter()) {
            assert!((own - alone).abs() < 1e-5, "tile {tile}: rounding of sums of 48 products in another order");
        }
        assert_eq!(alone.image_rows.as_slice(), alone.image_embeds.as_slice(), "one tile is its image");
    }
    // 4 rows of the whole view, then 6 lines of 8 rows and a newline row.
    assert_eq!(trace.image_rows.dim(), (4 + 6 * 9, 32));
    let newline = trace.image_rows.row(4 + 8);
    for line in 0..6 {
        assert_eq!(trace.image_rows.row(4 + line * 9 + 8), newline);
        for column in 0..8 {
            let (tile, row) = (1 + line / 2 * 4 + column / 2, line % 2 * 2 + column % 2);
            let expected = trace.image_embeds.index_axis(ndarray::Axis(0), tile);
            assert_eq!(trace.image_rows.row(4 + line * 9 + column), expected.row(row), "line {line}, column {column}");
        }
    }
}

#[test]
fn images_of_different_sizes_share_a_group() {
    // 13 tiles of which little shows (a wide picture), 3 tiles, and one: all in one group, in one prompt and apart.
    let images = [tiled_image(13, 640, 380), tiled_image(3, 8, 16), image(0)];
    let ask_all = |scheduling| {
        let mut engine = OrtEngine::load(&tiled_package(TileOrder::SpatialUnpad, true), &options(scheduling)).unwrap();
        let system = || text(&[1, 5, 9, 14]);
        let prompts = [
            vec![system(), Segment::Image(0), text(&[20, 7])],
            vec![system(), Segment::Image(0), text(&[41, 42, 7])],
            vec![system(), Segment::Image(1), text(&[20, 7])],
            vec![system(), Segment::Image(2), Segment::Image(1), text(&[60, 7])],
            vec![system(), Segment::Image(0), Segment::Image(1), text(&[60]), Segment::Image(2), text(&[7])],
        ];
        let requests: Vec<Request<'_>> =
            prompts.into_iter().map(|segments| Request { segments, max_new_tokens: 5, stop: &Never }).collect();
        engine.answer(&ImageGroup { images: &images, requests: &requests }).unwrap()
    };
    let (packed, alone) = (ask_all(Scheduling::PackedTree), ask_all(Scheduling::OneByOne));
    assert_eq!(tokens(&packed), tokens(&alone));
    // Lines kept of the wide picture: 8 · 380 / 640 = 4.75, so 6 - 2 · ((6 - 4) / 2) = 4 of 9 rows.
    let rows = [4 + 4 * 9, 4 + 4 * 3, 5];
    let text_tokens = 5 * 4 + 2 + 3 + 2 + 2 + 2;
    assert_eq!(alone.timings.prefill_tokens, 3 * rows[0] + 3 * rows[1] + 2 * rows[2] + text_tokens);
}

#[test]
fn tiles_that_do_not_fit_their_image_are_named() {
    let mut engine = OrtEngine::load(&tiled_package(TileOrder::SpatialUnpad, true), &options(Scheduling::PackedTree)).unwrap();
    let request = [Request { segments: question(&[20, 7]), max_new_tokens: 3, stop: &Never }];
    let images = [tiled_image(4, 640, 480)];
    let error = engine.answer(&ImageGroup { images: &images, requests: &request }).unwrap_err().to_string();
    assert_eq!(error, "request 0: an image of 640 x 480 pixels has 1 or 13 tiles, found 4");
    // More rows than the model has positions are counted, not spelled out.
    let mut huge = tiled_package(TileOrder::Flat, false);
    huge.manifest.image.tiling.as_mut().unwrap().pinpoints = vec![[8 * 50, 8]];
    let mut engine = OrtEngine::load(&huge, &options(Scheduling::PackedTree)).unwrap();
    let images = [tiled_image(51, 8, 400)];
    let answer = engine.answer(&ImageGroup { images: &images, requests: &request }).unwrap();
    assert!(matches!(answer.answers[0], Err(RequestFailure::TooLong { prompt_tokens: 210, .. })));
    // A newline row that is not there, or of another width.
    let mut package = tiled_package(TileOrder::SpatialUnpad, true);
    package.manifest.projector.image_newline.as_mut().unwrap().shape = vec![31];
    let error = OrtEngine::load(&package, &options(Scheduling::PackedTree)).err().unwrap().to_string();
    assert!(error.contains("image_newline has shape [31], expected [32]"), "{error}");
    package.manifest.projector.image_newline = None;
    assert!(OrtEngine::load(&package, &options(Scheduling::PackedTree)).err().unwrap().to_string().contains("newline row"));
}

#[test]
fn a_package_whose_manifest_does_not_fit_its_graphs_is_refused() {
    let package = Package::open(&fixture().join("tiny")).unwrap();
    type Change = fn(&mut Package);
    let cases: BTreeMap<&str, (Change, &str)> = BTreeMap::from([
        ("vocabulary", ((|package| package.manifest.llm.vocabulary_size = 96) as Change, "`logits` must have shape [any, 96]")),
        ("layers", (|package| package.manifest.llm.layers = 3, "`past_key_values.2.key` is missing")),
        ("fewer layers", (|package| package.manifest.llm.layers = 1, "`past_key_values.1.key` is not one")),
        ("image", (|package| package.manifest.vision.image_size = 16, "must have shape [any, 3, 16, 16]")),
        ("graph", (|package| package.manifest.vision.graph = "projector.onnx".to_owned(), "input `pixel_values` is missing")),
        ("features", (|package| package.manifest.vision.tokens_per_image = 5, "output `features` must have shape [any, 5, 8]")),
        ("table", (|package| package.manifest.llm.embedding.shape = vec![96, 32], "cannot be 12416 bytes")),
    ]);
    for (name, (change, expected)) in cases {
        let mut package = package.clone();
        change(&mut package);
        let error = match OrtEngine::load(&package, &options(Scheduling::PackedTree)) {
            Err(error @ EngineError::Graph { .. }) => error.to_string(),
            other => panic!("{name}: {:?}", other.err()),
        };
        assert!(error.contains(expected) && error.contains(".onnx"), "{name}: {error}");
    }
    let mut absent = package.clone();
    absent.manifest.llm.graph = "../llm.onnx".to_owned();
    assert!(matches!(OrtEngine::load(&absent, &options(Scheduling::PackedTree)), Err(EngineError::File(_))));
    let mut broken = package;
    broken.manifest.llm.graph = "package.toml".to_owned();
    let error = OrtEngine::load(&broken, &options(Scheduling::PackedTree)).err().unwrap().to_string();
    assert!(error.starts_with("ONNX Runtime failed while loading package.toml"), "{error}");
}

#[test]
fn a_second_runtime_is_refused() {
    let engine = engine(&options(Scheduling::PackedTree));
    let library = engine.runtime().library.clone();
    assert_eq!(engine.runtime().sha256.len(), 64);
    let package = Package::open(&fixture().join("tiny")).unwrap();
    let with = |library: PathBuf| {
        OrtEngine::load(&package, &EngineOptions { ort_library: Some(library), ..options(Scheduling::PackedTree) })
    };
    assert!(with(library).is_ok(), "the same one is fine");
    let error = with(PathBuf::from("/elsewhere/libonnxruntime.so")).err().unwrap().to_string();
    assert!(error.contains("has already loaded"), "{error}");
}

/// Not a test of its own: run by the next one in a process with an empty cache and without any program to call.
#[test]
#[ignore = "runs as a child process"]
fn child_without_pip() {
    let package = Package::open(&fixture().join("tiny")).unwrap();
    match OrtEngine::load(&package, &options(Scheduling::PackedTree)) {
        Err(error @ EngineError::RuntimeMissing(_)) => println!("{error}"),
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn a_machine_without_pip_is_told_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_without_pip", "--ignored", "--nocapture"])
        .env("PATH", folder.path())
        .env("XDG_CACHE_HOME", folder.path().join("cache"))
        .env_remove("ORT_DYLIB_PATH")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{text}{}", String::from_utf8_lossy(&child.stderr));
    assert!(text.contains("`python3 -m pip download`: not found") && text.contains("To do it by hand: "), "{text}");
}

#[test]
fn a_library_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("libonnxruntime.so.1.31.1");
    std::fs::write(&library, b"text").unwrap();
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "packed_and_alone_give_the_reference_answers", "--nocapture"])
        .env("ORT_DYLIB_PATH", &library)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr);
    assert!(!child.status.success());
    assert!(text.contains("ONNX Runtime failed while loading") || text.contains("doing: \"loading "), "{text}");
    assert!(text.contains("libonnxruntime.so.1.31.1"), "{text}");
}

#[test]
fn the_doctor_finds_a_working_runtime() {
    let report = llava_gauge::engine::runtime::doctor::doctor(&Default::default(), &mut |_| {});
    assert_eq!(report.runtime_error, None);
    let runtime = report.runtime.as_ref().unwrap();
    assert!(runtime.build.contains("ORT Build Info"), "{}", runtime.build);
    assert!(report.execution_providers.contains(&"CPUExecutionProvider".to_owned()), "{:?}", report.execution_providers);
    assert!(report.machine.physical_cores >= 1 && report.machine.physical_cores <= report.machine.logical_cores);
    assert!(report.machine.memory_total_bytes > 1 << 28 && report.machine.memory_available_bytes > 0);
    assert!(!report.machine.cpu.is_empty() && !report.machine.operating_system.is_empty());
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["runtime"]["version"], runtime.version);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a neighbour of the same length says, not one bit of an answer's probabilities changes.
    #[test]
    fn a_neighbour_changes_no_bit(
        mine in prop::collection::vec(0_u32..95, 1..6),
        theirs in prop::collection::vec((0_u32..95, 0_u32..95), 1..7),
        first in any::<bool>(),
    ) {
        thread_local! {
            static ENGINE: std::cell::RefCell<OrtEngine> = std::cell::RefCell::new(engine(&options(Scheduling::PackedTree)));
        }
        let (left, right): (Vec<u32>, Vec<u32>) = theirs.into_iter().unzip();
        let anchor = question(&[94]);
        let answers: Vec<Generation> = [left, right]
            .iter()
            .map(|theirs| {
                // The anchor pins the shared prefix to the image, whatever the questions begin with.
                let mut prompts = vec![anchor.clone(), question(theirs), question(&mine)];
                prompts.swap(1, if first { 2 } else { 1 });
                let place = if first { 1 } else { 2 };
                let mut answer = ENGINE.with_borrow_mut(|engine| ask(engine, &prompts, 6));
                answer.answers.remove(place).unwrap()
            })
            .collect();
        prop_assert_eq!(&answers[0].token_ids, &answers[1].token_ids);
        let bits = |generation: &Generation| -> Vec<u32> { generation.log_probabilities.iter().map(|p| p.to_bits()).collect() };
        prop_assert_eq!(bits(&answers[0]), bits(&answers[1]));
    }
}
