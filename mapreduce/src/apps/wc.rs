//! Word count.

use crate::application::{AppError, Application, Combine, Emitter, Output, Record, Values};
use crate::apps::words::Words;
use crate::decimal::{self, Decimal};

/// How many words are emitted at once.
const WORDS: usize = 16;

/// How often each word is there. A word is a longest run of letters, upper and lower case being
/// different ones.
#[derive(Clone, Copy, Debug)]
pub struct WordCount;

impl Application for WordCount {
    fn map(&self, record: &Record<'_>, emit: &mut Emitter<'_>) -> Result<(), AppError> {
        let mut words = Words::of(record.bytes);
        let mut some = [&b""[..]; WORDS];
        loop {
            let mut count = 0;
            while count < WORDS
                && let Some(word) = words.next()
            {
                some[count] = word;
                count += 1;
            }
            emit.ones(&some[..count])?;
            if count < WORDS {
                return Ok(());
            }
        }
    }

    fn reduce(
        &self,
        word: &[u8],
        counts: &mut Values<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), AppError> {
        let mut sum = 0_u64;
        while let Some(count) = counts.next()? {
            let count = decimal::parse(count).ok_or_else(|| AppError::new("a count is none"))?;
            sum = sum.checked_add(count).ok_or_else(|| AppError::new("too many to be counted"))?;
        }
        Ok(output.line(word, Decimal::new(sum).as_bytes())?)
    }

    fn combine(&self) -> Combine {
        Combine::Sum
    }
}
