//! From what somebody types to a job: files, folders and patterns become inputs below the root, and the folders that
//! the job needs are made.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use glob::{MatchOptions, Pattern};
use walkdir::WalkDir;

use crate::data::InputVersion;
use crate::job::{Input, JobSpec};
use crate::limits::{INPUTS_MAX, Refusal};
use crate::paths::{JobPaths, name_below, not_below};

/// Why a job can't be made.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Nothing has this name, and nothing fits it as a pattern.
    #[error("there is no file or folder `{0}`, and no file that fits it as a pattern")]
    NoSuchInput(String),
    /// A folder without a file in it.
    #[error("there is no file in the folder {}", .0.display())]
    EmptyFolder(PathBuf),
    /// It can't be read.
    #[error("can't read {}: {source}", .path.display())]
    Unreadable {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The pattern is none.
    #[error("`{pattern}` is no pattern: {what}")]
    Pattern {
        /// What stands there.
        pattern: String,
        /// What is wrong with it.
        what: String,
    },
    /// It is neither a file nor a folder.
    #[error("{} is neither a file nor a folder, or does not know its length", .0.display())]
    OddInput(PathBuf),
    /// There are more than a job may have.
    #[error("there are more than {INPUTS_MAX} input files; put smaller ones together")]
    TooManyInputs,
    /// It lies elsewhere, or has an odd name.
    #[error("{0}")]
    Outside(String),
    /// There are results already.
    #[error("{} is not an empty folder: name another one for the results, or remove it", .0.display())]
    OutputExists(PathBuf),
    /// A folder can't be made, or looked into.
    #[error("the folder {} can't be made or read: {source}", .path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The description of the job is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// The files that these names and patterns stand for, in their order; those of a folder, and of the folders in it, in
/// the order of their names. What begins with a dot in a folder is left out. A file that is named twice is read twice.
///
/// # Errors
/// [`PlanError`].
pub fn inputs(root: &Path, names: &[String]) -> Result<Vec<Input>, PlanError> {
    let root = canonical(root)?;
    let mut files = Vec::new();
    for name in names {
        let path = Path::new(name);
        match path.exists() {
            true => add(path, &mut files)?,
            false => add_matching(name, &mut files)?,
        }
        if files.len() as u64 > INPUTS_MAX {
            return Err(PlanError::TooManyInputs);
        }
    }
    files.iter().map(|file| input(&root, file)).collect()
}

fn canonical(path: &Path) -> Result<PathBuf, PlanError> {
    path.canonicalize().map_err(|source| unreadable(path, source))
}

fn unreadable(path: &Path, source: io::Error) -> PlanError {
    PlanError::Unreadable { path: path.to_owned(), source }
}

/// A file, or all files of a folder.
fn add(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), PlanError> {
    let kind = fs::metadata(path).map_err(|source| unreadable(path, source))?;
    if kind.is_file() {
        files.push(path.to_owned());
        return Ok(());
    }
    if !kind.is_dir() {
        return Err(PlanError::OddInput(path.to_owned()));
    }
    let before = files.len();
    let is_hidden = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b".");
    let entries = WalkDir::new(path).min_depth(1).sort_by_file_name().into_iter();
    for entry in entries.filter_entry(|entry| !is_hidden(entry.file_name())) {
        let entry = entry.map_err(|error| {
            let at = error.path().unwrap_or(path).to_owned();
            unreadable(&at, error.into())
        })?;
        // A link to a file counts, one to a folder does not: it may lead back.
        if entry.path().is_file() {
            files.push(entry.into_path());
        }
        if files.len() as u64 > INPUTS_MAX {
            return Err(PlanError::TooManyInputs);
        }
    }
    match files.len() == before {
        true => Err(PlanError::EmptyFolder(path.to_owned())),
        false => Ok(()),
    }
}

