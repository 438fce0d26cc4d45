//! A whole Hugging Face folder with an adapter's updates added to its weights.
//!
//! Weight files are copied and changed in places: every other tensor keeps its bits, each changed one its type, and no more
//! than one is in memory at a time.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use eblora_core::faer::MatRef;
use half::{bf16, f16};
use safetensors::tensor::Dtype;
use serde::Deserialize;

use super::config::parse;
use super::modules::{Target, assign};
use super::{PeftAdapter, PeftError, PeftLayer};
use crate::formats::atomic::{self, WriteError};
use crate::formats::safetensors::{INDEX_FILE, SINGLE_FILE, SafetensorsError};
use crate::formats::safetensors_layout::{Layout, Place};

/// A model's config: read to tell a ViT, whose files and modules have different names, and written last.
const MODEL_CONFIG: &str = "config.json";
/// Endings of weights in other formats, which would still be those of the base.
const OTHER_WEIGHTS: [&str; 13] = [
    "bin",
    "bin.index.json",
    "pt",
    "pth",
    "ckpt",
    "h5",
    "msgpack",
    "ot",
    "onnx",
    "onnx_data",
    "gguf",
    "tflite",
    "mlmodel",
];

/// A base model's folder, whose weights have been found but not read.
#[derive(Clone, Debug)]
pub struct Base {
    folder: PathBuf,
    files: Vec<Layout>,
    /// The linear weights: file, name of the tensor.
    weights: Vec<(usize, String)>,
    targets: Vec<Target>,
}

impl Base {
    /// Looks into a Hugging Face folder with `config.json` and weights, single or sharded.
    ///
    /// # Errors
    /// When it is none.
    pub fn open(folder: &Path) -> Result<Self, PeftError> {
        #[derive(Deserialize)]
        struct Kind {
            model_type: Option<String>,
        }
        let file = folder.join(MODEL_CONFIG);
        let bytes = fs::read(&file).map_err(|source| PeftError::Read { file: file.clone(), source })?;
        let vit = parse::<Kind>(&bytes, &file)?.model_type.as_deref() == Some("vit");
        let files = Layout::read_folder(folder)?;
        let (mut weights, mut targets) = (Vec::new(), Vec::new());
        for (index, layout) in files.iter().enumerate() {
            for (name, place) in &layout.tensors {
                if let (Some(module), &[out, inp]) = (name.strip_suffix(".weight"), &place.shape[..]) {
                    weights.push((index, name.clone()));
                    targets.push(Target::weight(module, (out, inp), vit));
                }
            }
        }
        Ok(Self { folder: folder.to_owned(), files, weights, targets })
    }

    /// The adapter with its layers called as stock transformers calls this model's modules, so that PEFT finds them.
    ///
    /// # Errors
    /// When a module is none of the base's.
    pub fn rename(&self, adapter: &PeftAdapter) -> Result<PeftAdapter, PeftError> {
        let assigned = assign(&adapter.layers, &self.targets, &self.place())?;
        let renamed = adapter
            .layers
            .iter()
            .zip(assigned)
            .map(|(layer, target)| PeftLayer { module: self.targets[target].module.clone(), lora: layer.lora.clone() });
        Ok(PeftAdapter { layers: renamed.collect(), ..adapter.clone() })
    }

    /// Writes the whole folder to `out`, which must be new or empty: everything that is not weights as it is, and the weights
    /// with `ΔW` added. Other formats of the same weights are left out. The config comes last: a folder that has it is whole.
    ///
    /// # Errors
    /// When a module matches no weight, or something can't be read or written.
    pub fn write_merged(&self, adapter: &PeftAdapter, out: &Path) -> Result<(), PeftError> {
        if adapter.layers.is_empty() {
            return Err(PeftError::Empty { what: "cannot be merged".to_owned() });
        }
        let assigned = assign(&adapter.layers, &self.targets, &self.place())?;
        let updates: Vec<_> =
            (adapter.layers.iter().zip(assigned)).map(|(layer, target)| (&self.weights[target], layer)).collect();
        for ((file, tensor), _) in &updates {
            let layout = &self.files[*file];
            let dtype = layout.tensors[tensor].dtype;
            if !matches!(dtype, Dtype::F32 | Dtype::F64 | Dtype::F16 | Dtype::BF16) {
                let (file, dtype) = (layout.file.display().to_string(), dtype.to_string());
                return Err(SafetensorsError::Dtype { file, tensor: tensor.clone(), dtype }.into());
            }
        }
        let others = others(&self.folder)?;
        prepare_empty(out)?;
        for (index, layout) in self.files.iter().enumerate() {
            let name = layout.file.file_name().unwrap_or_default();
            atomic::write_by(&out.join(name), |copy| {
                copy_content(&layout.file, copy, &out.join(name))?;
                for ((_, tensor), layer) in updates.iter().filter(|((file, _), _)| *file == index) {
                    add(copy, layout, tensor, layer)?;
                }
                Ok::<_, PeftError>(())
            })?;
        }
        if !self.folder.join(SINGLE_FILE).exists() {
            copy_file(&self.folder, Path::new(INDEX_FILE), out)?;
        }
        others.iter().try_for_each(|file| copy_file(&self.folder, file, out))?;
        copy_file(&self.folder, Path::new(MODEL_CONFIG), out)
    }

