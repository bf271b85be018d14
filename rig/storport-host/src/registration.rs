//! StorPortInitialize: a miniport hands its driver object over to the port driver.

use alloc::vec::Vec;

use nt_host::Export;
use nt_host::exports;
use nt_host::sync::Mutex;
use nt_sys::storport::HW_INITIALIZATION_DATA;
use nt_sys::{
    DRIVER_OBJECT, IRP_MJ_MAXIMUM_FUNCTION, NTSTATUS, PVOID, STATUS_INVALID_PARAMETER,
    STATUS_REVISION_MISMATCH, STATUS_SUCCESS,
};

use crate::{class, dispatch, extended, notification, queue};

struct Miniport {
    driver: usize,
    hw: HW_INITIALIZATION_DATA,
}

// SAFETY: the routines and strings are the driver's own and live as long as it.
unsafe impl Send for Miniport {}

static MINIPORTS: Mutex<Vec<Miniport>> = Mutex::new(Vec::new());

/// What a driver registered.
pub fn find(driver: *mut DRIVER_OBJECT) -> Option<HW_INITIALIZATION_DATA> {
    let miniports = MINIPORTS.lock();
    miniports
        .iter()
        .find(|miniport| miniport.driver == driver as usize)
        .map(|miniport| miniport.hw)
}

/// Forgets a driver that is unloaded.
pub fn forget(driver: *mut DRIVER_OBJECT) {
    MINIPORTS
        .lock()
        .retain(|miniport| miniport.driver != driver as usize);
}

/// Microsoft Learn: StorPortInitialize.
///
/// # Safety
/// `driver` is the caller's driver object, `data` valid as documented.
pub unsafe extern "win64" fn StorPortInitialize(
    driver: *mut DRIVER_OBJECT,
    _registry_path: PVOID,
    data: *const HW_INITIALIZATION_DATA,
    _context: PVOID,
) -> NTSTATUS {
    // SAFETY: the caller's promise.
    let length = unsafe { (*data).HwInitializationDataSize } as usize;
    if length < size_of::<HW_INITIALIZATION_DATA>() {
        return STATUS_REVISION_MISMATCH;
    }
    // SAFETY: the caller's promise; the structure is at least that long.
    let hw = unsafe { *data };
    if hw.HwInitialize.is_none()
        || hw.HwStartIo.is_none()
        || hw.HwFindAdapter.is_none()
        || hw.HwResetBus.is_none()
    {
        return STATUS_INVALID_PARAMETER;
    }
    class::register();
    MINIPORTS.lock().push(Miniport {
        driver: driver as usize,
        hw,
    });
    // SAFETY: the caller's promise.
    let fields = unsafe { &mut *driver };
    fields.MajorFunction = [Some(dispatch::dispatch); IRP_MJ_MAXIMUM_FUNCTION + 1];
    fields.DriverUnload = Some(dispatch::unload);
    // SAFETY: a driver object's extension lives as long as it.
    unsafe { (*fields.DriverExtension).AddDevice = Some(dispatch::add_device) };
    STATUS_SUCCESS
}

/// What storport.sys exports, for the executive's table.
pub fn exports() -> [&'static [Export]; 4] {
    [
        EXPORTS,
        notification::EXPORTS,
        extended::EXPORTS,
        queue::EXPORTS,
    ]
}

exports!("storport.sys": StorPortInitialize);

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    #[test]
    fn every_exported_function_has_an_irql_range() {
        let missing: Vec<_> = super::exports()
            .into_iter()
            .flatten()
            .filter(|export| nt_host::verifier::irql::of(export.name).is_none())
            .map(|export| export.name)
            .collect();
        assert!(
            missing.is_empty(),
            "nt-host/src/verifier/irql.rs lacks {missing:?}"
        );
    }
}
