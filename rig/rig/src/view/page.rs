//! The page: requests and their ways in one HTML file that needs nothing else.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::way::{Lane, Way};

/// The page, with a place for the data.
const TEMPLATE: &str = include_str!("page.html");
/// That place.
const PLACE: &str = "/*DATA*/null";

/// What the page shows.
#[derive(Debug, Serialize)]
pub struct Page<'a> {
    /// The trace's file.
    pub file: PathBuf,
    /// The seed of the machine, if it had one; a text, since a script's numbers end at 2^53.
    pub seed: Option<String>,
    /// CPUs of the machine.
    pub cpus: u32,
    /// Requests that were chosen, but are too many for the page.
    pub left_out: usize,
    /// Titles of the lanes.
    pub lanes: Vec<(Lane, &'static str)>,
    /// The ways.
    pub ways: &'a [Way],
}

impl Page<'_> {
    /// Writes it.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        fs::write(file, self.html()?)
    }

    fn html(&self) -> io::Result<String> {
        // Within a script element, only "</" could end it.
        let data = serde_json::to_string(self)?.replace("</", "<\\/");
        Ok(TEMPLATE.replacen(PLACE, &data, 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_cannot_end_the_script() {
        let page = Page {
            file: "</script><b>.trace".into(),
            seed: Some(u64::MAX.to_string()),
            cpus: 1,
            left_out: 0,
            lanes: Vec::new(),
            ways: &[],
        };
        let html = page.html().unwrap();
        assert_eq!(
            html.matches("</script>").count(),
            TEMPLATE.matches("</script>").count()
        );
        assert!(html.contains("18446744073709551615") && !html.contains(PLACE));
    }
}
