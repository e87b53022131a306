//! One number that tells whether two runs asked in the same words.

use sha2::{Digest, Sha256};

use super::record::hex;
use crate::benchmark::{Asked, PromptTemplate};
use crate::prompt::Prompter;

/// SHA-256, hexadecimal, of example questions as a benchmark words them and a package's template frames them: an open one and
/// a choice with a hint, each about one picture. Every part is preceded by its length in bytes.
pub fn prompt_sha256(template: &PromptTemplate, prompter: &Prompter) -> String {
    let options = ["first", "second"].map(str::to_owned);
    let tokens = ["word".to_owned()];
    let open = Asked { question: "What is shown?", ocr_tokens: &tokens, images: 1, ..Asked::default() };
    let choice = Asked { context: Some("A hint."), options: &options, ..open };
    let mut hasher = Sha256::new();
    for asked in [open, choice] {
        let turn = template.ask(&asked).text;
        // A template that cannot frame the turn fails each of its samples, too.
        let prompt = prompter.user_turn(&turn, 1).and_then(|turn| prompter.render_conversation(&[turn]));
        for part in [turn, prompt.unwrap_or_default()] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
    }
    hex(&hasher.finalize())
}
