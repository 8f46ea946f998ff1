use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use farebox_core::metrics::{MetricSeries, SpoolLine, TupleCounter};
use futures_util::FutureExt;

use super::reader::STILL;
use super::*;
use crate::counts::{DropReason, Keys};
use crate::serve::Shared;
use crate::testing::tuple;

const MAX: u64 = 64 * 1024;

/// A folder with a spool and a ledger.
struct Stage {
    folder: tempfile::TempDir,
    ledger: Ledger,
    own: SpoolsOf,
    state: Shared,
    /// What it is when things are done.
    now: Instant,
}

fn requests() -> MetricSeries {
    MetricSeries::Tuple(tuple("ns", "a", 1), TupleCounter::PaymentRequired)
}

/// Each is a nanosecond later than the one before.
fn time() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed)
}

fn line(generation: u64, lost: u64, by: u64) -> String {
    SpoolLine::encode(time(), generation, lost, [(&requests(), by)]).unwrap()
}

/// A step of a reader that has no others beside it.
async fn step(reader: &mut Reader, now: Instant) -> Result<Step, SpoolError> {
    loop {
        match reader.step(now).await? {
            Step::Meets(file) => reader.meet(file, None).await?,
            step => return Ok(step),
        }
    }
}

fn dropped(state: &Shared, reason: DropReason) -> u64 {
    let counts = state.counted.lock().clone();
    state.lock().spools.dropped(&counts, reason)
}

impl Stage {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("spool")).unwrap();
        let ledger = Ledger::open(&Ledger::file_url(&folder.path().join("l.db")), "c1", Default::default())
            .await
            .unwrap();
        let own = SpoolsOf::take_over(&ledger).await.unwrap();
        Self { folder, ledger, own, state: shared(), now: Instant::now() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("spool").join(name)
    }

    fn append(&self, text: impl AsRef<[u8]>) {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(self.path("t"));
        file.unwrap().write_all(text.as_ref()).unwrap();
    }

    /// The reader a companion that starts now has.
    async fn reader(&self) -> Reader {
        let known = self.own.spool("t").await.unwrap();
        let (own, state) = (self.own.clone(), self.state.counted.clone());
        Reader::new(own, state, "t".into(), self.path("t"), MAX / ROTATE_SHARE, known)
    }

    /// Reads until there is nothing to do.
    async fn settle(&self, reader: &mut Reader) {
        while step(reader, self.now).await.unwrap() == Step::Done {}
    }

    /// Those a companion that starts now has.
    async fn spools(&self, settings: SpoolSettings, state: &Shared) -> Spools {
        Spools::open(&self.ledger, settings, state.for_counts()).await.unwrap()
    }

    /// What the ledger has counted.
    async fn counters(&self) -> BTreeMap<MetricSeries, u64> {
        self.ledger.counters().await.unwrap()
    }

    async fn count(&self) -> u64 {
        self.counters().await.get(&requests()).copied().unwrap_or(0)
    }

    async fn total(&self) -> u64 {
        self.counters().await.values().sum()
    }

    fn settings(&self) -> SpoolSettings {
        SpoolSettings { folder: self.folder.path().join("spool"), file: "/spool/t".into(), max_bytes: MAX }
    }
}

#[tokio::test]
async fn lines_are_counted_as_often_as_they_say_and_money_in_them_is_not() {
    let stage = Stage::new().await;
    let mut reader = stage.reader().await;
    assert_eq!(step(&mut reader, stage.now).await.unwrap(), Step::Idle, "a spool may not be there yet");
    let money =
        SpoolLine::encode(time(), 3, 0, [(&MetricSeries::LastSuccess(tuple("ns", "a", 1)), 70)]).unwrap();
    let boot = SpoolLine::encode(time(), 9, 0, [(&MetricSeries::ConfigGeneration, 1)]).unwrap();
    let older = SpoolLine::encode(time(), 8, 0, [(&MetricSeries::ConfigGeneration, 1)]).unwrap();
    stage.append([line(1, 0, 1), line(1, 4, 5), money, boot, older].concat());
    stage.settle(&mut reader).await;
    assert_eq!(stage.counters().await, BTreeMap::from([(requests(), 6)]));
    assert_eq!((reader.known().generation, reader.known().lost), (9, 4));
}

