//! A chart as a list of shapes: described once, then written as SVG (in the page and as a file) and painted as PNG.
//!
//! In the page the style sheet gives the colours, so that they follow the light or dark page; the attributes are for SVG
//! files that stand alone.

use std::fmt::Write as _;

use crate::guard::escape;

/// A role that a colour plays. Its class is known to the style sheet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Paint {
    /// Text and marks.
    Ink,
    /// Text beside the point, such as ticks.
    Muted,
    /// Grid lines.
    Grid,
    /// Areas behind, such as the margin.
    Soft,
    /// The background.
    Page,
    /// A package.
    Series(usize),
    /// A stage of the engine, an index into [`super::charts::STAGES`].
    Stage(usize),
    /// Worse.
    Bad,
    /// Better.
    Good,
    /// No harm.
    Fine,
    /// Undecided.
    Open,
}

/// Colours of the packages: Okabe and Ito's, told apart with every common colour blindness. Repeated beyond six.
const SERIES: [u32; 6] = [0x00_72_B2, 0xB8_4E_00, 0x00_82_5F, 0xB5_57_8D, 0x8C_6D_1F, 0x2F_86_BF];
/// Colours of the stages.
const STAGES: [u32; 5] = [0x7B_84_8E, 0x3B_82_C4, 0xA8_50_90, 0xC9_82_1E, 0x2A_8F_6D];

impl Paint {
    /// The colour on a light page, `0xRRGGBB`.
    pub fn rgb(self) -> u32 {
        match self {
            Self::Ink => 0x1F_23_28,
            Self::Muted => 0x59_63_6E,
            Self::Grid => 0xD8_DE_E4,
            Self::Soft => 0xEC_EF_F3,
            Self::Page => 0xFF_FF_FF,
            Self::Series(index) => SERIES.get(index % SERIES.len()).copied().unwrap_or(0),
            Self::Stage(index) => STAGES.get(index % STAGES.len()).copied().unwrap_or(0),
            Self::Bad => 0xB3_26_1E,
            Self::Good => 0x17_6F_2C,
            Self::Fine => 0x0B_5C_8A,
            Self::Open => 0x7A_52_00,
        }
    }

    fn class(self) -> String {
        match self {
            Self::Ink => "c-ink".to_owned(),
            Self::Muted => "c-muted".to_owned(),
            Self::Grid => "c-grid".to_owned(),
            Self::Soft => "c-soft".to_owned(),
            Self::Page => "c-page".to_owned(),
            Self::Series(index) => format!("c-s{}", index % SERIES.len()),
            Self::Stage(index) => format!("c-t{}", index % STAGES.len()),
            Self::Bad => "c-bad".to_owned(),
            Self::Good => "c-good".to_owned(),
            Self::Fine => "c-fine".to_owned(),
            Self::Open => "c-open".to_owned(),
        }
    }
}

/// Where a text begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    /// At its place.
    Start,
    /// Around its place.
    Middle,
    /// Before its place.
    End,
}

/// A line's pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dash {
    /// Unbroken.
    Solid,
    /// Dashes.
    Long,
    /// Dots.
    Short,
}

impl Dash {
    /// The pattern of a package's lines.
    pub fn of_package(package: usize) -> Self {
        match package % 3 {
            0 => Self::Solid,
            1 => Self::Long,
            _ => Self::Short,
        }
    }

    /// Lengths drawn and left out.
    pub fn lengths(self) -> Option<[f64; 2]> {
        match self {
            Self::Solid => None,
            Self::Long => Some([6.0, 3.0]),
            Self::Short => Some([2.0, 2.5]),
        }
    }
}

