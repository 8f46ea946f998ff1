//! What requests count, on its way to the companion.
//!
//! A VM counts in its own memory, by position, without a call to the host. Once a second it reports what changed, in one
//! call under a number. Until that is acknowledged it is told again under its number, and what is counted meanwhile
//! waits. A report also says which rules the VM enforces, so a VM that counts nothing reports now and then as well.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use farebox_core::Now;
use farebox_core::metrics::{Counts, Stamp, Standing, Written};
use farebox_core::rules::RuleSet;
use proxy_wasm::types::Status;

use crate::callout::{Caller, Captured};
use crate::outbox::{Kind, Outbox};
use crate::shared_data;

/// What is counted under one rule set.
pub(crate) struct Tally {
    rules: Arc<RuleSet>,
    counts: RefCell<Counts>,
}

struct Reports {
    outbox: Outbox,
    /// Of the rules in force, and of older ones while something of them is not reported.
    tallies: Vec<Rc<Tally>>,
    /// Reports this VM has left to others: what follows is counted under another name, so that no order between the
    /// two matters.
    left: u32,
    /// The number of the last report under that name.
    sequence: u64,
    /// When the VM said last which rules it enforces, and which.
    said: Option<(u64, u64)>,
    /// More is to be reported as soon as the report under way is acknowledged: it had no more room, or money was counted.
    is_pressing: bool,
}

/// How often a VM says that it is there, if it has nothing to report.
const SIGN_EVERY_MS: u64 = 2_000;
/// Names the process: whoever is first writes it.
const PROCESS: &str = "farebox.process";
/// Why a configuration was refused that came after the rules in force; else empty.
const REFUSED: &str = "farebox.refused";

thread_local! {
    static REPORTS: RefCell<Reports> = const {
        RefCell::new(Reports {
            outbox: Outbox::new(Kind {
                place: "farebox.reports",
                most: 256,
                at_once: 1,
                most_left: 16 << 20,
                dropped: "the oldest counts are lost",
            }),
            tallies: Vec::new(),
            left: 0,
            sequence: 0,
            said: None,
            is_pressing: false,
        })
    };
}

// === impl Tally ===

impl Tally {
    /// Begins to count under rules.
    pub(crate) fn begin(rules: &Arc<RuleSet>) -> Rc<Self> {
        let tally = Rc::new(Self { rules: Arc::clone(rules), counts: RefCell::default() });
        REPORTS.with_borrow_mut(|reports| reports.tallies.push(Rc::clone(&tally)));
        tally
    }

    /// Counts a request's stamps. Whether money is among them.
    pub(crate) fn count(&self, stamps: &[Stamp]) -> bool {
        let mut counts = self.counts.borrow_mut();
        let mut is_money = false;
        for stamp in stamps.iter().filter(|stamp| stamp.is_counted_under(&self.rules)) {
            counts.add(stamp, &self.rules);
            is_money |= stamp.is_money();
        }
        is_money
    }
}

/// A configuration was refused, or one was taken: `reason` is empty then.
pub(crate) fn refused(reason: &str) {
    let _ = shared_data::change(REFUSED, |before| {
        ((before != reason.as_bytes()).then(|| reason.as_bytes().to_vec()), ())
    });
}

/// Reports what was counted, now or as soon as the report under way is acknowledged.
pub(crate) fn hurry(caller: &Caller<'_>, now: Now) {
    REPORTS.with_borrow_mut(|reports| {
        reports.is_pressing = true;
        reports.send(caller, now);
    });
}

/// A reply came. Whether it was one to a report.
pub(crate) fn answered(caller: Option<&Caller<'_>>, token: u32, reply: Option<&Captured>, now: Now) -> bool {
    REPORTS.with_borrow_mut(|reports| {
        let answered = reports.outbox.answered(token, reply);
        if let (Some(true), Some(caller)) = (answered, caller)
            && (reports.is_pressing || !reports.outbox.is_empty())
        {
            reports.send(caller, now);
        }
        answered.is_some()
    })
}

/// Reports what changed since the last tick.
pub(crate) fn tick(caller: &Caller<'_>, now: Now) {
    REPORTS.with_borrow_mut(|reports| {
        reports.outbox.tick(now);
        reports.outbox.take_left();
        reports.send(caller, now);
        reports.sign(caller, now);
    });
}

/// A filter goes; the VM with it, if it was the last one there.
pub(crate) fn forget(root: u32, vm: Option<&str>, is_last: bool) {
    REPORTS.with_borrow_mut(|reports| {
        reports.outbox.forget(root);
        if let Some(vm) = vm.filter(|_| is_last) {
            while reports.write(vm) {}
            reports.outbox.leave();
            (reports.left, reports.sequence) = (reports.left + 1, 0);
        }
    });
}

// === impl Reports ===

impl Reports {
    fn send(&mut self, caller: &Caller<'_>, now: Now) {
        if self.outbox.is_under_way() {
            return;
        }
        if self.outbox.is_empty() {
            self.is_pressing = false;
            self.write(&caller.identity.vm);
        }
        let Ok(standing) = self.standing(caller, now) else { return };
        self.outbox.send(caller.root, |report| caller.report(&[&standing.line(), report].concat()));
        if self.outbox.is_under_way() {
            self.said = Some((now.unix_ms, standing.generation));
        }
    }

    /// Says that the VM is there and which rules it enforces, where no report did. Nobody waits for the reply.
    fn sign(&mut self, caller: &Caller<'_>, now: Now) {
        let is_due = self.said.is_none_or(|(at, generation)| {
            generation != caller.generation || now.unix_ms.abs_diff(at) >= SIGN_EVERY_MS
        });
        if is_due && let Ok(standing) = self.standing(caller, now) {
            self.said = Some((now.unix_ms, standing.generation));
            let _ = caller.report(&standing.line());
        }
    }

    /// Makes a report of what was counted. Whether there was something.
    fn write(&mut self, vm: &str) -> bool {
        let mut written: Option<Written> = None;
        for tally in &self.tallies {
            let mut counts = tally.counts.borrow_mut();
            while written.as_ref().is_none_or(|written| !written.is_full())
                && let Some((series, amount)) = counts.take(&tally.rules)
            {
                let report = written.get_or_insert_with(|| {
                    self.sequence += 1;
                    Written::new(&format!("{vm}.{}", self.left), self.sequence)
                });
                report.push(&series, amount);
            }
        }
        // Nobody counts any more under rules that are gone.
        self.tallies.retain(|tally| Rc::strong_count(tally) > 1 || !tally.counts.borrow().is_empty());
        let Some(written) = written else { return false };
        self.is_pressing |= written.is_full();
        self.outbox.keep(written.into_bytes());
        true
    }

    fn standing(&self, caller: &Caller<'_>, now: Now) -> Result<Standing, Status> {
        let vm = &caller.identity.vm;
        let process = shared_data::change(PROCESS, |process| match process {
            [] => (Some(vm.clone().into_bytes()), vm.clone()),
            known => (None, String::from_utf8_lossy(known).into_owned()),
        })?;
        let (refusal, _) = shared_data::read(REFUSED)?;
        Ok(Standing {
            process,
            vm: vm.clone(),
            generation: caller.generation,
            hash: caller.hash.to_owned(),
            unix_ms: now.unix_ms,
            waiting: self.outbox.waiting(),
            lost: self.outbox.lost(),
            refusal: String::from_utf8_lossy(&refusal).into_owned(),
        })
    }
}
