//! From a text's mean state to its logits: a linear classifier, or the nearest of frozen label texts.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::Real;
use crate::backend::{Backend, BackendError, Epilogue, Scale, View};
use crate::linalg::random_orthonormal;
use crate::model::views::{rows, rows_mut};
use crate::model::{ModelError, upload};
use crate::random::Random;

/// A head on the host.
#[derive(Clone, Debug, PartialEq)]
pub enum Head {
    /// `W·f + b` with f the mean state.
    Linear {
        /// classes×d, row-major.
        weight: Vec<f32>,
        /// A value for each class.
        bias: Option<Vec<f32>>,
    },
    /// `cos(f, e)/temperature` for the embedding e of each label's text, made by the base model and frozen: so all tasks
    /// share one space of labels, and no head of a task's own hides what was forgotten.
    Labels {
        /// classes×d, row-major, as [`super::Encoder::embed`] makes them: of any length but 0.
        embeddings: Vec<f32>,
        /// Divisor of the cosines.
        temperature: f64,
    },
}

impl Head {
    /// A linear head for labels that have no texts worth reading: seeded, frozen rows, orthogonal to each other and of
    /// length `1/(temperature·√d)`, no bias. Its logits are about as large as those of a head of labels, as a state behind
    /// a layer norm has about the length √d. All tasks share its rows, as they share the texts of the other one.
    ///
    /// ```
    /// use eblora_core::model::bert::Head;
    /// let Head::Linear { weight, bias: None } = Head::orthogonal(3, 4, 0.5, 0)? else { panic!("a linear head") };
    /// let dot = |i: usize, j: usize| (0..4).map(|k| weight[4 * i + k] * weight[4 * j + k]).sum::<f32>();
    /// assert!((dot(0, 0) - 1.0).abs() < 1e-6 && dot(0, 1).abs() < 1e-6);
    /// # Ok::<(), eblora_core::model::ModelError>(())
    /// ```
    ///
    /// # Errors
    /// When there are more classes than rows of d can be orthogonal, or none; when the temperature is not positive.
    pub fn orthogonal(classes: usize, d: usize, temperature: f64, seed: u64) -> Result<Self, ModelError> {
        check_temperature(temperature)?;
        if !(1..=d).contains(&classes) {
            let what = format!("a linear head of {classes} labels: states of {d} have room for 1 to {d}");
            return Err(ModelError::Config { what });
        }
        let rows = random_orthonormal::<f64>(d, classes, &mut Random::new(seed, "linear head"));
        let rows = rows.map_err(|error| ModelError::Config { what: format!("a linear head: {error}") })?;
        let length = 1.0 / (temperature * libm::sqrt(d as f64));
        let weight = (0..classes).flat_map(|class| (0..d).map(move |i| (class, i)));
        let weight = weight.map(|(class, i)| (length * rows[(i, class)]) as f32).collect();
        Ok(Self::Linear { weight, bias: None })
    }
}

fn check_temperature(temperature: f64) -> Result<(), ModelError> {
    match temperature.is_finite() && temperature > 0.0 {
        true => Ok(()),
        false => Err(ModelError::Config { what: format!("the temperature {temperature} is not a positive number") }),
    }
}

/// The head in device memory.
pub(super) struct DeviceHead<B: Backend> {
    /// classes×d: W, or the label embeddings scaled to length 1.
    matrix: B::Tensor,
    bias: Option<B::Tensor>,
    /// 1/temperature of a head of labels.
    cosine_scale: Option<f64>,
    pub classes: usize,
}

/// What the head's passes need beside the mean states and their gradient.
pub(super) struct HeadBuffers<B: Backend> {
    /// Mean states scaled to length 1, batch×d, and their lengths before.
    feature: B::Tensor,
    norms: B::Tensor,
    d_feature: B::Tensor,
    /// batch×classes.
    pub logits: B::Tensor,
    pub d_logits: B::Tensor,
}

impl<B: Backend> HeadBuffers<B> {
    pub(super) fn new(backend: &B, capacity: usize, d: usize, classes: usize) -> Result<Self, BackendError> {
        let zeros = |rows, cols| backend.zeros([1, rows, cols]);
        Ok(Self {
            feature: zeros(capacity, d)?,
            norms: zeros(capacity, 1)?,
            d_feature: zeros(capacity, d)?,
            logits: zeros(capacity, classes)?,
            d_logits: zeros(capacity, classes)?,
        })
    }
}

/// Number of rows of width d.
fn classes(values: &[f32], d: usize) -> Result<usize, ModelError> {
    let refuse = |what: String| Err(ModelError::Config { what });
    match values.len() {
        0 => refuse("a head without classes".into()),
        len if !len.is_multiple_of(d) => refuse(format!("a head of {len} values is not one of rows of {d}")),
        len => Ok(len / d),
    }
}

/// The rows scaled to length 1.
fn normalized<T: Real>(embeddings: &[f32], d: usize) -> Result<Vec<T>, ModelError> {
    let mut unit = Vec::with_capacity(embeddings.len());
    for (label, row) in embeddings.chunks_exact(d).enumerate() {
        let length = libm::sqrt(row.iter().map(|&x| f64::from(x) * f64::from(x)).sum());
        if !(length.is_finite() && length > 0.0) {
            return Err(ModelError::Config { what: format!("the embedding of label {label} has the length {length}") });
        }
        unit.extend(row.iter().map(|&x| T::of(f64::from(x) / length)));
    }
    Ok(unit)
}

