use std::fs::File;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::watch::{Candidate, Watch, watch};

/// Longest time until a change is seen, polling included.
const LIMIT: Duration = Duration::from_secs(5);

async fn next(watch: &mut Watch) -> Candidate {
    tokio::time::timeout(LIMIT, watch.next()).await.expect("the change was not seen")
}

async fn started(path: &Path) -> Watch {
    let mut watch = watch(path.to_owned());
    assert_eq!(next(&mut watch).await, Ok("one\n".to_owned()));
    watch
}

/// A file of its own, which was read once.
async fn watching() -> (TempDir, PathBuf, Watch) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pricing.yaml");
    std::fs::write(&path, "one\n").unwrap();
    let watch = started(&path).await;
    (folder, path, watch)
}

async fn nothing_more(watch: &mut Watch) {
    let more = tokio::time::timeout(Duration::from_millis(1500), watch.next()).await;
    assert!(more.is_err(), "an unasked candidate: {more:?}");
}

#[tokio::test]
async fn a_rename_over_the_file_is_seen_quickly() {
    let (folder, path, mut watch) = watching().await;
    let written = folder.path().join("new");
    std::fs::write(&written, "two\n").unwrap();
    let start = Instant::now();
    std::fs::rename(&written, &path).unwrap();
    assert_eq!(next(&mut watch).await, Ok("two\n".to_owned()));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    nothing_more(&mut watch).await;
}

#[tokio::test]
async fn an_edit_in_place_is_seen_once_it_is_complete() {
    let (_folder, path, mut watch) = watching().await;
    let edit = tokio::spawn({
        let path = path.clone();
        async move {
            for text in ["", "t", "tw", "two\n"] {
                std::fs::write(&path, text).unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    assert_eq!(next(&mut watch).await, Ok("two\n".to_owned()));
    edit.await.unwrap();
    nothing_more(&mut watch).await;
}

#[tokio::test]
async fn a_config_map_symlink_swap_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (version, text) in [("..v1", "one\n"), ("..v2", "two\n")] {
        std::fs::create_dir(at(version)).unwrap();
        std::fs::write(at(version).join("pricing.yaml"), text).unwrap();
    }
    symlink("..v1", at("..data")).unwrap();
    symlink("..data/pricing.yaml", at("pricing.yaml")).unwrap();
    let mut watch = started(&at("pricing.yaml")).await;
    symlink("..v2", at("..data_tmp")).unwrap();
    std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
    std::fs::remove_dir_all(at("..v1")).unwrap();
    assert_eq!(next(&mut watch).await, Ok("two\n".to_owned()));
}

#[tokio::test]
async fn a_change_behind_a_link_to_another_folder_is_seen_by_polling() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (path, target) = (folder.path().join("pricing.yaml"), elsewhere.path().join("real.yaml"));
    std::fs::write(&target, "one\n").unwrap();
    symlink(&target, &path).unwrap();
    let mut watch = started(&path).await;
    std::fs::write(&target, "two\n").unwrap();
    assert_eq!(next(&mut watch).await, Ok("two\n".to_owned()));
}

#[tokio::test]
async fn a_change_that_keeps_the_modification_time_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pricing.yaml");
    std::fs::write(&path, "one\n").unwrap();
    let before = std::fs::metadata(&path).unwrap().modified().unwrap();
    let mut watch = started(&path).await;
    std::fs::write(&path, "two\n").unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
    assert_eq!(next(&mut watch).await, Ok("two\n".to_owned()));
}

#[tokio::test]
async fn a_vanished_file_is_an_error_and_its_return_a_candidate() {
    let (_folder, path, mut watch) = watching().await;
    std::fs::remove_file(&path).unwrap();
    let error = next(&mut watch).await.unwrap_err();
    assert!(error.contains("pricing.yaml: cannot be read: "), "{error}");
    nothing_more(&mut watch).await;
    std::fs::write(&path, "one\n").unwrap();
    assert_eq!(next(&mut watch).await, Ok("one\n".to_owned()));
}

#[tokio::test]
async fn a_file_that_is_not_text_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pricing.yaml");
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    let error = next(&mut watch(path)).await.unwrap_err();
    assert!(error.contains("UTF-8"), "{error}");
}

#[tokio::test]
async fn touching_the_file_is_no_change() {
    let (folder, path, mut watch) = watching().await;
    std::fs::write(&path, "one\n").unwrap();
    std::fs::write(folder.path().join("another"), "x").unwrap();
    nothing_more(&mut watch).await;
}

