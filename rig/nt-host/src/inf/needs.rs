//! `Needs` entries: what other sections say as if this one said it (Microsoft Learn, "INF DDInstall Section").
//!
//! ```text
//! [Disk_Inst.NT]          Needs=Common  ─▶ [Common]  CopyFiles=…    taken in before the section's own entries, once
//! ```
//!
//! `Include` names a file whose sections are needed. Outside of Windows such a file is none of a package, so another than
//! the INF itself is refused by its name.

use alloc::format;
use alloc::vec::Vec;

use super::{Inf, InfError, Line, Section};

/// How many sections may need each other in a row.
const DEEPEST: usize = 32;

/// What has been taken in.
#[derive(Default)]
struct Taken<'a> {
    /// The sections that are being taken in, each needed by the one before.
    way: Vec<&'a str>,
    done: Vec<&'a str>,
    lines: Vec<Line>,
}

impl Inf {
    /// A section with the entries of those that it needs. `own` is the name of the file.
    pub fn with_needs(&self, section: &Section, own: &str) -> Result<Section, InfError> {
        let mut taken = Taken::default();
        self.take(section, own, &mut taken)?;
        Ok(Section {
            name: section.name.clone(),
            number: section.number,
            lines: taken.lines,
        })
    }

    fn take<'a>(
        &'a self,
        section: &'a Section,
        own: &str,
        taken: &mut Taken<'a>,
    ) -> Result<(), InfError> {
        for line in self.lines(section, "Include") {
            let files = self.fields(line)?;
            let other = files
                .iter()
                .find(|file| !file.is_empty() && !file.eq_ignore_ascii_case(own));
            if let Some(file) = other {
                return Err(InfError::at(
                    line.number,
                    format!(
                        "[{}] includes {file}, which is not part of the package",
                        section.name
                    ),
                ));
            }
        }
        taken.way.push(&section.name);
        for line in self.lines(section, "Needs") {
            for name in self.fields(line)?.iter().filter(|name| !name.is_empty()) {
                let needed = self.required(name, line)?;
                if taken.way.contains(&needed.name.as_str()) {
                    return Err(InfError::at(
                        line.number,
                        format!(
                            "[{}] needs [{}], which needs it in turn",
                            section.name, needed.name
                        ),
                    ));
                }
                if taken.way.len() == DEEPEST {
                    return Err(InfError::at(
                        line.number,
                        format!("more than {DEEPEST} sections need each other in a row"),
                    ));
                }
                if !taken.done.contains(&needed.name.as_str()) {
                    self.take(needed, own, taken)?;
                }
            }
        }
        taken.way.pop();
        taken.done.push(&section.name);
        taken.lines.extend(section.lines.iter().cloned());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    fn keys(text: &str) -> Result<Vec<String>, String> {
        let inf = Inf::parse(text.as_bytes()).unwrap();
        let whole = inf.with_needs(inf.section("A").unwrap(), "own.inf");
        whole.map_err(|error| format!("{error}")).map(|section| {
            let keys = section.lines.into_iter().filter_map(|line| line.key);
            keys.filter(|key| key.starts_with("key")).collect()
        })
    }

    #[test]
    fn needed_sections_come_first_and_once() {
        let text = "[A]\nkey1=1\nInclude=OWN.inf\nNeeds=B,C\n[B]\nNeeds=c\nkey2=2\n[C]\nkey3=3\n";
        assert_eq!(keys(text).unwrap(), ["key3", "key2", "key1"]);
    }

    #[test]
    fn a_cycle_is_an_error_at_its_line() {
        for text in [
            "[A]\nNeeds=A",
            "[A]\nNeeds=B\n[B]\nNeeds=a",
            "[A]\nNeeds=B\n[B]\nNeeds=C\n[C]\nNeeds=B",
        ] {
            let error = keys(text).unwrap_err();
            assert!(
                error.starts_with("line ") && error.contains("in turn"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_file_or_section_that_is_missing_is_named() {
        let error = keys("[A]\nInclude=machine.inf\nNeeds=B\n[B]\n").unwrap_err();
        assert_eq!(
            error,
            "line 2: [A] includes machine.inf, which is not part of the package"
        );
        let error = keys("[A]\nNeeds=B\n").unwrap_err();
        assert_eq!(error, "line 2: section [B] does not exist");
    }

    #[test]
    fn a_long_row_and_many_ways_are_no_trouble() {
        let mut row = String::from("[A]\nNeeds=S0\n");
        for number in 0..100 {
            row += &format!("[S{number}]\nNeeds=S{}\n", number + 1);
        }
        assert!(keys(&row).unwrap_err().contains("in a row"));
        // Each section needs the next one twice: 2 to the power of 30 ways.
        let mut ways = String::from("[A]\nNeeds=S0,S0\n");
        for number in 0..30 {
            ways += &format!("[S{number}]\nkey=1\nNeeds=S{0},S{0}\n", number + 1);
        }
        assert_eq!(keys(&(ways + "[S30]\n")).unwrap().len(), 30);
    }
}
