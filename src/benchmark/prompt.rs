//! The user's turn: how question, context, options, OCR tokens and the places of images become one text.

use std::borrow::Cow;

use super::pattern::{Piece, fill, holes, pieces};
use super::types::IMAGE_MARK;

/// Holes of a prompt template that a table can fill.
pub(super) const PROMPT_HOLES: &[&str] = &["question", "context", "options", "ocr_tokens"];

/// How a sample is asked: a template with `{question}` and, where the data have them, `{context}`, `{options}` and
/// `{ocr_tokens}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptTemplate {
    text: String,
    pieces: Vec<Piece>,
    /// For samples without options, where a benchmark has both kinds.
    open: Option<Vec<Piece>>,
    /// How a context stands in the prompt, with the hole `context`.
    context: Vec<Piece>,
    /// What stands for a context that a sample has not.
    without_context: String,
    /// One option, with the holes `letter` and `text`.
    option: Vec<Piece>,
    option_separator: String,
    /// How an option stands that has its letter already.
    lettered_option: Option<Vec<Piece>>,
    /// Taken out of questions.
    remove: Vec<String>,
    /// Before and behind the number in an image's mark.
    image_mark: Option<(String, String)>,
    /// Whether each [`IMAGE_MARK`] in the text is the place of the next image.
    marks_in_order: bool,
    /// What stands in the place of an image, with one [`IMAGE_MARK`].
    image: String,
}

/// The parts of a prompt as the TOML file has them; the error of [`PromptTemplate::build`] names the part.
#[derive(Clone, Debug, Default)]
pub(super) struct PromptParts {
    pub template: String,
    pub open_template: Option<String>,
    pub context: Option<String>,
    pub without_context: Option<String>,
    pub option: Option<String>,
    pub option_separator: Option<String>,
    pub lettered_option: Option<String>,
    pub remove: Vec<String>,
    pub image_mark: Option<String>,
    pub image: Option<String>,
}

/// What is asked of a sample.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// The question as the data file gives it.
    pub question: &'a str,
    /// Hint or passage, if there is one.
    pub context: Option<&'a str>,
    /// Texts of the options, the first being A; none for a question that is no choice.
    pub options: &'a [String],
    /// OCR tokens, joined by `, ` as LLaVA's TextVQA file has them.
    pub ocr_tokens: &'a [String],
    /// Number of images.
    pub images: usize,
}

/// A prompt, and where its images stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedPrompt {
    /// The text; with [`IMAGE_MARK`]s exactly where images stand if `image_order` says so.
    pub text: String,
    /// Which image each mark stands for, from 0; an image may stand more than once. `None` if no mark places images: all of them
    /// then stand before the text.
    pub image_order: Option<Vec<usize>>,
}

impl PromptTemplate {
    /// Reads a template that must have `{question}`.
    pub(super) fn parse(text: &str, allowed: &[&str]) -> Result<Self, String> {
        let parts = PromptParts { template: text.to_owned(), ..PromptParts::default() };
        Self::build(parts, allowed).map_err(|(_, message)| message)
    }