/// One shape; places in CSS pixels from the upper left corner.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// A line through points.
    Line {
        /// The points.
        points: Vec<[f64; 2]>,
        /// Its colour.
        paint: Paint,
        /// Its width.
        width: f64,
        /// Its pattern.
        dash: Dash,
    },
    /// A filled polygon.
    Area {
        /// The corners.
        points: Vec<[f64; 2]>,
        /// Its colour.
        paint: Paint,
        /// From 0, not there, to 1.
        opacity: f64,
    },
    /// A filled circle.
    Disc {
        /// The centre.
        centre: [f64; 2],
        /// The radius.
        radius: f64,
        /// Its colour.
        paint: Paint,
        /// From 0, not there, to 1.
        opacity: f64,
    },
    /// A line of text, centred on its height.
    Text {
        /// Where it stands.
        at: [f64; 2],
        /// What it says; escaped when written.
        text: String,
        /// Its size.
        size: f64,
        /// Its colour.
        paint: Paint,
        /// Which side of its place it stands on.
        anchor: Anchor,
    },
}

/// A chart.
#[derive(Clone, Debug)]
pub(super) struct Drawing {
    /// Width in CSS pixels.
    pub width: f64,
    /// Height in CSS pixels.
    pub height: f64,
    /// The same in words, for those who do not see it.
    pub label: String,
    /// The shapes, from back to front.
    pub shapes: Vec<Shape>,
}

impl Drawing {
    /// An empty chart.
    pub fn new(width: f64, height: f64, label: String) -> Self {
        Self { width, height, label, shapes: Vec::new() }
    }

    /// A line through points.
    pub fn line(&mut self, points: &[[f64; 2]], paint: Paint, width: f64) {
        self.dashed(points, paint, width, Dash::Solid);
    }

    /// A line with a pattern.
    pub fn dashed(&mut self, points: &[[f64; 2]], paint: Paint, width: f64, dash: Dash) {
        self.shapes.push(Shape::Line { points: points.to_vec(), paint, width, dash });
    }

    /// A filled rectangle between two corners.
    pub fn rectangle(&mut self, [left, top]: [f64; 2], [right, bottom]: [f64; 2], paint: Paint, opacity: f64) {
        let points = vec![[left, top], [right, top], [right, bottom], [left, bottom]];
        self.shapes.push(Shape::Area { points, paint, opacity });
    }

    /// A line of text.
    pub fn text(&mut self, at: [f64; 2], text: impl Into<String>, size: f64, paint: Paint, anchor: Anchor) {
        self.shapes.push(Shape::Text { at, text: text.into(), size, paint, anchor });
    }

    /// The mark of a package: six forms, so that colour is not all that tells them apart. `radius` is that of the circle of
    /// equal area.
    pub fn mark(&mut self, package: usize, [x, y]: [f64; 2], radius: f64, paint: Paint, opacity: f64) {
        let polygon =
            |corners: &[[f64; 2]]| corners.iter().map(|[dx, dy]| [x + dx * radius, y + dy * radius]).collect::<Vec<_>>();
        let points = match package % 6 {
            0 => {
                self.shapes.push(Shape::Disc { centre: [x, y], radius, paint, opacity });
                return;
            }
            1 => polygon(&[[-0.886, -0.886], [0.886, -0.886], [0.886, 0.886], [-0.886, 0.886]]),
            2 => polygon(&[[0.0, -1.253], [1.253, 0.0], [0.0, 1.253], [-1.253, 0.0]]),
            3 => polygon(&[[0.0, -1.555], [1.347, 0.778], [-1.347, 0.778]]),
            4 => polygon(&[[0.0, 1.555], [1.347, -0.778], [-1.347, -0.778]]),
            _ => {
                // A plus.
                let (arm, half) = (1.189, 0.396);
                polygon(&[
                    [-half, -arm],
                    [half, -arm],
                    [half, -half],
                    [arm, -half],
                    [arm, half],
                    [half, half],
                    [half, arm],
                    [-half, arm],
                    [-half, half],
                    [-arm, half],
                    [-arm, -half],
                    [-half, -half],
                ])
            }
        };
        self.shapes.push(Shape::Area { points, paint, opacity });
    }

