//! What the tokeniser takes for a token: a list of rules, of which the one with the longest match counts, and among equally long
//! ones the first.
//!
//! A rule may want to see what follows the token. What it sees counts for the length of its match, but is no part of the token.

use super::classes::{ALPHABETIC, CAPITAL, DIGIT, LINE_END, SPACE, SYMBOL, WORD_LETTER};

/// A rule.
pub(super) struct Rule {
    /// A regular expression for the token with what must follow it.
    pub pattern: String,
    /// Where in the match the token ends.
    pub end: End,
    /// What becomes of it.
    pub action: Action,
}

/// Where in a match the token ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// With the match.
    Match,
    /// This many characters before the end of the match.
    Before(usize),
    /// Before the first space or line end.
    AtSpace,
    /// After the first full stop.
    AfterStop,
    /// Before the last apostrophe.
    AtApostrophe,
    /// One character before the last apostrophe (`n't`).
    BeforeApostrophe,
}

/// What becomes of a token.
#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    /// It stays as it is.
    Keep,
    /// It loses its soft hyphens; a lone one becomes a hyphen.
    DropSoftHyphens,
    /// It ends this many characters earlier, and what is left is read again.
    GiveBack(usize),
    /// It stays, and its full stop is read again, because it ends the sentence, too.
    RepeatStop,
    /// The same, but after a single letter the full stop only ends the sentence.
    RepeatStopOfAcronym,
    /// Its spaces become no-break spaces.
    JoinSpaces,
    /// Its spaces become no-break spaces, its round brackets `-LRB-` and `-RRB-`.
    OneWord,
    /// Its quotation marks become those of LaTeX; straight ones are opening ones if so said.
    Quotes { opening: bool },
    /// `&amp;` in it becomes `&`.
    Ampersands,
    /// It becomes another text.
    Become(&'static str),
    /// Fractions of one character are written out.
    Fraction,
    /// Signs of currencies become those of the Penn Treebank.
    Currency,
    /// Dashes of three or four hyphens become two.
    Dashes,
    /// It is left out.
    Skip,
}

