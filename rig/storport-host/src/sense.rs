//! Why a SCSI command failed.

use core::fmt;

/// Sense data: what kind of thing went wrong, and which. SPC-4: "Sense data".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sense {
    /// Sense key.
    pub key: u8,
    /// Additional sense code.
    pub code: u8,
    /// Its qualifier.
    pub qualifier: u8,
}

/// SPC-4, "Sense key and additional sense code definitions": UNIT ATTENTION, NOT READY, DATA PROTECT, ILLEGAL REQUEST.
pub const NOT_READY: u8 = 0x2;
/// See [`NOT_READY`].
pub const ILLEGAL_REQUEST: u8 = 0x5;
/// See [`NOT_READY`].
pub const UNIT_ATTENTION: u8 = 0x6;
/// See [`NOT_READY`].
pub const DATA_PROTECT: u8 = 0x7;

impl Sense {
    /// From fixed or descriptor format; `None` if it is neither, or too short.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let at = |index: usize| bytes.get(index).copied();
        let (key, code, qualifier) = match at(0)? & 0x7F {
            0x70 | 0x71 => (at(2)?, at(12).unwrap_or(0), at(13).unwrap_or(0)),
            0x72 | 0x73 => (at(1)?, at(2)?, at(3)?),
            _ => return None,
        };
        Some(Self {
            key: key & 0xF,
            code,
            qualifier,
        })
    }
}

/// How a command ended when it did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// SRB_STATUS_* without its flags (srb.h).
    pub srb_status: u8,
    /// The device's status (SAM-5: 2 is CHECK CONDITION, 8 BUSY).
    pub scsi_status: u8,
    /// Sense data, where the miniport delivered it.
    pub sense: Option<Sense>,
}

impl Failure {
    /// The device answered with this sense key.
    pub fn has_key(&self, key: u8) -> bool {
        self.sense.is_some_and(|sense| sense.key == key)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SRB status {:#04x}, SCSI status {:#04x}",
            self.srb_status, self.scsi_status
        )?;
        match self.sense {
            Some(Sense {
                key,
                code,
                qualifier,
            }) => write!(f, ", sense {key:x}/{code:02x}/{qualifier:02x}"),
            None => Ok(()),
        }
    }
}

impl core::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_are_read() {
        let mut fixed = [0u8; 18];
        fixed[0] = 0xF0;
        fixed[2] = 0x05;
        fixed[12..14].copy_from_slice(&[0x24, 1]);
        assert_eq!(
            Sense::parse(&fixed),
            Some(Sense {
                key: 5,
                code: 0x24,
                qualifier: 1
            })
        );
        assert_eq!(
            Sense::parse(&[0x72, 6, 0x29, 0]),
            Some(Sense {
                key: 6,
                code: 0x29,
                qualifier: 0
            })
        );
    }

    #[test]
    fn what_is_no_sense_data_is_none() {
        assert_eq!(Sense::parse(&[]), None);
        assert_eq!(Sense::parse(&[0; 18]), None);
        assert_eq!(Sense::parse(&[0x72, 6]), None);
    }
}
