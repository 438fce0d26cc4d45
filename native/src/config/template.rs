//! The config that `eblora init` writes: every key, with its default and what it does.

use crate::model::Family;

/// A commented config for a family of models. Keys with their defaults are commented out.
///
/// ```
/// use eblora::{config::template, model::Family};
/// assert!(template(Family::Llama).contains("[[task]]"));
/// ```
pub fn template(family: Family) -> String {
    template_of(family, None)
}

/// The same with this base: a path, or `hf:owner/name` on a hub.
///
/// ```
/// use eblora::{config::template_of, model::Family};
/// assert!(template_of(Family::Bert, Some("hf:owner/name")).contains("\nbase = \"hf:owner/name\"\n"));
/// ```
pub fn template_of(family: Family, base: Option<&str>) -> String {
    let (model, tasks) = match family {
        Family::Vit => (VIT_MODEL, VIT_TASKS),
        Family::Bert => (BERT_MODEL, BERT_TASKS),
        Family::Llama => (LLAMA_MODEL, LLAMA_TASKS),
    };
    let model = match (base, model.split_once('\n')) {
        (Some(base), Some((_, others))) => format!("base = {}\n{others}", toml::Value::from(base)),
        _ => model.to_owned(),
    };
    format!("{HEAD}{model}{TRAIN}{METHODS}{tasks}")
}

const HEAD: &str = r#"# A run of eblora: tasks that a model learns one after the other, by each method in turn.
#
#   eblora check FILE     reads everything and says what is wrong, without training
#   eblora train FILE     trains, and reports into the folder `out`; with --resume it goes on after an interruption
#
# Paths are relative to this file. Every key can be changed on the command line: eblora train FILE train.steps=50

#seeds = [0]                 # a run for each: data order, sketches, initialisation
#device = "cpu"              # or "gpu", "gpu:1", a part of an adapter's name; see `eblora devices`
#threads = 8                 # default: as many as the machine has
#out = "eblora-run"          # folder for the report, the adapters and the checkpoints

[model]
"#;

const VIT_MODEL: &str = r#"base = "models/vit"          # a Hugging Face ViTForImageClassification folder
#family = "vit"              # default: what its config.json says
#targets = ["q", "v"]        # linear layers with adapters, by name (q, k, v, o, fc1, fc2); default: all
#blocks = [2, 3]             # blocks with adapters, from 0; default: all
"#;

const BERT_MODEL: &str = r#"base = "models/minilm"       # a Hugging Face BertModel folder with its tokenizer.json
#family = "bert"             # default: what its config.json says
#targets = ["query", "value"] # linear layers with adapters, by name or its last parts; default: all
#blocks = [3, 4, 5]          # blocks with adapters, from 0; default: all
#max_tokens = 128            # most tokens of a text
#too_long = "refuse"         # or "truncate"
#head = "labels"             # scores are cosines with the labels' texts; or "linear": for labels whose texts say nothing
#temperature = 0.07          # scores are divided by this
"#;

const LLAMA_MODEL: &str = r#"base = "models/smollm2.gguf" # a Hugging Face LlamaForCausalLM folder with its tokenizer.json, or a GGUF file
#family = "llama"            # default: what its config says
#targets = ["q_proj", "v_proj"] # linear layers with adapters, by name or its last parts; default: all
#blocks = [28, 29]           # blocks with adapters, from 0; default: all
#max_tokens = 128            # most tokens of a prompt with its answer
#too_long = "refuse"         # or "truncate": the prompt loses its beginning
#chat = "none"               # how prompts are written: "none", "smollm2", "vicuna-v1"
#gradient_checkpointing = false # true: a fifth of the activations' memory, a quarter more time, the same numbers
"#;

const TRAIN: &str = r#"
[train]                      # the same for every method and task
#steps = 100                 # of each task
#batch = 16                  # samples of each step
#warmup = 0.03               # share of the steps over which the rates rise
#decay = "cosine"            # or "linear", "constant"
#gradient_at = "merged"      # where gradients are taken: the current model, or the "base"
#gradient_share = 0.2        # of a task's samples that they are averaged over
#gradient_sketch = 128       # recover so many directions from a sketch; default: keep the gradient whole
#split = "test"              # what accuracies are measured on, or "validation": for choosing settings
#train_samples = 1000        # train on the first so many of each task; default: all
#test_samples = 200          # measure on the first so many of each task; default: all
#snapshots = 8               # spectra recorded in each task
#checkpoint_every = 50       # steps between two checkpoints; 0: only at a task's end

"#;

