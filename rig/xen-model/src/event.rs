//! Event channels: the port tables of both domains, and `event_channel_op`. Two-level ABI.
//!
//! ```text
//!             bind_interdomain              alloc_unbound
//!   Interdomain ◄──────────── Unbound ◄────────────────── Free ──► Virq, Ipi
//!        └── peer closes ─────────►┘
//! ```
//! Sending takes the tables' lock shared, everything that changes a port takes it alone. Domain 0's ports have no bits
//! in memory: each is an [`EventEnd`], a flag with a doorbell.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};

use trace::{Class, Event};
use xen_abi::errno::*;
use xen_abi::evtchn::*;
use xen_abi::{DomId, Port};

use crate::dom0::Doorbell;
use crate::faults::{Delivery, Direction};
use crate::hypercall::{HypercallResult, guard};
use crate::{GUEST, Xen};

/// Ports are made in lots of this many, as Xen's buckets; above the last lot a port number is not valid.
const LOT: usize = 64;

/// What a port is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortState {
    /// Not in use.
    Free,
    /// Port 0.
    Reserved,
    /// Waits for a domain to bind to it.
    Unbound(DomId),
    /// The other end.
    Interdomain(DomId, Port),
    /// A virtual interrupt.
    Virq(u32),
    /// From this domain to one of its vCPUs.
    Ipi,
}

/// Domain 0's end of an event channel.
#[derive(Debug)]
pub struct EventEnd {
    port: Port,
    pending: AtomicBool,
    bell: Arc<Doorbell>,
}

impl EventEnd {
    /// The port in domain 0.
    pub fn port(&self) -> Port {
        self.port
    }

    /// Whether an event arrived since the last call.
    pub fn take(&self) -> bool {
        self.pending.swap(false, Ordering::AcqRel)
    }

    fn raise(&self) {
        if !self.pending.swap(true, Ordering::AcqRel) {
            self.bell.ring();
        }
    }
}

#[derive(Debug)]
struct Channel {
    state: PortState,
    vcpu: u32,
    end: Option<Arc<EventEnd>>,
    /// Who made it by a hypercall.
    made_by: Option<Vec<u64>>,
}

impl Channel {
    const FREE: Self = Self {
        state: PortState::Free,
        vcpu: 0,
        end: None,
        made_by: None,
    };
}

struct Table {
    channels: Vec<Channel>,
    limit: usize,
}

impl Table {
    fn new(limit: usize) -> Self {
        let mut table = Self {
            channels: Vec::new(),
            limit,
        };
        table.grow();
        table.channels[0].state = PortState::Reserved;
        table
    }

    fn grow(&mut self) {
        let len = self.channels.len() + LOT;
        self.channels.resize_with(len, || Channel::FREE);
    }

    fn free_port(&mut self) -> Result<usize, i64> {
        let found = self
            .channels
            .iter()
            .position(|c| c.state == PortState::Free);
        let port = found.unwrap_or(self.channels.len());
        if port > self.limit {
            return Err(ENOSPC);
        }
        if port == self.channels.len() {
            self.grow();
        }
        Ok(port)
    }

    fn get(&self, port: Port) -> Result<&Channel, i64> {
        self.channels.get(port.0 as usize).ok_or(EINVAL)
    }

    fn get_mut(&mut self, port: Port) -> Result<&mut Channel, i64> {
        self.channels.get_mut(port.0 as usize).ok_or(EINVAL)
    }

    fn bind(&mut self, state: PortState, vcpu: u32) -> Result<Port, i64> {
        let port = self.free_port()?;
        self.channels[port] = Channel {
            state,
            vcpu,
            ..Channel::FREE
        };
        Ok(Port(port as u32))
    }
}

/// The tables: domain 0's, then the guest's.
pub(crate) struct Ports {
    tables: RwLock<[Table; 2]>,
}

impl Ports {
    pub(crate) fn new(max_port: u32) -> Self {
        let limit = max_port.min(TWO_LEVEL_CHANNELS - 1) as usize;
        Self {
            tables: RwLock::new([
                Table::new(TWO_LEVEL_CHANNELS as usize - 1),
                Table::new(limit),
            ]),
        }
    }
}

/// Where a domain's table lies; `ESRCH` for a domain that does not exist.
fn table_index(dom: DomId) -> Result<usize, i64> {
    match dom {
        DomId::DOM0 => Ok(0),
        GUEST => Ok(1),
        _ => Err(ESRCH),
    }
}

/// [`DomId::SELF`] is the guest, for it alone makes hypercalls.
fn any_domain(dom: DomId) -> DomId {
    if dom == DomId::SELF { GUEST } else { dom }
}

