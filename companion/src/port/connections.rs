//! The connections of a port: their limit, and which connection is closed for a new one.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

use super::Limits;
use super::socket::Raw;

/// The connections of a port.
#[derive(Debug, Clone)]
pub(super) struct Connections {
    table: Arc<Mutex<Table>>,
}

#[derive(Debug)]
struct Table {
    most: usize,
    /// Number of open descriptors, including those of connections that were closed for others.
    taken: usize,
    next: u64,
    open: HashMap<u64, Life>,
    /// Connections that may be closed for a new one, the next one first.
    waiting: BTreeMap<(Wait, u64), u64>,
}

/// The state of a connection.
#[derive(Debug)]
struct Life {
    line: Arc<Line>,
    raw: Arc<Raw>,
    /// Requests under way.
    requests: usize,
    has_asked: bool,
    /// Of its request only a part has come, and nothing is done before the rest.
    is_partial: bool,
    /// A read found no bytes, so no part of its first request is waiting.
    was_empty: bool,
    is_stalled: bool,
    is_http2: bool,
    has_switched: bool,
    /// When this state began.
    since: Instant,
    /// When the first byte of the next head came.
    head: Option<Instant>,
    place: Option<(Wait, u64)>,
}

/// A place in a port, or none.
#[derive(Debug)]
pub(super) enum Admission {
    Now(Slot),
    /// No place yet: new connections have to be read first.
    Soon,
    /// No place: each connection has a request under way.
    Never,
}

/// What a connection without a request under way waits for, in the order in which they are closed for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wait {
    /// Its first request, or the rest of one.
    First,
    /// Its client to read.
    Reader,
    /// Its next request.
    Next,
}

/// The signal by which a connection learns that it is closed.
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
    raw: Arc<Raw>,
    id: u64,
    /// Copies of state that are read without the lock.
    requests: AtomicUsize,
    was_empty: AtomicBool,
    has_switched: AtomicBool,
}

/// A request under way.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<Slot>);

/// The connection of a request, for a service that does nothing before the whole request has come. It does not keep the
/// connection, because whatever has the request may last longer.
#[derive(Debug, Clone)]
pub(crate) struct Arrival(Weak<Slot>);

/// A request of which the rest is waited for: meanwhile its connection may be closed for another.
#[derive(Debug)]
pub(crate) struct Partial(Arc<Slot>);

/// Shortest time that a client has for its first request, even if many others come. It is longer than a busy machine
/// or a bad line needs from connection to request. With 256 places, two thousand clients per second get this time.
const HEARING: Duration = Duration::from_millis(100);
/// Shortest time for which a client may stop reading.
const READING: Duration = Duration::from_millis(250);
/// Number of connections that are examined, the longest waiting first.
const LOOKS: usize = 16;
/// Number of descriptors that may still be open after their connections were closed for others.
const SPARE: usize = 16;

// === impl Connections ===

impl Connections {
    pub(super) fn new(most: usize) -> Self {
        let table = Table { most, taken: 0, next: 0, open: HashMap::new(), waiting: BTreeMap::new() };
        Self { table: Arc::new(Mutex::new(table)) }
    }

    /// Takes a place for a new connection.
    pub(super) fn admit(&self, raw: &Arc<Raw>) -> Admission {
        let mut table = lock(&self.table);
        if table.open.len() >= table.most
            && let Err(refusal) = table.close_one()
        {
            return refusal;
        }
        let line = Arc::<Line>::default();
        let id = table.next();
        let life = Life {
            line: line.clone(),
            raw: raw.clone(),
            requests: 0,
            has_asked: false,
            is_partial: false,
            was_empty: false,
            is_stalled: false,
            is_http2: false,
            has_switched: false,
            since: Instant::now(),
            head: None,
            place: None,
        };
        table.open.insert(id, life);
        table.taken += 1;
        Admission::Now(Slot {
            table: self.table.clone(),
            line,
            raw: raw.clone(),
            id,
            requests: AtomicUsize::new(0),
            was_empty: AtomicBool::new(false),
            has_switched: AtomicBool::new(false),
        })
    }

    /// Whether too many descriptors are still open of connections that were closed for others.
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

