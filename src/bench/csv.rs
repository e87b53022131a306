//! The result as CSV: a line for each sample.

use super::results::BenchResult;
use crate::guard::escape;

const HEADINGS: &str = "package,test,repetition,ms,units,unit,vision_ms,projector_ms,prefill_ms,decode_ms\n";

/// One line a sample: package, test, repetition, milliseconds, units of the test and their name, and the stages' milliseconds where the
/// test has stages.
pub fn to_csv(result: &BenchResult) -> String {
    let mut text = HEADINGS.to_owned();
    for series in &result.series {
        let name = result.packages.get(series.package).map_or("", |package| package.name.as_str());
        // No formula for a spreadsheet, and quoted, as a name may hold anything else.
        let name = format!("\"{}\"", escape::csv(name).replace('"', "\"\""));
        let (test, (units, unit)) = (series.test.name(), series.test.units());
        for (repetition, ms) in series.samples_ms.iter().enumerate() {
            let stages = match series.stages_ms.get(repetition) {
                Some(stages) => stages.map(|ms| ms.to_string()).join(","),
                None => ",,,".to_owned(),
            };
            text += &format!("{name},{test},{repetition},{ms},{units},{unit},{stages}\n");
        }
    }
    text
}
