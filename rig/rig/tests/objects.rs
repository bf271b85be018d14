//! What NDIS asks the shipped xennet.sys: every object with every length, in its states, and what comes of what is set.
//! The lengths are read from Microsoft's documentation of each object a second time; the driver has its own reading.

#[path = "support/adapter.rs"]
mod adapter;
#[path = "objects/blocks.rs"]
mod blocks;
#[path = "objects/effects.rs"]
mod effects;
#[path = "support/guest.rs"]
mod guest;
#[path = "support/inf.rs"]
mod inf;
#[path = "objects/keywords.rs"]
mod keywords;
#[path = "objects/lengths.rs"]
mod lengths;
#[allow(dead_code, reason = "other tests let the machine sleep")]
#[path = "support/life.rs"]
mod life;
#[path = "support/nics.rs"]
mod nics;
mod support;

use std::path::Path;

use adapter::running;
use backends::net::Offer;
use guest::{boot, packages, shut_down};
use ndis_host::{Adapter, OidAnswer, OidRequest};
use nics::serve;
use rig::port_nic;
use support::check;
use xen_model::toolstack::VifSpec;

/// `NDIS_STATUS_*` (ndis.h).
const SUCCESS: i32 = 0;
const NOT_SUPPORTED: i32 = 0xC000_00BB_u32 as i32;
const INVALID_PARAMETER: i32 = 0xC000_000D_u32 as i32;
const INVALID_LENGTH: i32 = 0xC001_0014_u32 as i32;
const INVALID_DATA: i32 = 0xC001_0015_u32 as i32;
const BUFFER_TOO_SHORT: i32 = 0xC001_0016_u32 as i32;
const MULTICAST_FULL: i32 = 0xC001_0009_u32 as i32;

fn ask(adapter: &'static Adapter, oid: u32, room: usize) -> OidAnswer {
    port_nic::request(adapter, OidRequest::query(oid, room))
}

fn tell(adapter: &'static Adapter, oid: u32, bytes: &[u8]) -> OidAnswer {
    port_nic::request(adapter, OidRequest::set(oid, bytes))
}

/// An error unless a request was answered so.
fn expect(what: &str, answer: &OidAnswer, status: i32, needed: usize) -> Result<(), String> {
    if answer.status == status && answer.needed as usize == needed {
        return Ok(());
    }
    Err(format!(
        "{what}: {:#010x}, {} bytes needed, and not {status:#010x}, {needed}",
        answer.status, answer.needed
    ))
}

fn case(name: &str, image: &Path) -> Result<(), String> {
    let mut packages = packages()?;
    if name == "objects-keywords" {
        keywords::turn_off(&mut packages)?;
    }
    let machine = boot(&packages, image)?;
    let nics = serve(&machine);
    if name == "objects-plain" {
        nics.offer(Offer::bare());
    }
    machine.dom0().attach_vif(VifSpec::new(0));
    let adapter = running(0)?;
    match name {
        "objects-lengths" | "objects-plain" => lengths::all(adapter)?,
        "objects-effects" => effects::all(adapter)?,
        "objects-keywords" => keywords::are_off(adapter)?,
        "objects-migration" => effects::migrated(&machine, adapter, &nics)?,
        _ => return Err(format!("no case {name}")),
    }
    shut_down(machine)
}

/// Not a test of its own: what each test runs in a process.
#[test]
#[ignore = "run by the other tests"]
fn child() {
    support::child(case);
}

#[test]
fn every_object_takes_its_lengths_and_names_them_otherwise() {
    check("objects-lengths");
}

#[test]
fn with_a_backend_that_offers_nothing_too() {
    check("objects-plain");
}

#[test]
fn what_is_set_comes_true() {
    check("objects-effects");
}

#[test]
fn what_is_turned_off_is_off_and_can_be_turned_on() {
    check("objects-keywords");
}

#[test]
fn another_backend_takes_away_and_gives_back() {
    check("objects-migration");
}
