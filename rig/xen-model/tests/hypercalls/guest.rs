//! A guest that makes hypercalls, with what it sees of Xen's pages.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};

use xen_abi::evtchn::{ALLOC_UNBOUND, AllocUnbound};
use xen_abi::hvm::{self, HvmParam};
use xen_abi::memory::{self, AddToPhysmap, SPACE_GRANT_TABLE, SPACE_SHARED_INFO};
use xen_abi::{DomId, Port, hypercall};
use xen_model::dom0::Doorbell;
use xen_model::{BareMachine, Config, Xen};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Where tests show themselves pages of Xen's.
pub const SHARED_GFN: u64 = 4;
const GRANTS_GFN: u64 = 5;

/// Offsets in the shared info page. public/xen.h: `shared_info`.
pub const PENDING: usize = 2048;
pub const MASK: usize = 2560;

/// A guest of two vCPUs that sees its shared info and grant table.
pub struct Guest {
    pub machine: Arc<BareMachine>,
    pub xen: Arc<Xen>,
    pub bell: Arc<Doorbell>,
}

impl Guest {
    pub fn new() -> Self {
        Self::with(Config::default())
    }

    pub fn with(config: Config) -> Self {
        let machine = Arc::new(BareMachine::new(2, 64, config.xen_frames()));
        let guest = Self {
            xen: Xen::new(machine.clone(), config),
            machine,
            bell: Arc::default(),
        };
        assert_eq!(guest.show(SPACE_SHARED_INFO, 0, SHARED_GFN), 0);
        assert_eq!(guest.show(SPACE_GRANT_TABLE, 0, GRANTS_GFN), 0);
        guest
    }

    pub fn call<T: FromBytes + IntoBytes + Immutable>(&self, nr: u32, cmd: u32, a: &mut T) -> i64 {
        self.machine.call(&self.xen, nr, cmd, a)
    }

    pub fn events<T: FromBytes + IntoBytes + Immutable>(&self, cmd: u32, a: &mut T) -> i64 {
        self.call(hypercall::EVENT_CHANNEL_OP, cmd, a)
    }

    pub fn show(&self, space: u32, idx: u64, gpfn: u64) -> i64 {
        let mut a = AddToPhysmap {
            domid: DomId::SELF,
            space,
            idx,
            gpfn,
            ..Default::default()
        };
        self.call(hypercall::MEMORY_OP, memory::ADD_TO_PHYSMAP, &mut a)
    }

    pub fn unbound(&self) -> Port {
        let mut a = AllocUnbound {
            dom: DomId::SELF,
            remote_dom: DomId::DOM0,
            ..Default::default()
        };
        assert_eq!(self.events(ALLOC_UNBOUND, &mut a), 0);
        a.port
    }

    pub fn set_param(&self, index: u32, value: u64) -> i64 {
        self.call(
            hypercall::HVM_OP,
            hvm::SET_PARAM,
            &mut HvmParam {
                domid: DomId::SELF,
                index,
                value,
                ..Default::default()
            },
        )
    }

    pub fn bit(&self, base: usize, port: Port) -> bool {
        let byte = &self.machine.page(SHARED_GFN).unwrap()[base + port.0 as usize / 8];
        byte.load(Acquire) >> (port.0 % 8) & 1 != 0
    }

    pub fn set_bit(&self, base: usize, port: Port, value: bool) {
        let byte = &self.machine.page(SHARED_GFN).unwrap()[base + port.0 as usize / 8];
        let bit = 1 << (port.0 % 8);
        let old = byte.load(Acquire);
        byte.store(if value { old | bit } else { old & !bit }, Release);
    }

    /// Takes all events of a vCPU as an interrupt handler does.
    pub fn handle(&self, vcpu: u32) {
        let page = self.machine.page(SHARED_GFN).unwrap();
        let info = vcpu as usize * 64;
        page[info].store(0, Release);
        page[info + 8..info + 16]
            .iter()
            .for_each(|b| b.store(0, Release));
        page[PENDING..PENDING + 512]
            .iter()
            .for_each(|b| b.store(0, Release));
        self.xen.interrupt_done(vcpu);
    }

    pub fn grant(&self, gref: u32, gfn: u32, flags: u16) {
        let page = self.machine.page(GRANTS_GFN).unwrap();
        let at = gref as usize * 8;
        let bytes = [u32::from(flags).to_le_bytes(), gfn.to_le_bytes()].concat();
        for (i, b) in bytes.into_iter().enumerate() {
            page[at + i].store(b, Release);
        }
    }

    pub fn flags(&self, gref: u32) -> u16 {
        let page = self.machine.page(GRANTS_GFN).unwrap();
        u16::from_le_bytes([
            page[gref as usize * 8].load(Acquire),
            page[gref as usize * 8 + 1].load(Acquire),
        ])
    }
}
