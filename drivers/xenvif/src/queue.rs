//! One queue of an interface: its two halves, its event channels, its DPC.
//!
//! ```text
//!   client ──transmit──▶ tx ──notify──▶ backend ──event──▶ callback ──▶ DPC ──▶ tx: answers, more to send
//!   client ◀──packets── ready ◀── rx ◀─────────────────────────────────────┘    rx: packets, pages
//! ```
//!
//! The DPC runs once at a time, and packets of a queue come one after another. No lock is held
//! while the client is called. What a packet goes through is not inlined: it keeps whole packets on the stack, of which a DPC
//! has little.

use crate::client::Client;
use crate::deliver::{Delivery, Ready};
use crate::grants::{Lender, Link, RingPages};
use crate::hash::Hash;
use crate::mac::Mac;
use crate::rx::{Loan, Receiver};
use crate::statistics::Statistics;
use crate::tx::{Transmitter, Waiting};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use netfront::{rx, tx};
use nt::processor::ProcessorNumber;
use nt::{Dpc, Event, Pages, Result, SpinLock, try_arc};
use packet::transmit::Backend;
use pv_client::evtchn::Channel;
use pv_interfaces::vif::Statistic;

/// Packets, of each half, that a DPC handles before others get the processor.
const BATCH: u32 = 64;

/// What the queues of an interface share.
pub struct Common {
    pub mac: Mac,
    pub statistics: Statistics,
    pub hash: Hash,
    pub client: SpinLock<Option<Client>>,
    /// Packets go to the client.
    pub flowing: AtomicBool,
    pub fill_checksums: bool,
    /// Received packets are copied to begin so many bytes into a page; 0: they stay where they are.
    pub align: u32,
    /// A received packet is given in one piece, if a page holds it.
    pub pull_up: bool,
    /// Bytes that the client wants in front of a received packet, in its page.
    pub backfill: AtomicU32,
    /// Checksums of packets that are sent are looked at, for the statistics.
    pub validate_checksums: bool,
    /// The backend broke the protocol; the thread is woken to end the connection.
    pub broken: AtomicBool,
    pub wake: Arc<Event>,
}

/// Our ends of a queue's event channels.
pub struct Channels {
    pub rx: Channel,
    /// If the transmit ring has one of its own.
    pub tx: Option<Channel>,
}

/// The rings of a connection.
pub struct Rings {
    pub tx: tx::Ring<RingPages>,
    pub rx: rx::Ring<RingPages>,
}

/// A queue.
pub struct Queue {
    index: u32,
    common: Arc<Common>,
    tx: SpinLock<Transmitter>,
    rx: SpinLock<Receiver>,
    /// Packets that are ready, in order; only the DPC takes them, and whoever has stopped it.
    ready: SpinLock<VecDeque<Ready>>,
    channels: SpinLock<Option<Channels>>,
    /// Held here so that others can queue it; taken out to end it.
    dpc: SpinLock<Option<Arc<Dpc>>>,
    /// Runs of the DPC that have begun and not ended.
    serving: AtomicU32,
    lent: AtomicU64,
    returned: AtomicU64,
}

impl Queue {
    /// A queue whose DPC runs on the processor with its number. PASSIVE_LEVEL.
    pub fn new(index: u32, common: &Arc<Common>) -> Result<Arc<Self>> {
        let queue = try_arc(Self {
            index,
            common: Arc::clone(common),
            tx: SpinLock::new(Transmitter::new(common.validate_checksums)?),
            rx: SpinLock::new(Receiver::new()?),
            ready: SpinLock::new(VecDeque::new()),
            channels: SpinLock::new(None),
            dpc: SpinLock::new(None),
            serving: AtomicU32::new(0),
            lent: AtomicU64::new(0),
            returned: AtomicU64::new(0),
        })?;
        let serving = Arc::clone(&queue);
        let dpc = try_arc(Dpc::new(move || serving.serve())?)?;
        dpc.set_target(ProcessorNumber::from_index(index)?)?;
        *queue.dpc.lock() = Some(dpc);
        Ok(queue)
    }

