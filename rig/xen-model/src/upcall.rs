//! How the guest's vCPUs learn of events. xen/arch/x86/hvm/irq.c, xen/common/event_2l.c.
//!
//! ```text
//!   event ──► pending bit ──► selector bit of the vCPU ──► evtchn_upcall_pending ──► 1. the vCPU's own vector, an edge
//!    (each arrow only if the bit was not yet set)                                    2. callback vector, any vCPU
//!                                                                                    3. callback line, vCPU 0, a level
//! ```

use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use trace::{Class, Event};
use xen_abi::hvm::*;
use xen_abi::shared_info::VcpuInfo;

use crate::frames::{self, Page};
use crate::hypercall::guard;
use crate::platform_pci::intx_gsi;
use crate::{Machine, Upcall};

/// `HVM_PARAM_CALLBACK_IRQ`, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Via {
    None,
    Line(u32),
    Vector(u8),
}

impl Via {
    fn from_param(value: u64) -> Self {
        match value >> CALLBACK_VIA_SHIFT {
            CALLBACK_VIA_GSI if value & 0xFF != 0 => Self::Line(value as u32 & 0xFF),
            CALLBACK_VIA_PCI_INTX => {
                Self::Line(intx_gsi((value >> 11) as u8 & 31, value as u8 & 3))
            }
            CALLBACK_VIA_VECTOR => Self::Vector(value as u8),
            _ => Self::None,
        }
    }
}

struct Callback {
    via: Via,
    asserted: bool,
}

struct Vcpu {
    info: AtomicPtr<VcpuInfo>,
    vector: AtomicU8,
    /// `info` lies where the guest registered it, or in the shared info page.
    registered: AtomicBool,
}

pub(crate) struct Upcalls {
    machine: Arc<dyn Machine>,
    shared_info: u64,
    vcpus: Box<[Vcpu]>,
    callback: Mutex<Callback>,
}

impl Upcalls {
    pub(crate) fn new(machine: Arc<dyn Machine>, shared_info: u64) -> Self {
        let none = || Vcpu {
            info: AtomicPtr::new(std::ptr::null_mut()),
            vector: AtomicU8::new(0),
            registered: AtomicBool::new(false),
        };
        let vcpus = (0..machine.vcpus()).map(|_| none()).collect();
        let new = Self {
            machine,
            shared_info,
            vcpus,
            callback: Mutex::new(Callback {
                via: Via::None,
                asserted: false,
            }),
        };
        new.reset();
        new
    }

    /// As a new domain starts: `vcpu_info` in the shared info page, no way to be told.
    pub(crate) fn reset(&self) {
        self.set_callback(0);
        let shared = frames::shared_info(&*self.machine, self.shared_info);
        for (i, vcpu) in self.vcpus.iter().enumerate() {
            let legacy = shared
                .vcpu_info
                .get(i)
                .map_or(std::ptr::null_mut(), |info| {
                    std::ptr::from_ref(info).cast_mut()
                });
            vcpu.info.store(legacy, Ordering::Release);
            vcpu.vector.store(0, Ordering::Release);
            vcpu.registered.store(false, Ordering::Release);
        }
    }

    /// Where Xen keeps the vCPU's `vcpu_info`; a vCPU beyond the legacy ones has none until it registers one.
    pub(crate) fn info(&self, vcpu: u32) -> Option<&VcpuInfo> {
        let at = self.vcpus.get(vcpu as usize)?.info.load(Ordering::Acquire);
        // SAFETY: null, or an address within a page of the machine, aligned to 8, set by `reset` or `register`; a
        // `VcpuInfo` is made of atomics.
        unsafe { at.as_ref() }
    }

    /// Moves the `vcpu_info`; `false` if it was moved before.
    pub(crate) fn register(&self, vcpu: u32, page: Page, offset: usize) -> bool {
        let Some(v) = self.vcpus.get(vcpu as usize) else {
            return false;
        };
        if v.registered.swap(true, Ordering::AcqRel) {
            return false;
        }
        let new = frames::vcpu_info(page, offset);
        if let Some(old) = self.info(vcpu) {
            new.evtchn_upcall_mask.store(
                old.evtchn_upcall_mask.load(Ordering::Acquire),
                Ordering::Release,
            );
        }
        v.info
            .store(std::ptr::from_ref(new).cast_mut(), Ordering::Release);
        // Whatever was on its way to the old place must not be lost: everything counts as pending.
        new.evtchn_pending_sel.store(u64::MAX, Ordering::Release);
        new.evtchn_upcall_pending.store(1, Ordering::Release);
        self.deliver(vcpu);
        true
    }

