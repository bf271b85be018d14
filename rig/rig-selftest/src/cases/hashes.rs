//! Hash functions of Windows' cryptography for drivers.

use core::ptr::{null, null_mut};

use crate::suite::{Finding, Outcome, failed};
use crate::support::Pool;
use crate::wdk::*;

/// bcrypt.h: BCRYPT_HASH_REUSABLE_FLAG.
const REUSABLE: u32 = 0x20;

/// FIPS 180, and its examples: the hashes of "abc".
const SHA1: [u8; 20] = [
    0xA9, 0x99, 0x3E, 0x36, 0x47, 0x06, 0x81, 0x6A, 0xBA, 0x3E, 0x25, 0x71, 0x78, 0x50, 0xC2, 0x6C,
    0x9C, 0xD0, 0xD8, 0x9D,
];
const SHA256: [u8; 32] = [
    0xBA, 0x78, 0x16, 0xBF, 0x8F, 0x01, 0xCF, 0xEA, 0x41, 0x41, 0x40, 0xDE, 0x5D, 0xAE, 0x22, 0x23,
    0xB0, 0x03, 0x61, 0xA3, 0x96, 0x17, 0x7A, 0x9C, 0xB4, 0x10, 0xFF, 0x61, 0xF2, 0x00, 0x15, 0xAD,
];

/// An algorithm, until dropped.
struct Algorithm(HANDLE);

impl Algorithm {
    fn open(name: &[u16]) -> Result<Self, Finding> {
        let mut handle = null_mut();
        equal!(
            BCryptOpenAlgorithmProvider(&raw mut handle, name.as_ptr(), null(), 0),
            STATUS_SUCCESS,
            "BCryptOpenAlgorithmProvider"
        );
        Ok(Self(handle))
    }

    fn number(&self, property: &[u16]) -> Result<u32, Finding> {
        let (mut bytes, mut needed) = ([0; 4], 0);
        let status = BCryptGetProperty(
            self.0,
            property.as_ptr(),
            bytes.as_mut_ptr(),
            4,
            &raw mut needed,
            0,
        );
        equal!((status, needed), (STATUS_SUCCESS, 4), "BCryptGetProperty");
        Ok(u32::from_le_bytes(bytes))
    }

    fn hash(&self, flags: u32) -> Result<Hash, Finding> {
        let mut handle = null_mut();
        equal!(
            BCryptCreateHash(self.0, &raw mut handle, null_mut(), 0, null(), 0, flags),
            STATUS_SUCCESS,
            "BCryptCreateHash"
        );
        Ok(Hash(handle))
    }
}

impl Drop for Algorithm {
    fn drop(&mut self) {
        BCryptCloseAlgorithmProvider(self.0, 0);
    }
}

/// A hash, until dropped.
struct Hash(HANDLE);

impl Hash {
    fn add(&self, data: &[u8]) -> NTSTATUS {
        BCryptHashData(self.0, data.as_ptr(), data.len() as u32, 0)
    }

    fn finish<const N: usize>(&self) -> Result<[u8; N], Finding> {
        let mut value = [0; N];
        match BCryptFinishHash(self.0, value.as_mut_ptr(), N as u32, 0) {
            STATUS_SUCCESS => Ok(value),
            status => Err(failed(format_args!("BCryptFinishHash: {status:#x}"))),
        }
    }
}

impl Drop for Hash {
    fn drop(&mut self) {
        BCryptDestroyHash(self.0);
    }
}

/// Learn, BCryptHashData: called several times, it hashes the pieces as one.
fn pieces_have_the_hash_of_the_whole() -> Outcome {
    let sha1 = Algorithm::open(wide!("SHA1"))?;
    let hash = sha1.hash(0)?;
    for piece in [&b"a"[..], b"", b"bc"] {
        equal!(hash.add(piece), STATUS_SUCCESS, "BCryptHashData");
    }
    equal!(hash.finish()?, SHA1, "SHA-1");
    let sha256 = Algorithm::open(wide!("SHA256"))?;
    let hash = sha256.hash(0)?;
    equal!(hash.add(b"abc"), STATUS_SUCCESS, "BCryptHashData");
    equal!(hash.finish()?, SHA256, "SHA-256");
    Ok(())
}

