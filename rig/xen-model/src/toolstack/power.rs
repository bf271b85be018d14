//! Shutting the guest down, suspending and resuming it.
//!
//! ```text
//!   send(Suspend) ──► guest clears the key, prepares, SCHEDOP_shutdown ──► is_suspended() ──► resume_guest(…)
//! ```

use super::GUEST_PATH;
use crate::Resume;
use crate::dom0::Dom0;

/// What `control/shutdown` asks of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Shut down and power off.
    PowerOff,
    /// Shut down and start again.
    Reboot,
    /// Suspend, to be saved or migrated.
    Suspend,
    /// Stop at once.
    Halt,
    /// ACPI S3.
    S3,
    /// ACPI S4.
    S4,
}

impl Command {
    fn text(self) -> &'static str {
        match self {
            Self::PowerOff => "poweroff",
            Self::Reboot => "reboot",
            Self::Suspend => "suspend",
            Self::Halt => "halt",
            Self::S3 => "s3",
            Self::S4 => "hibernate",
        }
    }
}

impl Dom0 {
    /// Writes `control/shutdown`. The guest acknowledges by clearing it.
    pub fn send(&self, command: Command) {
        self.store()
            .write(&format!("{GUEST_PATH}/control/shutdown"), command.text());
        self.bell().ring();
    }

    /// Takes the last command back.
    pub fn withdraw(&self) {
        self.store()
            .write(&format!("{GUEST_PATH}/control/shutdown"), "");
        self.bell().ring();
    }

    /// Whether the guest has taken note of the last command.
    pub fn is_acknowledged(&self) -> bool {
        self.store()
            .read(&format!("{GUEST_PATH}/control/shutdown"))
            .is_none_or(|text| text.is_empty())
    }

    /// Lets a suspended guest go on, as a restored domain or as if nothing had been. Returns `false` if it is not
    /// suspended.
    pub fn resume_guest(&self, how: Resume) -> bool {
        if !self.xen().is_suspended() {
            return false;
        }
        if how == Resume::Restored {
            self.rebuild_guest();
        }
        self.xen().resume(how);
        true
    }
}
