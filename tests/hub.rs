//! Checkpoints by name: the local cache, what must not be followed out of it, and downloads from a hub on this machine
//! that fails in every way.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;
mod export_support;
mod hub_support;

use std::fs;
use std::path::{Path, PathBuf};

use common::{gauge, text};
use export_support::{contents, fixture};
use hub_support::{COMMIT, Fault, Hub, cache, git_hash, sha256};
use llava_gauge::hub::{Cache, HubError, HubName, download};
use serde_json::json;

const WEIGHTS: &str = "model.safetensors";

fn name() -> HubName {
    HubName::parse("hf://org/name").unwrap().unwrap()
}

fn fetch(hub: &Hub, cache: &Cache) -> Result<PathBuf, HubError> {
    download(cache, &hub.remote(), &name(), &mut |_| {})
}

fn blobs(cache: &Cache) -> Vec<String> {
    let folder = cache.root().join("models--org--name/blobs");
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A hub with a checkpoint, and a cache that is still empty.
fn fresh() -> (Hub, tempfile::TempDir, Cache) {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(&folder);
    (Hub::serve(&fixture("transformers4-fp32")), folder, cache)
}

#[test]
fn a_download_fills_the_cache_in_its_own_layout_and_the_cache_alone_serves_afterwards() {
    let (hub, folder, cache) = fresh();
    let run = |output: &str, download: bool| {
        let output = folder.path().join(output);
        let mut arguments = vec!["export", "hf://org/name", "-o", text(&output), "--name", "p", "--json"];
        arguments.extend(download.then_some("--download"));
        let mut command = gauge(&arguments);
        command.env("HF_HUB_CACHE", cache.root()).env_remove("HF_ENDPOINT").env_remove("HF_HUB_OFFLINE");
        if download {
            command.env("HF_ENDPOINT", &hub.address).env("HF_TOKEN", "secret-token");
        }
        let result = command.assert().success();
        (contents(&output), String::from_utf8(result.get_output().stdout.clone()).unwrap())
    };
    let fetched = run("a", true);
    let snapshot = cache.find(&name()).unwrap();
    assert_eq!(snapshot, cache.root().join("models--org--name/snapshots").join(COMMIT));
    assert_eq!(fs::read_to_string(cache.root().join("models--org--name/refs/main")).unwrap(), COMMIT);
    let source = fs::read(fixture("transformers4-fp32").join(WEIGHTS)).unwrap();
    let link = fs::read_link(snapshot.join(WEIGHTS)).unwrap();
    assert_eq!(link, Path::new("../../blobs").join(sha256(&source)));
    assert_eq!(fs::read(snapshot.join(WEIGHTS)).unwrap(), source);
    let config = fs::read(fixture("transformers4-fp32").join("config.json")).unwrap();
    assert!(blobs(&cache).contains(&git_hash(&config)));
    assert!(blobs(&cache).iter().all(|name| !name.ends_with(".incomplete")));
    // The token goes to the hub and to nobody else.
    for request in hub.requests("") {
        let sent = request.headers.get("authorization").map(String::as_str);
        assert_eq!(sent, (request.server == "hub").then_some("Bearer secret-token"), "{request:?}");
    }
    let count = hub.requests("").len();
    assert_eq!(run("b", false), fetched);
    assert_eq!(hub.requests("").len(), count, "nobody was asked");
    // Again with --download: the list, and nothing that is there already.
    run("c", true);
    assert_eq!(hub.requests("").len(), count + 1);
    // No link of the cache is in the package.
    for entry in fs::read_dir(folder.path().join("a")).unwrap() {
        assert!(entry.unwrap().file_type().unwrap().is_file());
    }
    let commit = HubName::parse(&format!("hf://org/name@{COMMIT}")).unwrap().unwrap();
    assert_eq!(cache.find(&commit).unwrap(), snapshot);
}

#[test]
fn only_what_an_export_needs_is_fetched() {
    let (hub, _folder, cache) = fresh();
    {
        let mut state = hub.state.lock().unwrap();
        for name in ["pytorch_model.bin", "mm_projector.bin", "README.md", "flax_model.msgpack", "image.png"] {
            state.files.insert(name.to_owned(), b"not needed".to_vec());
        }
        let mut listed: Vec<_> = state.files.keys().map(|name| json!({"rfilename": name})).collect();
        listed.extend(["../evil.json", "sub/config.json", ".hidden.json", "a\\b.json"].map(|name| json!({"rfilename": name})));
        state.listing = Some(json!({"sha": COMMIT, "siblings": listed}).to_string());
    }
    let snapshot = fetch(&hub, &cache).unwrap();
    let found: Vec<String> = contents(&snapshot).into_iter().map(|(name, _)| name).collect();
    assert!(found.is_empty(), "links only: {found:?}");
    let mut names: Vec<String> =
        fs::read_dir(&snapshot).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let mut expected: Vec<String> = contents(&fixture("transformers4-fp32")).into_iter().map(|(name, _)| name).collect();
    expected.sort();
    assert_eq!(names, expected);
}

#[test]
fn shards_are_those_of_the_index() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(&folder);
    let hub = Hub::serve(&export_support::root_fixture("checkpoints/bin-sharded"));
    let snapshot = fetch(&hub, &cache).unwrap();
    assert!(snapshot.join("pytorch_model-00002-of-00002.bin").is_file());
    let index = "pytorch_model.bin.index.json";
    for (target, part) in [("../../escape.bin", "names something that is no file"), ("absent.bin", "does not have")] {
        let text = json!({"weight_map": {"a": target}}).to_string().into_bytes();
        hub.state.lock().unwrap().files.insert(index.to_owned(), text);
        fs::remove_dir_all(cache.root()).unwrap();
        let message = fetch(&hub, &cache).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
        assert!(!folder.path().join("escape.bin").exists());
    }
}

