//! Words of captions as the Penn Treebank separates them.
//!
//! pycocoevalcap gives captions to Stanford's PTBTokenizer (CoreNLP 3.4.1, `-preserveLines -lowerCase`) and then takes
//! punctuation out (`tokenizer/ptbtokenizer.py`). This is the same behaviour, written anew as a list of rules and compared with
//! that program on many thousands of texts.
//!
//! That program reads all captions as one text, a line each, so that in rare cases the next caption decides about the end of
//! one: after `vitamin C.` the word is `c` if the next line begins with `A `, and `c.` otherwise. Here every caption is read
//! alone, as if a line without such a word followed. Line ends within a caption, which shift all later captions in
//! pycocoevalcap, are spaces here.

mod classes;
mod rules;

use std::borrow::Cow;
use std::sync::LazyLock;

use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::util::pool::Pool;
use regex_automata::{Anchored, Input, MatchKind};

use self::rules::{Action, End};
use crate::score::python_text::{is_space, strip_end};

/// Tokens that pycocoevalcap takes out.
const PUNCTUATION: [&str; 17] =
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"];

/// Memory for the states of the automaton, which are made as texts need them.
const CACHE_BYTES: usize = 32 << 20;

/// The rules, compiled.
struct Lexer {
    dfa: DFA,
    caches: Pool<Cache, Box<dyn Fn() -> Cache + Send + Sync + std::panic::UnwindSafe + std::panic::RefUnwindSafe>>,
    outcomes: Vec<(End, Action)>,
}

static LEXER: LazyLock<Lexer> = LazyLock::new(Lexer::new);

impl Lexer {
    #[expect(clippy::expect_used, reason = "the rules are constants; any test that tokenises compiles them")]
    fn new() -> Self {
        let rules = rules::rules();
        let patterns: Vec<&str> = rules.iter().map(|rule| rule.pattern.as_str()).collect();
        let config = DFA::config().match_kind(MatchKind::All).cache_capacity(CACHE_BYTES);
        let dfa = DFA::builder().configure(config).build_many(&patterns).expect("the rules are regular expressions");
        let for_caches = dfa.clone();
        let caches: Box<dyn Fn() -> Cache + Send + Sync + std::panic::UnwindSafe + std::panic::RefUnwindSafe> =
            Box::new(move || for_caches.create_cache());
        let outcomes = rules.iter().map(|rule| (rule.end, rule.action)).collect();
        Self { dfa, caches: Pool::new(caches), outcomes }
    }

    /// The longest match at the beginning of the text, and the first rule that has it.
    fn longest<'t>(&self, cache: &mut Cache, text: &'t str) -> Option<(&'t str, End, Action)> {
        let input = Input::new(text).anchored(Anchored::Yes);
        // The search cannot fail: it has no bytes to quit at and may empty its cache as often as it likes.
        let found = self.dfa.try_search_fwd(cache, &input).ok().flatten()?;
        let (end, action) = self.outcomes.get(found.pattern().as_usize())?;
        Some((text.get(..found.offset())?, *end, *action))
    }
}

/// Length of the token in a match, in bytes.
fn token_length(matched: &str, end: End) -> usize {
    let before_last = |count: usize| matched.char_indices().rev().nth(count.saturating_sub(1)).map(|(at, _)| at);
    let apostrophe = || {
        let entity = matched.to_ascii_lowercase().rfind("&apos;");
        entity.max(matched.rfind(['\'', '\u{92}', '\u{2019}', '`', '\u{91}', '\u{2018}', '\u{201b}']))
    };
    let length = match end {
        End::Match => None,
        End::Before(count) => before_last(count),
        End::AtSpace => matched.find(is_space),
        End::AfterStop => matched.find('.').map(|at| at + 1),
        End::AtApostrophe => apostrophe(),
        End::BeforeApostrophe => apostrophe().map(|at| at.saturating_sub(1)),
    };
    length.unwrap_or(matched.len())
}