    /// Diagonal lines in a rectangle, so that areas differ by more than their colour. `slope` is 1 for `/`, −1 for `\`.
    pub fn hatch(&mut self, [left, top]: [f64; 2], [right, bottom]: [f64; 2], slope: f64, paint: Paint) {
        const GAP: f64 = 6.0;
        let height = bottom - top;
        let mut start = left - height + GAP / 2.0;
        // Bounded: a chart is a few hundred pixels wide.
        while start < right && start < left + 2000.0 {
            // The part of the diagonal from (start, bottom) to (start + height, top) that lies within.
            let (from, to) = (start.max(left), (start + height).min(right));
            if to > from {
                let y = |x: f64| if slope > 0.0 { bottom - (x - start) } else { top + (x - start) };
                self.line(&[[from, y(from)], [to, y(to)]], paint, 1.0);
            }
            start += GAP;
        }
    }

    /// Puts another drawing into this one, its corner at `[left, top]`.
    pub fn insert(&mut self, other: &Self, [left, top]: [f64; 2]) {
        let moved = |[x, y]: [f64; 2]| [x + left, y + top];
        for shape in &other.shapes {
            let mut shape = shape.clone();
            match &mut shape {
                Shape::Line { points, .. } | Shape::Area { points, .. } => {
                    for point in points {
                        *point = moved(*point);
                    }
                }
                Shape::Disc { centre: at, .. } | Shape::Text { at, .. } => *at = moved(*at),
            }
            self.shapes.push(shape);
        }
    }

    /// Titled drawings in rows of `columns`, with a heading, as one.
    pub fn grid(heading: &str, panels: &[(String, Self)], columns: usize) -> Self {
        const GAP: f64 = 24.0;
        const TITLE: f64 = 26.0;
        const HEADING: f64 = 34.0;
        let columns = columns.clamp(1, panels.len().max(1));
        let column = panels.iter().map(|(_, panel)| panel.width).fold(0.0, f64::max);
        let width = GAP + columns as f64 * (column + GAP);
        let mut whole = Self::new(width, HEADING + GAP, heading.to_owned());
        whole.text([GAP, 22.0], heading, 16.0, Paint::Ink, Anchor::Start);
        let mut top = HEADING + 10.0;
        for row in panels.chunks(columns) {
            for (place, (title, panel)) in row.iter().enumerate() {
                let left = GAP + place as f64 * (column + GAP);
                let shown = fit(title, column - 8.0, 13.0);
                whole.text([left, top + 10.0], shown, 13.0, Paint::Ink, Anchor::Start);
                whole.insert(panel, [left, top + TITLE]);
            }
            top += TITLE + row.iter().map(|(_, panel)| panel.height).fold(0.0, f64::max) + GAP;
        }
        whole.height = top;
        whole
    }

    /// The chart as an element of the page.
    pub fn inline(&self, class: &str) -> String {
        let (width, height) = (px(self.width), px(self.height));
        let label = escape::xml(&escape::visible(&self.label));
        let mut svg = format!(
            "<svg class=\"chart {class}\" role=\"img\" aria-label=\"{label}\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">"
        );
        self.content(&mut svg);
        svg.push_str("</svg>");
        svg
    }

