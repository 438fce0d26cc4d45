//! One adapter's folder: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use eblora_core::adapter::{AdapterError, LoraAdapter};
use eblora_core::faer::{Mat, MatRef};
use safetensors::tensor::{Dtype, TensorView};

use super::config::{self, Config};
use super::keys::{self, Factor};
use super::set::SET_FILE;
use super::{PeftAdapter, PeftError, PeftLayer};
#[cfg(feature = "cli")]
use crate::formats::atomic;
use crate::formats::files::At;
use crate::formats::safetensors::{HostTensor, Tensors};

/// The config of an adapter.
pub const CONFIG_FILE: &str = "adapter_config.json";
/// Its tensors.
pub const TENSOR_FILE: &str = "adapter_model.safetensors";

impl PeftAdapter {
    /// Reads any plain LoRA of PEFT, with factors in f32, f64, f16 or bf16; the layers in natural order.
    ///
    /// # Errors
    /// When it is none, or has something beside the factors of linear layers.
    pub fn read(folder: impl Into<At>) -> Result<Self, PeftError> {
        let folder = &folder.into();
        let own = |at: &At| at.path().to_owned();
        let (file, tensors) = (folder.join(CONFIG_FILE), folder.join(TENSOR_FILE));
        if !file.exists() {
            return Err(PeftError::NoAdapter { folder: own(folder), hint: no_config_hint(folder) });
        }
        let bytes = file.read().map_err(|source| PeftError::Read { file: own(&file), source })?;
        let config = Config::from_bytes(&bytes, file.path())?;
        if !tensors.exists() {
            let old = folder.join("adapter_model.bin").exists();
            let hint = if old {
                "; load the adapter in PEFT and call save_pretrained to convert adapter_model.bin"
            } else {
                ""
            };
            return Err(PeftError::NoTensors { folder: own(folder), hint });
        }
        let layers = layers(Tensors::read_file(&tensors)?, &config, tensors.path())?;
        if layers.is_empty() && !config.targets_nothing {
            return Err(PeftError::NoLayers { file: own(&tensors) });
        }
        Ok(Self { layers, base_model: config.base_model, task_type: config.task_type })
    }

    /// Writes the folder: the tensors first and the config last, each whole or not at all.
    ///
    /// # Errors
    /// When it can't be written, and as [`PeftAdapter::files`].
    #[cfg(feature = "cli")]
    pub fn write(&self, folder: &Path) -> Result<(), PeftError> {
        let files = self.files(folder)?;
        atomic::prepare_folder(folder)?;
        Ok(files.iter().try_for_each(|(name, bytes)| atomic::write(&folder.join(name), bytes))?)
    }

    /// The folder's files by name. Factors are f32, with the scale in `B`. Layers of rank 0 change nothing and are left
    /// out; where nothing is left, the folder can be read back here, but PEFT has no such adapter.
    ///
    /// # Errors
    /// When a module is there twice, or a factor is not finite; `folder` is what they are called in it.
    pub fn files(&self, folder: &Path) -> Result<[(&'static str, Vec<u8>); 2], PeftError> {
        let mut seen = HashSet::new();
        if let Some(layer) = self.layers.iter().find(|layer| !seen.insert(&layer.module)) {
            let place = folder.display().to_string();
            let name = || layer.module.clone();
            return Err(PeftError::Twice { place, first: name(), second: name(), target: name() });
        }
        let broken = |x: &LoraAdapter<f32>| !(x.b.norm_max() * x.scale.abs() + x.a.norm_max()).is_finite();
        if let Some(layer) = self.layers.iter().find(|layer| broken(&layer.lora)) {
            let source = AdapterError::NonFinite { what: "scale·B or A" };
            return Err(PeftError::Layer { module: layer.module.clone(), source });
        }
        let layers = self.layers.iter().filter(|layer| layer.lora.rank() > 0).cloned().collect();
        let kept = Self { layers, ..self.clone() };
        let (tensors, file) = (folder.join(TENSOR_FILE), folder.join(CONFIG_FILE));
        let bytes = to_bytes(&kept).map_err(|e| PeftError::Content { file: tensors.clone(), reason: e.to_string() })?;
        let json =
            config::to_json(&kept).map_err(|e| PeftError::Content { file: file.clone(), reason: e.to_string() })?;
        Ok([(TENSOR_FILE, bytes), (CONFIG_FILE, json.into_bytes())])
    }
}

fn no_config_hint(folder: &At) -> &'static str {
    if folder.join(SET_FILE).exists() {
        "; it is a set of adapters: name one of the folders in it, or make one of them with `eblora export`"
    } else if !folder.is_dir() {
        "; no such folder"
    } else {
        ""
    }
}

