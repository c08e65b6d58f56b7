// SPDX-License-Identifier: Apache-2.0
//! Where the library is: CADFT_LIB_DIR, or what pkg-config says. With
//! CADFT_STATIC=1 it is linked statically, which needs pkg-config (for the
//! libraries that it needs itself). Headers are not needed to build;
//! CADFT_INCLUDE_DIR, or pkg-config's, is handed to crates that build C code of
//! their own (DEP_CADFT_INCLUDE), and its version is compared with ours.
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    for name in [
        "CADFT_LIB_DIR",
        "CADFT_INCLUDE_DIR",
        "CADFT_STATIC",
        "PKG_CONFIG",
        "PKG_CONFIG_PATH",
        "PKG_CONFIG_SYSROOT_DIR",
    ] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let fixed = env::var_os("CADFT_STATIC").map_or(false, |value| value == "1");
    match env::var_os("CADFT_LIB_DIR") {
        Some(dir) if !fixed => link(&PathBuf::from(dir)),
        _ if fixed => link_words(&pkg_config(&["--static", "--libs"]), true),
        _ => link_words(&pkg_config(&["--libs"]), false),
    }
    let include = match env::var_os("CADFT_INCLUDE_DIR") {
        Some(dir) => Some(PathBuf::from(dir)),
        None if env::var_os("CADFT_LIB_DIR").is_some() => None,
        None => pkg_config(&["--cflags-only-I"])
            .iter()
            .find_map(|word| word.strip_prefix("-I").map(PathBuf::from)),
    };
    if let Some(include) = include {
        check_version(&include);
        println!("cargo:include={}", include.display());
    }
}

fn link(dir: &Path) {
    println!("cargo:rustc-link-search=native={}", dir.display());
    println!("cargo:rustc-link-lib=cadft");
}

fn link_words(words: &[String], fixed: bool) {
    for word in words {
        if let Some(dir) = word.strip_prefix("-L") {
            println!("cargo:rustc-link-search=native={dir}");
        } else if word == "-lcadft" && fixed {
            println!("cargo:rustc-link-lib=static=cadft");
        } else if let Some(name) = word.strip_prefix("-l") {
            println!("cargo:rustc-link-lib={name}");
        } else if word == "-pthread" {
            println!("cargo:rustc-link-lib=pthread");
        }
    }
}

fn pkg_config(options: &[&str]) -> Vec<String> {
    let program = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".into());
    let output = Command::new(&program)
        .args(options)
        // Standard folders too: the linker's may be others.
        .env("PKG_CONFIG_ALLOW_SYSTEM_LIBS", "1")
        .env("PKG_CONFIG_ALLOW_SYSTEM_CFLAGS", "1")
        .arg("cadft")
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}; set CADFT_LIB_DIR to the library's folder"));
    assert!(
        output.status.success(),
        "{program} does not find cadft: set PKG_CONFIG_PATH, or CADFT_LIB_DIR to the library's \
         folder\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout)
        .split_whitespace()
        .map(String::from)
        .collect()
}

/// Before 1.0 a new minor version may change the ABI.
fn check_version(include: &Path) {
    let path = include.join("cadft/base.h");
    println!("cargo:rerun-if-changed={}", path.display());
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let number = |name: &str| -> String {
        text.lines()
            .find_map(|line| line.strip_prefix(&format!("#define CADFT_VERSION_{name} ")))
            .unwrap_or_else(|| panic!("{} has no CADFT_VERSION_{name}", path.display()))
            .trim()
            .to_string()
    };
    let theirs = format!("{}.{}", number("MAJOR"), number("MINOR"));
    let ours = env!("CARGO_PKG_VERSION").rsplit_once('.').unwrap().0;
    assert!(
        theirs == ours,
        "{} is of libcadft {theirs}, this crate is for {ours}",
        path.display()
    );
}
