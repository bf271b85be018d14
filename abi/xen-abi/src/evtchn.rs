//! Event channel operations and their arguments. public/event_channel.h.

use crate::{DomId, Port};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `EVTCHNOP_bind_interdomain`: [`BindInterdomain`].
pub const BIND_INTERDOMAIN: u32 = 0;
/// `EVTCHNOP_bind_virq`: [`BindVirq`].
pub const BIND_VIRQ: u32 = 1;
/// `EVTCHNOP_bind_pirq`.
pub const BIND_PIRQ: u32 = 2;
/// `EVTCHNOP_close`: [`PortArg`].
pub const CLOSE: u32 = 3;
/// `EVTCHNOP_send`: [`PortArg`].
pub const SEND: u32 = 4;
/// `EVTCHNOP_status`: [`Status`].
pub const STATUS: u32 = 5;
/// `EVTCHNOP_alloc_unbound`: [`AllocUnbound`].
pub const ALLOC_UNBOUND: u32 = 6;
/// `EVTCHNOP_bind_ipi`: [`BindIpi`].
pub const BIND_IPI: u32 = 7;
/// `EVTCHNOP_bind_vcpu`: [`BindVcpu`].
pub const BIND_VCPU: u32 = 8;
/// `EVTCHNOP_unmask`: [`PortArg`].
pub const UNMASK: u32 = 9;
/// `EVTCHNOP_reset`: [`Reset`].
pub const RESET: u32 = 10;
/// `EVTCHNOP_init_control`: [`InitControl`].
pub const INIT_CONTROL: u32 = 11;
/// `EVTCHNOP_expand_array`: [`ExpandArray`].
pub const EXPAND_ARRAY: u32 = 12;
/// `EVTCHNOP_set_priority`: [`SetPriority`].
pub const SET_PRIORITY: u32 = 13;

/// `EVTCHNSTAT_closed`.
pub const STATUS_CLOSED: u32 = 0;
/// `EVTCHNSTAT_unbound`: waits for a remote domain to bind.
pub const STATUS_UNBOUND: u32 = 1;
/// `EVTCHNSTAT_interdomain`.
pub const STATUS_INTERDOMAIN: u32 = 2;
/// `EVTCHNSTAT_pirq`.
pub const STATUS_PIRQ: u32 = 3;
/// `EVTCHNSTAT_virq`.
pub const STATUS_VIRQ: u32 = 4;
/// `EVTCHNSTAT_ipi`.
pub const STATUS_IPI: u32 = 5;

/// public/xen.h: `VIRQ_TIMER`, one per vCPU: the periodic or single-shot timer.
pub const VIRQ_TIMER: u32 = 0;
/// public/xen.h: `VIRQ_DEBUG`, one per vCPU: somebody asks the guest to dump its state.
pub const VIRQ_DEBUG: u32 = 1;
/// public/xen.h: `NR_VIRQS`.
pub const NR_VIRQS: u32 = 24;

/// Channels of the two-level ABI in a 64-bit guest: 64 words of 64 bits. public/event_channel.h: `EVTCHN_2L_NR_CHANNELS`.
pub const TWO_LEVEL_CHANNELS: u32 = 4096;
/// Channels of the FIFO ABI. `EVTCHN_FIFO_NR_CHANNELS`.
pub const FIFO_CHANNELS: u32 = 1 << 17;
/// Event word: `EVTCHN_FIFO_PENDING`, as a bit number.
pub const FIFO_PENDING: u32 = 31;
/// Event word: `EVTCHN_FIFO_MASKED`, as a bit number.
pub const FIFO_MASKED: u32 = 30;
/// Event word: `EVTCHN_FIFO_LINKED`, as a bit number.
pub const FIFO_LINKED: u32 = 29;
/// Event word: `EVTCHN_FIFO_BUSY`, as a bit number.
pub const FIFO_BUSY: u32 = 28;
/// Event word: `EVTCHN_FIFO_LINK_BITS`; the low bits that hold the next port.
pub const FIFO_LINK_BITS: u32 = 17;
/// Queues of a control block. `EVTCHN_FIFO_MAX_QUEUES`.
pub const FIFO_QUEUES: usize = 16;
/// `EVTCHN_FIFO_PRIORITY_DEFAULT`.
pub const FIFO_PRIORITY_DEFAULT: u32 = 7;
/// Event words in one page of the event array.
pub const FIFO_WORDS_PER_PAGE: u32 = 1024;