    /// Reads all parts of a prompt. The error is the name of the wrong part and what is wrong with it.
    pub(super) fn build(parts: PromptParts, allowed: &[&str]) -> Result<Self, (&'static str, String)> {
        let asking = |part: &'static str, text: &str| {
            let pieces = pieces(text, allowed).map_err(|message| (part, message))?;
            match holes(&pieces, "question") {
                0 => Err((part, format!("{text:?} does not ask anything; expected {{question}} in it"))),
                _ => Ok(pieces),
            }
        };
        let holding = |part: &'static str, text: &str, allowed: &[&str], wanted: &str| {
            let pieces = pieces(text, allowed).map_err(|message| (part, message))?;
            match holes(&pieces, wanted) {
                0 => Err((part, format!("{text:?} is the same for all; expected {{{wanted}}} in it"))),
                _ => Ok(pieces),
            }
        };
        let marks_in_order = parts.image_mark.as_deref() == Some(IMAGE_MARK);
        let image = parts.image.unwrap_or_else(|| IMAGE_MARK.to_owned());
        if image.matches(IMAGE_MARK).count() != 1 || (image != IMAGE_MARK && parts.image_mark.is_none()) {
            let message = format!("expected one {IMAGE_MARK} in what stands for a mark of `image_mark`, found {image:?}");
            return Err(("image", message));
        }
        let image_mark = match parts.image_mark {
            None => None,
            Some(_) if marks_in_order => None,
            Some(mark) => match mark.split_once("{number}") {
                Some((before, after)) if !before.is_empty() && !after.is_empty() => Some((before.to_owned(), after.to_owned())),
                _ => {
                    return Err((
                        "image_mark",
                        format!("expected a mark such as \"<image {{number}}>\", or \"<image>\", found {mark:?}"),
                    ));
                }
            },
        };
        if parts.remove.iter().any(String::is_empty) {
            return Err(("remove", "an empty text cannot be taken out".to_owned()));
        }
        Ok(Self {
            pieces: asking("template", &parts.template)?,
            text: parts.template,
            open: parts.open_template.map(|text| asking("open_template", &text)).transpose()?,
            context: holding("context", parts.context.as_deref().unwrap_or("{context}"), &["context"], "context")?,
            without_context: parts.without_context.unwrap_or_default(),
            option: holding("option", parts.option.as_deref().unwrap_or("{letter}. {text}"), &["letter", "text"], "text")?,
            lettered_option: parts
                .lettered_option
                .map(|text| holding("lettered_option", &text, &["letter", "text"], "text"))
                .transpose()?,
            option_separator: parts.option_separator.unwrap_or_else(|| "\n".to_owned()),
            remove: parts.remove,
            image_mark,
            marks_in_order,
            image,
        })
    }

    /// The template as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether a sample without options can be asked.
    pub fn asks_open_questions(&self) -> bool {
        self.open.is_some() || holes(&self.pieces, "options") == 0
    }

    /// Whether the template has `{ocr_tokens}`.
    pub fn wants_ocr_tokens(&self) -> bool {
        holes(&self.pieces, "ocr_tokens") > 0 || self.open.as_ref().is_some_and(|pieces| holes(pieces, "ocr_tokens") > 0)
    }

    /// The prompt for a question without options and context, whose images stand before it.
    pub fn render(&self, question: &str, ocr_tokens: &[String]) -> String {
        self.ask(&Asked { question, ocr_tokens, ..Asked::default() }).text
    }

    /// The prompt for a sample.
    pub fn ask(&self, asked: &Asked<'_>) -> AskedPrompt {
        let question = self.question(asked.question);
        let pieces = match &self.open {
            Some(open) if asked.options.is_empty() => open,
            _ => &self.pieces,
        };
        let text = fill(pieces, |hole| match hole {
            "context" => match asked.context {
                Some(context) => fill(&self.context, |_| context.to_owned()),
                None => self.without_context.clone(),
            },
            "options" => self.options(asked.options),
            "ocr_tokens" => asked.ocr_tokens.join(", "),
            _ => question.to_string(),
        });
        self.place_images(text, asked.images)
    }

    /// The question without what is to be removed.
    fn question<'q>(&self, question: &'q str) -> Cow<'q, str> {
        let mut text = Cow::Borrowed(question);
        for removed in self.remove.iter().filter(|removed| question.contains(removed.as_str())) {
            text = Cow::Owned(text.replace(removed.as_str(), ""));
        }
        text
    }

    fn options(&self, options: &[String]) -> String {
        let line = |(index, text): (usize, &String)| {
            let letter = option_letter(index);
            // As Mantis's eval.py tells: the letter with one of its marks anywhere in the option.
            let upper = text.to_uppercase();
            let has_letter = || [")", ":", "."].iter().any(|mark| upper.contains(&format!("{letter}{mark}")));
            let pieces = self.lettered_option.as_ref().filter(|_| has_letter()).unwrap_or(&self.option);
            fill(pieces, |hole| if hole == "letter" { letter.clone() } else { text.clone() })
        };
        options.iter().enumerate().map(line).collect::<Vec<_>>().join(&self.option_separator)
    }

    /// Puts [`IMAGE_MARK`] in the place of the benchmark's own marks. Images that no mark names come first, a line each.
    fn place_images(&self, text: String, images: usize) -> AskedPrompt {
        if self.marks_in_order {
            return self.in_order(text, images);
        }
        let Some((before, after)) = &self.image_mark else { return AskedPrompt { text, image_order: None } };
        let mut output = String::with_capacity(text.len());
        let mut order = Vec::new();
        let mut rest = text.as_str();
        while let Some((ahead, behind)) = rest.split_once(before.as_str()) {
            let number = behind.split_once(after.as_str()).and_then(|(number, tail)| Some((number.parse::<usize>().ok()?, tail)));
            match number {
                Some((number, tail)) if (1..=images).contains(&number) => {
                    output.push_str(ahead);
                    output.push_str(&self.image);
                    order.push(number - 1);
                    rest = tail;
                }
                _ => {
                    output.push_str(ahead);
                    output.push_str(before);
                    rest = behind;
                }
            }
        }
        // A mark of another program in the text would now be taken for the place of an image.
        if order.is_empty() || text.contains(IMAGE_MARK) {
            return AskedPrompt { text, image_order: None };
        }
        output.push_str(rest);
        let unnamed: Vec<usize> = (0..images).filter(|image| !order.contains(image)).collect();
        let first: String = unnamed.iter().map(|_| format!("{IMAGE_MARK}\n")).collect();
        AskedPrompt { text: first + &output, image_order: Some(unnamed.into_iter().chain(order).collect()) }
    }
}

