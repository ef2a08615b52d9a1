//! The same without tasks: all of it in memory, in one thread, in the plainest way. What the tasks make
//! of an input is compared with this.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::application::{
    AppError, Application, Emitter, Group, Groups, Output, Record, RecordSource, Records, Sink,
    ValueSource, Values,
};
use crate::data::{Progress, TaskError};

/// A name and the bytes of an input.
pub type Input<'a> = (&'a str, &'a [u8]);

/// All lines of all outputs of a job, sorted by their bytes.
///
/// # Errors
///
/// Whatever the application refuses.
pub fn sequential(
    application: &dyn Application,
    inputs: &[Input<'_>],
) -> Result<Vec<u8>, TaskError> {
    let mut by_key: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
    for (key, value) in map(application, inputs)?.0 {
        by_key.entry(key).or_default().push(value);
    }
    let output = reduce(application, by_key.into_iter().collect())?;
    let mut lines: Vec<_> = output.split_inclusive(|byte| *byte == b'\n').collect();
    lines.sort_unstable();
    Ok(lines.concat())
}

fn map(application: &dyn Application, inputs: &[Input<'_>]) -> Result<Pairs, AppError> {
    let mut pairs = Pairs::default();
    for (name, bytes) in inputs {
        let records = application.records();
        let mut source = InMemory { name, bytes, offset: 0, records, has_ended: false };
        application.run_map(&mut source, &mut Emitter::new(&mut pairs))?;
    }
    Ok(pairs)
}

fn reduce(
    application: &dyn Application,
    groups: Vec<(Vec<u8>, Vec<Vec<u8>>)>,
) -> Result<Vec<u8>, AppError> {
    let mut bytes = Vec::new();
    let mut output = Output::new(&mut bytes, Path::new("memory"), 64 << 10);
    let mut groups = GroupsInMemory { groups: groups.into_iter(), key: Vec::new(), lent: None };
    application.run_reduce(&mut groups, &mut output)?;
    output.finish()?;
    Ok(bytes)
}

#[derive(Default)]
struct Pairs(Vec<(Vec<u8>, Vec<u8>)>);

impl Sink for Pairs {
    fn pair(&mut self, key: &[u8], value: &[u8]) -> Result<(), TaskError> {
        self.0.push((key.to_vec(), value.to_vec()));
        Ok(())
    }
}

struct InMemory<'a> {
    name: &'a str,
    bytes: &'a [u8],
    offset: usize,
    records: Records,
    has_ended: bool,
}

impl RecordSource for InMemory<'_> {
    fn next(&mut self) -> Result<Option<Record<'_>>, TaskError> {
        let rest = &self.bytes[self.offset..];
        let (offset, bytes) = match self.records {
            _ if self.has_ended => return Ok(None),
            Records::WholeFile => {
                self.has_ended = true;
                (0, rest)
            }
            Records::Lines => {
                let mut lines = rest.split_inclusive(|byte| *byte == b'\n');
                let Some(line) = lines.next() else { return Ok(None) };
                let offset = self.offset;
                self.offset += line.len();
                (offset as u64, line.strip_suffix(b"\n").unwrap_or(line))
            }
        };
        Ok(Some(Record { name: self.name, offset, bytes }))
    }

    fn progress(&self) -> Arc<Progress> {
        Arc::default()
    }
}

struct GroupsInMemory {
    groups: std::vec::IntoIter<(Vec<u8>, Vec<Vec<u8>>)>,
    key: Vec<u8>,
    lent: Option<ValuesInMemory>,
}

struct ValuesInMemory {
    values: std::vec::IntoIter<Vec<u8>>,
    lent: Vec<u8>,
}

impl ValueSource for ValuesInMemory {
    fn next_value(&mut self, _: &[u8]) -> Result<Option<&[u8]>, TaskError> {
        let Some(value) = self.values.next() else { return Ok(None) };
        self.lent = value;
        Ok(Some(&self.lent))
    }
}

impl Groups for GroupsInMemory {
    fn next(&mut self) -> Result<Option<Group<'_>>, TaskError> {
        let Some((key, values)) = self.groups.next() else { return Ok(None) };
        self.key = key;
        let values = ValuesInMemory { values: values.into_iter(), lent: Vec::new() };
        let source = self.lent.insert(values);
        Ok(Some(Group { key: &self.key, values: Values::new(source, &self.key) }))
    }

    fn progress(&self) -> Arc<Progress> {
        Arc::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::Registry;

    const INPUTS: &[Input<'_>] =
        &[("one", b"the cat\nand the hat\n"), ("two", b"The hat"), ("three", b"")];

    #[test]
    fn it_is_what_one_finds_by_hand() {
        let registry = Registry::standard();
        let of = |name| sequential(&*registry.find(name).unwrap(), INPUTS).unwrap();
        assert_eq!(of("wc"), b"The 1\nand 1\ncat 1\nhat 2\nthe 2\n");
        assert_eq!(of("indexer"), b"The 1 two\nand 1 one\ncat 1 one\nhat 2 one,two\nthe 1 one\n");
        assert_eq!(of("sort"), b"The hat\nand the hat\nthe cat\n");
    }
}
