//! What belongs to the guest as a whole and to its vCPUs: parameters, versions, places for vCPU information, timers and
//! suspension.

use std::sync::atomic::Ordering::{Acquire, Release};

use xen_abi::errno::*;
use xen_abi::evtchn::*;
use xen_abi::hvm::{self, *};
use xen_abi::memory::SPACE_SHARED_INFO;
use xen_abi::sched::{self, Shutdown, Watchdog};
use xen_abi::vcpu::{self, RegisterVcpuInfo, SetPeriodicTimer};
use xen_abi::{DomId, Port, cpuid, hypercall, platform};
use xen_model::dom0::Dom0;
use xen_model::toolstack::{Command, GuestSpec};
use xen_model::{GUEST, Machine, PortState, Resume};
use zerocopy::IntoBytes;

use crate::guest::{Guest, PENDING, SHARED_GFN};

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
