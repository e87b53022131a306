//! A workbook of one sheet (SpreadsheetML, ECMA-376), with its texts in the cells.

use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::guard::escape;

/// Most characters of a cell; longer texts are cut, as openpyxl cuts them.
const CELL_LIMIT_CHARACTERS: usize = 32_767;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Nothing,
    Number(f64),
    Text(String),
}

const CONTENT_TYPES: &str = r#"<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" ContentType="application/xml"/><Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/><Override PartName="/xl/worksheets/sheet1.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/></Types>"#;
const RELATIONSHIPS: &str = r#"<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>"#;
const WORKBOOK: &str = r#"<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets><sheet name="Sheet1" sheetId="1" r:id="rId1"/></sheets></workbook>"#;
const WORKBOOK_RELATIONSHIPS: &str = r#"<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet1.xml"/></Relationships>"#;

/// The bytes of a workbook with these rows. The error is the archive writer's.
pub(super) fn workbook(rows: &[Vec<Cell>]) -> Result<Vec<u8>, String> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    let sheet = sheet(rows);
    for (name, text) in [
        ("[Content_Types].xml", CONTENT_TYPES),
        ("_rels/.rels", RELATIONSHIPS),
        ("xl/workbook.xml", WORKBOOK),
        ("xl/_rels/workbook.xml.rels", WORKBOOK_RELATIONSHIPS),
        ("xl/worksheets/sheet1.xml", &sheet),
    ] {
        archive.start_file(name, options).map_err(|error| error.to_string())?;
        archive.write_all(text.as_bytes()).map_err(|error| error.to_string())?;
    }
    Ok(archive.finish().map_err(|error| error.to_string())?.into_inner())
}

fn sheet(rows: &[Vec<Cell>]) -> String {
    let mut text = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n\
         <worksheet xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\"><sheetData>",
    );
    for (row, cells) in rows.iter().enumerate() {
        let row = row + 1;
        text.push_str(&format!("<row r=\"{row}\">"));
        for (column, cell) in cells.iter().enumerate() {
            let place = format!("{}{row}", column_name(column));
            match cell {
                Cell::Nothing => {}
                Cell::Number(number) => text.push_str(&format!("<c r=\"{place}\"><v>{number}</v></c>")),
                Cell::Text(value) => {
                    let value: String = value.chars().take(CELL_LIMIT_CHARACTERS).collect();
                    text.push_str(&format!("<c r=\"{place}\" t=\"inlineStr\"><is><t xml:space=\"preserve\">"));
                    // A carriage return would be read as a line feed.
                    text.push_str(&escape::xml(&value).replace('\r', "&#13;"));
                    text.push_str("</t></is></c>");
                }
            }
        }
        text.push_str("</row>");
    }
    text.push_str("</sheetData></worksheet>");
    text
}

/// A, B, …, Z, AA, …
fn column_name(mut column: usize) -> String {
    let mut letters = Vec::new();
    loop {
        letters.push(char::from(b'A' + (column % 26) as u8));
        if column < 26 {
            break;
        }
        column = column / 26 - 1;
    }
    letters.iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_the_names_of_spreadsheets() {
        let names: Vec<String> = [0, 25, 26, 51, 52, 701, 702].into_iter().map(column_name).collect();
        assert_eq!(names, ["A", "Z", "AA", "AZ", "BA", "ZZ", "AAA"]);
    }

    #[test]
    fn texts_are_escaped_and_cut() {
        let long = "x".repeat(CELL_LIMIT_CHARACTERS + 5);
        let rows = [vec![Cell::Text("<a & \u{1}\r\n>".to_owned()), Cell::Nothing, Cell::Number(1_000_241.0), Cell::Text(long)]];
        let sheet = sheet(&rows);
        assert!(sheet.contains("&lt;a &amp; \u{FFFD}&#13;\n&gt;</t>"), "{sheet}");
        assert!(sheet.contains("<c r=\"C1\"><v>1000241</v></c>") && !sheet.contains("\"B1\""));
        let cut = format!(">{}<", "x".repeat(CELL_LIMIT_CHARACTERS));
        assert!(sheet.contains(&cut));
    }
}
