//! Figures: lines over epochs or steps as SVG.

use plastica_tasks::Phase;
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde_json::json;

use super::style::{Colour, GRID, INK, Marker, QUIET, SHADE, Style, style};
use super::ticks::Axis;
use super::{Baseline, Curve, PublishedFigure, Series};
use crate::{EvalError, format_number};

/// Drawn units a unit of the layout below: coordinates are whole numbers, and lines should not show it.
pub(super) const FINE: i32 = 4;
/// Width and height of a figure.
const SIZE: (i32, i32) = (460, 270);
/// Size of a swatch in a legend.
const SWATCH: (i32, i32) = (44, 16);
/// Size of letters.
pub(super) const TEXT: f64 = 14.0;

/// What a figure shows.
pub(super) struct Chart<'a> {
    pub curve: &'a Curve,
    /// What the horizontal axis counts.
    pub x_label: &'a str,
    pub logarithmic: bool,
    /// Phases of the steps, shaded and named; none over epochs.
    pub phases: &'a [Phase],
    /// Published figures, at the right end.
    pub published: Vec<(String, PublishedFigure)>,
    pub baselines: &'a [Baseline],
    /// Every rule of the study, for their looks.
    pub rules: &'a [String],
}

/// A figure: the content of an `svg` element, and what a page needs besides.
pub(super) struct Drawn {
    /// What goes between `<svg>` and `</svg>`.
    pub content: String,
    /// `viewBox` of the element.
    pub view_box: String,
    /// The figure in words.
    pub words: String,
    /// The values as JSON, to be shown on hover.
    pub hover: String,
}

pub(super) type Failure = Box<dyn std::error::Error + Send + Sync>;
type Plane<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
pub(super) type Page<'a> = DrawingArea<SVGBackend<'a>, Shift>;

