//! What is said of many differences at once: corrected verdicts, categories, matrices.

use llava_gauge::compare::{PairedTest, Verdict, compare};
use llava_gauge::store::Run;

use super::compare_support::{close, grid, metric, pair, run};

fn named(mut run: Run, benchmark: &str) -> Run {
    run.header.benchmark.name = benchmark.into();
    run
}

/// 100 images with 4 questions; of those that the base has wrong, every answer of the first `gains` images is right, and of
/// `losses` others wrong.
fn changed(name: &str, gains: usize, losses: usize) -> Run {
    grid(name, 100, 4, move |index| {
        let image = index / 4;
        if image < gains {
            true
        } else if image >= 100 - losses {
            false
        } else {
            index % 2 == 0
        }
    })
}

#[test]
fn a_difference_that_only_stands_alone_is_shown_as_such() {
    let base = changed("base", 0, 0);
    // 5 of 100 images lose half a point each: p is about 0.02.
    let worse = changed("new", 0, 5);
    let alone = pair(&base, &worse);
    let metric = alone.primary().unwrap();
    let p_value = metric.p_value.unwrap();
    assert!((0.01..0.05).contains(&p_value), "{metric:?}");
    assert_eq!((metric.verdict, metric.uncorrected_verdict, metric.adjusted_p_value), (Verdict::Regressed, None, Some(p_value)));

    // Beside five benchmarks on which nothing is known it is no proof.
    let mut runs = vec![base.clone(), worse.clone()];
    for benchmark in ["b", "c", "d", "e", "f"] {
        runs.push(named(grid("base", 100, 4, |index| index % 10 != 0), benchmark));
        runs.push(named(grid("new", 100, 4, |index| index % 10 != 3), benchmark));
    }
    let comparison = compare(&runs, 1.0).unwrap();
    assert_eq!(comparison.corrected_tests, 6);
    let first = &comparison.pairs[0];
    let metric = first.primary().unwrap();
    assert!(close(metric.adjusted_p_value.unwrap(), 6.0 * p_value), "{metric:?}");
    assert_eq!((metric.verdict, metric.uncorrected_verdict), (Verdict::Inconclusive, Some(Verdict::Regressed)));
    assert_eq!((first.verdict(), metric.own_verdict()), (Verdict::Inconclusive, Verdict::Regressed));
    assert!(first.notes.iter().any(|note| note.starts_with("accuracy alone would be worse (p = 0.0")), "{:?}", first.notes);
    // Metrics that are not primary stand for themselves.
    assert_eq!((first.metrics[1].verdict, first.metrics[1].adjusted_p_value), (Verdict::Regressed, None));
    // A small gain that is not proven is still no loss.
    let comparison = compare(&[vec![base, changed("new", 5, 0)], runs.split_off(2)].concat(), 1.0).unwrap();
    let metric = comparison.pairs[0].primary().unwrap();
    assert_eq!((metric.verdict, metric.uncorrected_verdict), (Verdict::NoWorse, Some(Verdict::Improved)));
}

