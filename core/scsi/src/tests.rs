//! The disk as an initiator meets it, and any bytes whatever as a command.

use super::*;
use proptest::prelude::*;

fn disk() -> Disk<'static> {
    Disk {
        target: 3,
        blocks: 2048,
        block_size: 512,
        physical_block_size: 4096,
        ready: true,
        read_only: false,
        removable_medium: false,
        write_cache: true,
        discard: Some(Discard {
            granularity: 4096,
            alignment: 1024,
        }),
        serial_number: None,
        identification: None,
    }
}

fn run(cdb: &[u8], disk: &Disk<'_>, buffer: &mut [u8]) -> Outcome {
    let transfer = buffer.len() as u32;
    execute(parse(cdb), disk, buffer, transfer)
}

/// The answer's bytes, with a buffer as long as the allocation length.
fn answer(cdb: &[u8], disk: &Disk<'_>, length: usize) -> Vec<u8> {
    let mut buffer = vec![0xee; length];
    match run(cdb, disk, &mut buffer) {
        Outcome::Good(valid) => {
            buffer.truncate(valid);
            buffer
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn standard_inquiry_shows_the_known_identity() {
    let data = answer(&[0x12, 0, 0, 0, 36, 0], &disk(), 36);
    assert_eq!(data[..8], [0, 0, 4, 2, 31, 0, 0, 2]);
    assert_eq!(&data[8..], b"XENSRC  PVDISK          2.0 ");
}

#[test]
fn a_short_allocation_gets_a_short_answer_and_a_clean_rest() {
    let mut buffer = [0xee; 20];
    assert_eq!(
        run(&[0x12, 0, 0, 0, 5, 0], &disk(), &mut buffer),
        Outcome::Good(5)
    );
    assert_eq!(buffer[4], 31);
    assert!(buffer[5..].iter().all(|b| *b == 0));
}

#[test]
fn every_page_listed_exists_and_bears_its_number_and_length() {
    let pages = answer(&[0x12, 1, 0, 0, 255, 0], &disk(), 255);
    assert_eq!(pages[3] as usize, pages.len() - 4);
    assert_eq!(pages[4..], [0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2]);
    for page in &pages[4..] {
        let data = answer(&[0x12, 1, *page, 0, 255, 0], &disk(), 255);
        assert_eq!(data[1], *page);
        assert_eq!(
            u16::from_be_bytes([data[2], data[3]]) as usize,
            data.len() - 4
        );
    }
}

#[test]
fn default_serial_and_identification_are_the_target_number_without_nul() {
    assert_eq!(
        answer(&[0x12, 1, 0x80, 0, 255, 0], &disk(), 255),
        b"\x00\x80\x00\x040003"
    );
    let id = answer(&[0x12, 1, 0x83, 0, 255, 0], &disk(), 255);
    assert_eq!(id[4..8], [2, 1, 0, 16]);
    assert_eq!(&id[8..], b"XENSRC  00000003");
}

#[test]
fn the_toolstacks_pages_win() {
    let serial = VpdPage::from_base64(b"AIAABGFiY2Q=", 0x80).unwrap();
    let disk = Disk {
        serial_number: Some(&serial),
        ..disk()
    };
    assert_eq!(
        answer(&[0x12, 1, 0x80, 0, 255, 0], &disk, 255),
        b"\x00\x80\x00\x04abcd"
    );
}

#[test]
fn unknown_pages_are_refused() {
    for cdb in [
        [0x12, 1, 0x81, 0, 255, 0],
        [0x12, 0, 0x80, 0, 255, 0],
        [0x12, 2, 0, 0, 255, 0],
    ] {
        assert_eq!(
            run(&cdb, &disk(), &mut [0; 255]),
            Outcome::Check(Sense::INVALID_FIELD)
        );
    }
}

#[test]
fn unmap_limits_are_in_blocks() {
    let page = answer(&[0x12, 1, 0xb0, 0, 255, 0], &disk(), 255);
    assert_eq!(page[20..24], [0xff; 4]);
    assert_eq!(page[27], MAX_RANGES as u8);
    assert_eq!(page[28..32], [0, 0, 0, 8]);
    assert_eq!(page[32..36], [0x80, 0, 0, 2]);
    let none = Disk {
        discard: None,
        ..disk()
    };
    assert!(
        answer(&[0x12, 1, 0xb0, 0, 255, 0], &none, 255)[4..]
            .iter()
            .all(|b| *b == 0)
    );
}

#[test]
fn provisioning_is_told_where_windows_looks_for_it() {
    assert_eq!(
        answer(&[0x12, 1, 0xb2, 0, 255, 0], &disk(), 255)[5..7],
        [0x80, 2]
    );
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[13]) = (0x9e, 0x10, 32);
    assert_eq!(answer(&cdb, &disk(), 32)[14], 0x80);
    let none = Disk {
        discard: None,
        ..disk()
    };
    assert_eq!(answer(&cdb, &none, 32)[14], 0);
}

#[test]
fn capacity_is_the_last_block() {
    assert_eq!(
        answer(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], &disk(), 8),
        [0, 0, 7, 0xff, 0, 0, 2, 0]
    );
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[13]) = (0x9e, 0x10, 32);
    let data = answer(&cdb, &disk(), 32);
    assert_eq!(data[..14], [0, 0, 0, 0, 0, 0, 7, 0xff, 0, 0, 2, 0, 0, 3]);
}

