//! The tensors of a checkpoint: adapters, moments and memories as one safetensors file, f32 to the bit.

use std::collections::BTreeMap;

use eblora_core::adapter::{HostAdapters, HostFactors};
use eblora_core::faer::{Mat, MatRef};
use eblora_core::method::{Value, Values};
use safetensors::{Dtype, SafeTensorError, serialize, tensor::TensorView};

use super::header::{Layers, Piece};
use crate::formats::safetensors::{HostTensor, SafetensorsError, Tensors};

/// Tensors on their way into a file.
#[derive(Debug, Default)]
pub struct Writer(Vec<(String, Vec<usize>, Vec<u8>)>);

impl Writer {
    fn add(&mut self, name: String, shape: Vec<usize>, values: impl Iterator<Item = f32>) {
        self.0.push((name, shape, values.flat_map(f32::to_le_bytes).collect()));
    }

    /// The factors of all layers, under `place`.
    pub fn adapters(&mut self, place: &str, adapters: &HostAdapters<f32>) -> Layers {
        for f in &adapters.factors {
            for (factor, a) in [("u", &f.u), ("v", &f.v)] {
                let values = (0..a.nrows()).flat_map(|i| (0..a.ncols()).map(move |j| a[(i, j)]));
                self.add(format!("{place}.{}.{factor}", f.site), vec![a.nrows(), a.ncols()], values);
            }
            self.add(format!("{place}.{}.s", f.site), vec![1], [f.s].into_iter());
        }
        Layers { sites: adapters.factors.iter().map(|f| f.site).collect(), fixed: adapters.fixed }
    }

    /// Named pieces, under `place`; what is no tensor goes into the header.
    pub fn values(&mut self, place: &str, values: &Values<f32>) -> BTreeMap<String, Piece> {
        let piece = |(name, value): (&String, &Value<f32>)| {
            let piece = match value {
                Value::Tensor { shape, values } => {
                    self.add(format!("{place}.{name}"), shape.to_vec(), values.iter().copied());
                    Piece::Tensor
                }
                Value::Reals(reals) => Piece::Reals(reals.clone()),
                Value::Count(count) => Piece::Count(*count),
            };
            (name.clone(), piece)
        };
        values.iter().map(piece).collect()
    }

    /// The file's content.
    pub fn into_bytes(self) -> Result<Vec<u8>, SafeTensorError> {
        let views = self.0.iter().map(|(name, shape, bytes)| {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes)?;
            Ok((name.as_str(), view))
        });
        serialize(views.collect::<Result<Vec<_>, SafeTensorError>>()?, None)
    }
}

fn matrix(tensor: &HostTensor) -> Result<Mat<f32>, SafetensorsError> {
    match tensor.shape[..] {
        [rows, cols] => Ok(MatRef::from_row_major_slice(&tensor.data, rows, cols).to_owned()),
        _ => Err(SafetensorsError::Damaged { file: "tensors".to_owned(), reason: "a factor is no matrix".to_owned() }),
    }
}

/// The factors of these layers, from under `place`.
pub fn adapters(tensors: &mut Tensors, place: &str, layers: &Layers) -> Result<HostAdapters<f32>, SafetensorsError> {
    let factors = layers.sites.iter().map(|&site| {
        let mut factor = |name: &str| tensors.take(&format!("{place}.{site}.{name}"));
        let (u, v) = (matrix(&factor("u")?)?, matrix(&factor("v")?)?);
        let s = tensors.take_shaped(&format!("{place}.{site}.s"), &[1])?[0];
        Ok(HostFactors { site, u, v, s })
    });
    Ok(HostAdapters { factors: factors.collect::<Result<_, SafetensorsError>>()?, fixed: layers.fixed })
}

/// Named pieces, from under `place`.
pub fn values(
    tensors: &mut Tensors,
    place: &str,
    pieces: BTreeMap<String, Piece>,
) -> Result<Values<f32>, SafetensorsError> {
    let value = |(name, piece): (String, Piece)| {
        let value = match piece {
            Piece::Reals(reals) => Value::Reals(reals),
            Piece::Count(count) => Value::Count(count),
            Piece::Tensor => {
                let HostTensor { shape, data } = tensors.take(&format!("{place}.{name}"))?;
                let shape = <[usize; 3]>::try_from(shape).map_err(|shape| SafetensorsError::Damaged {
                    file: name.clone(),
                    reason: format!("{shape:?} is no stack of matrices"),
                })?;
                Value::Tensor { shape, values: data }
            }
        };
        Ok((name, value))
    };
    pieces.into_iter().map(value).collect()
}
