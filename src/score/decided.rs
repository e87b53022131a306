//! Whether an answer to a closed question has decided its score before it ends.

use super::python_text::{is_space, strip};
use crate::benchmark::{ChoiceParser, Edition, Reference, ScorerRule, ScorerSpec, ShortAnswerRule};

/// Whether the score of an answer is known from its beginning: for every text `rest`, the score of `beginning` and `rest` together,
/// white space around them stripped, is that of `beginning` alone, in every part. `beginning` has no white space in front; what stands
/// at its end counts, because it ends a word. False wherever that is not certain; true only for rules that
/// [`can be decided early`](ScorerRule::can_be_decided_early).
pub fn decided(scorer: &ScorerSpec, reference: &Reference, beginning: &str) -> bool {
    if !scorer.rule.can_be_decided_early() {
        return false;
    }
    let text = strip(beginning);
    match (&scorer.rule, reference) {
        (ScorerRule::Pope, Reference::YesNo { .. }) => pope(beginning),
        (ScorerRule::Nlvr2, Reference::YesNo { .. }) => text.contains(['\n', '\r', ',']) || is_none_of(text, ["true", "false"]),
        (ScorerRule::ShortAnswer(ShortAnswerRule::PopeLmms), Reference::YesNo { .. }) => is_none_of(text, ["yes", "no"]),
        (ScorerRule::ShortAnswer(ShortAnswerRule::Mme(edition)), Reference::YesNo { .. }) => mme(*edition, text),
        (ScorerRule::Choice { parser }, Reference::Choice { .. }) => choice(*parser, text),
        _ => false,
    }
}

/// The rule reads the words before the first period. One of its three words stays one once a space follows it; that there is none is
/// known only at the period. Reports also want to know whether any word says yes or no.
fn pope(beginning: &str) -> bool {
    let (sentence, closed) = match beginning.split_once('.') {
        Some((sentence, _)) => (sentence, true),
        None => (beginning, false),
    };
    let sentence = sentence.replace(',', "");
    let whole_words = sentence.rsplit_once(' ').map_or("", |(words, _)| words);
    let says_no = whole_words.split(' ').any(|word| matches!(word, "No" | "not" | "no"));
    let is_explicit = || {
        let mut words: Vec<&str> = beginning.split(|character: char| !character.is_alphanumeric()).collect();
        // The last one may go on.
        words.pop();
        words.iter().any(|word| ["yes", "no", "not"].iter().any(|known| word.eq_ignore_ascii_case(known)))
    };
    (closed || says_no) && is_explicit()
}

/// Whether an answer that begins so can no longer be one of these words in any case.
fn is_none_of(text: &str, words: [&str; 2]) -> bool {
    let lower = text.to_lowercase();
    words.iter().all(|word| !word.starts_with(lower.as_str()))
}

/// The rules look for `yes`, then `no`, in the first four characters; where `no` stands among them there is no room left for `yes`.
fn mme(edition: Edition, text: &str) -> bool {
    let lower = text.to_lowercase();
    let counted = match edition {
        Edition::Official => lower,
        Edition::Lmms => lower.replace('.', ""),
    };
    let first: String = counted.chars().take(4).collect();
    first.chars().count() == 4 || first.contains("yes") || first.contains("no")
}

