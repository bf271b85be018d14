//! Plug and Play and power: what comes to the two ends of a device, and in which order.

use core::ptr::null_mut;
use core::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use crate::child::{self, Child, End, pnp_at, pnp_count, power_count};
use crate::device;
use crate::suite::{Finding, Outcome, at_irql, failed};
use crate::support::*;
use crate::wdk::*;

/// The place of a request that must have come.
fn at(end: End, minor: u8, what: &str) -> Result<usize, Finding> {
    pnp_at(end, minor).ok_or_else(|| failed(format_args!("{what} did not come")))
}

/// Checks that each place comes after the one before.
fn in_order(places: &[usize]) -> Outcome {
    check!(
        places.is_sorted(),
        "the requests came in the order {places:?}"
    );
    Ok(())
}

/// Learn, "Adding a PnP Device to a Running System": IDs, capabilities, AddDevice, requirements, START, state, children.
fn a_new_device_is_asked_added_and_started() -> Outcome {
    child::forget();
    let child = Child::plug(0, 0)?;
    let added =
        child::add_device_at().ok_or_else(|| failed(format_args!("AddDevice was not called")))?;
    in_order(&[
        at(End::Bus, IRP_MN_QUERY_ID, "QUERY_ID")?,
        at(End::Bus, IRP_MN_QUERY_CAPABILITIES, "QUERY_CAPABILITIES")?,
        added,
        at(
            End::Function,
            IRP_MN_FILTER_RESOURCE_REQUIREMENTS,
            "FILTER_RESOURCE_REQUIREMENTS",
        )?,
        at(End::Function, IRP_MN_START_DEVICE, "START_DEVICE")?,
        at(End::Bus, IRP_MN_START_DEVICE, "START_DEVICE at the bus")?,
        at(
            End::Function,
            IRP_MN_QUERY_PNP_DEVICE_STATE,
            "QUERY_PNP_DEVICE_STATE",
        )?,
        at(
            End::Function,
            IRP_MN_QUERY_DEVICE_RELATIONS,
            "QUERY_DEVICE_RELATIONS",
        )?,
    ])?;
    at(
        End::Bus,
        IRP_MN_QUERY_RESOURCE_REQUIREMENTS,
        "QUERY_RESOURCE_REQUIREMENTS",
    )?;
    equal!(
        pnp_count(End::Function, 0, IRP_MN_START_DEVICE),
        1,
        "START_DEVICE requests"
    );
    child.unplug()
}

/// Learn, "Handling PnP IRPs": they come at PASSIVE_LEVEL, with STATUS_NOT_SUPPORTED.
fn requests_come_at_passive_level_as_not_supported() -> Outcome {
    child::forget();
    let child = Child::plug(0, 0)?;
    child.unplug()?;
    equal!(read(&child::WRONG_IRQL), 0, "requests above PASSIVE_LEVEL");
    equal!(
        read(&child::WRONG_STATUS),
        0,
        "requests with another status"
    );
    Ok(())
}

/// A descriptor of the lists of the last START: type, start, length.
fn descriptor(list: usize, index: usize) -> (u8, u64, u32) {
    let words = &child::RESOURCES[list][5 + 5 * index..];
    let start = u64::from(read(&words[1])) | u64::from(read(&words[2])) << 32;
    (read(&words[0]) as u8, start, read(&words[3]))
}

fn one_range(length: u32) -> Outcome {
    for list in 0..2 {
        let head = &child::RESOURCES[list];
        equal!(read(&head[0]), 1, "full descriptors of list {list}");
        equal!(
            read(&head[3]),
            0x1_0001,
            "version and revision of list {list}"
        );
        equal!(read(&head[4]), 1, "partial descriptors of list {list}");
        let (kind, start, size) = descriptor(list, 0);
        equal!(
            (kind, size),
            (CmResourceTypeMemory, length),
            "type and length of the range of list {list}"
        );
        check!(
            (0xE800_0000..=0xE8FF_FFFF - u64::from(length) + 1).contains(&start)
                && start % 0x1000 == 0,
            "the range of list {list} starts at {start:#x}"
        );
    }
    Ok(())
}

/// Learn, IRP_MN_START_DEVICE: raw and translated lists that meet the bus driver's requirements.
fn a_device_is_started_with_what_it_requires() -> Outcome {
    child::forget();
    let child = Child::plug(0, 0)?;
    one_range(0x2000)?;
    child.unplug()
}

