//! The class filters: xenfilt is an upper filter of the classes System and HDC. PASSIVE_LEVEL.

use crate::keys;
use alloc::vec::Vec;
use nt::registry::{Access, CONTROL, SERVICES};
use nt::{NtStatus, Result};

/// The classes, in the order of installation.
const CLASSES: [(&str, &str); 2] = [
    ("System", r"Class\{4d36e97d-e325-11ce-bfc1-08002be10318}"),
    ("HDC", r"Class\{4d36e96a-e325-11ce-bfc1-08002be10318}"),
];
const FILTER: &str = "XENFILT";
const VALUE: &str = "UpperFilters";

/// Whether the filter's service is there. A class with a filter that is not there does not start.
fn filter_exists() -> bool {
    keys::open(SERVICES, FILTER, Access::Read)
        .and_then(|key| key.value("ImagePath"))
        .is_ok()
}

/// Rewrites a class's list of filters by `change`, which says whether it changed anything.
fn edit(class: &str, change: impl FnOnce(&mut Vec<&str>) -> Result<bool>) -> Result<()> {
    let key = keys::open(CONTROL, class, Access::All)?;
    let present = match key.texts(VALUE) {
        Err(NtStatus::OBJECT_NAME_NOT_FOUND) => Vec::new(),
        other => other?,
    };
    let mut filters = Vec::new();
    filters.try_reserve(present.len())?;
    filters.extend(present.iter().map(|filter| filter.as_str()));
    if change(&mut filters)? {
        key.set_texts(VALUE, &filters)
    } else {
        Ok(())
    }
}

fn report(name: &str, result: Result<()>) {
    if let Err(status) = result {
        nt::warning!("class {name}: {status}");
    }
}

/// Makes xenfilt a filter of both classes, if it is installed and not one yet.
#[unsafe(no_mangle)]
pub extern "win64" fn FiltersInstall() {
    if !filter_exists() {
        return;
    }
    for (name, class) in CLASSES {
        let result = edit(class, |filters| {
            if filters
                .iter()
                .any(|filter| filter.eq_ignore_ascii_case(FILTER))
            {
                return Ok(false);
            }
            filters.try_reserve(1)?;
            filters.push(FILTER);
            Ok(true)
        });
        report(name, result);
    }
}

/// Takes xenfilt from the filters of both classes.
#[unsafe(no_mangle)]
pub extern "win64" fn FiltersUninstall() {
    for (name, class) in CLASSES.into_iter().rev() {
        let result = edit(class, |filters| {
            let before = filters.len();
            filters.retain(|filter| !filter.eq_ignore_ascii_case(FILTER));
            Ok(filters.len() != before)
        });
        report(name, result);
    }
}
