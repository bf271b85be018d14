//! A machine on one host thread, whose every choice follows from a seed.
//!
//! ```text
//!   actors: virtual CPUs │ domain 0 │ the program's own code (boot, workload, toolstack)      each on a stack of its own
//!      │ the end of a kernel call or hypercall, a spin loop, idle, a wait
//!      ▼
//!   turn: the next actor by the seed, of those that can run; time goes on a little
//!         nobody can run: time jumps to the next deadline
//! ```
//! One actor runs at a time, so nothing here is shared in truth; locks and atomics only satisfy the compiler. Nobody
//! holds a lock at a turn.

use std::cell::Cell;
use std::io;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use nt_host::ke::context;

use super::vcpu;

/// Bytes of an actor's stack: domain 0 writes logs and does file I/O on its own.
const STACK: usize = 1 << 20;
/// Nanoseconds that pass with a kernel call.
const CALL: u64 = 200;
/// Nanoseconds that pass in a turn of a spin loop.
const SPIN: u64 = 1000;
/// Of how many kernel calls one ends a turn; each seed takes one of these. Rare ends let an actor get far ahead.
const PATIENCE: [u64; 4] = [1, 3, 16, 100];

/// splitmix64 (Steele et al. 2014).
pub struct Random(u64);

impl Random {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound.max(1)
    }
}

/// Time that goes on by what is done, in nanoseconds.
#[derive(Clone, Default)]
pub struct VirtualTime(Arc<AtomicU64>);

impl VirtualTime {
    /// Nanoseconds since the machine was made.
    pub fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Lets time pass.
    pub fn pass(&self, nanoseconds: u64) {
        self.0.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    fn jump(&self, to: u64) {
        self.0.fetch_max(to, Ordering::Relaxed);
    }
}

/// What an actor waits for.
enum State {
    /// Nothing: it can run.
    Ready,
    /// A kick, or this time.
    Asleep(Option<u64>),
    /// Something that it looks for itself whenever another actor has run, or this time.
    Watching {
        until: u64,
        /// Somebody else has run.
        news: bool,
        /// It has looked, and nothing else.
        again: bool,
    },
    /// It has ended.
    Ended,
}

/// Something besides a kick that makes an actor ready, and when it will be ready by itself.
pub trait Bell: Send {
    /// Whether there is work.
    fn rung(&self) -> bool;
    /// When there will be, in nanoseconds.
    fn deadline(&self) -> Option<u64>;
}

struct Actor {
    cpu: Option<u32>,
    state: State,
    kicked: bool,
    /// Nanoseconds for which it has run.
    ran: u64,
    bell: Option<Box<dyn Bell>>,
    /// Where it continues.
    context: Box<AtomicPtr<u8>>,
}

struct Stage {
    actors: Vec<Actor>,
    random: Random,
    running: usize,
}

/// The actors and the choice among them.
pub struct World {
    stage: Mutex<Stage>,
    time: VirtualTime,
    patience: u64,
    /// Turns so far: what a watchdog looks at.
    turns: AtomicU64,
    lost: Box<dyn Fn() + Send + Sync>,
}

static WORLD: OnceLock<&'static World> = OnceLock::new();

thread_local! {
    /// This is the thread of the seeded machine.
    static HERE: Cell<bool> = const { Cell::new(false) };
}

/// The world, if this process has a seeded machine and the caller is its thread.
pub fn world() -> Option<&'static World> {
    WORLD.get().copied().filter(|_| HERE.get())
}

/// What a fresh actor starts with.
struct Start(Box<dyn FnOnce()>);

extern "sysv64" fn enter(start: *mut u8) -> ! {
    // SAFETY: `add` leaked a start for this actor alone.
    let start = unsafe { Box::from_raw(start.cast::<Start>()) };
    (start.0)();
    world().expect("actors run in the world").end()
}