/// Learn, IRP_MN_FILTER_RESOURCE_REQUIREMENTS: the list that the function driver returns counts.
fn a_function_driver_changes_the_requirements() -> Outcome {
    child::forget();
    let child = Child::plug(0, child::FILTER)?;
    one_range(0x3000)?;
    child.unplug()
}

/// Learn, "Handling an IRP_MN_START_DEVICE request": a device that fails to start gets REMOVE, and no question before.
fn a_device_that_fails_to_start_is_removed() -> Outcome {
    child::forget();
    let child = Child::plug(0, child::FAIL_START)?;
    in_order(&[
        at(End::Function, IRP_MN_START_DEVICE, "START_DEVICE")?,
        at(End::Function, IRP_MN_REMOVE_DEVICE, "REMOVE_DEVICE")?,
    ])?;
    equal!(
        pnp_count(End::Function, 0, IRP_MN_QUERY_REMOVE_DEVICE),
        0,
        "QUERY_REMOVE_DEVICE requests"
    );
    child.unplug()
}

/// Learn, IRP_MN_SURPRISE_REMOVAL: a started device that left the bus is told so, then removed without a question.
fn a_device_that_left_is_removed_by_surprise() -> Outcome {
    child::forget();
    let child = Child::plug(0, 0)?;
    child::forget();
    child.unplug()?;
    in_order(&[
        at(End::Function, IRP_MN_SURPRISE_REMOVAL, "SURPRISE_REMOVAL")?,
        at(
            End::Bus,
            IRP_MN_SURPRISE_REMOVAL,
            "SURPRISE_REMOVAL at the bus",
        )?,
        at(End::Function, IRP_MN_REMOVE_DEVICE, "REMOVE_DEVICE")?,
        at(End::Bus, IRP_MN_REMOVE_DEVICE, "REMOVE_DEVICE at the bus")?,
    ])?;
    equal!(
        pnp_count(End::Function, 0, IRP_MN_QUERY_REMOVE_DEVICE),
        0,
        "QUERY_REMOVE_DEVICE requests"
    );
    Ok(())
}

/// Learn, IRP_MN_CANCEL_REMOVE_DEVICE: a driver that refuses keeps its device, and everyone learns of it.
fn a_refused_removal_is_cancelled() -> Outcome {
    child::forget();
    let child = Child::plug(0, child::REFUSE_REMOVE)?;
    child::forget();
    IoRequestDeviceEject(child.pdo());
    until(
        || pnp_at(End::Function, IRP_MN_CANCEL_REMOVE_DEVICE).is_some(),
        "CANCEL_REMOVE_DEVICE",
    )?;
    in_order(&[
        at(
            End::Function,
            IRP_MN_QUERY_REMOVE_DEVICE,
            "QUERY_REMOVE_DEVICE",
        )?,
        at(
            End::Function,
            IRP_MN_CANCEL_REMOVE_DEVICE,
            "CANCEL_REMOVE_DEVICE",
        )?,
    ])?;
    sleep(10);
    equal!(
        pnp_count(End::Function, 0, IRP_MN_REMOVE_DEVICE),
        0,
        "REMOVE_DEVICE requests"
    );
    equal!(pnp_count(End::Bus, 0, IRP_MN_EJECT), 0, "EJECT requests");
    child.set_plan(0);
    child.unplug()
}

/// Learn, IoRequestDeviceEject, IRP_MN_EJECT: asked, removed, ejected by the bus driver.
fn an_ejected_device_is_asked_and_removed_before() -> Outcome {
    child::forget();
    let child = Child::plug(0, 0)?;
    child::forget();
    IoRequestDeviceEject(child.pdo());
    child.wait_gone()?;
    in_order(&[
        at(
            End::Function,
            IRP_MN_QUERY_REMOVE_DEVICE,
            "QUERY_REMOVE_DEVICE",
        )?,
        at(
            End::Bus,
            IRP_MN_QUERY_REMOVE_DEVICE,
            "QUERY_REMOVE_DEVICE at the bus",
        )?,
        at(End::Function, IRP_MN_REMOVE_DEVICE, "REMOVE_DEVICE")?,
        at(End::Bus, IRP_MN_EJECT, "EJECT")?,
    ])?;
    equal!(
        pnp_count(End::Function, 0, IRP_MN_SURPRISE_REMOVAL),
        0,
        "SURPRISE_REMOVAL requests"
    );
    Ok(())
}

