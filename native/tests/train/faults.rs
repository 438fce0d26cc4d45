//! Each fault of config and data is one message with its place, before anything is trained or written.

use crate::files::Project;

/// The message of `check` after a change; `train` gives the same and writes nothing.
fn told(project: &Project, overrides: &[&str]) -> String {
    let args = |verb| [&[verb, "run.toml"], overrides].concat();
    let message = project.refuses(&args("check"));
    assert_eq!(project.refuses(&args("train")), message);
    assert!(!project.path("run").exists(), "nothing is written");
    message
}

#[test]
fn faults_of_the_config() {
    let project = Project::texts();
    assert!(told(&project, &["model.base=nowhere"]).contains("nowhere"));
    assert!(told(&project, &["model.targets=[\"keys\"]"]).contains("no linear layer is called `keys`"));
    assert!(told(&project, &["model.blocks=[9]"]).contains("there is no block 9"));
    assert!(told(&project, &["method.0.rank=1000"]).contains("rank 1000 of eblora is more than"));
    assert!(told(&project, &["method.0.alpha=1"]).contains("is no setting of eblora"));
    assert!(told(&project, &["train.split=validation"]).contains("task feeling has no `validation`"));
    assert!(told(&project, &["model.max_tokens=100000"]).contains("`model.max_tokens` is 100000, but the model has "));
    assert!(told(&project, &["model.gradient_checkpointing=true"]).contains("it is for a Llama"));
    let text = project.read("run.toml").replace("rank = 2", "rnk = 2");
    project.write("run.toml", text);
    let message = told(&project, &[]);
    assert!(message.starts_with("run.toml:13:1: `method.0.rnk`: unknown field `rnk`"), "{message}");
}

#[test]
fn faults_of_texts() {
    let project = Project::texts();
    let change = |name: &str, from: &str, to: &str| {
        let project = Project::texts();
        let text = project.read(name);
        assert!(text.contains(from), "{text}");
        project.write(name, text.replacen(from, to, 1));
        told(&project, &[])
    };
    assert!(told(&project, &["task.0.test=missing.jsonl"]).contains("missing.jsonl"));
    let jsonl = "feeling/train.jsonl";
    assert!(change(jsonl, "\"label\": 0}", "\"label\": 0").contains("feeling/train.jsonl:1:"));
    assert!(change(jsonl, "w1 w2 w5", "").contains("feeling/train.jsonl:1:"));
    assert!(change(jsonl, "\"label\": 1", "\"label\": 7").contains("feeling/train.jsonl:2"));
    assert!(change(jsonl, "\"label\": 1", "\"lable\": 1").contains("feeling/train.jsonl:2"));
    let long = change(jsonl, "w1 w2 w5", "w1 w1 w1 w1 w1 w1 w1 w1");
    assert!(long.contains("feeling/train.jsonl:1") && long.contains("10 tokens, more than the 8"), "{long}");
    let csv = "topic/test.csv";
    assert!(change(csv, "w10,", "w10,x,").contains("topic/test.csv:2"));
    let unknown = change(csv, "w10,", "w12,");
    assert!(unknown.contains("topic/test.csv:2") && unknown.contains("unknown label `w12`"), "{unknown}");
    assert!(change(csv, "topic,sentence", "topic,text").contains("sentence"));
    let project = Project::texts();
    let one_class = project.read("topic/train.csv").replace("w11,", "w10,");
    project.write("topic/train.csv", one_class);
    // Known by another task, so that only the training samples are missing.
    let text = project.read("run.toml").replace("\"1\" = \"yes\"", "\"1\" = \"w11\"");
    project.write("run.toml", text);
    let missing = told(&project, &[]);
    assert!(
        missing.contains("topic") && missing.contains("`w11`") && missing.contains("no training sample"),
        "{missing}"
    );
    let truncated = Project::texts();
    let text = truncated.read(jsonl).replacen("w1 w2 w5", "w1 w1 w1 w1 w1 w1 w1 w1", 1);
    truncated.write(jsonl, text);
    let told = truncated.succeeds(&["check", "run.toml", "model.too_long=truncate"]);
    assert!(told.contains("note: 1 of "), "{told}");
}