#[test]
fn the_test_suits_the_scores_and_the_clusters() {
    let test = |base: &Run, new: &Run| {
        let found = pair(base, new);
        let metric = found.primary().unwrap();
        (metric.test.unwrap(), metric.p_value.unwrap())
    };
    // One question an image, right or wrong: 3 fixed, 12 broken. scipy: 2·binom.cdf(3, 15, ½) − binom.pmf(3, 15, ½).
    let base = grid("base", 100, 1, |index| index >= 3);
    let new = grid("new", 100, 1, |index| !(3..15).contains(&index));
    let (which, p_value) = test(&base, &new);
    assert_eq!(which, PairedTest::McnemarMidP);
    assert!((p_value - 0.021_270_751_953_125).abs() < 1e-12, "{p_value}");
    // Scores between are no yes and no.
    let soft = |name: &str, shift: usize| {
        run(name, &(0..60).map(|index| (index, Some(((index + shift) % 4) as f64 / 4.0))).collect::<Vec<_>>())
    };
    assert_eq!(test(&soft("a", 0), &soft("b", 1)).0, PairedTest::PairedT);
    // Several questions an image: clusters.
    assert_eq!(test(&changed("a", 0, 0), &changed("b", 3, 8)).0, PairedTest::PairedT);
    // Twelve images with two questions: all 4,096 signs. Ten images lose one answer, two gain one.
    let base = grid("base", 12, 2, |index| index / 2 >= 2);
    let new = grid("new", 12, 2, |index| if index / 2 >= 2 { index % 2 == 1 } else { index % 2 == 0 });
    let (which, p_value) = test(&base, &new);
    assert_eq!(which, PairedTest::SignFlip);
    // At least as far as 10 against 2 of 12 fair coins, on either side.
    let tail = (1.0 + 12.0 + 66.0) / 4096.0;
    assert!(close(p_value, 2.0 * tail), "{p_value}");
    // So few images cannot show more than their signs: the interval alone would.
    assert_eq!(pair(&base, &new).verdict(), Verdict::Regressed);
    let five = |name, right: fn(usize) -> bool| grid(name, 5, 4, right);
    let found = pair(&five("a", |_| true), &five("b", |index| index % 4 != 0 && index != 1));
    let metric = found.primary().unwrap();
    assert!(metric.difference.interval.unwrap()[1] < 0.0, "{metric:?}");
    assert_eq!((metric.p_value, metric.verdict), (Some(2.0 / 32.0), Verdict::Inconclusive));
}

#[test]
fn a_difference_of_shares_stays_possible() {
    let base = grid("base", 3, 4, |_| true);
    let new = grid("new", 3, 4, |index| index == 0 || index == 5);
    let [low, high] = pair(&base, &new).primary().unwrap().difference.interval.unwrap();
    assert!(low == -100.0 && high <= 100.0, "{low} {high}");
}

#[test]
fn the_number_that_would_settle_it_has_the_power_it_promises() {
    // Many changes each way: nothing is decided about a point.
    let unclear = pair(&grid("a", 100, 4, |index| index % 10 != 0), &grid("b", 100, 4, |index| index % 10 != 3));
    let metric = unclear.primary().unwrap();
    let needed = metric.samples_to_settle.unwrap() as f64;
    // (t(0.975) + t(0.8))·SE·sqrt(400/n) = 1, where t is nearly normal: (1.960 + 0.842)².
    let error = metric.difference.standard_error.unwrap();
    let normal = 400.0 * (2.801_585 * error).powi(2);
    assert!((needed / normal - 1.0).abs() < 0.01, "{needed} {normal}");
    // Nothing settles a margin of nothing, and what is settled needs no more.
    let runs = [grid("a", 100, 4, |index| index % 10 != 0), grid("b", 100, 4, |index| index % 10 != 3)];
    assert_eq!(compare(&runs, 0.0).unwrap().pairs[0].metrics[0].samples_to_settle, None);
    assert_eq!(compare(&runs, 50.0).unwrap().pairs[0].metrics[0].samples_to_settle, None);
}

#[test]
fn categories_are_adjusted_for_looking_at_all_of_them() {
    let with_categories = |mut run: Run| {
        for (index, record) in run.records.iter_mut().enumerate() {
            record.category = Some(["x", "y", "z"][index / 4 % 3].into());
        }
        run
    };
    let base = with_categories(changed("base", 0, 0));
    let new = with_categories(grid("new", 100, 4, |index| index % 2 == 0 && !(index / 4 % 3 == 1 && index / 4 % 2 == 0)));
    let found = pair(&base, &new);
    let names: Vec<&str> = found.categories.iter().map(|category| category.category.as_str()).collect();
    assert_eq!(names, ["x", "y", "z"]);
    let [x, y, z] = found.categories.as_slice() else { panic!("three") };
    assert_eq!((x.difference.value, x.p_value, z.adjusted_p_value), (0.0, Some(1.0), Some(1.0)));
    assert!(y.difference.value < -20.0);
    // The smallest of three.
    assert!(close(y.adjusted_p_value.unwrap(), 3.0 * y.p_value.unwrap()), "{y:?}");
    assert_eq!(pair(&changed("a", 0, 0), &changed("b", 1, 2)).categories, vec![]);
}