/// All files whose names fit a pattern. Links to folders are not followed: they may lead back.
fn add_matching(name: &str, files: &mut Vec<PathBuf>) -> Result<(), PlanError> {
    let pattern = Pattern::new(name).map_err(|error| {
        let what = error.to_string();
        PlanError::Pattern { pattern: name.to_owned(), what }
    })?;
    let options = MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: true,
    };
    let has_no_pattern =
        |part: &Component<'_>| !part.as_os_str().as_encoded_bytes().iter().any(is_special);
    let base: PathBuf = Path::new(name).components().take_while(has_no_pattern).collect();
    let before = files.len();
    let start = if base.as_os_str().is_empty() { Path::new(".") } else { &base };
    // No deeper than the pattern, unless it says so.
    let parts = Path::new(name).components().count() - base.components().count();
    let depth = if name.contains("**") { usize::MAX } else { parts };
    for entry in WalkDir::new(start).min_depth(1).max_depth(depth).sort_by_file_name() {
        // What can't be looked into can't be seen to fit.
        let Ok(entry) = entry else { continue };
        let path = entry.path().strip_prefix("./").unwrap_or(entry.path());
        if pattern.matches_path_with(path, options) && path.is_file() {
            files.push(path.to_owned());
        }
        if files.len() as u64 > INPUTS_MAX {
            return Err(PlanError::TooManyInputs);
        }
    }
    let is_found = files.len() > before;
    is_found.then_some(()).ok_or_else(|| PlanError::NoSuchInput(name.to_owned()))
}

fn is_special(byte: &u8) -> bool {
    b"*?[".contains(byte)
}

/// The file as the job describes it. That it can be opened is tried here, where somebody can be told.
fn input(root: &Path, file: &Path) -> Result<Input, PlanError> {
    let path = canonical(file)?;
    let mut opened = File::open(&path).map_err(|source| unreadable(file, source))?;
    let metadata = opened.metadata().map_err(|source| unreadable(file, source))?;
    let InputVersion { bytes, modified_ns } = InputVersion::of(&metadata);
    // Such as those below /proc: how long they are is known when they have been read.
    if bytes == 0 && opened.read(&mut [0]).is_ok_and(|read| read > 0) {
        return Err(PlanError::OddInput(file.to_owned()));
    }
    Ok(Input { path: name_below(root, &path).map_err(PlanError::Outside)?, bytes, modified_ns })
}

/// The name of the results' folder below the root: its parents are made, and it is itself not there, or empty.
///
/// # Errors
/// [`PlanError`].
pub fn output(root: &Path, name: &str) -> Result<String, PlanError> {
    let root = canonical(root)?;
    let path = std::path::absolute(name).map_err(|source| unreadable(Path::new(name), source))?;
    let outside = || PlanError::Outside(format!("{} is the root itself", path.display()));
    let (parent, last) = path.parent().zip(path.file_name()).ok_or_else(outside)?;
    // Before anything is made: the folders that are there already must be below the root.
    let is_there = parent.ancestors().find(|folder| folder.is_dir()).unwrap_or(parent);
    if !canonical(is_there)?.starts_with(&root) {
        let what = not_below(&path, &root);
        return Err(PlanError::Outside(what));
    }
    make_folders(parent)?;
    let path = canonical(parent)?.join(last);
    check_empty(&path)?;
    name_below(&root, &path).map_err(PlanError::Outside)
}

fn make_folders(path: &Path) -> Result<(), PlanError> {
    let folder = |source| PlanError::Folder { path: path.to_owned(), source };
    fs::create_dir_all(path).map_err(folder)
}

fn check_empty(path: &Path) -> Result<(), PlanError> {
    use io::ErrorKind::{NotADirectory, NotFound};
    let is_link = fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
    let is_free = match fs::read_dir(path) {
        _ if is_link => false,
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == NotADirectory => false,
        Err(error) if error.kind() == NotFound => true,
        Err(source) => return Err(PlanError::Folder { path: path.to_owned(), source }),
    };
    if is_free { Ok(()) } else { Err(PlanError::OutputExists(path.to_owned())) }
}

