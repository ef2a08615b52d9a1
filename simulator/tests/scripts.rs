//! Golden scripts. `UPDATE=1 cargo test -p simulator --test scripts` writes what happens below the line
//! `---` of each; read it before you commit it.

use std::path::Path;

/// The commands of a script, and the output that it has.
fn parts(text: &str) -> (&str, &str) {
    text.split_once("\n---\n").unwrap_or((text.trim_end(), ""))
}

/// The end of a long output.
fn last(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

#[test]
fn scripts_do_what_they_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|e| e == "txt")).collect();
    files.sort();
    assert!(files.len() > 10, "scripts are missing");
    let is_update = std::env::var_os("UPDATE").is_some();
    let mut differing = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let (commands, expected) = parts(&text);
        let output =
            simulator::script::run(commands).unwrap_or_else(|what| panic!("{path:?}: {what}"));
        assert!(!output.contains("VIOLATION"), "{path:?} breaks a rule:\n{}", last(&output));
        if is_update {
            std::fs::write(&path, format!("{commands}\n---\n{output}")).unwrap();
        } else if output != expected {
            println!("{path:?} gave:\n{output}");
            differing.push(path);
        }
    }
    assert!(differing.is_empty(), "these scripts do something else now: {differing:?}");
}