/// `struct evtchn_alloc_unbound`: makes a port which `remote_dom` may bind to.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AllocUnbound {
    /// Whose port; [`DomId::SELF`] for a guest.
    pub dom: DomId,
    /// Who may bind.
    pub remote_dom: DomId,
    /// Out: the new port.
    pub port: Port,
}
layout!(AllocUnbound, 8, dom @ 0, remote_dom @ 2, port @ 4);

/// `struct evtchn_bind_interdomain`: joins an unbound port of another domain.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BindInterdomain {
    /// The domain whose port it is.
    pub remote_dom: DomId,
    /// Padding.
    pub pad: u16,
    /// Its unbound port.
    pub remote_port: Port,
    /// Out: the new local port. It starts pending.
    pub local_port: Port,
}
layout!(BindInterdomain, 12, remote_dom @ 0, remote_port @ 4, local_port @ 8);

/// `struct evtchn_bind_virq`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BindVirq {
    /// One of `VIRQ_*`.
    pub virq: u32,
    /// The vCPU whose interrupt it is.
    pub vcpu: u32,
    /// Out.
    pub port: Port,
}
layout!(BindVirq, 12, virq @ 0, vcpu @ 4, port @ 8);

/// `struct evtchn_bind_ipi`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BindIpi {
    /// The vCPU to interrupt.
    pub vcpu: u32,
    /// Out.
    pub port: Port,
}
layout!(BindIpi, 8, vcpu @ 0, port @ 4);

/// `struct evtchn_bind_vcpu`: chooses the vCPU a port notifies.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BindVcpu {
    /// A local port.
    pub port: Port,
    /// The vCPU.
    pub vcpu: u32,
}
layout!(BindVcpu, 8, port @ 0, vcpu @ 4);

/// `struct evtchn_close`, `evtchn_send`, `evtchn_unmask`: a local port and no more.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PortArg {
    /// The local port.
    pub port: Port,
}
layout!(PortArg, 4, port @ 0);

/// `struct evtchn_reset`: closes every port of a domain and returns it to the two-level ABI.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Reset {
    /// [`DomId::SELF`] for a guest.
    pub dom: DomId,
}
layout!(Reset, 2, dom @ 0);

/// `struct evtchn_status`. The union at 16 is spelled out as words: see [`Status::peer`].
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Status {
    /// In: whose port.
    pub dom: DomId,
    /// Padding.
    pub pad: u16,
    /// In: the port.
    pub port: Port,
    /// Out: one of `STATUS_*`.
    pub status: u32,
    /// Out: the vCPU it notifies.
    pub vcpu: u32,
    /// Out, union: the remote domain in the low 16 bits (unbound, interdomain), the virq or the pirq.
    pub peer: u32,
    /// Out, union: the remote port (interdomain).
    pub peer_port: Port,
}
layout!(Status, 24, dom @ 0, port @ 4, status @ 8, vcpu @ 12, peer @ 16, peer_port @ 20);

/// `struct evtchn_init_control`: gives a vCPU its FIFO control block.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InitControl {
    /// Frame that holds the control block.
    pub control_gfn: u64,
    /// Bytes from the start of that frame.
    pub offset: u32,
    /// The vCPU.
    pub vcpu: u32,
    /// Out: [`FIFO_LINK_BITS`].
    pub link_bits: u8,
    /// Padding.
    pub pad: [u8; 7],
}
layout!(InitControl, 24, control_gfn @ 0, offset @ 8, vcpu @ 12, link_bits @ 16);

/// `struct evtchn_expand_array`: adds a page to the FIFO event array.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ExpandArray {
    /// The page's frame.
    pub array_gfn: u64,
}
layout!(ExpandArray, 8, array_gfn @ 0);

/// `struct evtchn_set_priority`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetPriority {
    /// A local port.
    pub port: Port,
    /// 0 (highest) to 15.
    pub priority: u32,
}
layout!(SetPriority, 8, port @ 0, priority @ 4);