#[test]
fn metrics_that_are_no_mean_have_a_bootstrap_interval_too() {
    let with_f1 = |mut run: Run, seed: usize| {
        let mut f1 = metric("f1", Some(true), true);
        f1.mean_over_categories = true;
        run.header.benchmark.metrics = vec![f1, metric("accuracy", Some(true), false)];
        for (index, record) in run.records.iter_mut().enumerate() {
            record.category = Some(["random", "popular"][index % 2].into());
            let (tp, fp, fn_) =
                [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, 0.0)][(index * 7 + index / 3 * seed) % 4];
            let f1 = llava_gauge::benchmark::Contribution { numerator: 2.0 * tp, denominator: 2.0 * tp + fp + fn_ };
            record.contributions.insert("f1".into(), f1);
        }
        run
    };
    let found = pair(&with_f1(changed("a", 0, 0), 1), &with_f1(changed("b", 4, 9), 2));
    let [f1, accuracy] = found.metrics.as_slice() else { panic!("two metrics") };
    let [low, high] = f1.bootstrap_interval.unwrap();
    let [t_low, t_high] = f1.difference.interval.unwrap();
    // 100 images: the two intervals agree to a tenth of their width, and the bootstrap's holds the value.
    let width = t_high - t_low;
    assert!(low < f1.difference.value && f1.difference.value < high, "{f1:?}");
    assert!((low - t_low).abs() < 0.1 * width && (high - t_high).abs() < 0.1 * width, "{f1:?}");
    assert_eq!(accuracy.bootstrap_interval, None);
    assert_eq!(f1.test, Some(PairedTest::PairedT));
}

#[test]
fn three_runs_are_ranked_by_what_is_beyond_doubt() {
    let base = changed("a", 0, 0);
    let runs = [base.clone(), changed("b", 0, 40), changed("c", 2, 1), changed("d", 40, 0)];
    let comparison = compare(&runs, 1.0).unwrap();
    let [matrix] = comparison.matrices.as_slice() else { panic!("one benchmark") };
    assert_eq!(
        (matrix.metric.as_str(), matrix.packages.as_slice()),
        ("accuracy", ["a", "b", "c", "d"].map(str::to_owned).as_slice())
    );
    let cells: Vec<(usize, usize)> = matrix.cells.iter().map(|cell| (cell.base, cell.new)).collect();
    assert_eq!(cells, [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]);
    let verdicts: Vec<Verdict> = matrix.cells.iter().map(|cell| cell.verdict).collect();
    use Verdict::{Improved, Inconclusive, Regressed};
    assert_eq!(verdicts, [Regressed, Inconclusive, Improved, Improved, Improved, Improved]);
    let ranks: Vec<(usize, usize, usize)> = matrix.ranking.iter().map(|one| (one.run, one.rank, one.worst_rank)).collect();
    // The second and third place are not told apart.
    assert_eq!(ranks, [(3, 1, 1), (0, 2, 3), (2, 2, 3), (1, 4, 4)]);
    // Cells are the pairs' own differences, corrected for six instead of three.
    assert_eq!(matrix.cells[1].difference, comparison.pairs[1].metrics[0].difference);
    assert_eq!(compare(&runs[..2], 1.0).unwrap().matrices, vec![]);
    // Runs in which nothing was answered are in the table and in no verdict.
    let nothing = run("e", &(0..400).map(|index| (index / 4, None)).collect::<Vec<_>>());
    let comparison = compare(&[base.clone(), changed("b", 0, 40), nothing], 1.0).unwrap();
    let matrix = &comparison.matrices[0];
    assert_eq!((matrix.cells.len(), matrix.ranking.len()), (1, 3));
    assert_eq!((matrix.ranking[1].run, matrix.ranking[1].rank, matrix.ranking[1].worst_rank), (2, 1, 3));
}