impl PromptTemplate {
    /// Gives each mark the next image. Images that have no mark come first, as in Mantis's eval.py. With more marks than
    /// images none is the place of an image.
    fn in_order(&self, text: String, images: usize) -> AskedPrompt {
        let marks = text.matches(IMAGE_MARK).count();
        if images == 0 || marks > images {
            return AskedPrompt { text, image_order: None };
        }
        let text = format!("{}{text}", IMAGE_MARK.repeat(images - marks)).replace(IMAGE_MARK, &self.image);
        AskedPrompt { text, image_order: Some((0..images).collect()) }
    }
}

/// The name of an option by its place: A to Z, then AA, AB, ….
pub fn option_letter(index: usize) -> String {
    let mut letters = Vec::new();
    let mut rest = index;
    loop {
        letters.push(char::from(b'A' + (rest % 26) as u8));
        if rest < 26 {
            break;
        }
        rest = rest / 26 - 1;
    }
    letters.iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(parts: PromptParts) -> PromptTemplate {
        PromptTemplate::build(parts, PROMPT_HOLES).unwrap()
    }

    #[test]
    fn a_question_cannot_open_another_hole() {
        let template = PromptTemplate::parse("{question}\nTokens: {ocr_tokens}", &["question", "ocr_tokens"]).unwrap();
        let tokens = ["a".to_owned(), "b".to_owned()];
        assert_eq!(template.render("Is {ocr_tokens} here?", &tokens), "Is {ocr_tokens} here?\nTokens: a, b");
    }

    #[test]
    fn options_and_context_stand_where_the_template_has_them() {
        let template = template(PromptParts {
            template: "{context}{question}\n{options}\nAnswer.".to_owned(),
            open_template: Some("{question} Shortly.".to_owned()),
            context: Some("{context}\n".to_owned()),
            option: Some("({letter}) {text}".to_owned()),
            remove: vec![" Please answer yes or no.".to_owned()],
            ..PromptParts::default()
        });
        let options = ["one {text}".to_owned(), "two".to_owned()];
        let asked = Asked { question: "Which? Please answer yes or no.", options: &options, ..Asked::default() };
        assert_eq!(template.ask(&asked).text, "Which?\n(A) one {text}\n(B) two\nAnswer.");
        let asked = Asked { context: Some("Look."), ..asked };
        assert_eq!(template.ask(&asked).text, "Look.\nWhich?\n(A) one {text}\n(B) two\nAnswer.");
        assert_eq!(template.render("How?", &[]), "How? Shortly.");
    }

    #[test]
    fn marks_place_images() {
        let template = template(PromptParts {
            template: "{question}\n{options}".to_owned(),
            image_mark: Some("<image {number}>".to_owned()),
            ..PromptParts::default()
        });
        let ask = |question: &str, images| template.ask(&Asked { question, images, ..Asked::default() });
        assert_eq!(
            ask("See <image 2>, not <image 1>.", 3),
            AskedPrompt { text: "<image>\nSee <image>, not <image>.\n".to_owned(), image_order: Some(vec![2, 1, 0]) }
        );
        assert_eq!(ask("See <image 4> and <image x>", 2).image_order, None);
        assert_eq!(ask("Nothing <image>", 1), AskedPrompt { text: "Nothing <image>\n".to_owned(), image_order: None });
        assert_eq!(ask("<image 1><image 1>", 1).image_order, Some(vec![0, 0]));
    }

    #[test]
    fn marks_without_numbers_are_images_in_order() {
        let parts = |image: Option<&str>| PromptParts {
            template: "Q: {question}".to_owned(),
            image_mark: Some("<image>".to_owned()),
            image: image.map(str::to_owned),
            ..PromptParts::default()
        };
        let ask = |image, question: &str, images| {
            let asked = template(parts(image)).ask(&Asked { question, images, ..Asked::default() });
            (asked.text, asked.image_order)
        };
        assert_eq!(ask(None, "<image><image> Same?", 2), ("Q: <image><image> Same?".to_owned(), Some(vec![0, 1])));
        assert_eq!(ask(None, "Same <image>?", 2), ("<image>Q: Same <image>?".to_owned(), Some(vec![0, 1])));
        assert_eq!(ask(None, "<image><image>", 1), ("Q: <image><image>".to_owned(), None));
        assert_eq!(ask(Some("<image>\n"), "<image>a<image>", 2), ("Q: <image>\na<image>\n".to_owned(), Some(vec![0, 1])));
        for wrong in ["no mark", "<image><image>"] {
            assert_eq!(PromptTemplate::build(parts(Some(wrong)), PROMPT_HOLES).unwrap_err().0, "image");
        }
    }

    #[test]
    fn options_with_letters_of_their_own_may_stand_as_they_are() {
        let template = template(PromptParts {
            template: "{question}\n {options}".to_owned(),
            option: Some("({letter}) {text}".to_owned()),
            lettered_option: Some("{text}".to_owned()),
            option_separator: Some("\n ".to_owned()),
            ..PromptParts::default()
        });
        let options = ["(A) one", "b: two", "C. three", "four"].map(str::to_owned);
        let asked = template.ask(&Asked { question: "Q", options: &options, ..Asked::default() });
        assert_eq!(asked.text, "Q\n (A) one\n b: two\n C. three\n (D) four");
    }

    #[test]
    fn wrong_parts_are_named() {
        for (parts, part) in [
            (PromptParts { template: "no".to_owned(), ..PromptParts::default() }, "template"),
            (PromptParts { template: "{question}".to_owned(), option: Some("x".to_owned()), ..PromptParts::default() }, "option"),
            (
                PromptParts { template: "{question}".to_owned(), image_mark: Some("x".to_owned()), ..PromptParts::default() },
                "image_mark",
            ),
            (PromptParts { template: "{question}{x}".to_owned(), ..PromptParts::default() }, "template"),
        ] {
            assert_eq!(PromptTemplate::build(parts, PROMPT_HOLES).unwrap_err().0, part);
        }
    }

    #[test]
    fn options_have_letters() {
        let letters: Vec<String> = [0, 25, 26, 27, 701, 702].into_iter().map(option_letter).collect();
        assert_eq!(letters, ["A", "Z", "AA", "AB", "ZZ", "AAA"]);
    }
}
