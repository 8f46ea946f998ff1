//! The one writer of a ledger: takes all steps that wait, commits them together, and answers those that need not be on
//! disk. The others are answered by the [`Flusher`], while the next batch is committed.
//!
//! Steps of one key keep their order. A batch that fails leaves no transaction behind, since its connection is closed.
//! Whoever waits gets the error. A step nobody waits for is kept and comes first in the next batch.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{error, warn};

use super::batch::Wanted;
use super::commit::{Committed, Committer, Fault};
use super::flush::{Flusher, Pending};
use super::sql::MOST;
use super::{LedgerError, Stepped};

/// The answer of a step.
pub(super) type Reply = oneshot::Sender<Result<Stepped, LedgerError>>;

/// What the writer is asked for.
#[derive(Debug)]
pub(super) enum Message {
    /// A step; nobody waits for a note.
    Step(Box<Wanted>, Option<Reply>),
    /// Whether it can write.
    Probe(oneshot::Sender<Result<(), LedgerError>>),
    /// To end, once everything before this is done.
    Close(oneshot::Sender<()>),
}

/// The writer.
#[derive(Debug)]
pub(super) struct Writer {
    queue: mpsc::UnboundedReceiver<Message>,
    committer: Committer,
    /// What has to get to the disk.
    flushes: mpsc::UnboundedSender<Pending>,
    flusher: JoinHandle<()>,
    /// Notes that could not be written yet.
    kept: Vec<Wanted>,
    /// How many of them the log knows of.
    told: usize,
}

/// What a round works on.
#[derive(Debug, Default)]
struct Round {
    steps: Vec<Wanted>,
    replies: Vec<Option<Reply>>,
    probes: Vec<oneshot::Sender<Result<(), LedgerError>>>,
    close: Option<oneshot::Sender<()>>,
}

/// How long a batch may take. Less than a proxy waits, also for the batch after this, so that it is told why.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long finding out may take whether a commit arrived whose answer did not.
const DOUBT_PATIENCE: Duration = Duration::from_secs(1);
/// Pause before notes are tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// How often a batch is tried that was in another's way.
const ATTEMPTS: u32 = 8;

// === impl Writer ===

impl Writer {
    pub(super) fn new(queue: mpsc::UnboundedReceiver<Message>, committer: Committer) -> Self {
        let (flushes, waiting) = mpsc::unbounded_channel();
        let flusher =
            Flusher::new(committer.place.clone(), &committer.companion, Arc::clone(&committer.shared));
        let flusher = tokio::spawn(flusher.run(waiting));
        Self { queue, committer, flushes, flusher, kept: Vec::new(), told: 0 }
    }

    /// Writes until it is closed, or until nobody is left who could ask.
    pub(super) async fn run(mut self) {
        while let Some(mut round) = self.next().await {
            let close = round.close.take();
            self.act(round).await;
            if let Some(closed) = close {
                self.queue.close();
                while let Some(round) = self.rest() {
                    self.act(round).await;
                }
                drop(self.flushes);
                let _ = self.flusher.await;
                self.committer.disconnect().await;
                let _ = closed.send(());
                break;
            }
        }
        for wanted in self.kept {
            error!(key = ?wanted.key, event = ?wanted.event, "the ledger ends before this could be written");
        }
    }

    /// Everything that waits, as soon as something does.
    async fn next(&mut self) -> Option<Round> {
        let first = if self.kept.is_empty() {
            Some(self.queue.recv().await?)
        } else {
            match timeout(AGAIN, self.queue.recv()).await {
                Ok(message) => Some(message?),
                Err(_) => None,
            }
        };
        drop(self.committer.shared.flushing.lock().await);
        self.gather().await;
        Some(self.round(first))
    }

    /// Lets whoever is ready to ask do so first, because a batch costs as much as many of its steps.
    async fn gather(&mut self) {
        let mut waiting = self.queue.len();
        loop {
            tokio::task::yield_now().await;
            let more = self.queue.len();
            if more <= waiting || more >= MOST {
                return;
            }
            waiting = more;
        }
    }

    /// What is left after the queue was closed.
    fn rest(&mut self) -> Option<Round> {
        let first = self.queue.try_recv().ok()?;
        Some(self.round(Some(first)))
    }

