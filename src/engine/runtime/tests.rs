use std::cell::RefCell;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::fetch::{CommandRunner, SystemRunner, telling_lines};
use super::install::install_in;
use super::locate::{Located, Locator, RuntimeSource, hexadecimal, version_in_name};
use super::platform::{Flavor, Member, PLATFORMS, Platform, VERSION};

const LIBRARY: &[u8] = b"not really a library";

/// A platform whose library is [`LIBRARY`].
fn platform() -> Platform {
    let sha256: &'static str = hexadecimal(&Sha256::digest(LIBRARY)).leak();
    let library = Member { bytes: LIBRARY.len() as u64, sha256, ..PLATFORMS[0].library };
    Platform { library, ..PLATFORMS[0] }
}

/// A platform for GPUs, all of whose libraries are [`LIBRARY`].
fn gpu_platform() -> Platform {
    let of_gpus = PLATFORMS.iter().find(|platform| platform.flavor == Flavor::Cuda).unwrap();
    let Platform { library: Member { bytes, sha256, .. }, .. } = platform();
    let faked = |member: &Member| Member { bytes, sha256, ..*member };
    let others: Vec<Member> = of_gpus.others.iter().map(faked).collect();
    Platform { library: faked(&of_gpus.library), others: others.leak(), ..*of_gpus }
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
        let wanted = fs::read_to_string(after("--requirement")).unwrap();
        assert!([Flavor::Cpu, Flavor::Cuda].iter().any(|flavor| wanted == flavor.requirements()), "{wanted}");
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
            flavor: Flavor::Cpu,
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
    Some(vec![("onnxruntime/__init__.py", b"x".to_vec()), (PLATFORMS[0].library.path, LIBRARY.to_vec())])
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
    assert_eq!(contents(&cache), [PLATFORMS[0].library.file], "nothing but the library stays");
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
    assert_eq!(contents(cache.path()), [PLATFORMS[0].library.file]);
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
    let library = cache.path().join(PLATFORMS[0].library.file);
    fs::write(&library, b"something else").unwrap();
    let pip = FakePip::new(&[], good_wheel());
    let error = Given::new(cache.path(), &pip).locate().unwrap_err();
    assert!(error.contains("is not the library that was fetched") && error.contains("delete "), "{error}");
    assert!(error.contains(platform().library.sha256), "{error}");
    assert!(pip.calls.borrow().is_empty());
    assert_eq!(fs::read(&library).unwrap(), b"something else");
}

#[test]
fn a_wheel_that_is_not_the_pinned_one_is_refused() {
    let cases: [(Option<Wheel>, &str); 5] = [
        (Some(vec![(PLATFORMS[0].library.path, b"NOT really a library".to_vec())]), "is not the pinned library"),
        (Some(vec![(PLATFORMS[0].library.path, b"short".to_vec())]), "expected 20 bytes"),
        (Some(vec![(PLATFORMS[0].library.path, vec![0; 1 << 20])]), "found 21 with"),
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
        &format!("copy it to {}", cache.path().join(PLATFORMS[0].library.file).display()),
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
        flavor: Flavor::Cpu,
        option: None,
        variable: Some(OsString::new()),
        cache_dir: Err("unused".to_owned()),
        platform: None,
        fetch: true,
        runner: &pip,
    };
    let error = locator.locate(&mut |_| {}).unwrap_err();
    assert!(error.contains("no cpu build is pinned for") && error.contains("windows on x86_64"), "{error}");
}

