//! The two directories of a PV device in xenstore, its own and its backend's, and the way of both ends' states.

use crate::store::{Store, Watch};
use crate::{CText, c_text};
use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;
use handshake::{Backend, Failure, Goal, Handshake, Step};
use nt::{Event, NtStatus, time};
use xen_abi::DomId;
use xen_abi::xenbus::XenbusState;
use xenstore::Value;

/// How often a state is looked at without an event.
const LOOK: Duration = Duration::from_secs(1);

/// Why a connection was not made, or not ended. `R`: why a backend is refused.
#[derive(Debug)]
pub enum Fault<R> {
    /// Something of Windows' or of xenstore's.
    Step(&'static str, NtStatus),
    /// The states did not lead there.
    Handshake(Failure),
    /// The backend's keys cannot be true, or not be served.
    Refused(R),
    /// Nobody wants the device any more.
    Cancelled,
}

impl<R: fmt::Display> fmt::Display for Fault<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step(what, status) => write!(f, "cannot {what}: {status}"),
            Self::Handshake(failure) => failure.fmt(f),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Cancelled => f.write_str("no longer wanted"),
        }
    }
}

/// A step of making a connection.
pub trait Named<T> {
    /// Says what failed.
    fn named<R>(self, what: &'static str) -> Result<T, Fault<R>>;
}

impl<T> Named<T> for nt::Result<T> {
    fn named<R>(self, what: &'static str) -> Result<T, Fault<R>> {
        self.map_err(|status| Fault::Step(what, status))
    }
}

/// The directories.
///
/// Functions here are not inlined: each keeps paths on the stack, of which a kernel thread has 24 KiB.
#[derive(Debug)]
pub struct Directories {
    store: Store,
    /// `device/<class>/<number>`.
    frontend: CText,
    backend: CText,
    domain: DomId,
    /// The frontend's state, as it was last written.
    own: XenbusState,
}

impl Directories {
    /// Finds the backend. `missing`: its domain if no key says one. PASSIVE_LEVEL.
    #[inline(never)]
    pub fn open<R>(
        store: &Store,
        frontend: CText,
        missing: Option<DomId>,
    ) -> Result<Self, Fault<R>> {
        let backend = store
            .plain()
            .read(&frontend, &c_text!("backend"))
            .named("read the backend's path")?;
        let backend = CText::from_bytes(backend.as_bytes());
        let domain = match (number(store, &frontend, "backend-id"), missing) {
            (Value::Number(id), _) if id < u64::from(DomId::FIRST_RESERVED.0) => DomId(id as u16),
            (Value::Missing, Some(domain)) => domain,
            _ => {
                return Err(Fault::Step(
                    "read the backend's domain",
                    NtStatus::DATA_ERROR,
                ));
            }
        };
        let own = state(store, &frontend);
        Ok(Self {
            store: store.clone(),
            frontend,
            backend,
            domain,
            own,
        })
    }

    /// Where they are.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The device's own.
    pub fn frontend(&self) -> &CText {
        &self.frontend
    }

    /// Its backend's.
    pub fn backend(&self) -> &CText {
        &self.backend
    }

    /// The domain that the backend is in.
    pub fn domain(&self) -> DomId {
        self.domain
    }

    /// Sets `event` at every change of the backend's directory.
    pub fn watch_backend(&self, event: &Arc<Event>) -> nt::Result<Watch> {
        self.store.watch(None, &self.backend, event)
    }

    /// A key of the device's own directory.
    pub fn own_value(&self, key: &str) -> Value {
        number(&self.store, &self.frontend, key)
    }

    /// A key of the backend's directory.
    pub fn backend_value(&self, key: &str) -> Value {
        number(&self.store, &self.backend, key)
    }

    /// The same, where a key that cannot be read is not the same as none.
    ///
    /// # Errors
    /// Of xenstored.
    pub fn read_backend_value(&self, key: &str) -> nt::Result<Value> {
        try_number(&self.store, &self.backend, key)
    }

    /// The backend's state.
    pub fn backend_state(&self) -> XenbusState {
        state(&self.store, &self.backend)
    }

    /// Writes a key of the device's own directory.
    #[inline(never)]
    pub fn write(&self, key: &str, value: &str) -> nt::Result<()> {
        let plain = self.store.plain();
        plain.write(Some(&self.frontend), &c_text!("{key}"), &c_text!("{value}"))
    }

    /// Writes the device's own state.
    #[inline(never)]
    pub fn write_state(&mut self, state: XenbusState) -> nt::Result<()> {
        self.store.plain().write(
            Some(&self.frontend),
            &c_text!("state"),
            &c_text!("{}", state.number()),
        )?;
        self.own = state;
        Ok(())
    }

    /// Writes and removes keys of the device's own directory in one transaction: `keys` gets what does either.
    #[inline(never)]
    pub fn publish(
        &self,
        mut keys: impl FnMut(
            &mut dyn FnMut(&str, &str) -> nt::Result<()>,
            &mut dyn FnMut(&str),
        ) -> nt::Result<()>,
    ) -> nt::Result<()> {
        self.store.transact(|access| {
            keys(
                &mut |node, value| {
                    access.write(
                        Some(&self.frontend),
                        &c_text!("{node}"),
                        &c_text!("{value}"),
                    )
                },
                &mut |node| {
                    // Most often there is nothing to remove.
                    let _ = access.remove(Some(&self.frontend), &c_text!("{node}"));
                },
            )
        })
    }

    /// Goes from state to state until the goal is reached, or will not be within `time`. `look` says what the backend
    /// shows, or that it does not matter any more; `wake` is set when that may have changed. PASSIVE_LEVEL.
    #[inline(never)]
    pub fn reach<B: Backend, R>(
        &mut self,
        goal: Goal,
        time: Duration,
        wake: &Event,
        look: impl Fn(&Self) -> Result<B, Fault<R>>,
    ) -> Result<(), Fault<R>> {
        let end = milliseconds() + time.as_millis() as u64;
        let mut handshake = Handshake::new(goal, self.own, end);
        loop {
            let backend = look(self)?;
            match handshake.observe(milliseconds(), backend) {
                Step::Write(state) => match self.write_state(state) {
                    // A backend that is told nothing keeps the rings for good: memory may be there soon.
                    Err(NtStatus::NO_MEMORY | NtStatus::INSUFFICIENT_RESOURCES)
                        if goal == Goal::Close && milliseconds() < end =>
                    {
                        let _ = wake.wait_for(LOOK);
                        handshake = Handshake::new(goal, self.own, end);
                    }
                    written => written.named("write the state")?,
                },
                Step::Wait => {
                    let _ = wake.wait_for(LOOK);
                }
                Step::Done => return Ok(()),
                Step::Failed(failure) => return Err(Fault::Handshake(failure)),
            }
        }
    }
}

fn milliseconds() -> u64 {
    time::since_boot().as_millis() as u64
}

fn number(store: &Store, directory: &CText, key: &str) -> Value {
    try_number(store, directory, key).unwrap_or(Value::Missing)
}

#[inline(never)]
fn try_number(store: &Store, directory: &CText, key: &str) -> nt::Result<Value> {
    match store.plain().read(directory, &c_text!("{key}")) {
        Err(NtStatus::OBJECT_NAME_NOT_FOUND) => Ok(Value::Missing),
        value => Ok(Value::parse(Some(value?.as_bytes()))),
    }
}

fn state(store: &Store, directory: &CText) -> XenbusState {
    match number(store, directory, "state") {
        Value::Number(state) => XenbusState::from_number(state),
        _ => XenbusState::Unknown,
    }
}
