//! Captions against pycocoevalcap.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use llava_gauge::score::ptb_caption;

#[test]
#[ignore = "needs a file of texts and what the reference makes of them, named by CAPTION_PAIRS"]
fn any_file_of_pairs() {
    let path = std::env::var("CAPTION_PAIRS").unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    let (mut cases, mut wrong) = (0, 0);
    for line in text.lines() {
        let [text, expected]: [String; 2] = serde_json::from_str(line).unwrap();
        cases += 1;
        let found = ptb_caption(&text);
        if found != expected {
            wrong += 1;
            if wrong <= 60 {
                println!("{text:?}\n  expected {expected:?}\n  found    {found:?}");
            }
        }
    }
    println!("{wrong} of {cases} differ");
    assert_eq!(wrong, 0);
}
