//! Names with brackets (`filter[state]`, `items[0][price]`, `tag[]`) to one value, as the vendors
//! who write them so read them: in a query's object, in a form.

use serde_json::{Map, Value, map::Entry};

/// How many brackets a name may have.
const MAX_DEPTH: usize = 8;

/// The most items of one list: a form repeats its name for each.
const MAX_ITEMS: usize = 10_000;

/// What names and values were put together to.
#[derive(Debug, Default)]
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// Puts one value in its place.
    ///
    /// # Errors
    /// When the name was given before, or is written in a way that readers take differently.
    pub(super) fn insert(&mut self, name: &str, value: String) -> Result<(), String> {
        let (first, rest) = name.find('[').map_or((name, ""), |at| name.split_at(at));
        if first.is_empty() || first.contains(']') {
            return Err(format!("the name {name:?} has no beginning before its brackets"));
        }
        let mut path = vec![first];
        let mut left = rest;
        while !left.is_empty() {
            let Some((key, after)) = left.strip_prefix('[').and_then(|l| l.split_once(']')) else {
                return Err(format!("the brackets of {name:?} do not close"));
            };
            if key.contains('[') || path.len() > MAX_DEPTH {
                return Err(format!("the brackets of {name:?} stand within one another, or are more than {MAX_DEPTH}"));
            }
            path.push(key);
            left = after;
        }
        put(&mut self.0, &path, value).map_err(|why| format!("{name:?} {why}"))
    }

    /// The members of an object parameter, without its own name.
    pub(super) fn into_object(self) -> Map<String, Value> {
        self.0
    }

    pub(super) fn into_value(self) -> Value {
        Value::Object(self.0)
    }
}

fn put(map: &mut Map<String, Value>, path: &[&str], value: String) -> Result<(), &'static str> {
    let Some((key, rest)) = path.split_first() else { return Ok(()) };
    match (rest, map.entry(*key)) {
        ([], Entry::Vacant(place)) => {
            place.insert(Value::String(value));
        }
        ([], Entry::Occupied(_)) => return Err("is given twice"),
        // `a[]`: one more item.
        ([""], place) => match place.or_insert_with(|| Value::Array(Vec::new())) {
            Value::Array(items) if items.len() < MAX_ITEMS => items.push(Value::String(value)),
            Value::Array(_) => return Err("has too many items"),
            _ => return Err("is a list and something else"),
        },
        (["", ..], _) => return Err("has `[]` before its end, which readers group in different ways"),
        (rest, place) => match place.or_insert_with(|| Value::Object(Map::new())) {
            Value::Object(inner) => put(inner, rest, value)?,
            _ => return Err("is an object and something else"),
        },
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Value, String> {
        let mut fields = Fields::default();
        pairs.iter().try_for_each(|(n, v)| fields.insert(n, (*v).to_owned()))?;
        Ok(fields.into_value())
    }

    #[test]
    fn brackets_make_lists_and_objects() {
        let all = [("a", "1"), ("b[]", "x"), ("b[]", "y"), ("c[d][e]", "2"), ("c[f]", "3"), ("i[0][p]", "4")];
        let want = json!({"a": "1", "b": ["x", "y"], "c": {"d": {"e": "2"}, "f": "3"}, "i": {"0": {"p": "4"}}});
        assert_eq!(of(&all).unwrap(), want);
    }

    #[test]
    fn two_readings_are_refused() {
        for pairs in [
            &[("a", "1"), ("a", "1")][..],
            &[("a", "1"), ("a[b]", "1")],
            &[("a[b]", "1"), ("a", "1")],
            &[("a[]", "1"), ("a[b]", "1")],
            &[("a[][b]", "1")],
            &[("a[b", "1")],
            &[("a[b]c", "1")],
            &[("a[[b]]", "1")],
            &[("[a]", "1")],
            &[("a]", "1")],
            &[("a[b][b][b][b][b][b][b][b][b][b]", "1")],
        ] {
            assert!(of(pairs).is_err(), "{pairs:?}");
        }
    }
}
