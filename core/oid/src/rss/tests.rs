//! Scaling and the hash alone: blocks at their offsets, and what follows what.

use super::scale::{DISABLE, INFORMATION_UNCHANGED, KEY_UNCHANGED, TABLE_UNCHANGED};
use super::*;
use crate::Status;
use core::mem::offset_of;
use windows_sys::Wdk::NetworkManagement::Ndis as ndis;

const KEY: [u8; 40] = [9; 40];
const INFORMATION: u32 = 0x1301;

/// A request with a key and, for revision 1, numbers of processors, else groups and numbers.
fn scale_bytes(revision: u8, flags: u16, information: u32, key: &[u8], table: &[u8]) -> Vec<u8> {
    let size = scale::SIZES[usize::from(revision) - 1];
    let mut bytes = vec![0; size];
    put(&mut bytes, 0, [0x89, revision, size as u8, 0]);
    put(&mut bytes, scale::FLAGS, flags.to_le_bytes());
    put(&mut bytes, scale::INFORMATION, information.to_le_bytes());
    put(
        &mut bytes,
        scale::KEY_SIZE,
        (key.len() as u16).to_le_bytes(),
    );
    put(&mut bytes, scale::KEY_OFFSET, (size as u32).to_le_bytes());
    bytes.extend(key);
    put(
        &mut bytes,
        scale::TABLE_SIZE,
        (table.len() as u16).to_le_bytes(),
    );
    let end = bytes.len() as u32;
    put(&mut bytes, scale::TABLE_OFFSET, end.to_le_bytes());
    bytes.extend(table);
    bytes
}

fn scale(flags: u16, information: u32) -> Scale {
    let table = [0, 0, 4, 0, 0, 0, 6, 0];
    Scale::parse(&scale_bytes(2, flags, information, &KEY, &table)).unwrap()
}

fn hash_bytes(flags: u32, information: u32, key: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; hash::LENGTH];
    put(&mut bytes, 0, [TYPE_DEFAULT, 1, hash::LENGTH as u8, 0]);
    put(&mut bytes, hash::FLAGS, flags.to_le_bytes());
    put(&mut bytes, hash::INFORMATION, information.to_le_bytes());
    put(&mut bytes, hash::KEY_SIZE, (key.len() as u16).to_le_bytes());
    put(
        &mut bytes,
        hash::KEY_OFFSET,
        (hash::LENGTH as u32).to_le_bytes(),
    );
    bytes.extend(key);
    bytes
}

fn hash(flags: u32, information: u32) -> Hash {
    Hash::parse(&hash_bytes(flags, information, &KEY)).unwrap()
}

fn scaling() -> State {
    State::OFF.with_scale(&scale(0, INFORMATION)).unwrap()
}

fn numbers(table: &Table) -> Vec<u8> {
    table.entries().iter().map(|entry| entry.number).collect()
}

#[test]
fn fields_lie_where_microsofts_do() {
    use ndis::NDIS_RECEIVE_SCALE_PARAMETERS as Block;
    assert_eq!(scale::FLAGS, offset_of!(Block, Flags));
    assert_eq!(scale::INFORMATION, offset_of!(Block, HashInformation));
    assert_eq!(scale::TABLE_SIZE, offset_of!(Block, IndirectionTableSize));
    assert_eq!(
        scale::TABLE_OFFSET,
        offset_of!(Block, IndirectionTableOffset)
    );
    assert_eq!(scale::KEY_SIZE, offset_of!(Block, HashSecretKeySize));
    assert_eq!(scale::KEY_OFFSET, offset_of!(Block, HashSecretKeyOffset));
    assert_eq!(scale::SIZES[0], size_of::<Block>());
    use ndis::NDIS_RECEIVE_HASH_PARAMETERS as Alone;
    assert_eq!(hash::FLAGS, offset_of!(Alone, Flags));
    assert_eq!(hash::INFORMATION, offset_of!(Alone, HashInformation));
    assert_eq!(hash::KEY_SIZE, offset_of!(Alone, HashSecretKeySize));
    assert_eq!(hash::KEY_OFFSET, offset_of!(Alone, HashSecretKeyOffset));
    assert_eq!(hash::LENGTH, size_of::<Alone>());
    assert_eq!(hash::ENABLE, ndis::NDIS_RECEIVE_HASH_FLAG_ENABLE_HASH);
    assert_eq!(
        hash::INFORMATION_UNCHANGED,
        ndis::NDIS_RECEIVE_HASH_FLAG_HASH_INFO_UNCHANGED
    );
    assert_eq!(
        hash::KEY_UNCHANGED,
        ndis::NDIS_RECEIVE_HASH_FLAG_HASH_KEY_UNCHANGED
    );
    let flags = [
        INFORMATION_UNCHANGED,
        TABLE_UNCHANGED,
        KEY_UNCHANGED,
        DISABLE,
    ]
    .map(u32::from);
    let microsofts = [
        ndis::NDIS_RSS_PARAM_FLAG_HASH_INFO_UNCHANGED,
        ndis::NDIS_RSS_PARAM_FLAG_ITABLE_UNCHANGED,
        ndis::NDIS_RSS_PARAM_FLAG_HASH_KEY_UNCHANGED,
        ndis::NDIS_RSS_PARAM_FLAG_DISABLE_RSS,
    ];
    assert_eq!(flags, microsofts);
}

