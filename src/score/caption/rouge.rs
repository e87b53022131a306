//! ROUGE-L (pycocoevalcap 1.2, `rouge/rouge.py`).

/// Weight of recall against precision.
const BETA: f64 = 1.2;

/// ROUGE-L in 0..=1 of a caption against its references: the F-measure of the best precision and the best recall, which may
/// come from two references. Texts are words with single spaces between them; an empty text is one empty word, as in the
/// reference code.
pub(super) fn rouge_l(caption: &str, references: &[String]) -> f64 {
    let words: Vec<&str> = caption.split(' ').collect();
    let (mut precision, mut recall) = (0.0_f64, 0.0_f64);
    for reference in references {
        let reference: Vec<&str> = reference.split(' ').collect();
        let common = longest_common(&words, &reference) as f64;
        precision = precision.max(common / words.len() as f64);
        recall = recall.max(common / reference.len() as f64);
    }
    if precision == 0.0 || recall == 0.0 {
        return 0.0;
    }
    (1.0 + BETA * BETA) * precision * recall / (recall + BETA * BETA * precision)
}

/// Length of the longest common subsequence.
fn longest_common(first: &[&str], second: &[&str]) -> usize {
    // Lengths for the words of `first` so far and each beginning of `second`.
    let mut lengths = vec![0; second.len() + 1];
    for word in first {
        let mut diagonal = 0;
        let mut left = 0;
        for (other, length) in second.iter().zip(lengths.iter_mut().skip(1)) {
            let above = *length;
            *length = if word == other { diagonal + 1 } else { above.max(left) };
            (diagonal, left) = (above, *length);
        }
    }
    lengths.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subsequences_need_not_be_contiguous() {
        let words = |text: &'static str| text.split(' ').collect::<Vec<_>>();
        for (first, second, length) in [("a b c d", "a x c d", 3), ("a b", "b a", 1), ("a", "b", 0), ("", "", 1)] {
            assert_eq!(longest_common(&words(first), &words(second)), length, "{first:?} {second:?}");
        }
    }
}
