//! The operator's own members of a requirement's `extra`.

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::members::{Members, Reason};

/// Members of an object by name, in alphabetical order. Values stay JSON texts, because Farebox only passes
/// them on, and a reader of any JSON value would be a large part of a guest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extra(Vec<(String, String)>);

// === impl Extra ===

impl Extra {
    /// Reads an object. Of a repeated member the last counts.
    pub(crate) fn read(text: &str) -> Result<Self, Reason> {
        let mut extra = Self::default();
        for (name, value) in Members::read(text)?.into_iter() {
            extra.put(name.into_owned(), value.get().to_owned());
        }
        Ok(extra)
    }
    /// Sets a member, and replaces a member of the same name.
    pub fn set<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) {
        // Serializing our own types cannot fail.
        self.put(name.to_owned(), serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned()));
    }
    /// Removes a member.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(has, _)| has != name);
    }
    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Names, and values as JSON.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    fn put(&mut self, name: String, value: String) {
        match self.0.binary_search_by(|(has, _)| has.cmp(&name)) {
            Ok(place) => {
                if let Some(member) = self.0.get_mut(place) {
                    member.1 = value;
                }
            }
            Err(place) => self.0.insert(place, (name, value)),
        }
    }
}

impl Serialize for Extra {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(name, value)| {
            // Every value was JSON when it came in.
            (name, serde_json::from_str::<&RawValue>(value).ok())
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_kept_as_they_are_written_in_alphabetical_order_and_the_last_of_a_name_counts() {
        let text = r#"{"b": {"x": [1.50, null]}, "a": "\u00e9", "b": 1e3}"#;
        let mut extra = Extra::read(text).unwrap();
        assert_eq!(serde_json::to_string(&extra).unwrap(), r#"{"a":"\u00e9","b":1e3}"#);
        extra.set("aa", "say \"x\"");
        extra.set("b", &["x", "y"]);
        extra.remove("a");
        assert_eq!(serde_json::to_string(&extra).unwrap(), r#"{"aa":"say \"x\"","b":["x","y"]}"#);
        extra.remove("aa");
        extra.remove("b");
        assert!(extra.is_empty());
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["[]", "1", "\"x\""] {
            assert!(Extra::read(text).is_err(), "{text}");
        }
    }
}
