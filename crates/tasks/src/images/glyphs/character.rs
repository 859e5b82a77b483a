//! What an alphabet's characters have in common, what a character is, and how a hand varies it.

use std::f64::consts::TAU;

use rand::Rng;
use rand_distr::Distribution;

use super::raster::Raster;
use crate::{
    draw::{below, within},
    normal::StandardNormal,
};

type Point = [f64; 2];

/// Fewest lines from point to point of a character, lest it be a dash like many others; and the number at which no more
/// strokes begin, lest it be a scribble.
const LINES: [usize; 2] = [3, 7];

/// What the characters of an alphabet share.
pub(super) struct Style {
    /// Fewest and most strokes of a character.
    strokes: [u32; 2],
    /// Most lines of a stroke, from point to point.
    lines: u32,
    /// Shortest and longest of these, the paper being 1 wide.
    lengths: [f64; 2],
    /// The first direction of the pen, as an angle, and how many there are around the circle.
    directions: (f64, u32),
    /// Most directions that the pen passes over as it turns.
    turn: u32,
    /// Chance that the pen turns on as it turned before: strokes curl, or zigzag.
    curl: f64,
    /// Chance that a stroke begins on an earlier one.
    attach: f64,
    /// 0 for straight lines between the points, 1 for a Catmull–Rom spline through them.
    roundness: f64,
    /// Width by height.
    aspect: f64,
    /// The pen's radius, the paper being 1 wide.
    pen: f64,
}

impl Style {
    pub fn draw(rng: &mut dyn Rng) -> Self {
        let fewest = 1 + below(rng, 2);
        let round = below(rng, 3) > 0;
        let around = if round { 8 + 2 * below(rng, 3) } else { 4 + 2 * below(rng, 3) };
        Self {
            strokes: [fewest, fewest + 1 + below(rng, 4 - fewest)],
            lines: if round { 3 + below(rng, 3) } else { 2 + below(rng, 2) },
            lengths: if round { [0.2, 0.5] } else { [0.25, 0.75] },
            directions: (within(rng, 0.0..=TAU / 8.0), around),
            turn: if round { around / 3 } else { around / 2 - 1 },
            curl: within(rng, 0.3..=0.95),
            attach: within(rng, 0.3..=0.9),
            roundness: if round { within(rng, 0.9..=1.3) } else { within(rng, 0.0..=0.3) },
            aspect: within(rng, 0.75..=1.3),
            pen: within(rng, 0.018..=0.026),
        }
    }
}

/// Strokes as the points that they pass through; the paper is the square within ±1/2.
pub(super) struct Character {
    strokes: Vec<Vec<Point>>,
}

impl Character {
    pub fn draw(style: &Style, rng: &mut dyn Rng) -> Self {
        let [fewest, most] = style.strokes;
        let count = fewest + below(rng, most - fewest + 1);
        let mut strokes: Vec<Vec<Point>> = Vec::new();
        let mut lines = 0;
        while lines < LINES[0] || (strokes.len() < count as usize && lines < LINES[1]) {
            let earlier = (below(rng, strokes.len().max(1) as u32) as usize, within(rng, 0.0..=1.0));
            let attached = within(rng, 0.0..=1.0) < style.attach;
            let start = match strokes.get(earlier.0) {
                Some(stroke) if attached => stroke[(earlier.1 * (stroke.len() - 1) as f64 + 0.5) as usize],
                _ => [within(rng, 0.0..=1.0), within(rng, 0.0..=1.0)],
            };
            let stroke = stroke(style, start, rng);
            lines += stroke.len() - 1;
            strokes.push(stroke);
        }
        let mut character = Self { strokes };
        character.fit(style.aspect);
        character
    }

    /// Centres the points, and scales them to the part of the paper that is written on.
    fn fit(&mut self, aspect: f64) {
        const HEIGHT: f64 = 0.7;
        let points = || self.strokes.iter().flatten();
        let bounds = [0, 1].map(|axis| {
            let low = points().map(|p| p[axis]).fold(f64::INFINITY, f64::min);
            (low, points().map(|p| p[axis]).fold(low, f64::max))
        });
        let room = [HEIGHT * aspect.min(1.1), HEIGHT];
        let scale = [0, 1]
            .map(|axis| room[axis] / (bounds[axis].1 - bounds[axis].0).max(1e-3))
            .into_iter()
            .fold(f64::INFINITY, f64::min);
        for point in self.strokes.iter_mut().flatten() {
            for (x, (low, high)) in point.iter_mut().zip(bounds) {
                *x = (*x - (low + high) / 2.0) * scale;
            }
        }
    }

    /// Writes the character once, by a hand of its own.
    pub fn write(&self, style: &Style, rng: &mut dyn Rng, raster: &mut Raster) {
        let hand = Hand::draw(style, rng);
        let mut points = Vec::new();
        for stroke in &self.strokes {
            points.clear();
            points.extend(stroke.iter().map(|&point| hand.place(point, rng)));
            raster.stroke(&points, style.roundness, hand.pen);
        }
    }
}

/// A walk of the pen from `start`.
fn stroke(style: &Style, start: Point, rng: &mut dyn Rng) -> Vec<Point> {
    let (first, count) = style.directions;
    let [shortest, longest] = style.lengths;
    let mut heading = below(rng, count);
    let mut left = below(rng, 2) == 0;
    let mut points = vec![start];
    for _ in 0..1 + below(rng, style.lines) {
        let angle = first + TAU * f64::from(heading) / f64::from(count);
        let length = within(rng, shortest..=longest);
        let [x, y] = points[points.len() - 1];
        let reach = |from: f64, step: f64| {
            let to = from + step;
            // What would leave the paper goes the other way.
            if (0.0..=1.0).contains(&to) { to } else { (from - step).clamp(0.0, 1.0) }
        };
        points.push([reach(x, length * libm::cos(angle)), reach(y, length * libm::sin(angle))]);
        left ^= within(rng, 0.0..=1.0) > style.curl;
        let turn = 1 + below(rng, style.turn);
        heading = (heading + if left { turn } else { count - turn }) % count;
    }
    points
}

/// How one drawing differs from its character.
struct Hand {
    /// The affine map, a row an axis: coefficients of x and y, and a displacement.
    map: [[f64; 3]; 2],
    /// Standard deviation of each point's displacement.
    tremor: f64,
    pen: f64,
}

impl Hand {
    fn draw(style: &Style, rng: &mut dyn Rng) -> Self {
        let mut normal = |deviation: f64| deviation * StandardNormal.sample(rng);
        let (turn, shear) = (normal(0.14), normal(0.14));
        let (wide, high) = (1.0 + normal(0.09), 1.0 + normal(0.09));
        let (right, down) = (normal(0.035), normal(0.035));
        let (cos, sin) = (libm::cos(turn), libm::sin(turn));
        Self {
            map: [
                [cos * wide, (shear * cos - sin) * high, right],
                [sin * wide, (shear * sin + cos) * high, down],
            ],
            tremor: 0.03,
            pen: style.pen * within(rng, 0.85..=1.2),
        }
    }

    fn place(&self, [x, y]: Point, rng: &mut dyn Rng) -> [f32; 2] {
        self.map.map(|[by_x, by_y, by]| {
            let place = by_x * x + by_y * y + by + self.tremor * StandardNormal.sample(rng);
            (place + 0.5) as f32
        })
    }
}
