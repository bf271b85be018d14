//! Which driver-to-driver interfaces were asked for and given, for people to see.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use nt_sys::{
    GUID, IO_QUERY_INTERFACE, IO_STACK_LOCATION, IRP_MJ_PNP, IRP_MN_QUERY_INTERFACE, NTSTATUS,
    nt_success,
};

use super::node::{self, State};
use super::query::Pdo;
use crate::io::{device, driver};
use crate::sync::Mutex;

/// An interface that a driver gave to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Service of the driver that gave it.
    pub provider: String,
    /// Instance path of the device it was asked of.
    pub instance: String,
    /// What it is.
    pub guid: GUID,
    /// Its version.
    pub version: u16,
}

static GIVEN: Mutex<Vec<Interface>> = Mutex::new(Vec::new());

/// Every interface given so far, in order, each once.
pub fn interfaces() -> Vec<Interface> {
    GIVEN.lock().clone()
}

/// Room for a table: the largest that is known has some 20 slots of 8 bytes behind a header of 32.
const TABLE: usize = 1024;

/// Asks every started device for each of these interfaces, as a driver on top of it would, and lets go of them. The
/// answers are in [`interfaces`] when `done` is called, on the manager's thread.
pub fn probe(wanted: Vec<(GUID, u16)>, done: impl FnOnce() + Send + 'static) {
    super::post(super::Event::Call(Box::new(move || {
        let ids = node::root().map(node::subtree).unwrap_or_default();
        let started = ids
            .into_iter()
            .filter_map(node::get)
            .filter(|node| node.state == State::Started);
        for node in started {
            for (guid, version) in &wanted {
                ask(node.pdo, *guid, *version);
            }
        }
        done();
    })));
}

/// A PV interface that was not acquired needs no release.
fn ask(pdo: Pdo, mut guid: GUID, version: u16) {
    let mut table = [0u64; TABLE / 8];
    pdo.pnp(IRP_MN_QUERY_INTERFACE, |location| {
        location.Parameters.QueryInterface = IO_QUERY_INTERFACE {
            InterfaceType: &raw mut guid,
            Size: TABLE as u16,
            Version: version,
            Interface: table.as_mut_ptr().cast(),
            InterfaceSpecificData: core::ptr::null_mut(),
        };
    });
}

/// Notes a request that its driver completes, if it is one for an interface.
pub(crate) fn note(location: &IO_STACK_LOCATION, status: NTSTATUS) {
    let function = (location.MajorFunction, location.MinorFunction);
    if function != (IRP_MJ_PNP, IRP_MN_QUERY_INTERFACE) || !nt_success(status) {
        return;
    }
    // SAFETY: the minor function says that this member of the union is filled in.
    let query = unsafe { location.Parameters.QueryInterface };
    // SAFETY: the requester's GUID, valid during the request.
    let guid = unsafe { *query.InterfaceType };
    // SAFETY: the device that the request is at.
    let bottom = unsafe { device::bottom(location.DeviceObject) };
    let node = node::by_pdo(bottom).and_then(node::get);
    let given = Interface {
        provider: driver::name(device::driver_of(location.DeviceObject)),
        instance: node.map(|node| node.instance).unwrap_or_default(),
        guid,
        version: query.Version,
    };
    let mut all = GIVEN.lock();
    if !all.contains(&given) {
        all.push(given);
    }
}
