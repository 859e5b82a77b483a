//! What an encoder of images is made of.

use plastica_rules::Init;
use plastica_tensor::Shape;
use serde::{Deserialize, Serialize};

use crate::specification::ParameterSpec;
use crate::{ModelError, Result};

/// Blocks of Conv-4.
pub(super) const BLOCKS: usize = 4;

/// Smallest side of an image: each block halves it, and one pixel must be left.
const MIN_SIDE: usize = 1 << BLOCKS;

/// Largest side of an image.
const MAX_SIDE: usize = 1 << 12;

/// Most channels, of an image and inside.
const MAX_CHANNELS: usize = 1 << 12;

/// Widest embedding.
const MAX_EMBEDDING: usize = 1 << 20;

/// The kind of an encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EncoderKind {
    /// Four blocks of 3×3 convolution, batch normalisation, ReLU and 2×2 max-pooling, then a linear map
    /// (Vinyals et al., arXiv 1606.04080; Snell et al., arXiv 1703.05175).
    #[default]
    Conv4,
}

/// How an embedding is normalised before a model reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EmbeddingNorm {
    /// Not at all: as published.
    #[default]
    None,
    /// To mean 0 and variance 1 over its elements, without scale and shift of its own.
    LayerNorm,
    /// To Euclidean norm 1.
    L2,
    /// To Euclidean norm 1 after the running mean of all embeddings, a buffer, is taken away: directions are then told
    /// from the mean image's, which most of a photograph's embedding is.
    #[serde(rename = "centred-l2")]
    CentredL2,
}

/// The configuration of an encoder of images. Defaults are the published ones; the image's shape is CIFAR's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncoderConfig {
    /// The kind.
    pub kind: EncoderKind,
    /// Channels, height and width of an image; the sides at least 16.
    pub image: [usize; 3],
    /// Channels of every block, at least 1.
    pub channels: usize,
    /// Width of an embedding, at least 1.
    pub embedding_dim: usize,
    /// How an embedding is normalised.
    pub norm: EmbeddingNorm,
}

impl Default for EncoderConfig {
    fn default() -> Self {
        Self {
            kind: EncoderKind::Conv4,
            image: [3, 32, 32],
            channels: 64,
            embedding_dim: 256,
            norm: EmbeddingNorm::None,
        }
    }
}

