//! Columns of other files, added to the rows of a table.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;

use serde_json::{Map, Value};

use super::super::super::columns::{ColumnTemplate, plain_text};
use super::super::super::error::BenchmarkError;
use super::super::super::table_spec::{JoinMissing, JoinSpec};
use super::super::check_rows;
use super::source::{ImageCells, Row, Wanted, stream};

/// The rows of a joined file by what identifies them.
pub(super) struct Joined<'s> {
    spec: &'s JoinSpec,
    file_name: String,
    rows: HashMap<String, Partner>,
}

/// What is kept of a joined row.
struct Partner {
    number: usize,
    columns: Map<String, Value>,
    cells: Vec<ImageCells>,
}

impl<'s> Joined<'s> {
    /// Reads the files of a join. All its rows are held, with the columns that are wanted.
    pub fn read(spec: &'s JoinSpec, root: &Path, wanted: &Wanted) -> Result<Self, BenchmarkError> {
        let mut columns: Vec<String> = spec.on.holes().map(|hole| hole.path.column().to_owned()).collect();
        columns.extend(spec.columns.iter().cloned());
        let wanted = Wanted { columns: (!spec.columns.is_empty()).then_some(columns), ..wanted.clone() };
        let mut rows: HashMap<String, Partner> = HashMap::new();
        let mut files = Vec::new();
        for pattern in &spec.files {
            files.extend(super::files::matching(root, pattern)?);
        }
        let mut count = 0;
        for file in &files {
            stream(file, spec.member.as_deref(), &wanted, &mut |row| {
                let row = row?;
                count += 1;
                let place = row.place();
                let key =
                    identify(&spec.on, &row)?.ok_or_else(|| place.error(spec.on.text(), "what identifies the row", "nothing"))?;
                let keep = |name: &String| !name.starts_with('@') && (spec.columns.is_empty() || spec.columns.contains(name));
                match rows.entry(key) {
                    Entry::Occupied(earlier) => {
                        let found = format!("{:?} again, first in row {}", earlier.key(), earlier.get().number);
                        return Err(place.error(spec.on.text(), "each row once", found));
                    }
                    Entry::Vacant(slot) => slot.insert(Partner {
                        number: row.number,
                        columns: row.columns.into_iter().filter(|(name, _)| keep(name)).collect(),
                        cells: row.cells.into_iter().filter(|cells| keep(&cells.column.to_string())).collect(),
                    }),
                };
                Ok(())
            })?;
        }
        let first = files.first().map(|file| file.as_path()).unwrap_or(root);
        check_rows(first, &spec.rows, count)?;
        Ok(Self { spec, file_name: first.display().to_string(), rows })
    }

    /// Adds the columns of a row's partner; false if the row is to be left out.
    pub fn add(&self, row: &mut Row) -> Result<bool, BenchmarkError> {
        let key = identify(&self.spec.by, row)?;
        let Some(partner) = key.as_ref().and_then(|key| self.rows.get(key)) else {
            return match self.spec.missing {
                JoinMissing::Drop => Ok(false),
                JoinMissing::Keep => Ok(true),
                JoinMissing::Error => Err(row.place().error(
                    self.spec.by.text(),
                    format!("a row of {}", self.file_name),
                    format!("{:?}", key.unwrap_or_default()),
                )),
            };
        };
        match &self.spec.under {
            Some(name) => {
                row.columns.insert(name.clone(), Value::Object(partner.columns.clone()));
            }
            None => {
                for (name, value) in &partner.columns {
                    if !row.columns.contains_key(name) {
                        row.columns.insert(name.clone(), value.clone());
                    }
                }
            }
        }
        for cells in &partner.cells {
            if row.cells_of(&cells.column).is_empty() {
                row.cells.push(cells.clone());
            }
        }
        Ok(true)
    }
}

fn identify(template: &ColumnTemplate, row: &Row) -> Result<Option<String>, BenchmarkError> {
    if let Some(path) = template.whole()
        && let Some(value) = row.columns.get(path.column()).filter(|_| path.is_plain())
    {
        let text = plain_text(value).map_err(|found| row.place().error(path.text(), "a text or a number", found))?;
        return Ok(text);
    }
    template.fill(&row.columns).map_err(|(field, found)| row.place().error(&field, "a text or a number", found))
}