/// Makes the folder for what a job writes on its way. It must be there before the job is submitted: a worker that
/// is late does not make it again.
///
/// # Errors
/// [`PlanError`].
pub fn make_work_folder(root: &Path, spec: &JobSpec, token: u128) -> Result<PathBuf, PlanError> {
    let work = JobPaths::new(root, &spec.output, token)?.work;
    fs::create_dir(&work).map_err(|source| PlanError::Folder { path: work.clone(), source })?;
    Ok(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(root: &Path, asked: &[&str]) -> Result<Vec<String>, PlanError> {
        let asked: Vec<String> =
            asked.iter().map(|name| root.join(name).to_str().unwrap().to_owned()).collect();
        Ok(inputs(root, &asked)?.into_iter().map(|input| input.path).collect())
    }

    #[test]
    fn files_folders_and_patterns_are_found_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("in/deep")).unwrap();
        for (name, text) in [("in/b.txt", "bb"), ("in/a.log", ""), ("in/deep/c.txt", "c")] {
            fs::write(root.join(name), text).unwrap();
        }
        fs::write(root.join("in/.hidden"), "no").unwrap();
        std::os::unix::fs::symlink("..", root.join("in/deep/back")).unwrap();
        let all = ["in/a.log", "in/b.txt", "in/deep/c.txt"];
        assert_eq!(names(root, &["in"]).unwrap(), all);
        assert_eq!(names(root, &["in/deep", "in/b.txt"]).unwrap(), [all[2], all[1]]);
        assert_eq!(names(root, &["in/**/*.txt"]).unwrap(), [all[1], all[2]]);
        assert_eq!(names(root, &["in/a.log", "in/a.log"]).unwrap(), [all[0], all[0]]);
        assert_eq!(
            inputs(root, &[root.join("in/b.txt").display().to_string()]).unwrap()[0].bytes,
            2
        );
    }

    #[test]
    fn what_can_not_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("empty")).unwrap();
        fs::write(folder.path().join("other"), "x").unwrap();
        assert!(matches!(names(&root, &["none"]), Err(PlanError::NoSuchInput(_))));
        assert!(matches!(names(&root, &["*.txt"]), Err(PlanError::NoSuchInput(_))));
        assert!(matches!(names(&root, &["a**b"]), Err(PlanError::Pattern { .. })));
        assert!(matches!(names(&root, &["empty"]), Err(PlanError::EmptyFolder(_))));
        assert!(matches!(names(&root, &["../other"]), Err(PlanError::Outside(_))));
        assert!(matches!(inputs(&root, &["/dev/null".into()]), Err(PlanError::OddInput(_))));
    }

    #[test]
    fn results_go_where_nothing_is() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let at = |name: &str| root.join(name).to_str().unwrap().to_owned();
        assert_eq!(output(root, &at("a/b/out")).unwrap(), "a/b/out");
        assert!(root.join("a/b").is_dir() && !root.join("a/b/out").exists());
        fs::create_dir(root.join("a/b/out")).unwrap();
        assert_eq!(output(root, &at("a/b/out")).unwrap(), "a/b/out");
        fs::write(root.join("a/b/out/mr-out-0"), "x").unwrap();
        assert!(matches!(output(root, &at("a/b/out")), Err(PlanError::OutputExists(_))));
        assert!(matches!(output(&root.join("a"), &at("elsewhere")), Err(PlanError::Outside(_))));
        assert!(matches!(output(root, "/"), Err(PlanError::Outside(_))));
        assert!(matches!(output(root, &at("a/b/out/mr-out-0")), Err(PlanError::OutputExists(_))));
        assert!(matches!(output(root, &at(&"n".repeat(300))), Err(PlanError::Folder { .. })));
    }
}
