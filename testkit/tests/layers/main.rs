//! Who may import whom inside a crate.

mod imports;

use std::collections::BTreeSet;

use imports::{Layers, WrongImport};

/// Everything about money.
const CORE: Layers = Layers {
    order: &["evm", "terms", "protocol", "rules", "metrics", "payment", "exchange"],
    below: &["members", "Now"],
};

/// The companion. Its parts start in this order, and a part knows only those that started before it.
const COMPANION: Layers = Layers {
    order: &[
        "settings",
        "port",
        "facilitator",
        "rules",
        "ledger",
        "relay",
        "gateway",
        "publish",
        "counts",
        "state",
        "loading",
        "serve",
        "run",
        "check",
        "explain",
        "cli",
    ],
    below: &["clock", "http", "paths"],
};

/// Imports of the companion that go up. Each is to go, and none is to come.
const KNOWN: &[(&str, &str)] = &[
    ("gateway", "state"),
    ("counts", "state"),
    ("publish", "state"),
    ("relay", "state"),
];

#[test]
fn each_layer_of_the_core_imports_only_what_stands_left_of_it() {
    let wrong = CORE.wrong_imports("plugin/core/src");
    assert!(wrong.is_empty(), "the order is {}:\n{}", CORE.order.join(" → "), list(&wrong));
}

#[test]
fn each_part_of_the_companion_imports_only_what_starts_before_it() {
    let wrong = COMPANION.wrong_imports("companion/src");
    let pairs: BTreeSet<_> = wrong.iter().map(WrongImport::pair).collect();
    let known: BTreeSet<_> = KNOWN.iter().copied().collect();
    assert!(pairs == known, "the order is {}:\n{}", COMPANION.order.join(" → "), list(&wrong));
}

fn list(wrong: &[WrongImport]) -> String {
    wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