#[test]
fn every_length_of_every_revision_is_judged() {
    for (revision, table) in [
        (1, &[4, 6][..]),
        (2, &[0, 0, 4, 0, 0, 0, 6, 0]),
        (3, &[0, 0, 4, 0, 0, 0, 6, 0]),
    ] {
        let whole = scale_bytes(revision, 0, INFORMATION, &KEY, table);
        for length in 0..whole.len() {
            let failure = Scale::parse(&whole[..length]).unwrap_err();
            assert_eq!(
                failure.status,
                Status::INVALID_LENGTH,
                "{revision}: {length}"
            );
            assert!(failure.needed as usize > length);
        }
        let request = Scale::parse(&whole).unwrap();
        assert_eq!(request.read, whole.len());
        assert_eq!(numbers(&request.table.unwrap()), [4, 6], "{revision}");
    }
    let whole = hash_bytes(1, INFORMATION, &KEY);
    for length in 0..whole.len() {
        let failure = Hash::parse(&whole[..length]).unwrap_err();
        assert_eq!(failure.status, Status::INVALID_LENGTH, "{length}");
        assert!(failure.needed as usize > length);
    }
    assert_eq!(Hash::parse(&whole).unwrap().read, 60);
}

#[test]
fn keys_have_forty_bytes() {
    for length in 0..80 {
        let key = vec![1; length];
        let scale = Scale::parse(&scale_bytes(2, TABLE_UNCHANGED, INFORMATION, &key, &[]));
        let hash = Hash::parse(&hash_bytes(1, INFORMATION, &key));
        assert_eq!(
            (scale.is_ok(), hash.is_ok()),
            (length == 40, length == 40),
            "{length}"
        );
    }
}

#[test]
fn a_key_or_table_outside_of_its_buffer_or_within_the_fields_is_refused() {
    for field in [scale::KEY_OFFSET, scale::TABLE_OFFSET] {
        for offset in [0, 4, 39, 200, 0x7FFF_FFFF, u32::MAX] {
            let mut bytes = scale_bytes(2, 0, INFORMATION, &KEY, &[0; 8]);
            put(&mut bytes, field, offset.to_le_bytes());
            let status = if offset < 40 {
                Status::INVALID_DATA
            } else {
                Status::INVALID_LENGTH
            };
            assert_eq!(Scale::parse(&bytes).unwrap_err().status, status, "{offset}");
        }
    }
}

#[test]
fn only_toeplitz_over_known_types_is_a_hash() {
    for types in 0..=0xFFFF_u32 {
        let good = types != 0 && types & !0x0017 == 0;
        let found = Information::parse(types << 8 | 1);
        assert_eq!(found.is_ok(), good, "{types:#x}");
    }
    for function in 2..=255 {
        assert_eq!(Information::parse(0x100 | function), Err(INVALID_PARAMETER));
    }
    assert_eq!(Information::parse(0x1300), Ok(Information::None));
    assert_eq!(Types(0x1700).of_vif(), 0x1E);
    assert_eq!(Types(0x0200).of_vif(), 1 << HASH_TYPE_IPV4_TCP);
}

#[test]
fn scaling_tells_the_interface_everything() {
    let state = scaling();
    let program = state.program(2);
    assert_eq!(program.algorithm, HASH_ALGORITHM_TOEPLITZ);
    assert_eq!(program.types, Some(1 << 1 | 1 << 2 | 1 << 4));
    assert_eq!(numbers(&program.table), [4, 6]);
    assert_eq!(state.key(), &KEY);
    assert_eq!(numbers(&state.program(1).table), [4, 4]);
}

