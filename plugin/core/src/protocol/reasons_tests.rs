use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::protocol::fixtures::recorded_replies;

#[test]
fn the_table_is_sorted_and_names_a_giver_of_every_code() {
    assert!(TABLE.is_sorted_by(|(a, ..), (b, ..)| a < b));
    for (code, _, givers) in TABLE {
        assert!(*givers != 0 && *givers < 32, "{code}");
    }
}

#[test]
fn every_giver_of_a_code_has_a_recorded_reply_with_it() {
    let mut given = BTreeMap::<String, BTreeSet<String>>::new();
    for reply in recorded_replies() {
        let code = ["errorReason", "invalidReason"].into_iter().find_map(|name| reply.body[name].as_str());
        if let Some(code) = code {
            given.entry(code.to_owned()).or_default().insert(reply.by);
        }
    }
    let names = [(TS, "typescript"), (PY, "python"), (RS, "x402-rs"), (CDP, "cdp"), (SPEC, "specification")];
    for (code, _, givers) in TABLE {
        let by = given.get(*code).unwrap_or_else(|| panic!("{code} is in no recorded reply"));
        for (bit, name) in names {
            // A code of the specification needs a recorded reply only if an implementation gives
            // it, too.
            if *givers & bit != 0 && bit != SPEC {
                assert!(by.contains(name), "{code}: {name}");
            }
        }
    }
}

#[test]
fn a_code_that_is_not_listed_proves_nothing() {
    for code in ["", "a", "zz", "insufficient", "insufficient_funds ", "Insufficient_funds", "€"] {
        assert_eq!(meaning(code), Unclear, "{code}");
    }
    assert_eq!(meaning("insufficient_funds"), Refused);
}