    /// The processor that the queue's work is done on.
    pub fn processor(&self) -> Option<ProcessorNumber> {
        ProcessorNumber::from_index(self.index).ok()
    }

    /// Has the queue's packets handled on another processor. IRQL ≤ DISPATCH_LEVEL.
    pub fn move_to(&self, processor: ProcessorNumber) -> Result<()> {
        match &*self.dpc.lock() {
            Some(dpc) => dpc.set_target(processor),
            None => Ok(()),
        }
    }

    /// Ends the DPC, and with it the circle of the two holding each other. PASSIVE_LEVEL.
    pub fn end(&self) {
        let dpc = self.dpc.lock().take();
        drop(dpc);
    }

    /// What an event of this queue calls.
    pub fn on_event(self: &Arc<Self>) -> impl Fn() + Send + Sync + use<> {
        let dpc = self.dpc.lock().clone();
        move || {
            if let Some(dpc) = &dpc {
                dpc.queue();
            }
        }
    }

    /// Sends a frame of our own; whether there was room. IRQL ≤ DISPATCH_LEVEL.
    pub fn announce(&self, frame: &[u8]) -> bool {
        let sent = self.tx.lock().announce(frame);
        self.pump();
        sent
    }

    /// Has the DPC run. IRQL ≤ DISPATCH_LEVEL.
    pub fn kick(&self) {
        if let Some(dpc) = &*self.dpc.lock() {
            dpc.queue();
        }
    }

    /// Gets the pages that are to receive packets. PASSIVE_LEVEL.
    pub fn provide(&self) -> Result<()> {
        loop {
            let wants = self.rx.lock().wants();
            if wants == 0 {
                return Ok(());
            }
            let page = Pages::allocate(1)?;
            let over = self.rx.lock().provide(page);
            drop(over);
        }
    }

    /// Begins with a connection; the rings come back if the backend still keeps too many pages. PASSIVE_LEVEL.
    #[allow(clippy::result_large_err, reason = "the rings come back as they were")]
    pub fn connect(
        &self,
        rings: Rings,
        link: &Link,
        backend: Backend,
        max_frame: u32,
        channels: Channels,
    ) -> core::result::Result<(), Rings> {
        let Rings { tx, rx } = rings;
        let lender = Lender {
            link: Some(link.clone()),
        };
        if let Err(rx) = self.rx.lock().connect(rx, lender, max_frame) {
            return Err(Rings { tx, rx });
        }
        self.tx.lock().connect(tx, link.clone(), backend);
        *self.channels.lock() = Some(channels);
        Ok(())
    }

    /// Ends a connection, whose backend has closed or is gone: the rings' memory. PASSIVE_LEVEL.
    pub fn disconnect(&self) -> (Option<RingPages>, Option<RingPages>) {
        let channels = self.channels.lock().take();
        // That waits for a running callback.
        drop(channels);
        Dpc::flush_all();
        let tx = self.tx.lock().disconnect();
        let rx = self.rx.lock().disconnect();
        self.reclaim();
        self.return_sent();
        (tx, rx)
    }

    /// Lets packets of the client in, or no more. IRQL ≤ DISPATCH_LEVEL.
    pub fn set_open(&self, open: bool) {
        self.tx.lock().set_open(open);
    }

    /// Queues a packet of the client's. IRQL ≤ DISPATCH_LEVEL.
    pub fn transmit(&self, packet: Waiting, more: bool) -> Result<()> {
        let outcome = self.tx.lock().queue(packet);
        // Those before a packet that is refused wait for no other.
        if !more || outcome.is_err() {
            self.pump();
        }
        outcome
    }

