//! Images of samples: files, or pictures inside data files, which are read only when their question is asked.

use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An image of a sample. Two are equal if they are the same picture as far as the data say: the same file, or embedded
/// pictures of the same [`identity`](EmbeddedImage::identity).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SampleImage {
    /// An image file, absolute or relative to the working directory, already checked to lie below the data folder. It need not
    /// exist.
    File(PathBuf),
    /// An image inside a data file.
    Embedded(Arc<EmbeddedImage>),
}

/// A picture inside a data file: a cell of a parquet file, or base64 in a text file.
#[derive(Clone, Debug)]
pub struct EmbeddedImage {
    /// The data file.
    pub file: Arc<Path>,
    /// Row of the file, from 1: in JSON Lines the line, in CSV and TSV the record behind the header.
    pub row: usize,
    /// Where the row begins in a text file; `None` in parquet files.
    pub offset_bytes: Option<u64>,
    /// Column.
    pub column: Arc<str>,
    /// Place in the cell's list, from 0; `None` if the cell is one picture.
    pub index: Option<usize>,
    /// What tells pictures apart within a benchmark: the SHA-256 of their bytes, or what the data have as image id.
    pub identity: Arc<str>,
}

impl PartialEq for EmbeddedImage {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

impl Eq for EmbeddedImage {}

impl Hash for EmbeddedImage {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity.hash(state);
    }
}

impl From<PathBuf> for SampleImage {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<&str> for SampleImage {
    fn from(path: &str) -> Self {
        Self::File(path.into())
    }
}

/// Between the file and the place in it, in the text form of an embedded image.
const PLACE_MARK: &str = "#row=";

impl SampleImage {
    /// The file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Embedded(_) => None,
        }
    }

    /// How records and reports name the image: a file below `root` relative to it, with `/` between folders; an embedded
    /// picture as `file#row=12&column=image`, with `&index=0` where the cell is a list and `&offset=4711` in a text file.
    pub fn text(&self, root: &Path) -> String {
        match self {
            Self::File(path) => relative(path, root),
            Self::Embedded(image) => {
                let mut text = format!("{}{PLACE_MARK}{}", relative(&image.file, root), image.row);
                if let Some(index) = image.index {
                    text.push_str(&format!("&index={index}"));
                }
                if let Some(offset) = image.offset_bytes {
                    text.push_str(&format!("&offset={offset}"));
                }
                // Last, because a column's name may hold anything.
                text.push_str("&column=");
                text.push_str(&image.column);
                text
            }
        }
    }

    /// For messages: the whole path of a file, or of the data file with the place in it.
    pub fn display(&self) -> String {
        self.text(Path::new(""))
    }
}

impl EmbeddedImage {
    /// Reads the [text form](SampleImage::text). Gives the name of the data file as written and the picture, whose
    /// `file` is that name too; `None` if the text names a plain file.
    pub fn parse(text: &str) -> Option<(&str, Self)> {
        let (file, place) = text.rsplit_once(PLACE_MARK)?;
        let (place, column) = place.split_once("&column=")?;
        let mut parts = place.split('&');
        let row = parts.next()?.parse().ok()?;
        let (mut index, mut offset_bytes) = (None, None);
        for part in parts {
            match part.split_once('=')? {
                ("index", value) => index = Some(value.parse().ok()?),
                ("offset", value) => offset_bytes = Some(value.parse().ok()?),
                _ => return None,
            }
        }
        let image = Self { file: Path::new(file).into(), row, offset_bytes, column: column.into(), index, identity: text.into() };
        Some((file, image))
    }
}

fn relative(path: &Path, root: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_comes_back() {
        for (index, offset_bytes, column) in [(None, None, "image"), (Some(3), Some(17), "a&index=9#row=2 b")] {
            let image = EmbeddedImage {
                file: Path::new("data/x#1.parquet").into(),
                row: 12,
                offset_bytes,
                column: column.into(),
                index,
                identity: "x".into(),
            };
            let text = SampleImage::Embedded(Arc::new(image)).text(Path::new("data"));
            if column == "image" {
                assert_eq!(text, "x#1.parquet#row=12&column=image");
                let (file, back) = EmbeddedImage::parse(&text).unwrap();
                assert_eq!((file, back.row, back.index, back.offset_bytes), ("x#1.parquet", 12, index, offset_bytes));
                assert_eq!(&*back.column, column);
            }
        }
        assert!(EmbeddedImage::parse("images/a.jpg").is_none());
        assert!(EmbeddedImage::parse("images/a#row=x&column=b").is_none());
    }
}