impl World {
    /// A world with the calling thread as its first actor; once in a process. `lost` is called when nobody can ever run
    /// again; it should end the process.
    pub fn new(
        seed: u64,
        time: VirtualTime,
        lost: Box<dyn Fn() + Send + Sync>,
    ) -> io::Result<&'static Self> {
        let mut random = Random::new(seed);
        let patience = PATIENCE[random.below(PATIENCE.len() as u64) as usize];
        let program = Actor {
            cpu: None,
            state: State::Ready,
            kicked: false,
            ran: 0,
            bell: None,
            context: Box::default(),
        };
        let world: &'static Self = Box::leak(Box::new(Self {
            stage: Mutex::new(Stage {
                actors: vec![program],
                random,
                running: 0,
            }),
            time,
            patience,
            turns: AtomicU64::new(0),
            lost,
        }));
        HERE.set(true);
        match WORLD.set(world) {
            Ok(()) => Ok(world),
            Err(_) => Err(io::Error::other("there is one machine in a process")),
        }
    }

    /// Adds an actor: a virtual CPU, or another one, which sleeps until its bell rings.
    pub fn add(
        &self,
        cpu: Option<u32>,
        bell: Option<Box<dyn Bell>>,
        body: Box<dyn FnOnce()>,
    ) -> io::Result<()> {
        let top = stack()?;
        let start = Box::into_raw(Box::new(Start(body)));
        // SAFETY: the stack is fresh and its end is page-aligned.
        let context = unsafe { context::prepare(top, enter, start.cast()) };
        self.stage().actors.push(Actor {
            cpu,
            state: State::Ready,
            kicked: false,
            ran: 0,
            bell,
            context: Box::new(AtomicPtr::new(context)),
        });
        Ok(())
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For how many nanoseconds the running actor has run.
    pub fn ran(&self) -> u64 {
        let stage = self.stage();
        stage.actors[stage.running].ran
    }

    /// How many turns there were.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// The time.
    pub fn time(&self) -> &VirtualTime {
        &self.time
    }

    /// The end of a kernel call: perhaps the end of a turn.
    pub fn call(&self) {
        self.time.pass(CALL);
        let mut stage = self.stage();
        let running = stage.running;
        stage.actors[running].ran += CALL;
        let stay = stage.random.below(self.patience) != 0;
        drop(stage);
        if !stay {
            self.turn(true);
        } else {
            self.turns.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A turn of a spin loop: others first. `runs`: as far as Xen is concerned, the actor runs.
    pub fn spin(&self, runs: bool) {
        self.time.pass(SPIN);
        if runs {
            let mut stage = self.stage();
            let running = stage.running;
            stage.actors[running].ran += SPIN;
        }
        self.turn(false);
    }

    /// Sleeps until a kick, also one since the last sleep, a ring of the actor's bell, or a time.
    pub fn sleep(&self, until: Option<u64>) {
        let mut stage = self.stage();
        let running = stage.running;
        let me = &mut stage.actors[running];
        if std::mem::take(&mut me.kicked) {
            return;
        }
        me.state = State::Asleep(until);
        drop(stage);
        self.turn(false);
        let mut stage = self.stage();
        let me = &mut stage.actors[running];
        me.state = State::Ready;
        me.kicked = false;
    }

    /// Wakes the actor that is virtual CPU `cpu`.
    pub fn kick(&self, cpu: u32) {
        let mut stage = self.stage();
        let actor = stage.actors.iter_mut().find(|actor| actor.cpu == Some(cpu));
        if let Some(actor) = actor {
            actor.kicked = true;
        }
    }

    /// Lets the others run until one of them has, at most until a time (nanoseconds). Who comes back `again` has only
    /// looked in between, which is no news for others who watch: they would look at each other forever.
    pub fn watch(&self, until: u64, again: bool) {
        let mut stage = self.stage();
        let running = stage.running;
        stage.actors[running].state = State::Watching {
            until,
            news: false,
            again,
        };
        drop(stage);
        self.turn(false);
        self.stage().actors[running].state = State::Ready;
    }

    /// Whether virtual CPUs have all ended.
    pub fn cpus_ended(&self) -> bool {
        let stage = self.stage();
        let mut cpus = stage.actors.iter().filter(|actor| actor.cpu.is_some());
        cpus.all(|actor| matches!(actor.state, State::Ended))
    }

    fn end(&self) -> ! {
        let mut stage = self.stage();
        let running = stage.running;
        stage.actors[running].state = State::Ended;
        drop(stage);
        self.turn(false);
        unreachable!("an actor that has ended is not resumed");
    }

    /// Goes on with the actor whose turn it is. `willing`: the caller may go on itself; otherwise it does so only when
    /// nobody else can.
    fn turn(&self, willing: bool) {
        self.turns.fetch_add(1, Ordering::Relaxed);
        let Some((from, to, cpu)) = self.choose(willing) else {
            return;
        };
        vcpu::be(cpu);
        // SAFETY: the other actor is suspended, and its context is where; contexts never move.
        unsafe { context::switch(from, to) };
    }

    /// The next actor, if it is another one: where to save the caller's context, where to go on, and as which CPU.
    fn choose(&self, willing: bool) -> Option<(*mut *mut u8, *mut u8, Option<u32>)> {
        let mut stage = self.stage();
        let stage = &mut *stage;
        let me = stage.running;
        let has_looked = matches!(stage.actors[me].state, State::Watching { again: true, .. });
        for (index, actor) in stage.actors.iter_mut().enumerate() {
            if let State::Watching { news, .. } = &mut actor.state
                && index != me
                && !has_looked
            {
                *news = true;
            }
        }
        let next = loop {
            let now = self.time.now();
            let can_run =
                |&index: &usize| (willing || index != me) && stage.actors[index].can_run(now);
            let count = (0..stage.actors.len()).filter(can_run).count() as u64;
            if count > 0 {
                let pick = stage.random.below(count) as usize;
                let next = (0..stage.actors.len())
                    .filter(|&index| (willing || index != me) && stage.actors[index].can_run(now));
                break next.into_iter().nth(pick).unwrap_or(me);
            }
            if stage.actors[me].can_run(now) {
                break me;
            }
            match stage.actors.iter().filter_map(Actor::deadline).min() {
                Some(deadline) => self.time.jump(deadline),
                None => (self.lost)(),
            }
        };
        if next == me {
            return None;
        }
        stage.running = next;
        let to = &stage.actors[next];
        let resumed = to.context.swap(null_mut(), Ordering::Relaxed);
        Some((stage.actors[me].context.as_ptr(), resumed, to.cpu))
    }
}

impl Actor {
    fn can_run(&self, now: u64) -> bool {
        match self.state {
            State::Ready => true,
            State::Asleep(until) => {
                self.kicked
                    || self.bell.as_ref().is_some_and(|bell| bell.rung())
                    || until.is_some_and(|until| until <= now)
                    || self.deadline().is_some_and(|deadline| deadline <= now)
            }
            State::Watching { until, news, .. } => news || until <= now,
            State::Ended => false,
        }
    }

    fn deadline(&self) -> Option<u64> {
        match self.state {
            State::Asleep(until) => {
                let own = self.bell.as_ref().and_then(|bell| bell.deadline());
                until.into_iter().chain(own).min()
            }
            State::Watching { until, .. } => Some(until),
            State::Ready | State::Ended => None,
        }
    }
}

/// The end of a fresh stack with a guard page below. It is never given back: actors live as long as the machine.
fn stack() -> io::Result<*mut u8> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a fresh anonymous mapping at an address of the kernel's choice.
    let base = unsafe { libc::mmap(null_mut(), STACK, access, flags, -1, 0) };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the page is the lowest of the mapping just made.
    if unsafe { libc::mprotect(base, 4096, libc::PROT_NONE) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(base.cast::<u8>().wrapping_add(STACK))
}
