//! What a test wants to go wrong does, and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use xen_abi::Port;
use xen_abi::errno::ENOMEM;
use xen_abi::grant::{GNTST_PERMISSION_DENIED, QUERY_SIZE, QuerySize};
use xen_model::Config;
use xen_model::faults::{Answer, Delivery, Direction, Faults, Refusal};

use crate::guest::{Guest, PENDING};

/// One allocation of a port fails, counted from 0; the fate of events to the guest is told one by one.
struct Script {
    refused: Option<u64>,
    allocations: AtomicU64,
    events: AtomicU64,
    fates: &'static [Delivery],
}

impl Script {
    fn guest(refused: Option<u64>, fates: &'static [Delivery]) -> Guest {
        Guest::with(Config {
            faults: Some(Arc::new(Self {
                refused,
                allocations: AtomicU64::new(0),
                events: AtomicU64::new(0),
                fates,
            })),
            ..Config::default()
        })
    }
}

impl Faults for Script {
    fn hypercall(&self, name: &str) -> Option<Refusal> {
        match name {
            "event_channel_op.alloc_unbound" => (self.refused
                == Some(self.allocations.fetch_add(1, Relaxed)))
            .then_some(Refusal::Returns(-ENOMEM)),
            "grant_table_op.query_size" => Some(Refusal::Status(GNTST_PERMISSION_DENIED)),
            _ => None,
        }
    }

    fn event(&self, to: Direction) -> Delivery {
        if to == Direction::Dom0 {
            return Delivery::Now;
        }
        let number = self.events.fetch_add(1, Relaxed) as usize;
        self.fates.get(number).copied().unwrap_or(Delivery::Now)
    }

    fn store(&self) -> Answer {
        Answer::Honest
    }
}

#[test]
fn a_hypercall_fails_at_the_turn_it_is_told_to() {
    use xen_abi::DomId;
    use xen_abi::evtchn::{ALLOC_UNBOUND, AllocUnbound};
    let g = Script::guest(Some(1), &[]);
    let results: Vec<_> = (0..3)
        .map(|_| {
            let mut a = AllocUnbound {
                dom: DomId::SELF,
                remote_dom: DomId::DOM0,
                ..Default::default()
            };
            (g.events(ALLOC_UNBOUND, &mut a), a.port)
        })
        .collect();
    assert_eq!(
        results,
        [(0, Port(1)), (-ENOMEM, Port(0)), (0, Port(2))],
        "the failed one did nothing"
    );
}

#[test]
fn events_are_lost_late_or_in_company() {
    let g = Script::guest(
        None,
        &[Delivery::Never, Delivery::Late, Delivery::WithOthers],
    );
    let (one, other) = (g.unbound(), g.unbound());
    let end = g.xen.dom0_bind(one, &g.bell).unwrap();
    let pending = || (g.bit(PENDING, one), g.bit(PENDING, other));
    g.xen.dom0_notify(&end);
    assert_eq!(pending(), (false, false), "lost");
    g.xen.dom0_notify(&end);
    assert_eq!(pending(), (false, false), "held back");
    g.machine.advance(1_000_000_000);
    assert!(g.xen.run_timers());
    assert_eq!(pending(), (true, false), "late");
    g.handle(0);
    g.xen.dom0_notify(&end);
    assert_eq!(pending(), (true, true), "in company");
}

#[test]
fn a_grant_operation_is_refused_within_a_hypercall_that_succeeds() {
    use xen_abi::{DomId, hypercall::GRANT_TABLE_OP};
    let g = Script::guest(None, &[]);
    let mut op = QuerySize {
        dom: DomId::SELF,
        nr_frames: 77,
        ..Default::default()
    };
    assert_eq!(g.call(GRANT_TABLE_OP, QUERY_SIZE, &mut op), 0);
    assert_eq!((op.status, op.nr_frames), (GNTST_PERMISSION_DENIED, 77));
}
