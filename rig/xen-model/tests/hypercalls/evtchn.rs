//! Event channels: both ends of them, how the guest hears of events, and what is refused.

use std::sync::Arc;

use proptest::prelude::*;
use xen_abi::errno::*;
use xen_abi::evtchn::*;
use xen_abi::hvm::{self, *};
use xen_abi::{DomId, Port, hypercall};
use xen_model::{Config, EventEnd, GUEST, PortState, Upcall};

use crate::guest::{Guest, MASK, PENDING};

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

/// Does one step; what it answers does not matter.
fn apply(g: &Guest, ends: &mut Vec<Arc<EventEnd>>, op: Op) {
    match op {
        Op::Alloc(remote) => {
            g.events(
                ALLOC_UNBOUND,
                &mut AllocUnbound {
                    dom: DomId::SELF,
                    remote_dom: DomId(remote),
                    ..Default::default()
                },
            );
        }
        Op::Dom0Bind(p) => ends.extend(g.xen.dom0_bind(Port(p), &g.bell)),
        Op::Dom0Close(i) => {
            if let Some(end) = ends.get(i as usize) {
                g.xen.dom0_close(end)
            }
        }
        Op::Bind(p) => {
            g.events(
                BIND_INTERDOMAIN,
                &mut BindInterdomain {
                    remote_dom: DomId((p % 2) as u16),
                    remote_port: Port(p),
                    ..Default::default()
                },
            );
        }
        Op::Virq(virq, vcpu) => {
            g.events(
                BIND_VIRQ,
                &mut BindVirq {
                    virq,
                    vcpu,
                    ..Default::default()
                },
            );
        }
        Op::Close(p) => {
            g.events(CLOSE, &mut PortArg { port: Port(p) });
        }
        Op::Send(p) => {
            g.events(SEND, &mut PortArg { port: Port(p) });
        }
        Op::Unmask(p) => {
            g.events(UNMASK, &mut PortArg { port: Port(p) });
        }
        Op::Vcpu(p, v) => {
            g.events(
                BIND_VCPU,
                &mut BindVcpu {
                    port: Port(p),
                    vcpu: v,
                },
            );
        }
        Op::Reset => {
            g.events(RESET, &mut Reset { dom: DomId::SELF });
        }
    }
}

proptest! {
    #[test]
    fn the_two_ends_of_a_channel_always_agree(ops in prop::collection::vec(ops(), 1..80)) {
        let g = Guest::new();
        let mut ends = Vec::new();
        for op in ops {
            apply(&g, &mut ends, op);
            for dom in [DomId::DOM0, GUEST] {
                let mut port = 0;
                while let Some(state) = g.xen.port_state(dom, Port(port)) {
                    if let PortState::Interdomain(peer, peer_port) = state {
                        let back = PortState::Interdomain(dom, Port(port));
                        prop_assert_eq!(g.xen.port_state(peer, peer_port), Some(back));
                    }
                    port += 1;
                }
            }
        }
    }
}
