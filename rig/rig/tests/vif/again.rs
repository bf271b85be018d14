//! An interface that comes back before its device has been removed.

use rig::boot::Machine;
use rig::vif::driver as nic;
use xen_model::toolstack::VifSpec;

use super::{connect, device, serve, unplug, until};

/// An interface goes, and another of its number is there before its device has been removed.
pub fn at_once(machine: &Machine) -> Result<(), String> {
    nic::bind();
    let nics = serve(machine);
    let dom0 = machine.dom0();
    connect(machine, &nics)?;
    for _ in 0..10 {
        dom0.finish_vif_detach(0, true);
        // The guest looks, and Windows begins to remove the device.
        until("the device is to go", || {
            device(machine, 0).is_none_or(|row| !row.started)
        })?;
        dom0.attach_vif(VifSpec::new(0));
        until("there is a device again", || {
            device(machine, 0).is_some_and(|row| row.started) && nics.is_connected(0)
        })?;
    }
    unplug(machine, 0)
}