    /// Sends what waits.
    #[inline(never)]
    pub fn pump(&self) {
        loop {
            let refused = {
                let mut tx = self.tx.lock();
                if self.index == 0 {
                    self.common
                        .mac
                        .tell(|multicast| tx.push_multicast(multicast));
                }
                let refused = tx.pump();
                if tx.publish() {
                    self.notify(|channels| channels.tx.as_ref().unwrap_or(&channels.rx));
                }
                refused
            };
            let Some(refused) = refused else { return };
            self.return_packet(&refused);
        }
    }

    fn notify(&self, which: impl FnOnce(&Channels) -> &Channel) {
        if let Some(channels) = &*self.channels.lock() {
            which(channels).send();
        }
    }

    fn return_packet(&self, done: &crate::tx::Done) {
        let completion = done.completion(&self.common.statistics);
        let client = *self.common.client.lock();
        if let Some(client) = client {
            client.return_packet(done.cookie, &completion);
        }
    }

    #[inline(never)]
    fn return_sent(&self) {
        loop {
            let done = self.tx.lock().done();
            let Some(done) = done else { return };
            self.return_packet(&done);
        }
    }

    /// Gives the client back whatever it has queued. IRQL ≤ DISPATCH_LEVEL.
    pub fn abort(&self) {
        loop {
            let done = self.tx.lock().abort();
            let Some(done) = done else { return };
            self.return_packet(&done);
        }
    }

    /// Whether the backend has answered all that was sent.
    pub fn is_idle(&self) -> bool {
        self.tx.lock().is_idle()
    }

    /// Packets that the client has not given back.
    pub fn on_loan(&self) -> u64 {
        let (lent, returned) = self.loans();
        lent.saturating_sub(returned)
    }

    /// Whether the backend still uses pages after the end of the connection; those it has let go of are taken back.
    pub fn is_held(&self) -> bool {
        self.reclaim();
        self.rx.lock().is_held() || self.tx.lock().is_held()
    }

    fn reclaim(&self) {
        while self.rx.lock().reclaim() {}
        while self.tx.lock().reclaim() {}
    }

    /// Packets lent to the client, and given back, in all. Any IRQL.
    pub fn loans(&self) -> (u64, u64) {
        let returned = self.returned.load(Ordering::Acquire);
        (self.lent.load(Ordering::Acquire), returned)
    }

    /// Takes back a packet that the client was lent. IRQL ≤ DISPATCH_LEVEL.
    pub fn give_back(&self, loan: Box<Loan>) {
        let notify = {
            let mut rx = self.rx.lock();
            rx.give_back(loan);
            self.common.flowing.load(Ordering::Acquire) && rx.refill()
        };
        if notify {
            self.notify(|channels| &channels.rx);
        }
        self.returned.fetch_add(1, Ordering::AcqRel);
    }

    /// Lends the backend pages, and has the DPC look at what came before. IRQL ≤ DISPATCH_LEVEL.
    pub fn fill(&self) {
        loop {
            let (notify, before, after) = {
                let mut rx = self.rx.lock();
                let before = rx.vacancies();
                (rx.refill(), before, rx.vacancies())
            };
            if notify {
                self.notify(|channels| &channels.rx);
            }
            // There is room for no more, or there are no more pages or grants.
            if after == 0 || after == before {
                break;
            }
        }
        self.pump();
        self.kick();
    }

    /// Drops what is ready and was not delivered. After the DPC was flushed. IRQL ≤ DISPATCH_LEVEL.
    pub fn forget_ready(&self) {
        loop {
            let ready = self.ready.lock().pop_front();
            let Some(ready) = ready else { return };
            self.rx.lock().give_back(ready.loan);
        }
    }

    /// The DPC. One that was moved may begin on its new processor before it has ended on the old one, which then goes
    /// round once more.
    fn serve(&self) {
        if self.serving.fetch_add(1, Ordering::AcqRel) != 0 {
            return;
        }
        let mut begun = 1;
        loop {
            self.turn();
            match self
                .serving
                .compare_exchange(begun, 0, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return,
                Err(meanwhile) => begun = meanwhile,
            }
        }
    }

