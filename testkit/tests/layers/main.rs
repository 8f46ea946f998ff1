//! Tests of the imports between the folders of a crate.

mod imports;

use imports::{Layers, WrongImport};

/// Everything about money.
const CORE: Layers = Layers {
    order: &["evm", "terms", "protocol", "rules", "metrics", "payment", "exchange"],
    below: &["members", "Now"],
};

/// The companion. Its parts start in this order, and a part imports only from parts that start
/// before it.
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
        "loading",
        "serve",
        "run",
        "check",
        "explain",
        "cli",
    ],
    below: &["clock", "handle", "http", "paths"],
};

#[test]
fn each_layer_of_the_core_imports_only_what_stands_left_of_it() {
    let wrong = CORE.wrong_imports("plugin/core/src");
    assert!(wrong.is_empty(), "the order is {}:\n{}", CORE.order.join(" → "), list(&wrong));
}

#[test]
fn each_part_of_the_companion_imports_only_what_starts_before_it() {
    let wrong = COMPANION.wrong_imports("companion/src");
    assert!(
        wrong.is_empty(),
        "the order is {}:
{}",
        COMPANION.order.join(" → "),
        list(&wrong)
    );
}

fn list(wrong: &[WrongImport]) -> String {
    wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
