//! One episode as a picture.

use std::fmt::Write as _;
use std::path::Path;

use super::chart::{Chart, FINE};
use super::curves::ALONG;
use super::heat::HeatMap;
use super::style::{BLUE, INK, style};
use super::{Curve, Point, Series};
use crate::record::replace_file;
use crate::{EpisodeTrace, EvalError, HeadAttention, StepTrace, format_number};

/// Width of the picture.
const WIDTH: i32 = 940;
/// Size of a figure along the steps, as the charts have it, with a margin.
const CHART: (i32, i32) = (470, 280);
/// Size of one head's attention; four stand side by side.
const HEAD: (i32, i32) = (235, 260);
/// Height of a row of the layers' norms.
const LAYER: i32 = 22;
/// Height of the title.
const TITLE: i32 = 40;

impl EpisodeTrace {
    /// The episode as an SVG picture: η, gate, clip and the fast weights' norm along the steps, the norm layer by layer,
    /// and every head's attention. `title` stands above.
    ///
    /// # Errors
    /// [`EvalError::Report`] for a figure that cannot be drawn.
    pub fn svg(&self, title: &str) -> Result<String, EvalError> {
        let mut parts = Parts { body: String::new(), top: TITLE };
        if let Some(trace) = &self.plasticity {
            for pair in self.charts(trace)?.chunks(2) {
                for (i, content) in pair.iter().enumerate() {
                    parts.place(content, i as i32 * CHART.0);
                }
                parts.top += CHART.1;
            }
            let layers = self.layers();
            parts.place(&layers.draw()?, 0);
            parts.top += layers.size.1;
        }
        for heads in self.attention.chunks(4) {
            for (i, head) in heads.iter().enumerate() {
                parts.place(&self.head(head).draw()?, i as i32 * HEAD.0);
            }
            parts.top += HEAD.1;
        }
        Ok(parts.picture(&escaped(title), &self.words()))
    }

    /// Writes the picture in one piece; missing parent folders are made.
    ///
    /// # Errors
    /// As [`svg`](Self::svg); [`EvalError::ReportWrite`] for a file that cannot be written.
    pub fn write_svg(&self, path: &Path, title: &str) -> Result<(), EvalError> {
        let picture = self.svg(title)?;
        replace_file(path, |out| out.write_all(picture.as_bytes()))
            .map_err(|source| EvalError::ReportWrite { path: path.to_owned(), source })
    }

    /// The figures along the steps; a quantity that is nowhere a number has none.
    fn charts(&self, trace: &StepTrace) -> Result<Vec<String>, EvalError> {
        let rules = [self.rule.clone()];
        let one = |(metric, values): (&str, &[f64])| -> Result<Option<String>, EvalError> {
            let label = ALONG.iter().find(|(name, _)| *name == metric).map_or(metric, |(_, label)| label);
            let points = (1..).zip(values).map(|(x, &mean)| Point { x, mean, low: mean, high: mean });
            let points: Vec<Point> = points.filter(|point| point.mean.is_finite()).collect();
            if points.is_empty() {
                return Ok(None);
            }
            let series = Series { rule: self.rule.clone(), points };
            let chart = Chart {
                curve: &Curve { metric: metric.into(), label: label.into(), series: vec![series] },
                x_label: "step",
                logarithmic: spans_decades(values),
                phases: &self.phases,
                published: Vec::new(),
                baselines: &[],
                rules: &rules,
            };
            Ok(Some(chart.draw()?.content))
        };
        trace.named().into_iter().filter_map(|quantity| one(quantity).transpose()).collect()
    }

    fn layers(&self) -> HeatMap<'_> {
        let norms = self.layers.iter().flat_map(|layer| &layer.squared_norm);
        let darkest = norms.copied().fold(0.0, f64::max);
        HeatMap {
            title: format!("‖F‖² layer by layer (darkest: {})", format_number(darkest)),
            darkest,
            rows: self.layers.iter().map(|layer| &layer.squared_norm[..]).collect(),
            names: self.layers.iter().map(|layer| layer.name.clone()).collect(),
            phases: &self.phases,
            colour: style(&self.rule, &[]).colour,
            size: (WIDTH, 70 + LAYER * self.layers.len() as i32),
            left: 60,
        }
    }

    fn head<'a>(&'a self, head: &'a HeadAttention) -> HeatMap<'a> {
        HeatMap {
            title: format!("block {}, head {}", head.block, head.head),
            darkest: 1.0,
            rows: head.rows.iter().map(|row| &row[..]).collect(),
            names: Vec::new(),
            phases: &self.phases,
            colour: BLUE,
            size: HEAD,
            left: 0,
        }
    }

    /// The picture for those who do not see it.
    fn words(&self) -> String {
        let steps = self.phases.len();
        let heads = self.attention.len();
        match self.plasticity {
            Some(_) => format!(
                "η, gate, clip and squared fast-weight norms after each of {steps} steps, and the attention of {heads} heads."
            ),
            None => format!("The attention of {heads} heads over {steps} steps."),
        }
    }
}

/// Whether values are so far apart that only a logarithmic axis shows them all.
fn spans_decades(values: &[f64]) -> bool {
    let above_zero = values.iter().copied().filter(|&value| value > 0.0);
    let (least, most) = above_zero.fold((f64::INFINITY, 0.0), |(a, b): (f64, f64), v| (a.min(v), b.max(v)));
    most > 10.0 * least
}

/// The picture as far as it has come.
struct Parts {
    body: String,
    top: i32,
}

impl Parts {
    /// Puts a figure, in drawn units, at this distance from the left.
    fn place(&mut self, content: &str, left: i32) {
        let (scale, top) = (1.0 / f64::from(FINE), self.top);
        // writing to a string never fails
        let _ =
            write!(self.body, "<g transform=\"translate({left} {top}) scale({scale})\">\n{content}\n</g>\n");
    }

    fn picture(self, title: &str, words: &str) -> String {
        let Self { body, top: height } = self;
        let ink = INK.hex();
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
             viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n<title>{title}</title>\n<desc>{words}</desc>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#FFFFFF\"/>\n\
             <text x=\"12\" y=\"26\" font-family=\"sans-serif\" font-size=\"17\" fill=\"{ink}\">{title}</text>\n\
             {body}</svg>\n"
        )
    }
}

/// Text as XML has it: what XML cannot hold, such as control characters, becomes a space.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\u{FFFE}' | '\u{FFFF}' => escaped.push(' '),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}
