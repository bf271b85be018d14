//! Ctrl-C: the first one ends the run in order, the second one at once.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver},
    },
    thread,
};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

/// Hears that the run is to end.
pub struct Interrupt {
    asked: Arc<AtomicBool>,
    receiver: Receiver<()>,
}

impl Interrupt {
    /// Listens from now on; once in a process.
    pub fn listen() -> io::Result<Self> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let (sender, receiver) = mpsc::channel();
        let asked = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&asked);
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for (count, signal) in signals.forever().enumerate() {
                    if count > 0 {
                        // The exit code that shells give to a signal.
                        std::process::exit(128 + signal);
                    }
                    flag.store(true, Ordering::Relaxed);
                    // The run may be past the point where it listens.
                    let _ = sender.send(());
                }
            })?;
        Ok(Self { asked, receiver })
    }

    /// Does not listen: Ctrl-C ends the process at once.
    pub fn deaf() -> Self {
        Self {
            asked: Arc::default(),
            receiver: mpsc::channel().1,
        }
    }

    /// Whether it was asked for.
    pub fn flag(&self) -> &AtomicBool {
        &self.asked
    }

    /// Waits for it.
    pub fn wait(&self) {
        // An error means that the listening thread is gone, which is no reason to stay.
        let _ = self.receiver.recv();
    }
}
