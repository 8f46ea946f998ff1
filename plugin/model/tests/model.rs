//! The small worlds are explored completely, and every deliberate fault is found.

use farebox_model::{Bounds, Fault, Model};

#[test]
fn no_law_is_broken_in_any_order_of_steps() {
    let mut states = 0;
    for bounds in Bounds::small() {
        let name = bounds.name;
        let explored = Model { fault: None, bounds }.explore(2, None);
        assert!(explored.broken.is_empty(), "{name}: {:#?}", explored.broken);
        assert!(explored.missing.is_empty(), "{name}: {:?}", explored.missing);
        states += explored.states;
    }
    assert!(states > 1_000_000, "{states} states are too small a world");
}

#[test]
fn every_fault_is_found() {
    for fault in Fault::ALL.iter().copied() {
        let explored = Model { fault: Some(fault), bounds: fault.world() }.explore(2, None);
        assert!(!explored.broken.is_empty(), "{fault:?} is not found in {} states", explored.states);
    }
}
