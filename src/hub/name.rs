//! Names of checkpoints on a hub.

use std::fmt::{Display, Formatter};

use super::HubError;

/// The scheme of such names.
const SCHEME: &str = "hf://";

/// A checkpoint on a hub: `hf://organisation/name`, with `@revision` for another than `main`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubName {
    organisation: String,
    name: String,
    revision: String,
}

impl HubName {
    /// Reads a name; `None` if the text is a plain path.
    pub fn parse(text: &str) -> Result<Option<Self>, HubError> {
        let Some(rest) = text.strip_prefix(SCHEME) else { return Ok(None) };
        let wrong = |reason| HubError::Name { name: text.to_owned(), reason };
        let (repository, revision) = rest.split_once('@').unwrap_or((rest, "main"));
        let (organisation, name) = repository.split_once('/').ok_or_else(|| wrong("there is no / between two parts"))?;
        for part in [organisation, name] {
            let plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
            if part.is_empty() || part.len() > 96 || !part.chars().all(plain) {
                return Err(wrong("organisation and name have letters, digits, '-', '_' and '.' only, at most 96"));
            }
            // As the hub itself rules; `--` separates the parts in names of cache folders.
            if part.contains("--") || part.contains("..") || part.starts_with(['.', '-']) || part.ends_with(['.', '-']) {
                return Err(wrong("organisation and name have no '--', no '..', and neither end in '.' or '-'"));
            }
        }
        if !is_revision(revision) {
            return Err(wrong("a revision is a branch, a tag or a commit"));
        }
        let [organisation, name, revision] = [organisation, name, revision].map(str::to_owned);
        Ok(Some(Self { organisation, name, revision }))
    }

    /// `organisation/name`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.organisation, self.name)
    }

    /// Branch, tag or commit.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Name of the repository's folder in a cache.
    pub(super) fn folder(&self) -> String {
        format!("models--{}--{}", self.organisation, self.name)
    }
}

impl Display for HubName {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{SCHEME}{}/{}@{}", self.organisation, self.name, self.revision)
    }
}

/// Whether a text may be a revision: it becomes a path below `refs/` or `snapshots/`.
pub(super) fn is_revision(text: &str) -> bool {
    let plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
    text.len() <= 255 && text.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && part.chars().all(plain))
}

/// Whether a text is a whole commit hash.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Whether a text may be the name of a file in one folder.
pub(super) fn is_plain_file(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 255
        && !text.starts_with('.')
        && !text.contains(|character: char| character.is_control() || matches!(character, '/' | '\\' | ':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_tricks_refused() {
        let name = HubName::parse("hf://liuhaotian/llava-v1.5-7b").unwrap().unwrap();
        assert_eq!((name.folder().as_str(), name.revision()), ("models--liuhaotian--llava-v1.5-7b", "main"));
        let name = HubName::parse("hf://a/b@refs/pr/1").unwrap().unwrap();
        assert_eq!((name.repository().as_str(), name.revision()), ("a/b", "refs/pr/1"));
        assert_eq!(name.to_string(), "hf://a/b@refs/pr/1");
        assert!(HubName::parse("folder/hf").unwrap().is_none());
        for wrong in [
            "hf://",
            "hf://a",
            "hf://a/",
            "hf:///b",
            "hf://a/b/c",
            "hf://../b",
            "hf://a/..",
            "hf://a--b/c",
            "hf://a/b@",
            "hf://a/b@../x",
            "hf://a/b@/x",
            "hf://a/b@.x",
            "hf://a b/c",
            "hf://a/b@x//y",
        ] {
            assert!(HubName::parse(wrong).is_err(), "{wrong}");
        }
    }
}
