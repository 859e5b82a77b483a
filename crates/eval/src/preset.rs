//! Settings under one name, with their reasons.

use std::fmt;
use std::str::FromStr;

use plastica_model::{AttentionInit, EmbeddingNorm, ModelKind};
use plastica_tasks::{Augmentation, EpisodeOrder, Rotations, SplitProtocol};
use plastica_tensor::optim::Schedule;

use crate::{EvalError, Plateau, RunConfig};

/// Settings that take the place of the published ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Preset {
    /// `images`: the image tasks as the field runs them.
    ///
    /// - Classes of test and training are disjoint, the order of an episode is shuffled and labels are dealt at random: in
    ///   the published setting, a query's place tells its class.
    /// - Characters at 28×28, quarter turns as classes of their own in training; photographs flipped and cropped.
    /// - Batches of 16 episodes at a learning rate of 1e-3 with warm-up and decay: single episodes are too noisy a
    ///   gradient for an encoder of this size.
    /// - Embeddings come to the Transformer with norm 1, as long as the one-hot label beside them: at a larger scale the
    ///   label is lost, and nothing is learnt. Those of photographs are centred first, as most of such an embedding is what
    ///   all of them share.
    /// - Keys start as queries, so that a query looks at support images like it from the first step on.
    /// - A prototypical network's loss on the embeddings stands beside the model's own: the encoder then learns as fast as
    ///   that network's does, also while attention does not yet know what to look for.
    /// - No dropout: its noise hides which support image a query is like, and there are always new episodes.
    /// - `max_norm` 100: at 1, the clip alone holds a rule's η at 1e-4 at this width.
    Images,
    /// `converged`: a task until it is learned, as [`Protocol::Converged`](crate::Protocol::Converged) has it; the same
    /// for every rule and credit.
    ///
    /// - Batches of 64 fresh episodes, at most 1500 steps at a learning rate of 1e-3 after a warm-up of 100, an evaluation on
    ///   the same 256 held-out episodes every 50 steps, and the end where their loss stands still ([`Plateau`]).
    /// - No dropout: it is a noise that squared errors of 1e-4 do not bear, and there are always new episodes.
    /// - `max_norm` 100: at 1, the clip alone holds the Hebbian rule's η near 3e-4, whatever the gate learns.
    Converged,
}

impl Preset {
    /// All of them.
    pub const ALL: [Preset; 2] = [Preset::Images, Preset::Converged];

    /// The preset's name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Images => "images",
            Preset::Converged => "converged",
        }
    }

    /// Puts the preset's settings into a configuration.
    pub fn apply(self, config: &mut RunConfig) {
        match self {
            Preset::Images => images(config),
            Preset::Converged => converged(config),
        }
    }
}

fn images(config: &mut RunConfig) {
    let prototypical = config.model.kind == ModelKind::Prototypical;
    let mut photographs = false;
    if let Some(task) = config.task.few_shot_mut() {
        photographs = task.data.channels() == 3;
        task.split = SplitProtocol::Disjoint;
        task.order = EpisodeOrder::Shuffled;
        task.permute_labels = true;
        task.queries = 10;
        if photographs {
            task.augmentation = Augmentation { crop_padding: 4, flip: true, ..task.augmentation };
        } else {
            task.image_size = 28;
            task.rotations = Rotations::Training;
        }
    }
    if let Some(encoder) = &mut config.model.encoder {
        encoder.norm = match (prototypical, photographs) {
            (true, _) => EmbeddingNorm::None,
            (false, true) => EmbeddingNorm::CentredL2,
            (false, false) => EmbeddingNorm::L2,
        };
    }
    config.model.attention_init = AttentionInit::KeysAsQueries;
    config.model.dropout = 0.0;
    config.model.max_norm = 100.0;
    let training = &mut config.training;
    training.prototypical_loss = if prototypical { 0.0 } else { 1.0 };
    training.batch_size = 16;
    training.epochs = 10;
    training.dataset_size = 1600;
    training.eval_episodes = Some(200);
    training.lr = 1e-3;
    training.schedule = Schedule::WarmupCosine { warmup_steps: 50, final_ratio: 0.02 };
}

fn converged(config: &mut RunConfig) {
    config.model.dropout = 0.0;
    config.model.max_norm = 100.0;
    let training = &mut config.training;
    training.batch_size = 64;
    training.dataset_size = 50 * 64;
    training.epochs = 30;
    training.eval_episodes = Some(256);
    training.lr = 1e-3;
    training.schedule = Schedule::WarmupCosine { warmup_steps: 100, final_ratio: 1.0 };
    training.plateau = Some(Plateau::default());
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Preset {
    type Err = EvalError;

    fn from_str(name: &str) -> Result<Self, EvalError> {
        let found = Preset::ALL.into_iter().find(|preset| preset.name() == name);
        let expected = || format!("one of {}", Preset::ALL.map(Preset::name).join(", "));
        found.ok_or_else(|| EvalError::Config { field: "preset", value: name.into(), expected: expected() })
    }
}
