//! The characters that the tokeniser tells apart, as classes to stand within `[…]`.
//!
//! It was generated for the Basic Multilingual Plane of Unicode 6.3: later letters, and all beyond the plane (emoji), belong to
//! no class and are left out unless a web address or a tag holds them.

/// Letters. Two were letters then and are marks now, some vowel signs the other way round.
macro_rules! letters {
    () => {
        r"[[[\p{L}\u{1885}\u{1886}]--[\u{19B0}-\u{19C0}\u{19C8}\u{19C9}\u{1CF2}\u{1CF3}]]&&\p{age=6.3}&&[\u{0}-\u{FFFF}]]"
    };
}

/// Letters.
pub(super) const ALPHABETIC: &str = letters!();

/// Letters, and the marks that may stand in words; without the named entities of accented letters.
pub(super) const WORD_LETTER: &str = concat!(
    letters!(),
    // The soft hyphen, modifiers, and combining marks of European, Semitic and Syriac scripts.
    r"\u{AD}\u{2C2}-\u{2C5}\u{2D2}-\u{2DF}\u{2E5}-\u{2EB}\u{2ED}\u{2EF}-\u{36F}\u{375}\u{378}\u{379}\u{384}\u{385}\u{3F6}",
    r"\u{483}-\u{487}\u{55A}-\u{55F}\u{591}-\u{5BD}\u{5BF}\u{5C1}\u{5C2}\u{5C4}\u{5C5}\u{5C7}\u{615}-\u{61A}\u{64B}-\u{65E}",
    r"\u{670}\u{6D6}-\u{6E4}\u{6E7}-\u{6ED}\u{6FD}\u{6FE}\u{70F}\u{711}\u{730}-\u{74C}\u{7A6}-\u{7B0}\u{7EB}-\u{7F3}",
    // Vowel signs of Indic scripts, Thai and Lao.
    r"\u{900}-\u{903}\u{93C}\u{93E}-\u{94E}\u{951}-\u{955}\u{962}\u{963}\u{981}-\u{983}\u{9BC}\u{9BE}-\u{9C4}\u{9C7}\u{9C8}",
    r"\u{9CB}-\u{9CD}\u{9D7}\u{9E2}\u{9E3}\u{A01}-\u{A03}\u{A3C}\u{A3E}-\u{A4F}\u{A81}-\u{A83}\u{ABC}\u{ABE}-\u{ACF}\u{B82}",
    r"\u{BBE}-\u{BC2}\u{BC6}-\u{BC8}\u{BCA}-\u{BCD}\u{C01}-\u{C03}\u{C3E}-\u{C56}\u{D3E}-\u{D44}\u{D46}-\u{D48}\u{E31}",
    r"\u{E34}-\u{E3A}\u{E47}-\u{E4E}\u{EB1}\u{EB4}-\u{EBC}\u{EC8}-\u{ECD}",
);

/// Decimal digits of every script.
pub(super) const DIGIT: &str = r"[\p{Nd}&&\p{age=6.3}&&[\u{0}-\u{FFFF}]]";

/// Capital letters.
pub(super) const CAPITAL: &str = r"[\p{Lu}&&\p{age=6.3}&&[\u{0}-\u{FFFF}]]";

/// Spaces within a line.
pub(super) const SPACE: &str = r" \t\u{A0}\u{2000}-\u{200A}\u{3000}";

/// Ends of lines.
pub(super) const LINE_END: &str = r"\r\n\u{B}\u{C}\u{85}\u{2028}\u{2029}";

/// Symbols that are tokens of their own.
pub(super) const SYMBOL: &str = concat!(
    r"+%\&\~\^|\\\u{A6}-\u{A9}\u{AC}\u{AE}-\u{BA}\u{D7}\u{F7}\u{387}\u{5BE}\u{5C0}\u{5C3}\u{5C6}\u{5F3}\u{5F4}\u{600}-\u{603}",
    r"\u{606}-\u{60A}\u{60C}\u{614}\u{61B}\u{61E}\u{66A}\u{66D}\u{703}-\u{70D}\u{7F6}-\u{7F8}\u{964}\u{965}\u{E4F}\u{1FBD}",
    r"\u{2016}\u{2017}\u{2020}-\u{2023}\u{2030}-\u{2038}\u{203B}\u{203E}-\u{2042}\u{2044}\u{207A}-\u{207F}\u{208A}-\u{208E}",
    r"\u{2100}-\u{214F}\u{2190}-\u{2BFF}\u{3012}\u{30FB}\u{FF01}-\u{FF0F}\u{FF1A}-\u{FF20}\u{FF3B}-\u{FF40}\u{FF5B}-\u{FF65}",
);
