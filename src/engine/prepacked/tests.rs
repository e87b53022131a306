use std::path::{Path, PathBuf};

use super::entry::{ENTRY_FILE, Entry, GRAPH_FILE, WEIGHTS_FILE};
use super::key::Key;
use super::room::{WORK_PREFIX, cached_graphs, clear_cache, make_room};
use super::*;
use crate::engine::runtime::{self, RuntimeInfo};

const GRAPH: &str = "llm.onnx";

fn loaded() -> &'static Loaded {
    runtime::load(&Default::default(), &mut |_| {}).unwrap()
}

/// A copy of the tiny package, which a test may change.
fn package() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/engine/tiny");
    for file in std::fs::read_dir(tiny).unwrap().map(|file| file.unwrap().path()) {
        std::fs::copy(&file, folder.path().join(file.file_name().unwrap())).unwrap();
    }
    folder
}

fn graph(root: &Path) -> Vec<u8> {
    std::fs::read(root.join(GRAPH)).unwrap()
}

fn key(root: &Path) -> Key {
    Key::of(&loaded().info, &Source { root, name: GRAPH, bytes: &graph(root), fixed_shapes: false }).unwrap()
}

fn load(root: &Path, cache: &Path) -> Option<Session> {
    let source = Source { root, name: GRAPH, bytes: &graph(root), fixed_shapes: false };
    session(loaded(), cache, &source, &EngineOptions::default())
}

fn written(cache: &Path, root: &Path) -> std::time::SystemTime {
    std::fs::metadata(cache.join(key(root).folder_name()).join(GRAPH_FILE)).unwrap().modified().unwrap()
}

#[test]
fn an_entry_is_made_once_and_used_again() {
    let (package, cache) = (package(), tempfile::tempdir().unwrap());
    let session = load(package.path(), cache.path()).unwrap();
    assert!(session.inputs().iter().any(|input| input.name() == "inputs_embeds"));
    let first = written(cache.path(), package.path());
    assert!(load(package.path(), cache.path()).is_some());
    assert_eq!(written(cache.path(), package.path()), first, "it was not made anew");
    let [entry] = cached_graphs(cache.path()).try_into().unwrap();
    assert_eq!((entry.graph.as_str(), Path::new(&entry.package)), (GRAPH, package.path().canonicalize().unwrap().as_path()));
    assert!(entry.bytes > 0 && entry.used_unix_s > 0);
}

#[test]
fn damage_of_any_file_makes_it_anew() {
    let (package, cache) = (package(), tempfile::tempdir().unwrap());
    load(package.path(), cache.path()).unwrap();
    let folder = cache.path().join(key(package.path()).folder_name());
    type Damage = fn(Vec<u8>) -> Vec<u8>;
    let damages: [(&str, Damage); 5] = [
        (GRAPH_FILE, |bytes| bytes[..bytes.len() / 2].to_vec()),
        (GRAPH_FILE, |mut bytes| {
            bytes[20] ^= 1;
            bytes
        }),
        (WEIGHTS_FILE, |bytes| bytes[..bytes.len() - 1].to_vec()),
        (WEIGHTS_FILE, |bytes| vec![0; bytes.len()]),
        (ENTRY_FILE, |_| b"{}".to_vec()),
    ];
    for (file, damage) in damages {
        let whole = std::fs::read(folder.join(file)).unwrap();
        std::fs::write(folder.join(file), damage(whole.clone())).unwrap();
        assert!(Entry::check(&folder, &key(package.path()), GRAPH).is_err(), "{file}");
        assert!(load(package.path(), cache.path()).is_some(), "{file}");
        assert!(Entry::check(&folder, &key(package.path()), GRAPH).is_ok(), "{file}");
        if file != ENTRY_FILE {
            assert!(std::fs::read(folder.join(file)).unwrap() == whole, "{file}");
        }
    }
    std::fs::remove_file(folder.join(WEIGHTS_FILE)).unwrap();
    assert!(load(package.path(), cache.path()).is_some());
    // A byte between the places that are looked at changes nothing but the time.
    let mut bytes = std::fs::read(folder.join(WEIGHTS_FILE)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(folder.join(WEIGHTS_FILE), bytes).unwrap();
    assert!(Entry::check(&folder, &key(package.path()), GRAPH).is_err());
}

#[test]
fn whatever_a_graph_depends_on_is_in_its_key() {
    let package = package();
    let root = package.path();
    let first = key(root);
    assert_eq!(first, key(root));
    let of = |info: &RuntimeInfo| Key::of(info, &Source { root, name: GRAPH, bytes: &graph(root), fixed_shapes: false }).unwrap();
    let other_runtime = RuntimeInfo { sha256: "0".repeat(64), ..loaded().info.clone() };
    assert_ne!(of(&other_runtime).sha256, first.sha256);
    // New weights of the same length under an unchanged manifest.
    let weights = root.join("weights.safetensors");
    let weights = if weights.is_file() { weights } else { root.join("model.safetensors") };
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes).unwrap();
    let second = key(root);
    assert_ne!(second.sha256, first.sha256, "the time of change");
    std::fs::write(root.join("copy"), &bytes).unwrap();
    let times = std::fs::metadata(&weights).unwrap().modified().unwrap();
    std::fs::File::options().append(true).open(root.join("copy")).unwrap().set_modified(times).unwrap();
    std::fs::rename(root.join("copy"), &weights).unwrap();
    assert_ne!(key(root).sha256, second.sha256, "another file of the same length and time");
    let manifest = std::fs::read_to_string(root.join("package.toml")).unwrap();
    let third = key(root);
    std::fs::write(root.join("package.toml"), format!("{manifest}\n# changed\n")).unwrap();
    assert_ne!(key(root).sha256, third.sha256, "the manifest");
}

