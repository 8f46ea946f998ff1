//! Reading JSON objects member by member.
//!
//! One reader for all objects instead of one generated for each type: generated readers made up a quarter of
//! the filter, and every worker of a proxy holds a copy of it.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Why a text is not the expected object, with the name of the member.
pub(crate) type Reason = String;

/// The members of one object, each as raw text.
pub(crate) struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// The name of a member, copied only if it contains an escape.
#[derive(Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Members<'a> {
    /// Reads an object. Unknown members are ignored, unless the caller uses [`Members::only`].
    pub(crate) fn read(text: &'a str) -> Result<Self, Reason> {
        if !text.trim_ascii_start().starts_with('{') {
            return Err("not an object".into());
        }
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// Every member, in the order of the text.
    pub(crate) fn into_iter(self) -> impl Iterator<Item = (Cow<'a, str>, &'a RawValue)> {
        self.0.into_iter()
    }

    /// A member; `null` counts as absent. A repeated member is an error, because two readers may see two
    /// values.
    pub(crate) fn optional(&self, name: &str) -> Result<Option<&'a RawValue>, Reason> {
        let mut found = self.0.iter().filter(|(key, _)| key == name).map(|(_, raw)| *raw);
        match (found.next(), found.next()) {
            (_, Some(_)) => Err(format!("duplicate field `{name}`")),
            (first, None) => Ok(first.filter(|raw| raw.get() != "null")),
        }
    }

    /// A member that must be there.
    pub(crate) fn required(&self, name: &str) -> Result<&'a RawValue, Reason> {
        self.optional(name)?.ok_or_else(|| missing(name))
    }

    /// A member that must be a string.
    pub(crate) fn text(&self, name: &str) -> Result<String, Reason> {
        self.optional_text(name)?.ok_or_else(|| missing(name))
    }

    /// A member that must be a string if it is there.
    pub(crate) fn optional_text(&self, name: &str) -> Result<Option<String>, Reason> {
        let Some(raw) = self.optional(name)? else { return Ok(None) };
        read_text(raw).map(Some).ok_or_else(|| format!("`{name}` is not a string"))
    }

    /// A member that must be an unsigned integer.
    pub(crate) fn number(&self, name: &str) -> Result<u64, Reason> {
        self.optional_number(name)?.ok_or_else(|| missing(name))
    }

    /// A member that must be an unsigned integer if it is there.
    pub(crate) fn optional_number(&self, name: &str) -> Result<Option<u64>, Reason> {
        let Some(raw) = self.optional(name)? else { return Ok(None) };
        serde_json::from_str(raw.get()).map(Some).map_err(|_| format!("`{name}` is not a whole number"))
    }

    /// A member that must be `true` or `false` if it is there.
    pub(crate) fn flag(&self, name: &str, absent: bool) -> Result<bool, Reason> {
        match self.optional(name)?.map(RawValue::get) {
            None => Ok(absent),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(_) => Err(format!("`{name}` is not true or false")),
        }
    }

    /// A member that must be a list if it is there.
    pub(crate) fn list(&self, name: &str) -> Result<Vec<&'a RawValue>, Reason> {
        let Some(raw) = self.optional(name)? else { return Ok(Vec::new()) };
        serde_json::from_str(raw.get()).map_err(|_| format!("`{name}` is not a list"))
    }

    /// Refuses members that are not among these.
    pub(crate) fn only(&self, names: &[&str]) -> Result<(), Reason> {
        match self.0.iter().find(|(key, _)| !names.contains(&key.as_ref())) {
            Some((key, _)) => Err(format!("unknown field `{key}`")),
            None => Ok(()),
        }
    }
}

fn missing(name: &str) -> Reason {
    format!("missing field `{name}`")
}

/// A raw value that must be a string; `None` for any other type.
pub(crate) fn read_text(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

            fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(8);
                while let Some((Name(name), raw)) = map.next_entry()? {
                    members.push((name, raw));
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Reader).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        r#" {"a": "x\u0041", "n": 7, "no": null, "twice": 1, "twice": 1, "on": true, "l": [1, {}]} "#;

    #[test]
    fn members_are_found_by_name_and_null_is_absent() {
        let members = Members::read(TEXT).unwrap();
        assert_eq!(members.text("a").unwrap(), "xA");
        assert_eq!(members.number("n").unwrap(), 7);
        assert!(members.flag("on", false).unwrap());
        assert!(members.flag("absent", true).unwrap());
        assert_eq!(members.list("l").unwrap().len(), 2);
        assert_eq!(members.list("absent").unwrap().len(), 0);
        assert!(members.optional("no").unwrap().is_none());
        assert_eq!(members.required("no").unwrap_err(), "missing field `no`");
    }

    #[test]
    fn a_repeated_member_is_refused_when_it_is_asked_for() {
        let members = Members::read(TEXT).unwrap();
        assert_eq!(members.optional("twice").unwrap_err(), "duplicate field `twice`");
    }

    #[test]
    fn the_wrong_type_is_refused_by_name() {
        let members = Members::read(TEXT).unwrap();
        assert_eq!(members.text("n").unwrap_err(), "`n` is not a string");
        assert_eq!(members.number("a").unwrap_err(), "`a` is not a whole number");
        assert_eq!(members.flag("n", false).unwrap_err(), "`n` is not true or false");
        assert_eq!(members.list("a").unwrap_err(), "`a` is not a list");
        assert_eq!(members.only(&["a", "n", "no", "twice", "on"]).unwrap_err(), "unknown field `l`");
    }

    #[test]
    fn what_is_not_one_object_is_refused() {
        for text in ["", "[]", "[{}]", "null", "{", "{} {}", "{\"a\"}", "1"] {
            assert!(Members::read(text).is_err(), "{text}");
        }
    }
}
