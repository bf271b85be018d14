//! Queries for interfaces: the bus's own, the standard one of a PCI device, and what the drivers below the bus have.

use super::Child;
use crate::fdo::Fdo;
use alloc::sync::Arc;
use nt::interface::{BusInterface, InterfaceRequest, guid};
use nt::{Irp, NtStatus, Result};
use nt_sys::{
    BOOLEAN, BUS_INTERFACE_STANDARD, FALSE, GUID_BUS_INTERFACE_STANDARD, PCIBus, PHYSICAL_ADDRESS,
    PVOID,
};
use pv_interfaces::emulated;

/// Offset of `InterfaceType` in DEVICE_DESCRIPTION (wdm.h): two words, eight flags and two words lie before it.
const INTERFACE_TYPE: usize = 20;

impl Child {
    /// IRP_MN_QUERY_INTERFACE.
    pub(super) fn query_interface(&self, mut irp: Irp) -> NtStatus {
        // A filter above may have answered.
        if irp.status() != NtStatus::NOT_SUPPORTED {
            return irp.complete_unchanged();
        }
        let outcome = irp
            .interface_request()
            .and_then(|mut request| self.answer(&mut request));
        match outcome {
            None => irp.complete_unchanged(),
            Some(outcome) => irp.complete_with(outcome.into(), 0),
        }
    }

    fn answer(&self, request: &mut InterfaceRequest<'_>) -> Option<Result<()>> {
        if request.is(&GUID_BUS_INTERFACE_STANDARD) {
            return (request.version() == 1).then(|| self.answer_bus(request));
        }
        if request.is(&guid(emulated::GUID)) {
            return Some(request.forward(&self.fdo.physical).ok());
        }
        self.fdo.bus()?.answer(request)
    }

    fn answer_bus(&self, request: &mut InterfaceRequest<'_>) -> Result<()> {
        let table = BUS_INTERFACE_STANDARD {
            Size: u16::try_from(size_of::<BUS_INTERFACE_STANDARD>()).unwrap_or(u16::MAX),
            Version: 1,
            Context: Arc::as_ptr(&self.fdo).cast_mut().cast(),
            InterfaceReference: Some(reference),
            InterfaceDereference: Some(dereference),
            TranslateBusAddress: Some(translate_bus_address),
            GetDmaAdapter: Some(get_dma_adapter),
            SetBusData: Some(set_bus_data),
            GetBusData: Some(get_bus_data),
        };
        request.answer_bus(&table)?;
        // The answer carries a reference.
        // SAFETY: the context is the platform device's.
        unsafe { reference(table.Context) };
        Ok(())
    }
}

/// The interface of the platform device's own bus, which answers for the child.
///
/// # Safety
/// As every function here: `context` is the one of the table, and the holder has a reference to it.
unsafe fn platform<'a>(context: PVOID) -> Option<&'a BUS_INTERFACE_STANDARD> {
    // SAFETY: the caller's duty.
    let fdo = unsafe { &*context.cast::<Fdo>() };
    fdo.pci.get().map(BusInterface::table)
}

unsafe extern "win64" fn reference(context: PVOID) {
    // SAFETY: the context came from an `Arc`.
    unsafe { Arc::increment_strong_count(context.cast_const().cast::<Fdo>()) };
}

unsafe extern "win64" fn dereference(context: PVOID) {
    // SAFETY: the context came from an `Arc`, and this gives a counted reference back.
    unsafe { Arc::decrement_strong_count(context.cast_const().cast::<Fdo>()) };
}

unsafe extern "win64" fn translate_bus_address(
    context: PVOID,
    address: PHYSICAL_ADDRESS,
    length: u32,
    space: *mut u32,
    translated: *mut PHYSICAL_ADDRESS,
) -> BOOLEAN {
    // SAFETY: see `platform`.
    let Some(table) = (unsafe { platform(context) }) else {
        return FALSE;
    };
    let Some(function) = table.TranslateBusAddress else {
        return FALSE;
    };
    // SAFETY: the table's own context; the caller's pointers.
    unsafe { function(table.Context, address, length, space, translated) }
}

unsafe extern "win64" fn get_dma_adapter(
    context: PVOID,
    description: PVOID,
    map_registers: *mut u32,
) -> PVOID {
    // SAFETY: see `platform`.
    let Some(table) = (unsafe { platform(context) }) else {
        return core::ptr::null_mut();
    };
    let Some(function) = table.GetDmaAdapter else {
        return core::ptr::null_mut();
    };
    if !description.is_null() {
        // The adapter is a PCI device's, whatever bus the child says it is on.
        let kind = description
            .cast::<u8>()
            .wrapping_add(INTERFACE_TYPE)
            .cast::<i32>();
        // SAFETY: the caller's DEVICE_DESCRIPTION, which it made for this call.
        unsafe { kind.write_unaligned(PCIBus) };
    }
    // SAFETY: the table's own context; the caller's pointers.
    unsafe { function(table.Context, description, map_registers) }
}

unsafe extern "win64" fn set_bus_data(
    context: PVOID,
    space: u32,
    buffer: PVOID,
    offset: u32,
    length: u32,
) -> u32 {
    // SAFETY: see `platform`.
    let Some(table) = (unsafe { platform(context) }) else {
        return 0;
    };
    let Some(function) = table.SetBusData else {
        return 0;
    };
    // SAFETY: the table's own context; the caller's buffer.
    unsafe { function(table.Context, space, buffer, offset, length) }
}

unsafe extern "win64" fn get_bus_data(
    context: PVOID,
    space: u32,
    buffer: PVOID,
    offset: u32,
    length: u32,
) -> u32 {
    // SAFETY: see `platform`.
    let Some(table) = (unsafe { platform(context) }) else {
        return 0;
    };
    let Some(function) = table.GetBusData else {
        return 0;
    };
    // SAFETY: the table's own context; the caller's buffer.
    unsafe { function(table.Context, space, buffer, offset, length) }
}