impl Xen {
    pub(crate) fn event_channel_op(&self, cmd: u32, arg: u64) -> HypercallResult {
        match cmd {
            SEND => {
                self.counters.sends.count();
                let a: PortArg = self.argument(arg)?;
                self.send_from(GUEST, a.port)?;
            }
            UNMASK => {
                let a: PortArg = self.argument(arg)?;
                self.unmask(a.port)?;
            }
            ALLOC_UNBOUND => {
                let mut a: AllocUnbound = self.argument(arg)?;
                match any_domain(a.dom) {
                    GUEST => {}
                    DomId::DOM0 => return Err(EPERM),
                    _ => return Err(ESRCH),
                }
                a.port = self.alloc_unbound(GUEST, any_domain(a.remote_dom))?;
                self.made(a.port);
                self.put_argument(arg, &a)?;
            }
            BIND_INTERDOMAIN => {
                let mut a: BindInterdomain = self.argument(arg)?;
                a.local_port =
                    self.bind_interdomain(GUEST, any_domain(a.remote_dom), a.remote_port, None)?;
                self.made(a.local_port);
                self.put_argument(arg, &a)?;
            }
            BIND_VIRQ => {
                let mut a: BindVirq = self.argument(arg)?;
                a.port = self.bind_virq(a.virq, a.vcpu)?;
                self.made(a.port);
                self.put_argument(arg, &a)?;
            }
            BIND_IPI => {
                let mut a: BindIpi = self.argument(arg)?;
                self.vcpu_exists(a.vcpu)?;
                a.port = guard(self.ports.tables.write())[1].bind(PortState::Ipi, a.vcpu)?;
                self.made(a.port);
                self.put_argument(arg, &a)?;
            }
            BIND_VCPU => {
                let a: BindVcpu = self.argument(arg)?;
                self.bind_vcpu(a.port, a.vcpu)?;
            }
            CLOSE => {
                let a: PortArg = self.argument(arg)?;
                self.close_port(GUEST, a.port)?;
            }
            STATUS => {
                let mut a: Status = self.argument(arg)?;
                self.port_status(&mut a)?;
                self.put_argument(arg, &a)?;
            }
            RESET => {
                let a: Reset = self.argument(arg)?;
                match any_domain(a.dom) {
                    GUEST => self.reset_ports(GUEST),
                    DomId::DOM0 => return Err(EPERM),
                    _ => return Err(ESRCH),
                }
            }
            _ => return Err(ENOSYS),
        }
        Ok(0)
    }

    /// Notes who made a port of the guest's.
    fn made(&self, port: Port) {
        let witness = self.witness();
        if let Ok(channel) = guard(self.ports.tables.write())[1].get_mut(port) {
            channel.made_by = Some(witness);
        }
    }

    /// Every port that the guest made: what it is bound to, and who made it.
    pub(crate) fn each_port(&self, mut each: impl FnMut(Port, PortState, &[u64])) {
        let tables = guard(self.ports.tables.read());
        for (number, channel) in (0..).zip(&tables[1].channels) {
            if let Some(made_by) = &channel.made_by {
                each(Port(number), channel.state, made_by);
            }
        }
    }

    pub(crate) fn vcpu_exists(&self, vcpu: u32) -> Result<(), i64> {
        if vcpu < self.machine.vcpus() {
            Ok(())
        } else {
            Err(ENOENT)
        }
    }

    /// Makes a port of `dom` for `remote` to bind to. xen/common/event_channel.c: `evtchn_alloc_unbound`.
    pub(crate) fn alloc_unbound(&self, dom: DomId, remote: DomId) -> Result<Port, i64> {
        guard(self.ports.tables.write())[table_index(dom)?].bind(PortState::Unbound(remote), 0)
    }

    /// `evtchn_bind_interdomain`. The new end starts pending, because a notification may have been lost before.
    pub(crate) fn bind_interdomain(
        &self,
        dom: DomId,
        remote: DomId,
        remote_port: Port,
        bell: Option<Arc<Doorbell>>,
    ) -> Result<Port, i64> {
        let (local, peer) = (table_index(dom)?, table_index(remote)?);
        let mut tables = guard(self.ports.tables.write());
        tables[local].free_port()?;
        if tables[peer].get(remote_port)?.state != PortState::Unbound(dom) {
            return Err(EINVAL);
        }
        let port = tables[local].bind(PortState::Interdomain(remote, remote_port), 0)?;
        tables[peer].get_mut(remote_port)?.state = PortState::Interdomain(dom, port);
        if let Some(bell) = bell {
            tables[local].get_mut(port)?.end = Some(Arc::new(EventEnd {
                port,
                pending: AtomicBool::new(false),
                bell,
            }));
        }
        self.set_pending(&tables, local, port);
        Ok(port)
    }