#[tokio::test]
async fn a_line_that_has_not_ended_waits_and_one_that_cannot_be_read_is_counted_as_such() {
    let stage = Stage::new().await;
    let mut reader = stage.reader().await;
    let text = line(1, 0, 1);
    let (start, end) = text.split_at(20);
    stage.append(line(1, 0, 1) + start);
    stage.settle(&mut reader).await;
    assert_eq!(stage.count().await, 1);
    stage.append(end);
    stage.append(b"1\t2\xff\n\n".as_slice());
    stage.append(line(1, 0, 1));
    stage.settle(&mut reader).await;
    assert_eq!((stage.count().await, reader.known().malformed), (3, 2));
    stage.append(vec![b'x'; 2 * 1024 * 1024]);
    stage.append("\n".to_owned() + &line(1, 0, 1));
    stage.settle(&mut reader).await;
    assert_eq!(stage.count().await, 4, "a line without end keeps nobody waiting");
}

/// What happens to a spool while it is read, to its end: two rotations, and a torn line.
async fn story(stage: &mut Stage, mut ends: impl FnMut(usize) -> bool) -> u64 {
    let mut reader = stage.reader().await;
    let mut steps = 0;
    let mut written = 0;
    let mut torn = None;
    let torn_line = line(1, 0, 1);
    let filler = line(1, 0, 1).repeat(usize::try_from(MAX / ROTATE_SHARE).unwrap() / line(1, 0, 1).len());
    for round in 0..30 {
        match round {
            0 | 9 => {
                stage.append(&filler);
                written += filler.lines().count();
            }
            1..=8 | 10..=14 => {
                stage.append(line(1, 0, 1));
                written += 1;
            }
            // A line is written in two pieces, wherever the file is moved between.
            15 => {
                stage.append(&torn_line[..10]);
                torn = std::fs::OpenOptions::new().append(true).open(stage.path("t")).ok();
            }
            16 => {
                torn.take().unwrap().write_all(&torn_line.as_bytes()[10..]).unwrap();
                written += 1;
            }
            _ => {}
        }
        stage.now += Duration::from_millis(900);
        for _ in 0..2 {
            step(&mut reader, stage.now).await.unwrap();
            steps += 1;
            if ends(steps) {
                reader = stage.reader().await;
            }
        }
    }
    // A reader that has just begun does not know for how long a file has been still.
    for _ in 0..2 {
        stage.now += STILL;
        stage.settle(&mut reader).await;
    }
    assert_eq!(reader.known().malformed, 0);
    assert_eq!(stage.reader().await.known(), reader.known(), "the ledger says the same");
    assert_eq!(stage.count().await, written as u64, "each line once");
    written as u64
}

#[tokio::test]
async fn each_line_counts_once_whenever_the_companion_ends() {
    let mut stage = Stage::new().await;
    story(&mut stage, |_| false).await;
    assert!(!stage.path("t~").exists(), "a file that was read to its end is removed");
    for end in 1..=60 {
        story(&mut Stage::new().await, |steps| steps == end).await;
    }
    for every in 1..=4 {
        story(&mut Stage::new().await, |steps| steps % every == 0).await;
    }
}