/// Learn, IoInvalidateDeviceState: QUERY_PNP_DEVICE_STATE again; PNP_DEVICE_FAILED ends in a surprise removal.
fn a_device_that_reports_its_failure_is_removed() -> Outcome {
    child::forget();
    let child = Child::plug(0, 0)?;
    child::forget();
    IoInvalidateDeviceState(child.pdo());
    until(
        || pnp_at(End::Function, IRP_MN_QUERY_PNP_DEVICE_STATE).is_some(),
        "QUERY_PNP_DEVICE_STATE",
    )?;
    sleep(5);
    equal!(
        pnp_count(End::Function, 0, IRP_MN_REMOVE_DEVICE),
        0,
        "REMOVE_DEVICE requests of a device that works"
    );
    child.set_plan(child::REPORT_FAILURE);
    IoInvalidateDeviceState(child.pdo());
    until(
        || pnp_at(End::Bus, IRP_MN_REMOVE_DEVICE).is_some(),
        "REMOVE_DEVICE",
    )?;
    in_order(&[
        at(End::Function, IRP_MN_SURPRISE_REMOVAL, "SURPRISE_REMOVAL")?,
        at(End::Function, IRP_MN_REMOVE_DEVICE, "REMOVE_DEVICE")?,
    ])?;
    child.unplug()
}

/// Learn, IRP_MN_QUERY_DEVICE_RELATIONS: a device that is reported again is the same device.
fn a_device_that_is_reported_again_is_not_started_again() -> Outcome {
    child::forget();
    let child = Child::plug(0, 0)?;
    child::forget();
    child::changed();
    let other = Child::plug(1, 0)?;
    let (starts, removals) = (
        pnp_count(End::Function, 0, IRP_MN_START_DEVICE),
        pnp_count(End::Function, 0, IRP_MN_REMOVE_DEVICE),
    );
    let second = pnp_count(End::Function, 1, IRP_MN_START_DEVICE);
    other.unplug()?;
    let later = pnp_count(End::Function, 0, IRP_MN_REMOVE_DEVICE);
    child.unplug()?;
    equal!(
        (starts, removals),
        (0, 0),
        "START and REMOVE requests of the first child"
    );
    equal!(second, 1, "START_DEVICE requests of the second child");
    equal!(
        later,
        0,
        "REMOVE_DEVICE requests of the first child when the second left"
    );
    Ok(())
}

/// Learn, IoGetDeviceProperty: DevicePropertyAddress is the bus driver's, DevicePropertyBusNumber its list's.
fn a_child_has_the_properties_of_its_bus() -> Outcome {
    const ADDRESS: i32 = 16;
    const DRIVER_KEY: i32 = 7;
    child::forget();
    let child = Child::plug(0, 0)?;
    let (mut address, mut needed) = (0u32, 0);
    let status = IoGetDeviceProperty(
        child.pdo(),
        ADDRESS,
        4,
        (&raw mut address).cast(),
        &raw mut needed,
    );
    let mut key = [0u16; 64];
    let keyed = IoGetDeviceProperty(
        child.pdo(),
        DRIVER_KEY,
        128,
        key.as_mut_ptr().cast(),
        &raw mut needed,
    );
    child.unplug()?;
    equal!((status, address), (STATUS_SUCCESS, 40), "the address");
    equal!(keyed, STATUS_SUCCESS, "the driver's key");
    check!(
        key[0] == u16::from(b'{') && key[37] == u16::from(b'}'),
        "the driver's key is {:x?}",
        &key[..4]
    );
    Ok(())
}

/// What a power request's callback noted.
#[repr(C)]
struct Powered {
    event: Signal,
    status: AtomicI32,
    state: AtomicU32,
    minor: AtomicU32,
    irql: AtomicU32,
}

unsafe extern "system" fn powered(
    _: *mut DEVICE_OBJECT,
    minor: u8,
    state: i32,
    powered: PVOID,
    outcome: *mut IO_STATUS_BLOCK,
) {
    // SAFETY: the case waits for the callback.
    let (powered, outcome) = unsafe { (context::<Powered>(powered), *outcome) };
    powered.status.store(outcome.Status, Ordering::SeqCst);
    write(&powered.state, state as u32);
    write(&powered.minor, minor.into());
    write(&powered.irql, KeGetCurrentIrql().into());
    powered.event.set();
}

fn request_power(
    child: &Child,
    minor: u8,
    state: i32,
    irql: KIRQL,
) -> Result<Pool<Powered>, Finding> {
    let mut notes = Pool::<Powered>::zeroed()?;
    notes.event.init(SynchronizationEvent);
    let status = at_irql(irql, || {
        PoRequestPowerIrp(
            child.pdo(),
            minor,
            state,
            Some(powered),
            notes.context(),
            null_mut(),
        )
    });
    equal!(status, STATUS_PENDING, "PoRequestPowerIrp");
    check!(notes.event.arrives(), "the callback was not called");
    Ok(notes)
}

