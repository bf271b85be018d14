//! INF templates: `@NAME@` is replaced by what the package is called and versioned.

use std::{env, process::Command};

use anyhow::{Result, bail};

use crate::toolchain::root;

/// Names and their values.
pub(crate) struct Words(Vec<(&'static str, String)>);

impl Words {
    /// The words of this build. The date is the last commit's (or SOURCE_DATE_EPOCH's), so that a build can be repeated.
    pub(crate) fn current() -> Result<Self> {
        let mut version = env!("CARGO_PKG_VERSION").split('.');
        let mut part = || version.next().unwrap_or("0").to_owned();
        Ok(Self(vec![
            ("VENDOR_NAME", "Xen Project".to_owned()),
            ("VENDOR_PREFIX", "XP".to_owned()),
            ("PRODUCT_NAME", "Xen".to_owned()),
            ("MAJOR_VERSION", part()),
            ("MINOR_VERSION", part()),
            ("MICRO_VERSION", part()),
            ("BUILD_NUMBER", "0".to_owned()),
            ("INF_ARCH", "amd64".to_owned()),
            ("INF_DATE", date(build_time())),
        ]))
    }

    /// The text with every word replaced, and with the line ends Windows expects.
    pub(crate) fn substitute(&self, template: &str) -> Result<String> {
        let mut out = String::with_capacity(template.len() + template.len() / 16);
        for line in template.lines() {
            out.push_str(&self.line(line)?);
            out.push_str("\r\n");
        }
        Ok(out)
    }

    fn line(&self, line: &str) -> Result<String> {
        let mut out = String::new();
        let mut rest = line;
        while let Some((before, after)) = rest.split_once('@') {
            out.push_str(before);
            let Some((name, after)) = after.split_once('@') else {
                bail!("a single @ in: {line}")
            };
            match self.0.iter().find(|(known, _)| *known == name) {
                Some((_, value)) => out.push_str(value),
                None => bail!("@{name}@ is not a word of the template language"),
            }
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }
}

/// Seconds since 1970.
fn build_time() -> u64 {
    if let Some(time) = env::var("SOURCE_DATE_EPOCH")
        .ok()
        .and_then(|text| text.parse().ok())
    {
        return time;
    }
    let output = Command::new("git")
        .args(["log", "-1", "--format=%ct"])
        .current_dir(root())
        .output();
    output
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

/// A day as DriverVer writes it: month/day/year. Days to civil date after Howard Hinnant's description.
fn date(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{month:02}/{day:02}/{year}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Words {
        Words(vec![
            ("INF_ARCH", "amd64".to_owned()),
            ("VENDOR_PREFIX", "XP".to_owned()),
        ])
    }

    #[test]
    fn words_are_replaced_and_lines_end_as_on_windows() {
        let text = words()
            .substitute("[Inst.NT@INF_ARCH@]\n\\VEN_@VENDOR_PREFIX@0001\n")
            .unwrap();
        assert_eq!(text, "[Inst.NTamd64]\r\n\\VEN_XP0001\r\n");
    }

    #[test]
    fn an_unknown_word_is_named() {
        let error = words().substitute("@COLOUR@").unwrap_err().to_string();
        assert!(error.contains("@COLOUR@"), "{error}");
    }

    #[test]
    fn dates_are_civil() {
        assert_eq!(date(0), "01/01/1970");
        assert_eq!(date(951_782_400), "02/29/2000");
        assert_eq!(date(1_798_761_599), "12/31/2026");
    }
}