impl EncoderConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`ModelError::Config`] that names the field, its value and what would have been right.
    pub fn validate(&self) -> Result<()> {
        let [channels, height, width] = self.image;
        let ranges = [
            ("encoder.image", channels, 1..=MAX_CHANNELS, "channels of an image"),
            ("encoder.image", height, MIN_SIDE..=MAX_SIDE, "rows of an image"),
            ("encoder.image", width, MIN_SIDE..=MAX_SIDE, "columns of an image"),
            ("encoder.channels", self.channels, 1..=MAX_CHANNELS, "channels of a block"),
            ("encoder.embedding_dim", self.embedding_dim, 1..=MAX_EMBEDDING, "elements of an embedding"),
        ];
        for (field, value, range, what) in ranges {
            if !range.contains(&value) {
                let rule = format!("{what} lie in {}..={}", range.start(), range.end());
                return Err(ModelError::Config { field, value: value.to_string(), rule });
            }
        }
        Ok(())
    }

    /// Channels that each block reads.
    fn block_inputs(&self) -> [usize; BLOCKS] {
        std::array::from_fn(|block| if block == 0 { self.image[0] } else { self.channels })
    }

    /// Height and width of the images that each block reads.
    fn block_sides(&self) -> [[usize; 2]; BLOCKS] {
        let [_, height, width] = self.image;
        std::array::from_fn(|block| [height >> block, width >> block])
    }

    /// Elements of an image after the last block.
    pub(super) fn flat_len(&self) -> usize {
        let [_, height, width] = self.image;
        self.channels * (height >> BLOCKS) * (width >> BLOCKS)
    }

    /// Number of scalars in all parameters together.
    pub(crate) fn parameter_count(&self) -> usize {
        let blocks: usize = self.block_inputs().iter().map(|inputs| self.channels * (9 * inputs + 3)).sum();
        blocks + self.embedding_dim * (self.flat_len() + 1)
    }

    /// Every parameter, in the order in which it is used; PyTorch's default initialisation: uniform in ±1/sqrt(fan-in),
    /// batch normalisation 1 and 0.
    pub(crate) fn parameters(&self) -> Vec<ParameterSpec> {
        let mut list = Vec::new();
        let mut add = |name: String, shape: Shape, init: Init| list.push(ParameterSpec { name, shape, init });
        let fan_in = |inputs: usize| Init::Uniform(1.0 / (inputs as f64).sqrt());
        let n = self.channels;
        for (block, inputs) in (1..).zip(self.block_inputs()) {
            add(format!("encoder.conv{block}.weight"), [n, inputs, 3, 3].into(), fan_in(9 * inputs));
            add(format!("encoder.conv{block}.bias"), [n].into(), fan_in(9 * inputs));
            add(format!("encoder.bn{block}.weight"), [n].into(), Init::Constant(1.0));
            add(format!("encoder.bn{block}.bias"), [n].into(), Init::Constant(0.0));
        }
        let flat = self.flat_len();
        add("encoder.fc.weight".into(), [self.embedding_dim, flat].into(), fan_in(flat));
        add("encoder.fc.bias".into(), [self.embedding_dim].into(), fan_in(flat));
        list
    }

    /// Every buffer, which training changes otherwise than by a gradient: the running mean and variance of each
    /// block, and the running mean of embeddings where they are centred.
    pub(crate) fn buffers(&self) -> Vec<ParameterSpec> {
        let buffer = |block: usize, of: &str, start: f64| ParameterSpec {
            name: format!("encoder.bn{block}.running_{of}"),
            shape: [self.channels].into(),
            init: Init::Constant(start),
        };
        let mut list: Vec<_> =
            (1..=BLOCKS).flat_map(|block| [buffer(block, "mean", 0.0), buffer(block, "var", 1.0)]).collect();
        if self.norm == EmbeddingNorm::CentredL2 {
            let name = "encoder.centre.running_mean".into();
            list.push(ParameterSpec { name, shape: [self.embedding_dim].into(), init: Init::Constant(0.0) });
        }
        list
    }

    /// Floating-point operations of convolutions and the linear map for one image: forward, and forward and backward
    /// together. Counted by the plain equations, two for each multiplication and addition; the image itself has no
    /// gradient.
    pub fn flops(&self) -> (f64, f64) {
        let (inputs, sides) = (self.block_inputs(), self.block_sides());
        let of_block = |block: usize| {
            let [height, width] = sides[block];
            2.0 * (9 * inputs[block] * self.channels * height * width) as f64
        };
        let linear = 2.0 * (self.flat_len() * self.embedding_dim) as f64;
        let forward = (0..BLOCKS).map(of_block).sum::<f64>() + linear;
        (forward, 3.0 * forward - of_block(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_that_of_the_list() {
        for (image, channels) in [([3, 32, 32], 64), ([1, 84, 84], 64), ([1, 28, 28], 5), ([3, 16, 33], 7)] {
            let config = EncoderConfig { image, channels, ..EncoderConfig::default() };
            let listed: usize = config.parameters().iter().map(|p| p.shape.len()).sum();
            assert_eq!(config.parameter_count(), listed, "{config:?}");
        }
    }

    #[test]
    fn the_published_encoder_is_the_known_one() {
        let config = EncoderConfig::default();
        config.validate().unwrap();
        // 113 088 in the blocks, as the few-shot literature counts them
        assert_eq!(config.parameter_count() - 256 * 257, 113_088);
        let (forward, training) = config.flops();
        assert_eq!(forward, 2.0 * (27.0 * 65536.0 + 576.0 * 64.0 * (256.0 + 64.0 + 16.0) + 65536.0));
        assert_eq!(training, 3.0 * forward - 2.0 * 27.0 * 65536.0);
    }

    #[test]
    fn errors_name_the_field_the_value_and_what_would_be_right() {
        let check = |change: fn(&mut EncoderConfig), message: &str| {
            let mut config = EncoderConfig::default();
            change(&mut config);
            assert_eq!(config.validate().unwrap_err().to_string(), message);
        };
        check(
            |c| c.image = [1, 15, 28],
            "model.encoder.image = 15 won't do: rows of an image lie in 16..=4096",
        );
        check(|c| c.channels = 0, "model.encoder.channels = 0 won't do: channels of a block lie in 1..=4096");
        check(
            |c| c.embedding_dim = 0,
            "model.encoder.embedding_dim = 0 won't do: elements of an embedding lie in 1..=1048576",
        );
    }
}
