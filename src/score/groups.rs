//! Metrics over groups of answers that must all be right, and over parts of a benchmark.

use std::collections::HashMap;

use super::metrics::mean;
use super::set_level::Answered;
use crate::benchmark::Contribution;

/// Adds a metric that counts a cluster as right only if all of its answers are (CircularEval, NLVR2's consistency). Each of a
/// cluster's `n` samples contributes `1/n` of it, so that sums of contributions count clusters.
pub(super) fn all_right(metric: &str, answers: &mut [Answered<'_>]) {
    let mut clusters: HashMap<&str, (f64, bool)> = HashMap::new();
    for answered in answers.iter() {
        if let Some(value) = answered.score.value {
            let (count, right) = clusters.entry(answered.cluster).or_insert((0.0, true));
            *count += 1.0;
            *right &= value >= 1.0;
        }
    }
    for answered in answers.iter_mut().filter(|answered| answered.score.value.is_some()) {
        if let Some((count, right)) = clusters.get(answered.cluster) {
            let share = 1.0 / count;
            let numerator = if *right { share } else { 0.0 };
            answered.score.contributions.insert(metric.to_owned(), Contribution { numerator, denominator: share });
        }
    }
}

/// Adds to each answer the metrics of the parts of the benchmark that its category belongs to.
pub(super) fn parts(answers: &mut [Answered<'_>], metrics_of: impl Fn(&str) -> Vec<&'static str>) {
    for answered in answers {
        if let (Some(value), Some(category)) = (answered.score.value, answered.category) {
            for metric in metrics_of(category) {
                answered.score.contributions.insert(metric.to_owned(), mean(value));
            }
        }
    }
}

/// MMMU's six domains with their subjects (MMMU-Benchmark/MMMU, `mmmu/utils/data_utils.py`).
const MMMU_DOMAINS: [(&str, &[&str]); 6] = [
    ("art_and_design", &["Art", "Art_Theory", "Design", "Music"]),
    ("business", &["Accounting", "Economics", "Finance", "Manage", "Marketing"]),
    ("science", &["Biology", "Chemistry", "Geography", "Math", "Physics"]),
    (
        "health_and_medicine",
        &["Basic_Medical_Science", "Clinical_Medicine", "Diagnostics_and_Laboratory_Medicine", "Pharmacy", "Public_Health"],
    ),
    ("humanities_and_social_science", &["History", "Literature", "Sociology", "Psychology"]),
    (
        "tech_and_engineering",
        &[
            "Agriculture",
            "Architecture_and_Engineering",
            "Computer_Science",
            "Electronics",
            "Energy_and_Power",
            "Materials",
            "Mechanical_Engineering",
        ],
    ),
];

/// The domain of an MMMU subject.
pub(super) fn mmmu_domain(subject: &str) -> Vec<&'static str> {
    MMMU_DOMAINS.iter().filter(|(_, subjects)| subjects.contains(&subject)).map(|(domain, _)| *domain).collect()
}

/// Subject and grades of a ScienceQA category such as `natural science, grade7`, by which its leaderboard reports: NAT, SOC, LAN,
/// G1-6 and G7-12.
pub(super) fn science_qa_parts(category: &str) -> Vec<&'static str> {
    let mut metrics = Vec::new();
    for part in category.split(',').map(str::trim) {
        match part {
            "natural science" => metrics.push("natural_science"),
            "social science" => metrics.push("social_science"),
            "language science" => metrics.push("language_science"),
            _ => match part.strip_prefix("grade").and_then(|grade| grade.parse::<u8>().ok()) {
                Some(1..=6) => metrics.push("grades_1_6"),
                Some(7..=12) => metrics.push("grades_7_12"),
                _ => {}
            },
        }
    }
    metrics
}
