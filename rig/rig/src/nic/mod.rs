//! A PV network card between two Linux network stacks.
//!
//! ```text
//!   namespace winpv-PID-windows                               namespace winpv-PID-peer
//!     TAP ◄─► stack (a protocol of NDIS) ◄─► xennet.sys, xenvif.sys ◄─► netback ◄─► TAP
//! ```

pub mod capture;
pub mod datagrams;
pub mod ends;
mod keeper;
pub mod offload;
pub mod probe;
pub mod rounds;
mod rss;
pub mod show;
pub mod stack;
pub mod totals;

use std::{
    io,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use backends::net::{Netback, Nics, Offer, TapWire, Traffic, Witness};
use ndis_host::{Adapter, Keyword, State, Values};
use xen_model::toolstack::VifSpec;

use crate::{boot::Machine, port_nic, wait};
use capture::Capture;
use ends::End;
use stack::{Stack, StackError};
use tap::NetError;
use totals::Totals;

/// The interface's number.
const DEVID: u32 = 0;
/// The priority of frames in a VLAN.
const PRIORITY: u8 = 5;
/// How long the drivers may take to bring the card up, or to let go of it.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the card is like.
#[derive(Clone, Debug)]
pub struct Options {
    /// What its backend offers.
    pub offer: Offer,
    /// Bytes of an IP packet; `None` leaves it to the drivers.
    pub mtu: Option<u32>,
    /// Virtual CPUs of the machine.
    pub cpus: u32,
    /// A folder for captures of what passes both ends.
    pub captures: Option<PathBuf>,
    /// The VLAN that both stacks are in.
    pub vlan: Option<u16>,
    /// The adapter's advanced settings that shall not have their defaults.
    pub settings: Vec<Setting>,
}

/// A value for a keyword of the adapter's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// `*LSOV2IPv4`, in whatever case.
    pub keyword: String,
    /// `0`.
    pub value: String,
}

impl FromStr for Setting {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((keyword, value)) if !keyword.is_empty() => Ok(Self {
                keyword: keyword.to_owned(),
                value: value.to_owned(),
            }),
            _ => Err("a setting is KEYWORD=VALUE"),
        }
    }
}

