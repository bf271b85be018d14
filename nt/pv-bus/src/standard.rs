//! BUS_INTERFACE_STANDARD of a child: the one of its bus's own device, handed on.

use crate::Running;
use alloc::sync::Arc;
use nt::interface::{BusInterface, InterfaceRequest};
use nt::{NtStatus, Result, try_arc};
use nt_sys::{
    BOOLEAN, BUS_INTERFACE_STANDARD, FALSE, GUID_BUS_INTERFACE_STANDARD, PCIBus, PHYSICAL_ADDRESS,
    PVOID,
};

/// Offset of `InterfaceType` in DEVICE_DESCRIPTION (wdm.h): two words, eight flags and two words lie before it.
const INTERFACE_TYPE: usize = 20;

/// The standard interface of the device that the bus is. Children's holders keep this alive, not the interface.
#[derive(Debug)]
pub struct ParentBus {
    below: Running<BusInterface>,
}

impl ParentBus {
    /// Hands `below` on. PASSIVE_LEVEL.
    pub fn new(below: BusInterface) -> Result<Arc<Self>> {
        let parent = try_arc(Self {
            below: Running::new(),
        })?;
        parent.below.start(below)?;
        Ok(parent)
    }

    /// The interface, until it was given back.
    pub fn below(&self) -> Option<&BusInterface> {
        self.below.get()
    }

    /// Gives the interface back. PASSIVE_LEVEL.
    ///
    /// # Safety
    /// The children, which could use it, have gone.
    pub unsafe fn close(&self) {
        // SAFETY: the caller's duty.
        drop(unsafe { self.below.stop() });
    }

    /// Answers a child's query, if it is one for the standard interface.
    pub fn answer(self: &Arc<Self>, request: &mut InterfaceRequest<'_>) -> Option<Result<()>> {
        if !request.is(&GUID_BUS_INTERFACE_STANDARD) {
            return None;
        }
        if request.version() != 1 {
            return Some(Err(NtStatus::NOT_SUPPORTED));
        }
        let table = BUS_INTERFACE_STANDARD {
            Size: u16::try_from(size_of::<BUS_INTERFACE_STANDARD>()).unwrap_or(u16::MAX),
            Version: 1,
            Context: Arc::as_ptr(self).cast_mut().cast(),
            InterfaceReference: Some(reference),
            InterfaceDereference: Some(dereference),
            TranslateBusAddress: Some(translate_bus_address),
            GetDmaAdapter: Some(get_dma_adapter),
            SetBusData: Some(set_bus_data),
            GetBusData: Some(get_bus_data),
        };
        Some(request.answer_bus(&table).map(|()| {
            // The answer carries a reference.
            // SAFETY: the context is a live one.
            unsafe { reference(table.Context) };
        }))
    }
}

/// The interface of the bus's own device, which answers for the child.
///
/// # Safety
/// As every function here: `context` is the one of the table, and the holder has a reference to it.
unsafe fn platform<'a>(context: PVOID) -> Option<&'a BUS_INTERFACE_STANDARD> {
    // SAFETY: the caller's duty.
    let parent = unsafe { &*context.cast::<ParentBus>() };
    parent.below.get().map(BusInterface::table)
}

unsafe extern "win64" fn reference(context: PVOID) {
    // SAFETY: the context came from an `Arc`.
    unsafe { Arc::increment_strong_count(context.cast_const().cast::<ParentBus>()) };
}

unsafe extern "win64" fn dereference(context: PVOID) {
    // SAFETY: the context came from an `Arc`, and this gives a counted reference back.
    unsafe { Arc::decrement_strong_count(context.cast_const().cast::<ParentBus>()) };
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
