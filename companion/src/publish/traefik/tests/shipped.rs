//! Tests of the files that an operator copies.

use super::*;
use crate::settings::{Flags, Settings, SettingsFile};

fn shipped(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../traefik");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

#[test]
fn the_dynamic_configuration_shipped_is_what_the_companion_publishes_for_the_files_beside_it() {
    let loaded = farebox_pricing::load(&shipped("pricing.yaml"));
    assert_eq!(loaded.findings, []);
    let snapshot = loaded.snapshot.unwrap();
    let flags = Flags { route_source: "file".into(), ..Flags::default() };
    let settings = Settings::resolve(SettingsFile::parse(&shipped("farebox.yaml")).unwrap(), flags).unwrap();
    let endpoint = settings.facilitator.endpoint(snapshot.facilitator_url.as_deref(), true).unwrap();
    let births = snapshot.tuples.iter().map(|tuple| (tuple.clone(), 0)).collect();
    let v1_kinds = BTreeSet::from(["eip155:84532".to_owned()]);
    let rules = snapshot.push(1, &settings.pushed_filter(), &endpoint, &births, &v1_kinds);
    let published = body::of(&rules, &snapshot.upstreams, &settings.traefik.unwrap());
    let file = shipped("dynamic.yaml");
    let (comments, text) = file.split_at(file.find('{').unwrap());
    assert!(comments.lines().all(|line| line.starts_with('#')), "{comments}");
    assert_eq!(text, published);
}

#[test]
fn the_static_configuration_and_the_settings_shipped_name_the_same_places() {
    let fixed: Value = serde_saphyr::from_str(&shipped("traefik.yaml")).unwrap();
    let settings: Value = serde_saphyr::from_str(&shipped("farebox.yaml")).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let ours = &settings["traefik"];
    for entry in ours["entryPoints"].as_array().unwrap() {
        assert!(fixed["entryPoints"].get(text(entry)).is_some(), "{entry}");
    }
    let endpoint = format!("http://{}/traefik", text(&settings["listen"]));
    assert_eq!(fixed["providers"]["http"]["endpoint"], endpoint);
    assert_eq!(ours["gateway"], format!("http://{}", text(&settings["gateway"]["listen"])));
    assert_eq!(ours["api"], format!("http://{}", text(&fixed["entryPoints"]["traefik"]["address"])));
    let mount = text(&fixed["experimental"]["localPlugins"]["farebox"]["settings"]["mounts"][0]);
    let (outside, inside) = mount.split_once(':').unwrap();
    assert_eq!(Path::new(outside).parent().unwrap(), Path::new(&text(&ours["spool"]["folder"])));
    assert_eq!(Path::new(&text(&ours["spool"]["file"])).parent().unwrap(), Path::new(inside));
}