    fn turn(&self) {
        for _ in 0..4 {
            let more = self.serve_tx() | self.serve_rx();
            // A ring that is broken has no more events.
            let broken = self.common.broken.load(Ordering::Acquire);
            if broken || !more && !self.unmask() {
                return;
            }
        }
        self.kick();
    }

    /// Whether an event is to be handled that no other will tell of.
    fn unmask(&self) -> bool {
        let channels = self.channels.lock();
        channels.as_ref().is_some_and(|channels| {
            let tx = channels.tx.as_ref().is_some_and(Channel::unmask);
            channels.rx.unmask() | tx
        })
    }

    #[inline(never)]
    fn serve_tx(&self) -> bool {
        let (polled, unheard) = {
            let mut tx = self.tx.lock();
            (tx.poll(BATCH), tx.refused_multicast())
        };
        if let Some(multicast) = unheard {
            self.common.mac.refused(multicast);
            self.common.wake.set();
        }
        self.return_sent();
        self.pump();
        match polled {
            Ok(more) => more,
            Err(broken) => {
                self.break_off(format_args!("{broken:?}"));
                false
            }
        }
    }

    #[inline(never)]
    fn serve_rx(&self) -> bool {
        let (mut count, mut taken) = (0, 0);
        loop {
            let more = self.gather(&mut taken);
            let client = *self.common.client.lock();
            let flowing = self.common.flowing.load(Ordering::Acquire);
            let (next, followed) = {
                let mut ready = self.ready.lock();
                (ready.pop_front(), !ready.is_empty())
            };
            let Some(next) = next else { return more };
            let (Some(client), true) = (client, flowing) else {
                self.rx.lock().give_back(next.loan);
                continue;
            };
            count += 1;
            // The batch ends with this packet, or with the DPC's turn.
            let last = count >= BATCH;
            self.common.statistics.received(&next.facts);
            self.lent.fetch_add(1, Ordering::AcqRel);
            let pause = client.queue_packet(next.describe(followed && !last));
            if pause || last {
                return true;
            }
        }
    }

    /// Takes packets from the ring until two are ready, and no more in a turn than a batch, whatever becomes of them: a peer
    /// may send faster than they are dropped. Whether the ring may hold more.
    #[inline(never)]
    fn gather(&self, taken: &mut u32) -> bool {
        let delivery = Delivery {
            queue: self.index,
            receiver: &self.rx,
            common: &self.common,
        };
        while *taken < BATCH {
            if self.ready.lock().len() > 1 {
                return true;
            }
            *taken = taken.saturating_add(1);
            let (next, notify) = {
                let mut rx = self.rx.lock();
                let next = rx.next();
                let flowing = self.common.flowing.load(Ordering::Acquire);
                self.common.statistics.dropped(rx.drops());
                (next, flowing && rx.refill())
            };
            if notify {
                self.notify(|channels| &channels.rx);
            }
            match next {
                Ok(Some(packet)) => {
                    // Only the DPC adds to the list, so it may be away meanwhile.
                    let mut ready = core::mem::take(&mut *self.ready.lock());
                    delivery.receive(packet, &mut ready);
                    *self.ready.lock() = ready;
                }
                Ok(None) => return false,
                Err(broken) => {
                    self.break_off(format_args!("{broken:?}"));
                    return false;
                }
            }
        }
        true
    }

    fn break_off(&self, why: core::fmt::Arguments<'_>) {
        if !self.common.broken.swap(true, Ordering::AcqRel) {
            nt::error!(
                "queue {}: the backend broke the protocol: {why}",
                self.index
            );
            self.common
                .statistics
                .count(Statistic::ReceiverBackendErrors);
            self.common.wake.set();
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        while let Some(ready) = self.ready.get_mut().pop_front() {
            self.rx.get_mut().give_back(ready.loan);
        }
    }
}