#[test]
fn an_entry_in_the_making_is_not_waited_for() {
    let (package, cache) = (package(), tempfile::tempdir().unwrap());
    let lock_path = cache.path().join(format!("{}.lock", key(package.path()).folder_name()));
    let lock = File::create(lock_path).unwrap();
    lock.lock().unwrap();
    assert!(load(package.path(), cache.path()).is_none());
    drop(lock);
    assert!(load(package.path(), cache.path()).is_some());
}

#[test]
fn several_at_once_leave_one_whole_entry() {
    let (package, cache) = (package(), tempfile::tempdir().unwrap());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| load(package.path(), cache.path()));
        }
    });
    assert!(load(package.path(), cache.path()).is_some());
    assert_eq!(cached_graphs(cache.path()).len(), 1);
}

#[test]
fn what_a_dead_process_left_is_no_obstacle() {
    let (package, cache) = (package(), tempfile::tempdir().unwrap());
    let work = cache.path().join(format!("{WORK_PREFIX}{}", key(package.path()).folder_name()));
    std::fs::create_dir(&work).unwrap();
    std::fs::write(work.join(GRAPH_FILE), "half").unwrap();
    assert!(cached_graphs(cache.path()).is_empty());
    assert!(load(package.path(), cache.path()).is_some());
    assert!(!work.exists());
}

#[test]
fn a_cache_that_cannot_be_written_is_done_without() {
    let package = package();
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(load(package.path(), file.path()).is_none());
}

/// An entry by its looks.
fn fake(cache: &Path, digit: char, bytes: usize, used_unix_s: u64) -> PathBuf {
    let folder = cache.join(String::from(digit).repeat(32));
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join(WEIGHTS_FILE), vec![0; bytes]).unwrap();
    let file = File::create(folder.join(ENTRY_FILE)).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(used_unix_s)).unwrap();
    folder
}

#[test]
fn the_least_recently_used_make_room() {
    let cache = tempfile::tempdir().unwrap();
    let [old, new, newest] = [('a', 2000), ('b', 3000), ('c', 4000)].map(|(digit, used)| fake(cache.path(), digit, 100, used));
    make_room(cache.path(), 50, 350).unwrap();
    assert!(old.exists());
    make_room(cache.path(), 100, 350).unwrap();
    assert!(!old.exists() && new.exists() && newest.exists());
    assert!(make_room(cache.path(), 351, 350).unwrap_err().contains("more than the 350"));
    assert!(new.exists());
}

#[test]
fn only_entries_are_cleared() {
    let cache = tempfile::tempdir().unwrap();
    fake(cache.path(), 'a', 100, 2000);
    let work = cache.path().join(format!("{WORK_PREFIX}{}", "b".repeat(32)));
    std::fs::create_dir(&work).unwrap();
    std::fs::create_dir(cache.path().join("mine")).unwrap();
    std::fs::write(cache.path().join("note"), "keep").unwrap();
    assert_eq!(clear_cache(cache.path()), Ok((1, 100)));
    assert!(!work.exists() && cache.path().join("mine").exists() && cache.path().join("note").exists());
    assert_eq!(clear_cache(&cache.path().join("none")), Ok((0, 0)));
}
