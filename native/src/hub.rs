//! Base models by name, from a hub of models into its local cache: `hf:owner/name`, with `@revision` where it isn't `main`,
//! and `:file.gguf` for one file of the repository.
//!
//! The client is `hf-hub`; cache and settings are those of Hugging Face's own tools: `HF_ENDPOINT`, `HF_HOME`,
//! `HF_HUB_CACHE`, `HF_TOKEN`, `HF_HUB_OFFLINE`. What is in the cache is used without asking anybody.

use std::env;
use std::path::{Path, PathBuf};

use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use thiserror::Error;

use crate::formats::safetensors::{INDEX_FILE, SINGLE_FILE, SafetensorsError, shards};

/// What stands before a name in place of a path.
pub const PREFIX: &str = "hf:";
const CONFIG: &str = "config.json";
/// What a model's folder may hold beside its weights.
const SMALL_FILES: [&str; 5] =
    [CONFIG, "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json", "generation_config.json"];
const ENDPOINT: &str = "https://huggingface.co";

/// Why a model could not be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HubError {
    /// Not such a name.
    #[error("{name:?} names no model: hf:OWNER/NAME is expected, perhaps with @REVISION and :FILE.gguf behind it")]
    Name {
        /// What was given.
        name: String,
    },
    /// The client can't be set up.
    #[error("cannot reach a model hub: {source}")]
    Client {
        /// Why.
        source: Box<ApiError>,
    },
    /// It is not in the cache, and nothing may be fetched.
    #[error("{name} is not in {}, and HF_HUB_OFFLINE forbids to fetch it", .cache.display())]
    Offline {
        /// The model.
        name: String,
        /// The cache.
        cache: PathBuf,
    },
    /// The hub does not give it.
    #[error(
        "cannot fetch {what} of {name} from {endpoint}: {source}; is the name right? HF_TOKEN opens private models, \
         HF_ENDPOINT names another hub, and a folder does without one"
    )]
    Fetch {
        /// A file, or the list of them.
        what: String,
        /// The model.
        name: String,
        /// The hub.
        endpoint: String,
        /// What it says.
        source: Box<ApiError>,
    },
    /// The repository has something else.
    #[error("{name} has no {wanted}; it has {known}")]
    Missing {
        /// The model.
        name: String,
        /// What is missing.
        wanted: String,
        /// Its files.
        known: String,
    },
    /// Its list of weights can't be read.
    #[error(transparent)]
    Weights(#[from] SafetensorsError),
}

/// Where a model lies: a path as it is; a name after it has been fetched, where it isn't in the cache yet.
///
/// ```
/// let path = eblora::hub::locate("models/minilm")?;
/// assert_eq!(path, std::path::Path::new("models/minilm"));
/// # Ok::<(), eblora::hub::HubError>(())
/// ```
///
/// # Errors
/// When there is no such model, or the hub can't be reached.
pub fn locate(base: &str) -> Result<PathBuf, HubError> {
    match base.strip_prefix(PREFIX) {
        Some(name) => Name::parse(name)?.locate(),
        None => Ok(PathBuf::from(base)),
    }
}

/// What people may have meant by `--model`: a path that is there, or a name.
///
/// ```
/// use eblora::hub::named;
/// assert_eq!(named("owner/model@v2"), "hf:owner/model@v2");
/// assert_eq!(named("."), ".");
/// assert_eq!(named("hf:owner/model"), "hf:owner/model");
/// assert_eq!(named("some/longer/path"), "some/longer/path");
/// ```
pub fn named(model: &str) -> String {
    let is_path = model.starts_with(PREFIX) || model.starts_with(['.', '/', '~']) || Path::new(model).exists();
    if is_path || Name::parse(model).is_err() { model.to_owned() } else { format!("{PREFIX}{model}") }
}

/// The parts of a name.
#[derive(Clone, Debug, PartialEq)]
struct Name<'a> {
    whole: &'a str,
    repository: &'a str,
    revision: &'a str,
    file: Option<&'a str>,
}

