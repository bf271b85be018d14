//! Hypercalls as a guest makes them, with the errors that Xen gives.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};

use proptest::prelude::*;
use xen_abi::errno::*;
use xen_abi::evtchn::*;
use xen_abi::grant::{self, *};
use xen_abi::hvm::{self, *};
use xen_abi::memory::{self, *};
use xen_abi::sched::{self, Shutdown, Watchdog};
use xen_abi::vcpu::{self, RegisterVcpuInfo, SetPeriodicTimer};
use xen_abi::{DomId, Gref, Port, cpuid, hypercall, platform};
use xen_model::dom0::{Dom0, Doorbell};
use xen_model::toolstack::{Command, GuestSpec};
use xen_model::{Access, BareMachine, Config, GUEST, Machine, PortState, Resume, Upcall, Xen};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Where tests show themselves pages of Xen's.
const SHARED_GFN: u64 = 4;
const GRANTS_GFN: u64 = 5;

/// Offsets in the shared info page. public/xen.h: `shared_info`.
const PENDING: usize = 2048;
const MASK: usize = 2560;

struct Guest {
    machine: Arc<BareMachine>,
    xen: Arc<Xen>,
    bell: Arc<Doorbell>,
}

impl Guest {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
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

    fn call<T: FromBytes + IntoBytes + Immutable>(&self, nr: u32, cmd: u32, a: &mut T) -> i64 {
        self.machine.call(&self.xen, nr, cmd, a)
    }

    fn events<T: FromBytes + IntoBytes + Immutable>(&self, cmd: u32, a: &mut T) -> i64 {
        self.call(hypercall::EVENT_CHANNEL_OP, cmd, a)
    }

    fn show(&self, space: u32, idx: u64, gpfn: u64) -> i64 {
        let mut a = AddToPhysmap {
            domid: DomId::SELF,
            space,
            idx,
            gpfn,
            ..Default::default()
        };
        self.call(hypercall::MEMORY_OP, memory::ADD_TO_PHYSMAP, &mut a)
    }

    fn unbound(&self) -> Port {
        let mut a = AllocUnbound {
            dom: DomId::SELF,
            remote_dom: DomId::DOM0,
            ..Default::default()
        };
        assert_eq!(self.events(ALLOC_UNBOUND, &mut a), 0);
        a.port
    }

