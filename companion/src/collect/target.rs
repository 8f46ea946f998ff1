//! The proxies that are read: those of the settings, and those names stand for at present.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::discovery::Answer;
use crate::settings::Proxy;

/// A proxy that is read.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) proxy: Proxy,
    /// The name it was found under, by its place in the settings; `None` if it is listed itself.
    found_by: Option<usize>,
    found_at: Instant,
    /// When its last complete reading began. Locked while one is under way.
    last: Mutex<Option<Instant>>,
    fate: std::sync::Mutex<Fate>,
}

/// What decides whether a found proxy is still read.
#[derive(Debug, Default, Clone, Copy)]
struct Fate {
    /// Since when its name does not stand for it any more.
    left: Option<Instant>,
    /// The name could not be looked up.
    unanswered: bool,
    last_success: Option<Instant>,
    failed: bool,
}

/// A proxy that left its name, because it is told to end or is not ready, may still count: it is read until it
/// stops answering, and no longer than this, for its address may pass to somebody else.
const AFTERLIFE: Duration = Duration::from_secs(600);

// === impl Target ===

impl Target {
    pub(super) fn new(proxy: Proxy, found_by: Option<usize>) -> Self {
        Self {
            proxy,
            found_by,
            found_at: Instant::now(),
            last: Mutex::new(None),
            fate: std::sync::Mutex::default(),
        }
    }

    /// Runs `read` unless a reading that began after this call was made has been completed meanwhile.
    pub(super) async fn share(&self, read: impl Future<Output = bool>) {
        let arrived = Instant::now();
        let mut last = self.last.lock().await;
        if last.is_some_and(|began| began > arrived) {
            return;
        }
        let began = Instant::now();
        let succeeded = read.await;
        *last = Some(began);
        self.with_fate(|fate| {
            fate.failed = !succeeded;
            if succeeded {
                fate.last_success = Some(began);
            }
        });
    }

    /// Whether its last reading failed.
    pub(super) fn has_failed(&self) -> bool {
        self.with_fate(|fate| fate.failed)
    }

    /// Hears what its name stands for now.
    pub(super) fn hear(&self, answers: &[Answer]) {
        let Some(answer) = self.found_by.and_then(|index| answers.get(index)) else { return };
        self.with_fate(|fate| {
            fate.unanswered = matches!(answer, Answer::Failed(_));
            match answer {
                Answer::Proxies(found) if found.contains(&self.proxy) => fate.left = None,
                Answer::Proxies(_) => drop(fate.left.get_or_insert_with(Instant::now)),
                // A resolver that is away takes nobody with it.
                Answer::Failed(_) => {}
            }
        });
    }

    /// Whether it is to be read no more.
    pub(super) fn is_over(&self) -> bool {
        let fate = self.with_fate(|fate| *fate);
        let silence = fate.last_success.unwrap_or(self.found_at).elapsed();
        match fate.left {
            Some(left) => fate.failed || left.elapsed() > AFTERLIFE,
            None => fate.unanswered && fate.failed && silence > AFTERLIFE,
        }
    }

    fn with_fate<T>(&self, with: impl FnOnce(&mut Fate) -> T) -> T {
        with(&mut self.fate.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}
