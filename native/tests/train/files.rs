//! Small models, data and configs in a folder, and the binary run there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use eblora::core::model::vit::ImageSet;
use eblora::data::mix;
use eblora::run::MethodName;
use tempfile::TempDir;

/// A folder that holds a model, its data and a config.
pub struct Project {
    folder: TempDir,
}

/// What the binary gave.
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Project {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let file = self.path(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_eblora"));
        command.args(args).current_dir(self.folder.path());
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        let Output { status, stdout, stderr } = self.command(args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: status.code(), out: text(stdout), err: text(stderr) }
    }

    /// Standard output of a command that must succeed.
    pub fn succeeds(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, Some(0), "{args:?}: {}", ran.err);
        ran.out
    }

    /// The message of a command that must refuse.
    pub fn refuses(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, Some(2), "{args:?}: {}{}", ran.out, ran.err);
        assert_eq!(ran.err.lines().count(), 1, "one message: {}", ran.err);
        ran.err.strip_prefix("error: ").unwrap_or_else(|| panic!("{}", ran.err)).trim_end().to_owned()
    }

    /// Two vision tasks on the bundled model: idx files, and a table that names PNG files.
    pub fn images() -> Self {
        let project = Self::new();
        copy(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/base")), &project.path("base"));
        let tasks = mix::tasks().unwrap();
        let part = |set: &ImageSet, n| set.slice(0..n);
        for (split, set) in [("train", part(&tasks[0].train, 64)), ("test", part(&tasks[0].test, 30))] {
            project.write(&format!("fashion/{split}-images"), idx(&set));
            let labels = [&[0, 0, 8, 1][..], &(set.len() as u32).to_be_bytes(), &bytes(&set.labels)].concat();
            project.write(&format!("fashion/{split}-labels"), labels);
        }
        for (split, set) in [("train", part(&tasks[1].train, 64)), ("test", part(&tasks[1].test, 30))] {
            let mut table = "image,label\n".to_owned();
            for i in 0..set.len() {
                let name = format!("{split}-{i}.png");
                let (w, h) = (set.width as u32, set.height as u32);
                let image = image::GrayImage::from_raw(w, h, set.image(i).to_vec()).unwrap();
                fs::create_dir_all(project.path("turned")).unwrap();
                image.save(project.path(&format!("turned/{name}"))).unwrap();
                table += &format!("{name},{}\n", set.labels[i]);
            }
            project.write(&format!("turned/{split}.csv"), table);
        }
        project.write("run.toml", IMAGES);
        project
    }

    /// Two text tasks on the small BERT, one of JSON lines, one a table.
    pub fn texts() -> Self {
        let project = Self::new();
        copy(&fixture("bert"), &project.path("base"));
        project.write("base/tokenizer.json", tokenizer("[CLS]", "[SEP]"));
        for (split, n) in [("train", 24), ("test", 10)] {
            let mut lines = String::new();
            let mut table = "topic,sentence\n".to_owned();
            for i in 0..n {
                let (word, label) = [("w1 w2", 0), ("w3 w4", 1)][i % 2];
                lines += &format!("{{\"text\": \"{word} w{}\", \"label\": {label}}}\n", 5 + i % 7);
                table += &format!("{},\"w8 {} w9\"\n", ["w10", "w11"][i % 2], ["w6", "w7"][i % 2]);
            }
            project.write(&format!("feeling/{split}.jsonl"), lines);
            project.write(&format!("topic/{split}.csv"), table);
        }
        project.write("run.toml", TEXTS);
        project
    }

    /// Two tasks on the small Llama: one by choices, one by free answers.
    pub fn prompts() -> Self {
        let project = Self::new();
        copy(&fixture("llama_untied"), &project.path("base"));
        project.write("base/tokenizer.json", tokenizer("", ""));
        for (split, n) in [("train", 16), ("test", 6)] {
            let mut texts = String::new();
            let mut pairs = String::new();
            for i in 0..n {
                let (word, label) = [("w1", "yes"), ("w3", "no")][i % 2];
                texts += &format!("{{\"text\": \"{word} w{}\", \"label\": \"{label}\"}}\n", 5 + i % 4);
                pairs += &format!(
                    "{{\"messages\": [{{\"role\": \"user\", \"content\": \"{word} w9\"}}, {{\"role\": \"assistant\", \
                     \"content\": \"w{}\"}}]}}\n",
                    10 + i % 2
                );
            }
            project.write(&format!("choice/{split}.jsonl"), texts);
            project.write(&format!("free/{split}.jsonl"), pairs);
        }
        project.write("run.toml", PROMPTS);
        project
    }
}