    fn place(&self) -> String {
        self.folder.display().to_string()
    }
}

/// Makes `folder`, or proves that it is empty.
///
/// # Errors
/// When there is something in it, or it can't be made.
pub fn prepare_empty(folder: &Path) -> Result<(), PeftError> {
    if folder.is_dir() {
        let mut entries = fs::read_dir(folder).map_err(|source| PeftError::Read { file: folder.to_owned(), source })?;
        if entries.next().is_some() {
            return Err(PeftError::Occupied { folder: folder.to_owned() });
        }
    }
    Ok(atomic::prepare_folder(folder)?)
}

/// Paths in `folder` of all files but the config, the weights and hidden ones.
fn others(folder: &Path) -> Result<Vec<PathBuf>, PeftError> {
    let (mut found, mut open) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(inner) = open.pop() {
        let here = folder.join(&inner);
        let failed = |source| PeftError::Read { file: here.clone(), source };
        for entry in fs::read_dir(&here).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let (name, path) = (entry.file_name(), inner.join(entry.file_name()));
            let name = name.to_string_lossy();
            // Links to files are followed, as caches consist of them; links to folders may lead in circles.
            if name.starts_with('.') {
            } else if entry.file_type().map_err(failed)?.is_dir() {
                open.push(path);
            } else if entry.path().is_file() && !is_left_out(&name, inner == Path::new("")) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a file is weights, or comes by itself. Folders inside may hold parts of the model that have no adapters.
fn is_left_out(name: &str, top: bool) -> bool {
    let ends = |ending: &&str| name.strip_suffix(*ending).is_some_and(|stem| stem.ends_with('.'));
    OTHER_WEIGHTS.iter().any(&ends) || (top && (name == MODEL_CONFIG || name == INDEX_FILE || ends(&"safetensors")))
}

fn copy_file(from: &Path, path: &Path, to: &Path) -> Result<(), PeftError> {
    let target = to.join(path);
    if let Some(folder) = target.parent() {
        let failed = |source| WriteError::CreateFolder { folder: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(failed)?;
    }
    atomic::write_by(&target, |copy| copy_content(&from.join(path), copy, &target))
}

fn copy_content(from: &Path, copy: &mut File, target: &Path) -> Result<(), PeftError> {
    let mut open = File::open(from).map_err(|source| PeftError::Read { file: from.to_owned(), source })?;
    io::copy(&mut open, copy).map_err(|source| WriteError::File { file: target.to_owned(), source })?;
    Ok(())
}

/// `W += scale·B·A` in the open copy of a file.
fn add(copy: &mut File, layout: &Layout, tensor: &str, layer: &PeftLayer) -> Result<(), PeftError> {
    let Place { dtype, start, bytes, .. } = layout.tensors[tensor];
    let mut stored = vec![0; bytes];
    let failed = |source| SafetensorsError::Read { file: layout.file.display().to_string(), source };
    copy.seek(SeekFrom::Start(start)).and_then(|_| copy.read_exact(&mut stored)).map_err(failed)?;
    let delta = layer.lora.delta();
    let finite = match dtype {
        Dtype::F64 => add_to(&mut stored, delta.as_ref(), f64::from_le_bytes, f64::to_le_bytes),
        Dtype::F16 => {
            add_to(&mut stored, delta.as_ref(), |b| f16::from_le_bytes(b).to_f64(), |x| f16::from_f64(x).to_le_bytes())
        }
        Dtype::BF16 => add_to(
            &mut stored,
            delta.as_ref(),
            |b| bf16::from_le_bytes(b).to_f64(),
            |x| bf16::from_f64(x).to_le_bytes(),
        ),
        _ => add_to(&mut stored, delta.as_ref(), |b| f64::from(f32::from_le_bytes(b)), |x| (x as f32).to_le_bytes()),
    };
    if !finite {
        let (file, tensor) = (layout.file.clone(), tensor.to_owned());
        return Err(PeftError::Overflow { file, tensor, dtype: dtype.to_string() });
    }
    copy.seek(SeekFrom::Start(start)).and_then(|_| copy.write_all(&stored)).map_err(failed)?;
    Ok(())
}

/// Adds `delta` (out×in) to elements of `N` bytes, row by row; tells whether all sums are finite as stored.
fn add_to<const N: usize>(
    stored: &mut [u8],
    delta: MatRef<'_, f32>,
    read: impl Fn([u8; N]) -> f64,
    write: impl Fn(f64) -> [u8; N],
) -> bool {
    let mut finite = true;
    for (index, element) in stored.as_chunks_mut::<N>().0.iter_mut().enumerate() {
        let update = delta[(index / delta.ncols(), index % delta.ncols())];
        *element = write(read(*element) + f64::from(update));
        finite &= read(*element).is_finite();
    }
    finite
}

#[cfg(test)]
mod tests {
    use super::*;
    use eblora_core::adapter::LoraAdapter;
    use eblora_core::faer::{Mat, mat};
    use safetensors::tensor::TensorView;

    /// A base whose weights `q` (2×2, of type `dtype`, all 1) and others lie in `files`.
    fn base(folder: &Path, dtype: Dtype, sharded: bool) {
        let one: Vec<u8> = match dtype {
            Dtype::F64 => 1f64.to_le_bytes().to_vec(),
            Dtype::F16 => f16::ONE.to_le_bytes().to_vec(),
            Dtype::BF16 => bf16::ONE.to_le_bytes().to_vec(),
            Dtype::I32 => 1i32.to_le_bytes().to_vec(),
            _ => 1f32.to_le_bytes().to_vec(),
        };
        let (q, k, other) = (one.repeat(4), one.repeat(4), [255u8, 1, 254, 127]);
        let q = [("layer.0.q.weight", TensorView::new(dtype, vec![2, 2], &q).unwrap())];
        let rest = [
            ("layer.0.k.weight", TensorView::new(dtype, vec![2, 2], &k).unwrap()),
            ("strange", TensorView::new(Dtype::U8, vec![4], &other).unwrap()),
        ];
        let meta = Some([("format".to_owned(), "pt".to_owned())].into());
        let write = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).unwrap();
        if sharded {
            write("model-1.safetensors", &safetensors::serialize(q, meta.clone()).unwrap());
            write("model-2.safetensors", &safetensors::serialize(rest, meta).unwrap());
            let list = r#"{"weight_map":{"layer.0.q.weight":"model-1.safetensors",
                "layer.0.k.weight":"model-2.safetensors","strange":"model-2.safetensors"}}"#;
            write(INDEX_FILE, list.as_bytes());
        } else {
            write(SINGLE_FILE, &safetensors::serialize(q.into_iter().chain(rest), meta).unwrap());
        }
        for name in ["config.json", "tokenizer.json", "vocab.txt", "pytorch_model.bin", "rust_model.ot", ".hidden"] {
            write(name, br#"{"model_type":"bert"}"#);
        }
        fs::create_dir(folder.join("1_Pooling")).unwrap();
        fs::create_dir(folder.join("onnx")).unwrap();
        write("1_Pooling/config.json", b"{}");
        write("1_Pooling/model.safetensors", b"small");
        write("onnx/model.onnx", b"large");
        write("adapter.safetensors", b"something else");
    }

    fn adapter(module: &str, size: f32) -> PeftAdapter {
        let lora = LoraAdapter::new(mat![[size, 2.0 * size]], mat![[1.0], [0.0]], 0.5).unwrap();
        PeftAdapter { layers: vec![PeftLayer { module: module.to_owned(), lora }], ..PeftAdapter::default() }
    }

    fn files(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = others(folder).unwrap().iter().map(|p| p.display().to_string()).collect();
        names.extend(fs::read_dir(folder).unwrap().filter_map(|e| {
            let name = e.unwrap().file_name().to_string_lossy().into_owned();
            name.contains("model").then_some(name)
        }));
        names
    }

    #[test]
    fn the_update_is_added_and_nothing_else_changes() {
        for (dtype, sharded) in [(Dtype::F32, false), (Dtype::F64, false), (Dtype::F16, true), (Dtype::BF16, true)] {
            let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            base(from.path(), dtype, sharded);
            let merged = to.path().join("merged");
            Base::open(from.path()).unwrap().write_merged(&adapter("bert.layer.0.q", 0.5), &merged).unwrap();
            let mut tensors = crate::formats::safetensors::Tensors::read_folder(&merged).unwrap();
            assert_eq!(tensors.take("layer.0.q.weight").unwrap().data, [1.25, 1.5, 1.0, 1.0], "{dtype}");
            // Everything beside these four elements is the same to the bit.
            for layout in Layout::read_folder(from.path()).unwrap() {
                let [old, new] = [from.path(), &merged]
                    .map(|folder| fs::read(folder.join(layout.file.file_name().unwrap())).unwrap());
                assert_eq!(old.len(), new.len());
                let q = layout.tensors.get("layer.0.q.weight").map(|p| p.start as usize..p.start as usize + p.bytes);
                let same = |i: usize| old[i] == new[i] || q.as_ref().is_some_and(|q| q.contains(&i));
                assert!((0..old.len()).all(same), "{dtype}");
            }
            let weights: &[&str] =
                if sharded { &["model-1.safetensors", "model-2.safetensors", INDEX_FILE] } else { &[SINGLE_FILE] };
            let copied = ["1_Pooling/config.json", "1_Pooling/model.safetensors", "tokenizer.json", "vocab.txt"];
            let mut expected: Vec<_> = copied.iter().chain(weights).map(|name| (*name).to_owned()).collect();
            let mut found = files(&merged);
            expected.sort();
            found.sort();
            assert_eq!(found, expected);
            assert!(merged.join("config.json").exists());
        }
    }

    #[test]
    fn a_vits_files_have_other_names_than_its_modules() {
        let weight = |name: &str| Target::weight(name, (2, 2), true);
        let base = Base {
            folder: "vit".into(),
            files: Vec::new(),
            weights: vec![(0, String::new())],
            targets: vec![weight("vit.encoder.layer.3.attention.attention.query")],
        };
        for name in ["vit.layers.3.attention.q_proj", "encoder.layer.3.attention.attention.query"] {
            let renamed = base.rename(&adapter(name, 1.0)).unwrap();
            assert_eq!(renamed.layers[0].module, "vit.layers.3.attention.q_proj");
        }
    }

    #[test]
    fn what_cannot_be_merged_is_told_and_leaves_nothing() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        base(from.path(), Dtype::F16, false);
        let open = Base::open(from.path()).unwrap();
        let merged = to.path().join("merged");
        let message = |adapter: &PeftAdapter, out: &Path| open.write_merged(adapter, out).unwrap_err().to_string();
        let unknown = message(&adapter("layer.1.q", 1.0), &merged);
        assert!(
            unknown.contains("nothing is called `layer.1.q` there; an example of what is: `layer.0.q`"),
            "{unknown}"
        );
        let mut tall = adapter("layer.0.q", 1.0);
        tall.layers[0].lora.b = Mat::zeros(3, 1);
        assert!(message(&tall, &merged).contains("is 3x2, but the layer is 2x2"));
        assert!(message(&PeftAdapter::default(), &merged).contains("cannot be merged: the adapter has no layer"));
        assert!(!merged.exists());
        let large = message(&adapter("layer.0.q", 2e5), &merged);
        assert!(large.contains("`layer.0.q.weight` with the update added is not finite in F16"), "{large}");
        assert_eq!(files(&merged), [""; 0], "no part of a file is left");
        assert!(message(&adapter("layer.0.q", 1.0), from.path()).contains("the folder is not empty; choose a new one"));

        let whole = tempfile::tempdir().unwrap();
        base(whole.path(), Dtype::I32, true);
        let open = Base::open(whole.path()).unwrap();
        let integers = open.write_merged(&adapter("layer.0.q", 1.0), &merged).unwrap_err().to_string();
        assert!(integers.contains("`layer.0.q.weight` has type I32; F32, F16"), "{integers}");
        fs::remove_file(whole.path().join("model-2.safetensors")).unwrap();
        let missing = Base::open(whole.path()).unwrap_err().to_string();
        assert!(missing.contains("cannot read") && missing.contains("model-2.safetensors"), "{missing}");
        fs::remove_file(whole.path().join(INDEX_FILE)).unwrap();
        assert!(Base::open(whole.path()).unwrap_err().to_string().contains("neither model.safetensors nor"));
        assert!(Base::open(to.path()).unwrap_err().to_string().contains("config.json"));
    }
}
