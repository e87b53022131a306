//! What a reader must know before believing the numbers: every single note, and the same gathered so that a reader can
//! take it in.

use super::format;
use super::view::{BenchmarkView, View};

/// How much a note weighs; the heaviest come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    /// Samples are missing.
    Missing,
    /// Answers are of no use.
    Unread,
    /// The samples are not the whole benchmark.
    Limited,
    /// What was compared differs in something that changes answers.
    Unlike,
    /// Conditions differ, as they often must.
    Condition,
}

/// One statement about a package or a pair, with the benchmarks on which it holds.
struct Note {
    who: String,
    statement: String,
    weight: Weight,
    benchmarks: Vec<String>,
}

/// Notes that say the same but for their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CautionGroup {
    /// What they say, with the range of each number.
    pub statement: String,
    /// Of whom, shortened.
    pub who: String,
    /// On which benchmarks, shortened.
    pub place: String,
    /// Whether the note should be seen at once.
    pub weighty: bool,
}

impl View<'_> {
    /// Every note as a sentence. What holds on several benchmarks is said once.
    pub fn cautions(&self) -> Vec<String> {
        let all = self.benchmarks.len();
        let sentence = |note: &Note| format!("{} {}: {}.", note.who, place(&note.benchmarks, all, usize::MAX), note.statement);
        notes(self).iter().map(sentence).collect()
    }

    /// The notes gathered by what they say, the heaviest first.
    pub fn caution_groups(&self) -> Vec<CautionGroup> {
        let mut notes = notes(self);
        notes.sort_by_key(|note| note.weight);
        let mut groups: Vec<(String, Vec<&Note>)> = Vec::new();
        for note in &notes {
            let template = template(&note.statement);
            match groups
                .iter_mut()
                .find(|(known, members)| *known == template && members.first().is_some_and(|first| first.weight == note.weight))
            {
                Some((_, members)) => members.push(note),
                None => groups.push((template, vec![note])),
            }
        }
        groups.into_iter().map(|(_, members)| group(&members, self.benchmarks.len())).collect()
    }
}

fn group(members: &[&Note], all: usize) -> CautionGroup {
    let statements: Vec<&str> = members.iter().map(|note| note.statement.as_str()).collect();
    let (mut names, mut benchmarks): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    for note in members {
        if !names.contains(&note.who) {
            names.push(note.who.clone());
        }
        for benchmark in &note.benchmarks {
            if !benchmarks.contains(benchmark) {
                benchmarks.push(benchmark.clone());
            }
        }
    }
    CautionGroup {
        statement: ranged(&statements),
        who: few(&names, 3, "; "),
        place: place(&benchmarks, all, 2),
        weighty: members.first().is_some_and(|note| note.weight < Weight::Condition),
    }
}

