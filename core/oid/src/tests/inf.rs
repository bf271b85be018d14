//! The advanced settings against `xennet.inf`, which offers them to people.

use crate::keyword::{ALL, Kind};
use std::collections::BTreeSet;

const INF: &str = include_str!("../../../../drivers/xennet/xennet.inf");

/// What follows `HKR,Ndi\params\`, of every line that begins so.
fn lines() -> BTreeSet<&'static str> {
    INF.lines()
        .filter_map(|line| line.strip_prefix("HKR,Ndi\\params\\"))
        .collect()
}

#[test]
fn each_setting_is_offered_with_its_default_and_its_values() {
    let lines = lines();
    for keyword in ALL {
        let has = |line: String| {
            let line = format!("{}{line}", keyword.name);
            assert!(lines.contains(line.as_str()), "{line}");
        };
        let text = keyword.name.trim_start_matches('*');
        has(format!(",ParamDesc,0,\"%{text}%\""));
        has(format!(",Default,0,\"{}\"", keyword.default));
        match keyword.kind {
            Kind::Enum => {
                has(",Type,0,\"enum\"".to_owned());
                let values = lines
                    .iter()
                    .filter_map(|line| line.strip_prefix(keyword.name)?.strip_prefix("\\enum,\""))
                    .filter_map(|line| line.split_once('"')?.0.parse().ok());
                let values: Vec<u32> = values.collect();
                let all: Vec<u32> = (keyword.minimum..=keyword.maximum).collect();
                assert_eq!(values, all, "{}", keyword.name);
            }
            Kind::Int => {
                has(",Type,0,\"int\"".to_owned());
                has(format!(",Min,0,\"{}\"", keyword.minimum));
                has(format!(",Max,0,\"{}\"", keyword.maximum));
            }
        }
    }
}

#[test]
fn nothing_is_offered_that_nobody_reads() {
    for line in lines() {
        let name = line.split([',', '\\']).next().unwrap();
        let known = ALL.iter().any(|keyword| keyword.name == name) || name == "NetworkAddress";
        assert!(known, "{line}");
    }
}

#[test]
fn every_text_is_there() {
    for (before, name) in lines().iter().filter_map(|line| {
        let mut parts = line.split('%');
        Some((parts.next()?, parts.next()?))
    }) {
        let text = format!("\n{name}=\"");
        assert!(INF.contains(&text), "{before}: %{name}%");
    }
}