impl Chart<'_> {
    /// Draws the figure.
    ///
    /// # Errors
    /// [`EvalError::Report`] with the metric's name.
    pub fn draw(&self) -> Result<Drawn, EvalError> {
        let mut svg = String::new();
        let plot = self.draw_to(&mut svg).map_err(|error| EvalError::Report {
            part: format!("figure of {}", self.curve.metric),
            message: error.to_string(),
        })?;
        let (width, height) = (SIZE.0 * FINE, SIZE.1 * FINE);
        Ok(Drawn {
            content: content(&svg),
            view_box: format!("0 0 {width} {height}"),
            words: self.words(),
            hover: self.hover(&plot),
        })
    }

    fn draw_to(&self, svg: &mut String) -> Result<Plot, Failure> {
        let size = ((SIZE.0 * FINE) as u32, (SIZE.1 * FINE) as u32);
        let root = SVGBackend::with_string(svg, size).into_drawing_area();
        let (x, y) = (self.x_axis(), self.y_axis());
        let mut chart = ChartBuilder::on(&root)
            .margin_top((if self.phases.is_empty() { 34 } else { 50 }) * FINE)
            .margin_right(10 * FINE)
            .set_label_area_size(LabelAreaPosition::Left, 52 * FINE)
            .set_label_area_size(LabelAreaPosition::Bottom, 44 * FINE)
            .build_cartesian_2d(x.range.0..x.range.1, y.range.0..y.range.1)?;
        self.shade(&root, &mut chart, &y)?;
        self.axes(&root, &mut chart, (&x, &y))?;
        for baseline in self.baselines {
            self.baseline(&root, &mut chart, baseline, &x)?;
        }
        for series in &self.curve.series {
            self.series(&root, &mut chart, series)?;
        }
        for (i, (rule, figure)) in self.published.iter().enumerate() {
            self.published(&root, &mut chart, (i, rule, figure), &x)?;
        }
        let (across, down) = chart.plotting_area().get_pixel_range();
        let plot = Plot { across, down, range: x.range };
        root.present()?;
        Ok(plot)
    }

    /// The place of a value on the vertical axis.
    fn place(&self, value: f64) -> f64 {
        if self.logarithmic { value.max(f64::MIN_POSITIVE).log10() } else { value }
    }

    fn last(&self) -> usize {
        self.curve.series.iter().flat_map(|s| &s.points).map(|p| p.x).max().unwrap_or(1)
    }

    fn x_axis(&self) -> Axis {
        let last = self.last();
        let span = (last as f64 - 1.0).max(1.0);
        let right = if self.published.is_empty() { 0.03 } else { 0.10 + 0.07 * self.published.len() as f64 };
        let ends = match self.phases {
            [] => (1.0 - 0.05 * span, last as f64 + right * span),
            _ => (0.5, last as f64 + 0.5),
        };
        Axis::counts(1, last, ends)
    }

    fn y_axis(&self) -> Axis {
        let ours = self.curve.series.iter().flat_map(|s| &s.points).flat_map(|p| [p.low, p.high]);
        let theirs =
            self.published.iter().flat_map(|(_, p)| [p.mean - p.population_sd, p.mean + p.population_sd]);
        let others = self.baselines.iter().map(|b| b.accuracy);
        let values: Vec<f64> = ours.chain(theirs).chain(others).filter(|v| v.is_finite()).collect();
        let low = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if self.logarithmic {
            let low = low(&mut values.iter().copied().filter(|&v| v > 0.0));
            if low.is_finite() { Axis::logarithmic(low, high) } else { Axis::linear(0.0, 1.0) }
        } else {
            Axis::linear(low(&mut values.iter().copied()), high)
        }
    }

    fn shade<'a>(&self, page: &Page<'a>, chart: &mut Plane<'a>, y: &Axis) -> Result<(), Failure> {
        let mut start = 0;
        for (i, steps) in self.phases.chunk_by(|a, b| a == b).enumerate() {
            let (left, right) = (start as f64 + 0.5, (start + steps.len()) as f64 + 0.5);
            start += steps.len();
            if i % 2 == 1 {
                let corners = [(left, y.range.0), (right, y.range.1)];
                chart.draw_series([Rectangle::new(corners, SHADE.light.filled())])?;
            }
            let at = chart.backend_coord(&((left + right) / 2.0, y.range.1));
            let look = words(TEXT * 0.86, INK).pos(Pos::new(HPos::Center, VPos::Bottom));
            let name = Text::new(steps[0].to_string(), (at.0, at.1 - 3 * FINE), look);
            page.draw(&name)?;
        }
        Ok(())
    }

    /// Marks that this page's axes choose themselves, which the library's mesh does not take.
    fn axes<'a>(
        &self,
        page: &Page<'a>,
        chart: &mut Plane<'a>,
        (x, y): (&Axis, &Axis),
    ) -> Result<(), Failure> {
        let (across, down) = chart.plotting_area().get_pixel_range();
        let (grid, axis) = (GRID.light.stroke_width(FINE as u32), QUIET.light.stroke_width(FINE as u32));
        let look = |h, v| words(TEXT, INK).pos(Pos::new(h, v));
        for (&tick, label) in y.ticks.iter().zip(&y.labels) {
            let (_, at) = chart.backend_coord(&(x.range.0, tick));
            page.draw(&PathElement::new(vec![(across.start, at), (across.end, at)], grid))?;
            let place = (across.start - 7 * FINE, at);
            page.draw(&Text::new(label.clone(), place, look(HPos::Right, VPos::Center)))?;
        }
        page.draw(&PathElement::new(vec![(across.start, down.end), (across.end, down.end)], axis))?;
        for (&tick, label) in x.ticks.iter().zip(&x.labels) {
            let (at, _) = chart.backend_coord(&(tick, y.range.0));
            page.draw(&PathElement::new(vec![(at, down.end), (at, down.end + 4 * FINE)], axis))?;
            let place = (at, down.end + 6 * FINE);
            page.draw(&Text::new(label.clone(), place, look(HPos::Center, VPos::Top)))?;
        }
        let (middle, below) = ((across.start + across.end) / 2, down.end + 24 * FINE);
        page.draw(&Text::new(self.x_label, (middle, below), look(HPos::Center, VPos::Top)))?;
        page.draw(&Text::new(self.curve.label.clone(), (4 * FINE, 6 * FINE), look(HPos::Left, VPos::Top)))?;
        Ok(())
    }

    fn series<'a>(&self, page: &Page<'a>, chart: &mut Plane<'a>, series: &Series) -> Result<(), Failure> {
        let look = style(&series.rule, self.rules);
        let above = |v: f64| !self.logarithmic || v > 0.0;
        let points: Vec<_> = series.points.iter().filter(|p| above(p.low)).collect();
        let low = points.iter().map(|p| (p.x as f64, self.place(p.low)));
        let high = points.iter().rev().map(|p| (p.x as f64, self.place(p.high)));
        let band: Vec<_> = low.chain(high).collect();
        chart.draw_series([Polygon::new(band, look.colour.light.mix(0.16).filled())])?;
        if let [point] = points[..] {
            let ends = [point.low, point.high].map(|v| (point.x as f64, self.place(v)));
            chart.draw_series([PathElement::new(ends.to_vec(), stroke(look, 1))])?;
        }
        let line: Vec<_> = points.iter().map(|p| (p.x as f64, self.place(p.mean))).collect();
        match look.dash {
            None => chart.draw_series(LineSeries::new(line.clone(), stroke(look, 2)))?,
            Some((dash, gap)) => {
                let dashes = DashedLineSeries::new(line.clone(), dash * FINE, gap * FINE, stroke(look, 2));
                chart.draw_series(dashes)?
            }
        };
        let every = line.len().div_ceil(8).max(1);
        for &at in line.iter().step_by(every) {
            let at = chart.backend_coord(&at);
            marker(page, at, look, true)?;
        }
        Ok(())
    }

    fn published<'a>(
        &self,
        page: &Page<'a>,
        chart: &mut Plane<'a>,
        (i, rule, figure): (usize, &str, &PublishedFigure),
        x: &Axis,
    ) -> Result<(), Failure> {
        let look = style(rule, self.rules);
        let span = (self.last() as f64 - 1.0).max(1.0);
        let at = x.range.1 - span * 0.07 * (self.published.len() - i) as f64 + 0.02 * span;
        let ends = [figure.mean - figure.population_sd, figure.mean + figure.population_sd];
        let ends = ends.map(|v| (at, self.place(v)));
        chart.draw_series([PathElement::new(ends.to_vec(), stroke(look, 1))])?;
        let at = chart.backend_coord(&(at, self.place(figure.mean)));
        marker(page, at, look, false)
    }

    fn baseline<'a>(
        &self,
        page: &Page<'a>,
        chart: &mut Plane<'a>,
        baseline: &Baseline,
        x: &Axis,
    ) -> Result<(), Failure> {
        let at = self.place(baseline.accuracy);
        let line = QUIET.light.stroke_width(FINE as u32);
        chart.draw_series([PathElement::new(vec![(x.range.0, at), (x.range.1, at)], line)])?;
        let place = chart.backend_coord(&(x.range.0, at));
        let look = words(TEXT * 0.86, QUIET).pos(Pos::new(HPos::Left, VPos::Bottom));
        page.draw(&Text::new(baseline.name.clone(), (place.0 + 4 * FINE, place.1 - FINE), look))?;
        Ok(())
    }

    /// The figure for those who do not see it: what it shows, and each rule's first and last mean.
    fn words(&self) -> String {
        let ends = |series: &Series| match (series.points.first(), series.points.last()) {
            (Some(a), Some(b)) => format!(
                "{} from {} at {} {} to {} at {} {}",
                series.rule,
                format_number(a.mean),
                self.x_label,
                a.x,
                format_number(b.mean),
                self.x_label,
                b.x
            ),
            _ => series.rule.clone(),
        };
        let rules: Vec<String> = self.curve.series.iter().map(ends).collect();
        format!("{} by {}: {}.", self.curve.label, self.x_label, rules.join("; "))
    }

    fn hover(&self, plot: &Plot) -> String {
        let share = |at: i32, whole: i32| f64::from(at) / f64::from(whole * FINE);
        let series = self.curve.series.iter().map(|series| {
            let value = |p: &super::Point| match p.low == p.high {
                true => format_number(p.mean),
                false => {
                    format!("{} [{}, {}]", format_number(p.mean), format_number(p.low), format_number(p.high))
                }
            };
            let colour = style(&series.rule, self.rules).colour;
            let texts: Vec<String> = series.points.iter().map(value).collect();
            json!({ "rule": series.rule, "light": colour.hex(), "dark": colour.dark, "values": texts })
        });
        json!({
            "axis": self.x_label,
            "left": share(plot.across.start, SIZE.0), "right": share(plot.across.end, SIZE.0),
            "top": share(plot.down.start, SIZE.1), "bottom": share(plot.down.end, SIZE.1),
            "from": plot.range.0, "to": plot.range.1,
            "last": self.last(),
            "phases": self.phases.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "series": series.collect::<Vec<_>>(),
        })
        .to_string()
    }
}

