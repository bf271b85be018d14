//! An adapter's advanced settings, as the property page of its device shows them: keywords, with the values that the
//! INF allows. Microsoft Learn, "Specifying Configuration Parameters for the Advanced Properties Page".
//!
//! ```text
//!   set_keyword ─▶ CHOSEN ─ installation ─▶ software key, before the default ─▶ NdisReadConfiguration
//! ```

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Display};

use nt_host::cm::{self, Value};
use nt_host::sync::Mutex;

use crate::adapter::Adapter;

/// What was set for adapters that are still to be installed.
static CHOSEN: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

/// Gives a keyword a value in all adapters that are installed from now on, in place of the INF's default.
pub fn set_keyword(name: &str, value: &str) {
    CHOSEN.lock().push((name.to_string(), value.to_string()));
}

/// Writes what was set to an adapter's software key.
pub(crate) fn write_chosen(software_key: &str) {
    for (name, value) in CHOSEN.lock().iter() {
        cm::write(software_key, name, Value::sz(value));
    }
}

/// Which values a keyword takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Values {
    /// One of these.
    OneOf(Vec<String>),
    /// A number from the first to the second.
    Between(i64, i64),
    /// Any text.
    Text,
}

impl Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OneOf(choices) => write!(f, "one of {}", choices.join(", ")),
            Self::Between(first, last) => write!(f, "a number from {first} to {last}"),
            Self::Text => write!(f, "any text"),
        }
    }
}

/// A setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyword {
    /// As the INF writes it.
    pub name: String,
    /// What it is set to.
    pub value: Option<String>,
    /// What it can be set to.
    pub values: Values,
}

impl Keyword {
    /// Whether the property page would let it be set to this.
    pub fn takes(&self, value: &str) -> bool {
        match &self.values {
            Values::OneOf(choices) => choices.iter().any(|choice| choice == value),
            Values::Between(first, last) => value
                .parse()
                .is_ok_and(|number| (*first..=*last).contains(&number)),
            Values::Text => true,
        }
    }
}

impl Adapter {
    /// Its settings, in the order of their names.
    pub fn keywords(&self) -> Vec<Keyword> {
        of(&self.software_key)
    }
}

fn of(software_key: &str) -> Vec<Keyword> {
    let parameters = format!("{software_key}\\Ndi\\params");
    let described = cm::children(&parameters).into_iter().map(|name| {
        let key = format!("{parameters}\\{name}");
        let text = |value: &str| cm::read(&key, value)?.as_string();
        let bound = |value: &str| text(value)?.parse().ok();
        let values = match text("type").as_deref() {
            Some("enum") => Values::OneOf(cm::value_names(&format!("{key}\\enum"))),
            Some("int" | "long" | "word" | "dword") => Values::Between(
                bound("min").unwrap_or(0),
                bound("max").unwrap_or(u32::MAX.into()),
            ),
            _ => Values::Text,
        };
        Keyword {
            value: cm::read(software_key, &name).and_then(|value| value.as_string()),
            name,
            values,
        }
    });
    described.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_take_what_the_inf_allows() {
        let key = r"\Registry\Machine\Software\NdisKeywords";
        let parameter = |name: &str, value: &str, text: &str| {
            let path = format!("{key}\\Ndi\\params\\{name}");
            cm::write(&path, value, Value::sz(text));
        };
        parameter("*RSS", "Type", "enum");
        for choice in ["0", "1"] {
            parameter("*RSS\\enum", choice, "a choice");
        }
        parameter("VlanID", "Type", "int");
        parameter("VlanID", "Min", "0");
        parameter("VlanID", "Max", "4094");
        parameter("NetworkAddress", "Type", "edit");
        cm::write(key, "*RSS", Value::sz("0"));
        let keywords = of(key);
        let names: Vec<_> = keywords.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["*RSS", "NetworkAddress", "VlanID"]);
        assert_eq!(keywords[0].value.as_deref(), Some("0"));
        for (index, value, taken) in [
            (0, "1", true),
            (0, "2", false),
            (1, "anything", true),
            (2, "4094", true),
            (2, "4095", false),
            (2, "x", false),
        ] {
            assert_eq!(keywords[index].takes(value), taken, "{value}");
        }
    }
}
