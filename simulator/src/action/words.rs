//! The words of a line, each of which must be used.

use std::cell::Cell;
use std::fmt::Display;
use std::str::FromStr;

use raft_core::types::NodeId;

use crate::network::Link;

/// The words of a line. Errors name the word and its place, counted from 1.
pub struct Words<'a> {
    words: Vec<&'a str>,
    /// Which ones somebody has asked for.
    used: Cell<u64>,
}

impl<'a> Words<'a> {
    /// The words of a line.
    pub fn new(line: &'a str) -> Self {
        Words { words: line.split_whitespace().collect(), used: Cell::new(0) }
    }

    fn take(&self, place: usize) -> &'a str {
        self.used.set(self.used.get() | 1 << place.min(63));
        self.words[place]
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.words.len()
    }

    /// The word at this place, counted from 0.
    ///
    /// # Errors
    /// If there is none.
    pub fn word(&self, place: usize) -> Result<&'a str, String> {
        if place < self.words.len() {
            return Ok(self.take(place));
        }
        Err(format!("word {} is missing", place + 1))
    }

    /// All words from this place on, in one.
    pub fn rest(&self, place: usize) -> String {
        (place..self.words.len()).map(|at| self.take(at)).collect::<Vec<_>>().join(" ")
    }

    /// What is wrong with the word at this place.
    pub fn wrong(&self, place: usize, what: impl Display) -> String {
        format!("word {}, `{}`: {what}", place + 1, self.words.get(place).unwrap_or(&""))
    }

    /// The number at this place.
    ///
    /// # Errors
    /// If there is none.
    pub fn number<T: FromStr>(&self, place: usize) -> Result<T, String> {
        self.word(place)?.parse().map_err(|_| self.wrong(place, "not a number that fits here"))
    }

    /// The number at this place, which is at most this.
    ///
    /// # Errors
    /// If there is none, or a larger one.
    pub fn number_upto(&self, place: usize, most: u64) -> Result<u64, String> {
        match self.number(place)? {
            number if number <= most => Ok(number),
            _ => Err(self.wrong(place, format_args!("more than {most}"))),
        }
    }

    /// The number of `name=number`, which is at most this.
    ///
    /// # Errors
    /// If it is no number, or a larger one.
    pub fn setting_upto(&self, name: &str, most: u64) -> Result<Option<u64>, String> {
        match self.setting(name)? {
            Some(number) if number > most => {
                let (place, _) = self.value(name).expect("it was just read");
                Err(self.wrong(place, format_args!("more than {most}")))
            }
            number => Ok(number),
        }
    }

    /// The number at this place, or another one where there is no such word.
    ///
    /// # Errors
    /// If the word is no number.
    pub fn number_or<T: FromStr>(&self, place: usize, or: T) -> Result<T, String> {
        if place < self.words.len() { self.number(place) } else { Ok(or) }
    }

    /// Whether a word `name=value` is there, and if so, where, and its value.
    pub fn value(&self, name: &str) -> Option<(usize, &'a str)> {
        let mut places = 0..self.words.len();
        let (place, value) = places.find_map(|place| {
            Some((place, self.words[place].strip_prefix(name)?.strip_prefix('=')?))
        })?;
        self.take(place);
        Some((place, value))
    }

    /// The number of `name=number`.
    ///
    /// # Errors
    /// If it is no number.
    pub fn setting<T: FromStr>(&self, name: &str) -> Result<Option<T>, String> {
        let Some((place, value)) = self.value(name) else { return Ok(None) };
        let number = value.parse().map_err(|_| self.wrong(place, "not a value that fits here"))?;
        Ok(Some(number))
    }

    /// The links from this place on, each as `1->2`.
    ///
    /// # Errors
    /// If a word is no link, or there is none.
    pub fn links(&self, place: usize) -> Result<Vec<Link>, String> {
        self.word(place)?;
        (place..self.words.len()).map(|place| self.link(place)).collect()
    }

    /// The link at this place.
    ///
    /// # Errors
    /// If it is none.
    pub fn link(&self, place: usize) -> Result<Link, String> {
        let ends = self.word(place)?.split_once("->");
        let ends = ends.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        ends.ok_or_else(|| self.wrong(place, "not a link like `1->2`"))
    }

    /// Some nodes, as `1,2`; empty for `all`.
    ///
    /// # Errors
    /// If they are none.
    pub fn nodes(&self, place: usize) -> Result<Vec<NodeId>, String> {
        match self.word(place)? {
            "all" => Ok(Vec::new()),
            list => {
                let nodes = list.split(',').map(str::parse).collect::<Result<Vec<NodeId>, _>>();
                let nodes =
                    nodes.map_err(|_| self.wrong(place, "not nodes like `1,2` or `all`"))?;
                let twice = nodes.iter().enumerate().find(|(at, node)| nodes[..*at].contains(node));
                match twice {
                    Some((_, node)) => {
                        Err(self.wrong(place, format_args!("{node} stands there twice")))
                    }
                    None => Ok(nodes),
                }
            }
        }
    }

    /// Checks that nothing is left over.
    ///
    /// # Errors
    /// If a word has no meaning here.
    pub fn finish(&self) -> Result<(), String> {
        let unused =
            (0..self.words.len()).find(|place| self.used.get() >> (*place).min(63) & 1 == 0);
        unused.map_or(Ok(()), |place| Err(self.wrong(place, "has no meaning here")))
    }
}
