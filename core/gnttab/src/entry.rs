//! One entry of the table: permission and revocation. public/grant_table.h, "Reference to a grant entry".

use core::sync::atomic::Ordering;
use xen_abi::grant::{
    GTF_PERMIT_ACCESS, GTF_READING, GTF_READONLY, GTF_TYPE_MASK, GTF_WRITING, GrantEntryV1,
};
use xen_abi::{DomId, Gref};

/// What the peer may do with the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read.
    ReadOnly,
    /// Read and write.
    ReadWrite,
}

/// An allocated reference whose entry is unused.
#[derive(Debug)]
pub struct Reference<'t> {
    gref: Gref,
    entry: &'t GrantEntryV1,
}

/// A reference through which a peer may touch a page.
#[derive(Debug)]
#[must_use = "the page stays the peer's until the grant is revoked"]
pub struct Grant<'t> {
    gref: Gref,
    entry: &'t GrantEntryV1,
}

/// The peer has the page mapped, or a copy is under way; the grant still stands.
#[derive(Debug)]
pub struct StillInUse<'t>(pub Grant<'t>);

/// What an entry grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The granted frame.
    pub frame: u32,
    /// To whom.
    pub domain: DomId,
    /// For what.
    pub access: Access,
}

fn word(flags: u16, domain: DomId) -> u32 {
    u32::from(flags) | (u32::from(domain.0) << 16)
}

fn flags(word: u32) -> u16 {
    (word & 0xFFFF) as u16
}

impl<'t> Reference<'t> {
    pub(crate) fn new(gref: Gref, entry: &'t GrantEntryV1) -> Self {
        Self { gref, entry }
    }

    /// The number by which the peer names the page.
    pub fn gref(&self) -> Gref {
        self.gref
    }

    /// Lets `domain` touch `frame`.
    pub fn permit(self, domain: DomId, frame: u32, access: Access) -> Grant<'t> {
        let readonly = match access {
            Access::ReadOnly => GTF_READONLY,
            Access::ReadWrite => 0,
        };
        self.entry
            .flags_domid
            .store(word(readonly, domain), Ordering::Relaxed);
        self.entry.frame.store(frame, Ordering::Relaxed);
        // The flags come last: from here on Xen takes the entry as valid.
        self.entry.flags_domid.store(
            word(GTF_PERMIT_ACCESS | readonly, domain),
            Ordering::Release,
        );
        Grant {
            gref: self.gref,
            entry: self.entry,
        }
    }
}

impl<'t> Grant<'t> {
    /// The number by which the peer names the page.
    pub fn gref(&self) -> Gref {
        self.gref
    }

    /// Takes the permission back. One attempt: the caller decides how often to try, and how long to pause.
    ///
    /// # Errors
    /// The grant, while the peer uses the page.
    pub fn revoke(self) -> Result<Reference<'t>, StillInUse<'t>> {
        let seen = self.entry.flags_domid.load(Ordering::Acquire);
        if flags(seen) & (GTF_READING | GTF_WRITING) != 0 {
            return Err(StillInUse(self));
        }
        // Fails if Xen sets a use bit meanwhile.
        let cleared =
            self.entry
                .flags_domid
                .compare_exchange(seen, 0, Ordering::SeqCst, Ordering::Relaxed);
        match cleared {
            Ok(_) => {
                self.entry.frame.store(0, Ordering::Relaxed);
                Ok(Reference {
                    gref: self.gref,
                    entry: self.entry,
                })
            }
            Err(_) => Err(StillInUse(self)),
        }
    }
}

/// What `entry` grants now, or nothing.
pub fn query(entry: &GrantEntryV1) -> Option<Granted> {
    let word = entry.flags_domid.load(Ordering::Acquire);
    if flags(word) & GTF_TYPE_MASK != GTF_PERMIT_ACCESS {
        return None;
    }
    let access = if flags(word) & GTF_READONLY != 0 {
        Access::ReadOnly
    } else {
        Access::ReadWrite
    };
    Some(Granted {
        frame: entry.frame.load(Ordering::Relaxed),
        domain: DomId((word >> 16) as u16),
        access,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU32;

    fn entry() -> GrantEntryV1 {
        GrantEntryV1 {
            flags_domid: AtomicU32::new(0),
            frame: AtomicU32::new(0),
        }
    }

    #[test]
    fn a_permit_fills_the_entry_as_the_header_says() {
        let entry = entry();
        let grant = Reference::new(Gref(40), &entry).permit(DomId(7), 0x1234, Access::ReadOnly);
        assert_eq!(entry.flags_domid.load(Ordering::Relaxed), 0x0007_0005);
        assert_eq!(entry.frame.load(Ordering::Relaxed), 0x1234);
        assert_eq!(
            query(&entry),
            Some(Granted {
                frame: 0x1234,
                domain: DomId(7),
                access: Access::ReadOnly
            })
        );
        assert_eq!(grant.gref(), Gref(40));
    }

    #[test]
    fn a_page_in_use_is_not_given_back_until_the_peer_lets_go() {
        let entry = entry();
        let mut grant = Reference::new(Gref(40), &entry).permit(DomId(0), 1, Access::ReadWrite);
        for used in [GTF_READING, GTF_WRITING, GTF_READING | GTF_WRITING] {
            entry
                .flags_domid
                .fetch_or(u32::from(used), Ordering::Relaxed);
            let StillInUse(still) = grant.revoke().unwrap_err();
            assert!(query(&entry).is_some());
            entry
                .flags_domid
                .fetch_and(!u32::from(used), Ordering::Relaxed);
            grant = still;
        }
        assert!(grant.revoke().is_ok());
        assert_eq!(query(&entry), None);
        assert_eq!(entry.flags_domid.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn an_entry_which_a_migration_wiped_is_revoked_at_once() {
        let entry = entry();
        let grant = Reference::new(Gref(40), &entry).permit(DomId(0), 1, Access::ReadWrite);
        entry.flags_domid.store(0, Ordering::Relaxed);
        assert!(grant.revoke().is_ok());
    }

    #[test]
    fn revocation_and_a_mapping_peer_never_both_win() {
        // The peer does what Xen does for a mapping: it sets the use bit only on an entry that permits access.
        for _ in 0..2_000 {
            let entry = entry();
            let grant = Reference::new(Gref(40), &entry).permit(DomId(0), 1, Access::ReadWrite);
            std::thread::scope(|scope| {
                let peer = scope.spawn(|| {
                    entry
                        .flags_domid
                        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |w| {
                            (flags(w) & GTF_TYPE_MASK == GTF_PERMIT_ACCESS)
                                .then_some(w | u32::from(GTF_WRITING))
                        })
                        .is_ok()
                });
                let revoked = grant.revoke().is_ok();
                let mapped = peer.join().unwrap();
                assert_ne!(revoked, mapped);
            });
        }
    }
}
