//! A value inside a file, written out as a document of its own whose lines are those of the file:
//! so what else reads it names the right line.

use super::node::{Kind, Node};

/// The value in YAML's flow style, each key and element on its own line of the file.
pub(super) fn text(node: &Node) -> String {
    let mut out = Out { text: String::new(), line: 1 };
    out.value(node);
    out.text
}

struct Out {
    text: String,
    line: usize,
}

impl Out {
    fn value(&mut self, node: &Node) {
        self.go_to(node.line);
        match &node.kind {
            Kind::Null => self.text.push_str("null"),
            Kind::Bool(b) => self.text.push_str(if *b { "true" } else { "false" }),
            Kind::Number(n) => self.text.push_str(&n.to_string()),
            Kind::Text(t) => self.string(t),
            Kind::List(items) => self.between("[", "]", items, Self::value),
            Kind::Map(entries) => self.between("{", "}", entries, |out, entry| {
                out.go_to(entry.line);
                out.string(&entry.key);
                out.text.push_str(": ");
                out.value(&entry.value);
            }),
        }
    }

    fn between<T>(&mut self, open: &str, close: &str, items: &[T], mut each: impl FnMut(&mut Self, &T)) {
        self.text.push_str(open);
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.text.push_str(", ");
            }
            each(self, item);
        }
        self.text.push_str(close);
    }

    fn string(&mut self, text: &str) {
        self.text.push_str(&serde_json::Value::from(text).to_string());
    }

    /// Lines only go forward: what an alias repeats stays where it is repeated.
    fn go_to(&mut self, line: usize) {
        while self.line < line {
            self.text.push('\n');
            self.line += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_keeps_its_lines() {
        let file =
            "a:\n  - builtin\n  - provider: x\n    # why\n    hosts: [h, i]\n    operations:\n      - {id: \"x.a.b\",\n         n: 1}\n";
        let tree = Node::parse(file).unwrap();
        let Kind::Map(entries) = &tree.kind else { panic!() };
        let Kind::List(items) = &entries[0].value.kind else { panic!() };
        let text = text(&items[1]);
        let at = |what: &str| text.lines().position(|l| l.contains(what)).unwrap() + 1;
        assert_eq!((at("provider"), at("hosts"), at("x.a.b"), at("\"n\"")), (3, 5, 7, 8), "{text}");
        assert_eq!(Node::parse(&text).map(|n| crate::config::inline::text(&n)), Ok(text));
    }
}
