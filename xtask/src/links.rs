//! Checks that the relative links of all Markdown files lead somewhere.

use std::fs;
use std::path::{Path, PathBuf};

/// Checks every Markdown file under `root`; prints each broken link as `file:line`.
pub(crate) fn check(root: &Path) -> Result<(), String> {
    let mut files = Vec::new();
    collect(root, &mut files)?;
    files.sort();
    let mut broken = 0;
    for file in &files {
        let shown = file.strip_prefix(root).unwrap_or(file).display();
        for (line, target) in links(&read(file)?) {
            if let Err(reason) = resolve(root, file, &target) {
                println!("{shown}:{line}: `{target}` {reason}");
                broken += 1;
            }
        }
    }
    match broken {
        0 => Ok(()),
        1 => Err("1 broken link".to_owned()),
        _ => Err(format!("{broken} broken links")),
    }
}

fn read(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| format!("can't read {}: {error}", file.display()))
}

/// The Markdown files under a folder, but not those of hidden folders and of build output.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let cannot = |error| format!("can't list {}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') || name == "target" || name.starts_with("target-") {
            continue;
        }
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            files.push(path);
        }
    }
    Ok(())
}

/// The targets of all links that are not to other sites, each with the number of its line.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        let line = without_code(line);
        let inline = line.split("](").skip(1).map(|rest| rest.split(')').next().unwrap_or(rest));
        let definition = line.starts_with('[').then(|| line.split_once("]: ")).flatten();
        for target in inline.chain(definition.map(|(_, target)| target)) {
            // A title may follow the target.
            let target = target.split_whitespace().next().unwrap_or("");
            let target = target.trim_start_matches('<').trim_end_matches('>');
            if !target.contains("://") && !target.starts_with("mailto:") {
                found.push((number, target.to_owned()));
            }
        }
    }
    found
}

/// The numbered lines outside of code blocks.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        !in_code && !is_fence
    })
}

/// The line without what stands between backticks.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

fn resolve(root: &Path, file: &Path, target: &str) -> Result<(), String> {
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let goal = match path.strip_prefix('/') {
        Some(from_root) => root.join(from_root),
        None if path.is_empty() => file.to_owned(),
        None => file.parent().unwrap_or(root).join(path),
    };
    if target.is_empty() || !goal.exists() {
        return Err("leads to no file".to_owned());
    }
    let is_markdown = goal.extension().is_some_and(|extension| extension == "md");
    if !anchor.is_empty() && is_markdown && !anchors(&read(&goal)?).iter().any(|a| a == anchor) {
        return Err("names a heading that is not there".to_owned());
    }
    Ok(())
}

/// What the headings of a file are called in links: lower case, hyphens for spaces, nothing else
/// but letters, digits, `-` and `_`; a heading that comes again gets a number.
fn anchors(text: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (_, line) in prose(text) {
        let title = line.trim_start_matches('#');
        if title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let title = title.trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        let name: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let again = (1..).map(|n| format!("{name}-{n}"));
        let fresh = std::iter::once(name.clone()).chain(again).find(|name| !names.contains(name));
        names.extend(fresh);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_in_prose_and_not_in_code() {
        let text = "See [a](docs/a.md), [b](b.md \"B\").\n```\n[no](no.md)\n```\n`[no](no.md)` \
                    [c](#c)\n[d]: <d.md>\n[out](https://example.org/x) [mail](mailto:a@b)\n";
        let found = links(text);
        let expected = [(1, "docs/a.md"), (1, "b.md"), (5, "#c"), (6, "d.md")];
        assert_eq!(found, expected.map(|(line, target)| (line, target.to_owned())));
    }

    #[test]
    fn headings_are_named_as_the_forges_name_them() {
        let text = "# What it is\n```\n# no heading\n```\n## `Write`, then *sync*!\n## Again\n\
                    ## Again\n#hash\n";
        assert_eq!(anchors(text), ["what-it-is", "write-then-sync", "again", "again-1"]);
    }

    #[test]
    fn a_link_to_a_missing_file_or_heading_is_refused() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let file = root.join("README.md");
        assert_eq!(resolve(root, &file, "src/links.rs"), Ok(()));
        assert_eq!(resolve(root, &file, "/src/main.rs#L1"), Ok(()));
        for target in ["", "src/none.rs", "/none.md", "none.md#a", "#a"] {
            assert!(resolve(root, &file, target).is_err(), "{target:?}");
        }
    }
}
