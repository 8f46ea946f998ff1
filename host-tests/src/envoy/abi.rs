//! The wire side of the proxy-wasm 0.2.1 ABI: statuses, map types and serialised header maps.

/// Status of a host call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Ok = 0,
    NotFound = 1,
    BadArgument = 2,
    CasMismatch = 8,
}

/// Which header map a call means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MapType {
    RequestHeaders,
    RequestTrailers,
    ResponseHeaders,
    ResponseTrailers,
    CallHeaders,
    CallTrailers,
    /// gRPC metadata: never available here.
    Other,
}

impl MapType {
    pub(crate) const fn from_wire(value: u32) -> Self {
        match value {
            0 => Self::RequestHeaders,
            1 => Self::RequestTrailers,
            2 => Self::ResponseHeaders,
            3 => Self::ResponseTrailers,
            6 => Self::CallHeaders,
            7 => Self::CallTrailers,
            _ => Self::Other,
        }
    }
}

/// A header map as Envoy keeps it: lower-case names, repeated names repeated, values are bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Headers(Vec<(String, Vec<u8>)>);

// === impl Headers ===

impl Headers {
    /// From pairs; names are lower-cased as Envoy's codecs do.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<[u8]>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        Self(pairs.into_iter().map(|(n, v)| (n.as_ref().to_ascii_lowercase(), v.as_ref().to_vec())).collect())
    }

    /// The first value of a name as text; bytes that are not UTF-8 are replaced.
    pub fn get(&self, name: &str) -> Option<String> {
        self.get_bytes(name).map(|v| String::from_utf8_lossy(v).into_owned())
    }

    /// The first value of a name.
    pub fn get_bytes(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_slice())
    }

    /// How often a name occurs.
    pub fn count(&self, name: &str) -> usize {
        self.0.iter().filter(|(n, _)| n == name).count()
    }

    /// Every line in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_slice()))
    }

    /// Number of lines.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a line.
    pub fn add(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.0.push((name.to_ascii_lowercase(), value.as_ref().to_vec()));
    }

    /// Replaces every copy of a name by one line.
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) {
        let name = name.to_ascii_lowercase();
        match self.0.iter().position(|(n, _)| *n == name) {
            Some(at) => {
                self.0[at].1 = value.as_ref().to_vec();
                let mut index = 0;
                self.0.retain(|(n, _)| {
                    index += 1;
                    index - 1 <= at || *n != name
                });
            }
            None => self.add(&name, value),
        }
    }

    /// Removes every copy of a name.
    pub fn remove(&mut self, name: &str) {
        let name = name.to_ascii_lowercase();
        self.0.retain(|(n, _)| *n != name);
    }

    /// The serialised form of the ABI: count, sizes, then names and values each followed by a zero byte.
    pub(crate) fn to_wire(&self) -> Vec<u8> {
        let mut bytes = length(self.0.len()).to_vec();
        for (name, value) in &self.0 {
            bytes.extend_from_slice(&length(name.len()));
            bytes.extend_from_slice(&length(value.len()));
        }
        for (name, value) in &self.0 {
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(0);
            bytes.extend_from_slice(value);
            bytes.push(0);
        }
        bytes
    }

    /// Reads the serialised form; `None` if it is malformed.
    pub(crate) fn from_wire(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| -> Option<usize> {
            Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize)
        };
        let count = word(0)?;
        let mut at = 4 + count.checked_mul(8)?;
        let mut lines = Vec::new();
        for index in 0..count {
            let (name_len, value_len) = (word(4 + index * 8)?, word(8 + index * 8)?);
            let name = String::from_utf8(bytes.get(at..at + name_len)?.to_vec()).ok()?;
            at += name_len + 1;
            let value = bytes.get(at..at + value_len)?.to_vec();
            at += value_len + 1;
            lines.push((name.to_ascii_lowercase(), value));
        }
        Some(Self(lines))
    }

    /// Lines a proxy could not put on the wire: names that are not tokens, values with line breaks or NUL.
    pub(crate) fn unsendable(&self) -> Vec<String> {
        let token = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:".contains(&c);
        let bad = |(n, v): &&(String, Vec<u8>)| {
            n.is_empty() || !n.bytes().all(token) || v.iter().any(|b| matches!(b, 0 | b'\r' | b'\n'))
        };
        self.0.iter().filter(bad).map(|(n, v)| format!("{n:?}: {:?}", String::from_utf8_lossy(v))).collect()
    }
}

fn length(value: usize) -> [u8; 4] {
    u32::try_from(value).expect("header maps of tests are small").to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_survives_the_wire() {
        let map = Headers::from_pairs([("a", b"\xff\x00".as_slice()), ("b", b""), ("a", b"2")]);
        assert_eq!(Headers::from_wire(&map.to_wire()), Some(map));
    }

    #[test]
    fn setting_a_repeated_name_leaves_one_line_in_the_first_place() {
        let mut map = Headers::from_pairs([("a", "1"), ("b", "2"), ("a", "3"), ("c", "4")]);
        map.set("A", "9");
        assert_eq!(map, Headers::from_pairs([("a", "9"), ("b", "2"), ("c", "4")]));
    }

    #[test]
    fn removing_a_name_removes_every_copy() {
        let mut map = Headers::from_pairs([("a", "1"), ("b", "2"), ("a", "3")]);
        map.remove("a");
        assert_eq!(map, Headers::from_pairs([("b", "2")]));
    }
}
