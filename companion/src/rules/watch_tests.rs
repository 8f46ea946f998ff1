use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

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

async fn nothing_more(watch: &mut Watch) {
    let more = tokio::time::timeout(Duration::from_millis(1500), watch.next()).await;
    assert!(more.is_err(), "an unasked candidate: {more:?}");
}

#[tokio::test]
async fn a_rename_over_the_file_is_seen_quickly() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pricing.yaml");
    std::fs::write(&path, "one\n").unwrap();
    let mut watch = started(&path).await;
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
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pricing.yaml");
    std::fs::write(&path, "one\n").unwrap();
    let mut watch = started(&path).await;
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
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pricing.yaml");
    std::fs::write(&path, "one\n").unwrap();
    let mut watch = started(&path).await;
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
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pricing.yaml");
    std::fs::write(&path, "one\n").unwrap();
    let mut watch = started(&path).await;
    std::fs::write(&path, "one\n").unwrap();
    std::fs::write(folder.path().join("another"), "x").unwrap();
    nothing_more(&mut watch).await;
}

#[tokio::test(start_paused = true)]
async fn a_file_that_ends_in_the_middle_of_a_line_is_not_believed_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pricing.yaml");
    std::fs::write(&path, "one\n").unwrap();
    let mut watch = started(&path).await;
    std::fs::write(&path, "price: 1").unwrap();
    // The future may be dropped again and again.
    for _ in 0..9 {
        let half = tokio::time::timeout(Duration::from_secs(1), watch.next()).await;
        assert!(half.is_err(), "half a file is taken: {half:?}");
    }
    std::fs::write(&path, "price: 10\n").unwrap();
    assert_eq!(next(&mut watch).await, Ok("price: 10\n".to_owned()));
    // Some editors never end a last line.
    std::fs::write(&path, "price: 2").unwrap();
    let whole = tokio::time::timeout(Duration::from_secs(12), watch.next()).await;
    assert_eq!(whole, Ok(Ok("price: 2".to_owned())));
}