/// Rules that look at the first letter, or want the letter alone.
fn choice(parser: ChoiceParser, text: &str) -> bool {
    let characters: Vec<char> = text.chars().take(4).collect();
    let is_letter = |character: &char| character.is_ascii_uppercase();
    match (parser, characters.as_slice()) {
        (_, []) => false,
        (ChoiceParser::ExactLetter, [first, rest @ ..]) => !rest.is_empty() || !is_letter(first),
        (ChoiceParser::FirstLetter, _) => true,
        // Any other beginning may still state the answer.
        (ChoiceParser::ScienceQa, ['A'..='E', '.', ' ', ..]) => true,
        (ChoiceParser::ScienceQaLmms, characters) => characters.len() > 1,
        (ChoiceParser::Ai2d, [first, '.', ..]) if is_letter(first) => true,
        (ChoiceParser::Ai2d, _) => {
            let mut counted = text.chars().filter(|character| !character.is_ascii_punctuation());
            counted.nth(1).is_some_and(|second| second != '\0')
        }
        (ChoiceParser::BlinkExtracted, characters) => match characters {
            ['('] => false,
            ['(', letter] | ['(', letter, ')'] => !is_letter(letter),
            _ => true,
        },
        (ChoiceParser::BlinkLmms, _) => !text.trim_start_matches(|character| character == '(' || is_space(character)).is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::score;
    use super::*;

    fn rules() -> Vec<ScorerSpec> {
        ScorerRule::all().into_iter().filter(ScorerRule::can_be_decided_early).map(ScorerSpec::new).collect()
    }

    fn reference(rule: &ScorerRule) -> Reference {
        match rule {
            ScorerRule::Choice { .. } => {
                Reference::Choice { options: ["red", "blue", "green"].map(str::to_owned).into(), answer: 1 }
            }
            _ => Reference::YesNo { yes: true },
        }
    }

    fn by_name(name: &str) -> ScorerSpec {
        ScorerSpec::new(ScorerRule::by_name(name).unwrap())
    }

    #[test]
    fn closed_answers_are_decided_where_they_are() {
        let cases = [
            ("pope-official", "Yes", false),
            ("pope-official", "Yes.", true),
            ("pope-official", "No", false),
            ("pope-official", "No,", false),
            ("pope-official", "No, ", true),
            ("pope-official", "There is not ", true),
            ("pope-official", "Maybe.", false),
            ("pope-lmms", "Yes", false),
            ("pope-lmms", "Yes, it", true),
            ("mme-official", "Ye", false),
            ("mme-official", "Yes", true),
            ("mme-official", "No", true),
            ("mme-official", "It i", true),
            ("mme-lmms", "y", false),
            ("mme-lmms", "y...", false),
            ("mme-lmms", "n.o", true),
            ("nlvr2", "True", false),
            ("nlvr2", "True,", true),
            ("nlvr2", "Both", true),
            ("choice-exact-letter", "B", false),
            ("choice-exact-letter", "B.", true),
            ("choice-first-letter", "b", true),
            ("choice-science-qa", "B.", false),
            ("choice-science-qa", "B. b", true),
            ("choice-science-qa", "The answer is B.", false),
            ("choice-science-qa-lmms", "B", false),
            ("choice-science-qa-lmms", "B.", true),
            ("choice-ai2d", "B.", true),
            ("choice-ai2d", "bl", true),
            ("choice-blink-extracted", "(B)", false),
            ("choice-blink-extracted", "B", true),
            ("choice-blink-lmms", "(", false),
            ("choice-blink-lmms", "(B", true),
            ("vqa-official", "yes", false),
        ];
        for (name, beginning, expected) in cases {
            let scorer = by_name(name);
            assert_eq!(decided(&scorer, &reference(&scorer.rule), beginning), expected, "{name} {beginning:?}");
        }
        for scorer in rules() {
            assert!(!decided(&scorer, &Reference::Withheld, "Yes. No. B. "), "nothing is scored here");
            assert!(!decided(&scorer, &reference(&scorer.rule), ""));
            let some = ["No. ", "B. b", "Both"].iter().any(|text| decided(&scorer, &reference(&scorer.rule), text));
            assert!(some, "{} is never decided", scorer.identity());
        }
    }

    fn pieces() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "yes",
            "Yes",
            "YES",
            "no",
            "No",
            "NO",
            "not",
            "n",
            "y",
            "o",
            "t",
            "True",
            "true",
            "False",
            "false",
            "A",
            "B",
            "b",
            "D",
            "Z",
            ".",
            ",",
            " ",
            " ",
            "\n",
            "\n\n",
            "\r",
            "(",
            ")",
            "The answer is ",
            "the",
            "x",
            "Σ",
            "ſ",
            "\u{212a}",
            "İ",
            "\0",
            "\u{1c}",
            "é",
            "\u{301}",
            "!",
        ]);
        prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        /// The promise itself, for every rule, with beginnings and rests made of what the rules look for.
        #[test]
        fn nothing_that_follows_changes_a_decided_score(beginning in pieces(), rest in pieces()) {
            let beginning = beginning.trim_start_matches(is_space);
            let whole = format!("{beginning}{rest}");
            for scorer in rules() {
                let reference = reference(&scorer.rule);
                if decided(&scorer, &reference, beginning) {
                    let (early, late) = (score(&scorer, &reference, strip(beginning)), score(&scorer, &reference, strip(&whole)));
                    prop_assert_eq!(early, late, "{} {:?} {:?}", scorer.identity(), beginning, rest);
                }
            }
        }

        /// Any text at all.
        #[test]
        fn nothing_at_all_changes_a_decided_score(beginning in "\\PC{0,6}", rest in "\\PC{0,6}") {
            let beginning = beginning.trim_start_matches(is_space);
            let whole = format!("{beginning}{rest}");
            for scorer in rules() {
                let reference = reference(&scorer.rule);
                if decided(&scorer, &reference, beginning) {
                    let (early, late) = (score(&scorer, &reference, strip(beginning)), score(&scorer, &reference, strip(&whole)));
                    prop_assert_eq!(early, late, "{} {:?} {:?}", scorer.identity(), beginning, rest);
                }
            }
        }
    }
}