/// The factors of one layer on their way: key, and content.
#[derive(Default)]
struct Pair {
    a: Option<(String, HostTensor)>,
    b: Option<(String, HostTensor)>,
}

fn layers(mut tensors: Tensors, config: &Config, file: &Path) -> Result<Vec<PeftLayer>, PeftError> {
    let names: Vec<String> = tensors.names().map(str::to_owned).collect();
    let mut pairs = BTreeMap::<String, Pair>::new();
    for key in names {
        let told = |reason| PeftError::Key { file: file.to_owned(), key: key.clone(), reason };
        let (module, factor) = keys::parse(&key).map_err(told)?;
        let pair = pairs.entry(module.to_owned()).or_default();
        let place = match factor {
            Factor::A => &mut pair.a,
            Factor::B => &mut pair.b,
        };
        let content = tensors.take(&key)?;
        if let Some((other, _)) = place.replace((key.clone(), content)) {
            return Err(told(format!("the second {} of `{module}`, beside `{other}`", factor.name())));
        }
    }
    let mut layers = Vec::with_capacity(pairs.len());
    for (module, pair) in pairs {
        layers.push(layer(module, pair, config, file)?);
    }
    layers.sort_by(|x, y| keys::natural(&x.module).cmp(&keys::natural(&y.module)));
    Ok(layers)
}

fn layer(module: String, pair: Pair, config: &Config, file: &Path) -> Result<PeftLayer, PeftError> {
    let file = file.to_owned();
    let (a, b) = match (pair.a, pair.b) {
        (Some((_, a)), Some((_, b))) => (a, b),
        (Some((key, _)), None) => return Err(PeftError::HalfPair { file, key, missing: Factor::B.name(), module }),
        (None, Some((key, _))) => return Err(PeftError::HalfPair { file, key, missing: Factor::A.name(), module }),
        (None, None) => return Err(PeftError::NoLayers { file }),
    };
    let (rank, matrices) = match (&a.shape[..], &b.shape[..]) {
        (&[r, inp], &[out, columns]) if r == columns => (r, (matrix(&a.data, r, inp), matrix(&b.data, out, r))),
        _ => return Err(PeftError::Factors { file, module, a: a.shape, b: b.shape }),
    };
    let due = config.rank(&module);
    if rank != due || rank == 0 {
        return Err(PeftError::Rank { file, module, found: rank, due });
    }
    let scale = config.scale(&module);
    match LoraAdapter::new(matrices.0, matrices.1, scale) {
        Ok(lora) => Ok(PeftLayer { module, lora }),
        Err(source) => Err(PeftError::Layer { module, source }),
    }
}

fn matrix(values: &[f32], rows: usize, cols: usize) -> Mat<f32> {
    MatRef::from_row_major_slice(values, rows, cols).to_owned()
}