/// The tokens of one caption in lower case, punctuation included.
pub fn ptb_tokens(text: &str) -> Vec<String> {
    let lexer = &*LEXER;
    let mut cache = lexer.caches.get();
    // What stands before the end of a line is told from what stands before anything else.
    let text = format!("{}\n", text.replace('\n', " "));
    let mut rest = text.as_str();
    let mut tokens = Vec::new();
    while let Some(first) = rest.chars().next() {
        let Some((matched, end, action)) = lexer.longest(&mut cache, rest) else {
            // White space, and what no rule knows.
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
            continue;
        };
        let token = matched.get(..token_length(matched, end)).unwrap_or(matched);
        let (kept, read) = outcome(token, action);
        // A rule never reads nothing; should it, the text still ends.
        rest = rest.get(read.max(first.len_utf8())..).unwrap_or_default();
        if let Some(kept) = kept {
            tokens.push(lower_case(&kept));
        }
    }
    tokens
}

/// What becomes of a token, and how many bytes of it have been read.
fn outcome(token: &str, action: Action) -> (Option<Cow<'_, str>>, usize) {
    let all = token.len();
    let shorter = |characters: usize| {
        let at = token.char_indices().rev().nth(characters.saturating_sub(1)).map_or(0, |(at, _)| at);
        token.get(..at).unwrap_or(token)
    };
    let kept = match action {
        Action::Keep => Cow::Borrowed(token),
        Action::DropSoftHyphens => match token.replace('\u{ad}', "") {
            text if text.is_empty() => Cow::Borrowed("-"),
            text => Cow::Owned(text),
        },
        Action::GiveBack(count) => return (Some(Cow::Borrowed(shorter(count))), shorter(count).len()),
        Action::RepeatStop => return (Some(Cow::Borrowed(token)), shorter(1).len()),
        Action::RepeatStopOfAcronym if token.chars().count() == 2 => {
            return (Some(Cow::Borrowed(shorter(1))), shorter(1).len());
        }
        Action::RepeatStopOfAcronym => return (Some(Cow::Borrowed(token)), shorter(1).len()),
        Action::JoinSpaces => Cow::Owned(token.replace(' ', "\u{a0}")),
        Action::OneWord => Cow::Owned(token.replace(' ', "\u{a0}").replace('(', "-LRB-").replace(')', "-RRB-")),
        Action::Quotes { opening } => Cow::Owned(latex_quotes(token, opening)),
        Action::Ampersands => Cow::Owned(plain_ampersands(token)),
        Action::Become(text) => Cow::Borrowed(text),
        Action::Fraction => Cow::Borrowed(match token {
            "\u{bc}" => "1/4",
            "\u{bd}" => "1/2",
            "\u{be}" => "3/4",
            "\u{2153}" => "1/3",
            "\u{2154}" => "2/3",
            other => other,
        }),
        Action::Currency => Cow::Borrowed(match token {
            "\u{a2}" => "cents",
            "\u{a3}" => "#",
            "\u{80}" | "\u{a4}" | "\u{20a0}" | "\u{20ac}" => "$",
            other => other,
        }),
        Action::Dashes if matches!(all, 3 | 4) => Cow::Borrowed("--"),
        Action::Dashes => Cow::Borrowed(token),
        Action::Skip => return (None, all),
    };
    (Some(kept), all)
}

