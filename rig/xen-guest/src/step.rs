//! The job's language: a step per line, a word and `key=value` pairs; `#` begins a comment.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// A step of the job as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its number, from 1: that of reports.
    pub number: usize,
    /// The line.
    pub text: String,
    /// Its first word.
    pub word: String,
    values: BTreeMap<String, String>,
}

/// The steps of a job. A line that cannot be read is an error that names it.
pub fn parse(job: &str) -> Result<Vec<Step>, String> {
    let lines = job
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty());
    lines
        .enumerate()
        .map(|(index, line)| step(index + 1, line))
        .collect()
}

fn step(number: usize, line: &str) -> Result<Step, String> {
    let mut words = line.split_whitespace();
    let word = words.next().unwrap_or_default().to_owned();
    let mut values = BTreeMap::new();
    // The rest of `say` is text.
    if word != "say" {
        for pair in words {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("step {number}: {pair} is not key=value"))?;
            if values.insert(key.to_owned(), value.to_owned()).is_some() {
                return Err(format!("step {number}: {key} is there twice"));
            }
        }
    }
    Ok(Step {
        number,
        text: line.to_owned(),
        word,
        values,
    })
}

impl Step {
    /// What stands behind the first word.
    pub fn rest(&self) -> &str {
        self.text[self.word.len()..].trim()
    }

    /// A value as it was written.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// A number, if the key is there.
    pub fn number(&self, key: &str) -> Result<Option<u64>, String> {
        self.value(key)
            .map(|value| {
                value
                    .parse()
                    .map_err(|_| format!("{key}={value} is not a number"))
            })
            .transpose()
    }

    /// A number that must be there.
    pub fn wanted(&self, key: &str) -> Result<u64, String> {
        self.number(key)?
            .ok_or_else(|| format!("{} needs {key}=", self.word))
    }

    /// Refuses keys that the step does not know: a typing error is no default.
    pub fn knows(&self, keys: &[&str]) -> Result<(), String> {
        match self.values.keys().find(|key| !keys.contains(&key.as_str())) {
            Some(key) => Err(format!("{} does not know {key}=", self.word)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_have_numbers_words_and_values() {
        let steps = parse("# a job\n\ndisks count=1 within=60 # wait\nsay load running\n").unwrap();
        assert_eq!(steps.len(), 2);
        assert_eq!((steps[0].number, steps[0].word.as_str()), (1, "disks"));
        assert_eq!(steps[0].wanted("count"), Ok(1));
        assert_eq!(steps[0].number("bytes"), Ok(None));
        assert_eq!((steps[1].number, steps[1].rest()), (2, "load running"));
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(parse("disks 1").unwrap_err(), "step 1: 1 is not key=value");
        assert_eq!(parse("a x=1 x=2").unwrap_err(), "step 1: x is there twice");
        let steps = parse("read disk=x from=1").unwrap();
        assert_eq!(
            steps[0].wanted("disk").unwrap_err(),
            "disk=x is not a number"
        );
        assert_eq!(steps[0].wanted("bytes").unwrap_err(), "read needs bytes=");
        assert_eq!(
            steps[0].knows(&["disk"]).unwrap_err(),
            "read does not know from="
        );
    }
}