#[test]
fn every_pinned_wheel_has_a_hash() {
    for flavor in [Flavor::Cpu, Flavor::Cuda] {
        let requirements = flavor.requirements();
        let pinned: Vec<&str> = requirements.lines().filter_map(|line| line.trim().strip_prefix("--hash=sha256:")).collect();
        assert_eq!(pinned.len(), PLATFORMS.iter().filter(|platform| platform.flavor == flavor).count());
        let hashes = PLATFORMS.iter().filter(|platform| platform.flavor == flavor).flat_map(Platform::members);
        for hash in hashes.map(|member| member.sha256).chain(pinned.iter().map(|hash| hash.trim_end_matches(" \\"))) {
            assert!(hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{hash}");
        }
        assert!(requirements.contains(&format!("{}=={VERSION}", flavor.package())));
    }
    for member in PLATFORMS.iter().flat_map(Platform::members) {
        assert!(member.path.ends_with(member.file) && member.bytes > 0);
    }
}

/// The members of a wheel for GPUs.
fn gpu_wheel() -> Wheel {
    gpu_platform().members().map(|member| (member.path, LIBRARY.to_vec())).collect()
}

#[test]
fn the_build_for_gpus_is_installed_with_the_libraries_that_it_opens() {
    let root = tempfile::tempdir().unwrap();
    let (cache, platform) = (root.path().join("cuda"), gpu_platform());
    let pip = FakePip::new(&[], Some(gpu_wheel()));
    let install = |pip| install_in(Flavor::Cuda, Ok(cache.clone()), Some(&platform), pip, &mut |_| {});
    let first = install(&pip).unwrap();
    assert_eq!((first.source, first.flavor.as_str(), first.version), (RuntimeSource::Fetched, "cuda", VERSION));
    let names: Vec<&str> = first.files.iter().map(|file| file.name).collect();
    assert_eq!(names.last(), Some(&platform.library.file));
    assert!(names.contains(&"libonnxruntime_providers_cuda.so") && names.contains(&"libonnxruntime_providers_tensorrt.so"));
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(contents(&cache), sorted, "nothing else stays");
    assert!(pip.calls.borrow()[0].contains("--require-hashes"), "{:?}", pip.calls.borrow());
    assert_eq!(install(&pip).unwrap().source, RuntimeSource::Cache);
    assert_eq!(pip.calls.borrow().len(), 1, "it is fetched once");

    // A library that was removed is fetched again with the others; one that was changed is not replaced behind the user's back.
    fs::remove_file(cache.join("libonnxruntime_providers_shared.so")).unwrap();
    assert_eq!(install(&pip).unwrap().source, RuntimeSource::Fetched);
    fs::write(cache.join("libonnxruntime_providers_cuda.so"), b"something else").unwrap();
    let error = install(&pip).unwrap_err();
    assert!(error.contains("libonnxruntime_providers_cuda.so is not the library that was fetched"), "{error}");
}

#[test]
fn a_wheel_for_gpus_that_lacks_a_library_leaves_nothing_behind() {
    let cache = tempfile::tempdir().unwrap();
    let mut wheel = gpu_wheel();
    wheel.retain(|(path, _)| !path.ends_with("providers_cuda.so"));
    let pip = FakePip::new(&[], Some(wheel));
    let error = install_in(Flavor::Cuda, Ok(cache.path().to_path_buf()), Some(&gpu_platform()), &pip, &mut |_| {}).unwrap_err();
    assert!(error.contains("cannot take onnxruntime/capi/libonnxruntime_providers_cuda.so"), "{error}");
    assert!(error.contains("onnxruntime-gpu=="), "the manual step names the right package: {error}");
    assert!(contents(cache.path()).is_empty(), "{:?}", contents(cache.path()));
}

#[test]
fn the_build_for_gpus_is_not_fetched_in_passing() {
    let cache = tempfile::tempdir().unwrap();
    let (pip, platform) = (FakePip::new(&[], Some(gpu_wheel())), gpu_platform());
    let locator = Locator {
        flavor: Flavor::Cuda,
        option: None,
        variable: None,
        cache_dir: Ok(cache.path().to_path_buf()),
        platform: Some(&platform),
        fetch: false,
        runner: &pip,
    };
    let error = locator.locate(&mut |_| {}).unwrap_err();
    assert!(error.contains("ONNX Runtime for GPUs is not installed"), "{error}");
    assert!(error.contains("`llava-gauge runtime install --flavor cuda`"), "{error}");
    assert!(pip.calls.borrow().is_empty());
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
