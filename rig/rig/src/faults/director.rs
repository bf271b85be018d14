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
use nt_host::shortage::{DIVISIBLE, Lack, Shortage};
use nt_host::trace::{self, Class, Event};
use serde::{Deserialize, Serialize};
use xen_model::faults::{Answer, Delivery, Direction, Faults, Refusal};

use super::name::{Act, EventFate, Fault, Place, Step, StoreFate, Turn};
use super::refusal;

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

    /// The faults that can happen here, at the first turn; `hash` is the site's.
    pub fn faults(&self, hash: u64) -> Vec<Fault> {
        let (place, turn) = (Place::Stack(hash), Turn::Nth(1));
        let mut faults = vec![Fault::Alloc { place, turn }];
        if DIVISIBLE.contains(&&*self.function) {
            faults.push(Fault::Part { place, turn });
        }
        faults
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
    /// Calls that ask for memory, anywhere.
    pub allocations: u64,
    /// The faults that struck, in order.
    pub struck: Vec<String>,
}

#[derive(Default)]
struct State {
    armed: bool,
    met: Met,
    acts: VecDeque<Act>,
}

impl State {
    /// The guest takes its `turn`-th step of a kind: what is to happen to the machine then is called for.
    fn step(&mut self, faults: &[Fault], step: Step, turn: u64) {
        for fault in faults {
            if let Fault::Act(act, of, at) = fault
                && (*of, *at) == (step, turn)
            {
                note(&mut self.met, fault);
                self.acts.push_back(*act);
            }
        }
    }
}

/// Notes and tells of a fault that strikes.
fn note(met: &mut Met, fault: &Fault) {
    let name = fault.to_string();
    log::info!("fault: {name}");
    trace::emit(Class::Backend, || Event::Fault { what: &name });
    // One that strikes always is noted once.
    if !met.struck.contains(&name) {
        met.struck.push(name);
    }
}

/// Lets things go wrong.
pub struct Director {
    faults: Vec<Fault>,
    /// Whether it counts, and is asked.
    is_asked: bool,
    state: Mutex<State>,
}

impl Director {
    /// With these faults; for the life of the process, as the executive is.
    pub fn new(faults: Vec<Fault>) -> &'static Self {
        Box::leak(Box::new(Self {
            faults,
            is_asked: true,
            state: Mutex::default(),
        }))
    }

    /// Without faults, and without counting.
    pub fn idle() -> &'static Self {
        Box::leak(Box::new(Self {
            faults: Vec::new(),
            is_asked: false,
            state: Mutex::default(),
        }))
    }

    /// Whether drivers, Xen and xenstored need to ask what goes wrong.
    pub fn is_asked(&self) -> bool {
        self.is_asked
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

    /// The next thing `of` some kind that is to happen to the machine, once.
    pub fn next_act(&self, of: impl Fn(Act) -> bool) -> Option<Act> {
        let mut state = self.state();
        let index = state.acts.iter().position(|act| of(*act))?;
        state.acts.remove(index)
    }

    /// Whether something `of` some kind is to happen to the machine.
    pub fn wants_act(&self, of: impl Fn(Act) -> bool) -> bool {
        self.state().acts.iter().any(|act| of(*act))
    }

    /// For the model of Xen.
    pub fn for_xen(&'static self) -> Arc<dyn Faults> {
        Arc::new(InXen(self))
    }

    /// The first fault that `strikes`; it is noted and told.
    fn strike(&self, met: &mut Met, strikes: impl Fn(&Fault) -> bool) -> Option<&Fault> {
        let fault = self.faults.iter().find(|fault| strikes(fault))?;
        note(met, fault);
        Some(fault)
    }

    fn event(&self, to: Direction) -> Delivery {
        let mut state = self.state();
        if !state.armed {
            return Delivery::Now;
        }
        let met = &mut state.met;
        let (count, step) = match to {
            Direction::Guest => (&mut met.events, Step::Event),
            Direction::Dom0 => (&mut met.kicks, Step::Kick),
        };
        *count += 1;
        let turn = *count;
        state.step(&self.faults, step, turn);
        let fault = self.strike(&mut state.met, |fault| match (fault, to) {
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
        state.met.store += 1;
        let turn = state.met.store;
        state.step(&self.faults, Step::Store, turn);
        match self.strike(
            &mut state.met,
            |fault| matches!(fault, Fault::Store(_, at) if at.is(turn)),
        ) {
            Some(Fault::Store(StoreFate::Error(error), _)) => Answer::Error(*error),
            Some(Fault::Store(StoreFate::Late, _)) => Answer::Late,
            Some(Fault::Store(StoreFate::Never, _)) => Answer::Never,
            _ => Answer::Honest,
        }
    }

    fn hypercall(&self, name: &str) -> Option<Refusal> {
        let mut state = self.state();
        if !state.armed {
            return None;
        }
        let all: u64 = state.met.hypercalls.values().sum::<u64>() + 1;
        state.step(&self.faults, Step::Hypercall, all);
        let met = &mut state.met;
        // The name is allocated once.
        let turn = match met.hypercalls.get_mut(name) {
            Some(count) => {
                *count += 1;
                *count
            }
            None => *met.hypercalls.entry(name.to_owned()).or_insert(1),
        };
        let fault = self.strike(met, |fault| match fault {
            Fault::Hypercall {
                name: of, turn: at, ..
            } => of == name && at.is(turn),
            Fault::AnyHypercall(at) => at.is(all) && refusal::pick(name, all).is_some(),
            _ => false,
        });
        match fault {
            Some(Fault::Hypercall { result, .. }) => Some(*result),
            Some(Fault::AnyHypercall(_)) => refusal::pick(name, all),
            _ => None,
        }
    }
}

impl Shortage for Director {
    fn strikes(&self, function: &'static str, stack: &[u64]) -> Lack {
        if !self.state().armed {
            return Lack::Nothing;
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
        state.met.allocations += 1;
        let all = state.met.allocations;
        state.step(&self.faults, Step::Alloc, all);
        let met = &mut state.met;
        let site = met.sites.entry(hash).or_insert_with(|| Site {
            function: function.to_owned(),
            frames,
            met: 0,
        });
        site.met += 1;
        let here = site.met;
        let is_divisible = DIVISIBLE.contains(&function);
        let struck = self.strike(met, |fault| match fault {
            Fault::Part { .. } if !is_divisible => false,
            Fault::Alloc { place, turn } | Fault::Part { place, turn } => match place {
                Place::Any => turn.is(all),
                Place::Stack(stack) => *stack == hash && turn.is(here),
            },
            _ => false,
        });
        match struck {
            Some(Fault::Part { .. }) => Lack::Part,
            Some(_) => Lack::All,
            None => Lack::Nothing,
        }
    }
}

struct InXen(&'static Director);

impl Faults for InXen {
    fn hypercall(&self, name: &str) -> Option<Refusal> {
        self.0.hypercall(name)
    }

    fn event(&self, to: Direction) -> Delivery {
        self.0.event(to)
    }

    fn store(&self) -> Answer {
        self.0.store()
    }
}
