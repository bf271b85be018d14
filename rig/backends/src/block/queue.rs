//! One queue of a connected disk: its ring, its channel, and the loop that serves it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use trace::{Class, Event};
use xen_abi::Port;
use xen_abi::blkif::{OP_DISCARD, Request};
use xen_model::dom0::Dom0;
use xen_model::{EventEnd, Xen};

use super::config::count;
use super::lying::Lying;
use super::request::Executor;
use super::ring::BackRing;
use crate::hostile::Lie;

/// Requests carried out before their responses are published.
const BATCH: usize = 16;

pub(super) struct Queue {
    number: usize,
    ring: BackRing,
    end: Arc<EventEnd>,
    /// The frontend broke the ring: it is left alone until it is connected anew.
    broken: bool,
    lying: Lying,
}

/// What serving a queue came to.
#[derive(Default)]
pub(super) struct Served {
    /// There was something to do, or will be at once.
    pub(super) worked: bool,
    /// A lie that takes more than the ring.
    pub(super) lie: Option<Lie>,
}

impl Queue {
    pub(super) fn new(
        number: usize,
        ring: BackRing,
        port: Port,
        dom0: &Dom0,
    ) -> Result<Self, String> {
        let end = dom0.xen().dom0_bind(port, dom0.bell());
        let end = end.map_err(|e| format!("binding event-channel {port}: errno {e}"))?;
        Ok(Self {
            number,
            ring,
            end,
            broken: false,
            lying: Lying::default(),
        })
    }

    /// Ends the channel; what is left is the ring.
    pub(super) fn close(self, xen: &Xen) -> BackRing {
        xen.dom0_close(&self.end);
        self.ring
    }

    pub(super) fn entries(&self) -> u32 {
        self.ring.entries()
    }

    /// Carries out a batch of requests.
    pub(super) fn serve(&mut self, executor: &Executor<'_>, dom0: &Dom0) -> Served {
        let mut served = Served::default();
        let requests = executor.stats.requests.load(Ordering::Relaxed);
        if let Some(events) = self.lying.go_on(&self.ring, requests) {
            served.worked = true;
            for _ in 0..events {
                dom0.xen().dom0_notify(&self.end);
            }
        }
        if self.broken || self.lying.is_silent() {
            return served;
        }
        self.end.take();
        let mut done = 0;
        while done < BATCH && served.lie.is_none() {
            match self.ring.take() {
                Ok(Some(request)) => served.lie = self.carry_out(executor, dom0, &request),
                Ok(None) => break,
                Err(_) => {
                    let devid = executor.config.vbd.devid;
                    let queue = self.number;
                    dom0.log(&format!(
                        "vbd/{devid}, queue {queue}: frontend provided bogus ring requests"
                    ));
                    self.broken = true;
                    return served;
                }
            }
            done += 1;
        }
        let notify = self.ring.publish() && served.lie != Some(Lie::NoEvent);
        match served.lie {
            Some(Lie::Overrun) => self.ring.publish_wrong(self.ring.entries() as i32 + 1),
            Some(Lie::Rewind) => self.ring.publish_wrong(-1),
            Some(Lie::Wrap) => self.ring.publish_wrong(i32::MIN),
            _ => {}
        }
        if notify {
            count(&executor.stats.notifications, 1);
            dom0.xen().dom0_notify(&self.end);
        }
        served.worked |= done > 0 || self.ring.rearm();
        served
    }

    fn carry_out(
        &mut self,
        executor: &Executor<'_>,
        dom0: &Dom0,
        request: &Request,
    ) -> Option<Lie> {
        let devid = executor.config.vbd.devid;
        let (vdev, queue) = (u64::from(devid), self.number as u64);
        trace::emit(Class::Backend, || take(vdev, queue, request));
        let (response, complaint) = executor.execute(request);
        let (id, status) = (response.id, i64::from(response.status) as u64);
        trace::emit(Class::Backend, || Event::BackendDone {
            vdev,
            queue,
            id,
            status,
        });
        if let Some(text) = complaint {
            dom0.log(&format!("vbd/{devid}, queue {}: {text}", self.number));
        }
        let turn = count(&executor.stats.requests, 1);
        let lie = executor.config.mischief.iter().find(|m| m.request == turn);
        match lie.map(|m| m.lie) {
            Some(lie) => {
                dom0.log(&format!("vbd/{devid}: request {turn}, lying: {lie:?}"));
                self.lying
                    .respond(&mut self.ring, dom0.xen(), (turn, request), response, lie);
                Some(lie)
            }
            None => {
                self.ring.respond(response);
                None
            }
        }
    }
}

/// A request as a trace has it.
fn take(vdev: u64, queue: u64, request: &Request) -> Event<'static> {
    let (operation, id, sector, segments) = match *request {
        Request::Direct {
            operation,
            nr_segments,
            id,
            sector,
            ..
        } => (operation, id, sector, u64::from(nr_segments)),
        Request::Indirect {
            indirect_op,
            nr_segments,
            id,
            sector,
            ..
        } => (indirect_op, id, sector, u64::from(nr_segments)),
        Request::Discard { id, sector, .. } => (OP_DISCARD, id, sector, 0),
    };
    Event::BackendTake {
        vdev,
        queue,
        id,
        operation: u64::from(operation),
        sector,
        segments,
    }
}
