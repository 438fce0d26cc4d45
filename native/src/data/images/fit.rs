//! Making images fit a model.

use std::io::Cursor;

use image::imageops::{FilterType, resize};
use image::{DynamicImage, ImageBuffer, ImageFormat, ImageReader, Luma};

use super::error::ImageError;
use crate::formats::files::At;
use eblora_core::model::vit::VitConfig;

/// What a model takes: channels × height × width bytes an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageShape {
    /// Channels: 1 for grey, 3 for RGB.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl ImageShape {
    /// What this vision transformer takes.
    pub fn of(config: &VitConfig) -> Self {
        Self { channels: config.channels, height: config.image, width: config.image }
    }
}

/// One image as it was read: channels × height × width, no side of which is 0.
pub(super) struct Planes {
    pub shape: ImageShape,
    pub pixels: Vec<u8>,
}

/// Whether images of `found` channels can be made ones of `due`.
pub(super) fn convertible(found: usize, due: usize) -> bool {
    found == due || matches!((found, due), (1, 3) | (3, 1))
}

/// Decodes a PNG or JPEG file, told apart by what is in it, and makes it fit.
pub(super) fn file(at: &At, due: ImageShape) -> Result<Vec<u8>, ImageError> {
    let path = at.path();
    let unread = |source| ImageError::Read { path: path.to_owned(), source };
    let mut reader = ImageReader::new(Cursor::new(at.read().map_err(unread)?));
    if let Ok(named) = ImageFormat::from_path(path) {
        reader.set_format(named); // for what no decoder recognises
    }
    let reader = reader.with_guessed_format().map_err(unread)?;
    let image = reader.decode().map_err(|source| ImageError::Decode { file: path.to_owned(), source })?;
    let planes = planes(&image);
    let found = planes.shape.channels;
    if !convertible(found, due.channels) {
        return Err(ImageError::Channels { file: path.to_owned(), found, expected: due.channels });
    }
    Ok(fit(planes, due))
}

/// An image apart into its channels, without transparency.
fn planes(image: &DynamicImage) -> Planes {
    let (height, width) = (image.height() as usize, image.width() as usize);
    if !image.color().has_color() {
        return Planes { shape: ImageShape { channels: 1, height, width }, pixels: image.to_luma8().into_raw() };
    }
    let rgb = image.to_rgb8();
    let pixels = (0..3).flat_map(|c| rgb.as_raw().iter().skip(c).step_by(3).copied()).collect();
    Planes { shape: ImageShape { channels: 3, height, width }, pixels }
}

/// The pixels of an image with [`convertible`] channels, as they are due.
pub(super) fn fit(image: Planes, due: ImageShape) -> Vec<u8> {
    let Planes { shape, mut pixels } = image;
    let area = shape.height * shape.width;
    if shape.channels == 3 && due.channels == 1 {
        pixels = luminance(&pixels, area);
    }
    if (shape.height, shape.width) != (due.height, due.width) {
        pixels = pixels.chunks_exact(area).flat_map(|plane| resized(plane, shape, due)).collect();
    }
    if shape.channels == 1 && due.channels == 3 {
        pixels = pixels.repeat(3);
    }
    pixels
}

/// Grey from red, green and blue, by the weights of Rec. 709.
fn luminance(pixels: &[u8], area: usize) -> Vec<u8> {
    let weigh = |i: usize| {
        let [r, g, b] = [0, 1, 2].map(|c| u32::from(pixels[c * area + i]));
        ((2126 * r + 7152 * g + 722 * b + 5000) / 10000) as u8
    };
    (0..area).map(weigh).collect()
}

fn resized(plane: &[u8], shape: ImageShape, due: ImageShape) -> Vec<u8> {
    let (width, height) = (shape.width as u32, shape.height as u32);
    // The sides are those of the plane; were they not, black is better than a panic.
    let plane: ImageBuffer<Luma<u8>, _> =
        ImageBuffer::from_raw(width, height, plane.to_vec()).unwrap_or_else(|| ImageBuffer::new(width, height));
    resize(&plane, due.width as u32, due.height as u32, FilterType::Triangle).into_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(channels: usize, height: usize, width: usize) -> ImageShape {
        ImageShape { channels, height, width }
    }

    #[test]
    fn channels_are_repeated_and_weighed() {
        let grey = Planes { shape: shape(1, 1, 2), pixels: vec![7, 9] };
        assert_eq!(fit(grey, shape(3, 1, 2)), [7, 9, 7, 9, 7, 9]);
        let rgb = Planes { shape: shape(3, 1, 2), pixels: vec![255, 100, 0, 100, 0, 100] };
        assert_eq!(fit(rgb, shape(1, 1, 2)), [54, 100]);
    }

    #[test]
    fn sides_are_resized_one_by_one() {
        let image = || Planes { shape: shape(1, 2, 2), pixels: vec![0, 200, 0, 200] };
        assert_eq!(fit(image(), shape(1, 2, 2)), [0, 200, 0, 200]);
        assert_eq!(fit(image(), shape(1, 1, 4)), [0, 50, 150, 200], "linear between the centres of pixels");
        assert_eq!(fit(image(), shape(1, 1, 1)), [100]);
        let rgb = Planes { shape: shape(3, 1, 1), pixels: vec![1, 2, 3] };
        assert_eq!(fit(rgb, shape(3, 1, 2)), [1, 1, 2, 2, 3, 3]);
    }
}
