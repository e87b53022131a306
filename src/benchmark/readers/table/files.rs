//! Files below a data folder by names in which `*` and `?` stand for other characters.

use std::path::{Path, PathBuf};

use super::super::super::error::BenchmarkError;
use crate::guard::files::contained;

/// The most files that a pattern may stand for.
const MOST_FILES: usize = 100_000;

/// The files that a pattern stands for, sorted by name, at least one. A name without `*` and `?` stands for itself.
pub(super) fn matching(root: &Path, pattern: &str) -> Result<Vec<PathBuf>, BenchmarkError> {
    let files = found(root, pattern)?;
    if files.is_empty() {
        return Err(BenchmarkError::File {
            path: root.join(pattern),
            expected: "a data file of the benchmark".to_owned(),
            found: "no such file".to_owned(),
        });
    }
    Ok(files)
}

/// As [`matching`], or none.
pub(super) fn found(root: &Path, pattern: &str) -> Result<Vec<PathBuf>, BenchmarkError> {
    // Stars are plain characters of a name, so containment is checked on the pattern too.
    let whole = contained(root, pattern)?;
    if !pattern.contains(['*', '?']) {
        return Ok(if whole.is_file() { vec![whole] } else { Vec::new() });
    }
    let mut names = vec![String::new()];
    for part in pattern.split('/').filter(|part| !part.is_empty() && *part != ".") {
        let mut next = Vec::new();
        for name in &names {
            if !part.contains(['*', '?']) {
                next.push(join(name, part));
                continue;
            }
            let Ok(entries) = root.join(name).read_dir() else { continue };
            let entries = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            next.extend(entries.filter(|entry| !entry.starts_with('.') && fits(part, entry)).map(|entry| join(name, &entry)));
            next.truncate(MOST_FILES);
        }
        names = next;
    }
    names.sort();
    let mut files = Vec::with_capacity(names.len());
    for name in names {
        let path = contained(root, &name)?;
        if path.is_file() {
            files.push(path);
        }
    }
    Ok(files)
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Whether a name fits a pattern, in time proportional to the product of their lengths.
fn fits(pattern: &str, name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    // Which beginnings of the name the beginning of the pattern so far fits.
    let mut reached = vec![false; name.len() + 1];
    if let Some(first) = reached.first_mut() {
        *first = true;
    }
    for wanted in pattern.chars() {
        let mut next = vec![false; name.len() + 1];
        let mut any = false;
        for (length, slot) in next.iter_mut().enumerate() {
            let here = reached.get(length).copied().unwrap_or(false);
            let before = length.checked_sub(1).and_then(|before| reached.get(before)).copied().unwrap_or(false);
            let last = length.checked_sub(1).and_then(|before| name.get(before)).copied();
            any |= here;
            *slot = match wanted {
                '*' => any,
                '?' => before,
                wanted => before && last == Some(wanted),
            };
        }
        reached = next;
    }
    reached.last().copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("test-*.parquet", "test-00000-of-00002.parquet", true),
            ("test-*.parquet", "test-.tsv", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("é*", "ébc", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn files_come_in_order_and_from_below_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        for name in ["data/b-1.csv", "data/a-2.csv", "data/a-1.csv", "data/.a-0.csv", "a-3.csv"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let names = |pattern: &str| -> Vec<String> {
            let files = found(folder.path(), pattern).unwrap();
            files.iter().map(|file| file.strip_prefix(folder.path()).unwrap().to_string_lossy().into_owned()).collect()
        };
        assert_eq!(names("data/a-*.csv"), ["data/a-1.csv", "data/a-2.csv"]);
        assert_eq!(names("*/b-1.csv"), ["data/b-1.csv"]);
        assert_eq!(names("a-3.csv"), ["a-3.csv"]);
        assert_eq!(names("none-*.csv"), Vec::<String>::new());
        assert!(found(folder.path(), "../*").is_err());
        assert!(matching(folder.path(), "x*").is_err());
    }
}
