//! `cargo xtask check`: what must hold at every commit, besides the tests. Changes no source file.

use std::process::ExitCode;

use crate::report::Report;
use crate::{cargo, examples, links, mutants, root, run};

pub(crate) fn check() -> ExitCode {
    let mut report = Report::new("check");
    report.step("format", "run `cargo xtask fix`", || {
        run(cargo("fmt").args(["--all", "--", "--check"]))
    });
    report.step("clippy", "run `cargo xtask fix`, then repair by hand what is left", || {
        let targets = ["--quiet", "--workspace", "--all-targets"];
        run(cargo("clippy").args(targets).args(["--", "-D", "warnings"]))
    });
    report.step("no_std", "use `core` and `alloc` in raft-core, or put it behind `std`", || {
        run(cargo("build").args(["--quiet", "--package", "raft-core", "--no-default-features"]))
    });
    report.step("rustdoc", "repair the doc comments named above", || {
        let arguments = ["--quiet", "--workspace", "--no-deps"];
        run(cargo("doc").args(arguments).env("RUSTDOCFLAGS", "-D warnings"))
    });
    report.step("links", "correct the links, or add what they point to", || links::check(&root()));
    report.step("mutants", "make the patch anew, from the code as it is", mutants::check);
    report.step(
        "package",
        "between our packages a dependency has `path` and `version`, a dev-dependency `path` alone",
        // What a user would get must be complete. Building it again would show nothing new.
        || run(cargo("package").args(["--quiet", "--workspace", "--no-verify", "--allow-dirty"])),
    );
    examples::run_all(&mut report);
    report.finish()
}