#[tokio::test]
async fn lines_of_many_writers_count_once_while_the_file_is_moved_away_under_them() {
    const MOVES: usize = 2;
    let stage = Stage::new().await;
    let path = stage.path("t");
    let is_over = Arc::new(AtomicBool::new(false));
    let writing = |_| {
        let (path, is_over) = (path.clone(), is_over.clone());
        std::thread::spawn(move || {
            let mut written = 0;
            while !is_over.load(Ordering::Relaxed) {
                write(&path, 1, &[counted(1)]);
                written += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            written
        })
    };
    let writers: Vec<_> = (0..4).map(writing).collect();
    let mut reader = stage.reader().await;
    for moved in 0..MOVES {
        for is_there in [true, false] {
            while stage.path("t~").exists() != is_there {
                step(&mut reader, Instant::now()).await.unwrap();
            }
        }
        is_over.store(moved + 1 == MOVES, Ordering::Relaxed);
    }
    let written: u64 = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
    let end = Instant::now() + 2 * STILL;
    while Instant::now() < end && stage.total().await < written {
        step(&mut reader, Instant::now()).await.unwrap();
    }
    assert_eq!(stage.counters().await, BTreeMap::from([counted(written)]));
    assert_eq!((reader.known().malformed, reader.known().lost), (0, 0));
}

#[tokio::test]
async fn a_step_that_is_given_up_half_way_counts_nothing_twice() {
    let stage = Stage::new().await;
    let mut reader = stage.reader().await;
    stage.append(line(1, 0, 1));
    stage.settle(&mut reader).await;
    for round in 1..=20 {
        stage.append(line(1, 0, 1));
        // Whether the ledger has it by now or not, the reader does not know.
        let _ = reader.step(stage.now).now_or_never();
        tokio::time::sleep(Duration::from_millis(round % 4)).await;
        stage.append(line(1, 0, 1));
    }
    stage.settle(&mut reader).await;
    assert_eq!(stage.count().await, 41);
    assert_eq!(stage.reader().await.known(), reader.known());
}

#[tokio::test]
async fn a_file_that_vanishes_is_replaced_or_is_cut_goes_on_with_the_next_line() {
    let stage = Stage::new().await;
    let mut reader = stage.reader().await;
    stage.append([line(1, 0, 1), line(1, 0, 1)].concat());
    stage.settle(&mut reader).await;
    std::fs::remove_file(stage.path("t")).unwrap();
    assert_eq!(step(&mut reader, stage.now).await.unwrap(), Step::Idle);
    // Likely with the number of the one before, and longer.
    let first = line(1, 0, 1);
    stage.append([first.clone(), line(1, 0, 1), line(1, 0, 1)].concat());
    stage.settle(&mut reader).await;
    assert_eq!((stage.count().await, reader.notice()), (5, None));
    // What is left of a file that was cut is counted already.
    std::fs::write(stage.path("t"), first).unwrap();
    stage.settle(&mut reader).await;
    assert!(reader.notice().unwrap().contains("was cut"));
    std::fs::write(stage.path("t"), "").unwrap();
    stage.settle(&mut reader).await;
    assert_eq!(stage.count().await, 5);
    stage.append(line(1, 0, 1));
    stage.settle(&mut reader).await;
    assert_eq!(stage.count().await, 6);
    std::fs::write(stage.path("new"), line(1, 0, 1)).unwrap();
    std::fs::rename(stage.path("new"), stage.path("t")).unwrap();
    stage.settle(&mut reader).await;
    stage.settle(&mut stage.reader().await).await;
    assert_eq!(stage.count().await, 7);
}

#[tokio::test]
async fn what_somebody_put_aside_does_not_make_the_spool_count_again() {
    let stage = Stage::new().await;
    let mut reader = stage.reader().await;
    stage.append(line(1, 0, 1));
    stage.settle(&mut reader).await;
    std::fs::write(stage.path("t~"), line(1, 0, 1)).unwrap();
    stage.append(line(1, 0, 1).repeat(400));
    stage.settle(&mut reader).await;
    assert_eq!(stage.count().await, 401);
    assert!(stage.path("t~").exists() && stage.path("t").exists(), "nothing is written over");
}

#[tokio::test]
async fn a_ledger_that_fails_keeps_the_lines_for_later() {
    let stage = Stage::new().await;
    let mut reader = stage.reader().await;
    stage.append(line(1, 0, 1));
    stage.ledger.close().await;
    assert!(matches!(step(&mut reader, stage.now).await, Err(SpoolError::Ledger(_))));
    let url = Ledger::file_url(&stage.folder.path().join("l.db"));
    let ledger = Ledger::open(&url, "c1", Default::default()).await.unwrap();
    let own = SpoolsOf::take_over(&ledger).await.unwrap();
    let stage = Stage { ledger, own, ..stage };
    assert_eq!(stage.count().await, 0);
    let mut reader = stage.reader().await;
    stage.settle(&mut reader).await;
    assert_eq!(stage.count().await, 1);
}

fn keys(names: &[&str]) -> Keys {
    Keys {
        tuples: names.iter().map(|name| tuple("ns", name, 0)).collect(),
        offers: names.iter().map(|name| ("ns".to_owned(), (*name).to_owned())).collect(),
    }
}

fn shared() -> Shared {
    let state = Shared::new("pricing.yaml".into());
    let keys = keys(&["a"]);
    state.counted.lock().apply(keys.births(0, &BTreeMap::new()), keys.offers);
    state
}

/// Appends a line as the plugin does, to the file the path leads to.
fn write(path: &Path, generation: u64, series: &[(MetricSeries, u64)]) {
    let line =
        SpoolLine::encode(time(), generation, 0, series.iter().map(|(series, by)| (series, *by))).unwrap();
    let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
    file.unwrap().write_all(line.as_bytes()).unwrap();
}

fn counted(by: u64) -> (MetricSeries, u64) {
    (MetricSeries::Tuple(tuple("ns", "a", 0), TupleCounter::PaymentRequired), by)
}

#[tokio::test]
async fn every_file_of_the_spools_name_is_one_all_of_them_add_up_and_a_copy_is_none() {
    let stage = Stage::new().await;
    std::fs::create_dir(stage.path("traefik-1")).unwrap();
    std::fs::write(stage.path(".hidden"), "x\n").unwrap();
    let state = shared();
    let spools = stage.spools(stage.settings(), &state).await;
    for name in ["t", "traefik-1/t"] {
        write(&stage.path(name), 5, &[counted(1), (MetricSeries::ConfigGeneration, 1)]);
    }
    // A backup, an editor's, somebody else's.
    for copy in ["t.bak", "traefik-1/t 2", "traefik-1/u"] {
        std::fs::copy(stage.path("t"), stage.path(copy)).unwrap();
    }
    spools.read().await;
    assert_eq!(stage.total().await, 2);
    let names: Vec<_> =
        state.lock().spools.all.iter().map(|spool| (spool.name.clone(), spool.generation)).collect();
    let of = |name: &str, generation| (name.to_owned(), generation);
    let expected = [of("t", Some(5)), of("traefik-1/t", Some(5))];
    assert_eq!(names, expected);

    // The next companion knows no more than the ledger.
    write(&stage.path("t"), 5, &[counted(3)]);
    let state = shared();
    let spools = stage.spools(stage.settings(), &state).await;
    spools.read().await;
    spools.read().await;
    assert_eq!(stage.total().await, 5);
}

#[tokio::test]
async fn lines_that_are_lost_or_damaged_are_told_once_and_stay_told() {
    let stage = Stage::new().await;
    stage.append(line(1, 0, 1) + "damaged\n");
    for _ in 0..2 {
        let state = shared();
        let spools = stage.spools(stage.settings(), &state).await;
        spools.read().await;
        spools.read().await;
        assert_eq!(dropped(&state, DropReason::Malformed), 1);
        assert_eq!(dropped(&state, DropReason::Lost), 0);
        assert_eq!(stage.total().await, 1);
    }
    stage.append(line(1, 2, 1));
    for _ in 0..2 {
        let state = shared();
        let spools = stage.spools(stage.settings(), &state).await;
        spools.read().await;
        assert_eq!((stage.total().await, dropped(&state, DropReason::Lost)), (2, 2));
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_read_is_said() {
    let stage = Stage::new().await;
    let state = shared();
    let settings = SpoolSettings { folder: stage.path("missing"), ..stage.settings() };
    let spools = stage.spools(settings.clone(), &state).await;
    spools.read().await;
    assert!(state.lock().spools.error.as_ref().unwrap().contains("missing"));
    std::fs::create_dir(settings.folder).unwrap();
    spools.read().await;
    assert_eq!(state.lock().spools.error, None);
}

#[tokio::test]
async fn of_two_companions_of_one_name_the_last_one_started_reads() {
    let stage = Stage::new().await;
    let mut old = stage.reader().await;
    stage.append(line(1, 0, 1));
    stage.settle(&mut old).await;
    let own = SpoolsOf::take_over(&stage.ledger).await.unwrap();
    let stage = Stage { own, ..stage };
    let mut new = stage.reader().await;
    stage.append(line(1, 0, 1));
    assert!(matches!(
        step(&mut old, stage.now).await,
        Err(SpoolError::Ledger(LedgerError::Superseded { .. }))
    ));
    stage.settle(&mut new).await;
    assert_eq!(stage.count().await, 2);
}

#[tokio::test]
async fn a_spool_with_a_new_or_a_second_name_is_not_counted_again() {
    let stage = Stage::new().await;
    let state = shared();
    let spools = stage.spools(stage.settings(), &state).await;
    let [first, second, third] = ["a/t", "b/t", "c/t"].map(|name| stage.path(name));
    for folder in ["a", "c"] {
        std::fs::create_dir(stage.path(folder)).unwrap();
    }
    write(&first, 5, &[counted(1)]);
    spools.read().await;
    std::fs::rename(stage.path("a"), stage.path("b")).unwrap();
    write(&second, 5, &[counted(2)]);
    spools.read().await;
    let (series, _) = counted(0);
    assert_eq!(stage.counters().await[&series], 3);
    std::fs::hard_link(&second, &third).unwrap();
    write(&third, 5, &[counted(4)]);
    spools.read().await;
    assert_eq!(stage.counters().await[&series], 7);
    assert_eq!(error_of(&state, "c/t"), "it is the file of b/t: it is not counted twice, remove one");
    assert!(state.lock().spools.all.iter().all(|spool| spool.name == "c/t" || spool.last_error.is_none()));
}

fn error_of(state: &Shared, name: &str) -> String {
    let state = state.lock();
    let spool = state.spools.all.iter().find(|spool| spool.name == name).unwrap();
    spool.last_error.clone().unwrap_or_default()
}

/// A folder with copies of these spools.
fn back_up(stage: &Stage, folders: &[&str]) -> PathBuf {
    let to = stage.folder.path().join("backup");
    for folder in folders {
        std::fs::create_dir_all(to.join(folder)).unwrap();
        std::fs::copy(stage.path(folder).join("t"), to.join(folder).join("t")).unwrap();
    }
    to
}

#[tokio::test]
async fn a_copy_is_not_counted_again_and_what_is_added_to_it_is() {
    let stage = Stage::new().await;
    let state = shared();
    let spools = stage.spools(stage.settings(), &state).await;
    for folder in ["a", "b"] {
        std::fs::create_dir(stage.path(folder)).unwrap();
    }
    let [original, copy] = ["a/t", "b/t"].map(|name| stage.path(name));
    write(&original, 5, &[counted(1)]);
    spools.read().await;
    // One that was written meanwhile is in both.
    write(&original, 5, &[counted(10)]);
    std::fs::copy(&original, &copy).unwrap();
    spools.read().await;
    assert_eq!(stage.total().await, 11);
    assert!(error_of(&state, "b/t").contains("is a copy of the spool a/t"), "{}", error_of(&state, "b/t"));
    write(&original, 5, &[counted(100)]);
    write(&copy, 5, &[counted(1_000)]);
    spools.read().await;
    assert_eq!(stage.total().await, 1_111);
    // The original is read to its end and gone, and so is the companion: its copy is known all the same.
    let late = back_up(&stage, &["a"]);
    std::fs::remove_file(copy).unwrap();
    let filler = line(1, 0, 0).repeat(usize::try_from(MAX / ROTATE_SHARE).unwrap() / 40);
    std::fs::OpenOptions::new().append(true).open(&original).unwrap().write_all(filler.as_bytes()).unwrap();
    for _ in 0..4 {
        spools.read().await;
        tokio::time::sleep(STILL / 2).await;
    }
    assert!(!original.exists());
    let state = shared();
    let spools = stage.spools(stage.settings(), &state).await;
    std::fs::create_dir(stage.path("c")).unwrap();
    std::fs::rename(late.join("a/t"), stage.path("c/t")).unwrap();
    spools.read().await;
    assert_eq!(stage.total().await, 1_111);
    assert!(error_of(&state, "c/t").contains("was read before, as the spool "));
    write(&stage.path("c/t"), 5, &[counted(10_000)]);
    spools.read().await;
    assert_eq!(stage.total().await, 11_111);
}

#[tokio::test]
async fn a_backup_that_is_put_back_is_named_and_not_counted_again() {
    let stage = Stage::new().await;
    let state = shared();
    let spools = stage.spools(stage.settings(), &state).await;
    let spool = stage.path("a/t");
    std::fs::create_dir(stage.path("a")).unwrap();
    write(&spool, 5, &[counted(1)]);
    let early = back_up(&stage, &["a"]).join("a/t");
    write(&spool, 5, &[counted(10)]);
    spools.read().await;
    assert_eq!(stage.total().await, 11);
    std::fs::copy(&early, &spool).unwrap();
    spools.read().await;
    assert!(error_of(&state, "a/t").contains("an older copy of it was put back"));
    // Another file was read there since, by this companion or the next.
    for add in [100, 1_000] {
        std::fs::remove_file(&spool).unwrap();
        write(&spool, 5, &[counted(add)]);
        spools.read().await;
        assert_eq!(error_of(&state, "a/t"), "");
        std::fs::copy(&early, stage.path("new")).unwrap();
        std::fs::rename(stage.path("new"), &spool).unwrap();
        spools.read().await;
        let error = error_of(&state, "a/t");
        assert!(error.contains("was read before, as the spool a/t of the companion c1"), "{error}");
    }
    assert_eq!(stage.total().await, 1_111);
    // Of a companion with another name as well.
    let url = Ledger::file_url(&stage.folder.path().join("l.db"));
    let ledger = Ledger::open(&url, "c2", Default::default()).await.unwrap();
    let stage = Stage { ledger, ..stage };
    let spools = stage.spools(stage.settings(), &state).await;
    spools.read().await;
    write(&spool, 5, &[counted(10_000)]);
    spools.read().await;
    assert_eq!(stage.total().await, 11_111);
}

#[tokio::test]
async fn a_companion_whose_spools_another_took_over_says_so_also_where_nothing_is_written() {
    let stage = Stage::new().await;
    let state = shared();
    let spools = stage.spools(stage.settings(), &state).await;
    write(&stage.path("t"), 5, &[counted(1)]);
    spools.read().await;
    assert_eq!(state.lock().spools.error, None);
    // It takes the spools over, and is gone.
    drop(SpoolsOf::take_over(&stage.ledger).await.unwrap());
    spools.read().await;
    let error = state.lock().spools.error.clone().unwrap();
    assert!(error.starts_with("another companion of the name `c1` reads its spools"), "{error}");
}