const METHODS: &str = r#"[[method]]
name = "lora-ft"             # plain LoRA, the baseline that forgets
#label = "lora-ft"           # what it is called in tables and folders
#rank = 8
#alpha = 16.0                # the update is scaled by alpha/rank
#rate = 0.00122              # AdamW's rate
#weight_decay = 0.0
#between_tasks = "merge"     # or "continue": one adapter through all tasks

# Bounds, with the settings of lora-ft: "individual" (each task from the base anew), "multi-task" (all tasks' samples in
# each task), "replay" (samples = 100 of each earlier task beside a task's own).
# Relatives of LoRA that forget less; each has rank, alpha, rate and weight_decay as above, unless it says otherwise:
#   "lora-gpm"    epsilon, budget: as of eblora
#   "o-lora"      overlap_penalty = 0.5, norm_penalty = 0.0
#   "sefe"        penalty = 2500.0, masked_share = 0.02
#   "keeplora"    rank 32; epsilon = 0.99, weight_epsilon = 0.6 (of the pretrained weight)
#   "inflora"     no alpha; lamb = 0.98, lame = 1.0 (share of the inputs' energy that is kept of the first and last task)
#   "stella"      step, convention, s_rate, tangent, retraction: as of eblora; no rate
#   "osf"         rate = 0.001, frozen_share = 0.5; nothing else
# And "eblora-plus", which has the settings of eblora (rank 32, step = 0.2, s_rate = 0.006) and trained_epsilon = 0.97: it
# protects the gradient directions of the trained model too, for one more pass over a share of each task's samples.

[[method]]
name = "eblora"              # energy-balanced, earlier tasks protected; "ebo" is the same without protection
#rank = 8
#epsilon = 0.99              # share of a gradient's energy that is protected (not of ebo)
#budget = 64                 # most protected directions a layer (not of ebo); default: no bound
#step = 0.4                  # of U and V at the peak of the schedule
#convention = "relative"     # what `step` means: relative to ‖X‖, "raw" per entry, or the "authors"'
#s_rate = 0.009              # AdamW's rate of the magnitude s: the most sensitive setting
#s_first = 0.002             # s of the first block at the start
#s_last = 0.01               # s of the last block at the start
#weight_decay = 0.0          # of s
#init = "gradient"           # or "random"
#tangent = "euclidean"       # or "canonical"
#retraction = "whitening"    # or "polar", "qr"
#drift_period = 1            # every how many steps V is projected off M once more; 0: never

"#;

const VIT_TASKS: &str = r#"[[task]]
name = "first"
train = "data/first/train"   # a folder with a folder of PNG or JPEG files for each class
test = "data/first/test"
#validation = "data/first/validation"
#label_texts = { "0" = "cat" } # what the classes are called in the model's config.json, where that differs

[[task]]
name = "second"
train = "data/second/train-images-idx3-ubyte.gz"   # or an idx or npy file of images…
train_labels = "data/second/train-labels-idx1-ubyte.gz" # …with one of labels
test = "data/second/test.csv" # or a .csv or .jsonl with the fields `image` (a path) and `label`
"#;

const BERT_TASKS: &str = r#"[[task]]
name = "reviews"
train = "data/reviews/train.jsonl" # .jsonl, .json, .csv or .tsv with a text and a label in each record
test = "data/reviews/test.jsonl"
#validation = "data/reviews/validation.jsonl"
#text = "text"               # field of the text
#label = "label"             # field of the label
#prefix = ""                 # stands before each text
label_texts = { "0" = "negative", "1" = "positive" } # the texts that labels stand for; default: the labels themselves

[[task]]
name = "topics"
train = "data/topics/train.csv"
test = "data/topics/test.csv"
"#;

const LLAMA_TASKS: &str = r#"[[task]]
name = "reviews"
train = "data/reviews/train.jsonl" # .jsonl, .json, .csv or .tsv
test = "data/reviews/test.jsonl"
#validation = "data/reviews/validation.jsonl"
#text = "text"               # field of the text
#label = "label"             # field of the label
#prefix = ""                 # stands before each text
label_texts = { "0" = "negative", "1" = "positive" } # the answers that labels stand for; default: the labels themselves
prompt = "Review: {text}\nThe review is" # makes prompts of texts; the answer is chosen among the labels by likelihood

[[task]]
name = "questions"
train = "data/questions/train.jsonl" # without `prompt`: records with `prompt` and `answer`, `messages`, or Alpaca's or LLaVA's fields
test = "data/questions/test.jsonl"
#choices = ["yes", "no"]     # answers to choose from; default: what greedy decoding gives must be the answer
"#;
