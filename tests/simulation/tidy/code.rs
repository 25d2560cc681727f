//! Rust source as tokens and paths: what code says, without what comments and strings say. The rules need no more
//! grammar than that, and a parser would be the heaviest dependency of this package.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) line: usize,
    pub(crate) text: &'a str,
}

/// A path as code writes it, with groups unfolded: `a::{b, c::d}` is `a::b` and `a::c::d`.
#[derive(Debug)]
pub(crate) struct CodePath<'a> {
    pub(crate) line: usize,
    pub(crate) segments: Vec<&'a str>,
    /// How many `mod x { … }` of its file it lies in.
    pub(crate) inline_mods: usize,
}

impl<'a> CodePath<'a> {
    /// The path from the crate's root, said in the file of module `module`; `None` for what other crates own.
    pub(crate) fn absolute(&self, module: &[&'a str]) -> Option<Vec<&'a str>> {
        let supers = self.segments.iter().take_while(|segment| **segment == "super").count();
        match self.segments[0] {
            "crate" => Some(self.segments[1..].to_vec()),
            "super" => {
                let mut here = [module, &vec!["inline"; self.inline_mods]].concat();
                here.truncate(here.len().saturating_sub(supers));
                Some([&here, &self.segments[supers..]].concat())
            }
            _ => None,
        }
    }
}

/// Words, `::` and single characters; literals as they stand, quotes included.
pub(crate) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while let Some(first) = rest.chars().next() {
        let comment = comment_bytes(rest);
        let length = comment.unwrap_or_else(|| token_bytes(rest, first));
        let (token, after) = rest.split_at(length);
        if comment.is_none() && !first.is_whitespace() {
            tokens.push(Token { line, text: token });
        }
        line += token.matches('\n').count();
        rest = after;
    }
    tokens
}

/// Where `sequence` stands in `tokens`: lines.
pub(crate) fn lines_of(tokens: &[Token<'_>], sequence: &[&str]) -> Vec<usize> {
    let said = |window: &&[Token<'_>]| window.iter().map(|token| token.text).eq(sequence.iter().copied());
    tokens.windows(sequence.len()).filter(said).map(|window| window[0].line).collect()
}

pub(crate) fn paths<'a>(tokens: &[Token<'a>]) -> Vec<CodePath<'a>> {
    let mut paths = Vec::new();
    let mut braces = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].text {
            "{" => braces.push(at >= 2 && tokens[at - 2].text == "mod"),
            "}" => drop(braces.pop()),
            _ => {}
        }
        if is_word(tokens[at].text) {
            let inline_mods = braces.iter().filter(|is_mod| **is_mod).count();
            at = unfold(tokens, at, &CodePath { line: 0, segments: Vec::new(), inline_mods }, &mut paths);
        } else {
            at += 1;
        }
    }
    paths
}

/// Lines outside `#[cfg(test)] mod … { … }`.
pub(crate) fn lines_beside_tests(text: &str) -> usize {
    let tokens = tokens(text);
    let is = |at: usize, wanted: &str| tokens.get(at).is_some_and(|token| token.text == wanted);
    let mut lines = text.lines().count();
    for at in 0..tokens.len() {
        let attribute = ["#", "[", "cfg", "(", "test", ")", "]"];
        let has_attribute = attribute.iter().enumerate().all(|(offset, wanted)| is(at + offset, wanted));
        let module = at + attribute.len();
        if has_attribute && is(module, "mod") && is(module + 2, "{") {
            let end = closing_brace(&tokens, module + 2);
            lines -= tokens[end].line - tokens[at].line + 1;
        }
    }
    lines
}

fn closing_brace(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0;
    let closes = |token: &Token<'_>| {
        depth += i32::from(token.text == "{") - i32::from(token.text == "}");
        depth == 0
    };
    tokens[open..].iter().position(closes).map_or(tokens.len() - 1, |offset| open + offset)
}

/// Reads a path on from `before` and says where it ends. What follows a turbofish is not read as part of the path.
fn unfold<'a>(
    tokens: &[Token<'a>],
    mut at: usize,
    before: &CodePath<'a>,
    paths: &mut Vec<CodePath<'a>>,
) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token: &Token<'a>| token.text);
    let (line, inline_mods) = (tokens[at].line, before.inline_mods);
    let mut path = CodePath { line, segments: before.segments.clone(), inline_mods };
    loop {
        match text(at) {
            "{" => {
                at += 1;
                while !matches!(text(at), "" | "}") {
                    at = match text(at) {
                        "," => at + 1,
                        "as" => at + 2,
                        _ => unfold(tokens, at, &path, paths),
                    };
                }
                return at + 1;
            }
            word if word == "*" || is_word(word) => path.segments.push(word),
            _ => break,
        }
        at += 1;
        if text(at) != "::" {
            break;
        }
        at += 1;
    }
    if path.segments.len() == before.segments.len() {
        return at + 1; // no path at all, and reading must go on
    }
    paths.push(path);
    at
}

fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first == '_' || first.is_alphabetic()) && !text.ends_with(['"', '#', '\''])
}

fn comment_bytes(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with("/*") {
        return None;
    }
    let (mut at, mut depth) = (0, 0);
    while at < rest.len() {
        match rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (at, depth) = (at + 2, depth + 1),
            [b'*', b'/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    Some(at)
}

fn token_bytes(rest: &str, first: char) -> usize {
    if let Some(length) = string_bytes(rest) {
        return length;
    }
    if first == '\'' {
        return quoted_bytes(rest);
    }
    if rest.starts_with("::") {
        return 2;
    }
    if first == '_' || first.is_alphanumeric() {
        return word_bytes(rest);
    }
    first.len_utf8()
}

fn word_bytes(rest: &str) -> usize {
    rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(rest.len())
}

/// A character or a lifetime.
fn quoted_bytes(rest: &str) -> usize {
    let mut after = rest.chars().skip(1);
    match (after.next(), after.next()) {
        (Some('\\'), Some(escaped)) => {
            let escape = 2 + escaped.len_utf8();
            rest[escape..].find('\'').map_or(rest.len(), |end| escape + end + 1)
        }
        (Some(character), Some('\'')) => character.len_utf8() + 2,
        _ => 1 + word_bytes(&rest[1..]),
    }
}

/// A string of any kind: `"…"`, `r#"…"#`, `b"…"`, `c"…"`.
fn string_bytes(rest: &str) -> Option<usize> {
    let letters = rest.bytes().take_while(|byte| b"rbc".contains(byte)).count();
    let hashes = rest[letters..].bytes().take_while(|byte| *byte == b'#').count();
    let is_raw = rest[..letters].ends_with('r');
    let start = letters + hashes + 1;
    if !rest[start - 1..].starts_with('"') || (hashes > 0 && !is_raw) {
        return None;
    }
    if is_raw {
        let end = format!("\"{}", "#".repeat(hashes));
        return Some(rest[start..].find(&end).map_or(rest.len(), |at| start + at + end.len()));
    }
    let mut is_escaped = false;
    let ends = |byte: u8| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    };
    Some(rest.bytes().skip(start).position(ends).map_or(rest.len(), |at| start + at + 1))
}

#[test]
fn comments_and_strings_are_not_code() {
    let text = r###"
        // one
        /* two /* three */ two */ a("four \" four", r#"five " five"#, b"six", 'x', '"', '\'', "\\"); b::<'c, d>
    "###;
    let words: Vec<&str> = tokens(text).iter().map(|token| token.text).filter(|text| is_word(text)).collect();
    assert_eq!(words, ["a", "b", "d"]);
    assert!(tokens(text).iter().filter(|token| token.text != "\n").all(|token| token.line == 3));
}

#[test]
fn groups_unfold_and_paths_resolve_from_the_root() {
    let text = "use crate::{self, a::{B, c::*}, d as e};\nmod tests { use super::x; } use super::y; tch::Z::<i>::f()";
    let tokens = tokens(text);
    let paths = paths(&tokens);
    let said: Vec<String> = paths.iter().map(|path| path.segments.join("::")).collect();
    let group = ["crate::self", "crate::a::B", "crate::a::c::*", "crate::d"];
    assert!(
        group.iter().chain(&["super::x", "super::y", "tch::Z"]).all(|path| said.contains(&(*path).into()))
    );
    let absolute = |path: &str| {
        let at = said.iter().position(|said| said == path).unwrap();
        paths[at].absolute(&["model"]).map(|segments| segments.join("::"))
    };
    assert_eq!(absolute("crate::a::B").as_deref(), Some("a::B"));
    assert_eq!(absolute("super::x").as_deref(), Some("model::x"));
    assert_eq!(absolute("super::y").as_deref(), Some("y"));
    assert_eq!(absolute("tch::Z"), None);
}

#[test]
fn blocks_of_tests_are_not_counted() {
    let text = "//! x\nfn f() {}\n#[cfg(test)]\nmod tests {\n    fn g() { \"}\" }\n}\nfn h() {}\n";
    assert_eq!(lines_beside_tests(text), 3);
}
