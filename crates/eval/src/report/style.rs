//! How a rule looks, the same in every figure: colour, line and marker, so that colour is never the only cue.
//!
//! The colours are those of Okabe and Ito (2008), which keep apart for most colour-blind readers. A figure is drawn in the
//! light ones; the page exchanges them in the dark.

use plotters::style::RGBColor;

use crate::split_arm;

/// A colour and what stands for it in the dark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Colour {
    /// On white.
    pub light: RGBColor,
    /// On black, as CSS has it.
    pub dark: &'static str,
}

/// The marker on a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marker {
    Circle,
    Square,
    Triangle,
    Cross,
}

/// A rule's looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Style {
    pub colour: Colour,
    /// Lengths of a dash and of the gap after it, in units of the figure; `None` for a line without gaps.
    pub dash: Option<(i32, i32)>,
    pub marker: Marker,
}

const fn colour(light: (u8, u8, u8), dark: &'static str) -> Colour {
    Colour { light: RGBColor(light.0, light.1, light.2), dark }
}

/// Words and axes.
pub(super) const INK: Colour = colour((0x33, 0x36, 0x3C), "#C9CBD1");
/// Grid lines.
pub(super) const GRID: Colour = colour((0xE3, 0xE1, 0xDB), "#32363E");
/// The ground of every other phase.
pub(super) const SHADE: Colour = colour((0xF2, 0xEF, 0xE8), "#23272E");
/// Baselines.
pub(super) const QUIET: Colour = colour((0x8A, 0x8D, 0x93), "#8F949C");

const BLACK: Colour = colour((0x1A, 0x1A, 0x1A), "#E9E9E9");
pub(super) const BLUE: Colour = colour((0x00, 0x72, 0xB2), "#56B4E9");
const VERMILION: Colour = colour((0xD5, 0x5E, 0x00), "#F0803C");
const GREEN: Colour = colour((0x00, 0x9E, 0x73), "#2FC79A");
const PURPLE: Colour = colour((0xCC, 0x79, 0xA7), "#DB9CC0");

const STYLES: [Style; 5] = [
    Style { colour: BLACK, dash: Some((2, 5)), marker: Marker::Circle },
    Style { colour: BLUE, dash: None, marker: Marker::Square },
    Style { colour: VERMILION, dash: Some((10, 5)), marker: Marker::Triangle },
    Style { colour: GREEN, dash: Some((14, 4)), marker: Marker::Cross },
    Style { colour: PURPLE, dash: Some((4, 4)), marker: Marker::Circle },
];

/// The looks of a rule: of the paper's three always the same, of others by their place in the study. Where a rule has a
/// credit beside its name, the line says which.
pub(super) fn style(rule: &str, study: &[String]) -> Style {
    let (rule, credit) = split_arm(rule);
    let dash = match credit {
        "" | "full" => style_of_rule(rule, study).dash,
        "detached" => Some((1, 4)),
        _ => Some((6, 2)),
    };
    Style { dash, ..style_of_rule(rule, study) }
}

fn style_of_rule(rule: &str, study: &[String]) -> Style {
    let papers = ["none", "hebbian", "gradient"];
    if let Some(place) = papers.iter().position(|&name| name == rule) {
        return STYLES[place];
    }
    let mut others: Vec<&str> = study.iter().map(|name| split_arm(name).0).collect();
    others.retain(|name| !papers.contains(name));
    others.dedup();
    let place = others.iter().take_while(|&&name| name != rule).count();
    STYLES[papers.len() + place % (STYLES.len() - papers.len())]
}

impl Colour {
    /// The light colour, as a figure has it in its attributes.
    pub fn hex(self) -> String {
        let RGBColor(r, g, b) = self.light;
        format!("#{r:02X}{g:02X}{b:02X}")
    }
}

/// The style sheet that exchanges every colour of a figure for its dark counterpart.
pub(super) fn dark_rules() -> String {
    let colours = [INK, GRID, SHADE, QUIET].into_iter().chain(STYLES.map(|style| style.colour));
    let rule = |attribute: &str, colour: Colour| {
        format!("svg [{attribute}=\"{}\"]{{{attribute}:{}}}", colour.hex(), colour.dark)
    };
    colours.flat_map(|c| [rule("fill", c), rule("stroke", c)]).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_rules_look_alike_without_colour() {
        for (i, a) in STYLES.iter().enumerate() {
            for b in &STYLES[..i] {
                assert_ne!((a.dash, a.marker), (b.dash, b.marker));
                assert_ne!(a.colour.hex(), b.colour.hex());
            }
        }
    }

    #[test]
    fn a_rule_looks_the_same_in_every_study() {
        let study = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect::<Vec<String>>();
        let (small, large) = (study(&["gradient"]), study(&["oja", "none", "gradient", "bcm"]));
        assert_eq!(style("gradient", &small), style("gradient", &large));
        assert_ne!(style("oja", &large), style("bcm", &large));
        let arms = study(&["none", "oja detached", "oja full", "bcm full"]);
        assert_eq!(style("oja full", &arms), style("oja", &large));
        assert_eq!(style("bcm full", &arms), style("bcm", &large));
        let (detached, full) = (style("oja detached", &arms), style("oja full", &arms));
        assert_eq!((detached.colour, detached.marker), (full.colour, full.marker));
        assert_ne!(detached.dash, full.dash);
    }
}
