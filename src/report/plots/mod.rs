//! The charts as files of their own: SVG, and PNG for where SVG is not shown.

mod raster;

use crate::compare::{Attribution, trade_offs};

use super::charts;
use super::drawing::Drawing;
use super::html::unit_of;
use super::radar;
use super::types::{ReportError, ReportFile};
use super::view::View;

/// `plots/NAME.svg` and `plots/NAME.png` of every chart that the comparison has numbers for.
pub(super) fn files(view: &View<'_>, attributions: &[Attribution]) -> Result<Vec<ReportFile>, ReportError> {
    let mut files = Vec::new();
    for (name, drawing) in drawings(view, attributions) {
        let png = raster::png(&drawing).map_err(|message| ReportError::Chart { chart: name.to_owned(), message })?;
        files.push(ReportFile { name: format!("plots/{name}.svg").into(), bytes: drawing.file().into_bytes() });
        files.push(ReportFile { name: format!("plots/{name}.png").into(), bytes: png });
    }
    Ok(files)
}

fn drawings(view: &View<'_>, attributions: &[Attribution]) -> Vec<(&'static str, Drawing)> {
    let mut drawings = Vec::new();
    let mut add = |name: &'static str, heading: &str, panels: Vec<(String, Drawing)>| {
        if !panels.is_empty() {
            let columns = if panels.len() > 4 { 3 } else { 2 };
            drawings.push((name, Drawing::grid(heading, &panels, columns)));
        }
    };
    let over = |chart: &dyn Fn(&super::view::BenchmarkView<'_>) -> Option<Drawing>| -> Vec<(String, Drawing)> {
        view.benchmarks.iter().filter_map(|benchmark| Some((benchmark.title.to_owned(), chart(benchmark)?))).collect()
    };
    add("accuracy", "Accuracy with 95 % intervals", over(&|benchmark| charts::accuracy(view, benchmark)));
    let contests = view.contests();
    let panels = contests.iter().filter_map(|contest| {
        let title = format!("{} against {}", view.package(contest.new), view.package(contest.base));
        Some((title, charts::differences(view, contest)?))
    });
    add("differences", "Paired differences in points with 95 % intervals", panels.collect());
    add(
        "categories",
        "By category, with 95 % intervals",
        over(&|benchmark| charts::by_category(view, benchmark).map(|(drawing, _)| drawing)),
    );
    add("latency", "Milliseconds per question by stage", over(&|benchmark| charts::stages(view, benchmark)));
    add(
        "first-token",
        "Milliseconds to the first token: median, P90, P99",
        over(&|benchmark| charts::percentiles(view, benchmark)),
    );
    let scatter = charts::scatter(view, &trade_offs(&view.grid()));
    add("trade-off", "Accuracy, time and size", scatter.map(|drawing| (String::new(), drawing)).into_iter().collect());
    let radar = radar::chart(view).map(|(drawing, _)| (radar::legend(view), drawing));
    add("radar", "Profile over the benchmarks", radar.into_iter().collect());
    let stages = attributions.iter().flat_map(|attribution| {
        attribution.benchmarks.iter().filter_map(move |benchmark| {
            let title = format!("{}: {} against {}", benchmark.title, attribution.new, attribution.base);
            Some((title, charts::shapley(benchmark, unit_of(view, benchmark))?))
        })
    });
    add("attribution", "What each stage contributes to the difference", stages.collect());
    drawings
}