/// Where on the figure the plot is, in drawn units, and which numbers its sides stand for.
struct Plot {
    across: std::ops::Range<i32>,
    down: std::ops::Range<i32>,
    range: (f64, f64),
}

/// A rule's line and marker, for a legend: content and `viewBox` of an `svg` element.
pub(super) fn swatch(rule: &str, rules: &[String]) -> Result<(String, String), EvalError> {
    let mut svg = String::new();
    let (width, height) = (SWATCH.0 * FINE, SWATCH.1 * FINE);
    let draw = |svg: &mut String| -> Result<(), Failure> {
        let root = SVGBackend::with_string(svg, (width as u32, height as u32)).into_drawing_area();
        let look = style(rule, rules);
        let (left, right) = ((0, height / 2), (width, height / 2));
        let (dash, gap) = look.dash.unwrap_or((SWATCH.0, 0));
        let mut at = left.0;
        while at < right.0 {
            let end = (at + dash * FINE).min(right.0);
            root.draw(&PathElement::new(vec![(at, left.1), (end, left.1)], stroke(look, 2)))?;
            at += (dash + gap) * FINE;
        }
        marker(&root, (width / 2, height / 2), look, true)?;
        Ok(root.present()?)
    };
    draw(&mut svg).map_err(|e| EvalError::Report { part: "legend".to_owned(), message: e.to_string() })?;
    Ok((content(&svg), format!("0 0 {width} {height}")))
}