/// Learn, BCryptOpenAlgorithmProvider: STATUS_NOT_FOUND where there is no provider for the algorithm.
fn an_unknown_algorithm_is_not_found() -> Outcome {
    let mut handle = null_mut();
    equal!(
        BCryptOpenAlgorithmProvider(&raw mut handle, wide!("XYZ").as_ptr(), null(), 0),
        STATUS_NOT_FOUND,
        "an algorithm of that name"
    );
    Ok(())
}

/// Learn, BCryptGetProperty: NULL asks for the size; STATUS_BUFFER_TOO_SMALL. "Cryptography Primitive Property
/// Identifiers": HashDigestLength in bytes, HashBlockLength in bytes.
fn an_algorithm_has_properties() -> Outcome {
    for (name, digest, block) in [
        (wide!("SHA1"), 20, 64),
        (wide!("SHA256"), 32, 64),
        (wide!("SHA384"), 48, 128),
        (wide!("SHA512"), 64, 128),
    ] {
        let algorithm = Algorithm::open(name)?;
        equal!(
            algorithm.number(wide!("HashDigestLength"))?,
            digest,
            "the hash's length"
        );
        equal!(
            algorithm.number(wide!("HashBlockLength"))?,
            block,
            "the block's length"
        );
        check!(
            algorithm.number(wide!("ObjectLength"))? != 0,
            "a hash takes no memory"
        );
    }
    let algorithm = Algorithm::open(wide!("SHA1"))?;
    let (property, mut needed, mut bytes) = (wide!("HashDigestLength"), 0, [0; 4]);
    let mut ask = |out: *mut u8, room| {
        BCryptGetProperty(
            algorithm.0,
            property.as_ptr(),
            out,
            room,
            &raw mut needed,
            0,
        )
    };
    equal!(ask(null_mut(), 0), STATUS_SUCCESS, "asking for the size");
    equal!(
        ask(bytes.as_mut_ptr(), 3),
        STATUS_BUFFER_TOO_SMALL,
        "too little room"
    );
    equal!(needed, 4, "the size");
    Ok(())
}

/// Learn, BCryptCreateHash: memory of the caller's of ObjectLength bytes is used; STATUS_BUFFER_TOO_SMALL for less.
fn a_hash_lives_in_memory_of_its_callers() -> Outcome {
    let algorithm = Algorithm::open(wide!("SHA1"))?;
    let length = algorithm.number(wide!("ObjectLength"))?;
    let mut memory: Pool<[u8; 4096]> = Pool::zeroed()?;
    check!(
        (length as usize) < memory.len(),
        "a hash takes {length} bytes"
    );
    let mut handle = null_mut();
    let mut create = |room| {
        BCryptCreateHash(
            algorithm.0,
            &raw mut handle,
            memory.as_mut_ptr(),
            room,
            null(),
            0,
            0,
        )
    };
    equal!(create(length - 1), STATUS_BUFFER_TOO_SMALL, "with less");
    equal!(create(length), STATUS_SUCCESS, "with as much as it takes");
    let hash = Hash(handle);
    equal!(hash.add(b"abc"), STATUS_SUCCESS, "BCryptHashData");
    equal!(hash.finish()?, SHA1, "SHA-1");
    Ok(())
}

/// Learn, BCryptFinishHash: the buffer is as long as the hash exactly; the handle is for BCryptDestroyHash only then,
/// unless BCRYPT_HASH_REUSABLE_FLAG was given.
fn a_finished_hash_takes_more_only_if_it_is_reusable() -> Outcome {
    let algorithm = Algorithm::open(wide!("SHA1"))?;
    let hash = algorithm.hash(0)?;
    equal!(hash.add(b"abc"), STATUS_SUCCESS, "BCryptHashData");
    let mut value = [0; 21];
    equal!(
        BCryptFinishHash(hash.0, value.as_mut_ptr(), 21, 0),
        STATUS_INVALID_PARAMETER,
        "a buffer that is too long"
    );
    equal!(hash.finish()?, SHA1, "SHA-1");
    check!(hash.add(b"abc") < 0, "a finished hash took more");
    let hash = algorithm.hash(REUSABLE)?;
    for round in 0..2 {
        equal!(hash.add(b"abc"), STATUS_SUCCESS, "BCryptHashData");
        equal!(hash.finish()?, SHA1, "SHA-1, round {round}");
    }
    Ok(())
}

group!("hashes":
    pieces_have_the_hash_of_the_whole,
    an_unknown_algorithm_is_not_found,
    an_algorithm_has_properties,
    a_hash_lives_in_memory_of_its_callers,
    a_finished_hash_takes_more_only_if_it_is_reusable,
);
