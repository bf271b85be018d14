//! What NDIS asks the shipped xennet.sys: every object with every length, in its states, and what comes of what is set.
//! The lengths are read from Microsoft's documentation of each object a second time; the driver has its own reading.

#[path = "objects/blocks.rs"]
mod blocks;
#[path = "objects/effects.rs"]
mod effects;
#[path = "objects/lengths.rs"]
mod lengths;
#[allow(dead_code, reason = "other tests let the machine sleep")]
#[path = "support/life.rs"]
mod life;
mod support;

use std::path::Path;

use backends::block::BlockConfig;
use backends::net::{Netback, Nics, Offer};
use life::until;
use ndis_host::{Adapter, OidAnswer, OidRequest, State};
use rig::boot::{self, Machine, Plan};
use rig::image::Claim;
use rig::packages::Packages;
use rig::port_nic;
use support::{check, dist};
use xen_model::toolstack::{GuestSpec, VifSpec};

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

/// An adapter of interface 0 with such a backend.
fn adapter(machine: &Machine, offer: Offer) -> Result<(&'static Adapter, Nics), String> {
    let (driver, nics) = Netback::new();
    nics.offer(offer);
    machine.dom0().add_driver(Box::new(driver));
    machine.dom0().attach_vif(VifSpec::new(0));
    let running = || {
        let mut all = port_nic::all().into_iter();
        all.find(|adapter| adapter.state() == State::Running)
    };
    until("its adapter runs", || running().is_some())?;
    let adapter = running().ok_or("the adapter does not run")?;
    Ok((adapter, nics))
}

/// A backend that offers nothing that it need not.
fn plain() -> Offer {
    Offer {
        queues: 1,
        split: false,
        control: false,
        multicast: false,
        gso4: false,
        gso6: false,
        checksums4: false,
        checksums6: false,
    }
}

fn case(name: &str, image: &Path) -> Result<(), String> {
    let packages = Packages::read(&dist()).map_err(|error| error.to_string())?;
    let machine = boot::boot(Plan {
        cpus: 2,
        memory_mib: 128,
        packages: &packages,
        trace: None,
        seed: None,
        images: vec![Claim::new(image).map_err(|error| error.to_string())?],
        guest: GuestSpec::default(),
        configure: &|_: u32, _: &mut BlockConfig| {},
    })
    .map_err(|error| error.to_string())?;
    let whole = Offer::default();
    match name {
        "objects-lengths" => lengths::all(adapter(&machine, whole)?.0)?,
        "objects-plain" => lengths::all(adapter(&machine, plain())?.0)?,
        "objects-effects" => effects::all(adapter(&machine, whole)?.0)?,
        _ => return Err(format!("no case {name}")),
    }
    let findings = machine.shut_down();
    match findings.is_empty() {
        true => Ok(()),
        false => Err(findings.join("\n")),
    }
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
