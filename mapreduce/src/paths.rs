//! Where everything is, below the root that workers share. All names are made here, of numbers alone; nobody who
//! sends messages can choose one.
//!
//! ```text
//! ROOT/results/                           where the job's output goes: `wc`, say
//! ROOT/results/.mapreduce-<token>/        what is written on the way
//!     map-3-0.part/mr-3-7                 attempt 0 at map 3 writes its file for reducer 7
//!     map-3-0/mr-3-7                      all of them, once they are complete
//!     reduce-7-1/mr-out-7                 a part of the result
//!     result-2/mr-out-0 …                 the result, as publishing attempt 2 has put it together
//! ROOT/results/wc/mr-out-0 …              the result, all at once
//! ```

use std::io;
use std::path::{Component, Path, PathBuf};

use crate::command::{AttemptId, Kind};
use crate::data::{output_file_name, run_file_name};
use crate::limits::{Refusal, check_path};

/// Names of a job's folders and files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobPaths {
    /// The folder for the results.
    pub output: PathBuf,
    /// The folder for what is written on the way, on the same file system.
    pub work: PathBuf,
}

impl JobPaths {
    /// The folders of the job with this token whose results go there, below the root.
    ///
    /// # Errors
    /// [`Refusal::Path`] if that is not below it.
    pub fn new(root: &Path, output: &str, token: u128) -> Result<Self, Refusal> {
        check_path(output)?;
        let output = root.join(output);
        let parent = output.parent().expect("a path below a root has a parent");
        let work = parent.join(format!(".mapreduce-{token:032x}"));
        Ok(JobPaths { output, work })
    }

    /// Where an attempt's files are once they are complete.
    pub fn attempt(&self, attempt: AttemptId) -> PathBuf {
        let AttemptId { task, number } = attempt;
        match task.kind {
            Kind::Map => self.map(task.number, number),
            Kind::Reduce => self.reduce(task.number, number),
            Kind::Publish | Kind::Tidy => self.work.join(format!("result-{number}")),
        }
    }

    /// Where it writes them.
    pub fn private(&self, attempt: AttemptId) -> PathBuf {
        let mut name = self.attempt(attempt).into_os_string();
        name.push(".part");
        name.into()
    }

    /// What an attempt at a map task wrote for a reducer.
    pub fn map_file(&self, map: u32, attempt: u32, reduce: u32) -> PathBuf {
        self.map(map, attempt).join(run_file_name(map, reduce))
    }

    /// What an attempt at a reduce task wrote.
    pub fn reduce_file(&self, reduce: u32, attempt: u32) -> PathBuf {
        self.reduce(reduce, attempt).join(output_file_name(reduce))
    }

    fn map(&self, map: u32, attempt: u32) -> PathBuf {
        self.work.join(format!("map-{map}-{attempt}"))
    }

    fn reduce(&self, reduce: u32, attempt: u32) -> PathBuf {
        self.work.join(format!("reduce-{reduce}-{attempt}"))
    }
}

/// The file of this name below the root, wherever links lead, unless they lead out of it.
///
/// # Errors
/// If it is not there, or not below the root.
pub fn below(root: &Path, path: &str) -> io::Result<PathBuf> {
    let refused = |what: String| io::Error::new(io::ErrorKind::PermissionDenied, what);
    check_path(path).map_err(|refusal| refused(refusal.to_string()))?;
    let (root, found) = (root.canonicalize()?, root.join(path).canonicalize()?);
    match found.starts_with(&root) {
        true => Ok(found),
        false => Err(refused(format!("it leads out of {}", root.display()))),
    }
}

/// What to say of a path that workers can't see.
pub(crate) fn not_below(path: &Path, root: &Path) -> String {
    let (path, root) = (path.display(), root.display());
    format!("{path} is not below {root}; workers see only what is below their root")
}

/// The name below the root of a file that is there, with `/` between its parts.
///
/// # Errors
/// If it is not below the root, or has a name that is no text.
pub fn name_below(root: &Path, path: &Path) -> Result<String, String> {
    let inner = path.strip_prefix(root).map_err(|_| not_below(path, root))?;
    let part = |part: Component<'_>| match part {
        Component::Normal(name) => name.to_str().map(str::to_owned),
        _ => None,
    };
    let parts: Option<Vec<String>> = inner.components().map(part).collect();
    let name = parts.ok_or_else(|| format!("{} has a name that is no UTF-8", path.display()))?;
    let name = name.join("/");
    check_path(&name).map_err(|refusal| refusal.to_string())?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::TaskId;

    #[test]
    fn names_are_those_of_the_labs() {
        let paths = JobPaths::new(Path::new("/r"), "a/wc", 0xff).unwrap();
        assert_eq!(paths.output, Path::new("/r/a/wc"));
        let work = Path::new("/r/a/.mapreduce-000000000000000000000000000000ff");
        assert_eq!(paths.work, work);
        assert_eq!(paths.map_file(3, 0, 7), work.join("map-3-0/mr-3-7"));
        assert_eq!(paths.reduce_file(7, 1), work.join("reduce-7-1/mr-out-7"));
        let task = TaskId { job: 9, kind: Kind::Map, number: 3 };
        assert_eq!(paths.private(AttemptId { task, number: 2 }), work.join("map-3-2.part"));
        assert!(JobPaths::new(Path::new("/r"), "../wc", 1).is_err());
        assert!(JobPaths::new(Path::new("/r"), "/etc", 1).is_err());
    }

    #[test]
    fn links_do_not_lead_out_of_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        std::fs::create_dir_all(root.join("in")).unwrap();
        std::fs::write(root.join("in/a"), "a").unwrap();
        std::fs::write(folder.path().join("secret"), "s").unwrap();
        std::os::unix::fs::symlink("../secret", root.join("out")).unwrap();
        std::os::unix::fs::symlink("in/a", root.join("link")).unwrap();
        let inner = root.canonicalize().unwrap().join("in/a");
        assert_eq!(below(&root, "in/a").unwrap(), inner);
        assert_eq!(below(&root, "link").unwrap(), inner);
        for bad in ["out", "../secret", "/etc/passwd", "in/../../secret"] {
            let error = below(&root, bad).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{bad}");
        }
        assert_eq!(below(&root, "nothing").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(name_below(&root, &root.join("in/a")).unwrap(), "in/a");
        assert!(name_below(&root, folder.path()).is_err());
    }
}
