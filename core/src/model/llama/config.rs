//! Extents of a Llama and its weights as plain host data.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::model::{HostValues, ModelError};

/// The angles of the rotary positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// Base θ: pair j of a head turns by `θ^(−2j/dh)` a position.
    pub theta: f64,
    /// What becomes of these frequencies.
    pub scaling: RopeScaling,
}

/// How the frequencies are changed for contexts longer than those of the pre-training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Llama 3.1's rule: low frequencies divided by `factor`, high ones kept, a ramp between.
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Wavelengths above `original_positions / low_frequency` are low.
        low_frequency: f64,
        /// Wavelengths below `original_positions / high_frequency` are high.
        high_frequency: f64,
        /// Positions of the pre-training.
        original_positions: usize,
    },
}

/// Extents and switches of a Llama (as Hugging Face's `LlamaForCausalLM`).
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaConfig {
    /// Number of tokens known.
    pub vocabulary: usize,
    /// Width d of the hidden states.
    pub hidden: usize,
    /// Number of blocks L.
    pub layers: usize,
    /// Heads of the queries.
    pub heads: usize,
    /// Heads of keys and values; they divide `heads`.
    pub kv_heads: usize,
    /// Width dh of a head, even.
    pub head_size: usize,
    /// Width of the MLP.
    pub mlp: usize,
    /// Positions that the model was trained for: no sequence is longer.
    pub positions: usize,
    /// ε of the RMS norms.
    pub rms_norm_epsilon: f64,
    /// Rotary positions.
    pub rope: Rope,
}

/// Room for the samples of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Most tokens of a sample.
    pub tokens: usize,
    /// Most tokens of a sample's answer: logits are computed for these alone.
    pub answer: usize,
}

impl LlamaConfig {
    /// Width of the queries.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_size
    }

    /// Width of keys and values.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_size
    }

    /// Outputs and inputs of a block's linear layers, in the order of the forward pass.
    pub fn linear_shapes(&self) -> [(usize, usize); 7] {
        let (d, q, kv, mlp) = (self.hidden, self.query_width(), self.kv_width(), self.mlp);
        [(q, d), (kv, d), (kv, d), (d, q), (mlp, d), (mlp, d), (d, mlp)]
    }

    /// Checks that the extents fit together.
    ///
    /// # Errors
    /// [`ModelError::Config`] says what does not.
    pub fn check(&self) -> Result<(), ModelError> {
        let refuse = |what: String| Err(ModelError::Config { what });
        let extents = [
            ("vocabulary", self.vocabulary),
            ("hidden size", self.hidden),
            ("number of layers", self.layers),
            ("number of heads", self.heads),
            ("number of key and value heads", self.kv_heads),
            ("size of a head", self.head_size),
            ("MLP size", self.mlp),
            ("number of positions", self.positions),
        ];
        for (name, value) in extents {
            if value == 0 {
                return refuse(format!("the {name} is 0"));
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return refuse(format!("{} key and value heads don't divide {} heads", self.kv_heads, self.heads));
        }
        if !self.head_size.is_multiple_of(2) {
            return refuse(format!("a head of {} values has no halves to turn", self.head_size));
        }
        let positive = |x: f64| x.is_finite() && x > 0.0;
        if !positive(self.rms_norm_epsilon) {
            return refuse(format!("ε of the norms is {}, not a positive number", self.rms_norm_epsilon));
        }
        if !positive(self.rope.theta) {
            return refuse(format!("θ of the positions is {}, not a positive number", self.rope.theta));
        }
        if let RopeScaling::Llama3 { factor, low_frequency, high_frequency, original_positions } = self.rope.scaling {
            let fits = positive(factor) && positive(low_frequency) && low_frequency < high_frequency;
            if !fits || !high_frequency.is_finite() || original_positions == 0 {
                return refuse(format!(
                    "rope scaling by {factor}, between the frequencies {low_frequency} and {high_frequency}, of \
                     {original_positions} positions"
                ));
            }
        }
        Ok(())
    }
}

impl Rope {
    /// Angle of a position for each pair of a head of `size` values: θ^(−2j/size), scaled.
    pub fn frequencies(&self, size: usize) -> Vec<f64> {
        (0..size / 2).map(|j| self.scaling.scaled(libm::pow(self.theta, -((2 * j) as f64) / size as f64))).collect()
    }
}

impl RopeScaling {
    fn scaled(self, frequency: f64) -> f64 {
        let Self::Llama3 { factor, low_frequency, high_frequency, original_positions } = self else { return frequency };
        // Turns over the positions of the pre-training.
        let turns = original_positions as f64 * frequency / core::f64::consts::TAU;
        if turns < low_frequency {
            frequency / factor
        } else if turns > high_frequency {
            frequency
        } else {
            let share = (turns - low_frequency) / (high_frequency - low_frequency);
            (1.0 - share) * frequency / factor + share * frequency
        }
    }
}

/// One frozen linear layer on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearWeights {
    /// The tensor's name in its file, without `.weight`; it names the site.
    pub name: String,
    /// out×in, row-major.
    pub weight: HostValues,
    /// out values.
    pub bias: Option<Vec<f32>>,
}

/// One block on the host. q = heads·dh, kv = `kv_heads`·dh.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockWeights {
    /// Gain of the norm before the attention, d values.
    pub norm1: Vec<f32>,
    /// Query projection, q×d.
    pub query: LinearWeights,
    /// Key projection, kv×d.
    pub key: LinearWeights,
    /// Value projection, kv×d.
    pub value: LinearWeights,
    /// Attention output projection, d×q.
    pub output: LinearWeights,
    /// Gain of the norm before the MLP, d values.
    pub norm2: Vec<f32>,
    /// Gate of the MLP, mlp×d.
    pub gate: LinearWeights,
    /// What the gate lets through, mlp×d.
    pub up: LinearWeights,
    /// Back to the hidden size, d×mlp.
    pub down: LinearWeights,
}

impl BlockWeights {
    /// Its linear layers in the order of the forward pass.
    pub fn linears(&self) -> [&LinearWeights; 7] {
        [&self.query, &self.key, &self.value, &self.output, &self.gate, &self.up, &self.down]
    }
}

/// All weights of a Llama on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaWeights {
    /// vocabulary×d.
    pub embedding: HostValues,
    /// The blocks.
    pub blocks: Vec<BlockWeights>,
    /// Gain of the final norm, d values.
    pub norm: Vec<f32>,
    /// vocabulary×d, where it is not the embedding.
    pub head: Option<HostValues>,
}
