//! A bus's own device: its requests, and the device objects of the driver, its own and its children's.

use crate::child::{self, ChildDevice};
use crate::{Children, Function, ParentBus, power};
use alloc::sync::Arc;
use bus::PnpState;
use core::fmt;
use nt::device::DeviceOptions;
use nt::{Device, DriverObject, Irp, NtStatus, OwnedDevice, Result};
use nt_sys::{
    IRP_MN_CANCEL_REMOVE_DEVICE, IRP_MN_CANCEL_STOP_DEVICE, IRP_MN_DEVICE_USAGE_NOTIFICATION,
    IRP_MN_FILTER_RESOURCE_REQUIREMENTS, IRP_MN_QUERY_CAPABILITIES, IRP_MN_QUERY_DEVICE_RELATIONS,
    IRP_MN_QUERY_PNP_DEVICE_STATE, IRP_MN_QUERY_REMOVE_DEVICE, IRP_MN_QUERY_STOP_DEVICE,
    IRP_MN_REMOVE_DEVICE, IRP_MN_START_DEVICE, IRP_MN_STOP_DEVICE, IRP_MN_SURPRISE_REMOVAL,
    PowerDeviceD0,
};

/// A bus.
pub trait BusDevice: fmt::Debug + Send + Sync + Sized + 'static {
    /// What is on it.
    type Child: ChildDevice<Bus = Self>;
    /// What START gives it.
    type Resources;

    /// Bits of DEVICE_CAPABILITIES that the device below says, and this does not.
    const WITHOUT_CAPABILITIES: u32 = 0;

    /// Its device.
    fn function(&self) -> &Function;

    /// What is on it now.
    fn children(&self) -> &Children<Self::Child>;

    /// The standard interface of the device below.
    fn parent(&self) -> &ParentBus;

    /// Whether it is a bus at all. One that is not has no children and leaves its power to the driver below.
    fn is_active(&self) -> bool {
        true
    }

    /// IRP_MN_START_DEVICE, before the driver below has it: what it brings. PASSIVE_LEVEL.
    fn resources(irp: &Irp) -> Result<Self::Resources>;

    /// The driver below has started. PASSIVE_LEVEL.
    fn bring_up(self: &Arc<Self>, resources: Self::Resources) -> Result<()>;

    /// Undoes [`BusDevice::bring_up`], also where it never was. PASSIVE_LEVEL.
    fn tear_down(&self);

    /// From D3 to D0, if the device is started and was asleep. PASSIVE_LEVEL.
    fn wake(self: &Arc<Self>) -> Result<()>;

    /// From D0 to D3. PASSIVE_LEVEL.
    fn sleep(&self);

    /// Has children looked for again. IRQL ≤ DISPATCH_LEVEL.
    fn rescan(&self);

    /// IRP_MN_FILTER_RESOURCE_REQUIREMENTS to an active one. PASSIVE_LEVEL.
    fn filter(&self, irp: Irp) -> NtStatus {
        self.function().pass_down(irp)
    }

    /// It is removed, with all its children. PASSIVE_LEVEL.
    fn removed(&self) {}
}

/// What stands behind each device object of a bus driver.
#[derive(Debug)]
pub enum Node<B: BusDevice> {
    /// The bus.
    Function(Arc<B>),
    /// A device on it.
    Child(Arc<B::Child>),
}

impl<B: BusDevice> Node<B> {
    /// Makes the bus's device object and attaches it. PASSIVE_LEVEL.
    pub fn add(driver: &DriverObject, bus: &Arc<B>) -> Result<()> {
        let device =
            OwnedDevice::create(driver, DeviceOptions::BUS, Self::Function(Arc::clone(bus)))?;
        bus.function().attach(&device)?;
        device.start();
        Ok(())
    }

