//! Parameter blocks, field by field.

/// A block of bytes that begins with an NDIS_OBJECT_HEADER.
pub fn block(kind: u8, revision: u8, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    bytes[0] = kind;
    bytes[1] = revision;
    bytes[2..4].copy_from_slice(&(size as u16).to_le_bytes());
    bytes
}

/// The same with some fields, each an offset and its bytes.
pub fn filled(kind: u8, revision: u8, size: usize, fields: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = block(kind, revision, size);
    for (at, value) in fields {
        bytes[*at..*at + value.len()].copy_from_slice(value);
    }
    bytes
}

/// NDIS_RECEIVE_HASH_PARAMETERS that switch hashes on, with a key.
pub fn hash(types: u32, key: &[u8; 40]) -> Vec<u8> {
    let fields: [(usize, &[u8]); 4] = [
        (4, &1_u32.to_le_bytes()),
        (8, &(types | 1).to_le_bytes()),
        (12, &40_u16.to_le_bytes()),
        (16, &20_u32.to_le_bytes()),
    ];
    let mut bytes = filled(0x80, 1, 20, &fields);
    bytes.extend(key);
    bytes
}
