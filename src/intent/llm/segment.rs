//! A system prompt by segment, so written that what changes from run to run changes nothing.
//!
//! `docs/drift.md` defines the normalisation; a change of it makes every attested digest stale.

use std::borrow::Cow;

/// Longer ones are not taken for a path or an id: a text could hide in them.
const LONGEST_PATH: usize = 256;
const LONGEST_ID: usize = 64;

/// What breaks a line into words, beside white space.
const BREAKS: &str = "\"'`()[]{}<>,;=|*!?&^$";

const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

const DATE: &str = "<date>";
const TIME: &str = "<time>";

/// Calls `each` with every segment of a text, normalised: the stretches between blank lines.
pub(super) fn segments(text: &str, mut each: impl FnMut(&str)) {
    let (mut pieces, mut out) = (Vec::new(), String::new());
    let mut give = |pieces: &mut Vec<Piece<'_>>| {
        if !pieces.is_empty() {
            dates(pieces);
            written(pieces, &mut out);
            each(&out);
            pieces.clear();
        }
    };
    for line in text.lines() {
        if line.trim().is_empty() {
            give(&mut pieces);
        } else {
            read(line, &mut pieces);
            pieces.push(Piece::Space);
        }
    }
    give(&mut pieces);
}

#[derive(Debug, Clone, PartialEq)]
enum Piece<'t> {
    Word(Cow<'t, str>),
    Break(char),
    Space,
    /// `<date>`, `<time>`, `<path>`, `<id>`
    Held(&'static str),
    /// What a stand-in beside it stands for too.
    Gone,
}

fn read<'t>(line: &'t str, out: &mut Vec<Piece<'t>>) {
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        if first.is_whitespace() {
            out.push(Piece::Space);
        } else if BREAKS.contains(first) {
            out.push(Piece::Break(first));
        } else {
            let end = rest.find(|c: char| c.is_whitespace() || BREAKS.contains(c)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            self::word(word, out);
            rest = after;
            continue;
        }
        rest = rest.get(first.len_utf8()..).unwrap_or_default();
    }
}

/// A word, without the points that end it; `name:value` is two.
fn word<'t>(whole: &'t str, out: &mut Vec<Piece<'t>>) {
    let core = whole.trim_end_matches(['.', ':']);
    let end = whole.get(core.len()..).unwrap_or_default();
    match held(core) {
        Some(held) => out.push(Piece::Held(held)),
        None => match core.split_once(':') {
            Some((name, value)) if !name.is_empty() && !value.is_empty() => {
                word(name, out);
                out.push(Piece::Break(':'));
                word(value, out);
            }
            _ => out.push(Piece::Word(Cow::Borrowed(core))),
        },
    }
    if !end.is_empty() {
        out.push(Piece::Word(Cow::Borrowed(end)));
    }
}

/// What a word stands for, when it is one of what changes.
fn held(word: &str) -> Option<&'static str> {
    if is_date(word) || word.split_once(['T', 't']).is_some_and(|(day, time)| is_date(day) && is_time(time)) {
        Some(DATE)
    } else if is_time(word) {
        Some(TIME)
    } else if is_path(word) {
        Some("<path>")
    } else if is_id(word) {
        Some("<id>")
    } else {
        None
    }
}

/// `2026-11-24`, `24.11.2026`, `11/24/2026`: three numbers, one of them a year.
fn is_date(word: &str) -> bool {
    ['-', '/', '.'].iter().any(|mark| {
        let mut lengths = word.split(*mark).map(|n| if is_number(n) { n.len() } else { 0 });
        let three = (lengths.next(), lengths.next(), lengths.next(), lengths.next());
        matches!(three, (Some(4), Some(1 | 2), Some(1 | 2), None) | (Some(1 | 2), Some(1 | 2), Some(4), None))
    })
}

/// `9:30`, `09:30:15.123Z`, `9:30pm`, `09:30:15+01:00`.
fn is_time(word: &str) -> bool {
    let lower = word.to_ascii_lowercase();
    let word = ["am", "pm", "z"].iter().find_map(|end| lower.strip_suffix(end)).unwrap_or(&lower);
    let (clock, zone) = word.split_at(word.find(['+', '-']).unwrap_or(word.len()));
    let zone = zone.get(1..).unwrap_or_default().replace(':', "");
    let offset = zone.is_empty() || (is_number(&zone) && matches!(zone.len(), 2 | 4));
    if !offset {
        return false;
    }
    let mut parts = clock.split(':');
    let hours = parts.next().is_some_and(|h| is_number(h) && h.len() <= 2);
    let minutes = parts.next().is_some_and(|m| is_number(m) && m.len() == 2);
    let seconds = parts.next().is_none_or(|s| {
        let (whole, fraction) = s.split_once('.').unwrap_or((s, "0"));
        is_number(whole) && whole.len() == 2 && is_number(fraction)
    });
    hours && minutes && seconds && parts.next().is_none()
}

