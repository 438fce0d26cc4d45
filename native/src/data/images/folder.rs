//! A folder of images, one subfolder per class.
//!
//! Classes and images come in the order of their names. Hidden files are passed over everywhere, and so are files beside
//! the classes that are no images (a licence, a list of classes); inside of a class anything but an image is an error,
//! since what is left out in silence is missed too late.

use std::path::Path;

use super::error::ImageError;
use super::fit::{self, ImageShape};
use super::{DataError, ImageExamples, each};
use crate::formats::files::At;
use eblora_core::model::vit::ImageSet;

/// Images that are decoded at a time: enough for all threads, few enough to stop soon at one that is damaged.
const AT_ONCE: usize = 256;

/// Reads all images of all classes; class names are those of the subfolders.
pub fn read_image_folder(folder: impl Into<At>, due: ImageShape) -> Result<ImageExamples, DataError> {
    let Listing { classes, files, labels } = list(&folder.into())?;
    let mut pixels = Vec::new();
    for files in files.chunks(AT_ONCE) {
        for image in each(files, |file| fit::file(file, due)) {
            pixels.extend(image?);
        }
    }
    let ImageShape { channels, height, width } = due;
    Ok(ImageExamples { set: ImageSet { channels, height, width, pixels, labels }, classes })
}

/// What a folder holds.
#[derive(Default)]
struct Listing {
    classes: Vec<String>,
    files: Vec<At>,
    /// The class of each file.
    labels: Vec<u32>,
}

fn list(folder: &At) -> Result<Listing, ImageError> {
    let own = |at: &At| at.path().to_owned();
    if folder.exists() && !folder.is_dir() {
        return Err(ImageError::NotAFolder { path: own(folder) });
    }
    let Listing { mut classes, mut files, mut labels } = Listing::default();
    for class in entries(folder)? {
        if !class.is_dir() {
            if is_image(class.path()) {
                return Err(ImageError::Unsorted { file: own(&class) });
            }
            continue;
        }
        let Some(name) = class.path().file_name().and_then(|name| name.to_str()) else {
            return Err(ImageError::ClassName { folder: own(&class) });
        };
        let images = entries(&class)?;
        if images.is_empty() {
            return Err(ImageError::EmptyClass { folder: own(&class) });
        }
        for file in images {
            if file.is_dir() {
                return Err(ImageError::Nested { folder: own(&file), class: own(&class) });
            }
            if !is_image(file.path()) {
                return Err(ImageError::NotAnImage { file: own(&file) });
            }
            files.push(file);
            labels.push(classes.len() as u32);
        }
        classes.push(name.to_owned());
    }
    if classes.is_empty() {
        return Err(ImageError::NoClasses { folder: own(folder) });
    }
    Ok(Listing { classes, files, labels })
}

