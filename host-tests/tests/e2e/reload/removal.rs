//! An offer that is removed from the file: its path is closed and its series are gone, within two seconds of
//! the change.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Instant;

use farebox_testkit::stack::{Options, Pricing};

use crate::reload::buyer::Buyer;
use crate::reload::metrics::{families_of, of_offer, sum};
use crate::reload::pricing::{file, paid};
use crate::reload::stage::{BOUND, Stage};

/// Enough to have some on each worker, nearly always.
const CONNECTIONS: usize = 6;

/// A folder as Kubernetes mounts a ConfigMap: `pricing.yaml` → `..data/pricing.yaml`, `..data` → a version.
struct ConfigMap {
    folder: tempfile::TempDir,
    version: u32,
}

impl ConfigMap {
    fn mount(text: &str) -> Self {
        let mut map = Self { folder: tempfile::tempdir().unwrap(), version: 0 };
        map.swap(text);
        symlink("..data/pricing.yaml", map.path()).unwrap();
        map
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("pricing.yaml")
    }

    /// Replaces the content as the kubelet does.
    fn swap(&mut self, text: &str) {
        self.version += 1;
        let version = format!("..version_{}", self.version);
        std::fs::create_dir(self.folder.path().join(&version)).unwrap();
        std::fs::write(self.folder.path().join(&version).join("pricing.yaml"), text).unwrap();
        let link = self.folder.path().join("..data_tmp");
        symlink(version, &link).unwrap();
        std::fs::rename(link, self.folder.path().join("..data")).unwrap();
    }
}

fn replace(path: &Path, text: &str) {
    let next = path.with_extension("next");
    std::fs::write(&next, text).unwrap();
    std::fs::rename(next, path).unwrap();
}

/// Waits until every trace of an offer is gone, on either worker, and checks when that was.
async fn gone(stage: &Stage, changed: Instant, offer: &str) {
    let path = format!("/{offer}/api");
    let buyers: Vec<Buyer> = (0..CONNECTIONS).map(|_| stage.buyer()).collect();
    let before = stage.hits(&path);
    let is_gone = async || {
        for buyer in &buyers {
            let reply = buyer.ask(&path).await.unwrap();
            match reply.status {
                402 => return false,
                404 => assert_eq!(reply.reason().as_deref(), Some("unmatched")),
                other => panic!("{offer}: {other}"),
            }
        }
        families_of(&stage.page().await, offer).is_empty()
    };
    stage.until(&format!("{offer} is gone"), is_gone).await;
    let took = changed.elapsed();
    assert!(took < BOUND, "{offer} was gone after {took:?}");
    assert_eq!(stage.hits(&path), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_offer_is_closed_and_its_series_are_gone_within_two_seconds() {
    let offers = ["kept", "by-swap", "by-rename", "by-edit"];
    let with =
        |count: usize| file(&offers[..count].iter().map(|offer| paid(offer, "0.001")).collect::<Vec<_>>());
    let mut map = ConfigMap::mount(&with(4));
    let pricing = Pricing::File(map.path());
    let mut stage = Stage::with(Options { pricing, ..Options::priced("") }).await;
    let buyer = stage.buyer();
    for offer in offers {
        let path = format!("/{offer}/api");
        let terms = buyer.terms(&path).await.unwrap();
        assert_eq!(buyer.pay(&path, &terms).await.unwrap().status, 200);
        assert!(families_of(&stage.counted().await, offer).len() > 10);
    }

    let changed = Instant::now();
    map.swap(&file(&[paid("kept", "0.001"), paid("by-rename", "0.001"), paid("by-edit", "0.001")]));
    gone(&stage, changed, "by-swap").await;
    stage.reloaded().await;

    // A file replaces the link; from here on it is an ordinary file.
    let changed = Instant::now();
    replace(&map.path(), &file(&[paid("kept", "0.001"), paid("by-edit", "0.001")]));
    gone(&stage, changed, "by-rename").await;
    stage.reloaded().await;

    let changed = Instant::now();
    std::fs::write(map.path(), with(1)).unwrap();
    gone(&stage, changed, "by-edit").await;

    let page = stage.counted().await;
    assert_eq!(of_offer(&page, "requests_total", "kept"), 2);
    assert_eq!(of_offer(&page, "charged_requests_total", "kept"), 1);
    assert_eq!(sum(&page, "offers_loaded", &[]), 1);
}
