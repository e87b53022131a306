//! Which samples are asked, and in which groups: all questions of the same images together, so that each image is
//! encoded once.

use std::collections::{HashMap, HashSet};

use crate::benchmark::{Sample, SampleImage};

/// Questions that share their images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedGroup {
    /// Images, in prompt order.
    pub images: Vec<SampleImage>,
    /// Indices into the benchmark's samples, ascending.
    pub samples: Vec<usize>,
}

/// The groups of a run, in the order in which they are run and stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Groups by first appearance of their images in the data file.
    pub groups: Vec<PlannedGroup>,
}

/// Seed of the order from which `--limit` takes its samples. Fixed, so that two limited runs ask the same questions.
const LIMIT_SEED: u64 = 0x6c6c_6176_615f_6761;

impl Plan {
    /// Plans all samples, or `limit` of them. A limit takes whole images in a fixed pseudo-random order, so that a small
    /// run is not made of the first images of a sorted file only, and cuts the last image's questions to meet the number.
    pub fn new(samples: &[Sample], limit: Option<usize>) -> Self {
        let chosen = match limit {
            Some(limit) if limit < samples.len() => choose(samples, limit),
            _ => (0..samples.len()).collect(),
        };
        let mut groups: Vec<PlannedGroup> = Vec::new();
        let mut position: HashMap<&[SampleImage], usize> = HashMap::new();
        for index in chosen {
            let images = samples[index].images.as_slice();
            let group = *position.entry(images).or_insert_with(|| {
                groups.push(PlannedGroup { images: images.to_vec(), samples: Vec::new() });
                groups.len() - 1
            });
            groups[group].samples.push(index);
        }
        Self { groups }
    }

    /// Number of samples.
    pub fn samples(&self) -> usize {
        self.groups.iter().map(|group| group.samples.len()).sum()
    }

    /// Indices of all planned samples in run order.
    pub fn sample_indices(&self) -> impl Iterator<Item = usize> + '_ {
        self.groups.iter().flat_map(|group| group.samples.iter().copied())
    }

    /// The groups that still have a sample without a record.
    pub fn outstanding<'a>(&'a self, samples: &'a [Sample], recorded: &'a HashSet<String>) -> Vec<&'a PlannedGroup> {
        self.groups.iter().filter(|group| is_outstanding(group, samples, recorded)).collect()
    }

    /// The plan in windows of `groups` groups, of which those are left that have a sample without a record. A window is cut
    /// from the whole plan and stays whole, so that a continued run asks the same together as an uninterrupted one.
    pub fn outstanding_windows(
        &self,
        samples: &[Sample],
        recorded: &HashSet<String>,
        groups: usize,
    ) -> impl Iterator<Item = &[PlannedGroup]> {
        let windows = self.groups.chunks(groups.max(1));
        windows.filter(|window| window.iter().any(|group| is_outstanding(group, samples, recorded)))
    }
}

fn is_outstanding(group: &PlannedGroup, samples: &[Sample], recorded: &HashSet<String>) -> bool {
    group.samples.iter().any(|&index| !recorded.contains(&samples[index].key))
}

fn choose(samples: &[Sample], limit: usize) -> Vec<usize> {
    let mut order: Vec<(u64, &str)> = Vec::new();
    let mut by_cluster: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, sample) in samples.iter().enumerate() {
        let members = by_cluster.entry(&sample.cluster).or_insert_with(|| {
            order.push((mix(order.len() as u64 ^ LIMIT_SEED), &sample.cluster));
            Vec::new()
        });
        members.push(index);
    }
    order.sort_unstable();
    let mut chosen: Vec<usize> = order.iter().flat_map(|(_, cluster)| by_cluster[cluster].iter().copied()).take(limit).collect();
    chosen.sort_unstable();
    chosen
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014): a fixed bijection that scatters consecutive numbers.
fn mix(mut state: u64) -> u64 {
    state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}
