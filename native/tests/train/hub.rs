//! Base models by name: fetched once from a hub, here a local one, and then found in the cache.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Output;
use std::sync::{Arc, Mutex};

use eblora::peft::AdapterSet;

use crate::files::Project;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What a server has, and what it was asked for.
#[derive(Default)]
struct Hub {
    files: BTreeMap<String, Vec<u8>>,
    /// Files that end after half of what was asked for, once.
    broken: Mutex<Vec<String>>,
    seen: Mutex<Vec<String>>,
}

impl Hub {
    /// The files of a folder as the model `owner/small`.
    fn of(project: &Project, folder: &str) -> Self {
        let entries = fs::read_dir(project.path(folder)).unwrap().flatten();
        let file = |entry: fs::DirEntry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
        Self { files: entries.map(file).collect(), ..Self::default() }
    }

    /// Serves until the test ends; gives the address.
    fn serve(self: &Arc<Self>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let hub = self.clone();
        std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| hub.answer(stream)));
        address
    }

    fn answer(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut head = Vec::new();
        for line in reader.by_ref_lines() {
            if line.is_empty() {
                break;
            }
            head.push(line);
        }
        let Some(path) = head.first().and_then(|line| line.split(' ').nth(1)) else { return };
        self.seen.lock().unwrap().push(path.to_owned());
        let range =
            head.iter().find_map(|line| line.to_ascii_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
        let token = head.iter().any(|line| line.eq_ignore_ascii_case("authorization: bearer secret"));
        let reply = self.reply(path, range.as_deref(), token);
        let _ = stream.write_all(&reply); // the client may have left
    }

    fn reply(&self, path: &str, range: Option<&str>, token: bool) -> Vec<u8> {
        let plain = |status: &str, body: &str| {
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            (head + body).into_bytes()
        };
        if path.starts_with("/api/models/owner/private") && !token {
            return plain("401 Unauthorized", "");
        }
        if path.starts_with("/api/models/owner/") && !path.contains("unknown") {
            let files: Vec<_> = self.files.keys().map(|file| format!("{{\"rfilename\":\"{file}\"}}")).collect();
            return plain("200 OK", &format!("{{\"siblings\":[{}],\"sha\":\"{COMMIT}\"}}", files.join(",")));
        }
        let name = path.rsplit('/').next().unwrap();
        let Some(bytes) = self.files.get(name).filter(|_| path.contains("/resolve/")) else {
            return plain("404 Not Found", "");
        };
        let (from, to) = range.unwrap().split_once('-').unwrap();
        let (from, last) = (from.parse::<usize>().unwrap(), bytes.len() - 1);
        let to = to.parse().unwrap_or(last).min(last);
        let mut reply = format!(
            "HTTP/1.1 206 Partial Content\r\netag: \"{:08x}\"\r\nx-repo-commit: {COMMIT}\r\ncontent-range: bytes \
             {from}-{to}/{}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            crc32fast::hash(bytes),
            bytes.len(),
            to - from + 1
        )
        .into_bytes();
        let mut broken = self.broken.lock().unwrap();
        let end = match broken.iter().position(|file| file == name).filter(|_| to > from) {
            Some(at) => {
                broken.remove(at);
                (from + to) / 2
            }
            None => to + 1,
        };
        reply.extend(&bytes[from..end]);
        reply
    }
}

/// Lines of a request's head.
trait Lines {
    fn by_ref_lines(&mut self) -> impl Iterator<Item = String>;
}

impl<R: BufRead> Lines for R {
    fn by_ref_lines(&mut self) -> impl Iterator<Item = String> {
        self.lines().map_while(Result::ok)
    }
}

fn ask(project: &Project, args: &[&str], settings: &[(&str, &str)]) -> Output {
    let mut command = project.command(args);
    for inherited in
        ["HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY"]
    {
        command.env_remove(inherited);
    }
    command.envs(settings.iter().copied()).output().unwrap()
}