    /// Closes a connection for a new one, or returns why none can be closed.
    fn close_one(&mut self) -> Result<(), Admission> {
        let of = |wait| self.waiting.range((wait, 0)..=(wait, u64::MAX)).take(LOOKS);
        // A connection that has waited long enough, and whose next request is not in its socket.
        let idle = |(wait, least): (Wait, Duration)| {
            of(wait).find(|(_, id)| {
                let life = self.open.get(*id);
                let is_unheard = |life: &Life| wait != Wait::Reader && life.raw.has_unread();
                life.is_none_or(|life| life.since.elapsed() >= least && !is_unheard(life))
            })
        };
        let silent = [(Wait::First, HEARING), (Wait::Reader, READING)].into_iter().find_map(idle);
        let are_new = || {
            let waits = of(Wait::First).chain(of(Wait::Reader)).next().is_some();
            waits || self.open.values().any(Life::is_unheard)
        };
        let victim = match silent {
            Some(silent) => Some(silent),
            None if are_new() => return Err(Admission::Soon),
            None => match idle((Wait::Next, Duration::ZERO)) {
                None if of(Wait::Next).next().is_some() => return Err(Admission::Soon),
                next => next,
            },
        };
        let (place, id) = victim.map(|(place, id)| (*place, *id)).ok_or(Admission::Never)?;
        self.waiting.remove(&place);
        if let Some(life) = self.open.remove(&id) {
            life.line.close();
        }
        Ok(())
    }

    /// Changes the state of a connection from now on. A connection that was closed for another has no state.
    fn change(&mut self, id: u64, change: impl FnOnce(&mut Life)) {
        self.place(id, |life| {
            change(life);
            life.since = Instant::now();
        });
    }

    fn place(&mut self, id: u64, change: impl FnOnce(&mut Life)) {
        let tick = self.next();
        let Some(life) = self.open.get_mut(&id) else { return };
        change(life);
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
    /// Whether a request may wait in its socket.
    const fn is_unheard(&self) -> bool {
        !self.has_asked && !self.was_empty
    }

    const fn wait(&self) -> Option<Wait> {
        match self {
            Self { is_partial: true, .. } => Some(Wait::First),
            Self { is_stalled: true, .. } => Some(Wait::Reader),
            Self { requests: 0, has_switched: false, has_asked: true, .. } => Some(Wait::Next),
            Self { requests: 0, has_switched: false, was_empty: true, .. } => Some(Wait::First),
            _ => None,
        }
    }

    /// When the client must have sent something.
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

    /// Whether the connection is closed. The calling task is woken when that happens.
    pub(super) fn is_closed(&self, context: &std::task::Context<'_>) -> bool {
        self.waker.register(context.waker());
        self.is_closed.load(Ordering::Acquire)
    }
}

// === impl Slot ===

impl Slot {
    pub(super) fn raw(&self) -> &Raw {
        &self.raw
    }

    pub(super) fn line(&self) -> &Line {
        &self.line
    }

    /// Notes that a whole head has come.
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

    /// Notes that the connection has switched protocols.
    pub(super) fn switch(&self) {
        self.has_switched.store(true, Ordering::Relaxed);
        lock(&self.table).change(self.id, |life| life.has_switched = true);
    }

    /// Notes that there was nothing to read.
    pub(super) fn is_empty(&self) {
        if !self.was_empty.swap(true, Ordering::Relaxed) {
            lock(&self.table).place(self.id, |life| life.was_empty = true);
        }
    }

    /// Notes that something was read.
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

    /// Notes that bytes were read or written. Only this keeps a connection that has switched protocols.
    pub(super) fn moved(&self) {
        if self.has_switched.load(Ordering::Relaxed)
            && let Some(life) = lock(&self.table).open.get_mut(&self.id)
        {
            life.since = Instant::now();
        }
    }

    /// Notes whether the client has stopped reading.
    pub(super) fn stalled(&self, is_stalled: bool) {
        lock(&self.table).change(self.id, |life| life.is_stalled = is_stalled);
    }

    /// Notes that the last answer is written, and the connection only waits until the client has read it.
    pub(super) fn lingers(&self) {
        lock(&self.table).change(self.id, |life| {
            life.has_asked = false;
            life.was_empty = true;
            life.has_switched = false;
            life.is_stalled = false;
        });
    }

