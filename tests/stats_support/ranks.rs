//! Tests by ranks, on latencies.

use llava_gauge::stats::{Generator, mann_whitney, signed_rank};

use super::latencies::{Machine, QUIET, interleaved, log_ratios};
use super::{TRIALS, covers};

#[test]
fn the_unpaired_rank_test_keeps_its_level() {
    let mut generator = Generator::new(51);
    let steady = Machine { drift: 0.0, ..QUIET };
    let mut level = |machine: Machine, first: usize, second: usize| {
        let mut alarms = 0;
        for _ in 0..TRIALS {
            let (base, _) = interleaved(&mut generator, machine, first, 1.0);
            let (new, _) = interleaved(&mut generator, machine, second, 1.0);
            alarms += usize::from(mann_whitney(&base, &new).unwrap().p_value <= 0.05);
        }
        let share = alarms as f64 / TRIALS as f64;
        println!("Mann-Whitney of {first} and {second}, drift {}: level {share}", machine.drift);
        share
    };
    for (first, second) in [(6, 7), (30, 40)] {
        let share = level(steady, first, second);
        // 5 % and two Monte-Carlo errors of 0.49 points; ranks of few values have less than their level.
        assert!((0.02..=0.06).contains(&share), "{first} and {second}: {share}");
    }
    // Why runs are interleaved and paired: a speed that wanders makes unpaired runs of one package differ.
    assert!(level(QUIET, 30, 40) > 0.10);
}

#[test]
fn signed_ranks_keep_their_level_and_cover_the_ratio() {
    let mut generator = Generator::new(52);
    for (pairs, ratio) in [(30, 1.0), (80, 1.1)] {
        let (mut alarms, mut covered) = (0, 0);
        for _ in 0..TRIALS {
            let ratios = log_ratios(&interleaved(&mut generator, QUIET, pairs, ratio));
            let found = signed_rank(&ratios, 0.95).unwrap();
            alarms += usize::from(found.p_value <= 0.05);
            covered += covers(found.interval.unwrap(), f64::ln(ratio));
        }
        let (level, coverage) = (alarms as f64 / TRIALS as f64, covered as f64 / TRIALS as f64);
        println!("signed ranks of {pairs} pairs at {ratio}: alarms {level}, coverage {coverage}");
        // At least the level less two Monte-Carlo errors of 0.49 points; order statistics may give somewhat more.
        assert!((0.94..=0.965).contains(&coverage), "{pairs} pairs: coverage {coverage}");
        if ratio == 1.0 {
            assert!(level <= 0.06, "{pairs} pairs: level {level}");
        }
    }
}

#[test]
fn equal_packages_raise_no_alarm_and_a_tenth_more_time_is_found_at_30_pairs() {
    // Slower or faster is said where the whole interval of the ratio lies beyond a band of 3 %.
    let verdict = |ratios: &[f64]| {
        let [low, high] = signed_rank(ratios, 0.95).unwrap().interval.unwrap();
        low > 1.03_f64.ln() || high < -(1.03_f64.ln())
    };
    let mut generator = Generator::new(53);
    let alarms = (0..200).filter(|_| verdict(&log_ratios(&interleaved(&mut generator, QUIET, 30, 1.0)))).count();
    let found = (0..200).filter(|_| verdict(&log_ratios(&interleaved(&mut generator, QUIET, 30, 1.1)))).count();
    println!("A/A: {alarms} alarms in 200; +10 %: {found} found of 200");
    assert!(alarms <= 2, "{alarms} false alarms in 200 pairs of runs");
    assert!(found >= 190, "a tenth more time was found in {found} of 200");
}