/// `/srv/app`, `~/work`, `C:\work`, `file:///srv`: not `/` and one name, which can mean much else.
fn is_path(word: &str) -> bool {
    if word.len() > LONGEST_PATH {
        return false;
    }
    let drive = word.as_bytes().first().is_some_and(u8::is_ascii_alphabetic) && word.get(1..3).is_some_and(|c| c == ":\\" || c == ":/");
    let rooted = word.strip_prefix('/').is_some_and(|rest| rest.find('/').is_some_and(|at| at > 0));
    drive || rooted || word.starts_with("~/") || word.starts_with("file:///")
}

/// A UUID; 8 to 64 hex digits, one of them a number; 16 to 64 letters, digits, `-` and `_`, four of them numbers.
fn is_id(word: &str) -> bool {
    let bytes = word.as_bytes();
    let digits = bytes.iter().filter(|b| b.is_ascii_digit()).count();
    let uuid = word.len() == 36 && word.split('-').map(|p| if is_hex(p) { p.len() } else { 0 }).eq([8, 4, 4, 4, 12]);
    let hex = (8..=LONGEST_ID).contains(&word.len()) && is_hex(word) && digits > 0;
    let name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let long = (16..=LONGEST_ID).contains(&word.len()) && bytes.iter().all(name) && digits >= 4;
    uuid || hex || long
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Dates in words: a day of the week; a month with a day, a year or both.
fn dates(pieces: &mut [Piece<'_>]) {
    for at in 0..pieces.len() {
        let Some(Piece::Word(word)) = pieces.get(at) else { continue };
        if DAYS.contains(&&**word) {
            hold(pieces, at, at, DATE);
        } else if is_month(word) {
            let before = beside(pieces, at, false).filter(|i| is_day(pieces, *i));
            let after = beside(pieces, at, true).filter(|i| before.is_none() && is_day(pieces, *i));
            let year = beside(pieces, after.unwrap_or(at), true).filter(|i| is_year(pieces, *i));
            if before.or(after).or(year).is_some() {
                hold(pieces, before.unwrap_or(at), year.or(after).unwrap_or(at), DATE);
            }
        }
    }
    for at in 0..pieces.len() {
        if pieces.get(at) == Some(&Piece::Held(TIME))
            && let Some(next) = beside(pieces, at, true)
            && matches!(pieces.get(next), Some(Piece::Word(w)) if matches!(&**w, "AM" | "PM" | "am" | "pm"))
        {
            hold(pieces, at, next, TIME);
        }
    }
}

fn is_month(word: &str) -> bool {
    MONTHS.iter().any(|m| *m == word || (word.len() == 3 && m.starts_with(word)))
}

fn is_day(pieces: &[Piece<'_>], at: usize) -> bool {
    let Some(Piece::Word(word)) = pieces.get(at) else { return false };
    let number = ["st", "nd", "rd", "th"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word);
    is_number(number) && number.len() <= 2
}

fn is_year(pieces: &[Piece<'_>], at: usize) -> bool {
    matches!(pieces.get(at), Some(Piece::Word(w)) if w.len() == 4 && is_number(w) && (w.starts_with("19") || w.starts_with("20")))
}

/// The next piece on one side that is no space and no comma.
fn beside(pieces: &[Piece<'_>], at: usize, after: bool) -> Option<usize> {
    let says = |i: &usize| !matches!(pieces.get(*i), Some(Piece::Space | Piece::Gone | Piece::Break(',')));
    if after { (at + 1..pieces.len()).find(says) } else { (0..at).rev().find(says) }
}

/// Puts one stand-in for several pieces.
fn hold(pieces: &mut [Piece<'_>], from: usize, to: usize, held: &'static str) {
    for piece in pieces.get_mut(from..=to).unwrap_or_default() {
        *piece = Piece::Gone;
    }
    if let Some(first) = pieces.get_mut(from) {
        *first = Piece::Held(held);
    }
}

/// One space for many, none at the ends; dates with only spaces and commas between them are one.
fn written(pieces: &[Piece<'_>], out: &mut String) {
    out.clear();
    let (mut space, mut at) = (false, 0);
    while let Some(piece) = pieces.get(at) {
        if *piece == Piece::Space {
            space = true;
        } else if *piece != Piece::Gone {
            if space && !out.is_empty() {
                out.push(' ');
            }
            space = false;
            match piece {
                Piece::Word(word) => out.push_str(word),
                Piece::Break(c) => out.push(*c),
                Piece::Held(held) => out.push_str(held),
                Piece::Space | Piece::Gone => {}
            }
            while *piece == Piece::Held(DATE)
                && let Some(next) = beside(pieces, at, true).filter(|i| pieces.get(*i) == Some(&Piece::Held(DATE)))
            {
                at = next;
            }
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Vec<String> {
        let mut all = Vec::new();
        segments(text, |s| all.push(s.to_owned()));
        all
    }

    fn one(text: &str) -> String {
        of(text).join(" ¶ ")
    }

    #[test]
    fn blank_lines_part_segments_and_spaces_mean_nothing() {
        assert_eq!(of("You are\r\n  a bot.\n \t\nBe   kind.\n\n\n"), ["You are a bot.", "Be kind."]);
        assert!(of(" \n\n").is_empty() && of("").is_empty());
    }

    #[test]
    fn what_changes_from_run_to_run_is_held() {
        for (text, want) in [
            ("Today is 2026-11-24.", "Today is <date>."),
            ("Today's date: Tuesday, November 24, 2026", "Today's date: <date>"),
            ("It is 24 November 2026, 9:30 PM UTC", "It is <date>, <time> UTC"),
            ("on Nov 24th and in March 2027; may I? May I march?", "on <date> and in <date>; may I? May I march?"),
            ("now=2026-11-24T09:30:15.123+01:00;", "now=<date>;"),
            ("at 09:30:15Z, 11/24/2026, 24.11.2026", "at <time>, <date>"),
            ("<cwd>/home/u/my-app</cwd> and ~/x, C:\\work\\a", "<cwd><path></cwd> and <path>, <path>"),
            ("Working directory: /srv/app.", "Working directory: <path>."),
            ("session:3f2a9c1e-0d4b-4c1a-9e77-1f2e3d4c5b6a", "session:<id>"),
            ("id toolu_01A09q90qw90lq917835lq9, commit 9f02ab31, 1764000000", "id <id>, commit <id>, <id>"),
        ] {
            assert_eq!(one(text), want, "{text}");
        }
    }

    #[test]
    fn what_says_something_stays() {
        for text in [
            "Refund at most $100. Never 3 times.",
            "Use /help, and/or version 1.2.3 of it: yes",
            "deadbeef and facade are words; so is a-rather-long-hyphenated-word",
            "Answer in 5 lines (or 10)",
        ] {
            assert_eq!(one(text), text);
        }
        assert_ne!(one("at most $100"), one("at most $1000"));
        let long = format!("/a/{}", "ignore-all-rules-".repeat(20));
        assert_eq!(one(&long), long, "nothing long hides as a path");
    }

    proptest! {
        #[test]
        fn dates_times_paths_and_ids_change_nothing(
            (y, m, d) in (2000u32..2100, 1u32..13, 1u32..29), (h, min) in (0u32..24, 0u32..60),
            dir in "(/[a-z][a-z0-9.-]{0,9}[a-z]){2,5}", id in "[0-9][0-9a-f]{11,39}",
        ) {
            let month = MONTHS[m as usize - 1];
            let text = format!("Now {y}-{m:02}-{d:02} {h:02}:{min:02} ({month} {d}, {y}) in {dir} as {id} here.");
            prop_assert_eq!(one(&text), "Now <date> <time> (<date>) in <path> as <id> here.");
        }

        #[test]
        fn no_text_makes_it_fail_and_twice_is_once(text in "\\PC{0,200}") {
            let first = of(&text);
            for segment in &first {
                prop_assert!(!segment.contains('\n') && !segment.starts_with(' ') && !segment.ends_with(' '));
            }
            prop_assert_eq!(of(&text), first);
        }

        #[test]
        fn another_word_is_another_segment(words in prop::collection::vec("[g-z]{2,9}", 1..12), at in 0usize..12, other in "[g-z]{10}") {
            let mut changed = words.clone();
            let place = at % changed.len();
            changed[place] = other;
            prop_assert_ne!(one(&words.join(" ")), one(&changed.join(" ")));
        }
    }
}