/// The token in lower case as Java has it. Its words, within which a capital sigma at the end becomes a final one, go on over
/// hyphens and the like.
fn lower_case(token: &str) -> String {
    if !token.contains('\u{3a3}') {
        return token.to_lowercase();
    }
    let characters: Vec<char> = token.chars().collect();
    let letter = |index: usize| characters.get(index).is_some_and(|character| character.is_alphanumeric());
    let in_word = |index: &usize| {
        let between = *index > 0 && letter(index - 1) && letter(index + 1);
        letter(*index) || between && characters.get(*index).is_some_and(|character| "-_.'\u{ad}\u{2019}".contains(*character))
    };
    // The ordinal signs have no case there.
    let cased = |index: usize| {
        characters.get(index).is_some_and(|&character| {
            (character.is_lowercase() || character.is_uppercase()) && !matches!(character, '\u{aa}' | '\u{ba}')
        })
    };
    let mut lower = String::with_capacity(token.len());
    for (index, &character) in characters.iter().enumerate() {
        if character != '\u{3a3}' {
            lower.extend(character.to_lowercase());
            continue;
        }
        let before = (0..index).rev().take_while(in_word).any(cased);
        let after = (index + 1..characters.len()).take_while(in_word).any(cased);
        lower.push(if before && !after { '\u{3c2}' } else { '\u{3c3}' });
    }
    lower
}

/// Quotation marks as LaTeX has them.
fn latex_quotes(token: &str, opening: bool) -> String {
    let (single, double) = if opening { ("`", "``") } else { ("'", "''") };
    let mut text = token.replace("&apos;", "'").replace("&quot;", "\"");
    if opening {
        text = text.replace('\'', single);
    }
    text.replace('"', double)
        .replace(['\u{91}', '\u{2018}', '\u{201b}', '\u{2039}'], "`")
        .replace(['\u{92}', '\u{2019}', '\u{203a}'], "'")
        .replace(['\u{93}', '\u{201c}', '\u{ab}'], "``")
        .replace(['\u{94}', '\u{201d}', '\u{bb}'], "''")
}

/// `&amp;` in any case as `&`.
fn plain_ampersands(token: &str) -> String {
    let mut text = String::with_capacity(token.len());
    let mut rest = token;
    while let Some(at) = rest.find('&') {
        let (before, from) = rest.split_at(at);
        text.push_str(before);
        text.push('&');
        let entity = from.get(.."&amp;".len()).is_some_and(|entity| entity.eq_ignore_ascii_case("&amp;"));
        rest = from.get(if entity { "&amp;".len() } else { 1 }..).unwrap_or_default();
    }
    text.push_str(rest);
    text
}

/// A caption as pycocoevalcap compares it: lower-case tokens without punctuation, with single spaces between them.
pub fn ptb_caption(text: &str) -> String {
    let line = ptb_tokens(text).join(" ");
    strip_end(&line).split(' ').filter(|token| !PUNCTUATION.contains(token)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_separated_as_the_treebank_does() {
        for (text, tokens) in [
            ("A man's dog can't wait, isn't it?", "a man 's dog ca n't wait , is n't it ?"),
            ("I'd've gonna cannot 'tis", "i 'd 've gon na can not 't is"),
            ("Mr. Smith paid $3.50 (or 1/2) at 10:30 a.m.", "mr. smith paid $ 3.50 -lrb- or 1/2 -rrb- at 10:30 a.m."),
            ("\u{201c}Quoted\u{201d} \"text\"", "`` quoted '' `` text ''"),
            ("well-known T-shirt -- rock 'n' roll \u{2026}", "well-known t-shirt -- rock 'n' roll ..."),
            ("\u{1f600} nice", "nice"),
        ] {
            assert_eq!(ptb_tokens(text).join(" "), tokens, "{text}");
        }
    }

    #[test]
    fn punctuation_is_taken_out_but_brackets_in_lower_case_stay() {
        assert_eq!(ptb_caption("A cat, a dog (sleeping)."), "a cat a dog -lrb- sleeping -rrb-");
        assert_eq!(ptb_caption(" . "), "");
        assert_eq!(ptb_caption(""), "");
    }

    #[test]
    fn no_rule_matches_nothing() {
        let lexer = &*LEXER;
        let mut cache = lexer.caches.get();
        assert!(lexer.longest(&mut cache, "").is_none());
    }
}