    pub(crate) fn set_vector(&self, vcpu: u32, vector: u8) {
        if let Some(v) = self.vcpus.get(vcpu as usize) {
            v.vector.store(vector, Ordering::Release);
            self.deliver(vcpu);
        }
    }

    /// `HVM_PARAM_CALLBACK_IRQ` was written. `hvm_set_callback_via`.
    pub(crate) fn set_callback(&self, value: u64) {
        let mut callback = guard(self.callback.lock());
        if let (Via::Line(gsi), true) = (callback.via, callback.asserted) {
            self.tell(0, Upcall::Gsi { gsi, level: false });
        }
        *callback = Callback {
            via: Via::from_param(value),
            asserted: false,
        };
        drop(callback);
        self.line_follows_flag();
    }

    /// An unmasked event arrived in `word` for `vcpu`.
    pub(crate) fn mark(&self, vcpu: u32, word: u32) {
        let Some(info) = self.info(vcpu) else { return };
        if info
            .evtchn_pending_sel
            .fetch_or(1 << word, Ordering::AcqRel)
            & (1 << word)
            != 0
        {
            return;
        }
        if info.evtchn_upcall_pending.swap(1, Ordering::AcqRel) == 0 {
            self.deliver(vcpu);
        }
    }

    /// Delivers an upcall.
    fn tell(&self, vcpu: u32, how: Upcall) {
        trace::emit(Class::Xen, || Event::Upcall {
            on: u64::from(vcpu),
            vector: match how {
                Upcall::Vector(vector) => u64::from(vector),
                Upcall::Gsi { gsi, .. } => 256 + u64::from(gsi),
            },
        });
        self.machine.upcall(vcpu, how);
    }

    /// `hvm_assert_evtchn_irq`.
    fn deliver(&self, vcpu: u32) {
        let Some(v) = self.vcpus.get(vcpu as usize) else {
            return;
        };
        match v.vector.load(Ordering::Acquire) {
            0 => {
                self.inject_callback_vector(vcpu);
                if vcpu == 0 {
                    self.line_follows_flag();
                }
            }
            vector => self.tell(vcpu, Upcall::Vector(vector)),
        }
    }

    /// A callback vector is injected whenever the vCPU is entered with the flag up and not masked.
    pub(crate) fn inject_callback_vector(&self, vcpu: u32) {
        let Some(info) = self.info(vcpu) else { return };
        let Via::Vector(vector) = guard(self.callback.lock()).via else {
            return;
        };
        if info.evtchn_upcall_pending.load(Ordering::Acquire) != 0
            && info.evtchn_upcall_mask.load(Ordering::Acquire) == 0
        {
            self.tell(vcpu, Upcall::Vector(vector));
        }
    }

    /// The line is up exactly while vCPU 0's flag is. `hvm_set_callback_irq_level`.
    pub(crate) fn line_follows_flag(&self) {
        let Some(info) = self.info(0) else { return };
        let mut callback = guard(self.callback.lock());
        let Via::Line(gsi) = callback.via else { return };
        let own_vector = self
            .vcpus
            .first()
            .is_some_and(|v| v.vector.load(Ordering::Acquire) != 0);
        let level = !own_vector && info.evtchn_upcall_pending.load(Ordering::Acquire) != 0;
        if level != callback.asserted {
            callback.asserted = level;
            self.tell(0, Upcall::Gsi { gsi, level });
        }
    }
}

impl crate::Xen {
    /// To be called when `vcpu` has handled an interrupt, as a real Xen looks at the flags on every entry to a vCPU: the
    /// callback line is lowered if the guest has cleared the flag, a callback vector comes again if it has not.
    pub fn interrupt_done(&self, vcpu: u32) {
        self.upcalls.inject_callback_vector(vcpu);
        if vcpu == 0 {
            self.upcalls.line_follows_flag();
        }
    }
}
