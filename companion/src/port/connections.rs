//! The connections of a port: how many there may be, and which is closed for a new one.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

use super::Limits;

/// The connections of a port.
#[derive(Debug, Clone)]
pub(super) struct Connections {
    table: Arc<Mutex<Table>>,
}

#[derive(Debug)]
struct Table {
    most: usize,
    /// Connections whose descriptors are taken, those that were closed for others among them.
    taken: usize,
    next: u64,
    open: HashMap<u64, Life>,
    /// Those that may be closed, the first one first.
    waiting: BTreeMap<(Wait, u64), u64>,
}

/// Where a connection stands.
#[derive(Debug)]
struct Life {
    line: Arc<Line>,
    /// Requests under way.
    requests: usize,
    has_asked: bool,
    is_stalled: bool,
    is_http2: bool,
    has_switched: bool,
    /// When that began.
    since: Instant,
    /// The first byte of the next head came.
    head: Option<Instant>,
    place: Option<(Wait, u64)>,
}

/// What a connection without a request under way waits for, in the order in which they are closed for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wait {
    /// Its first request.
    First,
    /// Its next one.
    Next,
    /// Its client to read.
    Reader,
}

/// How a connection is told that it is over.
#[derive(Debug, Default)]
pub(super) struct Line {
    is_closed: AtomicBool,
    waker: AtomicWaker,
}

/// The place of one connection in a port, for as long as its descriptor is open.
#[derive(Debug)]
pub(super) struct Slot {
    table: Arc<Mutex<Table>>,
    line: Arc<Line>,
    id: u64,
    /// Hints that save the lock.
    requests: AtomicUsize,
    has_switched: AtomicBool,
}

/// A request under way.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<Slot>);

/// Descriptors that may still be open of connections that were closed for others.
const SPARE: usize = 16;

// === impl Connections ===

impl Connections {
    pub(super) fn new(most: usize) -> Self {
        let table = Table { most, taken: 0, next: 0, open: HashMap::new(), waiting: BTreeMap::new() };
        Self { table: Arc::new(Mutex::new(table)) }
    }

    /// A place for a new connection. `None` if each has a request under way.
    pub(super) fn admit(&self) -> Option<Slot> {
        let mut table = lock(&self.table);
        if table.open.len() >= table.most {
            let (_, id) = table.waiting.pop_first()?;
            if let Some(life) = table.open.remove(&id) {
                life.line.close();
            }
        }
        let line = Arc::<Line>::default();
        let id = table.next();
        let life = Life {
            line: line.clone(),
            requests: 0,
            has_asked: false,
            is_stalled: false,
            is_http2: false,
            has_switched: false,
            since: Instant::now(),
            head: None,
            place: None,
        };
        table.open.insert(id, life);
        table.taken += 1;
        table.change(id, |_| {});
        Some(Slot {
            table: self.table.clone(),
            line,
            id,
            requests: AtomicUsize::new(0),
            has_switched: AtomicBool::new(false),
        })
    }