impl<B: Backend> DeviceHead<B> {
    pub(super) fn new(backend: &B, head: &Head, d: usize) -> Result<Self, ModelError> {
        match head {
            Head::Linear { weight, bias } => {
                let classes = classes(weight, d)?;
                let bias = bias.as_ref().map(|b| upload::tensor(backend, [1, 1, classes], b, "bias of the head"));
                let matrix = upload::tensor(backend, [1, classes, d], weight, "weight of the head")?;
                Ok(Self { matrix, bias: bias.transpose()?, cosine_scale: None, classes })
            }
            Head::Labels { embeddings, temperature } => {
                check_temperature(*temperature)?;
                let classes = classes(embeddings, d)?;
                let matrix = backend.upload([1, classes, d], &normalized(embeddings, d)?)?;
                Ok(Self { matrix, bias: None, cosine_scale: Some(1.0 / temperature), classes })
            }
        }
    }

    /// Logits of the first `batch` mean states.
    pub(super) fn forward(&self, b: &B, buffers: &mut HeadBuffers<B>, pooled: &B::Tensor, batch: usize) {
        let (pooled, matrix) = (rows(pooled, batch), View::all(&self.matrix).t());
        let logits = rows_mut(&mut buffers.logits, batch);
        match self.cosine_scale {
            None => b.matmul(logits, pooled, matrix, Epilogue::bias(self.bias.as_ref())),
            Some(scale) => {
                b.l2_normalize(rows_mut(&mut buffers.feature, batch), &mut buffers.norms, pooled);
                b.matmul(logits, rows(&buffers.feature, batch), matrix, Epilogue::scaled(Scale::Value(scale)));
            }
        }
    }

    /// From the logits' gradient to that of the mean states.
    pub(super) fn backward(&self, b: &B, buffers: &mut HeadBuffers<B>, d_pooled: &mut B::Tensor, batch: usize) {
        let (d_logits, matrix) = (rows(&buffers.d_logits, batch), View::all(&self.matrix));
        match self.cosine_scale {
            None => b.matmul(rows_mut(d_pooled, batch), d_logits, matrix, Epilogue::default()),
            Some(scale) => {
                let scaled = Epilogue::scaled(Scale::Value(scale));
                b.matmul(rows_mut(&mut buffers.d_feature, batch), d_logits, matrix, scaled);
                let (dy, y) = (rows(&buffers.d_feature, batch), rows(&buffers.feature, batch));
                b.l2_normalize_backward(rows_mut(d_pooled, batch), dy, y, &buffers.norms);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Cpu;
    use alloc::string::ToString;
    use alloc::vec;

    fn refused(head: &Head) -> String {
        DeviceHead::new(&Cpu::<f64>::new(), head, 3).err().expect("an error").to_string()
    }

    #[test]
    fn heads_that_do_not_fit_are_refused() {
        let labels = |embeddings, temperature| Head::Labels { embeddings, temperature };
        assert!(refused(&labels(vec![1.0; 5], 1.0)).contains("rows of 3"));
        assert!(refused(&labels(vec![], 1.0)).contains("without classes"));
        assert!(refused(&labels(vec![1.0, 0.0, 0.0, 0.0, 0.0, 0.0], 1.0)).contains("label 1 has the length 0"));
        assert!(refused(&labels(vec![f32::NAN; 3], 1.0)).contains("label 0 has the length NaN"));
        for temperature in [0.0, -0.07, f64::NAN, f64::INFINITY] {
            assert!(refused(&labels(vec![1.0; 3], temperature)).contains("temperature"));
        }
        let linear = Head::Linear { weight: vec![1.0; 6], bias: Some(vec![0.0; 3]) };
        assert!(refused(&linear).contains("bias of the head: 3 values where the configuration needs 2"));
    }

    #[test]
    fn an_orthogonal_head_repeats_and_refuses_what_has_no_room() {
        let (one, same) = (Head::orthogonal(5, 8, 0.07, 3), Head::orthogonal(5, 8, 0.07, 3));
        assert_eq!(one, same);
        assert_ne!(one, Head::orthogonal(5, 8, 0.07, 4));
        let message = |classes, temperature| Head::orthogonal(classes, 8, temperature, 3).unwrap_err().to_string();
        assert!(message(9, 0.07).contains("9 labels: states of 8 have room for 1 to 8"));
        assert!(message(0, 0.07).contains("0 labels") && message(2, -1.0).contains("temperature -1"));
        assert!(Head::orthogonal(8, 8, 0.07, 3).is_ok());
    }

    #[test]
    fn the_length_of_a_label_embedding_does_not_matter() {
        let of = |factor: f32| {
            let embeddings = [0.3, -0.4, 0.0].map(|x| factor * x).to_vec();
            let head = Head::Labels { embeddings, temperature: 0.5 };
            DeviceHead::new(&Cpu::<f64>::new(), &head, 3).expect("a head").matrix.values().to_vec()
        };
        for (got, want) in of(2.0).iter().zip([0.6, -0.8, 0.0]) {
            // f32 literals: half a unit in their last place.
            assert!((got - want).abs() < 1e-7);
        }
        assert_eq!(of(2.0), of(1.0));
    }
}