#[test]
fn broken_connections_are_continued_where_they_broke() {
    let (hub, _folder, cache) = fresh();
    hub.fault(WEIGHTS, Fault::Cut(9000, 3));
    let snapshot = fetch(&hub, &cache).unwrap();
    assert_eq!(fs::read(snapshot.join(WEIGHTS)).unwrap(), fs::read(fixture("transformers4-fp32").join(WEIGHTS)).unwrap());
    let requests = hub.requests("GET /model.safetensors");
    let ranges: Vec<Option<&str>> = requests.iter().map(|request| request.headers.get("range").map(String::as_str)).collect();
    assert_eq!(ranges, [None, Some("bytes=9000-"), Some("bytes=18000-"), Some("bytes=27000-")]);
}

#[test]
fn a_partial_file_of_an_earlier_process_is_continued_or_begun_anew() {
    let bytes = fs::read(fixture("transformers4-fp32").join(WEIGHTS)).unwrap();
    for (fault, ranges) in [(None, 1), (Some(Fault::NoRanges), 1)] {
        let (hub, _folder, cache) = fresh();
        let folder = cache.root().join("models--org--name/blobs");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{}.incomplete", sha256(&bytes))), &bytes[..1234]).unwrap();
        if let Some(fault) = fault {
            hub.fault(WEIGHTS, fault);
        }
        let snapshot = fetch(&hub, &cache).unwrap();
        assert_eq!(fs::read(snapshot.join(WEIGHTS)).unwrap(), bytes);
        let requests = hub.requests("GET /model.safetensors");
        assert_eq!(requests.iter().filter(|request| request.headers.contains_key("range")).count(), ranges);
    }
    // A partial file with other bytes shows at the end, and is not continued a second time.
    let (hub, _folder, cache) = fresh();
    let folder = cache.root().join("models--org--name/blobs");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(format!("{}.incomplete", sha256(&bytes))), [7; 500]).unwrap();
    assert!(matches!(fetch(&hub, &cache), Err(HubError::Hash { .. })));
    assert!(fetch(&hub, &cache).is_ok());
}