    /// Whether descriptors are held by connections that were closed for others.
    pub(super) fn are_too_many(&self) -> bool {
        let table = lock(&self.table);
        table.taken >= table.most + SPARE
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Table ===

impl Table {
    const fn next(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Changes where a connection stands. One that was closed for another stands nowhere.
    fn change(&mut self, id: u64, change: impl FnOnce(&mut Life)) {
        let tick = self.next();
        let Some(life) = self.open.get_mut(&id) else { return };
        change(life);
        life.since = Instant::now();
        if let Some(place) = life.place.take() {
            self.waiting.remove(&place);
        }
        life.place = life.wait().map(|wait| (wait, tick));
        if let Some(place) = life.place {
            self.waiting.insert(place, id);
        }
    }
}

// === impl Life ===

impl Life {
    const fn wait(&self) -> Option<Wait> {
        match self {
            Self { is_stalled: true, .. } => Some(Wait::Reader),
            Self { requests: 0, has_switched: false, has_asked: false, .. } => Some(Wait::First),
            Self { requests: 0, has_switched: false, .. } => Some(Wait::Next),
            _ => None,
        }
    }

    /// When the client has to have said something.
    fn deadline(&self, limits: &Limits) -> Option<Instant> {
        if self.requests > 0 {
            return None;
        }
        if !self.has_asked {
            return Some(self.since + limits.head);
        }
        let idle = self.since + limits.idle;
        Some(self.head.map_or(idle, |began| idle.min(began + limits.head)))
    }
}

// === impl Line ===

impl Line {
    fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether the connection is over. The task that asks is woken when it is.
    pub(super) fn is_closed(&self, context: &std::task::Context<'_>) -> bool {
        self.waker.register(context.waker());
        self.is_closed.load(Ordering::Acquire)
    }
}

// === impl Slot ===

impl Slot {
    pub(super) fn line(&self) -> &Line {
        &self.line
    }

    /// A whole head has come.
    pub(super) fn begin(self: &Arc<Self>, is_http2: bool) -> UnderWay {
        self.requests.fetch_add(1, Ordering::Relaxed);
        lock(&self.table).change(self.id, |life| {
            life.requests += 1;
            life.has_asked = true;
            life.is_http2 = is_http2;
            life.head = None;
        });
        UnderWay(self.clone())
    }

    /// Both sides speak something else from now on.
    pub(super) fn switch(&self) {
        self.has_switched.store(true, Ordering::Relaxed);
        lock(&self.table).change(self.id, |life| life.has_switched = true);
    }

    /// Something was read.
    pub(super) fn heard(&self) {
        if self.requests.load(Ordering::Relaxed) > 0 {
            return;
        }
        let mut table = lock(&self.table);
        let Some(life) = table.open.get_mut(&self.id) else { return };
        if life.has_asked && !life.has_switched && !life.is_http2 {
            life.head.get_or_insert_with(Instant::now);
        }
        drop(table);
        self.moved();
    }

    /// Something went either way, which is all that keeps a connection that has switched protocols.
    pub(super) fn moved(&self) {
        if self.has_switched.load(Ordering::Relaxed)
            && let Some(life) = lock(&self.table).open.get_mut(&self.id)
        {
            life.since = Instant::now();
        }
    }

    /// The client reads again, or does not.
    pub(super) fn stalled(&self, is_stalled: bool) {
        lock(&self.table).change(self.id, |life| life.is_stalled = is_stalled);
    }

    /// Everything is said: there is nothing to wait for but that the client hears it.
    pub(super) fn lingers(&self) {
        lock(&self.table).change(self.id, |life| {
            life.has_asked = false;
            life.has_switched = false;
            life.is_stalled = false;
        });
    }

    /// How long the client may be silent from now on; `None` if it is not its turn.
    pub(super) fn patience(&self, limits: &Limits) -> Option<Duration> {
        if self.requests.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let table = lock(&self.table);
        let deadline = table.open.get(&self.id)?.deadline(limits)?;
        Some(deadline.saturating_duration_since(Instant::now()))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut table = lock(&self.table);
        table.taken -= 1;
        if let Some(Life { place: Some(place), .. }) = table.open.remove(&self.id) {
            table.waiting.remove(&place);
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let slot = &self.0;
        let is_last = slot.requests.fetch_sub(1, Ordering::Relaxed) == 1;
        lock(&slot.table).change(slot.id, |life| life.requests = life.requests.saturating_sub(1));
        if is_last {
            // From now on the client is waited for: whoever reads from it has to begin to count.
            slot.line.waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_open(slot: &Slot) -> bool {
        !slot.line.is_closed.load(Ordering::Relaxed)
    }

    #[test]
    fn who_has_asked_for_nothing_goes_before_who_has_and_nobody_goes_who_is_served() {
        let port = Connections::new(3);
        let asked = Arc::new(port.admit().unwrap());
        drop(asked.begin(false));
        let (silent, served) = (port.admit().unwrap(), Arc::new(port.admit().unwrap()));
        let request = served.begin(false);
        let first = Arc::new(port.admit().unwrap());
        assert!(!is_open(&silent) && is_open(&asked) && is_open(&served));
        let _second = first.begin(false);
        let third = Arc::new(port.admit().unwrap());
        assert!(!is_open(&asked) && is_open(&served));
        let _third = third.begin(false);
        assert!(port.admit().is_none(), "each has a request under way");
        served.stalled(true);
        assert!(port.admit().is_some(), "its client does not read");
        assert!(!is_open(&served));
        drop(request);
    }

    #[test]
    fn of_those_that_wait_alike_the_one_that_waits_longest_goes() {
        let port = Connections::new(2);
        let (one, two) = (port.admit().unwrap(), port.admit().unwrap());
        let _three = port.admit().unwrap();
        assert!(!is_open(&one) && is_open(&two));
    }

    #[test]
    fn a_place_is_free_when_its_descriptor_is() {
        let port = Connections::new(1);
        let slots: Vec<_> = (0..=SPARE).map(|_| port.admit().unwrap()).collect();
        assert!(port.are_too_many());
        drop(slots);
        assert!(!port.are_too_many());
        assert_eq!(lock(&port.table).waiting.len(), 0);
    }
}
