//! The guest's physical memory: pages given back and taken again, and Xen's own pages in it.

use xen_abi::errno::*;
use xen_abi::grant::{self, *};
use xen_abi::memory::{self, *};
use xen_abi::{DomId, hypercall};
use xen_model::Machine;

use crate::guest::{Guest, SHARED_GFN};

#[test]
fn memory_given_back_is_gone_until_populated() {
    let g = Guest::new();
    g.machine.write(40 * 4096, b"secret").unwrap();
    let gfns: Vec<u8> = [40u64, 41, 9999]
        .iter()
        .flat_map(|g| g.to_le_bytes())
        .collect();
    g.machine.write(8 * 4096, &gfns).unwrap();
    let reservation = |nr_extents| MemoryReservation {
        extent_start: 8 * 4096,
        nr_extents,
        domid: DomId::SELF,
        ..Default::default()
    };
    assert_eq!(
        g.call(
            hypercall::MEMORY_OP,
            memory::DECREASE_RESERVATION,
            &mut reservation(3)
        ),
        2,
        "stops at the bad one"
    );
    assert!(g.machine.read(40 * 4096, &mut [0]).is_err());
    assert_eq!(g.xen.guest_pages(), 60);
    assert_eq!(
        g.call(
            hypercall::MEMORY_OP,
            memory::DECREASE_RESERVATION,
            &mut reservation(1)
        ),
        0
    );
    assert_eq!(
        g.call(
            hypercall::MEMORY_OP,
            memory::POPULATE_PHYSMAP,
            &mut reservation(2)
        ),
        2
    );
    let mut back = [1; 6];
    g.machine.read(40 * 4096, &mut back).unwrap();
    assert_eq!(back, [0; 6], "scrubbed");
}

#[test]
fn xens_pages_are_shown_at_one_place() {
    let g = Guest::new();
    assert_eq!(g.show(SPACE_SHARED_INFO, 0, 20), 0);
    assert!(g.machine.page(SHARED_GFN).is_none());
    assert_eq!(g.show(SPACE_GRANT_TABLE, 64, 21), -EINVAL);
    assert_eq!(g.show(SPACE_GRANT_TABLE, 63, 21), 0);
    assert_eq!(g.show(SPACE_GRANT_TABLE, 0, 1 << 30), -EINVAL);
    let mut size = QuerySize {
        dom: DomId::SELF,
        ..Default::default()
    };
    assert_eq!(
        g.call(hypercall::GRANT_TABLE_OP, grant::QUERY_SIZE, &mut size),
        0
    );
    assert_eq!(
        (size.status, size.nr_frames, size.max_nr_frames),
        (GNTST_OKAY, 64, 64)
    );
    let mut remove = RemoveFromPhysmap {
        domid: DomId::SELF,
        gpfn: 20,
        ..Default::default()
    };
    assert_eq!(
        g.call(
            hypercall::MEMORY_OP,
            memory::REMOVE_FROM_PHYSMAP,
            &mut remove
        ),
        0
    );
    assert_eq!(
        g.call(
            hypercall::MEMORY_OP,
            memory::REMOVE_FROM_PHYSMAP,
            &mut remove
        ),
        -ENOENT
    );
}
