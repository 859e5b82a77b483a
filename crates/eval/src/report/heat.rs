//! Figures: values by two coordinates as shades of one colour.

use plastica_tasks::Phase;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::chart::{FINE, Failure, Page, TEXT, content, words};
use super::style::{Colour, INK, QUIET};
use super::ticks::Axis;
use crate::EvalError;

/// Shades that are told apart; neighbours of one shade are drawn as one.
const SHADES: f64 = 24.0;
/// Most cells across and down: beyond, a cell stands for several steps and shows the largest of their values.
const MOST_CELLS: usize = 160;
/// Room beside the plot: left, right, above, below.
const ROOM: (i32, i32, i32, i32) = (44, 8, 26, 38);

/// What a figure shows.
pub(super) struct HeatMap<'a> {
    pub title: String,
    /// The value that is darkest. Shades go with the square root, so that small values are seen at all.
    pub darkest: f64,
    /// Values of at least 0, row by row from the top; a row may be shorter than others.
    pub rows: Vec<&'a [f64]>,
    /// Names of the rows; without, they are steps, and the axis counts them.
    pub names: Vec<String>,
    /// Phases of the columns, T; their ends are marked, and those of rows that are steps.
    pub phases: &'a [Phase],
    pub colour: Colour,
    /// Width and height.
    pub size: (i32, i32),
    /// Room for the rows' names, in addition.
    pub left: i32,
}

impl HeatMap<'_> {
    /// The content of an `svg` element, in drawn units.
    ///
    /// # Errors
    /// [`EvalError::Report`] with the title.
    pub fn draw(&self) -> Result<String, EvalError> {
        let mut svg = String::new();
        self.draw_to(&mut svg).map_err(|error| EvalError::Report {
            part: format!("figure of {}", self.title),
            message: error.to_string(),
        })?;
        Ok(content(&svg))
    }

    fn draw_to(&self, svg: &mut String) -> Result<(), Failure> {
        let size = ((self.size.0 * FINE) as u32, (self.size.1 * FINE) as u32);
        let page = SVGBackend::with_string(svg, size).into_drawing_area();
        let (left, right, above, below) = ROOM;
        let plot = Plot {
            left: (left + self.left) * FINE,
            top: above * FINE,
            right: (self.size.0 - right) * FINE,
            bottom: (self.size.1 - below) * FINE,
            columns: self.phases.len(),
            rows: self.rows.len(),
        };
        self.cells(&page, &plot)?;
        self.marks(&page, &plot)?;
        let look = words(TEXT, INK).pos(Pos::new(HPos::Left, VPos::Top));
        page.draw(&Text::new(self.title.clone(), (plot.left, 4 * FINE), look))?;
        Ok(page.present()?)
    }

    fn cells(&self, page: &Page<'_>, plot: &Plot) -> Result<(), Failure> {
        let (down, across) =
            (plot.rows.div_ceil(MOST_CELLS).max(1), plot.columns.div_ceil(MOST_CELLS).max(1));
        for (r, rows) in self.rows.chunks(down).enumerate() {
            let length = rows.iter().map(|row| row.len()).max().unwrap_or(0);
            let shade = |start: usize| {
                let values = rows.iter().flat_map(|row| row.iter().skip(start).take(across));
                let share = values.copied().fold(0.0, f64::max) / self.darkest;
                // 0 / 0 is no shade at all
                (share.min(1.0).sqrt() * SHADES).round() as u32
            };
            let shades: Vec<(usize, u32)> =
                (0..length).step_by(across).map(|start| (start, shade(start))).collect();
            let (top, bottom) = (plot.y(r * down), plot.y((r * down + rows.len()).min(plot.rows)));
            for run in shades.chunk_by(|a, b| a.1 == b.1).filter(|run| run[0].1 > 0) {
                let end = (run[run.len() - 1].0 + across).min(length);
                let paint = self.colour.light.mix(f64::from(run[0].1) / SHADES).filled();
                page.draw(&Rectangle::new([(plot.x(run[0].0), top), (plot.x(end), bottom)], paint))?;
            }
        }
        Ok(())
    }

    fn marks(&self, page: &Page<'_>, plot: &Plot) -> Result<(), Failure> {
        let line = QUIET.light.stroke_width(FINE as u32);
        let small = |h, v| words(TEXT * 0.86, INK).pos(Pos::new(h, v));
        let mut start = 0;
        for steps in self.phases.chunk_by(|a, b| a == b) {
            start += steps.len();
            let (x, y) = (plot.x(start), plot.y(start));
            page.draw(&PathElement::new(vec![(x, plot.top), (x, plot.bottom)], line))?;
            if self.names.is_empty() {
                page.draw(&PathElement::new(vec![(plot.left, y), (plot.right, y)], line))?;
            }
        }
        let corners = [(plot.left, plot.top), (plot.right, plot.bottom)];
        page.draw(&Rectangle::new(corners, line))?;
        let axis = Axis::counts(1, plot.columns.max(1), (0.5, plot.columns as f64 + 0.5));
        for (&tick, label) in axis.ticks.iter().zip(&axis.labels) {
            let step = tick as usize - 1;
            let x = (plot.x(step) + plot.x(step + 1)) / 2;
            let look = small(HPos::Center, VPos::Top);
            page.draw(&Text::new(label.clone(), (x, plot.bottom + 4 * FINE), look))?;
            if self.names.is_empty() {
                let y = (plot.y(step) + plot.y(step + 1)) / 2;
                let look = small(HPos::Right, VPos::Center);
                page.draw(&Text::new(label.clone(), (plot.left - 5 * FINE, y), look))?;
            }
        }
        for (row, name) in self.names.iter().enumerate() {
            let y = (plot.y(row) + plot.y(row + 1)) / 2;
            let look = small(HPos::Right, VPos::Center);
            page.draw(&Text::new(name.clone(), (plot.left - 5 * FINE, y), look))?;
        }
        let below = ((plot.left + plot.right) / 2, plot.bottom + 20 * FINE);
        let label = if self.names.is_empty() { "rows attend to columns" } else { "step" };
        page.draw(&Text::new(label, below, small(HPos::Center, VPos::Top)))?;
        Ok(())
    }
}

/// Where the plot is, in drawn units, and how many cells it has.
struct Plot {
    left: i32,
    top: i32,
    right: i32,
    bottom: i32,
    columns: usize,
    rows: usize,
}

impl Plot {
    /// The left side of a column.
    fn x(&self, column: usize) -> i32 {
        self.left + between(self.right - self.left, column, self.columns)
    }

    /// The upper side of a row.
    fn y(&self, row: usize) -> i32 {
        self.top + between(self.bottom - self.top, row, self.rows)
    }
}

/// `length · part / whole`, rounded.
fn between(length: i32, part: usize, whole: usize) -> i32 {
    (f64::from(length) * part as f64 / whole.max(1) as f64).round() as i32
}