    fn set_param(&self, index: u32, value: u64) -> i64 {
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

    fn bit(&self, base: usize, port: Port) -> bool {
        let byte = &self.machine.page(SHARED_GFN).unwrap()[base + port.0 as usize / 8];
        byte.load(Acquire) >> (port.0 % 8) & 1 != 0
    }

    fn set_bit(&self, base: usize, port: Port, value: bool) {
        let byte = &self.machine.page(SHARED_GFN).unwrap()[base + port.0 as usize / 8];
        let bit = 1 << (port.0 % 8);
        let old = byte.load(Acquire);
        byte.store(if value { old | bit } else { old & !bit }, Release);
    }

    /// Takes all events of a vCPU as an interrupt handler does.
    fn handle(&self, vcpu: u32) {
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

    fn grant(&self, gref: u32, gfn: u32, flags: u16) {
        let page = self.machine.page(GRANTS_GFN).unwrap();
        let at = gref as usize * 8;
        let bytes = [u32::from(flags).to_le_bytes(), gfn.to_le_bytes()].concat();
        for (i, b) in bytes.into_iter().enumerate() {
            page[at + i].store(b, Release);
        }
    }

    fn flags(&self, gref: u32) -> u16 {
        let page = self.machine.page(GRANTS_GFN).unwrap();
        u16::from_le_bytes([
            page[gref as usize * 8].load(Acquire),
            page[gref as usize * 8 + 1].load(Acquire),
        ])
    }
}

#[test]
fn an_event_goes_both_ways_over_a_bound_port() {
    let g = Guest::new();
    assert_eq!(
        g.call(
            hypercall::HVM_OP,
            hvm::SET_EVTCHN_UPCALL_VECTOR,
            &mut EvtchnUpcallVector {
                vcpu: 0,
                vector: 0x50,
                ..Default::default()
            }
        ),
        0
    );
    let port = g.unbound();
    assert_eq!(port, Port(1));
    assert_eq!(
        g.events(SEND, &mut PortArg { port }),
        0,
        "an unbound port swallows events"
    );
    let end = g.xen.dom0_bind(port, &g.bell).unwrap();
    assert!(end.take(), "a new binding starts pending");
    assert_eq!(g.events(SEND, &mut PortArg { port }), 0);
    assert!(g.bell.clear() && end.take() && !end.take());
    g.machine.take_upcalls();
    g.xen.dom0_notify(&end);
    g.xen.dom0_notify(&end);
    assert_eq!(
        g.machine.take_upcalls(),
        [(0, Upcall::Vector(0x50))],
        "one edge for two events"
    );
    assert!(g.bit(PENDING, port));
    g.xen.dom0_close(&end);
    assert_eq!(
        g.xen.port_state(GUEST, port),
        Some(PortState::Unbound(DomId::DOM0))
    );
}

#[test]
fn masked_events_wait_for_the_unmask() {
    let g = Guest::new();
    g.call(
        hypercall::HVM_OP,
        hvm::SET_EVTCHN_UPCALL_VECTOR,
        &mut EvtchnUpcallVector {
            vcpu: 1,
            vector: 0x51,
            ..Default::default()
        },
    );
    let port = g.unbound();
    let end = g.xen.dom0_bind(port, &g.bell).unwrap();
    assert_eq!(g.events(BIND_VCPU, &mut BindVcpu { port, vcpu: 1 }), 0);
    g.set_bit(MASK, port, true);
    g.machine.take_upcalls();
    g.xen.dom0_notify(&end);
    assert_eq!(g.machine.take_upcalls(), []);
    assert_eq!(g.events(UNMASK, &mut PortArg { port }), 0);
    assert_eq!(g.machine.take_upcalls(), [(1, Upcall::Vector(0x51))]);
    assert!(!g.bit(MASK, port));
}

#[test]
fn the_callback_line_is_up_while_the_flag_is() {
    let g = Guest::new();
    let port = g.unbound();
    let end = g.xen.dom0_bind(port, &g.bell).unwrap();
    assert_eq!(g.machine.take_upcalls(), []);
    assert_eq!(g.set_param(PARAM_CALLBACK_IRQ, 24), 0);
    g.xen.dom0_notify(&end);
    g.xen.dom0_notify(&end);
    assert_eq!(
        g.machine.take_upcalls(),
        [(
            0,
            Upcall::Gsi {
                gsi: 24,
                level: true
            }
        )]
    );
    g.xen.interrupt_done(0);
    assert_eq!(g.machine.take_upcalls(), []);
    g.handle(0);
    assert_eq!(
        g.machine.take_upcalls(),
        [(
            0,
            Upcall::Gsi {
                gsi: 24,
                level: false
            }
        )]
    );
    // PCI INTA of device 2 is the same line.
    assert_eq!(
        g.set_param(
            PARAM_CALLBACK_IRQ,
            CALLBACK_VIA_PCI_INTX << CALLBACK_VIA_SHIFT | 2 << 11
        ),
        0
    );
    g.xen.dom0_notify(&end);
    assert_eq!(
        g.machine.take_upcalls(),
        [(
            0,
            Upcall::Gsi {
                gsi: 24,
                level: true
            }
        )]
    );
    assert_eq!(g.set_param(PARAM_CALLBACK_IRQ, 0), 0);
    assert_eq!(
        g.machine.take_upcalls(),
        [(
            0,
            Upcall::Gsi {
                gsi: 24,
                level: false
            }
        )]
    );
}

#[test]
fn a_callback_vector_comes_again_until_the_flag_is_cleared() {
    let g = Guest::new();
    let port = g.unbound();
    let end = g.xen.dom0_bind(port, &g.bell).unwrap();
    g.handle(0);
    assert_eq!(
        g.set_param(
            PARAM_CALLBACK_IRQ,
            CALLBACK_VIA_VECTOR << CALLBACK_VIA_SHIFT | 0xF3
        ),
        0
    );
    g.machine.take_upcalls();
    g.xen.dom0_notify(&end);
    g.xen.interrupt_done(0);
    assert_eq!(
        g.machine.take_upcalls(),
        [(0, Upcall::Vector(0xF3)), (0, Upcall::Vector(0xF3))]
    );
    g.handle(0);
    assert_eq!(g.machine.take_upcalls(), []);
}

#[test]
fn event_channel_errors_are_xens() {
    let g = Guest::new();
    let far = Port(4000);
    assert_eq!(g.events(SEND, &mut PortArg { port: far }), -EINVAL);
    assert_eq!(g.events(SEND, &mut PortArg { port: Port(0) }), -EINVAL);
    assert_eq!(g.events(CLOSE, &mut PortArg { port: Port(3) }), -EINVAL);
    assert_eq!(g.events(UNMASK, &mut PortArg { port: far }), -EINVAL);
    assert_eq!(
        g.events(
            STATUS,
            &mut Status {
                dom: DomId::SELF,
                port: far,
                ..Default::default()
            }
        ),
        -EINVAL
    );
    assert_eq!(
        g.events(
            STATUS,
            &mut Status {
                dom: DomId(9),
                ..Default::default()
            }
        ),
        -ESRCH
    );
    assert_eq!(
        g.events(
            ALLOC_UNBOUND,
            &mut AllocUnbound {
                dom: DomId::DOM0,
                ..Default::default()
            }
        ),
        -EPERM
    );
    assert_eq!(
        g.events(
            BIND_INTERDOMAIN,
            &mut BindInterdomain {
                remote_dom: DomId(9),
                ..Default::default()
            }
        ),
        -ESRCH
    );
    assert_eq!(
        g.events(
            BIND_INTERDOMAIN,
            &mut BindInterdomain {
                remote_dom: DomId::DOM0,
                remote_port: Port(1),
                ..Default::default()
            }
        ),
        -EINVAL
    );
    assert_eq!(
        g.events(
            BIND_VIRQ,
            &mut BindVirq {
                virq: 99,
                ..Default::default()
            }
        ),
        -EINVAL
    );
    assert_eq!(
        g.events(
            BIND_VIRQ,
            &mut BindVirq {
                virq: VIRQ_DEBUG,
                vcpu: 7,
                ..Default::default()
            }
        ),
        -ENOENT
    );
    let mut virq = BindVirq {
        virq: VIRQ_DEBUG,
        ..Default::default()
    };
    assert_eq!(g.events(BIND_VIRQ, &mut virq), 0);
    assert_eq!(g.events(BIND_VIRQ, &mut virq.clone()), -EEXIST);
    assert_eq!(g.events(SEND, &mut PortArg { port: virq.port }), -EINVAL);
    assert_eq!(
        g.events(
            BIND_VCPU,
            &mut BindVcpu {
                port: virq.port,
                vcpu: 1
            }
        ),
        -EINVAL
    );
    assert_eq!(g.events(INIT_CONTROL, &mut InitControl::default()), -ENOSYS);
    g.xen.raise_virq(VIRQ_DEBUG, 0);
    assert!(g.bit(PENDING, virq.port));
    let mut status = Status {
        dom: DomId::SELF,
        port: virq.port,
        ..Default::default()
    };
    assert_eq!(g.events(STATUS, &mut status), 0);
    assert_eq!((status.status, status.peer), (STATUS_VIRQ, VIRQ_DEBUG));
    // Bad addresses.
    assert_eq!(
        g.xen.hypercall(0, 32, [u64::from(SEND), 1 << 40, 0, 0, 0]),
        -EFAULT
    );
    assert_eq!(g.xen.hypercall(0, 99, [0; 5]), -ENOSYS);
}

#[test]
fn ports_run_out_at_the_limit_and_come_back_with_a_reset() {
    let g = Guest::with(Config {
        max_port: 100,
        ..Config::default()
    });
    let ports: Vec<_> = (0..100).map(|_| g.unbound()).collect();
    assert_eq!(ports.last(), Some(&Port(100)));
    let mut a = AllocUnbound {
        dom: DomId::SELF,
        remote_dom: DomId::DOM0,
        ..Default::default()
    };
    assert_eq!(g.events(ALLOC_UNBOUND, &mut a), -ENOSPC);
    let end = g.xen.dom0_bind(Port(50), &g.bell).unwrap();
    assert_eq!(g.events(RESET, &mut Reset { dom: DomId::SELF }), 0);
    assert_eq!(g.xen.port_state(GUEST, Port(50)), Some(PortState::Free));
    assert_eq!(
        g.xen.port_state(DomId::DOM0, end.port()),
        Some(PortState::Unbound(GUEST))
    );
    let mut back = BindInterdomain {
        remote_dom: DomId::DOM0,
        remote_port: end.port(),
        ..Default::default()
    };
    assert_eq!(g.events(BIND_INTERDOMAIN, &mut back), 0);
    assert!(
        g.bit(PENDING, back.local_port),
        "the new end starts pending"
    );
    assert_eq!(
        g.events(
            SEND,
            &mut PortArg {
                port: back.local_port
            }
        ),
        0
    );
    assert!(end.take());
}

#[test]
fn a_registered_vcpu_info_takes_over() {
    let g = Guest::new();
    g.call(
        hypercall::HVM_OP,
        hvm::SET_EVTCHN_UPCALL_VECTOR,
        &mut EvtchnUpcallVector {
            vcpu: 0,
            vector: 0x50,
            ..Default::default()
        },
    );
    let mut a = RegisterVcpuInfo {
        gfn: 9,
        offset: 128,
        rsvd: 0,
    };
    g.machine.write(0, a.as_bytes()).unwrap();
    let op = |vcpu, current| {
        g.xen.hypercall(
            current,
            24,
            [u64::from(vcpu::REGISTER_VCPU_INFO), vcpu, 0, 0, 0],
        )
    };
    assert_eq!(op(1, 0), -EINVAL, "only a vCPU itself");
    assert_eq!(op(7, 7), -ENOENT);
    assert_eq!(op(0, 0), 0);
    assert_eq!(op(0, 0), -EINVAL, "only once");
    a.offset = 4096;
    g.machine.write(0, a.as_bytes()).unwrap();
    assert_eq!(op(1, 1), -EINVAL);
    let page = g.machine.page(9).unwrap();
    assert_eq!(
        (page[128].load(Acquire), page[136].load(Acquire)),
        (1, 0xFF),
        "everything counts as pending"
    );
    assert_ne!(
        page[128 + 32 + 24].load(Acquire) | page[128 + 32 + 27].load(Acquire),
        0,
        "the clock moved too"
    );
    page[128].store(0, Release);
    page[136..144].iter().for_each(|b| b.store(0, Release));
    let port = g.unbound();
    g.machine.take_upcalls();
    let end = g.xen.dom0_bind(port, &g.bell).unwrap();
    g.xen.dom0_notify(&end);
    assert_eq!(page[128].load(Acquire), 1);
}

#[test]
fn parameters_have_their_owners() {
    let g = Guest::new();
    assert_eq!(g.set_param(PARAM_STORE_PFN, 1), -EPERM);
    assert_eq!(g.set_param(NR_PARAMS, 1), -EINVAL);
    assert_eq!(g.set_param(PARAM_STORE_EVTCHN, 3), 0);
    let mut p = HvmParam {
        domid: DomId(7),
        index: PARAM_STORE_EVTCHN,
        ..Default::default()
    };
    assert_eq!(g.call(hypercall::HVM_OP, hvm::GET_PARAM, &mut p), -ESRCH);
    p.domid = DomId::SELF;
    assert_eq!(g.call(hypercall::HVM_OP, hvm::GET_PARAM, &mut p), 0);
    assert_eq!(p.value, 3);
    let mut v = EvtchnUpcallVector {
        vcpu: 0,
        vector: 15,
        ..Default::default()
    };
    assert_eq!(
        g.call(hypercall::HVM_OP, hvm::SET_EVTCHN_UPCALL_VECTOR, &mut v),
        -EINVAL
    );
}

#[test]
fn memory_given_back_is_gone_until_populated() {
    let g = Guest::new();
    g.machine.write(40 * 4096, b"secret").unwrap();
    let gfns: Vec<u8> = [40u64, 41, 9999]
        .iter()
        .flat_map(|g| g.to_le_bytes())
        .collect();
    g.machine.write(8 * 4096, &gfns).unwrap();
    let reservation = |nr_extents| MemoryReservation {
        extent_start: 8 * 4096,
        nr_extents,
        domid: DomId::SELF,
        ..Default::default()
    };
    assert_eq!(
        g.call(
            hypercall::MEMORY_OP,
            memory::DECREASE_RESERVATION,
            &mut reservation(3)
        ),
        2,
        "stops at the bad one"
    );
    assert!(g.machine.read(40 * 4096, &mut [0]).is_err());
    assert_eq!(g.xen.guest_pages(), 60);
    assert_eq!(
        g.call(
            hypercall::MEMORY_OP,
            memory::DECREASE_RESERVATION,
            &mut reservation(1)
        ),
        0
    );
    assert_eq!(
        g.call(
            hypercall::MEMORY_OP,
            memory::POPULATE_PHYSMAP,
            &mut reservation(2)
        ),
        2
    );
    let mut back = [1; 6];
    g.machine.read(40 * 4096, &mut back).unwrap();
    assert_eq!(back, [0; 6], "scrubbed");
}

#[test]
fn xens_pages_are_shown_at_one_place() {
    let g = Guest::new();
    assert_eq!(g.show(SPACE_SHARED_INFO, 0, 20), 0);
    assert!(g.machine.page(SHARED_GFN).is_none());
    assert_eq!(g.show(SPACE_GRANT_TABLE, 64, 21), -EINVAL);
    assert_eq!(g.show(SPACE_GRANT_TABLE, 63, 21), 0);
    assert_eq!(g.show(SPACE_GRANT_TABLE, 0, 1 << 30), -EINVAL);
    let mut size = QuerySize {
        dom: DomId::SELF,
        ..Default::default()
    };
    assert_eq!(
        g.call(hypercall::GRANT_TABLE_OP, grant::QUERY_SIZE, &mut size),
        0
    );
    assert_eq!(
        (size.status, size.nr_frames, size.max_nr_frames),
        (GNTST_OKAY, 64, 64)
    );
    let mut remove = RemoveFromPhysmap {
        domid: DomId::SELF,
        gpfn: 20,
        ..Default::default()
    };
    assert_eq!(
        g.call(
            hypercall::MEMORY_OP,
            memory::REMOVE_FROM_PHYSMAP,
            &mut remove
        ),
        0
    );
    assert_eq!(
        g.call(
            hypercall::MEMORY_OP,
            memory::REMOVE_FROM_PHYSMAP,
            &mut remove
        ),
        -ENOENT
    );
}

#[test]
fn grants_are_held_while_mapped() {
    let g = Guest::new();
    g.grant(8, 30, GTF_PERMIT_ACCESS);
    g.grant(9, 31, GTF_PERMIT_ACCESS | GTF_READONLY);
    let write = g.xen.map(Gref(8), Access::Write).unwrap();
    assert_eq!(g.flags(8), GTF_PERMIT_ACCESS | GTF_READING | GTF_WRITING);
    let read = g.xen.map(Gref(8), Access::Read).unwrap();
    drop(write);
    assert_eq!(g.flags(8), GTF_PERMIT_ACCESS | GTF_READING);
    drop(read);
    assert_eq!(g.flags(8), GTF_PERMIT_ACCESS);
    assert_eq!(
        g.xen.map(Gref(9), Access::Write).unwrap_err().0,
        GNTST_GENERAL_ERROR
    );
    assert!(g.xen.map(Gref(9), Access::Read).is_ok());
    assert_eq!(
        g.xen.map(Gref(10), Access::Read).unwrap_err().0,
        GNTST_GENERAL_ERROR
    );
    assert_eq!(
        g.xen.map(Gref(512), Access::Read).unwrap_err().0,
        GNTST_BAD_GNTREF
    );
    g.grant(11, 5000, GTF_PERMIT_ACCESS);
    assert_eq!(
        g.xen.map(Gref(11), Access::Read).unwrap_err().0,
        GNTST_GENERAL_ERROR
    );
    assert_eq!(g.flags(11), GTF_PERMIT_ACCESS);
    assert_eq!(g.xen.grants_in_use(), 0);
    assert_eq!(g.xen.take_violations(), []);
}

#[test]
fn a_grant_changed_in_use_is_a_violation_and_the_mapping_keeps_its_page() {
    let g = Guest::new();
    g.machine.write(30 * 4096, &[7]).unwrap();
    g.grant(8, 30, GTF_PERMIT_ACCESS);
    let mapping = g.xen.map(Gref(8), Access::Write).unwrap();
    g.grant(8, 31, GTF_PERMIT_ACCESS);
    assert_eq!(mapping.words()[0].load(Acquire), 7);
    drop(mapping);
    assert_eq!(g.xen.take_violations().len(), 1);
}

#[test]
fn grant_copies_check_both_sides() {
    let g = Guest::new();
    g.machine.write(30 * 4096 + 100, b"hello").unwrap();
    g.grant(8, 30, GTF_PERMIT_ACCESS | GTF_READONLY);
    // The entry is for domain 0; the guest itself may not use it.
    let mut copy = GrantCopy {
        source: GrantCopyPtr {
            reference: 30,
            domid: DomId::SELF,
            offset: 100,
            ..Default::default()
        },
        dest: GrantCopyPtr {
            reference: 33,
            domid: DomId::SELF,
            offset: 4000,
            ..Default::default()
        },
        len: 5,
        ..Default::default()
    };
    assert_eq!(g.call(hypercall::GRANT_TABLE_OP, grant::COPY, &mut copy), 0);
    let mut back = [0; 5];
    g.machine.read(33 * 4096 + 4000, &mut back).unwrap();
    assert_eq!((copy.status, &back), (GNTST_OKAY, b"hello"));
    copy.len = 97;
    g.call(hypercall::GRANT_TABLE_OP, grant::COPY, &mut copy);
    assert_eq!(copy.status, GNTST_BAD_COPY_ARG);
    copy = GrantCopy {
        source: GrantCopyPtr {
            reference: 8,
            ..copy.source
        },
        len: 5,
        flags: GNTCOPY_SOURCE_GREF,
        ..copy
    };
    g.call(hypercall::GRANT_TABLE_OP, grant::COPY, &mut copy);
    assert_eq!(copy.status, GNTST_GENERAL_ERROR);
}

#[test]
fn the_console_announces_itself_and_versions_are_told() {
    let g = Guest::new();
    assert_eq!(g.xen.hypercall(0, 17, [0; 5]), 4 << 16 | 17);
    let leaf = g.xen.cpuid(1, cpuid::FIRST_LEAF + 0x100, 0);
    assert_eq!(
        leaf[1..],
        [
            cpuid::SIGNATURE_EBX,
            cpuid::SIGNATURE_ECX,
            cpuid::SIGNATURE_EDX
        ]
    );
    let hvm = g.xen.cpuid(1, cpuid::FIRST_LEAF + 0x104, 0);
    assert_eq!(
        (hvm[0] & cpuid::HVM_VCPU_ID_PRESENT != 0, hvm[1]),
        (true, 1)
    );
    assert_eq!(g.xen.cpuid(1, 1, 0)[1] >> 24, 2);
    assert_eq!(
        g.xen.io_read(platform::PORT_UNPLUG, 2),
        u32::from(platform::MAGIC)
    );
    g.xen.io_write(
        platform::PORT_UNPLUG,
        2,
        u32::from(platform::UNPLUG_ALL_DISKS),
    );
    assert_eq!(g.xen.unplugged(), platform::UNPLUG_ALL_DISKS);
}

#[test]
fn timers_and_watchdogs_go_off() {
    let g = Guest::new();
    let mut virq = BindVirq {
        virq: VIRQ_TIMER,
        vcpu: 0,
        ..Default::default()
    };
    assert_eq!(g.events(BIND_VIRQ, &mut virq), 0);
    let timer = |period_ns: u64| {
        g.machine
            .write(0, SetPeriodicTimer { period_ns }.as_bytes())
            .unwrap();
        g.xen
            .hypercall(0, 24, [u64::from(vcpu::SET_PERIODIC_TIMER), 0, 0, 0, 0])
    };
    assert_eq!(timer(10), -EINVAL);
    assert_eq!(timer(1_000_000_000), 0);
    assert!(!g.xen.run_timers());
    g.machine.advance(2_500_000_000);
    assert!(g.xen.run_timers() && g.bit(PENDING, virq.port));
    assert!(!g.xen.run_timers());
    let watchdog = |id, timeout| {
        g.call(
            hypercall::SCHED_OP,
            sched::WATCHDOG,
            &mut Watchdog { id, timeout },
        )
    };
    assert_eq!(watchdog(0, 0), -EINVAL);
    assert_eq!(watchdog(0, 10), 1);
    assert_eq!(watchdog(0, 10), 2);
    assert_eq!(watchdog(0, 10), -ENOSPC);
    assert_eq!((watchdog(2, 0), watchdog(2, 5)), (0, -EINVAL));
    g.machine.advance(9_000_000_000);
    assert_eq!(watchdog(1, 10), 0);
    g.machine.advance(9_000_000_000);
    g.xen.run_timers();
    assert_eq!(g.machine.shutdown_reason(), None);
    g.machine.advance(2_000_000_000);
    g.xen.run_timers();
    assert_eq!(g.machine.shutdown_reason(), Some(sched::SHUTDOWN_WATCHDOG));
}

#[test]
fn a_restored_guest_finds_everything_of_xens_new() {
    for how in [Resume::Cancelled, Resume::Restored] {
        let g = Guest::new();
        let dom0 = Dom0::new(g.xen.clone());
        dom0.build_guest(GuestSpec::default());
        dom0.store().write("/local/domain/1/data/mine", "1");
        let port = g.unbound();
        dom0.send(Command::Suspend);
        assert!(!dom0.is_acknowledged());
        let result = std::thread::scope(|scope| {
            let call = scope.spawn(|| {
                g.call(
                    hypercall::SCHED_OP,
                    sched::SHUTDOWN,
                    &mut Shutdown {
                        reason: sched::SHUTDOWN_SUSPEND,
                    },
                )
            });
            while !dom0.resume_guest(how) {
                std::thread::yield_now();
            }
            call.join().unwrap()
        });
        assert_eq!(result, i64::from(how == Resume::Cancelled));
        let kept = how == Resume::Cancelled;
        assert_eq!(
            g.xen.port_state(GUEST, port) == Some(PortState::Unbound(DomId::DOM0)),
            kept
        );
        assert_eq!(g.machine.page(SHARED_GFN).is_some(), kept);
        assert_eq!(
            dom0.store().read("/local/domain/1/data/mine").is_some(),
            kept
        );
        assert_eq!(g.show(SPACE_SHARED_INFO, 0, SHARED_GFN), 0);
        let mut p = HvmParam {
            domid: DomId::SELF,
            index: PARAM_STORE_EVTCHN,
            ..Default::default()
        };
        assert_eq!(g.call(hypercall::HVM_OP, hvm::GET_PARAM, &mut p), 0);
        let mut status = Status {
            dom: DomId::SELF,
            port: Port(p.value as u32),
            ..Default::default()
        };
        assert_eq!(g.events(STATUS, &mut status), 0);
        assert_eq!(status.status, STATUS_INTERDOMAIN);
    }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Alloc(u16),
    Dom0Bind(u32),
    Dom0Close(u32),
    Bind(u32),
    Virq(u32, u32),
    Close(u32),
    Send(u32),
    Unmask(u32),
    Vcpu(u32, u32),
    Reset,
}

fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        prop_oneof![Just(0u16), Just(1), Just(9), Just(0x7FF0)].prop_map(Op::Alloc),
        (0..12u32).prop_map(Op::Dom0Bind),
        (0..12u32).prop_map(Op::Dom0Close),
        (0..12u32).prop_map(Op::Bind),
        (0..4u32, 0..3u32).prop_map(|(v, c)| Op::Virq(v, c)),
        (0..200u32).prop_map(Op::Close),
        (0..12u32).prop_map(Op::Close),
        (0..200u32).prop_map(Op::Send),
        (0..5000u32).prop_map(Op::Unmask),
        (0..12u32, 0..3u32).prop_map(|(p, v)| Op::Vcpu(p, v)),
        Just(Op::Reset),
    ]
}

