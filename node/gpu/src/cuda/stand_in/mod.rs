//! Libraries of the vendor's that no machine without a GPU has, as stand-ins in C: with them the calls are tested as they are made, by name,
//! type and layout.

use std::path::PathBuf;
use std::process::Command;

/// Compiles a stand-in. Without a C compiler it says so and gives `None`; with `RINGFLEET_MUST_RUN` it fails.
pub(crate) fn library(name: &str, text: &str) -> Option<PathBuf> {
    let folder = std::env::temp_dir().join(format!("ringfleet-stand-in-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let (source, library) = (folder.join(format!("{name}.c")), folder.join(format!("lib{name}.so")));
    std::fs::write(&source, text).expect("the source");
    let built = Command::new("cc")
        .args(["-std=gnu11", "-Wall", "-Werror", "-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source)
        .output();
    match built {
        Ok(built) => {
            assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
            Some(library)
        }
        Err(error) => {
            assert!(std::env::var_os("RINGFLEET_MUST_RUN").is_none(), "RINGFLEET_MUST_RUN is set: cc: {error}");
            println!("not run: cc: {error}");
            None
        }
    }
}
