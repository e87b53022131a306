//! Fetching the library: `pip` downloads the pinned wheel, and only the libraries of ONNX Runtime are taken out of it.
//!
//! `pip` and not a download of our own, because it knows the proxies, mirrors and certificates of the user's machine.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::locate::{cached, hexadecimal};
use super::platform::{Member, Platform, VERSION};

/// Longest time that one `pip` may take.
const PIP_TIMEOUT: Duration = Duration::from_secs(900);
/// What is kept of a command's error output.
const ERROR_TEXT_LIMIT_BYTES: u64 = 64 << 10;
/// Ways to run `pip`, in the order tried.
const PIPS: [&[&str]; 4] = [&["python3", "-m", "pip"], &["python", "-m", "pip"], &["pip"], &["pip3"]];

/// Runs a command to its end; tests put another in place.
pub(super) trait CommandRunner {
    /// The error says why it failed, in one line.
    fn run(&self, program: &str, arguments: &[OsString], timeout: Duration) -> Result<(), String>;
}

/// Runs real commands.
pub(super) struct SystemRunner;

impl CommandRunner for SystemRunner {
    fn run(&self, program: &str, arguments: &[OsString], timeout: Duration) -> Result<(), String> {
        let started = Instant::now();
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(
                |error| if error.kind() == std::io::ErrorKind::NotFound { "not found".to_owned() } else { error.to_string() },
            )?;
        // Read beside the waiting, or a talkative command would block on a full pipe.
        let errors = child.stderr.take().map(|pipe| {
            std::thread::spawn(move || {
                let mut kept = Vec::new();
                let mut pipe = pipe;
                let _ = pipe.by_ref().take(ERROR_TEXT_LIMIT_BYTES).read_to_end(&mut kept);
                let _ = std::io::copy(&mut pipe, &mut std::io::sink());
                kept
            })
        });
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if started.elapsed() < timeout => std::thread::sleep(Duration::from_millis(20)),
                Ok(None) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(format!("stopped after {} seconds", timeout.as_secs()));
                }
                Err(error) => return Err(error.to_string()),
            }
        };
        if status.success() {
            return Ok(());
        }
        let errors = errors.and_then(|reader| reader.join().ok()).unwrap_or_default();
        Err(format!("{status}: {}", telling_lines(&String::from_utf8_lossy(&errors))))
    }
}

/// The last lines of an error output, in one line.
pub(super) fn telling_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines.as_slice() {
        [] => "it said nothing".to_owned(),
        lines => lines.get(lines.len().saturating_sub(3)..).unwrap_or_default().join(" / "),
    }
}

/// Arguments of `pip download` for a platform, before the requirement.
fn download_arguments(platform: &Platform) -> Vec<OsString> {
    ["download", "--no-deps", "--only-binary=:all:", "--python-version", "3.12", "--implementation", "cp", "--abi", "cp312"]
        .into_iter()
        .chain(["--platform", platform.tag])
        .map(OsString::from)
        .collect()
}

/// What a person can do where fetching fails.
pub(super) fn by_hand(platform: &Platform, library: Option<&Path>) -> String {
    let arguments: Vec<String> =
        download_arguments(platform).into_iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let paths: Vec<&str> = std::iter::once(&platform.library).chain(platform.others).map(|member| member.path).collect();
    let (them, place) = match (platform.others, library) {
        ([], Some(library)) => ("it", format!("copy it to {}, or ", library.display())),
        ([], None) => ("it", String::new()),
        (_, Some(library)) => ("the first", format!("copy them to {}, or ", library.parent().unwrap_or(library).display())),
        (_, None) => ("the first", String::new()),
    };
    format!(
        "on a machine with a network run `pip {} {}=={VERSION}`, take {} out of the wheel (a zip file), and {place}name \
         {them} with --ort-lib or ORT_DYLIB_PATH",
        arguments.join(" "),
        platform.flavor.package(),
        paths.join(", ")
    )
}

