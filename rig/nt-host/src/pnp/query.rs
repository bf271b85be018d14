//! PnP requests to a device stack, with their answers as owned Rust values.
//!
//! What a driver answers with is pool memory that the PnP manager frees; it is copied here once, and
//! checked as the PnP manager checks it (bug check 0xCA, PNP_DETECTED_FATAL_ERROR).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ptr::NonNull;

use nt_sys::{
    BusRelations, CM_RESOURCE_LIST, DEVICE_CAPABILITIES, DEVICE_OBJECT, DEVICE_RELATIONS,
    DO_DEVICE_INITIALIZING, IO_FILTER_RESOURCE_REQUIREMENTS, IO_RESOURCE_REQUIREMENTS_LIST,
    IO_STACK_LOCATION, IRP_MJ_PNP, IRP_MN_FILTER_RESOURCE_REQUIREMENTS,
    IRP_MN_QUERY_BUS_INFORMATION, IRP_MN_QUERY_CAPABILITIES, IRP_MN_QUERY_DEVICE_RELATIONS,
    IRP_MN_QUERY_DEVICE_TEXT, IRP_MN_QUERY_ID, IRP_MN_QUERY_PNP_DEVICE_STATE,
    IRP_MN_QUERY_RESOURCE_REQUIREMENTS, IRP_MN_START_DEVICE, NTSTATUS, STATUS_NOT_SUPPORTED,
    nt_success,
};

use super::resources::Requirements;
use crate::io::device;
use crate::io::request::{self, Outcome};
use crate::mm::pool;
use crate::ob;
use crate::verifier::Rule;

/// Longest device ID in characters with its terminator (cfgmgr32.h: MAX_DEVICE_ID_LEN).
const MAX_DEVICE_ID_LEN: usize = 200;
/// Longest list of hardware or compatible IDs in characters (regstr.h: REGSTR_VAL_MAX_HCID_LEN).
const MAX_LIST_LEN: usize = 1024;

/// A device of a stack that the PnP manager holds a reference of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pdo(usize);

impl Pdo {
    /// Wraps a device object.
    ///
    /// # Safety
    /// The object lives for as long as the result and its copies are used.
    pub unsafe fn new(device: *mut DEVICE_OBJECT) -> Self {
        Self(device as usize)
    }

    /// The device object.
    pub fn as_ptr(self) -> *mut DEVICE_OBJECT {
        self.0 as *mut DEVICE_OBJECT
    }

    /// Sends a PnP request to the top of the stack and waits.
    pub fn pnp(self, minor: u8, fill: impl FnOnce(&mut IO_STACK_LOCATION)) -> Outcome {
        // SAFETY: the device lives (`new`), and each caller in this file fills in what the minor function needs.
        unsafe { request::send(self.as_ptr(), IRP_MJ_PNP, minor, STATUS_NOT_SUPPORTED, fill) }
    }

    /// Sends a PnP request without parameters.
    pub fn tell(self, minor: u8) -> NTSTATUS {
        self.pnp(minor, |_| ()).status
    }

    /// An ID, or none if the bus has none.
    pub fn id(self, kind: i32) -> Option<String> {
        let outcome = self.pnp(IRP_MN_QUERY_ID, |location| {
            location.Parameters.QueryId.IdType = kind
        });
        let text = self.answer(outcome)?;
        let units = text.string();
        if units.len() >= MAX_DEVICE_ID_LEN || !units.iter().all(|&unit| legal(unit)) {
            self.fatal(format!(
                "ID {:?} is too long or has characters that IDs must not have",
                lossy(&units)
            ));
        }
        Some(id_text(&units))
    }

    /// A list of IDs.
    pub fn ids(self, kind: i32) -> Vec<String> {
        let outcome = self.pnp(IRP_MN_QUERY_ID, |location| {
            location.Parameters.QueryId.IdType = kind
        });
        let Some(list) = self.answer(outcome) else {
            return Vec::new();
        };
        let strings = list.strings();
        let sound = |units: &Vec<u16>| {
            units.len() < MAX_DEVICE_ID_LEN && units.iter().all(|&unit| legal(unit))
        };
        let whole: usize = strings
            .iter()
            .map(|units| units.len().saturating_add(1))
            .sum();
        if whole > MAX_LIST_LEN || !strings.iter().all(sound) {
            self.fatal(format!(
                "list of IDs {:?} is too long or has characters that IDs must not have",
                strings.len()
            ));
        }
        strings.iter().map(|units| id_text(units)).collect()
    }

