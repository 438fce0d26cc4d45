//! A Vulkan driver for the GPU tests: Mesa's software adapter where the machine has none.

use std::path::Path;

use crate::apt;

const PACKAGE: &str = "mesa-vulkan-drivers";
/// Where Linux systems keep the descriptions of their drivers.
const FOLDERS: [&str; 3] = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d"];

fn has_driver() -> bool {
    let entries = |folder: &str| Path::new(folder).read_dir().is_ok_and(|mut files| files.next().is_some());
    FOLDERS.iter().any(|folder| entries(folder))
}

/// Sees to it that there is a driver. Other systems than Linux bring one.
pub fn prepare() -> Result<(), String> {
    if !cfg!(target_os = "linux") || has_driver() {
        return Ok(());
    }
    if apt::install(&[PACKAGE], "the GPU tests need a Vulkan driver, if only a software one") && has_driver() {
        return Ok(());
    }
    Err(format!("the GPU tests need a Vulkan driver: install your GPU's, or Mesa's software one ({PACKAGE})"))
}