#[tokio::test]
async fn what_somebody_is_writing_is_not_believed_however_slowly() {
    let (_folder, path, mut watch) = watching().await;
    let mut open = File::options().append(true).open(&path).unwrap();
    for line in ["two\n", "three\n"] {
        open.write_all(line.as_bytes()).unwrap();
        nothing_more(&mut watch).await;
        assert!(watch.written_since().is_some());
    }
    drop(open);
    assert_eq!(next(&mut watch).await, Ok("one\ntwo\nthree\n".to_owned()));
    assert_eq!(watch.written_since(), None);
}

#[tokio::test]
async fn a_new_file_is_believed_when_whoever_created_it_has_closed_it() {
    let (folder, path, mut watch) = watching().await;
    std::fs::remove_file(&path).unwrap();
    assert!(next(&mut watch).await.is_err());
    let mut created = File::create(&path).unwrap();
    created.write_all(b"two\n").unwrap();
    nothing_more(&mut watch).await;
    // A rename replaces the file, so writes to the old file do not matter.
    let renamed = folder.path().join("new");
    std::fs::write(&renamed, "three\n").unwrap();
    std::fs::rename(&renamed, &path).unwrap();
    assert_eq!(next(&mut watch).await, Ok("three\n".to_owned()));
    created.write_all(b"more\n").unwrap();
    nothing_more(&mut watch).await;
}

#[tokio::test]
async fn what_is_written_behind_a_link_is_not_believed_before_it_is_closed() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (path, target) = (folder.path().join("pricing.yaml"), elsewhere.path().join("real.yaml"));
    std::fs::write(&target, "one\n").unwrap();
    symlink(&target, &path).unwrap();
    let mut watch = started(&path).await;
    let mut open = File::options().append(true).open(&target).unwrap();
    open.write_all(b"two\n").unwrap();
    nothing_more(&mut watch).await;
    drop(open);
    assert_eq!(next(&mut watch).await, Ok("one\ntwo\n".to_owned()));
}

#[tokio::test]
async fn what_is_asked_for_again_is_a_candidate_though_nothing_changed() {
    let (_folder, _, mut watch) = watching().await;
    watch.forget();
    assert_eq!(next(&mut watch).await, Ok("one\n".to_owned()));
    nothing_more(&mut watch).await;
}

#[tokio::test]
async fn a_pipe_in_place_of_the_file_is_an_error_and_nobody_waits_for_it() {
    let (_folder, path, mut watch) = watching().await;
    std::fs::remove_file(&path).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let error = next(&mut watch).await.unwrap_err();
    assert!(error.contains("cannot be read: it is not a regular file"), "{error}");
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "two\n").unwrap();
    assert_eq!(next(&mut watch).await, Ok("two\n".to_owned()));
}

/// The renamed file is still open, another program has closed it, and the watch begins in the middle of a write: nothing
/// but the kernel knows.
#[tokio::test]
async fn a_file_is_not_believed_while_any_program_has_it_open_for_writing() {
    let folder = tempfile::tempdir().unwrap();
    let (path, next_file) = (folder.path().join("pricing.yaml"), folder.path().join("new"));
    std::fs::write(&path, "one\n").unwrap();
    let mut watch = started(&path).await;

    let mut renamed = File::create(&next_file).unwrap();
    renamed.write_all(b"two\n").unwrap();
    std::fs::rename(&next_file, &path).unwrap();
    nothing_more(&mut watch).await;
    drop(File::options().append(true).open(&path).unwrap());
    nothing_more(&mut watch).await;
    let mut late = super::watch::watch(path.clone());
    nothing_more(&mut late).await;
    assert!(watch.written_since().is_some() && late.written_since().is_some());

    renamed.write_all(b"three\n").unwrap();
    drop(renamed);
    for watch in [&mut watch, &mut late] {
        assert_eq!(next(watch).await, Ok("two\nthree\n".to_owned()));
        assert_eq!(watch.written_since(), None);
    }
}

#[tokio::test]
async fn a_file_that_was_cut_by_its_name_is_believed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pricing.yaml");
    std::fs::write(&path, "one\ntwo\n").unwrap();
    let mut watch = watch(path.clone());
    assert_eq!(next(&mut watch).await, Ok("one\ntwo\n".to_owned()));
    assert!(std::process::Command::new("truncate").arg("-s4").arg(&path).status().unwrap().success());
    assert_eq!(next(&mut watch).await, Ok("one\n".to_owned()));
}
