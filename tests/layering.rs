//! Holds the house's one direction of flow: reads the `crate::room` paths of every source file and compares them with
//! the edges that ARCHITECTURE.md allows. Also holds the sizes of files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Room → rooms that it may use. `cli` may use everything.
fn allowed() -> BTreeMap<&'static str, &'static [&'static str]> {
    BTreeMap::from([
        ("run", &["benchmark", "image", "prompt", "engine", "score", "store", "package", "guard"][..]),
        ("export", &["onnx", "package", "guard"]),
        ("onnx", &["guard"]),
        ("package", &["onnx", "guard"]),
        ("image", &["guard", "package"]),
        ("prompt", &["package", "guard"]),
        ("engine", &["package", "guard"]),
        ("benchmark", &["guard"]),
        ("score", &["benchmark"]),
        ("store", &["guard", "benchmark"]),
        ("stats", &[]),
        ("bench", &["engine", "export", "onnx", "package", "stats", "guard"]),
        ("compare", &["store", "stats", "benchmark"]),
        ("report", &["guard", "compare", "store", "stats", "benchmark"]),
        ("guard", &[]),
        ("hub", &["guard"]),
        ("web", &[]),
        ("submission", &["benchmark", "score", "store", "guard"]),
        ("swap", &["benchmark", "engine", "run", "prompt", "package", "compare", "stats", "guard"]),
        ("calibration", &["benchmark", "engine", "run", "prompt", "package", "stats", "guard"]),
        ("judge", &["benchmark", "score", "store", "guard"]),
    ])
}

/// Longest source file in lines, its tests counted where they live in the same file.
const LONGEST_FILE_LINES: usize = 600;

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn all_sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    found.sort();
    found
}

/// Rooms named by `crate::room` anywhere in code (not in comments), `use crate::{a::…, b::…}` included.
fn rooms_used(text: &str) -> BTreeSet<String> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut used = BTreeSet::new();
    for (start, _) in code.match_indices("crate::") {
        let rest = &code[start + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 1;
            let mut name = String::new();
            for character in list.chars() {
                match character {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 1 && (character.is_alphanumeric() || character == '_') {
                    name.push(character);
                } else if depth == 1 && character == ':' {
                    if !name.is_empty() {
                        used.insert(std::mem::take(&mut name));
                    }
                } else {
                    name.clear();
                }
                if depth == 0 {
                    break;
                }
            }
        } else {
            used.insert(rest.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect());
        }
    }
    used
}

#[test]
fn every_room_uses_only_what_it_may() {
    let allowed = allowed();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for path in all_sources() {
        let relative = path.strip_prefix(&root).unwrap();
        let room = relative.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
        let Some(may_use) = allowed.get(room.as_str()) else { continue };
        for used in rooms_used(&std::fs::read_to_string(&path).unwrap()) {
            if (allowed.contains_key(used.as_str()) || used == "cli") && used != room && !may_use.contains(&used.as_str()) {
                wrong.push(format!("{} uses crate::{used}; {room} may use {may_use:?}", relative.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_room_is_known() {
    let allowed = allowed();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        assert!(!entry.path().is_dir() || name == "cli" || allowed.contains_key(name.as_str()), "src/{name} has no rule");
    }
}

#[test]
fn only_the_engine_knows_onnx_runtime() {
    for path in all_sources() {
        let text = std::fs::read_to_string(&path).unwrap();
        // Not the end of another name, such as `report::`.
        let names_it = |line: &str| {
            line.match_indices("ort::")
                .any(|(at, _)| !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_'))
        };
        let uses = text.lines().any(|line| !line.trim_start().starts_with("//") && names_it(line));
        let engine = path.components().any(|part| part.as_os_str() == "engine");
        assert!(!uses || engine, "{} names ort::", path.display());
    }
}

#[test]
fn no_file_is_larger_than_a_reader_can_hold() {
    let long: Vec<String> = all_sources()
        .iter()
        .filter(|path| !path.ends_with("tests.rs"))
        .map(|path| (path, std::fs::read_to_string(path).unwrap().lines().count()))
        .filter(|(_, lines)| *lines > LONGEST_FILE_LINES)
        .map(|(path, lines)| format!("{}: {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn the_checker_sees_violations() {
    assert_eq!(rooms_used("use crate::{engine::Engine, store::{A, B}};").into_iter().collect::<Vec<_>>(), ["engine", "store"]);
    assert!(rooms_used("let x = crate::cli::main();").contains("cli"));
    assert!(rooms_used("// use crate::cli::main").is_empty());
}
