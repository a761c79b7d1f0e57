//! The line of a value that is no slice of its file: a number, an empty list, a folded text.
//!
//! The YAML library gives the place of an error. So the document is read once more down to the
//! value, which is then refused. Only the lines of problems are worth that.

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::config::node::{Kind, Node};

/// The line of `target`, a value of the tree `root` that was read from `text`.
pub(super) fn line(text: &str, root: &Node, target: &Node) -> Option<usize> {
    let mut steps = Vec::new();
    if !way(root, target, &mut steps) {
        return None;
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let refused = Walk(&steps).deserialize(serde_yaml::Deserializer::from_str(text)).err()?;
    refused.location().map(|l| l.line())
}

/// The position of each value on the way to the target, in its list or mapping. Trees nest at most
/// as deep as the YAML library allows.
fn way(from: &Node, target: &Node, steps: &mut Vec<usize>) -> bool {
    if std::ptr::eq(from, target) {
        return true;
    }
    let below: Vec<&Node> = match &from.kind {
        Kind::List(list) => list.iter().collect(),
        Kind::Map(entries) => entries.iter().map(|e| &e.value).collect(),
        Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) => return false,
    };
    for (i, node) in below.into_iter().enumerate() {
        steps.push(i);
        if way(node, target, steps) {
            return true;
        }
        steps.pop();
    }
    false
}

/// Walks the steps and refuses what it finds at their end.
struct Walk<'a>(&'a [usize]);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.0.is_empty() { deserializer.deserialize_any(Refuse) } else { deserializer.deserialize_any(self) }
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the way")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Some((step, rest)) = self.0.split_first() else { return Ok(()) };
        for _ in 0..*step {
            seq.next_element::<IgnoredAny>()?;
        }
        seq.next_element_seed(Walk(rest))?.ok_or_else(|| A::Error::custom(""))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((step, rest)) = self.0.split_first() else { return Ok(()) };
        for _ in 0..*step {
            map.next_entry::<IgnoredAny, IgnoredAny>()?;
        }
        map.next_key::<IgnoredAny>()?;
        map.next_value_seed(Walk(rest))
    }
}

/// Takes no value of any kind: the library's refusal carries the place.
struct Refuse;

impl Visitor<'_> for Refuse {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("nothing")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of all scalars and empty collections, found by the walk and by the slices.
    fn lines(text: &str) -> Vec<(usize, Option<usize>)> {
        fn visit(text: &str, root: &Node, node: &Node, out: &mut Vec<(usize, Option<usize>)>) {
            match &node.kind {
                Kind::List(list) if !list.is_empty() => list.iter().for_each(|n| visit(text, root, n, out)),
                Kind::Map(map) if !map.is_empty() => map.iter().for_each(|e| visit(text, root, &e.value, out)),
                _ => out.push((node.line, line(text, root, node))),
            }
        }
        let root = Node::parse(text).unwrap();
        let mut out = Vec::new();
        visit(text, &root, &root, &mut out);
        out
    }

    #[test]
    fn both_ways_find_the_same_line_of_a_text() {
        let text = "a: é\nb:\n- one\n- [two,\n   'three']\nc: {d: e,\n  f: \"g\"}\n";
        assert_eq!(lines(text), [1, 3, 4, 5, 6, 7].map(|l| (l, Some(l))));
    }

    #[test]
    fn the_walk_knows_what_is_no_slice() {
        let text = "a:\n- x\n- 7\n- {}\n-\n  true\n- >\n  folded\n- \"esc\\taped\"\n";
        let found: Vec<Option<usize>> = lines(text).into_iter().map(|(_, l)| l).collect();
        assert_eq!(found, [2, 3, 4, 6, 7, 9].map(Some));
    }
}
