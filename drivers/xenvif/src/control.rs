//! The control ring of a connection: requests that the frontend's thread makes, each with an end.
//!
//! A request's payload lies on a page of its own, granted while the request runs. A ring on which a request was not answered,
//! or answered with nonsense, is not used again: that costs the hash, no more.

use crate::grants::{Lent, Link, RingPages};
use alloc::sync::Arc;
use core::time::Duration;
use netfront::control::{Control as Engine, Failure, Progress, Refusal, Ring};
use netfront::hash::{Config, HashTypes, Message, Program, Step, types};
use netfront::keys::ControlKeys;
use nt::{Dpc, Event, EventKind, NtStatus, Pages, Result, time, try_arc};
use pv_client::Acquired;
use pv_client::evtchn::Channel;
use pv_interfaces::evtchn::EvtchnV9;

/// The ring, our end of its event channel, and how it is waited for.
pub struct Control {
    engine: Engine<RingPages>,
    lent: Lent,
    channel: Channel,
    /// Sets the event.
    _dpc: Arc<Dpc>,
    answered: Arc<Event>,
    link: Link,
    /// Why it is not used any more.
    dead: Option<Failure>,
}

impl Control {
    /// Makes a ring and grants it. PASSIVE_LEVEL.
    #[inline(never)]
    pub fn open(evtchn: &Arc<Acquired<EvtchnV9>>, link: &Link) -> Result<Self> {
        let answered = try_arc(Event::new(EventKind::Synchronization, false)?)?;
        let event = Arc::clone(&answered);
        let dpc = try_arc(Dpc::new(move || event.set())?)?;
        let queued = Arc::clone(&dpc);
        let channel = Channel::open_unbound(evtchn, link.backend, move || {
            queued.queue();
        })?;
        let pages = Pages::allocate(1)?;
        let pfn = pages.pfn(0).ok_or(NtStatus::INVALID_PARAMETER)?;
        // Clears the page, before anybody else can see it.
        let ring = Ring::new(RingPages(pages)).ok_or(NtStatus::INVALID_PARAMETER)?;
        let lent = link.permit(pfn, false)?;
        Ok(Self {
            engine: Engine::new(ring),
            lent,
            channel,
            _dpc: dpc,
            answered,
            link: link.clone(),
            dead: None,
        })
    }

    /// What the backend is told of it.
    pub fn keys(&self) -> ControlKeys {
        ControlKeys {
            ring: self.lent.reference(),
            port: self.channel.port(),
        }
    }

    /// The types that the backend can hash; it is left hashing. `is_over`: nobody will answer any more. PASSIVE_LEVEL.
    #[inline(never)]
    pub fn query(&mut self, is_over: impl Fn() -> bool) -> Option<HashTypes> {
        self.ask(&Message::TOEPLITZ, &is_over).ok()?;
        self.ask(&Message::QUERY_TYPES, &is_over).ok().map(types)
    }

    /// Ends it, when the backend is gone or has closed: the ring's memory and its grant. PASSIVE_LEVEL.
    pub fn close(self) -> (Lent, RingPages) {
        // That waits for a running callback.
        drop(self.channel);
        Dpc::flush_all();
        (self.lent, self.engine.into_memory())
    }

    #[inline(never)]
    fn ask(
        &mut self,
        message: &Message,
        is_over: &impl Fn() -> bool,
    ) -> core::result::Result<u32, Failure> {
        if let Some(dead) = self.dead {
            return Err(dead);
        }
        let payload = match message.payload {
            None => None,
            Some(payload) => {
                let lent = Payload::lend(&self.link, payload.bytes());
                Some(lent.map_err(|_| Failure::BufferOverflow)?)
            }
        };
        let page = payload
            .as_ref()
            .map_or(xen_abi::Gref(0), |payload| payload.lent.reference());
        let answer = self.exchange(message.kind, message.data(page), is_over);
        if let Some(payload) = payload {
            payload.take_back();
        }
        if let Err(failure @ (Failure::TimedOut | Failure::Broken(_))) = answer {
            nt::warning!("the control ring is not used any more: {failure:?}");
            self.dead = Some(failure);
        }
        answer
    }

    fn exchange(
        &mut self,
        kind: u16,
        data: [u32; 3],
        is_over: &impl Fn() -> bool,
    ) -> core::result::Result<u32, Failure> {
        match self.engine.begin(now(), kind, data) {
            Ok(true) => self.channel.send(),
            Ok(false) => {}
            Err(Refusal::Broken(broken)) => return Err(Failure::Broken(broken)),
            Err(Refusal::Busy | Refusal::Full) => return Err(Failure::TimedOut),
        }
        loop {
            if is_over() {
                self.engine.give_up();
                return Err(Failure::TimedOut);
            }
            match self.engine.poll(now()) {
                Progress::Idle => return Err(Failure::TimedOut),
                Progress::Done(answer) => return answer,
                Progress::Waiting { notify, until } => {
                    if notify {
                        self.channel.send();
                    }
                    if self.channel.unmask() {
                        continue;
                    }
                    let time = Duration::from_millis(until.saturating_sub(now()).max(1));
                    let _ = self.answered.wait_for(time);
                }
            }
        }
    }
}

/// Tells a backend of a configuration; `None` for a backend without a control ring. PASSIVE_LEVEL.
#[inline(never)]
pub fn program(
    mut control: Option<&mut Control>,
    config: &Config,
    is_over: impl Fn() -> bool,
) -> core::result::Result<(), Failure> {
    let (mut program, mut step) = Program::start(config, control.is_some());
    loop {
        match (step, control.as_deref_mut()) {
            (Step::Send(message), Some(control)) => {
                step = program.answered(control.ask(&message, &is_over));
            }
            (Step::Done, _) => return Ok(()),
            (Step::Failed(failure), _) => return Err(failure),
            (Step::Send(_), None) => return Err(Failure::NotSupported),
        }
    }
}

/// A request's page.
struct Payload {
    page: Pages,
    lent: Lent,
}

impl Payload {
    #[inline(never)]
    fn lend(link: &Link, bytes: impl Iterator<Item = u8>) -> Result<Self> {
        let mut page = Pages::allocate(1)?;
        // SAFETY: the page is granted to nobody yet.
        let place = unsafe { page.plain_mut() };
        for (place, byte) in place.iter_mut().zip(bytes) {
            *place = byte;
        }
        let pfn = page.pfn(0).ok_or(NtStatus::INVALID_PARAMETER)?;
        let lent = link.permit(pfn, true)?;
        Ok(Self { page, lent })
    }

    /// A page that the backend keeps stays with its grant for good.
    fn take_back(self) {
        if let Err(lent) = self.lent.revoke() {
            nt::error!("the backend keeps the page of a request");
            core::mem::forget(lent);
            self.page.leak();
        }
    }
}

fn now() -> u64 {
    time::since_boot().as_millis() as u64
}