impl<'a> Name<'a> {
    fn parse(whole: &'a str) -> Result<Self, HubError> {
        let (rest, file) = whole.split_once(':').map_or((whole, None), |(rest, file)| (rest, Some(file)));
        let (repository, revision) = rest.split_once('@').unwrap_or((rest, "main"));
        let word = |part: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !part.is_empty() && part.chars().all(plain) && !part.starts_with('.')
        };
        let path = |path: &str| path.split('/').all(word);
        let fits = repository.split('/').count() == 2
            && path(repository)
            && path(revision)
            && file.is_none_or(|file| path(file) && file.ends_with(".gguf"));
        if fits {
            Ok(Self { whole, repository, revision, file })
        } else {
            Err(HubError::Name { name: whole.to_owned() })
        }
    }

    fn locate(&self) -> Result<PathBuf, HubError> {
        let cache = env::var_os("HF_HUB_CACHE").map_or_else(Cache::from_env, |path| Cache::new(path.into()));
        let repo = Repo::with_revision(self.repository.to_owned(), RepoType::Model, self.revision.to_owned());
        if let Some(found) = self.cached(&cache.repo(repo.clone()))? {
            return Ok(found);
        }
        if env::var("HF_HUB_OFFLINE").is_ok_and(|value| !matches!(value.as_str(), "" | "0")) {
            return Err(HubError::Offline { name: self.whole.to_owned(), cache: cache.path().clone() });
        }
        let token = env::var("HF_TOKEN").ok().or_else(|| cache.token());
        let endpoint = env::var("HF_ENDPOINT").unwrap_or_else(|_| ENDPOINT.to_owned());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let api = ApiBuilder::from_cache(cache).with_endpoint(endpoint.clone()).with_token(token).with_retries(2);
        let api = api.build().map_err(|source| HubError::Client { source: source.into() })?;
        Fetching { name: self, repo: api.repo(repo), endpoint }.run()
    }

    /// The folder or file, if all of it is there.
    fn cached(&self, repo: &CacheRepo) -> Result<Option<PathBuf>, HubError> {
        if let Some(file) = self.file {
            return Ok(repo.get(file));
        }
        let folder = repo.get(CONFIG).and_then(|config| Some(config.parent()?.to_owned()));
        let Some(folder) = folder else { return Ok(None) };
        let whole = match repo.get(INDEX_FILE) {
            _ if repo.get(SINGLE_FILE).is_some() => true,
            Some(index) => shards(&index)?.values().all(|shard| repo.get(shard).is_some()),
            None => false,
        };
        Ok(whole.then_some(folder))
    }
}

/// A model on its way.
struct Fetching<'a> {
    name: &'a Name<'a>,
    repo: ApiRepo,
    endpoint: String,
}

impl Fetching<'_> {
    fn run(&self) -> Result<PathBuf, HubError> {
        let info = self.repo.info().map_err(|source| self.failed("the list of files", source))?;
        let known: Vec<_> = info.siblings.iter().map(|sibling| sibling.rfilename.as_str()).collect();
        let missing = |wanted: &str| HubError::Missing {
            name: self.name.whole.to_owned(),
            wanted: wanted.to_owned(),
            known: known.join(", "),
        };
        if let Some(file) = self.name.file {
            return if known.contains(&file) { self.get(file) } else { Err(missing(file)) };
        }
        if !known.contains(&CONFIG) {
            return Err(missing("config.json; of a GGUF file, name the file itself"));
        }
        // The weights come last: with them, the model is whole.
        for file in SMALL_FILES.into_iter().filter(|file| known.contains(file)) {
            self.get(file)?;
        }
        let weights = if known.contains(&SINGLE_FILE) {
            self.get(SINGLE_FILE)?
        } else if known.contains(&INDEX_FILE) {
            let index = self.get(INDEX_FILE)?;
            for shard in shards(&index)?.into_values().collect::<std::collections::BTreeSet<_>>() {
                self.get(&shard)?;
            }
            index
        } else {
            return Err(missing("weights in safetensors files"));
        };
        Ok(weights.parent().map_or_else(|| weights.clone(), Path::to_owned))
    }

    /// A file, from the cache if it is there.
    fn get(&self, file: &str) -> Result<PathBuf, HubError> {
        self.repo.get(file).map_err(|source| self.failed(file, source))
    }

    fn failed(&self, what: &str, source: ApiError) -> HubError {
        let (what, name, endpoint) = (what.to_owned(), self.name.whole.to_owned(), self.endpoint.clone());
        HubError::Fetch { what, name, endpoint, source: source.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_parts() {
        let parts = |name: &str| {
            Name::parse(name).map(|n| (n.repository.to_owned(), n.revision.to_owned(), n.file.map(str::to_owned)))
        };
        assert_eq!(parts("a/b").unwrap(), ("a/b".into(), "main".into(), None));
        assert_eq!(parts("a-1/b.c@refs/pr/2").unwrap(), ("a-1/b.c".into(), "refs/pr/2".into(), None));
        assert_eq!(parts("a/b@v1:x/q4.gguf").unwrap(), ("a/b".into(), "v1".into(), Some("x/q4.gguf".into())));
        for wrong in
            ["", "a", "a/b/c", "a/", "/b", "../b", "a/..", "a/b@", "a/b:", "a/b:model.bin", "a/b:../x.gguf", "a b/c"]
        {
            let told = locate(&format!("{PREFIX}{wrong}")).unwrap_err().to_string();
            assert!(told.contains("hf:OWNER/NAME is expected"), "{wrong}: {told}");
        }
    }
}