/// What is inside the `svg` element that the library wrote.
pub(super) fn content(svg: &str) -> String {
    let start = svg.find("<svg").and_then(|at| Some(at + svg[at..].find('>')? + 1)).unwrap_or(0);
    let end = svg.rfind("</svg>").unwrap_or(svg.len());
    svg[start..end].trim().to_owned()
}

/// How words look.
pub(super) fn words(size: f64, colour: Colour) -> TextStyle<'static> {
    // the library takes a font's height for its size, and SVG the letters'
    ("sans-serif", size * 1.24 * f64::from(FINE)).into_font().color(&colour.light)
}

fn stroke(look: Style, width: i32) -> ShapeStyle {
    look.colour.light.stroke_width((width * FINE) as u32)
}

fn marker(page: &Page<'_>, (x, y): (i32, i32), look: Style, filled: bool) -> Result<(), Failure> {
    let r = 4 * FINE;
    let paint = if filled { look.colour.light.filled() } else { stroke(look, 2) };
    match look.marker {
        Marker::Circle => page.draw(&Circle::new((x, y), r, paint))?,
        Marker::Square => {
            let corners =
                vec![(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r), (x - r, y - r)];
            outline(page, corners, paint)?;
        }
        Marker::Triangle => {
            let corners = vec![(x - r, y + r), (x + r, y + r), (x, y - r), (x - r, y + r)];
            outline(page, corners, paint)?;
        }
        Marker::Cross => {
            let arm = stroke(look, 2);
            page.draw(&PathElement::new(vec![(x - r, y - r), (x + r, y + r)], arm))?;
            page.draw(&PathElement::new(vec![(x - r, y + r), (x + r, y - r)], arm))?;
        }
    }
    Ok(())
}

/// A closed path, filled or not.
fn outline(page: &Page<'_>, corners: Vec<(i32, i32)>, paint: ShapeStyle) -> Result<(), Failure> {
    match paint.filled {
        true => page.draw(&Polygon::new(corners, paint))?,
        false => page.draw(&PathElement::new(corners, paint))?,
    }
    Ok(())
}