#[test]
fn faults_of_labels() {
    let config = |from: &str, to: &str, overrides: &[&str]| {
        let project = Project::texts();
        let text = project.read("run.toml");
        assert!(text.contains(from), "{text}");
        project.write("run.toml", text.replacen(from, to, 1));
        told(&project, overrides)
    };
    let texts = "{ \"0\" = \"no\", \"1\" = \"yes\" }";
    let same = config(texts, "{ \"0\" = \"u\", \"1\" = \"v\" }", &[]);
    assert!(same.contains("the labels \"u\" and \"v\" have the same tokens"), "{same}");
    let empty = config(texts, "{ \"0\" = \"no\", \"1\" = \"\" }", &[]);
    assert!(empty.contains("task feeling: `label_texts.1` is empty"), "{empty}");
    let long = config("\"no\"", "\"w1 w1 w1 w1 w1 w1 w1\"", &["model.too_long=truncate"]);
    assert!(long.contains("9 tokens, more than the 8") && !long.contains("truncate"), "{long}");
    for project in [Project::texts(), Project::images()] {
        let few = told(&project, &["train.train_samples=1"]);
        assert!(few.contains("the first 1 training samples (`train.train_samples`) have none of the label"), "{few}");
    }
}

#[test]
fn faults_of_tokens() {
    let tokenizer = |from: &str, to: &str| {
        let project = Project::texts();
        let text = project.read("base/tokenizer.json");
        assert!(text.contains(from), "{text}");
        project.write("base/tokenizer.json", text.replacen(from, to, 1));
        project
    };
    let large = told(&tokenizer("\"w9\":12", "\"w9\":5000"), &[]);
    assert!(large.contains("feeling/train.jsonl:5: token 5000 of "), "{large}");
    let project = tokenizer("\"[UNK]\":1,", "");
    let text = project.read("feeling/train.jsonl").replacen("w1 w2 w5", "w1 w2 unheard", 1);
    project.write("feeling/train.jsonl", text);
    let unheard = told(&project, &[]);
    assert!(unheard.contains("feeling/train.jsonl:1: ") && unheard.contains("tokenizer.json can't make"), "{unheard}");

    let project = Project::prompts();
    let tokens = |project: &Project| told(project, &["model.max_tokens=3"]);
    assert!(tokens(&project).contains("5 tokens, more than the 3"), "{}", tokens(&project));
    project.write("base/tokenizer_config.json", "{\"eos_token\": \"[SEP]\"}");
    assert!(tokens(&project).contains("6 tokens, more than the 3"), "{}", tokens(&project));
    let answer = told(&project, &["model.max_tokens=2", "model.too_long=truncate"]);
    assert!(answer.contains("shorten the answer") && !answer.contains("truncate"), "{answer}");
    let empty = told(&project, &["task.0.choices=[\"yes\", \"\"]"]);
    assert!(empty.contains("task choice: `choices.1` is empty"), "{empty}");
    let text = project.read("choice/train.jsonl").replacen("w1", &"w1 ".repeat(70), 1);
    project.write("choice/train.jsonl", text);
    let long = told(&project, &["model.max_tokens=100"]);
    assert!(long.contains("set `model.max_tokens` to at most 64"), "{long}");
}

#[test]
fn faults_of_image_labels() {
    let project = Project::images();
    let missing = told(&project, &["task.0.train=fashion/trian-images"]);
    assert!(missing.contains("cannot read") && missing.contains("trian-images: "), "{missing}");
    let table = project.read("turned/train.csv").replacen(".png,", ".png,9", 1);
    project.write("turned/train.csv", table);
    let unknown = told(&project, &[]);
    assert!(unknown.contains("turned/train.csv:2:13: unknown label `9"), "{unknown}");
    let mut labels = std::fs::read(project.path("fashion/test-labels")).unwrap();
    labels[8] = 200;
    project.write("fashion/test-labels", labels);
    let unknown = told(&project, &[]);
    assert!(unknown.contains("fashion/test-labels: unknown label `200`"), "{unknown}");
}

#[test]
fn faults_of_images_and_prompts() {
    let project = Project::images();
    assert!(told(&project, &["task.0.train_labels=fashion/test-labels"]).contains("30"));
    project.write("turned/train-3.png", "no image");
    assert!(told(&project, &[]).contains("train-3.png"));
    let project = Project::images();
    let table = project.read("turned/test.csv").replacen(".png,", ".png,9", 1);
    project.write("turned/test.csv", table);
    assert!(told(&project, &[]).contains("unknown label `9"));

    let project = Project::prompts();
    let text = project.read("free/train.jsonl").replacen("\"content\": \"w10\"", "\"content\": \" \"", 1);
    project.write("free/train.jsonl", text);
    assert!(told(&project, &[]).contains("free/train.jsonl:1"));
    let project = Project::prompts();
    assert!(
        told(&project, &["task.0.choices=[\"yes\", \"w11\"]"])
            .contains("choice/train.jsonl:2: the answer \"no\" is none")
    );
    assert!(told(&project, &["model.max_tokens=3"]).contains("choice/train.jsonl:1"));
}