/// Each lie ends in an error that names the file, and leaves neither blob nor reference.
#[test]
fn lies_about_sizes_hashes_and_names_are_found() {
    let bytes = fs::read(fixture("transformers4-fp32").join(WEIGHTS)).unwrap();
    let mut changed = bytes.clone();
    changed[40_000] ^= 1;
    let cases = [
        (WEIGHTS, Fault::Content(changed), "SHA-256"),
        (WEIGHTS, Fault::Content(bytes[..40_000].to_vec()), "bytes"),
        (WEIGHTS, Fault::Content([&bytes[..], b"more"].concat()), "bytes"),
        (WEIGHTS, Fault::Unsized([&bytes[..], b"more"].concat()), "bytes"),
        (WEIGHTS, Fault::LinkedSize(bytes.len() as u64 + 1), "bytes"),
        (WEIGHTS, Fault::LinkedSize(u64::MAX), "bytes"),
        (WEIGHTS, Fault::Etag("../../../escape".to_owned()), "cannot name a file"),
        (WEIGHTS, Fault::Etag(String::new()), "cannot name a file"),
        (WEIGHTS, Fault::Etag("0".repeat(64)), "SHA-256"),
        (WEIGHTS, Fault::OtherCommit, "commit"),
        ("config.json", Fault::Etag("0".repeat(40)), "git hash"),
        ("config.json", Fault::Loop, "redirected"),
    ];
    for (file, fault, part) in cases {
        let (hub, folder, cache) = fresh();
        hub.fault(file, fault.clone());
        let error = fetch(&hub, &cache).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(part) && message.contains(file), "{fault:?}: {message}");
        assert!(!blobs(&cache).contains(&sha256(&bytes)), "{fault:?}");
        assert!(!cache.root().join("models--org--name/refs").exists() && !folder.path().join("escape").exists(), "{fault:?}");
        assert!(matches!(cache.find(&name()), Err(HubError::NotCached { .. })), "an incomplete download is no checkpoint");
    }
}

#[test]
fn refusals_are_told_and_passing_failures_are_tried_again() {
    for (status, part) in [(401, "HF_TOKEN"), (403, "HF_TOKEN"), (404, "no such repository")] {
        for file in ["listing", WEIGHTS, "config.json"] {
            let (hub, _folder, cache) = fresh();
            hub.fault(file, Fault::Status(status, 1));
            let message = fetch(&hub, &cache).unwrap_err().to_string();
            assert!(message.contains(&status.to_string()) && message.contains(part), "{message}");
        }
    }
    let (hub, _folder, cache) = fresh();
    hub.fault(WEIGHTS, Fault::Status(503, 2));
    fetch(&hub, &cache).unwrap();
    let (hub, _folder, cache) = fresh();
    hub.fault("config.json", Fault::Status(500, usize::MAX));
    assert!(matches!(fetch(&hub, &cache), Err(HubError::Status { status: 500, .. })));
    assert_eq!(hub.requests("HEAD /org/name/resolve").iter().filter(|request| request.line.contains("/config.json")).count(), 5);
    // A listing that is none.
    for listing in ["", "[]", r#"{"sha": "../../x", "siblings": []}"#, r#"{"sha": "0123456789abcdef0123456789abcdef01234567"}"#] {
        let (hub, _folder, cache) = fresh();
        hub.state.lock().unwrap().listing = Some(listing.to_owned());
        assert!(matches!(fetch(&hub, &cache), Err(HubError::Answer { .. })), "{listing}");
    }
    // Nobody listens.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let remote = llava_gauge::hub::Remote::from_environment(|name| (name == "HF_ENDPOINT").then(|| address.clone())).unwrap();
    let (_, _folder, cache) = fresh();
    assert!(matches!(download(&cache, &remote, &name(), &mut |_| {}), Err(HubError::Transport { .. })));
}

#[test]
fn downloads_at_the_same_time_do_not_disturb_each_other() {
    let (hub, _folder, cache) = fresh();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| fetch(&hub, &cache).unwrap())).collect();
        threads.into_iter().for_each(|thread| drop(thread.join().unwrap()));
    });
    assert_eq!(hub.requests("GET /model.safetensors").len(), 1, "the others waited for the first");
    assert_eq!(blobs(&cache).len(), contents(&fixture("transformers4-fp32")).len());
}