/// Fetches the library into `cache_dir`. Processes take turns; the library appears complete or not at all. The error lists
/// what was tried.
pub(super) fn fetch(
    cache_dir: &Path,
    platform: &Platform,
    runner: &dyn CommandRunner,
    progress: &mut dyn FnMut(&str),
) -> Result<(), Vec<String>> {
    let failed = |doing: &str, error: std::io::Error| vec![format!("cannot {doing} {}: {error}", cache_dir.display())];
    std::fs::create_dir_all(cache_dir).map_err(|error| failed("create the cache folder", error))?;
    let lock_path = cache_dir.join("fetch.lock");
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock_path)
        .map_err(|error| failed("write to the cache folder", error))?;
    if lock.try_lock().is_err() {
        progress("Another process is fetching ONNX Runtime; waiting for it.");
        lock.lock().map_err(|error| failed("lock the cache folder", error))?;
    }
    if cached(cache_dir, platform).map_err(|error| vec![error])? {
        return Ok(());
    }
    let work = WorkFolder::create(cache_dir).map_err(|error| failed("write to the cache folder", error))?;
    download(&work.0, platform, runner, progress)?;
    progress("Checking and unpacking it.");
    let taken = find_wheel(&work.0).and_then(|wheel| {
        // All are checked before the first is put in its place, and the one that is looked for comes last.
        platform.members().try_for_each(|member| extract(&wheel, &work.0.join(member.file), member))?;
        platform.members().try_for_each(|member| {
            let target = cache_dir.join(member.file);
            std::fs::rename(work.0.join(member.file), &target)
                .map_err(|error| format!("cannot write {}: {error}", target.display()))
        })
    });
    taken.map_err(|error| vec![error])?;
    progress(&format!("ONNX Runtime {VERSION} is in {}.", cache_dir.display()));
    Ok(())
}

/// A folder inside the cache that goes when its work is done. The caller holds the lock, so that any other such folder was
/// left by a process that died.
struct WorkFolder(PathBuf);

impl WorkFolder {
    fn create(cache_dir: &Path) -> std::io::Result<Self> {
        let path = cache_dir.join("fetching");
        if path.exists() {
            std::fs::remove_dir_all(&path)?;
        }
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn download(
    folder: &Path,
    platform: &Platform,
    runner: &dyn CommandRunner,
    progress: &mut dyn FnMut(&str),
) -> Result<(), Vec<String>> {
    let requirements = folder.join("requirements.txt");
    std::fs::write(&requirements, platform.flavor.requirements())
        .map_err(|error| vec![format!("cannot write {}: {error}", requirements.display())])?;
    let mut tried = Vec::new();
    for pip in PIPS {
        let Some((program, leading)) = pip.split_first() else { continue };
        let mut arguments: Vec<OsString> = leading.iter().map(OsString::from).collect();
        arguments.extend(download_arguments(platform));
        arguments.extend(["--quiet", "--no-input", "--disable-pip-version-check", "--require-hashes"].map(OsString::from));
        arguments.extend([OsString::from("--dest"), folder.into(), OsString::from("--requirement"), requirements.clone().into()]);
        progress(&format!("Fetching ONNX Runtime {VERSION} for {} with `{} download`.", platform.tag, pip.join(" ")));
        match runner.run(program, &arguments, PIP_TIMEOUT) {
            Ok(()) => return Ok(()),
            Err(error) => tried.push(format!("`{} download`: {error}", pip.join(" "))),
        }
    }
    Err(tried)
}

fn find_wheel(folder: &Path) -> Result<PathBuf, String> {
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "whl") {
            return Ok(path);
        }
    }
    Err("pip said that it was done, but left no wheel".to_owned())
}

/// Takes a library out of the wheel, and refuses it unless length and SHA-256 are the pinned ones.
fn extract(wheel: &Path, target: &Path, library: &Member) -> Result<(), String> {
    let name = wheel.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let failed = |error: &dyn std::fmt::Display| format!("cannot take {} out of {name}: {error}", library.path);
    let file = File::open(wheel).map_err(|error| failed(&error))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|error| failed(&error))?;
    let member = archive.by_name(library.path).map_err(|error| failed(&error))?;
    // One byte more than expected shows a longer file without unpacking whatever it claims to be.
    let mut source = member.take(library.bytes.saturating_add(1));
    let mut written = File::create(target).map_err(|error| failed(&error))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0_u8; 1 << 20];
    let mut length = 0_u64;
    loop {
        let count = source.read(&mut buffer).map_err(|error| failed(&error))?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        hasher.update(bytes);
        written.write_all(bytes).map_err(|error| failed(&error))?;
        length += count as u64;
    }
    let sha256 = hexadecimal(&hasher.finalize());
    if length != library.bytes || sha256 != library.sha256 {
        return Err(format!(
            "{} in {name} is not the pinned library: expected {} bytes with SHA-256 {}, found {length} with {sha256}",
            library.path, library.bytes, library.sha256
        ));
    }
    written.sync_all().map_err(|error| failed(&error))
}
