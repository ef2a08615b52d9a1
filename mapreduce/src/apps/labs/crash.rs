//! Does a job outlive its workers, and does nobody leave early?

use std::process;
use std::thread;
use std::time::Duration;

use super::{number_of, random_below, sorted_values};
use crate::application::{AppError, Application, Emitter, Output, Record, Records, Values};

/// `crash` and `nocrash`: of all map and reduce calls of the former a third end the process, and another
/// third take up to ten seconds.
#[derive(Clone, Copy, Debug)]
pub struct Crash {
    /// Whether it does that.
    pub crashes: bool,
}

impl Crash {
    fn perhaps_crash(self) -> Result<(), AppError> {
        if !self.crashes {
            return Ok(());
        }
        match random_below(1000)? {
            0..330 => process::exit(1),
            330..660 => thread::sleep(Duration::from_millis(random_below(10_000)?)),
            _ => {}
        }
        Ok(())
    }
}

impl Application for Crash {
    fn map(&self, file: &Record<'_>, emit: &mut Emitter<'_>) -> Result<(), AppError> {
        self.perhaps_crash()?;
        emit.pair(b"a", file.name.as_bytes())?;
        emit.pair(b"b", file.name.len().to_string().as_bytes())?;
        emit.pair(b"c", file.bytes.len().to_string().as_bytes())?;
        Ok(emit.pair(b"d", b"xyzzy")?)
    }

    fn reduce(
        &self,
        key: &[u8],
        values: &mut Values<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), AppError> {
        self.perhaps_crash()?;
        Ok(output.line(key, &sorted_values(values)?)?)
    }

    fn records(&self) -> Records {
        Records::WholeFile
    }
}

/// `early_exit`: the reduce calls of some inputs take three seconds, in which nobody may leave.
#[derive(Clone, Copy, Debug)]
pub struct EarlyExit;

impl Application for EarlyExit {
    fn map(&self, file: &Record<'_>, emit: &mut Emitter<'_>) -> Result<(), AppError> {
        Ok(emit.pair(file.name.as_bytes(), b"1")?)
    }

    fn reduce(
        &self,
        name: &[u8],
        values: &mut Values<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), AppError> {
        let text = String::from_utf8_lossy(name);
        if text.contains("sherlock") || text.contains("tom") {
            thread::sleep(Duration::from_secs(3));
        }
        Ok(output.line(name, &number_of(values)?)?)
    }

    fn records(&self) -> Records {
        Records::WholeFile
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequential::sequential;

    #[test]
    fn without_crashes_the_output_is_known() {
        let inputs: &[(&str, &[u8])] = &[("pg-b.txt", b"four"), ("pg-a.txt", b"")];
        let found = sequential(&Crash { crashes: false }, inputs).unwrap();
        assert_eq!(found, b"a pg-a.txt pg-b.txt\nb 8 8\nc 0 4\nd xyzzy xyzzy\n");
        let found = sequential(&EarlyExit, inputs).unwrap();
        assert_eq!(found, b"pg-a.txt 1\npg-b.txt 1\n");
    }
}