    fn round(&mut self, first: Option<Message>) -> Round {
        let mut round = Round::default();
        round.steps.append(&mut self.kept);
        round.replies.resize_with(round.steps.len(), || None);
        let mut message = first;
        while let Some(next) = message {
            match next {
                Message::Step(wanted, reply) => {
                    round.steps.push(*wanted);
                    round.replies.push(reply);
                }
                Message::Probe(reply) => round.probes.push(reply),
                Message::Close(closed) => {
                    round.close = Some(closed);
                    break;
                }
            }
            let is_full = round.steps.len() >= MOST;
            message = if is_full { None } else { self.queue.try_recv().ok() };
        }
        round
    }

    async fn act(&mut self, round: Round) {
        let Round { steps, replies, probes, close: _ } = round;
        if !steps.is_empty() {
            match self.commit(&steps).await {
                Ok(committed) => {
                    self.told = 0;
                    self.committed(committed, replies);
                }
                Err(error) => self.failed(steps, replies, &error),
            }
        }
        for reply in probes {
            let probed = match timeout(PATIENCE, self.committer.probe()).await {
                Ok(probed) => probed,
                Err(_) => Err(self.committer.silent(PATIENCE)),
            };
            match probed {
                Ok(()) => self.flush(Pending { probes: vec![reply], ..Pending::default() }),
                Err(error) => {
                    self.committer.failed();
                    self.committer.disconnect().await;
                    let _ = reply.send(Err(error));
                }
            }
        }
    }

    /// Answers what may be answered by now.
    fn committed(&self, committed: Committed, replies: Vec<Option<Reply>>) {
        let mut pending = Pending { mark: committed.mark, ..Pending::default() };
        let mut is_pending = false;
        for (stepped, reply) in committed.stepped.into_iter().zip(replies) {
            let lasts = stepped.as_ref().is_ok_and(|stepped| stepped.lasts);
            is_pending |= lasts;
            match (stepped, reply) {
                (Ok(stepped), Some(reply)) if lasts => pending.answers.push((stepped, reply)),
                // Whoever asked may have left.
                (stepped, Some(reply)) => drop(reply.send(stepped)),
                (Err(error), None) => error!("a step nobody waits for is lost: {error}"),
                (Ok(_), None) => {}
            }
        }
        if is_pending {
            self.flush(pending);
        }
    }

    fn flush(&self, pending: Pending) {
        // The flusher ends after this does.
        let _ = self.flushes.send(pending);
    }

    /// Commits these steps, or nothing.
    async fn commit(&mut self, steps: &[Wanted]) -> Result<Committed, LedgerError> {
        let end = Instant::now() + PATIENCE;
        let mut attempt = 1;
        let error = loop {
            let fault = match timeout_at(end, self.committer.commit(steps)).await {
                Ok(Ok(committed)) => return Ok(committed),
                Ok(Err(fault)) => fault,
                Err(_) => Fault::Lost(self.committer.silent(PATIENCE)),
            };
            self.committer.disconnect().await;
            let may_try_again = match &fault {
                Fault::InTheWay(_) => attempt < ATTEMPTS,
                // One that was open for long may have been cut; a new one tells why, or works.
                Fault::Lost(_) => attempt == 1,
                Fault::Failed(_) => false,
            };
            match timeout(DOUBT_PATIENCE, self.committer.arrived()).await {
                Ok(Ok(Some(committed))) => return Ok(committed),
                Ok(Ok(None)) if may_try_again && Instant::now() < end => attempt += 1,
                Ok(Ok(None)) => break fault.into_error(),
                Ok(Err(_)) | Err(_) => {
                    self.committer.disconnect().await;
                    break fault.into_error();
                }
            }
        };
        self.committer.failed();
        Err(error)
    }

    fn failed(&mut self, steps: Vec<Wanted>, replies: Vec<Option<Reply>>, error: &LedgerError) {
        for (wanted, reply) in steps.into_iter().zip(replies) {
            match reply {
                Some(reply) => drop(reply.send(Err(error.clone()))),
                None => self.kept.push(wanted),
            }
        }
        if self.kept.len() > self.told {
            self.told = self.kept.len();
            warn!("{} steps nobody waits for are not written yet: {error}", self.told);
        }
    }
}