proptest! {
    #[test]
    fn the_two_ends_of_a_channel_always_agree(ops in prop::collection::vec(ops(), 1..80)) {
        let g = Guest::new();
        let mut ends = Vec::new();
        for op in ops {
            match op {
                Op::Alloc(remote) => {
 let _ = g.events(ALLOC_UNBOUND, &mut AllocUnbound { dom: DomId::SELF, remote_dom: DomId(remote), ..Default::default() });
}
                Op::Dom0Bind(p) => ends.extend(g.xen.dom0_bind(Port(p), &g.bell)),
                Op::Dom0Close(i) => if let Some(end) = ends.get(i as usize) { g.xen.dom0_close(end) },
                Op::Bind(p) => {
 let _ = g.events(BIND_INTERDOMAIN, &mut BindInterdomain { remote_dom: DomId((p % 2) as u16), remote_port: Port(p), ..Default::default() });
}
                Op::Virq(virq, vcpu) => {
 let _ = g.events(BIND_VIRQ, &mut BindVirq { virq, vcpu, ..Default::default() });
}
                Op::Close(p) => {
 let _ = g.events(CLOSE, &mut PortArg { port: Port(p) });
}
                Op::Send(p) => {
 let _ = g.events(SEND, &mut PortArg { port: Port(p) });
}
                Op::Unmask(p) => {
 let _ = g.events(UNMASK, &mut PortArg { port: Port(p) });
}
                Op::Vcpu(p, v) => {
 let _ = g.events(BIND_VCPU, &mut BindVcpu { port: Port(p), vcpu: v });
}
                Op::Reset => {
 let _ = g.events(RESET, &mut Reset { dom: DomId::SELF });
}
            }
            for dom in [DomId::DOM0, GUEST] {
                let mut port = 0;
                while let Some(state) = g.xen.port_state(dom, Port(port)) {
                    if let PortState::Interdomain(peer, peer_port) = state {
                        prop_assert_eq!(g.xen.port_state(peer, peer_port), Some(PortState::Interdomain(dom, Port(port))));
                    }
                    port += 1;
                }
            }
        }
    }

    #[test]
    fn no_argument_stops_the_hypervisor(nr in prop_oneof![Just(12u64), Just(17), Just(20), Just(24), Just(32), Just(34)], cmd in 0u64..16, bytes in prop::collection::vec(any::<u8>(), 64), small in any::<bool>(), args in any::<[u64; 3]>()) {
        let g = Guest::new();
        let bytes: Vec<u8> = if small { bytes.iter().enumerate().map(|(i, b)| if i % 4 == 0 { b & 63 } else { 0 }).collect() } else { bytes };
        g.machine.write(64, &bytes).unwrap();
        let arg = if args[0] % 8 == 0 { args[1] } else { 64 };
        g.xen.hypercall(0, nr, [cmd, arg, 1 + args[2] % 3, 0, 0]);
        g.xen.hypercall(1, 24, [cmd, args[0] % 3, arg, 0, 0]);
    }
}