/// All rules, the first having precedence.
#[expect(clippy::too_many_lines, reason = "one list, to be read from top to bottom")]
pub(super) fn rules() -> Vec<Rule> {
    // Latin text within `(?i:…)` matches in both cases, classes in the case that they name.
    let letter = format!("(?:[{WORD_LETTER}]|{ACCENTED})");
    let alphanumeric = format!("(?:[{WORD_LETTER}{DIGIT}]|{ACCENTED})");
    let space_or_line_end = format!("[{SPACE}{LINE_END}]");
    let word = format!("{letter}{alphanumeric}*(?:[.!?]{letter}{alphanumeric}*)*");
    let short_form = format!("{APOSTROPHE}(?:[msdMSD]|(?i:re|ve|ll))");
    let not_form = format!("(?i:n){APOSTROPHE_LIKE}(?i:t)");
    let number = format!("(?:{DIGIT}+|{DIGIT}*(?:[.:,\u{ad}\u{66b}\u{66c}]{DIGIT}+)+)");
    let acronym = acronym();
    let acronym_with_stops = acronym_with_stops();
    let tag = tag();
    let sentence_end = format!("{space_or_line_end}(?:{space_or_line_end}|{CAPITAL}|{tag})");
    let before_lower = before_lower_case();
    let before_upper = before_upper_case(&acronym);
    let hyphenated = format!(r"[A-Za-z0-9][A-Za-z0-9.,\u{{AD}}]*(?:-(?:[A-Za-z0-9\u{{AD}}]+|{acronym_with_stops}\.))+");
    let plain = format!("[{ALPHABETIC}{DIGIT}]");
    let elided = format!("(?:[dDoOlL]{APOSTROPHE_LIKE}{plain})?");
    let compound = format!(r"{elided}{plain}+(?:[-_\u{{58A}}\u{{2010}}\u{{2011}}]{elided}{plain}+)*");
    let firm = "[A-Z]+(?:(?:[+&]|(?i:&amp;))[A-Z]+)+";
    let within_sentence = r"[,;:\u{3001}]";

    let mut rules = Vec::new();
    let mut add = |pattern: &str, end: End, action: Action| rules.push(Rule { pattern: both_cases(pattern), end, action });
    add(r"(?i:c)\+\+", End::Match, Action::Keep);
    add("(?i:c|f)#", End::Match, Action::Keep);
    // Contractions without an apostrophe between their words.
    add("(?i:cannot)", End::Match, Action::GiveBack(3));
    add("(?i:'twas)", End::Match, Action::GiveBack(3));
    add("(?i:'tis)", End::Match, Action::GiveBack(2));
    add("(?i:gonna|gotta|lemme|gimme|wanna)", End::Match, Action::GiveBack(2));
    add(&tag, End::Match, Action::JoinSpaces);
    add(r"(?i:&(?:MD|mdash|ndash);)|[\u{96}\u{97}\u{2013}-\u{2015}]", End::Match, Action::Become("--"));
    add("(?i:&amp;)", End::Match, Action::Ampersands);
    add("(?i:&(?:HT|TL|UR|LR|QC|QL|QR|odq|cdq);)|&#[0-9]+;", End::Match, Action::Keep);
    // Words, with what is cut off after them.
    add(&format!("{word}{short_form}"), End::AtApostrophe, Action::DropSoftHyphens);
    add(&format!(r"[A-Za-z\u{{AD}}]*[A-MO-Za-mo-z]\u{{AD}}*{not_form}"), End::BeforeApostrophe, Action::DropSoftHyphens);
    add(&word, End::Match, Action::DropSoftHyphens);
    add(&with_apostrophe(), End::Match, Action::Keep);
    add(&format!("(?i:y){APOSTROPHE}{ALPHABETIC}"), End::Before(1), Action::Keep);
    // Addresses and names in networks.
    let host_end = r#"[^ \t\n\f\r"<>|.!?(){},\-]"#;
    add(&format!(r#"(?i:https?)://[^ \t\n\f\r"<>|(){{}}]+{host_end}"#), End::Match, Action::Keep);
    add(
        &format!(
            concat!(
                r#"(?:(?i:www)\.(?:[^ \t\n\f\r"<>|.!?(){{}},]+\.)+[a-zA-Z]{{2,4}}"#,
                r#"|(?:[^ \t\n\f\r"`'<>|.!?(){{}},-_$]+\.)+(?i:com|net|org|edu))"#,
                r#"(?:/[^ \t\n\f\r"<>|()]+{host_end})?"#,
            ),
            host_end = host_end
        ),
        End::Match,
        Action::Keep,
    );
    let mail_part = r#"[^ \t\n\f\r"<>|(){}.\u{A0}]+"#;
    add(
        &format!(
            concat!(
                r#"(?:(?i:&lt;)|<)?[a-zA-Z0-9][^ \t\n\f\r"<>|()\u{{A0}}{{}}]*@(?:{mail_part}\.)*{mail_part}"#,
                "(?:(?i:&gt;)|>)?",
            ),
            mail_part = mail_part
        ),
        End::Match,
        Action::Keep,
    );
    add(&format!("@[a-zA-Z_][a-zA-Z_0-9]*|#{letter}+"), End::Match, Action::Keep);
    add(&format!("{short_form}[^A-Za-z]"), End::Before(1), Action::Quotes { opening: false });
    add(&format!("{not_form}[^A-Za-z]"), End::Before(1), Action::Quotes { opening: false });
    // Numbers.
    add(&format!("{DIGIT}{{1,2}}[-/]{DIGIT}{{1,2}}[-/]{DIGIT}{{2,4}}"), End::Match, Action::Keep);
    add(&format!("[-+]?{number}"), End::Match, Action::DropSoftHyphens);
    add(
        concat!(
            r"[\u{207A}\u{207B}\u{208A}\u{208B}]?",
            r"(?:[\u{2070}\u{B9}\u{B2}\u{B3}\u{2074}-\u{2079}]+|[\u{2080}-\u{2089}]+)",
        ),
        End::Match,
        Action::Keep,
    );
    add(&format!(r"(?:{DIGIT}{{1,4}}[- \u{{A0}}])?{DIGIT}{{1,4}}(?:\\?/|\u{{2044}}){DIGIT}{{1,4}}"), End::Match, Action::OneWord);
    add(r"[\u{BC}-\u{BE}\u{2153}-\u{215E}]", End::Match, Action::Fraction);
    // Tokens of the Penn Treebank that no other rule gives.
    add(
        &format!(
            concat!(
                "(?i:-(?:RRB|LRB|RCB|LCB|RSB|LSB)-|C\\.D\\.s|pro-|anti-|S(?:&|&amp;)P-500|S(?:&|&amp;)Ls)",
                "|(?i:Cap){APOSTROPHE}(?i:n)|(?i:c){APOSTROPHE}(?i:est)",
            ),
            APOSTROPHE = APOSTROPHE
        ),
        End::Match,
        Action::Ampersands,
    );
    let side = "[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}";
    add(&format!(r"{side}(?:\\?/{side}){{1,2}}"), End::Match, Action::Keep);
    add(r"[A-Z]*\$|#", End::Match, Action::Keep);
    add(
        r"[\u{A2}-\u{A5}\u{80}\u{20A0}\u{20A4}\u{20AC}\u{60B}\u{E3F}\u{FFE0}\u{FFE1}\u{FFE5}\u{FFE6}]",
        End::Match,
        Action::Currency,
    );
    // Abbreviations. Their full stop may end a sentence, too.
    add(
        &format!(
            concat!(
                r"{acronym}\.{space_or_line_end}+(?:[A](?i:bout|ccording|dditionally|fter|n|s|t|)|[B](?i:ut)|[E](?i:arlier)",
                r"|[H](?i:e|er|ere|owever)|[I](?i:f|n|t)|[L](?i:ast)|[M](?i:any|ore|r\.|s\.)|[N](?i:ow)",
                r"|[O](?i:nce|ne|ther|ur)|[S](?i:he|ince|o|ome|uch)|[T](?i:hat|he|heir|hen|here|hese|hey|his)",
                r"|[W](?i:e|hen|hile|hat)|[Y](?i:et|ou)|{tag}){space_or_line_end}",
            ),
            acronym = acronym,
            space_or_line_end = space_or_line_end,
            tag = tag
        ),
        End::AtSpace,
        Action::RepeatStopOfAcronym,
    );
    add(&format!(r"(?i:ca|figs?|prop|nos?|art|bldg|pp|op)\.{space_or_line_end}?{DIGIT}"), End::AfterStop, Action::Keep);
    add(&format!(r"(?:(?i:pt)[eyEY]|(?i:co))\.[{SPACE}](?i:ltd|lim)"), End::AfterStop, Action::Keep);
    add(&format!("{before_lower}{sentence_end}"), End::AtSpace, Action::RepeatStop);
    add(&format!("{before_lower}(?s:..)"), End::Before(2), Action::Keep);
    add(&before_lower, End::Match, Action::RepeatStop);
    add(&format!(r"{before_upper}\."), End::Match, Action::Keep);
    add(&format!("{before_upper}[{SPACE}]"), End::Before(1), Action::Keep);
    add(&format!("{acronym}{space_or_line_end}"), End::Before(1), Action::Keep);
    add(&format!("{APOSTROPHE}[0-9][0-9]{space_or_line_end}"), End::Before(1), Action::Keep);
    add(
        &format!(
            concat!(
                r"{alphanumeric}+(?:\.{alphanumeric}+)*\.(?i:bat|bmp|c|class|cgi|cpp|dll|docx?|exe|gif|gz|h|html?|jar|java",
                r"|jpe?g|mov|mp3|pdf|php|pl|png|ppt|ps|py|sql|tar|txt|wav|x|xml|zip)[{SPACE}{LINE_END}.?!,]",
            ),
            alphanumeric = alphanumeric,
            SPACE = SPACE,
            LINE_END = LINE_END
        ),
        End::Before(1),
        Action::Keep,
    );
    add(&format!(r"{word}\.{within_sentence}"), End::Before(1), Action::DropSoftHyphens);
    add(
        concat!(
            r"(?:\([0-9]{2,3}\)[ \u{A0}]?|(?:\+\+?)?(?:[0-9]{2,4}[- \u{A0}])?[0-9]{2,4}[- \u{A0}])",
            r"[0-9]{3,4}[- \u{A0}]?[0-9]{3,5}|(?:(?:\+\+?)?[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}",
        ),
        End::Match,
        Action::OneWord,
    );
    // Quotation marks, signs and brackets.
    add("(?:\"|(?i:&quot;))[A-Za-z0-9$]", End::Before(1), Action::Quotes { opening: true });
    add("\"|(?i:&quot;)", End::Match, Action::Quotes { opening: false });
    add("<|(?i:&lt;)", End::Match, Action::Become("<"));
    add(">|(?i:&gt;)", End::Match, Action::Become(">"));
    add(r"[<>]?[:;=][\-o*']?[()DPdpO\\{@|\[\]][^A-Za-z0-9]", End::Before(1), Action::OneWord);
    add(
        concat!(
            r"[\^x=~<>]\.\[\^(?i:x)=[^<]*<>\]|[-\^x=~<>']_[-\^x=~<>']|\([-\^x=~<>'][_.]?[-\^x=~<>']\)",
            r"|\([\^x=~<>']-[\^x=~<>'`]\)",
        ),
        End::Match,
        Action::OneWord,
    );
    for (bracket, name) in
        [(r"\{", "-LCB-"), (r"\}", "-RCB-"), (r"\[", "-LSB-"), (r"\]", "-RSB-"), (r"\(", "-LRB-"), (r"\)", "-RRB-")]
    {
        add(bracket, End::Match, Action::Become(name));
    }
    add("-+", End::Match, Action::Dashes);
    add(r"\.{3,5}|(?:\.[ \u{A0}]){2,4}\.|[\u{85}\u{2026}]", End::Match, Action::Become("..."));
    add("@+|#+|_+", End::Match, Action::Keep);
    add(r"\*+|(?:\\\*){1,3}", End::Match, Action::Keep);
    add(within_sentence, End::Match, Action::Keep);
    add("[?!]+", End::Match, Action::Keep);
    add(r"[.\u{A1}\u{BF}\u{37E}\u{589}\u{61F}\u{6D4}\u{700}-\u{702}\u{7FA}\u{3002}]", End::Match, Action::Keep);
    add("=", End::Match, Action::Keep);
    add("/", End::Match, Action::Keep);
    // Words with hyphens and the like.
    add(&format!(r"{hyphenated}\.{within_sentence}"), End::Before(1), Action::DropSoftHyphens);
    add(&hyphenated, End::Match, Action::DropSoftHyphens);
    add(&format!(r"{compound}\.{within_sentence}"), End::Before(1), Action::Keep);
    add(&compound, End::Match, Action::Keep);
    add(&format!(r"{firm}\.{within_sentence}"), End::Before(1), Action::Ampersands);
    add(firm, End::Match, Action::Ampersands);
    add(r"'[A-Za-z][^ \t\n\r\u{A0}]", End::Before(2), Action::Quotes { opening: true });
    add(&short_form, End::Match, Action::Quotes { opening: false });
    add(&not_form, End::Match, Action::Quotes { opening: false });
    add(
        &format!(
            concat!("{APOSTROPHE}|''|[`\u{2018}-\u{201F}\u{91}-\u{94}\u{2039}\u{203A}\u{AB}\u{BB}]{{1,2}}",),
            APOSTROPHE = APOSTROPHE
        ),
        End::Match,
        Action::Quotes { opening: false },
    );
    add("<<|>>", End::Match, Action::Keep);
    add(&format!("[{SYMBOL}]"), End::Match, Action::Keep);
    add("(?i:&nbsp;)", End::Match, Action::Skip);
    add(&format!("[{SPACE}]+"), End::Match, Action::Skip);
    rules
}

/// Writes the letters within `(?i:…)` out as classes of both cases. Unlike the case folding of Unicode, and like that of the
/// tokeniser's generator, the Turkish letters are cases of i. There are no classes within such groups.
fn both_cases(pattern: &str) -> String {
    let mut written = String::with_capacity(pattern.len() * 2);
    let mut rest = pattern;
    while let Some((before, group)) = rest.split_once("(?i:") {
        written.push_str(before);
        written.push_str("(?:");
        let mut depth = 1_usize;
        let mut escaped = false;
        let end = group.find(|character: char| {
            match character {
                _ if escaped => {}
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            escaped = character == '\\' && !escaped;
            depth == 0
        });
        let (group, after) = group.split_at(end.unwrap_or(group.len()));
        for character in group.chars() {
            match character.to_ascii_lowercase() {
                'i' => written.push_str(r"[iI\u{130}\u{131}]"),
                's' => written.push_str(r"[sS\u{17F}]"),
                'k' => written.push_str(r"[kK\u{212A}]"),
                lower if lower.is_ascii_lowercase() => {
                    written.extend(['[', lower, lower.to_ascii_uppercase(), ']']);
                }
                _ => written.push(character),
            }
        }
        rest = after;
    }
    written.push_str(rest);
    written
}

/// A named entity of an accented vowel.
const ACCENTED: &str = "&[aeiouAEIOU](?i:acute|grave|uml);";

/// What stands for an apostrophe.
const APOSTROPHE: &str = r"(?:['\u{92}\u{2019}]|(?i:&apos;))";

/// What stands for an apostrophe, and what is taken for one within a word.
const APOSTROPHE_LIKE: &str = r"(?:['\u{92}\u{2019}`\u{91}\u{2018}\u{201B}]|(?i:&apos;))";

/// Tags and declarations of SGML.
fn tag() -> String {
    let name = r"[A-Za-z][A-Za-z0-9_:.\-]*";
    format!(
        concat!(
            r#"<(?:[!?][A-Za-z\-][^>\r\n]*|{name}(?:[ ]+(?:{name}|{name}[ ]*=[ ]*(?:'[^']*'|"[^"]*")))*[ ]*/?"#,
            r"|/{name})[ ]*>",
        ),
        name = name
    )
}

/// Words in which an apostrophe stays.
fn with_apostrophe() -> String {
    let (plain, like) = (APOSTROPHE, APOSTROPHE_LIKE);
    [
        format!("{plain}(?i:n){plain}?"),
        format!("[lLdDjJ]{plain}"),
        format!("(?i:Dunkin|somethin|ol){plain}"),
        format!("{plain}(?i:em|cause)"),
        format!("[A-HJ-XZn]{like}{ALPHABETIC}{{2,}}"),
        format!("{plain}[2-9](?i:0s)"),
        format!("{plain}(?i:till?)"),
        format!("{ALPHABETIC}+[aeiouyAEIOUY]{like}[aeiouA-Z]{ALPHABETIC}*"),
        "(?i:cont'd\\.?|'twas|nor'easter|c'mon|e'er|s'mores|ev'ry|li'l|nat'l)".to_owned(),
        format!("(?i:O){like}(?i:o)"),
    ]
    .join("|")
}

/// Letters with full stops between them, without the last one; also a single letter.
fn acronym() -> String {
    format!("(?:[A-Za-z](?:\\.[A-Za-z])*|{ACRONYM_COMPOUNDS})")
}

/// The same, but at least two letters.
fn acronym_with_stops() -> String {
    format!("(?:[A-Za-z](?:\\.[A-Za-z])+|{ACRONYM_COMPOUNDS})")
}

const ACRONYM_COMPOUNDS: &str = r"(?i:(?:Canada|Sino|Korean|EU|Japan|non)-U\.S|U\.S\.-(?:U\.K|U\.S\.S\.R))";

/// Abbreviations after which a capital letter begins a sentence: months, days, states, companies and the like.
fn before_lower_case() -> String {
    concat!(
        "(?:(?i:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec|Mon|Tues?|Wed|Thu|Thurs|Fri",
        "|Ala|Ariz|Calif|Colo|Conn|Ct|Dak|Fla|Ga|Ind|Kans?|Ky|Md|Mich|Minn|Mo|Mont|Neb|Nev|Okla|Penn|Tenn|Va|Vt|Wisc?|Wyo",
        "|Inc|Cos?|Corp|Ltd|Plc|Rt|Bancorp|Bhd|Assn|Univ|Intl|Sys|tel|est|ext|sq",
        r"|Jr|Sr|Bros|(?:Ed|Ph)\.D|Blvd|Rd|Esq|etc|al|seq|Bldg)",
        "|[A](?i:z|rk)|[D](?i:el)|[I](?i:ll)|[L](?i:a)|[M](?i:ass|iss)|[O](?i:re)|[P](?i:a)|[T](?i:ex)",
        r"|[W](?i:ash)|(?i:Pp?t)[ye](?i:s?))\.",
    )
    .to_owned()
}

/// Abbreviations before names, without their full stop.
fn before_upper_case(acronym: &str) -> String {
    format!(
        concat!(
            "(?:(?i:Mr|Mrs|Ms|Drs?|Profs?|Sens?|Reps?|Attys?|Lt|Col|Gen|Messrs|Govs?|Adm|Rev|Maj|Sgt|Cpl|Pvt|Capt|Ste?|Ave",
            "|Pres|Lieut|Hon|Brig|Co?mdr|Pfc|Spc|Supts?|Det|Mt|Ft|Adj|Adv|Asst|Assoc|Ens|Insp|Mlle|Mme|Msgr|Sfc",
            r"|vs|Alex|Wm|Jos|Cie|a\.k\.a|cf|TREAS|Ph|Invt|Elec|Natl|Dept)|[M](?i:iss)|(?i:M)[ft](?i:g)|{acronym})",
        ),
        acronym = acronym
    )
}