    fn bind_virq(&self, virq: u32, vcpu: u32) -> Result<Port, i64> {
        if virq >= NR_VIRQS {
            return Err(EINVAL);
        }
        if virq > VIRQ_DEBUG {
            // Global interrupts belong to the hardware domain.
            return Err(if vcpu == 0 { EPERM } else { EINVAL });
        }
        self.vcpu_exists(vcpu)?;
        let mut tables = guard(self.ports.tables.write());
        if tables[1]
            .channels
            .iter()
            .any(|c| c.state == PortState::Virq(virq) && c.vcpu == vcpu)
        {
            return Err(EEXIST);
        }
        tables[1].bind(PortState::Virq(virq), vcpu)
    }

    fn bind_vcpu(&self, port: Port, vcpu: u32) -> Result<(), i64> {
        self.vcpu_exists(vcpu)?;
        let mut tables = guard(self.ports.tables.write());
        let channel = tables[1].get_mut(port)?;
        match channel.state {
            PortState::Unbound(_) | PortState::Interdomain(..) => channel.vcpu = vcpu,
            _ => return Err(EINVAL),
        }
        Ok(())
    }

    fn port_status(&self, a: &mut Status) -> Result<(), i64> {
        let dom = any_domain(a.dom);
        let index = table_index(dom)?;
        if dom != GUEST {
            return Err(EPERM);
        }
        let tables = guard(self.ports.tables.read());
        let channel = tables[index].get(a.port)?;
        a.vcpu = channel.vcpu;
        a.status = match channel.state {
            PortState::Free | PortState::Reserved => STATUS_CLOSED,
            PortState::Unbound(remote) => {
                a.peer = u32::from(remote.0);
                STATUS_UNBOUND
            }
            PortState::Interdomain(remote, port) => {
                a.peer = u32::from(remote.0);
                a.peer_port = port;
                STATUS_INTERDOMAIN
            }
            PortState::Virq(virq) => {
                a.peer = virq;
                STATUS_VIRQ
            }
            PortState::Ipi => STATUS_IPI,
        };
        Ok(())
    }

    /// What a port of `dom` is bound to; `None` if there is no such port.
    pub fn port_state(&self, dom: DomId, port: Port) -> Option<PortState> {
        let index = table_index(dom).ok()?;
        guard(self.ports.tables.read())[index]
            .get(port)
            .ok()
            .map(|c| c.state)
    }

    /// Frees a port; the other end waits to be bound again. `evtchn_close`.
    pub(crate) fn close_port(&self, dom: DomId, port: Port) -> Result<(), i64> {
        let mut tables = guard(self.ports.tables.write());
        self.close_locked(&mut tables, table_index(dom)?, dom, port)
    }

    fn close_locked(
        &self,
        tables: &mut [Table; 2],
        index: usize,
        dom: DomId,
        port: Port,
    ) -> Result<(), i64> {
        let channel = tables[index].get_mut(port)?;
        let state = channel.state;
        if matches!(state, PortState::Free | PortState::Reserved) {
            return Err(EINVAL);
        }
        *channel = Channel::FREE;
        if dom == GUEST {
            self.clear_pending_bit(port);
        }
        if let PortState::Interdomain(remote, remote_port) = state
            && let Ok(peer) = tables[table_index(remote)?].get_mut(remote_port)
        {
            peer.state = PortState::Unbound(dom);
        }
        Ok(())
    }

    /// Closes every port of `dom`. `evtchn_reset`.
    pub(crate) fn reset_ports(&self, dom: DomId) {
        let Ok(index) = table_index(dom) else { return };
        let mut tables = guard(self.ports.tables.write());
        for port in 1..tables[index].channels.len() as u32 {
            // A free port is refused, which is as well.
            let _ = self.close_locked(&mut tables, index, dom, Port(port));
        }
    }

    /// `evtchn_send` of `dom` on its `port`. A port nobody has bound to yet swallows the event.
    pub(crate) fn send_from(&self, dom: DomId, port: Port) -> Result<(), i64> {
        let index = table_index(dom)?;
        trace::emit(Class::Xen, || match dom {
            GUEST => Event::EventSend {
                port: port.0.into(),
            },
            _ => Event::EventNotify {
                port: port.0.into(),
            },
        });
        let tables = guard(self.ports.tables.read());
        match tables[index].get(port)?.state {
            PortState::Interdomain(remote, remote_port) => {
                self.set_pending(&tables, table_index(remote)?, remote_port)
            }
            PortState::Ipi => self.set_pending(&tables, index, port),
            PortState::Unbound(_) => {}
            PortState::Free | PortState::Reserved | PortState::Virq(_) => return Err(EINVAL),
        }
        Ok(())
    }