    /// How long the client may be silent from now on; `None` if the client need not send anything.
    pub(super) fn patience(&self, limits: &Limits) -> Option<Duration> {
        if self.requests.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let table = lock(&self.table);
        let deadline = table.open.get(&self.id)?.deadline(limits)?;
        Some(deadline.saturating_duration_since(Instant::now()))
    }
}

// === impl Arrival ===

impl Arrival {
    pub(super) fn of(slot: &Arc<Slot>) -> Self {
        Self(Arc::downgrade(slot))
    }

    /// Until this is dropped. `None` if the connection has ended.
    pub(crate) fn awaited(&self) -> Option<Partial> {
        let slot = self.0.upgrade()?;
        lock(&slot.table).change(slot.id, |life| life.is_partial = true);
        Some(Partial(slot))
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

impl Drop for Partial {
    fn drop(&mut self) {
        lock(&self.0.table).change(self.0.id, |life| life.is_partial = false);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let slot = &self.0;
        let is_last = slot.requests.fetch_sub(1, Ordering::Relaxed) == 1;
        lock(&slot.table).change(slot.id, |life| life.requests = life.requests.saturating_sub(1));
        if is_last {
            // From now on the client must send: the task that reads starts its timer.
            slot.line.waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;

    use super::*;

    fn is_open(slot: &Slot) -> bool {
        !slot.line.is_closed.load(Ordering::Relaxed)
    }

    /// A connection, and its client.
    fn pair() -> (Arc<Raw>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Arc::new(Raw::Unix(ours)), theirs)
    }

    fn admit(port: &Connections) -> Admission {
        let (raw, client) = pair();
        std::mem::forget(client);
        port.admit(&raw)
    }

    /// A connection that was silent for long enough.
    async fn silent(port: &Connections) -> Arc<Slot> {
        let Admission::Now(slot) = admit(port) else { panic!("no place") };
        slot.is_empty();
        tokio::time::advance(HEARING).await;
        Arc::new(slot)
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_any_request_is_closed_before_an_idle_one_and_a_served_one_is_never_closed()
    {
        let port = Connections::new(3);
        let asked = silent(&port).await;
        drop(asked.begin(false));
        let (idle, served) = (silent(&port).await, silent(&port).await);
        let request = served.begin(false);
        let first = silent(&port).await;
        assert!(!is_open(&idle) && is_open(&asked) && is_open(&served));
        let _second = first.begin(false);
        served.stalled(true);
        assert!(matches!(admit(&port), Admission::Soon), "its client may read again in a moment");
        tokio::time::advance(READING).await;
        let third = silent(&port).await;
        assert!(!is_open(&served) && is_open(&asked), "its client does not read");
        let _third = third.begin(false);
        let fourth = silent(&port).await;
        assert!(!is_open(&asked), "there is no other");
        let _fourth = fourth.begin(false);
        assert!(matches!(admit(&port), Admission::Never), "each has a request under way");
        drop(request);
    }

    #[tokio::test(start_paused = true)]
    async fn of_those_that_wait_alike_the_one_that_waits_longest_goes() {
        let port = Connections::new(2);
        let (one, two) = (silent(&port).await, silent(&port).await);
        let _three = silent(&port).await;
        assert!(!is_open(&one) && is_open(&two));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_whose_request_may_wait_in_its_socket_is_not_closed() {
        let port = Connections::new(1);
        let Admission::Now(slot) = admit(&port) else { panic!("no place") };
        tokio::time::advance(HEARING * 2).await;
        assert!(matches!(admit(&port), Admission::Soon), "a request may wait in its socket");
        slot.is_empty();
        assert!(matches!(admit(&port), Admission::Now(_)));
        assert!(!is_open(&slot));

        let port = Connections::new(1);
        let (raw, client) = pair();
        let Admission::Now(slot) = port.admit(&raw) else { panic!("no place") };
        slot.is_empty();
        assert!(matches!(admit(&port), Admission::Soon), "it has only just come");
        client.writable().await.unwrap();
        client.try_write(b"GET").unwrap();
        tokio::time::advance(HEARING).await;
        assert!(matches!(admit(&port), Admission::Soon), "its request has come");
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_free_when_its_descriptor_is() {
        let port = Connections::new(1);
        let mut slots = Vec::new();
        for _ in 0..=SPARE {
            slots.push(silent(&port).await);
        }
        assert!(port.are_too_many());
        drop(slots);
        assert!(!port.are_too_many());
        assert_eq!(lock(&port.table).waiting.len(), 0);
    }
}