    /// The chart as a file of its own: colours of the light page, white background.
    pub fn file(&self) -> String {
        let (width, height) = (px(self.width), px(self.height));
        let label = escape::xml(&escape::visible(&self.label));
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
             font-family=\"system-ui, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif\">\n<title>{label}</title>\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#FFFFFF\"/>\n"
        );
        self.content(&mut svg);
        svg.push_str("</svg>\n");
        svg
    }

    fn content(&self, svg: &mut String) {
        for shape in &self.shapes {
            // Writing to a string does not fail.
            let _ = match shape {
                Shape::Line { points, paint, width, dash } => {
                    let pattern = match dash.lengths() {
                        Some([drawn, left_out]) => format!(" stroke-dasharray=\"{drawn} {left_out}\""),
                        None => String::new(),
                    };
                    write!(
                        svg,
                        "<path class=\"line {}\" d=\"{}\" fill=\"none\" stroke=\"#{:06X}\" stroke-width=\"{width}\"{pattern}/>",
                        paint.class(),
                        steps(points),
                        paint.rgb()
                    )
                }
                Shape::Area { points, paint, opacity } => write!(
                    svg,
                    "<path class=\"fill {}\" d=\"{}Z\" fill=\"#{:06X}\"{}/>",
                    paint.class(),
                    steps(points),
                    paint.rgb(),
                    seen(*opacity)
                ),
                Shape::Disc { centre: [x, y], radius, paint, opacity } => write!(
                    svg,
                    "<circle class=\"fill {}\" cx=\"{}\" cy=\"{}\" r=\"{}\" fill=\"#{:06X}\"{}/>",
                    paint.class(),
                    px(*x),
                    px(*y),
                    px(*radius),
                    paint.rgb(),
                    seen(*opacity)
                ),
                Shape::Text { at: [x, y], text, size, paint, anchor } => {
                    let anchor = match anchor {
                        Anchor::Start => "",
                        Anchor::Middle => " text-anchor=\"middle\"",
                        Anchor::End => " text-anchor=\"end\"",
                    };
                    write!(
                        svg,
                        "<text class=\"fill {}\" x=\"{}\" y=\"{}\" dy=\"0.35em\" font-size=\"{size}\" fill=\"#{:06X}\"{anchor}>{}</text>",
                        paint.class(),
                        px(*x),
                        px(*y),
                        paint.rgb(),
                        escape::xml(&escape::terminal(text))
                    )
                }
            };
        }
    }
}

fn seen(opacity: f64) -> String {
    if opacity < 1.0 { format!(" fill-opacity=\"{opacity}\"") } else { String::new() }
}

fn px(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

fn steps(points: &[[f64; 2]]) -> String {
    let steps: Vec<String> = points.iter().map(|[x, y]| format!("{} {}", px(*x), px(*y))).collect();
    format!("M{}", steps.join("L"))
}

/// A text from outside in `width` pixels at most, shortened in the middle; widths are estimated, as no font is at hand.
pub(super) fn fit(text: &str, width: f64, size: f64) -> String {
    let characters = (width / (size * 0.56)).floor().max(3.0) as usize;
    escape::shorten_middle(&escape::terminal(text), characters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_stays_text() {
        let mut drawing = Drawing::new(10.0, 10.0, "\"><script>".to_owned());
        drawing.text([1.0, 2.25], "</text><script>\u{1b}", 12.0, Paint::Ink, Anchor::End);
        let expected = "<svg class=\"chart x\" role=\"img\" aria-label=\"&quot;&gt;&lt;script&gt;\" viewBox=\"0 0 10 10\" width=\"10\" \
                        height=\"10\"><text class=\"fill c-ink\" x=\"1\" y=\"2.2\" dy=\"0.35em\" font-size=\"12\" fill=\"#1F2328\" \
                        text-anchor=\"end\">&lt;/text&gt;&lt;script&gt;</text></svg>";
        assert_eq!(drawing.inline("x"), expected);
        assert!(drawing.file().contains("<title>&quot;&gt;&lt;script&gt;</title>"));
    }

    #[test]
    fn hatching_stays_inside_its_area() {
        let mut drawing = Drawing::new(100.0, 100.0, String::new());
        drawing.hatch([10.0, 20.0], [31.0, 48.0], 1.0, Paint::Page);
        drawing.hatch([10.0, 20.0], [31.0, 48.0], -1.0, Paint::Page);
        assert!(drawing.shapes.len() >= 12);
        for shape in &drawing.shapes {
            let Shape::Line { points, .. } = shape else { panic!("only lines") };
            for [x, y] in points {
                assert!((10.0..=31.0).contains(x) && (20.0..=48.0).contains(y), "{x} {y}");
            }
        }
    }
}
