//! What goes wrong, with a code that a program can tell apart; the texts are the library's.

use eblora_core::backend::BackendError;
use eblora_core::train::TrainError;
use js_sys::{Error, Reflect};
use wasm_bindgen::JsValue;

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// What was given can't be used.
    Input,
    /// The device is gone.
    DeviceLost,
    /// The learner is training.
    Busy,
    /// Anything else.
    Internal,
}

impl Code {
    fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::DeviceLost => "device-lost",
            Self::Busy => "busy",
            Self::Internal => "internal",
        }
    }
}

/// A failure on its way to JavaScript.
#[derive(Debug)]
pub struct WebError {
    code: Code,
    message: String,
}

/// What most functions here return.
pub type Result<T> = core::result::Result<T, WebError>;

impl WebError {
    /// A failure of this kind.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// What was given can't be used.
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(Code::Input, message)
    }

    /// What went wrong in training or computing.
    pub fn computing(error: &dyn core::error::Error) -> Self {
        let message = error.to_string();
        let code = if message.contains("the device was lost") { Code::DeviceLost } else { Code::Internal };
        Self::new(code, message)
    }

    /// Of a run; what is wrong with its tasks or its state was given.
    pub fn training(method: &str, error: &TrainError) -> Self {
        let given = matches!(error, TrainError::Task { .. } | TrainError::State(_));
        let found = Self::computing(error);
        let code = if given { Code::Input } else { found.code };
        Self::new(code, format!("{method}: {}", found.message))
    }
}

/// What a bug says is thrown where it happens: the module can't go on after it.
pub fn throw_panics() {
    std::panic::set_hook(Box::new(|panic| wasm_bindgen::throw_str(&panic.to_string())));
}

/// Errors of readers and checks.
macro_rules! of_input {
    ($($error:ty),+) => {
        $(impl From<$error> for WebError {
            fn from(error: $error) -> Self {
                Self::input(error.to_string())
            }
        })+
    };
}

of_input!(
    eblora::Error,
    eblora::checkpoint::CheckpointError,
    eblora::data::DataError,
    eblora::demo::DemoError,
    eblora::model::vit_folder::VitError,
    eblora::peft::PeftError,
    serde_json::Error
);

impl From<BackendError> for WebError {
    fn from(error: BackendError) -> Self {
        Self::computing(&error)
    }
}

impl From<eblora_core::model::ModelError> for WebError {
    fn from(error: eblora_core::model::ModelError) -> Self {
        Self::computing(&error)
    }
}

impl From<eblora_core::adapter::AdapterError> for WebError {
    fn from(error: eblora_core::adapter::AdapterError) -> Self {
        Self::computing(&error)
    }
}

impl From<WebError> for JsValue {
    fn from(error: WebError) -> Self {
        let js = Error::new(&error.message);
        // A new object takes any property.
        let _ = Reflect::set(&js, &"code".into(), &error.code.as_str().into());
        js.into()
    }
}