fn succeeds(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

fn refused(output: &Output) -> String {
    let message = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!((output.status.code(), message.lines().count()), (Some(2), 1), "{message}");
    message
}

#[test]
fn a_model_by_name_is_fetched_once_and_then_in_the_cache() {
    let project = Project::texts();
    let plain = project.succeeds(&["train", "run.toml", "out=plain"]);
    let hub = Arc::new(Hub::of(&project, "base"));
    hub.broken.lock().unwrap().push("model.safetensors".to_owned());
    let (endpoint, home) = (hub.serve(), project.path("home").display().to_string());
    let settings = [("HF_ENDPOINT", endpoint.as_str()), ("HF_HOME", home.as_str())];

    succeeds(&ask(&project, &["check", "run.toml", "--model", "owner/small"], &settings));
    let seen = hub.seen.lock().unwrap().clone();
    assert!(seen.iter().any(|path| path == "/owner/small/resolve/main/tokenizer.json"), "{seen:?}");
    let weights = seen.iter().filter(|path| path.ends_with("/model.safetensors")).count();
    assert_eq!(weights, 3, "what it is, a half, the other half: {seen:?}");

    // The same numbers as from the folder, and nobody is asked again, not even where nobody is.
    let nobody = [("HF_ENDPOINT", "http://127.0.0.1:9"), ("HF_HOME", home.as_str())];
    let output = ask(&project, &["train", "run.toml", "out=named", "model.base=hf:owner/small"], &nobody);
    succeeds(&output);
    let numbers =
        |text: &str| text.lines().filter(|line| line.starts_with("after")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(numbers(&String::from_utf8(output.stdout).unwrap()), numbers(&plain));
    assert_eq!(hub.seen.lock().unwrap().len(), seen.len());
    // The adapters name the base as it is called everywhere; the run can be asked, and merged.
    let set = AdapterSet::read(project.path("named/eblora/adapters")).unwrap();
    let adapter = set.adapter(&set.tasks()[0]).unwrap();
    assert_eq!(adapter.base_model.as_deref(), Some("owner/small"));
    succeeds(&ask(&project, &["eval", "named"], &nobody));
    let export = ["export", "named/eblora/adapters", "--format", "merged", "--out", "merged"];
    succeeds(&ask(&project, &export, &nobody));
    assert!(project.path("merged/model.safetensors").exists());

    // Another cache, by the variable that names it alone.
    let cache = project.path("cache").display().to_string();
    let settings = [("HF_ENDPOINT", endpoint.as_str()), ("HF_HUB_CACHE", cache.as_str())];
    succeeds(&ask(&project, &["check", "run.toml", "--model", "owner/small@v2"], &settings));
    assert!(project.path("cache/models--owner--small/snapshots").join(COMMIT).join("config.json").exists());
    assert!(hub.seen.lock().unwrap().iter().any(|path| path == "/owner/small/resolve/v2/config.json"));
}

#[test]
fn what_cannot_be_fetched_is_told() {
    let project = Project::texts();
    let mut hub = Hub::of(&project, "base");
    hub.files.remove("model.safetensors");
    hub.files.insert("pytorch_model.bin".to_owned(), vec![1]);
    let (endpoint, home) = (Arc::new(hub).serve(), project.path("home").display().to_string());
    let with = |model: &str, more: &[(&str, &str)]| {
        let settings = [&[("HF_ENDPOINT", endpoint.as_str()), ("HF_HOME", home.as_str())], more].concat();
        ask(&project, &["check", "run.toml", "--model", model], &settings)
    };
    let told = refused(&with("owner/small", &[]));
    assert!(
        told.contains("owner/small has no weights in safetensors files; it has config.json, pytorch_model.bin"),
        "{told}"
    );
    let told = refused(&with("owner/small:q4.gguf", &[]));
    assert!(told.contains("has no q4.gguf; it has"), "{told}");
    let told = refused(&with("owner/unknown", &[]));
    assert!(
        told.contains("cannot fetch the list of files of owner/unknown from http://127") && told.contains("404"),
        "{told}"
    );
    assert!(refused(&with("owner/private", &[])).contains("401"));
    assert!(refused(&with("owner/private", &[("HF_TOKEN", "secret")])).contains("no weights"), "the token opens it");
    let told = refused(&with("owner/other", &[("HF_HUB_OFFLINE", "1")]));
    assert!(told.contains("owner/other is not in ") && told.contains("HF_HUB_OFFLINE forbids"), "{told}");
    let told = refused(&ask(&project, &["check", "run.toml", "model.base=hf:a/b/c"], &[]));
    assert!(told.contains("hf:OWNER/NAME is expected"), "{told}");
}

#[test]
fn a_config_can_begin_with_a_name() {
    let project = Project::texts();
    project.succeeds(&["init", "named.toml", "--model", "owner/small"]);
    assert!(project.read("named.toml").contains("\nbase = \"hf:owner/small\"\n"));
    project.succeeds(&["init", "there.toml", "--model", "base"]);
    assert!(project.read("there.toml").contains("\nbase = \"base\"\n"));
}
