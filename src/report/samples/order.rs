//! The order of the samples: a mixed choice of the most telling of every benchmark, then all others.

use std::collections::{HashMap, HashSet};

use super::Card;

/// Samples of a benchmark in the choice that comes first.
const CHOSEN_PER_BENCHMARK: usize = 48;
/// How many of them are broken, fixed, failed, wrong and of any other kind at most, while there are enough of all.
const QUOTAS: [usize; 5] = [20, 12, 6, 14, 6];
/// Most samples of a report; more would take longer to look at than to run.
pub(super) const MOST_SAMPLES: usize = 20_000;

/// All cards: first the choice of every benchmark, one card of each in turn, so that the first page is shared fairly; then
/// the rest image by image, so that a further page repeats few of the images before it, those with the most telling samples
/// first.
pub(super) fn in_order(by_benchmark: Vec<Vec<Card>>) -> Vec<Card> {
    let (mut waiting, mut rest) = (Vec::new(), Vec::new());
    for cards in by_benchmark {
        let (chosen, others) = choose(cards);
        waiting.push(chosen.into_iter());
        rest.extend(others);
    }
    let mut ordered = Vec::new();
    loop {
        let before = ordered.len();
        ordered.extend(waiting.iter_mut().filter_map(Iterator::next));
        if ordered.len() == before {
            break;
        }
    }
    let mut best: HashMap<(usize, usize), usize> = HashMap::new();
    for card in &rest {
        let tier = best.entry((card.benchmark, card.cluster)).or_insert(usize::MAX);
        *tier = card.tier().min(*tier);
    }
    let best_of = |card: &Card| best.get(&(card.benchmark, card.cluster)).copied().unwrap_or(usize::MAX);
    rest.sort_by_key(|card| (best_of(card), card.benchmark, card.cluster, card.tier()));
    ordered.extend(rest);
    ordered.truncate(MOST_SAMPLES);
    ordered
}

/// At most [`CHOSEN_PER_BENCHMARK`], the most telling first: broken, fixed, failed, wrong, and a few right ones; and the
/// others. Within a kind every image comes once before any comes again.
fn choose(cards: Vec<Card>) -> (Vec<Card>, Vec<Card>) {
    let mut tiers: [Vec<Card>; 5] = Default::default();
    for card in cards {
        if let Some(tier) = tiers.get_mut(card.tier()) {
            tier.push(card);
        }
    }
    let (mut chosen, mut spare) = (Vec::new(), Vec::new());
    for (tier, quota) in tiers.into_iter().zip(QUOTAS) {
        let mut seen = HashSet::new();
        let (mut first, again): (Vec<Card>, Vec<Card>) = tier.into_iter().partition(|card| seen.insert(card.cluster));
        first.extend(again);
        let others = first.split_off(quota.min(first.len()));
        chosen.push(first);
        spare.push(others);
    }
    // Room that a kind does not need goes to the others, again the most telling first.
    let mut room = CHOSEN_PER_BENCHMARK.saturating_sub(chosen.iter().map(Vec::len).sum());
    for (kind, others) in chosen.iter_mut().zip(&mut spare) {
        let kept = others.split_off(room.min(others.len()));
        room -= others.len();
        kind.append(others);
        *others = kept;
    }
    let mut chosen: Vec<Card> = chosen.into_iter().flatten().collect();
    // The quotas add up to more than there is room for.
    let mut rest = chosen.split_off(CHOSEN_PER_BENCHMARK.min(chosen.len()));
    rest.extend(spare.into_iter().flatten());
    (chosen, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(benchmark: usize, key: usize, broken: bool, cluster: usize) -> Card {
        Card {
            benchmark,
            key: key.to_string(),
            category: None,
            images: Vec::new(),
            further_images: 0,
            question: String::new(),
            reference: None,
            region: None,
            size: None,
            answers: Vec::new(),
            broken,
            fixed: false,
            data_root: String::new(),
            cluster,
        }
    }

    #[test]
    fn the_most_telling_samples_come_first_and_images_vary() {
        let cards: Vec<Card> = (0..300).map(|key| card(0, key, key % 3 == 0, key / 6)).collect();
        let (chosen, rest) = choose(cards);
        assert_eq!((chosen.len(), rest.len()), (CHOSEN_PER_BENCHMARK, 252));
        let broken = chosen.iter().take_while(|card| card.broken).count();
        assert_eq!(chosen.iter().filter(|card| card.broken).count(), broken);
        let clusters: HashSet<usize> = chosen.iter().take(20).map(|card| card.cluster).collect();
        assert_eq!(clusters.len(), 20, "twenty broken samples of twenty images");
    }

    #[test]
    fn every_sample_comes_once_benchmarks_take_turns_and_images_stay_together() {
        // Every second image has a broken sample.
        let make = |benchmark| (0..400).map(|key| card(benchmark, key, key % 8 == 3, key / 4)).collect();
        let ordered = in_order(vec![make(0), make(1)]);
        assert_eq!(ordered.len(), 800);
        let distinct: HashSet<(usize, &str)> = ordered.iter().map(|card| (card.benchmark, card.key.as_str())).collect();
        assert_eq!(distinct.len(), 800);
        let turns: Vec<usize> = ordered.iter().take(6).map(|card| card.benchmark).collect();
        assert_eq!(turns, [0, 1, 0, 1, 0, 1]);
        let images: Vec<(usize, usize)> =
            ordered[2 * CHOSEN_PER_BENCHMARK..].iter().map(|card| (card.benchmark, card.cluster)).collect();
        let changes = images.windows(2).filter(|two| two[0] != two[1]).count();
        assert_eq!(changes + 1, images.iter().collect::<HashSet<_>>().len(), "an image's samples stand together");
        let broken: Vec<usize> = (0..images.len()).filter(|at| ordered[2 * CHOSEN_PER_BENCHMARK + at].broken).collect();
        assert!(!broken.is_empty() && *broken.last().unwrap() < images.len() / 2 + 4, "images with broken samples first");
    }
}
