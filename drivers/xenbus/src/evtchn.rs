//! EVTCHN: event channels over the two-level ABI, with an interrupt vector for each processor.
//!
//! ```text
//!   upcall on CPU n ─▶ scan ─▶ Ports: port ─▶ slot, if bound to n ─▶ Channel ─▶ the client's callback
//! ```
//!
//! A channel's memory is never freed while the subsystem runs, so an interrupt that is about to deliver to a channel can
//! always look at it; under the channel's own lock it then sees whether the channel still is what it was.

mod channel;
mod own;
mod table;

use crate::bus::Bus;
use crate::interrupt::Vectors;
use alloc::boxed::Box;
use alloc::vec::Vec;
use channel::Binding;
pub use channel::{Callback, Channel};
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use evtchn::{PORTS, Ports};
use nt::processor::{self, ProcessorNumber};
use nt::{Irql, NtStatus, RaisedIrql, Result, SpinLock, try_box};
pub use own::OwnChannel;
use pv_bus::{References, Running};
pub use table::{V5, V6, V7, V8, V9};
use xen_abi::{DomId, Port};
use xen_api::HvmParam;

/// What a channel is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A port that the toolstack has bound.
    Fixed(Port),
    /// A new port for `0` to bind to.
    Unbound(DomId),
    /// A new port, bound to a remote one.
    InterDomain(DomId, Port),
    /// A virtual interrupt of a processor.
    Virq(u32, u32),
}

impl Kind {
    /// The port that a parameter of the guest names.
    pub fn fixed_by(parameter: HvmParam) -> Result<Self> {
        let port = xen_api::hvm_param(parameter)?;
        let port = u32::try_from(port).map_err(|_| NtStatus::UNSUCCESSFUL)?;
        Ok(Self::Fixed(Port(port)))
    }
}

/// The subsystem.
#[derive(Debug)]
pub struct Evtchn {
    pub(crate) references: References,
    running: Running<State>,
}

#[derive(Debug)]
struct State {
    ports: Ports,
    /// Channels by slot. A pointer is set once and then stays.
    slots: Vec<AtomicPtr<Channel>>,
    /// Slots that no client owns.
    free: SpinLock<Vec<u32>>,
    /// Whether a processor has a vector of its own.
    upcalls: Vec<AtomicBool>,
    vectors: Vectors,
}

impl Evtchn {
    /// Not started.
    pub const fn new() -> Self {
        Self {
            references: References::new(),
            running: Running::new(),
        }
    }

    /// Has events delivered through `vectors`. PASSIVE_LEVEL.
    pub fn start(&self, bus: &Bus, vectors: Vectors) -> Result<()> {
        if self.running.get().is_some() {
            return Ok(());
        }
        let ports = Ports::new(PORTS).map_err(|evtchn::NoMemory| NtStatus::NO_MEMORY)?;
        let mut slots = Vec::new();
        slots.try_reserve_exact(PORTS as usize)?;
        slots.extend((0..PORTS).map(|_| AtomicPtr::new(core::ptr::null_mut())));
        let mut free = Vec::new();
        free.try_reserve_exact(PORTS as usize)?;
        free.extend((0..PORTS).rev());
        let mut upcalls = Vec::new();
        let processors = processor::active_count() as usize;
        upcalls.try_reserve_exact(processors)?;
        upcalls.extend((0..processors).map(|_| AtomicBool::new(false)));
        let free = SpinLock::new(free);
        self.running.start(State {
            ports,
            slots,
            free,
            upcalls,
            vectors,
        })?;
        self.enable(bus);
        self.look_for_events(bus);
        Ok(())
    }

    /// Ends the delivery of events and frees the channels, unless a client still holds the interface. Tells whether it
    /// has. PASSIVE_LEVEL.
    ///
    /// # Safety
    /// The channels which xenbus itself opened are closed.
    pub unsafe fn stop(&self, bus: &Bus) -> bool {
        let Some(state) = self.running.get() else {
            return true;
        };
        if self.references.count() != 0 {
            nt::warning!("{} references are left", self.references.count());
            return false;
        }
        // Xen has no way to take an upcall vector back: it stays unused, since no port can raise an event any more.
        if let Some(bits) = bus.shared_info.two_level() {
            bits.mask_all();
        }
        report(
            "disabling the callback interrupt",
            xen_api::set_callback_gsi(0),
        );
        // An interrupt runs to its end before a thread runs on its processor: after this none is inside.
        for cpu in state.processors() {
            if let Ok(number) = ProcessorNumber::from_index(cpu) {
                processor::run_on(number, || ());
            }
        }
        nt::Dpc::flush_all();
        // SAFETY: no client is left, no interrupt comes and none is inside.
        drop(unsafe { self.running.stop() });
        true
    }

