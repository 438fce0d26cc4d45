//! The Python that checks adapters against stock PEFT and transformers: a virtual environment in the target folder.

use crate::apt;
use crate::process::{built, command, root, run, succeeds};
use std::fs;
use std::path::PathBuf;

const REQUIREMENTS: &str = "tests/python/requirements.txt";
const PACKAGES: [&str; 3] = ["python3", "python3-venv", "python3-pip"];

/// Where the environment is, beside what cargo builds. It holds gigabytes: a run of the suite makes it once.
fn folder() -> Result<PathBuf, String> {
    Ok(built()?.with_file_name("python"))
}

/// The interpreter of the environment with everything installed that the requirements name.
pub fn prepare() -> Result<PathBuf, String> {
    let folder = folder()?;
    let python = match cfg!(windows) {
        true => folder.join("Scripts").join("python.exe"),
        false => folder.join("bin").join("python"),
    };
    let wanted = fs::read_to_string(root().join(REQUIREMENTS)).map_err(|e| format!("{REQUIREMENTS}: {e}"))?;
    // Written last: what is there is whole, and of these requirements.
    let stamp = folder.join("installed.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    println!("making a Python environment in {} (gigabytes, once)", folder.display());
    let make = || {
        ["python3", "python"].into_iter().find(|name| succeeds(&mut command(name, &["-c", "import ensurepip, venv"])))
    };
    let why = "adapters are checked against PEFT in a Python environment of its own";
    let Some(maker) = make().or_else(|| apt::install(&PACKAGES, why).then(make)?) else {
        return Err("a Python 3 with venv is needed: please install it".into());
    };
    run(command(maker, &["-m", "venv"]).arg(&folder))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", REQUIREMENTS];
    run(&mut command(&python, &pip))?;
    fs::write(&stamp, wanted).map_err(|e| format!("{}: {e}", stamp.display()))?;
    Ok(python)
}
