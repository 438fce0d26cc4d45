//! Debian's packages, where this is a Debian and we may install them.

use crate::process::{command, output, run, succeeds};

/// Installs packages, saying why; false where that is not possible.
pub fn install(packages: &[&str], why: &str) -> bool {
    let apt = |arguments: &[&str]| {
        let root_already = output(&mut command("id", &["-u"])).is_some_and(|id| id == "0");
        let mut install = if root_already { command("apt-get", &[]) } else { command("sudo", &["-n", "apt-get"]) };
        install.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        run(&mut install)
    };
    if !succeeds(&mut command("apt-get", &["--version"])) {
        return false;
    }
    println!("installing {}: {why}", packages.join(" "));
    let install: Vec<&str> =
        ["install", "-y", "--no-install-recommends"].into_iter().chain(packages.to_vec()).collect();
    let installed = apt(&install).or_else(|_| {
        println!("the package lists may be old: fetching new ones");
        apt(&["update"]).and_then(|()| apt(&install))
    });
    if let Err(error) = &installed {
        println!("that did not work ({error})");
    }
    installed.is_ok()
}