#[test]
fn exit_codes_tell_what_to_do() {
    let (hub, folder, cache) = fresh();
    let output = folder.path().join("package");
    let fails = |arguments: &[&str], environment: &[(&str, &str)], code: i32, parts: &[&str]| {
        let mut command = gauge(&[&["export"], arguments, &["-o", text(&output)]].concat());
        for name in ["HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE"] {
            command.env_remove(name);
        }
        command.env("HF_HUB_CACHE", cache.root()).envs(environment.iter().copied());
        let message = String::from_utf8(command.assert().code(code).get_output().stderr.clone()).unwrap();
        assert!(parts.iter().all(|part| message.contains(part)), "{arguments:?}: {message}");
        assert!(!output.exists());
    };
    let endpoint = ("HF_ENDPOINT", hub.address.as_str());
    fails(&["hf://org/name"], &[], 96, &["hf://org/name@main", "models--org--name", "--download"]);
    fails(&["hf://org"], &[], 96, &["hf://org", "organisation/name"]);
    fails(&["hf://org/name", "--download"], &[], 96, &["HF_ENDPOINT", "none is built in"]);
    fails(&["hf://org/name", "--download"], &[endpoint, ("HF_HUB_OFFLINE", "1")], 96, &["HF_HUB_OFFLINE"]);
    fails(&["somewhere", "--download"], &[endpoint], 96, &["--download", "hf://"]);
    hub.fault(WEIGHTS, Fault::Status(401, 1));
    fails(&["hf://org/name", "--download"], &[endpoint], 92, &["401", WEIGHTS]);
    hub.fault(WEIGHTS, Fault::Content(vec![0; 44_056]));
    fails(&["hf://org/name", "--download"], &[endpoint], 102, &["SHA-256", WEIGHTS]);
}

#[cfg(unix)]
mod links {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A cache with the checkpoint as the Python library leaves it.
    fn filled() -> (tempfile::TempDir, Cache, PathBuf) {
        let (hub, folder, cache) = fresh();
        let snapshot = fetch(&hub, &cache).unwrap();
        (folder, cache, snapshot)
    }

    fn refused(cache: &Cache, output: &Path, model: &str, code: i32, parts: &[&str]) {
        let mut command = gauge(&["export", model, "-o", text(output)]);
        let result = command.env("HF_HUB_CACHE", cache.root()).assert().code(code);
        let message = String::from_utf8(result.get_output().stderr.clone()).unwrap();
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        assert!(!output.exists());
    }

    #[test]
    fn links_out_of_the_repository_are_not_followed() {
        let (folder, cache, snapshot) = filled();
        let output = folder.path().join("package");
        let secret = folder.path().join("secret.json");
        fs::write(&secret, r#"{"model_type": "llava"}"#).unwrap();
        for file in ["config.json", WEIGHTS, "tokenizer.json"] {
            let link = snapshot.join(file);
            let good = fs::read_link(&link).unwrap();
            fs::remove_file(&link).unwrap();
            symlink(&secret, &link).unwrap();
            refused(&cache, &output, "hf://org/name", 102, &[file, "outside of its repository"]);
            refused(&cache, &output, text(&snapshot), 102, &[file, "outside of its repository"]);
            fs::remove_file(&link).unwrap();
            symlink("../../blobs/gone", &link).unwrap();
            refused(&cache, &output, "hf://org/name", 102, &[file, "leads to nothing"]);
            fs::remove_file(&link).unwrap();
            symlink(good, &link).unwrap();
        }
        // A whole snapshot, or a reference, from elsewhere.
        let elsewhere = folder.path().join("elsewhere");
        fs::rename(&snapshot, &elsewhere).unwrap();
        symlink(&elsewhere, &snapshot).unwrap();
        refused(&cache, &output, "hf://org/name", 102, &["outside of its repository"]);
        for content in ["../../../../elsewhere", "", "a/b"] {
            fs::write(cache.root().join("models--org--name/refs/main"), content).unwrap();
            refused(&cache, &output, "hf://org/name", 102, &["refs/main", "is not a commit"]);
        }
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_enough() {
        let (folder, cache, snapshot) = filled();
        let protect = |mode: u32| {
            for path in [&snapshot, &cache.root().join("models--org--name/blobs"), &cache.root().join("models--org--name")] {
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            }
        };
        protect(0o555);
        let output = folder.path().join("package");
        let mut command = gauge(&["export", "hf://org/name", "-o", text(&output)]);
        command.env("HF_HUB_CACHE", cache.root()).assert().success();
        protect(0o755);
        gauge(&["package", "inspect", text(&output), "--hashes"]).assert().success();
    }
}