#[test]
fn what_is_unchanged_stays() {
    let state = scaling();
    let unchanged = INFORMATION_UNCHANGED | KEY_UNCHANGED | TABLE_UNCHANGED;
    assert_eq!(state.with_scale(&scale(unchanged, 0)), Ok(state));
    let types = state
        .with_scale(&scale(KEY_UNCHANGED | TABLE_UNCHANGED, 0x0101))
        .unwrap();
    assert_eq!(types.mode(), Mode::Scale(Types(0x100)));
    assert_eq!((types.key(), types.table()), (state.key(), state.table()));
    // Before anything was set there is nothing to stay.
    assert_eq!(
        State::OFF.with_scale(&scale(unchanged, 0)),
        Err(INVALID_PARAMETER)
    );
    assert_eq!(State::OFF.with_hash(&hash(3, 0)), Err(INVALID_PARAMETER));
}

#[test]
fn scaling_ends_by_its_flag_or_without_a_function() {
    for request in [scale(DISABLE, 0xFFFF_FFFF), scale(0, 0x1300)] {
        let off = scaling().with_scale(&request).unwrap();
        assert_eq!(off.mode(), Mode::Off);
        let program = off.program(2);
        assert_eq!(
            (program.algorithm, program.types),
            (HASH_ALGORITHM_NONE, None)
        );
        assert!(program.table.entries().is_empty());
        // The key and the table are those of the last time.
        let unchanged = scale(INFORMATION_UNCHANGED | KEY_UNCHANGED | TABLE_UNCHANGED, 0);
        assert_eq!(off.with_scale(&unchanged), Ok(scaling()));
    }
}

#[test]
fn there_is_scaling_or_the_hash_alone() {
    let alone = State::OFF.with_hash(&hash(1, INFORMATION)).unwrap();
    assert_eq!(alone.mode(), Mode::Hash(Types(0x1300)));
    assert_eq!(alone.with_scale(&scale(0, INFORMATION)), Err(NOT_SUPPORTED));
    assert_eq!(
        alone.with_scale(&scale(DISABLE, 0)),
        Ok(alone),
        "it is off as it is"
    );
    assert!(alone.program(2).table.entries().is_empty());
    let scaling = scaling();
    assert_eq!(scaling.with_hash(&hash(1, INFORMATION)), Err(NOT_SUPPORTED));
    assert_eq!(scaling.with_hash(&hash(0, 0)), Ok(scaling));
    let off = alone.with_hash(&hash(0, 0)).unwrap();
    assert_eq!(off.mode(), Mode::Off);
    assert!(off.with_scale(&scale(0, INFORMATION)).is_ok());
    let none = alone.with_hash(&hash(1, 0x1300)).unwrap();
    assert_eq!(none.mode(), Mode::Off);
}

fn answer_of(state: &State) -> Vec<u8> {
    let mut out = vec![0xA5; 64];
    assert_eq!(state.answer(&mut out), Ok(60));
    assert_eq!(out[60..], [0xA5; 4]);
    out.truncate(60);
    out
}

#[test]
fn the_answer_has_flags_types_and_the_whole_key() {
    let word = |bytes: &[u8], at: usize| u32::from_le_bytes(*bytes[at..].first_chunk().unwrap());
    let off = answer_of(&State::OFF);
    assert_eq!(off[..4], [0x80, 1, 20, 0]);
    assert_eq!(
        [word(&off, 4), word(&off, 8), word(&off, 12), word(&off, 16)],
        [0, 0, 40, 20]
    );
    assert_eq!(off[20..], [0; 40]);
    let alone = answer_of(&State::OFF.with_hash(&hash(1, INFORMATION)).unwrap());
    assert_eq!([word(&alone, 4), word(&alone, 8)], [1, INFORMATION]);
    assert_eq!(alone[20..], KEY);
    let scaling = answer_of(&scaling());
    assert_eq!([word(&scaling, 4), word(&scaling, 8)], [0, INFORMATION]);
    for length in 0..60 {
        let failure = State::OFF.answer(&mut vec![0; length]).unwrap_err();
        assert_eq!(
            (failure.status, failure.needed),
            (Status::BUFFER_TOO_SHORT, 60)
        );
    }
}