    /// A text for people.
    pub fn text(self, kind: i32) -> Option<String> {
        /// winnt.h: LANG_ENGLISH, SUBLANG_ENGLISH_US.
        const ENGLISH: u32 = 0x0409;
        let outcome = self.pnp(IRP_MN_QUERY_DEVICE_TEXT, |location| {
            location.Parameters.QueryDeviceText = nt_sys::IO_QUERY_DEVICE_TEXT {
                DeviceTextType: kind,
                _Pad0: 0,
                LocaleId: ENGLISH,
            };
        });
        self.answer(outcome).map(|text| lossy(&text.string()))
    }

    /// What the device can do, or the defaults of a bus that does not say.
    pub fn capabilities(self) -> DEVICE_CAPABILITIES {
        let mut capabilities = default_capabilities();
        let pointer = &raw mut capabilities;
        let outcome = self.pnp(IRP_MN_QUERY_CAPABILITIES, |location| {
            location.Parameters.DeviceCapabilities.Capabilities = pointer;
        });
        if nt_success(outcome.status) {
            capabilities
        } else {
            default_capabilities()
        }
    }

    /// The device's state flags (PNP_DEVICE_*).
    pub fn device_state(self) -> u32 {
        let outcome = self.pnp(IRP_MN_QUERY_PNP_DEVICE_STATE, |_| ());
        if nt_success(outcome.status) {
            outcome.information as u32
        } else {
            0
        }
    }

    /// Asks for bus information, as the PnP manager does of every new device; the answer is only freed.
    pub fn bus_information(self) {
        let outcome = self.pnp(IRP_MN_QUERY_BUS_INFORMATION, |_| ());
        drop(self.answer(outcome));
    }

    /// The children that the stack reports, each referenced.
    pub fn children(self) -> Result<Vec<Pdo>, NTSTATUS> {
        let outcome = self.pnp(IRP_MN_QUERY_DEVICE_RELATIONS, |location| {
            location.Parameters.QueryDeviceRelations.Type = BusRelations;
        });
        if !nt_success(outcome.status) {
            return if outcome.status == STATUS_NOT_SUPPORTED {
                Ok(Vec::new())
            } else {
                Err(outcome.status)
            };
        }
        let Some(relations) = self.answer(outcome) else {
            return Ok(Vec::new());
        };
        let list = relations.0.cast::<DEVICE_RELATIONS>();
        // SAFETY: the answer to this request is such a list.
        let count = unsafe { (*list.as_ptr()).Count } as usize;
        // SAFETY: as above; only an address is computed.
        let objects = unsafe { &raw const (*list.as_ptr()).Objects }.cast::<*mut DEVICE_OBJECT>();
        let mut children = Vec::new();
        for index in 0..count {
            // SAFETY: the list has `count` objects.
            let object = unsafe { *objects.wrapping_add(index) };
            if !device::is_device(object) {
                self.fatal(format!(
                    "bus relations: entry {index} of {count} is no device object"
                ));
            }
            // SAFETY: the object is a device, and the list's reference goes to the caller.
            let child = unsafe { Pdo::new(object) };
            if children.contains(&child) {
                self.fatal(format!(
                    "bus relations name {} twice",
                    device::describe(object)
                ));
            }
            // SAFETY: as above.
            if unsafe { (*object).Flags } & DO_DEVICE_INITIALIZING != 0 {
                self.fatal(format!(
                    "bus relations: {} still has DO_DEVICE_INITIALIZING",
                    device::describe(object)
                ));
            }
            children.push(child);
        }
        Ok(children)
    }

    /// The resources the device could take, after every driver of the stack has filtered them.
    pub fn requirements(self, filter: bool) -> Requirements {
        let outcome = self.pnp(IRP_MN_QUERY_RESOURCE_REQUIREMENTS, |_| ());
        let mut list = match self.answer(outcome) {
            Some(list) => Some(list),
            None if filter => None,
            None => return Requirements::default(),
        };
        if filter {
            let pointer = list
                .as_ref()
                .map_or(core::ptr::null_mut(), |list| list.0.as_ptr().cast());
            let outcome = self.filter(pointer);
            if nt_success(outcome.status) && outcome.information != pointer as usize {
                // Whoever replaced the list has freed it.
                core::mem::forget(list.take());
                list = self.answer(outcome);
            }
        }
        let Some(list) = list else {
            return Requirements::default();
        };
        // SAFETY: the answer to this request is such a list.
        unsafe { Requirements::read(list.0.cast::<IO_RESOURCE_REQUIREMENTS_LIST>().as_ptr()) }
    }

