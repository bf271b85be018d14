//! One channel: who owns it, and the delivery of its events.

use crate::bus::Bus;
use alloc::sync::Arc;
use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use nt::processor::{self, ProcessorNumber};
use nt::{Dpc, HighLock, Result, try_arc};
use pv_interfaces::evtchn::ServiceRoutine;
use xen_abi::Port;

/// What is called for an event, at HIGH_LEVEL or the interrupt's.
#[derive(Clone, Copy, Debug)]
pub struct Callback {
    function: ServiceRoutine,
    argument: *mut c_void,
}

// SAFETY: only a function and what it wants to be told; whoever gives them vouches for their use on any processor.
unsafe impl Send for Callback {}
// SAFETY: as above.
unsafe impl Sync for Callback {}

impl Callback {
    /// # Safety
    /// `function` may be called with `argument` on any processor, at any IRQL, until its channel is closed.
    pub unsafe fn new(function: ServiceRoutine, argument: *mut c_void) -> Self {
        Self { function, argument }
    }

    fn call(&self) -> bool {
        // SAFETY: the duty of `new`.
        unsafe { (self.function)(core::ptr::null_mut(), self.argument) != 0 }
    }
}

/// Where a channel's events come from and go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The local port; none after a resume, until the owner opens the channel anew.
    pub port: Option<Port>,
    /// The processor.
    pub cpu: u32,
}

/// A channel that a client may own. Its address is the client's handle.
#[derive(Debug)]
pub struct Channel {
    slot: u32,
    core: Arc<Core>,
    /// Runs the callback on request.
    trigger: Dpc,
}

/// What the DPC shares with the channel.
#[derive(Debug)]
struct Core {
    /// The callback, while a client owns the channel. Held during the callback.
    owner: HighLock<Option<Callback>>,
    /// Processor in the high half, port + 1 in the low half (0 for none), so that both are read at once.
    binding: AtomicU64,
    /// The port's number, also after it is gone.
    last_port: AtomicU32,
    auto_mask: AtomicBool,
    owns_port: AtomicBool,
    count: AtomicU32,
}

impl Channel {
    /// A channel without owner.
    pub fn new(slot: u32) -> Result<Channel> {
        let core = try_arc(Core {
            owner: HighLock::new(None),
            binding: AtomicU64::new(0),
            last_port: AtomicU32::new(0),
            auto_mask: AtomicBool::new(false),
            owns_port: AtomicBool::new(false),
            count: AtomicU32::new(0),
        })?;
        let triggered = Arc::clone(&core);
        let trigger = Dpc::new(move || {
            triggered.run();
        })?;
        Ok(Channel {
            slot,
            core,
            trigger,
        })
    }

    /// The slot.
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// Port and processor.
    pub fn binding(&self) -> Binding {
        let word = self.core.binding.load(Ordering::SeqCst);
        let port = ((word & u64::from(u32::MAX)) as u32)
            .checked_sub(1)
            .map(Port);
        Binding {
            port,
            cpu: (word >> 32) as u32,
        }
    }

    fn set_binding(&self, binding: Binding) {
        let port = binding.port.map_or(0, |port| port.0.saturating_add(1));
        let word = (u64::from(binding.cpu) << 32) | u64::from(port);
        self.core.binding.store(word, Ordering::SeqCst);
    }

    /// Gives the channel to a client.
    pub fn own(&self, binding: Binding, auto_mask: bool, owns_port: bool, callback: Callback) {
        self.core.auto_mask.store(auto_mask, Ordering::Relaxed);
        self.core.owns_port.store(owns_port, Ordering::Relaxed);
        self.core.count.store(0, Ordering::Relaxed);
        self.core
            .last_port
            .store(binding.port.map_or(0, |port| port.0), Ordering::Relaxed);
        *self.core.owner.lock() = Some(callback);
        self.set_cpu_of(binding);
    }

    /// Takes the channel from its client, after the callback has run to its end. `false` if nobody owned it.
    pub fn disown(&self) -> bool {
        self.core.owner.lock().take().is_some()
    }

    /// Takes the port from the channel, and gives it.
    pub fn deactivate(&self) -> Option<Port> {
        let binding = self.binding();
        self.set_binding(Binding {
            port: None,
            ..binding
        });
        binding.port
    }

    /// Whether the port was made for this channel.
    pub fn owns_port(&self) -> bool {
        self.core.owns_port.load(Ordering::Relaxed)
    }

    /// Notes the processor.
    pub fn set_cpu(&self, cpu: u32) {
        self.set_cpu_of(Binding {
            cpu,
            ..self.binding()
        });
    }

    fn set_cpu_of(&self, binding: Binding) {
        self.set_binding(binding);
        let target = ProcessorNumber::from_index(binding.cpu)
            .and_then(|number| self.trigger.set_target(number));
        if let Err(status) = target {
            nt::warning!("a DPC cannot go to processor {}: {status}", binding.cpu);
        }
    }

    /// The port's number, also after it is gone.
    pub fn port_number(&self) -> u32 {
        self.core.last_port.load(Ordering::Relaxed)
    }

    /// Events delivered so far.
    pub fn count(&self) -> u32 {
        self.core.count.load(Ordering::SeqCst)
    }

    /// Delivers an event of `port`, on the channel's processor.
    pub fn deliver(&self, bus: &Bus, port: Port) -> bool {
        let Some(bits) = bus.shared_info.two_level() else {
            return false;
        };
        let owner = self.core.owner.lock();
        if self.binding().port != Some(port) {
            return false;
        }
        let Some(callback) = *owner else { return false };
        if self.core.auto_mask.load(Ordering::Relaxed) {
            bits.mask(port);
        }
        // Acknowledged before it is counted: who sees the count may rely on the next event counting again.
        bits.ack(port);
        self.core.count.fetch_add(1, Ordering::SeqCst);
        callback.call()
    }

    /// Has the callback run soon, as if an event had arrived. IRQL ≤ DISPATCH_LEVEL.
    pub fn trigger(&self) {
        self.trigger.queue();
    }

    /// Lets events through. See the interface's Unmask for what `in_callback` and `force` mean, and the answer.
    pub fn unmask(&self, bus: &Bus, in_callback: bool, force: bool) -> bool {
        let _no_move = nt::RaisedIrql::dispatch();
        let binding = self.binding();
        let (Some(port), Some(bits)) = (binding.port, bus.shared_info.two_level()) else {
            return false;
        };
        if !bits.unmask(port) {
            return false;
        }
        if in_callback || force || processor::current_index() != binding.cpu {
            // Xen delivers again only what is masked when it is asked to unmask.
            bits.mask(port);
            if let Err(status) = xen_api::unmask(port) {
                nt::warning!("unmasking port {port}: {status}");
            }
            return false;
        }
        if self.core.auto_mask.load(Ordering::Relaxed) {
            bits.mask(port);
        }
        bits.ack(port);
        self.core.count.fetch_add(1, Ordering::SeqCst);
        true
    }

    /// Raises an event on the other end, unless the channel is inactive. Any IRQL.
    pub fn send(&self) {
        if let Some(port) = self.binding().port
            && let Err(status) = xen_api::send(port)
        {
            nt::warning!("sending on port {port}: {status}");
        }
    }
}

impl Core {
    fn run(&self) -> bool {
        let owner = self.owner.lock();
        owner.is_some_and(|callback| {
            self.count.fetch_add(1, Ordering::SeqCst);
            callback.call()
        })
    }
}