/// The first `most` of some names, and how many more there are.
fn few(names: &[String], most: usize, separator: &str) -> String {
    let shown = names.get(..most).unwrap_or(names).join(separator);
    match names.len().saturating_sub(most) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn place(benchmarks: &[String], all: usize, most: usize) -> String {
    match benchmarks {
        [one] => format!("on {one}"),
        several if several.len() == all => format!("on all {all} benchmarks"),
        several if several.len() > most => format!("on {} benchmarks", several.len()),
        several => format!("on {}", several.join("; ")),
    }
}

/// The text with every number replaced by one mark.
fn template(text: &str) -> String {
    let mut shape = String::with_capacity(text.len());
    for piece in pieces(text) {
        shape.push_str(if piece.parse::<f64>().is_ok() { "\u{0}" } else { piece });
    }
    shape
}

/// A text cut into numbers (digits, with one decimal point) and what stands between them.
fn pieces(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let digit = |index: usize| bytes.get(index).is_some_and(u8::is_ascii_digit);
    let mut pieces = Vec::new();
    let (mut start, mut index) = (0, 0);
    while index < bytes.len() {
        // A digit inside a word belongs to the word.
        let in_word =
            index > 0 && bytes.get(index - 1).is_some_and(|before| before.is_ascii_alphanumeric() || b"._-".contains(before));
        if !digit(index) || in_word {
            index += 1;
            continue;
        }
        let mut end = index;
        while digit(end) {
            end += 1;
        }
        if bytes.get(end) == Some(&b'.') && digit(end + 1) {
            end += 1;
            while digit(end) {
                end += 1;
            }
        }
        pieces.extend(text.get(start..index).filter(|between| !between.is_empty()));
        pieces.extend(text.get(index..end));
        (start, index) = (end, end);
    }
    pieces.extend(text.get(start..).filter(|rest| !rest.is_empty()));
    pieces
}

/// Statements of one template as one, each number that differs as its range.
fn ranged(statements: &[&str]) -> String {
    let cut: Vec<Vec<&str>> = statements.iter().map(|statement| pieces(statement)).collect();
    let Some(first) = cut.first() else { return String::new() };
    let mut text = String::new();
    for (place, piece) in first.iter().enumerate() {
        let column: Vec<&str> = cut.iter().filter_map(|pieces| pieces.get(place).copied()).collect();
        if piece.parse::<f64>().is_err() || column.iter().all(|other| other == piece) {
            text.push_str(piece);
            continue;
        }
        let value = |text: &&&str| text.parse::<f64>().unwrap_or(f64::NAN);
        let low = column.iter().min_by(|left, right| value(left).total_cmp(&value(right)));
        let high = column.iter().max_by(|left, right| value(left).total_cmp(&value(right)));
        text.push_str(&format!("{} to {}", low.unwrap_or(piece), high.unwrap_or(piece)));
    }
    text
}

fn notes(view: &View<'_>) -> Vec<Note> {
    let mut notes: Vec<Note> = Vec::new();
    for benchmark in &view.benchmarks {
        of_runs(&mut notes, view, benchmark);
        for pair in &benchmark.pairs {
            let who = format!("{} against {}", view.package(pair.new), view.package(pair.base));
            for note in &pair.pair.notes {
                let setting = note.contains(" in the first run, ") && note.ends_with(" in the second");
                let weight = if setting || note.starts_with("answers have ") { Weight::Condition } else { Weight::Unlike };
                add(&mut notes, &who, benchmark.title, weight, note.clone());
            }
        }
    }
    notes
}

fn add(notes: &mut Vec<Note>, who: &str, benchmark: &str, weight: Weight, statement: String) {
    match notes.iter_mut().find(|note| note.who == who && note.statement == statement) {
        Some(note) => note.benchmarks.push(benchmark.to_owned()),
        None => {
            let benchmarks = vec![benchmark.to_owned()];
            notes.push(Note { who: who.to_owned(), statement, weight, benchmarks });
        }
    }
}

fn of_runs(notes: &mut Vec<Note>, view: &View<'_>, benchmark: &BenchmarkView<'_>) {
    let title = benchmark.title;
    if let Some(of) = benchmark.runs.first().map(|view| &view.run.header.benchmark)
        && of.samples < of.samples_available
    {
        let (samples, available) = (format::count(of.samples), format::count(of.samples_available));
        let statement = format!("only {samples} of the benchmark's {available} samples were asked");
        add(notes, "Limited", title, Weight::Limited, statement);
    }
    for placed in &benchmark.runs {
        let run = placed.run;
        let who = view.package(placed.package);
        let (records, of) = (format::count(run.records), &run.header.benchmark);
        if !run.complete {
            let statement = format!("the run is not complete, {records} of {} samples have a record", format::count(of.samples));
            add(notes, who, title, Weight::Missing, statement);
        }
        if run.failed > 0 {
            add(notes, who, title, Weight::Missing, format!("{} of {records} samples failed", format::count(run.failed)));
        }
        if run.unscored > 0 {
            let why = match &run.judge {
                Some(judge) => format!(
                    "{} replies of the judge could not be read, {} answers got no reply",
                    format::count(judge.unparsed_replies),
                    format::count(judge.failed_replies)
                ),
                None => {
                    "no judge has read them (`llava-gauge judge RUN --judge-url URL --judge-model NAME`), or their reference is \
                         withheld"
                        .to_owned()
                }
            };
            let statement =
                format!("{} of {records} answers have no score and are in no mean: {why}", format::count(run.unscored));
            add(notes, who, title, Weight::Unread, statement);
        }
        if run.unparsed * 20 > run.records {
            let statement = format!("{} of {records} answers could not be parsed", format::count(run.unparsed));
            add(notes, who, title, Weight::Unread, statement);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_differ_become_ranges() {
        let said = [
            "80 of 211 answers could not be parsed",
            "9 of 211 answers could not be parsed",
            "170 of 211 answers could not be parsed",
        ];
        assert_eq!(ranged(&said), "9 to 170 of 211 answers could not be parsed");
        assert_eq!(template(said[0]), template(said[2]));
        assert_ne!(template("2 runs"), template("2 walks"));
        // Digits inside names are no numbers.
        assert_eq!(pieces("llava-1.5 has 3.5 tokens, fp16"), ["llava-1.5 has ", "3.5", " tokens, fp16"]);
        assert_eq!(pieces("äöü 12"), ["äöü ", "12"]);
        assert_eq!(ranged(&[]), "");
    }

    #[test]
    fn long_lists_are_counted() {
        let names = ["a", "b", "c", "d"].map(str::to_owned);
        assert_eq!(few(&names, 3, ", "), "a, b, c and 1 more");
        assert_eq!(place(&names, 9, 2), "on 4 benchmarks");
        assert_eq!(place(&names, 4, 2), "on all 4 benchmarks");
        assert_eq!(place(&names[..1], 4, 2), "on a");
    }
}
