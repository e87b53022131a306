use std::cell::RefCell;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::fetch::{CommandRunner, SystemRunner, telling_lines};
use super::locate::{Located, Locator, RuntimeSource, hexadecimal, version_in_name};
use super::platform::{PLATFORMS, Platform, REQUIREMENTS, VERSION};

const LIBRARY: &[u8] = b"not really a library";

/// A platform whose library is [`LIBRARY`].
fn platform() -> Platform {
    let sha256: &'static str = hexadecimal(&Sha256::digest(LIBRARY)).leak();
    Platform { library_bytes: LIBRARY.len() as u64, library_sha256: sha256, ..PLATFORMS[0] }
}

/// Members of a wheel: paths and contents.
type Wheel = Vec<(&'static str, Vec<u8>)>;

/// Stands in for `pip`: fails like `failures` in turn, then leaves a wheel with these members.
struct FakePip {
    failures: RefCell<Vec<String>>,
    wheel: Option<Wheel>,
    calls: RefCell<Vec<String>>,
}

impl FakePip {
    fn new(failures: &[&str], wheel: Option<Wheel>) -> Self {
        let failures = failures.iter().rev().map(|text| (*text).to_owned()).collect();
        Self { failures: RefCell::new(failures), wheel, calls: RefCell::new(Vec::new()) }
    }
}

impl CommandRunner for FakePip {
    fn run(&self, program: &str, arguments: &[OsString], _: Duration) -> Result<(), String> {
        let words: Vec<String> = arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        self.calls.borrow_mut().push(format!("{program} {}", words.join(" ")));
        if let Some(failure) = self.failures.borrow_mut().pop() {
            return Err(failure);
        }
        let after = |flag: &str| PathBuf::from(&words[words.iter().position(|word| word == flag).unwrap() + 1]);
        assert_eq!(fs::read_to_string(after("--requirement")).unwrap(), REQUIREMENTS);
        if let Some(members) = &self.wheel {
            let file = fs::File::create(after("--dest").join("onnxruntime-1.31.1-cp312-cp312-any.whl")).unwrap();
            let mut writer = zip::ZipWriter::new(file);
            for (name, bytes) in members {
                writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
                writer.write_all(bytes).unwrap();
            }
            writer.finish().unwrap();
        }
        Ok(())
    }
}

struct Given<'a> {
    cache: &'a Path,
    pip: &'a FakePip,
    option: Option<&'a Path>,
    variable: Option<&'a Path>,
    fetch: bool,
}

impl<'a> Given<'a> {
    fn new(cache: &'a Path, pip: &'a FakePip) -> Self {
        Self { cache, pip, option: None, variable: None, fetch: true }
    }

    fn locate(&self) -> Result<Located, String> {
        let platform = platform();
        Locator {
            option: self.option.map(Path::to_path_buf),
            variable: self.variable.map(OsString::from),
            cache_dir: Ok(self.cache.to_path_buf()),
            platform: Some(&platform),
            fetch: self.fetch,
            runner: self.pip,
        }
        .locate(&mut |_| {})
    }
}

fn good_wheel() -> Option<Wheel> {
    Some(vec![("onnxruntime/__init__.py", b"x".to_vec()), (PLATFORMS[0].member, LIBRARY.to_vec())])
}