    /// Raises a per-vCPU virtual interrupt of the guest, if it has bound it.
    pub fn raise_virq(&self, virq: u32, vcpu: u32) {
        let tables = guard(self.ports.tables.read());
        let bound = tables[1]
            .channels
            .iter()
            .position(|c| c.state == PortState::Virq(virq) && c.vcpu == vcpu);
        if let Some(port) = bound {
            self.set_pending(&tables, 1, Port(port as u32));
        }
    }

    fn set_pending(&self, tables: &[Table; 2], index: usize, port: Port) {
        let delivery = match (&self.config.faults, index) {
            (None, _) => Delivery::Now,
            (Some(faults), 0) => faults.event(Direction::Dom0),
            (Some(faults), _) => faults.event(Direction::Guest),
        };
        match delivery {
            Delivery::Now => self.deliver(tables, index, port),
            Delivery::Never => {}
            Delivery::Late => self.timers.deliver_late(self.machine.now_ns(), index, port),
            Delivery::WithOthers => {
                let bound = |channel: &Channel| {
                    !matches!(channel.state, PortState::Free | PortState::Reserved)
                };
                for (number, channel) in (0..).zip(&tables[index].channels) {
                    if bound(channel) {
                        self.deliver(tables, index, Port(number));
                    }
                }
            }
        }
    }

    /// An event that was held back arrives.
    pub(crate) fn arrive(&self, index: usize, port: Port) {
        let tables = guard(self.ports.tables.read());
        self.deliver(&tables, index, port);
    }

    fn deliver(&self, tables: &[Table; 2], index: usize, port: Port) {
        let Ok(channel) = tables[index].get(port) else {
            return;
        };
        match (&channel.end, index) {
            (Some(end), _) => end.raise(),
            (None, 1) => self.set_pending_bit(port, channel.vcpu),
            (None, _) => {}
        }
    }

    /// xen/common/event_2l.c: `evtchn_2l_set_pending`.
    fn set_pending_bit(&self, port: Port, vcpu: u32) {
        let (word, bit) = ((port.0 / 64) as usize, 1u64 << (port.0 % 64));
        let shared = self.shared_info();
        if shared.evtchn_pending[word].fetch_or(bit, Ordering::AcqRel) & bit != 0
            || shared.evtchn_mask[word].load(Ordering::Acquire) & bit != 0
        {
            return;
        }
        self.upcalls.mark(vcpu, word as u32);
    }

    fn clear_pending_bit(&self, port: Port) {
        if port.0 < TWO_LEVEL_CHANNELS {
            let word = &self.shared_info().evtchn_pending[(port.0 / 64) as usize];
            word.fetch_and(!(1 << (port.0 % 64)), Ordering::AcqRel);
        }
    }

    /// `evtchn_2l_unmask`.
    fn unmask(&self, port: Port) -> Result<(), i64> {
        let tables = guard(self.ports.tables.read());
        let vcpu = tables[1].get(port)?.vcpu;
        let (word, bit) = ((port.0 / 64) as usize, 1u64 << (port.0 % 64));
        let shared = self.shared_info();
        if shared.evtchn_mask[word].fetch_and(!bit, Ordering::AcqRel) & bit != 0
            && shared.evtchn_pending[word].load(Ordering::Acquire) & bit != 0
        {
            self.upcalls.mark(vcpu, word as u32);
        }
        Ok(())
    }

    /// Binds domain 0 to an unbound port of the guest; events ring `bell`.
    pub fn dom0_bind(&self, remote_port: Port, bell: &Arc<Doorbell>) -> Result<Arc<EventEnd>, i64> {
        let port = self.bind_interdomain(DomId::DOM0, GUEST, remote_port, Some(bell.clone()))?;
        let tables = guard(self.ports.tables.read());
        tables[0].get(port)?.end.clone().ok_or(EINVAL)
    }

    /// Notifies the guest over a port of domain 0. An end whose peer has gone swallows it.
    pub fn dom0_notify(&self, end: &EventEnd) {
        self.counters.events.count();
        // The port may have been closed meanwhile; there is nobody to tell then.
        let _ = self.send_from(DomId::DOM0, end.port);
    }

    /// Closes a port of domain 0.
    pub fn dom0_close(&self, end: &EventEnd) {
        // Closing twice is harmless.
        let _ = self.close_port(DomId::DOM0, end.port);
    }
}