/// The content of [`TENSOR_FILE`].
fn to_bytes(adapter: &PeftAdapter) -> Result<Vec<u8>, safetensors::SafeTensorError> {
    let mut tensors = Vec::with_capacity(2 * adapter.layers.len());
    for PeftLayer { module, lora } in &adapter.layers {
        for (factor, x, scale) in [(Factor::A, &lora.a, 1.0), (Factor::B, &lora.b, lora.scale)] {
            let values = (0..x.nrows()).flat_map(|i| (0..x.ncols()).map(move |j| x[(i, j)] * scale));
            let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
            tensors.push((factor.key(module), [x.nrows(), x.ncols()], bytes));
        }
    }
    let views = tensors
        .iter()
        .map(|(key, shape, bytes)| Ok((key.as_str(), TensorView::new(Dtype::F32, shape.to_vec(), bytes)?)));
    let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
    safetensors::serialize(views, Some(HashMap::from([("format".to_owned(), "pt".to_owned())])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use eblora_core::faer::mat;
    use eblora_core::random::Random;
    use half::{bf16, f16};
    use std::fs;

    fn layer(module: &str, rank: usize, scale: f32) -> PeftLayer {
        let rng = &mut Random::new(rank as u64, module);
        let lora = LoraAdapter::new(rng.normal_matrix(rank, 4), rng.normal_matrix(3, rank), scale).unwrap();
        PeftLayer { module: module.to_owned(), lora }
    }

    type Contents<'a> = Vec<(&'a str, Dtype, Vec<usize>, Vec<u8>)>;

    fn f32s(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    /// A folder with these tensors, and a config of r 1, α 2 and more.
    fn read(config: &str, tensors: &Contents<'_>) -> Result<PeftAdapter, PeftError> {
        let folder = tempfile::tempdir().unwrap();
        let views =
            tensors.iter().map(|(key, d, shape, bytes)| (*key, TensorView::new(*d, shape.clone(), bytes).unwrap()));
        fs::write(folder.path().join(TENSOR_FILE), safetensors::serialize(views, None).unwrap()).unwrap();
        let config = format!(r#"{{"peft_type":"LORA","r":1,"lora_alpha":2{config}}}"#);
        fs::write(folder.path().join(CONFIG_FILE), config).unwrap();
        PeftAdapter::read(folder.path())
    }

    fn pair<'a>(a: &'a str, b: &'a str) -> Contents<'a> {
        vec![(a, Dtype::F32, vec![1, 2], f32s(&[1.0, 2.0])), (b, Dtype::F32, vec![3, 1], f32s(&[1.0, 0.0, -1.0]))]
    }

    const A: &str = "base_model.model.q.lora_A.weight";
    const B: &str = "base_model.model.q.lora_B.weight";

    #[test]
    fn an_adapter_comes_back_with_its_scale_in_b() {
        let folder = tempfile::tempdir().unwrap();
        let layers =
            vec![layer("a.2.q", 2, 0.5), layer("a.10.q", 1, -3.0), layer("a.10.v", 2, 1.0), layer("b", 0, 1.0)];
        let adapter =
            PeftAdapter { layers, base_model: Some("base".to_owned()), task_type: Some("CAUSAL_LM".to_owned()) };
        adapter.write(&folder.path().join("new/one")).unwrap();
        let read = PeftAdapter::read(folder.path().join("new/one")).unwrap();
        assert_eq!((&read.base_model, &read.task_type), (&adapter.base_model, &adapter.task_type));
        assert_eq!(read.layers.len(), 3, "rank 0 is nothing");
        for (read, written) in read.layers.iter().zip(&adapter.layers) {
            assert_eq!((&read.module, &read.lora.a), (&written.module, &written.lora.a));
            assert_eq!(
                (read.lora.scale, &read.lora.b),
                (1.0, &(&written.lora.b * eblora_core::faer::Scale(written.lora.scale)))
            );
        }
        PeftAdapter { layers: vec![layer("b", 0, 1.0)], ..adapter.clone() }.write(folder.path()).unwrap();
        assert_eq!(PeftAdapter::read(folder.path()).unwrap().layers, [], "an empty one is told by its targets");
    }

    #[test]
    fn any_float_type_and_adapter_name_can_be_read() {
        let values = [1.5f32, -0.25];
        let half: Vec<u8> = values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
        let brain: Vec<u8> = values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect();
        let tensors = vec![
            ("base_model.model.x.q.lora_A.default.weight", Dtype::F16, vec![1, 2], half),
            ("base_model.model.x.q.lora_B.default.weight", Dtype::BF16, vec![2, 1], brain),
        ];
        let adapter = read("", &tensors).unwrap();
        let PeftLayer { module, lora } = &adapter.layers[0];
        assert_eq!(
            (module.as_str(), &lora.a, &lora.b, lora.scale),
            ("x.q", &mat![[1.5, -0.25]], &mat![[1.5], [-0.25]], 2.0)
        );
    }

    #[test]
    fn each_fault_of_the_tensors_has_one_message() {
        let message = |config: &str, tensors: &Contents<'_>| read(config, tensors).unwrap_err().to_string();
        let told = |message: String, parts: &[&str]| {
            assert!(message.contains(TENSOR_FILE) && parts.iter().all(|part| message.contains(part)), "{message}");
        };
        let good = pair(A, B);
        assert!(read("", &good).is_ok());
        told(message("", &good[..1].to_vec()), &["`base_model.model.q.lora_A.weight` is there, but no lora_B of `q`"]);
        told(message("", &good[1..].to_vec()), &["`base_model.model.q.lora_B.weight` is there, but no lora_A of `q`"]);
        told(message("", &vec![]), &["no LoRA layer is in it"]);
        let more = |key: &'static str| [good.clone(), vec![(key, Dtype::F32, vec![1], f32s(&[1.0]))]].concat();
        told(message("", &more("base_model.model.q.lora_magnitude_vector")), &["lora_magnitude_vector`: ", "DoRA"]);
        told(message("", &more("base_model.model.e.lora_embedding_A")), &["`base_model.model.e.lora_embedding_A`: "]);
        told(message("", &more("base_model.model.q.lora_A.other.weight")), &["the second lora_A of `q`, beside"]);
        let mut wide = good.clone();
        (wide[0].2, wide[0].3) = (vec![2, 1], f32s(&[1.0, 2.0]));
        told(message("", &wide), &["`q`: lora_A is [2, 1] and lora_B is [3, 1], where [r, in] and [out, r]"]);
        let mut deep = good.clone();
        deep[0].2 = vec![1, 2, 1];
        told(message("", &deep), &["lora_A is [1, 2, 1]"]);
        told(message(r#","rank_pattern":{"q":2}"#, &good), &["`q` has rank 1, but adapter_config.json says 2"]);
        let mut nan = good.clone();
        nan[1].3 = f32s(&[1.0, f32::NAN, 0.0]);
        told(message("", &nan), &[B, "holds NaN at element 1"]);
        let mut integers = good.clone();
        integers[0].1 = Dtype::I32;
        told(message("", &integers), &[A, "has type I32"]);
        assert!(message(r#","alpha_pattern":{"q":1e60}"#, &good).contains("`q`: scale holds NaN or infinity"));
    }

    #[test]
    fn folders_that_hold_no_adapter_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let message = || PeftAdapter::read(folder.path()).unwrap_err().to_string();
        assert!(message().ends_with("no adapter_config.json is there"));
        fs::write(folder.path().join(SET_FILE), "{}").unwrap();
        assert!(message().contains("no adapter_config.json is there; it is a set of adapters"));
        fs::write(folder.path().join(CONFIG_FILE), r#"{"peft_type":"LORA","r":1,"lora_alpha":1}"#).unwrap();
        assert!(message().ends_with("no adapter_model.safetensors is there"));
        fs::write(folder.path().join("adapter_model.bin"), "x").unwrap();
        assert!(message().contains("call save_pretrained to convert adapter_model.bin"));
        fs::write(folder.path().join(TENSOR_FILE), "PK\x03\x04").unwrap();
        assert!(message().contains("not a safetensors file"));
        let nowhere = PeftAdapter::read(Path::new("no/such/folder")).unwrap_err().to_string();
        assert!(nowhere.contains("no such folder"), "{nowhere}");
    }

    #[test]
    fn what_no_file_should_hold_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |layers| PeftAdapter { layers, ..PeftAdapter::default() }.write(folder.path()).unwrap_err().to_string();
        assert!(write(vec![layer("q", 1, 1.0), layer("q", 2, 1.0)]).contains("`q` and `q` both mean `q`"));
        assert!(write(vec![layer("q", 1, f32::MAX)]).contains("`q`: scale·B or A holds NaN or infinity"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