/// What lies in a cache, the lock file aside.
fn contents(cache: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(cache)
        .map(|entries| entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
        .unwrap_or_default();
    names.retain(|name| name != "fetch.lock");
    names.sort();
    names
}

#[test]
fn an_empty_cache_is_filled_once() {
    let root = tempfile::tempdir().unwrap();
    let cache = root.path().join("deep").join("cache");
    let pip = FakePip::new(&["not found"], good_wheel());
    let first = Given::new(&cache, &pip).locate().unwrap();
    assert_eq!((first.source, first.version.as_str()), (RuntimeSource::Fetched, VERSION));
    assert_eq!(fs::read(&first.library).unwrap(), LIBRARY);
    assert_eq!(contents(&cache), [PLATFORMS[0].library], "nothing but the library stays");
    let calls = pip.calls.borrow().clone();
    assert_eq!(calls.len(), 2, "the second way of calling pip worked: {calls:?}");
    assert!(calls[0].starts_with("python3 -m pip download --no-deps --only-binary=:all: --python-version 3.12"), "{}", calls[0]);
    assert!(calls[1].contains("--platform manylinux_2_28_x86_64") && calls[1].contains("--require-hashes"), "{}", calls[1]);

    let second = Given::new(&cache, &pip).locate().unwrap();
    assert_eq!((second.source, second.sha256), (RuntimeSource::Cache, first.sha256));
    assert_eq!(pip.calls.borrow().len(), 2, "the cache is used");
}

#[test]
fn work_of_a_process_that_died_is_cleared() {
    let cache = tempfile::tempdir().unwrap();
    fs::create_dir(cache.path().join("fetching")).unwrap();
    fs::write(cache.path().join("fetching").join("old.whl"), b"half").unwrap();
    let pip = FakePip::new(&[], good_wheel());
    assert_eq!(Given::new(cache.path(), &pip).locate().unwrap().source, RuntimeSource::Fetched);
    assert_eq!(contents(cache.path()), [PLATFORMS[0].library]);
}

#[test]
fn processes_that_fetch_at_once_take_turns() {
    let cache = tempfile::tempdir().unwrap();
    let fetches: usize = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let pip = FakePip::new(&[], good_wheel());
                    let located = Given::new(cache.path(), &pip).locate().unwrap();
                    assert_eq!(fs::read(located.library).unwrap(), LIBRARY);
                    pip.calls.borrow().len()
                })
            })
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).sum()
    });
    assert_eq!(fetches, 1, "the others found what the first had fetched");
}

#[test]
fn a_cached_library_that_was_changed_is_refused_and_kept() {
    let cache = tempfile::tempdir().unwrap();
    let library = cache.path().join(PLATFORMS[0].library);
    fs::write(&library, b"something else").unwrap();
    let pip = FakePip::new(&[], good_wheel());
    let error = Given::new(cache.path(), &pip).locate().unwrap_err();
    assert!(error.contains("is not the library that was fetched") && error.contains("delete "), "{error}");
    assert!(error.contains(platform().library_sha256), "{error}");
    assert!(pip.calls.borrow().is_empty());
    assert_eq!(fs::read(&library).unwrap(), b"something else");
}

#[test]
fn a_wheel_that_is_not_the_pinned_one_is_refused() {
    let cases: [(Option<Wheel>, &str); 5] = [
        (Some(vec![(PLATFORMS[0].member, b"NOT really a library".to_vec())]), "is not the pinned library"),
        (Some(vec![(PLATFORMS[0].member, b"short".to_vec())]), "expected 20 bytes"),
        (Some(vec![(PLATFORMS[0].member, vec![0; 1 << 20])]), "found 21 with"),
        (Some(vec![("onnxruntime/other", LIBRARY.to_vec())]), "cannot take onnxruntime/capi/"),
        (None, "left no wheel"),
    ];
    for (wheel, expected) in cases {
        let cache = tempfile::tempdir().unwrap();
        let pip = FakePip::new(&[], wheel);
        let error = Given::new(cache.path(), &pip).locate().unwrap_err();
        assert!(error.contains(expected), "{error}");
        assert!(contents(cache.path()).is_empty(), "nothing is left behind: {:?}", contents(cache.path()));
    }
}

#[test]
fn without_pip_the_error_says_what_was_tried_and_what_to_do() {
    let cache = tempfile::tempdir().unwrap();
    let network = "exit status: 1: ERROR: No matching distribution found for onnxruntime==1.31.1";
    let pip = FakePip::new(&["not found", "not found", "not found", network], None);
    let error = Given::new(cache.path(), &pip).locate().unwrap_err();
    for part in [
        "no library was given with --ort-lib",
        "ORT_DYLIB_PATH is not set",
        "libonnxruntime.so.1.31.1 does not exist",
        "`python3 -m pip download`: not found",
        "`python -m pip download`: not found",
        "`pip download`: not found",
        "`pip3 download`: exit status: 1: ERROR: No matching distribution",
        "To do it by hand: ",
        "pip download --no-deps --only-binary=:all: --python-version 3.12 --implementation cp --abi cp312 --platform \
         manylinux_2_28_x86_64 onnxruntime==1.31.1",
        "take onnxruntime/capi/libonnxruntime.so.1.31.1 out of the wheel",
        &format!("copy it to {}", cache.path().join(PLATFORMS[0].library).display()),
    ] {
        assert!(error.contains(part), "`{part}` is missing in: {error}");
    }
}

