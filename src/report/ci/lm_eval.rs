//! Results as lm-evaluation-harness writes them, for programs that read its `results_*.json`.

use serde_json::{Map, Value, json};

use crate::compare::RunSummary;

use super::super::types::ReportError;
use super::Selected;

/// The fields of `EvalResults` in the harness's `lm_eval/result_schema.py`: `results` with `"METRIC,none"` and
/// `"METRIC_stderr,none"`, `configs`, `versions`, `n-shot`, `higher_is_better`, `n-samples`, `config`, `date`, `model_name`,
/// `task_hashes`. One file is one model.
///
/// As there, shares are between 0 and 1 whatever this program's scale, and a missing error is `"N/A"`. The standard errors
/// are clustered, where the harness's own are not.
pub(super) fn document(runs: &[Selected<'_>]) -> Result<Value, ReportError> {
    let content = |message: String| ReportError::Content { name: "lm-eval", message };
    let first = runs.first().ok_or_else(|| content("expected the runs of one package, found none".to_owned()))?.run;
    for other in runs {
        let (left, right) = (&first.header.model, &other.run.header.model);
        if left.identity != right.identity {
            let found = format!("{} and {}", left.name, right.name);
            return Err(content(format!("expected the runs of one package, as a file is one model there; found {found}")));
        }
    }
    if let Some((index, twice)) = runs.iter().enumerate().find(|(index, run)| {
        runs.iter().take(*index).any(|earlier| earlier.run.header.benchmark.name == run.run.header.benchmark.name)
    }) {
        let name = &twice.run.header.benchmark.name;
        return Err(content(format!("expected one run of each benchmark, found another one of {name} at place {index}")));
    }
    let mut by_task: [Map<String, Value>; 6] = Default::default();
    for Selected { run, .. } in runs {
        let name = &run.header.benchmark.name;
        let values = [results(run), config(run), version(run), json!(0), directions(run), counts(run)];
        for (fields, value) in by_task.iter_mut().zip(values) {
            fields.insert(name.clone(), value);
        }
    }
    let hashes: Map<String, Value> = runs
        .iter()
        .map(|Selected { run, .. }| (run.header.benchmark.name.clone(), json!(run.header.benchmark.samples_sha256)))
        .collect();
    let [results, configs, versions, shots, directions, counts] = by_task;
    let subtasks: Map<String, Value> = results.keys().map(|name| (name.clone(), json!([]))).collect();
    let model = &first.header.model;
    Ok(json!({
        "results": results,
        "group_subtasks": subtasks,
        "configs": configs,
        "versions": versions,
        "n-shot": shots,
        "higher_is_better": directions,
        "n-samples": counts,
        "config": {
            "model": "llava-gauge",
            "model_args": format!("package={},identity={},precision={}", model.name, model.identity, model.precision),
            "model_dtype": model.precision,
            "model_sha": model.identity,
            "batch_size": Value::Null,
            "device": first.header.settings.provider,
            "limit": Value::Null,
            "bootstrap_iters": 0,
        },
        "git_hash": first.header.commit,
        "date": seconds(&first.header.started),
        "model_source": "llava-gauge",
        "model_name": model.name,
        "model_name_sanitized": sanitized(&model.name),
        "task_hashes": hashes,
        "llava_gauge_version": first.header.environment.program_version,
    }))
}

/// Between 0 and 1 for shares; points stay points.
fn factor(run: &RunSummary, metric: &str) -> f64 {
    let spec = run.header.benchmark.metrics.iter().find(|spec| spec.name == metric);
    spec.filter(|spec| !spec.points && !spec.sum_over_categories && spec.scale > 0.0).map_or(1.0, |spec| 1.0 / spec.scale)
}

fn results(run: &RunSummary) -> Value {
    let mut fields = Map::new();
    fields.insert("alias".to_owned(), json!(run.header.benchmark.name));
    let primary = run.metrics.iter().find(|metric| metric.primary);
    fields.insert("sample_len".to_owned(), json!(primary.map_or(0, |metric| metric.estimate.n)));
    for metric in &run.metrics {
        let factor = factor(run, &metric.name);
        fields.insert(format!("{},none", metric.name), json!(metric.estimate.value * factor));
        let error = metric.estimate.standard_error.map_or(json!("N/A"), |error| json!(error * factor));
        fields.insert(format!("{}_stderr,none", metric.name), error);
    }
    Value::Object(fields)
}

fn config(run: &RunSummary) -> Value {
    let header = &run.header;
    json!({
        "task": header.benchmark.name,
        "description": header.benchmark.title,
        "output_type": if header.settings.answering.is_some() { "multiple_choice" } else { "generate_until" },
        "scorer": header.benchmark.scorer,
        "max_gen_toks": header.settings.max_new_tokens,
        "prompt_template": header.model.template,
    })
}

/// The scorer's version: what follows the last `/` of `vqa-official/1`.
fn version(run: &RunSummary) -> Value {
    let scorer = &run.header.benchmark.scorer;
    let version = scorer.rsplit_once('/').and_then(|(_, version)| version.parse::<f64>().ok());
    version.map_or_else(|| json!(scorer), |version| json!(version))
}

fn directions(run: &RunSummary) -> Value {
    Value::Object(run.metrics.iter().map(|metric| (metric.name.clone(), json!(metric.higher_is_better))).collect())
}

fn counts(run: &RunSummary) -> Value {
    json!({ "original": run.header.benchmark.samples_available, "effective": run.records })
}

/// A name that is safe in file names, as the harness makes it: everything but letters, digits, `.`, `-` and `_` becomes `_`.
fn sanitized(name: &str) -> String {
    let plain = |character: char| if character.is_ascii_alphanumeric() || "._-".contains(character) { character } else { '_' };
    name.chars().map(plain).collect()
}

/// Seconds since 1970 of an RFC 3339 time in UTC with seconds; `None` of anything else.
fn seconds(time: &str) -> Option<f64> {
    let number = |range: std::ops::Range<usize>| time.get(range).and_then(|digits| digits.parse::<i64>().ok());
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if !(time.ends_with('Z') && (1..=12).contains(&month)) {
        return None;
    }
    // Days from civil (Hinnant): years begin in March.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    Some((days * 86_400 + hour * 3_600 + minute * 60 + second) as f64)
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn times_are_seconds_since_1970() {
        assert_eq!(seconds("1970-01-01T00:00:00Z"), Some(0.0));
        assert_eq!(seconds("2023-11-14T22:13:20Z"), Some(1_700_000_000.0));
        assert_eq!(seconds("2000-02-29T00:00:00Z"), Some(951_782_400.0));
        assert_eq!(seconds("yesterday"), None);
    }
}