/// Why there is no card, or it ended badly.
#[derive(Debug, thiserror::Error)]
pub enum NicError {
    /// The Linux side.
    #[error(transparent)]
    Net(#[from] NetError),
    /// A file.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// The system.
    #[error(transparent)]
    System(#[from] io::Error),
    /// The protocol.
    #[error(transparent)]
    Stack(#[from] StackError),
    /// The memory of frames was used again before they were given back.
    #[error("{0} received frames changed while they were kept")]
    Altered(u64),
    /// The adapter has no such setting.
    #[error("there is no setting {keyword}; there are {}", known.join(", "))]
    Keyword {
        /// Which.
        keyword: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// It does not take the value.
    #[error("the setting {} takes {values}, not {:?}", setting.keyword, setting.value)]
    Value {
        /// What was wanted.
        setting: Setting,
        /// What it takes.
        values: Values,
    },
    /// The drivers.
    #[error("{what} within {} s{states}", PATIENCE.as_secs())]
    Drivers {
        /// What did not happen.
        what: &'static str,
        /// What became of the devices.
        states: String,
    },
}

/// A card that is plugged in, with its two ends.
pub struct Nic {
    nics: Nics,
    stack: Option<Stack>,
    windows: End,
    peer: End,
    captures: Option<[Capture; 2]>,
    options: Options,
}

/// The adapter that runs, if it does.
fn running() -> Option<&'static Adapter> {
    let mut all = port_nic::all().into_iter();
    all.find(|adapter| adapter.state() == State::Running && !adapter.is_gone())
}

impl Nic {
    /// Plugs a card in, and waits until its link is up.
    pub fn plug(machine: &Machine, options: &Options) -> Result<Self, NicError> {
        let peer = End::peer(options.mtu.unwrap_or(1500))?;
        let captures = match &options.captures {
            None => None,
            Some(folder) => Some([open(folder, "windows")?, open(folder, "peer")?]),
        };
        for setting in &options.settings {
            ndis_host::set_keyword(&setting.keyword, &setting.value);
        }
        let dom0 = machine.dom0();
        let (driver, nics) = Netback::new();
        nics.offer(options.offer);
        let witness: Witness = match &captures {
            Some([_, capture]) => {
                let capture = capture.clone();
                Box::new(move |frame| capture.show(frame))
            }
            None => Box::new(|_| ()),
        };
        let mut wire = TapWire::new(Arc::clone(peer.tap()), dom0.bell(), witness)?;
        if let Some(id) = options.vlan {
            wire = wire.with_tag(u16::from(PRIORITY) << 13 | id);
        }
        nics.attach(DEVID, Box::new(wire));
        dom0.add_driver(Box::new(driver));
        dom0.attach_vif(spec(options));
        let adapter = wait_for_adapter(machine)?;
        let known = adapter.keywords();
        for setting in &options.settings {
            demand(&known, setting)?;
        }
        let info = adapter.info();
        let windows = End::windows(info.mac, info.mtu)?;
        let mut nic = Self {
            nics,
            stack: None,
            windows,
            peer,
            captures,
            options: options.clone(),
        };
        nic.open(adapter)?;
        Ok(nic)
    }

    fn open(&mut self, adapter: &'static Adapter) -> Result<(), NicError> {
        let capture = self.captures.as_ref().map(|[windows, _]| windows.clone());
        let stack = Stack::open(
            &self.windows,
            adapter,
            (self.options.cpus, self.options.vlan),
            capture,
        );
        self.stack = Some(stack?);
        Ok(())
    }

    /// The end in the place of Windows' TCP/IP.
    pub fn windows(&self) -> &End {
        &self.windows
    }

    /// The end behind the backend.
    pub fn peer(&self) -> &End {
        &self.peer
    }

    /// The adapter, while there is one.
    pub fn adapter(&self) -> Option<&'static Adapter> {
        self.stack.as_ref().map(Stack::adapter)
    }

    /// Whether the backend is connected to the card.
    pub fn is_connected(&self) -> bool {
        self.nics.is_connected(DEVID)
    }

    /// What went through the stack on Windows' side.
    pub fn totals(&self) -> Totals {
        self.stack.as_ref().map(Stack::totals).unwrap_or_default()
    }

    /// What went through the backend's queues since the card was last connected.
    pub fn traffic(&self) -> Vec<Traffic> {
        self.nics.traffic(DEVID)
    }

    /// Ends the captures. Returns how many frames passed each end until then: Windows', the peer's.
    pub fn finish_captures(&self) -> Option<[u64; 2]> {
        let captures = self.captures.as_ref()?;
        Some([captures[0].finish(), captures[1].finish()])
    }

    /// Takes the card out: the protocol lets go of it, the toolstack takes it away. Every frame has come back then.
    pub fn unplug(&mut self, machine: &Machine) -> Result<Totals, NicError> {
        let totals = match self.stack.take() {
            Some(stack) => stack.close()?,
            None => Totals::default(),
        };
        if totals.altered > 0 {
            return Err(NicError::Altered(totals.altered));
        }
        let dom0 = machine.dom0();
        dom0.detach_vif(DEVID);
        // Not before the backend has closed: the frontend would be surprised.
        wait::until(PATIENCE, || dom0.finish_vif_detach(DEVID, false));
        let gone = || port_nic::all().iter().all(|adapter| adapter.is_gone());
        match wait::until(PATIENCE, gone) {
            true => Ok(totals),
            false => Err(stuck(machine, "the adapter did not go")),
        }
    }

    /// Plugs the card in again after [`Self::unplug`].
    pub fn replug(&mut self, machine: &Machine) -> Result<(), NicError> {
        machine.dom0().attach_vif(spec(&self.options));
        let adapter = wait_for_adapter(machine)?;
        self.open(adapter)
    }
}

fn spec(options: &Options) -> VifSpec {
    VifSpec {
        mtu: options.mtu,
        ..VifSpec::new(DEVID)
    }
}

fn open(folder: &Path, name: &str) -> Result<Capture, NicError> {
    let path = folder.join(format!("nic-{name}.pcap"));
    Capture::new(&path).map_err(|reason| NicError::File { path, reason })
}

/// Whether the adapter's property page would have taken a setting.
fn demand(known: &[Keyword], setting: &Setting) -> Result<(), NicError> {
    let same = |it: &&Keyword| it.name.eq_ignore_ascii_case(&setting.keyword);
    match known.iter().find(same) {
        None => Err(NicError::Keyword {
            keyword: setting.keyword.clone(),
            known: known.iter().map(|it| it.name.clone()).collect(),
        }),
        Some(keyword) if keyword.takes(&setting.value) => Ok(()),
        Some(keyword) => Err(NicError::Value {
            setting: setting.clone(),
            values: keyword.values.clone(),
        }),
    }
}

fn wait_for_adapter(machine: &Machine) -> Result<&'static Adapter, NicError> {
    let linked = || running().is_some_and(|adapter| adapter.link().connected);
    if !wait::until(PATIENCE, linked) {
        return Err(stuck(machine, "no network adapter came up"));
    }
    running().ok_or_else(|| stuck(machine, "the network adapter stayed away"))
}

fn stuck(machine: &Machine, what: &'static str) -> NicError {
    let devices = machine.devices();
    let states = devices.iter().map(|row| format!("\n  {row}")).collect();
    NicError::Drivers { what, states }
}