    /// After a resume: no port of before is ours any more. HIGH_LEVEL, alone on the machine.
    pub fn resume_early(&self) {
        let Some(state) = self.running.get() else {
            return;
        };
        for channel in state.channels() {
            if let Some(port) = channel.deactivate() {
                state.ports.clear(port);
            }
        }
    }

    /// After a resume: has events delivered again. DISPATCH_LEVEL.
    pub fn resume_late(&self, bus: &Bus) {
        self.enable(bus);
    }

    fn enable(&self, bus: &Bus) {
        let Some(state) = self.running.get() else {
            return;
        };
        for cpu in state.processors() {
            let vector = state.vectors.message(cpu).zip(bus.shared_info.vcpu(cpu));
            let outcome = vector.map(|(vector, vcpu)| xen_api::set_upcall_vector(vcpu, vector));
            if let Some(enabled) = state.upcalls.get(cpu as usize) {
                enabled.store(outcome == Some(Ok(())), Ordering::Release);
            }
            match outcome {
                None | Some(Ok(())) => {}
                // Xen before 4.5: there is only the line.
                Some(Err(NtStatus::NOT_IMPLEMENTED)) => break,
                Some(Err(status)) => nt::warning!("no upcall vector for processor {cpu}: {status}"),
            }
        }
        match state.vectors.line() {
            Some(gsi) => report(
                "enabling the callback interrupt",
                xen_api::set_callback_gsi(gsi),
            ),
            None => nt::warning!("there is no line interrupt"),
        }
        let count = state
            .processors()
            .filter(|&cpu| state.has_upcall(cpu))
            .count();
        nt::info!("{count} upcall vectors, line {:?}", state.vectors.line());
    }

    /// Runs the upcall once on every processor: what became pending before it was enabled raises none. PASSIVE_LEVEL.
    fn look_for_events(&self, bus: &Bus) {
        for cpu in 0..processor::active_count() {
            if let Ok(number) = ProcessorNumber::from_index(cpu) {
                processor::run_on(number, || {
                    let _alone = RaisedIrql::to(Irql::HIGH);
                    self.upcall(bus);
                });
            }
        }
    }

    /// Delivers the events of the current processor. The interrupt's service routine; tells whether there were any.
    pub fn upcall(&self, bus: &Bus) -> bool {
        let cpu = processor::current_index();
        let Some(state) = self.running.get() else {
            return false;
        };
        let mut done = false;
        while bus.shared_info.upcall_pending(cpu) {
            done |= bus.shared_info.scan(cpu, |port| {
                let channel = state
                    .ports
                    .slot_on(port, cpu)
                    .and_then(|slot| state.channel(slot));
                channel.is_some_and(|channel| channel.deliver(bus, port))
            });
        }
        done
    }

    /// Opens a channel. It is masked, and bound to processor 0 unless it is a processor's virtual interrupt.
    /// IRQL ≤ DISPATCH_LEVEL.
    pub fn open(
        &self,
        bus: &Bus,
        kind: Kind,
        auto_mask: bool,
        callback: Callback,
    ) -> Result<&Channel> {
        let state = self.running.need()?;
        let cpu = match kind {
            Kind::Virq(_, cpu) => cpu,
            _ => 0,
        };
        if cpu != 0 && !state.has_upcall(cpu) {
            return Err(NtStatus::NOT_SUPPORTED);
        }
        // Neither the port nor its processor may change hands meanwhile.
        let _no_suspend = RaisedIrql::dispatch();
        let slot = state
            .free
            .lock()
            .pop()
            .ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
        let opened = state.open_in(bus, slot, kind, cpu, auto_mask, callback);
        if opened.is_err() {
            // Within the capacity: the slot was taken from there.
            state.free.lock().push(slot);
        }
        opened
    }

    /// Closes a channel. Its callback does not run any more when this returns. IRQL ≤ DISPATCH_LEVEL.
    pub fn close(&self, bus: &Bus, channel: &Channel) {
        let Some(state) = self.running.get() else {
            return;
        };
        let _no_suspend = RaisedIrql::dispatch();
        // First the way to the channel is cut; then the port can go back to Xen and to another channel.
        if let Some(port) = channel.deactivate() {
            state.ports.clear(port);
            if let Some(bits) = bus.shared_info.two_level() {
                bits.mask(port);
                bits.ack(port);
            }
            if channel.owns_port() {
                report("closing a port", xen_api::close(port));
            }
        }
        if channel.disown() {
            // Within the capacity: the slot was taken from there.
            state.free.lock().push(channel.slot());
        }
    }

