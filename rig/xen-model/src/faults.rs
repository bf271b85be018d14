//! What can go wrong in Xen and in domain 0 because somebody wants it to: errors, lost events, a slow xenstored.
//!
//! A real Xen fails hypercalls for want of memory, a real xenstored answers late; neither does when a test asks for it.
//! [`Faults`] is asked at each of these places, and counts what it is asked.

use std::borrow::Cow;

use xen_abi::xs_wire::XsError;
use xen_abi::{evtchn, grant, hvm, hypercall, memory, sched, vcpu, version};

/// How long a late event or a slow answer takes, in nanoseconds: 300 ms, far more than the drivers spin.
pub(crate) const LATE: u64 = 300_000_000;

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It arrives.
    Now,
    /// It is lost.
    Never,
    /// It arrives [a good while](LATE) later.
    Late,
    /// It arrives, and one on each other port of the receiver's with it, for no reason.
    WithOthers,
}

/// Where an event goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the guest.
    Guest,
    /// To domain 0.
    Dom0,
}

/// What becomes of a request to xenstored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is carried out.
    Honest,
    /// It fails, and nothing is done.
    Error(XsError),
    /// It is carried out [a good while](LATE) later, and those behind it wait.
    Late,
    /// It is forgotten.
    Never,
}

/// What a hypercall comes to that is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It returns this: a negated error number, or how much was done.
    Returns(i64),
    /// It returns success, and each grant operation in it has this status (`GNTST_*`). Other hypercalls have none, and
    /// return `-EINVAL`.
    Status(i16),
}

/// Decides what goes wrong. Called from every thread, with locks of the model held: it may not call back.
pub trait Faults: Send + Sync {
    /// What a hypercall of the guest comes to instead of being carried out; `None` for an honest one. `name` is that of
    /// the hypercall and its sub-operation: `grant_table_op.setup_table`.
    fn hypercall(&self, name: &str) -> Option<Refusal>;
    /// What becomes of an event.
    fn event(&self, to: Direction) -> Delivery;
    /// What becomes of a request of the guest's to xenstored.
    fn store(&self) -> Answer;
}

/// The name of a hypercall and of its sub-operation; `arguments` are its registers.
pub fn name_of(number: u32, arguments: [u64; 5]) -> Cow<'static, str> {
    let sub = arguments[0] as u32;
    let name = match number {
        hypercall::MEMORY_OP => match sub & ((1 << memory::EXTENT_SHIFT) - 1) {
            memory::INCREASE_RESERVATION => "memory_op.increase_reservation",
            memory::DECREASE_RESERVATION => "memory_op.decrease_reservation",
            memory::POPULATE_PHYSMAP => "memory_op.populate_physmap",
            memory::ADD_TO_PHYSMAP => "memory_op.add_to_physmap",
            memory::REMOVE_FROM_PHYSMAP => "memory_op.remove_from_physmap",
            _ => return format!("memory_op.{sub}").into(),
        },
        hypercall::XEN_VERSION => match sub {
            version::VERSION => "xen_version.version",
            version::EXTRAVERSION => "xen_version.extraversion",
            version::GET_FEATURES => "xen_version.get_features",
            _ => return format!("xen_version.{sub}").into(),
        },
        hypercall::GRANT_TABLE_OP => match sub {
            grant::MAP_GRANT_REF => "grant_table_op.map_grant_ref",
            grant::UNMAP_GRANT_REF => "grant_table_op.unmap_grant_ref",
            grant::SETUP_TABLE => "grant_table_op.setup_table",
            grant::COPY => "grant_table_op.copy",
            grant::QUERY_SIZE => "grant_table_op.query_size",
            grant::SET_VERSION => "grant_table_op.set_version",
            grant::GET_VERSION => "grant_table_op.get_version",
            _ => return format!("grant_table_op.{sub}").into(),
        },
        hypercall::VCPU_OP => match sub {
            vcpu::IS_UP => "vcpu_op.is_up",
            vcpu::SET_PERIODIC_TIMER => "vcpu_op.set_periodic_timer",
            vcpu::STOP_PERIODIC_TIMER => "vcpu_op.stop_periodic_timer",
            vcpu::REGISTER_VCPU_INFO => "vcpu_op.register_vcpu_info",
            _ => return format!("vcpu_op.{sub}").into(),
        },
        hypercall::SCHED_OP => match sub {
            sched::YIELD => "sched_op.yield",
            sched::BLOCK => "sched_op.block",
            sched::SHUTDOWN => "sched_op.shutdown",
            sched::POLL => "sched_op.poll",
            sched::SHUTDOWN_CODE => "sched_op.shutdown_code",
            sched::WATCHDOG => "sched_op.watchdog",
            _ => return format!("sched_op.{sub}").into(),
        },
        hypercall::EVENT_CHANNEL_OP => match sub {
            evtchn::BIND_INTERDOMAIN => "event_channel_op.bind_interdomain",
            evtchn::BIND_VIRQ => "event_channel_op.bind_virq",
            evtchn::CLOSE => "event_channel_op.close",
            evtchn::SEND => "event_channel_op.send",
            evtchn::STATUS => "event_channel_op.status",
            evtchn::ALLOC_UNBOUND => "event_channel_op.alloc_unbound",
            evtchn::BIND_IPI => "event_channel_op.bind_ipi",
            evtchn::BIND_VCPU => "event_channel_op.bind_vcpu",
            evtchn::UNMASK => "event_channel_op.unmask",
            evtchn::RESET => "event_channel_op.reset",
            evtchn::INIT_CONTROL => "event_channel_op.init_control",
            _ => return format!("event_channel_op.{sub}").into(),
        },
        hypercall::HVM_OP => match sub {
            hvm::SET_PARAM => "hvm_op.set_param",
            hvm::GET_PARAM => "hvm_op.get_param",
            hvm::PAGETABLE_DYING => "hvm_op.pagetable_dying",
            hvm::SET_EVTCHN_UPCALL_VECTOR => "hvm_op.set_evtchn_upcall_vector",
            _ => return format!("hvm_op.{sub}").into(),
        },
        _ => return format!("hypercall_{number}").into(),
    };
    name.into()
}