#[test]
fn windows_twelve_byte_capacity_buffer_is_enough() {
    let big = Disk {
        blocks: 1 << 40,
        ..disk()
    };
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[13]) = (0x9e, 0x10, 12);
    assert_eq!(
        answer(&cdb, &big, 12),
        [0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 2, 0]
    );
    assert_eq!(
        answer(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], &big, 8)[..4],
        [0xff; 4]
    );
}

#[test]
fn mode_pages_state_their_true_lengths() {
    let short = answer(&[0x1a, 0, 0x3f, 0, 255, 0], &disk(), 255);
    assert_eq!(short.len(), 4 + 8 + 12 + 12);
    assert_eq!(short[..4], [35, 0, 0, 8]);
    assert_eq!(short[4..12], [0, 0, 8, 0, 0, 0, 2, 0]);
    assert_eq!(short[12..15], [0x08, 10, 0x04]);
    assert_eq!(short[24..27], [0x1c, 10, 0x08]);
    let long = answer(&[0x5a, 8, 0x08, 0, 0, 0, 0, 0, 255, 0], &disk(), 255);
    assert_eq!(long.len(), 8 + 12);
    assert_eq!(long[..8], [0, 18, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn a_read_only_disk_says_so_and_refuses_writes() {
    let disk = Disk {
        read_only: true,
        ..disk()
    };
    assert_eq!(answer(&[0x1a, 8, 0x3f, 0, 4, 0], &disk, 4)[2], 0x80);
    assert_eq!(
        run(&[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], &disk, &mut [0; 512]),
        Outcome::Check(Sense::WRITE_PROTECTED)
    );
    assert_eq!(
        run(&[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0], &disk, &mut []),
        Outcome::Good(0)
    );
    assert!(matches!(
        run(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], &disk, &mut [0; 512]),
        Outcome::Read(_)
    ));
}

#[test]
fn changeable_values_are_none_and_saved_ones_unsupported() {
    let mask = answer(&[0x1a, 8, 0x48, 0, 255, 0], &disk(), 255);
    assert_eq!(mask[4..8], [0x08, 10, 0, 0]);
    assert_eq!(
        run(&[0x1a, 8, 0xc8, 0, 255, 0], &disk(), &mut [0; 255]),
        Outcome::Check(Sense::NO_SAVED_PARAMETERS)
    );
    assert_eq!(
        run(&[0x1a, 8, 0x0a, 0, 255, 0], &disk(), &mut [0; 255]),
        Outcome::Check(Sense::INVALID_FIELD)
    );
}

#[test]
fn there_is_one_unit_and_its_number_is_zero() {
    let luns = answer(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0], &disk(), 16);
    assert_eq!(luns, [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn all_forms_of_read_mean_the_same() {
    let extent = |lba, blocks| Outcome::Read(Extent { lba, blocks });
    let mut buffer = vec![0; 256 * 512];
    let mut read = |cdb: &[u8]| run(cdb, &disk(), &mut buffer);
    assert_eq!(read(&[0x08, 0, 1, 2, 3, 0]), extent(0x102, 3));
    assert_eq!(
        read(&[0x08, 0, 1, 2, 0, 0]),
        extent(0x102, 256),
        "0 means 256 in the short form"
    );
    assert_eq!(read(&[0x28, 0, 0, 0, 1, 2, 0, 0, 3, 0]), extent(0x102, 3));
    assert_eq!(
        read(&[0xa8, 0, 0, 0, 1, 2, 0, 0, 0, 3, 0, 0]),
        extent(0x102, 3)
    );
    assert_eq!(
        read(&[0x88, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 3, 0, 0]),
        extent(0x102, 3)
    );
    assert_eq!(
        read(&[0x28, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        extent(0, 0),
        "0 means none in the others"
    );
}

#[test]
fn a_range_may_end_at_the_last_block_and_not_beyond() {
    let mut buffer = [0; 1024];
    assert!(matches!(
        run(&[0x28, 0, 0, 0, 7, 0xfe, 0, 0, 2, 0], &disk(), &mut buffer),
        Outcome::Read(_)
    ));
    assert_eq!(
        run(&[0x28, 0, 0, 0, 7, 0xff, 0, 0, 2, 0], &disk(), &mut buffer),
        Outcome::Check(Sense::OUT_OF_RANGE)
    );
    let huge = [
        0x88, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 2, 0, 0,
    ];
    assert_eq!(
        run(&huge, &disk(), &mut buffer),
        Outcome::Check(Sense::OUT_OF_RANGE)
    );
}

#[test]
fn a_transfer_must_fit_its_buffer() {
    let cdb = [0x28, 0, 0, 0, 0, 0, 0, 0, 2, 0];
    assert_eq!(
        run(&cdb, &disk(), &mut [0; 1023]),
        Outcome::Check(Sense::INVALID_FIELD)
    );
}

#[test]
fn a_disk_without_backend_is_not_ready_but_known() {
    let disk = Disk {
        ready: false,
        ..disk()
    };
    assert_eq!(
        run(&[0, 0, 0, 0, 0, 0], &disk, &mut []),
        Outcome::Check(Sense::NOT_READY)
    );
    assert_eq!(
        run(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], &disk, &mut [0; 512]),
        Outcome::Check(Sense::NOT_READY)
    );
    assert!(matches!(
        run(&[0x12, 0, 0, 0, 36, 0], &disk, &mut [0; 36]),
        Outcome::Good(36)
    ));
}

#[test]
fn a_truncated_or_unknown_command_is_an_invalid_opcode() {
    for cdb in [
        &[][..],
        &[0x28, 0, 0, 0, 0, 0, 0, 0, 1],
        &[0x9e, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0xff; 16],
    ] {
        assert_eq!(
            run(cdb, &disk(), &mut [0; 512]),
            Outcome::Check(Sense::INVALID_OPCODE)
        );
    }
}

/// An UNMAP parameter list with these ranges.
fn unmap_list(ranges: &[(u64, u32)]) -> Vec<u8> {
    let length = ranges.len() as u16 * 16;
    let mut list = vec![];
    list.extend((length + 6).to_be_bytes());
    list.extend(length.to_be_bytes());
    list.extend([0; 4]);
    for (lba, blocks) in ranges {
        list.extend(lba.to_be_bytes());
        list.extend(blocks.to_be_bytes());
        list.extend([0; 4]);
    }
    list
}

fn unmap(mut list: Vec<u8>, length: u16) -> Outcome {
    let [high, low] = length.to_be_bytes();
    run(&[0x42, 0, 0, 0, 0, 0, 0, high, low, 0], &disk(), &mut list)
}

#[test]
fn unmap_gives_the_ranges_and_drops_empty_ones() {
    let Outcome::Discard(ranges) = unmap(unmap_list(&[(8, 8), (100, 0), (2040, 8)]), 56) else {
        panic!()
    };
    assert_eq!(
        ranges.as_slice(),
        [
            Extent { lba: 8, blocks: 8 },
            Extent {
                lba: 2040,
                blocks: 8
            }
        ]
    );
    assert!(matches!(unmap(vec![], 0), Outcome::Discard(ranges) if ranges.as_slice().is_empty()));
}

#[test]
fn unmap_lists_longer_than_their_buffer_are_refused() {
    assert_eq!(
        unmap(unmap_list(&[(8, 8)]), 25),
        Outcome::Check(Sense::PARAMETER_LIST_LENGTH),
        "beyond the buffer"
    );
    assert_eq!(
        unmap(unmap_list(&[(8, 8)]), 23),
        Outcome::Check(Sense::PARAMETER_LIST_LENGTH),
        "beyond the list"
    );
    assert_eq!(
        unmap(vec![0; 7], 7),
        Outcome::Check(Sense::PARAMETER_LIST_LENGTH)
    );
    assert_eq!(
        unmap(unmap_list(&[(0, 1); 9]), 152),
        Outcome::Check(Sense::INVALID_PARAMETER)
    );
    assert_eq!(
        unmap(unmap_list(&[(2041, 8)]), 24),
        Outcome::Check(Sense::OUT_OF_RANGE)
    );
    assert_eq!(
        unmap(unmap_list(&[(u64::MAX, 1)]), 24),
        Outcome::Check(Sense::OUT_OF_RANGE)
    );
}

#[test]
fn sense_data_is_what_windows_expects() {
    let mut buffer = [0xee; 20];
    assert_eq!(Sense::WRITE_PROTECTED.write(&mut buffer), 18);
    assert_eq!(
        buffer,
        [
            0x70, 0, 7, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x27, 0, 0, 0, 0, 0, 0xee, 0xee
        ]
    );
    assert_eq!(Sense::WRITE_PROTECTED.write(&mut buffer[..3]), 3);
}

proptest! {
    /// No command, disk or buffer makes a panic, an answer longer than the buffer, or a range off the disk.
    #[test]
    fn any_command_is_survived(
        cdb in proptest::collection::vec(any::<u8>(), 0..20),
        opcode in proptest::sample::select(vec![0x00u8, 0x03, 0x08, 0x0a, 0x12, 0x1a, 0x1b, 0x25, 0x28, 0x2a, 0x2f, 0x35, 0x42, 0x5a, 0x88, 0x8a, 0x8f, 0x91, 0x9e, 0xa0, 0xa8, 0xaa]),
        known in any::<bool>(),
        mut buffer in proptest::collection::vec(any::<u8>(), 0..300),
        blocks in prop_oneof![0u64..5000, any::<u64>()],
        shift in 0u32..4,
        flags in any::<[bool; 4]>(),
        discard in proptest::option::of(any::<(u32, u32)>()),
        target in any::<u32>(),
        transfer in any::<u32>(),
    ) {
        let mut cdb = cdb;
        if known && let Some(first) = cdb.first_mut() { *first = opcode }
        let disk = Disk {
            target, blocks, block_size: 512 << shift, physical_block_size: 4096, ready: flags[0], read_only: flags[1],
            removable_medium: flags[2], write_cache: flags[3],
            discard: discard.map(|(granularity, alignment)| Discard { granularity, alignment }),
            serial_number: None, identification: None,
        };
        let within = |e: &Extent| e.lba.checked_add(e.blocks.into()).is_some_and(|end| end <= blocks);
        match execute(parse(&cdb), &disk, &mut buffer, transfer) {
            Outcome::Good(valid) => prop_assert!(valid <= buffer.len()),
            Outcome::Read(e) | Outcome::Write(e) => {
                prop_assert!(within(&e));
                prop_assert!(u64::from(e.blocks) * u64::from(disk.block_size) <= u64::from(transfer));
                prop_assert!(disk.ready);
            }
            Outcome::Discard(ranges) => {
                prop_assert!(ranges.as_slice().iter().all(|e| within(e) && e.blocks > 0));
                prop_assert!(!disk.read_only);
            }
            Outcome::Flush | Outcome::Check(_) => {}
        }
    }

    #[test]
    fn any_unmap_list_is_survived(length in 0u16..400, list in proptest::collection::vec(any::<u8>(), 0..400), sane in any::<bool>(), size in 0u16..24) {
        let mut list = list;
        if sane && let Some(field) = list.get_mut(2..4) { field.copy_from_slice(&(size * 16).to_be_bytes()) }
        if let Outcome::Discard(ranges) = unmap(list, length) {
            prop_assert!(ranges.as_slice().iter().all(|e| e.lba + u64::from(e.blocks) <= 2048));
        }
    }
}
