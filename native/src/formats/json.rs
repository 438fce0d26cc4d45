//! JSON into plain data, faults named by their key.

use serde::de::DeserializeOwned;

/// Parses JSON, or tells at which key it is not what is expected, and why.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, (String, String)> {
    let parsed = serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(bytes));
    parsed.map_err(|e| (e.path().to_string(), e.inner().to_string()))
}