#[test]
fn nothing_is_fetched_when_that_is_not_allowed() {
    let cache = tempfile::tempdir().unwrap();
    let pip = FakePip::new(&[], good_wheel());
    let error = Given { fetch: false, ..Given::new(cache.path(), &pip) }.locate().unwrap_err();
    assert!(error.contains("fetching was not allowed"), "{error}");
    assert!(pip.calls.borrow().is_empty());
}

#[test]
fn a_library_that_the_user_names_comes_first_and_is_a_demand() {
    let root = tempfile::tempdir().unwrap();
    let pip = FakePip::new(&[], good_wheel());
    let (one, two) = (root.path().join("libonnxruntime.so.1.30.2"), root.path().join("two.so"));
    fs::write(&one, b"1").unwrap();
    fs::write(&two, b"2").unwrap();
    let cache = root.path().join("cache");
    let located = Given { option: Some(&one), variable: Some(&two), ..Given::new(&cache, &pip) }.locate().unwrap();
    assert_eq!((located.source, located.version.as_str()), (RuntimeSource::Option, "1.30.2"));
    assert_eq!(located.sha256, hexadecimal(&Sha256::digest(b"1")));
    let located = Given { variable: Some(&two), ..Given::new(&cache, &pip) }.locate().unwrap();
    assert_eq!((located.source, located.version.as_str()), (RuntimeSource::EnvironmentVariable, "unknown"));

    let absent = root.path().join("absent.so");
    let error = Given { option: Some(&absent), ..Given::new(&cache, &pip) }.locate().unwrap_err();
    assert!(error.contains("--ort-lib") && error.contains("absent.so"), "{error}");
    let error = Given { variable: Some(root.path()), ..Given::new(&cache, &pip) }.locate().unwrap_err();
    assert!(error.contains("ORT_DYLIB_PATH") && error.contains("is not a file"), "{error}");
    assert!(pip.calls.borrow().is_empty(), "nothing else is tried");
}

#[test]
fn a_platform_without_a_pinned_wheel_is_told_so() {
    let pip = FakePip::new(&[], None);
    let locator = Locator {
        option: None,
        variable: Some(OsString::new()),
        cache_dir: Err("unused".to_owned()),
        platform: None,
        fetch: true,
        runner: &pip,
    };
    let error = locator.locate(&mut |_| {}).unwrap_err();
    assert!(error.contains("no build is pinned for") && error.contains("windows on x86_64"), "{error}");
}

#[test]
fn every_pinned_wheel_has_a_hash() {
    let pinned: Vec<&str> = REQUIREMENTS.lines().filter_map(|line| line.trim().strip_prefix("--hash=sha256:")).collect();
    assert_eq!(pinned.len(), PLATFORMS.len());
    for platform in PLATFORMS {
        assert_eq!(platform.library_sha256.len(), 64);
        assert!(platform.member.ends_with(platform.library));
    }
    assert!(REQUIREMENTS.contains(&format!("onnxruntime=={VERSION}")));
}

#[test]
fn versions_are_read_from_names() {
    for (name, version) in [
        ("libonnxruntime.so.1.31.1", Some("1.31.1")),
        ("libonnxruntime.1.24.0.dylib", Some("1.24.0")),
        ("onnxruntime.dll", None),
        ("libonnxruntime.so.1", None),
    ] {
        assert_eq!(version_in_name(Path::new(name)).as_deref(), version, "{name}");
    }
}

#[test]
fn commands_report_why_they_failed() {
    let runner = SystemRunner;
    let run = |script: &str, timeout| runner.run("sh", &["-c".into(), script.into()], timeout);
    let minute = Duration::from_secs(60);
    assert_eq!(runner.run("surely-no-such-program", &[], minute), Err("not found".to_owned()));
    if cfg!(unix) {
        assert_eq!(run("exit 0", minute), Ok(()));
        assert_eq!(run("echo one >&2; echo two >&2; exit 3", minute), Err("exit status: 3: one / two".to_owned()));
        assert!(run("sleep 5", Duration::from_millis(50)).unwrap_err().starts_with("stopped after"));
        // More than a pipe holds: the command must not hang on it.
        assert!(run("head -c 300000 /dev/zero | tr '\\0' 'x' >&2; exit 1", minute).is_err());
    }
    assert_eq!(telling_lines("\n\n"), "it said nothing");
    assert_eq!(telling_lines("a\nb\nc\nd\n"), "b / c / d");
}
