//! What the samples of a benchmark share beyond their questions: classes to tell apart, or candidates to be found.

use std::collections::HashMap;

use super::image::SampleImage;
use super::pattern::ClassTemplate;

/// What is to be done with the samples of a benchmark.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// Each question is answered in words.
    Answer,
    /// Each picture is given the class whose texts are nearest to it.
    Classify(ClassSet),
    /// Each image finds its captions and each caption its image.
    Retrieve(CandidateSet),
}

/// Classes and the texts that describe them.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassSet {
    /// Class names as the file gives them; some lists have a name twice (`missile` in ImageNet's).
    pub names: Vec<String>,
    /// Names that are told apart: a name that stands more than once has its index behind it, `missile [744]`.
    pub labels: Vec<String>,
    /// Texts with a hole for a class name, at least one.
    pub templates: Vec<ClassTemplate>,
}

/// Captions and images of a retrieval benchmark. Candidates are all of them, also where only some are asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct CandidateSet {
    /// Captions in file order.
    pub captions: Vec<String>,
    /// Captions in one line, told apart: one that stands more than once has its position behind it.
    pub caption_labels: Vec<String>,
    /// Images in file order.
    pub images: Vec<SampleImage>,
    /// Image names as the file gives them, each once.
    pub image_labels: Vec<String>,
    /// What each sample of the benchmark asks with, in their order.
    pub queries: Vec<Query>,
}

/// What a retrieval sample asks with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// The image of this index looks for its captions.
    Image(usize),
    /// The caption of this index looks for its image.
    Caption(usize),
}

impl ClassSet {
    /// Classes with their templates.
    pub fn new(names: Vec<String>, templates: Vec<ClassTemplate>) -> Self {
        let labels = told_apart(&names);
        Self { names, labels, templates }
    }

    /// The texts of one class, one for each template; none if there is no such class.
    pub fn texts(&self, class: usize) -> Vec<String> {
        let name = self.names.get(class);
        name.into_iter().flat_map(|name| self.templates.iter().map(|template| template.render(name))).collect()
    }
}

/// One line each, with `[position]` behind what stands more than once.
pub(super) fn told_apart(texts: &[String]) -> Vec<String> {
    let lines: Vec<String> = texts.iter().map(|text| text.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for line in &lines {
        *counts.entry(line).or_default() += 1;
    }
    let label = |(position, line): (usize, &String)| match counts.get(line.as_str()) {
        Some(1) => line.clone(),
        _ => format!("{line} [{position}]"),
    };
    lines.iter().enumerate().map(label).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_twice_is_told_apart_by_its_position() {
        let names = ["missile", "crane", "missile", "a\n cat"].map(str::to_owned).to_vec();
        let classes = ClassSet::new(names, vec![ClassTemplate::parse("a {c}.").unwrap(), ClassTemplate::parse("{c}").unwrap()]);
        assert_eq!(classes.labels, ["missile [0]", "crane", "missile [2]", "a cat"]);
        assert_eq!(classes.texts(2), ["a missile.", "missile"]);
        assert!(classes.texts(4).is_empty());
    }
}
