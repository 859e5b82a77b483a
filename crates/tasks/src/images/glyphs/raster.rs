//! Strokes of a round pen on paper, antialiased.

/// Ink on a square of paper. Places on it are from 0 to 1 in each direction, x before y.
pub(super) struct Raster {
    size: usize,
    /// `[size, size]`: 0 for paper, 1 for ink.
    ink: Vec<f32>,
}

impl Raster {
    pub fn new(size: usize) -> Self {
        Self { size, ink: vec![0.0; size * size] }
    }

    pub fn clear(&mut self) {
        self.ink.fill(0.0);
    }

    /// The paper as bytes: white 255, ink 0.
    pub fn print(&self, image: &mut [u8]) {
        for (byte, ink) in image.iter_mut().zip(&self.ink) {
            *byte = (255.0 * (1.0 - ink) + 0.5) as u8;
        }
    }

    /// A stroke through the points, with a pen of the radius `pen` (the paper is 1 wide).
    ///
    /// The curve is a cardinal spline: straight for `roundness` 0, Catmull and Rom's (1974) for 1.
    pub fn stroke(&mut self, points: &[[f32; 2]], roundness: f64, pen: f64) {
        let size = self.size as f32;
        // Thinner than a pixel, a line would break up into dots.
        let radius = (pen as f32 * size).max(0.5);
        let point = |index: usize| points[index.min(points.len() - 1)].map(|x| x * size - 0.5);
        let pieces = if roundness > 0.0 { 4 + self.size / 8 } else { 1 };
        let tension = roundness as f32 / 2.0;
        for span in 0..points.len().saturating_sub(1) {
            let around = [point(span.saturating_sub(1)), point(span), point(span + 1), point(span + 2)];
            let mut from = around[1];
            for piece in 1..=pieces {
                let to = cardinal(around, tension, piece as f32 / pieces as f32);
                self.line(from, to, radius);
                from = to;
            }
        }
    }

    /// A straight piece, in pixels between the centres of pixels; a pixel is inked as far as the pen's rim covers it.
    fn line(&mut self, a: [f32; 2], b: [f32; 2], radius: f32) {
        let reach = radius + 0.5;
        let last = self.size as f32 - 1.0;
        let [xs, ys] = [0, 1].map(|axis| {
            let low = (a[axis].min(b[axis]) - reach).ceil().max(0.0);
            let high = (a[axis].max(b[axis]) + reach).floor().min(last);
            // A piece beyond the edge inks nothing.
            if low <= high { low as usize..high as usize + 1 } else { 0..0 }
        });
        let along = [b[0] - a[0], b[1] - a[1]];
        let square = along[0] * along[0] + along[1] * along[1];
        let inverse = if square > 0.0 { 1.0 / square } else { 0.0 };
        for y in ys {
            let down = y as f32 - a[1];
            let row = &mut self.ink[y * self.size..][xs.clone()];
            for (x, ink) in xs.clone().zip(row) {
                let right = x as f32 - a[0];
                let t = ((right * along[0] + down * along[1]) * inverse).clamp(0.0, 1.0);
                let (dx, dy) = (right - t * along[0], down - t * along[1]);
                let covered = (reach - (dx * dx + dy * dy).sqrt()).clamp(0.0, 1.0);
                *ink = ink.max(covered);
            }
        }
    }
}

/// The cardinal spline from the second point to the third, at `t` from 0 to 1; the tangents are `tension` times the
/// chord from neighbour to neighbour.
fn cardinal(points: [[f32; 2]; 4], tension: f32, t: f32) -> [f32; 2] {
    [0, 1].map(|axis| {
        let [before, from, to, after] = points.map(|point| point[axis]);
        let (leave, arrive) = (tension * (to - before), tension * (after - from));
        let chord = to - from;
        // Hermite's cubic in powers of t.
        from + t * (leave + t * ((3.0 * chord - 2.0 * leave - arrive) + t * (leave + arrive - 2.0 * chord)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(size: usize, points: &[[f32; 2]], roundness: f64, pen: f64) -> Vec<u8> {
        let mut raster = Raster::new(size);
        raster.stroke(points, roundness, pen);
        let mut image = vec![0; size * size];
        raster.print(&mut image);
        image
    }

    #[test]
    fn splines_pass_through_their_points() {
        let points = [[0.0, 0.0], [1.0, 2.0], [3.0, -1.0], [4.0, 5.0]];
        for tension in [0.0, 0.5, 0.6] {
            assert_eq!(cardinal(points, tension, 0.0), points[1]);
            let end = cardinal(points, tension, 1.0);
            assert!((0..2).all(|axis| (end[axis] - points[2][axis]).abs() < 1e-6), "{end:?}");
        }
    }

    #[test]
    fn without_roundness_a_spline_is_its_chord() {
        let [x, y] = cardinal([[9.0, 9.0], [1.0, 2.0], [3.0, 8.0], [-9.0, 9.0]], 0.0, 0.5);
        assert!((x - 2.0).abs() < 1e-6 && (y - 5.0).abs() < 1e-6);
    }

    #[test]
    fn a_line_has_the_area_of_its_pen() {
        // a capsule 0.5 long with a radius of 0.1
        let image = printed(100, &[[0.25, 0.5], [0.75, 0.5]], 0.0, 0.1);
        let ink: f64 = image.iter().map(|&byte| 1.0 - f64::from(byte) / 255.0).sum();
        let area = 0.5 * 0.2 + std::f64::consts::PI * 0.01;
        assert!((ink / 1e4 - area).abs() < 0.01 * area, "{}", ink / 1e4);
    }

    #[test]
    fn what_leaves_the_paper_is_cut_off() {
        let outside = printed(9, &[[-0.9, 1.7], [-0.2, 2.4], [-3.0, 1.5]], 1.0, 0.02);
        assert!(outside.iter().all(|&byte| byte == 255));
        let across = printed(9, &[[-1.0, 0.5], [2.0, 0.5]], 1.0, 0.02);
        assert_eq!(across.iter().filter(|&&byte| byte < 255).count(), 9);
    }
}