/// The `KEY=VALUE` that trains every method there is.
pub fn every_method() -> String {
    let rank = |name: MethodName| if name.has("rank") { ",rank=2" } else { "" };
    let methods: Vec<_> = MethodName::ALL.map(|name| format!("{{name=\"{name}\"{}}}", rank(name))).into();
    format!("method=[{}]", methods.join(","))
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn idx(set: &ImageSet) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, 3];
    for extent in [set.len(), set.height, set.width] {
        bytes.extend((extent as u32).to_be_bytes());
    }
    bytes.extend(&set.pixels);
    bytes
}

fn bytes(labels: &[u32]) -> Vec<u8> {
    labels.iter().map(|&label| label as u8).collect()
}

/// Words w1 … w11, yes and no as tokens 4 …; special tokens around a text where they are named.
fn tokenizer(first: &str, last: &str) -> String {
    let mut words = vec!["[PAD]".to_owned(), "[UNK]".to_owned(), "[CLS]".to_owned(), "[SEP]".to_owned()];
    words.extend((1..=11).map(|i| format!("w{i}")));
    words.extend(["yes".to_owned(), "no".to_owned()]);
    let vocab: Vec<_> = words.iter().enumerate().map(|(id, word)| format!("\"{word}\":{id}")).collect();
    let around = match first {
        "" => "null".to_owned(),
        _ => format!(r#"{{"type":"BertProcessing","sep":["{last}",3],"cls":["{first}",2]}}"#),
    };
    format!(
        r#"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,
        "pre_tokenizer":{{"type":"WhitespaceSplit"}},"post_processor":{around},"decoder":null,
        "model":{{"type":"WordLevel","vocab":{{{}}},"unk_token":"[UNK]"}}}}"#,
        vocab.join(",")
    )
}

const IMAGES: &str = r#"
threads = 1
out = "run"
[model]
base = "base"
targets = ["q", "v", "fc1"]
[train]
steps = 4
batch = 8
checkpoint_every = 1
snapshots = 2
[[method]]
name = "lora-ft"
rank = 2
[[method]]
name = "eblora"
label = "ours"
rank = 4
epsilon = 0.9
[[task]]
name = "fashion"
train = "fashion/train-images"
train_labels = "fashion/train-labels"
test = "fashion/test-images"
test_labels = "fashion/test-labels"
[[task]]
name = "turned"
train = "turned/train.csv"
test = "turned/test.csv"
"#;

const TEXTS: &str = r#"
threads = 1
out = "run"
[model]
base = "base"
blocks = [1]
max_tokens = 8
[train]
steps = 20
batch = 8
[[method]]
name = "eblora"
rank = 2
[[task]]
name = "feeling"
train = "feeling/train.jsonl"
test = "feeling/test.jsonl"
label_texts = { "0" = "no", "1" = "yes" }
[[task]]
name = "topic"
train = "topic/train.csv"
test = "topic/test.csv"
text = "sentence"
label = "topic"
prefix = "w5 "
"#;

const PROMPTS: &str = r#"
threads = 1
out = "run"
[model]
base = "base"
max_tokens = 16
targets = ["q_proj", "v_proj", "down_proj"]
[train]
steps = 10
batch = 4
[[method]]
name = "lora-ft"
rank = 2
rate = 0.01
[[task]]
name = "choice"
train = "choice/train.jsonl"
test = "choice/test.jsonl"
prompt = "w2 {text} w2"
[[task]]
name = "free"
train = "free/train.jsonl"
test = "free/test.jsonl"
"#;
