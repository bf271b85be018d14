//! Grants: what they let domain 0 do, and for how long the guest's entry tells of it.

use std::sync::atomic::Ordering::Acquire;

use xen_abi::grant::{self, *};
use xen_abi::{DomId, Gref, hypercall};
use xen_model::{Access, Machine};

use crate::guest::Guest;

#[test]
fn grants_are_held_while_mapped() {
    let g = Guest::new();
    g.grant(8, 30, GTF_PERMIT_ACCESS);
    g.grant(9, 31, GTF_PERMIT_ACCESS | GTF_READONLY);
    let write = g.xen.map(Gref(8), Access::Write).unwrap();
    assert_eq!(g.flags(8), GTF_PERMIT_ACCESS | GTF_READING | GTF_WRITING);
    let read = g.xen.map(Gref(8), Access::Read).unwrap();
    drop(write);
    assert_eq!(g.flags(8), GTF_PERMIT_ACCESS | GTF_READING);
    drop(read);
    assert_eq!(g.flags(8), GTF_PERMIT_ACCESS);
    assert_eq!(
        g.xen.map(Gref(9), Access::Write).unwrap_err().0,
        GNTST_GENERAL_ERROR
    );
    assert!(g.xen.map(Gref(9), Access::Read).is_ok());
    assert_eq!(
        g.xen.map(Gref(10), Access::Read).unwrap_err().0,
        GNTST_GENERAL_ERROR
    );
    assert_eq!(
        g.xen.map(Gref(512), Access::Read).unwrap_err().0,
        GNTST_BAD_GNTREF
    );
    g.grant(11, 5000, GTF_PERMIT_ACCESS);
    assert_eq!(
        g.xen.map(Gref(11), Access::Read).unwrap_err().0,
        GNTST_GENERAL_ERROR
    );
    assert_eq!(g.flags(11), GTF_PERMIT_ACCESS);
    assert_eq!(g.xen.grants_in_use(), 0);
    assert_eq!(g.xen.take_violations(), []);
}

#[test]
fn a_grant_changed_in_use_is_a_violation_and_the_mapping_keeps_its_page() {
    let g = Guest::new();
    g.machine.write(30 * 4096, &[7]).unwrap();
    g.grant(8, 30, GTF_PERMIT_ACCESS);
    let mapping = g.xen.map(Gref(8), Access::Write).unwrap();
    g.grant(8, 31, GTF_PERMIT_ACCESS);
    assert_eq!(mapping.words()[0].load(Acquire), 7);
    drop(mapping);
    assert_eq!(g.xen.take_violations().len(), 1);
}

#[test]
fn grant_copies_check_both_sides() {
    let g = Guest::new();
    g.machine.write(30 * 4096 + 100, b"hello").unwrap();
    g.grant(8, 30, GTF_PERMIT_ACCESS | GTF_READONLY);
    // The entry is for domain 0; the guest itself may not use it.
    let mut copy = GrantCopy {
        source: GrantCopyPtr {
            reference: 30,
            domid: DomId::SELF,
            offset: 100,
            ..Default::default()
        },
        dest: GrantCopyPtr {
            reference: 33,
            domid: DomId::SELF,
            offset: 4000,
            ..Default::default()
        },
        len: 5,
        ..Default::default()
    };
    assert_eq!(g.call(hypercall::GRANT_TABLE_OP, grant::COPY, &mut copy), 0);
    let mut back = [0; 5];
    g.machine.read(33 * 4096 + 4000, &mut back).unwrap();
    assert_eq!((copy.status, &back), (GNTST_OKAY, b"hello"));
    copy.len = 97;
    g.call(hypercall::GRANT_TABLE_OP, grant::COPY, &mut copy);
    assert_eq!(copy.status, GNTST_BAD_COPY_ARG);
    copy = GrantCopy {
        source: GrantCopyPtr {
            reference: 8,
            ..copy.source
        },
        len: 5,
        flags: GNTCOPY_SOURCE_GREF,
        ..copy
    };
    g.call(hypercall::GRANT_TABLE_OP, grant::COPY, &mut copy);
    assert_eq!(copy.status, GNTST_GENERAL_ERROR);
}