    /// Moves a channel to a processor. IRQL ≤ DISPATCH_LEVEL.
    pub fn bind(&self, bus: &Bus, channel: &Channel, cpu: u32) -> Result<()> {
        let state = self.running.need()?;
        if cpu != 0 && !state.has_upcall(cpu) {
            return Err(NtStatus::NOT_SUPPORTED);
        }
        let _no_suspend = RaisedIrql::dispatch();
        let binding = channel.binding();
        let (Some(port), Some(bits)) = (binding.port, bus.shared_info.two_level()) else {
            return Ok(());
        };
        if binding.cpu == cpu {
            return Ok(());
        }
        let vcpu = bus.shared_info.vcpu(cpu).ok_or(NtStatus::NOT_SUPPORTED)?;
        // An event that is on its way to the old processor would be ignored there: hold events back, and have what is
        // pending delivered again.
        let was_masked = bits.mask(port);
        let outcome = xen_api::bind_vcpu(port, vcpu);
        if outcome.is_ok() {
            channel.set_cpu(cpu);
            state.ports.set(port, channel.slot(), cpu);
        }
        if !was_masked {
            report("unmasking a port", xen_api::unmask(port));
        }
        outcome
    }
}

impl State {
    fn processors(&self) -> impl Iterator<Item = u32> + use<> {
        0..u32::try_from(self.upcalls.len()).unwrap_or(u32::MAX)
    }

    fn has_upcall(&self, cpu: u32) -> bool {
        self.upcalls
            .get(cpu as usize)
            .is_some_and(|enabled| enabled.load(Ordering::Acquire))
    }

    fn channel(&self, slot: u32) -> Option<&Channel> {
        let pointer = self.slots.get(slot as usize)?.load(Ordering::Acquire);
        // SAFETY: null or a box that is freed with `self` only.
        unsafe { pointer.as_ref() }
    }

    fn channels(&self) -> impl Iterator<Item = &Channel> {
        (0..PORTS).map_while(|slot| self.channel(slot))
    }

    /// The channel of a slot, made on the slot's first use.
    fn channel_in(&self, slot: u32) -> Result<&Channel> {
        if self.channel(slot).is_none() {
            let channel = Box::into_raw(try_box(Channel::new(slot)?)?);
            if let Some(place) = self.slots.get(slot as usize) {
                place.store(channel, Ordering::Release);
            }
        }
        self.channel(slot).ok_or(NtStatus::INSUFFICIENT_RESOURCES)
    }

    fn open_in(
        &self,
        bus: &Bus,
        slot: u32,
        kind: Kind,
        cpu: u32,
        auto_mask: bool,
        callback: Callback,
    ) -> Result<&Channel> {
        let channel = self.channel_in(slot)?;
        let vcpu = bus.shared_info.vcpu(cpu).ok_or(NtStatus::NOT_SUPPORTED)?;
        let bits = bus
            .shared_info
            .two_level()
            .ok_or(NtStatus::DEVICE_NOT_READY)?;
        let port = match kind {
            Kind::Fixed(port) => port,
            Kind::Unbound(remote) => xen_api::allocate_unbound(remote)?,
            Kind::InterDomain(remote, port) => xen_api::bind_interdomain(remote, port)?,
            Kind::Virq(virq, _) => xen_api::bind_virq(virq, vcpu)?,
        };
        bits.mask(port);
        let owns_port = !matches!(kind, Kind::Fixed(_));
        channel.own(
            Binding {
                port: Some(port),
                cpu,
            },
            auto_mask,
            owns_port,
            callback,
        );
        if !self.ports.set(port, slot, cpu) {
            nt::error!("port {port} is beyond the two-level range");
            channel.deactivate();
            channel.disown();
            if owns_port {
                report("closing a port", xen_api::close(port));
            }
            return Err(NtStatus::INSUFFICIENT_RESOURCES);
        }
        Ok(channel)
    }
}

impl Drop for State {
    fn drop(&mut self) {
        for place in &mut self.slots {
            let channel = core::mem::replace(place.get_mut(), core::ptr::null_mut());
            if !channel.is_null() {
                // SAFETY: the pointer came from a box in `channel_in`, and nobody has the state any more.
                drop(unsafe { Box::from_raw(channel) });
            }
        }
    }
}

/// Logs the failure of something that has no other way to fail.
fn report(what: &str, outcome: Result<()>) {
    if let Err(status) = outcome {
        nt::warning!("{what}: {status}");
    }
}
