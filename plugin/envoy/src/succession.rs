//! What VMs that are replaced leave to those that come after them.
//!
//! A counter ends with the last VM that defined it. VMs define what is written down ([`crate::counted`]) when
//! they are configured, so one that was replaced must not begin a counter its successors have stopped looking for:
//! the count would end with its last stream. Before a VM begins a counter it writes it down, and then looks whose
//! configuration was the last. If it is its own, every VM configured later finds the counter written down. If
//! not, it leaves the amount here, and a VM of the last configuration moves the counter at its next tick.

use proxy_wasm::types::Status;

use crate::counted::LAYOUT;
use crate::shared_data;

/// The VMs that were configured last: the generation they took, a space and their name.
const LAST: &str = "farebox.last";
/// Bytes of an entry.
const ENTRY: usize = 20;

/// An amount for a counter.
#[derive(Clone, Copy)]
pub(crate) struct Left {
    pub(crate) group: u64,
    pub(crate) place: u32,
    pub(crate) amount: u64,
}

/// Makes the VMs of a name the last. Gives the generation the last took before, 0 for none.
pub(crate) fn claim(vm: &[u8], generation: u64) -> Result<u64, Status> {
    shared_data::change(LAST, |last| {
        let before = parse(last).map_or(0, |(generation, _)| generation);
        (Some([generation.to_string().as_bytes(), b" ", vm].concat()), before)
    })
}

/// Whether no other VMs than those of this name were configured since.
pub(crate) fn is_last(vm: &[u8]) -> Result<bool, Status> {
    let (last, _) = shared_data::read(LAST)?;
    Ok(parse(&last).is_none_or(|(_, last)| last == vm))
}

/// Leaves an amount, joined with what was left for the counter before.
pub(crate) fn leave(left: Left, join: fn(u64, u64) -> u64) -> Result<(), Status> {
    shared_data::change(&left_name(), |bytes| {
        let mut all: Vec<Left> = entries_in(bytes).collect();
        let place = all.partition_point(|known| (known.group, known.place) < (left.group, left.place));
        match all.get_mut(place) {
            Some(known) if (known.group, known.place) == (left.group, left.place) => {
                known.amount = join(known.amount, left.amount);
            }
            _ => all.insert(place, left),
        }
        (Some(bytes_of(all)), ())
    })
}

/// Whether anything is left.
pub(crate) fn is_any_left() -> Result<bool, Status> {
    Ok(!shared_data::read(&left_name())?.0.is_empty())
}

/// Takes what was left for some groups, sorted by group; nobody else gets it.
pub(crate) fn take(wanted: impl Fn(u64) -> bool) -> Result<Vec<Left>, Status> {
    shared_data::change(&left_name(), |bytes| {
        let (taken, others): (Vec<Left>, Vec<Left>) = entries_in(bytes).partition(|left| wanted(left.group));
        ((!taken.is_empty()).then(|| bytes_of(others)), taken)
    })
}

/// Where it is left, sorted by group and place.
fn left_name() -> String {
    format!("farebox.left.{LAYOUT}")
}

fn parse(last: &[u8]) -> Option<(u64, &[u8])> {
    let (generation, vm) = last.split_at_checked(last.iter().position(|byte| *byte == b' ')?)?;
    Some((core::str::from_utf8(generation).ok()?.parse().ok()?, vm.get(1..)?))
}

fn entries_in(bytes: &[u8]) -> impl Iterator<Item = Left> {
    bytes.as_chunks::<ENTRY>().0.iter().map(|[a, b, c, d, e, f, g, h, i, j, k, l, amount @ ..]| Left {
        group: u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]),
        place: u32::from_le_bytes([*i, *j, *k, *l]),
        amount: u64::from_le_bytes(*amount),
    })
}

fn bytes_of(all: Vec<Left>) -> Vec<u8> {
    let bytes = |left: Left| {
        let (group, place) = (left.group.to_le_bytes(), left.place.to_le_bytes());
        group.into_iter().chain(place).chain(left.amount.to_le_bytes())
    };
    all.into_iter().flat_map(bytes).collect()
}