/// Learn, PoRequestPowerIrp: the IRP goes to the top of the stack and down; the callback gets state and status.
fn a_device_power_request_goes_through_the_stack() -> Outcome {
    child::forget();
    let child = Child::plug(0, 0)?;
    child::forget();
    for (state, round) in [(PowerDeviceD3, 1), (PowerDeviceD0, 2)] {
        let notes = request_power(&child, IRP_MN_SET_POWER, state, PASSIVE_LEVEL)?;
        equal!(
            notes.status.load(Ordering::SeqCst),
            STATUS_SUCCESS,
            "the status"
        );
        equal!(read(&notes.state), state as u32, "the callback's state");
        equal!(
            read(&notes.minor),
            u32::from(IRP_MN_SET_POWER),
            "the callback's minor function"
        );
        equal!(
            power_count(End::Function, IRP_MN_SET_POWER),
            round,
            "SET_POWER requests at the function driver"
        );
        equal!(
            power_count(End::Bus, IRP_MN_SET_POWER),
            round,
            "SET_POWER requests at the bus driver"
        );
        equal!(
            read(&child::POWER) & 0xFF,
            state as u32,
            "the state that the function driver saw"
        );
    }
    // PoSetPowerState returned what the round before had set.
    equal!(
        read(&child::POWER) >> 8,
        PowerDeviceD3 as u32,
        "the former state that PoSetPowerState returned"
    );
    child.unplug()
}

/// Learn, PoRequestPowerIrp: callable at DISPATCH_LEVEL.
fn a_device_power_request_can_come_from_dispatch_level() -> Outcome {
    child::forget();
    let child = Child::plug(0, 0)?;
    let notes = request_power(&child, IRP_MN_SET_POWER, PowerDeviceD0, DISPATCH_LEVEL)?;
    equal!(
        notes.status.load(Ordering::SeqCst),
        STATUS_SUCCESS,
        "the status"
    );
    check!(
        read(&notes.irql) <= 2,
        "the callback ran at IRQL {}",
        read(&notes.irql)
    );
    child.unplug()
}

/// Learn, IRP_MN_QUERY_POWER: a driver may refuse; the requester hears of it.
fn a_refused_power_query_says_so() -> Outcome {
    child::forget();
    let child = Child::plug(0, child::REFUSE_POWER)?;
    let refused = request_power(&child, IRP_MN_QUERY_POWER, PowerDeviceD3, PASSIVE_LEVEL)?;
    child.set_plan(0);
    let agreed = request_power(&child, IRP_MN_QUERY_POWER, PowerDeviceD3, PASSIVE_LEVEL)?;
    equal!(
        refused.status.load(Ordering::SeqCst),
        STATUS_UNSUCCESSFUL,
        "the status of the refused query"
    );
    equal!(
        agreed.status.load(Ordering::SeqCst),
        STATUS_SUCCESS,
        "the status of the other"
    );
    child.unplug()
}

/// Learn, PoRequestPowerIrp: STATUS_INVALID_PARAMETER_2 for a minor function that is no power request.
fn a_power_request_of_another_kind_is_refused() -> Outcome {
    /// MS-ERREF.
    const STATUS_INVALID_PARAMETER_2: NTSTATUS = 0xC000_00F0_u32 as i32;
    let pdo = device::extension(device::root()).pdo;
    let status = PoRequestPowerIrp(pdo, 0x77, PowerDeviceD0, None, null_mut(), null_mut());
    equal!(status, STATUS_INVALID_PARAMETER_2, "PoRequestPowerIrp");
    Ok(())
}

group!("pnp":
    a_new_device_is_asked_added_and_started,
    requests_come_at_passive_level_as_not_supported,
    a_device_is_started_with_what_it_requires,
    a_function_driver_changes_the_requirements,
    a_device_that_fails_to_start_is_removed,
    a_device_that_left_is_removed_by_surprise,
    a_refused_removal_is_cancelled,
    an_ejected_device_is_asked_and_removed_before,
    a_device_that_reports_its_failure_is_removed,
    a_device_that_is_reported_again_is_not_started_again,
    a_child_has_the_properties_of_its_bus,
    a_device_power_request_goes_through_the_stack,
    a_device_power_request_can_come_from_dispatch_level,
    a_refused_power_query_says_so,
    a_power_request_of_another_kind_is_refused,
);
