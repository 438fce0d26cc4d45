//! A drawing surface: shapes with classes, and text that is always escaped.

use std::fmt::{Display, Write};

use super::theme;

/// Text as it may stand in HTML and SVG, also inside double quotes.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c if c.is_control() && c != '\n' => safe.push('\u{fffd}'), // XML allows no control characters
            c => safe.push(c),
        }
    }
    safe
}

/// Where a text stands relative to its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// The text starts there.
    Start,
    /// It is centred there.
    Middle,
    /// It ends there.
    End,
}

/// A figure in the making.
#[derive(Clone, Debug)]
pub struct Canvas {
    width: f64,
    height: f64,
    label: String,
    body: String,
}

impl Canvas {
    /// An empty figure; `label` says what it shows to those who can't see it.
    pub fn new(width: f64, height: f64, label: impl Into<String>) -> Self {
        Self { width, height, label: label.into(), body: String::new() }
    }

    /// Its width.
    pub fn width(&self) -> f64 {
        self.width
    }

    /// Its height.
    pub fn height(&self) -> f64 {
        self.height
    }

    fn push(&mut self, element: impl Display) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.body, "{element}");
    }

    /// A filled rectangle with an optional tip that appears under the pointer.
    pub fn rect(&mut self, [x, y, w, h]: [f64; 4], fill: &str, tip: &str) {
        let tip = if tip.is_empty() { String::new() } else { format!("<title>{}</title>", escape(tip)) };
        self.push(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{w:.1}" height="{h:.1}" rx="2" fill="{fill}">{tip}</rect>"#
        ));
    }

    /// The outline of a rectangle.
    pub fn outline(&mut self, [x, y, w, h]: [f64; 4], class: &str) {
        self.push(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{w:.1}" height="{h:.1}" rx="2" class="{class}"/>"#
        ));
    }

    /// A straight line.
    pub fn line(&mut self, from: [f64; 2], to: [f64; 2], class: &str) {
        self.path(&[from, to], class);
    }

    /// A line through points.
    pub fn path(&mut self, points: &[[f64; 2]], class: &str) {
        self.push(format_args!(r#"<path d="{}" class="{class}"/>"#, outline(points)));
    }

    /// A filled shape.
    pub fn area(&mut self, points: &[[f64; 2]], fill: &str, class: &str) {
        self.push(format_args!(r#"<path d="{}Z" fill="{fill}" class="{class}"/>"#, outline(points)));
    }

    /// A dot.
    pub fn dot(&mut self, [x, y]: [f64; 2], radius: f64, class: &str, tip: &str) {
        let tip = escape(tip);
        self.push(format_args!(
            r#"<circle cx="{x:.1}" cy="{y:.1}" r="{radius}" class="dot {class}"><title>{tip}</title></circle>"#
        ));
    }

    /// Text in the colour of its class.
    pub fn text(&mut self, at: [f64; 2], anchor: Anchor, class: &str, text: &str) {
        self.styled_text(at, anchor, class, "", text);
    }

    /// Text in a colour of its own.
    pub fn inked_text(&mut self, at: [f64; 2], anchor: Anchor, class: &str, ink: &str, text: &str) {
        self.styled_text(at, anchor, class, &format!(r#" style="fill:{ink}""#), text);
    }

    fn styled_text(&mut self, [x, y]: [f64; 2], anchor: Anchor, class: &str, style: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => r#" text-anchor="middle""#,
            Anchor::End => r#" text-anchor="end""#,
        };
        let text = escape(text);
        self.push(format_args!(r#"<text x="{x:.1}" y="{y:.1}" class="{class}"{anchor}{style}>{text}</text>"#));
    }

    /// Puts another figure at a place of this one.
    pub fn place(&mut self, x: f64, y: f64, other: &Self) {
        self.push(format_args!(r#"<g transform="translate({x:.1} {y:.1})">"#));
        self.body.push_str(&other.body);
        self.push("</g>");
    }

    /// The figure as an element of a page, whose style sheet gives it its colours.
    pub fn inline(&self) -> String {
        let Self { width, height, body, .. } = self;
        let label = escape(&self.label);
        format!(
            "<svg viewBox=\"0 0 {width:.0} {height:.0}\" style=\"max-width:{:.0}px\" role=\"img\" aria-label=\"{label}\">\n{body}</svg>\n",
            width * 1.25
        )
    }

    /// The figure as a file that brings its own colours and background.
    pub fn file(&self) -> String {
        let Self { width, height, body, .. } = self;
        let (label, style, (background, border)) = (escape(&self.label), theme::light_figure_css(), theme::POSTER);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"{label}\">\n<title>{label}</title>\n\
             <style>\n{style}</style>\n<rect x=\".5\" y=\".5\" width=\"{:.0}\" height=\"{:.0}\" rx=\"8\" \
             fill=\"{background}\" stroke=\"{border}\"/>\n{body}</svg>\n",
            width - 1.0,
            height - 1.0
        )
    }
}

fn outline(points: &[[f64; 2]]) -> String {
    let mut d = String::new();
    for (i, [x, y]) in points.iter().enumerate() {
        let _ = write!(d, "{}{x:.1} {y:.1}", if i == 0 { 'M' } else { 'L' });
    }
    d
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_everywhere() {
        let evil = "<script>\"&'\u{7}";
        let mut canvas = Canvas::new(10.0, 10.0, evil);
        canvas.text([0.0, 0.0], Anchor::Start, "title", evil);
        canvas.rect([0.0; 4], "#000000", evil);
        canvas.dot([0.0; 2], 1.0, "s0", evil);
        for svg in [canvas.inline(), canvas.file()] {
            assert!(!svg.contains("<script") && !svg.contains('\u{7}'));
            assert!(svg.contains("&lt;script&gt;&quot;&amp;&#39;\u{fffd}"));
        }
    }
}
