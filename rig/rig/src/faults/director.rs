//! Counts what can go wrong, and lets it go wrong when its turn has come.
//!
//! ```text
//!   drivers' calls ──► Shortage ─┐
//!   hypercalls, events ──► Faults ├──► Director: counts, compares with the faults asked for ──► what was met, what struck
//!   requests to xenstored ───────┘                                        └──► acts, for whoever plays the toolstack
//! ```
//! Nothing counts before [`Director::arm`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nt_host::pe::modules;
use nt_host::shortage::Shortage;
use nt_host::trace::{self, Class, Event};
use serde::{Deserialize, Serialize};
use xen_model::faults::{Answer, Delivery, Direction, Faults};

use super::name::{Act, EventFate, Fault, StoreFate};

/// A place where a driver asks for memory: the function it calls, and the way it got there.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Site {
    /// The kernel function.
    pub function: String,
    /// Return addresses, innermost first: image and offset in it.
    pub frames: Vec<(String, u32)>,
    /// How often it was met.
    pub met: u64,
}

impl Site {
    /// What tells it from all others, whatever addresses images are loaded at: FNV-1a over names and offsets.
    fn hash(function: &str, frames: &[(String, u32)]) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut take = |bytes: &[u8]| {
            for byte in bytes {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        take(function.as_bytes());
        for (image, offset) in frames {
            take(image.as_bytes());
            take(&offset.to_le_bytes());
        }
        hash
    }
}

/// What was met.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Met {
    /// Places where drivers ask for memory, by their stacks' hashes.
    pub sites: BTreeMap<u64, Site>,
    /// Hypercalls, by name.
    pub hypercalls: BTreeMap<String, u64>,
    /// Events to the guest.
    pub events: u64,
    /// Events to domain 0.
    pub kicks: u64,
    /// Requests to xenstored.
    pub store: u64,
    /// The faults that struck, in order.
    pub struck: Vec<String>,
}

#[derive(Default)]
struct State {
    armed: bool,
    met: Met,
    acts: VecDeque<Act>,
}

/// Lets things go wrong.
pub struct Director {
    faults: Vec<Fault>,
    state: Mutex<State>,
}

impl Director {
    /// With these faults; for the life of the process, as the executive is.
    pub fn new(faults: Vec<Fault>) -> &'static Self {
        Box::leak(Box::new(Self {
            faults,
            state: Mutex::default(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on, turns count and faults strike.
    pub fn arm(&self) {
        self.state().armed = true;
    }

    /// From now on nothing goes wrong any more.
    pub fn disarm(&self) {
        self.state().armed = false;
    }

    /// What was met so far.
    pub fn met(&self) -> Met {
        self.state().met.clone()
    }

    /// The next thing that is to happen to the machine, once.
    pub fn next_act(&self) -> Option<Act> {
        self.state().acts.pop_front()
    }

    /// Whether something is to happen to the machine.
    pub fn wants_act(&self) -> bool {
        !self.state().acts.is_empty()
    }

    /// For the model of Xen.
    pub fn for_xen(&'static self) -> Arc<dyn Faults> {
        Arc::new(InXen(self))
    }

    /// The first fault that `strikes`; it is noted and told.
    fn strike(&self, met: &mut Met, strikes: impl Fn(&Fault) -> bool) -> Option<&Fault> {
        let fault = self.faults.iter().find(|fault| strikes(fault))?;
        let name = fault.to_string();
        log::info!("fault: {name}");
        trace::emit(Class::Backend, || Event::Fault { what: &name });
        // A fault that strikes always is noted once.
        if !met.struck.contains(&name) {
            met.struck.push(name);
        }
        Some(fault)
    }

    fn event(&self, to: Direction) -> Delivery {
        let mut state = self.state();
        if !state.armed {
            return Delivery::Now;
        }
        let met = &mut state.met;
        let count = match to {
            Direction::Guest => &mut met.events,
            Direction::Dom0 => &mut met.kicks,
        };
        *count += 1;
        let turn = *count;
        let fault = self.strike(met, |fault| match (fault, to) {
            (Fault::Event(_, at), Direction::Guest) | (Fault::Kick(_, at), Direction::Dom0) => {
                at.is(turn)
            }
            _ => false,
        });
        match fault {
            Some(Fault::Event(fate, _) | Fault::Kick(fate, _)) => match fate {
                EventFate::Lose => Delivery::Never,
                EventFate::Late => Delivery::Late,
                EventFate::Spurious => Delivery::WithOthers,
            },
            _ => Delivery::Now,
        }
    }

    fn store(&self) -> Answer {
        let mut state = self.state();
        if !state.armed {
            return Answer::Honest;
        }
        let State { met, acts, .. } = &mut *state;
        met.store += 1;
        let turn = met.store;
        let act = self.strike(
            met,
            |fault| matches!(fault, Fault::Act(_, at) if *at == turn),
        );
        if let Some(Fault::Act(act, _)) = act {
            acts.push_back(*act);
        }
        match self.strike(
            met,
            |fault| matches!(fault, Fault::Store(_, at) if at.is(turn)),
        ) {
            Some(Fault::Store(StoreFate::Error(error), _)) => Answer::Error(*error),
            Some(Fault::Store(StoreFate::Late, _)) => Answer::Late,
            Some(Fault::Store(StoreFate::Never, _)) => Answer::Never,
            _ => Answer::Honest,
        }
    }

    fn hypercall(&self, name: &str) -> Option<i64> {
        let mut state = self.state();
        if !state.armed {
            return None;
        }
        let met = &mut state.met;
        let count = met.hypercalls.entry(name.to_owned()).or_default();
        *count += 1;
        let turn = *count;
        let fault = self.strike(met, |fault| {
            matches!(fault, Fault::Hypercall { name: of, turn: at, .. } if of == name && at.is(turn))
        });
        match fault {
            Some(Fault::Hypercall { result, .. }) => Some(*result),
            _ => None,
        }
    }
}

impl Shortage for Director {
    fn strikes(&self, function: &'static str, stack: &[u64]) -> bool {
        if !self.state().armed {
            return false;
        }
        let frames: Vec<_> = stack
            .iter()
            .filter_map(|&address| {
                let module = modules::by_address(address)?;
                let offset = address.wrapping_sub(module.base() as u64) as u32;
                Some((module.name.clone(), offset))
            })
            .collect();
        let hash = Site::hash(function, &frames);
        let mut state = self.state();
        let met = &mut state.met;
        let site = met.sites.entry(hash).or_insert_with(|| Site {
            function: function.to_owned(),
            frames,
            met: 0,
        });
        site.met += 1;
        let turn = site.met;
        self.strike(
            met,
            |fault| matches!(fault, Fault::Alloc { stack, turn: at } if *stack == hash && at.is(turn)),
        )
        .is_some()
    }
}

struct InXen(&'static Director);

impl Faults for InXen {
    fn hypercall(&self, name: &str) -> Option<i64> {
        self.0.hypercall(name)
    }

    fn event(&self, to: Direction) -> Delivery {
        self.0.event(to)
    }

    fn store(&self) -> Answer {
        self.0.store()
    }
}
