//! The arbiter: gives devices the resources they ask for, and takes them back.
//!
//! | asked for | given |
//! |---|---|
//! | a line interrupt | a vector, shared by all who share the line, on the first processor allowed |
//! | a message interrupt | a vector of its own on the processors asked for |
//! | ports, memory | the lowest free range that fits |

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use nt_sys::{CmResourceShareShared, IO_RESOURCE_ALTERNATIVE, IO_RESOURCE_PREFERRED};

use super::resources::{Given, Range, Requirement, Requirements, Resource, Want};
use crate::ke::{interrupt, processor};
use crate::sync::Mutex;

/// The first line for devices that take any: above those of the I/O APIC's fixed devices.
const FIRST_FREE_LINE: u32 = 48;
/// One more than the last line.
const LINES: u32 = 64;

/// Who may take a resource once it is given.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Claim {
    owner: u32,
    resource: Resource,
}

static CLAIMS: Mutex<Vec<Claim>> = Mutex::new(Vec::new());

/// Meets one alternative of a device's requirements whole. `owner` numbers the device for [`release`].
pub fn assign(owner: u32, requirements: &Requirements) -> Result<Vec<Resource>, String> {
    let mut reason = String::new();
    for list in &requirements.lists {
        match assign_list(owner, list) {
            Ok(resources) => return Ok(resources),
            Err(what) => {
                release(owner);
                reason = what;
            }
        }
    }
    if requirements.lists.is_empty() {
        Ok(Vec::new())
    } else {
        Err(reason)
    }
}

/// Takes back whatever a device has.
pub fn release(owner: u32) {
    let mut claims = CLAIMS.lock();
    let mut index = 0;
    while let Some(claim) = claims.get(index).copied() {
        if claim.owner != owner {
            index = index.saturating_add(1);
            continue;
        }
        claims.remove(index);
        if let Given::Interrupt { vector, .. } = claim.resource.what {
            let shared = claims.iter().any(|other| same_vector(other, vector));
            if let Some(vector) = u8::try_from(vector).ok().filter(|_| !shared) {
                interrupt::free_vector(vector);
            }
        }
    }
}

fn same_vector(claim: &Claim, wanted: u32) -> bool {
    matches!(claim.resource.what, Given::Interrupt { vector, .. } if vector == wanted)
}

fn assign_list(owner: u32, list: &[Requirement]) -> Result<Vec<Resource>, String> {
    let mut resources = Vec::new();
    let mut rest = list.iter().peekable();
    while let Some(first) = rest.next() {
        // A preferred descriptor is followed by its alternatives, of which one is taken.
        let mut given = give(owner, first);
        while let Some(other) = rest.next_if(|next| next.option & IO_RESOURCE_ALTERNATIVE != 0) {
            if given.is_err() {
                given = give(owner, other);
            }
        }
        match given {
            Ok(Some(resource)) => resources.push(resource),
            Ok(None) => {}
            Err(_) if first.option & IO_RESOURCE_PREFERRED != 0 => {}
            Err(what) => return Err(what),
        }
    }
    Ok(resources)
}

/// Gives one resource; none for a descriptor that is its bus driver's own affair.
fn give(owner: u32, requirement: &Requirement) -> Result<Option<Resource>, String> {
    let what = match requirement.what {
        Want::Other(_) => return Ok(None),
        Want::Interrupt { processors, .. } if requirement.is_message() => message(processors)?,
        Want::Interrupt {
            minimum,
            maximum,
            processors,
        } => line(
            minimum,
            maximum,
            processors,
            requirement.share == CmResourceShareShared,
        )?,
        Want::Port(range) => {
            let start = place(range, 0x10000, |given| match *given {
                Given::Port(start, length) => Some((start, length)),
                _ => None,
            });
            Given::Port(
                start.ok_or_else(|| format!("no I/O ports for {range:x?}"))?,
                range.length,
            )
        }
        Want::Memory(range) => {
            let start = place(range, u64::MAX, |given| match *given {
                Given::Memory(start, length) => Some((start, length)),
                _ => None,
            });
            Given::Memory(
                start.ok_or_else(|| format!("no memory range for {range:x?}"))?,
                range.length,
            )
        }
    };
    let resource = Resource {
        share: requirement.share,
        flags: requirement.flags,
        what,
    };
    CLAIMS.lock().push(Claim { owner, resource });
    Ok(Some(resource))
}

/// The processors a mask leaves, or all of them for none.
fn allowed(processors: u64) -> u64 {
    let count = u32::try_from(processor::all().len())
        .unwrap_or(64)
        .clamp(1, 64);
    let all = u64::MAX >> 64u32.saturating_sub(count);
    if processors == 0 {
        all
    } else {
        processors & all
    }
}

fn message(processors: u64) -> Result<Given, String> {
    let processors = allowed(processors);
    if processors == 0 {
        return Err(String::from(
            "a message interrupt for processors that do not exist",
        ));
    }
    let vector = interrupt::allocate_vector()
        .ok_or("no interrupt vector is free")?
        .into();
    Ok(Given::Interrupt {
        line: vector,
        vector,
        processors,
    })
}

