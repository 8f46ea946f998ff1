//! The pricing file as written: YAML with the place of every key and value.