    fn filter(self, list: *mut IO_RESOURCE_REQUIREMENTS_LIST) -> Outcome {
        // SAFETY: the device lives (`new`).
        let top = unsafe { device::attached_reference(self.as_ptr()) };
        let fill = |location: &mut IO_STACK_LOCATION| {
            location.Parameters.FilterResourceRequirements = IO_FILTER_RESOURCE_REQUIREMENTS {
                IoResourceRequirementList: list,
            };
        };
        let minor = IRP_MN_FILTER_RESOURCE_REQUIREMENTS;
        // SAFETY: the location is filled in for this request; the list stays alive during it.
        let outcome = unsafe {
            request::send_to(
                top,
                IRP_MJ_PNP,
                minor,
                STATUS_NOT_SUPPORTED,
                list as usize,
                fill,
            )
        };
        // SAFETY: drops the reference just taken.
        unsafe { ob::give_up(top.cast()) };
        outcome
    }

    /// Starts the device with its resources, which stay valid during the request.
    pub fn start(self, raw: *mut CM_RESOURCE_LIST, translated: *mut CM_RESOURCE_LIST) -> NTSTATUS {
        let outcome = self.pnp(IRP_MN_START_DEVICE, |location| {
            location.Parameters.StartDevice = nt_sys::IO_START_DEVICE {
                AllocatedResources: raw,
                AllocatedResourcesTranslated: translated,
            };
        });
        outcome.status
    }

    /// Whether the bus driver has deleted the object.
    pub fn is_deleted(self) -> bool {
        // SAFETY: the device lives (`new`), deleted or not.
        unsafe { device::is_deleted(self.as_ptr()) }
    }

    /// Gives back the reference.
    pub fn release(self) {
        // SAFETY: each PDO of the PnP manager carries one reference, given back here.
        unsafe { ob::give_up(self.as_ptr().cast()) };
    }

    fn answer(self, outcome: Outcome) -> Option<Answer> {
        if !nt_success(outcome.status) {
            return None;
        }
        NonNull::new(outcome.information as *mut u8).map(Answer)
    }

    fn fatal(self, what: String) -> ! {
        let device = self.as_ptr();
        Rule::PnpFatal.bug_check(
            [1, device as u64, 0, 0],
            format_args!("{}: {what}", device::describe(device)),
        )
    }
}

/// Pool memory that a driver answered with; freed when dropped.
struct Answer(NonNull<u8>);

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: drivers answer PnP queries with pool memory, which the PnP manager frees.
        unsafe { pool::free(self.0) };
    }
}

impl Answer {
    fn units(&self) -> impl Iterator<Item = u16> + '_ {
        let start = self.0.cast::<u16>();
        // SAFETY: the caller stops at the terminator, up to which the string's memory is valid.
        (0..).map(move |index| unsafe { start.as_ptr().wrapping_add(index).read_unaligned() })
    }

    fn string(&self) -> Vec<u16> {
        self.units().take_while(|&unit| unit != 0).collect()
    }

    fn strings(&self) -> Vec<Vec<u16>> {
        let mut strings = Vec::new();
        let mut current = Vec::new();
        for unit in self.units() {
            match (unit, current.is_empty()) {
                (0, true) => break,
                (0, false) => strings.push(core::mem::take(&mut current)),
                _ => current.push(unit),
            }
        }
        strings
    }
}

/// Characters that an ID may have (Microsoft Learn, "IRP_MN_QUERY_ID"); blanks become underscores.
fn legal(unit: u16) -> bool {
    (0x20..=0x7f).contains(&unit) && unit != u16::from(b',')
}

fn id_text(units: &[u16]) -> String {
    lossy(units).replace(' ', "_")
}

fn lossy(units: &[u16]) -> String {
    String::from_utf16_lossy(units)
}

fn default_capabilities() -> DEVICE_CAPABILITIES {
    DEVICE_CAPABILITIES {
        Size: size_of::<DEVICE_CAPABILITIES>() as u16,
        Version: 1,
        Bits: 0,
        Address: u32::MAX,
        UINumber: u32::MAX,
        DeviceState: [0; nt_sys::PowerSystemMaximum],
        SystemWake: 0,
        DeviceWake: 0,
        D1Latency: 0,
        D2Latency: 0,
        D3Latency: 0,
    }
}