fn line(minimum: u32, maximum: u32, processors: u64, shared: bool) -> Result<Given, String> {
    let processors = allowed(processors);
    let claims = CLAIMS.lock();
    let on_line = |wanted: u32| {
        claims.iter().find_map(|claim| match claim.resource.what {
            Given::Interrupt { line, vector, .. }
                if line == wanted && !claim.resource.is_message() =>
            {
                Some((vector, claim.resource.share))
            }
            _ => None,
        })
    };
    // A device that leaves the choice gets a line of its own.
    let candidates = minimum.max(if minimum == maximum {
        0
    } else {
        FIRST_FREE_LINE
    })..=maximum.min(LINES - 1);
    for line in candidates {
        match on_line(line) {
            Some((vector, share)) if shared && share == CmResourceShareShared => {
                return Ok(Given::Interrupt {
                    line,
                    vector,
                    processors,
                });
            }
            Some(_) => {}
            None => {
                let vector = interrupt::allocate_vector().ok_or("no interrupt vector is free")?;
                let cpu = processors.trailing_zeros().min(63);
                interrupt::route_gsi(line, vector, cpu);
                return Ok(Given::Interrupt {
                    line,
                    vector: vector.into(),
                    processors,
                });
            }
        }
    }
    Err(format!(
        "no interrupt line from {minimum} to {maximum} is free"
    ))
}

/// The lowest start of a range that fits and overlaps nothing of its kind.
fn place(range: Range, limit: u64, of_kind: fn(&Given) -> Option<(u64, u32)>) -> Option<u64> {
    let length = u64::from(range.length.max(1));
    let alignment = u64::from(range.alignment.max(1)).next_power_of_two();
    let align = |address: u64| address.checked_next_multiple_of(alignment);
    // A device that leaves the choice must not be put over RAM or the processor's own ranges.
    let fixed = range
        .maximum
        .checked_sub(range.minimum)
        .is_some_and(|room| room < length.saturating_mul(2));
    let floor = if fixed || limit <= 0x10000 {
        0
    } else if range.maximum < FREE_MEMORY {
        crate::host::ram_end()
    } else {
        FREE_MEMORY
    };
    let mut start = align(range.minimum.max(floor))?;
    let claims = CLAIMS.lock();
    loop {
        let end = start.checked_add(length.checked_sub(1)?)?;
        if end > range.maximum || end >= limit {
            return None;
        }
        let overlap = claims
            .iter()
            .filter_map(|claim| of_kind(&claim.resource.what))
            .find(|&(other, size)| {
                start <= other.saturating_add(u64::from(size).saturating_sub(1)) && other <= end
            });
        match overlap {
            None => return Some(start),
            Some((other, size)) => start = align(other.checked_add(u64::from(size.max(1)))?)?,
        }
    }
}

/// Where memory for devices that take any starts: 1 TiB, above all RAM the rig gives a machine.
const FREE_MEMORY: u64 = 1 << 40;

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const ANY: Range = Range {
        length: 4096,
        alignment: 4096,
        minimum: 0,
        maximum: u64::MAX,
    };

    fn memory(range: Range) -> Requirement {
        Requirement {
            option: 0,
            share: 1,
            flags: 0,
            what: Want::Memory(range),
        }
    }

    fn only(list: Vec<Requirement>) -> Requirements {
        Requirements {
            lists: vec![list],
            ..Requirements::default()
        }
    }

    #[test]
    fn ranges_are_given_once_and_come_back() {
        let fixed = Range {
            length: 0x1000,
            alignment: 1,
            minimum: 0xf200_0000,
            maximum: 0xf200_0fff,
        };
        let given = assign(901, &only(vec![memory(fixed)])).unwrap();
        assert_eq!(given[0].what, Given::Memory(0xf200_0000, 0x1000));
        assert!(
            assign(902, &only(vec![memory(fixed)]))
                .unwrap_err()
                .contains("f2000000")
        );
        release(901);
        assert!(assign(902, &only(vec![memory(fixed)])).is_ok());
        release(902);
    }

    #[test]
    fn a_device_that_takes_any_memory_gets_none_of_the_ram() {
        let given = assign(903, &only(vec![memory(ANY), memory(ANY)])).unwrap();
        let starts: Vec<_> = given.iter().map(|resource| resource.what).collect();
        assert!(
            matches!(starts[..], [Given::Memory(a, _), Given::Memory(b, _)] if a >= FREE_MEMORY && b > a)
        );
        release(903);
    }

    #[test]
    fn a_choice_below_the_free_memory_is_met_there() {
        let low = Range {
            length: 0x2000,
            alignment: 0x1000,
            minimum: 0xe800_0800,
            maximum: 0xe8ff_ffff,
        };
        let given = assign(905, &only(vec![memory(low)])).unwrap();
        assert_eq!(given[0].what, Given::Memory(0xe800_1000, 0x2000));
        release(905);
    }

    #[test]
    fn an_alternative_is_tried_when_the_first_list_cannot_be_met() {
        let impossible = Range { maximum: 0, ..ANY };
        let lists = vec![vec![memory(ANY), memory(impossible)], vec![memory(ANY)]];
        let given = assign(
            904,
            &Requirements {
                lists,
                ..Requirements::default()
            },
        )
        .unwrap();
        assert_eq!(given.len(), 1);
        release(904);
        assert!(CLAIMS.lock().iter().all(|claim| claim.owner != 904));
    }
}