    /// Makes a child's device object. PASSIVE_LEVEL.
    pub fn add_child(driver: &DriverObject, child: &Arc<B::Child>) -> Result<()> {
        let node = Self::Child(Arc::clone(child));
        let device = OwnedDevice::create(driver, DeviceOptions::CHILD, node)?;
        child.life().begin(device.start());
        Ok(())
    }

    /// IRP_MJ_PNP.
    pub fn pnp(device: &Device<Self>, irp: Irp) -> NtStatus {
        match &**device {
            // Removing the device drops the extension.
            Self::Function(bus) => pnp(&Arc::clone(bus), device, irp),
            Self::Child(child) => child::pnp(&Arc::clone(child), irp),
        }
    }

    /// IRP_MJ_POWER. IRQL ≤ DISPATCH_LEVEL.
    pub fn power(device: &Device<Self>, irp: Irp) -> NtStatus {
        match &**device {
            Self::Function(bus) => power::power(bus, device.object(), irp),
            Self::Child(child) => power::child_power(child, device.object(), irp),
        }
    }
}

fn pnp<B: BusDevice>(bus: &Arc<B>, device: &Device<Node<B>>, irp: Irp) -> NtStatus {
    let function = bus.function();
    match irp.minor() {
        IRP_MN_START_DEVICE => start(bus, irp),
        IRP_MN_QUERY_STOP_DEVICE => function.moved(irp, PnpState::StopPending),
        IRP_MN_CANCEL_STOP_DEVICE => function.back(irp, PnpState::StopPending),
        IRP_MN_STOP_DEVICE => {
            bus.tear_down();
            function.moved(irp, PnpState::Stopped)
        }
        IRP_MN_QUERY_REMOVE_DEVICE => function.moved(irp, PnpState::RemovePending),
        IRP_MN_CANCEL_REMOVE_DEVICE => function.back(irp, PnpState::RemovePending),
        IRP_MN_SURPRISE_REMOVAL => {
            bus.children().lose();
            function.moved(irp, PnpState::SurpriseRemovePending)
        }
        IRP_MN_REMOVE_DEVICE => remove(bus, device, irp),
        IRP_MN_QUERY_DEVICE_RELATIONS if bus.is_active() => {
            function.relations(irp, || bus.children().relations())
        }
        IRP_MN_FILTER_RESOURCE_REQUIREMENTS if bus.is_active() => bus.filter(irp),
        IRP_MN_QUERY_CAPABILITIES => function.capabilities(irp, B::WITHOUT_CAPABILITIES),
        IRP_MN_DEVICE_USAGE_NOTIFICATION => function.usage(irp),
        IRP_MN_QUERY_PNP_DEVICE_STATE => function.state(irp),
        _ => function.pass_down(irp),
    }
}

fn start<B: BusDevice>(bus: &Arc<B>, irp: Irp) -> NtStatus {
    let resources = match B::resources(&irp) {
        Ok(resources) => resources,
        Err(status) => return irp.complete(status),
    };
    let (irp, status) = bus.function().through(irp);
    if let Err(status) = status.ok() {
        return irp.complete(status);
    }
    if let Err(status) = bus.bring_up(resources) {
        nt::error!("{bus:?} does not start: {status}");
        return irp.complete(status);
    }
    bus.function().physical.set_power_state(PowerDeviceD0);
    bus.function().set(PnpState::Started);
    bus.rescan();
    irp.complete(NtStatus::SUCCESS)
}

fn remove<B: BusDevice>(bus: &Arc<B>, device: &Device<Node<B>>, irp: Irp) -> NtStatus {
    bus.children().lose();
    bus.tear_down();
    bus.children().delete();
    bus.removed();
    // SAFETY: the children, which could use it, have gone.
    unsafe { bus.parent().close() };
    // SAFETY: the device was started in `Node::add`, this is its last request, and `bus` keeps what it carries.
    let status = unsafe { bus.function().remove(device, irp) };
    nt::info!("{bus:?} is gone");
    status
}