/// What is in a folder and not hidden, by name.
fn entries(folder: &At) -> Result<Vec<At>, ImageError> {
    let mut entries = folder.entries().map_err(|source| ImageError::Read { path: folder.path().to_owned(), source })?;
    entries.retain(|entry| !entry.path().file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")));
    Ok(entries)
}

fn is_image(file: &Path) -> bool {
    let extension = file.extension().unwrap_or_default();
    ["png", "jpg", "jpeg"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{Rgb, RgbImage};
    use std::fs;
    use tempfile::TempDir;

    #[test]
    fn an_image_that_ends_too_early_is_told_on_one_line() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("cat/a.jpg");
        fs::create_dir(root.path().join("cat")).unwrap();
        RgbImage::from_pixel(64, 64, Rgb([1, 2, 3])).save(&file).unwrap();
        let bytes = fs::read(&file).unwrap();
        for kept in [2, 20, bytes.len() / 3, bytes.len() / 2] {
            fs::write(&file, &bytes[..kept]).unwrap();
            if let Err(error) = read_image_folder(root.path(), DUE) {
                let told = error.to_string();
                assert!(told.contains("a.jpg: cannot be decoded") && told.lines().count() == 1, "{told:?}");
                assert_eq!(told, told.trim_end());
            }
        }
    }

    const DUE: ImageShape = ImageShape { channels: 3, height: 2, width: 2 };

    /// A folder with these files, each a PNG of one colour or, where no colour is given, text; a name that ends in `/` is
    /// a folder.
    fn folder(files: &[(&str, Option<u8>)]) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, colour) in files {
            let path = root.path().join(name);
            if name.ends_with('/') {
                fs::create_dir_all(&path).unwrap();
                continue;
            }
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match colour {
                Some(red) => {
                    let png = RgbImage::from_pixel(3, 2, Rgb([*red, 1, 2]));
                    png.save_with_format(&path, image::ImageFormat::Png).unwrap();
                }
                None => fs::write(&path, "text").unwrap(),
            }
        }
        root
    }

    fn error(files: &[(&str, Option<u8>)]) -> String {
        let root = folder(files);
        let told = read_image_folder(root.path(), DUE).unwrap_err().to_string();
        told.replace(&root.path().display().to_string(), "root").replace('\\', "/")
    }

    #[test]
    fn images_come_by_class_and_name() {
        let root = folder(&[
            ("dog/b.PNG", Some(30)),
            ("dog/a.png", Some(20)),
            ("cat/x.jpeg", Some(10)), // a PNG whose name says otherwise
            ("cat/.hidden", None),
            (".git/x.png", None),
            ("LICENSE", None),
        ]);
        let ImageExamples { set, classes } = read_image_folder(root.path(), DUE).unwrap();
        assert_eq!((&classes[..], &set.labels[..]), (&["cat".to_owned(), "dog".to_owned()][..], &[0, 1, 1][..]));
        for (i, red) in [10, 20, 30].into_iter().enumerate() {
            assert_eq!(set.image(i), [red, red, red, red, 1, 1, 1, 1, 2, 2, 2, 2]);
        }
        let grey = read_image_folder(root.path(), ImageShape { channels: 1, height: 1, width: 1 }).unwrap();
        assert_eq!((grey.set.image_len(), grey.set.image(2)[0]), (1, 7));
    }

    #[test]
    fn jpeg_and_grey_png_are_read() {
        let root = folder(&[("a/", None)]);
        let grey = image::GrayImage::from_pixel(4, 4, image::Luma([77]));
        grey.save(root.path().join("a/1.jpg")).unwrap();
        grey.save(root.path().join("a/2.png")).unwrap();
        let image = image::RgbaImage::from_pixel(4, 4, image::Rgba([77, 77, 77, 0]));
        image.save(root.path().join("a/3.png")).unwrap();
        let set = read_image_folder(root.path(), DUE).unwrap().set;
        for i in 0..3 {
            assert!(set.image(i).iter().all(|&value| value.abs_diff(77) <= 1), "{:?}", set.image(i));
        }
    }

    #[test]
    fn each_fault_names_its_file() {
        let one = ("cat/a.png", Some(1));
        assert_eq!(error(&[]), "root has no subfolder; one per class is due, with its images inside");
        assert_eq!(
            error(&[one, ("dog/.hidden", None)]),
            "root/dog is empty; put PNG or JPEG images of its class there, or remove it"
        );
        assert_eq!(
            error(&[one, ("a.png", Some(1))]),
            "root/a.png: an image without a class; move it into one of the subfolders"
        );
        assert_eq!(
            error(&[one, ("cat/b.gif", None)]),
            "root/cat/b.gif: not an image by its name; only .png, .jpg and .jpeg are due in a class's folder"
        );
        assert_eq!(
            error(&[("train/cat/a.png", Some(1))]),
            "root/train/cat is a folder, where images are due: is root/train a class, or a folder of classes?"
        );
        let damaged = error(&[one, ("cat/b.png", None)]);
        assert!(damaged.starts_with("root/cat/b.png: cannot be decoded as PNG or JPEG: "), "{damaged}");
        let root = folder(&[one]);
        let told = |path: &Path, due| read_image_folder(path, due).unwrap_err().to_string();
        assert!(
            told(&root.path().join("cat/a.png"), DUE)
                .ends_with("is no folder; a folder with one subfolder per class is due")
        );
        assert!(told(&root.path().join("none"), DUE).starts_with("cannot read "));
        let four = ImageShape { channels: 4, ..DUE };
        assert!(told(root.path(), four).ends_with("a.png holds images of 3 channel(s), the model takes 4"));
    }
}
