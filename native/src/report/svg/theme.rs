//! Colours for light and dark pages, and the scale of the heat maps.

use std::fmt::Write;

/// A colour by name: (name, on light, on dark).
const COLOURS: [(&str, &str, &str); 19] = [
    ("bg", "#ffffff", "#14171c"),
    ("card", "#f6f7f9", "#1c2027"),
    ("fg", "#1c2128", "#e6e9ee"),
    ("muted", "#5f6978", "#9aa4b4"),
    ("grid", "#dfe3e8", "#323944"),
    // One per task.
    ("s0", "#0b63c5", "#62adff"),
    ("s1", "#c2500a", "#ff9f5c"),
    ("s2", "#2b7f3b", "#62d17d"),
    ("s3", "#9c27a0", "#e386e6"),
    ("s4", "#7a6200", "#dcbd4f"),
    ("s5", "#c2255c", "#ff7a9c"),
    ("s6", "#0b7285", "#5fd3dd"),
    ("s7", "#5f3dc4", "#b8a4ff"),
    // One per method.
    ("m0", "#d6336c", "#ff7aa2"),
    ("m1", "#b26a00", "#f2b33d"),
    ("m2", "#0b63c5", "#62adff"),
    ("m3", "#2b7f3b", "#62d17d"),
    ("m4", "#5f3dc4", "#b8a4ff"),
    ("m5", "#0b7285", "#5fd3dd"),
];

/// What the classes of the figures look like.
const FIGURE: &str = "\
text{font:12px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:var(--fg)}
.title{font-weight:600;font-size:13px}
.big{font-weight:600;font-size:17px}
.small{font-size:11px;fill:var(--muted)}
.cell{font-size:13px;font-variant-numeric:tabular-nums}
.later{font-style:italic;opacity:.8}
.grid{stroke:var(--grid);stroke-width:1;fill:none}
.learned{stroke:var(--fg);stroke-width:2;fill:none}
.line{fill:none;stroke-width:2.2;stroke-linejoin:round;stroke-linecap:round}
.before{stroke-width:1.4;stroke-dasharray:2 4;opacity:.7}
.faint{stroke-width:1;opacity:.28}
.band{stroke:var(--bg);stroke-width:.8}
.dot{stroke:var(--bg);stroke-width:1.5}
.end{font-size:11px;font-weight:600}
";

/// The rules for figures inside a page that defines the variables.
pub fn figure_css() -> String {
    let mut css = FIGURE.to_owned();
    for (name, ..) in COLOURS.iter().filter(|(name, ..)| is_series(name)) {
        // Writing to a String cannot fail.
        let _ = writeln!(css, ".line.{name}{{stroke:var(--{name})}}.dot.{name},.end.{name}{{fill:var(--{name})}}");
    }
    css
}

/// The same rules with the light colours in place of the variables, for a file of its own.
pub fn light_figure_css() -> String {
    COLOURS.iter().fold(figure_css(), |css, (name, light, _)| css.replace(&format!("var(--{name})"), light))
}

/// The variables for a page: light, and dark where the reader prefers it.
pub fn variables_css() -> String {
    let define = |pick: fn(&(&str, &'static str, &'static str)) -> &'static str| {
        COLOURS.iter().map(|c| format!("--{}:{};", c.0, pick(c))).collect::<String>()
    };
    let (light, dark) = (define(|c| c.1), define(|c| c.2));
    format!(":root{{color-scheme:light dark;{light}}}\n@media(prefers-color-scheme:dark){{:root{{{dark}}}}}\n")
}

/// The class of a task's colour.
pub fn task_class(index: usize) -> String {
    format!("s{}", index % 8)
}

/// The class of a method's colour.
pub fn method_class(index: usize) -> String {
    format!("m{}", index % 6)
}

/// Background of a figure in a file of its own, and its border.
pub(super) const POSTER: (&str, &str) = ("#ffffff", "#dfe3e8");

/// The colour scale (viridis) at `share` in 0…1: dark is low. The same on light and dark pages.
pub fn ramp(share: f64) -> [u8; 3] {
    const STOPS: [[u8; 3]; 6] =
        [[68, 1, 84], [65, 68, 135], [42, 120, 142], [34, 168, 132], [122, 209, 81], [253, 231, 37]];
    let place = share.clamp(0.0, 1.0) * (STOPS.len() - 1) as f64;
    let low = (place as usize).min(STOPS.len() - 2);
    let part = place - low as f64;
    let mix = |channel: usize| {
        let (a, b) = (f64::from(STOPS[low][channel]), f64::from(STOPS[low + 1][channel]));
        (a + (b - a) * part).round() as u8
    };
    [mix(0), mix(1), mix(2)]
}

/// `#rrggbb`.
pub fn hex([r, g, b]: [u8; 3]) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// Black or white, whichever can be read on `colour`.
pub fn ink_on(colour: [u8; 3]) -> &'static str {
    let linear = |c: u8| (f64::from(c) / 255.0).powf(2.2);
    let luminance = 0.2126 * linear(colour[0]) + 0.7152 * linear(colour[1]) + 0.0722 * linear(colour[2]);
    if luminance > 0.18 { "#101010" } else { "#ffffff" }
}

fn is_series(name: &str) -> bool {
    name.len() == 2 && name.ends_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_is_defined_and_none_is_left_in_a_file() {
        let (page, variables) = (figure_css(), variables_css());
        for part in page.split("var(").skip(1) {
            let name = part.split(')').next().unwrap();
            assert!(variables.contains(&format!("{name}:#")), "{name}");
        }
        assert!(!light_figure_css().contains("var("));
    }

    #[test]
    fn the_scale_runs_from_dark_to_light() {
        assert_eq!((hex(ramp(0.0)), hex(ramp(1.0))), ("#440154".to_owned(), "#fde725".to_owned()));
        assert_eq!((ink_on(ramp(-1.0)), ink_on(ramp(2.0))), ("#ffffff", "#101010"));
    }
}
